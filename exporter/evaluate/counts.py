"""Counts over pairs of containers, from verdicts over classes of sandboxes: no pair is looked at one by one."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from exporter.model.reach import BLOCKED, HOST, Protocol, Reach, Row, Verdict, Via
from exporter.model.report import BlastRadius

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from exporter.model.reach import PairVerdict, Verdicts
    from exporter.model.snapshot import Sandbox, Snapshot


@dataclass(frozen=True, slots=True)
class Counts:
    """Ordered pairs of distinct containers.

    `by_via` counts each reachable or unknown pair once, under its first mechanism. `attached` and `within_network` are
    keyed by network id; the latter counts pairs with a path by addresses of that very network.
    """

    by_via: Mapping[Via, int]
    unknown: int
    attached: Counter[str]
    within_network: Counter[str]
    blast_radius: BlastRadius

    @classmethod
    def of(cls, snapshot: Snapshot, reach: Reach) -> Counts:
        """Count the pairs of a snapshot."""
        sizes = {sandbox.id: len(sandbox.members) for sandbox in snapshot.sandboxes.values()}
        by_via: Counter[Via] = Counter(dict.fromkeys(Via, 0))
        within_network: Counter[str] = Counter()
        unknown = 0
        for verdict, pairs in _together(reach, sizes):
            if verdict.via is not None:
                by_via[verdict.via] += pairs
            if verdict.verdict is Verdict.UNKNOWN:
                unknown += pairs
            carrying = (path for path in verdict.paths if path.protocol is not Protocol.ICMP)
            for network in {path.within for path in carrying if path.within}:
                within_network[network] += pairs
        return cls(by_via, unknown, _attached(snapshot), within_network, _blast_radius(reach, sizes))


def _together(reach: Reach, sizes: Mapping[str, int]) -> Iterator[tuple[PairVerdict, int]]:
    """Yield verdicts with their pairs, each once: many rows share one, by identity."""
    pairs: dict[int, int] = {}
    verdicts: dict[int, PairVerdict] = {}
    for verdict, more in _weighted(reach, sizes):
        key = id(verdict)
        if key in pairs:
            pairs[key] += more
        else:
            pairs[key], verdicts[key] = more, verdict
    yield from ((verdicts[key], count) for key, count in pairs.items())


def _weighted(reach: Reach, sizes: Mapping[str, int]) -> Iterator[tuple[PairVerdict, int]]:
    """Yield verdicts with the number of ordered pairs of distinct containers that they hold for.

    Of destinations that differ in names and addresses alone, one verdict is told for all.
    """
    sources: Counter[int] = Counter()
    for sandbox, index in reach.class_of.items():
        sources[index] += sizes[sandbox]
    sheets: dict[int, tuple[Verdicts, int]] = {}
    near: dict[tuple[int, int], tuple[frozenset[str], Verdicts, int]] = {}
    for index, whole in enumerate(reach.rows):
        row, alike = Row.of(whole), sources[index]
        for group in row.own.groups:
            # a source does not meet itself
            itself = sum(sizes[name] * sizes[name] for name in group.members if reach.class_of[name] == index)
            yield group.verdict, alike * sum(sizes[name] for name in group.members) - itself
        for sheet in row.sheets:
            before = sheets[id(sheet)][1] if id(sheet) in sheets else 0
            sheets[id(sheet)] = sheet, before + alike
            known = near.get((id(row.near), id(sheet)))
            near[id(row.near), id(sheet)] = row.near, sheet, alike + (known[2] if known is not None else 0)
    # of those near, the row itself tells
    for names, sheet, alike in near.values():
        for name in names & sheet.names:
            yield sheet.alike(name) or BLOCKED, -alike * sizes[name]
    for sheet, sources_of_all in sheets.values():
        for group in sheet.groups:
            yield group.verdict, sources_of_all * sum(sizes[name] for name in group.members)
    for sandbox, verdict in reach.within.items():
        yield verdict, sizes[sandbox] * (sizes[sandbox] - 1)


def _attached(snapshot: Snapshot) -> Counter[str]:
    attached: Counter[str] = Counter()
    by_driver = networks_by_driver(snapshot)
    for sandbox in snapshot.sandboxes.values():
        for network in networks_of(sandbox, by_driver):
            attached[network] += len(sandbox.members)
    return attached


def networks_by_driver(snapshot: Snapshot) -> Mapping[str, str]:
    """Return the id of a network of each driver: of `host` and `null` there is one."""
    return {network.driver: network.id for network in snapshot.networks.values()}


def networks_of(sandbox: Sandbox, by_driver: Mapping[str, str]) -> tuple[str, ...]:
    """Return the ids of a sandbox's networks. Docker counts `host` and `none` among them, which add no interface."""
    if sandbox.id == HOST:
        return (by_driver["host"],) if "host" in by_driver else ()
    if not sandbox.endpoints and not sandbox.orphaned:
        return (by_driver["null"],) if "null" in by_driver else ()
    return sandbox.networks


