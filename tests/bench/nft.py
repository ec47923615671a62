"""What engines from 29.0 on write with `--firewall-backend=nftables`, as `nft -j list table` prints it.

`test_layouts.py` compares it with what recorded engines wrote. Those had no links on a closed bridge: there are none.
"""

from __future__ import annotations

import json
from itertools import count
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from tests.bench.layouts import Bridge, Member

Document = dict[str, Any]

_TABLE = "docker-bridges"
RULE = '{"rule": '
"""How nft begins a rule."""

_FAMILIES = {4: "ip", 6: "ip6"}
_BASES = (
    ("filter-FORWARD", "filter", "forward", 0),
    ("nat-OUTPUT", "nat", "output", -100),
    ("nat-POSTROUTING", "nat", "postrouting", 100),
    ("nat-PREROUTING", "nat", "prerouting", -100),
    ("raw-PREROUTING", "filter", "prerouting", -300),
)
_PER_BRIDGE = ("filter-forward-in", "filter-forward-out", "nat-postrouting-in", "nat-postrouting-out")
_PUBLISHED = "nat-prerouting-and-output"


def engine_table(version: int, bridges: Sequence[Bridge], members: Sequence[Member], inside: int) -> str:
    """Return the engine's table of one version of IP; published ports lead to the port `inside` of a container."""
    made = _Writer(_FAMILIES[version], _TABLE)
    for name in _PER_BRIDGE:
        jumps = [[bridge.interface, {"jump": {"target": f"{name}__{bridge.interface}"}}] for bridge in bridges]
        made.add("map", name=f"{name}-jumps", type="ifname", map="verdict", elem=jumps)
    for name, kind, hook, priority in _BASES:
        made.chain(name, kind, hook, priority)
    made.add("chain", name=_PUBLISHED)
    for bridge in bridges:
        for name in _PER_BRIDGE:
            made.add("chain", name=f"{name}__{bridge.interface}")
    for chain, statements, comment in _rules(version, bridges, members, inside):
        made.rule(chain, statements, comment)
    return made.text


def user_table(version: int, strangers: Iterable[tuple[str, str]], inside: int) -> str:
    """Return a table of somebody else's, which drops what the one of two addresses sends to the other."""
    made = _Writer(_FAMILIES[version], "tenants")
    made.chain("forward", "filter", "forward", -10)
    for source, destination in strangers:
        asked = [_ip(version, "saddr", source), _ip(version, "daddr", destination), _port("dport", inside)]
        made.rule("forward", [*asked, _COUNTER, {"drop": None}])
    return made.text


class _Writer:
    """Writes one table, object by object: decoded, a large one takes ten times its text's room."""

    def __init__(self, family: str, table: str) -> None:
        self._place = {"family": family, "table": table}
        self._handles = count(1)
        self._entries = [json.dumps({"table": {"family": family, "name": table, "handle": 1}})]

    def add(self, kind: str, **said: object) -> None:
        self._entries.append(json.dumps({kind: {**self._place, **said, "handle": next(self._handles)}}))

    @property
    def text(self) -> str:
        return f'{{"nftables": [{", ".join(self._entries)}]}}'

    def chain(self, name: str, kind: str, hook: str, priority: int) -> None:
        self.add("chain", name=name, type=kind, hook=hook, prio=priority, policy="accept")

    def rule(self, chain: str, statements: Sequence[Document], comment: str = "") -> None:
        told = {"comment": comment} if comment else {}
        # nft writes the handle before them, not at the end
        said = {**self._place, "chain": chain, "handle": next(self._handles), **told, "expr": list(statements)}
        self._entries.append(json.dumps({"rule": said}))


_Rule = tuple[str, "Sequence[Document]", str]


