"""Whom the host's rules name: which rules are one owner's alone, and what they say once its names are left out.

A rule is *owned* where it can only hold for packets of conversations that its owner takes part in: packets from or to
its address, its bridge or its subnet, or to its published port. All other rules are *general*.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from exporter.evaluate.enforced.strangers import asks_for_local, single
from exporter.evaluate.kinds.steps import GUARDS, Noted, StepReader
from exporter.model.firewall import Call, Field, InRanges, TableFamily, Terminate, Translate, Translation, Verdict
from exporter.model.records import record

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from exporter.evaluate.kinds.directory import Directory, Owner
    from exporter.evaluate.kinds.steps import Saying, Sayings, StepSaid
    from exporter.model.firewall import Rule, Step, Table

Guards = tuple[int | str | None, ...]
"""Single values that a rule asks for, one for each of GUARDS: None where it does not ask for a single one."""

_Key = tuple[tuple[int | None, ...], tuple["Saying", ...]]
"""What a rule says once names are left out: how whoever it names is related to its owner, and what its steps say."""


@record(eq=False)
class Said:
    """What a rule says; `noted` is None where it tells nobody apart.

    `addresses` and `published` are what was asked to find that: whose they are, addresses and ports of the host.
    `called` is the chain that an owned rule ends in, if it does: whether it only accepts depends on that one.
    """

    steps: Sequence[Step]
    noted: Noted | None
    addresses: Sequence[int]
    published: Sequence[int]
    called: str


@record(eq=False)
class Owned(Said):
    """What a rule of one owner says; `says` is the rule without names."""

    owner: Owner
    says: Saying
    guards: Guards
    accepts: bool


class _Form(NamedTuple):
    """What all rules with owners have in common that say the same; `says` is None where such a rule has none.

    `noted` is what they tell apart beside their owner, and `asked` the addresses whose owners that depends on.
    """

    says: Saying | None
    noted: Noted | None = None
    asked: Sequence[int] = ()


class RuleReader:
    """Reads rules one by one. They repeat each other but for names, so each form is understood once.

    `published` are ports of the host that lead to one sandbox each, with their number among its own. Rules are the
    host's, or those of the sandbox that they are `inside` of.
    """

    def __init__(
        self, directory: Directory, published: Mapping[int, tuple[Owner, int]], sayings: Sayings, inside: str = ""
    ) -> None:
        self._directory = directory
        self._published = published
        self._sayings = sayings
        self._inside = inside
        self._steps = StepReader(directory, sayings, inside)
        self._forms: dict[tuple[_Key, int], _Form] = {}
        self._accepting: dict[tuple[int, str], bool] = {}

    def read(self, table: Table, rule: Rule, *, local: bool) -> Said:
        """Return what a rule says; `local` is whether only packets to the host's own addresses come to it."""
        steps = rule.steps
        told = self._steps.read(steps)
        ports: Sequence[int] = ()
        if steps and type(steps[-1]) is Translate:
            ports = self._lead(told, steps[-1], local=local or asks_for_local(steps))
        says, named, asked, guards = _summed_up(told)
        version = _version(table, rule)
        known = self._owner(named) if named else None
        if known is None:
            return self._general(steps, told, asked, ports, version)
        owner, relations = known
        key = relations, says
        form = self._forms.get((key, version))
        if form is None:
            form = self._forms[key, version] = self._form(key, told, owner, version)
        if form.says is None:
            return self._general(steps, told, asked, ports, version)
        last = steps[-1]
        called = last.chain if type(last) is Call else ""
        addresses, accepts = (*asked, *form.asked), self._only_accepts(table, last)
        return Owned(steps, form.noted, addresses, ports, called, owner, form.says, guards, accepts)

    def accepts(self, table: Table, name: str) -> bool:
        """Return whether all that a chain may do is accept; one that comes to itself again may do anything."""
        key = id(table), name
        if key not in self._accepting:
            self._accepting[key] = False
            chain = table.chains.get(name)
            self._accepting[key] = chain is not None and all(
                bool(rule.steps)
                and all(each.plain for each in self._steps.read(rule.steps))
                and self._only_accepts(table, rule.steps[-1])
                for rule in chain.rules
            )
        return self._accepting[key]

    def _only_accepts(self, table: Table, last: Step) -> bool:
        """Return whether all that a rule may do is accept: the order of such rules means nothing."""
        if type(last) is Terminate:
            return last.verdict is Verdict.ACCEPT
        return type(last) is Call and not last.goto and self.accepts(table, last.chain)

    def _owner(self, named: Sequence[Owner]) -> tuple[Owner, tuple[int | None, ...]] | None:
        """Return the one owner that a rule names, beside its networks, and which of these each name is, None for it."""
        owner = named[0]
        on: Sequence[str] = ()
        for each in named:
            if each.kind == "sandbox":
                owner, on = each, self._directory.snapshot.sandboxes[each.id].networks
                break
        relations: list[int | None] = []
        for each in named:
            if each == owner:
                relations.append(None)
            elif each.id in on:
                relations.append(on.index(each.id))
            else:
                return None
        return owner, tuple(relations)

    def _form(self, key: _Key, told: Sequence[StepSaid], owner: Owner, version: int) -> _Form:
        """Return what rules say of which this is one: they have an owner where that is proven."""
        if not all(each.plain for each in told) or not any(each.proves for each in told if each.owner == owner):
            return _Form(None)
        asked: list[int] = []
        noted = self._beside(told, asked, version)
        return _Form(self._sayings.of(key), noted or None, asked)

    def _beside(self, told: Sequence[StepSaid], asked: list[int], version: int) -> Noted:
        """Return what an owned rule tells apart beside its owner; note what was `asked` for that.

        Ports of packets to a sandbox's own address are left out: they are never ports of the host.
        """
        noted = Noted()
        inward = any(
            each.proves and each.owner is not None and each.owner.kind == "sandbox" and _is_of(each, Field.DESTINATION)
            for each in told
        )
        for each in told:
            if each.owner is None and not (inward and _is_of(each, Field.DESTINATION_PORT)):
                self._note(each, noted, asked, version)
        return noted

    def _general(
        self, steps: Sequence[Step], told: Sequence[StepSaid], asked: list[int], ports: Sequence[int], version: int
    ) -> Said:
        """Return what a rule says that has no owner, and stays."""
        noted = Noted(peculiar={each.owner for each in told if each.owner is not None})
        for each in told:
            self._note(each, noted, asked, version)
        return Said(steps, noted or None, tuple(asked), ports, "")

    def _note(self, said: StepSaid, noted: Noted, asked: list[int], version: int) -> None:
        apart = self._steps.apart(said, version)
        noted.add(apart.noted)
        asked += apart.asked

    def _lead(self, told: list[StepSaid], step: Translate, *, local: bool) -> Sequence[int]:
        """Say of a rule's translation, its last step, whom it leads to; return the host's ports that were asked for.

        It is theirs where it is of a port that is published for them alone.
        """
        told[-1] = told[-1]._replace(plain=True)
        if len(step.targets) != 1 or step.kind is not Translation.DNAT or self._inside:
            return ()
        (target,) = step.targets
        intervals = target.addresses.intervals
        if len(intervals) != 1 or intervals[0][0] != intervals[0][1] or target.matches:
            return ()
        address, _ = intervals[0]
        owner = self._directory.owners.get(address)
        if owner is None or owner.kind != "sandbox":
            return ()
        at, port = next(
            ((at, port) for at, each in enumerate(told) if (port := _asked_port(each)) is not None), (0, None)
        )
        leads = self._published.get(port) if port is not None else None
        mine = leads is not None and leads[0] == owner
        word = self._sayings.of(("to", self._directory.part(owner, address), target.ports, target.base_port))
        told[-1] = told[-1]._replace(owner=owner, says=word, proves=mine and local)
        if mine and leads is not None:
            told[at] = told[at]._replace(owner=owner, says=self._sayings.of(("published", leads[1])))
        return (port,) if port is not None else ()


