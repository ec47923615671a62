"""Which segment each interface is on: by cables between namespaces, and by what stands on what."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, NamedTuple

from exporter.evaluate.enforced.ports import Known, Ports
from exporter.evaluate.enforced.segments import PASSING, Segment, is_hidden
from exporter.model.namespace import MAIN_TABLE
from exporter.model.reach import HOST
from exporter.model.snapshot import GATEWAY_BRIDGE

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence

    from exporter.evaluate.enforced.stack import Stack
    from exporter.model.namespace import Interface, Namespace
    from exporter.model.snapshot import Network

_ALONE = frozenset({"", "dummy", "ifb", "vrf"})
"""Kinds that lead to nobody on this host: cards, whose other end is outside, and what has none."""
OF_CARDS = frozenset({"vlan", "bond", "team"})
"""Kinds that lead outside as well, where they stand on the host's cards."""
_CHILDREN = frozenset({"macvlan", "ipvlan"})
_OUTWARD = _ALONE | OF_CARDS | _CHILDREN
"""Kinds by which no other interface of this host is reached from the host's own."""
_ROUTING = frozenset({"l3", "l3s"})
"""Modes of ipvlan in which nobody outside is asked for link addresses."""
TAP = "tun"
"""The kind of ports that lead into virtual machines."""
_NESTED = 8
"""How many interfaces stand on each other at the most (MAX_NEST_DEV)."""


class Place(NamedTuple):
    """The segment that an interface is on, and the port that leads to it, where that is one of the host's bridge."""

    segment: Segment
    port: Interface | None = None


