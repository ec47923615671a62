"""Which networks and which sandboxes nothing tells apart but their names and addresses.

Two sandboxes of one kind, on the same networks or on networks of one kind, fare alike: whoever changes their names and
addresses for each other, everywhere, has the same host before him. Whatever is not known to be so is peculiar.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from exporter.evaluate.kinds.directory import Owner
from exporter.evaluate.kinds.marks import Marks
from exporter.model.addresses import link_local_of
from exporter.model.reach import HOST

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence

    from exporter.evaluate.kinds.ground import Ground
    from exporter.evaluate.kinds.memory import KindsMemory
    from exporter.evaluate.kinds.telling import Told
    from exporter.model.addresses import Address, Subnet
    from exporter.model.namespace import Interface, Namespace, OwnAddress, Route
    from exporter.model.snapshot import Endpoint, IpamPool, Network, Sandbox


class Kinds:
    """The kinds of a host's networks and sandboxes, by id, as numbers. Who turns out to be like nobody is peculiar."""

    def __init__(self, ground: Ground, memory: KindsMemory) -> None:
        self.ground = ground
        self._memory = memory
        self._rules: dict[Owner, list[Hashable]] = defaultdict(list)
        for place, said in ground.survey.chains.items():
            for owner, rules in said.places.items():
                self._rules[owner].append((place, rules))
        self._marks = Marks(ground)
        self._settings = self._settings_of(ground.host) if ground.host is not None else {}
        snapshot = ground.snapshot
        # numbers in the place of kinds: those of sandboxes are made of those of networks
        memory.bridges.turn(snapshot)
        numbers: dict[Hashable, int] = {}
        self.networks = {
            network.id: numbers.setdefault(self._network(network), len(numbers))
            for network in snapshot.networks.values()
        }
        numbers = {}
        memory.places.turn(snapshot)
        # one object in the place of all that are equal
        self._same: dict[Hashable, Hashable] = {}
        self._hops: dict[tuple[str, int], Hashable] = {}
        self.sandboxes = {
            sandbox.id: numbers.setdefault(self._sandbox(sandbox), len(numbers))
            for sandbox in snapshot.sandboxes.values()
        }

    def _network(self, network: Network) -> Hashable:
        owner = Owner("network", network.id)
        interface = self.ground.interface(network)
        if (
            owner in self.ground.peculiar
            or network.driver != "bridge"
            or (self.ground.host is not None and interface is None)
        ):
            self.ground.peculiar.add(owner)
            return ("peculiar", network.id)
        return (
            network.internal, network.ingress, network.default, network.ipv4, network.ipv6, network.icc,
            network.masquerade, network.gateway_mode_v4, network.gateway_mode_v6, network.inhibit_ipv4,
            tuple(map(_pool, network.pools)),
            self._bridge(network, interface) if interface is not None else None,
            tuple(sorted(map(repr, self._marks.of[owner]))),
            tuple(self._rules[owner]),
        )  # fmt: skip

    def _settings_of(self, host: Namespace) -> Mapping[str, Hashable]:
        self._memory.settings.turn(self.ground.snapshot)
        return self._memory.settings(HOST, (host.settings,), lambda: _settings(host))

    def _bridge(self, network: Network, interface: Interface) -> Hashable:
        routes = self.ground.routes[network.id]
        same = self._memory.bridges(
            network.id, (interface, *routes), lambda: self._addressed(network, interface, routes)
        )
        return same, self._settings.get(interface.name, ())

    def _addressed(self, network: Network, interface: Interface, routes: Sequence[Route]) -> Hashable:
        own = tuple((self._own(network, interface, each), each.scope, each.deprecated) for each in interface.addresses)
        led = Counter(self._route(network, interface, route) for route in routes)
        return interface.up, interface.arp, interface.bridge, own, frozenset(led.items())

    def _own(self, network: Network, interface: Interface, address: OwnAddress) -> Hashable:
        """Return an address by its place; a link-local one by what it follows from, as it is where that is unusual."""
        if not address.is_link_local:
            return self.ground.word(network.id, int(address.ip), address.prefixlen)
        made = interface.mac and address.ip == link_local_of(interface.mac)
        return ("link-local",) if made else self.ground.word(network.id, int(address.ip), address.prefixlen)

    def _route(self, network: Network, interface: Interface, route: Route) -> Hashable:
        destination: Subnet = route.destination
        number = int(destination.network_address)
        mine = destination.version == 6 and any(int(address.ip) == number for address in interface.addresses)
        local = destination.is_link_local and mine
        source = route.source and self.ground.word(network.id, int(route.source), 0)
        where = "link-local" if local else self.ground.word(network.id, number, destination.prefixlen)
        gateways = tuple(str(hop.gateway) for hop in route.hops)
        return route.table, route.kind, route.metric, route.preference, route.hop_limit, source, where, gateways

    def _sandbox(self, sandbox: Sandbox) -> Hashable:
        owner = self.ground.directory.boxes[sandbox.id]
        places = self._memory.places(sandbox.id, (sandbox,), lambda: self._places(sandbox))
        if places is None or owner in self.ground.peculiar or not self._ordinary(sandbox):
            self.ground.peculiar.add(owner)
            return ("peculiar", sandbox.id)
        return (
            tuple([self.networks[network] for network in sandbox.networks]), places,
            self._published(sandbox) if sandbox.published else (),
            tuple(sorted(map(repr, self._marks.of[owner]))) if owner in self._marks.of else (),
            tuple(self._rules[owner]) if owner in self._rules else (),
        )  # fmt: skip

    def _ordinary(self, sandbox: Sandbox) -> bool:
        return (
            sandbox.id not in self.ground.read
            and sandbox.id not in self.ground.linked
            and not (sandbox.published and self.ground.snapshot.sandboxes[HOST].members)
        )

    def _published(self, sandbox: Sandbox) -> Hashable:
        return tuple(
            sorted(
                (str(port.host_ip), port.container_port, port.protocol.value, *self._port(port.host_port))
                for port in sandbox.published
            )
        )

    def _port(self, port: int) -> tuple[int, Told]:
        """Return a published port by its number among its owner's, and the sets of ports that it is in."""
        return self.ground.ports[port][1], self._marks.port(port)

    def _places(self, sandbox: Sandbox) -> Hashable:
        """Return all of a sandbox that depends on no other one; None for one that is like no other.

        It is the host's, on no network or on one twice, or has an address outside of its networks.
        """
        endpoints = tuple([self._endpoint(endpoint) for endpoint in sandbox.endpoints])
        alone = sandbox.id == HOST or sandbox.orphaned or not endpoints
        if alone or None in endpoints:
            return None
        order: tuple[int, ...] = (0,)
        if len(endpoints) > 1:
            if len({*sandbox.networks}) < len(endpoints):
                return None
            names = [self.ground.snapshot.networks[network].name for network in sandbox.networks]
            order = tuple(sorted(range(len(names)), key=names.__getitem__))
        found = len(sandbox.members) > 1, endpoints, order, frozenset(sandbox.routed), frozenset(sandbox.exposed)
        return self._same.setdefault(found, found)

    def _endpoint(self, endpoint: Endpoint) -> Hashable:
        """Return all of an endpoint but its addresses; None where one of them is in no subnet of the network."""
        v4 = self._end(endpoint.network_id, endpoint.ipv4, endpoint.gateway_v4)
        v6 = self._end(endpoint.network_id, endpoint.ipv6, endpoint.gateway_v6)
        return None if v4 is None or v6 is None else (v4, v6, endpoint.gw_priority, bool(endpoint.mac))

    def _end(self, network: str, address: Address | None, gateway: Address | None) -> Hashable:
        """Return which of a network's subnets an address lies in, if in any, and where the gateway does."""
        if address is None:
            return None, gateway is None
        version, number = address.version, int(address)
        for place, (of, low, high) in enumerate(self.ground.pools[network]):
            if low <= number <= high and of == version:
                return place, self._hop(network, gateway) if gateway is not None else None
        return None

    def _hop(self, network: str, gateway: Address) -> Hashable:
        key = network, int(gateway)
        if key not in self._hops:
            self._hops[key] = self.ground.word(network, int(gateway), 0)
        return self._hops[key]


def _pool(pool: IpamPool) -> Hashable:
    base = int(pool.subnet.network_address)
    gateway = int(pool.gateway) - base if pool.gateway is not None else None
    router = int(pool.router) - base if pool.router is not None else None
    first = int(pool.range.network_address) - base
    return pool.subnet.version, pool.subnet.prefixlen, first, pool.range.prefixlen, gateway, router


def _settings(host: Namespace) -> Mapping[str, tuple[tuple[str, str, str], ...]]:
    """Return the sysctls of each interface."""
    found: dict[str, list[tuple[str, str, str]]] = defaultdict(list)
    for path, value in host.settings.items():
        parts = path.split("/")
        if len(parts) == 4 and parts[1] == "conf":
            found[parts[2]].append((parts[0], parts[3], value))
    return {name: tuple(sorted(values)) for name, values in found.items()}
