"""What could not be read, made from what the engine's API tells: namespaces of containers, sockets of docker-proxies.

Which port of a bridge one has is known where the kernel tells the addresses at the other end of the host's cables.
"""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_network
from typing import TYPE_CHECKING

from exporter.evaluate.declared.topology import Topology, routes_by_itself
from exporter.evaluate.enforced.meeting import leads
from exporter.model.addresses import prefix_of
from exporter.model.namespace import (
    DOCKER_PROXY,
    LOCAL_TABLE,
    MAIN_TABLE,
    Hop,
    Interface,
    Listener,
    Namespace,
    OwnAddress,
    Route,
    RouteKind,
    Scope,
)
from exporter.model.reach import HOST
from exporter.model.snapshot import GATEWAY_BRIDGE

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Mapping

    from exporter.model.addresses import Address, Subnet
    from exporter.model.snapshot import Endpoint, Kernel, Network, Sandbox, Snapshot

_ANYWHERE = {4: ip_network("0.0.0.0/0"), 6: ip_network("::/0")}

_MADE = 1 << 20
"""The index of a made interface of which nobody knows the real one, and which no real one has."""

_ENOUGH = 10
"""As many addresses on docker_gwbridge stand for all that nothing leads to."""

_HOME = (OwnAddress(IPv4Address("127.0.0.1"), 8, Scope.HOST), OwnAddress(IPv6Address("::1"), 128))
_LOOPBACK = Interface(1, "lo", "", "", up=True, addresses=_HOME)
_LOOPBACK_OF_IPV4 = replace(_LOOPBACK, addresses=_HOME[:1])
_TO_LOOPBACK = tuple(Route(LOCAL_TABLE, RouteKind.LOCAL, own.network, (Hop(1),)) for own in _HOME)
_LINK_LOCAL = IPv6Network("fe80::/64")


