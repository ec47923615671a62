"""A rate limit."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from exporter.webconfig import RateLimit


class Bucket:
    """A bucket of tokens: full at the beginning, and one more every interval. A request takes one."""

    def __init__(self, limit: RateLimit, clock: Callable[[], float]) -> None:
        self._limit = limit
        self._clock = clock
        self._tokens = float(limit.burst)
        self._filled = clock()

    def wait(self) -> float:
        """Take a token and return 0, or take none and return in how many seconds there is one."""
        now = self._clock()
        self._tokens = min(self._limit.burst, self._tokens + (now - self._filled) / self._limit.interval)
        self._filled = now
        if self._tokens >= 1:
            self._tokens -= 1
            return 0.0
        return (1 - self._tokens) * self._limit.interval
