"""Requests that no client should send."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator

_HEAD = b"GET /metrics HTTP/1.1\r\nHost: x\r\n"

_SHAPES = (
    b"",
    b"\r\n\r\n\r\n",
    b"GET\r\n\r\n",
    b"GET /metrics\r\n\r\n",
    b"GET /metrics HTTP/3.7\r\n\r\n",
    b"GET /metrics HTTP/1.1\r\n\r\n",
    b"G\0T /metrics HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /%ff%00%%% HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET http://[::1 HTTP/1.1\r\nHost: x\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100),
    _HEAD + b"no colon\r\n\r\n",
    _HEAD + b": no name\r\n\r\n",
    _HEAD + b"X: a\r\n b\r\n c\r\n\r\n",
    _HEAD + b"X: \x01\x02\r\n\r\n",
    _HEAD + b"Content-Length: -1\r\n\r\n",
    _HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    _HEAD + b"Content-Length: 10\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    _HEAD + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffffff\r\n",
    _HEAD + b"Transfer-Encoding: chunked, identity\r\n\r\n",
    _HEAD + b"Authorization: Basic \xff\xfe\r\n\r\n",
    _HEAD + b"Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\n",
    _HEAD + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\n",
    _HEAD + b"X: " + b"x" * 20_000 + b"\r\n\r\n",
    b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    _HEAD + b"X: y\r\n" * 2_000 + b"\r\n",
    _HEAD + b"Accept: " + b"a," * 30_000 + b"\r\n\r\n",
    _HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\na\r\n" * 10_000,
)


def requests(count: int, dice: random.Random) -> Iterator[bytes]:
    """Yield so many malformed requests: shapes that parsers stumble over, whole, cut, and with bytes exchanged."""
    for number in range(count):
        shape = bytearray(_SHAPES[number % len(_SHAPES)])
        if dice.random() < 0.3:
            del shape[dice.randint(0, len(shape)) :]
        for _ in range(dice.choice((0, 0, 1, 3)) if shape else 0):
            shape[dice.randrange(len(shape))] = dice.randrange(256)
        yield bytes(shape)
