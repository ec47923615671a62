"""What nft's comparisons ask for, as real nft prints them."""

from __future__ import annotations

import pytest

from exporter.model.firewall import (
    AddressType,
    AddressTypeIs,
    AnyBit,
    AnyOf,
    CtState,
    CtStatus,
    Field,
    HasBits,
    InRanges,
    NameIs,
    Opaque,
    ReversePath,
    Side,
    Step,
)
from exporter.model.ranges import Ranges
from tests.parse.kernel.nft import TCP, UDP, V4, V6, are, between, doubts, number, parsed, rule, steps

SOURCE, DESTINATION = Field.SOURCE, Field.DESTINATION
FROM, TO = Field.SOURCE_PORT, Field.DESTINATION_PORT
STATUSES = sum(CtStatus)
STATE, FLAGS, MARK = Field.CT_STATE, Field.TCP_FLAGS, Field.MARK
CT_MARK_THERE = between(Field.CT_MARK, 0, 0xFFFFFFFF)
NEW, ESTABLISHED, RELATED = int(CtState.NEW), int(CtState.ESTABLISHED), int(CtState.RELATED)
WITH_PORTS = Ranges.of(6, 17, 33, 132, 136)
ICMP, ICMP6 = are(Field.PROTOCOL, 1), are(Field.PROTOCOL, 58)
IN, OUT = Field.INPUT_INTERFACE, Field.OUTPUT_INTERFACE
NEVER = AnyOf(())
ABOUT_NEIGHBOURS = ICMP6, between(Field.ICMP_TYPE, 133, 137)
OTHERS = AnyOf((ABOUT_NEIGHBOURS,), negated=True), Opaque("ip6 hoplimit")


def address(field: Field, text: str, *, negated: bool = False) -> InRanges:
    """Return the match of one address."""
    return are(field, number(text), negated=negated)


def a_port(field: Field, name: str, port: int, *, negated: bool = False) -> AnyOf:
    """Return the match of a port of whichever protocol."""
    known = (InRanges(Field.PROTOCOL, WITH_PORTS), are(field, port, negated=negated))
    return AnyOf((known, (InRanges(Field.PROTOCOL, WITH_PORTS, negated=True), Opaque(name))))


def in_inet(meanings: dict[str, tuple[Step, ...]]) -> dict[tuple[str, str, str], tuple[Step, ...]]:
    """Return rules of a chain of family inet."""
    return {("inet", "forward", said): meaning for said, meaning in meanings.items()}


