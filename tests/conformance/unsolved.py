"""Hosts on which verdicts are known to be wrong, and say so by no doubt: python -m tests.conformance.unsolved [WORD …].

Each is what docs/verdicts.md names under "known to be wrong", as small as it gets. A case that is right at last moves
to the tests. Prints for each how many probes are told wrong, of one pair and of all.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.conformance.changes import Change
from tests.conformance.routed import dual_stack, let_through
from tests.conformance.runner import Built, built
from tests.lab import Container, Network, Topology

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


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
        Container("cl1", "closed", flags=("--ip=10.100.7.11",)),
        Container("cl2", "closed", flags=("--ip=10.100.7.12",)),
        Container("hosted", "host"),
    ),
    host=let_through("-F POSTROUTING"),
)


@dataclass(frozen=True, slots=True)
class Unsolved:
    """What is done and undone on the host, and inside of containers; the pair that it is about."""

    pair: tuple[str, str]
    does: str = "true"
    undoes: str = "true"
    inside: Mapping[str, tuple[str, str]] = field(default_factory=dict)


def macvlan(address: str) -> tuple[str, str]:
    """Return how a container gets a macvlan on its own card, and how it goes."""
    made = "ip link add mv0 link eth0 type macvlan mode bridge; ip link set mv0 up"
    return f"{made}; ip address add {address} dev mv0", "ip link del mv0"


def vxlan(remote: str, address: str) -> tuple[str, str]:
    """Return how a container gets its end of a tunnel, and how it goes."""
    made = f"ip link add vx type vxlan id 5 remote {remote} dstport 4789 dev eth0; ip link set vx up"
    return f"{made}; ip address add {address} dev vx", "ip link del vx"


def address(told: str, device: str = "eth0") -> tuple[str, str]:
    """Return how a container gets an address, and how it loses it."""
    return f"ip address add {told} dev {device}", f"ip address del {told} dev {device}"


FORWARDS = (
    "sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.send_redirects=0 net.ipv4.conf.eth0.send_redirects=0",
    "sysctl -qw net.ipv4.ip_forward=0",
)
BY_NEXT = (
    (
        "sysctl -qw net.ipv4.conf.all.accept_redirects=0 net.ipv4.conf.eth0.accept_redirects=0;"
        " ip route replace default via 10.100.1.12"
    ),
    "ip route replace default via 10.100.1.1",
)
TUNNEL = "DOCKER-USER -i brc -o brc -p udp --dport 4789 -j ACCEPT"
INNER_BRIDGE = (
    (
        "ip link add br0 type bridge; ip link set br0 up; ip address flush dev eth0; ip link set eth0 master br0;"
        " ip address add 10.100.7.11/24 dev br0; ip route add default via 10.100.7.1"
    ),
    "ip link del br0; ip address add 10.100.7.11/24 dev eth0; ip route add default via 10.100.7.1",
)
ROUTER = (
    (
        "ip netns add rtr; for n in 1 2; do ip link add r$n type veth peer name p$n; ip link set p$n netns rtr;"
        " ip -n rtr address add 10.100.$n.250/24 dev p$n; ip -n rtr link set p$n up; done;"
        " ip link set r1 master brone up; ip link set r2 master brtwo up;"
        " ip netns exec rtr sysctl -qw net.ipv4.ip_forward=1;"
        " iptables -w -I FORWARD -i brone -o brtwo -j DROP; iptables -w -I FORWARD -i brtwo -o brone -j DROP; sleep 1"
    ),
    (
        "iptables -w -D FORWARD -i brone -o brtwo -j DROP; iptables -w -D FORWARD -i brtwo -o brone -j DROP;"
        " ip netns del rtr"
    ),
)
MARKED = "iptables -w -t mangle -A PREROUTING -s 10.100.1.11"
UNMARKED = "iptables -w -t mangle -F PREROUTING"

CASES: Mapping[str, Unsolved] = {
    "macvlan inside of two": Unsolved(
        ("cl1", "cl2"), "iptables -w -D FORWARD -j ACCEPT", "iptables -w -I FORWARD -j ACCEPT",
        {"cl1": macvlan("10.61.0.1/24"), "cl2": macvlan("10.61.0.2/24")},
    ),
    "macvlan inside of one": Unsolved(
        ("near", "next"), inside={"near": macvlan("10.61.0.1/24"), "next": address("10.61.0.2/24")}
    ),
    "eth0 a port of a bridge inside": Unsolved(("cl1", "hosted"), inside={"cl1": INNER_BRIDGE}),
    "a tunnel between containers": Unsolved(
        ("cl1", "cl2"), f"iptables -w -I {TUNNEL}", f"iptables -w -D {TUNNEL}",
        {"cl1": vxlan("10.100.7.12", "10.13.0.1/24"), "cl2": vxlan("10.100.7.11", "10.13.0.2/24")},
    ),
    "a cable between bridges": Unsolved(
        ("cl1", "near"),
        "ip link add cable0 type veth peer name cable1; ip link set cable0 master brone up;"
        " ip link set cable1 master brc up; sleep 1",
        "ip link del cable0", {"cl1": address("10.100.1.99/24")},
    ),
    "a macvlan network on a bridge": Unsolved(
        ("lan1", "mb1"), inside={"lan1": address("10.62.0.1/24"), "mb1": address("10.62.0.2/24")}
    ),
    "a router that is no container": Unsolved(
        ("near", "far"), *ROUTER,
        {
            "near": ("ip route add 10.100.2.11 via 10.100.1.250", "ip route del 10.100.2.11"),
            "far": ("ip route add 10.100.1.11 via 10.100.2.250", "ip route del 10.100.1.11"),
        },
    ),
    "twice through the host": Unsolved(
        ("near", "far"), "iptables -w -t nat -A POSTROUTING -s 10.100.1.0/24 ! -o brone -j MASQUERADE",
        "iptables -w -t nat -F POSTROUTING", {"next": FORWARDS, "near": BY_NEXT},
    ),
    "a set that a rule adds to": Unsolved(
        ("near", "far"),
        "ipset create banned hash:ip timeout 60;"
        " iptables -w -I FORWARD -p tcp --dport 7777 -d 10.100.2.11 -j SET --add-set banned src;"
        " iptables -w -I FORWARD -m set --match-set banned src -j DROP",
        "iptables -w -D FORWARD 1; iptables -w -D FORWARD 1; ipset destroy banned",
    ),
    "a mark that a set maps": Unsolved(
        ("near", "far"),
        "ipset create marks hash:ip skbinfo; ipset add marks 10.100.1.11 skbmark 0x7;"
        " iptables -w -t mangle -A PREROUTING -j SET --map-set marks src --map-mark;"
        " iptables -w -I FORWARD -m mark --mark 7 -j DROP",
        f"{UNMARKED}; iptables -w -D FORWARD 1; ipset destroy marks",
    ),
    "tcp_fwmark_accept": Unsolved(
        ("near", "hosted"),
        f"sysctl -qw net.ipv4.tcp_fwmark_accept=1; {MARKED} -j MARK --set-mark 7;"
        " ip rule add fwmark 7 to 10.100.1.0/24 blackhole",
        f"sysctl -qw net.ipv4.tcp_fwmark_accept=0; {UNMARKED}; ip rule del fwmark 7 to 10.100.1.0/24 blackhole",
    ),
    "a TTL of 1": Unsolved(
        ("near", "far"),
        inside={"near": ("sysctl -qw net.ipv4.ip_default_ttl=1", "sysctl -qw net.ipv4.ip_default_ttl=64")},
    ),
    "one link address twice": Unsolved(
        ("near", "next"),
        inside={
            "near": (
                "ip link set eth0 address 02:42:00:00:00:77", "ip link set eth0 address 02:42:00:00:00:11"
            ),
            "next": (
                "ip link set eth0 address 02:42:00:00:00:77", "ip link set eth0 address 02:42:00:00:00:12"
            ),
        },
    ),
}  # fmt: skip


def main(words: list[str]) -> None:
    """Print what comes of the cases whose names have one of the words, of all without any."""
    with built(TOPOLOGY) as host:
        for name, case in CASES.items():
            if not words or any(word in name for word in words):
                print(f"{name}: {_told(host, name, case)}", flush=True)


def _told(host: Built, name: str, case: Unsolved) -> str:
    does = Change(name, (case.does,)), *_inside(name, case, 0)
    outcome = host.tried(does, (*_inside(name, case, 1), Change(f"{name}, undone", (case.undoes,))))
    wrong = outcome.enforced.disagreements
    of_pair = sum(told.startswith(f"{case.pair[0]} -> {case.pair[1]}:") for told in wrong)
    verdict = outcome.pair(*case.pair).verdict
    return f"{' -> '.join(case.pair)} {verdict}, {of_pair} told wrong of {len(wrong)}"


def _inside(name: str, case: Unsolved, which: int) -> Iterator[Change]:
    yield from (Change(name, (commands[which],), container) for container, commands in case.inside.items())


if __name__ == "__main__":
    main(sys.argv[1:])