def _rules(version: int, bridges: Sequence[Bridge], members: Sequence[Member], inside: int) -> Iterator[_Rule]:
    yield "filter-FORWARD", [_dispatch("oifname", "filter-forward-in-jumps")], ""
    yield "filter-FORWARD", [_dispatch("iifname", "filter-forward-out-jumps")], ""
    own: object = "::1" if version == 6 else {"prefix": {"addr": "127.0.0.0", "len": 8}}
    there = [_local("daddr"), _COUNTER, {"jump": {"target": _PUBLISHED}}]
    yield "nat-OUTPUT", [_ip(version, "daddr", own, "!="), *there], ""
    yield "nat-POSTROUTING", [_dispatch("iifname", "nat-postrouting-out-jumps")], ""
    yield "nat-POSTROUTING", [_dispatch("oifname", "nat-postrouting-in-jumps")], ""
    yield "nat-PREROUTING", there, ""
    for member in members:
        if member.port is not None:
            yield _PUBLISHED, _led(version, member, inside), "DNAT"
    for member in members:
        asked = [_ip(version, "daddr", member.address(version)), _name("iifname", member.bridge.interface, "!=")]
        yield "raw-PREROUTING", [*asked, _COUNTER, {"drop": None}], "DROP DIRECT ACCESS"
    for bridge in bridges:
        published = [member for member in members if member.bridge is bridge and member.port is not None]
        yield from _of_bridge(version, bridge, published, inside)


def _led(version: int, member: Member, inside: int) -> Sequence[Document]:
    asked = [_name("iifname", member.bridge.interface, "!=")]
    if version == 6:
        asked.append(_ip(6, "saddr", {"prefix": {"addr": "fe80::", "len": 10}}, "!="))
    return [*asked, _port("dport", member.port), _COUNTER, {"dnat": {"addr": member.address(version), "port": inside}}]


def _of_bridge(version: int, bridge: Bridge, published: Iterable[Member], inside: int) -> Iterator[_Rule]:
    name = bridge.interface
    into, out = f"filter-forward-in__{name}", f"filter-forward-out__{name}"
    yield into, _ANSWERS, ""
    yield into, [_name("iifname", name), _COUNTER, {"drop" if bridge.closed else "accept": None}], "ICC"
    for member in published:
        asked = [_ip(version, "daddr", member.address(version)), _port("dport", inside)]
        yield into, [*asked, _COUNTER, {"accept": None}], ""
    yield into, [_COUNTER, {"drop": None}], "UNPUBLISHED PORT DROP"
    yield out, _ANSWERS, ""
    yield out, [_COUNTER, {"accept": None}], "OUTGOING"
    address, _, length = bridge.subnet(version).partition("/")
    subnet = _ip(version, "saddr", {"prefix": {"addr": address, "len": int(length)}})
    asked = [_name("oifname", name, "!="), subnet]
    yield f"nat-postrouting-out__{name}", [*asked, _COUNTER, {"masquerade": None}], "MASQUERADE"


# --- Statements ---

_COUNTER = {"counter": {"packets": 0, "bytes": 0}}


def _match(left: Document, right: object, operator: str = "==") -> Document:
    return {"match": {"op": operator, "left": left, "right": right}}


_ANSWERS = (
    _match({"ct": {"key": "state"}}, ["established", "related"], "in"),
    _COUNTER,
    {"accept": None},
)


def _ip(version: int, field: str, right: object, operator: str = "==") -> Document:
    return _match({"payload": {"protocol": _FAMILIES[version], "field": field}}, right, operator)


def _port(field: str, number: int | None) -> Document:
    return _match({"payload": {"protocol": "tcp", "field": field}}, number)


def _name(key: str, name: str, operator: str = "==") -> Document:
    return _match({"meta": {"key": key}}, name, operator)


def _local(end: str) -> Document:
    return _match({"fib": {"result": "type", "flags": [end]}}, "local")


def _dispatch(key: str, name: str) -> Document:
    return {"vmap": {"key": {"meta": {"key": key}}, "data": f"@{name}"}}