ADDRESSES: dict[str, tuple[Step, ...]] = {
    "ip saddr 10.0.0.1": (V4, address(SOURCE, "10.0.0.1")),
    "ip daddr 10.0.0.0/8": (V4, between(DESTINATION, "10.0.0.0", "10.255.255.255")),
    "ip saddr != 10.0.0.0/8": (V4, between(SOURCE, "10.0.0.0", "10.255.255.255", negated=True)),
    "ip saddr 0.0.0.0/0": (V4, between(SOURCE, "0.0.0.0", "255.255.255.255")),
    "ip saddr 10.0.0.1-10.0.0.9": (V4, between(SOURCE, "10.0.0.1", "10.0.0.9")),
    "ip saddr != 10.0.0.1-10.0.0.9": (V4, between(SOURCE, "10.0.0.1", "10.0.0.9", negated=True)),
    "ip saddr < 10.0.0.9": (V4, between(SOURCE, "0.0.0.0", "10.0.0.8")),
    "ip saddr & 255.0.255.0 == 10.0.7.0": (V4, HasBits(SOURCE, number("255.0.255.0"), number("10.0.7.0"))),
    "ip saddr & 255.255.0.0 == 10.0.0.0": (V4, between(SOURCE, "10.0.0.0", "10.0.255.255")),
    "ip saddr & 255.255.255.0 { 10.0.0.0, 10.0.2.0 }": (
        V4,
        InRanges(
            SOURCE,
            Ranges(
                (
                    (number("10.0.0.0"), number("10.0.0.255")),
                    (number("10.0.2.0"), number("10.0.2.255")),
                )
            ),
        ),
    ),
    "ip saddr & 0.0.0.255 < 0.0.0.2": (V4, AnyOf(((HasBits(SOURCE, 255, 0),), (HasBits(SOURCE, 255, 1),)))),
    "ip saddr { 10.0.0.1, 10.0.0.2, 10.1.0.0/16 }": (
        V4,
        InRanges(
            SOURCE,
            Ranges(
                (
                    (number("10.0.0.1"), number("10.0.0.2")),
                    (number("10.1.0.0"), number("10.1.255.255")),
                )
            ),
        ),
    ),
    "ip6 saddr fd00::/64": (V6, between(SOURCE, "fd00::", "fd00::ffff:ffff:ffff:ffff")),
    "ip6 daddr fd00::1 ip6 saddr fd00::2": (V6, address(DESTINATION, "fd00::1"), address(SOURCE, "fd00::2")),
    "ip6 saddr & ::ffff == ::1": (V6, HasBits(SOURCE, 0xFFFF, 1)),
    "ether saddr 02:42:ac:11:00:02": (are(Field.SOURCE_MAC, 0x0242AC110002),),
    "ether daddr != 02:42:ac:11:00:02": (InRanges(Field.DESTINATION_MAC, Ranges.of(0x0242AC110002), negated=True),),
    "ether type ip": (are(Field.INPUT_TYPE, 1), are(Field.ETHER_TYPE, 0x0800)),
}

