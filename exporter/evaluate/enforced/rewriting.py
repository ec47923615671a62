"""What translations and other rewriting statements make of packets (nf_nat, nft_payload)."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address
from itertools import groupby
from typing import TYPE_CHECKING

from exporter.evaluate.enforced.packets import Atom, Column, PortsDiffer, Some, is_of_ipv6, only, parts
from exporter.model.firewall import Divert, Field, Hook, Onward, Rewrite, Translation
from exporter.model.ranges import Ranges

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator

    from exporter.evaluate.enforced.flight import Port
    from exporter.evaluate.enforced.passing import Passing
    from exporter.evaluate.enforced.walk import Outcome, Taken
    from exporter.model.firewall import Target

ENTRY = (Hook.PREROUTING, Hook.OUTPUT)
"""Hooks in which conntrack looks a packet up, and in which destinations are rewritten; sources are in the others."""

SEVERAL_ADDRESSES = "which of several addresses the translation takes"
SEVERAL_PORTS = "which of several ports the translation takes"

_MOST_ADDRESSES = 16

_Choice = tuple[int | None, int, str]
"""An address, None for one that stays as it is, the cells that get it, and what makes that unsure."""


def translated(hook: Hook, kind: Translation, target: Target, passing: Passing) -> Iterator[Passing]:
    """Yield packets as a translation makes them, apart where they differ then."""
    if hook in ENTRY:
        return _led_to(_destinations(hook, kind, target, passing), target, passing)
    return _sent_from(_sources(kind, target, passing), target, passing)


def _led_to(addresses: Iterable[_Choice], target: Target, passing: Passing) -> Iterator[Passing]:
    """Yield packets with other destinations."""
    ends, flight = passing.flight.ends, passing.flight
    port = _translated_port(ends.destination_port, target)
    for address, cells, unsure in addresses:
        sure = flight.doubted({unsure: cells} if unsure else {})
        there = replace(ends, destination=address if address is not None else ends.destination, destination_port=port)
        yield passing._replace(cells=cells, flight=replace(sure, ends=there))


def _sent_from(addresses: Iterable[_Choice], target: Target, passing: Passing) -> Iterator[Passing]:
    """Yield packets with other sources."""
    ends, flight = passing.flight.ends, passing.flight
    port = _translated_port(ends.source_port, target)
    for address, cells, unsure in addresses:
        sure = flight.doubted({unsure: cells} if unsure else {})
        source = address if address is not None else ends.source
        there = replace(ends, source=source, source_port=port)
        yield passing._replace(cells=cells, flight=replace(sure, ends=there))


def rewrites(taken: Iterable[Taken], passing: Passing) -> Iterator[Passing]:
    """Yield packets as statements rewrite them, each by itself and after those that come before it in its rule."""
    rewriting = (item for item in taken if isinstance(item.statement, Rewrite) and not item.statement.copied)
    for _, of_rule in groupby(rewriting, key=lambda item: id(item.rule)):
        before: list[Passing] = []
        for _, of_statement in groupby(of_rule, key=lambda item: id(item.statement)):
            led = [
                changed
                for item in of_statement
                for each in (passing._replace(cells=item.cells), *before)
                if item.cells & each.cells
                for changed in _rewritten_by(item, each._replace(cells=item.cells & each.cells))
            ]
            yield from led
            before = led


def led_astray(through: Callable[[Passing], Outcome], taken: Iterable[Taken], passing: Passing) -> Iterator[Passing]:
    """Yield packets as they may be rewritten behind conntrack's back.

    That is in doubt, and so is what becomes of them in the rest of the hook. Only where rules there lead them further
    is asked: by all of these (`through`), for which of them come later nobody has noted.
    """
    seen: dict[Hashable, int] = {}
    waiting = [*rewrites(taken, passing)]
    while waiting:
        led = waiting.pop()
        ends = led.flight.ends
        parts_of = ends.source, ends.source_port, ends.destination, ends.destination_port
        key = led.onward, *(id(part) if isinstance(part, Column) else part for part in parts_of)
        fresh = led.cells & ~seen.get(key, 0)
        if not fresh:
            continue
        seen[key] = seen.get(key, 0) | fresh
        here = led._replace(cells=fresh)
        yield here
        outcome = through(here)
        waiting += rewrites(outcome.taken, here._replace(flight=here.flight.doubted(outcome.doubts)))


def sent_aside(taken: Iterable[Taken], passing: Passing) -> Iterator[Passing]:
    """Yield packets and copies of them that go elsewhere, each with the gateway that it is sent to or what diverts it.

    No copy of a copy is made (nf_dup_ipv4).
    """
    for item in taken:
        statement, target = item.statement, item.target
        if isinstance(statement, Divert):
            yield _astray(statement.name, passing._replace(cells=item.cells, diverted=statement))
        elif isinstance(statement, Rewrite) and statement.copied and target is not None:
            copied = item.cells & ~passing.flight.astray
            for gateway, cells, _ in _each(target, copied) if copied else ():
                yield _astray(statement.name, passing._replace(cells=cells, onward=gateway))


def _astray(name: str, passing: Passing) -> Passing:
    flight = passing.flight.doubted({name: passing.cells})
    return passing._replace(flight=replace(flight, astray=flight.astray | passing.cells))


def _rewritten_by(item: Taken, passing: Passing) -> Iterator[Passing]:
    statement, target, cells = item.statement, item.target, passing.cells
    if isinstance(statement, Rewrite) and target is not None:
        if statement.onward is not None:
            yield from _sent_onward(statement.onward, target, passing)
            return
        addresses = _each(target, cells) if target.addresses else ((None, cells, ""),)
        change = _led_to if statement.field is Field.DESTINATION else _sent_from
        yield from change(addresses, target, passing)


def _sent_onward(onward: Onward, target: Target, passing: Passing) -> Iterator[Passing]:
    """Yield packets as IPVS sends them to a real server: what becomes of their source and of the answer is not told."""
    server = target.addresses.intervals[0][0]
    astray = passing.flight.astray | passing.cells
    here = passing._replace(flight=replace(passing.flight, astray=astray), onward=server)
    yield from _led_to(((server, here.cells, ""),), target, here) if onward is Onward.TRANSLATED else (here,)


def _translated_port(port: Port, target: Target) -> Port:
    """Return the port after a translation. A port that is in the range already stays (nf_nat_l4proto_unique_tuple).

    Which one of several it is otherwise matters only to rules that ask for it.
    """
    if not target.ports or port is None:
        return port
    low, high = target.ports.intervals[0][0], target.ports.intervals[-1][1]
    if target.base_port is not None and isinstance(port, Atom):
        if port.single is None:
            raise PortsDiffer(port, map(Ranges.of, port.ports.numbers()))
        return only(low + (port.single - target.base_port) % (high - low + 1))
    if low == high:
        return only(low)
    if isinstance(port, Atom):
        covered = target.ports.holds(port.ports)
        if covered is None:
            raise PortsDiffer(port, [target.ports])
        if covered:
            return port
    return Some(low, high, SEVERAL_PORTS)


def _destinations(hook: Hook, kind: Translation, target: Target, passing: Passing) -> Iterator[_Choice]:
    if kind is Translation.REDIRECT:
        yield from _redirected(hook, passing)
    elif not target.addresses:
        yield None, passing.cells, ""
    else:
        yield from _each(target, passing.cells)


def _redirected(hook: Hook, passing: Passing) -> Iterator[_Choice]:
    """Yield the address that REDIRECT takes: the input interface's first one, loopback's for the host's own packets."""
    stack = passing.stack
    if hook is Hook.OUTPUT:
        yield int(ip_address("127.0.0.1" if stack.family == 4 else "::1")), passing.cells, ""
        return
    for name, cells in parts(passing.interface, passing.cells):
        interface = stack.by_name.get(str(name))
        own = [item for item in interface.addresses if item.version == stack.family] if interface else []
        first = next((item for item in own if stack.family == 4 or not item.is_link_local), None)
        if first is not None:
            yield int(first.ip), cells, ""


