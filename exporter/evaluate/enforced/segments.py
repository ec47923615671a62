"""Interfaces that hear each other's frames, and who of them answers for an address."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from exporter.evaluate.enforced.ports import Frame
from exporter.evaluate.enforced.route_table import NOBODYS_SOCKET, Question
from exporter.evaluate.enforced.way import way
from exporter.model.namespace import Port, Scope
from exporter.model.snapshot import GATEWAY_BRIDGE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from exporter.evaluate.enforced.ports import Ports
    from exporter.evaluate.enforced.route_table import Way
    from exporter.evaluate.enforced.stack import Stack
    from exporter.model.namespace import Interface
    from exporter.model.snapshot import Network

HIDDEN = f"which address on {GATEWAY_BRIDGE} a container has whose namespace was not read"

PASSING = (Port(), Port(hairpin=True))
"""Ports of bridges that pass everything: it does not matter who has which."""

_VEPA = "{driver} in mode vepa: the switch outside decides whether frames come back"
_UNPLACED = "which port of bridge {name} a container has whose namespace was not read"
_PLUGIN = "what a network of driver {driver!r} lets through"
BEYOND = "what {name} is connected to"
TWICE = "behind which port bridge {name} looks for a link address that two have"
TWO_ANSWER = "two that answer for {address}"
PROXY_ANSWERS = "whether an owner or a proxy answers first"


def is_hidden(interface: Interface) -> bool:
    """Return whether an interface stands for an endpoint on docker_gwbridge that nobody knows the address of."""
    return interface.kind == "" and interface.name == GATEWAY_BRIDGE


def link_address(interface: Interface) -> int | None:
    """Return the number of an interface's link address, if that is known."""
    return number_of(interface.mac)


def number_of(mac: str) -> int | None:
    """Return the number of a link address, None of none."""
    return int(mac.replace(":", ""), 16) if mac else None


@dataclass(eq=False, slots=True)
class Station:
    """An interface of a namespace on a segment; `port` is the host's end of it, where it is a port of a bridge."""

    stack: Stack
    interface: Interface
    segment: Segment
    port: Interface | None = None
    network: Network | None = None

    def __repr__(self) -> str:
        return f"Station({self.stack.name!r}, {self.interface.name!r})"

    @property
    def child(self) -> tuple[str, str]:
        """The kind of child of a card that this is, and how that passes frames to other ones; empty strings for none.

        Where the namespace was not read, it is what the engine makes for the network.
        """
        interface, network = self.interface, self.network
        if interface.kind == "macvlan":
            return "macvlan", interface.mode
        if interface.kind == "ipvlan":
            return "ipvlan", interface.flag or "bridge"
        if interface.kind == "" and network is not None and network.driver in ("macvlan", "ipvlan"):
            return network.driver, network.mode if network.driver == "macvlan" else network.flag
        return "", ""

    @property
    def is_bridge(self) -> bool:
        """Whether it is the host's own interface on a bridge."""
        return self.interface is self.segment.bridge


