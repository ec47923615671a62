"""Whether a sender learns the link address of a neighbour: the question and its answer meet rules as well.

IPv6 asks by ICMPv6, which the hooks of IP see, IPv4 by ARP, which tables of family arp see. Both are frames like any
other to bridges and at single interfaces, but that questions are for all or a group. Who has a fixed link address for
the neighbour asks nobody; an interface without ARP neither asks nor learns.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING

from exporter.evaluate.enforced.flight import ARP, ARP_REPLY, ARP_REQUEST, ICMP6, Conversation, Ends, Flight, Stage
from exporter.evaluate.enforced.frames import past_bridge, past_gates
from exporter.evaluate.enforced.hooks import marked_by
from exporter.evaluate.enforced.ipsec import past_policies
from exporter.evaluate.enforced.packets import UNTOLD, Column, parts
from exporter.evaluate.enforced.passing import Passing
from exporter.evaluate.enforced.ports import Frame, answered_for, usual
from exporter.evaluate.enforced.route_table import NOBODYS_SOCKET, Question
from exporter.evaluate.enforced.segments import answers_as_own, hears, is_group, link_address
from exporter.evaluate.enforced.sight import Sight
from exporter.evaluate.enforced.walk import LEARNED
from exporter.model.addresses import is_link_local
from exporter.model.firewall import CtState, Field, Hook, PacketType
from exporter.model.namespace import Direction, Scope

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from exporter.evaluate.enforced.flight import Value
    from exporter.evaluate.enforced.segments import Station
    from exporter.evaluate.enforced.world import World
    from exporter.model.namespace import Interface

ANSWERED = "what bridge {name} answers in the place of those who are asked"
FIXED = "whose the link address is that is fixed for {address}"

_ROUTER_SOLICITATION, _SOLICITATION, _ADVERTISEMENT = 133, 135, 136
_ALL_ROUTERS = int(ip_address("ff02::2"))
_SOLICITED_NODE = int(ip_address("ff02::1:ff00:0"))
_EVERYBODY, _GROUP = 0xFFFFFFFFFFFF, 0x333300000000
_GROUPS = {Frame.ALL: PacketType.BROADCAST, Frame.GROUP: PacketType.MULTICAST}
_SIGHT = Sight(Conversation(Stage.FIRST))


@dataclass(frozen=True, slots=True)
class Asking:
    """A station that looks for the owner of an address, and the one that answers."""

    sender: Station
    receiver: Station
    target: int


def resolved(world: World, asking: Asking, passing: Passing) -> tuple[int, dict[str, int]]:
    """Return the packets whose sender has the receiver's link address, and doubts about that."""
    sender, receiver = asking.sender, asking.receiver
    fixed = sender.stack.fixed(sender.interface, asking.target)
    if fixed is not None:
        doubt = _of_fixed(asking, fixed)
        return passing.cells, {doubt: passing.cells} if doubt else {}
    if not hindered(world, asking):
        return passing.cells, {}
    cells, doubts = _asked(world, asking, passing)
    if answered_for(sender.port, receiver.port) and (
        cells != passing.cells
        or world.host.fixed(_bridge_of(asking), asking.target) is not None
        # where the receiver answers for somebody else, the bridge may tell of that one himself
        or asking.target not in receiver.stack.addresses
    ):
        name = ANSWERED.format(name=_bridge_of(asking).name)
        return passing.cells, {**doubts, name: passing.cells}
    return cells, doubts


def _asked(world: World, asking: Asking, passing: Passing) -> tuple[int, dict[str, int]]:
    there = _Way(world, asking.sender, asking.receiver)
    back = _Way(world, asking.receiver, asking.sender)
    asks = _asks_from(asking, passing)
    asked, first = there.past(passing.cells, _question(asking.sender, asks, asking.target), question=True)
    cells, second = back.past(_answered(asking, asks, asked), _answer(asking, asks))
    doubts = {**first.doubted(second.doubts).doubts}
    lost = passing.cells & ~cells
    for message in _told_before(asking) if lost else ():
        learned, third = back.past(lost, message, question=True)
        cells |= learned
        doubts = {**third.doubted({**doubts, LEARNED: doubts.get(LEARNED, 0) | learned}).doubts}
    return cells, {name: doubted & cells for name, doubted in doubts.items() if doubted & cells}


