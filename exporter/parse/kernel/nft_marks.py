"""What nft writes into packets and their metadata: `meta mark set …`, `ip ttl set …`, `ip daddr set …`."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from exporter.model.firewall import CopyMark, Divert, Field, SetMark
from exporter.model.namespace import ENOUGH_HOPS
from exporter.parse.kernel.nft_expressions import expression, name_of
from exporter.parse.kernel.nft_maps import dispatch, looked_up
from exporter.parse.kernel.nft_matches import missing
from exporter.parse.kernel.nft_nat import rewrite
from exporter.parse.kernel.nft_subjects import Number
from exporter.parse.kernel.nft_values import integer, plain, properties, tagged
from exporter.parse.kernel.values import ALL_BITS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exporter.model.firewall import Match, Statement, Step
    from exporter.parse.kernel.nft_expressions import Context

_MARKS = (Field.MARK, Field.CT_MARK)

_WITHOUT_EFFECT = frozenset({
    ("meta", "nftrace"), ("meta", "priority"), ("meta", "rtclassid"), ("meta", "secmark"),
    ("ct", "event"), ("ct", "eventmask"), ("ct", "helper"), ("ct", "label"), ("ct", "secmark"),
    ("ip", "dscp"), ("ip", "ecn"), ("ip", "id"), ("ip6", "dscp"), ("ip6", "ecn"), ("ip6", "flowlabel"),
    ("tcp option", "maxseg"),
})  # fmt: skip
"""What may be rewritten without a change of a packet's way, as far as rules can see."""

_HOPS = (("ip", "ttl"), ("ip6", "hoplimit"))


_OF_ITSELF = frozenset({"checksum", "length", "hdrlength", "version", "hoplimit", "ttl"})
"""Fields of headers by which nobody gets packets who did not get them before, whatever is written there."""


class _Source(NamedTuple):
    """A mark's new bits: `(field & keep) ^ toggle`, of no field where they are constant."""

    field: Field | None
    keep: int
    toggle: int


def mangle(body: object, before: Sequence[Step], context: Context) -> tuple[Step, ...]:
    """Return what `{"mangle": {"key": …, "value": …}}` does.

    Raises ValueError for what may change a packet's way and cannot be told, such as zones of conntrack.
    """
    said = properties(body)
    key, value = said.get("key"), said.get("value")
    left = expression(key, context)
    implied = missing(left.implied, before)
    if isinstance(left.subject, Number) and left.subject.field in _MARKS:
        return (*implied, *_set_mark(left.subject.field, value, (*before, *implied), context))
    target = _target(key)
    if target in _WITHOUT_EFFECT or (target in _HOPS and integer(value) >= ENOUGH_HOPS):
        return (*implied, *missing(expression(value, context).implied, before))
    name = f"{name_of(key)} set"
    try:
        return (*implied, *rewrite(name, left.subject, value, (*before, *implied), context))
    except ValueError:
        if not _leads_elsewhere(key):
            raise
        return (*implied, Divert(name))


def _leads_elsewhere(key: object) -> bool:
    """Return whether what is written into packets, and cannot be told, may lead them to anybody."""
    target = _target(key)
    if tagged(key)[0] == "payload":
        return target[1] not in _OF_ITSELF
    # bridges pass such frames to the namespace itself (`broute`), which takes those that are for others as well
    return target in (("meta", "broute"), ("meta", "pkttype"))


def _target(key: object) -> tuple[str, str]:
    name, body = tagged(key)
    said = properties(body)
    if name == "payload":
        return str(said.get("protocol")), str(said.get("field"))
    return name, str(said.get("key", said.get("name")))


def _set_mark(name: Field, value: object, before: Sequence[Step], context: Context) -> tuple[Step, ...]:
    if isinstance(value, dict) and "map" in value:
        return _by_map(name, value["map"], before, context)
    source = _source(value, context)
    if source.field is None:
        return (SetMark(name, 0, source.toggle),)
    # without a connection, there is no mark to read, and the rule is over
    present = missing(_present(source.field), before)
    if source.field is name:
        return (*present, SetMark(name, source.keep, source.toggle))
    copied: list[Statement] = [CopyMark(source.field, name, source.keep)]
    if source.toggle:
        copied.append(SetMark(name, ALL_BITS, source.toggle))
    return (*present, *copied)


def _present(name: Field) -> tuple[Match, ...]:
    return Number(name, 32, plain, ALL_BITS).present


def _by_map(name: Field, body: object, before: Sequence[Step], context: Context) -> tuple[Step, ...]:
    """Return a mark for each key. As the cases of a verdict map, they have to be the last that the rule does."""
    found = looked_up(body, before, context)
    marks = [(case.matches, SetMark(name, 0, plain(case.data))) for case in found.cases]
    return (*found.implied, dispatch(marks))


def _source(value: object, context: Context) -> _Source:
    if not isinstance(value, dict):
        return _Source(None, 0, plain(value) & ALL_BITS)
    subject = expression(value, context).subject
    if not isinstance(subject, Number) or subject.field not in _MARKS or subject.shift:
        raise ValueError("not a mark")
    return _Source(subject.field, subject.keep, subject.toggle)