def _sources(kind: Translation, target: Target, passing: Passing) -> Iterator[_Choice]:
    if kind is Translation.MASQUERADE:
        yield from _masqueraded(passing)
    elif not target.addresses:
        yield None, passing.cells, ""
    else:
        yield from _each(target, passing.cells)


def _masqueraded(passing: Passing) -> Iterator[_Choice]:
    """Yield the address of the output interface, or one that it is lent: without any, masquerading drops.

    Of IPv4 it is the one that suits the next hop (nf_nat_masquerade_ipv4), of IPv6 the destination
    (nf_nat_masquerade_ipv6).
    """
    stack = passing.stack
    for name, cells in parts(passing.output, passing.cells):
        interface = stack.by_name.get(str(name))
        if interface is None:
            continue
        for towards, at in _suiting(passing, cells):
            address = stack.source_for(interface.index, towards)
            if address is not None:
                yield address, at, ""


def _suiting(passing: Passing, cells: int) -> Iterator[tuple[int, int]]:
    """Yield the addresses that a source has to suit: a gateway of IPv6 is none for IPv4 (rt_nexthop)."""
    six = passing.stack.family == 6
    destination = passing.flight.ends.destination
    for towards, at in parts(destination if six or passing.next_hop is None else passing.next_hop, cells):
        instead = parts(destination, at) if not six and is_of_ipv6(int(towards)) else ((towards, at),)
        yield from ((int(each), here) for each, here in instead)


def _each(target: Target, cells: int) -> Iterator[_Choice]:
    addresses = [
        address
        for low, high in target.addresses.intervals
        for address in range(low, min(high, low + _MOST_ADDRESSES) + 1)
    ]
    doubt = SEVERAL_ADDRESSES if len(addresses) > 1 else ""
    for address in addresses[:_MOST_ADDRESSES]:
        yield address, cells, doubt
