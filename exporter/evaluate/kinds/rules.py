"""Whom the host's rules name: which rules are one owner's alone, and what they say once its names are left out.

A rule is *owned* where it can only hold for packets of conversations that its owner takes part in: packets from or to
its address, its bridge or its subnet, or to its published port. All other rules are *general*.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakValueDictionary

from exporter.evaluate.enforced.routing import usual_policy
from exporter.evaluate.enforced.strangers import asks_for_local, for_local_addresses, single
from exporter.evaluate.kinds.directory import Owner
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
    Side,
    Terminate,
    Translate,
    Translation,
    Verdict,
)

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence

    from exporter.evaluate.kinds.directory import Directory, Lead
    from exporter.model.firewall import Chain, Firewall, Match, Rule, Statement, Step, Table
    from exporter.model.namespace import Namespace
    from exporter.model.snapshot import Sandbox

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
_UNIQUE = frozenset({Field.SOURCE_MAC, Field.DESTINATION_MAC, Field.INPUT_PORT, Field.OUTPUT_PORT})
"""Fields in which containers of one kind differ, and which rules of engines never ask for."""

_GUARDS = (
    Field.DESTINATION,
    Field.OUTPUT_INTERFACE,
    Field.INPUT_INTERFACE,
    Field.SOURCE,
    Field.DESTINATION_PORT,
    "subnet of source",
    "subnet of destination",
)
"""What rules exclude each other by: two that ask for different values of one of these hold for no packet both."""


class Mention(NamedTuple):
    """A step that names an owner: `word` is what it says in the place of the name."""

    place: int
    owner: Owner
    word: Hashable
    proves: bool


class Place(NamedTuple):
    """Where a rule stands."""

    table: int
    chain: str
    number: int


class Saying:
    """Stands for all that a rule says once names are left out: one object for all rules that say the same."""

    __slots__ = ("__weakref__",)


@dataclass(slots=True)
class Owned:
    """A rule of one owner; `says` is the rule without names, `guards` are single values that it asks for."""

    owner: Owner
    says: Saying
    guards: Mapping[str, int | str]
    accepts: bool


@dataclass(slots=True)
class Survey:
    """What the rules say of owners.

    `owned` are their rules by place; `peculiar` are those that a rule tells apart in a way that is not understood here,
    `ranges` and `ports` what general rules compare addresses and ports with. `unusual` is whether nobody can be taken
    for another.
    """

    owned: dict[Place, Owned] = field(default_factory=dict)
    peculiar: set[Owner] = field(default_factory=set)
    ranges: set[tuple[int, int]] = field(default_factory=set)
    ports: set[int] = field(default_factory=set)
    unusual: bool = False


@dataclass(slots=True)
class _Noted:
    """What one rule, or all routes, tell apart, and what was asked to find that: addresses, and ports of the host."""

    peculiar: set[Owner] = field(default_factory=set)
    ranges: set[tuple[int, int]] = field(default_factory=set)
    ports: set[int] = field(default_factory=set)
    unusual: bool = False
    addresses: dict[int, Owner | None] = field(default_factory=dict)
    published: dict[int, tuple[Owner, int] | None] = field(default_factory=dict)


class _Said(NamedTuple):
    """What a rule said at a look; `noted` is None where it told nobody apart. `steps` are the key, and kept for it."""

    steps: Sequence[Step]
    owned: Owned | None
    addresses: tuple[tuple[int, Owner | None], ...]
    published: tuple[tuple[int, tuple[Owner, int] | None], ...]
    noted: _Noted | None


class SurveyMemory:
    """What rules said at the look before: the same as long as all that was asked to find it is answered the same.

    Those are the networks, whose the addresses are that a rule names, and who those are.
    """

    def __init__(self) -> None:
        self._ground: tuple[object, ...] = ()
        self._boxes: Mapping[str, Sandbox] = {}
        self._changed: frozenset[str] = frozenset()
        self._old: Mapping[tuple[int, bool], _Said] = {}
        self._new: dict[tuple[int, bool], _Said] = {}
        self.sayings: WeakValueDictionary[Hashable, Saying] = WeakValueDictionary()
        """Sayings by what is said; each is there as long as a rule says it."""

    def turn(self, directory: Directory) -> None:
        """Begin another look; what the one before did not ask for is forgotten."""
        ground = directory.networks, directory.gateways
        self._old = self._new if ground == self._ground else {}
        before, self._boxes = self._boxes, directory.snapshot.sandboxes
        self._changed = frozenset(name for name, box in self._boxes.items() if before.get(name) != box)
        self._ground, self._new = ground, {}

    def recall(
        self,
        key: tuple[int, bool],
        owners: Mapping[int, Owner],
        published: Mapping[int, tuple[Owner, int]],
    ) -> _Said | None:
        """Return what a rule says, if that is known."""
        found = self._old.get(key)
        if found is None:
            return None
        for address, owner in found.addresses:
            if owners.get(address) != owner or (owner is not None and owner.id in self._changed):
                return None
        for port, holder in found.published:
            if published.get(port) != holder:
                return None
        self._new[key] = found
        return found

    def keep(self, key: tuple[int, bool], said: _Said) -> None:
        """Note what a rule says."""
        self._new[key] = said


class Surveyor:
    """Reads rules. `published` are ports of the host that lead to one sandbox each, with their number among its own."""

    def __init__(self, directory: Directory, published: Mapping[int, tuple[Owner, int]], memory: SurveyMemory) -> None:
        self._directory = directory
        self._published = published
        self._memory = memory
        self._accepting: dict[tuple[int, str], bool] = {}
        self._noted = _Noted()
        self.survey = Survey()
        memory.turn(directory)

    def read(self, firewall: Firewall) -> Survey:
        """Return what a firewall's rules say."""
        for number, table in enumerate(firewall.tables):
            local = for_local_addresses(table)
            for chain in table.chains.values():
                for position, rule in enumerate(chain.rules):
                    said = self._said(table, rule, local=chain.name in local)
                    if said.owned is not None:
                        self.survey.owned[Place(number, chain.name, position)] = said.owned
                    if said.noted is not None:
                        self._add(said.noted)
        return self.survey

    def _said(self, table: Table, rule: Rule, *, local: bool) -> _Said:
        """Return what a rule says, as it is known or as it is found now."""
        key = id(rule.steps), local
        found = self._memory.recall(key, self._directory.owners, self._published)
        if found is None:
            noted = self._noted = _Noted()
            owned = self._rule(table, rule, local=local)
            asked = tuple(noted.addresses.items()), tuple(noted.published.items())
            told = noted.peculiar or noted.ranges or noted.ports or noted.unusual
            found = _Said(rule.steps, owned, *asked, noted if told else None)
            # whether all that a chain does is accept is not known for long
            if not (rule.steps and isinstance(rule.steps[-1], Call)):
                self._memory.keep(key, found)
        return found

    def _add(self, noted: _Noted) -> None:
        self.survey.peculiar |= noted.peculiar
        self.survey.ranges |= noted.ranges
        self.survey.ports |= noted.ports
        self.survey.unusual |= noted.unusual

    def _whose(self, address: int) -> Owner | None:
        """Return whose an address is, and note that this was asked."""
        found = self._noted.addresses[address] = self._directory.owners.get(address)
        return found

    def note(self, namespace: Namespace) -> None:
        """Note what a sandbox's own rules and routes tell apart: they are never anybody else's."""
        self._noted = _Noted()
        for table in namespace.firewall.tables:
            for chain in table.chains.values():
                for rule in chain.rules:
                    self._all_nested(rule.steps)
        self._add(self._noted)
        self.note_routes(self._directory.leads(namespace.routes), {})
        self.survey.unusual |= not usual_policy(namespace)

    def note_routes(self, leads: Iterable[Lead], bridges: Mapping[int, str]) -> None:
        """Note whom routes lead elsewhere than to their network; a network's gateway is where it always is.

        `bridges` are networks by the index of their bridge, and what goes over one to all of its own network tells
        nobody apart.
        """
        owners = self._directory.owners
        for route, low, high, into in leads:
            if low != high:
                over = {bridges.get(hop.interface) for hop in route.hops}
                if into is None or over != {into} or self._directory.whole(low, high) is None:
                    self.survey.ranges.add((low, high))
            named = [low] if low in owners else []
            named += [int(hop.gateway) for hop in route.hops if hop.gateway is not None]
            self.survey.peculiar |= {
                owner for own in named if (owner := owners.get(own)) is not None and owner.kind == "sandbox"
            }

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
        if owner is None or not any(mention.proves for mention in mentions if mention.owner == owner):
            self._general(steps, mentions)
            return None
        words: list[Hashable] = list(steps)
        for mention in mentions:
            words[mention.place] = (mention.word, self._relation(owner, mention.owner))
        self._note_rest(steps, mentions)
        # one object in the place of all that a rule says: it is compared over and over
        says = self._memory.sayings.setdefault(tuple(words), Saying())
        return Owned(owner, says, self._guards(steps), self._only_accepts(table, steps[-1], 2))

    def _only_accepts(self, table: Table, step: Step, deepest: int) -> bool:
        """Return whether all that a rule may do is accept: the order of such rules means nothing."""
        if isinstance(step, Terminate):
            return step.verdict is Verdict.ACCEPT
        if not isinstance(step, Call) or step.goto or not deepest:
            return False
        key = id(table), step.chain
        if key not in self._accepting:
            chain = table.chains.get(step.chain)
            self._accepting[key] = chain is not None and all(
                bool(rule.steps)
                and all(type(part) in _PLAIN for part in rule.steps)
                and self._only_accepts(table, rule.steps[-1], deepest - 1)
                for rule in chain.rules
            )
        return self._accepting[key]

    def _guards(self, steps: Iterable[Step]) -> Mapping[str, int | str]:
        """Return single values that a rule asks for."""
        found: dict[str, int | str] = {}
        for step in steps:
            if isinstance(step, InRanges) and not step.negated and len(step.ranges.intervals) == 1:
                low, high = step.ranges.intervals[0]
                if low == high and step.field in _GUARDS:
                    found[step.field] = low
                if step.field in _ENDS and (network := self._directory.inside(low, high)) is not None:
                    found[f"subnet of {step.field}"] = network
            elif isinstance(step, NameIs) and not step.negated and len(step.names) == 1:
                found[step.field] = step.names[0]
        return found

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
            self._noted.unusual = True

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
            self._noted.unusual = True
        elif step.field in _SIDES and len(step.names) == 1:
            network = self._directory.interfaces.get(step.names[0])
            if network is not None:
                word = (step.field, "bridge", step.negated)
                mentions.append(Mention(place, Owner("network", network), word, not step.negated))

    def _target(self, step: Translate, steps: Sequence[Step], mentions: list[Mention], *, local: bool) -> None:
        """Note whom a translation leads to: it is theirs where it is of a port that is published for them alone."""
        place = len(steps) - 1
        if len(step.targets) != 1 or step.kind is not Translation.DNAT:
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
        found = self._noted.published[port] = self._published.get(port)
        return found

    def _targets(self, step: Translate) -> None:
        for target in step.targets:
            for low, high in target.addresses.intervals:
                self._told_apart(low, high)
            for match in target.matches:
                self._nested(match)

    def _owner(self, mentions: Sequence[Mention]) -> Owner | None:
        """Return the one owner that a rule names, beside networks that it is on."""
        sandboxes = {mention.owner for mention in mentions if mention.owner.kind == "sandbox"}
        networks = {mention.owner for mention in mentions if mention.owner.kind == "network"}
        if len(sandboxes) == 1:
            (owner,) = sandboxes
            return owner if all(self._on(owner.id, network.id) for network in networks) else None
        return next(iter(networks)) if not sandboxes and len(networks) == 1 else None

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
            case NameIs(name, names):
                self._named(name, names)
            case AnyOf(alternatives):
                self._all_nested(part for alternative in alternatives for part in alternative)
            case Dispatch(cases):
                self._all_nested(part for matches, statement in cases for part in (*matches, statement))
            case Translate():
                self._targets(step)
            case ProxyLocally(addresses):
                for low, high in addresses.intervals:
                    self._told_apart(low, high)
            case ReversePath():
                self._noted.unusual = True
            case AddressTypeIs(side=side) if side is not Side.ANY:
                self._noted.unusual = True
            case _:
                pass

    def _all_nested(self, steps: Iterable[Match | Statement]) -> None:
        for step in steps:
            self._nested(step)

    def _compared(self, step: InRanges | HasBits | AnyBit) -> None:
        if step.field in _UNIQUE:
            self._noted.unusual = True
        elif step.field in ADDRESSES and isinstance(step, InRanges):
            for low, high in step.ranges.intervals:
                self._told_apart(low, high)
        elif step.field in PORTS and isinstance(step, InRanges):
            self._noted.ports.update(bound for low, high in step.ranges.intervals for bound in (low, high + 1))
        elif step.field in ADDRESSES | PORTS:
            self._noted.unusual = True

    def _named(self, name: Field, names: Iterable[str]) -> None:
        if name in _UNIQUE:
            self._noted.unusual = True
        for text in names:
            if text.endswith("*"):
                self._noted.peculiar |= {
                    Owner("network", network)
                    for interface, network in self._directory.interfaces.items()
                    if interface.startswith(text[:-1])
                }
            elif text in self._directory.interfaces:
                self._noted.peculiar.add(Owner("network", self._directory.interfaces[text]))

    def _told_apart(self, low: int, high: int) -> None:
        if low == high:
            owner = self._whose(low)
            if owner is not None:
                self._noted.peculiar.add(owner)
        else:
            self._noted.ranges.add((low, high))


