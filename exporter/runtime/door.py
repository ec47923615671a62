"""What every request passes before the application answers it: rate limit, password, method, target, room."""

from __future__ import annotations

import asyncio
import contextlib
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from math import ceil
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

from starlette.requests import ClientDisconnect

from exporter.publish.web import refusal
from exporter.runtime.connection import BUFFER
from exporter.runtime.request_path import path_of
from exporter.runtime.turns import TooMany

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.responses import Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from exporter.runtime.connection import Connection, Crowd
    from exporter.runtime.front import Front

STALLED: Final = 1.0
"""Seconds that an answer waits for its client to read, after which it makes room for another request."""

_METHODS = ("GET", "HEAD")
_CHALLENGE = 'Basic realm="docker-icc-exporter", charset="UTF-8"'
_CLOSE = (b"connection", b"close")

_SEND_TELLS: Final = "2.4"
"""The version of ASGI since which `send` tells when the client has gone.

Applications that are not told wait for that in a task beside the one that sends; ending such a pair leaves what an
answer holds to a garbage collection, and they are seldom.
"""


class Door:
    """Receives the requests of all connections. `app`, `front` and `max_requests` may be exchanged at any time.

    `max_requests` are answers at the same time; 0 is no limit.
    """

    def __init__(self, app: ASGIApp, crowd: Crowd, front: Front, max_requests: int) -> None:
        self.app = app
        self.front = front
        self.max_requests = max_requests
        self._crowd = crowd
        self._answering: set[Connection] = set()
        self._unread: dict[Connection, float] = {}
        self._hasher = ThreadPoolExecutor(1, "bcrypt")

    def close(self) -> None:
        """Look at no further password."""
        self._hasher.shutdown(wait=False, cancel_futures=True)

    async def answer(self, connection: Connection, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or say why not."""
        front = self.front
        # a client that came by other settings of TLS than those in force has to come again
        closing = connection.tls is not front.tls or _has_body(scope["headers"])
        sender = _Sender(connection, send, front.headers, closing=closing)
        scope["asgi"]["spec_version"] = _SEND_TELLS
        self._crowd.busy(connection)
        try:
            refused = await self._refusal(front, scope)
            with contextlib.suppress(ClientDisconnect):
                if refused:
                    await sender.refuse(refused, scope, receive)
                else:
                    await self._answer(connection, scope, receive, sender)
        finally:
            self._crowd.idle(connection)

    async def _refusal(self, front: Front, scope: Scope) -> Response | None:
        """Return the answer to those who come too often, do not say who they are, or want to change something.

        The others have the path that they ask for in the scope.
        """
        wait = front.bucket.wait() if front.bucket else 0.0
        if wait:
            return refusal(HTTPStatus.TOO_MANY_REQUESTS, {"Retry-After": str(ceil(wait))})
        if front.passwords:
            host = scope["client"][0] if scope["client"] else ""
            given = [value for name, value in scope["headers"] if name == b"authorization"]
            try:
                if len(given) != 1 or not await front.passwords.accept(given[0], host, self._hasher):
                    return refusal(HTTPStatus.UNAUTHORIZED, {"WWW-Authenticate": _CHALLENGE})
            except TooMany:
                return refusal(HTTPStatus.SERVICE_UNAVAILABLE, {"Retry-After": "1"})
        if scope["method"] not in _METHODS:
            return refusal(HTTPStatus.METHOD_NOT_ALLOWED, {"Allow": ", ".join(_METHODS)})
        path = path_of(scope["raw_path"])
        if path is None:
            return refusal(HTTPStatus.BAD_REQUEST)
        if path != scope["raw_path"]:
            scope["raw_path"], scope["path"] = path, unquote(path.decode("ascii"))
        return None

    async def _answer(self, connection: Connection, scope: Scope, receive: Receive, sender: _Sender) -> None:
        """Let the application answer, unless too many answers are on their way."""
        if self.max_requests and len(self._answering) >= self.max_requests and not self._make_room():
            await sender.refuse(refusal(HTTPStatus.SERVICE_UNAVAILABLE, {"Retry-After": "1"}), scope, receive)
            return

        async def send(message: Message) -> None:
            self._unread[connection] = asyncio.get_running_loop().time()
            try:
                await sender.send(message)
            finally:
                self._unread.pop(connection, None)

        self._answering.add(connection)
        try:
            await self.app(scope, receive, send)
        finally:
            self._answering.discard(connection)

    def _make_room(self) -> bool:
        """Abort the answer that has waited longest for its client to read, if one has waited too long."""
        connection, since = next(iter(self._unread.items()), (None, 0.0))
        if connection is None or asyncio.get_running_loop().time() - since < STALLED:
            return False
        del self._unread[connection]
        self._answering.discard(connection)
        connection.abort()
        return True


class _Sender:
    """Sends an answer with the headers of the front, in pieces that a client which does not read makes wait.

    Raises ClientDisconnect where the client has gone.
    """

    def __init__(
        self, connection: Connection, send: Send, headers: tuple[tuple[bytes, bytes], ...], *, closing: bool
    ) -> None:
        self._connection = connection
        self._send = send
        self._headers = headers
        self._closing = closing

    async def refuse(self, refused: Response, scope: Scope, receive: Receive) -> None:
        """Send why not, as the last answer: what else the client has asked before it was told is not even read."""
        self._closing = True
        await refused(scope, receive, self.send)

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            ours = (*self._headers, _CLOSE) if self._closing else self._headers
            names = {name for name, _ in ours}
            kept = [(name, value) for name, value in message["headers"] if name.lower() not in names]
            await self._pass_on({**message, "headers": [*kept, *ours]})
            return
        body = message.get("body", b"")
        last = max(len(body) - 1, 0) // BUFFER * BUFFER
        for begin in range(0, last, BUFFER):
            await self._pass_on({**message, "body": body[begin : begin + BUFFER], "more_body": True})
        await self._pass_on({**message, "body": body[last:]})

    async def _pass_on(self, message: Message) -> None:
        await self._send(message)
        if self._connection.ended:
            raise ClientDisconnect


def _has_body(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    return any(
        name == b"transfer-encoding" or (name == b"content-length" and value.strip(b"0")) for name, value in headers
    )
