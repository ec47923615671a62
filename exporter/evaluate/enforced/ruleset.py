"""A firewall prepared for evaluation: base chains by hook, rules indexed by what they ask for.

Large rule sets name most of their rules after one address, port or interface. Rules are cut into segments that look at
the same fields; what a segment does to a set of packets is remembered by the values that it looks at, and of a long
segment only those rules are tried that ask for the packets' own values.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain as joined
from itertools import groupby
from typing import TYPE_CHECKING

from exporter.evaluate.enforced.matching import OF_POLICY_RULES
from exporter.evaluate.enforced.packets import Atom, Column, Some
from exporter.model.addresses import is_link_local
from exporter.model.firewall import (
    AddressTypeIs,
    AnyBit,
    AnyOf,
    Base,
    Call,
    Chain,
    CopyMark,
    Dispatch,
    Divert,
    Field,
    HasBits,
    Hook,
    InRanges,
    NameIs,
    Opaque,
    ProxyLocally,
    ReversePath,
    Rewrite,
    Rule,
    SetMark,
    Side,
    Statement,
    Table,
    TableFamily,
    Terminate,
    Translate,
    Unforeseeable,
    Untrack,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from exporter.evaluate.enforced.matching import Lookups
    from exporter.evaluate.enforced.packets import Packets
    from exporter.model.firewall import Firewall, Match, Step

INDEXED_FROM = 8
"""Rules of a segment from which on an index is worth its while."""

GUARDS = (
    Field.DESTINATION,
    Field.SOURCE,
    Field.DESTINATION_PORT,
    Field.OUTPUT_INTERFACE,
    Field.INPUT_INTERFACE,
    Field.SOURCE_PORT,
)
"""Fields that rules are indexed by, the most selective first."""


@dataclass(slots=True)
class Interest:
    """What rules look at, calls included: fields with the bounds between values that they tell apart."""

    numbers: dict[Field, set[int]] = field(default_factory=dict)
    names: dict[Field, set[str]] = field(default_factory=dict)
    exact: set[Field] = field(default_factory=set)
    types: set[tuple[Field, Side]] = field(default_factory=set)
    rewrites: bool = False
    led_back: bool = False

    def add(self, other: Interest) -> None:
        """Include another interest."""
        for name, bounds in other.numbers.items():
            self.numbers.setdefault(name, set()).update(bounds)
        for name, names in other.names.items():
            self.names.setdefault(name, set()).update(names)
        self.exact |= other.exact
        self.types |= other.types
        self.rewrites |= other.rewrites
        self.led_back |= other.led_back

    def fields(self) -> frozenset[Field]:
        """Return the fields looked at."""
        return frozenset({*self.numbers, *self.names, *self.exact, *(name for name, _ in self.types)})


class Segment:
    """Consecutive rules of a chain that look at the same fields."""

    def __init__(self, rules: Sequence[tuple[int, Rule]], interest: Interest) -> None:
        """Prepare rules, given with their numbers in the chain."""
        self.rules = tuple(rules)
        self.rewrites = interest.rewrites
        self._led_back = interest.led_back
        self._numbers = {
            name: sorted(bounds) for name, bounds in interest.numbers.items() if name not in interest.exact
        }
        self._names = {name: names for name, names in interest.names.items() if name not in interest.exact}
        self._exact = tuple(sorted(interest.exact))
        self._types = tuple(sorted(interest.types))
        self._indexes: dict[frozenset[Field], _Index] = {}

    def key(self, packets: Packets, lookups: Lookups) -> Hashable:
        """Return what the segment's answer depends on, apart from the set of packets itself."""
        fields = packets.fields
        parts: list[Hashable] = []
        for name, bounds in self._numbers.items():
            value = fields.get(name)
            if isinstance(value, int):
                parts.append(bisect_right(bounds, value))
            elif isinstance(value, Atom):
                parts.append(_between(bounds, value))
            else:
                parts.append(value)
        for name, names in self._names.items():
            value = fields.get(name)
            parts.append(_as_named(names, value) if isinstance(value, str) else value)
        parts.extend(fields.get(name) for name in self._exact)
        for name, side in self._types:
            value = fields.get(name)
            at = _at(fields, side, value)
            if isinstance(value, int) and not isinstance(at, Column):
                parts.append(lookups.address_type(value, at if isinstance(at, str) else None))
            else:
                parts.append((value, at))
        if self._led_back and not lookups.plain:
            parts.extend(fields.get(name) for name in OF_POLICY_RULES)
        return tuple(parts)

    def candidates(self, packets: Packets) -> Iterable[tuple[int, Rule]]:
        """Return the rules that may match these packets, in order."""
        if len(self.rules) < INDEXED_FROM:
            return self.rules
        constant = frozenset(name for name in GUARDS if _is_constant(packets.fields.get(name)))
        index = self._indexes.get(constant)
        if index is None:
            index = self._indexes[constant] = _Index(self.rules, constant)
        return index.candidates(packets)


