"""nft's statements, one entry of a table for each (libnftables-json(5), STATEMENTS).

A statement that is not listed, or is not understood, is `Unforeseeable` by its name. What asks for something that
depends on time or load, such as a limit, is `Opaque`.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from exporter.model.firewall import (
    AnyOf,
    Call,
    Dispatch,
    Divert,
    Field,
    Opaque,
    SetMark,
    TableFamily,
    Target,
    Terminate,
    Translate,
    Translation,
    Unforeseeable,
    Untrack,
    Verdict,
)
from exporter.model.ranges import Ranges
from exporter.parse.kernel.matches import module_matches
from exporter.parse.kernel.nft_expressions import expression, name_of, of_family, of_protocol
from exporter.parse.kernel.nft_maps import CARRY_ON, verdict, verdict_map
from exporter.parse.kernel.nft_marks import mangle
from exporter.parse.kernel.nft_matches import compared, comparison, missing
from exporter.parse.kernel.nft_nat import copied_to, proxy, translate
from exporter.parse.kernel.nft_sets import element
from exporter.parse.kernel.nft_text import match_text, statement_text
from exporter.parse.kernel.nft_values import items, properties, tagged
from exporter.parse.kernel.options import Context as Iptables
from exporter.parse.kernel.options import options
from exporter.parse.kernel.targets import WITHOUT_EFFECT
from exporter.parse.kernel.targets import statement as target
from exporter.parse.kernel.values import HIGHEST_PORT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from exporter.model.firewall import Match, Step
    from exporter.parse.kernel.nft_expressions import Context, Left

    Handler = Callable[[object, Sequence[Step], Context], Sequence[Step]]

_WITHOUT_EFFECT = frozenset({
    "counter", "last", "log", "flow", "ct helper", "secmark", "reset",
})  # fmt: skip
"""Statements after which the packet goes on as it was, as far as rules can see.

`flow add` lets later packets of a connection that passed already go past the rules.
"""

_DEPENDS = frozenset({"limit", "quota", "ct count"})
"""Statements that end the rule for some packets, by what passed before."""


class Statement(NamedTuple):
    """A statement, and how nft writes it.

    `asks` and `does` are what it means whatever its rule did before: matches, of which those go without saying that the
    rule asked for already, and other steps. Where both are None, that depends. `about` is what these look at.
    """

    said: object
    text: str
    asks: tuple[Match, ...] | None = None
    does: Sequence[Step] | None = None
    about: frozenset[object] = frozenset()


def statement(said: object, context: Context) -> Statement:
    """Return a statement of a rule."""
    name, body = next(iter(said.items())) if isinstance(said, dict) and len(said) == 1 else ("", None)
    if name == "match" and isinstance(body, dict):
        return compared_with(expression(body.get("left"), context), body, match_text(body), context)
    if name in _DEPENDENT:
        return Statement(said, statement_text(said))
    does = _steps(said, (), context)
    return Statement(said, statement_text(said), does=does, about=_about(does))


def compared_with(left: Left, said: Mapping[str, object], text: str, context: Context) -> Statement:
    """Return a comparison of some left side, given how nft writes it."""
    if left.transport:
        return Statement({"match": said}, text)
    asks = (*left.implied, *compared(left, said, context))
    if len(asks) != 1 or isinstance(asks[0], AnyOf):
        asks = missing(asks, ())
    return Statement(None, text, asks, about=_about(asks))


def _about(steps: Iterable[Step]) -> frozenset[object]:
    """Return what steps look at, or their types: steps that have none of it in common differ."""
    return frozenset([getattr(step, "field", type(step)) for step in steps])


def rule_steps(statements: Iterable[object], context: Context) -> tuple[Step, ...]:
    """Return the steps of a rule with these statements."""
    return steps_of([statement(said, context) for said in statements], context)


def steps_of(statements: Sequence[Statement], context: Context, before: Sequence[Step] = ()) -> tuple[Step, ...]:
    """Return the steps of a rule, or of the rest of one that has some steps already."""
    steps: list[Step] = []
    about = set(_about(before)) if before else set()
    for position, said in enumerate(statements):
        if said.does is not None:
            steps += said.does
            about |= said.about
        elif said.asks is not None:
            steps += said.asks if about.isdisjoint(said.about) else missing(said.asks, (*before, *steps))
            about |= said.about
        else:
            found = _steps(said.said, (*before, *steps), context)
            steps += found
            about |= _about(found)
            if found and isinstance(found[-1], Dispatch):
                rest = steps_of(statements[position + 1 :], context, (*before, *steps[:-1]))
                return (*steps[:-1], _with_rest(found[-1], rest, said.text))
    return tuple(steps)


def _with_rest(found: Dispatch, rest: tuple[Step, ...], text: str) -> Step:
    """Return a map's cases with what the rule does after it: it goes on where a case changes nothing (`continue`)."""
    going_on = {statement for _, statement in found.cases if isinstance(statement, SetMark)}
    if not rest or not going_on:
        return found
    if going_on != {CARRY_ON} or len(rest) > 1 or not isinstance(rest[0], _STATEMENTS_OF_CASES):
        return Unforeseeable("map", text)
    then = rest[0]
    cases = tuple((matches, then if statement == CARRY_ON else statement) for matches, statement in found.cases)
    return Dispatch(cases, found.key)