TRANSPORT: dict[str, tuple[Step, ...]] = {
    "tcp dport 80": (TCP, are(TO, 80)),
    "tcp dport ssh": (TCP, are(TO, 22)),
    "tcp option maxseg size 1-500": (TCP, NEVER),
    "tcp option maxseg size != 1-500": (TCP, HasBits(FLAGS, 2, 2)),
    "tcp option maxseg size 500-1400": (TCP, AnyOf(((HasBits(FLAGS, 2, 2), Opaque("tcp option")),))),
    "tcp dport { 80, 443, 8000-8080 }": (TCP, InRanges(TO, Ranges(((80, 80), (443, 443), (8000, 8080))))),
    "tcp dport != { 22, 80-90 }": (TCP, InRanges(TO, Ranges(((22, 22), (80, 90))), negated=True)),
    "tcp dport < 1024": (TCP, between(TO, 0, 1023)),
    "tcp dport >= 1024": (TCP, between(TO, 1024, 65535)),
    "tcp sport 1024-65535 tcp dport 22": (TCP, between(FROM, 1024, 65535), are(TO, 22)),
    "udp dport 53": (UDP, are(TO, 53)),
    "sctp dport 5": (are(Field.PROTOCOL, 132), are(TO, 5)),
    "th dport 53": (a_port(TO, "th dport", 53),),
    "th sport != 53": (a_port(FROM, "th sport", 53, negated=True),),
    "@th,16,16 80": (a_port(TO, "th dport", 80),),
    "meta l4proto { tcp, udp } th dport 53": (are(Field.PROTOCOL, 6, 17), are(TO, 53)),
    "meta l4proto tcp th dport 53": (TCP, are(TO, 53)),
    "ip protocol tcp tcp dport 80": (V4, TCP, are(TO, 80)),
    "ip protocol != tcp": (V4, are(Field.PROTOCOL, 6, negated=True)),
    "ip protocol 200": (V4, are(Field.PROTOCOL, 200)),
    "ip6 nexthdr ipv6-icmp": (V6, ICMP6),
    "ip6 hoplimit 255": (V6, AnyOf((ABOUT_NEIGHBOURS, OTHERS))),
    "ip6 hoplimit != { 1, 64 }": (V6, AnyOf((OTHERS,), negated=True)),
    "meta nfproto ipv6 tcp dport 80": (V6, TCP, are(TO, 80)),
    "meta protocol { ip, ip6 }": (are(Field.ETHER_TYPE, 0x0800, 0x86DD),),
    "icmp type echo-request": (V4, ICMP, are(Field.ICMP_TYPE, 8)),
    "icmp type != { echo-request, echo-reply }": (V4, ICMP, are(Field.ICMP_TYPE, 0, 8, negated=True)),
    "icmp type 8 icmp code 0": (V4, ICMP, are(Field.ICMP_TYPE, 8), are(Field.ICMP_CODE, 0)),
    "icmp code host-prohibited": (V4, ICMP, are(Field.ICMP_CODE, 10)),
    "icmpv6 type { nd-neighbor-solicit, nd-router-advert }": (V6, ICMP6, between(Field.ICMP_TYPE, 134, 135)),
    "icmpv6 code no-route": (V6, ICMP6, are(Field.ICMP_CODE, 0)),
    "tcp flags syn": (TCP, AnyBit(FLAGS, 2)),
    "tcp flags syn,ack": (TCP, AnyBit(FLAGS, 18)),
    "tcp flags == syn": (TCP, are(FLAGS, 2)),
    "tcp flags != syn": (TCP, are(FLAGS, 2, negated=True)),
    "tcp flags ! syn": (TCP, AnyBit(FLAGS, 2, negated=True)),
    "tcp flags & syn == 0": (TCP, AnyBit(FLAGS, 2, negated=True)),
    "tcp flags & (syn|ack) != 0": (TCP, AnyBit(FLAGS, 18)),
    "tcp flags & (syn|ack) == syn": (TCP, HasBits(FLAGS, 18, 2)),
    "tcp flags & (fin|syn|rst|ack) != syn": (TCP, HasBits(FLAGS, 23, 2, negated=True)),
    "tcp flags syn / syn,ack": (TCP, HasBits(FLAGS, 18, 2)),
    "tcp flags != syn,ack / syn,ack": (TCP, HasBits(FLAGS, 18, 18, negated=True)),
    "tcp flags { syn, ack }": (TCP, are(FLAGS, 2, 16)),
    "tcp flags { syn | ack, ack }": (TCP, are(FLAGS, 16, 18)),
    "tcp flags 0x0": (TCP, NEVER),
}

PIECES: dict[str, tuple[Step, ...]] = {
    "ip version 4": (V4,),
    "ip frag-off & 0x1fff != 0": (V4, NEVER),
    "ip frag-off & 0x3fff == 0": (V4,),
    "exthdr frag exists": (V6, NEVER),
    "exthdr hbh missing": (V6,),
    "frag more-fragments 1": (V6, NEVER),
    "ip option lsrr exists": (V4, NEVER),
}
"""Packets that are asked about are in one piece, without options and extension headers."""

