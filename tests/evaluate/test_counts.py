"""Counts over rows that share what they tell are those of a look at every pair, whatever the rows."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

from hypothesis import given
from hypothesis import strategies as st

from exporter.evaluate.counts import Counts
from exporter.evaluate.drift import drift
from exporter.model.ports import PortSet
from exporter.model.reach import BLOCKED, Alike, PairVerdict, Path, Protocol, Reach, Row, Verdict, Verdicts, Via

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from exporter.model.snapshot import Snapshot

Homes = list[tuple[int, int, list[str]]]
"""A network, a kind, and the sandboxes that are on the one and of the other."""


def _verdict(via: Via, protocol: Protocol, doubt: str = "", within: str = "") -> PairVerdict:
    """Return a verdict of one path, with an address of nobody in particular."""
    ports = PortSet.of(80) if protocol is not Protocol.ICMP else PortSet()
    return PairVerdict((Path(via, "n", protocol, ("10.0.0.1",), ports, doubt, within),))


_APART = (
    None,
    None,
    _verdict(Via.PUBLISHED_PORT, Protocol.TCP),
    _verdict(Via.ROUTED, Protocol.UDP, "a doubt"),
    _verdict(Via.ROUTED, Protocol.ICMP),
)
"""What may hold for those that share no network."""


def _near(network: int) -> Sequence[PairVerdict | None]:
    """Return what may hold on a network."""
    return (
        None,
        _verdict(Via.BRIDGE, Protocol.TCP, within=f"id{network}"),
        _verdict(Via.BRIDGE, Protocol.TCP, "a doubt", f"id{network}"),
        _verdict(Via.PUBLISHED_PORT, Protocol.TCP),
    )


@st.composite
def _homes(draw: st.DrawFn) -> Homes:
    names = iter(f"c{number}" for number in range(1000))
    cells = draw(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=6, unique=True))
    return [(network, kind, [next(names) for _ in range(draw(st.integers(1, 3)))]) for network, kind in cells]


def _alike(verdict: PairVerdict, members: list[str]) -> Alike:
    """Return members of which the same holds, with an address of each one's own."""

    def write(member: str) -> PairVerdict:
        return PairVerdict(tuple(Path(*_but_address(path, member), path.within) for path in verdict.paths))

    return Alike(write(members[0]), members, write)


def _but_address(path: Path, member: str) -> tuple[Via, str | None, Protocol, tuple[str, ...], PortSet, str]:
    return path.via, path.network, path.protocol, (f"10.0.0.{member[1:]}",), path.ports, path.undecided


@st.composite
def _reaches(draw: st.DrawFn, homes: Homes, sizes: Mapping[str, int]) -> Reach:
    """Draw the rows of homes as they are spread: sheets by kind, and what the row itself tells of its network."""
    kinds = sorted({kind for _, kind, _ in homes})
    members = {kind: [name for _, of, inside in homes if of == kind for name in inside] for kind in kinds}
    sheets: dict[tuple[int, int], Verdicts] = {}
    shared: dict[int, list[Verdicts]] = {kind: [] for kind in kinds}
    itself: dict[int, list[tuple[int, PairVerdict]]] = {kind: [] for kind in kinds}
    for source in kinds:
        for kind in kinds:
            number = draw(st.integers(0, len(_APART) - 1))
            verdict = _APART[number]
            if verdict is None:
                continue
            if draw(st.booleans()):
                key = number, kind
                sheets.setdefault(key, Verdicts([_alike(verdict, members[kind])]))
                shared[source].append(sheets[key])
            else:
                itself[source].append((kind, verdict))
    rows = []
    for network, source, inside in homes:
        groups = []
        for other, kind, there in homes:
            if other == network:
                verdict = draw(st.sampled_from(_near(network))) if there is not inside or len(inside) > 1 else None
                groups += [_alike(verdict, there)] if verdict is not None else []
            else:
                groups += [_alike(told, there) for of, told in itself[source] if of == kind]
        near = frozenset(name for on, _, there in homes if on == network for name in there)
        rows.append(Row(tuple(shared[source]), Verdicts(groups), near))
    class_of = {name: number for number, (_, _, inside) in enumerate(homes) for name in inside}
    within = {name: _verdict(Via.SAME_SANDBOX, Protocol.TCP) for name in class_of if sizes[name] > 1}
    return Reach(class_of, tuple(rows), within)