@dataclass(eq=False, slots=True)
class Segment:
    """Interfaces that hear each other's frames: the ports of a bridge, the children of a card, the ends of a cable.

    `bridge` is the host's own interface on it, where it is a bridge, and `ports` is what its ports do; `unplaced` are
    those that do not pass everything and that nobody is known to have. `card` is the host's interface whose children
    of kind macvlan these are. Of an `unseen` one nobody can tell who hears
    whom: it stands for tunnels, or for a namespace that was not read. `joined` stands for all others that frames may
    come to by ways that are not followed, and itself: whoever is on one of them is on that. `outside` stands for
    all segments that those have cables to whom nobody knows and who have one to this: they may be routers. `tasks` is
    that of the network `ingress`, where the namespace which swarm shares out services in has a port and was not read.
    """

    name: str
    bridge: Interface | None = None
    ports: Ports | None = None
    card: Interface | None = None
    unplaced: frozenset[Port] = frozenset()
    unseen: bool = False
    joined: Segment | None = None
    outside: Segment | None = None
    tasks: Segment | None = None
    stations: list[Station] = field(default_factory=list)
    _answering: dict[int, list[Station]] | None = None
    _proxying: list[Station] | None = None
    _shared: frozenset[str] | None = None
    _taken: frozenset[str] | None = None

    def answering(self, address: int, asker: Station) -> list[Station]:
        """Return who gets what the asker sends to the owner of an address: who answers for it.

        For IPv4 every address of a namespace is answered for on each of its interfaces, unless arp_ignore is set; for
        IPv6 only the interface's own. Nobody is asked where the asker has a fixed link address; ipvlan has none of its
        own, and finds its children by their addresses. Nor is anybody asked by an interface without ARP, which sends
        to its own link address (arp_constructor, ndisc_constructor); a tunnel leads somewhere all the same. Who answers
        on the segment itself does so before his answer from a joined one is there.
        """
        fixed = asker.stack.fixed(asker.interface, address)
        if fixed is not None and asker.interface.kind != "ipvlan":
            found = [station for station in self.widely.stations if _at(fixed, address, asker, station)]
        elif not (asker.interface.arp or self.unseen):
            found = []
        else:
            found = self.answerers(address, asker)
            near = {station.stack for station in found}
            further = self.joined.answerers(address, asker) if self.joined is not None else ()
            found += [station for station in further if station.stack not in near]
        return [station for station in found if station.stack is not asker.stack]

    def routed_to(self, destination: int, asker: Station) -> list[Station]:
        """Return who may get packets by a router that is not seen, where nobody else answers for the next hop."""
        if not self.widely.unseen:
            return []
        return [station for station in self.widely.owners.get(destination, ()) if station.stack is not asker.stack]

    def is_shared(self, mac: str) -> bool:
        """Return whether several ports lead to interfaces with a link address."""
        if self._shared is None:
            behind = {(each.interface.mac, each.port.index) for each in self.stations if each.port is not None}
            counted = Counter(mac for mac, _ in behind)
            self._shared = frozenset(mac for mac, count in counted.items() if count > 1)
        return bool(mac) and mac in self._shared

    def is_taken(self, mac: str) -> bool:
        """Return whether the bridge takes frames for a link address: it or one of its ports has that (BR_FDB_LOCAL)."""
        if self._taken is None:
            ports = (each.port.mac for each in self.stations if each.port is not None)
            self._taken = frozenset((self.bridge.mac, *ports)) if self.bridge is not None else frozenset()
        return bool(mac) and mac in self._taken

    def answerers(self, address: int, asker: Station) -> list[Station]:
        """Return who on the segment itself answers a question for an address."""
        owners = self.owners.get(address, ())
        others = (station for station in self._proxies if station not in owners)
        return [*owners, *(each for each in others if _lends(each, address, asker) or _proxies(each, address, asker))]

    @property
    def owners(self) -> Mapping[int, list[Station]]:
        """The stations on the segment by the addresses of their own that they answer for."""
        if self._answering is None:
            self._answering = defaultdict(list)
            for station in self.stations:
                for own in _answered(station):
                    self._answering[own].append(station)
        return self._answering

    @property
    def widely(self) -> Segment:
        """All that frames may come to: the segment itself, or what it is joined with."""
        return self if self.joined is None else self.joined

    @property
    def _proxies(self) -> list[Station]:
        if self._proxying is None:
            self._proxying = [station for station in self.stations if _may_lend(station) or _may_proxy(station)]
        return self._proxying


def asks(station: Station, address: int) -> bool:
    """Return whether a station looks for the owner of an address: it knows no fixed one, and may ask there."""
    return station.interface.arp and station.stack.fixed(station.interface, address) is None


def is_group(mac: str) -> bool:
    """Return whether a link address is that of a group, or of all (is_multicast_ether_addr)."""
    return bool(int(mac[:2] or "0", 16) & 1)


def _at(mac: str, address: int, asker: Station, station: Station) -> bool:
    """Return whether a station takes frames for a link address; one whose own is not known may, for its addresses.

    The host takes those for a bridge, and for the very port that they come in by (eth_type_trans).
    """
    own = station.interface
    if is_group(mac) or own.mac == mac:
        return True
    if not own.mac:
        return address in station.stack.addresses
    return station.is_bridge and asker.port is not None and asker.port.mac == mac