METADATA: dict[str, tuple[Step, ...]] = {
    'iifname "eth0"': (NameIs(IN, ("eth0",)),),
    'iifname != "eth*"': (NameIs(IN, ("eth*",), negated=True),),
    'oifname { "br-1", "br-2" }': (NameIs(OUT, ("br-1", "br-2")),),
    'iifname { "br-1", "veth*" }': (NameIs(IN, ("br-1", "veth*")),),
    'iif "lo"': (NameIs(IN, ("lo",)),),
    'iif { "lo", "eth0" }': (NameIs(IN, ("lo", "eth0")),),
    "oif 777": (NameIs(OUT, ("777",)),),
    "oif 0": (NameIs(OUT, ("",)),),
    'meta iifkind "bridge"': (NameIs(Field.INPUT_KIND, ("bridge",)),),
    "oiftype loopback": (are(Field.OUTPUT_TYPE, 772),),
    "meta pkttype { broadcast, multicast }": (between(Field.PACKET_TYPE, 1, 2),),
    "meta ipsec exists": (are(Field.IPSEC, 1),),
    "meta ipsec != exists": (are(Field.IPSEC, 1, negated=True),),
    "rt ipsec missing": (are(Field.IPSEC, 0),),
    "iifgroup 5": (are(Field.INPUT_GROUP, 5),),
    "oifgroup != default": (are(Field.OUTPUT_GROUP, 0, negated=True),),
    "meta skuid { 0, 1000-2000 }": (InRanges(Field.SOCKET_USER, Ranges(((0, 0), (1000, 2000)))),),
    "meta skgid != 5": (are(Field.SOCKET_GROUP, 5, negated=True),),
    "meta mark 0xffffffff": (are(MARK, 0xFFFFFFFF),),
    "meta mark != 1-5": (between(MARK, 1, 5, negated=True),),
    "meta mark > 5": (between(MARK, 6, 0xFFFFFFFF),),
    "meta mark & 0xff == 0x10": (HasBits(MARK, 0xFF, 0x10),),
    "meta mark & 0x3 != 0": (HasBits(MARK, 3, 0, negated=True),),
    "meta mark & 0xff == { 1, 2 }": (AnyOf(((HasBits(MARK, 0xFF, 1),), (HasBits(MARK, 0xFF, 2),))),),
    "meta mark & 0xf >= 14": (AnyOf(((HasBits(MARK, 15, 14),), (HasBits(MARK, 15, 15),))),),
    "meta mark | 0xff == 0x1ff": (HasBits(MARK, 0xFFFFFF00, 0x100),),
    "fib daddr type local": (AddressTypeIs(DESTINATION, frozenset({AddressType.LOCAL})),),
    "fib saddr type != { local, broadcast }": (
        AddressTypeIs(SOURCE, frozenset({AddressType.LOCAL, AddressType.BROADCAST}), negated=True),
    ),
    "fib daddr . iif type local": (AddressTypeIs(DESTINATION, frozenset({AddressType.LOCAL}), Side.INPUT),),
    "fib daddr . oif type local": (AddressTypeIs(DESTINATION, frozenset({AddressType.LOCAL}), Side.OUTPUT),),
    "fib saddr . iif oif missing": (ReversePath(negated=True, native=True),),
    "fib saddr . iif oif exists": (ReversePath(native=True),),
    "fib saddr . mark . iif oif != 0": (ReversePath(with_mark=True, native=True),),
    "fib saddr oif exists": (ReversePath(loose=True, native=True),),
}

