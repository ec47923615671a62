"""Whose an address or an interface is that a rule names."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from exporter.evaluate.enforced.route_table import anycast
from exporter.model.addresses import bounds, is_link_local

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from exporter.model.namespace import Namespace, Route
    from exporter.model.snapshot import Network, Snapshot

BITS = {4: 32, 6: 128}


class Owner(NamedTuple):
    """A network, or a sandbox; `id` is unique among all of both."""

    kind: str
    id: str


class Subnet(NamedTuple):
    """The addresses of one pool of a network."""

    low: int
    high: int
    network: str


class Lead(NamedTuple):
    """A route, and the network in one of whose subnets all its addresses lie, if they do."""

    route: Route
    into: str | None


class Leads(NamedTuple):
    """Where routes lead, which depends on networks and their bridges alone: `routes` into one, or over a bridge.

    `ranges` are the destinations of several addresses that are not all of a network's subnet over its own bridge,
    `named` the first address of each destination, and the gateways.
    """

    routes: Sequence[Lead]
    ranges: AbstractSet[tuple[int, int]]
    named: AbstractSet[int]


def _shared(host: Namespace) -> Mapping[int, Sequence[int]]:
    """Return the addresses that the host shares with others on a link, by the link, in the order of its prefixes there.

    Only those that the kernel does not give every link.
    """
    found: dict[int, list[int]] = defaultdict(list)
    for each in anycast(host):
        if not is_link_local(each.address):
            found[each.interface].append(each.address)
    for interface, addresses in found.items():
        if len(addresses) > 1:
            own = [int(item.network.network_address) for item in host.interfaces[interface].addresses]
            addresses.sort(key=lambda address: own.index(address) if address in own else len(own))
    return found


def version_of(address: int) -> int:
    """Return the version of IP that an address as a number is taken to be of."""
    return 4 if address >> 32 == 0 else 6


class Directory:
    """The networks on bridges and the sandboxes on them, by the addresses and interfaces that are theirs alone.

    What shares an address, a subnet or a name with something else is `peculiar`: it is never taken for another.
    """

    def __init__(self, snapshot: Snapshot, host: Namespace | None) -> None:
        self.snapshot = snapshot
        self._host = {interface.name: interface for interface in host.interfaces.values()} if host is not None else {}
        self.peculiar: set[Owner] = set()
        self.overlapping = False
        self.networks: dict[str, Network] = {
            network.id: network for network in snapshot.networks.values() if network.driver == "bridge"
        }
        self.interfaces = {network.interface: network.id for network in self.networks.values()}
        self.gateways: dict[str, list[int]] = {}
        self._subnets: dict[int, list[Subnet]] = {4: [], 6: []}
        self._lows: dict[int, list[int]] = {4: [], 6: []}
        self._place_networks(host)
        self.boxes = {name: Owner("sandbox", name) for name in snapshot.sandboxes}
        self.owners = self._place_addresses()

    def _place_networks(self, host: Namespace | None) -> None:
        names = Counter(network.name for network in self.snapshot.networks.values())
        interfaces = Counter(network.interface for network in self.networks.values())
        for network in self.networks.values():
            if names[network.name] > 1 or interfaces[network.interface] > 1:
                self.peculiar.add(Owner("network", network.id))
            for pool in network.pools:
                low, high = bounds(pool.subnet)
                self._subnets[pool.subnet.version].append(Subnet(low, high, network.id))
        for version, subnets in self._subnets.items():
            subnets.sort()
            self._lows[version] = [subnet.low for subnet in subnets]
            for one, other in pairwise(subnets):
                self.overlapping = self.overlapping or other.low <= one.high
        shared = _shared(host) if host is not None else {}
        for network in self.networks.values():
            told = [int(pool.gateway) for pool in network.pools if pool.gateway is not None]
            interface = self._host.get(network.interface)
            own = interface.addresses if interface is not None else ()
            held = [int(address.ip) for address in own if not address.is_link_local]
            joined = shared.get(interface.index, ()) if interface is not None else ()
            self.gateways[network.id] = list(dict.fromkeys((*told, *held, *joined)))

    def _place_addresses(self) -> dict[int, Owner]:
        told = [
            (gateway, owner)
            for network, gateways in self.gateways.items()
            for owner in (Owner("network", network),)
            for gateway in gateways
        ]
        told += [
            (address, self.boxes[name]) for name, box in self.snapshot.sandboxes.items() for address in box.addresses
        ]
        owners = dict(told)
        if len(owners) < len(told):  # somebody shares an address
            for address, owner in told:
                if owners[address] is not owner:
                    self.peculiar |= {owner, owners[address]}
            owners = dict(reversed(told))
        return owners

    def part(self, owner: Owner, address: int) -> int:
        """Return which of an owner's addresses it is."""
        if owner.kind == "network":
            return self.gateways[owner.id].index(address)
        return self.snapshot.sandboxes[owner.id].addresses.index(address)

    def inside(self, low: int, high: int) -> str | None:
        """Return the network in one of whose subnets a range of addresses lies whole."""
        version = version_of(high)
        subnets, place = self._subnets[version], bisect_right(self._lows[version], low) - 1
        return subnets[place].network if place >= 0 and subnets[place].high >= high else None

    def whole(self, low: int, high: int) -> str | None:
        """Return the network of which a range of addresses is a whole subnet."""
        whole = any(subnet.low == low and subnet.high == high for subnet in self.touching(low, high))
        return self.inside(low, high) if whole else None

    def leads(self, routes: Iterable[Route], bridges: Mapping[int, str]) -> Leads:
        """Return where routes lead; `bridges` are networks by the index of their bridge."""
        leads: list[Lead] = []
        ranges: set[tuple[int, int]] = set()
        named: set[int] = set()
        for route in routes:
            low, high = bounds(route.destination)
            into = self.inside(low, high)
            over = {bridges.get(hop.interface) for hop in route.hops}
            whole = into is not None and over == {into} and self.whole(low, high) is not None
            if low != high and not whole:
                ranges.add((low, high))
            named.add(low)
            named.update(int(hop.gateway) for hop in route.hops if hop.gateway is not None)
            if into is not None or over - {None}:
                leads.append(Lead(route, into))
        return Leads(leads, ranges, named)

    def touching(self, low: int, high: int) -> Iterator[Subnet]:
        """Yield the subnets that have addresses in a range."""
        version = version_of(high)
        subnets, lows = self._subnets[version], self._lows[version]
        first = max(0, bisect_right(lows, low) - 1)
        last = bisect_left(lows, high + 1)
        yield from (subnet for subnet in subnets[first:last] if subnet.high >= low)

    @property
    def subnets(self) -> Mapping[int, list[Subnet]]:
        """All subnets by version of IP, in order."""
        return self._subnets
