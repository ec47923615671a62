"""Where the kernel does something else than the engine's configuration promises."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from exporter.model.report import BLOCKED, Row, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from exporter.model.report import PairVerdict, Reach


@dataclass(frozen=True, slots=True)
class Drift:
    """Numbers of ordered pairs of containers: promised closed but open, and promised open but closed."""

    open: int
    closed: int


def drift(declared: Reach, enforced: Reach, sizes: Mapping[str, int]) -> Drift:
    """Count the pairs on which the two disagree; `sizes` are the containers of each sandbox. Unknown is no verdict."""
    count: dict[Verdict, int] = defaultdict(int)
    for one, other, pairs in _weighted(declared, enforced, sizes):
        if one is not other and {one.verdict, other.verdict} == {Verdict.BLOCKED, Verdict.REACHABLE}:
            count[other.verdict] += pairs
    return Drift(open=count[Verdict.REACHABLE], closed=count[Verdict.BLOCKED])


def _weighted(
    declared: Reach, enforced: Reach, sizes: Mapping[str, int]
) -> Iterator[tuple[PairVerdict, PairVerdict, int]]:
    """Yield both verdicts with the number of ordered pairs of distinct containers that they hold for."""
    sources: dict[tuple[int, int], list[str]] = defaultdict(list)
    shared: dict[tuple[tuple[int, ...], tuple[int, ...]], tuple[Row, Row, int]] = {}
    for sandbox, index in enforced.class_of.items():
        sources[declared.class_of[sandbox], index].append(sandbox)
    for (first, second), members in sources.items():
        alike = sum(sizes[sandbox] for sandbox in members)
        own = frozenset(members)
        promised, kept = Row.of(declared.rows[first]), Row.of(enforced.rows[second])
        key = tuple(map(id, promised.sheets)), tuple(map(id, kept.sheets))
        before = shared[key][2] if key in shared else 0
        shared[key] = promised, kept, before + alike
        for destination in promised.own.keys() | kept.own.keys() | promised.near | kept.near:
            others = alike - sizes[destination] if destination in own else alike
            found = promised.told(destination) or BLOCKED, kept.told(destination) or BLOCKED
            yield (*found, others * sizes[destination])
            # counted with the sheets, which do not tell of it
            yield (*_on_sheets(promised, kept, destination), -alike * sizes[destination])
    for promised, kept, alike in shared.values():
        for destination in {name for sheet in (*promised.sheets, *kept.sheets) for name in sheet}:
            yield (*_on_sheets(promised, kept, destination), alike * sizes[destination])
    for sandbox in declared.within.keys() | enforced.within.keys():
        found = declared.within.get(sandbox, BLOCKED), enforced.within.get(sandbox, BLOCKED)
        yield (*found, sizes[sandbox] * (sizes[sandbox] - 1))


def _on_sheets(promised: Row, kept: Row, destination: str) -> tuple[PairVerdict, PairVerdict]:
    return promised.on_sheets(destination) or BLOCKED, kept.on_sheets(destination) or BLOCKED
