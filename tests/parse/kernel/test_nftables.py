"""Documents of nft: tables, chains, sets with much in them, and what is none of it."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from exporter.errors import ObservationError
from exporter.model.firewall import (
    AddressTypeIs,
    AnyBit,
    AnyOf,
    Base,
    Call,
    Dispatch,
    Field,
    Hook,
    InRanges,
    NameIs,
    Opaque,
    Rule,
    Table,
    TableFamily,
    Terminate,
    Translate,
    Verdict,
)
from exporter.parse.kernel.ipsets import IpSets
from exporter.parse.kernel.nftables import parse_nftables
from exporter.parse.memory import RuleMemory
from tests.parse.kernel.nft import V4, are, doubts, number, only, parsed, read_tables

RECORDINGS = sorted((Path(__file__).parent.parent.parent / "data" / "recordings").glob("*.json"))
ACCEPT = Terminate(Verdict.ACCEPT)


def document(*entries: dict[str, Any], family: str = "inet", **table: object) -> dict[str, Any]:
    """Return the document of one table."""
    place = {"family": family, "table": "t"}
    parts = [{kind: {**place, **said}} for entry in entries for kind, said in entry.items()]
    return {
        "nftables": [{"metainfo": {"version": "1.0.6"}}, {"table": {"family": family, "name": "t", **table}}, *parts]
    }


def base(family: str = "inet", **said: object) -> Base | None:
    """Return what makes a chain of a document a base chain."""
    chain = {"name": "c", "type": "filter", "hook": "forward", "prio": 0, **said}
    return only(document({"chain": chain}, family=family)).chains["c"].base


@pytest.mark.parametrize(
    ("family", "said", "expected"),
    [
        ("inet", {}, Base(Hook.FORWARD, 0)),
        ("ip", {"prio": -5, "policy": "drop"}, Base(Hook.FORWARD, -5, Verdict.DROP)),
        ("inet", {"prio": "filter"}, Base(Hook.FORWARD, 0)),
        ("inet", {"prio": "mangle + 10"}, Base(Hook.FORWARD, -140)),
        ("bridge", {"prio": "filter - 1"}, Base(Hook.FORWARD, -201)),
        ("bridge", {"prio": "out"}, Base(Hook.FORWARD, 100)),
        ("ip", {"type": "nat", "hook": "prerouting", "prio": -100}, Base(Hook.PREROUTING, -100, kind="nat")),
        ("ip6", {"type": "route", "hook": "output", "prio": -150}, Base(Hook.OUTPUT, -150, kind="route")),
        ("netdev", {"hook": "ingress", "dev": "lo"}, Base(Hook.INGRESS, 0, devices=("lo",))),
        ("inet", {"hook": "ingress", "dev": ["b", "a"]}, Base(Hook.INGRESS, 0, devices=("a", "b"))),
        ("arp", {"hook": "input"}, Base(Hook.INPUT, 0)),
    ],
)
def test_a_base_chain_stands_where_it_says(family: str, said: dict[str, object], expected: Base) -> None:
    """Hook, priority as a number or by a name of its family, policy and devices."""
    assert base(family, **said) == expected


def test_tables_come_in_the_order_of_the_document() -> None:
    """The kernel calls chains of equal priority by it; rules, chains and sets may come in any."""
    found = read_tables(
        {
            "nftables": [
                {"table": {"family": "ip", "name": "b"}},
                {"table": {"family": "ip", "name": "a"}},
                {"rule": {"family": "ip", "table": "a", "chain": "c", "expr": [{"accept": None}], "comment": "why"}},
                {"counter": {"family": "ip", "table": "a", "name": "n", "packets": 1, "bytes": 1}},
                {"chain": {"family": "ip", "table": "a", "name": "c"}},
            ]
        }
    )
    assert [table.name for table in found] == ["b", "a"]
    assert found[1].chains["c"].rules == (Rule((ACCEPT,), 'accept comment "why"'),)
    assert found[1].chains["c"].base is None


def test_elements_may_be_listed_apart_from_their_set() -> None:
    """They are in it all the same."""
    source = {"payload": {"protocol": "ip", "field": "saddr"}}
    match = {"match": {"op": "==", "left": source, "right": "@s"}}
    found = only(
        document(
            {"set": {"name": "s", "type": "ipv4_addr"}},
            {"chain": {"name": "c"}},
            {"rule": {"chain": "c", "expr": [match]}},
            {"element": {"name": "s", "elem": ["10.0.0.1"]}},
        )
    )
    assert found.chains["c"].rules[0].steps == (V4, are(Field.SOURCE, number("10.0.0.1")))


@pytest.mark.parametrize("operation", ["add", "update", "delete"])
@pytest.mark.parametrize("op", ["==", "!="])
def test_nobody_knows_what_packets_put_into_a_set(operation: str, op: str) -> None:
    """What was listed need not be all, nor be there any more, where a rule of the table changes the set."""
    source = {"payload": {"protocol": "ip", "field": "saddr"}}
    change = {"set": {"op": operation, "elem": source, "set": "@s"}}
    found = only(
        document(
            {"set": {"name": "s", "type": "ipv4_addr", "elem": ["10.0.0.1"]}},
            {"set": {"name": "fixed", "type": "ipv4_addr", "elem": ["10.0.0.1"]}},
            {"chain": {"name": "c"}},
            {"rule": {"chain": "c", "expr": [{"match": {"op": op, "left": source, "right": "@s"}}]}},
            {"rule": {"chain": "c", "expr": [{"match": {"op": op, "left": source, "right": "@fixed"}}]}},
            {"rule": {"chain": "c", "expr": [change]}},
        )
    )
    asked, certain, _ = found.chains["c"].rules
    assert doubts(asked.steps) == {"a dynamic set"}
    assert doubts(certain.steps) == set()


def test_nobody_knows_what_packets_put_into_a_map() -> None:
    """A verdict map to which a rule of the table adds may do anything."""
    port = {"payload": {"protocol": "tcp", "field": "dport"}}
    change = {"map": {"op": "add", "elem": port, "data": {"accept": None}, "map": "@m"}}
    found = only(
        document(
            {"map": {"name": "m", "type": "inet_service", "map": "verdict", "elem": [[80, {"accept": None}]]}},
            {"chain": {"name": "c"}},
            {"rule": {"chain": "c", "expr": [{"vmap": {"key": port, "data": "@m"}}]}},
            {"rule": {"chain": "c", "expr": [change]}},
        )
    )
    assert doubts(found.chains["c"].rules[0].steps) == {"vmap"}


@pytest.mark.parametrize(("seconds", "steps"), [(0, 1), (1, 0)])
def test_timeouts_may_be_no_time_at_all(seconds: int, steps: int) -> None:
    """Rules by their name then lose what comes next, though they say the same as before."""
    memory = RuleMemory()
    for listed, expected in ((5, 0), (seconds, steps)):
        (table,) = parse_nftables(
            json.dumps(
                document(
                    {"ct timeout": {"name": "x", "policy": {"established": listed}}},
                    {"chain": {"name": "c"}},
                    {"rule": {"chain": "c", "expr": [{"ct timeout": "x"}]}},
                )
            ),
            memory,
        )
        memory.turn(IpSets())
        assert len(table.chains["c"].rules[0].steps) == expected


def table_with(**flags: Any) -> Table:  # noqa: ANN401
    """Return a table with flags, and one rule in a chain that drops the rest."""
    chain = {"name": "c", "type": "filter", "hook": "input", "prio": 0, "policy": "drop"}
    return only(document({"chain": chain}, {"rule": {"chain": "c", "expr": [{"accept": None}]}}, **flags))


def test_chains_of_a_dormant_table_are_not_called() -> None:
    """The kernel keeps the rules and asks none of them."""
    chain = table_with(flags=["dormant"]).chains["c"]
    assert chain.base is None
    assert len(chain.rules) == 1


def test_a_table_that_a_program_owns_is_as_others() -> None:
    """Who may change it does not matter to packets."""
    assert table_with(flags=["owner", "persist"]) == table_with()


def test_a_flag_that_nobody_knows_leaves_a_doubt() -> None:
    """Nft 1.0 prints the table's name in the place of its flags: the table may be dormant."""
    chain = table_with(flags="t").chains["c"]
    doubt = Opaque("table flags", "t")
    assert chain.base == Base(Hook.INPUT, 0)
    assert [rule.steps for rule in chain.rules] == [(doubt, ACCEPT), (doubt, Terminate(Verdict.DROP))]


