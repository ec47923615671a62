"""What changed between two reports."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter.model.explanation import PairChange, ReportDiff
from exporter.model.reach import PairVerdict, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exporter.model.report import Report


def diff(before: Report, after: Report) -> ReportDiff:
    """Return what changed; containers are matched by name, since a recreated container has a new id."""
    names_before = {container.name for container in before.containers}
    names_after = {container.name for container in after.containers}
    return ReportDiff(
        containers_added=tuple(sorted(names_after - names_before)),
        containers_removed=tuple(sorted(names_before - names_after)),
        icc_before=before.engine.icc_enabled,
        icc_after=after.engine.icc_enabled,
        pairs=tuple(_changes(before, after, names_before, names_after)),
    )


def _changes(before: Report, after: Report, known: set[str], kept: set[str]) -> Iterator[PairChange]:
    old, new = _open_pairs(before), _open_pairs(after)
    for source, destination in sorted(old.keys() | new.keys()):
        pair = (source, destination)
        first, second = old.get(pair), new.get(pair)
        if (first.paths if first else ()) != (second.paths if second else ()):
            yield PairChange(
                source=source,
                destination=destination,
                before=_verdict(first) if {source, destination} <= known else None,
                after=_verdict(second) if {source, destination} <= kept else None,
                paths_before=first.paths if first else (),
                paths_after=second.paths if second else (),
            )


def _open_pairs(report: Report) -> dict[tuple[str, str], PairVerdict]:
    return {(pair.source.name, pair.destination.name): pair.verdict for pair in report.pairs()}


def _verdict(found: PairVerdict | None) -> Verdict:
    return found.verdict if found else Verdict.BLOCKED
