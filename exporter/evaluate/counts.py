"""Counts over pairs of containers, from verdicts over classes of sandboxes: no pair is looked at one by one."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from exporter.model.report import HOST, BlastRadius, Protocol, Reach, Verdict, Via

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from exporter.model.report import PairVerdict
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
    """Yield verdicts with the number of ordered pairs of distinct containers that they hold for."""
    sources: Counter[int] = Counter()
    for sandbox, index in reach.class_of.items():
        sources[index] += sizes[sandbox]
    for index, row in enumerate(reach.rows):
        for destination, verdict in row.items():
            own = sizes[destination] if reach.class_of[destination] == index else 0
            yield verdict, (sources[index] - own) * sizes[destination]
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


def networks_of(sandbox: Sandbox, by_driver: Mapping[str, str]) -> list[str]:
    """Return the ids of a sandbox's networks. Docker counts `host` and `none` among them, which add no interface."""
    if sandbox.id == HOST:
        return [by_driver["host"]] if "host" in by_driver else []
    if not sandbox.endpoints and not sandbox.orphaned:
        return [by_driver["null"]] if "null" in by_driver else []
    return [endpoint.network_id for endpoint in sandbox.endpoints]


def _blast_radius(reach: Reach, sizes: Mapping[str, int]) -> BlastRadius:
    rows = [[destination for destination, found in row.items() if _counts(found)] for row in reach.rows]
    totals = [sum(sizes[destination] for destination in row) for row in rows]
    members = [frozenset(row) for row in rows]
    out_degrees = (
        totals[index] - (size if sandbox in members[index] else 0) + (size - 1 if sandbox in reach.within else 0)
        for sandbox, index in reach.class_of.items()
        if (size := sizes[sandbox])
    )
    components = _components(reach.class_of, rows, sizes)
    return BlastRadius(
        isolated_containers=sum(1 for component in components if component == 1),
        max_reach=max(out_degrees, default=0),
        largest_component=max(components, default=0),
    )


def _counts(verdict: PairVerdict) -> bool:
    return verdict.verdict is not Verdict.BLOCKED


def _components(class_of: Mapping[str, int], rows: Sequence[Sequence[str]], sizes: Mapping[str, int]) -> list[int]:
    """Return the numbers of containers in each group that reachability, whatever its direction, connects."""
    parent = {sandbox: sandbox for sandbox in sizes}

    def find(sandbox: str) -> str:
        while parent[sandbox] != sandbox:
            parent[sandbox] = parent[parent[sandbox]]
            sandbox = parent[sandbox]
        return sandbox

    joined: set[int] = set()
    for source, index in class_of.items():
        row = rows[index]
        others = (destination for destination in row if destination != source)
        first = next(others, None)
        if first is None or not sizes[source]:
            continue
        parent[find(source)] = find(first)
        if index not in joined:
            # every other source of this class reaches the same, so joining the row once joins it for all
            joined.add(index)
            for destination in row:
                parent[find(destination)] = find(first)
    members: Counter[str] = Counter()
    for sandbox, size in sizes.items():
        members[find(sandbox)] += size
    return [size for size in members.values() if size]
