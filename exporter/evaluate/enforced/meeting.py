"""Rules of sandboxes that no packet between sandboxes meets: they ask for addresses that none of these packets has.

Docker's own resolver makes such rules in every container of a user-defined network (127.0.0.11). A namespace that has
no others sends and receives as if it had none.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import replace
from ipaddress import ip_network
from typing import TYPE_CHECKING, NamedTuple

from exporter.evaluate.enforced.merging import merged
from exporter.model.firewall import LEADING, AnyOf, Dispatch, Divert, Field, InRanges, ProxyLocally, Rewrite, Translate

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from exporter.model.firewall import Firewall, Rule, Step
    from exporter.model.ranges import Ranges

_ENDS = (Field.SOURCE, Field.DESTINATION)
_ALWAYS = tuple(
    (int(net.network_address), int(net.broadcast_address)) for net in map(ip_network, ("fe80::/10", "ff00::/8"))
)
"""Addresses that neighbours of IPv6 ask each other by."""


class Possible:
    """The addresses that packets may come from or go to; it grows by what translations lead to."""

    def __init__(self, addresses: Iterable[int]) -> None:
        self._single = sorted(set(addresses))
        self._spans = list(_ALWAYS)
        self._meeting: dict[Ranges, bool] = {}

    def meets(self, ranges: Ranges) -> bool:
        """Return whether an address of some is possible: the same few are asked for by very many rules."""
        known = self._meeting.get(ranges)
        if known is None:
            known = self._meeting[ranges] = any(self._meets(low, high) for low, high in ranges.intervals)
        return known

    def _meets(self, low: int, high: int) -> bool:
        place = bisect_left(self._single, low)
        if place < len(self._single) and self._single[place] <= high:
            return True
        return any(first <= high and last >= low for first, last in self._spans)

    def include(self, leading: Iterable[Lead]) -> bool:
        """Add where packets are led that may be there; return whether that was new."""
        led = {lead.to for lead in leading if all(map(self.meets, lead.asked))}
        new = {span for span in led if not self._holds(*span)}
        for low, high in sorted(new):
            if low == high:
                insort(self._single, low)
            else:
                self._spans.append((low, high))
        if new:
            self._meeting.clear()
        return bool(new)

    def _holds(self, low: int, high: int) -> bool:
        return self._meets(low, low) if low == high else (low, high) in self._spans

    def met(self, rule: Rule) -> bool:
        """Return whether a packet may come to a rule's end."""
        return all(map(self.meets, asked(rule)))


def possible(addresses: Iterable[int], leading: Iterable[Lead]) -> Possible:
    """Return the addresses that packets may have which begin with some, and are led on like this."""
    found = Possible(addresses)
    known = frozenset(leading)
    while found.include(known):
        pass
    return found


class Lead(NamedTuple):
    """A way to addresses from others: by a rule for packets that have one of each of the sets that it asks for."""

    asked: tuple[Ranges, ...]
    to: tuple[int, int]


def leads(firewall: Firewall) -> Iterator[Lead]:
    """Yield the ways by which the rules of a firewall lead."""
    for table in firewall.tables:
        for chain in table.chains.values():
            for rule in chain.holding(LEADING):
                condition = tuple(asked(rule))
                yield from (Lead(condition, span) for span in _led_to(rule.steps))


def asked(rule: Rule) -> Iterator[Ranges]:
    """Yield the sets of which packets have an address that come to a rule's end, until it asks for something else."""
    for step in rule.steps:
        if not isinstance(step, InRanges):
            return
        if step.field in _ENDS and not step.negated:
            yield step.ranges


def met(firewall: Firewall, found: Possible) -> Firewall:
    """Return a firewall without rules that no packet meets, and with one for those that do the same."""
    return replace(
        firewall,
        tables=tuple(
            replace(
                table,
                chains={
                    name: merged(replace(chain, rules=tuple(rule for rule in chain.rules if found.met(rule))))
                    for name, chain in table.chains.items()
                },
            )
            for table in firewall.tables
        ),
    )


def named_by_translations(firewall: Firewall) -> Iterator[int]:
    """Yield single addresses that nat rules ask for, whoever has them: packets are sent there to be led elsewhere."""
    for table in firewall.tables:
        for chain in table.chains.values():
            for rule in chain.holding(_TRANSLATING):
                yield from _single_destinations(rule.steps)


_TRANSLATING = frozenset({Translate, Rewrite, Divert})


def _single_destinations(steps: Iterable[Step]) -> Iterator[int]:
    for step in steps:
        if isinstance(step, InRanges) and step.field is Field.DESTINATION and not step.negated:
            yield from (low for low, high in step.ranges.intervals if low == high)


def _led_to(steps: Iterable[Step]) -> Iterator[tuple[int, int]]:
    for step in steps:
        match step:
            case Translate(targets=targets) | Rewrite(targets=targets):
                for target in targets:
                    yield from target.addresses.intervals
            case ProxyLocally(addresses):
                yield from addresses.intervals
            case Dispatch(cases):
                for _, statement in cases:
                    yield from _led_to((statement,))
            case AnyOf():
                pass
            case _:
                pass