TABLE = {"table": {"family": "ip", "name": "t"}}
CHAIN = {"chain": {"family": "ip", "table": "t", "name": "c"}}
RULE = {"rule": {"family": "ip", "table": "t", "chain": "c", "expr": []}}


def hooked(**said: object) -> list[object]:
    """Return the entries of a table with one base chain."""
    whole = {"type": "filter", "hook": "input", "prio": 0, **said}
    return [TABLE, {"chain": {**CHAIN["chain"], **whole}}]


@pytest.mark.parametrize(
    "entries",
    [
        None,
        "nftables",
        [None],
        [{}],
        [{"table": None}],
        [{"table": {"family": "ip"}}],
        [{"table": {"family": "osi", "name": "t"}}],
        [TABLE, TABLE],
        [CHAIN],
        [RULE],
        [TABLE, RULE],
        [TABLE, CHAIN, CHAIN],
        [TABLE, CHAIN, {"rule": {**RULE["rule"], "expr": "accept"}}],
        [TABLE, {"element": {"family": "ip", "table": "t", "name": "s", "elem": []}}],
        hooked(hook="teleport"),
        hooked(prio="whenever"),
        hooked(prio=None),
        hooked(policy="perhaps"),
        hooked(type=None),
    ],
)
def test_what_is_no_listing_raises_the_one_error(entries: object) -> None:
    """A document that breaks off, or is another program's, is refused."""
    with pytest.raises(ObservationError, match="nft -j list"):
        read_tables({"nftables": entries})


