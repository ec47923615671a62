"""Whom the host's rules name: which rules are one owner's alone, and what they say once its names are left out.

A rule is *owned* where it can only hold for packets of conversations that its owner takes part in: packets from or to
its address, its bridge or its subnet, or to its published port. All other rules are *general*.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from exporter.evaluate.enforced.strangers import asks_for_local, single
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
    TableFamily,
    Terminate,
    Translate,
    Translation,
    Verdict,
)
from exporter.model.ranges import Ranges

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping, Sequence
    from weakref import WeakValueDictionary

    from exporter.evaluate.kinds.directory import Directory
    from exporter.model.firewall import Match, Rule, Statement, Step, Table

ADDRESSES = frozenset(
    {
        Field.SOURCE,
        Field.DESTINATION,
        Field.CT_ORIGINAL_SOURCE,
        Field.CT_ORIGINAL_DESTINATION,
        Field.CT_REPLY_SOURCE,
        Field.CT_REPLY_DESTINATION,
    }
)
_ENDS = (Field.SOURCE, Field.DESTINATION)
PORTS = frozenset(
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
LINKS = frozenset({Field.SOURCE_MAC, Field.DESTINATION_MAC})
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


class Mention(NamedTuple):
    """A step that names an owner: `word` is what it says in the place of the name."""

    place: int
    owner: Owner
    word: Hashable
    proves: bool


class Saying:
    """Stands for all that a rule says once names are left out: one object for all rules that say the same."""

    __slots__ = ("__weakref__",)


@dataclass(slots=True)
class Owned:
    """A rule of one owner; `says` is the rule without names, `guards` are the single values that it asks for.

    There is one for each of GUARDS, None where it does not ask for a single one.
    """

    owner: Owner
    says: Saying
    guards: tuple[int | str | None, ...]
    accepts: bool


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


class Said(NamedTuple):
    """What a rule says; `noted` is None where it tells nobody apart.

    `addresses` and `published` are what was asked to find that: whose they are, addresses and ports of the host.
    `called` is the chain that an owned rule ends in, if it does: whether it only accepts depends on that one.
    """

    steps: Sequence[Step]
    owned: Owned | None
    noted: Noted | None
    addresses: tuple[int, ...]
    published: tuple[int, ...]
    called: str


class RuleReader:
    """Reads rules one by one.

    `published` are ports of the host that lead to one sandbox each, with their number among its own; `sayings` hold
    what is said as long as a rule says it.
    """

    def __init__(
        self,
        directory: Directory,
        published: Mapping[int, tuple[Owner, int]],
        sayings: WeakValueDictionary[Hashable, Saying],
    ) -> None:
        self._directory = directory
        self._published = published
        self._sayings = sayings
        self._noted = Noted()
        self._inside, self._version = "", 0
        self._addresses: list[int] = []
        self._ports: list[int] = []
        self._accepting: dict[tuple[int, str], bool] = {}

    def read(self, table: Table, rule: Rule, *, local: bool, inside: str = "") -> Said:
        """Return what a rule says; `local` is whether only packets to the host's own addresses come to it.

        It is the host's, or that of the sandbox that it is `inside` of: then interfaces are that one's own, and so are
        groups and ports of bridges, and the lookups of its own routes, of which `Surveyor` asks whom they tell apart.
        """
        self._inside, self._version = inside, _version(table, rule)
        noted, self._addresses, self._ports = Noted(), [], []
        self._noted = noted
        owned = self._rule(table, rule, local=local)
        last = rule.steps[-1] if rule.steps else None
        called = last.chain if owned is not None and isinstance(last, Call) else ""
        return Said(rule.steps, owned, noted or None, tuple(self._addresses), tuple(self._ports), called)

    def _rule(self, table: Table, rule: Rule, *, local: bool) -> Owned | None:
        """Return the rule where it has an owner; else note what it tells apart."""
        steps = rule.steps
        mentions: list[Mention] = []
        simple = True
        for place, step in enumerate(steps):
            if isinstance(step, InRanges):
                self._numbers_of(place, step, mentions)
            elif isinstance(step, NameIs):
                self._name(place, step, mentions)
            elif type(step) not in _PLAIN or (isinstance(step, Translate) and place != len(steps) - 1):
                simple = False
        if steps and isinstance(steps[-1], Translate):
            self._target(steps[-1], steps, mentions, local=local or asks_for_local(steps))
        owner = self._owner(mentions) if simple and mentions else None
        if owner is None:
            self._general(steps, mentions)
            return None
        words: list[Hashable] = list(steps)
        for mention in mentions:
            words[mention.place] = (mention.word, self._relation(owner, mention.owner))
        self._note_rest(steps, mentions)
        # one object in the place of all that a rule says: it is compared over and over
        says = self._sayings.setdefault(tuple(words), Saying())
        return Owned(owner, says, self._guards(steps), self._only_accepts(table, steps[-1]))

    def accepts(self, table: Table, name: str) -> bool:
        """Return whether all that a chain may do is accept; one that comes to itself again may do anything."""
        key = id(table), name
        if key not in self._accepting:
            self._accepting[key] = False
            chain = table.chains.get(name)
            self._accepting[key] = chain is not None and all(
                bool(rule.steps)
                and all(type(step) in _PLAIN for step in rule.steps)
                and self._only_accepts(table, rule.steps[-1])
                for rule in chain.rules
            )
        return self._accepting[key]

    def _only_accepts(self, table: Table, last: Step) -> bool:
        """Return whether all that a rule may do is accept: the order of such rules means nothing."""
        if isinstance(last, Terminate):
            return last.verdict is Verdict.ACCEPT
        return isinstance(last, Call) and not last.goto and self.accepts(table, last.chain)

    def _whose(self, address: int) -> Owner | None:
        """Return whose an address is, and note that this was asked; nobody's where the rule is inside of its owner.

        That one stands for itself anyway, whatever its rules say of it.
        """
        self._addresses.append(address)
        owner = self._directory.owners.get(address)
        return None if owner is not None and owner.id == self._inside else owner

    def _guards(self, steps: Iterable[Step]) -> tuple[int | str | None, ...]:
        """Return single values that a rule asks for."""
        found: list[int | str | None] = [None] * len(GUARDS)
        for step in steps:
            if isinstance(step, InRanges) and not step.negated and len(step.ranges.intervals) == 1:
                low, high = step.ranges.intervals[0]
                if low == high and step.field in _GUARD:
                    found[_GUARD[step.field]] = low
                if step.field in _SUBNET_GUARD and (network := self._directory.inside(low, high)) is not None:
                    found[_SUBNET_GUARD[step.field]] = network
            elif isinstance(step, NameIs) and not step.negated and len(step.names) == 1 and step.field in _GUARD:
                found[_GUARD[step.field]] = step.names[0]
        return tuple(found)

    def _relation(self, owner: Owner, named: Owner) -> int | None:
        """Return which of a sandbox's networks a rule of its names."""
        if owner == named:
            return None
        endpoints = self._directory.snapshot.sandboxes[owner.id].endpoints
        return next(number for number, endpoint in enumerate(endpoints) if endpoint.network_id == named.id)

    def _on(self, sandbox: str, network: str) -> bool:
        endpoints = self._directory.snapshot.sandboxes[sandbox].endpoints
        return any(endpoint.network_id == network for endpoint in endpoints)

    def _note_rest(self, steps: Sequence[Step], mentions: Sequence[Mention]) -> None:
        """Note what an owned rule tells apart beside its owner.

        Ports of packets to a sandbox's own address are left out: they are never ports of the host.
        """
        places = {mention.place for mention in mentions}
        inward = any(
            mention.owner.kind == "sandbox"
            and mention.proves
            and getattr(steps[mention.place], "field", None) is Field.DESTINATION
            for mention in mentions
        )
        for place, step in enumerate(steps):
            own = inward and isinstance(step, InRanges) and step.field is Field.DESTINATION_PORT
            if place not in places and not own:
                self._nested(step)

    def _numbers_of(self, place: int, step: InRanges, mentions: list[Mention]) -> None:
        if step.field in ADDRESSES:
            self._address(place, step, mentions)
        elif step.field in _UNIQUE:
            self._unique(step)

    def _unique(self, match: InRanges | HasBits | AnyBit | NameIs) -> None:
        """Note a match for what containers of one kind differ in; the host's own rules see ports of all of them."""
        if not self._inside:
            self._noted.unusual = True
        elif isinstance(match, InRanges) and match.field in LINKS:
            self._noted.links.add(match.ranges)
        elif isinstance(match, HasBits | AnyBit) and match.field in LINKS:
            self._noted.bits.add(Bits(match, 0))

    def _address(self, place: int, step: InRanges, mentions: list[Mention]) -> None:
        intervals = step.ranges.intervals
        if len(intervals) != 1 or step.negated:
            return
        low, high = intervals[0]
        if low == high:
            owner = self._whose(low)
            if owner is not None:
                word = (step.field, "own", self._part(owner, low))
                mentions.append(Mention(place, owner, word, step.field in _ENDS))
        elif (network := self._directory.whole(low, high)) is not None:
            word = (step.field, "subnet", low.bit_length() > 32)
            mentions.append(Mention(place, Owner("network", network), word, step.field in _ENDS))

    def _part(self, owner: Owner, address: int) -> Hashable:
        """Return which of an owner's addresses it is."""
        if owner.kind == "network":
            return self._directory.gateways[owner.id].index(address)
        sandbox = self._directory.snapshot.sandboxes[owner.id]
        for number, endpoint in enumerate(sandbox.endpoints):
            for version, own in ((4, endpoint.ipv4), (6, endpoint.ipv6)):
                if own is not None and int(own) == address:
                    return number, version
        return None

    def _name(self, place: int, step: NameIs, mentions: list[Mention]) -> None:
        if step.field in _UNIQUE:
            self._unique(step)
        elif step.field in _SIDES and len(step.names) == 1 and not self._inside:
            network = self._directory.interfaces.get(step.names[0])
            if network is not None:
                word = (step.field, "bridge", step.negated)
                mentions.append(Mention(place, Owner("network", network), word, not step.negated))

    def _target(self, step: Translate, steps: Sequence[Step], mentions: list[Mention], *, local: bool) -> None:
        """Note whom a translation leads to: it is theirs where it is of a port that is published for them alone."""
        place = len(steps) - 1
        if len(step.targets) != 1 or step.kind is not Translation.DNAT or self._inside:
            self._targets(step)
            return
        (target,) = step.targets
        intervals = target.addresses.intervals
        owner = self._whose(intervals[0][0]) if len(intervals) == 1 else None
        if owner is None or target.matches or owner.kind != "sandbox" or intervals[0][0] != intervals[0][1]:
            self._targets(step)
            return
        port = next(
            (
                (number, match.ranges.intervals[0][0])
                for number, match in enumerate(steps)
                if isinstance(match, InRanges) and match.field is Field.DESTINATION_PORT and single(match)
            ),
            None,
        )
        leads = self._holder(port[1]) if port is not None else None
        mine = leads is not None and leads[0] == owner
        word = ("to", self._part(owner, intervals[0][0]), target.ports, target.base_port)
        mentions.append(Mention(place, owner, word, mine and local))
        if mine and port is not None and leads is not None:
            mentions.append(Mention(port[0], owner, ("published", leads[1]), proves=False))

    def _holder(self, port: int) -> tuple[Owner, int] | None:
        """Return for whom a port of the host is published, and note that this was asked."""
        self._ports.append(port)
        return self._published.get(port)

    def _targets(self, step: Translate | Rewrite) -> None:
        for target in step.targets:
            for low, high in target.addresses.intervals:
                self._told_apart(low, high)
            for match in target.matches:
                self._nested(match)

    def _owner(self, mentions: Sequence[Mention]) -> Owner | None:
        """Return the one owner that a rule names, beside its networks, where the rule is proven to be its own."""
        owners = {mention.owner for mention in mentions}
        sandboxes = [owner for owner in owners if owner.kind == "sandbox"] if len(owners) > 1 else [*owners]
        if len(sandboxes) != 1:
            return None
        (owner,) = sandboxes
        owners.remove(owner)
        if not all(self._on(owner.id, network.id) for network in owners):
            return None
        return owner if any(mention.proves for mention in mentions if mention.owner == owner) else None

    def _general(self, steps: Iterable[Step], mentions: Iterable[Mention]) -> None:
        """Note what a rule tells apart that stays."""
        self._noted.peculiar |= {mention.owner for mention in mentions}
        for step in steps:
            self._nested(step)

    def _nested(self, step: Match | Statement) -> None:
        """Note what a step and those inside it tell apart."""
        match step:
            case InRanges() | HasBits() | AnyBit():
                self._compared(step)
            case NameIs():
                self._named(step)
            case AnyOf(alternatives):
                self._all_nested(part for alternative in alternatives for part in alternative)
            case Dispatch(cases):
                self._all_nested(part for matches, statement in cases for part in (*matches, statement))
            case Translate() | Rewrite():
                self._targets(step)
            case ProxyLocally(addresses):
                for low, high in addresses.intervals:
                    self._told_apart(low, high)
            case ReversePath() if not self._inside:
                self._noted.unusual = True
            case AddressTypeIs(side=side) if side is not Side.ANY and not self._inside:
                self._noted.unusual = True
            case _:
                pass

    def _all_nested(self, steps: Iterable[Match | Statement]) -> None:
        for step in steps:
            self._nested(step)

    def _compared(self, step: InRanges | HasBits | AnyBit) -> None:
        if step.field in _UNIQUE:
            self._unique(step)
        elif step.field not in ADDRESSES | PORTS:
            pass
        elif not isinstance(step, InRanges):
            self._noted.bits.add(Bits(step, self._version if step.field in ADDRESSES else 0))
        elif step.field in PORTS:
            self._noted.ports.add(step.ranges)
        else:
            self._set_apart(step.ranges)

    def _named(self, step: NameIs) -> None:
        if step.field in _UNIQUE:
            self._unique(step)
        for text in step.names if not self._inside else ():
            if text.endswith("*"):
                self._noted.peculiar |= {
                    Owner("network", network)
                    for interface, network in self._directory.interfaces.items()
                    if interface.startswith(text[:-1])
                }
            elif text in self._directory.interfaces:
                self._noted.peculiar.add(Owner("network", self._directory.interfaces[text]))

    def _set_apart(self, ranges: Ranges) -> None:
        """Note a set of addresses: those in it are told from others, and a single one from all."""
        if len(ranges.intervals) == 1:
            self._told_apart(*ranges.intervals[0])
        elif ranges:
            self._noted.addresses.add(ranges)

    def _told_apart(self, low: int, high: int) -> None:
        if low == high:
            owner = self._whose(low)
            if owner is not None:
                self._noted.peculiar.add(owner)
        if low != high or is_link_local(low):
            self._noted.addresses.add(Ranges(((low, high),)))


def _version(table: Table, rule: Rule) -> int:
    """Return the version of IP whose packets a rule is for, 0 where it is for both."""
    if table.family in _VERSIONS:
        return _VERSIONS[table.family]
    asked = (step for step in rule.steps if isinstance(step, InRanges) and step.field is Field.FAMILY and single(step))
    return next((step.ranges.intervals[0][0] for step in asked), 0)


_VERSIONS = {TableFamily.IP: 4, TableFamily.IP6: 6}

_PLAIN = frozenset({InRanges, NameIs, AnyBit, HasBits, AddressTypeIs, Terminate, Call, Translate})
"""Steps of rules that may have an owner."""
