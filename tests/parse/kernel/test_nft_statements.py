"""What nft's statements do, as real nft prints them."""

from __future__ import annotations

import pytest

from exporter.model.firewall import (
    AddressType,
    AddressTypeIs,
    AnyBit,
    Call,
    CopyMark,
    Dispatch,
    Divert,
    Field,
    NameIs,
    Onward,
    Opaque,
    ProxyLocally,
    Rewrite,
    SetMark,
    Statement,
    Step,
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
from exporter.parse.kernel.nft_expressions import Context
from exporter.parse.kernel.nft_statements import MASQUERADES, rule_steps
from tests.parse.kernel.nft import TCP, V4, V6, are, between, doubts, number, only, parsed, recorded, steps

ACCEPT, DROP, REJECT = Terminate(Verdict.ACCEPT), Terminate(Verdict.DROP), Terminate(Verdict.REJECT)
RETURN, OTHER = Terminate(Verdict.RETURN), Call("other")
SOURCE, TO, IN, OUT = Field.SOURCE, Field.DESTINATION_PORT, Field.INPUT_INTERFACE, Field.OUTPUT_INTERFACE
ALL = 0xFFFFFFFF
CT_MARK_THERE = between(Field.CT_MARK, 0, ALL)
GOES_ON = SetMark(Field.MARK, ALL, 0)
UNKNOWN_MARK = SetMark(Field.MARK, 0, 0)
IPV4_FRAME = are(Field.ETHER_TYPE, 0x0800)
TWO_ADDRESSES = (are(SOURCE, number("10.0.0.1")), are(SOURCE, number("10.0.0.2")))


def cases(key: Field | None, *found: tuple[tuple[object, ...], Statement]) -> Dispatch:
    """Return a verdict map."""
    return Dispatch(tuple(found), key)  # type: ignore[arg-type]


VERDICTS: dict[str, tuple[Step, ...]] = {
    "accept": (ACCEPT,),
    "drop": (DROP,),
    "return": (RETURN,),
    "continue": (),
    "jump other": (OTHER,),
    "goto other": (Call("other", goto=True),),
    "counter": (),
    'counter packets 5 bytes 300 log prefix "x" accept comment "why"': (ACCEPT,),
    "ip saddr 10.0.0.1 counter tcp dport 80 drop": (V4, TWO_ADDRESSES[0], TCP, are(TO, 80), DROP),
    "reject": (REJECT,),
    "reject with icmpx admin-prohibited": (REJECT,),
    "meta nfproto ipv4 reject": (V4, REJECT),
    "meta nfproto ipv4 reject with icmp host-unreachable": (V4, REJECT),
    "reject with icmpv6 no-route": (V6, REJECT),
    "reject with tcp reset": (TCP, REJECT),
    "limit rate 5/second accept": (Opaque("limit", "limit rate 5/second"), ACCEPT),
    "ct state new limit rate over 5/minute drop": (
        AnyBit(Field.CT_STATE, 8),
        Opaque("limit", "limit rate over 5/minute"),
        DROP,
    ),
    "quota over 5 mbytes drop": (Opaque("quota", "quota over 5 mbytes"), DROP),
    "notrack": (Untrack(),),
}

MARKS: dict[str, tuple[Step, ...]] = {
    "meta mark set 5": (SetMark(Field.MARK, 0, 5),),
    "meta mark set meta mark & 0xff": (SetMark(Field.MARK, 0xFF, 0),),
    "meta mark set meta mark | 0xff": (SetMark(Field.MARK, 0xFFFFFF00, 0xFF),),
    "meta mark set meta mark ^ 0xff": (SetMark(Field.MARK, ALL, 0xFF),),
    "meta mark set meta mark & 0xff | 0x100": (SetMark(Field.MARK, 0xFF, 0x100),),
    "meta mark set meta mark and 0xffffff00 xor 0x10": (SetMark(Field.MARK, 0xFFFFFF00, 0x10),),
    "meta mark set ct mark": (CT_MARK_THERE, CopyMark(Field.CT_MARK, Field.MARK)),
    "meta mark set ct mark & 0xff": (CT_MARK_THERE, CopyMark(Field.CT_MARK, Field.MARK, 0xFF)),
    "meta mark set ct mark & 0xff | 0x100": (
        CT_MARK_THERE,
        CopyMark(Field.CT_MARK, Field.MARK, 0xFF),
        SetMark(Field.MARK, ALL, 0x100),
    ),
    "ct mark set 7": (SetMark(Field.CT_MARK, 0, 7),),
    "ct mark set meta mark & 0xff0": (CopyMark(Field.MARK, Field.CT_MARK, 0xFF0),),
    "ct mark set ct mark | 5": (CT_MARK_THERE, SetMark(Field.CT_MARK, ALL ^ 5, 5)),
    "ct mark set ct mark and 0xff xor 0x3": (CT_MARK_THERE, SetMark(Field.CT_MARK, 0xFF, 3)),
    "meta mark set ip saddr map { 10.0.0.1 : 5, 10.0.0.2 : 6 }": (
        V4,
        cases(
            SOURCE,
            ((TWO_ADDRESSES[0],), SetMark(Field.MARK, 0, 5)),
            ((TWO_ADDRESSES[1],), SetMark(Field.MARK, 0, 6)),
        ),
    ),
}

BEHIND: dict[str, tuple[Step, ...]] = {
    "ip daddr set 10.0.0.1": (
        V4, Rewrite("ip daddr set", Field.DESTINATION, (Target(Ranges.of(number("10.0.0.1")), Ranges()),)),
    ),
    "ip saddr 10.0.0.1 ip saddr set 10.0.0.2": (
        V4, TWO_ADDRESSES[0], Rewrite("ip saddr set", SOURCE, (Target(Ranges.of(number("10.0.0.2")), Ranges()),)),
    ),
    "ip6 daddr set fd00::1": (
        V6, Rewrite("ip6 daddr set", Field.DESTINATION, (Target(Ranges.of(number("fd00::1")), Ranges()),)),
    ),
    "tcp dport set 80": (TCP, Rewrite("tcp dport set", Field.DESTINATION, (Target(Ranges(), Ranges.of(80)),))),
    "tcp sport set 80": (TCP, Rewrite("tcp sport set", SOURCE, (Target(Ranges(), Ranges.of(80)),))),
    "ip daddr set ip saddr map { 10.0.0.1 : 10.0.0.3, 10.0.0.2 : 10.0.0.4 }": (
        V4,
        Rewrite(
            "ip daddr set",
            Field.DESTINATION,
            tuple(
                Target(Ranges.of(number(to)), Ranges(), (asked,))
                for asked, to in zip(TWO_ADDRESSES, ("10.0.0.3", "10.0.0.4"), strict=True)
            ),
        ),
    ),
}  # fmt: skip

WITHOUT_EFFECT: dict[str, tuple[Step, ...]] = {
    "meta priority set 1:2": (),
    "meta nftrace set 1": (),
    "ct label set 5": (),
    "ct event set new": (),
    "ip dscp set 5 accept": (V4, ACCEPT),
    "ip ttl set 64": (V4,),
    "tcp option maxseg size set rt mtu": (TCP,),
    "add @none { ip saddr } accept": (V4, ACCEPT),
    "update @none { ip saddr timeout 5s }": (V4,),
    "delete @none { ip saddr }": (V4,),
}

MAPS: dict[str, tuple[Step, ...]] = {
    "oifname vmap @verdicts": (cases(OUT, ((NameIs(OUT, ("br-1",)),), OTHER), ((NameIs(OUT, ("br-2",)),), ACCEPT)),),
    "iifname vmap @empty": (cases(None),),
    "tcp dport vmap @ports": (
        TCP,
        cases(None, ((are(TO, 22),), ACCEPT), ((between(TO, 80, 90),), OTHER), ((), DROP)),
    ),
    "ct state vmap { established : accept, invalid : drop }": (
        cases(Field.CT_STATE, ((are(Field.CT_STATE, 1),), DROP), ((are(Field.CT_STATE, 2),), ACCEPT)),
    ),
    'iifname vmap { "lo" : accept, "eth*" : goto other }': (
        cases(None, ((NameIs(IN, ("eth*",)),), Call("other", goto=True)), ((NameIs(IN, ("lo",)),), ACCEPT)),
    ),
    "ip saddr . tcp dport vmap { 10.0.0.1 . 80 : accept, 10.0.0.2 . 80 : drop }": (
        V4,
        TCP,
        cases(
            SOURCE,
            ((TWO_ADDRESSES[0], are(TO, 80)), ACCEPT),
            ((TWO_ADDRESSES[1], are(TO, 80)), DROP),
        ),
    ),
    "ip saddr . tcp dport vmap { 10.0.0.1 . 80 : accept, * : drop }": (
        V4,
        TCP,
        cases(None, ((TWO_ADDRESSES[0], are(TO, 80)), ACCEPT), ((), DROP)),
    ),
    "ct mark vmap { 1 : drop, * : accept }": (
        cases(None, ((are(Field.CT_MARK, 1),), DROP), ((CT_MARK_THERE,), ACCEPT)),
    ),
    "numgen random mod 2 vmap { 0 : accept, 1 : drop }": (cases(None, ((Opaque("numgen"),), ACCEPT), ((), DROP)),),
    "tcp dport vmap { 22 : accept, 23 : continue }": (
        TCP,
        cases(TO, ((are(TO, 22),), ACCEPT), ((are(TO, 23),), GOES_ON)),
    ),
    "tcp dport vmap { 22 : return, 23 : continue } drop": (
        TCP,
        cases(TO, ((are(TO, 22),), RETURN), ((are(TO, 23),), DROP)),
    ),
    "tcp dport vmap { 22 : return } drop": (TCP, cases(TO, ((are(TO, 22),), RETURN))),
}

UNFORESEEABLE = {
    "synproxy mss 1460 wscale 7": "synproxy",
    "meta mark set ip saddr map { 10.0.0.1 : 5 } accept": "map",
    "udp checksum set 0": "udp checksum set",
    "ip ttl set 2": "ip ttl set",
    "ct zone set 5": "ct zone set",
    "th dport vmap { 22 : accept }": "vmap",
    'iifname vmap { "a" : accept, "b*" : drop, "c" : accept }': "vmap",
    "tcp dport vmap { 22 : accept, 23 : continue } ip saddr 10.0.0.1 drop": "map",
}

LEADS_ELSEWHERE: dict[str, tuple[Step, ...]] = {
    "ip daddr set ip saddr": (V4, Divert("ip daddr set")),
    "ether daddr set 02:42:ac:11:00:02": (Divert("ether daddr set"),),
}
"""What is computed, or says who gets a frame."""

OPAQUE: dict[str, str] = {
    "update @none { ip saddr limit rate 5/second } accept": "limit",
    "meter mm { ip saddr limit rate 5/second } accept": "limit",
    "add @small { ip saddr } accept": "room in a set",
}
UNKNOWN_MARKS = dict.fromkeys(("meta mark set jhash ip saddr mod 2", "meta mark set meta mark << 8"), "meta mark set")

PROXIED = ProxyLocally(Ranges.of(number("127.0.0.1")), Ranges.of(5000), terminates=False)
OTHERS: dict[tuple[str, str, str], object] = {
    ("inet", "raw", "meta l4proto tcp tproxy ip to 127.0.0.1:5000 accept"): (
        TCP, V4, PROXIED, Opaque("tproxy"), ACCEPT,
    ),
    ("inet", "raw", "meta l4proto tcp tproxy to :5000"): (
        TCP, ProxyLocally(Ranges(), Ranges.of(5000), terminates=False), Opaque("tproxy"),
    ),
    ("ip", "forward", "udp dport 53 reject"): (are(Field.PROTOCOL, 17), are(TO, 53), REJECT),
    ("ip", "raw", "notrack"): (Untrack(),),
}  # fmt: skip

STEPS = VERDICTS | MARKS | BEHIND | LEADS_ELSEWHERE | WITHOUT_EFFECT | MAPS
MEANINGS: dict[tuple[str, str, str], object] = {
    **{("inet", "forward", said): meaning for said, meaning in STEPS.items()},
    **{("inet", "forward", said): name for said, name in (UNFORESEEABLE | OPAQUE | UNKNOWN_MARKS).items()},
    **OTHERS,
}


@pytest.mark.parametrize(
    ("family", "chain", "said"), [case for case, meaning in MEANINGS.items() if isinstance(meaning, tuple)]
)
def test_a_statement_does_what_the_kernel_does(family: str, chain: str, said: str) -> None:
    """Verdicts, marks and maps mean what they do to a packet; what only counts or logs is no step."""
    assert steps(said, family, chain) == MEANINGS[family, chain, said]


@pytest.mark.parametrize("said", UNFORESEEABLE)
def test_an_effect_that_nobody_can_foresee_is_named(said: str) -> None:
    """The packet may pass or be lost, and reports can say by what."""
    assert isinstance(steps(said)[-1], Unforeseeable)
    assert doubts(steps(said)) == {UNFORESEEABLE[said]}


@pytest.mark.parametrize("said", UNKNOWN_MARKS)
def test_a_mark_that_nobody_can_foresee_is_any(said: str) -> None:
    """The packet goes on, with a mark that is not known."""
    (doubt, *then) = steps(said)
    assert (then, doubts((doubt,))) == ([UNKNOWN_MARK], {UNKNOWN_MARKS[said]})


@pytest.mark.parametrize("said", OPAQUE)
def test_changes_of_sets_ask_for_what_stands_with_them(said: str) -> None:
    """A limit within an element ends the rule for some packets, and so does a set without room for another element."""
    assert steps(said)[-1] == ACCEPT
    assert doubts(steps(said)) == {OPAQUE[said]}


@pytest.mark.parametrize(
    ("said", "text", "packets"),
    [
        (
            'counter packets 5 bytes 300 log prefix "x" accept comment "why"',
            'counter log prefix "x" accept comment "why"',
            5,
        ),
        (
            "ip saddr 10.0.0.1 counter tcp dport 80 drop",
            "ip saddr 10.0.0.1 counter tcp dport 80 drop",
            0,
        ),
        ("oifname vmap @verdicts", "oifname vmap @verdicts", None),
        ("tcp dport vmap { 22 : return } drop", "tcp dport vmap { 22 : return } drop", None),
        ("reject with tcp reset", "meta l4proto tcp reject with tcp reset", None),
        ("update @none { ip saddr limit rate 5/second } accept",) * 2 + (None,),
        ("meta mark set ct mark & 0xff", "meta mark set ct mark & 255", None),
    ],
)
def test_a_rule_shows_as_nft_writes_it(said: str, text: str, packets: int | None) -> None:
    """People know the rule by its text; how often it was met stands apart, for the next look tells the same rule."""
    table = only(recorded("inet", "forward", said))
    assert (table.chains["c"].rules[0].text, table.counter("c", 0)) == (text, packets)


def test_counters_are_those_of_rules() -> None:
    """What elements of sets count is none of theirs; of several rules, each has its own, or none."""
    counter, busy = ({"counter": {"packets": packets, "bytes": 300}} for packets in (5, 8))
    added = {"set": {"op": "add", "elem": {"payload": {"protocol": "ip", "field": "saddr"}}, "set": "@s"}}
    anonymous = {"set": [{"elem": {"val": "10.0.0.1", **counter}}]}
    expressions: list[list[object]] = [
        [{"set": {**added["set"], "stmt": [counter]}}, {"accept": None}],
        [{"set": {**added["set"], "stmt": [{"limit": {"rate": 5, "per": "second"}}, counter]}}, busy],
        [{"meter": {"name": "m", "key": added["set"]["elem"], "stmt": counter}}],
        [counter, {"drop": None}],
        [{"match": {"op": "==", "left": {"payload": {"protocol": "ip", "field": "saddr"}}, "right": anonymous}}],
        [{"accept": None}, {"counter": {"packets": 7, "bytes": 1}}, counter],
    ]
    place = {"family": "ip", "table": "t"}
    rules = [{"rule": {**place, "chain": "c", "handle": 9, "expr": said}} for said in expressions]
    entries = [{"table": {"family": "ip", "name": "t"}}, {"chain": {**place, "name": "c"}}, *rules]
    table = only({"nftables": entries})
    assert [table.counter("c", number) for number in range(len(rules))] == [None, 8, None, 5, None, 7]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"type": "match", "name": "comment"}, ()),
        ({"type": "match", "name": "conntrack"}, (Opaque("xt conntrack"),)),
        ({"type": "watcher", "name": "log"}, ()),
        ({"type": "target", "name": "REJECT"}, (REJECT,)),
        ({"type": "target", "name": "LOG"}, ()),
        ({"type": "target", "name": "DNAT"}, (Unforeseeable("xt DNAT"),)),
        ({"type": "target", "name": "TCPMSS"}, ()),
        ({"type": "target", "name": "MARK"}, (Opaque("xt MARK"), UNKNOWN_MARK)),
        ({"type": "target", "name": "mark"}, (Opaque("xt mark"), UNKNOWN_MARK, Unforeseeable("xt mark"))),
        ({"type": "target", "name": "MASQUERADE"}, (MASQUERADES,)),
        (None, (Unforeseeable("xt"),)),
    ],
)
def test_modules_of_iptables_have_lost_their_arguments(body: object, expected: tuple[Step, ...]) -> None:
    """A comment always holds, a REJECT rejects, and of all others nobody can tell."""
    assert parsed([{"xt": body}]) == expected


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (
            "-m addrtype ! --dst-type LOCAL",
            (AddressTypeIs(Field.DESTINATION, frozenset({AddressType.LOCAL}), negated=True),),
        ),
        ("-j REDIRECT --to-ports 80", (Translate(Translation.REDIRECT, (Target(Ranges(), Ranges.of(80)),)),)),
        ("-j LOG", ()),
        ("-m nonsense --what ever", (Opaque("nonsense", "--what ever"),)),
        ("-j DNAT --to-nowhere", (Divert("DNAT"),)),
        ("nonsense", (Unforeseeable("xt", "nonsense"),)),
    ],
)
def test_modules_whose_options_are_told(told: str, expected: tuple[Step, ...]) -> None:
    """They mean what iptables writes so, and are shown so."""
    kind = "target" if told.startswith("-j") else "match"
    assert parsed([{"xt": {"type": kind, "name": "any", "options": told}}], "ip") == expected


