"""Who is attached where packets pass, of programs of BPF: asked of bpf(2), which has no other door.

What a program does nobody can tell from outside; that there is one is all that is asked for (BPF_PROG_QUERY).
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from typing import Final

from exporter.observe.kernel.trouble import Unreadable, reason

_NUMBERS: Final = {
    "x86_64": 321, "aarch64": 280, "riscv64": 280, "loongarch64": 280, "ppc64le": 361, "s390x": 351,
}  # fmt: skip
"""The number of bpf(2) by machine: the C library has no function for it."""
_NUMBERS_32: Final = {"x86_64": 357, "i686": 357, "aarch64": 386, "armv8l": 386, "armv7l": 386}
"""The same of programs of 32 bits, whatever kernel they run on."""
_NUMBER: Final = (_NUMBERS if struct.calcsize("P") == 8 else _NUMBERS_32).get(os.uname().machine)
_LIBRARY: Final = ctypes.CDLL(None, use_errno=True)

_PROG_QUERY = 16
_EFFECTIVE = 1
_QUERY = struct.Struct("=IIIIQI36x")
"""Target, kind of attachment, flags, flags of the attachment, room for numbers of programs and how many; and the rest
of what kernels know of, as zeros."""
_COUNT = struct.Struct("=24xI")

_TCX: Final = (46, 47)
_OF_CGROUPS: Final = (0, 1, 2, 10, 11, 14, 15, 19, 20)
"""Packets in and out, sockets made, connections, datagrams sent and received; for IPv4 and IPv6."""

_NEEDS: Final = "CAP_NET_ADMIN, and in containers CAP_SYS_ADMIN or CAP_BPF,"
_ABSENT: Final = (errno.EINVAL, errno.ENOSYS, errno.ENODEV, errno.ENOENT)
"""What kernels say that do not know the kind of attachment, or have no BPF; or of what is gone."""


def at_interface(index: int) -> bool:
    """Return whether programs see the packets of an interface of the calling thread's namespace (tcx, from Linux 6.6).

    Raises Unreadable.
    """
    return any(_count(index, kind, 0) for kind in _TCX)


def of_cgroup(descriptor: int) -> bool:
    """Return whether programs see what processes of a cgroup send and receive, its parents' among them.

    systemd has such for `IPAddressDeny=` and `RestrictNetworkInterfaces=` of a service, scope or slice. Raises
    Unreadable.
    """
    return any(_count(descriptor, kind, _EFFECTIVE) for kind in _OF_CGROUPS)


def _count(target: int, kind: int, flags: int) -> int:
    if _NUMBER is None:
        raise Unreadable(f"bpf: its number on {os.uname().machine} is not known")
    asked = ctypes.create_string_buffer(_QUERY.pack(target, kind, flags, 0, 0, 0), _QUERY.size)
    if _LIBRARY.syscall(_NUMBER, _PROG_QUERY, asked, _QUERY.size) < 0:
        error = ctypes.get_errno()
        if error in _ABSENT:
            return 0
        raise Unreadable(reason(OSError(error, ""), "bpf", _NEEDS))
    return int(_COUNT.unpack_from(asked.raw)[0])
