"""The pace of the polls."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from exporter.runtime.schedule import Every, Schedule

LIBFAKETIME = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)


def wait_until(holds: object, within: float = 3.0) -> None:
    """Wait until the call gives something true."""
    assert callable(holds)
    end = time.monotonic() + within
    while not holds():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.005)


def test_the_first_run_is_at_once() -> None:
    """An interval of a day does not delay the first poll."""
    ran = threading.Event()
    schedule = Schedule(ran.set, 86400.0, print)
    schedule.start()
    assert ran.wait(1.0)
    schedule.stop()


def test_runs_follow_each_other_at_the_interval() -> None:
    """Ten intervals make about ten runs."""
    runs: list[float] = []
    schedule = Schedule(lambda: runs.append(time.monotonic()), 0.1, print)
    schedule.start()
    time.sleep(1.05)
    schedule.stop()
    assert 8 <= len(runs) <= 12


def test_a_long_run_makes_the_next_ones_skip_not_pile_up() -> None:
    """A run that outlasts intervals is never joined by a second one; what is skipped is told."""
    trouble: list[str] = []
    release, running, most = threading.Event(), [0], [0]

    def work() -> None:
        running[0] += 1
        most[0] = max(most[0], running[0])
        release.wait(5)
        running[0] -= 1

    schedule = Schedule(work, 0.05, trouble.append)
    schedule.start()
    wait_until(lambda: len(trouble) >= 3)
    release.set()
    schedule.stop()
    assert most == [1]
    assert set(trouble) == {"skipped"}


@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt])
def test_a_run_that_raises_is_told_and_the_next_takes_place(error: type[BaseException]) -> None:
    """Exceptions, those that would end a program too, are reported and do not end the schedule."""
    trouble: list[str] = []
    runs: list[int] = []

    def work() -> None:
        runs.append(1)
        raise error

    schedule = Schedule(work, 0.05, trouble.append)
    schedule.start()
    wait_until(lambda: len(runs) >= 3 and len(trouble) >= 2)
    schedule.stop()
    assert set(trouble) == {"error"}


def test_another_interval_takes_effect_at_once() -> None:
    """A changed interval begins with a run, and does not wait for the end of the old one."""
    runs: list[int] = []
    schedule = Schedule(lambda: runs.append(1), 86400.0, print)
    schedule.start()
    wait_until(lambda: len(runs) == 1)
    schedule.change_interval(0.05)
    wait_until(lambda: len(runs) >= 4)
    schedule.stop()


def test_stopping_does_not_wait_for_a_run() -> None:
    """A hung run delays neither the stop nor, being a daemon thread, the end of the process."""
    release = threading.Event()

    def hang() -> None:
        release.wait(30)

    schedule = Schedule(hang, 0.05, lambda _: None)
    schedule.start()
    time.sleep(0.05)
    began = time.monotonic()
    schedule.stop()
    assert time.monotonic() - began < 5
    release.set()


def test_there_is_never_a_backlog() -> None:
    """The next run is an interval from now, however long ago the last one was planned."""
    now, interval = datetime(2027, 1, 1, tzinfo=UTC), timedelta(seconds=15)
    assert Every(interval).get_next_fire_time(now - timedelta(days=365), now) == now + interval


CLOCK = """
import sys, threading, time
from exporter.runtime.schedule import Schedule
file, shift = sys.argv[1:]
runs = []
pause = threading.Event()  # libfaketime breaks time.sleep where it leaves the steady clock alone
schedule = Schedule(lambda: runs.append(time.monotonic()), 0.5, print)
schedule.start()
end = time.monotonic() + 1.2
while time.monotonic() < end:
    pause.wait(0.05); schedule.check()
before = time.time()
open(file, "w").write(shift)
end = time.monotonic() + 3.0
while time.monotonic() < end:
    pause.wait(0.05); schedule.check()
print("jumped", round(time.time() - before - 3.0), "cpu", round(time.process_time(), 1))
print("longest", max(b - a for a, b in zip(runs, runs[1:])), "last", time.monotonic() - runs[-1], "runs", len(runs))
"""


@pytest.mark.skipif(LIBFAKETIME is None, reason="needs Debian's package faketime")
@pytest.mark.parametrize(("shift", "jump"), [("-1h", -3600), ("+365d", 365 * 86400), ("-20y", None), ("+20y", None)])
def test_setting_the_clock_does_not_disturb_the_pace(tmp_path: Path, shift: str, jump: int | None) -> None:
    """With the wall clock set by an hour, a year or twenty while it runs, no two polls are two intervals apart."""
    clock = tmp_path / "clock"
    clock.write_text("+0")
    environ = os.environ | {
        "LD_PRELOAD": str(LIBFAKETIME),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", CLOCK, str(clock), shift],
        env=environ,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    words = done.stdout.split()
    assert jump is None or abs(int(words[1]) - jump) <= 2
    assert abs(int(words[1])) > 3000
    assert float(words[3]) < 2.0, "the scheduler was busy with runs that it missed"
    assert float(words[5]) <= 1.05
    assert float(words[7]) <= 1.05
    assert int(words[9]) >= 6
