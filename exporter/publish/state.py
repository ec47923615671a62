"""What is published at this moment, as one immutable value behind one reference.

The poller makes the next `Published` out of the current one and hands it to the `Board`, which renders the
expositions and then swaps its reference. Readers take `board.current` once and so never see two polls mixed.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from threading import Lock
from types import MappingProxyType
from typing import TYPE_CHECKING, Self

from exporter import evaluate
from exporter.collector import paused

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from exporter.model.observation import Observation
    from exporter.model.probe import Probed, ProbeResult
    from exporter.model.report import Evidence, Report
    from exporter.model.snapshot import Snapshot


class PollResult(StrEnum):
    """How a poll may end; each is counted, from zero."""

    OK = "ok"
    UNREACHABLE = "unreachable"
    TIMEOUT = "timeout"
    REFUSED = "refused"
    MALFORMED = "malformed"
    ERROR = "error"
    """A defect of the exporter."""
    SKIPPED = "skipped"
    """It did not begin, because the one before still went on."""
    MISSED = "missed"
    """It did not begin, because the scheduler was late."""


NOT_POLLED = "the engine has not been polled yet"


@dataclass(frozen=True, slots=True)
class ProbeStats:
    """What packets said about verdicts: how many of them so far, by result, and those of the last round.

    `problem` is why the last round could not be sent, or not all of it; empty if it could.
    """

    by_result: Mapping[ProbeResult, int] = field(default_factory=lambda: MappingProxyType({}))
    last: tuple[Probed, ...] = ()
    last_round: datetime | None = None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Reading:
    """How it went when a file was last read: whether without an error, and when that was so last.

    Both are None where there is no file.
    """

    succeeded: bool | None = None
    last_success: datetime | None = None

    def again(self, at: datetime, *, succeeded: bool | None) -> Reading:
        """Return the same after it was read once more; `succeeded` is None where there is no file any more."""
        if succeeded is None:
            return Reading()
        return Reading(succeeded, at if succeeded else self.last_success)


@dataclass(frozen=True, slots=True)
class PollStats:
    """What the exporter counted and measured of itself. Durations are seconds, None before the first."""

    polls_by_result: Mapping[PollResult, int] = field(default_factory=lambda: MappingProxyType({}))
    poll_interval_seconds: float | None = None

    pair_series: int = 0
    """How many pairs may be series of their own."""

    evidence_wanted: Evidence | None = None
    """What is to be read, None where a file takes the engine's place."""

    last_poll_duration_seconds: float | None = None
    last_evaluation_seconds: float | None = None

    events_total: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    """The engine's events by type (container, network, …)."""

    event_stream_up: bool = False

    configuration: Reading = Reading(succeeded=True)
    """All settings: without a configuration file, those of the environment and the command line."""

    web_configuration: Reading = Reading()
    policy: Reading = Reading()

    probes: ProbeStats | None = None
    """None where none are sent."""


class Causes:
    """What decides about pairs that drift, by the names of their containers: worked out for who asks first, once."""

    def __init__(self, snapshot: Snapshot, report: Report) -> None:
        self._seen = snapshot, report
        self._asking = Lock()
        self._found: Mapping[tuple[str, str], str] | None = None

    def found(self) -> Mapping[tuple[str, str], str]:
        """Return them. On a large host this takes seconds: no poll and no scrape may ask."""
        with self._asking:
            if self._found is None:
                with paused():
                    self._found = evaluate.causes(*self._seen)
            return self._found


@dataclass(frozen=True, slots=True)
class Body:
    """One rendered exposition, as it goes over the wire with and without compression."""

    plain: bytes
    gzip: bytes


@dataclass(frozen=True, slots=True)
class Published:
    """What the last poll gave. `report`, `observation`, `snapshot` and `causes` are None where `up` is False.

    `since` is when the engine was found up or down in an unbroken row of polls that last until now.
    `bodies` holds the rendered expositions by format; the board fills it in.
    """

    up: bool
    since: datetime
    last_error: str = ""
    last_success: datetime | None = None
    report: Report | None = None
    snapshot: Snapshot | None = None
    observation: Observation | None = None
    causes: Causes | None = field(default=None, compare=False, repr=False)
    stats: PollStats = PollStats()
    bodies: Mapping[str, Body] = field(default_factory=lambda: MappingProxyType({}), repr=False)

    @classmethod
    def not_polled(cls, started: datetime, stats: PollStats | None = None) -> Self:
        """Return the state before the first poll has ended."""
        return cls(up=False, since=started, last_error=NOT_POLLED, stats=stats or PollStats())

    @property
    def polled(self) -> bool:
        """Whether any poll has ended."""
        return self.last_error != NOT_POLLED

    def succeeded(
        self, at: datetime, observation: Observation, snapshot: Snapshot, report: Report, stats: PollStats
    ) -> Published:
        """Return the state after a good poll that ended `at`."""
        return Published(
            up=True,
            since=self.since if self.up else at,
            last_success=at,
            report=report,
            snapshot=snapshot,
            observation=observation,
            causes=Causes(snapshot, report),
            stats=stats,
        )

    def failed(self, at: datetime, error: str, stats: PollStats) -> Published:
        """Return the state after a poll that failed `at`: the verdicts are withdrawn, not frozen."""
        return Published(
            up=False,
            since=at if self.up or not self.polled else self.since,
            last_error=error,
            last_success=self.last_success,
            stats=stats,
        )

    def counted(self, stats: PollStats) -> Published:
        """Return the same state with newer statistics."""
        return replace(self, stats=stats)


class Board:
    """Where the current state hangs. One thread may publish while any number read: the swap is one assignment.

    `render` gives the expositions of a state by format; it runs in `publish`, so that a scrape costs nothing.
    """

    def __init__(self, render: Callable[[Published], Mapping[str, Body]], initial: Published) -> None:
        self._render = render
        self._current = self._rendered(initial)

    @property
    def current(self) -> Published:
        """The state to answer with. Take it once per answer."""
        return self._current

    def publish(self, published: Published) -> None:
        """Render a state and make it the current one."""
        self._current = self._rendered(published)

    def _rendered(self, published: Published) -> Published:
        return replace(published, bodies=self._render(published))