def _between(bounds: Sequence[int], atom: Atom) -> Hashable:
    """Return the bounds that ports lie between; themselves where some of an interval lie beyond one."""
    places = set()
    for low, high in atom.ports.intervals:
        place = bisect_right(bounds, low)
        if place != bisect_right(bounds, high):
            return atom
        places.add(place)
    return frozenset(places) if len(places) > 1 else places.pop()


class _Index:
    """The rules of a segment by the value of the first guard that is the same for all packets."""

    def __init__(self, rules: Sequence[tuple[int, Rule]], constant: frozenset[Field]) -> None:
        self._general: list[tuple[int, Rule]] = []
        self._guarded: dict[Field, dict[int | str, list[tuple[int, Rule]]]] = {}
        for number, rule in rules:
            guards = _guards(rule)
            name = next((name for name in GUARDS if name in guards and name in constant), None)
            if name is None:
                self._general.append((number, rule))
            else:
                self._guarded.setdefault(name, defaultdict(list))[guards[name]].append((number, rule))
        self._sorted = {name: sorted(rules) for name, rules in self._guarded.items() if name in _PORTS}

    def candidates(self, packets: Packets) -> Iterable[tuple[int, Rule]]:
        found = list(self._general)
        for name, rules in self._guarded.items():
            value = packets.fields[name]
            if isinstance(value, Atom | Some):
                ports = self._sorted[name]
                intervals = value.ports.intervals if isinstance(value, Atom) else ((value.low, value.high),)
                for low, high in intervals:
                    for port in ports[bisect_right(ports, low - 1) : bisect_right(ports, high)]:
                        found.extend(rules[port])
            elif isinstance(value, int | str):
                found.extend(rules.get(value, ()))
        return sorted(found, key=_number)


_PORTS = (Field.SOURCE_PORT, Field.DESTINATION_PORT)


def _number(numbered: tuple[int, Rule]) -> int:
    return numbered[0]


def _is_constant(value: object) -> bool:
    return value is not None and not isinstance(value, Column)


def _at(fields: Mapping[Field, object], side: Side, address: object) -> object:
    """Return the interface that an address is looked for at."""
    if side is Side.ANY:
        near = not isinstance(address, int) or is_link_local(address)
        return fields.get(Field.LINK) if near else None
    return fields.get(Field.INPUT_INTERFACE if side is Side.INPUT else Field.OUTPUT_INTERFACE)


def _as_named(names: AbstractSet[str], value: str) -> Hashable:
    """Return what rules that ask for some names tell of one."""
    if value in names:
        return value
    return frozenset(name for name in names if name.endswith("*") and value.startswith(name[:-1]))


def _guards(rule: Rule) -> Mapping[Field, int | str]:
    """Return the single values that a rule asks for before it does anything."""
    found: dict[Field, int | str] = {}
    for step in rule.steps:
        match step:
            case InRanges(name, ranges, negated=False) if len(ranges.intervals) == 1:
                low, high = ranges.intervals[0]
                if low == high:
                    found[name] = low
            case NameIs(name, (only,), negated=False) if not only.endswith("*"):
                found[name] = only
            case _ if isinstance(step, Statement):
                break
            case _:
                pass
    return found


def _acting(chain: Chain) -> Iterator[tuple[int, Rule]]:
    """Yield the rules that do something to packets, with their numbers: nothing hinges on those that log or count."""
    for number, rule in enumerate(chain.rules):
        if any(isinstance(step, Statement) for step in rule.steps):
            yield number, rule


@dataclass(frozen=True, eq=False)
class PreparedChain:
    """A chain cut into segments."""

    table: Table
    chain: Chain
    segments: tuple[Segment, ...]


