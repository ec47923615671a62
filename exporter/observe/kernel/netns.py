"""Network namespaces: to hold one, to tell it from others, to go there."""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from exporter.observe.kernel.trouble import Unreadable, reason

if TYPE_CHECKING:
    from types import TracebackType

OWN: Final = "/proc/thread-self/ns/net"
"""Where the thread that reads is now."""

_CLONE_NEWNET = 0x40000000
_SO_NETNS_COOKIE = 71


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


def _told(path: str, error: OSError | ValueError) -> str:
    if isinstance(error, OSError):
        return reason(error, path, "the host's PID view with CAP_SYS_PTRACE, or root,")
    return f"{path!r} is not the path of a namespace"
