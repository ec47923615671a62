"""What a hook's chains do to packets: netfilter's own loop, for all sources at once and with doubts kept.

Of every set of packets two bounds are kept. A match that cannot be decided lets packets go both ways; a packet that
some way accepts and another drops is in doubt, and the names of the matches that it hinges on are kept with it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from exporter.evaluate.enforced.asked_for import PORTS
from exporter.evaluate.enforced.matching import Held, Matching
from exporter.evaluate.enforced.packets import (
    ANSWERED,
    ANSWERED_BEFORE,
    SOURCE_PORT,
    WHENCE,
    Atom,
    Column,
    Picked,
    PortsDiffer,
    Some,
)
from exporter.model.firewall import (
    Backend,
    Call,
    CopyMark,
    CtState,
    Dispatch,
    Divert,
    Field,
    InRanges,
    NameIs,
    Opaque,
    ProxyLocally,
    ReversePath,
    Rewrite,
    SetMark,
    Terminate,
    Translate,
    Unforeseeable,
    Untrack,
    Verdict,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from exporter.evaluate.enforced.matching import Lookups
    from exporter.evaluate.enforced.packets import Constant, Packets
    from exporter.evaluate.enforced.ruleset import BaseChain, PreparedTable, Segment
    from exporter.model.firewall import Chain, Match, Rule, Statement, Target
    from exporter.model.ranges import Ranges

DEEPEST = 16
"""Calls within calls that the kernel follows (NFT_JUMP_STACK_SIZE)."""

ENDLESS = "chains that call each other in a circle"
MARK = "a mark that may be set"
UNTRACKED = "whether conntrack follows the packets"
ASTRAY = "what somebody who is not seen made of where packets come from"
LEARNED = "what neighbours learned of each other before, where their questions or answers are lost"
FRAMED_FOR = "whose link address frames are for"
WAY_BACK = "policy rule that a way back hinges on"


class Taken(NamedTuple):
    """What leads packets elsewhere: a rule's statement, and one of its targets; None for what has none.

    `surely` are those that do not go on, `rule` is told of one that rewrites.
    """

    statement: Translate | ProxyLocally | Rewrite | Divert
    target: Target | None
    cells: int
    surely: int = 0
    rule: Rule | None = None


@dataclass(slots=True)
class Outcome:
    """What became of packets in a chain: each set may overlap others where something is in doubt.

    Those `rewritten` may pass whatever the next rules do, which they meet all the same.
    """

    accepted: int = 0
    dropped: int = 0
    returned: int = 0
    rewritten: int = 0
    taken: list[Taken] = field(default_factory=list)
    doubts: dict[str, int] = field(default_factory=dict)

    @property
    def gone(self) -> int:
        """Those that may go on elsewhere, and not with the next rule."""
        gone = self.accepted | self.returned
        for item in self.taken:
            gone |= 0 if isinstance(item.statement, Rewrite | Divert) else item.cells
        return gone

    def doubt(self, name: str, cells: int) -> None:
        """Note that something that is not known decides about cells."""
        if cells:
            self.doubts[name] = self.doubts.get(name, 0) | cells

    def add(self, other: Outcome) -> None:
        """Include what became of packets elsewhere, but for those that came back."""
        self.accepted |= other.accepted
        self.dropped |= other.dropped
        self.rewritten |= other.rewritten
        self.taken += other.taken
        for name, cells in other.doubts.items():
            self.doubt(name, cells)


@dataclass(frozen=True, slots=True)
class Step:
    """A rule of a namespace that decided something about packets, for explanations.

    `number` counts from 1; 0 is the policy.
    """

    place: str
    table: str
    chain: str
    number: int
    rule: Rule | None
    does: str
    packets: int | None = None

    @property
    def drops(self) -> bool:
        """Whether packets were lost by it."""
        return self.does.endswith(("drop", "reject"))


class Walker:
    """Leads packets through the chains of one namespace and family.

    With a `trace`, every decision is noted there, as one of the namespace `place`.
    """

    def __init__(self, lookups: Lookups, trace: list[Step] | None = None, place: str = "") -> None:
        self._lookups = lookups
        self._matching = Matching(lookups)
        self._known: dict[object, Outcome] = {}
        self._trace = trace
        self._place = place

    def through(self, chains: Iterable[BaseChain], packets: Packets, cells: int) -> Outcome:
        """Lead packets through base chains, one after the other: a drop is final, an accept ends that chain only.

        Packets that a chain takes elsewhere (ProxyLocally) go on and are noted as taken.
        """
        total = Outcome()
        for chain in chains:
            if not cells:
                break
            outcome = self.base(chain, packets, cells)
            total.dropped |= outcome.dropped
            total.taken += outcome.taken
            both = outcome.accepted & outcome.dropped
            for name, doubted in outcome.doubts.items():
                total.doubt(name, doubted & both)
            cells = outcome.accepted
        total.accepted = cells
        return total

    def base(self, chain: BaseChain, packets: Packets, cells: int) -> Outcome:
        """Lead packets through one base chain; those that come back from it meet its policy."""
        outcome = self._chain(chain.table, chain.name, packets, cells, 0, 0)
        passed = outcome.accepted | outcome.rewritten
        final = Outcome(passed, outcome.dropped, taken=list(outcome.taken), doubts=dict(outcome.doubts))
        if outcome.returned:
            accepts = chain.base.policy is Verdict.ACCEPT
            final.accepted |= outcome.returned if accepts else 0
            final.dropped |= 0 if accepts else outcome.returned
            self._note(chain.table, chain.name, -1, None, f"policy {chain.base.policy}")
        return final

    def _chain(self, table: PreparedTable, name: str, packets: Packets, cells: int, depth: int, apart: int) -> Outcome:
        """Lead packets through a chain; those `apart` may be elsewhere all the same, and what is done here not done."""
        outcome = Outcome()
        if depth > DEEPEST:
            outcome.accepted = outcome.dropped = cells
            outcome.doubt(ENDLESS, cells)
            return outcome
        prepared = table.chain(name)
        for segment in prepared.segments:
            if not cells:
                break
            gone = apart | outcome.gone if segment.rewrites else 0
            found = self._segment(table, prepared.chain, segment, packets, cells, depth, gone)
            outcome.add(found)
            outcome.returned |= found.returned
            cells = found.passed
        outcome.returned |= cells
        return outcome

    def _segment(
        self, table: PreparedTable, chain: Chain, segment: Segment, packets: Packets, cells: int, depth: int, apart: int
    ) -> _Passed:
        if segment.rewrites or self._trace is not None:
            return self._rules(table, chain, segment, packets, cells, depth, apart)
        key = (segment, cells, segment.key(packets, self._lookups))
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = self._rules(table, chain, segment, packets, cells, depth, apart)
        return known  # type: ignore[return-value]

    def _rules(
        self, table: PreparedTable, chain: Chain, segment: Segment, packets: Packets, cells: int, depth: int, apart: int
    ) -> _Passed:
        outcome = _Passed()
        candidates = segment.candidates(packets)
        try:
            for number, rule in candidates:
                cells = self._rule(_Place(table, chain, number, rule, depth, apart), packets, cells, outcome)
                if not cells:
                    break
        except PortsDiffer as difference:
            if isinstance(difference.atom, Picked):
                raise
            # cut at what all rules here ask for, or there would be a new start for each of them
            raise PortsDiffer(difference.atom, [*difference.sets, *_port_sets(candidates)]) from None
        outcome.passed = cells
        return outcome

    def _rule(self, place: _Place, packets: Packets, live: int, outcome: Outcome) -> int:
        """Apply a rule; return the packets that go on to the next one."""
        held = Held(live, live)
        for step in place.rule.steps:
            if isinstance(step, Rewrite | Divert):
                held = self._rewritten(step, place, packets, held, outcome)
                if not held.may:
                    break
                continue
            if isinstance(step, _STATEMENTS):
                live, going = self._statement(step, place, packets, held, live, outcome)
                if not going:
                    return live
                continue
            held = self._held(step, packets, held, outcome)
            if not held.may:
                break
        return live

    def _held(self, match: Match, packets: Packets, held: Held, outcome: Outcome) -> Held:
        """Return the packets that a match holds for as well, and note what that hinges on."""
        found = self._matching.held(match, packets, held.may)
        if found.may & ~found.must:
            for name in _doubtful(match, packets):
                outcome.doubt(name, found.may & ~found.must)
        return Held(found.may, held.must & found.must)

    def _all_of(self, matches: Sequence[Match], packets: Packets, cells: int, outcome: Outcome) -> Held:
        """Return the packets that all of the matches hold for, and note what that hinges on."""
        held = Held(cells, cells)
        for match in matches:
            held = self._held(match, packets, held, outcome)
            if not held.may:
                break
        return held

    def _statement(
        self, step: Statement, place: _Place, packets: Packets, held: Held, live: int, outcome: Outcome
    ) -> tuple[int, bool]:
        """Apply a statement; return the packets that go on to the next rule, and whether this one goes on, too."""
        may, must = held
        if self._trace is not None and may and not isinstance(step, Dispatch):
            does = _says(step) if must == may else f"perhaps {_says(step)}"
            self._note(place.table, place.chain.name, place.number, place.rule, does)
        match step:
            case Terminate(verdict):
                _end(verdict, may, outcome)
            case Call(chain, goto):
                apart = may & ~must | place.apart | outcome.gone
                found = self._chain(place.table, chain, packets, may, place.depth + 1, apart)
                outcome.add(found)
                if goto:
                    outcome.returned |= found.returned
                else:
                    return (live & ~must) | found.returned, False
            case Dispatch():
                return self._dispatch(step, place, packets, held, live, outcome), False
            case Translate():
                return live & ~self._translate(step, packets, held, outcome), False
            case ProxyLocally():
                outcome.taken.append(Taken(step, None, may, must if step.terminates else 0))
                surely = Held(may, must & ~(place.apart | outcome.gone))
                _rewrite_mark(packets, Field.MARK, step.keep_mark, step.toggle_mark, surely)
                if not step.terminates:
                    return live, True
                outcome.accepted |= may
            case Unforeseeable(name):
                _leave_open(name, may, outcome)
            case _:
                _rewrite(step, packets, Held(may, must & ~(place.apart | outcome.gone)), outcome)
                return live, True
        return live & ~must, False

    def _dispatch(
        self, step: Dispatch, place: _Place, packets: Packets, held: Held, live: int, outcome: Outcome
    ) -> int:
        may, must = held
        for matches, statement in _cases(step, packets):
            if not may:
                break
            found = self._all_of(matches, packets, may, outcome)
            if found.may:
                live, _ = self._statement(statement, place, packets, Held(found.may, found.must & must), live, outcome)
                may &= ~found.must
                must &= ~found.may
        return live

    def _translate(self, step: Translate, packets: Packets, held: Held, outcome: Outcome) -> int:
        """Note translations; return the packets that certainly get one."""
        may, certain = held.may, 0
        for target in step.targets:
            found = self._all_of(target.matches, packets, may, outcome)
            if found.may:
                outcome.taken.append(Taken(step, target, found.may))
                certain |= found.must & held.must
                may &= ~found.must
        return certain

    def _rewritten(self, step: Rewrite | Divert, place: _Place, packets: Packets, held: Held, outcome: Outcome) -> Held:
        """Note where packets may be led; return those that the rule goes on for: one that a map lacks is left alone."""
        found = self._led(step, place, packets, held, outcome) if isinstance(step, Rewrite) else held
        if isinstance(step, Divert):
            outcome.taken.append(Taken(step, None, held.may))
        if found.may:
            does = step.name if step.copied else f"perhaps {step.name}"
            self._note(place.table, place.chain.name, place.number, place.rule, does)
        if not step.copied:
            outcome.rewritten |= found.may
            outcome.dropped |= found.may
            outcome.doubt(step.name, found.may)
        return found

    def _led(self, step: Rewrite, place: _Place, packets: Packets, held: Held, outcome: Outcome) -> Held:
        """Note by which of its targets packets may be led."""
        left, cells, certain = held.may, 0, 0
        for target in step.targets:
            found = self._matching.all_of(target.matches, packets, left)
            if found.may:
                outcome.taken.append(Taken(step, target, found.may, rule=place.rule))
                cells |= found.may
                certain |= found.must & held.must
                left &= ~found.must
        return Held(cells, certain)

    def _note(self, table: PreparedTable, chain: str, number: int, rule: Rule | None, does: str) -> None:
        if self._trace is not None:
            legacy = " (legacy)" if table.table.backend is Backend.IPTABLES_LEGACY else ""
            name = f"{table.table.family} {table.table.name}{legacy}"
            packets = table.table.counter(chain, number) if rule is not None else None
            self._trace.append(Step(self._place, name, chain, number + 1, rule, does, packets))


@dataclass(slots=True)
class _Passed(Outcome):
    """An outcome of some rules of a chain; `passed` are the packets that go on to the chain's next rule."""

    passed: int = 0


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the walk is; packets that are `apart` may have taken another way."""

    table: PreparedTable
    chain: Chain
    number: int
    rule: Rule
    depth: int
    apart: int


def _port_sets(rules: Iterable[tuple[int, Rule]]) -> Iterator[Ranges]:
    for _, rule in rules:
        for step in rule.steps:
            if isinstance(step, InRanges) and step.field in PORTS:
                yield step.ranges


_STATEMENTS = (Terminate, Call, Dispatch, Translate, SetMark, CopyMark, Untrack, ProxyLocally, Unforeseeable)


def _end(verdict: Verdict, cells: int, outcome: Outcome) -> None:
    if verdict is Verdict.ACCEPT:
        outcome.accepted |= cells
    elif verdict is Verdict.RETURN:
        outcome.returned |= cells
    else:
        outcome.dropped |= cells


def _leave_open(name: str, cells: int, outcome: Outcome) -> None:
    """Let packets pass and be lost."""
    outcome.accepted |= cells
    outcome.dropped |= cells
    outcome.doubt(name, cells)


def _doubtful(match: Match, packets: Packets) -> Iterator[str]:
    """Yield what a match that could not be decided hinges on."""
    if isinstance(match, Opaque):
        yield match.name
    elif getattr(match, "alternatives", None):
        parts = [part for alternative in match.alternatives for part in alternative]  # type: ignore[union-attr]
        untold = (part for part in parts if not _is_told(part, packets))
        yield from dict.fromkeys(name for part in untold for name in _doubtful(part, packets))
    elif isinstance(match, ReversePath):
        yield WAY_BACK
    elif getattr(match, "field", None) in (Field.MARK, Field.CT_MARK):
        contested = match.field is Field.CT_MARK and _is_of_another(packets)  # type: ignore[union-attr]
        yield ANSWERED_BEFORE if contested else MARK
    else:
        name = getattr(match, "field", None)
        value = packets.fields.get(name) if name is not None else None
        yield _untold(value) or _unknown(name)


def _is_of_another(packets: Packets) -> bool:
    """Return whether the mark of a connection is untold for those packets alone that may be of another conversation."""
    mark, state = (packets.fields.get(name) for name in (Field.CT_MARK, Field.CT_STATE))
    return isinstance(mark, Column) and isinstance(state, Column) and not mark.untold & ~state.untold


def _untold(value: Constant | Column | None) -> str:
    """Return what is not known of a value of which there may be several."""
    if isinstance(value, Some):
        return value.doubt
    return SOURCE_PORT if isinstance(value, Picked) else ""


def _unknown(name: Field | None) -> str:
    """Return why nobody knows what packets have in a field."""
    if name in WHENCE:
        return ASTRAY
    if name is Field.ARP_DESTINATION:
        return LEARNED
    if name is Field.DESTINATION_MAC:
        return FRAMED_FOR
    return ANSWERED_BEFORE if name in ANSWERED else str(name or "a match")


def _is_told(match: Match, packets: Packets) -> bool:
    """Return whether a match compares a field whose values are known."""
    if not isinstance(match, InRanges | NameIs):
        return False
    value = packets.fields.get(match.field)
    return not (isinstance(value, Some) or (isinstance(value, Column) and value.untold))


def _cases(step: Dispatch, packets: Packets) -> Sequence[tuple[tuple[Match, ...], Statement]]:
    """Return the cases of a verdict map that packets with these values may meet."""
    value = packets.fields.get(step.key) if step.key else None
    if value is None or isinstance(value, Atom | Some) or (isinstance(value, Column) and value.untold):
        return step.cases
    values = value.values if isinstance(value, Column) else {value}
    return [case for case in step.cases if _asks(case[0][0]) in values]


def _asks(match: Match) -> int | str | None:
    if isinstance(match, InRanges):
        return match.ranges.intervals[0][0]
    return match.names[0] if hasattr(match, "names") else None


def _rewrite(step: Statement, packets: Packets, held: Held, outcome: Outcome) -> None:
    match step:
        case SetMark(name, keep, toggle):
            _rewrite_mark(packets, name, keep, toggle, held)
        case CopyMark():
            _copy_mark(packets, step, held)
        case Untrack():
            _leave_open(UNTRACKED, held.may & ~held.must, outcome)
            _set(packets, Field.CT_STATE, Held(held.must, held.must), lambda _: int(CtState.UNTRACKED))


def _rewrite_mark(packets: Packets, name: Field, keep: int, toggle: int, held: Held) -> None:
    _set(packets, name, held, lambda old: (old & keep) ^ toggle)


def _set(packets: Packets, name: Field, held: Held, change: object) -> None:
    old = packets.fields.get(name, 0)
    column = old if isinstance(old, Column) else Column({old: -1} if isinstance(old, int) else {}, 0)
    column = column.changed(held.must, change)  # type: ignore[arg-type]
    if held.may & ~held.must:
        column = column.forgotten(held.may & ~held.must)
    packets.fields[name] = column


def _copy_mark(packets: Packets, step: CopyMark, held: Held) -> None:
    """Copy bits: `target = (target & ~target_mask) ^ (source & source_mask)`, as xt_connmark has it."""
    for value, cells in list(packets.splits(step.source, held.may)):
        bits = value & step.source_mask if isinstance(value, int) else 0
        part = Held(cells, cells & held.must)
        _set(packets, step.target, part, lambda old, bits=bits: (old & ~step.target_mask) ^ bits)
    source = packets.fields.get(step.source)
    if isinstance(source, Column) and source.untold & held.may:
        _set(packets, step.target, Held(source.untold & held.may, 0), lambda old: old)


def _says(step: Statement) -> str:
    match step:
        case Terminate(verdict):
            return verdict.value
        case Call(chain, goto):
            return f"{'goto' if goto else 'jump'} {chain}"
        case Translate(kind):
            return kind.value
        case Unforeseeable(name):
            return name
        case Untrack():
            return "untrack"
        case ProxyLocally():
            return "to a local socket"
        case _:
            return "mark"