def _version(table: Table, rule: Rule) -> int:
    """Return the version of IP whose packets a rule is for, 0 where it is for both."""
    if table.family in _VERSIONS:
        return _VERSIONS[table.family]
    asked = (step for step in rule.steps if isinstance(step, InRanges) and step.field is Field.FAMILY and single(step))
    return next((step.ranges.intervals[0][0] for step in asked), 0)


_VERSIONS = {TableFamily.IP: 4, TableFamily.IP6: 6}


def _asked_port(said: StepSaid) -> int | None:
    """Return the single destination port that a step asks for, if it does."""
    step = said.step
    if isinstance(step, InRanges) and step.field is Field.DESTINATION_PORT and single(step):
        return step.ranges.intervals[0][0]
    return None


def _is_of(said: StepSaid, field: Field) -> bool:
    return isinstance(said.step, InRanges) and said.step.field is field


def _summed_up(told: Sequence[StepSaid]) -> tuple[tuple[Saying, ...], list[Owner], list[int], Guards]:
    """Return what the steps of a rule say, whom they name, what was asked for that, and single values they ask for."""
    says: list[Saying] = []
    named: list[Owner] = []
    asked: list[int] = []
    guards: list[int | str | None] = [None] * len(GUARDS)
    for _, _, owner, word, _, own, address in told:
        says.append(word)
        if owner is not None:
            named.append(owner)
        if address is not None:
            asked.append(address)
        for place, value in own:
            guards[place] = value
    return tuple(says), named, asked, tuple(guards)