def hindered(world: World, asking: Asking) -> bool:
    """Return whether anything on the way, or at its end, could keep a message back."""
    ends = (asking.sender.stack, asking.receiver.stack)
    bridge, card = asking.sender.segment.bridge, asking.sender.segment.card
    met = ends if bridge is None and card is None else (*ends, world.host)
    if any(not (stack.bridging.idle and stack.gates.idle) for stack in met):
        return True
    if any(stack.family == 6 and stack.policies for stack in ends):
        return True
    crossed = bridge is not None and world.host not in ends and world.host.calls_resolving(bridge)
    if any(not stack.resolving.idle for stack in (met if crossed else ends)):
        return True
    if not asking.sender.is_bridge and asking.sender.segment.is_taken(asking.sender.interface.mac):
        return True
    if asking.sender.segment.ports is not None and asking.sender.segment.ports.told:
        return True
    filtering = bridge is not None and bridge.bridge is not None and bridge.bridge.vlan_filtering
    ports = [station.port.port for station in (asking.sender, asking.receiver) if station.port is not None]
    return filtering or not all(map(usual, ports)) or asking.receiver.stack.reluctant(asking.receiver.interface)


def _answered(asking: Asking, asks: Value, asked: int) -> int:
    """Return the questions, of those that arrived, whose answers are sent to the asker."""
    answers: Callable[[int], bool] = _arp_answers(asking) if asking.sender.stack.family == 4 else _nd_answers(asking)
    found = 0
    for source, cells in parts(asks, asked):
        found |= cells if answers(int(source)) else 0
    return found


def _arp_answers(asking: Asking) -> Callable[[int], bool]:
    """Return whether a question by ARP from an address is answered (arp_rcv, arp_ignore, arp_filter).

    Both settings are for addresses of the namespace itself. The answer goes to where the question came from.
    """
    receiver, target = asking.receiver, asking.target
    stack, interface = receiver.stack, receiver.interface
    own = answers_as_own(receiver, target, asking.sender)
    level = stack.either(interface.name, "arp_ignore") if own else 0
    filters = own and bool(stack.either(interface.name, "arp_filter"))
    near = [item.network for item in interface.addresses if item.version == 4 and int(item.ip) == target]

    def answers(source: int) -> bool:
        if not interface.arp or level == _NEVER:
            return False
        if level == _NEAR and not any(ip_address(source) in network for network in near):
            return False
        route, _ = stack.routing.lookup(Question(source, target, user=NOBODYS_SOCKET)) if filters else (None, "")
        return not filters or (route is not None and stack.routing.leaves_by(route, interface.name))

    return answers


_NEAR, _NEVER = 2, 8
"""Levels of arp_ignore: for whoever is in the same subnet, and for nobody."""


def _nd_answers(asking: Asking) -> Callable[[int], bool]:
    """Return whether a solicitation from an address is answered to who sent it: that goes by the receiver's neighbours.

    ndisc_recv_ns notes the asker's link address, unless that is fixed or the interface resolves none.
    """
    sender, receiver = asking.sender.interface, asking.receiver.interface
    stack = asking.receiver.stack

    def answers(source: int) -> bool:
        fixed = stack.fixed(receiver, source)
        if fixed is None:
            return receiver.arp
        return fixed == sender.mac or not sender.mac or is_group(fixed)

    return answers


def _told_before(asking: Asking) -> Iterator[Flight]:
    """Yield messages by which the receiver may have told its link address, which is kept for a while.

    Whoever is asked learns the asker's from the question; who passes on packets of IPv6 that of whoever looks for a
    router, which all others do again and again (ndisc_recv_rs, addrconf_rs_timer).
    """
    sender = asking.sender
    if _asks_back(asking):
        yield _question(asking.receiver, asking.target, 0)
    if is_link_local(asking.target) and sender.stack.conf(sender.interface.name, "forwarding"):
        yield Flight(ICMP6, Ends(asking.target, None, _ALL_ROUTERS, None), icmp_type=_ROUTER_SOLICITATION)


def _asks_back(asking: Asking) -> bool:
    """Return whether a station may have told its link address by a question of its own to the one that looks for it.

    Of ARP any question does, whoever it is for and whether it is answered: it goes to all, and who is looking for its
    sender just then learns from it (arp_process). Those of neighbour discovery are for who is asked. Either asks from
    an address of its own: whoever answers in the place of another is not known by that.
    """
    sender, receiver = asking.sender, asking.receiver
    if not receiver.interface.arp or asking.target not in receiver.stack.addresses:
        return False
    own = {int(item.ip) for item in sender.interface.addresses if item.version == 6}
    return sender.stack.family == 4 or not own <= receiver.stack.fixes_at(receiver.interface)


