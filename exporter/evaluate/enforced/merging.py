"""Rules one after the other that ask for the same but for one set each: a rule for each verdict does the same.

Who filters his own namespace for thousands of addresses or ports, line by line, has few sets of them then.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from heapq import heappop, heappush
from itertools import pairwise
from typing import TYPE_CHECKING

from exporter.model.firewall import AddressTypeIs, AnyBit, HasBits, InRanges, NameIs, Rule, Terminate
from exporter.model.ranges import Ranges

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from exporter.model.firewall import Chain, Firewall, Step

_CERTAIN = frozenset({InRanges, NameIs, HasBits, AnyBit, AddressTypeIs})
"""Matches that say for sure whether they hold."""


def condensed(firewall: Firewall) -> Firewall:
    """Return a firewall that does the same with fewer rules."""
    tables = (
        replace(table, chains={name: merged(chain) for name, chain in table.chains.items()})
        for table in firewall.tables
    )
    return replace(firewall, tables=tuple(tables))


def merged(chain: Chain) -> Chain:
    """Return a chain that does the same with as few rules as that takes at a glance; the same one if it has those."""
    rules = tuple(_merged(chain.rules))
    return chain if len(rules) == len(chain.rules) else replace(chain, rules=rules)


def _merged(rules: Sequence[Rule]) -> Iterator[Rule]:
    begin = 0
    while begin < len(rules):
        end, place = _alike(rules, begin)
        if place is None:
            yield rules[begin]
        else:
            yield from _by_verdict(rules[begin:end], place)
        begin = end


def _alike(rules: Sequence[Rule], begin: int) -> tuple[int, int | None]:
    """Return where those end that ask for what a rule asks for but for one set, and the place of that."""
    first, place, end = rules[begin].steps, None, begin + 1
    if not first or type(first[-1]) is not Terminate or not all(type(step) in _CERTAIN for step in first[:-1]):
        return end, None
    while end < len(rules):
        found = _differing(first, rules[end].steps)
        if found is None or (place is not None and found != place):
            break
        place, end = found, end + 1
    return end, place


def _differing(one: Sequence[Step], other: Sequence[Step]) -> int | None:
    """Return the place of the only match in which two rules differ, where that asks for a set of the same field."""
    if len(one) != len(other) or type(other[-1]) is not Terminate:
        return None
    found: int | None = None
    for place, (mine, theirs) in enumerate(zip(one[:-1], other[:-1], strict=True)):
        if mine is theirs or mine == theirs:
            continue
        if found is not None or type(mine) is not InRanges or type(theirs) is not InRanges:
            return None
        if mine.field is not theirs.field or mine.negated or theirs.negated:
            return None
        found = place
    return found


def _by_verdict(rules: Sequence[Rule], place: int) -> Iterator[Rule]:
    """Yield a rule for each verdict, for the numbers that it is the first one for: no number is in two of them."""
    told = _first_of([_asked(rule.steps[place]).ranges for rule in rules])
    verdicts: dict[Step, list[tuple[int, int]]] = defaultdict(list)
    for number, rule in enumerate(rules):
        verdicts[rule.steps[-1]] += told.get(number, ())
    first, match = rules[0].steps, _asked(rules[0].steps[place])
    for verdict, intervals in verdicts.items():
        step = replace(match, ranges=Ranges.union(intervals))
        text = next(rule.text for rule in rules if rule.steps[-1] == verdict)
        yield Rule((*first[:place], step, *first[place + 1 : -1], verdict), text)


def _first_of(sets: Sequence[Ranges]) -> Mapping[int, list[tuple[int, int]]]:
    """Return by its number what of each set is in none before it."""
    begins: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for number, ranges in enumerate(sets):
        for low, high in ranges.intervals:
            begins[low].append((number, high))
    ends = (high + 1 for ranges in sets for _, high in ranges.intervals)
    found: dict[int, list[tuple[int, int]]] = defaultdict(list)
    waiting: list[tuple[int, int]] = []
    for low, following in pairwise(sorted({*begins, *ends})):
        for begun in begins.get(low, ()):
            heappush(waiting, begun)
        while waiting and waiting[0][1] < low:
            heappop(waiting)
        if waiting:
            found[waiting[0][0]].append((low, following - 1))
    return found


def _asked(step: Step) -> InRanges:
    if not isinstance(step, InRanges):
        raise TypeError("rules differ in a set alone")
    return step
