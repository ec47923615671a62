"""Frames that the host's bridges pass from port to port, and what br_netfilter makes of them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from exporter.evaluate.enforced.contest import shared_out
from exporter.evaluate.enforced.flight import Arrival, Crossing
from exporter.evaluate.enforced.packets import UNTOLD, parts
from exporter.evaluate.enforced.passing import Passing
from exporter.evaluate.enforced.segments import link_address
from exporter.evaluate.enforced.ways import led_back, ways
from exporter.model.firewall import Hook, PacketType

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from exporter.evaluate.enforced.obstacles import Obstacles
    from exporter.evaluate.enforced.packets import Column
    from exporter.evaluate.enforced.route_table import Exit
    from exporter.evaluate.enforced.segments import Station
    from exporter.evaluate.enforced.stack import Stack
    from exporter.evaluate.enforced.unseen import Unseen
    from exporter.evaluate.enforced.world import World
    from exporter.model.namespace import Interface


_ENTERING = (Hook.PREROUTING,)
_LEAVING = (Hook.FORWARD, Hook.POSTROUTING)


class HandedUp(NamedTuple):
    """Frames that came in by a port of a bridge and that the host takes in."""

    passing: Passing
    port: str | Column


Beyond = Arrival | HandedUp
"""What becomes of frames behind a bridge."""


class Bridging:
    """Moves frames of one stage of conversations over the host's bridges."""

    def __init__(self, world: World, obstacles: Obstacles, unseen: Unseen) -> None:
        self._world = world
        self._obstacles = obstacles
        self._unseen = unseen

    def astray(self, sender: Station, passing: Passing) -> Iterator[Crossing]:
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
            yield Crossing(bridge, passing.cells, flight, port.name, passing.mac, None, passing.frame_for)

    def cross(self, item: Crossing) -> Iterator[Beyond]:
        """Pass frames on from ports of a bridge to another one."""
        host, bridge = self._world.host, item.bridge
        receiver = item.receiver
        output = receiver.port.name if receiver is not None and receiver.port else ""
        passing = Passing(
            host,
            item.cells,
            item.flight,
            item.flight.ends,
            bridge.name,
            item.port,
            item.mac,
            item.frame_for,
            packet_type=PacketType.OTHER,
        )
        called = host.calls_iptables(bridge)
        for framed in self._obstacles.past_gates(Hook.INGRESS, item.port, passing):
            for entered in self._filtered(item, framed, output, _ENTERING, early=True if called else None):
                if called:
                    yield from self._called(item, entered, output)
                else:
                    for filtered in self._filtered(item, entered, output, _LEAVING):
                        yield from self._passed_on(item, filtered, output)

    def _called(self, item: Crossing, passing: Passing, output: str) -> Iterator[Beyond]:
        """Pass frames on that br_netfilter leads through the hooks of IP: conntrack sees them as they are by now."""
        before = passing.flight.ends
        for translated in self._obstacles.through(Hook.PREROUTING, passing._replace(arrived=before)):
            # br_nf_pre_routing_finish asks before the bridge's later chains see them
            elsewhere = translated.flight.ends.destination != before.destination
            framed = _reframed(translated) if elsewhere else translated
            for inside in self._filtered(item, framed, output, _ENTERING, early=False):
                if elsewhere:
                    yield from self.redirected(item.bridge, item.port, inside)
                elif item.receiver is not None:
                    yield from self._bridged(item, inside, output)

    def _bridged(self, item: Crossing, passing: Passing, output: str) -> Iterator[Arrival]:
        """Pass on what stays on the bridge: FORWARD and POSTROUTING see the bridge on both sides.

        The bridge's own chains are met before and between the two: br_nf_forward stands among those that filter there,
        and br_nf_post_routing after all (NF_BR_PRI_LAST), so that none of them sees what POSTROUTING makes of a source.
        """
        name = item.bridge.name
        for here in self._filtered(item, passing, output, (Hook.FORWARD,), early=True):
            seen = here._replace(output=name, output_port=output)
            for forwarded in self._obstacles.through(Hook.FORWARD, seen):
                for framed in self._filtered(item, forwarded, output, _LEAVING, early=False):
                    # br_nf_post_routing names no interface that frames came in by
                    for out in self._obstacles.through(Hook.POSTROUTING, framed._replace(interface="")):
                        kept = replace(out.flight, passages=(*out.flight.passages, out.passage()))
                        yield from self._passed_on(item, out._replace(flight=kept), output)

    def _filtered(
        self, item: Crossing, passing: Passing, output: str, hooks: tuple[Hook, ...], *, early: bool | None = None
    ) -> Sequence[Passing]:
        """Lead frames past what the bridge's own chains say of those that it passes on."""
        return self._obstacles.past_bridge(hooks, passing, item.port, output, item.bridge, early=early)

    def _passed_on(self, item: Crossing, passing: Passing, output: str) -> Iterator[Arrival]:
        receiver = item.receiver
        if receiver is None:
            return
        for passed in self._obstacles.past_gates(Hook.EGRESS, output, passing):
            name = receiver.interface.name
            yield Arrival(receiver.stack, passed.cells, passed.flight, name, "", item.mac, passing.frame_for)

    def redirected(self, bridge: Interface, port: str | Column, passing: Passing) -> Iterator[Beyond]:
        """Lead frames on that br_netfilter rewrote: on the same bridge, or into the host's routing.

        br_nf_pre_routing_finish: what is routed back to the bridge stays a frame (bridged_dnat), whoever it was
        addressed to. For IPv4 the route is one that the host refuses where it does not forward, or does not believe
        where they come from (ip_route_input_slow).
        """
        host = self._world.host
        if host.family == 4:
            passing = passing._replace(cells=self._obstacles.believed(host, passing.cells, passing.flight, bridge.name))
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
            taken = passing._replace(cells=left, packet_type=PacketType.HOST, frame_for=link_address(bridge))
            yield HandedUp(taken, port)

    def _sent_back(self, bridge: Interface, way: Exit, port: str | Column, passing: Passing) -> Iterator[Arrival]:
        """Send frames that got another destination to whoever on their bridge answers for the next hop."""
        host = self._world.host
        station = self._world.station(host, bridge.index)
        if station is None:
            return
        receivers = self._world.answering(host, way)
        if not receivers:
            yield from self._unseen.led_on(station, passing, way)
        for receiver, sent in shared_out(self._world, self._obstacles, passing, station, receivers, way.towards):
            audible = sent.cells & ~_deaf(host, port, receiver, passing.cells)
            frame_for = self._world.framed_for(station, receiver, way.towards)
            crossing = Crossing(bridge, audible, sent.flight, port, passing.mac, receiver, frame_for)
            output = receiver.port.name if receiver.port else ""
            if audible:
                framed = sent._replace(frame_for=frame_for, packet_type=PacketType.OTHER)
                routed = framed._replace(cells=audible, next_hop=way.towards)
                yield from self._bridged(crossing, routed, output)


def _reframed(passing: Passing) -> Passing:
    """Return frames that got another destination, whose link address they may have already, or not yet.

    It is the bridge's own if they go on elsewhere, else that of the next hop, and comes only afterwards
    (br_nf_pre_routing_finish, br_nf_pre_routing_finish_bridge).
    """
    return passing._replace(frame_for=UNTOLD, packet_type=UNTOLD)


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
