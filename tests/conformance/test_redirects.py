"""Routers that tell who sends to go past them (ICMP redirects): packets are the judge.

Who believes it sends straight to the next one from then on, whatever the router's own rules do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from exporter.model.reach import Verdict
from tests.conformance.cases import Case
from tests.conformance.routed import both, dual_stack
from tests.lab import Container, Topology

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.conformance.runner import Built

pytestmark = pytest.mark.lab

TOPOLOGY = Topology(
    networks=dual_stack("one"),
    containers=(
        Container("near", "one", flags=("--ip=10.100.1.11", "--ip6=fd00:a::11")),
        Container("next", "one", flags=("--ip=10.100.1.12", "--ip6=fd00:a::12")),
        Container("router", "one", flags=("--ip=10.100.1.13", "--ip6=fd00:a::13")),
    ),
)

TELLS = frozenset({"whether 10.100.1.13 tells who sends to go past it (ICMP redirect)"})
TOLD = frozenset({"whether 10.100.1.13 has told who sends to go past it (ICMP redirect)"})
SHUT_OFF = both(
    ("ip6tables -w -I INPUT -s fd00:a::11 -j DROP", "ip6tables -w -D INPUT -s fd00:a::11 -j DROP"),
    ("ip6tables -w -I INPUT -s fe80::/10 -j DROP", "ip6tables -w -D INPUT -s fe80::/10 -j DROP"),
)
HEEDS = "sysctl -qw net.ipv4.conf.all.accept_redirects=1 net.ipv4.conf.eth0.accept_redirects=1"
BY_ROUTER = (
    f"{HEEDS}; ip route add 10.100.1.12/32 via 10.100.1.13",
    "ip route del 10.100.1.12/32 via 10.100.1.13; ip route flush cache",
)
DEAF = (HEEDS.replace("=1", "=0"), HEEDS)
SENDS = "sysctl -qw net.ipv4.conf.all.send_redirects=1 net.ipv4.conf.eth0.send_redirects=1"
ROUTES = (f"sysctl -qw net.ipv4.ip_forward=1; {SENDS}", "true")
SILENT = (SENDS.replace("=1", "=0"), SENDS)
DROPS = ("iptables -w -I FORWARD -d 10.100.1.12 -j DROP", "iptables -w -D FORWARD -d 10.100.1.12 -j DROP")
NAT = ("iptables -w -t nat -A POSTROUTING -s 192.0.2.1 -j ACCEPT", "iptables -w -t nat -F POSTROUTING")
WITHOUT_NAT = ("nft delete table ip nat", NAT[0])
"""Every container on a network with a name server of its engine's has rules of nat."""
NO_OTHER_WAY, OTHER_WAY = (
    f"iptables -w {how} DOCKER-USER -m physdev --physdev-in {{near}} --physdev-out {{next}} -j DROP"
    for how in ("-I", "-D")
)

CASES: Mapping[str, Case] = {
    "a router that drops, and tells": Case(
        ("near", "next"), Verdict.UNKNOWN,
        inside={"next": SHUT_OFF, "router": both(ROUTES, DROPS, WITHOUT_NAT), "near": BY_ROUTER}, doubts=TOLD,
    ),
    "a router that drops and tells nobody": Case(
        ("near", "next"), Verdict.BLOCKED,
        inside={"next": SHUT_OFF, "router": both(ROUTES, SILENT, DROPS, WITHOUT_NAT), "near": BY_ROUTER},
    ),
    "a sender who heeds nobody": Case(
        ("near", "next"), Verdict.BLOCKED,
        inside={"next": SHUT_OFF, "router": both(ROUTES, DROPS, WITHOUT_NAT), "near": both(BY_ROUTER, DEAF)},
    ),
    "a router with rules of nat that drops": Case(
        ("near", "next"), Verdict.UNKNOWN,
        inside={"next": SHUT_OFF, "router": both(ROUTES, NAT, DROPS), "near": BY_ROUTER}, doubts=TOLD,
    ),
    "a router with rules of nat that lets through what is shut otherwise": Case(
        ("near", "next"), Verdict.UNKNOWN, NO_OTHER_WAY, OTHER_WAY,
        inside={"next": SHUT_OFF, "router": both(ROUTES, NAT), "near": BY_ROUTER}, doubts=TELLS,
    ),
    "a router that lets through what would pass otherwise": Case(
        ("near", "next"), Verdict.REACHABLE, inside={"next": SHUT_OFF, "router": ROUTES, "near": BY_ROUTER},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_packets_agree(host: Built, name: str) -> None:
    """What is not known is what a router may have told, and nothing else."""
    case = CASES[name]
    ports = {container: host.engine.port_of(container) for container in ("near", "next")}
    outcome = host.done(name, case.does.format(**ports), case.undoes.format(**ports), case.inside)
    assert outcome.enforced.disagreements == ()
    assert outcome.unlike == ()
    assert {told for reasons in outcome.enforced.doubts for told in reasons.split("; ")} == case.doubts
    assert outcome.pair(*case.pair).verdict is case.verdict
