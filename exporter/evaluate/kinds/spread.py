"""What holds for a part of a host, spread over all of it: names and addresses are those of whom each one stands for."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from ipaddress import ip_address
from typing import TYPE_CHECKING, NamedTuple

from exporter.evaluate.kinds.kinds import ports_of
from exporter.model.ports import PortSet
from exporter.model.report import PairVerdict, Reach

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Mapping, Sequence

    from exporter.evaluate.kinds.sample import Home, Relation, Sample
    from exporter.model.report import Path
    from exporter.model.snapshot import Network, Sandbox, Snapshot


class _Ends(NamedTuple):
    """Who stands for whom."""

    source: str
    destination: str


class Spread:
    """Spreads verdicts of a part over the whole snapshot."""

    def __init__(self, snapshot: Snapshot, part: Sample) -> None:
        self._snapshot = snapshot
        self._part = part
        self._homes = part.homes
        self._home_of = {member: home for home in part.homes for member in home.members}
        self._by_network: dict[str, list[Home]] = defaultdict(list)
        self._by_kind: dict[int, list[Home]] = defaultdict(list)
        for home in part.homes:
            self._by_kind[home.kind].append(home)
            for network in home.networks:
                self._by_network[network].append(home)
        self._gateways = _Gateways(snapshot, part)
        self._apart: dict[int, list[tuple[Home, tuple[str, str]]]] = {}
        self._ports = {name: ports_of(sandbox) for name, sandbox in snapshot.sandboxes.items() if sandbox.published}

    def over(self, reach: Reach) -> Reach:
        """Return the verdicts of all pairs, from those of the part."""
        self._told: dict[tuple[int, str], PairVerdict] = {}
        self._near: dict[tuple[int, str, str], PairVerdict] = {}
        self._alive: list[PairVerdict] = []
        self._uniform: dict[int, bool] = {}
        self._paths: dict[object, object] = {}
        rows = []
        class_of: dict[str, int] = {}
        for number, home in enumerate(self._homes):
            rows.append(self._row(home, reach))
            class_of.update(dict.fromkeys(home.members, number))
        within = {}
        for name, sandbox in self._snapshot.sandboxes.items():
            if len(sandbox.members) > 1:
                stand_in = self._stand_in(name)
                verdict = reach.within.get(stand_in)
                if verdict is not None:
                    within[name] = self._renamed(verdict, _Ends(stand_in, stand_in), name, name)
        return Reach({name: class_of[name] for name in self._snapshot.sandboxes}, tuple(rows), within)

    def _stand_in(self, name: str) -> str:
        kind = self._home_of[name].kind
        small = self._part.snapshot.sandboxes
        return name if name in small else next(
            member for home in self._by_kind[kind] for member in home.members if member in small
        )

    def _row(self, home: Home, reach: Reach) -> dict[str, PairVerdict]:
        row: dict[str, PairVerdict] = {}
        source = home.members[0]
        if len(home.members) > 1:
            self._fill(row, home, home, reach, source)
        near = {id(home)}
        for network in home.networks:
            for other in self._by_network[network]:
                if id(other) not in near:
                    near.add(id(other))
                    self._fill(row, home, other, reach, source)
        for kind, homes in self._by_kind.items():
            pair = self._part.pairs.get((home.kind, kind, ()))
            verdict = reach.row(pair[0]).get(pair[1]) if pair is not None else None
            if verdict is not None and pair is not None:
                for other in homes:
                    if id(other) not in near:
                        self._spread(row, verdict, _Ends(*pair), source, other)
        return row

    def _fill(self, row: dict[str, PairVerdict], home: Home, other: Home, reach: Reach, source: str) -> None:
        pair = self._part.pairs[home.kind, other.kind, home.relation(other)]
        verdict = reach.row(pair[0]).get(pair[1])
        if verdict is not None:
            self._spread(row, verdict, _Ends(*pair), source, other)

    def _spread(self, row: dict[str, PairVerdict], verdict: PairVerdict, ends: _Ends, source: str, other: Home) -> None:
        told, key = self._told, id(verdict)
        if self._is_uniform(verdict, ends):
            for destination in other.members:
                found = told.get((key, destination))
                if found is None:
                    found = told[key, destination] = self._renamed(verdict, ends, source, destination)
                row[destination] = found
            return
        for destination in other.members:
            row[destination] = self._renamed(verdict, ends, source, destination)

    def _is_uniform(self, verdict: PairVerdict, ends: _Ends) -> bool:
        """Return whether a verdict says the same whoever the source is, but for the destination's own names."""
        known = self._uniform.get(id(verdict))
        if known is None:
            self._alive.append(verdict)  # what is known by its identity must live as long as that is
            known = all(self._gateways.all_or_none(path.addresses) for path in verdict.paths)
            known = known and all(
                path.network is None or path.network in self._networks_of(ends.destination) for path in verdict.paths
            )
            self._uniform[id(verdict)] = known
        return known

    def _networks_of(self, sandbox: str) -> set[str]:
        endpoints = self._snapshot.sandboxes[sandbox].endpoints
        return {self._snapshot.networks[endpoint.network_id].name for endpoint in endpoints}

    def _renamed(self, verdict: PairVerdict, ends: _Ends, source: str, destination: str) -> PairVerdict:
        if (source, destination) == ends:
            return self._grown(verdict, source, destination)
        return self._grown(verdict, source, destination, ends)

    def _grown(self, verdict: PairVerdict, source: str, destination: str, ends: _Ends | None = None) -> PairVerdict:
        ends = ends or _Ends(source, destination)
        networks = self._renamed_networks(ends, source, destination)
        addresses = self._renamed_addresses(ends, source, destination)
        ports = self._renamed_ports(ends.destination, destination)
        by_name = {one.name: other for one, other in networks.values()}
        paths = []
        for path in verdict.paths:
            network = by_name.get(path.network) if path.network is not None else None
            within = networks[path.within][1].id if path.within in networks else path.within
            paths.append(
                replace(
                    path,
                    network=network.name if network is not None else path.network,
                    within=within,
                    addresses=self._gateways.spread(path.addresses, addresses, networks),
                    ports=_swapped(path.ports, ports) if ports else path.ports,
                )
            )
        return PairVerdict(tuple(sorted(paths, key=_order)) if len(paths) > 1 else tuple(paths))

    def _renamed_networks(self, ends: _Ends, source: str, destination: str) -> dict[str, tuple[Network, Network]]:
        """Return the networks that a stand-in is on with those that take their places."""
        found: dict[str, tuple[Network, Network]] = {}
        for stand_in, real in ((ends.source, source), (ends.destination, destination)):
            pairs = zip(
                self._snapshot.sandboxes[stand_in].endpoints, self._snapshot.sandboxes[real].endpoints, strict=True
            )
            for one, other in pairs:
                found[one.network_id] = (
                    self._snapshot.networks[one.network_id],
                    self._snapshot.networks[other.network_id],
                )
        return found

    def _renamed_addresses(self, ends: _Ends, source: str, destination: str) -> dict[str, str]:
        found: dict[str, str] = {}
        for stand_in, real in ((ends.source, source), (ends.destination, destination)):
            if stand_in != real:
                pairs = zip(_texts(self._snapshot.sandboxes[stand_in]), _texts(self._snapshot.sandboxes[real]), strict=True)
                found.update(pairs)
        return found

    def _renamed_ports(self, stand_in: str, real: str) -> dict[int, int]:
        if stand_in == real:
            return {}
        return dict(zip(self._ports.get(stand_in, ()), self._ports.get(real, ()), strict=True))


