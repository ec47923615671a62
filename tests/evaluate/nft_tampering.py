"""Native tables that somebody changed: statements, rules, maps and chains of nft at random, as nft would list them."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

if TYPE_CHECKING:
    from exporter.model.observation import Observation

Document = dict[str, Any]

ADDRESSES = ("10.64.0.2", "10.64.0.3", "10.64.1.2", "10.64.1.3", "10.64.2.2", "10.64.0.1", "172.17.0.2", "192.0.2.9")
NETS = ("10.64.1.0", "10.64.0.0")
BRIDGES = ("br-n0", "br-n1", "br-n2", "docker0", "eth0", "br-*")
VERDICTS = ("accept", "drop", "return", "continue")
CHAINS = (
    "filter-FORWARD", "filter-forward-in__br-n0", "filter-forward-in__br-n1", "filter-forward-out__br-n0",
    "nat-postrouting-out__br-n1", "nat-prerouting-and-output", "raw-PREROUTING",
)  # fmt: skip
"""Chains of the engine's table."""


@st.composite
def verdicts(draw: st.DrawFn) -> Document:
    """Return what a rule or a case of a map does; calls lead to chains of one network."""
    if draw(st.integers(0, 2)):
        return {draw(st.sampled_from(VERDICTS)): None}
    target = draw(st.sampled_from(("filter-forward-in__br-n0", "filter-forward-in__br-n1", "filter-forward-in__br-n2")))
    return {draw(st.sampled_from(("jump", "goto"))): {"target": target}}


@st.composite
def _asked(draw: st.DrawFn, chain: str) -> Document:
    operator = draw(st.sampled_from(("==", "==", "!=")))
    match draw(st.sampled_from(("saddr", "daddr", "net", "iifname", "oifname", "dport", "state"))):
        case "saddr" | "daddr" as field:
            left: Document = {"payload": {"protocol": "ip", "field": field}}
            right: object = draw(st.sampled_from(ADDRESSES))
        case "net":
            left = {"payload": {"protocol": "ip", "field": "daddr"}}
            right = {"prefix": {"addr": draw(st.sampled_from(NETS)), "len": draw(st.sampled_from((23, 24)))}}
        case "iifname" | "oifname" as key:
            possible = key == "iifname" or ("PREROUTING" not in chain and "prerouting" not in chain)
            left = {"meta": {"key": key if possible else "iifname"}}
            right = draw(st.sampled_from(BRIDGES))
        case "dport":
            left = {"payload": {"protocol": "tcp", "field": "dport"}}
            right = draw(st.sampled_from((80, 20_000, 20_001, {"range": [1000, 30_000]})))
        case _:
            return {"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": ["established", "new"]}}
    return {"match": {"op": operator, "left": left, "right": right}}


@st.composite
def _rules(draw: st.DrawFn) -> Document:
    chain = draw(st.sampled_from(CHAINS))
    statements = draw(st.lists(_asked(chain), max_size=3))
    own = [name for name in VERDICTS if name != "continue"]
    last = draw(verdicts()) if chain == "filter-FORWARD" else {draw(st.sampled_from(own)): None}
    if draw(st.integers(0, 5)) == 0 and chain == "filter-FORWARD":
        cases = [[name, draw(verdicts())] for name in draw(st.sets(st.sampled_from(BRIDGES[:5]), min_size=1))]
        last = {
            "vmap": {"key": {"meta": {"key": draw(st.sampled_from(("iifname", "oifname")))}}, "data": {"set": cases}}
        }
    if draw(st.integers(0, 7)) == 0:
        last = draw(_rewriting())
    return {"chain": chain, "expr": [*statements, last]}


@st.composite
def _rewriting(draw: st.DrawFn) -> Document:
    """Return what is written into packets behind conntrack's back."""
    protocol, field = draw(st.sampled_from((("ip", "daddr"), ("ip", "saddr"), ("tcp", "dport"))))
    value = draw(st.sampled_from(ADDRESSES if protocol == "ip" else (80, 20_000)))
    return {"mangle": {"key": {"payload": {"protocol": protocol, "field": field}}, "value": value}}


@st.composite
def native_tampering(draw: st.DrawFn, seen: Observation, most: int) -> Observation:
    """Return a host with so many more rules at most; some rules are taken away and moved, cases of maps changed."""
    assert seen.kernel is not None
    assert seen.kernel.host is not None
    first, *others = seen.kernel.host.nftables
    entries = json.loads(first)["nftables"]
    own = {"family": "ip", "table": "docker-bridges"}
    for _ in range(draw(st.integers(0, most))):
        made = draw(_rules())
        alike = [place for place, each in enumerate(entries) if each.get("rule", {}).get("chain") == made["chain"]]
        entries.insert(draw(st.sampled_from([*alike, len(entries)])), {"rule": own | made})
    for _ in range(draw(st.integers(0, 2))):
        places = [place for place, each in enumerate(entries) if "rule" in each]
        moved = entries.pop(draw(st.sampled_from(places)))
        if draw(st.booleans()):
            chain = moved["rule"]["chain"]
            alike = [place for place, each in enumerate(entries) if each.get("rule", {}).get("chain") == chain]
            entries.insert(draw(st.sampled_from(alike or [len(entries)])), moved)
    if draw(st.integers(0, 2)) == 0:
        place = draw(st.sampled_from([place for place, each in enumerate(entries) if "map" in each]))
        cases = [list(case) for case in entries[place]["map"]["elem"]]
        number = draw(st.integers(0, len(cases) - 1))
        if draw(st.booleans()):
            del cases[number]
        else:
            forward = entries[place]["map"]["name"].startswith("filter")
            cases[number][1] = draw(verdicts()) if forward else {"accept": None}
        entries[place] = {"map": entries[place]["map"] | {"elem": cases}}
    tables = (json.dumps({"nftables": entries}), *others)
    return replace(seen, kernel=replace(seen.kernel, host=replace(seen.kernel.host, nftables=tables)))
