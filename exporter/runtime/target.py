"""What is looked at: an engine, or a file in its place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from exporter.observe.client import EngineClient
from exporter.observe.events import EventStream
from exporter.observe.files import FileObserver
from exporter.observe.host import EngineHost
from exporter.observe.observer import open_observer
from exporter.observe.tier import DEFAULT, Tier

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from exporter.config import Config
    from exporter.model.report import Evidence
    from exporter.observe.observer import Labels
    from exporter.runtime.refresh import Source


@dataclass(frozen=True, slots=True)
class Target:
    """An engine, or an observation file.

    `timeout` is for one look, in seconds; `tier` is None where nobody asked for one.
    """

    where: EngineHost | Path
    timeout: float
    tier: Tier | None
    netns: Path | None

    @classmethod
    def of(cls, config: Config, environ: Mapping[str, str]) -> Self:
        """Return what the settings name. Raises ConfigError for an engine's address that is none."""
        where = config.snapshot or EngineHost.resolve(config.docker_host, environ)
        tier = Tier(config.evidence_max) if config.evidence_max else None
        return cls(where, config.poll_timeout, tier, config.host_netns)

    def wanted(self, seen: Evidence) -> Evidence | None:
        """Return what is to be read: what was asked for, else what could be read before. A file has what it has."""
        if not isinstance(self.where, EngineHost):
            return None
        return self.tier.wanted if self.tier else seen

    def source(self, labels: Labels) -> Source:
        """Return where observations come from; a file holds the labels that it was made with."""
        if isinstance(self.where, EngineHost):
            return open_observer(self.where, self.timeout, self.tier or DEFAULT, self.netns, labels)
        return FileObserver(self.where)

    def stream(self) -> EventStream | None:
        """Return the events of the engine; a file has none."""
        if isinstance(self.where, EngineHost):
            return EventStream(EngineClient(self.where, self.timeout))
        return None
