"""Routes and policy rules that are not as everybody has them, on a real engine: packets are the judge.

One host for all of them: what a case changes it puts back.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from exporter.evaluate.enforced.gateways import SILENT
from exporter.evaluate.enforced.routing import OF_TOS, TOUCHED, UNHEEDED
from exporter.evaluate.enforced.segments import BEYOND
from exporter.evaluate.enforced.stack import FORMER
from exporter.evaluate.enforced.walk import LEARNED
from exporter.evaluate.enforced.way import SEVERAL_DEFAULTS, TUNNELLED
from exporter.evaluate.enforced.ways import CONNECTED
from tests.conformance.routed import both, dual_stack, let_through
from tests.lab import Container, Topology

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.conformance.runner import Built, Outcome

pytestmark = pytest.mark.lab

TOPOLOGY = Topology(
    networks=dual_stack("one", "two"),
    containers=(
        Container("near", "one", flags=("--ip=10.100.1.11", "--ip6=fd00:a::11")),
        Container("next", "one", flags=("--ip=10.100.1.12", "--ip6=fd00:a::12")),
        Container("far", "two", flags=("--ip=10.100.2.11", "--ip6=fd00:b::11")),
        Container("hosted", "host"),
    ),
    host=let_through("-F POSTROUTING"),
)
NEAR, FAR, NEAR_V6, FAR_V6 = "10.100.1.11", "10.100.2.11", "fd00:a::11", "fd00:b::11"
ALL = "icmp tcp udp"
MAPPED = "::ffff:10.7.0.1"


@dataclass(frozen=True, slots=True)
class Case:
    """What is done and undone on the host, and inside of containers.

    `arrives` is by which protocols packets from one container to an address do, `doubts` what is not known.
    """

    arrives: Mapping[tuple[str, str], str]
    does: str = "true"
    undoes: str = "true"
    inside: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    doubts: frozenset[str] = frozenset()


RULES = {0: "local", 32766: "main", 32767: "default"}
PREFERRED = "ip -6 address change fd00:a::11/64 dev eth0 preferred_lft forever"
BY_ANOTHER_ADDRESS = (
    "ip address add 10.100.1.77/24 dev eth0; ip route replace default via 10.100.1.99;"
    " ip route append default via 10.100.1.1 src 10.100.1.77"
)
DEFAULT_OF_ONE = "ip -6 route del default; ip -6 route add default from fd00:a::/64 via fd00:a::1 dev eth0"
BY_SENDER = "rule add from {} table 77; ip {} route add blackhole default table 77"
BY_NOBODY = "ip -6 rule add pref 5 lookup 77; ip -6 route add fd00:b::/64 via fd00:a::99 table 77"
FORWARDS = "sysctl -qw net.ipv6.conf.all.forwarding=1", "sysctl -qw net.ipv6.conf.all.forwarding=0"
AT_NOBODY = "ip neigh replace fd00:a::99 lladdr 02:00:5e:00:53:01 dev eth0 nud permanent"
TAKEN = ("ip {0} route add local {1} dev lo{2}", "ip {0} route del local {1} dev lo{2}")
SHARED = "two that answer for fd00:a::"
SHUT = (
    "iptables -w -{0} INPUT -d 10.100.1.11 -j DROP",
    "ip6tables -w -{0} INPUT -p tcp -j DROP",
    "ip6tables -w -{0} INPUT -p udp -j DROP",
)
PAST_GROUP = "; ".join(
    f"ip {of} rule add lookup main suppress_ifgroup 7 pref 100;"
    f" ip {of} rule add unreachable from {near} to {far} pref 200"
    for of, near, far in (("-4", NEAR, FAR), ("-6", NEAR_V6, FAR_V6))
)
MARKED = "iptables -w -t mangle -{} PREROUTING -s 10.100.1.11 -p tcp --dport 80 -j MARK --set-mark 1"


def takes(prefix: str, *, table: str = "") -> tuple[str, str]:
    """Return what makes a namespace take packets to addresses that none of its interfaces has, and what undoes that."""
    family, where = "-6" if ":" in prefix else "", f" table {table}" if table else ""
    return tuple(each.format(family, prefix, where) for each in TAKEN)  # type: ignore[return-value]


def by_gateways(*routes: str) -> tuple[str, str]:
    """Return what makes routes of IPv6 beside each other, and what undoes that."""
    do, undo = (tuple(f"ip -6 route {verb} {route}" for route in routes) for verb in ("append", "del"))
    return "; ".join(do), "; ".join(undo)


def by_rule(rule: str, prefix: str) -> tuple[str, str]:
    """Return what makes it take those that a policy rule is for."""
    family = "-6" if ":" in prefix else ""
    do, undo = takes(prefix, table="100")
    return f"ip {family} rule add {rule} pref 5 lookup 100; {do}", f"ip {family} rule del pref 5; {undo}"


CASES: Mapping[str, Case] = {
    "several default routes": Case(
        {},
        inside={
            "near": (
                "ip route replace default via 10.100.1.99; ip route append default via 10.100.1.1",
                "ip route del default; ip route replace default via 10.100.1.1",
            )
        },
        doubts=frozenset({SEVERAL_DEFAULTS}),
    ),
    "several default routes by which packets come from different addresses": Case(
        {},
        "iptables -w -I FORWARD -s 10.100.1.11 -d 10.100.2.11 -j DROP",
        "iptables -w -D FORWARD 1",
        {
            "near": (
                BY_ANOTHER_ADDRESS,
                "ip route del default; ip route replace default via 10.100.1.1; ip address del 10.100.1.77/24 dev eth0",
            )
        },
        frozenset({SEVERAL_DEFAULTS}),
    ),
    "several default routes, one of which is better": Case(
        {("near", FAR): ALL},
        inside={"near": ("ip route add default via 10.100.1.99 metric 9", "ip route del default via 10.100.1.99")},
    ),
    "a deprecated address": Case(
        {("near", FAR_V6): ALL},
        "ip6tables -w -I FORWARD -s fd00:b:1::1 -j DROP", "ip6tables -w -D FORWARD -s fd00:b:1::1 -j DROP",
        {
            "near": (
                "ip -6 address add fd00:b:1::1/32 dev eth0 nodad preferred_lft 0; ip -6 route del fd00:b::/32 dev eth0",
                "ip -6 address del fd00:b:1::1/32 dev eth0",
            )
        },
    ),
    "a deprecated address, and one of another interface": Case(
        {("near", FAR_V6): "icmp udp"},
        "ip6tables -w -I FORWARD -s fd00:a::11 -p udp -j DROP", "ip6tables -w -D FORWARD -s fd00:a::11 -p udp -j DROP",
        {
            "near": (
                "ip -6 address add fd00:99::1/128 dev lo; ip -6 address change fd00:a::11/64 dev eth0 preferred_lft 0",
                f"{PREFERRED}; ip -6 address del fd00:99::1/128 dev lo",
            )
        },
    ),
    "a route for some senders, inside": Case(
        {("near", FAR_V6): ALL, ("far", NEAR_V6): ALL},
        inside={
            "near": (
                DEFAULT_OF_ONE,
                "ip -6 route del default from fd00:a::/64; ip -6 route add default via fd00:a::1 dev eth0",
            )
        },
    ),
    # sockets find a route before they have a source, and answers have one
    "a route for some senders beside one for all, inside": Case(
        {("near", FAR_V6): ALL, ("far", NEAR_V6): "icmp udp"},
        inside={
            "near": (
                "ip -6 route add blackhole default from fd00:a::/64",
                "ip -6 route del blackhole default from fd00:a::/64",
            )
        },
    ),
    "a route for some senders": Case(
        {("near", FAR_V6): ALL},
        "ip -6 route add fd00:b::11 from fd00:a::/64 dev brtwo",
        "ip -6 route del fd00:b::11 from fd00:a::/64 dev brtwo",
    ),
    "a route for fewer senders": Case(
        {("near", FAR_V6): ALL, ("next", FAR_V6): ""},
        "ip -6 route add blackhole fd00:b::11 from fd00:a::/64; ip -6 route add fd00:b::11 from fd00:a::11 dev brtwo",
        "ip -6 route del blackhole fd00:b::11 from fd00:a::/64; ip -6 route del fd00:b::11 from fd00:a::11 dev brtwo",
    ),
    "a route for all beside one for other senders": Case(
        {("near", FAR_V6): ALL},
        "ip -6 route add blackhole fd00:b::11; ip -6 route add fd00:b::11 from fd00:c::/64 dev brtwo",
        "ip -6 route del blackhole fd00:b::11; ip -6 route del fd00:b::11 from fd00:c::/64 dev brtwo",
    ),
    # of IPv4, sockets that are connected ask again
    "a policy rule for senders, inside": Case(
        {("near", FAR): "icmp udp", ("far", NEAR): "icmp udp"},
        inside={
            "near": (
                f"ip {BY_SENDER.format(NEAR, '')}", f"ip rule del from {NEAR} table 77; ip route flush table 77"
            )
        },
        doubts=frozenset({CONNECTED}),
    ),
    "a policy rule of IPv6 for senders, inside": Case(
        {("near", FAR_V6): ALL, ("far", NEAR_V6): "icmp udp"},
        inside={
            "near": (
                f"ip -6 {BY_SENDER.format(NEAR_V6, '-6')}",
                f"ip -6 rule del from {NEAR_V6} table 77; ip -6 route flush table 77",
            )
        },
    ),
    "a policy rule of IPv6 deleted": Case(
        {("far", NEAR_V6): ALL},
        inside={"far": ("ip -6 rule del pref 32766", "ip -6 rule add pref 32766 table main")},
        doubts=frozenset({UNHEEDED}),
    ),
    "a policy rule of IPv6 deleted, another added for a while": Case(
        {("next", FAR_V6): ""},
        inside={
            "next": (
                "ip -6 rule del pref 32766; ip -6 rule add pref 9 fwmark 9 table 99; ip -6 rule del pref 9",
                "ip -6 rule add pref 32766 table main",
            )
        },
        doubts=frozenset({UNHEEDED}),
    ),
    "no policy rule of IPv4": Case(
        {("near", "10.100.1.12"): "", ("near", FAR_V6): ALL},
        inside={
            "near": (
                "ip rule flush; ip rule del pref 0",
                "; ".join(f"ip rule add pref {number} table {name}" for number, name in RULES.items()),
            )
        },
    ),
    "preferences of routes": Case(
        {("near", FAR_V6): ALL},
        "ip -6 route add fd00:b::11 dev eth10 metric 50 pref low;"
        " ip -6 route append fd00:b::11 dev brtwo metric 50 pref high",
        "ip -6 route del fd00:b::11 dev eth10; ip -6 route del fd00:b::11 dev brtwo",
    ),
    "routes that differ in nothing but their interfaces": Case(
        {("near", FAR_V6): "icmp udp"}, "ip -6 address add fd00:a::fe/64 dev brtwo nodad",
        "ip -6 address del fd00:a::fe/64 dev brtwo",
    ),
    "routes by type of service": Case(
        {("near", FAR): ALL, ("next", FAR): ""},
        "ip route add blackhole 10.100.2.11 tos 0x10;"
        " iptables -w -t mangle -A PREROUTING -s 10.100.1.12 -j TOS --set-tos 0x10",
        "iptables -w -t mangle -F PREROUTING; ip route del blackhole 10.100.2.11 tos 0x10",
        doubts=frozenset({OF_TOS.format(tos="0x10")}),
    ),
    "routes by type of service that lead the same way": Case(
        {("near", FAR): ALL},
        "ip route add 10.100.2.11 tos 0x10 dev brtwo src 10.100.2.1", "ip route del 10.100.2.11 tos 0x10",
    ),
    "next hops by id": Case(
        {("near", FAR): ""},
        "sysctl -qw net.ipv4.nexthop_compat_mode=0; ip nexthop add id 7 dev brone; ip route add 10.100.2.11 nhid 7",
        "ip route del 10.100.2.11; ip nexthop del id 7; sysctl -qw net.ipv4.nexthop_compat_mode=1",
    ),
    "groups of next hops by id": Case(
        {("near", FAR): ALL, ("near", FAR_V6): ""},
        "sysctl -qw net.ipv4.nexthop_compat_mode=0; ip nexthop add id 7 dev brtwo; ip nexthop add id 8 group 7;"
        " ip nexthop add id 9 blackhole; ip -6 nexthop add id 10 blackhole;"
        " ip route add 10.100.2.11 nhid 8; ip -6 route add fd00:b::11 nhid 10",
        "ip route del 10.100.2.11; ip -6 route del fd00:b::11; ip nexthop flush;"
        " sysctl -qw net.ipv4.nexthop_compat_mode=1",
    ),
    "a gateway of IPv6": Case(
        {("near", FAR): ALL}, "ip route add 10.100.2.11 via inet6 fd00:b::11 dev brtwo", "ip route del 10.100.2.11"
    ),
    "a gateway of IPv6 that nobody is": Case(
        {("near", FAR): ""}, "ip route add 10.100.2.11 via inet6 fd00:b::99 dev brtwo", "ip route del 10.100.2.11"
    ),
    "a gateway of IPv6, inside": Case(
        {("near", FAR): ALL, ("far", NEAR): ALL},
        inside={"near": ("ip route replace default via inet6 fd00:a::1", "ip route replace default via 10.100.1.1")},
    ),
    "a gateway of IPv6 that answers no questions": Case(
        {("near", FAR): "", ("near", FAR_V6): ""},
        "ip route add 10.100.2.11 via inet6 fd00:b::11 dev brtwo", "ip route del 10.100.2.11",
        {"far": ("ip link set eth0 arp off", "ip link set eth0 arp on; ip -6 route add default via fd00:b::1 || true")},
        frozenset({LEARNED}),  # the host's, of who looks for a router
    ),
    # of the bridge's two addresses the one that suits who the packets are for
    "masquerading on the way to a gateway of IPv6": Case(
        {("near", "10.77.0.1"): ALL},
        "ip address add 10.77.0.2/24 dev brtwo; ip route replace 10.77.0.0/24 via inet6 fd00:b::11 dev brtwo;"
        " iptables -w -t nat -A POSTROUTING -o brtwo -j MASQUERADE",
        "iptables -w -t nat -F POSTROUTING; ip address del 10.77.0.2/24 dev brtwo",
        {
            "far": (
                "ip address add 10.77.0.1/32 dev lo; iptables -w -A INPUT -s 10.100.2.1 -j DROP",
                "ip address del 10.77.0.1/32 dev lo; iptables -w -F INPUT",
            )
        },
    ),
    # who is no address of the table local gets no further than the first packet
    "a local route of another table": Case(
        {("near", FAR): "icmp tcp udp"},
        f"ip rule add fwmark 1 lookup 100; ip route add local default dev lo table 100; {MARKED.format('A')}",
        f"{MARKED.format('D')}; ip rule del fwmark 1 lookup 100; ip route flush table 100",
    ),
    "a gateway of IPv6 that nobody is, beside a route for more": Case(
        {},
        inside={"near": by_gateways("fd00:b::/64 via fd00:a::99")},
        doubts=frozenset({SILENT.format(address="fd00:a::99")}),
    ),
    "a gateway of IPv6 that nobody is, beside one that nobody is": Case(
        {("near", FAR_V6): ""},
        inside={"near": by_gateways("fd00:b::/64 via fd00:a::99 metric 10", "fd00:b::/64 via fd00:a::98 metric 20",
                                    "blackhole fd00:b::/64 metric 30")},
    ),
    # once the first metric is in vain, the most preferred of all others is next
    "a gateway of IPv6 that nobody is, beside a preferred one": Case(
        {},
        inside={"near": by_gateways("fd00:b::/64 via fd00:a::99 metric 10", "blackhole fd00:b::/64 metric 20",
                                    "fd00:b::/64 via fd00:a::1 metric 30 pref high")},
        doubts=frozenset({SILENT.format(address="fd00:a::99")}),
    ),
    "a gateway of IPv6 that nobody is, of another table": Case(
        {("near", FAR_V6): ""},
        inside={"near": (BY_NOBODY, "ip -6 rule del pref 5; ip -6 route flush table 77")},
    ),
    "a gateway of IPv6 that nobody is, beside a route of the same table that says to look on": Case(
        {},
        inside={
            "near": (
                f"{BY_NOBODY}; ip -6 route add throw default table 77",
                "ip -6 rule del pref 5; ip -6 route flush table 77",
            )
        },
        doubts=frozenset({SILENT.format(address="fd00:a::99")}),
    ),
    "a gateway of IPv6 that does not pass packets on, beside a route for more": Case(
        {("near", FAR_V6): ""}, inside={"near": by_gateways("fd00:b::/64 via fd00:a::12")}
    ),
    "a gateway of IPv6 that nobody is and whose link address is fixed, beside a route for more": Case(
        {("near", FAR_V6): ""},
        inside={
            "near": both((AT_NOBODY, "ip neigh del fd00:a::99 dev eth0"), by_gateways("fd00:b::/64 via fd00:a::99"))
        },
    ),
    # who passes packets on waits for any gateway
    "a gateway of IPv6 that nobody is, inside of who forwards": Case(
        {("near", FAR_V6): ""},
        inside={
            "near": both(FORWARDS, by_gateways("fd00:b::/64 via fd00:a::99"))
        },
        doubts=frozenset({SHARED}),
    ),
    "gateways of IPv6 that nobody is, beside routes for more": Case(
        {},
        "sysctl -qw net.ipv6.conf.all.forwarding=0; ip -6 route add fd00:b::11 via fd00:a::99;"
        " ip -6 route add fd00:a::11 via 2001:db8:100::99",
        "ip -6 route del fd00:b::11; ip -6 route del fd00:a::11; sysctl -qw net.ipv6.conf.all.forwarding=1",
        doubts=frozenset({SILENT.format(address="fd00:a::99"), BEYOND.format(name="eth0")}),
    ),
    "routes that a policy rule passes over, for the group that they lead to": Case(
        {("near", FAR): "", ("near", FAR_V6): "", ("far", NEAR): "icmp udp", ("far", NEAR_V6): "icmp udp"},
        f"ip link set brtwo group 7; {PAST_GROUP}",
        "ip link set brtwo group 0; for of in -4 -6; do ip $of rule del pref 100; ip $of rule del pref 200; done",
    ),
    "a source of IPv4 in the shape of IPv6, which nobody takes": Case(
        {("near", FAR_V6): "", ("next", FAR_V6): ALL},
        inside={
            "near": (
                f"ip -6 address add {MAPPED} dev eth0 nodad; ip -6 route add fd00:b::/64 via fd00:a::1 src {MAPPED}",
                f"ip -6 route del fd00:b::/64; ip -6 address del {MAPPED}/128 dev eth0",
            )
        },
    ),
    # TCP is for one alone
    "anycast": Case(
        {("near", "fd00:a::"): "icmp udp", ("far", "fd00:a::"): "icmp udp", ("near", "fd00:b::"): "icmp udp"}
    ),
    "anycast, all others shut": Case(
        {("near", "fd00:a::"): "icmp udp", ("near", "fd00:a::1"): "icmp", ("near", "fd00:b::"): "icmp"},
        "for own in fd00:a::1 fd00:b::/64 fe80::/10 2001:db8:100::/64; do"
        " ip6tables -w -I INPUT -p udp -d $own -j DROP; ip6tables -w -I INPUT -p tcp -d $own -j DROP; done",
        "ip6tables -w -F INPUT",
    ),
    "anycast, passed on to one": Case(
        {("near", "fd00:a::"): ALL, ("far", "fd00:a::"): "icmp tcp"},
        "for port in 80 7777; do"
        " ip6tables -w -t nat -A PREROUTING -p tcp -d fd00:a:: --dport $port -j DNAT --to [fd00:a::12]:80; done;"
        " ip6tables -w -t raw -A PREROUTING -m addrtype --dst-type ANYCAST -p udp -i brtwo -j DROP;"
        " ip6tables -w -t raw -A PREROUTING -m addrtype --dst-type LOCAL -p tcp -i brtwo -j DROP",
        "ip6tables -w -t nat -F PREROUTING; ip6tables -w -t raw -F PREROUTING",
    ),
    "anycast that is passed on to": Case(
        {("near", "fd00:b::1"): "icmp tcp udp"},
        "for protocol in tcp udp; do ip6tables -w -t nat -A PREROUTING -p $protocol -d fd00:b::1 --dport 80 -j DNAT"
        " --to fd00:a::; done",
        "ip6tables -w -t nat -F PREROUTING",
    ),
    "anycast of several": Case(
        {},
        inside={"near": FORWARDS},
        doubts=frozenset({SHARED}),
    ),
    "anycast of one who forwards where the host does not": Case(
        {("next", "fd00:a::"): "icmp udp", ("far", "fd00:a::"): ""},
        "sysctl -qw net.ipv6.conf.all.forwarding=0",
        "sysctl -qw net.ipv6.conf.all.forwarding=1",
        {"near": FORWARDS},
    ),
    "anycast of one whose answers are lost": Case(
        {("near", "fd00:a::"): "", ("far", "fd00:a::"): "icmp udp"},
        "ip6tables -w -A OUTPUT -p ipv6-icmp --icmpv6-type neighbor-advertisement -s fd00:a::1 -o brone -j DROP",
        "ip6tables -w -F OUTPUT",
        doubts=frozenset({LEARNED}),
    ),
    "anycast of a link, all others shut": Case(
        {("near", "fe80::"): "icmp udp", ("near", "fd00:a::"): "icmp"},
        "for own in '-d fd00::/8' '-d 2001:db8:100::/64'"
        " '-m iprange --dst-range fe80::1-fe80::ffff:ffff:ffff:ffff'; do"
        " ip6tables -w -I INPUT -p udp $own -j DROP; ip6tables -w -I INPUT -p tcp $own -j DROP; done",
        "ip6tables -w -F INPUT",
    ),
    "anycast, as who sends to it sees it": Case(
        {("near", "fd00:a::"): "icmp", ("next", "fd00:a::"): "icmp udp", ("near", "fd00:b::"): "icmp udp"},
        inside={
            "near": (
                "ip6tables -w -A OUTPUT -m addrtype --dst-type ANYCAST -p udp -j DROP", "ip6tables -w -F OUTPUT"
            )
        },
    ),
    "anycast that somebody made": Case(
        {("near", "fd00:a::77"): "icmp udp", ("next", "fd00:a::77"): "", ("far", "fd00:a::77"): ""},
        inside={
            "next": ("ip -6 route add anycast fd00:a::77 dev eth0", "ip -6 route del anycast fd00:a::77 dev eth0"),
            "near": ("ip -6 route add fd00:a::77 via fd00:a::12", "ip -6 route del fd00:a::77"),
        },
    ),
    "anycast that somebody made, by loopback": Case(
        {("near", "fd00:a::77"): ""},
        inside={
            "next": ("ip -6 route add anycast fd00:a::77 dev lo", "ip -6 route del anycast fd00:a::77 dev lo"),
            "near": ("ip -6 route add fd00:a::77 via fd00:a::12", "ip -6 route del fd00:a::77"),
        },
    ),
    "anycast that somebody made of a neighbour's address": Case(
        {("near", "fd00:a::12"): ALL, ("next", NEAR_V6): ALL},
        inside={
            "near": ("ip -6 route add anycast fd00:a::12 dev eth0", "ip -6 route del anycast fd00:a::12 dev eth0")
        },
    ),
    "anycast that the host has of others' addresses": Case(
        {("far", "fd00:a::12"): "icmp udp", ("near", "fd00:a::12"): ALL, ("near", FAR): ""},
        "ip -6 route add anycast fd00:a::12 dev brone; ip route add anycast 10.100.2.11 dev brtwo",
        "ip -6 route del anycast fd00:a::12 dev brone; ip route del anycast 10.100.2.11 dev brtwo",
        doubts=frozenset({FORMER}),
    ),
    "unicast, whoever has it": Case(
        {("near", "fd00:a::"): "icmp", ("near", "fd00:a::1"): "icmp tcp"},
        "ip6tables -w -A INPUT -m addrtype --dst-type UNICAST -p udp -j DROP", "ip6tables -w -F INPUT",
    ),
    # the host's own comes first
    "anycast of several, beyond a router": Case(
        {("near", "fd00:b::"): "icmp udp", ("next", "fd00:b::"): "icmp udp"}, inside={"far": FORWARDS}
    ),
    "anycast by a route that somebody made": Case(
        {("near", "fd00:a::77"): "", ("far", "fd00:a::77"): "icmp udp"},
        "ip -6 route add anycast fd00:a::77 dev brone", "ip -6 route del anycast fd00:a::77 dev brone table local",
    ),
    # since Linux 5.3
    "an address of 0.0.0.0/8": Case(
        {("far", "0.1.2.3"): ALL, ("near", "0.1.2.3"): ALL},
        "ip route add 0.1.2.3 via 10.100.1.11; iptables -w -I FORWARD -m addrtype --dst-type BROADCAST -j DROP;"
        " iptables -w -I FORWARD -m addrtype ! --dst-type UNICAST -j DROP",
        "ip route del 0.1.2.3; iptables -w -D FORWARD 1; iptables -w -D FORWARD 1",
        {"near": ("ip address add 0.1.2.3/32 dev lo", "ip address del 0.1.2.3/32 dev lo")},
    ),
    "a whole local route": Case({("near", "10.91.0.5"): ALL, ("host", "10.91.0.5"): ALL}, *takes("10.91.0.0/24")),
    "a whole local route of IPv6": Case({("near", "2001:db8:91::5"): ALL}, *takes("2001:db8:91::/64")),
    "a whole local route, inside": Case(
        {("far", "10.92.0.5"): ALL, ("far", NEAR): "", ("far", NEAR_V6): "icmp"},
        "ip route add 10.92.0.0/24 via 10.100.1.11", "ip route del 10.92.0.0/24",
        {
            "near": (
                "; ".join((takes("10.92.0.0/24")[0], *(each.format("A") for each in SHUT))),
                "; ".join((takes("10.92.0.0/24")[1], *(each.format("D") for each in SHUT))),
            )
        },
    ),
    "a whole local route of IPv6, inside": Case(
        {("far", "2001:db8:92::5"): ALL},
        "ip -6 route add 2001:db8:92::/64 via fd00:a::11", "ip -6 route del 2001:db8:92::/64",
        {"near": takes("2001:db8:92::/64")},
    ),
    "a local route to an address that no interface has": Case(
        {("far", "10.93.0.7"): ALL},
        "ip route add 10.93.0.7 via 10.100.1.11", "ip route del 10.93.0.7",
        {"near": takes("10.93.0.7")},
    ),
    # ARP asks the routes, neighbour discovery the interfaces
    "whole local routes to a part of the network": Case(
        {("next", "10.100.1.133"): ALL, ("far", "10.100.1.133"): ALL, ("next", "fd00:a::1:5"): ""},
        inside={
            "near": (
                f"{takes('10.100.1.128/25')[0]}; {takes('fd00:a::1:0/112')[0]}",
                f"{takes('10.100.1.128/25')[1]}; {takes('fd00:a::1:0/112')[1]}",
            )
        },
    ),
    "whole local routes of two to a part of the network": Case(
        {("far", "10.100.1.133"): ALL},
        inside={"near": takes("10.100.1.128/25"), "next": takes("10.100.1.192/26")},
        doubts=frozenset({"two that answer for 10.100.1.192"}),
    ),
    "a local route that a longer one is a part of": Case(
        {("near", "10.97.0.5"): ALL, ("near", "10.97.0.0"): ALL},
        "ip route add local 10.97.0.0/24 dev lo; ip route add 10.97.0.5 via 10.100.2.11",
        "ip route del 10.97.0.5; ip route del local 10.97.0.0/24 dev lo",
        {"far": ("ip address add 10.97.0.5/32 dev lo", "ip address del 10.97.0.5/32 dev lo")},
        frozenset({TOUCHED}),
    ),
    "packets in packets": Case(
        {("near", FAR): ALL},
        "ip route add 10.100.2.11/32 encap ip id 5 dst 10.100.2.1 dev brtwo",
        "ip route del 10.100.2.11/32", doubts=frozenset({TUNNELLED}),
    ),
    "a whole local route to a part of the network, arp_ignore": Case(
        {("next", "10.100.1.133"): ""},
        inside={
            "near": (
                f"{takes('10.100.1.128/25')[0]}; sysctl -qw net.ipv4.conf.all.arp_ignore=3",
                f"{takes('10.100.1.128/25')[1]}; sysctl -qw net.ipv4.conf.all.arp_ignore=0",
            )
        },
    ),
    "a whole local route for some who ask": Case(
        {("next", "10.100.1.133"): "icmp udp", ("far", "10.100.1.133"): ""},
        inside={"near": by_rule("from 10.100.1.12", "10.100.1.128/25")},
    ),
    "a whole local route of another table": Case(
        {("near", "10.94.0.5"): "icmp udp"}, *by_rule("iif brone", "10.94.0.0/24")
    ),
    "a whole local route of IPv6, of another table": Case(
        {("near", "2001:db8:94::5"): ALL}, *by_rule("iif brone", "2001:db8:94::/64")
    ),
    "parts of a whole local route that rules tell apart": Case(
        {("far", "10.95.0.5"): "", ("far", "10.95.0.69"): "icmp udp", ("far", "10.95.0.133"): ALL},
        "ip route add 10.95.0.0/24 via 10.100.1.11; iptables -w -I FORWARD -p tcp -d 10.95.0.64/26 -j DROP;"
        " iptables -w -I FORWARD -d 10.95.0.5 -j DROP",
        "iptables -w -D FORWARD -d 10.95.0.5 -j DROP; iptables -w -D FORWARD -p tcp -d 10.95.0.64/26 -j DROP;"
        " ip route del 10.95.0.0/24",
        {"near": takes("10.95.0.0/24")},
    ),
    "parts of a whole local route that routes tell apart": Case(
        {("far", "10.96.0.5"): ALL, ("far", "10.96.0.133"): ""},
        "ip route add 10.96.0.0/24 via 10.100.1.11; ip route add blackhole 10.96.0.128/25",
        "ip route del blackhole 10.96.0.128/25; ip route del 10.96.0.0/24",
        {"near": takes("10.96.0.0/24")},
    ),
}  # fmt: skip


def arrivals(outcome: Outcome, source: str, address: str) -> str:
    """Return by which protocols packets from a container to an address arrive somewhere."""
    told = (each for each in outcome.truth.packets.arrived if (each.source, each.address) == (source, address))
    return " ".join(sorted({each.protocol for each in told}))


@pytest.mark.parametrize("name", CASES)
def test_packets_agree(host: Built, name: str) -> None:
    """Packets do what the verdicts say, which are certain but where the kernel does not tell what it goes by."""
    case = CASES[name]
    outcome = host.done(name, case.does, case.undoes, case.inside)
    assert outcome.report.missing == {}
    assert outcome.enforced.disagreements == ()
    assert outcome.unlike == ()
    assert {*outcome.enforced.doubts} == case.doubts
    assert {ends: arrivals(outcome, *ends) for ends in case.arrives} == case.arrives
