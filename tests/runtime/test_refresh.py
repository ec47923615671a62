"""One poll, and what is published of it."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from exporter.errors import EngineRefused, EngineTimeout, EngineUnreachable, ForbiddenRequest, ObservationError
from exporter.model.observation import KernelDocuments, NamespaceDocuments, Observation
from exporter.model.report import Evidence, Tenancy
from exporter.publish.state import Board, PollResult, Published
from exporter.runtime.refresh import Refresher
from exporter.runtime.tally import Tally
from tests.builders import report

if TYPE_CHECKING:
    from collections.abc import Mapping

    from exporter.model.report import Report


class Source:
    """Gives what a test puts into `answer`; an exception is raised, a callable called."""

    def __init__(self) -> None:
        self.answer: Any = Observation(datetime(2026, 1, 1, tzinfo=UTC), {}, {}, [], [])
        self.calls = 0
        self.interrupted = threading.Event()
        self.closed = False

    def observe(self) -> Observation:
        self.calls += 1
        answer = self.answer() if callable(self.answer) else self.answer
        if isinstance(answer, Exception):
            raise answer
        assert isinstance(answer, Observation)
        return answer

    def interrupt(self) -> None:
        self.interrupted.set()

    def close(self) -> None:
        self.closed = True


class Bench:
    """A refresher with its surroundings."""

    def __init__(self, timeout: float = 10.0) -> None:
        self.source = Source()
        self.tally = Tally(15.0)
        self.board = Board(lambda _: {}, Published.not_polled(datetime.now(UTC)))
        self.report: Report | Exception = report()
        self.refresher = Refresher(
            self.source, timeout, self.board, self.tally, parse=lambda _: object(), evaluate=self._evaluate  # type: ignore[arg-type, return-value]
        )  # fmt: skip

    def _evaluate(self, _: object, __: object) -> tuple[Report, None]:
        if isinstance(self.report, Exception):
            raise self.report
        return self.report, None

    @property
    def polls(self) -> Mapping[PollResult, int]:
        return self.board.current.stats.polls_by_result


def test_a_good_poll_is_published() -> None:
    """After a poll the board holds the report, the observation, the time and the measurements."""
    bench = Bench()
    bench.refresher.refresh()
    current = bench.board.current
    assert current.up
    assert current.report is bench.report
    assert current.observation is bench.source.answer
    assert current.last_success is not None
    assert bench.polls == {"ok": 1}
    assert current.stats.last_poll_duration_seconds is not None
    assert current.stats.last_evaluation_seconds is not None


def test_evidence_that_was_readable_once_is_wanted_from_then_on() -> None:
    """Where nobody asked for a tier, a source that could be read and no longer can is missed, as no other is."""
    bench = Bench()
    inside = KernelDocuments(sandboxes={"a": NamespaceDocuments(4026532000)})
    seen = Evidence(firewall=True, sandboxes=True)

    def wanted(evidence: Evidence) -> Evidence | None:
        bench.report = report(evidence=evidence)
        bench.refresher.refresh()
        return bench.board.current.stats.evidence_wanted

    assert wanted(Evidence()) == Evidence()
    # no container runs: there is no sandbox that could not be read
    assert wanted(seen) == Evidence(firewall=True)
    bench.source.answer = replace(bench.source.answer, kernel=inside)
    assert wanted(seen) == seen
    assert wanted(Evidence(bridge=True)) == replace(seen, bridge=True)


@pytest.mark.parametrize(
    ("error", "result"),
    [
        (EngineUnreachable("gone"), "unreachable"),
        (EngineTimeout("late"), "timeout"),
        (EngineRefused("no", 403), "refused"),
        (ObservationError("odd"), "malformed"),
        (ForbiddenRequest("not sent"), "error"),
        (ValueError("bug"), "error"),
    ],
)
def test_a_failed_poll_withdraws_what_was_published(error: Exception, result: str) -> None:
    """The report goes, the reason and the count come, and the last success stays known."""
    bench = Bench()
    bench.refresher.refresh()
    success = bench.board.current.last_success
    bench.source.answer = error
    bench.refresher.refresh()
    current = bench.board.current
    assert not current.up
    assert current.report is None
    assert current.observation is None
    assert str(error) in current.last_error
    assert current.last_success == success
    assert bench.polls == {"ok": 1, result: 1}


def test_a_failure_ends_by_itself() -> None:
    """The next good poll brings everything back."""
    bench = Bench()
    good, bench.source.answer = bench.source.answer, EngineUnreachable("gone")
    bench.refresher.refresh()
    bench.source.answer = good
    bench.refresher.refresh()
    assert bench.board.current.up
    assert bench.board.current.last_error == ""


def test_a_defect_in_evaluation_does_not_end_the_daemon(caplog: pytest.LogCaptureFixture) -> None:
    """Any exception is caught, logged with its traceback once, counted each time, and published as a failure."""
    bench = Bench()
    bench.report = KeyError("odd network")
    for _ in range(3):
        bench.refresher.refresh()
    assert bench.polls == {"error": 3}
    assert "KeyError" in bench.board.current.last_error
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.exc_info is not None


def test_news_are_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """An engine that stays down makes one line, another reason one more, its return one, and its staying up none."""
    caplog.set_level(logging.INFO)
    bench = Bench()
    good = bench.source.answer
    for answer in (good, good, *[EngineUnreachable("gone")] * 5, *[EngineTimeout("late")] * 5, good, good):
        bench.source.answer = answer
        bench.refresher.refresh()
    assert [record.getMessage() for record in caplog.records] == [
        "the engine answers",
        "poll failed: gone",
        "poll failed: late",
        "the engine answers",
    ]


def test_trusted_tenants_of_whom_nothing_runs_are_logged_when_that_changes(caplog: pytest.LogCaptureFixture) -> None:
    """Once, not at every look; and again after one of them was there."""
    bench = Bench()
    for absent in ((), ("a", "b"), ("a", "b"), ("b",), (), ("b",)):
        bench.report = replace(report(), tenancy=Tenancy("label", told=True, absent=absent))
        bench.refresher.refresh()
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [
        "no container runs of a and b, whom --tenant.trusted names",
        *["no container runs of b, whom --tenant.trusted names"] * 2,
    ]


def test_what_does_not_take_place_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """Each is counted; of an engine that hangs for longer than an interval there is no line at each interval."""
    bench = Bench()
    for _ in range(3):
        bench.refresher.missed(PollResult.SKIPPED)
    bench.refresher.missed(PollResult.MISSED)
    bench.refresher.republish()
    assert bench.polls == {"skipped": 3, "missed": 1}
    told = "a poll was not run as planned: {}".format
    assert [record.getMessage() for record in caplog.records] == [told("skipped"), told("missed")]
    bench.refresher.refresh()
    bench.refresher.missed(PollResult.SKIPPED)
    assert caplog.messages[-1] == told("skipped")
    assert len(caplog.messages) == 3


def test_one_refresh_at_a_time() -> None:
    """Refreshes from several threads do not overlap."""
    bench = Bench()
    good, running, most = bench.source.answer, [0], [0]

    def look() -> Observation:
        running[0] += 1
        most[0] = max(most[0], running[0])
        time.sleep(0.01)
        running[0] -= 1
        assert isinstance(good, Observation)
        return good

    bench.source.answer = look
    threads = [threading.Thread(target=bench.refresher.refresh) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (bench.source.calls, most[0]) == (8, 1)


def test_a_look_that_hangs_is_given_up() -> None:
    """Past its deadline by far a look counts as a timeout once, what was published is withdrawn, polling goes on."""
    bench = Bench(timeout=0.1)
    bench.refresher.refresh()
    good = bench.source.answer

    def hang() -> Exception:
        bench.source.interrupted.wait(10)
        return EngineUnreachable("interrupted")

    bench.source.answer = hang
    thread = threading.Thread(target=bench.refresher.refresh)
    thread.start()
    deadline = time.monotonic() + 5
    while bench.board.current.up and time.monotonic() < deadline:
        bench.refresher.check()
        time.sleep(0.02)
    thread.join(5)
    assert not bench.board.current.up
    assert bench.polls == {"ok": 1, "timeout": 1}
    bench.source.answer = good
    bench.refresher.refresh()
    assert bench.board.current.up


def test_a_look_in_time_is_left_alone() -> None:
    """Checking between and during polls changes nothing while nothing is late."""
    bench = Bench()
    bench.refresher.refresh()
    bench.refresher.check()
    assert bench.board.current.up
    assert not bench.source.interrupted.is_set()


def test_what_nobody_looks_at_any_more_is_withdrawn() -> None:
    """Where refreshes do not come any more at all, what the last one published goes, once; the next brings it back."""
    bench = Bench()
    bench.refresher.refresh()
    bench.refresher.expire(60)
    assert bench.board.current.up
    for _ in range(2):
        bench.refresher.expire(0)
        assert "no look at the engine has ended" in bench.board.current.last_error
    assert bench.polls == {"ok": 1, "missed": 1}
    bench.refresher.refresh()
    assert bench.board.current.up


def test_a_look_without_memory_is_no_defect(caplog: pytest.LogCaptureFixture) -> None:
    """Where memory has run out the poll fails in words, without a traceback, and the next one counts."""
    bench = Bench()
    bench.report = MemoryError()
    bench.refresher.refresh()
    assert bench.board.current.last_error == "out of memory"
    assert [record.exc_info for record in caplog.records if record.levelno >= logging.WARNING] == [None]
    bench.report = report()
    bench.refresher.refresh()
    assert bench.board.current.up


def test_another_source_is_used_from_the_next_refresh_on() -> None:
    """Exchanging the source ends a look at the old one, and closes it when the new one is first used."""
    bench = Bench()
    other = Source()
    bench.refresher.use(other, 5.0)
    assert bench.source.interrupted.is_set()
    bench.refresher.refresh()
    assert bench.source.closed
    assert (bench.source.calls, other.calls) == (0, 1)


def test_after_the_stop_nothing_is_published(caplog: pytest.LogCaptureFixture) -> None:
    """A look that the stop has broken off is not told as a failure of the engine."""
    bench = Bench()
    bench.refresher.refresh()

    def broken() -> Exception:
        bench.refresher.stop()
        return EngineUnreachable("cut")

    bench.source.answer = broken
    bench.refresher.refresh()
    bench.refresher.refresh()
    assert bench.board.current.up
    assert bench.source.calls == 2
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
