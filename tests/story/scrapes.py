"""Scrapes without a pause, of which not one may show what is not so."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.story.gauges import OF_ITSELF

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.cli.service import Service

    State = Callable[[dict[str, float]], bool]

PAUSE = 0.03


class Scrapes:
    """A thread that scrapes, and which states of the gauges are right at the moment."""

    def __init__(self, exporter: Service, *states: State) -> None:
        self._exporter = exporter
        self._states: tuple[State, ...] = states
        self._until: tuple[State, ...] = ()
        self._come = threading.Event()
        self._changing = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.wrong: list[str] = []
        self.seen: dict[str, float] = {}
        """The samples of the last scrape."""
        self._refused = threading.Event()

    @contextmanager
    def coming_to(self, *states: State, within: float, by: tuple[State, ...] = ()) -> Iterator[None]:
        """See the gauges come to one of these states by what is done meanwhile, and so long after it at most.

        Until then they are as they were before, or as they may be on the way there; from then on they stay as they are.
        """
        with self._changing:
            self._states, self._until = states, (*self._states, *by)
            self._come.clear()
        yield
        assert self._come.wait(within), f"not within {within} s: {self._exporter.samples()}; {self.wrong[:1]}"

    def stay(self, seconds: float) -> None:
        """See the gauges stay in their states for so long."""
        time.sleep(seconds)
        assert not self.wrong, self.wrong[0]

    @contextmanager
    def some_refused(self) -> Iterator[None]:
        """Let scrapes fail meanwhile; those that are answered are judged."""
        self._refused.set()
        yield
        time.sleep(PAUSE)
        self._refused.clear()

    @contextmanager
    def going_on(self) -> Iterator[None]:
        """Scrape meanwhile, and judge at the end."""
        self._thread.start()
        try:
            yield
        finally:
            self._stopping.set()
            self._thread.join(10)
        assert not self.wrong, self.wrong[0]
        assert self.seen, "nothing was scraped"

    def _run(self) -> None:
        while not self._stopping.wait(PAUSE):
            try:
                self._judge(self._exporter.samples())
            except OSError as error:
                if not self._refused.is_set():
                    self.wrong.append(f"a scrape failed: {error!r}")

    def _judge(self, samples: dict[str, float]) -> None:
        with self._changing:
            if any(state(samples) for state in self._states):
                self._until = ()
                self._come.set()
            elif not any(state(samples) for state in self._until):
                shown = {name: value for name, value in samples.items() if value and not name.startswith(OF_ITSELF)}
                self.wrong.append(f"no state of now, and none of before: {shown}")
        self.seen = samples
