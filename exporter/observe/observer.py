"""One look at an engine."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from exporter.errors import ExporterError
from exporter.model.observation import Observation
from exporter.observe.client import EngineClient
from exporter.observe.documents import INFO, NETWORKS, VERSION, containers, project_list, project_object
from exporter.observe.sightings import Moment, Sightings
from exporter.observe.tier import Tier

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from exporter.observe.host import EngineHost
    from exporter.observe.kernel import KernelReader

FACTS_AGE = 300.0
"""Seconds after which `/version` and `/info` are read again: the kernel's settings in `/info` may change."""

_SECOND_LOOKS = 2
"""Times that both are looked at again when a container of the list has no process any more."""

_MOMENT = 0.05

Labels = Callable[[], tuple[str, ...]]
"""Tells which labels of containers are kept. It is asked at each look, for the policy that names them may change."""


def no_labels() -> tuple[str, ...]:
    """Keep none."""
    return ()


@dataclass(frozen=True, slots=True)
class _Facts:
    """What changes rarely, as read over connection number `dials`."""

    version: Mapping[str, Any]
    info: Mapping[str, Any]
    dials: int
    read_at: float


def open_observer(
    host: EngineHost, timeout: float, tier: Tier, netns: Path | None, labels: Labels = no_labels
) -> Observer:
    """Return what looks at an engine and, as far as the tier goes, at the kernel of its machine.

    `netns` is the path of the engine's network namespace where that is not our own. `timeout` (seconds) is for a whole
    look.
    """
    client = EngineClient(host, timeout)
    if tier is Tier.API:
        return Observer(client, None, labels)
    from exporter.observe.kernel import KernelReader  # noqa: PLC0415 - those who read the kernel load netlink's messages

    elsewhere = not (host.url.startswith("unix:") or netns)
    absent = f"the engine at {host} may be on another machine: use --host.netns if it is not" if elsewhere else ""
    return Observer(client, KernelReader(tier, netns, absent), labels)


class Observer:
    """Looks at the engine through its API: two requests each time, four when the connection is new.

    Then at the kernel, where a reader is given, in what is left of the same time.
    """

    def __init__(self, client: EngineClient, kernel: KernelReader | None = None, labels: Labels = no_labels) -> None:
        self._client = client
        self._kernel = kernel
        self._labels = labels
        self._facts: _Facts | None = None
        self._sightings = Sightings()

    def observe(self) -> Observation:
        """Return what the engine says now.

        Raises EngineError when it cannot be asked in time, ObservationError when it answers with something else.
        What the kernel does not tell is missing in the observation, with the reason.
        """
        ends = time.monotonic() + self._client.timeout
        observation = self._ask()
        if self._kernel is None:
            return observation
        look = self._kernel.read(observation.networks, observation.containers, ends - time.monotonic())
        for _ in range(_SECOND_LOOKS):
            if not look.gone or ends - time.monotonic() < self._client.timeout / 2:
                break
            # the engine is a moment behind when containers end
            time.sleep(_MOMENT)
            observation = self._ask()
            look = self._kernel.read(observation.networks, observation.containers, ends - time.monotonic())
        return replace(observation, kernel=look.documents, daemon=look.daemon)

    def interrupt(self) -> None:
        """Make an `observe` that another thread is in end at once."""
        self._client.interrupt()
        if self._kernel is not None:
            self._kernel.interrupt()

    def close(self) -> None:
        """Give the connection back."""
        self._client.close()

    def _ask(self) -> Observation:
        try:
            with self._client.deadline():
                return self._look()
        except ExporterError:
            self._facts = None
            raise

    def _look(self) -> Observation:
        facts = self._facts
        if facts is None or time.monotonic() - facts.read_at > FACTS_AGE:
            facts = self._read_facts()
        labels = self._labels()
        # containers before networks: the networks of running containers cannot be removed meanwhile
        document, moment = self._list()
        dials = self._client.dials
        networks = project_list(self._client.get("/networks"), NETWORKS, "GET /networks")
        if dials != self._client.dials:
            # the engine may have restarted in between: who ran before it did is not who is on these networks
            document, moment = self._list()
        if facts.dials != self._client.dials:
            facts = self._read_facts()
        self._facts = facts
        listed = project_list(document, containers(labels), "GET /containers/json")
        sightings = self._sightings.see(listed, moment)
        return Observation(moment.wall, facts.version, facts.info, networks, listed, sightings, labels=labels)

    def _list(self) -> tuple[object, Moment]:
        """Return the running containers, and when they were listed."""
        asked = time.monotonic()
        document = self._client.get("/containers/json")
        return document, Moment(datetime.now(UTC), time.monotonic(), asked)

    def _read_facts(self) -> _Facts:
        version = project_object(self._client.version(), VERSION, "GET /version")
        info = project_object(self._client.get("/info"), INFO, "GET /info")
        return _Facts(version, info, self._client.dials, time.monotonic())
