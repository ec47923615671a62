"""What holds for a part of a host, spread over all of it: names and addresses are those of whom each one stands for."""

from __future__ import annotations

from collections import defaultdict
from functools import cached_property
from ipaddress import ip_address
from typing import TYPE_CHECKING, NamedTuple

from exporter.evaluate.kinds.kept import changed
from exporter.evaluate.kinds.sample import sample
from exporter.model.ports import PortSet
from exporter.model.reach import Alike, PairVerdict, Path, Reach, Row, Verdicts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from exporter.evaluate.kinds.sample import Home, Sample
    from exporter.model.addresses import Address
    from exporter.model.namespace import Interface
    from exporter.model.snapshot import Network, Sandbox, Snapshot

    Rename = Callable[[PairVerdict, "_Ends", "_Ends"], PairVerdict]


def sampled(snapshot: Snapshot, evaluate: Callable[[Snapshot], Reach]) -> Reach:
    """Return what an evaluator says of a snapshot, which it sees a part of, where one stands for all."""
    part = sample(snapshot)
    return evaluate(snapshot) if part is None else Spread(snapshot, part).over(evaluate(part.snapshot))


class _Ends(NamedTuple):
    """Who stands for whom."""

    source: str
    destination: str


_Key = tuple[int, _Ends, _Ends]


class Renamings:
    """What verdicts of a part say about those that it stands for, kept from one look to the next.

    That depends on the networks, their kinds and addresses, and on both ends. Verdicts that are equal to the last word
    are taken for one, which is then told from others by its identity: promised and kept ones mostly are.
    """

    def __init__(self) -> None:
        self._ground: tuple[object, ...] = ()
        self._boxes: Mapping[str, Sandbox] = {}
        self._changed: frozenset[str] = frozenset()
        self._verdicts: dict[tuple[PairVerdict, tuple[str, ...]], PairVerdict] = {}
        self._told: dict[int, tuple[PairVerdict, PairVerdict]] = {}
        self._old: Mapping[_Key, PairVerdict] = {}
        self._new: dict[_Key, PairVerdict] = {}
        self._gateways: _Gateways | None = None

    def turn(self, snapshot: Snapshot, part: Sample) -> _Gateways:
        """Begin another look; what the one before did not ask for is forgotten. Return the gateways of all networks."""
        ground = snapshot.networks, part.network_kinds, part.gateways, part.snapshot.networks
        if self._gateways is None or ground != self._ground:
            self._old, self._gateways = {}, _Gateways(snapshot.networks, part)
        else:
            self._old = self._new
        before, self._boxes = self._boxes, snapshot.sandboxes
        self._changed = changed(before, self._boxes)
        self._ground, self._new = ground, {}
        return self._gateways

    def __call__(self, verdict: PairVerdict, ends: _Ends, real: _Ends, rename: Rename) -> PairVerdict:
        """Return what a verdict about two stand-ins says about two others."""
        key = id(verdict), ends, real
        found = self._new.get(key)
        if found is None:
            if self._changed.isdisjoint(real):
                found = self._old.get(key)
            if found is None:
                found = rename(verdict, ends, real)
            self._new[key] = found
        return found

    def one(self, verdict: PairVerdict | None) -> PairVerdict | None:
        """Return the one verdict for all that are equal to this one."""
        if verdict is None:
            return None
        known = self._told.get(id(verdict))
        if known is None:
            words = verdict, tuple(path.within for path in verdict.paths)
            # kept with the one that it is told by: no other has its identity meanwhile
            known = self._told[id(verdict)] = verdict, self._verdicts.setdefault(words, verdict)
        return known[1]


