"""The time that a look at the kernel may take, and its end before that."""

from __future__ import annotations

import threading
import time

from exporter.observe.kernel.trouble import Unreadable


class Spent(Unreadable):
    """The time is over, or nobody waits any more."""


class Budget:
    """Seconds for everything that is done with it. `cancel` may be called from any thread."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._ends = time.monotonic() + seconds
        self._cancelled = threading.Event()

    @property
    def cancelled(self) -> bool:
        """Whether nobody waits any more."""
        return self._cancelled.is_set()

    def left(self) -> float:
        """Return the seconds that are left. Raises Spent where there are none."""
        if self._cancelled.is_set():
            raise Spent("the look was ended")
        left = self._ends - time.monotonic()
        if left <= 0:
            raise Spent(f"was not read within {self._seconds:g} s")
        return left

    def part(self, seconds: float) -> Budget:
        """Return a budget of so many seconds within this one, which ends with it."""
        part = Budget(min(seconds, self.left()))
        part._cancelled = self._cancelled
        return part

    def cancel(self) -> None:
        """Let nothing more be left."""
        self._cancelled.set()
