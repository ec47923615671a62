"""Which addresses nothing tells apart: packets to one of them fare as packets to any other.

The host has one on each bridge, and whoever may change his own namespace as many as he likes.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from functools import cached_property
from itertools import chain as joined
from operator import is_not
from typing import TYPE_CHECKING

from exporter.evaluate.enforced.asked_for import (
    ADDRESSES,
    is_masked,
    mask_of,
    ranges_asked_for,
    steps_of,
    telling_apart,
)
from exporter.evaluate.enforced.flight import Crossing
from exporter.evaluate.enforced.route_table import Question
from exporter.evaluate.enforced.way import way
from exporter.model.addresses import LINK_LOCAL, bounds, is_link_local
from exporter.model.firewall import (
    AddressTypeIs,
    AnyBit,
    Field,
    HasBits,
    Side,
    TableFamily,
    Untrack,
)
from exporter.model.namespace import RouteKind
from exporter.model.ranges import Membership, Ranges

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Sequence
    from collections.abc import Set as AbstractSet

    from exporter.evaluate.enforced.emission import Emission
    from exporter.evaluate.enforced.packets import Column
    from exporter.evaluate.enforced.stack import Stack
    from exporter.evaluate.enforced.world import World
    from exporter.model.firewall import Firewall, Step
    from exporter.model.namespace import OwnAddress, Route


class Likeness:
    """Tells which addresses of one namespace rules, routes, sockets and neighbours treat alike.

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
        self._masks = sorted({mask for firewall in firewalls for step in steps_of(firewall) for mask in _masks(step)})
        self._particular = world.partly_seen or any(
            stack.particular or stack.policies for stack in world.stacks.values()
        )
        self._particular |= any(map(_asks_for_arp, firewalls))
        self._holders: dict[int, list[Stack]] = defaultdict(list)
        for stack in world.stacks.values():
            for address in stack.reached_at:
                self._holders[address].append(stack)
        self._passing_on = [stack for stack in world.stacks.values() if _passes_on(stack)]
        self._bound: dict[int, set[tuple[str, int]]] = defaultdict(set)
        for listener in world.host.namespace.listeners:
            if listener.address.version == world.family and not listener.address.is_unspecified:
                self._bound[int(listener.address)].add((listener.protocol, listener.port))

    def of(self, address: int, emission: Emission) -> Hashable:
        """Return a key that is the same for addresses that are alike, an own one where that is not known."""
        host, holders = self._world.host, self._holders[address]
        if address in self._named or len(holders) != 1 or not host.routing.plain:
            return address
        holder = holders[0]
        if holder is not host and not (holder.routing.plain and all(each.routing.plain for each in self._passing_on)):
            return address
        if self._sided or self._bridged or self._particular or self._special(address, holder, emission):
            return address
        told = tuple(address in ranges for ranges in self._sets)
        return (
            holder.name,
            host.is_loopback(address),
            told,
            self._as_masked(address),
            holder.reached_at[address] if holder is not host or self._goes_by_link(told) else None,
            address in holder.anycast,
            frozenset(self._bound.get(address, ())),
            tuple(sorted(map(_setting_out, emission.together), key=repr)),
            tuple(
                (stack.name, bit, source == address or source, self._answering(stack, address))
                for stack, bit, source, *_ in emission.alone
            ),
            () if holder is host else tuple(self._answering(stack, address) for stack in self._passing_on),
        )

    def at_once(self, address: int) -> Hashable:
        """Return a key that is the same for addresses that are alike, whatever is sent to them; an own one else.

        It is for those of a namespace with very many. Of IPv6 a sender's source goes by the destination's bits.
        """
        holders = self._holders[address]
        if address in self._named or len(holders) != 1 or len(holders[0].addresses) < _MANY:
            return address
        holder = holders[0]
        if holder is self._world.host or not self._choosing <= {holder.name}:
            return address
        shared = address in holder.anycast
        return holder.name, holder.reached_at[address], shared, self._membership.of(address), self._as_masked(address)

    @cached_property
    def _choosing(self) -> AbstractSet[str]:
        """The namespaces that may have several addresses of IPv6 to choose from by where they send."""
        stacks = self._world.stacks.items() if self._world.family == 6 else ()
        return {name for name, stack in stacks if _chooses_source(stack)}

    def _as_masked(self, address: int) -> tuple[bool, ...]:
        """Return by which masks that rules ask for an address is as they ask."""
        return tuple(is_masked(address, *asked) for asked in self._masks)

    @cached_property
    def _membership(self) -> Membership:
        """Everything that tells addresses apart: rules, routes and neighbours, and subnets that questions go by."""
        family, namespaces = self._world.family, [stack.namespace for stack in self._world.stacks.values()]
        cards = joined.from_iterable(each.interfaces.values() for each in namespaces)
        own = {bounds(each.network) for card in cards for each in card.addresses if each.version == family}
        subnets = (Ranges((span,)) for span in own if span[0] != span[1])
        told = joined.from_iterable(telling_apart(each, family) for each in namespaces)
        return Membership(dict.fromkeys((*told, *subnets)))

    def _goes_by_link(self, told: Sequence[bool]) -> bool:
        """Return whether rules tell an address, given by the sets that it is in, from the link-local ones.

        Who answers from it by another interface than its own asks there for the neighbour from the link-local address
        (ndisc_solicit).
        """
        return self._world.family == 6 and (self._near_named or any(map(is_not, self._near, told)))

    def _special(self, address: int, holder: Stack, emission: Emission) -> bool:
        """Return whether a namespace has policy rules, or an address for its own that is somebody else's, too."""
        own = () if self._own else (each.source for each in emission.alone if each.stack is not holder)
        return address in own or any(not each.stack.routing.plain for each in emission.alone)

    def _answering(self, stack: Stack, address: int) -> Hashable:
        """Return who takes the packets of a namespace to an address, by the interface that they leave by."""
        return tuple(
            (exit_.interface, tuple(id(station) for station in self._world.answering(stack, exit_)))
            for exit_ in way(stack, Question(address)).exits
        )