CONNECTIONS: dict[str, tuple[Step, ...]] = {
    "ct state new": (AnyBit(STATE, NEW),),
    "ct state established,related": (AnyBit(STATE, ESTABLISHED | RELATED),),
    "ct state { established, related }": (are(STATE, ESTABLISHED, RELATED),),
    "ct state != { established, related }": (are(STATE, ESTABLISHED, RELATED, negated=True),),
    "ct state == new": (are(STATE, NEW),),
    "ct state != new": (are(STATE, NEW, negated=True),),
    "ct state != established,related": (are(STATE, ESTABLISHED | RELATED, negated=True),),
    "ct state ! established,related": (AnyBit(STATE, ESTABLISHED | RELATED, negated=True),),
    "ct state invalid,untracked": (AnyBit(STATE, int(CtState.INVALID | CtState.UNTRACKED)),),
    "ct status dnat": (AnyBit(Field.CT_STATUS, int(CtStatus.DNAT)),),
    "ct status ! dnat,snat": (AnyBit(Field.CT_STATUS, int(CtStatus.DNAT | CtStatus.SNAT), negated=True),),
    "ct status == dnat": (AnyOf(()),),
    "ct status != dnat": (InRanges(Field.CT_STATUS, Ranges(((0, 0xFFFFFFFF),))),),
    "ct status { dnat, snat }": (AnyOf(()),),
    "ct status == confirmed": (AnyOf(((HasBits(Field.CT_STATUS, STATUSES, 8), Opaque("ct status")),)),),
    "ct status != confirmed": (
        InRanges(Field.CT_STATUS, Ranges(((0, 0xFFFFFFFF),))),
        AnyOf(((HasBits(Field.CT_STATUS, STATUSES, 8), Opaque("ct status")),), negated=True),
    ),
    "ct status & (dnat|snat) == dnat": (
        HasBits(Field.CT_STATUS, int(CtStatus.DNAT | CtStatus.SNAT), int(CtStatus.DNAT)),
    ),
    "ct direction reply": (are(Field.CT_DIRECTION, 1),),
    'ct helper "ftp"': (NEVER,),
    'ct helper != "ftp"': (NEVER,),
    "ct mark & 0xff == 0x10": (HasBits(Field.CT_MARK, 0xFF, 0x10),),
    "ct mark & 0xff00 != { 0x100, 0x200 }": (
        CT_MARK_THERE,
        AnyOf(((HasBits(Field.CT_MARK, 0xFF00, 0x100),), (HasBits(Field.CT_MARK, 0xFF00, 0x200),)), negated=True),
    ),
    "ct protocol tcp": (are(Field.CT_PROTOCOL, 6),),
    "ct l3proto ipv4": (between(Field.CT_PROTOCOL, 0, 255), V4),
    "ct original ip daddr 10.0.0.0/8": (V4, between(Field.CT_ORIGINAL_DESTINATION, "10.0.0.0", "10.255.255.255")),
    "ct reply ip6 saddr fd00::1": (V6, address(Field.CT_REPLY_SOURCE, "fd00::1")),
    "meta l4proto tcp ct original proto-dst 80": (TCP, are(Field.CT_ORIGINAL_DESTINATION_PORT, 80)),
    "meta l4proto { tcp, udp } ct reply proto-src { 8080, 90 }": (
        are(Field.PROTOCOL, 6, 17),
        are(Field.CT_REPLY_SOURCE_PORT, 90, 8080),
    ),
}

SETS: dict[str, tuple[Step, ...]] = {
    "ip saddr @ips": (
        V4,
        InRanges(
            SOURCE,
            Ranges(
                (
                    (number("10.0.0.0"), number("10.0.0.255")),
                    (number("10.1.0.1"), number("10.1.0.9")),
                )
            ),
        ),
    ),
    "ip saddr @slow": (V4, between(SOURCE, "10.0.0.1", "10.0.0.2")),
    "ip saddr != @slow": (V4, between(SOURCE, "10.0.0.1", "10.0.0.2", negated=True)),
    "ip saddr @none": (V4, NEVER),
    "ip saddr != @none": (V4,),
    "ip saddr @limited": (V4, AnyOf(((address(SOURCE, "10.0.0.1"), Opaque("limit")),))),
    "ip saddr != @limited": (V4, address(SOURCE, "10.0.0.1", negated=True)),
    "iifname @names": (NameIs(IN, ("eth0", "docker0")),),
    "ip saddr . tcp dport @places": (
        V4,
        TCP,
        AnyOf(
            (
                (between(SOURCE, "10.0.0.0", "10.0.0.255"), between(TO, 80, 90)),
                (address(SOURCE, "10.0.0.1"), are(TO, 443)),
            )
        ),
    ),
    "ip saddr . tcp dport != { 10.0.0.1 . 80, 10.0.0.2 . 80 }": (
        V4,
        TCP,
        AnyOf(((between(SOURCE, "10.0.0.1", "10.0.0.2"), are(TO, 80)),), negated=True),
    ),
    "meta l4proto . th dport { tcp . 80, udp . 53 }": (AnyOf(((UDP, are(TO, 53)), (TCP, are(TO, 80)))),),
    'iifname . oifname { "a" . "b", "a" . "c" }': (AnyOf(((NameIs(IN, ("a",)), NameIs(OUT, ("b", "c"))),)),),
}