class Spread:
    """Spreads verdicts of a part over the whole snapshot."""

    def __init__(self, snapshot: Snapshot, part: Sample, renamings: Renamings | None = None) -> None:
        self.renamings = renamings or Renamings()
        gateways = self.renamings.turn(snapshot, part)
        self._part = part
        self._by_network: dict[str, list[Home]] = defaultdict(list)
        self._by_kind: dict[int, list[Home]] = defaultdict(list)
        for home in part.homes:
            self._by_kind[home.kind].append(home)
            for network in home.networks:
                self._by_network[network].append(home)
        self._names = _Names(snapshot, gateways, _Others(snapshot, part) if part.wide else None)
        number_of = {member: number for number, home in enumerate(part.homes) for member in home.members}
        self.class_of = {name: number_of[name] for name in snapshot.sandboxes}
        self.shared = [name for name, sandbox in snapshot.sandboxes.items() if len(sandbox.members) > 1]
        self._near: dict[tuple[str, ...], Sequence[Home]] = {}
        self._members_near: dict[tuple[str, ...], frozenset[str]] = {}

    def over(self, reach: Reach) -> Reach:
        """Return the verdicts of all pairs, from those of the part."""
        return _Spreading(self, reach).whole()

    @property
    def homes(self) -> Sequence[Home]:
        """All homes, each of which is a class of sources."""
        return self._part.homes

    def stand_in(self, home: Home) -> str:
        """Return a sandbox of the part that stands for a home's members."""
        small = self._part.snapshot.sandboxes
        members = (member for other in self._by_kind[home.kind] for member in other.members)
        return next(member for member in members if member in small)

    def near(self, home: Home) -> Sequence[Home]:
        """Return a home and those that share a network with it."""
        if not home.networks:
            return (home,)
        found = self._near.get(home.networks)
        if found is None:
            homes = {id(other): other for network in home.networks for other in self._by_network[network]}
            found = self._near[home.networks] = list(homes.values())
        return found

    def members_near(self, home: Home) -> frozenset[str]:
        """Return the members of a home and of those that share a network with it."""
        if not home.networks:
            return frozenset(home.members)
        found = self._members_near.get(home.networks)
        if found is None:
            # from a set, of which it takes as much room as it needs
            members = {member for each in self.near(home) for member in each.members}
            found = self._members_near[home.networks] = frozenset(members)
        return found

    @property
    def kinds(self) -> Mapping[int, list[Home]]:
        """The homes by kind."""
        return self._by_kind

    @property
    def names(self) -> _Names:
        """Who is called what."""
        return self._names

    def pair(self, one: Home, other: Home) -> tuple[str, str]:
        """Return the sandboxes of the part that stand for a source and a destination."""
        return self._part.pairs[one.kind, other.kind, one.relation(other)]

    def pair_apart(self, one: Home, kind: int) -> tuple[str, str] | None:
        """Return those that stand for a source and destinations of a kind that share no network with it."""
        return self._part.pairs.get((one.kind, kind, ()))


class _Apart(NamedTuple):
    """What sources of a kind share: verdicts that do not name them, and by kind of destination those that do."""

    sheets: tuple[Verdicts, ...]
    own: list[tuple[PairVerdict, _Ends, int]]


class _Spreading:
    """One spreading. Verdicts are told apart by identity, and `Renamings` keeps them alive."""

    def __init__(self, spread: Spread, reach: Reach) -> None:
        self._spread = spread
        self._reach = reach
        self._sheets: dict[tuple[int, int], Verdicts] = {}
        self._apart: dict[int, _Apart] = {}
        self._groups: dict[tuple[int, int], Alike] = {}

    def whole(self) -> Reach:
        """Return the verdicts of all pairs."""
        homes, class_of = self._spread.homes, self._spread.class_of
        within = {}
        for member in self._spread.shared:
            stand_in = self._spread.stand_in(homes[class_of[member]])
            verdict = self._one(self._reach.within.get(stand_in))
            if verdict is not None:
                within[member] = self._renamed(verdict, _Ends(stand_in, stand_in), _Ends(member, member))
        return Reach(class_of, tuple(map(self._row, homes)), within)

    @property
    def _names(self) -> _Names:
        return self._spread.names

    def _row(self, home: Home) -> Row:
        near = self._spread.near(home)
        nearby = frozenset(near)
        apart = self._apart.get(home.kind)
        if apart is None:
            apart = self._apart[home.kind] = self._told_apart(home)
        groups = [
            self._group(verdict, ends, home, other)
            for verdict, ends, kind in apart.own
            for other in self._spread.kinds[kind]
            if other not in nearby
        ]
        for other in near:
            if other is home and len(home.members) == 1:
                continue
            pair = self._spread.pair(home, other)
            verdict = self._one(self._reach.row(pair[0]).get(pair[1]))
            if verdict is not None:
                groups.append(self._group(verdict, _Ends(*pair), home, other))
        return Row(apart.sheets, Verdicts(groups), self._spread.members_near(home))

    def _told_apart(self, home: Home) -> _Apart:
        """Return what holds for those of a home's kind and whoever shares no network with them."""
        sheets: list[Verdicts] = []
        own: list[tuple[PairVerdict, _Ends, int]] = []
        for kind in self._spread.kinds:
            pair = self._spread.pair_apart(home, kind)
            verdict = self._one(self._reach.row(pair[0]).get(pair[1])) if pair is not None else None
            if pair is None or verdict is None:
                continue
            if self._names.uniform(verdict, pair[1]):
                sheets.append(self._sheet(verdict, _Ends(*pair), kind))
            else:
                own.append((verdict, _Ends(*pair), kind))
        return _Apart(tuple(sheets), own)

    def _sheet(self, verdict: PairVerdict, ends: _Ends, kind: int) -> Verdicts:
        """Return what a verdict that does not name its source means for all destinations of a kind."""
        key = id(verdict), kind
        if key not in self._sheets:
            members = [member for home in self._spread.kinds[kind] for member in home.members]
            self._sheets[key] = Verdicts([self._alike(verdict, ends, ends.source, members)])
        return self._sheets[key]

    def _group(self, verdict: PairVerdict, ends: _Ends, home: Home, other: Home) -> Alike:
        """Return what a verdict means for all of another home; one that does not name its source, for all sources."""
        if not self._names.uniform(verdict, ends.destination):
            return self._alike(verdict, ends, home.members[0], other.members)
        key = id(verdict), id(other)
        if key not in self._groups:
            self._groups[key] = self._alike(verdict, ends, ends.source, other.members)
        return self._groups[key]

    def _alike(self, verdict: PairVerdict, ends: _Ends, source: str, members: Sequence[str]) -> Alike:
        names = self._names

        def write(destination: str) -> PairVerdict:
            # whenever somebody asks, and by no memory that a later look may have taken over
            return names.renamed(verdict, ends, _Ends(source, destination))

        return Alike(self._renamed(verdict, ends, _Ends(source, members[0])), members, write)

    def _one(self, verdict: PairVerdict | None) -> PairVerdict | None:
        return self._spread.renamings.one(verdict)

    def _renamed(self, verdict: PairVerdict, ends: _Ends, real: _Ends) -> PairVerdict:
        return self._spread.renamings(verdict, ends, real, self._names.renamed)


