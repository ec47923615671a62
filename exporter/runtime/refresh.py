"""One poll: look, understand, publish. Whatever goes wrong is counted, logged and published; nothing is raised."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

from exporter.collector import paused
from exporter.errors import (
    EngineRefused,
    EngineTimeout,
    EngineUnreachable,
    ExporterError,
    ObservationError,
    SystemShort,
    message_of,
)
from exporter.publish.state import PollResult

if TYPE_CHECKING:
    from collections.abc import Callable

    from exporter.evaluate import Evaluated
    from exporter.model.observation import Observation
    from exporter.model.report import Evidence, Report
    from exporter.model.snapshot import Snapshot
    from exporter.publish.state import Board, Published
    from exporter.runtime.tally import Tally

logger = logging.getLogger(__name__)

_GRACE = 1.0
"""Seconds that a look may exceed its own deadline before it is given up from outside."""

_RESULTS: tuple[tuple[type[ExporterError], PollResult], ...] = (
    (EngineTimeout, PollResult.TIMEOUT),
    (EngineRefused, PollResult.REFUSED),
    (EngineUnreachable, PollResult.UNREACHABLE),
    (ObservationError, PollResult.MALFORMED),
)


class Source(Protocol):
    """Where observations come from: an engine, a file, or observers that add to what others saw."""

    def observe(self) -> Observation:
        """Return what is there now. Raises ExporterError."""

    def interrupt(self) -> None:
        """Make an `observe` that another thread is in end at once."""

    def close(self) -> None:
        """Give back what is open."""


@dataclass(frozen=True, slots=True)
class _Failure:
    result: PollResult
    message: str


class Refresher:
    """Keeps the board current. `refresh` may be called from any thread; one at a time does the work."""

    def __init__(
        self,
        source: Source,
        timeout: float,
        board: Board,
        tally: Tally,
        *,
        parse: Callable[[Observation], Snapshot],
        evaluate: Callable[[Snapshot, Evaluated | None], tuple[Report, Evaluated]],
    ) -> None:
        self._source = source
        self._next: Source | None = None
        self._timeout = timeout
        self._board = board
        self._tally = tally
        self._parse = parse
        self._evaluate = evaluate
        self._evaluated: Evaluated | None = None
        self._working = threading.Lock()
        self._publishing = threading.Lock()
        self._looking_since: float | None = None
        self._last_ended = time.monotonic()
        self._given_up = False
        self._failure: _Failure | None = None
        self._missed: set[PollResult] = set()
        self._absent: tuple[str, ...] = ()
        self._stopped = False

    def refresh(self) -> None:
        """Look at the source and publish what follows."""
        with self._working:
            if self._stopped:
                return
            self._follow_use()
            try:
                observation = self._look()
                began = time.monotonic()
                with paused():
                    snapshot = self._parse(observation)
                    report, self._evaluated = self._evaluate(snapshot, self._evaluated)
                self._tally.evaluated(time.monotonic() - began)
                self._succeed(observation, snapshot, report)
            except ExporterError as error:
                self._end(_result_of(error), error)
            except MemoryError:
                self._end(PollResult.ERROR, SystemShort("out of memory"))
            except Exception as error:  # noqa: BLE001 - a defect must be seen, and must not end the daemon
                self._end(PollResult.ERROR, error)
            finally:
                self._last_ended = time.monotonic()

    def idle(self) -> float:
        """Return the seconds since a refresh ended, whatever became of it, or since the start."""
        return time.monotonic() - self._last_ended

    def check(self) -> None:
        """Give up a look that has passed its deadline by far: what was published before is withdrawn."""
        since = self._looking_since
        if since is not None and time.monotonic() - since > self._timeout + _GRACE:
            self._looking_since = None
            self._given_up = True
            self._source.interrupt()
            self._fail(
                PollResult.TIMEOUT, EngineTimeout(f"a look at the engine did not end within {self._timeout:g} s")
            )

    def expire(self, patience: float) -> None:
        """Withdraw what was published if no refresh has ended for longer than this: whoever should look does not."""
        if self._board.current.up and self.idle() > patience:
            self._fail(PollResult.MISSED, EngineTimeout(f"no look at the engine has ended within {patience:g} s"))

    def use(self, source: Source, timeout: float) -> None:
        """Look at another source from the next refresh on; a look that is going on at the old one is ended."""
        self._next, self._timeout = source, timeout
        self._source.interrupt()

    def stop(self) -> None:
        """End what is going on, and do nothing more."""
        self._stopped = True
        self._source.interrupt()

    def missed(self, result: PollResult) -> None:
        """Take note of a refresh that was planned and did not take place."""
        self._tally.polled(result)
        level = logging.DEBUG if result in self._missed else logging.WARNING
        self._missed.add(result)
        logger.log(level, "a poll was not run as planned: %s", result)

    def republish(self) -> None:
        """Publish the same state with statistics as of now."""
        self._publish(lambda current: current.counted(self._tally.stats()))

    def _follow_use(self) -> None:
        if self._next is not None:
            self._source.close()
            self._source, self._next = self._next, None

    def _look(self) -> Observation:
        self._given_up = False
        began = self._looking_since = time.monotonic()
        try:
            return self._source.observe()
        finally:
            self._looking_since = None
            self._tally.duration(time.monotonic() - began)

    def _succeed(self, observation: Observation, snapshot: Snapshot, report: Report) -> None:
        self._tally.polled(PollResult.OK)
        self._tally.read(_proven(report.evidence, observation))
        if self._failure is not None or not self._board.current.up:
            self._failure = None
            self._missed.clear()
            logger.info(
                "the engine answers",
                extra={
                    "engine": report.engine.name,
                    "version": report.engine.version,
                    "api_version": report.engine.api_version,
                    "containers": report.totals.containers,
                },
            )
        self._tell_absent(report.tenancy.absent if report.tenancy else ())
        now = datetime.now(UTC)
        self._publish(lambda current: current.succeeded(now, observation, snapshot, report, self._tally.stats()))

    def _tell_absent(self, tenants: tuple[str, ...]) -> None:
        """Say whom the settings trust and nobody sees, when that changes: a name may be misspelt."""
        if tenants and tenants != self._absent:
            logger.warning("no container runs of %s, whom --tenant.trusted names", " and ".join(tenants))
        self._absent = tenants

    def _end(self, result: PollResult, error: Exception) -> None:
        """Take note of how a refresh failed, unless that was our own doing."""
        if not (self._stopped or self._given_up):
            self._fail(result, error)

    def _fail(self, result: PollResult, error: Exception) -> None:
        message = message_of(error)
        self._tally.polled(result)
        failure = _Failure(result, message)
        defect = result is PollResult.ERROR and not isinstance(error, SystemShort)
        # what fails fails at every poll: once is news
        level = logging.DEBUG if failure == self._failure else logging.ERROR if defect else logging.WARNING
        self._failure = failure
        logger.log(level, "poll failed: %s", message, exc_info=error if defect else None)
        now = datetime.now(UTC)
        self._publish(lambda current: current.failed(now, message, self._tally.stats()))

    def _publish(self, change: Callable[[Published], Published]) -> None:
        with self._publishing:
            self._board.publish(change(self._board.current))


def _proven(evidence: Evidence, observation: Observation) -> Evidence:
    """Return what there are the rights to read: where no container runs, nobody knows that of sandboxes."""
    entered = observation.kernel is not None and bool(observation.kernel.sandboxes)
    return replace(evidence, sandboxes=evidence.sandboxes and entered)


def _result_of(error: ExporterError) -> PollResult:
    return next((result for kind, result in _RESULTS if isinstance(error, kind)), PollResult.ERROR)
