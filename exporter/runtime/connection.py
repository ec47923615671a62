"""One client: how long it is waited for, and how many there may be."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable

    import uvicorn
    from starlette.types import Receive, Scope, Send
    from uvicorn.server import ServerState

    from exporter.runtime.tls import Tls

logger = logging.getLogger(__name__)

CONNECTIONS: Final = 500
"""At most, so that connections never use up the descriptors that reading the engine needs (1,024 by default)."""

PATIENCE: Final = 30.0
"""Seconds in which something must move while we wait for a client, for its request or for it to read."""

BUFFER: Final = 1 << 14
"""Bytes that wait in our memory for a client to read them, before we stop adding to them."""

HEAD: Final = 1 << 14
"""Bytes of a request's head, about: taking a longer one apart makes others wait, and nobody knows yet who sends it."""

PIECE: Final = 1 << 12
"""Bytes that are looked at in one go: a body that comes with its head may be thousands of chunks of a byte each."""


class Crowd:
    """All connections. When there are too many, the one that has asked nothing for the longest time makes room."""

    def __init__(self) -> None:
        self._all: set[Connection] = set()
        self._idle: dict[Connection, None] = {}

    def enter(self, connection: Connection) -> bool:
        """Take in a connection that has asked nothing yet; return False where nobody can make room for it."""
        if len(self._all) >= CONNECTIONS and not self.make_room():
            return False
        self._all.add(connection)
        self.idle(connection)
        return True

    def make_room(self) -> bool:
        """Abort the connection that has been idle for longest, if any is."""
        oldest = next(iter(self._idle), None)
        if oldest is None:
            return False
        self.leave(oldest)
        oldest.abort()
        return True

    def busy(self, connection: Connection) -> None:
        """Note that a connection asks something."""
        self._idle.pop(connection, None)

    def idle(self, connection: Connection) -> None:
        """Note that a connection has its answer, or nothing asked yet."""
        if connection in self._all:
            self._idle[connection] = None

    def leave(self, connection: Connection) -> None:
        """Forget a connection that has ended."""
        self._all.discard(connection)
        self._idle.pop(connection, None)


class Connection(H11Protocol):
    """One connection. uvicorn waits for ever for a first request, and for a client that does not read; we do not.

    `answer` is called for every request. `abort` ends the connection at once, whatever it does; it has `ended` when
    nothing can be sent any more.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        state: ServerState,
        crowd: Crowd,
        tls: Tls | None,
        answer: Callable[[Connection, Scope, Receive, Send], Awaitable[None]],
    ) -> None:
        super().__init__(config, state, {})
        self.app = partial(answer, self)
        self.tls = tls
        self.abort: Callable[[], object] = _nothing
        self.ended = False
        self._crowd = crowd
        self._seen: tuple[int, bool] | None = None
        self._next_look: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request."""
        super().connection_made(transport)
        self.abort = transport.abort
        transport.set_write_buffer_limits(BUFFER)
        self._next_look = self.loop.call_later(PATIENCE, self._look)
        certificate = transport.get_extra_info("peercert")
        if self.tls and not self.tls.welcomes(certificate):
            logger.warning(
                "no name of the client's certificate is in client_allowed_sans", extra=_who(self, certificate)
            )
            transport.abort()

    def data_received(self, data: bytes) -> None:
        """Look at what a client says, up to a body or a mistake: nobody reads what comes after."""
        for begin in range(0, len(data), PIECE):
            if self.transport.is_closing() or self._sends_a_body():
                return
            super().data_received(data[begin : begin + PIECE])

    def connection_lost(self, exc: Exception | None) -> None:
        """Look no more."""
        self.ended = True
        self._crowd.leave(self)
        if self._next_look:
            self._next_look.cancel()
        # uvicorn lets the timer, and with it the connection, live on where the client broke off
        self._unset_keepalive_if_required()
        super().connection_lost(exc)
        self.let_go()

    def let_go(self) -> None:
        """Part with all that refers back to this, or it would wait for a garbage collection, and they are seldom.

        TLS keeps tens of KiB for a connection, and clients may come and go by the hundred.
        """
        self.abort = _nothing
        for name in ("app", "transport", "flow", "cycle"):
            vars(self).pop(name, None)

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP. uvicorn forgets that the head of it may have been good, and is being answered."""
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.abort()
            return
        if self.cycle and not self.cycle.response_complete:  # type: ignore[truthy-bool]
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        super().send_400_response(msg)

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
        return self._sends_a_body()

    def _sends_a_body(self) -> bool:
        return self.cycle is not None and self.cycle.more_body  # type: ignore[redundant-expr]  # uvicorn's gap


def _nothing() -> None:
    pass


def _who(connection: Connection, certificate: object) -> dict[str, object]:
    names = certificate.get("subjectAltName", ()) if isinstance(certificate, dict) else ()
    host = connection.client[0] if connection.client else ""
    return {"client": host, "names": ", ".join(name for _, name in names)}
