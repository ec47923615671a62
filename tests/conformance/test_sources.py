"""Which address packets come from, on a real engine: what masquerading and namespaces pick, and what that depends on.

Whoever receives them drops what comes from one address, so that another choice would show.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from tests.conformance.changes import Change
from tests.conformance.routed import dual_stack, let_through
from tests.conformance.runner import changed
from tests.lab import Container, Topology

if TYPE_CHECKING:
    from tests.conformance.runner import Outcome

pytestmark = pytest.mark.lab

TOPOLOGY: Final = Topology(
    networks=dual_stack("one", "two"),
    containers=(
        Container("server", "one", flags=("--ip=10.100.1.11", "--ip6=fd00:a::11")),
        Container("near", "one", flags=("--ip=10.100.1.12", "--ip6=fd00:a::12")),
        Container("odd", "one", flags=("--ip=10.100.1.13", "--ip6=fd00:a::13")),
        Container("far", "two", flags=("--ip=10.100.2.11", "--ip6=fd00:b::11")),
        Container("hosted", "host"),
        Container("lost", "one"),
        Container("lost-twin", "container:lost"),
        Container("kept", "one"),
        Container("kept-twin", "container:kept"),
    ),
    host=let_through("-F POSTROUTING"),
)
CHANGES: Final = (
    Change(
        "masquerading",
        (
            "ip address add 10.100.9.1/24 dev brone",
            "ip route add 10.77.0.0/24 via 10.100.9.9 dev brone",
            "ip route add 10.78.0.0/24 via 10.100.1.11 dev brone",
            "iptables -w -t nat -A POSTROUTING -s 10.100.2.0/24 -o brone -j MASQUERADE",
            # the first address of the bridge, which packets to REDIRECT are for; nobody is sent anything from it
            "ip address add 169.254.7.1/24 dev brone scope link",
            "iptables -w -t nat -A PREROUTING -i brone -p udp --dport 4000:4999 -j REDIRECT --to-ports 53",
            "iptables -w -I INPUT -i brone -p udp -d 10.100.1.1 --dport 53 -j DROP",
        ),
    ),
    Change(
        "server",
        (
            "ip address add 10.100.9.9/24 dev eth0; ip address add 10.77.0.1/32 dev lo",
            "ip address add 10.78.0.1/32 dev lo; ip address add 10.79.0.1/32 dev lo",
            "ip address add fd00:77:0:1::1/128 dev lo nodad",
            "iptables -w -A INPUT -s 10.100.9.1 -p tcp -j DROP; iptables -w -A INPUT -s 10.100.1.1 -p udp -j DROP",
            "iptables -w -A INPUT -s 10.100.8.5 -p udp -j DROP; iptables -w -A INPUT -s 10.100.1.13 -p tcp -j DROP",
            "ip6tables -w -A INPUT -s fd00:77::5 -p tcp -j DROP; ip6tables -w -A INPUT -s fd00:a::13 -p udp -j DROP",
            "ip route add 10.100.8.0/24 dev eth0; ip -6 route add fd00:77::/64 dev eth0",
        ),
        "server",
    ),
    Change(
        "odd",
        (
            "ip address add 10.100.8.5/24 dev eth0 scope link; ip address add fd00:77::5/64 dev eth0 nodad",
            "ip address add 10.100.1.14/24 dev eth0",
            # by a gateway of no subnet, and on the link without one
            "ip route add 10.77.0.0/24 via 10.100.9.9 dev eth0 onlink; ip route add 10.79.0.0/24 dev eth0",
            "ip route add 10.78.0.0/24 dev eth0 src 10.100.1.14",
            "ip -6 route add fd00:77:0:1::/64 via fd00:a::11",
        ),
        "odd",
    ),
    # from a source that is not theirs: the answer has no way from 127.0.0.1, which comes before it is led back
    Change("lost", ("iptables -w -t nat -A POSTROUTING -j SNAT --to-source 10.66.6.8",), "lost"),
    Change(
        "kept",
        (
            "iptables -w -t nat -A POSTROUTING -j SNAT --to-source 10.66.6.8",
            "sysctl -qw net.ipv4.conf.all.route_localnet=1",
        ),
        "kept",
    ),
)


@pytest.fixture(scope="module")
def outcome() -> Outcome:
    """Do it all, and compare."""
    return changed(TOPOLOGY, CHANGES)


def arrivals(outcome: Outcome, source: str, address: str, destination: str = "server") -> set[str]:
    """Return the protocols by which packets to an address arrive in a container, and are answered if that is TCP."""
    told = outcome.truth.packets.arrived
    ends = source, address, destination
    return {each.protocol for each in told if (each.source, each.address, each.destination) == ends}


def test_packets_agree(outcome: Outcome) -> None:
    """No verdict is wrong, and none is open."""
    assert outcome.report.missing == {}
    assert outcome.enforced.disagreements == ()
    assert not outcome.enforced.doubts
    assert outcome.unlike == ()


def test_masquerading_goes_by_the_next_hop(outcome: Outcome) -> None:
    """By the gateway of the second subnet from the address in that, whoever the packets are for."""
    assert arrivals(outcome, "far", "10.77.0.1") == {"udp", "icmp"}
    assert arrivals(outcome, "far", "10.78.0.1") == {"tcp", "icmp"}


def test_addresses_of_the_link_are_for_the_link(outcome: Outcome) -> None:
    """By a gateway they are passed over; where a route names an address, nothing else matters."""
    assert arrivals(outcome, "odd", "10.77.0.1") == {"udp", "icmp"}
    assert arrivals(outcome, "odd", "10.79.0.1") == {"tcp", "icmp"}
    assert arrivals(outcome, "odd", "10.78.0.1") == {"tcp", "udp", "icmp"}


def test_ipv6_goes_by_the_destination(outcome: Outcome) -> None:
    """What is most like it, not like its gateway."""
    assert arrivals(outcome, "odd", "fd00:77:0:1::1") == {"udp", "icmp"}


def test_nothing_leaves_from_loopback(outcome: Outcome) -> None:
    """Not even an answer that OUTPUT would lead back to whoever asked, unless route_localnet lets it."""
    assert "tcp" not in arrivals(outcome, "lost", "127.0.0.1", "lost")
    assert {"tcp", "udp"} <= arrivals(outcome, "kept", "127.0.0.1", "kept")
