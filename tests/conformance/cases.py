"""What somebody does to a host, undoes again, and which pair of containers hinges on it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from exporter.model.reach import Verdict


@dataclass(frozen=True, slots=True)
class Case:
    """What is done and undone on the host, and inside of containers, and what two of them are to each other then.

    `doubts` are what cannot be known, and is the only reason.
    """

    pair: tuple[str, str]
    verdict: Verdict
    does: str = "true"
    undoes: str = "true"
    inside: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    doubts: frozenset[str] = frozenset()
