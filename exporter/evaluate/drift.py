"""Where the kernel does something else than the engine's configuration promises."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from exporter.model.reach import BLOCKED, Row, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from exporter.model.reach import Reach, Verdicts


@dataclass(frozen=True, slots=True)
class Drift:
    """Numbers of ordered pairs of containers: promised closed but open, and promised open but closed."""

    open: int
    closed: int


def drift(declared: Reach, enforced: Reach, sizes: Mapping[str, int]) -> Drift:
    """Count the pairs on which the two disagree; `sizes` are the containers of each sandbox. Unknown is no verdict."""
    count = _Count(sizes)
    sources: dict[tuple[int, int], list[str]] = defaultdict(list)
    for sandbox, index in enforced.class_of.items():
        sources[declared.class_of[sandbox], index].append(sandbox)
    for (first, second), members in sources.items():
        count.rows(Row.of(declared.rows[first]), Row.of(enforced.rows[second]), members)
    for sandbox in declared.within.keys() | enforced.within.keys():
        promised, kept = (reach.within.get(sandbox, BLOCKED).verdict for reach in (declared, enforced))
        pairs = sizes[sandbox] * (sizes[sandbox] - 1)
        count.open += pairs if (promised, kept) == (Verdict.BLOCKED, Verdict.REACHABLE) else 0
        count.closed += pairs if (promised, kept) == (Verdict.REACHABLE, Verdict.BLOCKED) else 0
    return Drift(count.open, count.closed)


class _Told(NamedTuple):
    """Destinations that are certainly reached, and those of which nobody knows."""

    reached: frozenset[str]
    unknown: frozenset[str]


class _Apart(NamedTuple):
    """Destinations that are open though promised closed, and those that are closed though promised open."""

    open: frozenset[str]
    closed: frozenset[str]


class _Sheets(NamedTuple):
    """What the sheets of two rows tell, where they disagree, and how many containers that are."""

    promised: _Told
    kept: _Told
    apart: _Apart
    open: int
    closed: int


class _Count:
    """Adds up pairs, row by row; what rows share is looked at once."""

    def __init__(self, sizes: Mapping[str, int]) -> None:
        self._sizes = sizes
        self._sheets: dict[tuple[tuple[int, ...], tuple[int, ...]], _Sheets] = {}
        self.open = self.closed = 0

    def rows(self, promised: Row, kept: Row, sources: list[str]) -> None:
        """Add the pairs of some sources, of which two rows tell."""
        key = tuple(map(id, promised.sheets)), tuple(map(id, kept.sheets))
        sheets = self._sheets.get(key)
        if sheets is None:
            sheets = self._sheets[key] = self._shared(promised, kept)
        agreed = promised.near == kept.near and _agree(promised.own, kept.own)
        if agreed and not sheets.open and not sheets.closed:
            return
        one, other = promised.near | promised.own.those(*Verdict), kept.near | kept.own.those(*Verdict)
        own = _apart(_of_row(promised, other - one, sheets.promised), _of_row(kept, one - other, sheets.kept))
        self.open += self._pairs(sources, own.open)
        self.closed += self._pairs(sources, own.closed)
        if sheets.open or sheets.closed:
            names = one | other
            alike = self._containers(sources)
            # a source is among its own row's names: it does not meet itself by a sheet
            self.open += alike * (sheets.open - self._containers(names & sheets.apart.open))
            self.closed += alike * (sheets.closed - self._containers(names & sheets.apart.closed))

    def _shared(self, promised: Row, kept: Row) -> _Sheets:
        one, other = _on_sheets(promised), _on_sheets(kept)
        apart = _apart(one, other)
        return _Sheets(one, other, apart, self._containers(apart.open), self._containers(apart.closed))

    def _containers(self, sandboxes: Iterable[str]) -> int:
        return sum(self._sizes[name] for name in sandboxes)

    def _pairs(self, sources: list[str], destinations: frozenset[str]) -> int:
        """Return the number of ordered pairs of distinct containers."""
        if not destinations:
            return 0
        itself = sum(self._sizes[name] ** 2 for name in sources if name in destinations)
        return self._containers(sources) * self._containers(destinations) - itself


def _agree(promised: Verdicts, kept: Verdicts) -> bool:
    """Return whether both tell the same of the same groups, in the same order: most do."""
    return len(promised.groups) == len(kept.groups) and all(
        one.verdict.verdict is other.verdict.verdict and one.members == other.members
        for one, other in zip(promised.groups, kept.groups, strict=True)
    )


def _apart(promised: _Told, kept: _Told) -> _Apart:
    return _Apart(
        kept.reached - promised.reached - promised.unknown,
        promised.reached - kept.reached - kept.unknown,
    )


def _of_row(row: Row, others: frozenset[str], sheets: _Told) -> _Told:
    """Return what a row tells of its own destinations, and its sheets of some others."""
    reached, unknown = row.own.those(Verdict.REACHABLE), row.own.those(Verdict.UNKNOWN)
    if others:
        reached, unknown = reached | sheets.reached & others, unknown | sheets.unknown & others
    return _Told(reached, unknown)


def _on_sheets(row: Row) -> _Told:
    return _Told(
        frozenset[str]().union(*(sheet.those(Verdict.REACHABLE) for sheet in row.sheets)),
        frozenset[str]().union(*(sheet.those(Verdict.UNKNOWN) for sheet in row.sheets)),
    )
