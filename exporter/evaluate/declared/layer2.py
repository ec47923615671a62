"""Paths between two sandboxes on one network."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from exporter.evaluate.declared.behaviour import INTERNAL_IPV6_WORKS
from exporter.evaluate.declared.topology import FAMILIES, Attachment, Opening, Segment, Topology
from exporter.model.ports import ALL_PORTS, NO_PORTS, PortSet
from exporter.model.reach import Path, Protocol, Via
from exporter.model.snapshot import GatewayMode, Product

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from exporter.model.snapshot import Network

ALL_PROTOCOLS: Mapping[Protocol, PortSet] = {
    Protocol.TCP: ALL_PORTS,
    Protocol.UDP: ALL_PORTS,
    Protocol.ICMP: NO_PORTS,
}

_PODMAN = "Podman's API does not tell whether a network isolates its containers"
_VEPA = "{driver} in mode vepa: the switch outside decides whether frames come back"
_PLUGIN = "what a network of driver {driver!r} lets through"
_ROUTER = "whether a router outside the host leads from one subnet of the network to the other"
_INGRESS = "the target ports of swarm services, which the list of containers does not tell"

_LEFT_ON = "whether containers switched IPv6 off: engines 26.0.0 and 26.0.1 do not (CVE-2024-32473)"

_VIA = {"bridge": Via.BRIDGE, "macvlan": Via.MACVLAN, "ipvlan": Via.IPVLAN, "overlay": Via.OVERLAY}


def shared_network_paths(
    topology: Topology, destination: Attachment, segments: tuple[Segment, ...], openings: tuple[Opening, ...]
) -> tuple[Path, ...]:
    """Return the paths to a member of a network from another member that has addresses in `segments` of it.

    `openings` are those of the source's links to the destination.
    """
    network = destination.network
    if is_foreign(network):
        return foreign_paths(network, _addresses(destination))
    reasons = {segment.family: openness(topology, network, segment.family) for segment in segments}
    if _switched(network):
        here = destination.segments()
        reasons |= {item.family: _ROUTER for item in segments if item not in here and reasons[item.family] == ""}
    paths = [*_open_paths(destination, reasons), *_echo_paths(destination, reasons)]
    if topology.behaviour.leaves_ipv6_on and network.driver == "bridge" and not network.ipv6 and reasons.get(4) != "":
        paths.extend(_link_local_paths(network))
    if destination.network.default and reasons.get(4) != "":
        paths.extend(path for opening in openings for path in _link_paths(destination, opening))
    return tuple(paths)


def is_foreign(network: Network) -> bool:
    """Return whether nothing is known about what a network's driver does."""
    return network.driver not in _VIA


def foreign_paths(network: Network, addresses: tuple[str, ...]) -> tuple[Path, ...]:
    """Return the paths that a network of an unknown driver may open to addresses, all of them undecided."""
    reason = _PLUGIN.format(driver=network.driver or "?")
    return tuple(
        Path(Via.PLUGIN, network.name, protocol, addresses, ports, reason, network.id)
        for protocol, ports in ALL_PROTOCOLS.items()
    )


def _addresses(member: Attachment) -> tuple[str, ...]:
    return tuple(str(address) for family in FAMILIES if (address := member.endpoint.address(family)))


def _switched(network: Network) -> bool:
    """Return whether the network's subnets meet at a router outside: the parent interface passes frames only."""
    return network.driver == "macvlan" or (network.driver == "ipvlan" and network.mode == "l2")


def openness(topology: Topology, network: Network, family: int) -> str | None:
    """Return `""` where members of a network reach each other, None where not, else what must be known to tell.

    ICC is a DROP rule in iptables or nftables. It holds for a family only where the engine writes rules for it, and
    where frames that stay on the bridge pass the firewall at all (br_netfilter).
    """
    match network.driver:
        case "bridge":
            return _bridge_openness(topology, network, family)
        case "macvlan":
            return _mode_openness(network, network.mode)
        case "ipvlan":
            return _mode_openness(network, network.flag)
        case "overlay":
            return _INGRESS if network.ingress else ""
        case _:
            return _PLUGIN.format(driver=network.driver)


def _bridge_openness(topology: Topology, network: Network, family: int) -> str | None:
    engine = topology.snapshot.engine
    if network.icc is None:
        return _PODMAN if engine.product is Product.PODMAN else _PLUGIN.format(driver=network.driver)
    filtered = topology.bridge_netfilter(family)
    behaviour = topology.behaviour
    # neighbour discovery comes from link-local addresses, which the rules of old engines took for outsiders
    deaf = family == 6 and network.internal and behaviour.version < INTERNAL_IPV6_WORKS
    if filtered is False or (network.icc and not deaf):
        return ""
    return behaviour.decide(lambda settings: not behaviour.filters(family, settings))


def _mode_openness(network: Network, mode: str) -> str | None:
    if mode == "vepa":
        return _VEPA.format(driver=network.driver)
    return None if mode == "private" else ""


def _open_paths(destination: Attachment, reasons: Mapping[int, str | None]) -> Iterator[Path]:
    addresses: dict[str, list[str]] = defaultdict(list)
    for family in FAMILIES:
        address, reason = destination.endpoint.address(family), reasons.get(family)
        if address is not None and reason is not None:
            addresses[reason].append(str(address))
    network = destination.network
    via = _VIA[network.driver]
    for reason, group in addresses.items():
        for protocol, ports in ALL_PROTOCOLS.items():
            yield Path(via, network.name, protocol, tuple(group), ports, reason, network.id)


def _link_local_paths(network: Network) -> Iterator[Path]:
    """Yield what link-local addresses, which the API does not tell, may lead to: no rule of icc=false is for them."""
    for protocol, ports in ALL_PROTOCOLS.items():
        yield Path(Via.BRIDGE, network.name, protocol, (), ports, _LEFT_ON, network.id)


def _echo_paths(destination: Attachment, reasons: Mapping[int, str | None]) -> Iterator[Path]:
    """Yield that echo passes icc=false on networks in gateway mode routed.

    Their rule for ICMP, `-o bridge -p icmp -j ACCEPT`, comes before the one that drops what stays on the bridge.
    """
    network = destination.network
    for family, reason in reasons.items() if network.driver == "bridge" else ():
        address = destination.endpoint.address(family)
        routed = network.gateway_mode(family) is GatewayMode.ROUTED and not network.internal
        if reason is None and routed and address is not None:
            yield Path(Via.BRIDGE, network.name, Protocol.ICMP, (str(address),), within=network.id)


def _link_paths(destination: Attachment, opening: Opening) -> Iterator[Path]:
    """Yield what a link opens: the exposed ports, by IPv4 only, as `ChainInfo.Link` writes its rules.

    Without any port it may be all of them, where that is undecided.
    """
    address, network = destination.endpoint.ipv4, destination.network
    exposed: dict[Protocol, list[int]] = defaultdict(list)
    for port in opening.ports:
        exposed[port.protocol].append(port.port)
    opened = {protocol: PortSet.of(*ports) for protocol, ports in exposed.items()}
    if not opened and opening.undecided:
        opened = dict.fromkeys((Protocol.TCP, Protocol.UDP), ALL_PORTS)
    for protocol, found in opened.items():
        if address is not None:
            yield Path(Via.LINK, network.name, protocol, (str(address),), found, opening.undecided, network.id)
