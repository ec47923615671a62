"""What was seen, raw: the one format of replays, bug reports and tests."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime


@dataclass(frozen=True, slots=True)
class Sighting:
    """The first status that the list showed of a container since its latest start.

    `status` is the engine's text ("Up 3 seconds"), `at` when it was read. Statuses grow coarse with age;
    the first one tells the start to a second, which decides whether a joiner's namespace is still its owner's.
    """

    status: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Observation:
    """One look at an engine: the documents it answered with, reduced to the fields that verdicts need.

    `version` and `info` are `GET /version` and `GET /info`, `networks` and `containers` are the lists
    `GET /networks` and `GET /containers/json`. `sightings` maps container ids to their first sighting.
    """

    taken_at: datetime
    version: Mapping[str, Any]
    info: Mapping[str, Any]
    networks: Sequence[Mapping[str, Any]]
    containers: Sequence[Mapping[str, Any]]
    sightings: Mapping[str, Sighting] = field(default_factory=dict)
