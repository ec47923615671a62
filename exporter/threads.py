"""Threads that are started while the program runs, when memory or the number of threads may have run out.

`threading.Thread.start` waits until the new thread says that it runs. One that finds no memory for its first steps
never does (CPython: python/cpython#140746), and who started it, with every lock that it holds, waits for ever.
"""

from __future__ import annotations

import _thread
import threading
import weakref
from typing import TYPE_CHECKING

from exporter.errors import SystemShort

if TYPE_CHECKING:
    from collections.abc import Callable


class _Token:
    """Lives as long as the thread that holds it."""

    __slots__ = ("__weakref__",)


class Started:
    """A thread that was started, whatever has become of it."""

    def __init__(self, token: _Token) -> None:
        # asked, not told: a thread that ends without memory has none for telling either
        self._token = weakref.ref(token)
        self._done = threading.Event()

    @property
    def alive(self) -> bool:
        """Whether it has not ended, or not even begun."""
        return self._token() is not None

    def wait(self, seconds: float) -> None:
        """Wait until its work is done, and so long at most."""
        self._done.wait(seconds)

    def done(self) -> None:
        """Say that its work is done."""
        self._done.set()


def start(work: Callable[[], None]) -> Started:
    """Begin to work in a thread that does not keep the process alive.

    Raises SystemShort where there is no thread to be had. One that is had may still find no memory, and do nothing.
    """
    token = _Token()
    started = Started(token)
    try:
        _thread.start_new_thread(_run, (work, started, token))
    except (RuntimeError, MemoryError) as error:
        raise SystemShort("no thread can be started: there are too many, or memory has run out") from error
    return started


def _run(work: Callable[[], None], started: Started, token: _Token) -> None:
    try:
        work()
    finally:
        # Whoever keeps an exception of it keeps this frame as well; the thread itself holds the token until it ends.
        del token
        started.done()
