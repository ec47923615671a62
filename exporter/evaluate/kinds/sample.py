"""The part of a host that stands for all of it: of each kind a few, so that every way to meet is among them."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from itertools import islice
from typing import TYPE_CHECKING

from exporter.evaluate.kinds.directory import Owner, version_of
from exporter.evaluate.kinds.ground import Ground
from exporter.evaluate.kinds.kinds import Kinds
from exporter.evaluate.kinds.memory import KindsMemory
from exporter.evaluate.kinds.restricted import restricted
from exporter.model.reach import HOST

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from exporter.model.snapshot import Snapshot

Relation = tuple[tuple[int, int], ...]
"""Which networks two sandboxes share: pairs of the numbers of their endpoints there."""


@dataclass(frozen=True, eq=False, slots=True)
class Home:
    """The sandboxes of one kind on exactly the same networks: nothing tells them apart but their addresses."""

    kind: int
    networks: tuple[str, ...]
    members: list[str]

    def relation(self, other: Home) -> Relation:
        """Return which networks this one and another share."""
        return tuple(
            (mine, theirs)
            for mine, network in enumerate(self.networks)
            for theirs, name in enumerate(other.networks)
            if network == name
        )


Way = tuple[int, int, Relation]
"""How two sandboxes may meet: their kinds, and which networks they share."""


@dataclass(frozen=True, slots=True)
class Sample:
    """`snapshot` is the part; `pairs` are sandboxes of it for each way to meet, `networks` its networks by kind.

    `gateways` are addresses of each network: the host's, and those of nobody that packets are sent to. `wide` are the
    sandboxes that may send packets for others elsewhere.
    """

    snapshot: Snapshot
    homes: tuple[Home, ...] = ()
    pairs: Mapping[Way, tuple[str, str]] = field(default_factory=dict)
    network_kinds: Mapping[str, int] = field(default_factory=dict)
    gateways: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    wide: frozenset[str] = frozenset()


def sample(snapshot: Snapshot, before: Snapshot | None = None, memory: KindsMemory | None = None) -> Sample | None:
    """Return a part of a host that stands for all of it, None where nobody stands for anybody else.

    Those who were in the part `before` are chosen first: after most events, the part is the same again. `memory`
    is what was found out then, and holds what is now.
    """
    remembered = memory or KindsMemory()
    ground = Ground(snapshot, snapshot.kernel, remembered)
    if not ground.usual:
        return None
    kinds = Kinds(ground, remembered)
    homes = list(_homes(snapshot, kinds, before.sandboxes if before is not None else {}))
    pairs = _Choice(homes).pairs()
    kept = {HOST, *(sandbox for pair in pairs.values() for sandbox in pair)}
    kept |= {owner.id for owner in ground.peculiar if owner.kind == "sandbox"}
    kept |= _in_sight(homes, kept, ground.wide, before.sandboxes if before is not None else {})
    if len(kept) == len(snapshot.sandboxes):
        return None
    networks = _kept_networks(snapshot, kinds, homes, kept, before.networks if before is not None else {})
    small = restricted(ground, kept, networks)
    return Sample(small, tuple(homes), pairs, kinds.networks, dict(_gateways(ground)), ground.wide)


def _gateways(ground: Ground) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield the host's addresses on each network and those of nobody there, as text."""
    for network in ground.snapshot.networks:
        numbers = (*ground.directory.gateways.get(network, ()), *ground.strangers_near.get(network, ()))
        yield network, tuple(map(_text, numbers))


@lru_cache(maxsize=1 << 12)
def _text(address: int) -> str:
    """Return an address as text: gateways are the same from look to look."""
    return str(_ADDRESS[version_of(address)](address))


_ADDRESS = {4: IPv4Address, 6: IPv6Address}


