"""What single steps of rules say: whom they name, and what they tell apart."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from exporter.evaluate.enforced.asked_for import ADDRESSES
from exporter.evaluate.kinds.directory import Owner
from exporter.model.addresses import is_link_local
from exporter.model.firewall import (
    AddressTypeIs,
    AnyBit,
    AnyOf,
    Call,
    Dispatch,
    Field,
    HasBits,
    InRanges,
    NameIs,
    ProxyLocally,
    ReversePath,
    Rewrite,
    Side,
    Terminate,
    Translate,
)

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Sequence
    from weakref import WeakValueDictionary

    from exporter.evaluate.kinds.directory import Directory
    from exporter.model.firewall import Match, Statement, Step

_ENDS = (Field.SOURCE, Field.DESTINATION)
_PORTS = frozenset(
    {
        Field.SOURCE_PORT,
        Field.DESTINATION_PORT,
        Field.CT_ORIGINAL_SOURCE_PORT,
        Field.CT_ORIGINAL_DESTINATION_PORT,
        Field.CT_REPLY_SOURCE_PORT,
        Field.CT_REPLY_DESTINATION_PORT,
    }
)
_SIDES = (Field.INPUT_INTERFACE, Field.OUTPUT_INTERFACE)
_UNIQUE = frozenset({
    Field.SOURCE_MAC, Field.DESTINATION_MAC, Field.INPUT_PORT, Field.OUTPUT_PORT, Field.INPUT_GROUP, Field.OUTPUT_GROUP,
})  # fmt: skip
"""Fields in which containers of one kind differ, and which rules of engines never ask for."""

GUARDS = (
    Field.DESTINATION,
    Field.OUTPUT_INTERFACE,
    Field.INPUT_INTERFACE,
    Field.SOURCE,
    Field.DESTINATION_PORT,
    "subnet of source",
    "subnet of destination",
)
"""What rules exclude each other by: two that ask for different values of one of these hold for no packet both."""
_GUARD = {guard: place for place, guard in enumerate(GUARDS)}
_SUBNET_GUARD = {field: _GUARD[f"subnet of {field}"] for field in _ENDS}

_PLAIN = frozenset({InRanges, NameIs, AnyBit, HasBits, AddressTypeIs, Terminate, Call})
"""Steps of rules that may have an owner; of such a rule, the last one may also translate."""


class Saying:
    """Stands for all that a step or a rule says once names are left out: one object for all that say the same."""

    __slots__ = ("__weakref__",)


class Sayings:
    """What steps and rules say, as long as somebody keeps it. What is equal is found by its identity afterwards."""

    def __init__(self, kept: WeakValueDictionary[Hashable, Saying]) -> None:
        self._kept = kept
        self._known: dict[Hashable, Saying] = {}

    def of(self, said: Hashable) -> Saying:
        """Return what stands for all that is equal to this."""
        found = self._known.get(said)
        if found is None:
            found = self._known[said] = self._kept.setdefault(said, Saying())
        return found


@dataclass(slots=True)
class Noted:
    """What rules or routes tell apart.

    `peculiar` are those that are told apart in a way that is not understood here, `ranges` and `ports` what addresses
    and ports are compared with. `unusual` is whether nobody can be taken for another.
    """

    peculiar: set[Owner] = field(default_factory=set)
    ranges: set[tuple[int, int]] = field(default_factory=set)
    ports: set[int] = field(default_factory=set)
    unusual: bool = False

    def __bool__(self) -> bool:
        return bool(self.peculiar or self.ranges or self.ports or self.unusual)

    def add(self, other: Noted) -> None:
        """Include what others tell apart."""
        self.peculiar |= other.peculiar
        self.ranges |= other.ranges
        self.ports |= other.ports
        self.unusual |= other.unusual


class StepSaid(NamedTuple):
    """What a step says.

    `owner` is whom it names, if anybody; `says` what it says in the place of the name. `proves` is whether it holds for
    packets of its owner alone. `guards` are single values that it asks for, by their place in GUARDS; `asked` is the
    address whose owner was asked for.
    """

    step: Step
    plain: bool
    owner: Owner | None
    says: Saying
    proves: bool
    guards: Sequence[tuple[int, int | str]]
    asked: int | None


class StepReader:
    """Reads steps one by one. Rules that are parsed together share them, so each is understood once."""

    def __init__(self, directory: Directory, sayings: Sayings) -> None:
        self._directory = directory
        self._sayings = sayings
        self._known: dict[int, StepSaid] = {}
        self._apart: dict[int, Apart] = {}

    def read(self, steps: Iterable[Step]) -> list[StepSaid]:
        """Return what the steps of a rule say, each by itself."""
        known = self._known
        return [known.get(id(step)) or self._read(step) for step in steps]

    def apart(self, said: StepSaid) -> Apart:
        """Return whom a step tells apart that stays, whoever's the rule is."""
        known = self._apart.get(id(said.step))
        if known is None:
            known = self._apart[id(said.step)] = Apart(self._directory)
            known.step(said.step)
        return known

    def _read(self, step: Step) -> StepSaid:
        asked: int | None = None
        owner: Owner | None = None
        word: Hashable = step
        proves = False
        guards: list[tuple[int, int | str]] = []
        if type(step) is InRanges:
            intervals = step.ranges.intervals
            if len(intervals) == 1 and not step.negated:
                ((low, high),) = intervals
                if low == high and step.field in _GUARD:
                    guards.append((_GUARD[step.field], low))
                if step.field in ADDRESSES:
                    asked = low if low == high else None
                    owner, word, proves = self._address(step, low, high)
                    if step.field in _SUBNET_GUARD and (network := self._directory.inside(low, high)) is not None:
                        guards.append((_SUBNET_GUARD[step.field], network))
        elif type(step) is NameIs and len(step.names) == 1 and step.field in _SIDES:
            (name,) = step.names
            network = self._directory.interfaces.get(name)
            if network is not None:
                owner, word, proves = Owner("network", network), (step.field, "bridge", step.negated), not step.negated
            if not step.negated:
                guards.append((_GUARD[step.field], name))
        plain = type(step) in _PLAIN
        found = StepSaid(step, plain, owner, self._sayings.of(word), proves, guards, asked)
        self._known[id(step)] = found
        return found

    def _address(self, step: InRanges, low: int, high: int) -> tuple[Owner | None, Hashable, bool]:
        """Return whom an address or a subnet names, the word for it, and whether that proves whose the rule is."""
        if low == high:
            owner = self._directory.owners.get(low)
            if owner is not None:
                return owner, (step.field, "own", self._directory.part(owner, low)), step.field in _ENDS
        elif (network := self._directory.whole(low, high)) is not None:
            return Owner("network", network), (step.field, "subnet", low.bit_length() > 32), step.field in _ENDS
        return None, step, False


