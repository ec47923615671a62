"""The way of packets from namespace to namespace, until they are delivered or lost."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from itertools import chain, takewhile
from typing import TYPE_CHECKING

from exporter.evaluate.enforced.bridging import Bridging, HandedUp
from exporter.evaluate.enforced.contest import shared_out
from exporter.evaluate.enforced.flight import TCP, Arrival, Crossing, Delivery, Departure, Stage
from exporter.evaluate.enforced.hops import hop_limit
from exporter.evaluate.enforced.ipsec import past_policies
from exporter.evaluate.enforced.obstacles import Obstacles
from exporter.evaluate.enforced.packets import UNTOLD, Column, parts
from exporter.evaluate.enforced.passing import Passing
from exporter.evaluate.enforced.redirects import decided, redirects
from exporter.evaluate.enforced.segments import asks, followed, link_address
from exporter.evaluate.enforced.unseen import Unseen
from exporter.evaluate.enforced.ways import led_back, ways
from exporter.model.addresses import is_link_local
from exporter.model.firewall import Hook, PacketType
from exporter.model.namespace import ENOUGH_HOPS, Direction

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator, Sequence

    from exporter.evaluate.enforced.flight import Conversation, Flight
    from exporter.evaluate.enforced.redirects import Redirect
    from exporter.evaluate.enforced.route_table import Exit
    from exporter.evaluate.enforced.segments import Station
    from exporter.evaluate.enforced.stack import Stack
    from exporter.evaluate.enforced.world import World
    from exporter.model.firewall import Divert

HOPS = ENOUGH_HOPS
"""Namespaces that packets are followed through; those that go on are lost in a circle."""

Moving = Departure | Arrival | Crossing


class Journey:
    """Moves packets of one stage of conversations through a world."""

    def __init__(self, world: World, conversation: Conversation, obstacles: Obstacles | None = None) -> None:
        self._world = world
        self._conversation = conversation
        self._obstacles = obstacles or Obstacles(world, conversation)
        self._unseen = Unseen(world, conversation.stage)
        self._bridging = Bridging(world, self._obstacles, self._unseen)
        self._told: list[Redirect] = []
        self._led_aside: dict[Hashable, int] = {}

    def deliveries(self, *moving: Moving) -> list[Delivery]:
        """Return where packets arrive."""
        delivered: list[Delivery] = []
        frontier: list[Moving] = list(moving)
        for _ in range(HOPS):
            following: list[Moving] = []
            for item in frontier:
                for result in chain(self._move(item), self._gone_aside()):
                    (delivered if isinstance(result, Delivery) else following).append(result)  # type: ignore[arg-type]
            frontier = following
            if not frontier:
                break
        return delivered

    def decided(self, delivered: list[Delivery]) -> list[Delivery]:
        """Return deliveries as they are where it is not known which way those who were told to go past routers take."""
        return decided(delivered, self._told) if self._told else delivered

    def begun(self, item: Departure) -> Iterator[Moving | Delivery]:
        """Yield what becomes of packets that set out, until another namespace has them."""
        return chain(self._depart(item), self._gone_aside())

    def _move(self, item: Moving) -> Iterator[Moving | Delivery]:
        match item:
            case Departure():
                yield from self._depart(item)
            case Arrival():
                yield from self._arrive(item)
            case Crossing():
                yield from self._cross(item)

    # --- Packets that a namespace sends ---

    def _depart(self, item: Departure) -> Iterator[Moving | Delivery]:
        """Lead packets through OUTPUT; they are routed again where that rewrote or marked them (ip_route_me_harder)."""
        passing = self._setting_out(item)
        found = ways(passing)
        # an answer from loopback has no way out, though OUTPUT would lead it back to who asked from another source
        found.keep_loopback_in(passing)
        leaving = found.cells
        outputs = [(found.local, "lo"), (leaving, found.output(item.stack) if leaving else "")]
        for cells, output in outputs:
            if cells:
                here = passing._replace(cells=cells, output=output)
                here = here if output == "lo" else past_policies(here, Direction.OUT)
                for out in self._obstacles.through(Hook.OUTPUT, here):
                    yield from self._send(out) if out.onward is None else self._sent_onward(out, out.onward)

    def _setting_out(self, item: Departure) -> Passing:
        """Return packets that a namespace sends, before its hooks.

        Sockets ask for a route before they have a source, and stay with that; of IPv4, those of TCP ask again with it
        (ip_route_connect). An answer comes from where the first packet was sent to.
        """
        asks_again = item.stack.family == 4 and item.flight.protocol == TCP
        unbound = self._conversation.stage in (Stage.FIRST, Stage.CONFIRMATION) and not asks_again
        cells = item.cells if unbound else _from_own(item)
        return Passing(
            item.stack, cells, item.flight, item.flight.ends, link=item.link, mark=item.mark, own=True, unbound=unbound
        )

    def _send(self, passing: Passing) -> Iterator[Moving | Delivery]:
        asked_by = passing.mark if passing.routed_mark is None else passing.routed_mark
        if passing.flight.ends is not passing.arrived or asked_by != 0:
            passing = passing._replace(unbound=False)
        found = ways(passing._replace(mark=asked_by))
        flight = passing.flight.doubted(found.doubts)
        found.keep_loopback_in(passing)
        if found.local:
            here = passing._replace(cells=found.local, flight=flight, output="lo")
            for out in self._obstacles.through(Hook.POSTROUTING, here):
                yield from self._loop(out)
        yield from self._leave(passing._replace(flight=flight), found.leaving)

    def _loop(self, passing: Passing) -> Iterator[Moving | Delivery]:
        """Take packets of a namespace to itself back in by its loopback."""
        lost = 0
        for destination, cells in parts(passing.flight.ends.destination, passing.cells):
            lost |= cells if passing.stack.loses_own(int(destination)) else 0
        kept = passing.cells & ~lost
        if not kept:
            return
        for sent in self._obstacles.past_gates(Hook.EGRESS, "lo", passing._replace(cells=kept)):
            looped = sent._replace(interface="lo", output="", settled=True, own=False)
            for back in self._obstacles.past_gates(Hook.INGRESS, "lo", looped):
                for inside in self._obstacles.through(Hook.PREROUTING, back):
                    yield from self._deliver(inside)

    def _leave(self, passing: Passing, leaving: dict[Exit, int]) -> Iterator[Moving]:
        """Lead packets through POSTROUTING and onto their links."""
        stack = passing.stack
        if stack.ruleset.idle:
            for way, cells in leaving.items():
                yield from self._launch(passing._replace(cells=cells & passing.cells), way)
            return
        outputs: dict[int | str, int] = {}
        next_hops: dict[int | str, int] = {}
        total = 0
        for way, cells in leaving.items():
            name = stack.routing.names[way.interface]
            outputs[name] = outputs.get(name, 0) | cells
            next_hops[way.towards] = next_hops.get(way.towards, 0) | cells
            total |= cells
        output = Column(outputs) if len(outputs) > 1 else str(next(iter(outputs), ""))
        here = passing._replace(cells=passing.cells & total, output=output, next_hop=Column(next_hops))
        if not here.cells:
            return
        for out in self._obstacles.through(Hook.POSTROUTING, here):
            # who was given another source is looked at again (nf_xfrm_me_harder)
            sent = past_policies(out, Direction.OUT)
            for way, cells in leaving.items():
                if sent.cells & cells:
                    yield from self._launch(sent._replace(cells=sent.cells & cells), way)

    def _launch(self, passing: Passing, way: Exit) -> Iterator[Moving]:
        """Find who answers for the next hop's address, and send the packets there."""
        stack = passing.stack
        sender = self._world.station(stack, way.interface)
        if sender is None or not passing.cells:
            return
        # whom the frame will be for is found out below; here rules see it already
        passing = passing._replace(mac=link_address(sender.interface), frame_for=UNTOLD)
        for sent in self._obstacles.past_gates(Hook.EGRESS, sender.interface.name, passing):
            flight = sent.flight
            if not stack.ruleset.idle:
                # conntrack saw them as they were before
                seen = passing._replace(cells=sent.cells)
                flight = replace(flight, passages=(*flight.passages, seen.passage()))
            if passing.own and stack.sends_near:
                hops = way.hops or hop_limit(stack.namespace, stack.family, sender.interface.name)
                flight = replace(flight, hops=hops)
            yield from self._hand_over(sender, sent._replace(flight=flight), way)

    def _hand_over(self, sender: Station, passing: Passing, way: Exit) -> Iterator[Moving]:
        world = self._world.resolving(way.towards)
        receivers = self._world.answering(sender.stack, way)
        taking = shared_out(self._world, self._obstacles, passing, sender, receivers, way.towards)
        for receiver, sent in taking:
            yield from self._frames(sender, receiver, sent, way)
        if not taking:
            known = asks(world.same(sender), way.towards)
            if known or sender.segment.unseen:
                yield from self._unseen.routed(sender, passing)
            else:
                mac, frame_for = link_address(sender.interface), self._world.framed_for(sender, sender, way.towards)
                yield from self._bridging.astray(sender, passing._replace(mac=mac, frame_for=frame_for))
            if not receivers:
                yield from self._unseen.led_on(sender, passing, way)
                yield from self._unseen.shared_out(sender, passing)

    def _frames(self, sender: Station, receiver: Station, passing: Passing, way: Exit) -> Iterator[Moving]:
        mac, frame_for = link_address(sender.interface), self._world.framed_for(sender, receiver, way.towards)
        if not followed(sender, receiver):
            name = receiver.interface.name
            yield Arrival(receiver.stack, passing.cells, passing.flight, name, mac=mac, frame_for=frame_for)
            return
        host = self._world.host
        bridge = sender.segment.bridge
        if bridge is not None and sender.stack is host:
            port = receiver.port.name if receiver.port else ""
            framed = passing._replace(mac=mac, frame_for=frame_for)
            for bridged in self._obstacles.past_bridge((Hook.OUTPUT, Hook.POSTROUTING), framed, "", port, bridge):
                for sent in self._obstacles.past_gates(Hook.EGRESS, port, bridged):
                    name = receiver.interface.name
                    yield Arrival(receiver.stack, sent.cells, sent.flight, name, "", mac, frame_for)
            return
        cells, flight = passing.cells, passing.flight
        if not cells:
            return
        if bridge is not None and host not in (sender.stack, receiver.stack):
            port = sender.port.name if sender.port else ""
            yield Crossing(bridge, cells, flight, port, mac, receiver, frame_for)
        else:
            port = sender.port.name if sender.port and receiver.stack is host else ""
            yield Arrival(receiver.stack, cells, flight, receiver.interface.name, port, mac, frame_for)

    # --- Packets that come in by a link ---

    def _arrive(self, item: Arrival) -> Iterator[Moving | Delivery]:
        called = self._meets_hooks_as_frames(item)
        hooks, early = ((Hook.PREROUTING,), True) if called else ((Hook.PREROUTING, Hook.INPUT), None)
        for passed in self._past_gates(item):
            for framed in self._obstacles.past_bridge(hooks, passed, item.port, "", None, early=early):
                yield from self._taken_in(item, framed, called=called)

    def _past_gates(self, item: Arrival) -> Iterable[Passing]:
        """Lead packets that come in past what stands at the interfaces that they come in by."""
        found = self._past_cards(item)
        if item.stack.gates.idle:
            return found
        for name, kind in ((item.port, _type_at_port(item)), (item.interface, PacketType.HOST)):
            framed = (each._replace(packet_type=kind) for each in found)
            found = [past for each in framed for past in self._obstacles.past_gates(Hook.INGRESS, name, each)]
        return found

    def _past_cards(self, item: Arrival) -> Iterable[Passing]:
        """Lead frames for children of a card past what stands there: they come in by that (macvlan_queue_xmit)."""
        host, stack = self._world.host, item.stack
        ends, mac, frame_for = item.flight.ends, item.mac, item.frame_for
        passing = Passing(stack, item.cells, item.flight, ends, item.interface, item.port, mac, frame_for)
        if host.gates.idle:
            return (passing,)
        cards: dict[int | str, int] = defaultdict(int)
        for name, cells in parts(item.interface, item.cells):
            station = self._world.station(stack, stack.by_name[str(name)].index)
            card = station.segment.card if station is not None else None
            cards[card.name if card is not None else ""] |= cells
        framed = passing._replace(stack=host, packet_type=PacketType.OTHER)
        passed = self._obstacles.past_gates(Hook.INGRESS, Column(cards), framed)
        return [each._replace(stack=stack, packet_type=passing.packet_type) for each in passed]

    def _taken_in(self, item: Arrival, passing: Passing, *, called: bool) -> Iterator[Moving | Delivery]:
        """Lead packets through PREROUTING as they are by now, and on."""
        stack, flight = passing.stack, passing.flight
        cells = self._obstacles.believed(stack, passing.cells, flight, item.interface)
        if not cells:
            return
        # physdev sees a port where br_netfilter kept it
        entering = passing._replace(cells=cells, arrived=flight.ends, port=item.port if called else "")
        for translated in self._obstacles.through(Hook.PREROUTING, entering):
            elsewhere = stack is self._world.host and translated.flight.ends.destination != flight.ends.destination
            framed: Sequence[Passing] = (translated,)
            if called:
                framed = self._obstacles.past_bridge((Hook.PREROUTING,), translated, item.port, "", None, early=False)
            for inside in framed:
                if elsewhere:
                    yield from self._rewritten(inside, item.port, called=called)
                else:
                    yield from self._handed_up(inside, item.port) if called else self._route(inside)

    def _handed_up(self, passing: Passing, port: str | Column) -> Iterator[Moving | Delivery]:
        """Lead frames of a bridge that br_netfilter has led through PREROUTING into the host: past the bridge's INPUT.

        br_nf_pre_routing_finish goes on with br_handle_frame_finish and br_pass_frame_up, so that INPUT sees what
        PREROUTING made of a destination. Without br_netfilter it comes first.
        """
        for taken in self._obstacles.past_bridge((Hook.INPUT,), passing, port, "", None):
            yield from self._route(taken)

    def _cross(self, item: Crossing) -> Iterator[Moving | Delivery]:
        """Pass frames on that cross a bridge of the host's."""
        yield from self._beyond(self._bridging.cross(item))

    def _beyond(self, results: Iterable[Arrival | HandedUp]) -> Iterator[Moving | Delivery]:
        """Take in those frames behind a bridge that are handed up to the host."""
        for result in results:
            if isinstance(result, HandedUp):
                yield from self._handed_up(result.passing, result.port)
            else:
                yield result

    def _rewritten(self, passing: Passing, port: str | Column, *, called: bool) -> Iterator[Moving | Delivery]:
        """Lead packets on that got another destination: on a bridge, br_netfilter may keep them frames."""
        routed = passing.cells
        leaving = ways(passing).leaving
        for name in {passing.stack.routing.names[way.interface] for way in leaving}:
            bridge = passing.stack.by_name[name]
            back = sum(cells for at, cells in parts(passing.interface, passing.cells) if at == name)
            if back and bridge.kind == "bridge" and passing.stack.calls_iptables(bridge):
                routed &= ~back
                yield from self._beyond(
                    self._bridging.redirected(bridge, port, passing._replace(cells=back, interface=name))
                )
        if routed:
            left = passing._replace(cells=routed)
            yield from self._handed_up(left, port) if called else self._route(left)

    def _meets_hooks_as_frames(self, item: Arrival) -> bool:
        """Return whether br_netfilter led them through PREROUTING, on their bridge."""
        stack = item.stack
        if isinstance(item.interface, Column):
            names = [stack.by_name[str(name)] for name in item.interface.values]
        else:
            names = [stack.by_name[item.interface]]
        return any(each.kind == "bridge" and stack.calls_iptables(each) for each in names)

    def _route(self, passing: Passing) -> Iterator[Moving | Delivery]:
        """Decide between the namespace's own packets and those that it passes on."""
        if passing.local:
            yield from self._deliver(passing)
            return
        found = ways(passing)
        found.keep_loopback_out(passing)
        found.local = led_back(passing, found.local, "", found.doubts)
        for way, cells in found.leaving.items():
            leaves_by = passing.stack.routing.names[way.interface]
            believed = led_back(passing, cells, leaves_by, found.doubts)
            found.leaving[way] = _beyond_its_link(passing, believed, leaves_by)
        flight = passing.flight.doubted(found.doubts)
        if found.local:
            yield from self._deliver(passing._replace(cells=found.local, flight=flight))
        cells = found.cells & _forwarded(passing.stack, passing.interface, found.cells)
        # ip_forward and ip6_forward look at that before the rules do
        if cells and flight.hops > 1:
            output = found.output(passing.stack)
            here = passing._replace(cells=cells, flight=flight, output=output)
            told = list(redirects(self._world, here, found.leaving))
            for each in told:
                flight = flight.doubted({each.tells: each.cells})
            here = here._replace(flight=replace(flight, routed=True, hops=flight.hops - 1))
            yield from self._sent_past(told, passing.flight)
            here = past_policies(here, Direction.FORWARD, Direction.OUT)
            for out in self._obstacles.through(Hook.FORWARD, here):
                yield from self._leave(out, found.leaving)

    def _sent_past(self, told: Iterable[Redirect], flight: Flight) -> Iterator[Moving]:
        """Send packets as those do who were told to go past a router that they came to: each to a next hop once."""
        for each in told:
            known = (other.cells for other in self._told if (other.sender, other.way) == (each.sender, each.way))
            new = each.cells & ~sum(known)
            if new:
                self._told.append(each._replace(cells=new))
                yield from self._redirected(self._told[-1], flight)

    def _redirected(self, told: Redirect, flight: Flight) -> Iterator[Moving]:
        stack = told.sender.stack
        # what others saw of them on their way to the router they see no more
        passages = tuple(takewhile(lambda passage: passage.stack is stack, flight.passages))
        sent = replace(flight.doubted({told.told: told.cells}), passages=passages, routed=False)
        passing = Passing(stack, told.cells, sent, sent.ends)
        yield from self._hand_over(told.sender, passing, told.way)

    def _gone_aside(self) -> Iterator[Moving | Delivery]:
        """Send packets, and copies of them, that went elsewhere, each by one that diverts them once."""
        waiting = self._obstacles.sent_aside()
        while waiting:
            for each in waiting:
                if each.onward is not None:
                    yield from self._sent_onward(each, each.onward)
                elif each.diverted is not None:
                    yield from self._diverted(each, each.diverted)
            waiting = self._obstacles.sent_aside()

    def _diverted(self, passing: Passing, divert: Divert) -> Iterator[Moving | Delivery]:
        ends = passing.flight.ends
        key = divert, passing.stack, ends.source, ends.destination, ends.destination_port
        new = passing.cells & ~self._led_aside.get(key, 0)
        self._led_aside[key] = self._led_aside.get(key, 0) | new
        sent = passing._replace(cells=new)
        if not divert.device:
            yield from self._unseen.anywhere(sent)
        elif divert.inward:
            yield from self._unseen.taken_in(sent, divert.device)
        else:
            for each in self._obstacles.past_gates(Hook.EGRESS, divert.device, sent):
                yield from self._unseen.sent_by(each, divert.device)

    def _sent_onward(self, passing: Passing, server: int) -> Iterator[Moving]:
        """Send packets to the real server that IPVS chose (ip_vs_nat_xmit, ip_vs_dr_xmit), or to TEE's gateway.

        They ask for the route to that, whatever the destination, and from no source (__ip_vs_get_out_rt,
        nf_dup_ipv4_route).
        """
        flight = passing.flight
        towards = replace(flight.ends, destination=server)
        asking = passing._replace(flight=replace(flight, ends=towards), own=True, unbound=True, output="")
        sent = passing._replace(flight=replace(flight, routed=True), own=False)
        for way, cells in ways(asking).leaving.items():
            sender = self._world.station(passing.stack, way.interface)
            if sender is not None:
                yield from self._hand_over(sender, sent._replace(cells=cells & passing.cells), way)

    def _deliver(self, passing: Passing) -> Iterator[Moving | Delivery]:
        passing = of_one_alone(passing)
        if not passing.cells:
            return
        for arrived in self._obstacles.through(Hook.INPUT, passing._replace(output="")):
            if arrived.onward is not None:
                yield from self._sent_onward(arrived, arrived.onward)
                continue
            inside = arrived if arrived.settled else past_policies(arrived, Direction.IN)
            flight = replace(inside.flight, passages=(*inside.flight.passages, inside.passage()))
            # what loopback brings is taken to have come in where it was sent to (ipv6_rcv)
            yield Delivery(inside.stack, inside.cells, flight, inside.mark, inside.link or inside.interface)


