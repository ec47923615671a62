"""nft's comparisons: `{"match": {"op": …, "left": …, "right": …}}`.

`ct state new` prints the operator `in` and asks for any of the bits; `ct state == new`, and sets such as
`ct state { new, established }`, compare with the whole number. The same is true of all flags.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter.model.firewall import AnyOf, Field, InRanges, Opaque
from exporter.parse.kernel.nft_expressions import WITH_PORTS, expression, has_ports
from exporter.parse.kernel.nft_sets import Element, elements, is_dynamic, is_set
from exporter.parse.kernel.nft_subjects import ALWAYS, Absent, Name, Number, either, negated
from exporter.parse.kernel.nft_text import match_text
from exporter.parse.kernel.nft_values import EVERYTHING, properties

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from exporter.model.firewall import Match, Step
    from exporter.parse.kernel.nft_expressions import Context, Left
    from exporter.parse.kernel.nft_subjects import Subject

_ORDERS = ("<", "<=", ">", ">=")


def comparison(body: object, before: Sequence[Step], context: Context) -> tuple[Match, ...]:
    """Return what a comparison asks for; `before` are the steps of its rule so far.

    One that is not understood is `Opaque` by the name of what it looks at. Raises ValueError where there is none.
    """
    said = properties(body)
    left = expression(said.get("left"), context)
    found = compared(left, said, context)
    if left.transport and not has_ports((*before, *left.implied)):
        found = (with_ports_or(left, found),)
    return missing((*left.implied, *found), before)


def compared(left: Left, said: Mapping[str, object], context: Context) -> tuple[Match, ...]:
    """Return what a comparison of some left side asks for beside what that implies."""
    try:
        found = _compared(left, said.get("op"), said.get("right"), said, context)
    except ValueError:
        found = (Opaque(left.name, match_text(said)),)
    if Opaque in map(type, found):
        return tuple(Opaque(match.name, match_text(said)) if isinstance(match, Opaque) else match for match in found)
    return found


def missing(matches: Iterable[Match], before: Sequence[Step]) -> tuple[Match, ...]:
    """Return matches without those that always hold, or were asked for before."""
    return tuple(match for match in dict.fromkeys(matches) if match != ALWAYS and match not in before)


def with_ports_or(left: Left, found: tuple[Match, ...]) -> Match:
    """Return a match on ports of a protocol that may have none: the kernel then compares whatever stands there."""
    without = (InRanges(Field.PROTOCOL, WITH_PORTS, negated=True), Opaque(left.name))
    return AnyOf(((InRanges(Field.PROTOCOL, WITH_PORTS), *found), without))


def _compared(left: Left, operator: object, right: object, said: object, context: Context) -> tuple[Match, ...]:
    subject = left.subject
    if isinstance(subject, Absent):
        return subject.present
    if operator == "==" and not is_set(right):
        return (subject.one_of([right]),)
    if operator in _ORDERS and isinstance(subject, Number):
        return (subject.ordered(str(operator), right),)
    if operator in ("in", "!") and not is_set(right):
        if not isinstance(subject, Number):
            raise ValueError("flags of what has none")
        found = subject.any_bit(right)
        return (found,) if operator == "in" else _otherwise(subject, found)
    if operator not in ("==", "in", "!="):
        raise ValueError("an operator that is not known")
    found = _member(subject, said, right, context, doubts=operator != "!=")
    return (found,) if operator != "!=" else _otherwise(subject, found)


def _otherwise(subject: Subject, found: Match) -> tuple[Match, ...]:
    """Return what holds where a match does not: a single comparison also asks for what it looks at, others do not."""
    return (*(subject.present if isinstance(found, AnyOf) else ()), negated(found))


def _member(subject: Subject, said: object, right: object, context: Context, *, doubts: bool) -> Match:
    """Return what holds for members of a set, or for a single value; what sets with names mean is remembered."""
    if not is_set(right):
        return subject.one_of([right])
    if not isinstance(right, str):
        return _members(subject, elements(right, context.sets), doubts=doubts)
    key = (repr(properties(said).get("left")), right, doubts)
    if key not in context.known:
        context.known[key] = (
            Opaque("a dynamic set", right)
            if is_dynamic(right, context.sets)
            else _members(subject, elements(right, context.sets), doubts=doubts)
        )
    return context.known[key]


def _members(subject: Subject, found: Sequence[Element], *, doubts: bool) -> Match:
    """Return what holds for members. An element's statements are asked where it is found, and not by `!=`."""
    groups: dict[str, list[object]] = {}
    for item in found:
        groups.setdefault(item.doubt if doubts else "", []).append(item.value)
    return either(_with(doubt, _values(subject, values)) for doubt, values in groups.items()) if groups else AnyOf(())


def _with(doubt: str, match: Match) -> Match:
    return AnyOf(((match, Opaque(doubt)),)) if doubt else match


def _values(subject: Subject, values: Sequence[object]) -> Match:
    if EVERYTHING in values and not isinstance(subject, Name):
        return ALWAYS
    return subject.one_of(values)