class _Reached(NamedTuple):
    """Whom a class of sources reaches: `own`, and whoever is on a sheet and not `near`."""

    own: frozenset[str]
    sheets: tuple[frozenset[str], ...]
    near: frozenset[str]

    def all(self) -> Iterator[str]:
        """Yield everyone whom the class reaches."""
        yield from self.own
        for sheet in self.sheets:
            yield from (name for name in sheet if name not in self.near)


def _reached(reach: Reach, sizes: Mapping[str, int]) -> list[_Reached]:
    empty = frozenset(name for name, size in sizes.items() if not size)
    sheets: dict[int, frozenset[str]] = {}
    found = []
    for row in map(Row.of, reach.rows):
        for sheet in row.sheets:
            if id(sheet) not in sheets:
                sheets[id(sheet)] = sheet.those(Verdict.REACHABLE, Verdict.UNKNOWN) - empty
        own = row.own.those(Verdict.REACHABLE, Verdict.UNKNOWN) - empty
        found.append(_Reached(own, tuple(sheets[id(sheet)] for sheet in row.sheets), row.near))
    return found


def _totals(rows: Sequence[_Reached], sizes: Mapping[str, int]) -> Iterator[int]:
    """Yield how many containers each class reaches."""
    sheets: dict[int, int] = {}
    nearby: dict[tuple[int, int], int] = {}
    for row in rows:
        total = sum(sizes[name] for name in row.own)
        for sheet in row.sheets:
            key = id(row.near), id(sheet)
            if id(sheet) not in sheets:
                sheets[id(sheet)] = sum(sizes[name] for name in sheet)
            if key not in nearby:
                nearby[key] = sum(sizes[name] for name in row.near & sheet)
            total += sheets[id(sheet)] - nearby[key]
        yield total


def _blast_radius(reach: Reach, sizes: Mapping[str, int]) -> BlastRadius:
    rows = _reached(reach, sizes)
    totals = list(_totals(rows, sizes))
    out_degrees = (
        totals[index] - (size if sandbox in rows[index].own else 0) + (size - 1 if sandbox in reach.within else 0)
        for sandbox, index in reach.class_of.items()
        if (size := sizes[sandbox])
    )
    components = _components(reach.class_of, rows, sizes)
    return BlastRadius(
        isolated_containers=sum(1 for component in components if component == 1),
        max_reach=max(out_degrees, default=0),
        largest_component=max(components, default=0),
    )


class _Groups:
    """Sandboxes that reachability, whatever its direction, connects; `number` is how many groups there are."""

    def __init__(self, sandboxes: Iterable[str]) -> None:
        self._parent = {sandbox: sandbox for sandbox in sandboxes}
        self.number = len(self._parent)
        self._sheets: dict[int, tuple[set[str], set[str]]] = {}

    def find(self, sandbox: str) -> str:
        """Return the one that stands for a sandbox's group."""
        parent = self._parent
        while parent[sandbox] != sandbox:
            parent[sandbox] = parent[parent[sandbox]]
            sandbox = parent[sandbox]
        return sandbox

    def join(self, one: str, other: str) -> None:
        """Make one group of two."""
        first, second = self.find(one), self.find(other)
        if first != second:
            self._parent[first] = second
            self.number -= 1

    def join_row(self, row: _Reached, first: str) -> None:
        """Join all that a row reaches with the first of them."""
        for name in row.own:
            self.join(name, first)
        for sheet in row.sheets:
            # those of a sheet whom a row has joined need joining to another row by one of them only
            together, left = self._sheets.setdefault(id(sheet), (set(), set(sheet)))
            link = next((name for name in together if name not in row.near), None)
            come = [name for name in left if name not in row.near]
            for name in come if link is None else (link, *come):
                self.join(name, first)
            if link is not None or not together:
                together.update(come)
                left.difference_update(come)


def _components(class_of: Mapping[str, int], rows: Sequence[_Reached], sizes: Mapping[str, int]) -> list[int]:
    """Return the numbers of containers in each group that reachability, whatever its direction, connects."""
    inhabited = [sandbox for sandbox, size in sizes.items() if size]
    groups = _Groups(inhabited)
    firsts = [(*islice(row.all(), 2), None, None)[:2] for row in rows]
    joined: dict[int, str] = {}
    for source in inhabited:
        index = class_of[source]
        one, other = firsts[index]
        first = one if one != source else other
        if first is not None:
            groups.join(source, first)
            joined[index] = first
    # every source of a class reaches the same, so joining the row once joins it for all
    for index, first in joined.items():
        if groups.number == 1:
            break
        groups.join_row(rows[index], first)
    members: Counter[str] = Counter()
    for sandbox in inhabited:
        members[groups.find(sandbox)] += sizes[sandbox]
    return list(members.values())
