"""Rules of bridges that name what ebtables' modules look at, on a real engine: packets are the judge.

One host for all of them: what a case changes it puts back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from exporter.evaluate.enforced.walk import FRAMED_FOR, LEARNED
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
BRIDGE = "$(cat /sys/class/net/brone/address)"
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
    "link addresses": of_ebtables(
        "-A FORWARD -d 02:42:0a:64:01:0c -p IPv4 -j DROP",
        "-A FORWARD -s 02:42:0a:64:01:0b -d ! Multicast -p IPv6 -j DROP",
        verdict=Verdict.BLOCKED,
        doubts=frozenset({LEARNED}),
    ),
    "link addresses but one": of_ebtables(
        "-A FORWARD -p IPv4 -d ! 02:42:0a:64:01:0c -j DROP",
        "-A FORWARD -p IPv6 -s ! 02:42:0a:64:01:0b -j DROP",
        "-A INPUT -s Multicast -j DROP",
        "-A OUTPUT -p IPv4 -d Multicast -j DROP",
        verdict=Verdict.REACHABLE,
    ),
    "some bits of link addresses": of_ebtables(
        "-A FORWARD -d 02:42:0a:64:01:0c/ff:ff:00:00:00:0c -j DROP",
        verdict=Verdict.BLOCKED,
        doubts=frozenset({LEARNED}),
    ),
    "what goes to all": of_ebtables(
        "-A FORWARD -p ARP -d Broadcast -j DROP", "-A FORWARD -p IPv6 -d Multicast -j DROP", verdict=Verdict.BLOCKED
    ),
    "one of several link addresses with their addresses": of_ebtables(
        "-A FORWARD --among-src 02:42:0a:64:01:0b=10.100.1.11,02:42:0a:64:01:0c=10.100.1.99 -j DROP",
        "-A FORWARD -p IPv6 --among-dst ! 02:42:0a:64:01:0b,33:33:ff:00:00:02 -j DROP",
        verdict=Verdict.BLOCKED,
    ),
    "link addresses in answers of ARP": of_ebtables(
        "-A FORWARD -p ARP --arp-op Reply --arp-mac-src 02:42:0a:64:01:0c -j DROP",
        "-A FORWARD -p ARP --arp-op Reply --arp-mac-dst 02:42:0a:64:01:0c -j DROP",
        "-A FORWARD -p IPv6 -j DROP",
        verdict=Verdict.UNKNOWN,
        doubts=frozenset({LEARNED}),
    ),
    "link addresses in all of ARP": of_ebtables(
        "-A FORWARD -p ARP --arp-mac-src 02:42:0a:64:01:0c -j DROP",
        "-A FORWARD -p ARP --arp-mac-src 02:42:0a:64:01:0b/ff:ff:ff:ff:ff:ff -j DROP",
        "-A FORWARD -p IPv6 -j DROP",
        verdict=Verdict.BLOCKED,
    ),
    "link addresses in ARP of others": of_ebtables(
        "-A FORWARD -p ARP --arp-op Request --arp-mac-dst ! 00:00:00:00:00:00 -j DROP",
        "-A FORWARD -p ARP --arp-mac-src ! 02:42:0a:64:01:08/ff:ff:ff:ff:ff:f8 -j DROP",
        "-A FORWARD -p IPv6 -j DROP",
        verdict=Verdict.REACHABLE,
    ),
    "the host's link address": of_ebtables(
        "-A OUTPUT -p IPv4 -d 02:42:0a:64:01:0b -j DROP",
        "-A INPUT -s 02:42:0a:64:01:0b -p IPv6 -d ! Multicast -j DROP",
        verdict=Verdict.REACHABLE,
        pair=("near", "far"),
        doubts=frozenset({LEARNED}),
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
    "a bridge's link address": of_ebtables(
        f"-A OUTPUT -p IPv4 -s {BRIDGE} -j DROP",
        f"-A INPUT -p IPv6 -d {BRIDGE} -j DROP",
        verdict=Verdict.REACHABLE,
        pair=("near", "hosted"),
        doubts=frozenset({LEARNED}),
    ),
    "a bridge's link address, of what is passed on": Case(
        ("near", "far"),
        Verdict.BLOCKED,
        "nft add table inet beside; nft 'add chain inet beside c { type filter hook forward priority 0; }';"
        f" nft add rule inet beside c ether daddr {BRIDGE} oifname brtwo meta l4proto tcp drop;"
        " nft add rule inet beside c ether daddr != 02:42:0a:64:01:0b oifname brtwo meta l4proto udp drop",
        "nft delete table inet beside",
    ),
    "link addresses in frames of ARP, by arptables": Case(
        ("near", "hosted"),
        Verdict.UNKNOWN,
        "arptables -A OUTPUT --opcode Reply --source-mac $(cat /sys/class/net/brone/address) -j DROP;"
        " arptables -A INPUT --opcode Request --destination-mac 00:00:00:00:00:00 -j DROP;"
        " ip6tables -I INPUT -i brone -j DROP",
        "arptables -F; ip6tables -D INPUT -i brone -j DROP",
        doubts=frozenset({LEARNED}),
    ),
    "link addresses at an interface": Case(
        ("near", "far"),
        Verdict.REACHABLE,
        "nft add table netdev beside;"
        " nft 'add chain netdev beside in { type filter hook ingress device brone priority 0; }';"
        " nft 'add chain netdev beside out { type filter hook egress device brone priority 0; }';"
        f" nft add rule netdev beside in ether daddr {BRIDGE} ip saddr 10.100.1.11 tcp dport 7777 drop;"
        f" nft add rule netdev beside out ether saddr {BRIDGE} ip daddr 10.100.1.12 drop;"
        f" nft add rule netdev beside out ether daddr 02:42:0a:64:01:0b ip daddr 10.100.1.11 drop",
        "nft delete table netdev beside",
        doubts=frozenset({FRAMED_FOR}),
    ),
    "a link address that br_netfilter writes": Case(
        NEAR_AND_NEXT,
        Verdict.REACHABLE,
        "iptables -w -t nat -I PREROUTING -d 10.100.1.12 -j DNAT --to 10.100.2.11;"
        "iptables -w -t nat -I PREROUTING -d 10.100.1.77 -j DNAT --to 10.100.1.12;"
        "nft add table bridge beside; nft 'add chain bridge beside c { type filter hook forward priority -300; }';"
        " nft add rule bridge beside c ether daddr 02:42:0a:64:01:0c ip protocol tcp drop;"
        " nft 'add chain bridge beside i { type filter hook input priority -300; }';"
        f" nft add rule bridge beside i ether daddr {BRIDGE} ip daddr 10.100.2.11 ip protocol tcp drop",
        "nft delete table bridge beside; iptables -w -t nat -D PREROUTING 1;iptables -w -t nat -D PREROUTING 1",
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
