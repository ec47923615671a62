"""Netlink as a reader needs it: dumps and single questions, in the namespace of the calling thread.

What is sent and received is bytes; pyroute2's message classes take them apart. Its own sockets do more than is needed
here (an event loop and caches each), which counts where a thousand namespaces are read. Bytes that came before need
not be taken apart again, see `memo.py`.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from typing import TYPE_CHECKING, Final, Self

from exporter.observe.kernel.trouble import Unreadable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from exporter.observe.kernel.budget import Budget

ROUTE: Final = 0
SOCK_DIAG: Final = 4
XFRM: Final = 6
NETFILTER: Final = 12

HEADER: Final = struct.Struct("=IHHII")
"""Length, type, flags, sequence number, port."""

_ATTRIBUTE: Final = struct.Struct("=HH")
_KIND: Final = 0x3FFF
"""An attribute's number, without NLA_F_NESTED and NLA_F_NET_BYTEORDER."""

_ERROR, _DONE = 2, 3
_REQUEST, _DUMP, _INTERRUPTED = 0x01, 0x300, 0x10
_SOL_NETLINK, _GET_STRICT_CHK = 270, 12
_BUFFER = 1 << 18
_ATTEMPTS = 5
_SIZE_LIMIT = 256 << 20
"""Bytes of one answer: a million routes are a third of it."""


class Torn(Unreadable):
    """The kernel says, each time, that something changed while it listed it."""


class Netlink:
    """A netlink socket of the calling thread's namespace. A context that closes it."""

    def __init__(self, protocol: int, budget: Budget) -> None:
        self._budget = budget
        self._sequence = 0
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        if protocol == ROUTE:
            # the kernel then heeds what a dump is limited to, or refuses; before 4.20 there is no such option
            try:
                self._socket.setsockopt(_SOL_NETLINK, _GET_STRICT_CHK, 1)
            except OSError:
                self.strict = False
            else:
                self.strict = True

    def dump(self, kind: int, body: bytes) -> list[bytes]:
        """Return the messages of a list, complete, with their headers.

        Raises OSError where the kernel refuses, Torn where it changes all the time, Spent.
        """
        for _ in range(_ATTEMPTS):
            messages = self._ask(kind, _REQUEST | _DUMP, body)
            if messages is not None:
                return messages
        raise Torn("changes faster than it can be listed")

    def get(self, kind: int, body: bytes) -> bytes:
        """Return the one message that answers a question. Raises as `dump` does."""
        messages = self._ask(kind, _REQUEST, body)
        if not messages:
            raise OSError(errno.ENODATA, os.strerror(errno.ENODATA))
        return messages[0]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._socket.close()

    def _ask(self, kind: int, flags: int, body: bytes) -> list[bytes] | None:
        """Return an answer's messages, or None for a list that changed while it was made."""
        self._sequence += 1
        self._socket.settimeout(self._budget.left())
        self._socket.sendto(HEADER.pack(HEADER.size + len(body), kind, flags, self._sequence, 0) + body, (0, 0))
        messages: list[bytes] = []
        torn, size = False, 0
        while True:
            self._socket.settimeout(self._budget.left())
            try:
                data = self._socket.recv(_BUFFER)
            except TimeoutError:
                self._budget.left()
                raise
            size += len(data)
            if size > _SIZE_LIMIT:
                raise Unreadable(f"is longer than {_SIZE_LIMIT >> 20} MiB")
            position = 0
            while position + HEADER.size <= len(data):
                length, answer, answer_flags, sequence, _ = HEADER.unpack_from(data, position)
                if length < HEADER.size:
                    raise OSError(errno.EBADMSG, os.strerror(errno.EBADMSG))
                message = data[position : position + length]
                position += aligned(length)
                if sequence != self._sequence:
                    # left over from a question whose answer nobody read to its end
                    continue
                torn = torn or bool(answer_flags & _INTERRUPTED)
                if answer in (_ERROR, _DONE):
                    _check(message)
                    return None if torn else messages
                messages.append(message)
                if not flags & _DUMP:
                    return messages


def _check(message: bytes) -> None:
    """Raise the OSError of a message that ends an answer, if it holds one."""
    number = int.from_bytes(message[16:20], "little", signed=True) if len(message) >= 20 else 0
    if number:
        raise OSError(-number, os.strerror(-number))


def attribute(kind: int, value: bytes) -> bytes:
    """Return a netlink attribute."""
    return _ATTRIBUTE.pack(4 + len(value), kind) + value + bytes(-len(value) % 4)


def attributes(data: bytes, start: int) -> dict[int, bytes]:
    """Return the attributes from a position of a message on, by their number."""
    return {kind & _KIND: data[place + 4 : place + length] for kind, place, length in attribute_places(data, start)}


def attribute_list(data: bytes) -> list[tuple[int, bytes]]:
    """Return attributes of which several have one number, in order."""
    return [(kind & _KIND, data[place + 4 : place + length]) for kind, place, length in attribute_places(data, 0)]


def attribute_places(data: bytes, start: int) -> Iterator[tuple[int, int, int]]:
    """Yield number and flags, position and length of each attribute from a position of a message on."""
    while start + 4 <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, start)
        if length < 4:
            break
        yield kind, start, length
        start += aligned(length)


def aligned(length: int) -> int:
    """Return how far the next attribute or message is (NLA_ALIGN)."""
    return (length + 3) & ~3