class _Names:
    """The names and addresses of whom the part stands for."""

    def __init__(self, snapshot: Snapshot, gateways: _Gateways, others: _Others | None) -> None:
        self._snapshot = snapshot
        self._gateways = gateways
        self._others = others
        self._ports = {name: sandbox.host_ports for name, sandbox in snapshot.sandboxes.items() if sandbox.published}
        self._texts: dict[str, tuple[str, ...]] = {}
        self._uniform: dict[tuple[int, str], tuple[PairVerdict, bool]] = {}

    def uniform(self, verdict: PairVerdict, destination: str) -> bool:
        """Return whether a verdict says the same whoever the source is, but for the destination's own names."""
        known = self._uniform.get((id(verdict), destination))
        if known is None:
            endpoints = self._snapshot.sandboxes[destination].endpoints
            own = {self._snapshot.networks[endpoint.network_id].name for endpoint in endpoints}
            told = all(path.network is None or path.network in own for path in verdict.paths)
            told = told and all(self._gateways.all_or_none(path.addresses) for path in verdict.paths)
            told = told and not any(map(_is_near, verdict.paths))
            if self._others is not None:
                told = told and not any(self._others.among(path.addresses, destination) for path in verdict.paths)
            known = self._uniform[id(verdict), destination] = verdict, told
        return known[1]

    def renamed(self, verdict: PairVerdict, ends: _Ends, real: _Ends) -> PairVerdict:
        """Return what a verdict about two stand-ins says about two others."""
        networks = self._renamed_networks(ends, real)
        addresses = self._renamed_addresses(ends, real)
        if any(map(_is_near, verdict.paths)):
            addresses |= self._renamed_near(ends, real, networks)
        ports = self._renamed_ports(ends.destination, real.destination)
        by_name = {one.name: other.name for one, other in networks.values()}
        spread: dict[tuple[str, ...], tuple[str, ...]] = {}
        paths = []
        for path in verdict.paths:
            grown = spread.get(path.addresses)
            if grown is None:
                grown = spread[path.addresses] = self._gateways.spread(path.addresses, addresses, networks)
            if self._others is not None and ends.source in self._others.wide:
                grown = self._others.grown(path.addresses, grown, ends, real)
            network = path.network if path.network is None else by_name.get(path.network, path.network)
            within = networks[path.within][1].id if path.within in networks else path.within
            numbers = _swapped(path.ports, ports) if ports else path.ports
            paths.append(Path(path.via, network, path.protocol, grown, numbers, path.undecided, within))
        return PairVerdict(tuple(sorted(paths, key=_order)) if len(paths) > 1 else tuple(paths))

    def _renamed_networks(self, ends: _Ends, real: _Ends) -> dict[str, tuple[Network, Network]]:
        """Return the networks that a stand-in is on with those that take their places."""
        found: dict[str, tuple[Network, Network]] = {}
        sandboxes, networks = self._snapshot.sandboxes, self._snapshot.networks
        for stand_in, other in zip(ends, real, strict=True):
            for one, two in zip(sandboxes[stand_in].endpoints, sandboxes[other].endpoints, strict=True):
                found[one.network_id] = networks[one.network_id], networks[two.network_id]
        return found

    def _renamed_addresses(self, ends: _Ends, real: _Ends) -> dict[str, str]:
        found: dict[str, str] = {}
        for stand_in, other in zip(ends, real, strict=True):
            if stand_in != other:
                found.update(zip(self._addresses(stand_in), self._addresses(other), strict=True))
        return found

    def _renamed_near(
        self, ends: _Ends, real: _Ends, networks: Mapping[str, tuple[Network, Network]]
    ) -> dict[str, str]:
        """Return the link-local addresses of stand-ins, and of their networks' bridges, with those that they mean."""
        found: dict[str, str] = {}
        sandboxes = self._snapshot.sandboxes
        for one, other in networks.values():
            found.update(zip(self._near(one), self._near(other), strict=True))
        for stand_in, other_end in zip(ends, real, strict=True):
            for mine, theirs in zip(sandboxes[stand_in].endpoints, sandboxes[other_end].endpoints, strict=True):
                if mine.link_local is not None and theirs.link_local is not None:
                    found[str(mine.link_local)] = str(theirs.link_local)
        return found

    def _near(self, network: Network) -> Sequence[str]:
        """Return the link-local addresses of a network's bridge."""
        interface = self._bridges.get(network.interface)
        return [str(own.ip) for own in interface.addresses if own.is_link_local] if interface is not None else ()

    @cached_property
    def _bridges(self) -> Mapping[str, Interface]:
        kernel = self._snapshot.kernel
        return {each.name: each for each in kernel.host.interfaces.values()} if kernel is not None else {}

    def _addresses(self, name: str) -> tuple[str, ...]:
        known = self._texts.get(name)
        if known is None:
            known = self._texts[name] = tuple(map(str, _own(self._snapshot.sandboxes[name])))
        return known

    def _renamed_ports(self, stand_in: str, real: str) -> dict[int, int]:
        if stand_in == real:
            return {}
        return dict(zip(self._ports.get(stand_in, ()), self._ports.get(real, ()), strict=True))


