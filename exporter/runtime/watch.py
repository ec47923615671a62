"""Events make a refresh come sooner. They are hints: what counts is what the next look finds."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from typing import TYPE_CHECKING, Protocol

from exporter import threads
from exporter.errors import ExporterError, SystemShort

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from exporter.observe.events import Event
    from exporter.runtime.tally import Tally

logger = logging.getLogger(__name__)

QUIET = 0.08
"""Seconds from a hint to the refresh: what belongs together, such as a start and its connect, is seen at once."""

APART = 0.25
"""Seconds between the beginnings of two refreshes, however many hints come."""

SETTLED = 0.6
"""Seconds after the last refresh when there is another: engines tell of an end before they have written it down.

Seen: when one container starts, is killed, ends or is removed, `GET /containers/json` is up to 14 ms behind its last
event (20.10; 26.1: 10 ms, 28.5: 1 ms), which QUIET covers. When 24 are killed or removed at once, it is up to 223 ms
behind (26.1: 110 ms, 28.5: 39 ms): without a second look such a container stays in the gauges until the next poll.
"""

_FIRST_PAUSE = 0.1


class Hints:
    """Turns any number of hints into few calls of `refresh`, in a thread of its own."""

    def __init__(self, refresh: Callable[[], None]) -> None:
        self._refresh = refresh
        self._pending = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="hints", daemon=True)

    def start(self) -> None:
        """Begin to listen to hints."""
        self._thread.start()

    def stop(self) -> None:
        """Refresh no more. A refresh that is going on is not waited for."""
        self._stopping.set()
        self._pending.set()

    def hint(self) -> None:
        """Say that a refresh would show something new."""
        self._pending.set()

    def _run(self) -> None:
        settled = True
        while not self._stopping.is_set():
            hinted = self._pending.wait(None if settled else SETTLED)
            if hinted and self._stopping.wait(QUIET):
                return
            self._pending.clear()
            with contextlib.suppress(MemoryError):
                self._refresh()
            settled = not hinted
            if self._stopping.wait(APART - QUIET):
                return


class Stream(Protocol):
    """Events of one engine."""

    def open(self) -> AbstractContextManager[Iterator[Event]]:
        """Connect, and give events until the stream ends. Raises ExporterError."""

    def interrupt(self) -> None:
        """End the stream that another thread reads."""


class Watcher:
    """Reads the stream in a thread of its own, again and again, and hints at each event and each gap."""

    def __init__(self, stream: Stream, hint: Callable[[], None], tally: Tally, longest_pause: float) -> None:
        self._stream = stream
        self._hint = hint
        self._tally = tally
        self._longest_pause = longest_pause
        self._stopping = threading.Event()
        self._problem = ""

    def start(self) -> None:
        """Begin to read, or say why that cannot be."""
        try:
            threads.start(self._run)
        except SystemShort as error:
            self._report(str(error))

    def stop(self) -> None:
        """Read no more; does not wait."""
        self._stopping.set()
        self._stream.interrupt()

    def _run(self) -> None:
        pause = _FIRST_PAUSE
        while not self._stopping.is_set():
            began = time.monotonic()
            with contextlib.suppress(MemoryError):
                self._follow()
            # a stream that held was worth having; one that breaks at once is not asked for in a hurry
            held = time.monotonic() - began > self._longest_pause
            pause = _FIRST_PAUSE if held else min(2 * pause, self._longest_pause)
            self._stopping.wait(pause)

    def _follow(self) -> None:
        try:
            with self._stream.open() as events:
                self._read(events)
            self._report("the engine ended the stream")
        except ExporterError as error:
            self._report(str(error))
        except MemoryError:
            self._report("out of memory")
        except Exception:
            logger.exception("reading the engine's events failed")

    def _read(self, events: Iterator[Event]) -> None:
        self._tally.stream(up=True)
        try:
            # what happened before the stream was open is nobody's event, nor what happens after its end
            self._hint()
            for event in events:
                logger.debug("event: %s %s", event.type, event.action)
                self._tally.event(event.type)
                self._hint()
        finally:
            self._tally.stream(up=False)
            self._hint()

    def _report(self, problem: str) -> None:
        """Log why there are no events, once while the reason stays the same."""
        if self._stopping.is_set():
            return
        level = logging.DEBUG if problem == self._problem else logging.INFO
        self._problem = problem
        logger.log(level, "no events, only polls: %s", problem)
