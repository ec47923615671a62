"""Interfaces that no engine made, on the host and inside of containers: packets are the judge.

One host for all of them: what a case changes it puts back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from exporter.model.report import Verdict
from tests.conformance.cases import Case
from tests.conformance.routed import dual_stack, let_through
from tests.lab import Container, Network, Topology

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.conformance.runner import Built

pytestmark = pytest.mark.lab

_BRIDGE = "com.docker.network.bridge."
TOPOLOGY = Topology(
    networks=(
        *dual_stack("one", "two"),
        Network("lan", "bridge", {f"{_BRIDGE}name": "brlan"}, ("--subnet=10.100.60.0/25",)),
        Network("macbr", "macvlan", {"parent": "brlan"}, ("--subnet=10.100.60.128/25",)),
        Network(
            "closed", "bridge", {f"{_BRIDGE}name": "brc", f"{_BRIDGE}enable_icc": "false"}, ("--subnet=10.100.7.0/24",)
        ),
    ),
    containers=(
        Container("near", "one", flags=("--ip=10.100.1.11", "--ip6=fd00:a::11")),
        Container("next", "one", flags=("--ip=10.100.1.12", "--ip6=fd00:a::12")),
        Container("far", "two", flags=("--ip=10.100.2.11", "--ip6=fd00:b::11")),
        Container("lan1", "lan", flags=("--ip=10.100.60.11",)),
        Container("mb1", "macbr", flags=("--ip=10.100.60.211",)),
        Container("mb2", "macbr", flags=("--ip=10.100.60.212",)),
        Container("cl1", "closed", flags=("--ip=10.100.7.11",)),
        Container("cl2", "closed", flags=("--ip=10.100.7.12",)),
        Container("hosted", "host"),
    ),
    host=let_through("-F POSTROUTING"),
)


def macvlan(address: str, mode: str = "bridge") -> tuple[str, str]:
    """Return how a container gets a macvlan on its own card, and how it goes."""
    made = f"ip link add mv0 link eth0 type macvlan mode {mode}; ip link set mv0 up"
    return f"{made}; ip address add {address} dev mv0", "ip link del mv0"


def vxlan(remote: str, address: str) -> tuple[str, str]:
    """Return how a container gets its end of a tunnel, and how it goes."""
    made = f"ip link add vx type vxlan id 5 remote {remote} dstport 4789 dev eth0; ip link set vx up"
    return f"{made}; ip address add {address} dev vx", "ip link del vx"


def address(told: str) -> tuple[str, str]:
    """Return how a container gets an address, and how it loses it."""
    return f"ip address add {told} dev eth0", f"ip address del {told} dev eth0"


def link_address(before: str) -> tuple[str, str]:
    """Return how a container gets the link address that others get as well, and its own back."""
    return "ip link set eth0 address 02:42:00:00:00:77", f"ip link set eth0 address {before}"


def plugged(end: str, told: str) -> tuple[str, str]:
    """Return how a container's end of a cable is set up; the cable goes with either of its ends."""
    return f"ip link set {end} up; ip address add {told} dev {end}", f"ip link del {end} || true"


APART = "for tool in iptables ip6tables; do $tool -w -{} FORWARD -j DROP; done"
APART_WITH_CABLE = f"{APART.format('I')}; ip link add cab0 netns {{near}} type veth peer name cab1 netns {{far}}"
TOGETHER = APART.format("D")
TUNNEL = "DOCKER-USER -i brc -o brc -p udp --dport 4789 -j ACCEPT"
INNER_BRIDGE = (
    (
        "ip link add br0 type bridge; ip link set br0 up; ip address flush dev eth0; ip link set eth0 master br0;"
        " ip address add 10.100.7.11/24 dev br0; ip route add default via 10.100.7.1"
    ),
    "ip link del br0; ip address add 10.100.7.11/24 dev eth0; ip route add default via 10.100.7.1",
)
INNER_SWITCH = (
    "ip link add sw type bridge; ip link set cab0 master sw up; ip link set sw up; ip address add 10.64.0.1/24 dev sw",
    "ip link del cab0; ip link del sw",
)
ROUTES_APART = (
    "for tool in iptables ip6tables; do $tool -w -{0} FORWARD -i brone -o brtwo -j DROP;"
    " $tool -w -{0} FORWARD -i brtwo -o brone -j DROP; done"
)
ROUTER = (
    (
        "ip netns add rtr; for n in 1 2; do ip link add r$n type veth peer name p$n; ip link set p$n netns rtr;"
        " ip -n rtr address add 10.100.$n.250/24 dev p$n; ip -n rtr link set p$n up; done;"
        " ip link set r1 master brone up; ip link set r2 master brtwo up;"
        " ip netns exec rtr sysctl -qw net.ipv4.ip_forward=1;"
        f" {ROUTES_APART.format('I')}; sleep 1"
    ),
    f"{ROUTES_APART.format('D')}; ip netns del rtr",
)

