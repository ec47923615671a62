"""Rules of bridges that name what ebtables' modules look at, on a real engine: packets are the judge.

One host for all of them: what a case changes it puts back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from exporter.evaluate.enforced.walk import LEARNED
from exporter.model.reach import Verdict
from tests.conformance.cases import Case
from tests.conformance.routed import dual_stack, let_through
from tests.lab import Container, Topology

if TYPE_CHECKING:
    from tests.conformance.runner import Built


pytestmark = pytest.mark.lab

TOPOLOGY = Topology(
    networks=dual_stack("one", "two"),
    containers=(
        Container("near", "one", flags=("--ip=10.100.1.11", "--mac-address=02:42:0a:64:01:0b")),
        Container("next", "one", flags=("--ip=10.100.1.12", "--mac-address=02:42:0a:64:01:0c")),
        Container("far", "two", flags=("--ip=10.100.2.11",)),
        Container("hosted", "host"),
    ),
    host=let_through("-I POSTROUTING -j ACCEPT"),
)

NEAR_AND_NEXT = "near", "next"
NO_IPV6 = "ebtables -A FORWARD -p IPv6 -j DROP"
EMPTY = "nft delete table bridge filter"


def of_ebtables(
    *rules: str, verdict: Verdict, pair: tuple[str, str] = NEAR_AND_NEXT, doubts: frozenset[str] = frozenset()
) -> Case:
    """Return a case about rules of ebtables, and a pair."""
    return Case(pair, verdict, "; ".join(f"ebtables {rule}" for rule in rules), EMPTY, doubts=doubts)


TO_NEXT = "-A FORWARD -p IPv4 --ip-dst 10.100.1.12"

CASES: dict[str, Case] = {
    "ports": of_ebtables(
        f"{TO_NEXT} --ip-proto tcp --ip-dport 1:65535 -j DROP",
        f"{TO_NEXT} --ip-proto udp --ip-dport ! 80 -j DROP",
        f"{TO_NEXT} --ip-proto udp --ip-dport 80 -j DROP",
        "-A FORWARD -p IPv6 --ip6-proto ! ipv6-icmp -j DROP",
        verdict=Verdict.BLOCKED,
    ),
    "other ports": of_ebtables(
        f"{TO_NEXT} --ip-proto tcp --ip-dport 81:7000 -j DROP",
        f"{TO_NEXT} --ip-proto udp --ip-sport :1023 -j DROP",
        "-A FORWARD -p IPv6 -j DROP",
        verdict=Verdict.REACHABLE,
    ),
    "addresses but those of a network": of_ebtables(
        "-A FORWARD -p IPv4 --ip-dst ! 10.100.1.0/255.255.255.248 -j DROP",
        "-A FORWARD -p IPv6 --ip6-dst ! fd00:f::/32 -j DROP",
        verdict=Verdict.BLOCKED,
    ),
    "addresses of some bits": of_ebtables(
        "-A FORWARD -p IPv4 --ip-src 10.0.1.11/255.0.255.255 --ip-dst 10.100.1.12 -j DROP",
        "-A FORWARD -p IPv6 --ip6-src fd00:a::/64 -j DROP",
        # by link-local addresses
        verdict=Verdict.REACHABLE,
    ),
    "echo requests": of_ebtables(
        "-A FORWARD -p IPv4 --ip-proto icmp --ip-icmp-type echo-request -j DROP",
        "-A FORWARD -p IPv6 --ip6-proto ipv6-icmp --ip6-icmp-type echo-request -j DROP",
        "-A FORWARD -p IPv4 --ip-proto icmp --ip-icmp-type ! 8:13 -j DROP",
        verdict=Verdict.REACHABLE,
    ),
    "what looks for neighbours of IPv6": of_ebtables(
        "-A FORWARD -p IPv6 --ip6-proto ipv6-icmp --ip6-icmp-type 135:136 -j DROP",
        "-A FORWARD -p IPv4 -j DROP",
        verdict=Verdict.BLOCKED,
    ),
    "questions of ARP for one": of_ebtables(
        "-A FORWARD -p ARP --arp-op Request --arp-ip-dst 10.100.1.12 -j DROP",
        "-A FORWARD -p IPv6 -j DROP",
        verdict=Verdict.UNKNOWN,
        doubts=frozenset({LEARNED}),
    ),
    "ARP from one": of_ebtables(
        "-A FORWARD -p ARP --arp-ip-src 10.100.1.12 -j DROP",
        "-A FORWARD -p IPv6 -j DROP",
        "-A FORWARD -p ARP --arp-ip-src ! 10.100.1.0/24 -j DROP",
        verdict=Verdict.BLOCKED,
        doubts=frozenset({LEARNED}),
    ),
    "ARP of another kind": of_ebtables(
        "-A FORWARD -p ARP --arp-htype ! 1 -j DROP",
        "-A FORWARD -p ARP --arp-ptype 0x86dd -j DROP",
        "-A FORWARD -p ARP --arp-op InARP_Request -j DROP",
        "-A FORWARD -p ARP --arp-ip-dst 10.200.0.0/16 -j DROP",
        verdict=Verdict.REACHABLE,
    ),
    "marks": of_ebtables(
        "-A FORWARD -p IPv4 -j mark --mark-set 0x12 --mark-target CONTINUE",
        "-A FORWARD -p IPv4 -j mark --mark-or 0x1 --mark-target CONTINUE",
        "-A FORWARD -p IPv4 -j mark --mark-xor 0x2 --mark-target CONTINUE",
        "-A FORWARD -p IPv4 -j mark --mark-and 0xf --mark-target CONTINUE",
        "-A FORWARD --mark 0x1 -j DROP",
        "-A FORWARD -p IPv6 -j DROP",
        verdict=Verdict.BLOCKED,
    ),
    "some bits of marks": of_ebtables(
        "-A FORWARD -j mark --mark-set 0x12 --mark-target CONTINUE",
        "-A FORWARD --mark /0xd -j DROP",
        "-A FORWARD --mark ! 0x2/0xf -j DROP",
        verdict=Verdict.REACHABLE,
    ),
    "a mark that accepts": of_ebtables(
        "-A FORWARD -j mark --mark-set 0x12",
        "-A FORWARD -j DROP",
        verdict=Verdict.REACHABLE,
    ),
    "a mark that drops": of_ebtables("-A FORWARD -j mark --mark-set 0x12 --mark-target DROP", verdict=Verdict.BLOCKED),
    "a chain of one's own that drops at its end": of_ebtables(
        "-N own -P DROP",
        "-A own -p IPv4 --ip-dst 10.100.1.11 -j ACCEPT",
        "-A own -p ARP --log -j ACCEPT",
        "-A FORWARD -j own",
        verdict=Verdict.BLOCKED,
    ),
    "a chain of one's own that returns": of_ebtables(
        "-N own -P RETURN",
        "-A own -p IPv4 --ip-dst 10.100.1.11 -j DROP",
        "-A FORWARD -p IPv4 --ip-src 10.100.1.11 -j own",
        verdict=Verdict.REACHABLE,
    ),
    "arguments that nft's own rule makes ebtables hide": Case(
        NEAR_AND_NEXT,
        Verdict.REACHABLE,
        f"ebtables {TO_NEXT} --ip-proto tcp -j DROP; nft 'add set bridge filter some {{ type ipv4_addr; }}';"
        " nft add rule bridge filter FORWARD ip saddr @some drop",
        EMPTY,
        doubts=frozenset({"xt ip"}),
    ),
    "frames for others": of_ebtables("-A FORWARD --pkttype-type otherhost -j DROP", verdict=Verdict.BLOCKED),
    "frames for all": of_ebtables(
        "-A FORWARD -p IPv4 --pkttype-type ! otherhost -j DROP",
        "-A FORWARD --pkttype-type host -j DROP",
        verdict=Verdict.REACHABLE,
    ),
    "frames that are logged": of_ebtables(
        "-A FORWARD -p IPv4 --log-prefix x --log-ip -j CONTINUE",
        "-A FORWARD --nflog-group 5 -j CONTINUE",
        verdict=Verdict.REACHABLE,
    ),
    "what the host sends and gets": of_ebtables(
        "-A OUTPUT -p IPv4 --ip-proto tcp --ip-dport 7777 -j DROP",
        "-A INPUT -p IPv4 --ip-dst 10.100.1.1 -j DROP",
        "-A INPUT -p IPv6 --ip6-proto tcp -j DROP",
        verdict=Verdict.REACHABLE,
        pair=("near", "far"),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_packets_agree(host: Built, name: str) -> None:
    """Nothing is certain that is not as packets have it, nothing in doubt but for the reason that there is."""
    case = CASES[name]
    outcome = host.done(name, case.does, case.undoes, case.inside)
    assert outcome.enforced.disagreements == ()
    assert outcome.unlike == ()
    assert outcome.enforced.doubts == case.doubts
    assert outcome.pair(*case.pair).verdict is case.verdict