OPAQUE = {
    'iifname { "a", "b*", "c" }': "meta iifname",
    "iif 1-5": "meta iif",
    r'iifname "eth\*"': "meta iifname",
    "meta cgroup 5": "meta cgroup",
    'meta hour "10:00"-"12:00"': "meta hour",
    "meta random <= 5": "meta random",
    "ct status < dnat": "ct status",
    "ct zone 5": "ct zone",
    "ct original packets < 3": "ct packets",
    "ct label 5": "ct label",
    'fib saddr . iif oifname "eth0"': "fib",
    "fib daddr oif exists": "fib",
    "fib saddr . mark type local": "fib type",
    "ip dscp 10": "ip dscp",
    "ip frag-off != 0": "ip frag-off",
    "tcp option window count 7": "tcp option",
    "vlan id 5": "vlan id",
    "@nh,128,32 0x0a000001": "raw payload",
    "numgen random mod 2 == 0": "numgen",
    "jhash ip saddr mod 2 == 0": "jhash",
    'osf name "Linux"': "osf",
    "rt classid 5": "rt",
    "ipsec in reqid 5": "ipsec reqid",
    "ct count over 5": "ct count",
    "limit rate over 5/second": "limit",
    "quota until 5 mbytes": "quota",
}
"""What is not known, by its name: the interfaces of the first are lost in nft's own print."""

FAMILIES: dict[tuple[str, str, str], tuple[Step, ...]] = {
    ("ip", "forward", "ip saddr 10.0.0.1 tcp dport 80"): (address(SOURCE, "10.0.0.1"), TCP, are(TO, 80)),
    ("ip", "forward", "icmp type echo-request"): (ICMP, are(Field.ICMP_TYPE, 8)),
    ("ip", "forward", "@nh,128,32 0x0a000001"): (address(DESTINATION, "10.0.0.1"),),
    ("ip", "forward", "ct original saddr 10.0.0.1"): (address(Field.CT_ORIGINAL_SOURCE, "10.0.0.1"),),
    ("ip6", "forward", "ct original daddr fd00::1"): (address(Field.CT_ORIGINAL_DESTINATION, "fd00::1"),),
    ("ip6", "forward", "icmpv6 type echo-request"): (ICMP6, are(Field.ICMP_TYPE, 128)),
    ("ip6", "forward", "icmp type echo-request"): (ICMP, are(Field.ICMP_TYPE, 8)),
    ("bridge", "bridge", "ip saddr 10.0.0.1"): (are(Field.ETHER_TYPE, 0x0800), address(SOURCE, "10.0.0.1")),
    ("bridge", "bridge", "ip6 saddr fd00::1"): (are(Field.ETHER_TYPE, 0x86DD), address(SOURCE, "fd00::1")),
    ("bridge", "bridge", "tcp dport 80"): (TCP, are(TO, 80)),
    ("bridge", "bridge", "icmp type echo-request"): (
        are(Field.ETHER_TYPE, 0x0800),
        ICMP,
        are(Field.ICMP_TYPE, 8),
    ),
    ("bridge", "bridge", "ether type arp"): (are(Field.ETHER_TYPE, 0x0806),),
    ("bridge", "bridge", "ether daddr & 01:00:00:00:00:00 == 01:00:00:00:00:00"): (
        HasBits(Field.DESTINATION_MAC, 1 << 40, 1 << 40),
    ),
    ("bridge", "bridge", "arp operation request"): (
        are(Field.ETHER_TYPE, 0x0806),
        are(Field.ARP_OPERATION, 1),
    ),
    ("bridge", "bridge", "arp htype 1 arp hlen 6 arp plen 4 arp daddr ip 10.0.0.1"): (
        are(Field.ETHER_TYPE, 0x0806),
        are(Field.ARP_DESTINATION, 0x0A000001),
    ),
    ("bridge", "bridge", "arp saddr ether 02:42:0a:00:00:01"): (
        are(Field.ETHER_TYPE, 0x0806),
        are(Field.ARP_SOURCE_MAC, 0x02420A000001),
    ),
    ("bridge", "bridge", 'iifname "veth*" oifname "x"'): (NameIs(IN, ("veth*",)), NameIs(OUT, ("x",))),
}