@pytest.mark.parametrize(
    "entry", [{"rule": {"chain": "c", "expr": ["deep"]}}, {"set": {"name": "s", "elem": ["deep"]}}]
)
def test_expressions_without_end_are_refused(entry: dict[str, Any]) -> None:
    """A listing can be nested deeper than Python can follow."""
    text = json.dumps(document({"chain": {"name": "c"}}, entry))
    parse_nftables(text)
    with pytest.raises(ObservationError, match="without end"):
        parse_nftables(text.replace('"deep"', '{"&": [' * 5000 + "1" + ", 1]}" * 5000))


# --- The engine's own rules ---


def ruleset(path: Path) -> dict[str, Any]:
    """Return what nft printed on a recorded host."""
    found: dict[str, Any] = json.loads(path.read_text())["host"]["nft_ruleset"]
    return found


@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: path.stem)
def test_an_engines_rules_are_understood(path: Path) -> None:
    """Docker's nftables backend writes no rule with anything that is not known, and every jump leads somewhere."""
    listed = ruleset(path)
    tables = read_tables(listed)
    rules = [(table, rule) for table in tables for chain in table.chains.values() for rule in chain.rules]
    assert len(rules) == sum("rule" in entry for entry in listed["nftables"])
    assert not any(doubts(rule.steps) for _, rule in rules)
    for table, rule in rules:
        jumps = [step for step in rule.steps if isinstance(step, Call)]
        for step in rule.steps:
            if isinstance(step, Dispatch):
                jumps += [statement for _, statement in step.cases if isinstance(statement, Call)]
        assert all(jump.chain in table.chains for jump in jumps)
        assert rule.text
        assert "{" not in rule.text or "}" in rule.text