_STATEMENTS_OF_CASES = Terminate | Call | Translate | SetMark | Untrack | Unforeseeable


def _steps(said: object, before: Sequence[Step], context: Context) -> Sequence[Step]:
    """Return the steps of one statement; `before` are those of its rule so far."""
    try:
        name, body = tagged(said)
    except ValueError:
        return (Unforeseeable("statement", statement_text(said)),)
    if name in _WITHOUT_EFFECT or (name == _TIMEOUT and not _is_momentary(body, context)):
        # objects looked up in a map end the rule for what is not in it (nft_objref_map_eval)
        return (Opaque(f"{name} map", statement_text(said)),) if isinstance(body, dict) and "map" in body else ()
    if name in _DEPENDS:
        return (Opaque(name, statement_text(said)),)
    handler = _STATEMENTS.get(name)
    try:
        return handler(body, before, context) if handler else (Unforeseeable(name, statement_text(said)),)
    except ValueError:
        return _not_understood(name, body, statement_text(said))


_TIMEOUT = "ct timeout"


def _is_momentary(body: object, context: Context) -> bool:
    """Return whether a timeout, or one of those that a map may lead to, is 0: who comes next is of no connection."""
    return body in context.momentary if isinstance(body, str) else bool(context.momentary)


def _not_understood(name: str, body: object, text: str) -> Sequence[Step]:
    """Return what is told of a statement whose effect is not known, by what it is called: `ct zone set`, `vmap`."""
    if name in (Translation.DNAT, Translation.REDIRECT):
        return (Divert(name),)
    if name != "mangle" or not isinstance(body, dict):
        return (Unforeseeable(name, text),)
    written = name_of(body.get("key"))
    called = f"{written} set"
    return _may_mark(called, _MARKS[written], text) if written in _MARKS else (Unforeseeable(called, text),)


def _may_mark(name: str, field: Field = Field.MARK, text: str = "") -> tuple[Step, ...]:
    """Return what sets a mark of which nobody knows what it is: where it is not set, the rule is over."""
    return (Opaque(name, text), SetMark(field, 0, 0))


_MARKS = {"meta mark": Field.MARK, "ct mark": Field.CT_MARK}


def _verdict(name: str, body: object, _before: Sequence[Step], _context: Context) -> Sequence[Step]:
    found = verdict({name: body})
    return () if found == CARRY_ON else (found,)


_REJECTS_FAMILY = {"icmp": 4, "icmpv6": 6}


def _reject(body: object, before: Sequence[Step], context: Context) -> Sequence[Step]:
    """`reject with icmp` is for IPv4 only, `with icmpv6` for IPv6, and `with tcp reset` for TCP."""
    kind = str(properties(body).get("type")) if body is not None else ""
    implied = of_protocol(6) if kind == "tcp reset" else ()
    if kind in _REJECTS_FAMILY:
        implied = of_family(_REJECTS_FAMILY[kind], context)
    return (*missing(implied, before), Terminate(Verdict.REJECT))


def _untrack(_body: object, _before: Sequence[Step], _context: Context) -> Sequence[Step]:
    return (Untrack(),)


def _change_of_set(body: object, before: Sequence[Step], context: Context) -> Sequence[Step]:
    """`add @set { … }`: what it adds is seen by the next look; what it asks for (a limit, room) decides now."""
    said = properties(body)
    implied = expression(element(said.get("elem")).value, context).implied
    name, stateful = said.get("set"), said.get("stmt")
    known = context.sets.get(str(name).removeprefix("@"))
    room = (Opaque("room in a set"),) if said.get("op") != "delete" and known is not None and known.full else ()
    return (*missing(implied, before), *room, *(_asked(items(stateful)) if stateful is not None else ()))