class Wiring:
    """The segments of a host and of its sandboxes, given the namespaces of these by id."""

    def __init__(self, host: Stack, inside: Mapping[str, Namespace]) -> None:
        self._host = host.namespace.interfaces
        self._namespace = host.namespace
        self._by_name = host.by_name
        self._outside = frozenset(_led_out_of(host.namespace))
        self._known = Known(host.namespace)
        self._segments: dict[Hashable, Segment] = {}
        self._joints: list[tuple[Segment, Segment]] = []
        self._loose: list[Segment] = []
        self._tapped: list[Segment] = []
        self._tasks: Segment | None = None
        self._inside: dict[tuple[str, int], Place] = {}
        self._cables = Cables(host.namespace, inside)
        ports: dict[tuple[str, int], list[Interface]] = defaultdict(list)
        for name, namespace in inside.items():
            for card in namespace.interfaces.values():
                if card.master is not None:
                    ports[name, card.master].append(card)
        self._ports: Mapping[tuple[str, int], Sequence[Interface]] = dict(ports)

    # --- Interfaces of sandboxes ---

    def place(self, stack: Stack, interface: Interface, network: Network | None) -> Place | None:
        """Return where an interface of a sandbox is; None where it is a port of a bridge there, which hears it all."""
        master = stack.namespace.interfaces.get(interface.master) if interface.master is not None else None
        if master is not None and master.kind == "bridge":
            return None
        return self._place(stack, interface, network, _NESTED)

    def leads_to_nobody(self, stack: Stack, interface: Interface) -> bool:
        """Return whether an interface of a sandbox is a cable into a namespace that was not read."""
        return (
            interface.kind == "veth"
            and not interface.peer_here
            and not self._cables.others(stack.name, interface)
            and not is_plugged(self._namespace, stack.namespace, interface)
        )

    def _place(self, stack: Stack, interface: Interface, network: Network | None, depth: int) -> Place:
        kind = interface.kind
        end = self._host.get(interface.peer) if interface.peer is not None and not interface.peer_here else None
        if end is not None and is_plugged(self._namespace, stack.namespace, interface):
            return self._plugged(end)
        if kind == "macvlan" and end is not None:
            return Place(self._card(end))
        if is_hidden(interface):
            return Place(self._bridge(self._by_name[GATEWAY_BRIDGE]))
        if network is not None and not interface.peer_here and kind not in ("bridge", "dummy"):
            bridge = self._by_name.get(network.interface)
            if kind == "" and bridge is not None:
                return Place(self._bridge(bridge))  # a stand-in
            card = self._by_name.get(network.parent) if network.driver == "macvlan" else None
            if card is not None:
                return Place(self._card(card))  # a stand-in as well
            segment = self._at(("network", network.id), network.name)
            self._tasks = segment if network.ingress else self._tasks
            return Place(segment)
        if kind in _ALONE or not depth:
            return Place(Segment(interface.name))
        return self._by_hand(stack, interface, depth - 1)

    def _plugged(self, end: Interface) -> Place:
        """Return where a cable leads whose other end is the host's."""
        if not end.up:
            return Place(Segment("down"), end)
        master = self._host.get(end.master) if end.master is not None else None
        if master is None:
            return Place(self._at(("cable", end.index), end.name))
        if master.kind == "bridge":
            return Place(self._bridge(master), end)
        return Place(self._at(("master", master.index), master.name, unseen=True))

    def _by_hand(self, stack: Stack, interface: Interface, depth: int) -> Place:
        """Return where an interface is that no engine made."""
        if interface.kind == "bridge":
            return self._of_bridge(stack, interface, depth)
        own = stack.namespace.interfaces
        other = own.get(interface.peer) if interface.peer is not None and interface.peer_here else None
        if interface.kind == "veth":
            return Place(self._cable(stack.name, interface, other))
        if other is not None and other.up and interface.kind in _CHILDREN and interface.mode not in _ROUTING:
            return self._place(stack, other, None, depth)
        return Place(self._tunnels())

    def _of_bridge(self, stack: Stack, bridge: Interface, depth: int) -> Place:
        """Return where a bridge of a sandbox is: where its port leads. Of several, each hears what the others do.

        It is looked for once, however many interfaces stand on it: as many may stand on each of these. One that stands
        on itself, as no kernel has it, leads nowhere.
        """
        key = stack.name, bridge.index
        known = self._inside.get(key)
        if known is None:
            segment = Segment(bridge.name)
            self._inside[key] = Place(segment)
            up = (port for port in self._ports.get(key, ()) if port.up)
            usable = (port for port in up if port.port is None or port.port.forwarding)
            places = [self._place(stack, port, None, depth) for port in usable]
            known = self._inside[key] = places[0] if len(places) == 1 else Place(segment)
            self._joints += ((known.segment, place.segment) for place in places)
        return known

    def _cable(self, name: str, interface: Interface, other: Interface | None) -> Segment:
        """Return the segment of a cable that ends at none of the host's interfaces.

        Where several could be its ends, as indexes mean something else in each namespace, who hears whom is not known.
        """
        if other is not None:
            return self._at(("cable", name, min(interface.index, other.index)), interface.name)
        there = self._cables.others(name, interface)
        if not there:
            segment = self._unread(name, interface)
            # of a bridge inside, those are containers of an engine in there
            self._loose += [segment] if interface.master is None else []
            return segment
        if len(there) == 1 and self._cables.is_between(name, interface, there[0]):
            ends = frozenset(((name, interface.index), (there[0], interface.peer)))
            return self._at(("ends", ends), interface.name)
        return self._at(("ends", frozenset((interface.index, interface.peer))), interface.name, unseen=True)

    # --- Interfaces of the host ---

    def place_of_host(self, interface: Interface) -> Place | None:
        """Return where an interface of the host is; None where no sandbox can be."""
        if not interface.up:
            return None
        if interface.kind == "bridge":
            return Place(self._bridge(interface))
        known = self._segments.get(("cable", interface.index))
        if interface.kind == "macvlan":
            known = self._segments.get(("card", interface.peer))
        if known is not None:
            return Place(known)
        if interface.kind in _OUTWARD or interface.master is not None:
            return None
        if interface.kind != "veth":
            return Place(self._tunnels())
        if not interface.peer_here:
            taken = self._cables.are_taken(interface)
            return Place(Segment(interface.name) if taken else self._unread(HOST, interface))
        return self._into_bridge(interface)

    def _into_bridge(self, interface: Interface) -> Place | None:
        """Return where one of two of the host's interfaces is, the other of which is a port of a bridge."""
        other = self._host.get(interface.peer) if interface.peer is not None else None
        bridge = self._master(other) if other is not None and other.up else None
        if bridge is None:
            return None
        segment = Segment(interface.name)
        self._joints.append((segment, self._bridge(bridge)))
        return Place(segment)

    # --- Segments ---

    def join(self, one: Segment, other: Segment) -> None:
        """Connect two segments by a way that is not followed: who asks on one may be answered on the other."""
        if one is not other:
            self._joints.append((one, other))

    def settle(self) -> None:
        """Join what is connected by ways that are not followed, when all interfaces have been placed."""
        strange: dict[int, list[Interface]] = defaultdict(list)
        for interface in self._host.values():
            bridge = self._master(interface)
            if bridge is not None and interface.up:
                self._joined_by(interface, bridge, strange)
        bridges = [each for each in self._segments.values() if each.bridge is not None]
        unknown = [port for segment in bridges for port in self._of_nobody(segment, strange)]
        self._lead_out(unknown)
        for segment in bridges:
            if segment.name == GATEWAY_BRIDGE and any(self._master(port) is segment.bridge for port in unknown):
                segment.tasks = self._tasks
        for key, segment in [*self._segments.items()]:
            card = self._host.get(key[1]) if isinstance(key, tuple) and key[0] == "card" else None
            if card is not None and card.kind == "bridge":
                self._joints.append((segment, self._bridge(card)))
        for segments in _connected(self._joints):
            if len(segments) > 1:
                everyone = _standing_for(segments)
                for segment in segments:
                    segment.joined = everyone

    def _lead_out(self, ports: Sequence[Interface]) -> None:
        """Connect the ends of cables into namespaces that nobody knows, those on bridges being these ports.

        Each such namespace may be a bridge or a router. Whether a container's cable leads into the same one as another
        cable is not known: everybody counts namespaces by himself. That to which the host's default route leads is
        outside: nothing comes back from there.
        """
        led: list[tuple[Segment, Segment]] = [(self._tapped[0], each) for each in self._tapped]
        several = {port.index for port in together(ports)}
        for port in ports:
            bridge, near = self._master(port), port.peer_namespace not in self._outside
            if bridge is not None:
                joint = self._bridge(bridge), self._unread(HOST, port)
                led += [joint] if near else []
                self._joints += [joint] if port.index in several or (near and self._loose) else []
        keys = [key for key in self._segments if isinstance(key, tuple) and key[:2] == ("unread", HOST)]
        own = [self._segments[key] for key in keys if key[2] not in self._outside]
        led += ((segment, segment) for segment in own)
        anywhere = [(self._loose[0], segment) for segment in (*self._loose, *own)] if self._loose else []
        self._joints += anywhere
        for segments in _connected((*led, *anywhere)):
            everyone = _standing_for(segments)
            for segment in segments:
                segment.outside = everyone

    def _joined_by(self, port: Interface, bridge: Interface, strange: dict[int, list[Interface]]) -> None:
        """Note what a port of a bridge joins it to, or that it is strange: nobody is known to be behind it."""
        if port.kind == "veth" and not port.peer_here:
            if not self._cables.are_taken(port):
                strange[bridge.index].append(port)
        elif port.kind == "veth":
            other = self._host.get(port.peer) if port.peer is not None else None
            beyond = self._master(other) if other is not None and other.up else None
            if beyond is not None:
                self._joints.append((self._bridge(bridge), self._bridge(beyond)))
        elif port.kind not in _OUTWARD:
            self._joints.append((self._bridge(bridge), self._tunnels()))
            self._tapped += [self._bridge(bridge)] if port.kind == TAP else []

    def _of_nobody(self, segment: Segment, strange: Mapping[int, Sequence[Interface]]) -> Sequence[Interface]:
        """Return the strange ports of a bridge, if they are more than those of containers that were not read."""
        ports = strange.get(segment.bridge.index, ()) if segment.bridge is not None else ()
        segment.unplaced = frozenset(each.port for each in ports if each.port is not None and each.port not in PASSING)
        waiting = sum(station.interface.kind == "" and station.port is None for station in segment.stations)
        return ports if len(ports) > waiting else ()

    def _master(self, interface: Interface) -> Interface | None:
        """Return the bridge that one of the host's interfaces is a port of."""
        master = self._host.get(interface.master) if interface.master is not None else None
        return master if master is not None and master.kind == "bridge" else None

    def _bridge(self, bridge: Interface) -> Segment:
        segment = self._at(("bridge", bridge.index), bridge.name)
        if segment.ports is None:
            segment.bridge, segment.ports = bridge, Ports(bridge, self._known)
        return segment

    def _card(self, card: Interface) -> Segment:
        segment = self._at(("card", card.index), card.name)
        segment.card = card
        return segment

    def _tunnels(self) -> Segment:
        return self._at("tunnels", "tunnels", unseen=True)

    def _unread(self, name: str, interface: Interface) -> Segment:
        """Return the segment that stands for a namespace which was not read, as one that has a cable to it names it."""
        return self._at(("unread", name, interface.peer_namespace), interface.name, unseen=True)

    def _at(self, key: Hashable, name: str, *, unseen: bool = False) -> Segment:
        found = self._segments.get(key)
        if found is None:
            found = self._segments[key] = Segment(name, unseen=unseen)
        return found


