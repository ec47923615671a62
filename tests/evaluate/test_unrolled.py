"""Maps by interface are written out only where the rules say the same as they did."""

from __future__ import annotations

from typing import Any

import pytest

from exporter.evaluate.kinds.unrolled import UnrolledMemory, unrolled
from exporter.model.firewall import (
    Call,
    Dispatch,
    Field,
    Firewall,
    InRanges,
    NameIs,
    Rule,
    Terminate,
    Verdict,
)
from exporter.model.ranges import Ranges
from exporter.parse import Memory, parse
from tests.bench.layouts import NFTABLES, Layout
from tests.parse.kernel.nft import read_tables

ACCEPT, DROP, RETURN = (Terminate(verdict) for verdict in (Verdict.ACCEPT, Verdict.DROP, Verdict.RETURN))

Statements = list[dict[str, Any]]


def tables(
    *cases: list[Any], key: str = "oifname", before: Statements | None = None, **chains: list[Statements]
) -> Firewall:
    """Return a firewall with a map in its base chain, after what is asked `before`, and with other chains."""
    own = {"family": "ip", "table": "t"}
    base = {"name": "forward", "type": "filter", "hook": "forward", "prio": 0, "policy": "accept"}
    looked_up = {"vmap": {"key": {"meta": {"key": key}}, "data": {"set": list(cases)}}}
    said: list[dict[str, Any]] = [
        {"table": {"family": "ip", "name": "t"}},
        {"chain": {**own, **base}},
        *({"chain": {**own, "name": name}} for name in chains),
        {"rule": {**own, "chain": "forward", "expr": [*(before or ()), looked_up]}},
        *({"rule": {**own, "chain": name, "expr": expr}} for name, rules in chains.items() for expr in rules),
    ]
    return Firewall(read_tables({"nftables": said}))


def written(firewall: Firewall) -> list[tuple[Any, ...]]:
    """Return the steps of the base chain's rules, once maps are written out."""
    (table,) = unrolled(firewall, UnrolledMemory()).tables
    return [rule.steps for rule in table.chains["forward"].rules]


def jump(name: str, verb: str = "jump") -> dict[str, Any]:
    """Return a call of a chain."""
    return {verb: {"target": name}}


def out(name: str) -> NameIs:
    """Return the match on an interface that packets leave by."""
    return NameIs(Field.OUTPUT_INTERFACE, (name,))


PORT = [{"match": {"op": "==", "left": {"payload": {"protocol": "tcp", "field": "dport"}}, "right": 80}}]
BY_MARK = {"vmap": {"key": {"meta": {"key": "mark"}}, "data": {"set": [[7, {"return": None}]]}}}


def test_rules_of_a_chain_stand_where_it_was_called() -> None:
    """Each with the interface before it, in the chain's order; chains that nobody calls any more are gone."""
    firewall = tables(["br-a", jump("a")], ["br-b", jump("b")], a=[[*PORT, {"drop": None}], [{"accept": None}]], b=[])
    asked = InRanges(Field.PROTOCOL, Ranges.of(6)), InRanges(Field.DESTINATION_PORT, Ranges.of(80))
    assert written(firewall) == [(out("br-a"), *asked, DROP), (out("br-a"), ACCEPT)]
    (table,) = unrolled(firewall, UnrolledMemory()).tables
    assert table.chains.keys() == {"forward"}


@pytest.mark.parametrize(("case", "statement"), [({"drop": None}, DROP), ({"return": None}, RETURN)])
def test_verdicts_of_a_map_are_rules(case: dict[str, Any], statement: Terminate) -> None:
    """A return of a map's is one of the rule that has it."""
    assert written(tables(["br-a", case])) == [(out("br-a"), statement)]


@pytest.mark.parametrize(
    "rules", [[[{"return": None}]], [[*PORT, {"return": None}]], [[jump("b", "goto")]], [[*PORT, BY_MARK]]]
)
def test_chains_that_packets_leave_midway_are_called(rules: list[Statements]) -> None:
    """A return or goto within the chain comes back to behind the call, which a rule in its place would not."""
    firewall = tables(["br-a", jump("a")], a=rules, b=[[{"drop": None}]])
    assert written(firewall) == [(out("br-a"), Call("a"))]
    (table,) = unrolled(firewall, UnrolledMemory()).tables
    assert table.chains["a"] is firewall.tables[0].chains["a"]


def test_a_chain_that_many_cases_lead_to_is_called() -> None:
    """Its rules would be there once for each of them."""
    firewall = tables(["br-a", jump("a")], ["br-b", jump("a")], a=[[*PORT, {"drop": None}]])
    assert written(firewall) == [(out("br-a"), Call("a")), (out("br-b"), Call("a"))]


def test_a_goto_stays_one() -> None:
    """Packets do not come back from there, though they would from a rule in its place."""
    assert written(tables(["br-a", jump("a", "goto")], a=[[*PORT, {"drop": None}]])) == [
        (out("br-a"), Call("a", goto=True))
    ]


def test_a_chain_that_is_called_elsewhere_stays() -> None:
    """It is both written out and called by name."""
    firewall = tables(["br-a", jump("a")], a=[[jump("b")]], b=[[{"drop": None}]])
    (table,) = unrolled(firewall, UnrolledMemory()).tables
    assert [rule.steps for rule in table.chains["forward"].rules] == [(out("br-a"), Call("b"))]
    assert table.chains.keys() == {"forward", "b"}


@pytest.mark.parametrize(
    "firewall",
    [
        tables(["br-*", jump("a")], a=[[{"drop": None}]]),
        tables(["br-a", jump("a")], before=PORT, a=[[{"drop": None}]]),
        tables([80, jump("a")], key="mark", a=[[{"drop": None}]]),
        tables([{"elem": {"val": "br-a", "limit": {"rate": 5, "per": "second"}}}, jump("a")], a=[[{"drop": None}]]),
    ],
    ids=["wildcard", "asked before", "by mark", "limited"],
)
def test_other_maps_stay(firewall: Firewall) -> None:
    """What asks for more than one interface by its name is left alone, and what rules may change between."""
    steps = [rule.steps for rule in firewall.tables[0].chains["forward"].rules]
    assert isinstance(steps[0][-1], Dispatch)
    assert written(firewall) == steps
    assert unrolled(firewall, UnrolledMemory()).tables[0] is firewall.tables[0]


def test_what_stayed_the_same_is_the_same_object() -> None:
    """After a container has stopped, chains that it had no part in and other networks' rules are those from before."""
    memory, remembered = Memory(), UnrolledMemory()
    found = []
    for gone in (frozenset[int](), frozenset({0}), frozenset({0})):
        snapshot = parse(Layout(NFTABLES, containers=8, links=0, without=gone).observation(), memory)
        assert snapshot.kernel is not None
        found.append(unrolled(snapshot.kernel.host.firewall, remembered).tables[0].chains)
    first, second, third = found
    assert third["filter-FORWARD"] is second["filter-FORWARD"]
    assert second["nat-POSTROUTING"] is first["nat-POSTROUTING"]
    old: set[int] = {id(rule) for rule in first["filter-FORWARD"].rules}
    new: list[Rule] = [rule for rule in second["filter-FORWARD"].rules if id(rule) not in old]
    assert all(rule.steps[0] == out("br-n0") for rule in new)
    assert 0 < len(new) < len(second["filter-FORWARD"].rules)