@pytest.mark.parametrize("name", ["flow", "ct helper", "ct timeout", "secmark", "last"])
def test_statements_without_effect_are_no_steps(name: str) -> None:
    """The packet goes on as it was."""
    assert parsed([{name: {}}, {"accept": None}]) == (ACCEPT,)


@pytest.mark.parametrize(
    ("family", "body", "device"),
    [
        ("netdev", {"addr": "eth0"}, "eth0"), ("netdev", {"addr": {"map": {}}}, ""),
        ("ip", {"addr": "10.0.0.1", "dev": "eth0"}, "eth0"), ("ip", {"addr": "10.0.0.1", "dev": {"map": {}}}, ""),
        ("ip", {"addr": {"map": {"key": {"meta": {"key": "mark"}}, "data": "@gone"}}}, ""),
    ],
)  # fmt: skip
def test_copies_go_by_an_interface(family: str, body: object, device: str) -> None:
    """The packet goes on as it was beside them; where they go that a map sends which is not read may be anywhere."""
    assert parsed([{"dup": body}, {"accept": None}], family) == (Divert("dup", device, copied=True), ACCEPT)


@pytest.mark.parametrize(("body", "kept"), [("quick", False), ("slow", True), ({"map": {}}, False)])
def test_timeouts_of_no_time_lose_what_comes_next(body: object, *, kept: bool) -> None:
    """What is said later in the conversation is of no connection then: what becomes of it is not followed."""
    context = Context(TableFamily.IP, momentary=frozenset({"quick"}))
    (step,) = rule_steps([{"ct timeout": body}, *([{"accept": None}] if kept else ())], context)
    assert step == ACCEPT if kept else isinstance(step, Unforeseeable)


