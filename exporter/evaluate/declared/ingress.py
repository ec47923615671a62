"""What the rules of swarm services may open.

A service that publishes a port has it accepted before any other rule of the engine, wherever the packet comes from and
goes to (`DOCKER-INGRESS -p tcp --dport 8080 -j ACCEPT`), by IPv4. By the host's addresses it leads to the service's
tasks, on the port that they listen on. The list of containers shows the tasks, on the network `ingress`, and no port.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from exporter.evaluate.declared.behaviour import DIRECT_ACCESS_DROP
from exporter.evaluate.declared.layer2 import openness
from exporter.evaluate.declared.published import is_protected
from exporter.model.ports import ALL_PORTS
from exporter.model.reach import Path, Protocol, Via
from exporter.model.snapshot import GATEWAY_BRIDGE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from exporter.evaluate.declared.published import Approach
    from exporter.evaluate.declared.topology import Attachment, Standing, Topology
    from exporter.model.snapshot import Network

_PORTS_UNTOLD = "which ports swarm services publish: the list of containers does not tell"

Found = Iterator[tuple[str, tuple[Path, ...]]]


def service_paths(topology: Topology, standing: Standing, approaches: Iterable[Approach]) -> Found:
    """Yield by destination what services may open to a source, whose packets come to the host by `approaches`."""
    tasks = [item for members in topology.members.values() for item in members if item.network.ingress]
    if not tasks:
        return
    for approach in approaches:
        if approach.family == 4 and (standing.host or topology.behaviour.ipv4_forwarding):
            for task in tasks:
                yield task.sandbox.id, _paths(Via.PUBLISHED_PORT, task.network, approach.host.texts)
    yield from _on_closed_bridges(topology, standing)
    yield from _on_other_bridges(topology, standing)


def _on_closed_bridges(topology: Topology, standing: Standing) -> Found:
    for network_id, segments in standing.attached:
        network = topology.network(network_id)
        ipv4 = any(segment.family == 4 for segment in segments)
        if ipv4 and network.driver == "bridge" and openness(topology, network, 4) is None:
            for member in topology.members[network_id]:
                if member.endpoint.ipv4 is not None:
                    yield member.sandbox.id, _paths(Via.BRIDGE, network, (str(member.endpoint.ipv4),), network.id)


def _on_other_bridges(topology: Topology, standing: Standing) -> Found:
    """Yield what is reached by the default route. The addresses of hidden endpoints are not told."""
    ingress = topology.network(standing.routes[0]) if standing.routes[0] else None
    if ingress is None or ingress.driver != "bridge" or not topology.behaviour.ipv4_forwarding:
        return
    on_link = {network_id for network_id, _ in standing.attached}
    for members in topology.members.values():
        for member in members:
            network = _behind(topology, member)
            if network is not None and network.id not in on_link and _enters(topology, ingress, network):
                address = member.endpoint.ipv4 if network is member.network else None
                yield member.sandbox.id, _paths(Via.ROUTED, network, (str(address),) if address else ())


def _behind(topology: Topology, member: Attachment) -> Network | None:
    """Return the bridge on which the host has a member's IPv4 address."""
    if member.network.driver == "overlay":
        gateway = topology.gateway(member.sandbox, 4)
        return gateway if gateway is not None and gateway.name == GATEWAY_BRIDGE else None
    return member.network if member.network.driver == "bridge" and member.endpoint.ipv4 is not None else None


def _enters(topology: Topology, ingress: Network, network: Network) -> bool:
    if ingress.id == network.id:
        return True
    return topology.behaviour.version < DIRECT_ACCESS_DROP or not is_protected(network, 4)


def _paths(via: Via, network: Network, addresses: tuple[str, ...], within: str = "") -> tuple[Path, ...]:
    return tuple(
        Path(via, network.name, protocol, addresses, ALL_PORTS, _PORTS_UNTOLD, within)
        for protocol in (Protocol.TCP, Protocol.UDP)
    )
