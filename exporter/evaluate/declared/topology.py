"""The snapshot, indexed as packets look at it: who is on which network, by which gateway, and the host's addresses."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import TYPE_CHECKING, NamedTuple

from exporter.evaluate.declared.behaviour import (
    GATEWAY_BY_PRIORITY,
    GATEWAY_PER_FAMILY,
    INTERNAL_WITHOUT_DEFAULT_ROUTE,
    LOOPBACK_KEEPS_IPV6,
    Behaviour,
)
from exporter.model.reach import HOST
from exporter.model.snapshot import GATEWAY_BRIDGE, GatewayMode

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from exporter.model.addresses import Address
    from exporter.model.snapshot import Endpoint, ExposedPort, Link, Network, Sandbox, Snapshot

FAMILIES = (4, 6)
LOOPBACK: Mapping[int, Address] = {4: ip_address("127.0.0.1"), 6: ip_address("::1")}


class Segment(NamedTuple):
    """A subnet of a network, by IP version and position among the network's pools."""

    family: int
    pool: int


@dataclass(frozen=True, slots=True)
class Attachment:
    """A sandbox on a network."""

    sandbox: Sandbox
    endpoint: Endpoint
    network: Network

    def segments(self) -> tuple[Segment, ...]:
        """Return the subnets that the endpoint has addresses in."""
        found = ((family, self.endpoint.address(family)) for family in FAMILIES)
        return tuple(Segment(family, self._pool(address)) for family, address in found if address is not None)

    def _pool(self, address: Address) -> int:
        pools = enumerate(self.network.pools)
        return next((position for position, pool in pools if address in pool.subnet), -1)


class Opening(NamedTuple):
    """What a link opens to its parent, and the reason why it may not."""

    child: str
    ports: tuple[ExposedPort, ...]
    undecided: str


@dataclass(frozen=True, slots=True)
class Standing:
    """What decides how far a sandbox reaches: all sandboxes of one standing reach the same (but for themselves).

    `attached` holds network id and the subnets of the addresses there; `routes` the ids of the networks with the
    IPv4 and IPv6 default route; `openings` are those of links.
    """

    host: bool
    attached: tuple[tuple[str, tuple[Segment, ...]], ...] = ()
    routes: tuple[str | None, str | None] = (None, None)
    openings: tuple[Opening, ...] = ()

    def route(self, family: int) -> str | None:
        """Return the id of the network with the default route of IP version 4 or 6."""
        return self.routes[0] if family == 4 else self.routes[1]


