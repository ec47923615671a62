"""Where owned rules stand in a chain, as far as their order means anything."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from exporter.evaluate.kinds.rules import Owned
from exporter.evaluate.kinds.steps import GUARDS

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence

    from exporter.evaluate.kinds.directory import Owner
    from exporter.evaluate.kinds.rules import Said


def placed(rules: Iterable[Said]) -> tuple[Mapping[Owner, Hashable], set[Owner]]:
    """Return what each owner's rules say and where, and those whom the order of rules tells apart.

    `rules` are those of a chain. Between two general ones, consecutive owned ones are a stretch while no packet meets
    two of them that are of different owners, or while all they do is accept: those may change places.
    """
    peculiar: set[Owner] = set()
    found: dict[Owner, list[Hashable]] = defaultdict(list)
    for rule, place in _positions(rules, peculiar):
        found[rule.owner].append((place, rule.says))
    # one object in the place of all that are equal: there are few such, and they are compared over and over
    same: dict[Hashable, Hashable] = {}
    told = {owner: tuple(said) for owner, said in found.items()}
    known: dict[tuple[Hashable, ...], Hashable] = {}
    for each in set(told.values()):
        counted = frozenset(Counter(each).items())
        known[each] = same.setdefault(counted, counted)
    return {owner: known[said] for owner, said in told.items()}, peculiar


def _positions(rules: Iterable[Said], peculiar: set[Owner]) -> Iterator[tuple[Owned, Hashable]]:
    waiting: list[Owned] = []
    generals = 0
    for rule in rules:
        if isinstance(rule, Owned):
            waiting.append(rule)
            continue
        if waiting:
            yield from _placed(waiting, generals, peculiar)
            waiting = []
        generals += 1
    yield from _placed(waiting, generals, peculiar)


def _placed(rules: Sequence[Owned], generals: int, peculiar: set[Owner]) -> Iterator[tuple[Owned, Hashable]]:
    begin, number = 0, 0
    while begin < len(rules):
        end, shared = _longest(rules, begin)
        if shared is None:
            yield from ((rule, (generals, number)) for rule in rules[begin:end])
        else:
            alone = generals, number, 0, 0
            stretch = rules[begin:end]
            if len({rule.guards[shared] for rule in stretch}) == len(stretch):
                yield from ((rule, alone) for rule in stretch)
            else:
                for group in _groups(stretch, shared):
                    peculiar |= _entangled(group, shared)
                    yield from ((rule, (generals, number, *place)) for rule, place in _within(group))
        begin, number = end, number + 1


def _groups(rules: Iterable[Owned], shared: int) -> Iterable[Sequence[Owned]]:
    """Return the rules that ask for the same value, together."""
    groups: dict[int | str | None, list[Owned]] = defaultdict(list)
    for rule in rules:
        groups[rule.guards[shared]].append(rule)
    return groups.values()


def _longest(rules: Sequence[Owned], begin: int) -> tuple[int, int | None]:
    """Return the end of the longest stretch that begins here, and the guard that its rules exclude each other by."""
    best: int = begin
    shared: int | None = None
    while best < len(rules) and rules[best].accepts:
        best += 1
    for guard in range(len(GUARDS)):
        end = begin
        while end < len(rules) and rules[end].guards[guard] is not None:
            end += 1
        if end > best:
            best, shared = end, guard
    return max(best, begin + 1), shared


def _within(group: Sequence[Owned]) -> Iterator[tuple[Owned, tuple[int, int]]]:
    """Yield rules that packets meet one after the other with their order among the network's and their owner's."""
    networks = 0
    own: dict[Owner, int] = defaultdict(int)
    for rule in group:
        yield rule, (networks, own[rule.owner])
        own[rule.owner] += 1
        networks += rule.owner.kind == "network"


def _entangled(group: Sequence[Owned], shared: int) -> set[Owner]:
    """Return the owners of rules that may hold for the same packets: their order tells them apart."""
    networks = {rule.owner for rule in group if rule.owner.kind == "network"}
    found = networks if len(networks) > 1 else set()
    inside = [rule for rule in group if rule.owner.kind == "sandbox"]
    owners = {rule.owner for rule in inside}
    if len(owners) < 2 or all(rule.accepts for rule in inside):
        return found
    for guard in range(len(GUARDS)):
        values = {(rule.owner, rule.guards[guard]) for rule in inside}
        if (
            guard != shared
            and len({value for _, value in values}) == len(values)
            and not any(value is None for _, value in values)
        ):
            return found
    return found | owners