class PreparedTable:
    """The chains of a table, each prepared when it is first entered."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self._prepared: dict[str, PreparedChain] = {}
        self._interests: dict[str, Interest] = {}

    def chain(self, name: str) -> PreparedChain:
        """Return a chain; one that does not exist is empty, as while it vanishes."""
        prepared = self._prepared.get(name)
        if prepared is None:
            chain = self.table.chains.get(name) or Chain(name)
            prepared = self._prepared[name] = PreparedChain(self.table, chain, tuple(self._segments(chain)))
        return prepared

    def interest(self, name: str) -> Interest:
        """Return what a chain looks at."""
        if name not in self._interests:
            self._interests[name] = interest = Interest()  # found again by chains that call each other in a circle
            for _, rule in _acting(self.table.chains.get(name) or Chain(name)):
                interest.add(self._rule_interest(rule))
        return self._interests[name]

    def _segments(self, chain: Chain) -> Iterator[Segment]:
        numbered = list(_acting(chain))
        interests = {number: self._rule_interest(rule) for number, rule in numbered}
        for _, group in groupby(numbered, key=lambda item: interests[item[0]].fields()):
            rules = list(group)
            together = Interest()
            for number, _rule in rules:
                together.add(interests[number])
            yield Segment(rules, together)

    def _rule_interest(self, rule: Rule) -> Interest:
        interest = Interest()
        for step in rule.steps:
            self._note(step, interest)
        return interest

    def _note(self, step: Step, interest: Interest) -> None:
        if isinstance(step, Statement):
            self._note_statement(step, interest)
            return
        match step:
            case InRanges(name, ranges):
                bounds = interest.numbers.setdefault(name, set())
                bounds.update(bound for low, high in ranges.intervals for bound in (low, high + 1))
            case NameIs(name, names):
                interest.names.setdefault(name, set()).update(names)
            case AddressTypeIs(name, _, side):
                interest.types.add((name, side))
            case ReversePath():
                interest.exact |= {Field.SOURCE, Field.INPUT_INTERFACE}
                interest.led_back = True
            case AnyOf(alternatives):
                for alternative in alternatives:
                    self._note_all(alternative, interest)
            case HasBits(name) | AnyBit(name):
                interest.exact.add(name)
            case Opaque():
                pass

    def _note_statement(self, step: Statement, interest: Interest) -> None:
        match step:
            case Call(chain):
                interest.add(self.interest(chain))
            case Dispatch(cases):
                for matches, statement in cases:
                    self._note_all(matches, interest)
                    self._note_statement(statement, interest)
            case Translate(targets=targets) | Rewrite(targets=targets):
                for target in targets:
                    self._note_all(target.matches, interest)
            case SetMark() | CopyMark() | Untrack() | ProxyLocally():
                interest.rewrites = True
            case Terminate() | Unforeseeable() | Divert():
                pass

    def _note_all(self, steps: Iterable[Match], interest: Interest) -> None:
        for step in steps:
            self._note(step, interest)


@dataclass(frozen=True, slots=True)
class BaseChain:
    """A base chain in its table."""

    table: PreparedTable
    name: str
    base: Base


def base_chains(firewall: Firewall, families: Collection[TableFamily]) -> Sequence[BaseChain]:
    """Return the base chains of tables of some families that can do anything, in the order that the kernel calls them.

    Of equal priority, the one that was registered last is called first; tables are listed by age.
    """
    prepared = (PreparedTable(table) for table in reversed(firewall.tables) if table.family in families)
    found = (
        BaseChain(table, chain.name, chain.base)
        for table in prepared
        for chain in reversed(list(table.table.chains.values()))
        if chain.base is not None and _matters(chain)
    )
    return sorted(found, key=lambda chain: chain.base.priority)


class Ruleset:
    """The base chains of one firewall that see packets of one family (4, 6, or frames), by hook."""

    def __init__(self, firewall: Firewall, family: int) -> None:
        self._by_hook: dict[Hook, list[BaseChain]] = defaultdict(list)
        for chain in base_chains(firewall, _FAMILIES[family]):
            called = chain.base.kind != "nat" or family not in firewall.untracked
            if called and chain.base.hook not in _AT_INTERFACES:
                self._by_hook[chain.base.hook].append(chain)

    @cached_property
    def idle(self) -> bool:
        """Whether no rule and no policy does anything."""
        return not any(self._by_hook.values())

    def chains(self, hook: Hook) -> Sequence[BaseChain]:
        """Return the base chains of a hook in the order in which packets pass them."""
        return self._by_hook.get(hook, ())

    def tells_apart(self, name: Field, values: Collection[str]) -> bool:
        """Return whether rules may treat packets in their own ways that have one of these names in a field."""
        if len(values) < 2:
            return False
        asked = self._interest.names.get(name, set())
        return len({_as_named(asked, value) for value in values}) > 1

    def asks_for(self, name: Field) -> bool:
        """Return whether rules ask for a number."""
        return name in self._interest.numbers or name in self._interest.exact

    @cached_property
    def _interest(self) -> Interest:
        found = Interest()
        for chain in joined.from_iterable(self._by_hook.values()):
            found.add(chain.table.interest(chain.name))
        return found


_AT_INTERFACES = (Hook.INGRESS, Hook.EGRESS)

ARP_FRAMES, BRIDGED_FRAMES = 1, 0
"""In the place of a version of IP."""

_FAMILIES = {
    ARP_FRAMES: (TableFamily.ARP,),
    BRIDGED_FRAMES: (TableFamily.BRIDGE,),
    4: (TableFamily.IP, TableFamily.INET),
    6: (TableFamily.IP6, TableFamily.INET),
}


def _matters(chain: Chain) -> bool:
    """Return whether a base chain can do anything but accept: an empty one is passed over."""
    return bool(chain.rules) or (chain.base is not None and chain.base.policy.value != "accept")