_IGNORES_OTHERS = (1, 2)
"""Levels of arp_ignore by which an interface answers for its own addresses alone; level 8, which answers for none at
all, is heeded where questions are followed (arp_ignore in net/ipv4/arp.c)."""


_CONFIRMING = (*_IGNORES_OTHERS, 3, 8)
"""Levels of arp_ignore by which nothing is answered for an address that no interface has."""


ROUTED_TUNNELS = frozenset({"tun", "wireguard", "gre", "ip6gre", "ipip", "ip6tnl", "sit", "vti", "vti6", "xfrm", "ppp"})
"""Kinds that have no link addresses. What they lead to is taken to have the addresses of its tunnel alone."""

_OF_NO_OTHERS = ROUTED_TUNNELS | {"ipvlan"}
"""Kinds by which nothing comes that is for an address which the interface has not."""


def _answered(station: Station) -> Iterable[int]:
    stack, interface = station.stack, station.interface
    index = interface.index
    picky = stack.either(interface.name, "arp_ignore") in (*_IGNORES_OTHERS, 8)
    widely = stack.family == 4 and not picky and interface.kind not in ROUTED_TUNNELS
    for address, interfaces in stack.reached_at.items():
        if address in stack.anycast and address not in stack.joined:
            continue
        if index in interfaces or (widely and not stack.is_loopback(address)):
            yield address


def answers_as_own(station: Station, address: int, asker: Station) -> bool:
    """Return whether a station answers for an address as its namespace's own."""
    return address in station.stack.reached_at or _lends(station, address, asker)


def _lends(station: Station, address: int, asker: Station) -> bool:
    """Return whether a namespace answers for an address that it has not and that a route leads to itself.

    ARP asks the routes (arp_process), and arp_ignore for an address that somebody has (inet_confirm_addr); neighbour
    discovery asks for that in any case.
    """
    stack = station.stack
    if not _may_lend(station) or address not in stack.lent:
        return False
    if address in stack.addresses or stack.is_loopback(address):
        return False
    return way(stack, _as_asked(station, address, asker)).local


def _as_asked(station: Station, address: int, asker: Station) -> Question:
    """Return what ARP asks the routes of the one who is asked: for a packet from the address that the question has."""
    source = asker.stack.source_for(asker.interface.index, address, Scope.LINK)
    return Question(address, source, station.interface.name, user=NOBODYS_SOCKET)


def _may_lend(station: Station) -> bool:
    stack, interface = station.stack, station.interface
    if stack.family == 6 or not stack.lent or not interface.arp or interface.kind in _OF_NO_OTHERS:
        return False
    return stack.either(interface.name, "arp_ignore") not in _CONFIRMING


def _may_proxy(station: Station) -> bool:
    stack, name = station.stack, station.interface.name
    if not station.interface.arp or not stack.conf(name, "forwarding"):
        return False
    if stack.family == 6:
        return bool(stack.proxied) and bool(stack.either(name, "proxy_ndp"))
    return bool(stack.proxied or stack.either(name, "proxy_arp") or stack.either(name, "proxy_arp_pvlan"))


def _proxies(station: Station, address: int, asker: Station) -> bool:
    """Return whether a namespace that passes packets on answers for an address that is not its own.

    Of IPv4 it asks its routes: what leads elsewhere is answered for with proxy_arp (arp_fwd_proxy) or where the address
    is listed, what leads back to the same link with proxy_arp_pvlan (arp_fwd_pvlan). Of IPv6 the address has to be
    listed (pndisc_is_router).
    """
    stack, interface = station.stack, station.interface
    listed = not stack.proxied.isdisjoint(((interface.index, address), (0, address)))
    if stack.family == 6:
        return listed
    found = way(stack, _as_asked(station, address, asker))
    if not found.exits:
        return False
    if found.exits[0].interface == interface.index:
        return bool(stack.either(interface.name, "proxy_arp_pvlan"))
    return listed or (bool(stack.either(interface.name, "proxy_arp")) and _on_another_medium(stack, interface, found))