class Apart:
    """What steps tell apart, and `asked`: the addresses whose owners that depends on."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self.noted = Noted()
        self.asked: list[int] = []

    def step(self, step: Match | Statement) -> None:
        """Note what a step and those inside it tell apart."""
        match step:
            case InRanges() | HasBits() | AnyBit():
                self._compared(step)
            case NameIs(name, names):
                self._named(name, names)
            case AnyOf(alternatives):
                self.steps(part for alternative in alternatives for part in alternative)
            case Dispatch(cases):
                self.steps(part for matches, statement in cases for part in (*matches, statement))
            case Translate() | Rewrite():
                self._targets(step)
            case ProxyLocally(addresses):
                for low, high in addresses.intervals:
                    self._between(low, high)
            case ReversePath():
                self.noted.unusual = True
            case AddressTypeIs(side=side) if side is not Side.ANY:
                self.noted.unusual = True
            case _:
                pass

    def steps(self, steps: Iterable[Match | Statement]) -> None:
        """Note what each of several steps tells apart."""
        for step in steps:
            self.step(step)

    def _targets(self, step: Translate | Rewrite) -> None:
        for target in step.targets:
            for low, high in target.addresses.intervals:
                self._between(low, high)
            self.steps(target.matches)

    def _compared(self, step: InRanges | HasBits | AnyBit) -> None:
        if step.field in _UNIQUE:
            self.noted.unusual = True
        elif step.field in ADDRESSES and isinstance(step, InRanges):
            for low, high in step.ranges.intervals:
                self._between(low, high)
        elif step.field in _PORTS and isinstance(step, InRanges):
            self.noted.ports.update(bound for low, high in step.ranges.intervals for bound in (low, high + 1))
        elif step.field in ADDRESSES | _PORTS:
            self.noted.unusual = True

    def _named(self, name: Field, names: Iterable[str]) -> None:
        if name in _UNIQUE:
            self.noted.unusual = True
        for text in names:
            if text.endswith("*"):
                self.noted.peculiar |= {
                    Owner("network", network)
                    for interface, network in self._directory.interfaces.items()
                    if interface.startswith(text[:-1])
                }
            elif text in self._directory.interfaces:
                self.noted.peculiar.add(Owner("network", self._directory.interfaces[text]))

    def _between(self, low: int, high: int) -> None:
        if low == high:
            self.asked.append(low)
            owner = self._directory.owners.get(low)
            if owner is not None:
                self.noted.peculiar.add(owner)
        if low != high or is_link_local(low):
            self.noted.ranges.add((low, high))
