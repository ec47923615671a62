"""Why a pair is reachable, blocked or unknown, and what changed between two reports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from exporter.model.report import ContainerSummary, Path, Verdict


@dataclass(frozen=True, slots=True)
class Finding:
    """One fact about a pair. `opens` is True where it opens the pair, False where it blocks, None where it informs."""

    text: str
    opens: bool | None = None


@dataclass(frozen=True, slots=True)
class Explanation:
    """The answer to "why". `paths` are those that the question (protocol, port) leaves over."""

    source: ContainerSummary
    destination: ContainerSummary
    verdict: Verdict
    paths: tuple[Path, ...]
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class PairChange:
    """A pair whose verdict or paths differ; a side is None where a container of the pair does not run."""

    source: str
    destination: str
    before: Verdict | None
    after: Verdict | None
    paths_before: tuple[Path, ...]
    paths_after: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class ReportDiff:
    """What changed from one report to a later one, containers and pairs matched by name."""

    containers_added: tuple[str, ...]
    containers_removed: tuple[str, ...]
    icc_before: bool | None
    icc_after: bool | None
    pairs: tuple[PairChange, ...]

    def __bool__(self) -> bool:
        return bool(
            self.pairs or self.containers_added or self.containers_removed or self.icc_before is not self.icc_after
        )
