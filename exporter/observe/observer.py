"""One look at an engine."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from exporter.errors import ExporterError
from exporter.model.observation import Observation
from exporter.observe.documents import CONTAINERS, INFO, NETWORKS, VERSION, project_list, project_object
from exporter.observe.sightings import Moment, Sightings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from exporter.observe.client import EngineClient

FACTS_AGE = 300.0
"""Seconds after which `/version` and `/info` are read again: the kernel's settings in `/info` may change."""


@dataclass(frozen=True, slots=True)
class _Facts:
    """What changes rarely, as read over connection number `dials`."""

    version: Mapping[str, Any]
    info: Mapping[str, Any]
    dials: int
    read_at: float


class Observer:
    """Looks at the engine through its API: two requests each time, four when the connection is new."""

    def __init__(self, client: EngineClient) -> None:
        self._client = client
        self._facts: _Facts | None = None
        self._sightings = Sightings()

    def observe(self) -> Observation:
        """Return what the engine says now.

        Raises EngineError when it cannot be asked in time, ObservationError when it answers with something else.
        """
        try:
            with self._client.deadline():
                return self._look()
        except ExporterError:
            self._facts = None
            raise

    def interrupt(self) -> None:
        """Make an `observe` that another thread is in end at once."""
        self._client.interrupt()

    def close(self) -> None:
        """Give the connection back."""
        self._client.close()

    def _look(self) -> Observation:
        facts = self._facts
        if facts is None or time.monotonic() - facts.read_at > FACTS_AGE:
            facts = self._read_facts()
        asked = time.monotonic()
        # containers before networks: the networks of running containers cannot be removed meanwhile
        document = self._client.get("/containers/json")
        moment = Moment(datetime.now(UTC), time.monotonic(), asked)
        containers = project_list(document, CONTAINERS, "GET /containers/json")
        networks = project_list(self._client.get("/networks"), NETWORKS, "GET /networks")
        if facts.dials != self._client.dials:
            facts = self._read_facts()
        self._facts = facts
        sightings = self._sightings.see(containers, moment)
        return Observation(moment.wall, facts.version, facts.info, networks, containers, sightings)

    def _read_facts(self) -> _Facts:
        version = project_object(self._client.version(), VERSION, "GET /version")
        info = project_object(self._client.get("/info"), INFO, "GET /info")
        return _Facts(version, info, self._client.dials, time.monotonic())