class StandIns:
    """Namespaces as the engine sets them up, with the cables of this host if it is given.

    An interface without a cable has no kind: its network tells what it is connected to.
    """

    def __init__(self, snapshot: Snapshot, host: Namespace | None = None) -> None:
        self._snapshot = snapshot
        self._topology = Topology.of(snapshot)
        self._cables = _cables(host) if host is not None else {}
        self._hidden = tuple(self._of_nobody_listed(host)) if host is not None else ()

    def namespace(self, sandbox: Sandbox) -> Namespace:
        """Return the namespace of a sandbox."""
        loopback = _LOOPBACK if self._topology.keeps_ipv6(sandbox) else _LOOPBACK_OF_IPV4
        interfaces = {1: loopback}
        routes = list(_TO_LOOPBACK[: len(loopback.addresses)])
        for number, endpoint in enumerate(sandbox.endpoints):
            network = self._snapshot.networks[endpoint.network_id]
            prefixes = {own: _prefix(network, own) for own in (endpoint.ipv4, endpoint.ipv6) if own is not None}
            if endpoint.link_local:
                prefixes[endpoint.link_local] = _LINK_LOCAL
            addresses = tuple([OwnAddress(own, prefix.prefixlen) for own, prefix in prefixes.items()])
            interface = self._plugged(
                Interface(_MADE + number, f"eth{number}", "", "", True, addresses=addresses), network
            )
            index = interface.index
            interfaces[index] = interface
            by_it = (Hop(index),)
            for own, prefix in prefixes.items():
                routes.append(Route(LOCAL_TABLE, RouteKind.LOCAL, prefix_of(own, own.max_prefixlen), by_it))
                routes.append(Route(MAIN_TABLE, RouteKind.UNICAST, prefix, by_it))
            routes.extend(self._defaults(sandbox, endpoint, network, index))
        if self._is_hidden(sandbox):
            interface = Interface(
                _MADE + len(sandbox.endpoints), GATEWAY_BRIDGE, "", "", up=True, addresses=self._hidden
            )
            interfaces[interface.index] = interface
            routes.extend(self._by_gateway_bridge(interface.index))
        return Namespace(interfaces, tuple(routes))

    def likeness(self, sandbox: Sandbox) -> Hashable:
        """Return what a sandbox's namespace follows from but for its own addresses, and the cables of the host."""
        return tuple([self._plug(endpoint) for endpoint in sandbox.endpoints])

    def _plug(self, endpoint: Endpoint) -> Hashable:
        network = self._snapshot.networks[endpoint.network_id]
        return (
            network.id,
            endpoint.ipv4 is not None and _subnet(network, endpoint.ipv4),
            endpoint.ipv6 is not None and _subnet(network, endpoint.ipv6),
            endpoint.mac != "",
            endpoint.gateway_v4,
            endpoint.gateway_v6,
            endpoint.gw_priority,
        )

    def _plugged(self, interface: Interface, network: Network) -> Interface:
        """Return the interface with its cable, where it is known which one that is."""
        found = (self._cables.get((network.interface, int(own.ip))) for own in interface.addresses)
        cables = {cable.index: cable for cable in found if cable is not None}
        cable = cables.popitem()[1] if len(cables) == 1 else None
        if cable is None or cable.peer is None:
            return interface
        return replace(interface, index=cable.peer, kind="veth", mac=cable.peer_mac, peer=cable.index)

    def _of_nobody_listed(self, host: Namespace) -> Iterator[OwnAddress]:
        """Yield the addresses at the other ends of cables to docker_gwbridge that no container is listed with.

        Of those that no translation and no docker-proxy leads to, which fare alike, some are enough: everybody may have
        any.
        """
        listed = {each.ipv4 for box in self._snapshot.sandboxes.values() for each in box.endpoints}
        ends = [cable.peer_addresses for (bridge, _), cable in self._cables.items() if bridge == GATEWAY_BRIDGE]
        free = {each for own in ends for each in own if each.version == 4 and each.ip not in listed}
        led = {lead.to[0] for lead in leads(host.firewall)} if free else set()
        led |= {int(each.relay[0]) for each in host.listeners if each.relay is not None}
        named = {each for each in free if int(each.ip) in led}
        yield from sorted(named, key=_by_number)
        yield from sorted(free - named, key=_by_number)[:_ENOUGH]

    def _is_hidden(self, sandbox: Sandbox) -> bool:
        """Return whether a sandbox has an endpoint on docker_gwbridge that the list of containers leaves out."""
        if not self._hidden:
            return False
        gateway = self._topology.gateway(sandbox, 4)
        return gateway is not None and gateway.name == GATEWAY_BRIDGE and gateway.id not in sandbox.networks

    def _by_gateway_bridge(self, index: int) -> Iterator[Route]:
        """Yield the routes of who may have any of the addresses on docker_gwbridge that are nobody's else."""
        (bridge,) = (each for each in self._snapshot.networks.values() if each.name == GATEWAY_BRIDGE)
        for address in self._hidden:
            yield Route(LOCAL_TABLE, RouteKind.LOCAL, prefix_of(address.ip, 32), (Hop(index),))
        for pool in bridge.pools:
            if pool.subnet.version == 4 and pool.gateway is not None:
                yield Route(MAIN_TABLE, RouteKind.UNICAST, pool.subnet, (Hop(index),))
                yield Route(MAIN_TABLE, RouteKind.UNICAST, _ANYWHERE[4], (Hop(index, pool.gateway),))

    def _defaults(self, sandbox: Sandbox, endpoint: Endpoint, network: Network, index: int) -> Iterator[Route]:
        for family, anywhere in _ANYWHERE.items():
            gateway = endpoint.gateway(family)
            led = gateway is not None or routes_by_itself(network)
            if led and self._topology.gateway(sandbox, family) == network:
                yield Route(MAIN_TABLE, RouteKind.UNICAST, anywhere, (Hop(index, gateway),))


def namespaces_of(snapshot: Snapshot, kernel: Kernel) -> Mapping[str, Namespace]:
    """Return the namespaces of all sandboxes but the host's: those that were read, and stand-ins for the others."""
    stand_ins = StandIns(snapshot, kernel.host)
    return {
        sandbox.id: kernel.sandboxes.get(sandbox.id) or stand_ins.namespace(sandbox)
        for sandbox in snapshot.sandboxes.values()
        if sandbox.id != HOST
    }


def _by_number(address: OwnAddress) -> int:
    return int(address.ip)


def likely_sockets(snapshot: Snapshot) -> tuple[Listener, ...]:
    """Return the host's sockets that docker-proxy has where it runs: one for each port that is published."""
    ports = (port for box in snapshot.sandboxes.values() for port in box.published)
    return tuple(Listener(each.protocol, each.host_ip, each.host_port, program=DOCKER_PROXY) for each in ports)


def _cables(host: Namespace) -> Mapping[tuple[str, int], Interface]:
    """Return the host's ends of cables by their bridge and each address at the other end."""
    found = {}
    for cable in host.interfaces.values():
        bridge = host.interfaces.get(cable.master) if cable.kind == "veth" and cable.master is not None else None
        if bridge is not None:
            own = (address for address in cable.peer_addresses if not address.is_link_local)
            found.update({(bridge.name, int(address.ip)): cable for address in own})
    return found


def _prefix(network: Network, address: Address) -> Subnet:
    """Return the prefix in which a container with an address on a network finds neighbours."""
    return _subnet(network, address) or prefix_of(address, address.max_prefixlen)


def _subnet(network: Network, address: Address) -> Subnet | None:
    """Return the subnet of a network that an address is in."""
    return next((pool.subnet for pool in network.pools if address in pool.subnet), None)
