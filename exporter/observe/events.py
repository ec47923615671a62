"""The engine's events: hints that a look would show something new, never the truth itself."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from exporter.errors import EngineRefused, ObservationError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exporter.observe.client import EngineClient

WATCHED: Final = {
    "container": frozenset({"start", "die", "destroy", "rename", "pause", "unpause", "restart"}),
    "network": frozenset({"create", "connect", "disconnect", "destroy", "remove"}),
    "daemon": frozenset({"reload"}),
}
"""Actions, by type, after which verdicts may differ. Health checks and exec sessions, the bulk of a busy
engine's events, change nothing."""

SILENCE: Final = 600.0
"""Seconds without an event after which the stream is opened again: the way there may be broken without a word."""

_LINE_LIMIT = 1 << 20


@dataclass(frozen=True, slots=True)
class Event:
    """Something that may have changed verdicts."""

    type: str
    action: str


class EventStream:
    """The events of one engine, over a connection of its own."""

    def __init__(self, client: EngineClient) -> None:
        self._client = client
        self._filtered = True

    @contextmanager
    def open(self) -> Iterator[Iterator[Event]]:
        """Connect, and give the watched events as they happen; the iterator ends when the engine ends the stream.

        Raises EngineError, and ObservationError for what is no event, also from the iterator.
        """
        params = {"filters": _filters()} if self._filtered else {}
        try:
            with self._client.stream("/events", params, SILENCE) as pieces:
                yield (event for line in _lines(pieces) if (event := _event(line)) is not None)
        except EngineRefused:
            # other implementations know fewer types and actions, and refuse what they do not know: ask the other way
            self._filtered = not self._filtered
            raise
        finally:
            self._client.close()

    def interrupt(self) -> None:
        """End the stream that another thread reads."""
        self._client.interrupt()


def _filters() -> str:
    return json.dumps({"type": sorted(WATCHED), "event": sorted(frozenset().union(*WATCHED.values()))})


def _lines(pieces: Iterator[bytes]) -> Iterator[bytes]:
    rest = b""
    for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        yield from lines
        if len(rest) > _LINE_LIMIT:
            raise ObservationError("GET /events: a line does not end")


def _event(line: bytes) -> Event | None:
    """Return the event of a line, None for an empty line and for events that change nothing."""
    if not line.strip():
        return None
    try:
        document: Any = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ObservationError("GET /events: a line is not JSON") from error
    if not isinstance(document, dict):
        raise ObservationError("GET /events: a line is not an object")
    kind, action = document.get("Type"), document.get("Action")
    if isinstance(kind, str) and isinstance(action, str) and action in WATCHED.get(kind, ()):
        return Event(kind, action)
    return None
