"""What single steps of rules say: whom they name, and what they tell apart."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from exporter.evaluate.enforced.asked_for import ADDRESSES, PORTS
from exporter.evaluate.kinds.directory import Owner
from exporter.model.addresses import is_link_local
from exporter.model.firewall import (
    AddressTypeIs,
    AnyBit,
    AnyOf,
    Call,
    Dispatch,
    Divert,
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
from exporter.model.ranges import Ranges

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Sequence
    from weakref import WeakValueDictionary

    from exporter.evaluate.kinds.directory import Directory
    from exporter.model.firewall import Match, Statement, Step

_ENDS = (Field.SOURCE, Field.DESTINATION)
_SIDES = (Field.INPUT_INTERFACE, Field.OUTPUT_INTERFACE)
LINKS = frozenset(
    {Field.SOURCE_MAC, Field.DESTINATION_MAC, Field.ARP_SOURCE_MAC, Field.ARP_DESTINATION_MAC},
)
_UNIQUE = LINKS | {Field.INPUT_PORT, Field.OUTPUT_PORT, Field.INPUT_GROUP, Field.OUTPUT_GROUP}
"""Fields in which containers of one kind differ, and which rules of engines never ask for."""


class Bits(NamedTuple):
    """A match that asks for some bits of a number, and the version of IP whose packets it sees, 0 for both."""

    match: HasBits | AnyBit
    version: int


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

    `peculiar` are those that are told apart in a way that is not understood here; `addresses`, `ports` and `links` are
    the sets that addresses, ports and link addresses are compared with, `bits` matches that ask for some of their bits.
    `unusual` is whether nobody can be taken for another.
    """

    peculiar: set[Owner] = field(default_factory=set)
    addresses: set[Ranges] = field(default_factory=set)
    ports: set[Ranges] = field(default_factory=set)
    links: set[Ranges] = field(default_factory=set)
    bits: set[Bits] = field(default_factory=set)
    unusual: bool = False

    def __bool__(self) -> bool:
        return bool(self.peculiar or self.addresses or self.ports or self.links or self.bits or self.unusual)

    def add(self, other: Noted) -> None:
        """Include what others tell apart."""
        self.peculiar |= other.peculiar
        self.addresses |= other.addresses
        self.ports |= other.ports
        self.links |= other.links
        self.bits |= other.bits
        self.unusual |= other.unusual

    @property
    def by_link_address(self) -> bool:
        """Whether link addresses are asked for."""
        return bool(self.links) or any(each.match.field in LINKS for each in self.bits)


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
    """Reads steps one by one. Rules that are parsed together share them, so each is understood once.

    They are the host's, or those of the sandbox that they are `inside` of: then interfaces are that one's own, and so
    are groups and ports of bridges, and the lookups of its own routes, of which `Surveyor` asks whom they tell apart.
    """

    def __init__(self, directory: Directory, sayings: Sayings, inside: str = "") -> None:
        self._directory = directory
        self._sayings = sayings
        self._inside = inside
        self._known: dict[int, StepSaid] = {}
        self._apart: dict[tuple[int, int], Apart] = {}

    def read(self, steps: Iterable[Step]) -> list[StepSaid]:
        """Return what the steps of a rule say, each by itself."""
        known = self._known
        return [known.get(id(step)) or self._read(step) for step in steps]

    def apart(self, said: StepSaid, version: int) -> Apart:
        """Return whom a step tells apart that stays; its rule is for a version of IP, 0 for both."""
        key = id(said.step), version
        known = self._apart.get(key)
        if known is None:
            known = self._apart[key] = Apart(self._directory, self._inside, version)
            known.step(said.step)
        return known

    def _read(self, step: Step) -> StepSaid:
        if type(step) is InRanges and len(step.ranges.intervals) == 1 and not step.negated:
            ((low, high),) = step.ranges.intervals
            found = self._single(step, low) if low == high else self._range(step, low, high)
        elif type(step) is NameIs and len(step.names) == 1 and step.field in _SIDES:
            found = self._side(step, step.names[0])
        else:
            found = StepSaid(step, type(step) in _PLAIN, None, self._sayings.of(step), False, (), None)
        self._known[id(step)] = found
        return found

    def _single(self, step: InRanges, value: int) -> StepSaid:
        """Read a match of one value, which names somebody where it is his address."""
        asks_for = step.field
        guards = ((_GUARD[asks_for], value),) if asks_for in _GUARD else ()
        if asks_for not in ADDRESSES:
            return StepSaid(step, True, None, self._sayings.of(step), False, guards, None)
        ends = asks_for in _SUBNET_GUARD
        if ends and (network := self._directory.inside(value, value)) is not None:
            guards = (*guards, (_SUBNET_GUARD[asks_for], network))
        owner = whose(self._directory, value, self._inside)
        if owner is None:
            return StepSaid(step, True, None, self._sayings.of(step), False, guards, value)
        word = asks_for, "own", self._directory.part(owner, value)
        return StepSaid(step, True, owner, self._sayings.of(word), ends, guards, value)

    def _range(self, step: InRanges, low: int, high: int) -> StepSaid:
        """Read a match of several values in a row, which names a network where they are one of its subnets."""
        ends = step.field in _SUBNET_GUARD
        whole = self._directory.whole(low, high) if step.field in ADDRESSES else None
        inside = self._directory.inside(low, high) if ends else None
        guards = ((_SUBNET_GUARD[step.field], inside),) if inside is not None else ()
        if whole is None:
            return StepSaid(step, True, None, self._sayings.of(step), False, guards, None)
        word = step.field, "subnet", low.bit_length() > 32
        return StepSaid(step, True, Owner("network", whole), self._sayings.of(word), ends, guards, None)

    def _side(self, step: NameIs, name: str) -> StepSaid:
        """Read a match of one interface, which names the network whose bridge it is."""
        guards = ((_GUARD[step.field], name),) if not step.negated else ()
        network = self._directory.interfaces.get(name) if not self._inside else None
        if network is None:
            return StepSaid(step, True, None, self._sayings.of(step), False, guards, None)
        word = step.field, "bridge", step.negated
        return StepSaid(step, True, Owner("network", network), self._sayings.of(word), not step.negated, guards, None)