class Cables:
    """Who has the other ends of the cables of a host and of its sandboxes, given the namespaces of these by id.

    Both ends of a cable are told by index, for one alone may be taken in several namespaces; and so may be both, where
    it was not found out which namespace they lead into. An interface that is down is no station, and its cable is not
    free for somebody else.
    """

    def __init__(self, host: Namespace, inside: Mapping[str, Namespace]) -> None:
        self._host = host
        self._inside = inside
        self._ends: dict[tuple[int, int | None], list[str]] = {}
        self._found_out = False
        for name, namespace in inside.items():
            for card in namespace.interfaces.values():
                if card.kind == "veth" and not card.peer_here:
                    self._ends.setdefault((card.index, card.peer), []).append(name)
                    self._found_out = self._found_out or card.peer_inode is not None

    def are_taken(self, port: Interface) -> bool:
        """Return whether a sandbox may have the other end of one of the host's cables."""
        if (port.peer or 0, port.index) not in self._ends:
            return False
        return not (self._found_out or port.peer_inode is not None) or bool(self.others(HOST, port))

    def others(self, name: str, end: Interface) -> list[str]:
        """Return the sandboxes that may have the other end of a namespace's cable."""
        told = self._ends.get((end.peer or 0, end.index), ())
        return [other for other in told if other != name and self._may_meet(name, end, other)]

    def is_between(self, name: str, end: Interface, other: str) -> bool:
        """Return whether none but a namespace may have the one end of a cable whose other end another one may have."""
        return self.others(other, self._inside[other].interfaces[end.peer or 0]) == [name]

    def _may_meet(self, name: str, end: Interface, other: str) -> bool:
        """Return whether nothing speaks against it that was found out."""
        if end.peer_inode is not None:
            return end.peer_inode == self._inside[other].inode
        own = self._host if name == HOST else self._inside[name]
        return self._inside[other].interfaces[end.peer or 0].peer_inode in (None, own.inode)


