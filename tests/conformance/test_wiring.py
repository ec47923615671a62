"""Interfaces that no engine made, on the host and inside of containers: packets are the judge.

One host for all of them: what a case changes it puts back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from exporter.evaluate.enforced.walk import LEARNED
from exporter.model.reach import Verdict
from tests.conformance.cases import Case
from tests.conformance.routed import both, dual_stack, let_through
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


def without_ipv6(made: tuple[str, str]) -> tuple[str, str]:
    """Return how a container gets a macvlan that has no addresses of IPv6, and how it goes."""
    does, undoes = made
    return f"{does}; sysctl -qw net.ipv6.conf.mv0.disable_ipv6=1", undoes


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


NONE_PASSES = "iptables -w -D FORWARD -j ACCEPT", "iptables -w -I FORWARD -j ACCEPT"
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


def nobodys(*ends: str, then: str = "true") -> tuple[str, str]:
    """Return how a namespace that is no container's gets cables, and does more `then`, and how it goes.

    Of each cable is told where the one end is plugged in, and the addresses of the other: `master brone; 10.0.0.1/24`.
    The namespace passes packets on.
    """
    made = ["ip netns add rtr", f"{RTR} sysctl -qw {SWITCHED_ON}"]
    for number, end in enumerate(ends, 1):
        place, *told = end.split("; ")
        made.append(f"ip link add r{number} type veth peer name p{number} netns rtr; ip link set r{number} {place}")
        made.append(f"ip -n rtr link set p{number} up")
        made += [f"ip -n rtr address add {each} dev p{number}" for each in told]
        made += [f"ip link set r{number} up"] if place.startswith("master") else []
    # what a namespace takes along goes a while after it
    gone = [f"ip -n rtr link del p{number} || true" for number, _ in enumerate(ends, 1)]
    return "; ".join((*made, then, "sleep 2")), "; ".join((*gone, "ip netns del rtr"))


def routes(*told: str) -> tuple[str, str]:
    """Return how somebody gets routes, and loses those that he still has."""
    return "; ".join(f"ip route add {each}" for each in told), "; ".join(
        f"ip route del {each} || true" for each in told
    )


def fixed(*told: str) -> tuple[str, str]:
    """Return how somebody fixes the link address of some neighbours, and forgets it."""
    mac = "lladdr 02:42:00:00:00:88 dev eth0 nud permanent"
    return "; ".join(f"ip neigh replace {each} {mac}" for each in told), "; ".join(
        f"ip neigh del {each} dev eth0" for each in told
    )


def kept_apart(by: str) -> tuple[str, str]:
    """Return a rule of the host that drops packets of both families, and how it goes."""
    told = "for tool in iptables ip6tables; do $tool -w -{} FORWARD {} -j DROP; done"
    return told.format("I", by), told.format("D", by)


def shut_near(switch: str) -> str:
    """Return how packets to link-local addresses do not pass a bridge, but for those that look for neighbours."""
    to_them = f"ip6tables -w -{switch} FORWARD -i brone -o brone -d fe80::/10 -j DROP -p"
    return "; ".join(f"{to_them} {each}" for each in ("tcp", "udp", "icmpv6 --icmpv6-type echo-request"))


LINK_LOCAL_SHUT = shut_near("I"), shut_near("D")
RTR = "ip netns exec rtr"
# whoever is told of a better way (ICMP redirects) takes that for a while
SWITCHED_ON = (
    "net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 net.ipv6.conf.default.accept_dad=0"
    " net.ipv4.conf.all.send_redirects=0 net.ipv4.conf.default.send_redirects=0"
)
ON_ONE = "master brone; 10.100.1.250/24; fd00:a::250/64"
ON_TWO = "master brtwo; 10.100.2.250/24; fd00:b::250/64"
BY_HOST = "ip -n rtr route add default via 10.100.1.1; ip -n rtr route add default via fd00:a::1"
MASQUERADES = (
    f"{RTR} iptables -w -t nat -A POSTROUTING -j MASQUERADE; {RTR} ip6tables -w -t nat -A POSTROUTING -j MASQUERADE"
)
TO_FAR = routes("10.100.2.11 via 10.100.1.250", "fd00:b::11 via fd00:a::250")
TO_NEAR = routes("10.100.1.11 via 10.100.2.250", "fd00:a::11 via fd00:b::250")
IN_BOTH = ("netns {near}; 10.64.1.254/24; fd64:1::254/64", "netns {far}; 10.64.2.254/24; fd64:2::254/64")
IN_NEAR = "ip link set r1 up; ip address add 10.64.1.1/24 dev r1; ip address add fd64:1::1/64 dev r1 nodad", "true"
IN_FAR = "ip link set r2 up; ip address add 10.64.2.1/24 dev r2; ip address add fd64:2::1/64 dev r2 nodad", "true"
TO_FARS = routes("10.64.2.1 via 10.64.1.254", "fd64:2::1 via fd64:1::254")
APART_BY_HOST = ROUTES_APART.format("I"), ROUTES_APART.format("D")
FROM_NEAR = (
    "iptables -w -{0} FORWARD -s 10.100.1.11 -o brtwo -j DROP; ip6tables -w -{0} FORWARD -s fd00:a::11 -o brtwo -j DROP"
)
NOT_FROM_NEAR = FROM_NEAR.format("I"), FROM_NEAR.format("D")
BY_SENDER = (
    (
        "ip rule add from 10.100.1.11 to 10.100.2.11 lookup 100; ip route add default via 10.100.1.250 table 100;"
        " ip -6 rule add from fd00:a::11 to fd00:b::11 lookup 100;"
        " ip -6 route add default via fd00:a::250 table 100"
    ),
    "for of in -4 -6; do ip $of rule del lookup 100; ip $of route flush table 100; done",
)
SWITCHED = ("netns {near}", "netns {far}")
SWITCH = (
    "ip -n rtr link add sw type bridge; ip -n rtr link set sw up;"
    " ip -n rtr link set p1 master sw; ip -n rtr link set p2 master sw"
)
ON_HOST = "up; 10.64.9.2/24"
ANSWERS_FOR_OTHERS = (
    "ip address add 10.64.9.1/24 dev r2; ip -n rtr route add default via 10.64.9.1;"
    f" {RTR} sysctl -qw net.ipv4.conf.p1.proxy_arp=1"
)
LEADS_TO_FAR = f"{RTR} iptables -w -t nat -A PREROUTING -d 10.100.1.250 -j DNAT --to-destination 10.100.2.11"
BESIDE_CABLE = (
    f"{RTR} sysctl -qw net.ipv4.conf.p1.arp_ignore=1; ip -n rtr link add mv0 link p1 type macvlan mode bridge;"
    " ip -n rtr link set mv0 up; ip -n rtr address add 10.100.1.251/24 dev mv0"
)
ON_LAN = (
    "ip link add mv0 link brlan netns rtr type macvlan mode bridge; ip -n rtr link set mv0 up;"
    " ip -n rtr address add {} dev mv0"
)
BRIDGED_IN_NEAR = (
    (
        "ip link add sw type bridge; ip link set r1 master sw up; ip link set sw up;"
        " ip address add 10.64.1.1/24 dev sw; ip address add fd64:1::1/64 dev sw nodad"
    ),
    "ip link del sw",
)
CROSSED = (
    "ip link add r1 index 1050 netns {near} type veth peer name p1 index 1060 netns rtr;"
    " ip link add r2 index 1060 netns {far} type veth peer name p2 index 1050 netns rtr;"
    " ip -n rtr link set p1 up; ip -n rtr link set p2 up"
)
SECOND_CABLE = (
    "ip link add cab0 type veth peer name cab1 netns {near}; ip link set cab0 master brone up",
    "ip link del cab0",
)
SECOND_CARD = "ip link set cab1 up", "true"
STRICTLY = "sysctl -qw net.ipv4.conf.all.rp_filter=1", "sysctl -qw net.ipv4.conf.all.rp_filter=0"
NOT_BY_IT = (
    "iptables -w -I FORWARD -m physdev --physdev-out cab0 -j DROP",
    "iptables -w -D FORWARD -m physdev --physdev-out cab0 -j DROP",
)
BY_MACVLAN_ALONE = "ip link set eth0 arp off", "ip link set eth0 arp on"
TO_NEARS = routes("10.64.1.1 via 10.64.2.254", "fd64:1::1 via fd64:2::254")

_TAKEN = "what a macvlan in mode {} lets through at {}"
_BOTH_ANSWER = "two that answer for 10.100.7.11"

CASES: Mapping[str, Case] = {
    "macvlan inside of two, where bridges pass nothing on": Case(
        ("cl1", "cl2"), Verdict.BLOCKED, *NONE_PASSES,
        {"cl1": without_ipv6(macvlan("10.61.0.1/24")), "cl2": without_ipv6(macvlan("10.61.0.2/24"))},
    ),
    "macvlan inside of two, where bridges pass on IPv6 alone": Case(
        ("cl1", "cl2"), Verdict.REACHABLE, *NONE_PASSES,
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
    "a second cable of one to a bridge": Case(
        ("next", "near"), Verdict.REACHABLE, *SECOND_CABLE, {"near": SECOND_CARD}
    ),
    "a second cable of one to a bridge, by which nothing may pass": Case(
        ("next", "near"), Verdict.REACHABLE, *both(SECOND_CABLE, NOT_BY_IT), {"near": SECOND_CARD},
        frozenset({"two that answer for 10.100.1.11"}),
    ),
    "a second cable of one to a bridge, who believes nobody by it": Case(
        ("next", "near"), Verdict.REACHABLE, *SECOND_CABLE, {"near": both(SECOND_CARD, STRICTLY)},
        frozenset({"two that answer for 10.100.1.11"}),
    ),
    "a macvlan inside of one, by which alone he answers": Case(
        ("next", "near"), Verdict.REACHABLE,
        inside={"near": both(without_ipv6(macvlan("10.61.0.1/24")), BY_MACVLAN_ALONE)},
    ),
    "a macvlan inside of one that takes all, while it is down": Case(
        ("hosted", "cl1"), Verdict.UNKNOWN,
        inside={"cl1": ("ip link add mv0 link eth0 type macvlan mode passthru", "ip link del mv0")},
        doubts=frozenset({_TAKEN.format("passthru", "eth0")}),
    ),
    "a macvlan inside of one that takes all": Case(
        ("hosted", "cl1"), Verdict.UNKNOWN,
        inside={"cl1": without_ipv6(macvlan("10.61.0.1/24", "passthru"))},
        doubts=frozenset({_TAKEN.format("passthru", "eth0"), _TAKEN.format("passthru", "mv0"), _BOTH_ANSWER}),
    ),
    "a macvlan inside of one for whom it lists": Case(
        ("hosted", "cl1"), Verdict.UNKNOWN,
        inside={"cl1": without_ipv6(macvlan("10.61.0.1/24", "source"))},
        doubts=frozenset({_TAKEN.format("source", "eth0"), _TAKEN.format("source", "mv0"), _BOTH_ANSWER}),
    ),
    "a macvlan for a program inside of one": Case(
        ("hosted", "cl1"), Verdict.UNKNOWN,
        inside={
            "cl1": (without_ipv6(macvlan("10.61.0.1/24"))[0].replace("macvlan mode", "macvtap mode"), "ip link del mv0")
        },
        doubts=frozenset({"what macvtap lets through at mv0", _BOTH_ANSWER}),
    ),
    "a macvlan on a bridge that takes all": Case(
        ("cl1", "hosted"), Verdict.UNKNOWN, "ip link add mv0 link brc type macvlan mode passthru", "ip link del mv0",
        doubts=frozenset({_TAKEN.format("passthru", "brc")}),
    ),
    "a macvlan on a bridge that takes all, inside of one": Case(
        ("cl1", "hosted"), Verdict.UNKNOWN,
        "ip link add mv0 link brc netns {far} type macvlan mode passthru", "true",
        {"far": ("sysctl -qw net.ipv6.conf.mv0.disable_ipv6=1; ip link set mv0 up", "ip link del mv0")},
        frozenset({_TAKEN.format("passthru", "brc")}),
    ),
    "a router that is no container": Case(
        ("near", "far"), Verdict.REACHABLE, *both(nobodys(ON_ONE, ON_TWO), APART_BY_HOST),
        {"near": TO_FAR, "far": TO_NEAR},
    ),
    "a router that is no container and masquerades": Case(
        ("near", "far"), Verdict.REACHABLE, *both(nobodys(ON_ONE, ON_TWO, then=MASQUERADES), APART_BY_HOST),
        {"near": TO_FAR},
    ),
    "a router on one bridge, to a neighbour": Case(
        ("near", "next"), Verdict.REACHABLE, *both(nobodys(ON_ONE), LINK_LOCAL_SHUT),
        inside={
            "near": routes("10.100.1.12 via 10.100.1.250", "fd00:a::12 via fd00:a::250"),
            "next": routes("10.100.1.11 via 10.100.1.250", "fd00:a::11 via fd00:a::250"),
        },
    ),
    "a router on one bridge, and the answers by another way": Case(
        ("near", "far"), Verdict.REACHABLE, *nobodys(ON_ONE, then=BY_HOST),
        inside={"near": TO_FAR},
    ),
    "a router on one bridge by which answers come back": Case(
        ("far", "near"), Verdict.REACHABLE, *nobodys(ON_ONE, then=BY_HOST),
        inside={"near": TO_FAR},
    ),
    "a router on one bridge that masquerades": Case(
        ("near", "far"), Verdict.REACHABLE,
        *both(nobodys(ON_ONE, then=f"{BY_HOST}; {MASQUERADES}"), NOT_FROM_NEAR),
        inside={"near": TO_FAR},
    ),
    "a router on one bridge, by the host's routes": Case(
        ("near", "far"), Verdict.REACHABLE, *both(nobodys(ON_ONE, then=f"{BY_HOST}; {MASQUERADES}"), BY_SENDER),
        # the host tells whoever is led back to his link to ask the router himself (ICMP redirects)
        {"near": ("true", "for of in -4 -6; do ip $of route flush cache; done")},
    ),
    "a router with cables to containers": Case(
        ("near", "far"), Verdict.REACHABLE, *both(nobodys(*IN_BOTH), kept_apart("")),
        {"near": both(IN_NEAR, TO_FARS), "far": both(IN_FAR, TO_NEARS)},
    ),
    "a router with cables to containers that masquerades": Case(
        ("near", "far"), Verdict.REACHABLE, *both(nobodys(*IN_BOTH, then=MASQUERADES), kept_apart("")),
        {"near": both(IN_NEAR, TO_FARS), "far": IN_FAR},
    ),
    "a bridge of nobody's with cables to containers": Case(
        ("near", "far"), Verdict.UNKNOWN, *both(nobodys(*SWITCHED, then=SWITCH), kept_apart("")),
        {"near": plugged("r1", "10.64.0.1/24"), "far": plugged("r2", "10.64.0.2/24")},
        frozenset({"what r1 is connected to", "what r2 is connected to"}),
    ),
    "a router with a cable to a container and one to a bridge": Case(
        ("near", "far"), Verdict.REACHABLE, *both(nobodys(ON_ONE, IN_BOTH[1]), APART_BY_HOST),
        {
            "near": routes("10.64.2.1 via 10.100.1.250", "fd64:2::1 via fd00:a::250"),
            "far": both(IN_FAR, routes("10.100.1.11 via 10.64.2.254", "fd00:a::11 via fd64:2::254")),
        },
    ),
    "a link address of a router that is no container": Case(
        ("near", "next"), Verdict.REACHABLE,
        *both(nobodys(ON_ONE, then="ip -n rtr link set p1 address 02:42:00:00:00:88"), LINK_LOCAL_SHUT),
        inside={"near": fixed("10.100.1.12", "fd00:a::12")}, doubts=frozenset({LEARNED}),
    ),
    "a router that is no container and answers for others": Case(
        ("near", "far"), Verdict.REACHABLE,
        *both(nobodys(ON_ONE, ON_HOST, then=f"{MASQUERADES}; {ANSWERS_FOR_OTHERS}"), NOT_FROM_NEAR),
        {"near": routes("10.100.2.11 dev eth0")},
    ),
    "a router that is no container and leads on what is sent to itself": Case(
        ("near", "far"), Verdict.REACHABLE,
        *both(nobodys(ON_ONE, then=f"{BY_HOST}; {MASQUERADES}; {LEADS_TO_FAR}"), NOT_FROM_NEAR),
    ),
    "a router that is no container with a macvlan on its cable": Case(
        ("near", "far"), Verdict.REACHABLE,
        *both(nobodys(ON_ONE, ON_TWO, then=f"{BESIDE_CABLE}; {MASQUERADES}"), APART_BY_HOST),
        {"near": routes("10.100.2.11 via 10.100.1.251")},
    ),
    "a router that is no container with a macvlan beside those of a network": Case(
        ("near", "mb1"), Verdict.REACHABLE, *nobodys(ON_ONE, then=ON_LAN.format("10.100.60.250/25")),
        {"near": routes("10.100.60.211 via 10.100.1.250"), "mb1": routes("10.100.1.11 via 10.100.60.250")},
    ),
    "a router that is no container with a macvlan on a bridge": Case(
        ("near", "lan1"), Verdict.UNKNOWN,
        *nobodys(ON_ONE, then=f"{ON_LAN.format('10.100.60.100/25')}; {MASQUERADES}"),
        {"near": routes("10.100.60.11 via 10.100.1.250")},
        frozenset({"what brlan is connected to", "what mv0 is connected to"}),
    ),
    "a router with a cable to a bridge inside of a container": Case(
        ("near", "far"), Verdict.REACHABLE, *both(nobodys(*IN_BOTH, then=MASQUERADES), kept_apart("")),
        {"near": both(BRIDGED_IN_NEAR, TO_FARS), "far": IN_FAR},
    ),
    "cables into a namespace that is no container's, with the indexes of one": Case(
        ("near", "far"), Verdict.BLOCKED, *both(nobodys(then=CROSSED), kept_apart("")),
        {"near": plugged("r1", "10.64.0.1/24"), "far": plugged("r2", "10.64.0.2/24")},
    ),
    "nobody's port of a bridge": Case(
        ("near", "far"), Verdict.BLOCKED, *both(nobodys(ON_ONE), APART_BY_HOST),
        {"near": routes("192.0.2.1 via 10.100.1.1"), "far": routes("10.100.1.11 via 10.100.2.99")},
    ),
    "one link address twice": Case(
        ("near", "next"), Verdict.UNKNOWN,
        inside={"near": link_address("02:42:00:00:00:11"), "next": link_address("02:42:00:00:00:12")},
        doubts=frozenset({"behind which port bridge brone looks for a link address that two have"}),
    ),
    "the link address of a bridge": Case(
        ("far", "near"), Verdict.UNKNOWN,
        "ip link set brone address 02:42:00:00:00:77", "ip link set brone address 02:42:00:00:00:78",
        {"near": link_address("02:42:00:00:00:11")},
        frozenset({"behind which port bridge brone looks for a link address that two have"}),
    ),
}  # fmt: skip


SHARED = {
    **dict.fromkeys(
        (
            "a router on one bridge, to a neighbour",
            "a router on one bridge, and the answers by another way",
            "a router on one bridge by which answers come back",
            "a router on one bridge that masquerades",
            "a router on one bridge, by the host's routes",
            "a router with a cable to a container and one to a bridge",
            "a link address of a router that is no container",
            "a router that is no container and answers for others",
            "a router that is no container and leads on what is sent to itself",
            "a router that is no container with a macvlan beside those of a network",
            "a router that is no container with a macvlan on a bridge",
            "nobody's port of a bridge",
        ),
        frozenset({"two that answer for fd00:a::"}),
    ),
    **dict.fromkeys(
        (
            "a router that is no container",
            "a router that is no container and masquerades",
            "a router that is no container with a macvlan on its cable",
        ),
        frozenset({"two that answer for fd00:a::", "two that answer for fd00:b::"}),
    ),
}
"""What is not known, beside what a case is about, of the anycast addresses that its router shares with the host."""


@pytest.mark.parametrize("name", CASES)
def test_packets_agree(host: Built, name: str) -> None:
    """Nothing is in doubt but what cannot be known, and everything else is as packets have it."""
    case = CASES[name]
    pids = {each.name: host.engine.pid_of(each.name) for each in TOPOLOGY.containers}
    # commands name the processes of containers as {near}
    outcome = host.done(name, case.does.format(**pids), case.undoes, case.inside)
    assert outcome.enforced.disagreements == ()
    assert outcome.unlike == ()
    doubts = {told for reasons in outcome.enforced.doubts for told in reasons.split("; ")}
    assert doubts == case.doubts | SHARED.get(name, frozenset())
    assert outcome.pair(*case.pair).verdict is case.verdict
