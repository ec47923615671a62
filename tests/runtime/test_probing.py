"""Rounds of probes in the daemon: when they begin, what they count, and what they never hold up."""

from __future__ import annotations

import logging
import random
import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from exporter.errors import ProbeError
from exporter.evaluate import Evaluated
from exporter.evaluate.probes import Planner, expected
from exporter.model.observation import Observation
from exporter.model.probe import ProbeResult, Sight
from exporter.model.reach import Verdict
from exporter.publish.state import Board, Published
from exporter.runtime.probing import Probing, put_to_the_test
from exporter.runtime.refresh import Refresher
from exporter.runtime.tally import Tally
from tests.hosts import host
from tests.kernels import kernel
from tests.runtime.test_schedule import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pytest

    from exporter.model.probe import Ground, Probe
    from exporter.publish.state import ProbeStats
    from tests.looks import Look


class Wire:
    """Sees of each probe what `answer` says; an exception is raised. While `held` is clear, it is busy."""

    def __init__(self, answer: Callable[[Probe], Sight] | Exception) -> None:
        self.answer = answer
        self.sent: list[list[Probe]] = []
        self.held = threading.Event()
        self.held.set()
        self.interrupted = threading.Event()

    def send(self, probes: Sequence[Probe], _: Ground) -> list[Sight]:
        self.sent.append(list(probes))
        self.held.wait(10)
        if self.interrupted.is_set():
            raise ProbeError("the round of probes was ended")
        if isinstance(self.answer, Exception):
            raise self.answer
        return [self.answer(probe) for probe in probes]

    def interrupt(self) -> None:
        self.interrupted.set()
        self.held.set()


class Source:
    """Observes nothing in particular."""

    def __init__(self) -> None:
        self.looks = 0

    def observe(self) -> Observation:
        self.looks += 1
        return Observation(datetime(2026, 1, 1, tzinfo=UTC), {}, {}, [], [])

    def interrupt(self) -> None:
        pass

    def close(self) -> None:
        pass


def town() -> Look:
    """Return a host with open and closed pairs."""
    built = host("28.5", icc=False).network("open").container("a").container("b")
    return kernel(built.container("left", "open").container("right", "open")).engine_rules().look()


class Bench:
    """Probing with its surroundings; every look shows the same host."""

    def __init__(self, wire: Wire, seen: Look | None = None, sample: int = 9) -> None:
        self.seen = seen or town()
        self.source = Source()
        self.tally = Tally(15.0)
        self.board = Board(lambda _: {}, Published.not_polled(datetime.now(UTC)))
        self.refresher = Refresher(
            self.source, 10.0, self.board, self.tally,
            parse=lambda _: self.seen.snapshot,
            evaluate=lambda snapshot, _: (self.seen.report, Evaluated(snapshot, self.seen.report.reach, None)),
        )  # fmt: skip
        self.probing = Probing(self.board, self.tally, self.refresher, random.Random(3))
        self.probing.use(wire, sample)
        self.probing.start()

    def poll(self) -> None:
        self.refresher.refresh()
        self.probing.polled()

    @property
    def probes(self) -> ProbeStats:
        found = self.board.current.stats.probes
        assert found is not None
        return found

    def ended(self) -> bool:
        return self.board.current.stats.probes is not None and self.probes.last_round is not None


def as_foretold(seen: Look) -> Callable[[Probe], Sight]:
    """Return sights that agree with the report."""

    def sight(probe: Probe) -> Sight:
        arrives = expected(seen.report, probe) is Verdict.REACHABLE
        return Sight(arrived=arrives, answered=arrives)

    return sight


def test_a_round_follows_a_poll_and_is_followed_by_a_look() -> None:
    """After a poll a sample is sent, the engine is looked at once more, and what agrees is counted."""
    wire = Wire(as_foretold(town()))
    bench = Bench(wire)
    bench.poll()
    wait_until(bench.ended)
    assert bench.probes.by_result == {ProbeResult.AGREED: 9}
    assert len(bench.probes.last) == 9
    assert bench.source.looks == 2
    assert [len(sent) for sent in wire.sent] == [9]