def _of_fixed(asking: Asking, mac: str) -> str:
    """Return what is not known of packets to a link address that somebody fixed.

    Whoever was not asked may not have sent anything that the bridge learned by.
    """
    receiver, ports = asking.receiver, asking.sender.segment.ports
    if is_group(mac) or asking.sender.interface.kind == "ipvlan" or not receiver.interface.mac:
        return FIXED.format(address=_text(asking.target, receiver.stack.family))
    if receiver.port is None or ports is None:
        return ""
    return ports.leads_to(receiver.port, receiver.interface.mac, silent=True)[1]


def _bridge_of(asking: Asking) -> Interface:
    return asking.sender.segment.bridge or asking.receiver.interface


def _text(address: int, family: int) -> str:
    return str(ip_address(address.to_bytes(4 if family == 4 else 16)))


def _question(asker: Station, source: Value, target: int) -> Flight:
    if asker.stack.family == 4:
        return Flight(ARP, Ends(source, None, target or UNTOLD, None), icmp_type=ARP_REQUEST)
    solicited = _SOLICITED_NODE | (target & 0xFFFFFF)
    return Flight(ICMP6, Ends(source, None, solicited, None), icmp_type=_SOLICITATION)


def _answer(asking: Asking, asks: Value) -> Flight:
    if asking.sender.stack.family == 4:
        return Flight(ARP, Ends(asking.target, None, asks, None), icmp_type=ARP_REPLY)
    return Flight(ICMP6, Ends(_answers_from(asking, asks), None, asks, None), icmp_type=_ADVERTISEMENT)


def _answers_from(asking: Asking, asks: Value) -> Value:
    """Return the address that an answer comes from (ndisc_send_na): the one asked for, where that is the receiver's.

    Else, as where he shares it with others or answers in the place of another, the one that suits who asks.
    """
    stack, interface = asking.receiver.stack, asking.receiver.interface
    if asking.target in stack.addresses:
        return asking.target
    chosen: dict[int | str, int] = defaultdict(int)
    for source, cells in parts(asks, -1):
        chosen[stack.source_for(interface.index, int(source)) or 0] |= cells
    return Column(chosen)


def _asks_from(asking: Asking, passing: Passing) -> Value:
    """Return the address that a question comes from (arp_solicit, ndisc_solicit).

    The packets' own source where that is the sender's, of IPv6 on that very interface; else the one that it sends from
    to the address that it looks for, of IPv6 its link-local one.
    """
    sender = asking.sender
    source = passing.flight.ends.source
    values = source.values if isinstance(source, Column) else {source: -1}
    if sender.stack.family == 4:
        if all(value in sender.stack.addresses for value in values):
            return source
        return sender.stack.source_for(sender.interface.index, asking.target, Scope.LINK) or 0
    own = {int(item.ip) for item in sender.interface.addresses if item.version == 6}
    if all(value in own for value in values):
        return source
    links = (int(item.ip) for item in sender.interface.addresses if item.version == 6 and item.is_link_local)
    return next(links, int(ip_address("fe80::1")))


