"""Rules of ebtables: what nft does not show of them is what ebtables-nft-save prints."""

from __future__ import annotations

import json

import pytest

from exporter.model.firewall import (
    AnyBit,
    AnyOf,
    Call,
    Field,
    HasBits,
    InRanges,
    NameIs,
    Opaque,
    SetMark,
    Terminate,
    Unforeseeable,
    Verdict,
)
from exporter.model.observation import NamespaceDocuments
from exporter.model.ranges import Ranges
from exporter.parse.kernel.ebtables import parse_ebtables
from exporter.parse.kernel.firewall import parse_firewall
from exporter.parse.memory import RuleMemory

IPV4, ARP = InRanges(Field.ETHER_TYPE, Ranges.of(0x0800)), InRanges(Field.ETHER_TYPE, Ranges.of(0x0806))
DROPPED = Terminate(Verdict.DROP)
SAID = {
    "-p IPv4 --ip-src 10.0.0.1 --ip-dst ! 10.0.0.0/24 -j DROP": (
        IPV4,
        InRanges(Field.SOURCE, Ranges.of(0x0A000001)),
        InRanges(Field.DESTINATION, Ranges(((0x0A000000, 0x0A0000FF),)), negated=True),
        DROPPED,
    ),
    "-p IPv4 --ip-src ! 10.0.0.0/255.0.255.0 --ip-tos 0x10 -j DROP": (
        IPV4,
        HasBits(Field.SOURCE, 0xFF00FF00, 0x0A000000, negated=True),
        Opaque("ip-tos", "--ip-tos 0x10"),
        DROPPED,
    ),
    "-p IPv6 --ip6-proto udp --ip6-sport ! 0:90 --ip6-dport 90:65535 -j DROP": (
        InRanges(Field.ETHER_TYPE, Ranges.of(0x86DD)),
        InRanges(Field.PROTOCOL, Ranges.of(17)),
        InRanges(Field.SOURCE_PORT, Ranges(((0, 90),)), negated=True),
        InRanges(Field.DESTINATION_PORT, Ranges(((90, 65535),))),
        DROPPED,
    ),
    "-p IPv4 --ip-proto icmp --ip-icmp-type ! host-redirect -j DROP": (
        IPV4,
        InRanges(Field.PROTOCOL, Ranges.of(1)),
        AnyOf(((InRanges(Field.ICMP_TYPE, Ranges.of(5)), InRanges(Field.ICMP_CODE, Ranges.of(1))),), negated=True),
        DROPPED,
    ),
    "-p IPv6 --ip6-proto ipv6-icmp --ip6-icmp-type 135:136/0:255 -j DROP": (
        InRanges(Field.ETHER_TYPE, Ranges.of(0x86DD)),
        InRanges(Field.PROTOCOL, Ranges.of(58)),
        AnyOf(((
            InRanges(Field.ICMP_TYPE, Ranges(((135, 136),))), InRanges(Field.ICMP_CODE, Ranges(((0, 255),))),
        ),)),
        DROPPED,
    ),
    "-p ARP --arp-op Reply --arp-htype 1 --arp-ptype ! 0x800 --arp-ip-dst ! 10.0.0.0/8 -j DROP": (
        ARP,
        InRanges(Field.ARP_OPERATION, Ranges.of(2)),
        AnyOf(((),)),
        AnyOf(((),), negated=True),
        InRanges(Field.ARP_DESTINATION, Ranges(((0x0A000000, 0x0AFFFFFF),)), negated=True),
        DROPPED,
    ),
    "-p ARP --arp-op ARP_NAK --arp-gratuitous -j DROP": (
        ARP, InRanges(Field.ARP_OPERATION, Ranges.of(9)), Opaque("arp-gratuitous", "--arp-gratuitous"), DROPPED,
    ),
    "-p Length -j DROP": (InRanges(Field.ETHER_TYPE, Ranges(((0, 0x5FF),))), DROPPED),
    "-p LLDP -j DROP": (Opaque("p", "-p LLDP"), DROPPED),
    "-s Unicast -d ! Broadcast -j DROP": (
        HasBits(Field.SOURCE_MAC, 1 << 40, 0),
        InRanges(Field.DESTINATION_MAC, Ranges.of((1 << 48) - 1), negated=True),
        DROPPED,
    ),
    "-s 02:00:00:00:00:00/ff:ff:ff:00:00:00 -i veth+ -o ! eth0 -j CONTINUE": (
        HasBits(Field.SOURCE_MAC, 0xFFFFFF000000, 0x020000000000),
        NameIs(Field.INPUT_INTERFACE, ("veth*",)),
        NameIs(Field.OUTPUT_INTERFACE, ("eth0",), negated=True),
    ),
    "--mark ! 0x0/0xff -j DROP": (HasBits(Field.MARK, 0xFF, 0, negated=True), DROPPED),
    "--mark /0xff --pkttype-type ! otherhost -j DROP": (
        AnyBit(Field.MARK, 0xFF), InRanges(Field.PACKET_TYPE, Ranges.of(3), negated=True), DROPPED,
    ),
    '--log-level notice --log-prefix "-j DROP" --log-ip -j own': (Call("own"),),
    "-j mark --mark-set 0x7 --mark-target CONTINUE": (SetMark(Field.MARK, 0, 7),),
    "-j mark --mark-or 0x7 --mark-target ACCEPT": (
        SetMark(Field.MARK, 0xFFFFFFF8, 7), Terminate(Verdict.ACCEPT),
    ),
    "-j mark --mark-and 0x7 --mark-target RETURN": (SetMark(Field.MARK, 7, 0), Terminate(Verdict.RETURN)),
    "-j mark --mark-xor 0x7 --mark-target DROP": (SetMark(Field.MARK, 0xFFFFFFFF, 7), DROPPED),
    "-j redirect ": (Unforeseeable("xt redirect", "-j redirect"),),
    "garbage": (Unforeseeable("rule", "garbage"),),
    "": (),
}  # fmt: skip