_MANY = 16
"""Addresses of one namespace that are worth looking for those that are alike before anything is sent to them."""


def _chooses_source(stack: Stack) -> bool:
    """Return whether a namespace may have several addresses to choose from by where it sends (ipv6_dev_get_saddr)."""
    own = (list(filter(_is_far, card.addresses)) for card in stack.by_name.values())
    ways = {hop.interface for route in stack.namespace.routes if _leads_far(route) for hop in route.hops}
    lacking = (card for card in stack.by_name.values() if card.index in ways and not any(map(_is_far, card.addresses)))
    return any(len(each) > 1 for each in own) or any(True for _ in lacking)


def _leads_far(route: Route) -> bool:
    destination = route.destination
    return destination.version == 6 and route.kind is RouteKind.UNICAST and not destination.is_link_local


def _is_far(address: OwnAddress) -> bool:
    return address.version == 6 and not address.is_link_local


def _passes_on(stack: Stack) -> bool:
    return any(stack.forwards_from(interface) for interface in stack.by_name)


def _setting_out(item: object) -> Hashable:
    """Return where packets are, and from where, once they have left their own namespaces."""
    if isinstance(item, Crossing):
        where = item.receiver.stack.name if item.receiver is not None else f"nobody on {item.bridge.name}"
    else:
        where = item.stack.name  # type: ignore[attr-defined]
    flight = item.flight  # type: ignore[attr-defined]
    columns = (flight.ends.source, getattr(item, "interface", ""), item.port, item.mac, item.frame_for)  # type: ignore[attr-defined]
    return (type(item).__name__, where, item.cells, *map(_values, columns), tuple(sorted(flight.doubts.items())))  # type: ignore[attr-defined]


def _values(value: int | str | Column | None) -> Hashable:
    values = getattr(value, "values", None)
    return tuple(sorted(values.items())) if isinstance(values, dict) else value


def _masks(step: Step) -> Iterator[tuple[int, int]]:
    """Yield the mask of a match for some bits of addresses, and the value that is asked for, -1 for any of them."""
    if isinstance(step, HasBits | AnyBit) and step.field in ADDRESSES:
        yield mask_of(step)


def _asks_for_interface(step: Step) -> bool:
    return isinstance(step, AddressTypeIs) and step.side is not Side.ANY


def _asks_for_arp(firewall: Firewall) -> bool:
    """Return whether it may depend on the addresses in a frame of ARP whether somebody is answered."""
    tables = tuple(table for table in firewall.tables if table.family not in _WITHOUT_ARP)
    steps = steps_of(replace(firewall, tables=tables)) if tables else ()
    return any(getattr(step, "field", None) in _OF_ARP for step in steps)


_OF_ARP = frozenset({Field.ARP_SOURCE, Field.ARP_DESTINATION, Field.ARP_SOURCE_MAC, Field.ARP_DESTINATION_MAC})
_WITHOUT_ARP = (TableFamily.IP, TableFamily.IP6)
