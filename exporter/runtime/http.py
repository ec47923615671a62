"""The HTTP server: uvicorn's HTTP/1.1 on an event loop of its own, where a connection costs a descriptor, no thread.

uvicorn would bind one TLS context to a listener for good, and count connections only after their handshake. So
connections are accepted here: each by the settings of TLS that are in force when it comes, and counted before it
may cost anything.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from asyncio.sslproto import SSLProtocol
from typing import TYPE_CHECKING, Final

import uvicorn
from anyio.to_thread import current_default_thread_limiter

from exporter.runtime.connection import HEAD, Connection, Crowd
from exporter.runtime.door import Door
from exporter.runtime.front import Front

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

    from starlette.types import ASGIApp

    from exporter.runtime.tls import Tls

logger = logging.getLogger(__name__)

HANDSHAKE: Final = 10.0
"""Seconds for a TLS handshake."""

_GOODBYE = 5.0
"""Seconds for the end of a TLS connection."""

_KEEP_ALIVE = 75
"""Seconds that a connection may wait for its next request: longer than usual scrape intervals."""

_LAST_MOMENT = 0.5
"""Seconds at the end, for clients and once more for ourselves."""

_LAST_WORD = 0.1
"""Seconds for whoever was accepted at the very end to say what he wants."""

_TLS_BUFFER = 1 << 14
"""Bytes that asyncio keeps for each TLS connection to read into: a record of TLS, in place of 256 KiB."""

_INSTANT = 0.01
"""Seconds until a connection has ended that was told to."""

_BREATH = 1.0
"""Seconds until connections are accepted again when the system has run out of something."""


class HttpServer:
    """Serves on listening sockets, behind a `door` whose settings may be exchanged while it runs."""

    def __init__(
        self,
        sockets: Sequence[socket.socket],
        app: ASGIApp,
        front: Front | None = None,
        max_requests: int = 0,
    ) -> None:
        crowd = Crowd()
        self.door = Door(app, crowd, front or Front(), max_requests)
        self._server = _Server(sockets, crowd, self.door)
        self._thread = threading.Thread(target=self._server.run, name="http", daemon=True)

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
            if isinstance(connection, Connection):
                connection.loop.call_soon_threadsafe(connection.abort)
        self._thread.join(_LAST_MOMENT)
        self.door.close()


class _Server(uvicorn.Server):
    """Accepts connections by itself; what a connection says is uvicorn's matter."""

    def __init__(self, sockets: Sequence[socket.socket], crowd: Crowd, door: Door) -> None:
        super().__init__(
            uvicorn.Config(
                door.app,
                http=Connection,
                ws="none",
                loop="asyncio",
                lifespan="off",
                interface="asgi3",
                log_config=None,
                log_level="error",
                access_log=False,
                server_header=False,
                proxy_headers=False,
                h11_max_incomplete_event_size=HEAD,
                timeout_keep_alive=_KEEP_ALIVE,
                timeout_graceful_shutdown=1,
            )
        )
        self._listeners = list(sockets)
        self._crowd = crowd
        self._door = door
        self._accepting: list[asyncio.Task[None]] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets or [])
        SSLProtocol.max_size = _TLS_BUFFER
        # pages and reports are made one at a time, so that the event loop shares the interpreter with one thread
        current_default_thread_limiter().total_tokens = 1
        for listener in self._listeners:
            listener.setblocking(False)
            self._accepting.append(asyncio.create_task(self._accept(listener)))

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept nobody any more, answer who was; who comes now to a socket of systemd's waits for the next server."""
        for listener, accepting in zip(self._listeners, self._accepting, strict=True):
            # at once: an accept that is about to run would take a client whom nobody serves
            asyncio.get_running_loop().remove_reader(listener)
            accepting.cancel()
        await asyncio.gather(*self._accepting, return_exceptions=True)
        await asyncio.sleep(_LAST_WORD)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await super().shutdown([*(sockets or []), *self._listeners])

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, peer = await loop.sock_accept(listener)
            except ConnectionError:
                continue  # the client has gone again
            except OSError as error:
                await self._run_short(error)
                continue
            self._receive(accepted, peer)
            # the next one may be there already, and others have their turn
            await asyncio.sleep(0)

    async def _run_short(self, error: OSError) -> None:
        """Wait until there may be descriptors and memory again; idle clients have to give some back first."""
        if self._crowd.make_room():
            await asyncio.sleep(_INSTANT)
            return
        logger.warning("cannot accept a connection: %s", error.strerror)
        await asyncio.sleep(_BREATH)

    def _receive(self, accepted: socket.socket, peer: object) -> None:
        tls = self._door.front.tls
        connection = Connection(self.config, self.server_state, self._crowd, tls, self._door.answer)
        if not self._crowd.enter(connection):
            accepted.close()
            return
        greeting = asyncio.create_task(self._greet(connection, accepted, peer, tls))
        connection.abort = greeting.cancel
        # not in the task itself, which may be cancelled before it begins
        greeting.add_done_callback(lambda _: self._greeted(connection, accepted))
        self._keep(greeting)

    def _greeted(self, connection: Connection, accepted: socket.socket) -> None:
        """Part with a client that did not become a connection, or already was one."""
        if connection not in self.server_state.connections:
            self._crowd.leave(connection)
            connection.let_go()
            accepted.close()

    async def _greet(self, connection: Connection, accepted: socket.socket, peer: object, tls: Tls | None) -> None:
        loop = asyncio.get_running_loop()
        try:
            if tls:
                await loop.connect_accepted_socket(
                    lambda: connection,
                    accepted,
                    ssl=tls.context,
                    ssl_handshake_timeout=HANDSHAKE,
                    ssl_shutdown_timeout=_GOODBYE,
                )
            else:
                await loop.connect_accepted_socket(lambda: connection, accepted)
        except OSError as error:
            logger.debug("a TLS handshake failed: %s", error, extra={"client": peer})
            # its frames hold what holds the error: all of it would wait for a garbage collection
            error.__traceback__ = None

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
