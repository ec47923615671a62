"""What stands beside Docker's own networks and rules, on a real engine: packets are the judge.

One host for all of them: what a case changes it puts back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from exporter.model.reach import Verdict
from tests.conformance.routed import dual_stack, let_through
from tests.lab import Container, Network, Topology

if TYPE_CHECKING:
    from tests.conformance.runner import Built

pytestmark = pytest.mark.lab

TOPOLOGY = Topology(
    networks=(
        *dual_stack("one", "two"),
        Network("mac", "macvlan", {"parent": "eth10"}, ("--subnet=10.100.50.0/24",)),
        Network("local", "bridge", {}, ("--subnet=169.254.170.0/24",)),
    ),
    containers=(
        Container("near", "one"),
        Container("next", "one"),
        Container("far", "two"),
        Container("mac1", "mac", flags=("--ip=10.100.50.11",)),
        Container("mac2", "mac", flags=("--ip=10.100.50.12",)),
        Container("local1", "local"),
        Container("local2", "local"),
        Container("hosted", "host"),
    ),
    host=let_through("-F POSTROUTING"),
)
NOTHING = "nft delete table inet beside"
AT_CARD = (
    "nft add table netdev beside;"
    " nft 'add chain netdev beside at { type filter hook ingress device eth10 priority 0; }'"
)


def drop(hook: str, said: str) -> str:
    """Return a command that drops some packets."""
    chain = f"nft add table inet beside; nft add chain inet beside at '{{ type filter hook {hook}; }}'"
    return f"{chain}; nft add rule inet beside at '{said} drop'"


CASES: dict[str, tuple[str, str, tuple[str, str], Verdict]] = {
    "an IPv4 subnet that is link-local": ("true", "true", ("local1", "local2"), Verdict.REACHABLE),
    "kinds": (drop("forward priority -5", 'meta oifkind "bridge"'), NOTHING, ("near", "far"), Verdict.BLOCKED),
    "other kinds": (
        drop("forward priority -5", 'meta iifkind != "bridge"'), NOTHING, ("near", "far"), Verdict.REACHABLE,
    ),
    "types": (drop("forward priority -5", "meta iiftype ether"), NOTHING, ("near", "far"), Verdict.BLOCKED),
    "frames that leave came in by nothing": (
        drop("postrouting priority 0", "meta l4proto { tcp, udp } iifname brone"), NOTHING,
        ("near", "next"), Verdict.REACHABLE,
    ),
    "an own interface in the macvlan network": (
        "ip link add shim link eth10 type macvlan mode bridge; ip link set shim up; ip a add 10.100.50.200/24 dev shim",
        "ip link del shim", ("mac1", "hosted"), Verdict.REACHABLE,
    ),
    "the card of a macvlan network is down": (
        "ip link set eth10 down; sleep 1", "ip link set eth10 up", ("mac1", "mac2"), Verdict.BLOCKED,
    ),
    # what one sends to another comes in by the card, where it is for somebody else
    "rules at the card of a macvlan network": (
        f"{AT_CARD}; nft 'add rule netdev beside at meta pkttype other meta l4proto {{ tcp, udp }} drop'",
        "nft delete table netdev beside", ("mac1", "mac2"), Verdict.BLOCKED,
    ),
    "rules for packets of IPsec": (
        "iptables -w -I FORWARD -m policy --dir in --pol ipsec -j DROP",
        "iptables -w -D FORWARD -m policy --dir in --pol ipsec -j DROP", ("near", "far"), Verdict.REACHABLE,
    ),
    "rules for packets that are none of IPsec": (
        "for tool in iptables ip6tables; do $tool -w -I FORWARD -m policy --dir out --pol none -j DROP; done",
        "for tool in iptables ip6tables; do $tool -w -D FORWARD -m policy --dir out --pol none -j DROP; done",
        ("near", "far"), Verdict.BLOCKED,
    ),
    "connections that are assured": (
        "iptables -w -I FORWARD -m conntrack --ctstatus ASSURED -j DROP",
        "iptables -w -D FORWARD -m conntrack --ctstatus ASSURED -j DROP", ("near", "far"), Verdict.REACHABLE,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_packets_agree(host: Built, name: str) -> None:
    """Nothing is in doubt, and everything is as packets have it."""
    does, undoes, pair, verdict = CASES[name]
    outcome = host.done(name, does, undoes)
    assert outcome.enforced.disagreements == ()
    assert outcome.unlike == ()
    assert outcome.enforced.doubts == frozenset()
    assert outcome.pair(*pair).verdict is verdict
