"""Rules that no packet of any sandbox meets: they ask for an address that nobody has."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import replace
from functools import cached_property
from ipaddress import ip_network
from itertools import chain as joined
from itertools import compress
from typing import TYPE_CHECKING, NamedTuple

from exporter.evaluate.enforced.merging import merged
from exporter.model.firewall import (
    AddressTypeIs,
    AnyBit,
    AnyOf,
    Field,
    HasBits,
    InRanges,
    NameIs,
    Opaque,
    ReversePath,
    TableFamily,
    same_rules,
)
from exporter.model.reach import HOST

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from exporter.evaluate.kinds.told import Told
    from exporter.model.firewall import Chain, Firewall, Rule, TableKey
    from exporter.model.snapshot import Snapshot

_ENDS = (Field.SOURCE, Field.DESTINATION)
_FAMILIES = (TableFamily.IP, TableFamily.IP6, TableFamily.INET)
_SPECIAL = tuple(
    (int(net.network_address), int(net.broadcast_address))
    for net in map(ip_network, ("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3", "fe80::/10", "ff00::/8"))
)
"""Addresses that packets may have though no namespace lists them: loopback, link-local, multicast, none at all."""


class Known:
    """All addresses that packets between sandboxes may come from or go to."""

    def __init__(self, snapshot: Snapshot, told: Iterable[Told], strangers: Iterable[int]) -> None:
        # as keys, for a set that grows takes several times the room that it needs
        found = dict.fromkeys(joined.from_iterable(sandbox.addresses for sandbox in snapshot.sandboxes.values()))
        found.update(dict.fromkeys(strangers))
        spans = list(_SPECIAL)
        for each in told:
            found.update(dict.fromkeys(each.addresses))
            spans += each.taken
            spans += each.concerned
        found.update(dict.fromkeys(low for low, high in spans if low == high))
        self.ranges = _merged(span for span in spans if span[0] != span[1])
        self._lows, self._highs = [low for low, _ in self.ranges], [high for _, high in self.ranges]
        self.singles = frozenset(found)

    @cached_property
    def _sorted(self) -> list[int]:
        return sorted(self.singles)

    def meets(self, low: int, high: int) -> bool:
        """Return whether an address of a range is known."""
        if low == high and low in self.singles:
            return True
        if low != high:
            place = bisect_left(self._sorted, low)
            if place < len(self._sorted) and self._sorted[place] <= high:
                return True
        last = bisect_right(self._lows, high) - 1
        return last >= 0 and self._highs[last] >= low


def _merged(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return spans in order, those that overlap as one."""
    found: list[tuple[int, int]] = []
    for low, high in sorted(spans):
        if found and low <= found[-1][1]:
            found[-1] = found[-1][0], max(high, found[-1][1])
        else:
            found.append((low, high))
    return found


class Living(NamedTuple):
    """What is left of a chain, by whether these single addresses are known, and these ranges hold one that is."""

    chain: Chain
    left: Chain
    singles: Sequence[int]
    ranges: Mapping[tuple[int, int], bool]


class DeadMemory:
    """What was left of chains at the look before, and the addresses that were known or are now, and not both."""

    def __init__(self) -> None:
        self._known: frozenset[int] = frozenset()
        self._ranges: list[tuple[int, int]] = []
        self._old: Mapping[_Place, Living] = {}
        self._new: dict[_Place, Living] = {}
        self._changed: frozenset[int] = frozenset()

    def turn(self, known: Known) -> None:
        """Begin another look; what the one before did not ask for is forgotten."""
        self._old = self._new if known.ranges == self._ranges else {}
        # where nothing was left before, nothing can have changed
        self._changed, self._known = self._known ^ known.singles if self._old else frozenset(), known.singles
        self._ranges, self._new = known.ranges, {}

    def left(self, place: _Place, chain: Chain, known: Known) -> Chain:
        """Return what is left of a chain: the same object, where that is equal to what was left before."""
        before = self._old.get(place)
        if before is None or before.chain is not chain or not self._holds(before, known):
            asked = _Asked(known)
            lives = [_lives(rule, asked) for rule in chain.rules]
            rules = chain.rules if all(lives) else tuple(compress(chain.rules, lives))
            left = chain if rules is chain.rules else replace(chain, rules=rules)
            if place[0] != HOST:
                # as the evaluator reads them
                left = merged(left)
            if before is not None and same_rules(before.left, left):
                left = before.left
            before = Living(chain, left, tuple(asked.singles), asked.ranges or _NO_RANGES)
        self._new[place] = before
        return before.left

    def _holds(self, before: Living, known: Known) -> bool:
        return self._changed.isdisjoint(before.singles) and all(
            known.meets(*span) == met for span, met in before.ranges.items()
        )


_NO_RANGES: Mapping[tuple[int, int], bool] = {}

_Place = tuple[str, "TableKey", str]


class _Asked:
    """Answers whether addresses are known, and notes what was asked."""

    def __init__(self, known: Known) -> None:
        self._known = known
        self.singles: set[int] = set()
        self.ranges: dict[tuple[int, int], bool] = {}

    def meets(self, low: int, high: int) -> bool:
        if low == high:
            self.singles.add(low)
            return low in self._known.singles or self._known.meets(low, high)
        found = self.ranges.get((low, high))
        if found is None:
            found = self.ranges[low, high] = self._known.meets(low, high)
        return found


def without_dead_rules(firewall: Firewall, known: Known, memory: DeadMemory, whose: str = HOST) -> Firewall:
    """Return a sandbox's firewall without rules that ask for an address that no packet has.

    `memory` has turned to `known`.
    """
    tables = []
    for table in firewall.tables:
        if table.family in _FAMILIES:
            key = table.key
            chains = {name: memory.left((whose, key, name), chain, known) for name, chain in table.chains.items()}
            tables.append(replace(table, chains=chains))
        else:
            tables.append(table)
    return replace(firewall, tables=tuple(tables))


def _lives(rule: Rule, asked: _Asked) -> bool:
    """Return whether packets can come to a rule's end: a match before any statement that no packet meets ends it."""
    for step in rule.steps:
        if type(step) is InRanges:
            if step.field in _ENDS and not step.negated:
                for low, high in step.ranges.intervals:
                    if asked.meets(low, high):
                        break
                else:
                    return False
        elif type(step) not in _NARROWING:
            return True
    return True


_NARROWING = frozenset({InRanges, AnyOf, NameIs, HasBits, AnyBit, AddressTypeIs, ReversePath, Opaque})
"""Steps that are matches; after the first statement a rule has done something."""