def test_a_disagreement_is_logged_with_pair_packet_and_verdict(caplog: pytest.LogCaptureFixture) -> None:
    """Each one is a line; what was lost has been sent twice."""
    wire = Wire(lambda _: Sight())
    bench = Bench(wire)
    with caplog.at_level(logging.ERROR):
        bench.poll()
        wait_until(bench.ended)
    wrong = [each for each in bench.probes.last if each.result is ProbeResult.DISAGREED]
    assert len(wrong) == 3
    assert [len(sent) for sent in wire.sent] == [9, 3]
    lines = [record for record in caplog.records if record.message == "a packet disagrees with a verdict"]
    assert [(vars(line)["source"], vars(line)["packet"], vars(line)["verdict"]) for line in lines] == [
        (each.probe.source.name, each.probe.packet, "reachable") for each in wrong
    ]


def test_a_packet_that_is_lost_once_is_no_disagreement() -> None:
    """The second attempt counts."""
    seen = town()
    wire = Wire(lambda probe: as_foretold(seen)(probe) if len(wire.sent) > 1 else Sight())
    bench = Bench(wire, seen)
    bench.poll()
    wait_until(bench.ended)
    assert bench.probes.by_result == {ProbeResult.AGREED: 9}


def test_polls_do_not_wait_for_a_round() -> None:
    """While a round goes on, polls end, and make no further round; SIGTERM waits for none either."""
    wire = Wire(as_foretold(town()))
    wire.held.clear()
    bench = Bench(wire)
    bench.poll()
    wait_until(lambda: wire.sent)
    for _ in range(3):
        bench.poll()
    assert bench.source.looks == 4
    assert len(wire.sent) == 1
    bench.probing.stop()
    wait_until(lambda: not bench.probing._thread.is_alive())
    assert bench.probes.last_round is None


def test_without_a_sender_nothing_is_sent() -> None:
    """Turned off at a reload, polls make no rounds and the counts are not published; the round before is ended."""
    wire = Wire(as_foretold(town()))
    bench = Bench(wire)
    bench.probing.use(None, 0)
    bench.poll()
    assert wire.interrupted.is_set()
    assert wire.sent == []
    assert bench.board.current.stats.probes is None


def test_what_hinders_a_round_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """A reason that stays the same is one warning; it stands in the statistics, and nothing is counted."""
    wire = Wire(ProbeError("no room"))
    bench = Bench(wire)
    with caplog.at_level(logging.WARNING):
        for rounds in (1, 2, 3):
            bench.poll()
            wait_until(lambda rounds=rounds: len(wire.sent) == rounds and bench.ended())
            wait_until(lambda: not bench.probing._wanted.is_set())
    assert [record.message for record in caplog.records] == ["not probed: no room"]
    assert (bench.probes.problem, bench.probes.by_result) == ("no room", {})


def test_missing_evidence_is_a_reason() -> None:
    """Where the sandboxes could not be read, nothing is sent and the evidence's own reason is shown."""
    built = kernel(host("28.5").container("a").container("b")).engine_rules()
    wire = Wire(lambda _: Sight())
    bench = Bench(wire, built.unread("sandboxes", "CAP_SYS_ADMIN is needed").look())
    bench.poll()
    wait_until(bench.ended)
    assert wire.sent == []
    assert bench.probes.problem == "sandboxes: CAP_SYS_ADMIN is needed"


def test_a_defect_ends_a_round_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged with its traceback, and the next round begins."""
    wire = Wire(ValueError("bug"))
    bench = Bench(wire)
    bench.poll()
    wait_until(bench.ended)
    assert bench.probes.problem == "defect: ValueError: bug"
    assert any(record.exc_info for record in caplog.records)
    wire.answer = as_foretold(bench.seen)
    wait_until(lambda: not bench.probing._wanted.is_set())
    bench.poll()
    wait_until(lambda: bench.probes.by_result)


def test_an_engine_that_is_gone_afterwards_decides_nothing() -> None:
    """Without a look after the packets, every probe is undecided."""
    seen = town()
    assert seen.snapshot.kernel is not None
    planner = Planner(seen.snapshot, seen.snapshot.kernel, seen.report, random.Random(1))
    wire = Wire(lambda _: Sight())
    probed = put_to_the_test(planner.sample(6), planner.ground, wire, (seen.snapshot, seen.report), lambda: None)
    assert {each.result for each in probed} == {ProbeResult.UNDECIDED}