def _duplicate(body: object, before: Sequence[Step], context: Context) -> Sequence[Step]:
    """Return what sends a copy to a gateway, or by an interface, which nft calls `addr` in family netdev."""
    said = properties(body)
    given = said.get("addr") if context.family is TableFamily.NETDEV else said.get("dev")
    if given is not None:
        return (Divert("dup", _device(given), copied=True),)
    try:
        return copied_to(said.get("addr"), before, context)
    except ValueError:
        return (Divert("dup", copied=True),)


def _forward(body: object, before: Sequence[Step], context: Context) -> Sequence[Step]:
    """Return what sends packets by an interface, those of one version of IP alone where their gateway is told."""
    said = properties(body)
    version = {"ip": 4, "ip6": 6}.get(str(said.get("family")))
    implied = missing(of_family(version, context), before) if version is not None else ()
    return (*implied, Divert("fwd", _device(said.get("dev"))))


def _device(said: object) -> str:
    """Return an interface that packets are sent by; none where a map tells it."""
    return said if isinstance(said, str) else ""


def _meter(body: object, before: Sequence[Step], context: Context) -> Sequence[Step]:
    said = properties(body)
    implied = expression(element(said.get("key")).value, context).implied
    return (*missing(implied, before), *_asked([said.get("stmt")]))


def _asked(stateful: Sequence[object]) -> Sequence[Step]:
    names = [(tagged(each)[0], each) for each in stateful]
    return tuple(Opaque(name, statement_text(each)) for name, each in names if name not in _WITHOUT_EFFECT)


MASQUERADES = Translate(Translation.MASQUERADE, (Target(Ranges(), Ranges(((1, HIGHEST_PORT),))),))
"""What MASQUERADE does whose arguments, which may tell ports, are not known."""

_XT_STATEMENTS: Mapping[str, Sequence[Step]] = {
    "REJECT": (Terminate(Verdict.REJECT),),
    "MARK": _may_mark("xt MARK"),
    # ebtables': its arguments also say what becomes of the frame
    "mark": (*_may_mark("xt mark"), Unforeseeable("xt mark")),
    "MASQUERADE": (MASQUERADES,),
    "TEE": (Divert("xt TEE", copied=True),),
    # ebtables', which say who gets a frame, and ip6tables'
    **{name: (Divert(f"xt {name}"),) for name in ("DNPT", "SNPT", "dnat", "redirect", "snat")},
    **dict.fromkeys(WITHOUT_EFFECT, ()),
}
"""Targets of which it is known what they do, or may do, whatever their arguments are."""

_ELSEWHERE = "CONNMARK", "CT", "DNAT", "NETMAP", "REDIRECT", "SNAT", "TPROXY"
LEADING_ELSEWHERE = frozenset(f"xt {name}" for name in _ELSEWHERE)
"""Targets that do more to packets than letting them pass or not, which their arguments alone tell."""


def _xtables(body: object, _before: Sequence[Step], context: Context) -> Sequence[Step]:
    """Modules of iptables and ebtables: nft shows their names, `options` is what is told beside. Watchers only log."""
    said = properties(body) if body is not None else {}
    kind, name = said.get("type"), str(said.get("name", ""))
    called = f"xt {name}".rstrip()
    if kind == "watcher":
        return ()
    told = said.get("options")
    if isinstance(told, str):
        return _as_iptables(told, context.family)
    if kind == "match":
        return () if name == "comment" else (Opaque(called),)
    return _XT_STATEMENTS.get(name, (Unforeseeable(called),))


def _as_iptables(told: str, family: TableFamily) -> Sequence[Step]:
    """Return what a module does by its options, as iptables writes them: `-m addrtype --dst-type LOCAL`."""
    first, *others = options(told)
    if first.name == "-m":
        return tuple(module_matches(first.only, others, Iptables(family)))
    found = target(first, others, "", frozenset(), Iptables(family))
    if isinstance(found, Unforeseeable):
        return (replace(found, name=f"xt {found.name}"),)
    return () if found is None else (found,)


_STATEMENTS: Mapping[str, Handler] = {
    "match": comparison,
    "vmap": verdict_map,
    "mangle": mangle,
    "reject": _reject,
    "notrack": _untrack,
    "tproxy": proxy,
    "dup": _duplicate,
    "fwd": _forward,
    "set": _change_of_set,
    "map": _change_of_set,
    "meter": _meter,
    "xt": _xtables,
    **{kind.value: partial(translate, kind) for kind in Translation},
    **{name: partial(_verdict, name) for name in ("accept", "drop", "return", "continue", "jump", "goto")},
}

_DEPENDENT = frozenset({"match", "vmap", "mangle", "reject", "tproxy", "set", "map", "meter", *Translation})
"""Statements whose meaning depends on what their rule asked for before."""