@dataclass(frozen=True, slots=True)
class _Way:
    """The way of a message from one station to another, by a bridge of the host or by a cable."""

    world: World
    one: Station
    other: Station

    @property
    def bridge(self) -> Interface | None:
        return self.one.segment.bridge

    def past(self, cells: int, message: Flight, *, question: bool = False) -> tuple[int, Flight]:
        """Return the messages of some cells that arrive: questions to all (ARP) or a group, answers to the asker."""
        spread = Frame.GROUP if self.one.stack.family == 6 else Frame.ALL
        heard, doubt = hears(self.one, self.other, spread if question else Frame.ONE)
        if not heard:
            return 0, message
        message = message.doubted({doubt: cells} if doubt else {})
        mac, frame_for = link_address(self.one.interface), self._framed_for(message, question=question)
        passing = Passing(self.one.stack, cells, message, message.ends, untracked=cells)
        if message.protocol == ARP:
            passing = passing._replace(mac=mac, frame_for=frame_for)
        passing = _past_policies(passing, Direction.OUT)
        passing = _through(passing._replace(output=self.one.interface.name), Hook.OUTPUT)
        # ndisc_alloc_skb names the interface already, which ip6_output takes for the one that it came in by
        passing = _through(passing._replace(interface=self.one.interface.name), Hook.POSTROUTING)
        passing = passing._replace(interface="")
        # the header of the link is there from here on
        passing = passing._replace(mac=mac, frame_for=frame_for)
        passing = _gated(passing, Hook.EGRESS, self.one.interface.name)
        kind = _GROUPS[spread] if question else PacketType.HOST
        if self.bridge is not None:
            passing = self._by_bridge(self.bridge, passing, kind)
        elif self.one.segment.card is not None and not question:
            # questions go from child to child of a card, past that (macvlan_broadcast)
            framed = passing._replace(stack=self.world.host, packet_type=PacketType.OTHER)
            passing = _gated(framed, Hook.INGRESS, self.one.segment.card.name)
        passing = passing._replace(
            stack=self.other.stack, output="", interface=self.other.interface.name, packet_type=kind, mark=0
        )
        passing = _gated(passing, Hook.INGRESS, self.other.interface.name)
        if self.bridge is not None and self.other.stack is self.world.host:
            port = _port(self.one)
            passing = _bridged(passing, (Hook.PREROUTING, Hook.INPUT), port, "", None)
            # physdev sees a port where br_netfilter kept it
            passing = passing._replace(port=port if self.world.host.calls_resolving(self.bridge) else "")
        passing = _through(passing, Hook.PREROUTING, Hook.INPUT)
        passing = _past_policies(passing, Direction.IN)
        return passing.cells, passing.flight

    def _framed_for(self, message: Flight, *, question: bool) -> int | None:
        """Return whose link address a message is for: everybody's, a group's (ipv6_eth_mc_map), or the asker's."""
        if not question:
            return link_address(self.other.interface)
        group = message.ends.destination
        return _EVERYBODY if message.protocol == ARP or isinstance(group, Column) else _GROUP | group & 0xFFFFFFFF

    def _by_bridge(self, bridge: Interface, passing: Passing, kind: PacketType) -> Passing:
        host, entering, leaving = self.world.host, _port(self.one), _port(self.other)
        passing = passing._replace(stack=host, mark=passing.mark if self.one.stack is host else 0)
        if self.one.stack is host:
            passing = _bridged(passing, (Hook.OUTPUT, Hook.POSTROUTING), "", leaving, bridge)
            return _gated(passing, Hook.EGRESS, leaving)
        passing = passing._replace(packet_type=kind or PacketType.OTHER)
        passing = _gated(passing, Hook.INGRESS, entering)
        if self.other.stack is host:
            return passing
        passing = _bridged(passing, (Hook.PREROUTING,), entering, leaving, bridge)
        if host.calls_resolving(bridge):
            passing = _through(passing._replace(interface=bridge.name, port=entering, output=""), Hook.PREROUTING)
            passing = _through(passing._replace(output=bridge.name, output_port=leaving), Hook.FORWARD)
            passing = _through(passing._replace(interface=""), Hook.POSTROUTING)
            passing = passing._replace(port="", output_port="")
        passing = _bridged(passing, (Hook.FORWARD, Hook.POSTROUTING), entering, leaving, bridge)
        return _gated(passing, Hook.EGRESS, leaving)


def _port(station: Station) -> str:
    return station.port.name if station.port else ""


def _through(passing: Passing, *hooks: Hook) -> Passing:
    """Lead messages through hooks that see them. Conntrack leaves them alone."""
    stack = passing.stack
    for hook in hooks:
        chains = [chain for chain in stack.resolving.chains(hook) if chain.base.kind != "nat"]
        if chains and passing.cells:
            packets = _SIGHT.packets(passing)
            packets.fields[Field.CT_STATE] = int(CtState.UNTRACKED)
            if hook is Hook.OUTPUT:
                # what ARP writes into the frame is there, and its header out of sight (skb_mac_header_was_set)
                packets.fields.pop(Field.SOURCE_MAC, None)
                packets.fields.pop(Field.DESTINATION_MAC, None)
            outcome = stack.walker.through(chains, packets, passing.cells)
            marked = marked_by(passing, packets)
            passing = marked._replace(cells=outcome.accepted, flight=passing.flight.doubted(outcome.doubts))
    return passing


def _past_policies(passing: Passing, direction: Direction) -> Passing:
    """Lead messages past policies of IPsec, which ARP meets none of (icmp6_dst_alloc, icmpv6_rcv)."""
    return past_policies(passing, direction) if passing.stack.family == 6 else passing


def _gated(passing: Passing, hook: Hook, interface: str) -> Passing:
    return past_gates(_SIGHT, hook, interface, passing)


def _bridged(
    passing: Passing, hooks: tuple[Hook, ...], entering: str, leaving: str, bridge: Interface | None
) -> Passing:
    for hook in hooks:
        passing = past_bridge(_SIGHT, hook, passing, entering, leaving, bridge)
    return passing
