"""Maps that send packets by their interface to chains of that interface's own, written out as rules that say the same.

`oifname vmap { "br-a" : jump a, "br-b" : jump b }`, as engines write it from 29.0 on with nftables, is a rule about all
networks. Each rule of chain a with `oifname "br-a"` before it is one of that network's alone, and means the same: no
rule changes a packet's interface. What each network's rules say can then be told.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import chain as joined
from typing import TYPE_CHECKING, NamedTuple

from exporter.evaluate.kinds.kept import identical
from exporter.model.firewall import Call, Dispatch, Field, NameIs, Rule, Terminate, Verdict, reached

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from exporter.model.firewall import Chain, Firewall, Statement, Table, TableKey

_INTERFACES = (Field.INPUT_INTERFACE, Field.OUTPUT_INTERFACE)

_Branch = tuple[NameIs, "Statement"]
"""A case of a map: the one interface that it is for, and what is done then."""

_Maps = dict[int, "Sequence[_Branch]"]
"""The maps of a chain, by the number of their rule, with their cases."""


class Unrolled(NamedTuple):
    """What became of a chain, given those that its maps lead to; `parts` are the rules of each case."""

    chain: Chain
    called: Sequence[Chain]
    result: Chain
    parts: Mapping[tuple[_Branch, str], tuple[Chain | None, tuple[Rule, ...]]]


class UnrolledMemory:
    """What became of chains at the look before."""

    def __init__(self) -> None:
        self._old: Mapping[tuple[TableKey, str], Unrolled] = {}
        self._new: dict[tuple[TableKey, str], Unrolled] = {}

    def turn(self) -> None:
        """Begin another look; what the one before did not ask for is forgotten."""
        self._old, self._new = self._new, {}

    def unrolled(self, place: tuple[TableKey, str], chain: Chain, maps: _Maps, alone: Mapping[str, Chain]) -> Chain:
        """Return a chain without its `maps`; `alone` are chains of the table that one case leads to and no other."""
        called = [alone[name] for name in _called(maps) if name in alone]
        known = self._old.get(place)
        if known is None or known.chain is not chain or not identical(known.called, called):
            known = _unrolled(chain, called, maps, alone, known)
        self._new[place] = known
        return known.result


def unrolled(firewall: Firewall, memory: UnrolledMemory) -> Firewall:
    """Return a firewall that does the same without maps by interface, nor the chains that nobody calls any more."""
    memory.turn()
    return replace(firewall, tables=tuple(_without_maps(table, memory) for table in firewall.tables))


def _without_maps(table: Table, memory: UnrolledMemory) -> Table:
    maps = {
        name: found for name, chain in table.chains.items() if Dispatch in chain.does and (found := dict(_maps(chain)))
    }
    if not maps:
        return table
    chains = dict(table.chains)
    uses = Counter(joined.from_iterable(map(_called, maps.values())))
    # of a chain that many cases lead to, each would have its own rules
    alone = {name: table.chains[name] for name, times in uses.items() if times == 1 and name in table.chains}
    for name, found in maps.items():
        chains[name] = memory.unrolled((table.key, name), table.chains[name], found, alone)
    called = reached(chains, (name for name, chain in chains.items() if chain.base is not None))
    return replace(table, chains={name: chain for name, chain in chains.items() if name in called})


def _called(maps: _Maps) -> Iterator[str]:
    """Yield the chains that cases of maps lead to."""
    for branches in maps.values():
        yield from (statement.chain for _, statement in branches if isinstance(statement, Call))


def _maps(chain: Chain) -> Iterator[tuple[int, Sequence[_Branch]]]:
    """Yield the rules that are nothing but a map by single interfaces, by number, with their cases."""
    for number, rule in enumerate(chain.rules):
        match rule.steps:
            case (Dispatch(cases, key),) if key in _INTERFACES:
                branches = [
                    (matches[0], statement)
                    for matches, statement in cases
                    if len(matches) == 1 and isinstance(matches[0], NameIs)
                ]
                if len(branches) == len(cases):
                    yield number, branches
            case _:
                pass


def _unrolled(
    chain: Chain, called: Sequence[Chain], maps: _Maps, alone: Mapping[str, Chain], before: Unrolled | None
) -> Unrolled:
    known = before.parts if before is not None else {}
    parts: dict[tuple[_Branch, str], tuple[Chain | None, tuple[Rule, ...]]] = {}
    rules: list[Rule] = []
    for number, rule in enumerate(chain.rules):
        for branch in maps.get(number, ()):
            name, statement = branch
            own = alone.get(statement.chain) if isinstance(statement, Call) else None
            part = known.get((branch, rule.text))
            if part is None or part[0] is not own:
                part = own, tuple(_written_out(name, statement, own, rule.text))
            parts[branch, rule.text] = part
            rules += part[1]
        if number not in maps:
            rules.append(rule)
    return Unrolled(chain, called, replace(chain, rules=tuple(rules)), parts)


def _written_out(name: NameIs, statement: Statement, called: Chain | None, text: str) -> Iterator[Rule]:
    if called is None or not isinstance(statement, Call) or statement.goto or not _comes_back(called):
        yield Rule((name, statement), text)
        return
    for rule in called.rules:
        yield Rule((name, *rule.steps), rule.text)


def _comes_back(chain: Chain) -> bool:
    """Return whether packets that a chain does not end for pass all of it: then its rules may stand where it is called.

    Within a `Dispatch` may be a goto or a return.
    """
    return Dispatch not in chain.does and not any(
        step == _RETURN or (isinstance(step, Call) and step.goto) for rule in chain.rules for step in rule.steps
    )


_RETURN = Terminate(Verdict.RETURN)
