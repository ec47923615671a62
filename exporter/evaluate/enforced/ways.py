"""Where a namespace's routing sends sets of packets."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from exporter.evaluate.enforced.flight import UDP
from exporter.evaluate.enforced.packets import Atom, Column, PortsDiffer
from exporter.evaluate.enforced.route_table import NOBODYS_SOCKET, Question
from exporter.evaluate.enforced.way import either, plain_way, way
from exporter.model.addresses import is_link_local
from exporter.model.ranges import Ranges

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from exporter.evaluate.enforced.flight import Ends, Port, Value
    from exporter.evaluate.enforced.passing import Passing
    from exporter.evaluate.enforced.route_table import Exit, Way
    from exporter.evaluate.enforced.stack import Stack
    from exporter.model.namespace import PolicyRule

CONNECTED = "whether who sends has connected its socket: it then asks for a route from its address"


@dataclass(slots=True)
class Ways:
    """The ways of a set of packets: the cells that end here, and those that leave by each exit."""

    local: int
    leaving: dict[Exit, int]
    doubts: dict[str, int]

    @property
    def cells(self) -> int:
        """The cells that leave."""
        found = 0
        for cells in self.leaving.values():
            found |= cells
        return found

    def keep_loopback_in(self, passing: Passing) -> None:
        """Drop what would leave with a source of 127.0.0.0/8, unless route_localnet allows it (__mkroute_output)."""
        stack = passing.stack
        if stack.family == 6 or not self.leaving:
            return
        for source, cells in _splits(passing.flight.ends.source, passing.cells):
            if stack.is_loopback(source):
                for item in self.leaving:
                    if not stack.accepts_loopback(stack.routing.names[item.interface]):
                        self.leaving[item] &= ~cells

    def keep_loopback_out(self, passing: Passing) -> None:
        """Drop what came in by a link and would go to a loopback address, unless route_localnet allows it.

        ip_route_input_slow calls it a martian; of IPv6, the route to ::1 is for packets from loopback alone.
        """
        stack = passing.stack
        for destination, to in _splits(passing.flight.ends.destination, passing.cells & self.local):
            for name, cells in _names(passing.interface, to):
                if stack.is_loopback(destination) and not stack.accepts_loopback(name):
                    self.local &= ~cells

    def output(self, stack: Stack) -> str | Column:
        """Return the name of the interface that the packets leave by."""
        names: dict[int | str, int] = defaultdict(int)
        for item, cells in self.leaving.items():
            names[stack.routing.names[item.interface]] |= cells
        return str(next(iter(names))) if len(names) == 1 else Column(names)


def ways(passing: Passing) -> Ways:
    """Return the ways of packets in a namespace, by destination and, where policy rules ask for it, by more."""
    found = Ways(0, defaultdict(int), defaultdict(int))
    for question, cells in _questions(passing):
        known = plain_way(passing.stack, question) if passing.stack.routing.plain else _asked(passing, question)
        if known.local:
            found.local |= cells
        for item in known.exits:
            found.leaving[item] |= cells
        if known.doubt:
            found.doubts[known.doubt] |= cells
    return found


def led_back(passing: Passing, cells: int, output: str, doubts: dict[str, int]) -> int:
    """Return the packets whose source a reverse path filter believes where there are policy rules, and note `doubts`.

    __fib_validate_source asks them for the way back as if the packet came the other way round: from its destination,
    by the interface that it would leave by, with its mark only where `src_valid_mark` says so. About what may have been
    in packets of IPsec they are not asked, and of what went astray nobody knows.
    """
    stack, ends = passing.stack, passing.flight.ends
    if stack.family == 6 or stack.routing.plain:
        return cells
    told = ~(passing.flight.sealed | passing.flight.astray)
    kept, cells = cells & ~told, cells & told
    _cut(stack.routing.rules, ends.reversed())
    ports = (_span(ends.destination_port), _span(ends.source_port))
    for name, at in _names(passing.interface, cells):
        with_mark = stack.either(name, "src_valid_mark")
        for source, of in _splits(ends.source, at):
            for destination, to in _splits(ends.destination, of):
                for mark, here in _marks(passing.mark if with_mark else 0, to):
                    asked = Question(source, destination, output, "", mark, passing.flight.protocol, ports)
                    believed, doubt = stack.led_back(replace(asked, user=NOBODYS_SOCKET), name)
                    kept |= here if believed else 0
                    if doubt:
                        doubts[doubt] = doubts.get(doubt, 0) | here
    return kept


def _questions(passing: Passing) -> Iterator[tuple[Question, int]]:
    stack, ends = passing.stack, passing.flight.ends
    if stack.routing.plain:
        for destination, cells in _splits(ends.destination, passing.cells):
            if is_link_local(destination):
                for interface, output, here in _links(passing, cells):
                    yield Question(destination, interface=interface, output=output), here
            else:
                yield Question(destination), cells
        return
    _cut(stack.routing.rules, ends)
    ports, protocol = (_span(ends.source_port), _span(ends.destination_port)), passing.flight.protocol
    user = None if passing.own else NOBODYS_SOCKET
    for destination, to in _splits(ends.destination, passing.cells):
        for source, of in _splits(ends.source, to):
            for mark, marked in _marks(passing.mark, of):
                ends_at = _links(passing, marked) if is_link_local(destination) else _interfaces(passing, marked)
                for interface, output, cells in ends_at:
                    asked = Question(destination, source, interface, output, mark, protocol, ports, user=user)
                    yield from _apart(asked, cells, passing.flight.astray)


def _apart(asked: Question, cells: int, astray: int) -> Iterator[tuple[Question, int]]:
    """Ask for those apart whose source may be another one, since they were out of sight."""
    if cells & astray:
        yield replace(asked, disguised=True), cells & astray
    if cells & ~astray:
        yield asked, cells & ~astray


def _links(passing: Passing, cells: int) -> Iterator[tuple[str, str, int]]:
    """Yield the interfaces that packets to a link-local address came in by, or else have to leave by."""
    for interface, here in _names(passing.interface, cells):
        if interface:
            yield interface, "", here
        else:
            yield from (("", output, at) for output, at in _names(passing.link, here))


def _interfaces(passing: Passing, cells: int) -> Iterator[tuple[str, str, int]]:
    yield from ((interface, "", here) for interface, here in _names(passing.interface, cells))


def _asked(passing: Passing, question: Question) -> Way:
    """Return the way of packets; of those whose source follows from their route, the one that is asked for without it.

    Of IPv6 a source is tried where no way leads there otherwise (ip6_dst_lookup_tail). Of IPv4 sockets that are
    connected ask again with it (ip_route_connect), which those of UDP may be.
    """
    stack = passing.stack
    if not passing.unbound:
        return way(stack, question)
    blind = way(stack, replace(question, source=None))
    if stack.family == 6:
        return blind if blind.local or blind.exits else way(stack, question)
    bound = way(stack, question) if question.protocol == UDP else blind
    same = (bound.local, bound.exits) == (blind.local, blind.exits)
    return blind if same else either([(blind, ""), (bound, CONNECTED)])


def _cut(rules: Sequence[PolicyRule], ends: Ends) -> None:
    """Raise PortsDiffer where a policy rule is for a part of the ports that packets stand for."""
    for rule in rules:
        for wanted, port in ((rule.source_ports, ends.source_port), (rule.destination_ports, ends.destination_port)):
            asked = Ranges((wanted,)) if wanted is not None else None
            if asked is not None and isinstance(port, Atom) and asked.holds(port.ports) is None:
                raise PortsDiffer(port, [asked])


def _splits(value: Value, cells: int) -> Iterator[tuple[int, int]]:
    if isinstance(value, Column):
        yield from ((int(each), mask & cells) for each, mask in value.values.items() if mask & cells)
    elif cells:
        yield value, cells


def _marks(value: Value, cells: int) -> Iterator[tuple[int | None, int]]:
    yield from _splits(value, cells)
    if isinstance(value, Column) and value.untold & cells:
        yield None, value.untold & cells


def _names(value: str | Column, cells: int) -> Iterator[tuple[str, int]]:
    if isinstance(value, Column):
        yield from ((str(each), mask & cells) for each, mask in value.values.items() if mask & cells)
    elif cells:
        yield value, cells


def _span(port: Port) -> tuple[int, int] | None:
    """Return the ports that packets may have; of those that no policy rule tells apart, one stands for all."""
    if isinstance(port, Atom):
        return port.ports.intervals[0][0], port.ports.intervals[0][0]
    return (port.low, port.high) if port is not None else None