def _homes(snapshot: Snapshot, kinds: Kinds, first: Mapping[str, object]) -> Iterator[Home]:
    found: dict[tuple[int, tuple[str, ...]], Home] = {}
    boxes = snapshot.sandboxes
    for name in (*sorted(boxes.keys() & first.keys()), *sorted(boxes.keys() - first.keys())):
        kind, networks = kinds.sandboxes[name], boxes[name].networks
        home = found.get((kind, networks))
        if home is None:
            home = found[kind, networks] = Home(kind, networks, [])
        home.members.append(name)
    return iter(found.values())


class _Choice:
    """Chooses sandboxes for all ways to meet, as few as it easily finds."""

    def __init__(self, homes: Iterable[Home]) -> None:
        self._homes = list(homes)
        self._pairs: dict[Way, tuple[str, str]] = {}
        self._used: set[str] = set()

    def pairs(self) -> Mapping[Way, tuple[str, str]]:
        """Return a pair for each way."""
        on: dict[str, list[Home]] = defaultdict(list)
        for home in self._homes:
            if len(home.members) > 1:
                self._meet(home, home, home.members[0], home.members[1])
            for network in home.networks:
                on[network].append(home)
        for inside in on.values():
            for one in inside:
                for other in inside:
                    if one is not other:
                        self._meet(one, other, one.members[0], other.members[0])
        self._apart()
        return self._pairs

    def _meet(self, one: Home, other: Home, source: str, destination: str) -> None:
        way = (one.kind, other.kind, one.relation(other))
        if way not in self._pairs:
            self._pairs[way] = (source, destination)
            self._used |= {*one.networks, *other.networks}

    def _apart(self) -> None:
        """Choose sandboxes that share no network, on networks that are in use already where there are such."""
        of: dict[int, list[Home]] = defaultdict(list)
        for home in self._homes:
            of[home.kind].append(home)
        for homes in of.values():
            homes.sort(key=lambda home: sum(network not in self._used for network in home.networks))
        for first in of.values():
            for second in of.values():
                found = next(
                    ((one, other) for one in first for other in second if one is not other and not one.relation(other)),
                    None,
                )
                if found is not None:
                    one, other = found
                    self._meet(one, other, one.members[0], other.members[0])


def _kept_networks(
    snapshot: Snapshot, kinds: Kinds, homes: Iterable[Home], kept: set[str], first: Mapping[str, object]
) -> set[str]:
    """Return the networks of the part: those of its sandboxes, and of each kind one that no pair of them is on."""
    networks = {network for name in kept for network in snapshot.sandboxes[name].networks}
    networks |= {
        network.id for network in snapshot.networks.values() if Owner("network", network.id) in kinds.ground.peculiar
    }
    most: Counter[int] = Counter()
    for home in homes:
        for kind, count in Counter(kinds.networks[network] for network in home.networks).items():
            most[kind] = max(most[kind], count)
    have = Counter(kinds.networks[network] for network in networks)
    for network in sorted(snapshot.networks, key=lambda network: (network not in first, network)):
        kind = kinds.networks[network]
        if network not in networks and have[kind] < 2 * most[kind] + 1:
            networks.add(network)
            have[kind] += 1
    return networks


def _in_sight(homes: Sequence[Home], kept: set[str], wide: frozenset[str], first: Mapping[str, object]) -> set[str]:
    """Return sandboxes that stand for all others whose packets some may send to whoever is kept.

    They are in the paths from those, by their kind and by whom of both they share networks with.
    """
    of = {member: home for home in homes for member in home.members if member in kept}
    ends = {id(home): home for home in of.values()}.values()
    spoken_for = [home for home in homes if not kept.issuperset(home.members)]
    found: set[str] = set()
    for source in sorted(wide):
        for end in ends:
            known: dict[tuple[int, Relation, Relation], tuple[bool, bool, str]] = {}
            for home in spoken_for:
                beside = (name for name in home.members if name not in (source, end.members[0]))
                choices = [(name not in kept, name not in first, name) for name in islice(beside, 3)]
                key = home.kind, home.relation(of[source]), home.relation(end)
                if choices:
                    known[key] = min(*choices, known.get(key, choices[0]))
            found.update(name for _, _, name in known.values())
    return found