def _type_at_port(item: Arrival) -> int | Column:
    """Return what frames for the address of a bridge are to its ports: for another one, unless it is their own."""
    by_name, found = item.stack.by_name, defaultdict[int | str, int](int)
    for interface, cells in parts(item.interface, item.cells):
        for port, at in parts(item.port, cells):
            own = str(port) in by_name and by_name[str(port)].mac == by_name[str(interface)].mac
            found[PacketType.HOST if own else PacketType.OTHER] |= at
    return Column(found)


def _from_own(item: Departure) -> int:
    """Return the packets that a namespace may send from where they come from.

    Of IPv4 that is one of its own addresses, as the table `local` has them: not any that a local route of another table
    is for (__ip_dev_find in ip_route_output_key_hash_rcu).
    """
    stack = item.stack
    if stack.family == 6:
        return item.cells
    found = 0
    for source, cells in parts(item.flight.ends.source, item.cells):
        if source in stack.addresses or stack.routing.may_take(int(source)):
            found |= cells
    return found


def of_one_alone(passing: Passing) -> Passing:
    """Return the packets without those of TCP for an address that others share (tcp_v6_conn_request)."""
    anycast = passing.stack.anycast
    if not anycast or passing.flight.protocol != TCP:
        return passing
    kept = sum(at for each, at in parts(passing.flight.ends.destination, passing.cells) if each not in anycast)
    return passing._replace(cells=kept)


def _forwarded(stack: Stack, interface: str | Column, cells: int) -> int:
    found = 0
    for name, at in parts(interface, cells):
        if stack.forwards_from(str(name)):
            found |= at
    return found


def _beyond_its_link(passing: Passing, cells: int, output: str) -> int:
    """Return the packets that may be passed on: of those from a link-local source, what stays there (ip6_forward)."""
    if passing.stack.family == 4:
        return cells
    found = 0
    for source, at in parts(passing.flight.ends.source, cells):
        if is_link_local(int(source)):
            found |= sum(here for name, here in parts(passing.interface, at) if name == output)
        else:
            found |= at
    return found
