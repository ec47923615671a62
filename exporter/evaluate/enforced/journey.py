"""The way of packets from namespace to namespace, until they are delivered or lost."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address
from typing import TYPE_CHECKING

from exporter.evaluate.enforced.flight import TCP, Arrival, Crossing, Delivery, Departure, Stage
from exporter.evaluate.enforced.frames import past_bridge, past_gates
from exporter.evaluate.enforced.hooks import Hooks
from exporter.evaluate.enforced.hops import hop_limit
from exporter.evaluate.enforced.ipsec import past_policies
from exporter.evaluate.enforced.neighbours import FIXED, Asking, resolved
from exporter.evaluate.enforced.packets import Column, parts
from exporter.evaluate.enforced.passing import Passing
from exporter.evaluate.enforced.segments import (
    PROXY_ANSWERS,
    TWO_ANSWER,
    answers_as_own,
    asks,
    beyond,
    followed,
    hears,
    link_address,
)
from exporter.evaluate.enforced.ways import led_back, ways
from exporter.model.addresses import is_link_local
from exporter.model.firewall import Hook
from exporter.model.namespace import ENOUGH_HOPS, Direction

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Sequence

    from exporter.evaluate.enforced.flight import Conversation, Flight
    from exporter.evaluate.enforced.segments import Station
    from exporter.evaluate.enforced.stack import Stack
    from exporter.evaluate.enforced.ways import Exit
    from exporter.evaluate.enforced.world import World
    from exporter.model.namespace import Interface

HOPS = ENOUGH_HOPS
"""Namespaces that packets are followed through; those that go on are lost in a circle."""

Moving = Departure | Arrival | Crossing


class Journey:
    """Moves packets of one stage of conversations through a world."""

    def __init__(self, world: World, conversation: Conversation) -> None:
        self._world = world
        self._conversation = conversation
        self._hooks = Hooks(conversation)
        self._led_on: dict[Hashable, int] = {}

    def deliveries(self, *moving: Moving) -> list[Delivery]:
        """Return where packets arrive."""
        delivered: list[Delivery] = []
        frontier: list[Moving] = list(moving)
        for _ in range(HOPS):
            following: list[Moving] = []
            for item in frontier:
                for result in self._move(item):
                    (delivered if isinstance(result, Delivery) else following).append(result)  # type: ignore[arg-type]
            frontier = following
            if not frontier:
                break
        return delivered

    def begun(self, item: Departure) -> Iterator[Moving | Delivery]:
        """Yield what becomes of packets that set out, until another namespace has them."""
        return self._depart(item)

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
        leaving = found.cells
        outputs = [(found.local, "lo"), (leaving, found.output(item.stack) if leaving else "")]
        for cells, output in outputs:
            if cells:
                here = passing._replace(cells=cells, output=output)
                here = here if output == "lo" else past_policies(here, Direction.OUT)
                for out in self._hooks.through(Hook.OUTPUT, here):
                    yield from self._send(out)

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
        if passing.flight.ends is not passing.arrived or passing.mark != 0:
            passing = passing._replace(unbound=False)
        found = ways(passing)
        flight = passing.flight.doubted(found.doubts)
        found.keep_loopback_in(passing)
        if found.local:
            here = passing._replace(cells=found.local, flight=flight, output="lo")
            for out in self._hooks.through(Hook.POSTROUTING, here):
                yield from self._loop(out)
        yield from self._leave(passing._replace(flight=flight), found.leaving)

    def _loop(self, passing: Passing) -> Iterator[Delivery]:
        """Take packets of a namespace to itself back in by its loopback."""
        lost = 0
        for destination, cells in parts(passing.flight.ends.destination, passing.cells):
            lost |= cells if passing.stack.loses_own(int(destination)) else 0
        kept = passing.cells & ~lost
        if not kept:
            return
        back = passing._replace(cells=kept, interface="lo", output="", settled=True, own=False)
        for inside in self._hooks.through(Hook.PREROUTING, back):
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
        for out in self._hooks.through(Hook.POSTROUTING, here):
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
        world = self._world.resolving(way.towards)
        receivers = self._world.answering(stack, way)
        cells, flight = self._gated(Hook.EGRESS, sender.interface.name, passing)
        passing = passing._replace(cells=cells)
        if not stack.ruleset.idle:
            flight = replace(flight, passages=(*flight.passages, passing.passage()))
        if passing.own and stack.sends_near:
            hops = way.hops or hop_limit(stack.namespace, stack.family, sender.interface.name)
            flight = replace(flight, hops=hops)
        heard = [(receiver, *hears(sender, receiver)) for receiver in receivers]
        audible = [(receiver, doubt) for receiver, passes, doubt in heard if passes]
        if len(audible) > 1 and _one_and_the_same([receiver for receiver, _ in audible]):
            audible = audible[:1]
        if len(audible) > 1:
            answer = _who_answers(world.same(sender), [world.same(receiver) for receiver, _ in audible], way.towards)
            flight = flight.doubted({answer: passing.cells})
        for receiver, doubt in audible:
            told = flight.doubted({doubt: passing.cells} if doubt else {})
            yield from self._frames(sender, receiver, way, passing._replace(flight=told))
        if not audible:
            lost = passing._replace(flight=flight)
            known = asks(world.same(sender), way.towards)
            if known or sender.segment.unseen:
                yield from self._by_strangers(sender, lost)
            else:
                yield from self._astray(sender, lost)
            if not receivers:
                yield from self._out_of_sight(sender, lost, way)

    def _by_strangers(self, sender: Station, passing: Passing) -> Iterator[Arrival]:
        """Send packets whose next hop is nobody's that is seen to wherever a router that is not may lead them."""
        flight = passing.flight.doubted({beyond(sender): passing.cells})
        for destination, cells in parts(passing.flight.ends.destination, passing.cells):
            for receiver in sender.segment.routed_to(int(destination), sender):
                yield Arrival(receiver.stack, cells, replace(flight, routed=True), receiver.interface.name)

    def _out_of_sight(self, sender: Station, passing: Passing, way: Exit) -> Iterator[Arrival]:
        """Send packets to somebody whom nobody knows, who may lead them on to whoever is seen.

        To a station he does so once: what becomes of them there is in doubt, by whatever way they came to him.
        """
        flight = passing.flight.doubted({beyond(sender): passing.cells})
        for destination, cells in parts(passing.flight.ends.destination, passing.cells):
            for receiver in self._world.led_on(sender, way, int(destination)):
                key = receiver, destination, flight.ends.destination_port
                new = cells & ~self._led_on.get(key, 0)
                self._led_on[key] = self._led_on.get(key, 0) | new
                led = replace(flight, routed=True, astray=flight.astray | new)
                if new:
                    yield Arrival(receiver.stack, new, led, receiver.interface.name)

    def _astray(self, sender: Station, passing: Passing) -> Iterator[Moving]:
        """Send frames to a link address that nobody has: br_netfilter sees them before the bridge asks whose that is.

        What it leads elsewhere gets another one (br_nf_pre_routing_finish).
        """
        segment, port = sender.segment, sender.port
        bridge = segment.bridge
        if bridge is None or segment.ports is None or port is None or not passing.cells:
            return
        let_in, doubt = segment.ports.lets_in(port, sender.interface.mac)
        if let_in and (port.port is None or port.port.forwarding):
            flight = passing.flight.doubted({doubt: passing.cells} if doubt else {})
            yield Crossing(bridge, passing.cells, flight, port.name, link_address(sender.interface), None)

    def _frames(self, sender: Station, receiver: Station, way: Exit, passing: Passing) -> Iterator[Moving]:
        mac = link_address(sender.interface)
        if not followed(sender, receiver):
            yield Arrival(receiver.stack, passing.cells, passing.flight, receiver.interface.name, mac=mac)
            return
        cells, doubts = self._resolved(sender, receiver, way.towards, passing)
        flight = passing.flight.doubted(doubts)
        host = self._world.host
        bridge = sender.segment.bridge
        if bridge is not None and sender.stack is host:
            port = receiver.port.name if receiver.port else ""
            cells, flight = self._bridge_hooks(
                (Hook.OUTPUT, Hook.POSTROUTING), passing._replace(cells=cells, flight=flight), "", port, bridge
            )
            cells, flight = self._gated(Hook.EGRESS, port, passing._replace(cells=cells, flight=flight))
        if not cells:
            return
        if bridge is not None and host not in (sender.stack, receiver.stack):
            port = sender.port.name if sender.port else ""
            yield Crossing(bridge, cells, flight, port, mac, receiver)
        else:
            port = sender.port.name if sender.port and receiver.stack is host else ""
            yield Arrival(receiver.stack, cells, flight, receiver.interface.name, port, mac)

    # --- Packets that come in by a link ---

    def _arrive(self, item: Arrival) -> Iterator[Moving | Delivery]:
        stack = item.stack
        flight, cells = item.flight, item.cells
        for name in (item.port, item.interface):
            passing = Passing(stack, cells, flight, flight.ends, mac=item.mac)
            cells, flight = self._gated(Hook.INGRESS, name, passing)
        called = self._meets_hooks_as_frames(item)
        if not stack.bridging.idle:
            passing = Passing(stack, cells, flight, flight.ends, item.interface, item.port, item.mac)
            hooks = (Hook.PREROUTING,) if called else (Hook.PREROUTING, Hook.INPUT)
            cells, flight = self._bridge_hooks(hooks, passing, item.port, "", None)
        cells = self._valid(stack, cells, flight, item.interface)
        if not cells:
            return
        # physdev sees a port where br_netfilter kept it
        visible = item.port if called else ""
        passing = Passing(stack, cells, flight, flight.ends, item.interface, visible, item.mac)
        for inside in self._hooks.through(Hook.PREROUTING, passing):
            if stack is self._world.host and inside.flight.ends.destination != flight.ends.destination:
                yield from self._rewritten(inside, item.port, called=called)
            else:
                yield from self._handed_up(inside, item.port) if called else self._route(inside)

    def _handed_up(self, passing: Passing, port: str | Column) -> Iterator[Moving | Delivery]:
        """Lead frames of a bridge that br_netfilter has led through PREROUTING into the host: past the bridge's INPUT.

        br_nf_pre_routing_finish goes on with br_handle_frame_finish and br_pass_frame_up, so that INPUT sees what
        PREROUTING made of a destination. Without br_netfilter it comes first.
        """
        cells, flight = self._bridge_hooks((Hook.INPUT,), passing, port, "", None)
        if cells:
            yield from self._route(passing._replace(cells=cells, flight=flight))

    def _rewritten(self, passing: Passing, port: str | Column, *, called: bool) -> Iterator[Moving | Delivery]:
        """Lead packets on that got another destination: on a bridge, br_netfilter may keep them frames."""
        routed = passing.cells
        leaving = ways(passing).leaving
        for name in {passing.stack.routing.names[way.interface] for way in leaving}:
            bridge = passing.stack.by_name[name]
            back = sum(cells for at, cells in parts(passing.interface, passing.cells) if at == name)
            if back and bridge.kind == "bridge" and passing.stack.calls_iptables(bridge):
                routed &= ~back
                yield from self._redirected(bridge, port, passing._replace(cells=back, interface=name))
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
            led = replace(flight, routed=True, hops=flight.hops - 1)
            here = passing._replace(cells=cells, flight=led, output=output)
            here = past_policies(here, Direction.FORWARD, Direction.OUT)
            for out in self._hooks.through(Hook.FORWARD, here):
                yield from self._leave(out, found.leaving)

    def _deliver(self, passing: Passing) -> Iterator[Delivery]:
        for arrived in self._hooks.through(Hook.INPUT, passing._replace(output="")):
            inside = arrived if arrived.settled else past_policies(arrived, Direction.IN)
            flight = replace(inside.flight, passages=(*inside.flight.passages, inside.passage()))
            # what loopback brings is taken to have come in where it was sent to (ipv6_rcv)
            yield Delivery(inside.stack, inside.cells, flight, inside.mark, inside.link or inside.interface)

    def _valid(self, stack: Stack, cells: int, flight: Flight, interface: str | Column) -> int:
        """Return the packets whose source the kernel believes.

        It asks no reverse path filter about what was in packets of IPsec (secpath_exists in fib_validate_source). That
        of those which went astray is not known.
        """
        valid = 0
        for name, at in parts(interface, cells):
            for source, of in parts(flight.ends.source, at):
                valid |= of & flight.astray
                if stack.believes(int(source), str(name)):
                    valid |= of
                elif of & flight.sealed and stack.admits(int(source), str(name)):
                    valid |= of & flight.sealed
        return valid

    # --- Frames that the host's bridge passes from port to port ---

    def _cross(self, item: Crossing) -> Iterator[Moving | Delivery]:
        host, bridge = self._world.host, item.bridge
        receiver = item.receiver
        output = receiver.port.name if receiver is not None and receiver.port else ""
        passing = Passing(host, item.cells, item.flight, item.flight.ends, bridge.name, item.port, item.mac)
        cells, flight = self._gated(Hook.INGRESS, item.port, passing)
        passing = passing._replace(cells=cells, flight=flight)
        cells, flight = self._bridge_hooks((Hook.PREROUTING,), passing, item.port, output, bridge)
        passing = passing._replace(cells=cells, flight=flight)
        if not cells:
            return
        if not host.calls_iptables(bridge):
            yield from self._passed_on(item, self._filtered(item, passing, output), output)
            return
        for inside in self._hooks.through(Hook.PREROUTING, passing):
            if inside.flight.ends.destination != item.flight.ends.destination:
                yield from self._redirected(bridge, item.port, inside)
            elif receiver is not None:
                yield from self._bridged(item, inside, output)

    def _bridged(self, item: Crossing, passing: Passing, output: str) -> Iterator[Moving]:
        """Pass on what stays on the bridge: FORWARD and POSTROUTING see the bridge on both sides.

        The bridge's own chains are met between the two: br_nf_forward stands before those that filter there, and
        br_nf_post_routing after all (NF_BR_PRI_LAST), so that none of them sees what POSTROUTING makes of a source.
        """
        name = item.bridge.name
        here = passing._replace(output=name, output_port=output)
        for forwarded in self._hooks.through(Hook.FORWARD, here):
            framed = self._filtered(item, forwarded, output)
            # br_nf_post_routing names no interface that frames came in by
            sent = framed._replace(interface="")
            for out in self._hooks.through(Hook.POSTROUTING, sent) if sent.cells else ():
                kept = replace(out.flight, passages=(*out.flight.passages, out.passage()))
                yield from self._passed_on(item, out._replace(flight=kept), output)

    def _filtered(self, item: Crossing, passing: Passing, output: str) -> Passing:
        """Lead frames past what the bridge's own chains say of those that it passes on."""
        hooks = (Hook.FORWARD, Hook.POSTROUTING)
        cells, flight = self._bridge_hooks(hooks, passing, item.port, output, item.bridge)
        return passing._replace(cells=cells, flight=flight)

    def _passed_on(self, item: Crossing, passing: Passing, output: str) -> Iterator[Moving]:
        cells, flight = self._gated(Hook.EGRESS, output, passing)
        receiver = item.receiver
        if cells and receiver is not None:
            yield Arrival(receiver.stack, cells, flight, receiver.interface.name, "", item.mac)

    def _redirected(self, bridge: Interface, port: str | Column, passing: Passing) -> Iterator[Moving | Delivery]:
        """Lead frames on that br_netfilter rewrote: on the same bridge, or into the host's routing.

        br_nf_pre_routing_finish: what is routed back to the bridge stays a frame (bridged_dnat), whoever it was
        addressed to. For IPv4 the route is one that the host refuses where it does not forward, or does not believe
        where they come from (ip_route_input_slow).
        """
        host = self._world.host
        if host.family == 4:
            passing = passing._replace(cells=self._valid(host, passing.cells, passing.flight, bridge.name))
        left = passing.cells
        kept = host.family == 6 or host.forwards_from(bridge.name)
        found = ways(passing)
        for way, cells in found.leaving.items():
            if way.interface == bridge.index and kept:
                left &= ~cells
                doubts = dict(found.doubts)
                believed = led_back(passing, cells, bridge.name, doubts)
                flight = replace(passing.flight.doubted(doubts), routed=True)
                yield from self._sent_back(bridge, way, port, passing._replace(cells=believed, flight=flight))
        if left:
            yield from self._handed_up(passing._replace(cells=left), port)

    def _sent_back(self, bridge: Interface, way: Exit, port: str | Column, passing: Passing) -> Iterator[Moving]:
        """Send frames that got another destination to whoever on their bridge answers for the next hop."""
        host = self._world.host
        station = self._world.station(host, bridge.index)
        if station is None:
            return
        receivers = self._world.answering(host, way)
        if not receivers:
            yield from self._out_of_sight(station, passing, way)
        for receiver in receivers:
            passes, doubt = hears(station, receiver)
            known, doubts = self._resolved(station, receiver, way.towards, passing)
            audible = known & ~_deaf(host, port, receiver, passing.cells) if passes else 0
            flight = passing.flight.doubted(doubts)
            flight = flight.doubted({doubt: audible} if doubt else {})
            crossing = Crossing(bridge, audible, flight, port, passing.mac, receiver)
            output = receiver.port.name if receiver.port else ""
            if audible:
                routed = passing._replace(cells=audible, flight=flight, next_hop=way.towards)
                yield from self._bridged(crossing, routed, output)

    # --- What packets meet outside of the hooks of IP ---

    def _bridge_hooks(
        self, hooks: tuple[Hook, ...], passing: Passing, port: str | Column, output: str, bridge: Interface | None
    ) -> tuple[int, Flight]:
        return past_bridge(self._hooks.sight, hooks, passing, port, output, bridge)

    def _gated(self, hook: Hook, interfaces: str | Column, passing: Passing) -> tuple[int, Flight]:
        return past_gates(self._hooks.sight, hook, interfaces, passing)

    def _resolved(
        self, sender: Station, receiver: Station, target: int, passing: Passing
    ) -> tuple[int, dict[str, int]]:
        world = self._world.resolving(target)
        return resolved(world, Asking(world.same(sender), world.same(receiver), target), passing)