CASES: Mapping[str, Case] = {
    "macvlan inside of two, where bridges pass nothing on": Case(
        ("cl1", "cl2"), Verdict.BLOCKED,
        "iptables -w -D FORWARD -j ACCEPT", "iptables -w -I FORWARD -j ACCEPT",
        {"cl1": macvlan("10.61.0.1/24"), "cl2": macvlan("10.61.0.2/24")},
    ),
    "macvlan inside of two": Case(
        ("near", "next"), Verdict.REACHABLE,
        inside={"near": macvlan("10.61.0.1/24"), "next": macvlan("10.61.0.2/24", "private")},
    ),
    "macvlan inside of one": Case(
        ("near", "next"), Verdict.REACHABLE, inside={"near": macvlan("10.61.0.1/24"), "next": address("10.61.0.2/24")}
    ),
    "a card that is a port of a bridge inside": Case(
        ("cl1", "hosted"), Verdict.REACHABLE, inside={"cl1": INNER_BRIDGE}
    ),
    "a cable from container to container": Case(
        ("near", "far"), Verdict.REACHABLE,
        APART_WITH_CABLE, TOGETHER,
        {"near": plugged("cab0", "10.64.0.1/24"), "far": plugged("cab1", "10.64.0.2/24")},
    ),
    "a cable into a bridge inside": Case(
        ("far", "near"), Verdict.REACHABLE,
        APART_WITH_CABLE, TOGETHER,
        {"near": INNER_SWITCH, "far": plugged("cab1", "10.64.0.2/24")},
    ),
    "a cable whose other end is down": Case(
        ("near", "far"), Verdict.BLOCKED,
        APART_WITH_CABLE, TOGETHER,
        {
            "near": plugged("cab0", "10.64.0.1/24"),
            "far": ("ip address add 10.64.0.2/24 dev cab1", "ip link del cab1 || true"),
        },
    ),
    "a tunnel between containers": Case(
        ("cl1", "cl2"), Verdict.REACHABLE, f"iptables -w -I {TUNNEL}", f"iptables -w -D {TUNNEL}",
        {"cl1": vxlan("10.100.7.12", "10.13.0.1/24"), "cl2": vxlan("10.100.7.11", "10.13.0.2/24")},
        frozenset({"what vx is connected to"}),
    ),
    "a cable between bridges": Case(
        ("cl1", "near"), Verdict.UNKNOWN,
        "iptables -w -I FORWARD -i brc ! -o brc -j DROP; iptables -w -I FORWARD -i brone ! -o brone -j DROP;"
        " ip link add cable0 type veth peer name cable1; ip link set cable0 master brone up;"
        " ip link set cable1 master brc up; sleep 1",
        "iptables -w -D FORWARD 1; iptables -w -D FORWARD 1; ip link del cable0",
        {"cl1": address("10.100.1.99/24")}, frozenset({"what brc is connected to", "what brone is connected to"}),
    ),
    "a macvlan network on a bridge": Case(
        ("lan1", "mb1"), Verdict.UNKNOWN, inside={"lan1": address("10.62.0.1/24"), "mb1": address("10.62.0.2/24")},
        doubts=frozenset({"what brlan is connected to", "what eth0 is connected to"}),
    ),
    "a macvlan network on a bridge, among its own": Case(("mb1", "mb2"), Verdict.REACHABLE),
    "a router that is no container": Case(
        ("near", "far"), Verdict.UNKNOWN, *ROUTER,
        {
            "near": ("ip route add 10.100.2.11 via 10.100.1.250", "ip route del 10.100.2.11"),
            "far": ("ip route add 10.100.1.11 via 10.100.2.250", "ip route del 10.100.1.11"),
        },
        frozenset({"what brone is connected to", "what brtwo is connected to"}),
    ),
    "one link address twice": Case(
        ("near", "next"), Verdict.UNKNOWN,
        inside={"near": link_address("02:42:00:00:00:11"), "next": link_address("02:42:00:00:00:12")},
        doubts=frozenset({"behind which port bridge brone looks for a link address that two have"}),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_packets_agree(host: Built, name: str) -> None:
    """Nothing is in doubt but what cannot be known, and everything else is as packets have it."""
    case = CASES[name]
    pids = {each.name: host.engine.pid_of(each.name) for each in TOPOLOGY.containers}
    # commands name the processes of containers as {near}
    outcome = host.done(name, case.does.format(**pids), case.undoes, case.inside)
    assert outcome.enforced.disagreements == ()
    assert outcome.unlike == ()
    assert {told for reasons in outcome.enforced.doubts for told in reasons.split("; ")} == case.doubts
    assert outcome.pair(*case.pair).verdict is case.verdict