@dataclass(frozen=True)
class Topology:
    """An indexed snapshot."""

    snapshot: Snapshot
    behaviour: Behaviour
    members: Mapping[str, tuple[Attachment, ...]] = field(repr=False)
    links: Mapping[str, tuple[Link, ...]] = field(repr=False)
    host_addresses: Mapping[int, tuple[Address, ...]]
    loopbacks: Mapping[int, tuple[Address, ...]]

    @classmethod
    def of(cls, snapshot: Snapshot) -> Topology:
        """Index a snapshot."""
        members: dict[str, list[Attachment]] = defaultdict(list)
        for sandbox in snapshot.sandboxes.values():
            for endpoint in sandbox.endpoints:
                network = snapshot.networks[endpoint.network_id]
                members[network.id].append(Attachment(sandbox, endpoint, network))
        links: dict[str, list[Link]] = defaultdict(list)
        for link in snapshot.links:
            links[link.parent].append(link)
        return cls(
            snapshot=snapshot,
            behaviour=Behaviour.of(snapshot.engine),
            members={network: tuple(attachments) for network, attachments in members.items()},
            links={parent: tuple(children) for parent, children in links.items()},
            host_addresses={family: tuple(_host_addresses(snapshot, family)) for family in FAMILIES},
            loopbacks={family: tuple(_loopbacks(snapshot, family)) for family in FAMILIES},
        )

    def network(self, network_id: str) -> Network:
        """Return a network by id."""
        return self.snapshot.networks[network_id]

    def bridge_netfilter(self, family: int) -> bool | None:
        """Return whether rules see what stays on a bridge; None where the engine does not tell."""
        engine = self.snapshot.engine
        return engine.bridge_netfilter_v4 if family == 4 else engine.bridge_netfilter_v6

    def host_inside(self, network: Network, family: int) -> Iterator[Address]:
        """Yield the host's addresses that members of a network take for neighbours, whether or not they are."""
        known = self.host_addresses[family]
        for pool in network.pools:
            if pool.subnet.version == family:
                first = bisect_left(known, int(pool.subnet.network_address), key=int)
                yield from known[first : bisect_right(known, int(pool.subnet.broadcast_address), key=int)]

    def attachments(self, sandbox: Sandbox) -> Iterator[Attachment]:
        """Yield the networks of a sandbox."""
        for endpoint in sandbox.endpoints:
            yield Attachment(sandbox, endpoint, self.snapshot.networks[endpoint.network_id])

    def address_on(self, sandbox: Sandbox, network: Network, family: int) -> Address | None:
        """Return a sandbox's address on a network, None where it has none of that family."""
        addresses = (item.address(family) for item in sandbox.endpoints if item.network_id == network.id)
        return next(addresses, None)

    def on_link(self, sandbox: Sandbox, address: Address) -> bool:
        """Return whether a sandbox takes an address for a neighbour on one of its networks, or for its own."""
        pools = (pool for item in self.attachments(sandbox) for pool in item.network.pools)
        return address.is_loopback or any(address in pool.subnet for pool in pools)

    def gateway(self, sandbox: Sandbox, family: int) -> Network | None:
        """Return the network that carries the sandbox's default route of a family.

        The order is libnetwork's `Endpoint.Less`: gw-priority, not internal, more families, then name. Engines
        before 28.0 chose one endpoint for both families, the first that has an IPv4 gateway. Those before 29.5 take the
        first one with gateways of both, if there is any, before those with a higher gw-priority that have one
        (libnetwork's `selectGatewayEndpoint`).
        """
        per_family = self.behaviour.version >= GATEWAY_PER_FAMILY
        asked = family if per_family else 4
        candidates = [item for item in self.attachments(sandbox) if self._offers_route(item, asked)]
        if per_family and self.behaviour.version < GATEWAY_BY_PRIORITY:
            candidates = [item for item in candidates if self._offers_both(item)] or candidates
        chosen = min(candidates, key=_gateway_order, default=None)
        if chosen is None or (not per_family and not self._offers_route(chosen, family)):
            return None
        if chosen.network.driver == "overlay":
            return self._gateway_bridge() if self._joins_gateway_bridge(sandbox, chosen) else None
        return chosen.network

    def _joins_gateway_bridge(self, sandbox: Sandbox, overlay: Attachment) -> bool:
        """Return whether the engine gives a member of an overlay a default route by a hidden endpoint.

        From 28.0 on, a gateway of IPv6 on a network that comes first is enough to do without: IPv4 has none then
        (libnetwork's `needDefaultGW`).
        """
        return self.behaviour.version < GATEWAY_PER_FAMILY or not any(
            _has_ipv6_gateway(item) and _gateway_order(item) < _gateway_order(overlay)
            for item in self.attachments(sandbox)
            if not item.network.internal
        )

    def _gateway_bridge(self) -> Network | None:
        named = (network for network in self.snapshot.networks.values() if network.name == GATEWAY_BRIDGE)
        return next(named, None)

    def _offers_both(self, item: Attachment) -> bool:
        return all(self._offers_route(item, each) and item.endpoint.gateway(each) is not None for each in FAMILIES)

    def _offers_route(self, item: Attachment, family: int) -> bool:
        if item.endpoint.address(family) is None:
            return False
        network = item.network
        if network.driver == "overlay":
            return family == 4 and not network.internal
        if network.driver in ("macvlan", "ipvlan") and not routes_by_itself(network):
            # there is none without a parent interface either, which the driver takes for --internal
            return item.endpoint.gateway(family) is not None
        # --internal bridges had a default route in old engines; their rules, not routes, kept packets in
        return not network.internal or (
            network.driver == "bridge" and self.behaviour.version < INTERNAL_WITHOUT_DEFAULT_ROUTE
        )

    def route(self, sandbox: Sandbox, family: int) -> Network | None:
        """Return the network of the default route where that leads to the host, or out of a network of another driver.

        With inhibit_ipv4 the route stands, but nobody has the gateway's address.
        """
        network = self.gateway(sandbox, family)
        return None if network is None or _leads_astray(network, family) else network

    def keeps_ipv6(self, sandbox: Sandbox) -> bool:
        """Return whether the loopback of a sandbox has an address of IPv6."""
        return self.behaviour.version >= LOOPBACK_KEEPS_IPV6 or any(item.ipv6 for item in sandbox.endpoints)

    def standing(self, sandbox: Sandbox) -> Standing:
        """Return what decides how far a sandbox reaches."""
        if sandbox.id == HOST:
            return Standing(host=True)
        routes = (self.route(sandbox, 4), self.route(sandbox, 6))
        return Standing(
            host=False,
            attached=tuple(sorted((item.network.id, item.segments()) for item in self.attachments(sandbox))),
            routes=(routes[0].id if routes[0] else None, routes[1].id if routes[1] else None),
            openings=tuple(
                sorted(Opening(link.child, link.ports, link.undecided) for link in self.links.get(sandbox.id, ()))
            ),
        )


