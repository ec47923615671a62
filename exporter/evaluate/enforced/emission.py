"""Packets as they set out from many namespaces at once.

A namespace without firewall rules of its own sends whatever the protocol and the port by the same way. Such packets are
led to the first namespace that decides something once for each address, and go on together from there.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from exporter.evaluate.enforced.flight import Arrival, Conversation, Crossing, Delivery, Departure, Ends, Flight, Stage
from exporter.evaluate.enforced.journey import Journey
from exporter.evaluate.enforced.packets import UNTOLD, Column
from exporter.evaluate.enforced.route_table import Question
from exporter.evaluate.enforced.way import plain_way, way
from exporter.model.namespace import Scope

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from exporter.evaluate.enforced.flight import Port
    from exporter.evaluate.enforced.journey import Moving
    from exporter.evaluate.enforced.route_table import Exit, Way
    from exporter.evaluate.enforced.segments import Station
    from exporter.evaluate.enforced.stack import Stack
    from exporter.evaluate.enforced.world import World


class Sender(NamedTuple):
    """A namespace that sends, its cell, and an address that it sends from; `doubt` is why it may be another one.

    `link` is the interface on which it looks for a link-local address.
    """

    stack: Stack
    bit: int
    source: int
    doubt: str
    link: str


@dataclass(frozen=True, slots=True, eq=False)
class Emission:
    """What is sent to one address: `together`, by namespaces without rules, and `alone`, by each of the others.

    Of one that may send from several addresses, there is an entry for each, with why nobody knows which it is.
    `sources` are the cells by the address that they send from.
    """

    together: Sequence[Arrival | Crossing]
    alone: Sequence[Sender]
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
                    contested=item.flight.contested,
                )
                yield replace(item, cells=item.cells & cells, flight=told)
        for stack, bit, source, doubt, link in self.alone:
            if bit & cells:
                told = flight.doubted({doubt: bit} if doubt else {})
                yield Departure(stack, bit, replace(told, ends=replace(flight.ends, source=source)), link=link)


class Emitter:
    """Sends from all namespaces of a world, or from some stations of it. `bits` are the cells of namespaces."""

    def __init__(self, world: World, bits: Mapping[str, int], stations: Iterable[Station] | None = None) -> None:
        self._bits = bits
        self._senders = _senders(world, stations)
        self._journey = Journey(world, Conversation(Stage.FIRST))
        self._known: dict[int, Emission] = {}
        self._by_gateway: dict[tuple[Sender, Way], Sequence[Moving | Delivery]] = {}

    def to(self, address: int) -> Emission:
        """Return what is sent to an address; those without a route send nothing."""
        found = self._known.get(address)
        if found is None:
            found = self._known[address] = self._sent(address)
        return found

    def _sent(self, address: int) -> Emission:
        alone: list[Sender] = []
        under_way: list[Arrival | Crossing] = []
        sources: dict[int, int] = defaultdict(int)
        for stack, links in self._senders.items():
            for link in links:
                own, doubt = sources_of(stack, address, link)
                senders = [Sender(stack, self._bits[stack.name], source, doubt, link) for source in own]
                for source in own:
                    sources[source] |= self._bits[stack.name]
                if len(own) == len(links) == 1 and stack.plain:
                    begun = self._begun(senders[0], address)
                    if not any(isinstance(item, Delivery) for item in begun):
                        under_way.extend(item for item in begun if isinstance(item, Arrival | Crossing))
                        continue
                alone.extend(senders)
        return Emission(list(_together(under_way)), alone, sources)

    def _begun(self, sender: Sender, address: int) -> Sequence[Moving | Delivery]:
        """Return what becomes of what a namespace sends of which nothing but routes decides.

        By a gateway it comes to others alike for whichever destination: nobody asked for that on the way.
        """
        led = _way(sender.stack, address, sender.link)
        if len(led.exits) != 1 or led.exits[0].towards == address:
            return list(self._journey.begun(_departure(sender, address)))
        begun = self._by_gateway.get((sender, led))
        if begun is None:
            begun = list(self._journey.begun(_departure(sender, address)))
            if begun and all(map(_was_answered_for, begun)):
                self._by_gateway[sender, led] = begun
        return begun


def _senders(world: World, stations: Iterable[Station] | None) -> Mapping[Stack, Sequence[str]]:
    """Return who sends, and by which interfaces on a link."""
    if stations is None:
        return dict.fromkeys(world.stacks.values(), ("",))
    found: dict[Stack, list[str]] = defaultdict(list)
    for station in stations:
        found[station.stack].append(station.interface.name)
    return found


class Sources(NamedTuple):
    """The addresses that a namespace may send from, and of several why nobody knows which it is."""

    addresses: tuple[int, ...]
    doubt: str


def sources_of(stack: Stack, address: int, link: str = "") -> Sources:
    """Return the addresses that a namespace may send from to another, which may be of a link; none without a route."""
    found = _way(stack, address, link)
    sources = (source for each in found.either or (found,) for source in _sources(stack, each, address))
    addresses = tuple(dict.fromkeys(source for source in sources if source is not None))
    return Sources(addresses, found.doubt if len(addresses) > 1 else "")


def _way(stack: Stack, address: int, link: str) -> Way:
    asked = Question(address, output=link)
    return plain_way(stack, asked) if stack.routing.plain else way(stack, asked)


def _sources(stack: Stack, found: Way, address: int) -> Iterator[int | None]:
    if found.local:
        yield address if found.source is None else found.source
    elif not found.exits:
        yield _picked_blindly(stack, address)
    elif found.source is not None:
        yield found.source
    else:
        yield from (_picked(stack, each, address) for each in found.exits)


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


def _was_answered_for(item: Moving | Delivery) -> bool:
    """Return whether packets have come to whoever was seen to answer for their next hop."""
    if isinstance(item, Crossing):
        return item.receiver is not None
    return isinstance(item, Arrival) and not item.flight.routed


def _departure(sender: Sender, address: int) -> Departure:
    ports: Port = None
    flight = Flight(0, Ends(sender.source, ports, address, ports))
    return Departure(sender.stack, sender.bit, flight, link=sender.link)


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
    cells = astray = contested = 0
    doubts: dict[str, int] = defaultdict(int)
    sources: dict[int | str, int] = defaultdict(int)
    ports: dict[int | str, int] = defaultdict(int)
    interfaces: dict[int | str, int] = defaultdict(int)
    for item in group:
        cells |= item.cells
        astray |= item.flight.astray
        contested |= item.flight.contested
        sources[_value(item.flight.ends.source)] |= item.cells
        ports[_value(item.port)] |= item.cells
        if isinstance(item, Arrival):
            interfaces[_value(item.interface)] |= item.cells
        for name, doubted in item.flight.doubts.items():
            doubts[name] |= doubted
    first = group[0]
    ends = replace(first.flight.ends, source=Column(sources))
    flight = replace(first.flight, ends=ends, doubts=doubts, astray=astray, contested=contested)
    port = Column(ports) if len(ports) > 1 else first.port
    mac = _link_addresses((item.mac, item.cells) for item in group)
    frame_for = _link_addresses((item.frame_for, item.cells) for item in group)
    merged = replace(first, cells=cells, flight=flight, port=port, mac=mac, frame_for=frame_for)
    if isinstance(merged, Arrival) and len(interfaces) > 1:
        return replace(merged, interface=Column(interfaces))
    return merged


def _link_addresses(told: Iterable[tuple[int | Column | None, int]]) -> Column | None:
    """Return the link addresses of packets by their cells, None where none has any."""
    found: dict[int | str, int] = defaultdict(int)
    untold = 0
    for address, cells in told:
        if address is UNTOLD:
            untold |= cells
        elif address is not None:
            found[_value(address)] |= cells
    return Column(found, untold) if found or untold else None


def _value(value: int | str | Column) -> int | str:
    if isinstance(value, Column):
        raise TypeError("packets of one namespace have one value each")
    return value