def _one_and_the_same(receivers: Sequence[Station]) -> bool:
    """Return whether it makes no difference which of several interfaces takes a packet: all are of one namespace."""
    stack, port = receivers[0].stack, receivers[0].port
    if any(receiver.stack is not stack or receiver.port is not port for receiver in receivers):
        return False
    return stack.takes_alike([receiver.interface.name for receiver in receivers])


def _who_answers(sender: Station, receivers: list[Station], address: int) -> str:
    """Return what is not known where several may take what is sent to the owner of an address."""
    if not asks(sender, address):
        text = FIXED
    elif all(answers_as_own(receiver, address, sender) for receiver in receivers):
        text = TWO_ANSWER
    else:
        text = PROXY_ANSWERS
    return text.format(address=_text(address, sender.stack.family))


def _deaf(host: Stack, port: str | Column, receiver: Station, cells: int) -> int:
    """Return the frames that may not leave by the receiver's port: from its own, or from an isolated to another."""
    own = receiver.port
    if own is None or own.port is None:
        return 0
    found = 0
    for name, at in parts(port, cells):
        sender = host.by_name.get(str(name))
        same = sender is own and not own.port.hairpin
        isolated = sender is not None and sender.port is not None and sender.port.isolated and own.port.isolated
        found |= at if same or isolated else 0
    return found


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
        if source in stack.addresses or stack.routing.is_local(int(source)):
            found |= cells
    return found


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


def _text(address: int, family: int) -> str:
    return str(ip_address(address.to_bytes(4 if family == 4 else 16)))