def test_an_engines_jumps_are_looked_up_by_the_interface() -> None:
    """Its verdict maps have the interface's name as the one thing that cases differ in."""
    (table,) = [table for table in read_tables(ruleset(RECORDINGS[0])) if table.family is TableFamily.IP]
    maps = [
        (chain.name, step)
        for chain in table.chains.values()
        for rule in chain.rules
        for step in rule.steps
        if isinstance(step, Dispatch)
    ]
    assert {step.key for _, step in maps} == {Field.INPUT_INTERFACE, Field.OUTPUT_INTERFACE}
    for _, step in maps:
        for matches, statement in step.cases:
            (match,) = matches
            assert isinstance(match, NameIs)
            assert isinstance(statement, Call)
            assert statement.chain.endswith(match.names[0])


def test_an_engines_rules_are_of_these_kinds() -> None:
    """A sum over all recordings: no step is lost."""
    steps = Counter(
        type(step)
        for path in RECORDINGS
        for table in read_tables(ruleset(path))
        for chain in table.chains.values()
        for rule in chain.rules
        for step in rule.steps
    )
    printed = Counter(
        name
        for path in RECORDINGS
        for entry in ruleset(path)["nftables"]
        if "rule" in entry
        for said in entry["rule"]["expr"]
        for name in said
    )
    assert steps[Translate] == printed["dnat"] + printed["masquerade"]
    assert steps[Terminate] == printed["accept"] + printed["drop"]
    assert steps[Call] == printed["jump"]
    assert steps[Dispatch] == printed["vmap"]
    assert steps[AnyBit] == sum(
        json.dumps(ruleset(path)).count('"op": "in", "left": {"ct": {"key": "state"}}') for path in RECORDINGS
    )
    assert steps[AddressTypeIs] == sum(json.dumps(ruleset(path)).count('{"fib": ') for path in RECORDINGS)


# --- Much of it ---


def test_large_sets_are_read() -> None:
    """Ten thousand elements, asked for by ten rules, are one match each."""
    elements = [f"10.{host >> 8}.{host & 255}.{host % 7}" for host in range(10_000)]
    pairs = [{"concat": [address, 80 + at % 3]} for at, address in enumerate(elements)]
    source = {"payload": {"protocol": "ip", "field": "saddr"}}
    both = {"concat": [source, {"payload": {"protocol": "tcp", "field": "dport"}}]}
    rules = [{"match": {"op": "==", "left": left, "right": right}} for left, right in ((source, "@s"), (both, "@p"))]
    found = parsed(rules * 10, sets=[{"name": "s", "elem": elements}, {"name": "p", "elem": pairs}])
    one, several = found[1], found[-1]
    assert isinstance(one, InRanges)
    assert len(one.ranges.intervals) == 10_000
    assert isinstance(several, AnyOf)
    assert len(several.alternatives) == 3


def test_large_maps_are_read() -> None:
    """A thousand interfaces in one verdict map."""
    names = [f"br-{number:012x}" for number in range(1000)]
    entries = [[name, {"jump": {"target": name}}] for name in names]
    vmap = {"vmap": {"key": {"meta": {"key": "oifname"}}, "data": "@m"}}
    (step,) = parsed([vmap], sets=[{"name": "m", "elem": entries}])
    assert isinstance(step, Dispatch)
    assert step.key is Field.OUTPUT_INTERFACE
    assert len(step.cases) == 1000


def test_long_sets_are_cut_short_in_a_rules_text() -> None:
    """People read the text; the steps have all of it."""
    source = {"payload": {"protocol": "tcp", "field": "dport"}}
    match = {"match": {"op": "==", "left": source, "right": {"set": list(range(100))}}}
    chain = {"chain": {"name": "c"}}
    (rule,) = only(document(chain, {"rule": {"chain": "c", "expr": [match]}})).chains["c"].rules
    assert rule.text == "tcp dport { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, … }"