def _order(path: Path) -> tuple[object, ...]:
    return path.order


def _texts(sandbox: Sandbox) -> Iterator[str]:
    for endpoint in sandbox.endpoints:
        yield from (str(address) for address in (endpoint.ipv4, endpoint.ipv6) if address is not None)


def _swapped(ports: PortSet, names: Mapping[int, int]) -> PortSet:
    """Return a set of ports in which published ones have changed places with those that they stand for."""
    gone = [old for old, new in names.items() if old in ports and new not in ports]
    come = [new for old, new in names.items() if old in ports and new not in ports]
    back = [old for old, new in names.items() if new in ports and old not in ports]
    away = [new for old, new in names.items() if new in ports and old not in ports]
    if not gone and not back:
        return ports
    return (ports - PortSet.of(*gone, *away)) | PortSet.of(*come, *back)


class _Gateways:
    """The host's addresses on the bridges of the part, and those of the networks that they stand for."""

    def __init__(self, snapshot: Snapshot, part: Sample) -> None:
        self._snapshot = snapshot
        self._kept: dict[Hashable, list[str]] = defaultdict(list)
        self._all: dict[Hashable, list[str]] = defaultdict(list)
        for name in snapshot.networks:
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
        self._growing = {
            kind for kind, names in self._all.items() if len(names) > len(self._kept[kind])
        }

    def all_or_none(self, addresses: tuple[str, ...]) -> bool:
        """Return whether of each kind all gateways are among addresses, or none."""
        return self._uniformly(addresses)[0]

    def _uniformly(self, addresses: tuple[str, ...]) -> tuple[bool, tuple[str, ...]]:
        """Return that, and the gateways of networks that are not in the part and belong there, too."""
        known = self._known.get(addresses)
        if known is not None:
            return known
        here: dict[tuple[Hashable, int], set[str]] = defaultdict(set)
        for text in addresses:
            if text in self._of:
                network, number = self._of[text]
                here[self._kinds[network], number].add(network)
        uniform = all(len(names) == len(self._kept[kind]) for (kind, _), names in here.items())
        more = tuple(
            self._texts[name][number]
            for (kind, number) in here
            if kind in self._growing
            for name in self._all[kind]
            if name not in self._small
        ) if uniform else ()
        self._known[addresses] = uniform, _sorted((*addresses, *more)) if more else addresses
        return self._known[addresses]

    def spread(
        self, addresses: tuple[str, ...], names: Mapping[str, str], networks: Mapping[str, tuple[Network, Network]]
    ) -> tuple[str, ...]:
        """Return what addresses of the part stand for: a sandbox's own, and gateways."""
        if not any(text in self._of for text in addresses):
            renamed = tuple(names.get(text, text) for text in addresses)
            return renamed if renamed == addresses or len(renamed) < 2 else _sorted(renamed)
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


def _sorted(texts: Sequence[str] | set[str]) -> tuple[str, ...]:
    return tuple(sorted(texts, key=_number))


def _number(text: str) -> tuple[int, int]:
    address = ip_address(text)
    return address.version, int(address)
