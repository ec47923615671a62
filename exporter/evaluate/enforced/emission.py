"""Packets as they set out from many namespaces at once.

A namespace without firewall rules of its own sends whatever the protocol and the port by the same way. Such packets are
led to the first namespace that decides something once for each address, and go on together from there.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from exporter.evaluate.enforced.flight import Arrival, Conversation, Crossing, Delivery, Departure, Ends, Flight, Stage
from exporter.evaluate.enforced.journey import Journey
from exporter.evaluate.enforced.packets import Column
from exporter.evaluate.enforced.routing import Question
from exporter.evaluate.enforced.ways import way
from exporter.model.namespace import Scope

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from exporter.evaluate.enforced.flight import Port
    from exporter.evaluate.enforced.journey import Moving
    from exporter.evaluate.enforced.stack import Stack
    from exporter.evaluate.enforced.ways import Exit
    from exporter.evaluate.enforced.world import World


@dataclass(frozen=True, slots=True, eq=False)
class Emission:
    """What is sent to one address: `together`, by namespaces without rules, and `alone`, by each of the others.

    `sources` are the cells by the address that they send from.
    """

    together: Sequence[Arrival | Crossing]
    alone: Sequence[tuple[Stack, int, int]]
    sources: Mapping[int, int]

    def moving(self, flight: Flight, cells: int) -> Iterator[Moving]:
        """Yield the packets of some cells, with the protocol and the ports of a flight."""
        for item in self.together:
            if item.cells & cells:
                ends = replace(flight.ends, source=item.flight.ends.source)
                told = replace(
                    flight,
                    ends=ends,
                    doubts=item.flight.doubts,
                    routed=item.flight.routed,
                    astray=item.flight.astray,
                )
                yield replace(item, cells=item.cells & cells, flight=told)
        for stack, bit, source in self.alone:
            if bit & cells:
                yield Departure(stack, bit, replace(flight, ends=replace(flight.ends, source=source)))


def emission(world: World, bits: Mapping[str, int], address: int) -> Emission:
    """Return what all namespaces send to an address; those without a route there send nothing."""
    alone: list[tuple[Stack, int, int]] = []
    under_way: list[Arrival | Crossing] = []
    sources: dict[int, int] = defaultdict(int)
    journey = Journey(world, Conversation(Stage.FIRST))
    for name, stack in world.stacks.items():
        source = source_of(stack, address)
        if source is None:
            continue
        sources[source] |= bits[name]
        begun = list(journey.begun(_departure(stack, bits[name], source, address))) if stack.plain else []
        if stack.plain and not any(isinstance(item, Delivery) for item in begun):
            under_way.extend(item for item in begun if isinstance(item, Arrival | Crossing))
        else:
            alone.append((stack, bits[name], source))
    return Emission(list(_together(under_way)), alone, sources)


def source_of(stack: Stack, address: int) -> int | None:
    """Return the address that a namespace sends from to another; None where no route leads there."""
    found = way(stack, Question(address))
    if found.local:
        return address
    if not found.exits:
        return _picked_blindly(stack, address)
    return found.source if found.source is not None else _picked(stack, found.exits[0], address)


def _picked_blindly(stack: Stack, address: int) -> int | None:
    """Return the address that a namespace picks where only a route for some senders leads (ip6_dst_lookup_tail)."""
    if stack.family == 4 or stack.routing.plain:
        return None
    source = stack.source_for(0, address)
    return source if source is not None and way(stack, Question(address, source)).exits else None


def _picked(stack: Stack, exit_: Exit, address: int) -> int | None:
    """Return the address that a namespace picks where the route names none.

    By a gateway one that suits that, else the first one that reaches as far as the link (fib_result_prefsrc asks for
    the scope of the route, fib_info_update_nhc_saddr for the gateway). IPv6 goes by the destination in either case
    (ip6_route_get_saddr).
    """
    if stack.family == 6:
        return stack.source_for(exit_.interface, address)
    if exit_.towards == address:
        return stack.source_for(exit_.interface, 0, Scope.LINK)
    return stack.source_for(exit_.interface, exit_.towards)


def _departure(stack: Stack, bit: int, source: int, address: int) -> Departure:
    ports: Port = None
    return Departure(stack, bit, Flight(0, Ends(source, ports, address, ports)))


def _together(items: Sequence[Arrival | Crossing]) -> Iterator[Arrival | Crossing]:
    """Yield packets that go to the same place as one."""
    groups: dict[object, list[Arrival | Crossing]] = defaultdict(list)
    for item in items:
        if isinstance(item, Crossing):
            groups[item.bridge.index, id(item.receiver)].append(item)
        else:
            # who is not seen may send the same packets to several interfaces
            place = item.interface if item.flight.astray else ""
            groups[id(item.stack), item.flight.routed, place].append(item)
    yield from (_merged(group) if len(group) > 1 else group[0] for group in groups.values())


def _merged(group: Sequence[Arrival | Crossing]) -> Arrival | Crossing:
    cells = astray = 0
    doubts: dict[str, int] = defaultdict(int)
    sources: dict[int | str, int] = defaultdict(int)
    ports: dict[int | str, int] = defaultdict(int)
    interfaces: dict[int | str, int] = defaultdict(int)
    macs: dict[int | str, int] = defaultdict(int)
    for item in group:
        cells |= item.cells
        astray |= item.flight.astray
        sources[_value(item.flight.ends.source)] |= item.cells
        ports[_value(item.port)] |= item.cells
        if item.mac is not None:
            macs[_value(item.mac)] |= item.cells
        if isinstance(item, Arrival):
            interfaces[_value(item.interface)] |= item.cells
        for name, doubted in item.flight.doubts.items():
            doubts[name] |= doubted
    first = group[0]
    ends = replace(first.flight.ends, source=Column(sources))
    flight = replace(first.flight, ends=ends, doubts=doubts, astray=astray)
    port = Column(ports) if len(ports) > 1 else first.port
    merged = replace(first, cells=cells, flight=flight, port=port, mac=Column(macs) if macs else None)
    if isinstance(merged, Arrival) and len(interfaces) > 1:
        return replace(merged, interface=Column(interfaces))
    return merged


def _value(value: int | str | Column) -> int | str:
    if isinstance(value, Column):
        raise TypeError("packets of one namespace have one value each")
    return value
