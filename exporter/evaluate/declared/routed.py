"""Paths from a bridge to a container's own address on another bridge."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING

from exporter.evaluate.declared.behaviour import (
    FORWARDING_UNTOLD,
    IP6TABLES_UNTOLD,
    NO_INTER_NETWORK_DROP,
    ROUTED_FROM_OTHER_BRIDGES,
)
from exporter.evaluate.declared.layer2 import ALL_PROTOCOLS
from exporter.evaluate.declared.published import answers_pass, is_masqueraded
from exporter.evaluate.declared.topology import Attachment, Topology, bridge_gateway
from exporter.model.ports import NO_PORTS, PortSet
from exporter.model.reach import Path, Protocol, Via
from exporter.model.snapshot import ExposedPort, GatewayMode, RoutedPort

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Set

    from exporter.model.snapshot import Network

Openings = dict[Protocol, PortSet]
"""What passes: the ports of each protocol that does, none for ICMP echo."""


@dataclass(frozen=True, slots=True)
class Entry:
    """How packets enter the host from another bridge.

    `interface` is that bridge's name where some network trusts it, else empty. `answered` is whether answers reach the
    source though they come by another bridge, `trusts` the bridges by which they do so anyhow; `masqueraded` whether
    they are addressed to the host.
    """

    family: int
    interface: str
    masqueraded: bool
    answered: bool
    trusts: tuple[str, ...] = ()

    @classmethod
    def by(cls, ingress: Network, family: int, trusted: Set[str]) -> Entry:
        """Return how packets of a family enter by a bridge."""
        interface = ingress.interface if ingress.interface in trusted else ""
        answered = answers_pass(ingress, family)
        return cls(family, interface, is_masqueraded(ingress, family), answered, ingress.trusted_host_interfaces)


def routed_paths(topology: Topology, entry: Entry, destination: Attachment, *, neighbour: bool) -> Iterator[Path]:
    """Yield the paths to the destination's address for packets that enter the host by another bridge.

    The source sent them to its default gateway, since it is on no network with that address. A `neighbour` is on the
    source's bridge too, with another address: it answers there, past the host.
    """
    family, network = entry.family, destination.network
    address = destination.endpoint.address(family)
    if network.driver != "bridge" or address is None or bridge_gateway(network, family) is None:
        return
    behaviour = topology.behaviour
    if family == 4 and not behaviour.ipv4_forwarding:
        return
    options = behaviour.ip6tables_options if family == 6 else (True,)
    outcomes = [
        _filtered(topology, entry, destination, neighbour=neighbour)
        if filters
        else _answerable(ALL_PROTOCOLS, answered=neighbour or _routes_back(topology, destination, family))
        for filters in options
    ]
    for protocol in Protocol:
        possible = [openings[protocol] for openings in outcomes if protocol in openings]
        if possible:
            undecided = "" if len(possible) == len(outcomes) and len(set(possible)) == 1 else IP6TABLES_UNTOLD
            if not all(behaviour.ipv6_forwarding_options):
                undecided = FORWARDING_UNTOLD
            ports = reduce(or_, possible)
            yield Path(Via.ROUTED, network.name, protocol, (str(address),), ports, undecided)


def _filtered(topology: Topology, entry: Entry, destination: Attachment, *, neighbour: bool) -> Openings:
    """Return what the engine's rules let pass from one bridge to another, and for TCP let back."""
    answered = entry.answered or destination.network.interface in entry.trusts
    by_the_host = answered and (entry.masqueraded or _routes_back(topology, destination, entry.family))
    return _answerable(_accepted(topology, entry, destination), answered=neighbour or by_the_host)


def _accepted(topology: Topology, entry: Entry, destination: Attachment) -> Openings:
    """Return what arrives.

    Nothing, but for a routed network's published ports and ICMP (28.0), all of a nat-unprotected one (29.0: before,
    DOCKER-ISOLATION-STAGE-2 dropped it), and published ports from a trusted interface (29.0). Ports are published for
    the endpoint that carries the default route alone.
    """
    network, sandbox, behaviour = destination.network, destination.sandbox, topology.behaviour
    mode = network.gateway_mode(entry.family)
    if network.internal:
        return {}
    published = topology.gateway(sandbox, entry.family) == network
    if mode is GatewayMode.ROUTED and behaviour.version >= ROUTED_FROM_OTHER_BRIDGES:
        routed = (port for port in sandbox.routed if port.family == entry.family)
        return _ports(routed if published else ()) | {Protocol.ICMP: NO_PORTS}
    if behaviour.version < NO_INTER_NETWORK_DROP:
        return {}
    if mode is GatewayMode.NAT_UNPROTECTED:
        return dict(ALL_PROTOCOLS)
    if published and entry.interface and entry.interface in network.trusted_host_interfaces:
        return _ports(ExposedPort(port.container_port, port.protocol) for port in sandbox.published)
    return {}


def _answerable(openings: Mapping[Protocol, PortSet], *, answered: bool) -> Openings:
    return {protocol: ports for protocol, ports in openings.items() if answered or protocol is not Protocol.TCP}


def _routes_back(topology: Topology, destination: Attachment, family: int) -> bool:
    """Return whether the destination's default route leads to the host, which knows the way to the source."""
    network = topology.route(destination.sandbox, family)
    return network is not None and network.driver == "bridge"


def _ports(exposed: Iterable[ExposedPort | RoutedPort]) -> Openings:
    ports: Mapping[Protocol, list[int]] = defaultdict(list)
    for port in exposed:
        ports[port.protocol].append(port.port)
    return {protocol: PortSet.of(*numbers) for protocol, numbers in ports.items()}
