"""Network namespaces: to hold one, to tell it from others, to go there."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import socket
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from exporter.observe.kernel.trouble import Unreadable, reason

if TYPE_CHECKING:
    from types import TracebackType

OWN: Final = "/proc/thread-self/ns/net"
"""Where the thread that reads is now."""

_CLONE_NEWNET = 0x40000000
_SO_NETNS_COOKIE = 71
_NS_GET_USERNS = 0xB701
_FIRST_USERS = 0xEFFFFFFD
"""The inode of the user namespace that a machine begins with (PROC_USER_INIT_INO)."""


@dataclass(frozen=True, slots=True)
class Netns:
    """A network namespace that is held open: as long as it is, its inode is no other's. A context that closes it.

    `inode` tells it from all others that exist now.
    """

    path: str
    descriptor: int
    inode: int

    @classmethod
    def open(cls, path: str) -> Self:
        """Hold the namespace at a path. Raises Unreadable where there is none, or it may not be looked at."""
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except (OSError, ValueError) as error:
            raise Unreadable(_told(path, error)) from error
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            os.close(descriptor)
            raise Unreadable(f"{path} is not a network namespace")
        return cls(path, descriptor, status.st_ino)

    def enter(self) -> None:
        """Move the calling thread there, for good. Raises Unreadable."""
        if ctypes.CDLL(None, use_errno=True).setns(self.descriptor, _CLONE_NEWNET) == 0:
            return
        error = ctypes.get_errno()
        if error == errno.EINVAL:
            raise Unreadable(f"{self.path} is not a network namespace")
        raise Unreadable(reason(OSError(error, ""), f"{self.path} cannot be entered", "CAP_SYS_ADMIN"))

    def close(self) -> None:
        """Let it go."""
        os.close(self.descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def cookie() -> int | None:
    """Return the number of the calling thread's namespace that no other gets until the machine starts anew.

    Inodes are given again once a namespace is gone, so they say nothing about what was read a while ago. None on
    kernels before 5.14, which have no such number.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as any_socket:
        try:
            return int.from_bytes(any_socket.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8), "little")
        except OSError:
            return None


def has_the_machines_users() -> bool:
    """Return whether the calling thread's namespace calls users by the numbers that the machine itself has for them.

    That of an engine without root, or of a container with `userns-remap`, belongs to users of its own.
    """
    try:
        with Path(OWN).open("rb") as namespace:
            owner = fcntl.ioctl(namespace, _NS_GET_USERNS)
        try:
            found = {os.fstat(owner).st_ino, Path("/proc/thread-self/ns/user").stat().st_ino}
        finally:
            os.close(owner)
    except OSError:
        return False
    return found == {_FIRST_USERS}


def _told(path: str, error: OSError | ValueError) -> str:
    if isinstance(error, OSError):
        return reason(error, path, "the host's PID view with CAP_SYS_PTRACE, or root,")
    return f"{path!r} is not the path of a namespace"
