"""nft's maps: what packets a key is for, and verdict maps (`vmap`)."""

from __future__ import annotations

from sys import intern
from typing import TYPE_CHECKING, NamedTuple

from exporter.model.firewall import (
    Call,
    Dispatch,
    Field,
    InRanges,
    NameIs,
    Opaque,
    SetMark,
    Terminate,
    Unforeseeable,
    Verdict,
)
from exporter.parse.kernel.nft_expressions import expression, has_ports
from exporter.parse.kernel.nft_matches import missing
from exporter.parse.kernel.nft_sets import defaults_last, entries, is_dynamic
from exporter.parse.kernel.nft_subjects import ALWAYS, Drawn, of_key
from exporter.parse.kernel.nft_values import properties, tagged
from exporter.parse.kernel.values import ALL_BITS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from exporter.model.firewall import Match, Statement, Step
    from exporter.parse.kernel.nft_expressions import Context, Left
    from exporter.parse.kernel.nft_sets import Entry

CARRY_ON = SetMark(Field.MARK, ALL_BITS, 0)
"""Changes nothing: the packet goes on to the next rule (`continue`)."""


class Case(NamedTuple):
    """What a map gives to packets that all matches hold for. The first case that holds counts."""

    matches: tuple[Match, ...]
    data: object


class Looked(NamedTuple):
    """A map as a rule looks it up: what has to hold first, and the cases."""

    left: Left
    implied: tuple[Match, ...]
    cases: tuple[Case, ...]

    @property
    def by_chance(self) -> bool:
        """Whether it is always one of the cases, and any of them."""
        return isinstance(self.left.subject, Drawn) and bool(self.cases) and not self.cases[-1].matches


def looked_up(body: object, before: Sequence[Step], context: Context) -> Looked:
    """Return the map of `{"key": …, "data": …}`. Raises ValueError for one that is not understood.

    A port of whichever protocol cannot be looked up unless the rule's steps so far ask for protocols with ports.
    """
    said = properties(body)
    if is_dynamic(said.get("data"), context.sets):
        raise ValueError("a map that packets change")
    left = expression(said.get("key"), context)
    if left.transport and not has_ports((*before, *left.implied)):
        raise ValueError("ports of what may have none")
    found = defaults_last(entries(said.get("data"), context.sets))
    cases = [Case(_matches(left, entry), entry.data) for entry in found]
    if isinstance(left.subject, Drawn) and left.subject.covered(entry.key.value for entry in found):
        cases[-1] = Case((), cases[-1].data)
    return Looked(left, missing(left.implied, before), tuple(cases))


def _matches(left: Left, entry: Entry) -> tuple[Match, ...]:
    found = [match for match in of_key(left.subject, entry.key.value) if match != ALWAYS]
    if entry.key.doubt:
        found.append(Opaque(entry.key.doubt))
    return tuple(found)


def verdict_map(body: object, before: Sequence[Step], context: Context) -> tuple[Step, ...]:
    """Return a verdict map's steps. Raises ValueError for one that is not understood."""
    found = looked_up(body, before, context)
    return (*found.implied, dispatch([(case.matches, verdict(case.data)) for case in found.cases]))


def dispatch(cases: Sequence[tuple[tuple[Match, ...], Statement]]) -> Dispatch:
    """Return cases with the field that all of them compare with one value each, where there is one."""
    shared = [_exact(matches) for matches, _ in cases]
    common = set.intersection(*map(set, shared)) if shared else set()
    key = max(sorted(common), key=lambda name: len({found[name] for found in shared}), default=None)
    if key is None:
        return Dispatch(tuple(cases))
    sorted_cases = tuple(
        ((found[key], *(match for match in matches if match != found[key])), statement)
        for found, (matches, statement) in zip(shared, cases, strict=True)
    )
    return Dispatch(sorted_cases, key)


def _exact(matches: tuple[Match, ...]) -> Mapping[Field, Match]:
    """Return the matches that ask for one value, by the field."""
    return {match.field: match for match in matches if isinstance(match, InRanges | NameIs) and _is_exact(match)}


def _is_exact(match: InRanges | NameIs) -> bool:
    if match.negated:
        return False
    if isinstance(match, NameIs):
        return len(match.names) == 1 and not match.names[0].endswith("*")
    return len(match.ranges.intervals) == 1 and match.ranges.intervals[0][0] == match.ranges.intervals[0][1]


def verdict(said: object) -> Statement:
    """Return what `{"jump": {"target": …}}` and its like do. Raises ValueError for what is none."""
    name, body = tagged(said)
    if name in ("jump", "goto"):
        target = properties(body).get("target")
        if not isinstance(target, str):
            raise ValueError("a jump to nowhere")
        return Call(intern(target), goto=name == "goto")
    if name not in _VERDICTS:
        raise ValueError("not a verdict")
    return _VERDICTS[name]


_VERDICTS: Mapping[str, Statement] = {
    "accept": Terminate(Verdict.ACCEPT),
    "drop": Terminate(Verdict.DROP),
    "return": Terminate(Verdict.RETURN),
    "continue": CARRY_ON,
    "queue": Unforeseeable("queue"),
}