MEANINGS: dict[tuple[str, str, str], object] = {
    **in_inet({**ADDRESSES, **TRANSPORT, **PIECES, **METADATA, **CONNECTIONS, **SETS}),
    **FAMILIES,
    **{("inet", "forward", said): name for said, name in OPAQUE.items()},
}


@pytest.mark.parametrize(("family", "chain", "said"), [case for case in MEANINGS if case[2] not in OPAQUE])
def test_a_comparison_asks_for_what_the_kernel_compares(family: str, chain: str, said: str) -> None:
    """What nft leaves out is written out, flags are compared as the kernel does, and nothing is asked for twice."""
    assert steps(said, family, chain) == MEANINGS[family, chain, said]


@pytest.mark.parametrize("said", OPAQUE)
def test_what_is_not_known_is_named(said: str) -> None:
    """A comparison with something that is not known decides by it, and reports can say so."""
    found = rule(said)
    assert doubts(found.steps) == {OPAQUE[said]}
    assert isinstance(found.steps[-1], Opaque)
    assert found.steps[-1].text == found.text


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        ({">>": [{"meta": {"key": "mark"}}, 8]}, 1, (HasBits(MARK, 0xFFFFFF00, 0x100),)),
        ({"<<": [{"meta": {"key": "mark"}}, 8]}, 0x100, (HasBits(MARK, 0x00FFFFFF, 1),)),
        ({"<<": [{"meta": {"key": "mark"}}, 8]}, 1, (NEVER,)),
        ({"&": [{">>": [{"meta": {"key": "mark"}}, 4]}, 0xF]}, 3, (HasBits(MARK, 0xF0, 0x30),)),
        ({"^": [{"&": [{"meta": {"key": "mark"}}, 0xF]}, 1]}, 2, (HasBits(MARK, 0xF, 3),)),
        ({"&": [{"meta": {"key": "mark"}}, 0xF]}, 0x10, (NEVER,)),
        ({"meta": {"key": "mark"}}, {"set": ["*"]}, ()),
        ({"fib": {"result": "check", "flags": ["saddr", "iif"]}}, True, (ReversePath(native=True),)),
        ({"payload": {"protocol": "tcp", "field": "flags"}}, {"|": ["syn", "ack", "fin"]}, (TCP, are(FLAGS, 19))),
        ({"numgen": {"mode": "inc", "mod": 2, "offset": 0}}, {"set": [0, 1]}, ()),
    ],
)
def test_what_other_versions_of_nft_print(left: object, right: object, expected: tuple[Step, ...]) -> None:
    """Shifts of numbers, sets that hold everything, and lists of flags mean the same whoever prints them."""
    assert parsed([{"match": {"op": "==", "left": left, "right": right}}]) == expected


def test_headers_within_a_tunnel_are_not_the_packets_own() -> None:
    """`vxlan ip saddr` asks about another packet."""
    inner = {"payload": {"tunnel": "vxlan", "protocol": "ip", "field": "saddr"}}
    (step,) = parsed([{"match": {"op": "==", "left": inner, "right": "10.0.0.1"}}])
    assert isinstance(step, Opaque)
    assert step.name == "raw payload"


def test_a_set_that_is_not_listed_is_a_doubt() -> None:
    """Nobody can tell who is in it."""
    source = {"payload": {"protocol": "ip", "field": "saddr"}}
    found = parsed([{"match": {"op": "==", "left": source, "right": "@gone"}}])
    assert found == (V4, Opaque("ip saddr", "ip saddr @gone"))
