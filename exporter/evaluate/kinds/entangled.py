"""Bridges of the host that something joins to others, of which the engine knows nothing."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from exporter.evaluate.enforced.wiring import together

if TYPE_CHECKING:
    from exporter.model.namespace import Interface
    from exporter.model.snapshot import Kernel, Snapshot


def entangled(snapshot: Snapshot, kernel: Kernel) -> frozenset[int]:
    """Return the indexes of bridges with a port that leads to another one, by a cable or by an unknown namespace."""
    cards = (card for namespace in kernel.sandboxes.values() for card in namespace.interfaces.values())
    taken = {(card.peer, card.index) for card in cards}
    joined: set[int] = set()
    strange: dict[int, list[Interface]] = defaultdict(list)
    for interface in kernel.host.interfaces.values():
        if interface.kind == "veth" and interface.master is not None:
            if interface.peer_here:
                joined.add(interface.master)
            elif (interface.index, interface.peer) not in taken:
                strange[interface.master].append(interface)
    waiting = _waiting(snapshot, kernel) if strange else Counter[int]()
    unknown = [port for bridge, ports in strange.items() if len(ports) > waiting[bridge] for port in ports]
    return frozenset(joined | {port.master for port in together(unknown) if port.master is not None})


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
