"""What the modules conntrack and state look at (net/netfilter/xt_conntrack.c)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from exporter.model.firewall import AnyBit, AnyOf, CtState, CtStatus, Field, InRanges
from exporter.model.ranges import Ranges
from exporter.parse.kernel.options import opaque
from exporter.parse.kernel.values import address_match, protocol, span

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from exporter.model.firewall import Match
    from exporter.parse.kernel.options import Context, Option

_WITHOUT_CONNECTION = CtState.INVALID | CtState.UNTRACKED
_TRANSLATED = {"SNAT": CtStatus.SNAT, "DNAT": CtStatus.DNAT}
"""States that only iptables calls so."""


def state_matches(options: Sequence[Option], context: Context) -> Iterator[Match]:
    """Yield the matches of `-m state`: the states alone."""
    for option in options:
        yield _handled(option, context, {"--state": _state})


def conntrack_matches(options: Sequence[Option], context: Context) -> Iterator[Match]:
    """Yield the matches of `-m conntrack`.

    Of a packet without a connection (invalid or not tracked), the kernel compares the state alone: where it is asked
    for and fits, the packet matches whatever else is asked; where none is asked for, it does not match.
    """
    states = [option for option in options if option.name == "--ctstate"]
    others = [_handled(option, context, _HANDLERS) for option in options if option.name != "--ctstate"]
    yield from (_handled(option, context, {"--ctstate": _state}) for option in states)
    if states and others:
        yield AnyOf(((AnyBit(Field.CT_STATE, _WITHOUT_CONNECTION),), tuple(others)))
    else:
        yield from others


def _handled(option: Option, context: Context, handlers: Mapping[str, Callable[[Option, Context], Match]]) -> Match:
    handler = handlers.get(option.name)
    try:
        return handler(option, context) if handler else opaque(option)
    except ValueError:
        return opaque(option)


def _state(option: Option, _context: Context) -> Match:
    states, translated = CtState(0), CtStatus(0)
    for name in option.only.split(","):
        if name in _TRANSLATED:
            translated |= _TRANSLATED[name]
        else:
            states |= _named(CtState, name)
    if not translated:
        return AnyBit(Field.CT_STATE, states, option.negated)
    alternatives = ((AnyBit(Field.CT_STATE, states),), (AnyBit(Field.CT_STATUS, translated),))
    return AnyOf(alternatives[not states :], option.negated)


def _named(kind: type[CtState], name: str) -> CtState:
    if name not in kind.__members__:
        raise ValueError(f"{name} is no state of conntrack")
    return kind[name]


_STATUSES = {
    "NONE": CtStatus(0),
    "EXPECTED": CtStatus.EXPECTED,
    "SEEN_REPLY": CtStatus.SEEN_REPLY,
    "ASSURED": CtStatus.ASSURED,
    "CONFIRMED": CtStatus.CONFIRMED,
}


def _status(option: Option, _context: Context) -> Match:
    """`NONE` is no bit at all, and so never found (conntrack_mt)."""
    found = CtStatus(0)
    for name in option.only.split(","):
        if name not in _STATUSES:
            raise ValueError(f"{name} is no status of conntrack")
        found |= _STATUSES[name]
    return AnyBit(Field.CT_STATUS, found, option.negated)


def _protocol(option: Option, _context: Context) -> Match:
    return InRanges(Field.CT_PROTOCOL, Ranges.of(protocol(option.only)), option.negated)


def _address(field: Field, option: Option, context: Context) -> Match:
    return address_match(field, option.only, context.version, negated=option.negated)


def _port(field: Field, option: Option, _context: Context) -> Match:
    return InRanges(field, Ranges((span(option.only),)), option.negated)


_DIRECTIONS = {"ORIGINAL": 0, "REPLY": 1}


def _direction(option: Option, _context: Context) -> Match:
    found = _DIRECTIONS.get(option.only)
    if found is None:
        raise ValueError(f"{option.only} is no direction of a connection")
    return InRanges(Field.CT_DIRECTION, Ranges.of(found), option.negated)


_HANDLERS: Mapping[str, Callable[[Option, Context], Match]] = {
    "--ctstatus": _status,
    "--ctproto": _protocol,
    "--ctdir": _direction,
    "--ctorigsrc": partial(_address, Field.CT_ORIGINAL_SOURCE),
    "--ctorigdst": partial(_address, Field.CT_ORIGINAL_DESTINATION),
    "--ctreplsrc": partial(_address, Field.CT_REPLY_SOURCE),
    "--ctrepldst": partial(_address, Field.CT_REPLY_DESTINATION),
    "--ctorigsrcport": partial(_port, Field.CT_ORIGINAL_SOURCE_PORT),
    "--ctorigdstport": partial(_port, Field.CT_ORIGINAL_DESTINATION_PORT),
    "--ctreplsrcport": partial(_port, Field.CT_REPLY_SOURCE_PORT),
    "--ctrepldstport": partial(_port, Field.CT_REPLY_DESTINATION_PORT),
}