def _on_another_medium(stack: Stack, interface: Interface, found: Way) -> bool:
    """Return whether what leads elsewhere is not on the medium of an interface: others hear it there themselves.

    arp_fwd_proxy: of those that have a number each is a medium, and by one with -1 nobody is answered for.
    """
    own = stack.conf(interface.name, "medium_id")
    other = stack.conf(stack.routing.names[found.exits[0].interface], "medium_id")
    return not own or (own != _NO_MEDIUM and other not in (own, _NO_MEDIUM))


_NO_MEDIUM = -1


def followed(sender: Station, receiver: Station) -> bool:
    """Return whether the way of frames from one station to another is known."""
    return sender.segment is receiver.segment and not sender.segment.unseen


def beyond(sender: Station) -> str:
    """Return what is not known of frames that leave what is seen."""
    segment = sender.segment
    return BEYOND.format(name=segment.name if segment.bridge is not None else sender.interface.name)


def hears(sender: Station, receiver: Station, frame: Frame = Frame.ONE) -> tuple[bool, str]:
    """Return whether frames pass from one station to another, and what is not known about it."""
    segment = sender.segment
    if not followed(sender, receiver):
        apart = _on_card(sender, receiver) or _on_card(receiver, sender)
        return (False, "") if apart else (True, beyond(sender))
    if segment.bridge is not None:
        if _may_be_at(segment.unplaced, sender, receiver):
            return True, _UNPLACED.format(name=segment.name)
        if is_hidden(sender.interface) or is_hidden(receiver.interface):
            return True, HIDDEN
        audible = _bridged(sender, receiver, segment.bridge)
        return _by_ports(sender, receiver, segment, frame) if audible else (False, "")
    (kind, way), (other_kind, other_way) = sender.child, receiver.child
    if "macvlan" in (kind, other_kind) or kind == other_kind == "ipvlan":
        if way == other_way == "vepa":
            return True, _VEPA.format(driver=kind)
        return way == other_way == "bridge", ""
    network = receiver.network
    if network is not None and network.driver not in ("bridge", "macvlan", "ipvlan", "overlay"):
        return True, _PLUGIN.format(driver=network.driver)
    return True, ""


def _on_card(child: Station, card: Station) -> bool:
    """Return whether a macvlan is one of a bridge's own interface: what that sends itself leaves by its ports alone."""
    return child.interface.kind == "macvlan" and card.is_bridge and child.interface.peer == card.interface.index


def _may_be_at(unplaced: frozenset[Port], sender: Station, receiver: Station) -> bool:
    """Return whether a stand-in may be at a port that keeps something from it. Isolated ports hear the host."""
    made = any(station.interface.kind == "" and station.port is None for station in (sender, receiver))
    containers = not (sender.is_bridge or receiver.is_bridge)
    return made and any(containers or replace(port, isolated=False) not in PASSING for port in unplaced)


def _bridged(sender: Station, receiver: Station, bridge: Interface) -> bool:
    ports = [station.port.port for station in (sender, receiver) if station.port is not None and station.port.port]
    if not all(port.forwarding for port in ports):
        return False
    if len(ports) == 2 and all(port.isolated for port in ports):
        return False
    if bridge.bridge is not None and bridge.bridge.vlan_filtering and len(ports) == 2:
        tag = ports[0].pvid
        return tag is not None and tag in ports[1].untagged
    return True


def _by_ports(sender: Station, receiver: Station, segment: Segment, frame: Frame) -> tuple[bool, str]:
    ports = segment.ports
    let_in, led = (True, ""), (True, "")
    if ports is not None and sender.port is not None:
        let_in = ports.lets_in(sender.port, sender.interface.mac)
    if ports is not None and receiver.port is not None:
        if frame is not Frame.ONE:
            led = ports.spreads_to(receiver.port, frame, own=sender.is_bridge)
        elif segment.is_shared(receiver.interface.mac) or segment.is_taken(receiver.interface.mac):
            led = True, TWICE.format(name=segment.name)
        else:
            led = ports.leads_to(receiver.port, receiver.interface.mac)
    elif ports is not None and frame is Frame.ONE:
        if not receiver.is_bridge:
            led = ports.moves(receiver.interface.mac)
        elif sender.port is not None:
            led = ports.leads_in(sender.port, receiver.interface.mac), ""
    return let_in[0] and led[0], let_in[1] or led[1]