_PLAIN = frozenset({InRanges, NameIs, AnyBit, HasBits, AddressTypeIs, Terminate, Call, Translate})
"""Steps of rules that may have an owner."""


def positions(chain: Chain, table: int, survey: Survey) -> Iterator[tuple[Owned, Hashable]]:
    """Yield the owned rules of a chain with where they stand in it, as far as their order means anything.

    Between two general rules, consecutive owned ones are a stretch while no packet meets two of them that are of
    different owners, or while all they do is accept: those may change places.
    """
    waiting: list[Owned] = []
    generals = 0
    for number in range(len(chain.rules)):
        rule = survey.owned.get(Place(table, chain.name, number))
        if rule is not None:
            waiting.append(rule)
            continue
        yield from _placed(waiting, generals, survey)
        generals, waiting = generals + 1, []
    yield from _placed(waiting, generals, survey)


def _placed(rules: Sequence[Owned], generals: int, survey: Survey) -> Iterator[tuple[Owned, Hashable]]:
    begin, number = 0, 0
    while begin < len(rules):
        end, shared = _longest(rules, begin)
        if shared is None:
            yield from ((rule, (generals, number)) for rule in rules[begin:end])
        else:
            groups: dict[int | str, list[Owned]] = defaultdict(list)
            for rule in rules[begin:end]:
                groups[rule.guards[shared]].append(rule)
            for group in groups.values():
                survey.peculiar |= _entangled(group, shared)
                yield from ((rule, (generals, number, *place)) for rule, place in _within(group))
        begin, number = end, number + 1


def _longest(rules: Sequence[Owned], begin: int) -> tuple[int, str | None]:
    """Return the end of the longest stretch that begins here, and the field that its rules exclude each other by."""
    best, shared = begin, None
    while best < len(rules) and rules[best].accepts:
        best += 1
    for guard in _GUARDS:
        end = begin
        while end < len(rules) and guard in rules[end].guards:
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


def _entangled(group: Sequence[Owned], shared: str) -> set[Owner]:
    """Return the owners of rules that may hold for the same packets: their order tells them apart."""
    networks = {rule.owner for rule in group if rule.owner.kind == "network"}
    found = networks if len(networks) > 1 else set()
    inside = [rule for rule in group if rule.owner.kind == "sandbox"]
    owners = {rule.owner for rule in inside}
    if len(owners) < 2 or all(rule.accepts for rule in inside):
        return found
    for guard in _GUARDS:
        values = {(rule.owner, rule.guards.get(guard)) for rule in inside}
        if (
            guard is not shared
            and len({value for _, value in values}) == len(values)
            and not any(value is None for _, value in values)
        ):
            return found
    return found | owners