@pytest.mark.parametrize("said", SAID)
def test_what_rules_say(said: str) -> None:
    """Each is understood as the kernel's modules have it, or is a doubt by its name."""
    (table,) = parse_ebtables(f"*filter\n:FORWARD ACCEPT\n:own RETURN\n-A FORWARD {said}\n")
    assert table.chains["FORWARD"].rules[0].steps == SAID[said]


def test_the_policy_of_a_chain_of_ones_own_is_its_last_rule() -> None:
    """The kernel has no other word for it; ebtables-nft leaves none for RETURN, which every chain ends with."""
    text = "*filter\n:FORWARD DROP\n:one ACCEPT\n:two DROP\n:three RETURN\n-A one -s Unicast -j DROP\n# Completed\n"
    (table,) = parse_ebtables(text)
    ends = {name: [rule.steps[-1] for rule in chain.rules] for name, chain in table.chains.items()}
    assert ends == {"FORWARD": [], "one": [DROPPED, Terminate(Verdict.ACCEPT)], "two": [DROPPED], "three": []}


def test_arguments_come_from_ebtables_and_all_else_from_nft() -> None:
    """What nft put into a chain makes ebtables give up: the rest is then a doubt."""
    where = {"family": "bridge", "table": "filter"}
    port = {"match": {"op": "==", "left": {"payload": {"protocol": "ether", "field": "type"}}, "right": "ip"}}
    listed = [
        {"table": {"family": "bridge", "name": "filter"}},
        {"chain": {**where, "name": "FORWARD", "type": "filter", "hook": "forward", "prio": -200, "policy": "drop"}},
        {
            "rule": {
                **where,
                "chain": "FORWARD",
                "expr": [port, {"xt": {"type": "match", "name": "ip"}}, {"drop": None}],
            }
        },
    ]
    text = "*filter\n:FORWARD DROP\n-A FORWARD -p IPv4 --ip-src 10.0.0.1 -j DROP\n"
    documents = NamespaceDocuments(1, tables=["bridge filter"], nftables=[json.dumps({"nftables": listed})])
    hidden = parse_firewall(documents, RuleMemory(), {}).tables[0].chains["FORWARD"]
    (shown,) = parse_firewall(
        NamespaceDocuments(1, tables=documents.tables, nftables=documents.nftables, ebtables=text), RuleMemory(), {}
    ).tables
    assert hidden.rules[0].steps == (IPV4, Opaque("xt ip"), DROPPED)
    assert shown.chains["FORWARD"].rules[0].steps == (IPV4, InRanges(Field.SOURCE, Ranges.of(0x0A000001)), DROPPED)
    assert shown.chains["FORWARD"].base == hidden.base
