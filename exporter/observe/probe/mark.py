"""How the packets of a round are known among all others, and told apart.

A TCP packet carries the mark in its sequence number: half of it is the round's, half the number of the probe. Answers
acknowledge that number plus one. A datagram carries it as its content.
"""

from __future__ import annotations

import ctypes
import socket
import struct
from dataclasses import dataclass
from typing import Final, NamedTuple

from exporter.model.reach import Protocol

MOST: Final = 1 << 15
"""Probes of a round at most: the number of an answer must not run over into the round's half."""

_MAGIC: Final = b"ICCPROBE"
_CONTENT: Final = struct.Struct("!8sHH")
_TCP: Final = struct.Struct("!HHIIBB")
_UDP_HEADER: Final = 8
_SYN, _RST, _ACK = 0x02, 0x04, 0x10

_SO_ATTACH_FILTER: Final = 26
_LONGEST: Final = 0xFFFF


class Asked(NamedTuple):
    """A packet that came to a namespace's sockets: the probe of this number."""

    number: int


class Answer(NamedTuple):
    """An answer to the probe of this number, sent from one port to another."""

    number: int
    source_port: int
    destination_port: int


@dataclass(frozen=True, slots=True)
class Mark:
    """The mark of a round, not 0."""

    round: int

    def sequence(self, number: int) -> int:
        """Return the sequence number of a TCP probe."""
        return self.round << 16 | number

    def content(self, number: int) -> bytes:
        """Return the content of a datagram."""
        return _CONTENT.pack(_MAGIC, self.round, number)

    def read(self, packet: bytes, family: int, protocol: Protocol) -> Asked | Answer | None:
        """Return what a raw socket's packet is: IPv4's begins with its own header, IPv6's does not (raw(7))."""
        start = (packet[0] & 0x0F) * 4 if family == socket.AF_INET and packet else 0
        return self._segment(packet[start:]) if protocol is Protocol.TCP else self._datagram(packet[start:])

    def _segment(self, segment: bytes) -> Asked | Answer | None:
        if len(segment) < _TCP.size:
            return None
        source, destination, sequence, acknowledged, _, flags = _TCP.unpack_from(segment)
        if flags & (_SYN | _ACK | _RST) == _SYN and sequence >> 16 == self.round:
            return Asked(sequence & 0xFFFF)
        answers = flags & _RST or flags & (_SYN | _ACK) == _SYN | _ACK
        if answers and acknowledged >> 16 == self.round:
            return Answer((acknowledged - 1) & 0xFFFF, source, destination)
        return None

    def _datagram(self, datagram: bytes) -> Asked | None:
        content = datagram[_UDP_HEADER:]
        if len(content) != _CONTENT.size:
            return None
        magic, own, number = _CONTENT.unpack(content)
        return Asked(number) if magic == _MAGIC and own == self.round else None

    def listen(self, watching: socket.socket, protocol: Protocol) -> None:
        """Have the kernel give a raw socket nothing but packets that may be of this round: hosts have many others."""
        header = _WITH_HEADER if watching.family == socket.AF_INET else _WITHOUT
        attach(watching, header + (self._tcp_filter() if protocol is Protocol.TCP else self._udp_filter()))

    def _tcp_filter(self) -> Program:
        sequence, acknowledged = 4, 8
        return (
            (_LOAD_HALF, 0, 0, sequence),
            (_JUMP_IF_EQUAL, 2, 0, self.round),
            (_LOAD_HALF, 0, 0, acknowledged),
            (_JUMP_IF_EQUAL, 0, 1, self.round),
            _KEEP,
            _DROP,
        )

    def _udp_filter(self) -> Program:
        first, second = struct.unpack("!II", _MAGIC)
        return (
            (_LOAD_WORD, 0, 0, _UDP_HEADER),
            (_JUMP_IF_EQUAL, 0, 5, first),
            (_LOAD_WORD, 0, 0, _UDP_HEADER + 4),
            (_JUMP_IF_EQUAL, 0, 3, second),
            (_LOAD_HALF, 0, 0, _UDP_HEADER + 8),
            (_JUMP_IF_EQUAL, 0, 1, self.round),
            _KEEP,
            _DROP,
        )


# --- Classic BPF (linux/filter.h) ---

Program = tuple[tuple[int, int, int, int], ...]
"""Instructions: operation, how many to skip if true and if false, operand."""

_LOAD_WORD, _LOAD_HALF = 0x40, 0x48
"""BPF_LD | BPF_W | BPF_IND and BPF_LD | BPF_H | BPF_IND: from the operand past the index."""

_JUMP_IF_EQUAL: Final = 0x15
"""BPF_JMP | BPF_JEQ | BPF_K."""

_WITH_HEADER: Final[Program] = ((0xB1, 0, 0, 0),)
"""BPF_LDX | BPF_B | BPF_MSH: the index is behind the IPv4 header, whatever its length."""

_WITHOUT: Final[Program] = ((0x01, 0, 0, 0),)
"""BPF_LDX | BPF_IMM: the index is 0."""

_KEEP, _DROP = (0x06, 0, 0, _LONGEST), (0x06, 0, 0, 0)
"""BPF_RET | BPF_K: so many bytes of the packet."""

NOTHING: Final[Program] = (_DROP,)
"""A filter that lets nothing through."""


def attach(to: socket.socket, program: Program) -> None:
    """Have the kernel filter what comes to a socket. Raises OSError."""
    code = b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
    held = ctypes.create_string_buffer(code)
    to.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", len(program), ctypes.addressof(held)))
