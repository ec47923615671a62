"""Which gateways of IPv6 answer, for who does not pass packets on leaves those that do not.

It tries the next best route while a neighbour is known not to answer (rt6_check_neigh). To find that out takes some
seconds, and it is forgotten: at once where somebody sends to that neighbour itself, else sooner or later where the
machine has many neighbours.
"""

from __future__ import annotations

from functools import cache
from ipaddress import ip_address
from typing import TYPE_CHECKING

from exporter.evaluate.enforced.flight import ICMP6, Ends, Flight
from exporter.evaluate.enforced.neighbours import Asking, resolved
from exporter.evaluate.enforced.passing import Passing
from exporter.evaluate.enforced.ports import Frame
from exporter.evaluate.enforced.route_table import Exit
from exporter.evaluate.enforced.routing import Routing
from exporter.evaluate.enforced.segments import BEYOND, asks, beyond, hears

if TYPE_CHECKING:
    from exporter.evaluate.enforced.route_table import Answers
    from exporter.evaluate.enforced.segments import Station
    from exporter.evaluate.enforced.stack import Stack
    from exporter.evaluate.enforced.world import World
    from exporter.model.namespace import Hop, Namespace

SILENT = "whether it is known just now that gateway {address} does not answer"


def left_where_silent(namespace: Namespace, routing: Routing | None = None) -> frozenset[int]:
    """Return the interfaces of gateways of IPv6 that a namespace leaves where they do not answer, for another route."""
    if namespace.setting("ipv6/conf/all/forwarding"):
        return frozenset()
    routes = (routing or Routing(namespace, 6)).by_turns()
    return frozenset(hop.interface for route in routes for hop in route.hops)


def answering_gateways(world: World, stack: Stack) -> Answers:
    """Return what tells of a namespace's hops what is not known of whether packets go by them."""

    @cache
    def answers(hop: Hop) -> str:
        if hop.gateway is None:
            return ""
        station = world.station(stack, hop.interface)
        if station is None:
            return BEYOND.format(name=stack.routing.names.get(hop.interface, ""))
        return _unknown(world, station, int(hop.gateway))

    return answers


def _unknown(world: World, station: Station, gateway: int) -> str:
    """Return what is not known of a gateway, nothing where it answers a station for sure."""
    if not asks(station, gateway):
        return ""
    doubts = []
    for receiver in world.answering(station.stack, Exit(station.interface.index, gateway)):
        heard, doubt = _is_answered(world, Asking(station, receiver, gateway))
        if heard and not doubt:
            return ""
        doubts.append(doubt)
    if _leads_further(world, station):
        doubts.append(beyond(station))
    return next(filter(None, doubts), SILENT.format(address=ip_address(gateway.to_bytes(16))))


def _is_answered(world: World, asking: Asking) -> tuple[bool, str]:
    there, asked = hears(asking.sender, asking.receiver, Frame.GROUP)
    back, answered = hears(asking.receiver, asking.sender)
    if not (there and back):
        return False, ""
    stack, own = asking.sender.stack, asking.sender.interface
    ends = Ends(stack.source_for(own.index, asking.target) or 0, None, asking.target, None)
    cells, doubts = resolved(world, asking, Passing(stack, 1, Flight(ICMP6, ends), ends, own=True))
    return bool(cells), asked or answered or next(iter(doubts), "")


def _leads_further(world: World, station: Station) -> bool:
    """Return whether somebody who is not seen may be on a segment: outside, or behind a port that nobody here has."""
    segment = station.segment
    if segment.unseen or (segment.joined is not None and segment.joined.unseen):
        return True
    if segment.bridge is None:
        return station.interface.kind != "veth"
    taken = {each.port.index for each in segment.stations if each.port is not None}
    made = sum(each.port is None and not each.is_bridge for each in segment.stations)
    ports = world.host.namespace.interfaces.values()
    strange = (port for port in ports if port.master == segment.bridge.index and port.up and port.index not in taken)
    return sum(True for _ in strange) > made
