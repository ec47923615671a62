"""Rounds of probes: a look before, packets, a look after; what both looks say is held against the packets."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Protocol

from exporter.errors import ExporterError, ProbeError, message_of
from exporter.evaluate.probes import Planner, expected, judge, lacking
from exporter.model.probe import ProbeResult
from exporter.model.reach import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from exporter.evaluate.probes import Chance
    from exporter.model.probe import Ground, Probe, Probed, Sight
    from exporter.model.report import Report
    from exporter.model.snapshot import Snapshot
    from exporter.publish.state import Board
    from exporter.runtime.refresh import Refresher
    from exporter.runtime.tally import Tally

logger = logging.getLogger(__name__)


class Sender(Protocol):
    """What sends packets between sandboxes."""

    def send(self, probes: Sequence[Probe], ground: Ground) -> list[Sight]:
        """Return what was seen of each probe. Raises ProbeError."""

    def interrupt(self) -> None:
        """Make a `send` that another thread is in end at once, and all further ones."""


def put_to_the_test(
    probes: Sequence[Probe],
    ground: Ground,
    sender: Sender,
    before: tuple[Snapshot, Report],
    look_again: Callable[[], Report | None],
) -> list[Probed]:
    """Send probes of a report, and judge by it and by a look afterwards. Raises ProbeError.

    What should have arrived and did not is sent once more: packets are lost for other reasons, too.
    """
    snapshot, report = before
    sights = dict(zip(probes, sender.send(probes, ground), strict=True))
    lost = [probe for probe, sight in sights.items() if _lost(probe, sight, report)]
    if lost:
        sights |= dict(zip(lost, sender.send(lost, ground), strict=True))
    after = look_again()
    return [judge(probe, sight, report, after, snapshot) for probe, sight in sights.items()]


def _lost(probe: Probe, sight: Sight, report: Report) -> bool:
    """Return whether a packet was to be seen and was not."""
    if probe.withheld or sight.withheld or sight.trouble or sight.deaf or sight.reached(probe.packet.protocol):
        return False
    return expected(report, probe) is Verdict.REACHABLE


class Probing:
    """Probes a sample of verdicts after each poll, in a thread of its own. No poll waits for it.

    `refresher` looks at the engine once more after each round, as for a poll.
    """

    def __init__(self, board: Board, tally: Tally, refresher: Refresher, chance: Chance) -> None:
        self._board = board
        self._tally = tally
        self._refresher = refresher
        self._chance = chance
        self._sender: Sender | None = None
        self._sample = 0
        self._problem = ""
        self._wanted = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="probing", daemon=True)

    def start(self) -> None:
        """Begin to wait for polls."""
        self._thread.start()

    def use(self, sender: Sender | None, sample: int) -> None:
        """Probe so many verdicts of each poll from now on, none without a sender, and end a round that is going on."""
        former, self._sender, self._sample = self._sender, sender, sample
        if former is not None:
            former.interrupt()
        self._tally.probing(on=sender is not None)

    def polled(self) -> None:
        """Say that a poll has ended. During a round this means nothing."""
        if self._sender is not None:
            self._wanted.set()

    def stop(self) -> None:
        """End the round that is going on, and begin no more; does not wait."""
        self._stopping.set()
        if self._sender is not None:
            self._sender.interrupt()
        self._wanted.set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._wanted.wait()
            sender, published = self._sender, self._board.current
            if self._stopping.is_set():
                return
            if sender is not None and published.snapshot is not None and published.report is not None:
                self._attempt(sender, published.snapshot, published.report)
            # polls that ended during the round are no reason for another one
            self._wanted.clear()

    def _attempt(self, sender: Sender, snapshot: Snapshot, report: Report) -> None:
        """Do a round, and take note of how it ended, unless that was our own doing."""
        probed: list[Probed] = []
        try:
            probed = self._round(sender, snapshot, report)
            problem = next((each.reason for each in probed if each.result is ProbeResult.FAILED), "")
        except ExporterError as error:
            problem = message_of(error)
        except Exception as error:
            logger.exception("a round of probes failed")
            problem = message_of(error)
        if not self._stopping.is_set() and sender is self._sender:
            self._note(probed, problem)

    def _round(self, sender: Sender, snapshot: Snapshot, report: Report) -> list[Probed]:
        why = lacking(report)
        if why or snapshot.kernel is None:
            raise ProbeError(why)
        planner = Planner(snapshot, snapshot.kernel, report, self._chance)
        probes = planner.sample(self._sample)
        if not probes:
            return []
        return put_to_the_test(probes, planner.ground, sender, (snapshot, report), self._look_again)

    def _look_again(self) -> Report | None:
        self._refresher.refresh()
        return self._board.current.report

    def _note(self, probed: Sequence[Probed], problem: str) -> None:
        """Count a round, and log why it could not be sent, once while the reason stays the same."""
        if problem:
            logger.log(logging.DEBUG if problem == self._problem else logging.WARNING, "not probed: %s", problem)
        self._problem = problem
        for each in probed:
            if each.result is ProbeResult.DISAGREED:
                _tell(each)
        self._tally.probed(probed, problem)
        self._refresher.republish()


def _tell(probed: Probed) -> None:
    probe, sight = probed.probe, probed.sight
    logger.error(
        "a packet disagrees with a verdict",
        extra={
            "source": probe.source.name,
            "destination": probe.destination.name,
            "packet": probe.packet,
            "verdict": probed.verdict,
            "arrived": sight.arrived,
            "answered": sight.answered,
        },
    )
