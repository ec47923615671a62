"""Threads that are started when there may be nothing to start them with."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from exporter import threads
from exporter.errors import SystemShort
from tests.lab.system import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable


def test_work_is_waited_for() -> None:
    """It is alive until its work is done, and waiting ends with the work, or before."""
    going = threading.Event()

    def work() -> None:
        going.wait(10)

    started = threads.start(work)
    started.wait(0.01)
    assert started.alive
    going.set()
    started.wait(10)
    assert wait_until(lambda: not started.alive, timeout=2)


def test_an_exception_that_somebody_keeps_does_not_keep_its_thread_alive() -> None:
    """Its traceback has the frames of the thread, which outlive it."""
    kept: list[Exception] = []

    def work() -> None:
        try:
            int("no number")
        except ValueError as error:
            kept.append(error)

    started = threads.start(work)
    started.wait(10)
    assert wait_until(lambda: not started.alive, timeout=2)
    assert kept


def test_a_thread_that_never_began_is_not_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that ended before its first step keeps nobody waiting longer than asked, and is known to be gone."""

    def nothing(*_: object) -> None:
        raise SystemExit

    monkeypatch.setattr(threads, "_run", nothing)
    worked: list[int] = []
    started = threads.start(lambda: worked.append(1))
    started.wait(0.05)
    assert wait_until(lambda: not started.alive, timeout=2)
    assert not worked


@pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), MemoryError()])
def test_no_thread_is_an_error_of_ours(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """Where the system has no thread for us, that is said in words."""

    def refuse(_function: Callable[..., None], _arguments: tuple[object, ...]) -> int:
        raise error

    monkeypatch.setattr("_thread.start_new_thread", refuse)
    with pytest.raises(SystemShort, match="no thread can be started"):
        threads.start(lambda: None)
