"""Whatever nft prints, and whatever it does not: no rule is lost, and no error but the one."""

from __future__ import annotations

import copy
import json
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st

from exporter.errors import ObservationError
from exporter.model.firewall import Field, HasBits, InRanges, Opaque, Step
from exporter.parse.kernel.nft_text import statement_text
from tests.parse.kernel.nft import RULES, SETS_RECORDED, V4, parsed, read_tables

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

NAMES = [
    "payload", "meta", "ct", "fib", "concat", "set", "range", "prefix", "elem", "map", "vmap", "dnat", "mangle", "key",
    "protocol", "field", "left", "right", "op", "addr", "port", "data", "flags", "val", "len", "&", "|", "<<", "numgen",
]  # fmt: skip
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.text(max_size=5),
    st.sampled_from(["*", "@ips", "==", "in", "ip", "saddr", "10.0.0.1", "::1", "0x5", "netmap", "syn", *NAMES]),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.sampled_from(NAMES), inner, max_size=3)),
    max_leaves=8,
)


@cache
def recorded() -> dict[str, Any]:
    """Return the document of all rules of family inet that real nft printed for the tests."""
    record = json.loads(RULES.read_text())
    place = {"family": "inet", "table": "t"}
    entries = [{"table": {"family": "inet", "name": "t"}}, *record[SETS_RECORDED]]
    entries += [{"chain": {**place, "name": "c", "type": "filter", "hook": "forward", "prio": 0}}]
    entries += [{"rule": {**place, "chain": "c", **said}} for name, said in record.items() if name.startswith("inet ")]
    return {"nftables": entries}


RECORDED_RULES = st.sampled_from([entry for entry in recorded()["nftables"] if "rule" in entry])


def inner_places(value: object) -> list[tuple[Any, Any]]:
    """Return every place within a document: what holds it, and the key or position there."""
    keys: Sequence[Any] = (
        list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    )
    return [place for key in keys for place in ((value, key), *inner_places(value[key]))]  # type: ignore[index]


@given(RECORDED_RULES, VALUES, st.randoms(use_true_random=False))
def test_a_garbled_rule_is_still_a_rule(entry: dict[str, Any], value: object, random: Random) -> None:
    """Whatever stands anywhere within a rule's expressions, the rule is there, and so are its neighbours."""
    garbled = copy.deepcopy(entry)
    holder, key = random.choice(inner_places(garbled["rule"]["expr"]))
    holder[key] = value
    before = [item for item in recorded()["nftables"] if "rule" not in item]
    (table,) = read_tables({"nftables": [*before, garbled, entry]})
    first, second = table.chains["c"].rules
    assert second.steps == read_tables({"nftables": [*before, entry]})[0].chains["c"].rules[0].steps
    assert isinstance(first.text, str)


@given(VALUES, st.randoms(use_true_random=False), st.booleans())
def test_a_garbled_document_raises_the_one_error(value: object, random: Random, removed: bool) -> None:
    """Whatever is changed or missing anywhere in a document."""
    whole = recorded()["nftables"]
    sample = [entry for entry in whole if "rule" not in entry] + random.sample(whole, 3)
    garbled: dict[str, Any] = copy.deepcopy({"nftables": sample})
    holder, key = random.choice(inner_places(garbled))
    if removed:
        del holder[key]
    else:
        holder[key] = value
    with suppress(ObservationError):
        read_tables(garbled)


@given(VALUES)
def test_garbage_raises_the_one_error(value: Any) -> None:  # noqa: ANN401
    """Whatever was read in the place of a document."""
    with suppress(ObservationError):
        read_tables(value)
    with suppress(ObservationError):
        read_tables({"nftables": value})


@given(VALUES)
def test_any_statement_has_a_text(value: object) -> None:
    """What is not known is shown as it was printed."""
    assert isinstance(statement_text(value), str)
    assert statement_text({"something": value})


MASKS = st.integers(0, 0xFF)


def holds(found: Sequence[Step], field: Field, value: int) -> bool:
    """Return whether matches hold for a packet with one number, by the model's own words."""
    return all(_holds(step, field, value) for step in found)


def _holds(step: Step, field: Field, value: int) -> bool:
    if isinstance(step, InRanges):
        return (value in step.ranges) != step.negated
    if isinstance(step, HasBits):
        return (value & step.mask == step.value) != step.negated
    alternatives = step.alternatives  # type: ignore[union-attr]
    return any(holds(alternative, field, value) for alternative in alternatives) != step.negated  # type: ignore[union-attr]


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["&", "|", "^"]), MASKS),
        st.tuples(st.sampled_from(["<<", ">>"]), st.integers(0, 7)),
    ),
    max_size=3,
).filter(lambda found: sum(operator in ("<<", ">>") for operator, _ in found) < 2)

RIGHTS = st.one_of(
    MASKS,
    st.tuples(MASKS, MASKS).map(lambda ends: {"range": sorted(ends)}),
    st.lists(MASKS, max_size=3).map(lambda values: {"set": values}),
)
APPLIED = {
    "&": lambda number, by: number & by,
    "|": lambda number, by: number | by,
    "^": lambda number, by: number ^ by,
    "<<": lambda number, by: number << by & 0xFF,
    ">>": lambda number, by: number >> by,
}
COMPARED = {
    "<": lambda number, by: number < by,
    "<=": lambda number, by: number <= by,
    ">": lambda number, by: number > by,
    ">=": lambda number, by: number >= by,
}


