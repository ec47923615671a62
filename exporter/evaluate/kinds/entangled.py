"""Bridges of the host that something joins to others, of which the engine knows nothing."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, NamedTuple

from exporter.evaluate.enforced.wiring import TAP, Cables, is_plugged, together

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from collections.abc import Set as AbstractSet

    from exporter.model.addresses import Address
    from exporter.model.namespace import Interface, Namespace
    from exporter.model.snapshot import Kernel, Snapshot


class Entangled(NamedTuple):
    """Bridges by their indexes, and the ports of bridges that lead to nobody who was read and to no container.

    One that leads to an unknown namespace alone is entangled where packets are sent to somebody there, who passes them
    on.
    """

    bridges: frozenset[int] = frozenset()
    ports: tuple[Interface, ...] = ()


def entangled(snapshot: Snapshot, kernel: Kernel) -> Entangled:
    """Return the bridges with a port that leads to another one, by a cable or by an unknown namespace."""
    cables = Cables(kernel.host, kernel.sandboxes)
    joined: set[int] = set()
    strange: dict[int, list[Interface]] = defaultdict(list)
    for interface in kernel.host.interfaces.values():
        if interface.kind == "veth" and interface.master is not None:
            if interface.peer_here:
                joined.add(interface.master)
            elif not cables.are_taken(interface):
                strange[interface.master].append(interface)
    taps = [each for each in kernel.host.interfaces.values() if each.kind == TAP and each.master is not None]
    waiting = _waiting(snapshot, kernel) if strange else Counter[int]()
    unknown = [port for bridge, ports in strange.items() if len(ports) > waiting[bridge] for port in ports]
    joined.update(port.master for port in together(unknown) if port.master is not None)
    leading = {port.master for port in (*unknown, *taps) if port.master is not None}
    if leading and (_has_loose_ends(kernel, cables) or _asks_nobody(snapshot, kernel, leading)):
        joined |= leading
    return Entangled(frozenset(joined), (*unknown, *taps))


def unread(snapshot: Snapshot, kernel: Kernel, ports: Iterable[Interface]) -> list[str]:
    """Return the names of those ports of networks' bridges that lead to nobody's namespace, or a virtual machine."""
    told = list(ports)
    if not told:
        return []
    bridges = {*_bridges(snapshot, kernel).values()}
    owners = {address for sandbox in snapshot.sandboxes.values() for address in sandbox.addresses}
    return sorted(
        port.name
        for port in told
        if port.master in bridges and owners.isdisjoint(int(each.ip) for each in port.peer_addresses)
    )


def visited(snapshot: Snapshot, kernel: Kernel) -> frozenset[int]:
    """Return the indexes of bridges with a port of a container that the engine has on other networks alone."""
    host, bridges = kernel.host.interfaces, _bridges(snapshot, kernel)
    found: set[int] = set()
    for name, namespace in kernel.sandboxes.items():
        own = {bridges.get(network) for network in snapshot.sandboxes[name].networks}
        ends = ((card, host.get(card.peer)) for card in namespace.interfaces.values() if card.peer is not None)
        plugged = (end.master for card, end in ends if end is not None and end.peer == card.index)
        found.update(master for master in plugged if master is not None and master not in own)
    return frozenset(found)


def _has_loose_ends(kernel: Kernel, cables: Cables) -> bool:
    """Return whether a container has a cable into a namespace that was not read, and that is not inside of it."""
    return any(
        card.kind == "veth"
        and not card.peer_here
        and card.master is None
        and not cables.others(name, card)
        and not is_plugged(kernel.host, namespace, card)
        for name, namespace in kernel.sandboxes.items()
        for card in namespace.interfaces.values()
    )


def _asks_nobody(snapshot: Snapshot, kernel: Kernel, bridges: AbstractSet[int]) -> bool:
    """Return whether somebody sends by a gateway on one of some bridges that is not the host, or fixed whose it is."""
    host = kernel.host
    gateways = {index: {each.ip for each in host.interfaces[index].addresses} for index in bridges}
    if _leads_by(host, dict.fromkeys(bridges, frozenset())):
        return True
    for namespace in kernel.sandboxes.values():
        ends = ((card, host.interfaces.get(card.peer or 0)) for card in namespace.interfaces.values())
        masters = {card.index: end.master for card, end in ends if end is not None and end.peer == card.index}
        if _leads_by(namespace, {index: gateways[master] for index, master in masters.items() if master in gateways}):
            return True
    own = {name: gateways[index] for name, index in _bridges(snapshot, kernel).items() if index in gateways}
    told = (each for box in snapshot.sandboxes.values() for each in box.endpoints if each.network_id in own)
    return any(
        gateway is not None and gateway not in own[each.network_id]
        for each in told
        for gateway in (each.gateway_v4, each.gateway_v6)
    )


def _leads_by(namespace: Namespace, known: Mapping[int, AbstractSet[Address]]) -> bool:
    """Return whether a namespace sends to others than those who are known at some interfaces, for whoever else."""
    hops = (hop for route in namespace.routes for hop in route.hops if hop.interface in known)
    asked = any(hop.gateway is not None and hop.gateway not in known[hop.interface] for hop in hops)
    return asked or any(each.interface in known for each in namespace.neighbours)


def _waiting(snapshot: Snapshot, kernel: Kernel) -> Counter[int]:
    """Return how many ports are of containers whose namespaces were not read, by bridge."""
    bridges = _bridges(snapshot, kernel)
    unread = (sandbox for sandbox in snapshot.sandboxes.values() if sandbox.id not in kernel.sandboxes)
    networks = (network for sandbox in unread for network in sandbox.networks)
    return Counter(bridges[network] for network in networks if network in bridges)


def _bridges(snapshot: Snapshot, kernel: Kernel) -> dict[str, int]:
    """Return the indexes of networks' bridges, by the networks' ids."""
    indexes = {interface.name: interface.index for interface in kernel.host.interfaces.values()}
    networks = snapshot.networks.values()
    return {network.id: indexes[network.interface] for network in networks if network.interface in indexes}
