"""What the daemon counts of itself, from several threads."""

from __future__ import annotations

import threading
from collections import Counter
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING

from exporter.model.report import Evidence
from exporter.publish.state import PollStats, ProbeStats, Reading

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from exporter.model.probe import Probed, ProbeResult
    from exporter.publish.state import PollResult


class Tally:
    """Counters and measurements. `stats` gives them as an immutable value.

    `wanted` says which evidence is to be read, of what could be read at some time since the start.
    """

    def __init__(
        self,
        poll_interval: float,
        pair_series: int = 0,
        wanted: Callable[[Evidence], Evidence | None] = lambda seen: seen,
    ) -> None:
        self._lock = threading.Lock()
        self._polls: Counter[PollResult] = Counter()
        self._events: Counter[str] = Counter()
        self._stream_up = False
        self._poll_interval = poll_interval
        self._pair_series = pair_series
        self._wanted = wanted
        self._seen = Evidence()
        self._poll_duration: float | None = None
        self._evaluation: float | None = None
        # nothing is counted before a configuration was read
        self._configuration = Reading(succeeded=True, last_success=datetime.now(UTC))
        self._front = Reading()
        self._policy = Reading()
        self._probing = False
        self._probes: Counter[ProbeResult] = Counter()
        self._round = ProbeStats()

    def polled(self, result: PollResult) -> None:
        """Count the end of a poll."""
        with self._lock:
            self._polls[result] += 1

    def duration(self, seconds: float) -> None:
        """Note how long the look took, whatever became of it."""
        with self._lock:
            self._poll_duration = seconds

    def evaluated(self, seconds: float) -> None:
        """Note how long it took to make a report of what was seen."""
        with self._lock:
            self._evaluation = seconds

    def read(self, evidence: Evidence) -> None:
        """Note what could be read."""
        with self._lock:
            self._seen |= evidence

    def event(self, kind: str) -> None:
        """Count an event of the engine."""
        with self._lock:
            self._events[kind] += 1

    def stream(self, *, up: bool) -> None:
        """Note whether the engine's events arrive."""
        with self._lock:
            self._stream_up = up

    def reloaded(self, *, succeeded: bool) -> None:
        """Note how reading the configuration again went."""
        with self._lock:
            self._configuration = self._configuration.again(datetime.now(UTC), succeeded=succeeded)

    def front_read(self, *, succeeded: bool | None) -> None:
        """Note how reading the web configuration went; None where there is none any more."""
        with self._lock:
            self._front = self._front.again(datetime.now(UTC), succeeded=succeeded)

    def policy_read(self, *, succeeded: bool | None) -> None:
        """Note how reading the policy file went; None where there is none any more."""
        with self._lock:
            self._policy = self._policy.again(datetime.now(UTC), succeeded=succeeded)

    def follow(self, poll_interval: float, pair_series: int, wanted: Callable[[Evidence], Evidence | None]) -> None:
        """Note the settings that are in force now: time between polls, pairs that may be series, evidence."""
        with self._lock:
            self._poll_interval = poll_interval
            self._pair_series = pair_series
            self._wanted = wanted

    def probing(self, *, on: bool) -> None:
        """Note whether verdicts are probed."""
        with self._lock:
            self._probing = on

    def probed(self, probed: Sequence[Probed], problem: str) -> None:
        """Note the end of a round of probes, and why it could not be sent, or not all of it."""
        with self._lock:
            self._probes.update(each.result for each in probed)
            self._round = ProbeStats(MappingProxyType(dict(self._probes)), tuple(probed), datetime.now(UTC), problem)

    def stats(self) -> PollStats:
        """Return everything as of now."""
        with self._lock:
            return PollStats(
                polls_by_result=MappingProxyType(dict(self._polls)),
                poll_interval_seconds=self._poll_interval,
                pair_series=self._pair_series,
                evidence_wanted=self._wanted(self._seen),
                last_poll_duration_seconds=self._poll_duration,
                last_evaluation_seconds=self._evaluation,
                events_total=MappingProxyType(dict(self._events)),
                event_stream_up=self._stream_up,
                configuration=self._configuration,
                web_configuration=self._front,
                policy=self._policy,
                probes=self._round if self._probing else None,
            )