def wanted(number: int, operator: str, right: Any) -> bool:  # noqa: ANN401
    """Return whether a comparison holds, done as the kernel does it: number by number."""
    if operator in COMPARED:
        return bool(COMPARED[operator](number, right))
    if isinstance(right, int):
        found = number == right
    elif "range" in right:
        found = right["range"][0] <= number <= right["range"][1]
    else:
        found = number in right["set"]
    return found != (operator == "!=")


@given(OPERATIONS, RIGHTS, st.sampled_from(["==", "!=", *COMPARED]), MASKS)
def test_bits_are_compared_as_the_kernel_does(
    operations: list[tuple[str, int]], right: object, operator: str, value: int
) -> None:
    """For every number of eight bits, whatever is done to it before it is compared."""
    if operator in COMPARED and not isinstance(right, int):
        right = 7
    left: object = {"payload": {"protocol": "tcp", "field": "flags"}}
    number = value
    for name, by in operations:
        left = {name: [left, by]}
        number = APPLIED[name](number, by)
    found = parsed([{"match": {"op": operator, "left": left, "right": right}}])
    if any(isinstance(step, Opaque) for step in found):
        assert any(name in ("<<", ">>") for name, _ in operations)  # bits were set that no flag is shifted to
        return
    assert holds(found[1:], Field.TCP_FLAGS, value) == wanted(number, operator, right)


ADDRESS = st.integers(0, 0xFFFFFFFF)


@given(st.lists(st.tuples(ADDRESS, st.integers(0, 32)), min_size=1, max_size=8), ADDRESS)
def test_a_set_of_prefixes_has_their_addresses(prefixes: list[tuple[int, int]], address: int) -> None:
    """An address is in a set exactly when it is in one of the prefixes."""
    elements = [
        {"prefix": {"addr": ".".join(map(str, start.to_bytes(4, "big"))), "len": length}} for start, length in prefixes
    ]
    left = {"payload": {"protocol": "ip", "field": "saddr"}}
    first, second = parsed([{"match": {"op": "==", "left": left, "right": {"set": elements}}}])
    assert first == V4
    inside = any(start >> (32 - length) == address >> (32 - length) for start, length in prefixes)
    assert holds((second,), Field.SOURCE, address) is inside


WORDS = st.sampled_from(
    ("10.0.0.1", "eth0", 'a }, {"', ', "right": ', '"expr": [', "}]}", '"', "\\", "\0", "@ips", "é")
)
RIGHT = st.recursive(
    WORDS | st.integers(0, 70000) | st.none() | st.booleans(),
    lambda inner: (
        st.fixed_dictionaries({"set": st.lists(inner | st.fixed_dictionaries({"right": inner}), max_size=3)})
        | st.lists(inner, max_size=2)
        | st.fixed_dictionaries({"right": inner})
    ),
    max_leaves=4,
)
LEFT = st.sampled_from((
    *(
        {"payload": {"protocol": protocol, "field": name}}
        for protocol, name in (("ip", "saddr"), ("tcp", "dport"), ("th", "sport"))
    ),
    *({"meta": {"key": key}} for key in ("iifname", "l4proto", "time")),
    {"ct": {"key": "state"}},
    {"right": 1},
))  # fmt: skip
COUNTERS = st.integers(0, 3).map(lambda packets: {"counter": {"packets": packets, "bytes": 60 * packets}})
STATEMENTS = st.one_of(
    st.tuples(st.sampled_from(("==", "!=", "in", "<")), LEFT, RIGHT).map(
        lambda said: {"match": dict(zip(("op", "left", "right"), said, strict=True))}
    ),
    st.tuples(RIGHT, LEFT).map(lambda said: {"match": {"right": said[0], "op": "==", "left": said[1]}}),
    COUNTERS,
    st.builds(
        lambda counter, element: {"set": {"op": "add", "elem": element, "set": "@ips", "stmt": [counter]}},
        COUNTERS,
        LEFT,
    ),
    st.fixed_dictionaries({"log": st.fixed_dictionaries({"prefix": WORDS})}),
    st.fixed_dictionaries({"unknown": st.fixed_dictionaries({"right": RIGHT})}),
    RIGHT,
    st.sampled_from(({"accept": None}, {"drop": None}, {"jump": {"target": "c"}}, {"dnat": {"addr": "10.0.0.1"}})),
)


@given(st.lists(st.tuples(st.lists(STATEMENTS, max_size=4), st.none() | WORDS), min_size=1, max_size=4))
def test_a_rule_says_the_same_however_it_is_read(rules: list[tuple[list[Any], str | None]]) -> None:
    """Statement by statement, each once, as nft writes them; or decoded, where that is written in another order."""
    place = {"family": "inet", "table": "t", "chain": "c"}
    others = [entry for entry in recorded()["nftables"] if "rule" not in entry]
    as_nft, otherwise = [], []
    for number, (statements, comment) in enumerate(rules):
        told = {} if comment is None else {"comment": comment}
        as_nft.append({"rule": {**place, "handle": number, **told, "expr": statements}})
        otherwise.append({"rule": {"expr": statements, "handle": number, **told, **place}})
    assert read_tables({"nftables": [*others, *as_nft]}) == read_tables({"nftables": [*others, *otherwise]})
