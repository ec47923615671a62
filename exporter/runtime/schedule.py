"""Polls at a steady pace, with APScheduler.

What it does not do by itself: it reckons in wall-clock time, so a clock set back makes it sleep; it lists every run
that was missed, so a clock set forward makes it busy; it drops what starts late; its worker threads keep a process
from ending. Each is answered here.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from queue import SimpleQueue
from typing import TYPE_CHECKING, Final

from apscheduler.events import EVENT_JOB_ERROR, EVENT_JOB_MAX_INSTANCES, EVENT_JOB_MISSED
from apscheduler.executors.base import BaseExecutor, run_job
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.base import BaseTrigger

from exporter.publish.state import PollResult

if TYPE_CHECKING:
    from collections.abc import Callable

    from apscheduler.events import JobEvent
    from apscheduler.job import Job

TROUBLE: Final = {
    EVENT_JOB_ERROR: PollResult.ERROR,
    EVENT_JOB_MISSED: PollResult.MISSED,
    EVENT_JOB_MAX_INSTANCES: PollResult.SKIPPED,
}
"""What may happen to a run instead of going well, by the scheduler's event code."""

_OVERDUE = 1.5
"""Intervals without a run after which the scheduler is taken to be asleep."""


class Every(BaseTrigger):  # type: ignore[misc]
    """A run an interval after the one before began: counted from now, so there is never a backlog."""

    def __init__(self, interval: timedelta) -> None:
        self._interval = interval

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime:  # noqa: ARG002
        """Return when to run next."""
        return now + self._interval


class DaemonExecutor(BaseExecutor):  # type: ignore[misc]
    """Runs jobs, one after the other, in a thread that does not keep the process alive.

    The thread is there from the start: when memory has run out there is none to be had.
    """

    def start(self, scheduler: BackgroundScheduler, alias: str) -> None:
        """Begin to wait for jobs."""
        super().start(scheduler, alias)
        self._runs: SimpleQueue[tuple[Job, list[datetime]]] = SimpleQueue()
        threading.Thread(target=self._work, name="poll", daemon=True).start()

    def _do_submit_job(self, job: Job, run_times: list[datetime]) -> None:
        self._runs.put((job, run_times))

    def _work(self) -> None:
        while True:
            # the scheduler's bookkeeping may find no memory either
            with contextlib.suppress(MemoryError):
                self._run(*self._runs.get())

    def _run(self, job: Job, run_times: list[datetime]) -> None:
        try:
            events = run_job(job, "default", run_times, self._logger.name)
        except BaseException:  # noqa: BLE001 - the executor's own bookkeeping must be told, whatever it was
            self._run_job_error(job.id, *sys.exc_info()[1:])
        else:
            self._run_job_success(job.id, events)


class Schedule:
    """Calls `work` at once and then every `interval` seconds, never twice at a time.

    `trouble` hears of a run that raised, or did not take place. `check` must be called every second or so; it keeps
    the pace when somebody sets the clock.
    """

    def __init__(self, work: Callable[[], None], interval: float, trouble: Callable[[PollResult], None]) -> None:
        self._work = work
        self._interval = interval
        self._trouble = trouble
        self._last_began = time.monotonic()
        self._running = False
        self._scheduler = BackgroundScheduler(timezone=UTC, executors={"default": DaemonExecutor()})
        self._scheduler.add_listener(self._report, EVENT_JOB_ERROR | EVENT_JOB_MISSED | EVENT_JOB_MAX_INSTANCES)

    def start(self) -> None:
        """Begin, with a run at once."""
        self._job = self._scheduler.add_job(
            self._run,
            Every(timedelta(seconds=self._interval)),
            id="poll",
            next_run_time=datetime.now(UTC),
            coalesce=True,
            max_instances=1,
            misfire_grace_time=None,
        )
        self._scheduler.start()

    def check(self) -> None:
        """Wake a scheduler that sleeps because the clock was set back."""
        if not self._running and time.monotonic() - self._last_began > _OVERDUE * self._interval:
            self._last_began = time.monotonic()
            self._job.modify(next_run_time=datetime.now(UTC))

    def change_interval(self, interval: float) -> None:
        """Keep another pace from now on, beginning with a run at once."""
        self._interval = interval
        self._job.modify(trigger=Every(timedelta(seconds=interval)), next_run_time=datetime.now(UTC))

    def stop(self) -> None:
        """Begin no more runs. One that is going on is not waited for."""
        self._scheduler.shutdown(wait=False)

    def _run(self) -> None:
        self._last_began = time.monotonic()
        self._running = True
        try:
            self._work()
        finally:
            self._running = False

    def _report(self, event: JobEvent) -> None:
        self._trouble(TROUBLE[event.code])