def _is_near(path: Path) -> bool:
    """Return whether a path names a link-local address: none of IPv6 comes after those, but a group's."""
    return bool(path.addresses) and path.addresses[-1].startswith("fe80:")


def _order(path: Path) -> tuple[object, ...]:
    return path.order


def _swapped(ports: PortSet, names: Mapping[int, int]) -> PortSet:
    """Return a set of ports in which published ones have changed places with those that they stand for."""
    changed = [(old, new) for old, new in names.items() if (old in ports) != (new in ports)]
    if not changed:
        return ports
    gone = [old if old in ports else new for old, new in changed]
    come = [new if old in ports else old for old, new in changed]
    if len(gone) == len(ports):
        return PortSet.of(*come)
    return (ports - PortSet.of(*gone)) | PortSet.of(*come)


class _Gateways:
    """The host's addresses on the bridges of the part, and those of the networks that they stand for."""

    def __init__(self, networks: Iterable[str], part: Sample) -> None:
        self._kept: dict[int, list[str]] = defaultdict(list)
        self._all: dict[int, list[str]] = defaultdict(list)
        for name in networks:
            kind = part.network_kinds[name]
            self._all[kind].append(name)
            if name in part.snapshot.networks:
                self._kept[kind].append(name)
        self._of: dict[str, tuple[str, int]] = {}
        self._texts: dict[str, tuple[str, ...]] = {}
        for network, texts in part.gateways.items():
            self._texts[network] = texts
            if network in part.snapshot.networks:
                self._of.update({text: (network, number) for number, text in enumerate(texts)})
        self._kinds = part.network_kinds
        self._small = part.snapshot.networks
        self._known: dict[tuple[str, ...], tuple[bool, tuple[str, ...]]] = {}
        self._growing = {kind for kind, names in self._all.items() if len(names) > len(self._kept[kind])}

    def all_or_none(self, addresses: tuple[str, ...]) -> bool:
        """Return whether of each kind all gateways are among addresses, or none."""
        return self._uniformly(addresses)[0]

    def _uniformly(self, addresses: tuple[str, ...]) -> tuple[bool, tuple[str, ...]]:
        """Return that, and the gateways of networks that are not in the part and belong there, too."""
        known = self._known.get(addresses)
        if known is not None:
            return known
        here: dict[tuple[int, int], set[str]] = defaultdict(set)
        for text in addresses:
            if text in self._of:
                network, number = self._of[text]
                here[self._kinds[network], number].add(network)
        uniform = all(len(names) == len(self._kept[kind]) for (kind, _), names in here.items())
        more = (
            tuple(
                self._texts[name][number]
                for (kind, number) in here
                if kind in self._growing
                for name in self._all[kind]
                if name not in self._small
            )
            if uniform
            else ()
        )
        self._known[addresses] = uniform, _sorted((*addresses, *more)) if more else addresses
        return self._known[addresses]

    def spread(
        self, addresses: tuple[str, ...], names: Mapping[str, str], networks: Mapping[str, tuple[Network, Network]]
    ) -> tuple[str, ...]:
        """Return what addresses of the part stand for: a sandbox's own, and gateways."""
        if not any(text in self._of for text in addresses):
            renamed = tuple(names.get(text, text) for text in addresses)
            return renamed if renamed == addresses or _in_order(renamed) else _sorted(renamed)
        uniform, grown = self._uniformly(addresses)
        if uniform and not any(text in names for text in addresses):
            return grown
        return self._one_by_one(addresses, names, networks)

    def _one_by_one(
        self, addresses: tuple[str, ...], names: Mapping[str, str], networks: Mapping[str, tuple[Network, Network]]
    ) -> tuple[str, ...]:
        """Rename gateways of the ends' own networks; the others of a kind stand for all that are left."""
        found: set[str] = set()
        taken = {other.id for _, other in networks.values()}
        for text in addresses:
            if text not in self._of:
                found.add(names.get(text, text))
                continue
            network, number = self._of[text]
            if network in networks:
                found.add(self._texts[networks[network][1].id][number])
            else:
                kind = self._kinds[network]
                found.update(self._texts[name][number] for name in self._all[kind] if name not in taken)
        return _sorted(found)