@st.composite
def _cases(draw: st.DrawFn) -> tuple[Homes, dict[str, int], Reach, Reach]:
    homes = draw(_homes())
    # a verdict of an earlier look has the names of then: equal, and other objects
    sizes = {"".join([*name]): draw(st.integers(0, 2)) for _, _, inside in homes for name in inside}
    reaches = [draw(_reaches(homes, sizes)) for _ in range(2)]
    plain = draw(st.booleans())
    return homes, sizes, reaches[0], _written(reaches[1]) if plain else reaches[1]


def _written(reach: Reach) -> Reach:
    """Return a reach with a plain row for each class, as the evaluators make them."""
    return Reach(reach.class_of, tuple(dict(row) for row in reach.rows), reach.within)


def _pairs(sizes: Mapping[str, int]) -> Iterator[tuple[str, str]]:
    """Yield the sandboxes of every ordered pair of containers."""
    containers = [(name, number) for name, size in sizes.items() for number in range(size)]
    yield from ((one[0], other[0]) for one in containers for other in containers if one != other)


def _snapshot(sizes: Mapping[str, int]) -> Snapshot:
    boxes = {
        name: SimpleNamespace(
            id=name, members=tuple(f"{name}-{each}" for each in range(size)), endpoints=(), networks=(), orphaned=True
        )
        for name, size in sizes.items()
    }
    return cast("Snapshot", SimpleNamespace(sandboxes=boxes, networks={}))


@given(_cases())
def test_pairs_are_counted_as_one_by_one(case: tuple[Homes, dict[str, int], Reach, Reach]) -> None:
    """By mechanism, in doubt, by network, and how many a container reaches at most."""
    _, sizes, *reaches = case
    for reach in reaches:
        verdicts = [(source, reach.between(source, other)) for source, other in _pairs(sizes)]
        counts = Counts.of(_snapshot(sizes), reach)
        assert +Counter(counts.by_via) == Counter(verdict.via for _, verdict in verdicts if verdict.via is not None)
        assert counts.unknown == sum(verdict.verdict is Verdict.UNKNOWN for _, verdict in verdicts)
        carried = (
            {path.within for path in verdict.paths if path.within and path.protocol is not Protocol.ICMP}
            for _, verdict in verdicts
        )
        assert +counts.within_network == Counter(network for networks in carried for network in networks)
        reached = Counter(source for source, verdict in verdicts if verdict.verdict is not Verdict.BLOCKED)
        most = max((count // sizes[source] for source, count in reached.items()), default=0)
        assert counts.blast_radius.max_reach == most
        groups = _groups(reach, sizes)
        assert counts.blast_radius.largest_component == max(groups, default=0)
        assert counts.blast_radius.isolated_containers == groups.count(1)


def _groups(reach: Reach, sizes: Mapping[str, int]) -> list[int]:
    """Return the numbers of containers in the groups that reachability connects, found by walking."""
    left = {name for name, size in sizes.items() if size}
    found = []
    while left:
        group, waiting = set[str](), [left.pop()]
        while waiting:
            one = waiting.pop()
            group.add(one)
            joined = {
                other
                for other in left
                if {reach.between(one, other).verdict, reach.between(other, one).verdict} != {Verdict.BLOCKED}
            }
            left -= joined
            waiting += joined
        found.append(sum(sizes[name] for name in group))
    return found


@given(_cases())
def test_drift_is_counted_as_one_by_one(case: tuple[Homes, dict[str, int], Reach, Reach]) -> None:
    """In both directions; pairs in doubt do not drift."""
    _, sizes, one, other = case
    for declared, enforced in ((one, other), (other, one), (one, one)):
        told = Counter(
            (declared.between(source, destination).verdict, enforced.between(source, destination).verdict)
            for source, destination in _pairs(sizes)
        )
        found = drift(declared, enforced, sizes)
        assert found.open == told[Verdict.BLOCKED, Verdict.REACHABLE]
        assert found.closed == told[Verdict.REACHABLE, Verdict.BLOCKED]


@given(_cases())
def test_rows_are_mappings(case: tuple[Homes, dict[str, int], Reach, Reach]) -> None:
    """Whoever goes through a row finds what it tells one by one, written once, and nothing twice."""
    _, _, reach, _ = case
    for row in map(Row.of, reach.rows):
        written = dict(row)
        assert len(written) == len(row) == len(list(row))
        for name in reach.class_of:
            assert row.get(name) is written.get(name)
            alike = row.alike(name)
            assert (alike is None) == (name not in written)
            if alike is not None:
                assert (alike.verdict, alike.via) == (written[name].verdict, written[name].via)
                assert written[name].paths[0].addresses == (f"10.0.0.{name[1:]}",)
    assert all(reach.between(name, name) is reach.within.get(name, BLOCKED) for name in reach.class_of)
