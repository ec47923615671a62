"""Sockets that take packets: TCP listeners and unconnected UDP sockets of the calling thread's namespace.

Asked of inet_diag, for `/proc/net/tcp6` does not tell whether a socket on `::` takes IPv4 too. Where that part of the
kernel is not loaded it is not made to be: the files serve then, which may leave that open.
"""

from __future__ import annotations

import socket
import struct
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from exporter.observe.kernel.modules import present
from exporter.observe.kernel.netlink import SOCK_DIAG, Netlink, attributes
from exporter.observe.kernel.trouble import Unreadable, reason

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exporter.observe.kernel.budget import Budget

_OWN_NET: Final = Path("/proc/thread-self/net")
_BY_FAMILY: Final = 20
_REQUEST: Final = struct.Struct("=BBBxI48x")
_PORT: Final = struct.Struct(">H")
_FAMILY, _SOURCE_PORT, _SOURCE, _DESTINATION, _BODY = 16, 20, 24, 40, 88
"""Places in an answer: `struct inet_diag_msg`, after the header."""

_V6_ONLY = 11
_LISTEN, _UNCONNECTED = 10, 7
_PROTOCOLS: Final = (("tcp", 6, _LISTEN), ("udp", 17, _UNCONNECTED))


class Socket(NamedTuple):
    """A socket that takes packets; `v6only` is None where it is not known."""

    protocol: str
    address: str
    port: int
    v6only: bool | None = False


def read_sockets(budget: Budget) -> list[Socket]:
    """Return the sockets of the namespace in a stable order. Raises Unreadable."""
    try:
        if present("inet_diag", "inet_diag_dump") and present("tcp_diag", "tcp_diag_dump"):
            with Netlink(SOCK_DIAG, budget) as netlink:
                return sorted(set(_of_netlink(netlink)), key=_order)
        return sorted(set(_of_files()), key=_order)
    except OSError as error:
        raise Unreadable(reason(error, "sockets", "root")) from error


def _order(found: Socket) -> tuple[str, int, str]:
    return found.protocol, found.port, found.address


def _of_netlink(netlink: Netlink) -> Iterator[Socket]:
    for name, protocol, state in _PROTOCOLS:
        if protocol == socket.IPPROTO_UDP and not present("udp_diag", "udp_diag_dump"):
            yield from _of_file(name, state)
            continue
        for family in (socket.AF_INET, socket.AF_INET6):
            for message in netlink.dump(_BY_FAMILY, _REQUEST.pack(family, protocol, 0, 1 << state)):
                found = _of_message(message, name)
                if found:
                    yield found


def _of_message(message: bytes, protocol: str) -> Socket | None:
    (port,) = _PORT.unpack_from(message, _SOURCE_PORT)
    if message[_FAMILY] == socket.AF_INET:
        if any(message[_DESTINATION : _DESTINATION + 4]):
            return None
        return Socket(protocol, str(IPv4Address(message[_SOURCE : _SOURCE + 4])), port)
    if any(message[_DESTINATION : _DESTINATION + 16]):
        return None
    v6only = attributes(message, _BODY).get(_V6_ONLY)
    address = IPv6Address(message[_SOURCE : _SOURCE + 16])
    return Socket(protocol, str(address), port, None if v6only is None else bool(v6only[0]))


def _of_files() -> Iterator[Socket]:
    for name, _, state in _PROTOCOLS:
        yield from _of_file(name, state)


def _of_file(protocol: str, state: int) -> Iterator[Socket]:
    """Yield the sockets in the files of a protocol. One on `::` beside one of IPv4 on its port cannot take IPv4 too."""
    v4 = [Socket(protocol, str(IPv4Address(address)), port) for address, port in _lines(protocol, state)]
    yield from v4
    ports = {found.port for found in v4}
    for address, port in _lines(f"{protocol}6", state):
        yield Socket(protocol, str(IPv6Address(address)), port, True if port in ports else None)


def _lines(file: str, state: int) -> Iterator[tuple[bytes, int]]:
    try:
        lines = (_OWN_NET / file).read_text(encoding="ascii").splitlines()[1:]
    except FileNotFoundError:
        return
    for line in lines:
        fields = line.split()
        if len(fields) > 3 and int(fields[3], 16) == state and not int(fields[2].partition(":")[0], 16):
            address, _, port = fields[1].partition(":")
            yield _bytes(address), int(port, 16)


def _bytes(words: str) -> bytes:
    """Return an address; the files show its words as numbers of the machine."""
    return b"".join(struct.pack("=I", int(words[place : place + 8], 16)) for place in range(0, len(words), 8))
