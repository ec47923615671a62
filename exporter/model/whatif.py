"""What would change if a setting were another one: a question, and what is foretold."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from exporter.model.reach import Path, Verdict


@dataclass(frozen=True, slots=True)
class Proposal:
    """Settings that somebody thinks of; None leaves one as it will be anyway.

    `icc` is that of `network` (a name or id), which is then made anew; of the default bridge where none is named, and
    the daemon is restarted.
    """

    icc: bool | None = None
    network: str = ""
    userland_proxy: bool | None = None


class Fate(StrEnum):
    """What becomes of a pair."""

    CLOSES = "closes"
    OPENS = "opens"
    STAYS_OPEN = "stays_open"
    """By other ways than before, or by fewer."""
    UNDECIDED = "undecided"

    @property
    def word(self) -> str:
        """Say what the pair does: `closes`, `stays open`, `is undecided`."""
        return "is undecided" if self is Fate.UNDECIDED else self.value.replace("_", " ")


@dataclass(frozen=True, slots=True)
class ForetoldPair:
    """A pair that the change concerns, by the names of its containers.

    `reason` is what closes, opens or keeps open, or what would have to be known. `paths_before` and `paths_after` are
    what the configuration promises.
    """

    source: str
    destination: str
    fate: Fate
    before: Verdict
    after: Verdict
    reason: str
    paths_before: tuple[Path, ...]
    paths_after: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class Count:
    """Ordered pairs that are not proven blocked, and those of them that are undecided."""

    reachable_pairs: int
    unknown_pairs: int


@dataclass(frozen=True, slots=True)
class Foretelling:
    """The answer."""

    action: str
    """What would be done."""

    containers: int
    before: Count
    after: Count

    fates: Mapping[Fate, int]
    """How many pairs the action concerns: there may be millions."""

    pairs: tuple[ForetoldPair, ...]
    """The first of these by name, PAIRS_LISTED at most."""

    warnings: tuple[str, ...]
    """What keeps the action from having this effect."""

    assumptions: tuple[str, ...]
    """What is taken for granted."""

    @property
    def concerned(self) -> int:
        """How many pairs it concerns."""
        return sum(self.fates.values())


PAIRS_LISTED: Final = 10_000