def is_plugged(host: Namespace, namespace: Namespace, card: Interface) -> bool:
    """Return whether an interface of a namespace is the other end of one of the host's, as both tell by their indexes.

    That of a cable into another namespace may have the index that a card of the host has. Unless it was found out which
    namespace that is, it is told by the number by which the namespace knows the host, that of its cables to bridges
    there.
    """
    if card.peer_inode is not None and card.peer_inode != host.inode:
        return False
    return _is_plugged(host.interfaces, namespace, card)


def _is_plugged(host: Mapping[int, Interface], namespace: Namespace, card: Interface) -> bool:
    if not _name_each_other(host, card):
        return False
    if card.peer_inode is not None or card.peer_namespace is None or host[card.peer or 0].master is not None:
        return True
    others = (each for each in namespace.interfaces.values() if _name_each_other(host, each))
    numbers = {each.peer_namespace for each in others if host[each.peer or 0].master is not None}
    return not numbers or card.peer_namespace in numbers


def _name_each_other(host: Mapping[int, Interface], card: Interface) -> bool:
    end = host.get(card.peer or 0)
    return (
        end is not None
        and not card.peer_here
        and (card.kind, end.kind) == ("veth", "veth")
        and (end.peer, end.peer_here) == (card.index, False)
    )


def _led_out_of(host: Namespace) -> Iterator[int]:
    """Yield the namespaces that the host's default routes lead into, by the host's number of them."""
    routes = (route for route in host.routes if route.table == MAIN_TABLE and not route.destination.prefixlen)
    for card in (host.interfaces.get(hop.interface) for route in routes for hop in route.hops):
        if card is not None and card.peer_namespace is not None:
            yield card.peer_namespace


def together(ports: Sequence[Interface]) -> list[Interface]:
    """Return the ports that lead into a namespace which another one of them leads into as well: it may be a router."""
    counted = Counter(port.peer_namespace for port in ports)
    return [port for port in ports if counted[port.peer_namespace] > 1]


def _connected(joints: Iterable[tuple[Segment, Segment]]) -> Iterator[list[Segment]]:
    """Yield the segments that joints connect, by way of others as well."""
    beside: dict[Segment, list[Segment]] = defaultdict(list)
    for one, other in joints:
        beside[one].append(other)
        beside[other].append(one)
    seen: set[Segment] = set()
    for first in beside:
        found, waiting = [], [first]
        while waiting:
            segment = waiting.pop()
            if segment not in seen:
                seen.add(segment)
                found.append(segment)
                waiting += beside[segment]
        if found:
            yield found


def _standing_for(segments: Sequence[Segment]) -> Segment:
    """Return a segment that whoever is on one of these is on."""
    everyone = Segment(segments[0].name, unseen=any(segment.unseen for segment in segments))
    everyone.stations += (station for segment in segments for station in segment.stations)
    return everyone
