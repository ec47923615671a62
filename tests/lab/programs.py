"""BPF programs of two instructions that drop every packet, and where they are attached; libbpf is not needed for that.

Run in the network namespace whose interface is meant: python -m tests.lab.programs interface eth0
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
import sys
from typing import Final

from tests.lab.errors import LabError

_BPF: Final = {"x86_64": 321, "aarch64": 280}
_PROG_LOAD, _PROG_ATTACH = 5, 8
_CGROUP_SKB, _SCHED_CLS = 8, 3
_CGROUP_EGRESS, _TCX_INGRESS = 1, 46
_TCX_DROP, _CGROUP_DROP = 2, 0
_MOVE, _EXIT = 0xB7, 0x95


def at_interfaces() -> bool:
    """Return whether this kernel has programs of tcx: they came with Linux 6.6, and Debian 12 has 6.1."""
    major, minor = os.uname().release.split(".")[:2]
    return (int(major), int(minor)) >= (6, 6)


def drop_at_interface(name: str) -> None:
    """Drop what comes in by an interface of the own namespace."""
    _attach(_loaded(_SCHED_CLS, _TCX_DROP), socket.if_nametoindex(name), _TCX_INGRESS)


def drop_of_cgroup(path: str) -> None:
    """Drop what processes of a cgroup (v2) send."""
    _attach(_loaded(_CGROUP_SKB, _CGROUP_DROP), os.open(path, os.O_RDONLY), _CGROUP_EGRESS)


def _loaded(kind: int, answer: int) -> int:
    """Load `return answer`; return its descriptor."""
    code = struct.pack("=BBhiBBhi", _MOVE, 0, 0, answer, _EXIT, 0, 0, 0)
    text, licence = ctypes.create_string_buffer(code), ctypes.create_string_buffer(b"GPL")
    return _bpf(_PROG_LOAD, struct.pack("=IIQQ104x", kind, 2, ctypes.addressof(text), ctypes.addressof(licence)))


def _attach(program: int, target: int, place: int) -> None:
    """Attach a program; it stays when this process ends."""
    _bpf(_PROG_ATTACH, struct.pack("=IIII48x", target, program, place, 0))


def _bpf(command: int, attributes: bytes) -> int:
    library = ctypes.CDLL(None, use_errno=True)
    room = ctypes.create_string_buffer(attributes, len(attributes))
    answer: int = library.syscall(_BPF[os.uname().machine], command, room, len(attributes))
    if answer < 0:
        raise LabError(f"bpf command {command}: {os.strerror(ctypes.get_errno())}")
    return answer


if __name__ == "__main__":
    {"interface": drop_at_interface, "cgroup": drop_of_cgroup}[sys.argv[1]](sys.argv[2])