def bridge_gateway(network: Network, family: int) -> Address | None:
    """Return the host's own address on a bridge network, None where it has none.

    Gateway mode isolated (28.0) and, for IPv4, inhibit_ipv4 leave the bridge without an address.
    """
    if network.driver != "bridge" or network.gateway_mode(family) is GatewayMode.ISOLATED:
        return None
    if family == 4 and network.inhibit_ipv4:
        return None
    gateways = (pool.gateway for pool in network.pools if pool.gateway and pool.subnet.version == family)
    return next(gateways, None) if network.has(family) else None


def routes_by_itself(network: Network) -> bool:
    """Return whether default routes of a network lead out by its interfaces, and to no gateway: ipvlan in layer 3."""
    return network.driver == "ipvlan" and network.mode in ("l3", "l3s") and not network.internal


def has_router(network: Network, family: int) -> bool:
    """Return whether default routes of a network lead to somebody else than the host."""
    return any(pool.router is not None for pool in network.pools if pool.subnet.version == family)


def _leads_astray(network: Network, family: int) -> bool:
    return network.driver == "bridge" and (bridge_gateway(network, family) is None or has_router(network, family))


def _gateway_order(item: Attachment) -> tuple[int, bool, bool, int, str]:
    families = sum(item.endpoint.address(family) is not None for family in FAMILIES)
    network = item.network
    return (-item.endpoint.gw_priority, network.driver == "overlay", network.internal, -families, network.name)


def _has_ipv6_gateway(item: Attachment) -> bool:
    """Return whether an endpoint has a gateway of IPv6, or a default route without one as ipvlan has."""
    return item.endpoint.gateway_v6 is not None or (item.network.driver == "ipvlan" and item.endpoint.ipv6 is not None)


def _loopbacks(snapshot: Snapshot, family: int) -> list[Address]:
    """Return the host's loopback address, and others of its loopback network that ports are published on."""
    published = (port.host_ip for sandbox in snapshot.sandboxes.values() for port in sandbox.published)
    bound = {address for address in published if address.version == family and address.is_loopback}
    return sorted({LOOPBACK[family], *bound}, key=int)


def _host_addresses(snapshot: Snapshot, family: int) -> list[Address]:
    """Return the host's addresses that the API shows: on its bridges, and those that ports are published on."""
    bridges = [bridge_gateway(network, family) for network in snapshot.networks.values()]
    bound = [
        port.host_ip
        for sandbox in snapshot.sandboxes.values()
        for port in sandbox.published
        if port.host_ip.version == family and not port.host_ip.is_unspecified and not port.host_ip.is_loopback
    ]
    return sorted({address for address in [*bridges, *bound] if address is not None}, key=int)
