"""The HTTP server: uvicorn on an event loop of its own, where a connection costs a descriptor and no thread."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING, Final

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from exporter.config import parse_listen_address
from exporter.errors import ExporterError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterable, Sequence

    from starlette.types import ASGIApp, Receive, Scope, Send

CONNECTIONS: Final = 500
"""At most, so that connections never use up the descriptors that reading the engine needs (1,024 by default)."""

PATIENCE: Final = 30.0
"""Seconds in which something must move while we wait for a client, for its request or for it to read."""

_KEEP_ALIVE = 75
"""Seconds that a connection may wait for its next request: longer than usual scrape intervals."""

_LAST_MOMENT = 0.5
"""Seconds at the end, for clients and once more for ourselves."""

_BACKLOG = 512


def bind(addresses: Iterable[str]) -> list[socket.socket]:
    """Return listening sockets for `:10422`, `127.0.0.1:10422`, `localhost:10422`, `[::1]:10422`.

    Raises ExporterError that names the address where that is not possible; nothing stays bound then.
    """
    with contextlib.ExitStack() as bound:
        sockets = [bound.enter_context(listener) for address in addresses for listener in _bind(address)]
        bound.pop_all()
    return sockets


def shown(listener: socket.socket) -> str:
    """Return the address that a socket listens on, as one would write it in a URL."""
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class HttpServer:
    """Serves on sockets that `bind` returned. The application may be exchanged while it runs."""

    def __init__(self, sockets: Sequence[socket.socket], app: ASGIApp) -> None:
        self.app = app
        self._sockets = list(sockets)
        self._server = uvicorn.Server(
            uvicorn.Config(
                self._call,
                http=PatientProtocol,
                ws="none",
                loop="asyncio",
                lifespan="off",
                interface="asgi3",
                log_config=None,
                log_level="error",
                access_log=False,
                server_header=False,
                proxy_headers=False,
                backlog=_BACKLOG,
                timeout_keep_alive=_KEEP_ALIVE,
                timeout_graceful_shutdown=1,
            )
        )
        self._thread = threading.Thread(target=self._run, name="http", daemon=True)

    def start(self) -> None:
        """Begin to serve."""
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether it still serves."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """Let answers that are on their way take another moment, then end."""
        self._server.should_exit = True
        self._thread.join(_LAST_MOMENT)
        for connection in list(self._server.server_state.connections):
            if isinstance(connection, PatientProtocol):
                connection.loop.call_soon_threadsafe(connection.transport.abort)
        self._thread.join(_LAST_MOMENT)

    def _run(self) -> None:
        self._server.run(sockets=self._sockets)

    async def _call(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)


class PatientProtocol(H11Protocol):
    """One connection. uvicorn waits for ever for a first request, and for a client that does not read; we do not."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take the connection in, unless there are too many."""
        super().connection_made(transport)
        self._seen: tuple[int, bool] | None = None
        self._next_look = self.loop.call_later(PATIENCE, self._look)
        if len(self.connections) > CONNECTIONS:
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Look no more."""
        self._next_look.cancel()
        super().connection_lost(exc)

    def _look(self) -> None:
        """Close a connection on which nothing has moved since the last look."""
        unsent = self.transport.get_write_buffer_size()
        state = unsent, self._waits_for_request()
        if state == self._seen and any(state):
            self.transport.abort()
            return
        self._seen = state
        self._next_look = self.loop.call_later(PATIENCE, self._look)

    def _waits_for_request(self) -> bool:
        """Return whether the rest of a request is missing; between two requests keep-alive has a limit of its own."""
        if self.cycle is None or self.cycle.response_complete:  # type: ignore[redundant-expr]
            return self.timeout_keep_alive_task is None
        return self.cycle.more_body


def _bind(address: str) -> list[socket.socket]:
    host, port = parse_listen_address(address)
    with contextlib.ExitStack() as bound:
        try:
            if not host:
                return [_bind_all(port)]
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            endpoints = dict.fromkeys((family, where) for family, _, _, _, where in found)
            sockets = [bound.enter_context(_listener(family, where)) for family, where in endpoints]
        except OSError as error:
            raise ExporterError(f"cannot listen on {address}: {error.strerror or error}") from error
        bound.pop_all()
    return sockets


def _bind_all(port: int) -> socket.socket:
    """Listen on every address: one socket for both families, or IPv4 alone where the machine has no IPv6."""
    if socket.has_dualstack_ipv6():
        return _listener(socket.AF_INET6, ("::", port), dualstack=True)
    return _listener(socket.AF_INET, ("", port))


def _listener(family: int, where: tuple[object, ...], *, dualstack: bool = False) -> socket.socket:
    # named, for asyncio asks for it: without, it leaves Nagle's algorithm on, and an answer waits 40 ms for the
    # client's delayed acknowledgement
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not dualstack)
        listener.bind(where)
        # now, not when the server starts: an address in use shows only here where both sides set SO_REUSEADDR
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener
