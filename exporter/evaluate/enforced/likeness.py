"""Which addresses nothing tells apart: packets to one of them fare as packets to any other."""

from __future__ import annotations

from collections import defaultdict
from operator import is_not
from typing import TYPE_CHECKING

from exporter.evaluate.enforced.asked_for import ranges_asked_for, steps_of
from exporter.evaluate.enforced.flight import Crossing
from exporter.evaluate.enforced.route_table import Question
from exporter.evaluate.enforced.way import way
from exporter.model.addresses import LINK_LOCAL, is_link_local
from exporter.model.firewall import (
    AddressTypeIs,
    Side,
    Untrack,
)

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from exporter.evaluate.enforced.emission import Emission
    from exporter.evaluate.enforced.packets import Column
    from exporter.evaluate.enforced.stack import Stack
    from exporter.evaluate.enforced.world import World
    from exporter.model.firewall import Step


class Likeness:
    """Tells which of the host's own addresses rules, routes, sockets and neighbours treat alike.

    `own` asks about packets of the host itself, which come from the very address that they are sent to; otherwise about
    packets of everybody else.
    """

    def __init__(self, world: World, *, own: bool) -> None:
        self._world = world
        self._own = own
        firewalls = [stack.namespace.firewall for stack in world.stacks.values() if not stack.plain]
        untracks = any(isinstance(step, Untrack) for firewall in firewalls for step in steps_of(firewall))
        sources = own or untracks
        asked = {
            ranges for firewall in firewalls for ranges in ranges_asked_for(firewall, world.family, sources=sources)
        }
        self._named = {low for ranges in asked for low, high in ranges.intervals if low == high}
        self._sets = [ranges for ranges in asked if any(low != high for low, high in ranges.intervals)]
        self._near_named = any(map(is_link_local, self._named))
        self._near = [ranges.covers(*LINK_LOCAL) for ranges in self._sets]
        self._bridged = not world.host.bridging.idle
        self._sided = any(_asks_for_interface(step) for firewall in firewalls for step in steps_of(firewall))
        self._particular = world.partly_seen or any(
            stack.particular or stack.policies for stack in world.stacks.values()
        )
        self._bound: dict[int, set[tuple[str, int]]] = defaultdict(set)
        for listener in world.host.namespace.listeners:
            if listener.address.version == world.family and not listener.address.is_unspecified:
                self._bound[int(listener.address)].add((listener.protocol, listener.port))

    def of(self, address: int, emission: Emission) -> Hashable:
        """Return a key that is the same for addresses that are alike, an own one where that is not known."""
        host = self._world.host
        if address in self._named or address not in host.addresses or not host.routing.plain:
            return address
        if self._sided or self._bridged or self._particular or self._special(address, emission):
            return address
        told = tuple(address in ranges for ranges in self._sets)
        return (
            host.is_loopback(address),
            told,
            host.addresses[address] if self._goes_by_link(told) else None,
            frozenset(self._bound.get(address, ())),
            tuple(sorted(map(_setting_out, emission.together), key=repr)),
            tuple(
                (stack.name, bit, source == address or source, self._answering(stack, address))
                for stack, bit, source, *_ in emission.alone
            ),
        )

    def _goes_by_link(self, told: Sequence[bool]) -> bool:
        """Return whether rules tell an address, given by the sets that it is in, from the link-local ones.

        Who answers from it by another interface than its own asks there for the neighbour from the link-local address
        (ndisc_solicit).
        """
        return self._world.family == 6 and (self._near_named or any(map(is_not, self._near, told)))

    def _special(self, address: int, emission: Emission) -> bool:
        """Return whether a namespace has policy rules, or an address for its own that is the host's, too."""
        own = () if self._own else (each.source for each in emission.alone if each.stack is not self._world.host)
        return address in own or any(not each.stack.routing.plain for each in emission.alone)

    def _answering(self, stack: Stack, address: int) -> Hashable:
        """Return who takes the packets of a namespace to an address, by the interface that they leave by."""
        return tuple(
            (exit_.interface, tuple(id(station) for station in self._world.answering(stack, exit_)))
            for exit_ in way(stack, Question(address)).exits
        )


def _setting_out(item: object) -> Hashable:
    """Return where packets are, and from where, once they have left their own namespaces."""
    if isinstance(item, Crossing):
        where = item.receiver.stack.name if item.receiver is not None else f"nobody on {item.bridge.name}"
    else:
        where = item.stack.name  # type: ignore[attr-defined]
    flight = item.flight  # type: ignore[attr-defined]
    columns = (flight.ends.source, getattr(item, "interface", ""), item.port, item.mac)  # type: ignore[attr-defined]
    return (type(item).__name__, where, item.cells, *map(_values, columns), tuple(sorted(flight.doubts.items())))  # type: ignore[attr-defined]


def _values(value: int | str | Column | None) -> Hashable:
    values = getattr(value, "values", None)
    return tuple(sorted(values.items())) if isinstance(values, dict) else value


def _asks_for_interface(step: Step) -> bool:
    return isinstance(step, AddressTypeIs) and step.side is not Side.ANY