class _Others:
    """Addresses of third parties for which packets are sent, and whose they are that those of the part stand for."""

    def __init__(self, snapshot: Snapshot, part: Sample) -> None:
        self.wide = part.wide
        self._boxes = snapshot.sandboxes
        self._home = {member: home for home in part.homes for member in home.members}
        self._homes: dict[int, list[Home]] = defaultdict(list)
        for home in part.homes:
            self._homes[home.kind].append(home)
        self._owners = {
            text: (name, place)
            for name, sandbox in part.snapshot.sandboxes.items()
            for place, text in enumerate(map(str, _own(sandbox)))
        }
        self._known: dict[tuple[object, ...], tuple[str, ...]] = {}

    def among(self, addresses: Iterable[str], *ends: str) -> Sequence[str]:
        """Return the addresses that are a sandbox's of the part which is none of some."""
        return [text for text in addresses if text in self._owners and self._owners[text][0] not in ends]

    def grown(self, addresses: tuple[str, ...], renamed: Sequence[str], ends: _Ends, real: _Ends) -> tuple[str, ...]:
        """Return renamed addresses with those of all whom third parties among them stand for."""
        third = self.among(addresses, *ends)
        if not third:
            return tuple(renamed)
        found = set(renamed).difference(third)
        for text in third:
            found.update(self._all_like(text, ends, real))
        return _sorted(found)

    def _all_like(self, text: str, ends: _Ends, real: _Ends) -> Sequence[str]:
        """Return the addresses of those who are as much to the real ends as a sandbox of the part is to `ends`."""
        name, place = self._owners[text]
        home = self._home[name]
        ways = tuple(home.relation(self._home[end]) for end in ends)
        key = home.kind, ways, place, real
        known = self._known.get(key)
        if known is None:
            towards = [self._home[end] for end in real]
            alike = (each for each in self._homes[home.kind] if tuple(map(each.relation, towards)) == ways)
            members = (member for each in alike for member in each.members if member not in real)
            known = self._known[key] = tuple(str(_own(self._boxes[member])[place]) for member in members)
        return known


def _own(sandbox: Sandbox) -> Sequence[Address]:
    """Return a sandbox's addresses in the order of its endpoints."""
    told = (address for endpoint in sandbox.endpoints for address in (endpoint.ipv4, endpoint.ipv6))
    return [address for address in told if address is not None]


def _in_order(texts: tuple[str, ...]) -> bool:
    """Return whether addresses need no sorting: one, or one of each version."""
    return len(texts) < 2 or (len(texts) == 2 and ":" in texts[1] and ":" not in texts[0])


def _sorted(texts: Sequence[str] | set[str]) -> tuple[str, ...]:
    return tuple(sorted(texts, key=_number))


def _number(text: str) -> tuple[int, int]:
    address = ip_address(text)
    return address.version, int(address)
