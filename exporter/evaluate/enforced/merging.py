"""Rules one after the other that do the same to packets of one set each: one rule for all of these does it as well.

Who shuts his own namespace for thousands of addresses or ports, line by line, has one set of them then.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from exporter.model.firewall import AddressTypeIs, AnyBit, HasBits, InRanges, NameIs, Rule, Terminate
from exporter.model.ranges import Ranges

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from exporter.model.firewall import Chain, Step

_CERTAIN = frozenset({InRanges, NameIs, HasBits, AnyBit, AddressTypeIs, Terminate})
"""Steps of rules that say for sure whether they hold, and end a packet's way through their chain where they do."""


def merged(chain: Chain) -> Chain:
    """Return a chain that does the same with as few rules as that takes at a glance; the same one if it has those."""
    rules = tuple(_merged(chain.rules))
    return chain if len(rules) == len(chain.rules) else replace(chain, rules=rules)


def _merged(rules: Sequence[Rule]) -> Iterator[Rule]:
    begin = 0
    while begin < len(rules):
        end, place = _alike(rules, begin)
        yield rules[begin] if place is None else _all(rules[begin:end], place)
        begin = end


def _alike(rules: Sequence[Rule], begin: int) -> tuple[int, int | None]:
    """Return where those end that differ from a rule in one set alone, and the place of that."""
    first, place, end = rules[begin].steps, None, begin + 1
    if not first or type(first[-1]) is not Terminate or not all(type(step) in _CERTAIN for step in first):
        return end, None
    while end < len(rules):
        found = _differing(first, rules[end].steps)
        if found is None or (place is not None and found != place):
            break
        place, end = found, end + 1
    return end, place


def _differing(one: Sequence[Step], other: Sequence[Step]) -> int | None:
    """Return the place of the only step in which two rules differ, where that asks for a set of the same field."""
    if len(one) != len(other):
        return None
    found: int | None = None
    for place, (mine, theirs) in enumerate(zip(one, other, strict=True)):
        if mine is theirs or mine == theirs:
            continue
        if found is not None or type(mine) is not InRanges or type(theirs) is not InRanges:
            return None
        if mine.field is not theirs.field or mine.negated or theirs.negated:
            return None
        found = place
    return found


def _all(rules: Sequence[Rule], place: int) -> Rule:
    first = rules[0]
    match = first.steps[place]
    intervals = (span for rule in rules for span in _asked(rule.steps[place]).ranges.intervals)
    step = replace(_asked(match), ranges=Ranges.union(intervals))
    return Rule((*first.steps[:place], step, *first.steps[place + 1 :]), first.text)


def _asked(step: Step) -> InRanges:
    if not isinstance(step, InRanges):
        raise TypeError("rules differ in a set alone")
    return step
