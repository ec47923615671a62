"""Sockets that send: SYNs that go no further than their answer, and datagrams."""

from __future__ import annotations

import errno
import socket
import struct
from typing import TYPE_CHECKING, Final

from exporter.model.reach import Protocol
from exporter.observe.probe.mark import NOTHING, attach

if TYPE_CHECKING:
    from exporter.observe.probe.mark import Mark

HOPS: Final = 2
"""The time to live of every packet: the host may pass it on, and whoever would be next drops it."""

_TCP_REPAIR, _TCP_REPAIR_QUEUE, _TCP_QUEUE_SEQ = 19, 20, 21
_SEND_QUEUE: Final = 2
_REPAIR_OFF: Final = -1
"""TCP_REPAIR_OFF_NO_WP."""

_NO_WAY: Final = {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EPERM, errno.EACCES, errno.ENETDOWN, errno.ECONNREFUSED}
"""What the kernel says where the source's own routes or rules let nothing out, or an error message came back."""


def family_of(address: str) -> socket.AddressFamily:
    """Return the family of a literal address."""
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def open_sender(protocol: Protocol, address: str, mark: Mark, number: int) -> socket.socket:
    """Return a socket of the calling thread's namespace that is ready to send a probe. Raises OSError.

    Of TCP, the sequence number is set (as CRIU does, tcp_v4_connect keeps it), and the socket hears nothing: an answer
    that only raw sockets see completes no connection. When the socket is closed, the kernel resets what is repeated.
    """
    family = family_of(address)
    made = socket.socket(family, socket.SOCK_STREAM if protocol is Protocol.TCP else socket.SOCK_DGRAM)
    try:
        made.setblocking(False)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, HOPS)
        else:
            made.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, HOPS)
        if protocol is Protocol.TCP:
            attach(made, NOTHING)
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_SYNCNT, 1)
            made.setsockopt(socket.IPPROTO_TCP, _TCP_REPAIR, 1)
            made.setsockopt(socket.IPPROTO_TCP, _TCP_REPAIR_QUEUE, _SEND_QUEUE)
            made.setsockopt(socket.IPPROTO_TCP, _TCP_QUEUE_SEQ, struct.pack("=I", mark.sequence(number)))
            made.setsockopt(socket.IPPROTO_TCP, _TCP_REPAIR, _REPAIR_OFF)
    except OSError:
        made.close()
        raise
    return made


def connect(made: socket.socket, address: str, port: int) -> None:
    """Send a SYN, which the kernel repeats once after a second. Raises OSError where that is nobody's verdict."""
    error = made.connect_ex((address, port))
    if error and error != errno.EINPROGRESS and error not in _NO_WAY:
        raise OSError(error, "")


def send(made: socket.socket, address: str, port: int, content: bytes) -> None:
    """Send a datagram. Raises OSError where it did not leave, and no route or rule was the reason."""
    try:
        made.sendto(content, (address, port))
    except OSError as error:
        # a queue that is full now may have room at the next repetition
        if error.errno not in (*_NO_WAY, errno.ENOBUFS, errno.EAGAIN):
            raise