def test_copies_go_to_a_gateway() -> None:
    """The packet goes on as it was beside them."""
    target = Target(Ranges.of(number("10.0.0.1")), Ranges())
    expected = Rewrite("dup", Field.DESTINATION, (target,), Onward.COPIED)
    assert parsed([{"dup": {"addr": "10.0.0.1"}}, {"accept": None}], "ip") == (expected, ACCEPT)


def test_copies_go_where_a_map_says() -> None:
    """For others than those in the map, the rule is over."""
    gateways = {"map": {"key": {"payload": {"protocol": "ip", "field": "saddr"}}, "data": {"set": [PAIR]}}}
    target = Target(Ranges.of(number("10.0.0.9")), Ranges(), TWO_ADDRESSES[:1])
    expected = Rewrite("dup", Field.DESTINATION, (target,), Onward.COPIED)
    assert parsed([{"dup": {"addr": gateways}}], "ip") == (expected,)


PAIR = ["10.0.0.1", "10.0.0.9"]


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ({"payload": {"base": "nh", "offset": 128, "len": 32}}, "payload set"),
        ({"meta": {"key": "pkttype"}}, "meta pkttype set"),
        ({"meta": {"key": "broute"}}, "meta broute set"),
    ],
)
def test_what_is_written_into_a_frame_may_lead_it_to_anybody(key: object, name: str) -> None:
    """Bytes that have no name may be an address; what is for others may be taken in. The rule goes on."""
    assert parsed([{"mangle": {"key": key, "value": 1}}, {"accept": None}], "bridge") == (Divert(name), ACCEPT)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"dev": "eth0"}, (Divert("fwd", "eth0"),)),
        ({"dev": {"map": {}}}, (Divert("fwd"),)),
        ({"dev": "eth0", "family": "ip", "addr": "10.0.0.1"}, (IPV4_FRAME, Divert("fwd", "eth0"))),
    ],
)
def test_packets_are_forwarded_by_an_interface(body: object, expected: tuple[Step, ...]) -> None:
    """With a gateway, those of its version of IP alone (nft_fwd_neigh_eval)."""
    assert parsed([{"fwd": body}], "netdev") == expected


@pytest.mark.parametrize("name", ["queue", "something new"])
def test_statements_that_are_not_known_may_do_anything(name: str) -> None:
    """Who takes a packet away may give it back, or not."""
    (step,) = parsed([{name: None}])
    assert step == Unforeseeable(name, name)


@pytest.mark.parametrize("kind", ["counter", "ct helper", "ct timeout", "secmark"])
def test_objects_in_a_map_end_the_rule_for_others(kind: str) -> None:
    """nft_objref_map_eval breaks off where the packet has no key: what comes next is not for all."""
    key = {"payload": {"protocol": "ip", "field": "saddr"}}
    looked_up = {kind: {"map": {"key": key, "data": {"set": [["10.0.0.9", "c"]]}}}}
    doubted, last = rule_steps([looked_up, {"drop": None}], Context(TableFamily.IP))
    assert isinstance(doubted, Opaque)
    assert doubted.name == f"{kind} map"
    assert "10.0.0.9" in doubted.text
    assert last == DROP
