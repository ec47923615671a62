"""Paths from a bridge to a container's own address on another bridge."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from exporter.evaluate.declared.behaviour import (
    IP6TABLES_UNTOLD,
    NO_INTER_NETWORK_DROP,
    ROUTED_FROM_OTHER_BRIDGES,
    Behaviour,
)
from exporter.evaluate.declared.layer2 import ALL_PROTOCOLS
from exporter.evaluate.declared.topology import Attachment, Topology, bridge_gateway
from exporter.model.ports import NO_PORTS, PortSet
from exporter.model.report import Path, Protocol, Via
from exporter.model.snapshot import ExposedPort, GatewayMode

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

Openings = dict[Protocol, PortSet]
"""What passes: the ports of each protocol that does, none for ICMP echo."""


def routed_paths(topology: Topology, interface: str, destination: Attachment, family: int) -> Iterator[Path]:
    """Yield the paths to the destination's address for packets that enter the host by another bridge's `interface`.

    The source sent them to its default gateway, since it is on no network with that address.
    """
    network, address = destination.network, destination.endpoint.address(family)
    if network.driver != "bridge" or address is None or bridge_gateway(network, family) is None:
        return
    filtered = _filtered(topology.behaviour, interface, destination, family)
    options = topology.behaviour.ip6tables_options if family == 6 else (True,)
    if options == (True,):
        certain, possible = filtered, filtered
    else:
        unfiltered = _unfiltered(topology, destination, family)
        certain, possible = (filtered if True in options else unfiltered), unfiltered
    for protocol, ports in possible.items():
        undecided = "" if certain.get(protocol) == ports else IP6TABLES_UNTOLD
        yield Path(Via.ROUTED, network.name, protocol, (str(address),), ports, undecided)


def _unfiltered(topology: Topology, destination: Attachment, family: int) -> Openings:
    """Return what passes where the engine writes no rules: everything, but answers need a route back."""
    openings = dict(ALL_PROTOCOLS)
    if topology.route(destination.sandbox, family) is None:
        del openings[Protocol.TCP]
    return openings


def _filtered(behaviour: Behaviour, interface: str, destination: Attachment, family: int) -> Openings:
    """Return what the engine's rules let pass from one bridge to another.

    Nothing, but for a routed network's published ports and ICMP (28.0), all of a nat-unprotected one (29.0: before,
    DOCKER-ISOLATION-STAGE-2 dropped it), and published ports from a trusted interface (29.0).
    """
    network, sandbox = destination.network, destination.sandbox
    mode = network.gateway_mode(family)
    if mode is GatewayMode.ROUTED and behaviour.version >= ROUTED_FROM_OTHER_BRIDGES:
        return _ports(sandbox.routed) | {Protocol.ICMP: NO_PORTS}
    if behaviour.version < NO_INTER_NETWORK_DROP or network.internal:
        return {}
    if mode is GatewayMode.NAT_UNPROTECTED:
        return dict(ALL_PROTOCOLS)
    if interface in network.trusted_host_interfaces:
        return _ports(ExposedPort(port.container_port, port.protocol) for port in sandbox.published)
    return {}


def _ports(exposed: Iterable[ExposedPort]) -> Openings:
    ports: Mapping[Protocol, list[int]] = defaultdict(list)
    for port in exposed:
        ports[port.protocol].append(port.port)
    return {protocol: PortSet.of(*numbers) for protocol, numbers in ports.items()}