class Apart:
    """What steps tell apart, and `asked`: the addresses whose owners that depends on."""

    def __init__(self, directory: Directory, inside: str, version: int) -> None:
        self._directory = directory
        self._inside = inside
        self._version = version
        self.noted = Noted()
        self.asked: list[int] = []

    def step(self, step: Match | Statement) -> None:
        """Note what a step and those inside it tell apart."""
        match step:
            case InRanges() | HasBits() | AnyBit():
                self._compared(step)
            case NameIs():
                self._named(step)
            case AnyOf(alternatives):
                self.steps(part for alternative in alternatives for part in alternative)
            case Dispatch(cases):
                self.steps(part for matches, statement in cases for part in (*matches, statement))
            case Translate() | Rewrite():
                self._targets(step)
            case ProxyLocally(addresses):
                for low, high in addresses.intervals:
                    self._between(low, high)
            case Divert():
                self.noted.unusual = True
            case ReversePath() | AddressTypeIs() if not self._inside:
                self.noted.unusual |= _asks_for_sides(step)
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

    def _unique(self, match: InRanges | HasBits | AnyBit | NameIs) -> None:
        """Note a match for what containers of one kind differ in; the host's own rules see ports of all of them."""
        if not self._inside:
            self.noted.unusual = True
        elif isinstance(match, InRanges) and match.field in LINKS:
            self.noted.links.add(match.ranges)
        elif isinstance(match, HasBits | AnyBit) and match.field in LINKS:
            self.noted.bits.add(Bits(match, 0))

    def _compared(self, step: InRanges | HasBits | AnyBit) -> None:
        if step.field in _UNIQUE:
            self._unique(step)
        elif step.field not in ADDRESSES | PORTS:
            pass
        elif not isinstance(step, InRanges):
            self.noted.bits.add(Bits(step, self._version if step.field in ADDRESSES else 0))
        elif step.field in PORTS:
            self.noted.ports.add(step.ranges)
        elif len(step.ranges.intervals) == 1:
            self._between(*step.ranges.intervals[0])
        elif step.ranges:
            self.noted.addresses.add(step.ranges)

    def _named(self, step: NameIs) -> None:
        if step.field in _UNIQUE:
            self._unique(step)
        for text in step.names if not self._inside else ():
            if text.endswith("*"):
                self.noted.peculiar |= {
                    Owner("network", network)
                    for interface, network in self._directory.interfaces.items()
                    if interface.startswith(text[:-1])
                }
            elif text in self._directory.interfaces:
                self.noted.peculiar.add(Owner("network", self._directory.interfaces[text]))

    def _between(self, low: int, high: int) -> None:
        """Note a set of addresses: those in it are told from others, and a single one from all."""
        if low == high:
            self.asked.append(low)
            owner = whose(self._directory, low, self._inside)
            if owner is not None:
                self.noted.peculiar.add(owner)
        if low != high or is_link_local(low):
            self.noted.addresses.add(Ranges(((low, high),)))


def _asks_for_sides(step: ReversePath | AddressTypeIs) -> bool:
    """Return whether the answer depends on the interface that packets come in or leave by."""
    return isinstance(step, ReversePath) or step.side is not Side.ANY


def whose(directory: Directory, address: int, inside: str) -> Owner | None:
    """Return whose an address is; nobody's where it is asked for `inside` of its owner.

    That one stands for itself anyway, whatever its rules say of it.
    """
    owner = directory.owners.get(address)
    return None if owner is not None and owner.id == inside else owner
