"""What rules, conntrack and sockets do that depends on other packets, on a real engine: packets are the judge.

One host for all of them: what a case changes it puts back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from exporter.evaluate.enforced.packets import SOURCE_PORT
from exporter.evaluate.enforced.walk import LEARNED
from exporter.model.reach import Verdict
from tests.conformance.cases import Case
from tests.conformance.routed import dual_stack, let_through
from tests.lab import Container, Topology

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.conformance.runner import Built


pytestmark = pytest.mark.lab

TOPOLOGY = Topology(
    networks=dual_stack("one", "two"),
    containers=(
        Container("near", "one", flags=("--ip=10.100.1.11",)),
        Container("next", "one", flags=("--ip=10.100.1.12", "--mac-address=02:42:0a:64:01:0c")),
        Container("far", "two", flags=("--ip=10.100.2.11", "--expose=7778")),
        Container("web", flags=("--publish=7776:7777",)),
        Container("hosted", "host"),
    ),
    host=(*let_through("-F POSTROUTING"), "ip6tables -w -I FORWARD -i brone -o brtwo -j DROP"),
)


NEAR_AND_FAR = "near", "far"
"""From the one to the other there is only IPv4."""


def hinging(
    does: str,
    undoes: str,
    verdict: Verdict,
    pair: tuple[str, str] = NEAR_AND_FAR,
    doubts: frozenset[str] = frozenset(),
    inside: Mapping[str, tuple[str, str]] | None = None,
) -> Case:
    """Return a case about a pair."""
    return Case(pair, verdict, does, undoes, inside or {}, doubts)


BY_LINK_ADDRESS = "-w -I INPUT -m mac --mac-source 02:42:0a:64:01:0c -j DROP"
TWENTY = "for each in $(seq 1 20); do ip address {} 10.91.0.$each/32 dev lo; done"
MARKED = "iptables -w -t mangle -A PREROUTING"
UNMARKED = "iptables -w -t mangle -F PREROUTING"
MAPPED = (
    "ipset create marks hash:ip skbinfo; ipset add marks 10.100.1.11 skbmark 0x7;"
    f" {MARKED} -j SET --map-set marks src --map-mark"
)

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
TWICE = {"next": FORWARDS, "near": BY_NEXT}
"""What near sends to others than its neighbours comes to the host as a frame for next, and again from there."""

TRANSLATED = "iptables -w -t nat -A"
MASQUERADED = f"{TRANSLATED} POSTROUTING -s 10.100.1.0/24 ! -o brone -j MASQUERADE"
NO_LONGER = "iptables -w -t nat -F POSTROUTING"
LAST = "iptables -w -t nat -D PREROUTING $(iptables -w -t nat -S PREROUTING | grep -c '^-A')"

BESIDE = (
    "nft add table inet beside; nft 'add chain inet beside forward { type filter hook forward priority -5; }';"
    " nft 'add rule inet beside forward"
)
UNDONE = "nft delete table inet beside"
MARKED_DROPPED = "iptables -w -I FORWARD -m mark --mark 7 -j DROP"
ACCEPTED = "iptables -w -D FORWARD 1"
UNFRAMED = "nft delete table bridge beside"
NATIVE_GONE = (
    "nft delete rule ip nat POSTROUTING"
    " handle $(nft -a list chain ip nat POSTROUTING | sed -n 's/.*nothing.*handle //p')"
)
AT_LOOPBACK = "{{ type filter hook {} device lo priority 0; }}"
AT_ONE = "$(ls /sys/class/net/brone/brif)"

ACCEPTS = "sysctl -qw net.ipv4.tcp_fwmark_accept"


ONE_OF_SEVERAL = f"{TRANSLATED} PREROUTING -p tcp -d 192.0.2.1"


def of_frames(hook: str, rule: str) -> str:
    """Return how a rule gets into a chain of the bridge family."""
    return (
        f"nft add table bridge beside; nft 'add chain bridge beside c {{ type filter hook {hook}; }}';"
        f" nft 'add rule bridge beside c {rule}'"
    )


def sends_with(hops: int) -> tuple[str, str]:
    """Return how a namespace comes to send with so few hops, and with the usual number."""
    return f"sysctl -qw net.ipv4.ip_default_ttl={hops}", "sysctl -qw net.ipv4.ip_default_ttl=64"


def sends_by_default_with(version: int, hops: int, gateway: str = "10.100.1.1") -> tuple[str, str]:
    """Return how the default route comes to limit the hops of what is sent by it, and how it no longer does."""
    change = f"ip -{version} route change default via {gateway} dev eth0"
    return f"{change} hoplimit {hops}", change


CASES: dict[str, Case] = {
    "twice through the host": hinging(MASQUERADED, NO_LONGER, Verdict.REACHABLE, inside=TWICE),
    "twice through the host, from another address": hinging(
        MASQUERADED, NO_LONGER, Verdict.REACHABLE, inside=TWICE | {
            "next": (
                f"{FORWARDS[0]}; {TRANSLATED} POSTROUTING -s 10.100.1.11 -j MASQUERADE",
                f"{FORWARDS[1]}; {NO_LONGER}",
            ),
        },
    ),
    "twice through the host, rewritten at first": hinging(
        f"{TRANSLATED} POSTROUTING -s 10.100.1.11 -o brone -j SNAT --to-source 10.100.1.77; {MASQUERADED}", NO_LONGER,
        Verdict.REACHABLE, inside=TWICE,
    ),
    "twice through the host, led elsewhere at last": hinging(
        f"{TRANSLATED} PREROUTING -m mac --mac-source 02:42:0a:64:01:0c -d 10.100.2.11 -j DNAT --to 10.100.1.1",
        LAST, Verdict.REACHABLE, inside=TWICE,
    ),
    "twice through the host, tracked at last": hinging(
        f"iptables -w -t raw -A PREROUTING -m mac ! --mac-source 02:42:0a:64:01:0c -s 10.100.1.11 -j CT --notrack;"
        f" {MASQUERADED}",
        f"iptables -w -t raw -F PREROUTING; {NO_LONGER}", Verdict.REACHABLE, inside=TWICE,
    ),
    "twice through the host, confirmed at last": hinging(
        "iptables -w -I FORWARD -m conntrack --ctstate NEW --ctstatus CONFIRMED -j DROP", "iptables -w -D FORWARD 1",
        Verdict.BLOCKED, inside=TWICE,
    ),
    "twice through the host, marked at first": hinging(
        "iptables -w -I FORWARD -o brtwo -m connmark --mark 5 -j DROP;"
        " iptables -w -t mangle -A FORWARD -s 10.100.1.11 -o brone -j CONNMARK --set-mark 5",
        "iptables -w -D FORWARD 1; iptables -w -t mangle -F FORWARD", Verdict.BLOCKED, inside=TWICE,
    ),
    "twice through the host, to a third party": hinging(
        f"{MASQUERADED}; {TRANSLATED} PREROUTING -d 192.0.2.1 -j DNAT --to 10.100.2.11", f"{NO_LONGER}; {LAST}",
        Verdict.REACHABLE, inside=TWICE,
    ),
    "an answer twice through the host, to a third party": hinging(
        f"{TRANSLATED} PREROUTING -d 192.0.2.1 -j DNAT --to 10.100.1.11", LAST,
        Verdict.REACHABLE, ("far", "near"), inside=TWICE,
    ),
    "an answer twice through the host, to a third party, for who was asked": hinging(
        f"{TRANSLATED} PREROUTING -d 192.0.2.1 -j DNAT --to 10.100.1.11;"
        " iptables -w -I FORWARD -i brone -o brtwo -m conntrack ! --ctstate NEW,ESTABLISHED -j DROP",
        f"{LAST}; iptables -w -D FORWARD 1", Verdict.REACHABLE, ("far", "near"), inside=TWICE,
    ),
    "a mark that answers set": hinging(
        "iptables -w -I FORWARD -d 10.100.2.11 -m conntrack --ctdir ORIGINAL -m connmark --mark 5 -j DROP;"
        " iptables -w -t mangle -A FORWARD -s 10.100.2.11 -m conntrack --ctdir REPLY -j CONNMARK --set-mark 5",
        "iptables -w -D FORWARD 1; iptables -w -t mangle -F FORWARD", Verdict.REACHABLE,
    ),
    "the mark of what is accepted, by a route": hinging(
        f"{ACCEPTS}=1; {MARKED} -s 10.100.1.11 -j MARK --set-mark 7; ip rule add fwmark 7 to 10.100.1.0/24 blackhole",
        f"{ACCEPTS}=0; {UNMARKED}; ip rule del fwmark 7 to 10.100.1.0/24 blackhole",
        Verdict.REACHABLE, ("near", "hosted"),
    ),
    "the mark of what is accepted, by a rule": hinging(
        f"{ACCEPTS}=1; {MARKED} -s 10.100.1.11 -j MARK --set-mark 7; iptables -w -I OUTPUT -m mark --mark 7 -j DROP",
        f"{ACCEPTS}=0; {UNMARKED}; iptables -w -D OUTPUT 1", Verdict.REACHABLE, ("near", "hosted"),
    ),
    "the mark of what is accepted, as INPUT leaves it": hinging(
        f"{ACCEPTS}=1; iptables -w -t mangle -A INPUT -s 10.100.1.11 -j MARK --set-mark 7;"
        " iptables -w -I OUTPUT -m mark --mark 7 -j DROP",
        f"{ACCEPTS}=0; iptables -w -t mangle -F INPUT; iptables -w -D OUTPUT 1", Verdict.REACHABLE, ("near", "hosted"),
    ),
    "the mark of what is accepted, inside": hinging(
        "true", "true", Verdict.REACHABLE, ("far", "near"), inside={
            "near": (
                f"{ACCEPTS}=1; {MARKED} -j MARK --set-mark 7; ip rule add fwmark 7 blackhole",
                f"{ACCEPTS}=0; {UNMARKED}; ip rule del fwmark 7 blackhole",
            ),
        },
    ),
    "marks that answers without a socket take": hinging(
        f"sysctl -qw net.ipv4.fwmark_reflect=1; {MARKED} -s 10.100.1.11 -j MARK --set-mark 7;"
        " iptables -w -I OUTPUT -m mark --mark 7 -j DROP",
        f"sysctl -qw net.ipv4.fwmark_reflect=0; {UNMARKED}; iptables -w -D OUTPUT 1",
        Verdict.REACHABLE, ("near", "hosted"),
    ),
    "a TTL of 1": hinging("true", "true", Verdict.BLOCKED, inside={"near": sends_with(1)}),
    "a TTL of 1, of answers": hinging("true", "true", Verdict.REACHABLE, inside={"far": sends_with(1)}),
    "a TTL of 2": hinging("true", "true", Verdict.REACHABLE, inside={"near": sends_with(2)}),
    "a TTL of 2, twice through the host": hinging(
        "true", "true", Verdict.BLOCKED,
        inside=TWICE | {"near": (f"{BY_NEXT[0]}; {sends_with(2)[0]}", f"{BY_NEXT[1]}; {sends_with(2)[1]}")},
    ),
    "a TTL of 1 of the host": hinging(sends_with(1)[0], sends_with(1)[1], Verdict.REACHABLE),
    "a TTL of 1, by a route": hinging(
        "true", "true", Verdict.BLOCKED, inside={"near": sends_by_default_with(4, 1)},
    ),
    "a TTL of 64, by a route, of few": hinging(
        "true", "true", Verdict.REACHABLE, inside={
            "near": (
                f"{sends_with(1)[0]}; {sends_by_default_with(4, 64)[0]}",
                f"{sends_with(1)[1]}; {sends_by_default_with(4, 64)[1]}",
            ),
        },
    ),
    "a TTL of 1, by a route, of answers": hinging(
        "true", "true", Verdict.REACHABLE, inside={"far": sends_by_default_with(4, 1, "10.100.2.1")},
    ),
    "a hop limit of 1, by a route": hinging(
        "ip6tables -w -I FORWARD -j ACCEPT; iptables -w -I FORWARD -s 10.100.1.11 -d 10.100.2.11 -j DROP",
        "ip6tables -w -D FORWARD 1; iptables -w -D FORWARD 1",
        Verdict.BLOCKED, inside={"near": sends_by_default_with(6, 1, "fd00:a::1")},
    ),
    "a hop limit of 1": hinging(
        "true", "true", Verdict.REACHABLE, ("far", "near"), inside={
            "far": (
                "sysctl -qw net.ipv6.conf.eth0.hop_limit=1",
                "sysctl -qw net.ipv6.conf.eth0.hop_limit=64",
            ),
        },
    ),
    "to one of several ports": hinging(
        f"{ONE_OF_SEVERAL} --dport 80 -j DNAT --to-destination 10.100.2.11:7777-7778", LAST, Verdict.REACHABLE,
    ),
    "to one of several ports, some of which are closed": hinging(
        f"{ONE_OF_SEVERAL} --dport 80 -j DNAT --to-destination 10.100.2.11:7777-7778;"
        " iptables -w -I FORWARD -p tcp -d 10.100.2.11 --dport 7778 -j DROP",
        f"{LAST}; iptables -w -D FORWARD 1", Verdict.REACHABLE,
        doubts=frozenset({"which of several ports the translation takes"}),
    ),
    "to one of several ports of the host, one of which is published": hinging(
        f"{ONE_OF_SEVERAL} --dport 80 -j REDIRECT --to-ports 7776-7777", LAST, Verdict.REACHABLE,
        doubts=frozenset({"which of several ports the translation takes"}),
    ),
    "a set that a rule adds to": hinging(
        "ipset create banned hash:ip timeout 60;"
        " iptables -w -I FORWARD -p tcp --dport 7777 -d 10.100.2.11 -j SET --add-set banned src;"
        " iptables -w -I FORWARD -m set --match-set banned src -j DROP",
        "iptables -w -D FORWARD 1; iptables -w -D FORWARD 1; ipset destroy banned",
        Verdict.UNKNOWN, doubts=frozenset({"a dynamic set"}),
    ),
    "a mark that a set maps": hinging(
        f"{MAPPED}; iptables -w -I FORWARD -m mark --mark 7 -j DROP",
        f"{UNMARKED}; iptables -w -D FORWARD 1; ipset destroy marks",
        Verdict.UNKNOWN, doubts=frozenset({"a mark that may be set"}),
    ),
    "a way by a mark that a set maps": hinging(
        f"{MAPPED}; ip rule add pref 77 fwmark 7 to 10.100.2.0/24 blackhole",
        f"{UNMARKED}; ip rule del pref 77; ipset destroy marks",
        Verdict.UNKNOWN, doubts=frozenset({"policy rule 77: fwmark"}),
    ),
    "a way by a port that the sender picks": hinging(
        "ip rule add pref 77 to 10.100.2.0/24 sport 40000-50000 blackhole", "ip rule del pref 77",
        Verdict.UNKNOWN, doubts=frozenset({"policy rule 77: sport"}),
    ),
    "a way that one port is kept from, which the sender may pick": hinging(
        "ip rule add pref 77 to 10.100.2.0/24 sport 40000 blackhole", "ip rule del pref 77", Verdict.REACHABLE,
    ),
    "a port that the sender may pick": hinging(
        "iptables -w -I FORWARD -d 10.100.2.11 -p tcp --sport 40000 -j DROP;"
        " iptables -w -I FORWARD -d 10.100.2.11 -p udp -m multiport --sports 50000:50010,50020 -j DROP",
        "iptables -w -D FORWARD 1; iptables -w -D FORWARD 1", Verdict.REACHABLE,
    ),
    "a port that the sender may pick, of answers": hinging(
        "iptables -w -I FORWARD -s 10.100.2.11 -p tcp --dport 40000 -j DROP", "iptables -w -D FORWARD 1",
        Verdict.REACHABLE,
    ),
    "a port that docker-proxy may pick": hinging(
        "iptables -w -I INPUT -i docker0 -p tcp --dport 40000 -j DROP", "iptables -w -D INPUT 1",
        Verdict.REACHABLE, ("near", "web"),
    ),
    "the only port that is let through, which the sender may pick": hinging(
        "iptables -w -I FORWARD -s 10.100.1.11 -d 10.100.2.11 ! -p icmp -j DROP;"
        " iptables -w -I FORWARD -s 10.100.1.11 -d 10.100.2.11 -p tcp --sport 40000 -j ACCEPT",
        "iptables -w -D FORWARD 1; iptables -w -D FORWARD 1", Verdict.UNKNOWN, doubts=frozenset({SOURCE_PORT}),
    ),
    "a status that never comes alone": hinging(
        f"{BESIDE} ip daddr 10.100.2.11 ct status != dnat drop'", UNDONE, Verdict.BLOCKED,
    ),
    "a status that is compared as a whole": hinging(
        f"{BESIDE} ip daddr 10.100.2.11 ct status == dnat drop'", UNDONE, Verdict.REACHABLE,
    ),
    "helpers of connections that nobody expects": hinging(
        "iptables -w -I FORWARD -d 10.100.2.11 -m helper --helper ftp -j DROP;"
        " iptables -w -I FORWARD -d 10.100.2.11 -p tcp -m helper ! --helper ftp -j DROP;"
        f" {BESIDE} ip daddr 10.100.2.11 ct helper != \"ftp\" drop';"
        " nft 'add rule inet beside forward ct helper \"ftp\" drop'",
        f"iptables -w -D FORWARD 1; iptables -w -D FORWARD 1; {UNDONE}", Verdict.REACHABLE,
    ),
    "who is noted as having sent": hinging(
        "iptables -w -I FORWARD -d 10.100.2.11 -p tcp -m recent --name noted --set -j DROP;"
        " iptables -w -I FORWARD -d 10.100.2.11 -p udp -m recent --name noted ! --set -j DROP",
        "iptables -w -D FORWARD 1; iptables -w -D FORWARD 1", Verdict.REACHABLE,
    ),
    # what is passed on is of no socket, and counts as root's
    "a way of root's": hinging(
        "ip rule add pref 77 uidrange 0-0 to 10.100.2.0/24 blackhole;"
        " ip -6 rule add pref 77 uidrange 0-0 to fd00:b::/64 blackhole",
        "ip rule del pref 77; ip -6 rule del pref 77", Verdict.BLOCKED,
        doubts=frozenset({"policy rule 77: uidrange"}),
    ),
    "a way of somebody's but root's": hinging(
        "ip rule add pref 77 uidrange 1-4294967294 to 10.100.2.0/24 blackhole;"
        " ip -6 rule add pref 77 uidrange 1000-1000 to fd00:b::/64 blackhole",
        "ip rule del pref 77; ip -6 rule del pref 77", Verdict.REACHABLE,
        doubts=frozenset({"policy rule 77: uidrange"}),
    ),
    "a way of root's, by IPv6": hinging(
        "ip -6 rule add pref 77 uidrange 0-1000 to fd00:a::/64 blackhole;"
        " iptables -w -I FORWARD -i brtwo -o brone -j DROP",
        "ip -6 rule del pref 77; iptables -w -D FORWARD 1", Verdict.BLOCKED, ("far", "near"),
        doubts=frozenset({"policy rule 77: uidrange"}),
    ),
    "a way of somebody's but root's, by IPv6": hinging(
        "ip -6 rule add pref 77 uidrange 1-1000 to fd00:a::/64 blackhole;"
        " iptables -w -I FORWARD -i brtwo -o brone -j DROP",
        "ip -6 rule del pref 77; iptables -w -D FORWARD 1", Verdict.REACHABLE, ("far", "near"),
        doubts=frozenset({"policy rule 77: uidrange"}),
    ),
    "a way back of root's, in the strict sense": hinging(
        "ip rule add pref 77 uidrange 0-0 to 10.100.1.0/24 blackhole; sysctl -qw net.ipv4.conf.brone.rp_filter=1",
        "ip rule del pref 77; sysctl -qw net.ipv4.conf.brone.rp_filter=0", Verdict.BLOCKED,
        doubts=frozenset({"policy rule 77: uidrange"}),
    ),
    "a way back of root's, by a rule": hinging(
        "ip rule add pref 77 uidrange 0-0 to 10.100.1.0/24 iif lo blackhole;"
        " iptables -w -t raw -I PREROUTING -i brone -m rpfilter --invert -j DROP;"
        " ip -6 rule add pref 77 uidrange 0-0 to fd00:a::/64 iif lo blackhole;"
        " nft add table ip6 beside; nft 'add chain ip6 beside c { type filter hook prerouting priority -5; }';"
        " nft 'add rule ip6 beside c iif brone fib saddr . iif oif missing icmpv6 type != { 133-137 } drop'",
        "ip rule del pref 77; ip -6 rule del pref 77; iptables -w -t raw -D PREROUTING 1; nft delete table ip6 beside",
        Verdict.BLOCKED, doubts=frozenset({"policy rule 77: uidrange"}),
    ),
    "packets of no IPsec": hinging(
        f"{BESIDE} ip daddr 10.100.2.11 meta ipsec missing meta l4proto tcp drop';"
        " nft 'add rule inet beside forward ip daddr 10.100.2.11 rt ipsec missing meta l4proto udp drop';"
        " nft 'add rule inet beside forward ipsec in reqid != 5 drop'",
        UNDONE, Verdict.BLOCKED,
    ),
    "a cgroup of what is passed on": hinging(
        f"{BESIDE} meta cgroup != 5 drop';"
        " iptables -w -t mangle -A POSTROUTING -s 10.100.1.11 -d 10.100.2.11 -m cgroup ! --cgroup 5 -j DROP",
        f"iptables -w -t mangle -F POSTROUTING; {UNDONE}", Verdict.REACHABLE,
    ),
    "a group of interfaces": hinging(
        f"ip link set brtwo group 5; {BESIDE} oifgroup 5 meta l4proto tcp drop';"
        " iptables -w -I FORWARD -p udp -m devgroup --src-group 0x0 --dst-group 0x5 -j DROP",
        f"iptables -w -D FORWARD 1; {UNDONE}; ip link set brtwo group 0", Verdict.BLOCKED,
    ),
    "a group that nobody is in": hinging(
        f"{BESIDE} iifgroup 5 drop'; iptables -w -I FORWARD -m devgroup ! --src-group 0x0 -j DROP",
        f"iptables -w -D FORWARD 1; {UNDONE}", Verdict.REACHABLE,
    ),
    "headers that packets do not have": hinging(
        "ip6tables -w -I FORWARD -m rt --rt-type 0 -j DROP; ip6tables -w -I FORWARD -m frag --fragmore -j DROP;"
        " ip6tables -w -I FORWARD -m hbh -j DROP; ip6tables -w -I FORWARD -m dst ! --dst-len 5 -j DROP",
        "for each in 1 2 3 4; do ip6tables -w -D FORWARD 1; done", Verdict.REACHABLE, ("near", "next"),
    ),
    "chance that is none": hinging(
        "iptables -w -I FORWARD -d 10.100.2.11 -p tcp -m statistic --mode random --probability 1 -j DROP;"
        " iptables -w -I FORWARD -d 10.100.2.11 -p udp -m statistic --mode nth --every 1 --packet 0 -j DROP;"
        " iptables -w -I FORWARD -m statistic --mode random --probability 0 -j DROP",
        "for each in 1 2 3; do iptables -w -D FORWARD 1; done", Verdict.BLOCKED,
    ),
    "what is asked of a connection that is not followed": hinging(
        "iptables -w -t raw -I PREROUTING -d 10.100.2.11 -j CT --notrack;"
        " iptables -w -I FORWARD -d 10.100.2.11 -m conntrack ! --ctstatus CONFIRMED -j DROP;"
        f" {BESIDE} ip daddr 10.100.2.11 ct mark 0 drop'",
        f"iptables -w -t raw -D PREROUTING 1; iptables -w -D FORWARD 1; {UNDONE}", Verdict.REACHABLE,
    ),
    "a link address that is asked for inside": hinging(
        "true", "true", Verdict.BLOCKED, ("next", "near"), inside={
            "near": (
                f"iptables {BY_LINK_ADDRESS}; ip6tables {BY_LINK_ADDRESS}",
                "iptables -w -D INPUT 1; ip6tables -w -D INPUT 1",
            ),
        },
    ),
    "any link address but one, asked for inside": hinging(
        "true", "true", Verdict.REACHABLE, ("next", "near"), inside={
            "near": ("iptables -w -I INPUT -m mac ! --mac-source 02:42:0a:64:01:0c -j DROP",
                     "iptables -w -D INPUT 1"),
        },
    ),
    "a group of interfaces that is asked for inside": hinging(
        "true", "true", Verdict.REACHABLE, ("far", "near"), inside={
            "near": ("ip link set eth0 group 5; iptables -w -I INPUT -m devgroup --src-group 5 -j DROP",
                     "ip link set eth0 group 0; iptables -w -D INPUT 1"),
        },
    ),
    "some bits of addresses that are asked for inside": hinging(
        "true", "true", Verdict.REACHABLE, ("far", "near"), inside={
            "near": ("iptables -w -I INPUT -s 0.0.2.1/0.0.2.1 -j DROP", "iptables -w -D INPUT 1"),
        },
    ),
    "some bits of the host's addresses": hinging(
        "iptables -w -I INPUT -d 0.0.2.1/0.0.3.255 -j DROP", "iptables -w -D INPUT 1",
        Verdict.REACHABLE, ("near", "hosted"),
    ),
    "a way back that is asked for inside": hinging(
        "true", "true", Verdict.REACHABLE, ("far", "near"), inside={
            "near": (
                "ip route add blackhole 10.100.2.0/24; iptables -w -t raw -I PREROUTING -m rpfilter --invert -j DROP",
                "ip route del blackhole 10.100.2.0/24; iptables -w -t raw -D PREROUTING 1",
            ),
        },
    ),
    "everybody sent to oneself inside": hinging(
        "true", "true", Verdict.REACHABLE, inside={
            "near": (
                "iptables -w -t nat -A OUTPUT -p tcp -j REDIRECT",
                "iptables -w -t nat -D OUTPUT -p tcp -j REDIRECT",
            ),
        },
    ),
    "everybody sent to somebody else inside": hinging(
        "true", "true", Verdict.REACHABLE, ("near", "next"), inside={
            "near": ("iptables -w -t nat -A OUTPUT ! -d 127.0.0.0/8 -j DNAT --to-destination 10.100.1.12",
                     "iptables -w -t nat -D OUTPUT ! -d 127.0.0.0/8 -j DNAT --to-destination 10.100.1.12"),
        },
    ),
    "rules one by one that do the same to many, inside": hinging(
        "true", "true", Verdict.REACHABLE, ("far", "near"), inside={
            "near": ("for each in $(seq 1 2 99); do iptables -w -A INPUT -s 10.100.2.$each -j DROP; done",
                     "iptables -w -F INPUT"),
        },
    ),
    "many addresses, inside": hinging(
        "true", "true", Verdict.REACHABLE, ("next", "near"), inside={
            "near": (
                f"{TWENTY.format('add')}; iptables -w -I INPUT -d 10.91.0.8/29 -j DROP",
                f"{TWENTY.format('del')}; iptables -w -D INPUT 1",
            ),
            "next": ("ip route add 10.91.0.0/24 via 10.100.1.11", "ip route del 10.91.0.0/24"),
        },
    ),
    # what looks for neighbours has ports of the bridge as well
    "frames of the bridge alone": hinging(
        "ip6tables -w -I FORWARD -i brone -o brone -j DROP;"
        " ip6tables -w -I FORWARD -m physdev --physdev-is-bridged -j ACCEPT",
        "for each in 1 2; do ip6tables -w -D FORWARD 1; done", Verdict.REACHABLE, ("near", "next"),
    ),
    "marked alone": hinging(
        "ip6tables -w -I FORWARD -i brone -o brone -j DROP; ip6tables -w -I FORWARD -m mark --mark 7 -j ACCEPT;"
        " ip6tables -w -t mangle -A PREROUTING -i brone -j MARK --set-mark 7",
        "for each in 1 2; do ip6tables -w -D FORWARD 1; done; ip6tables -w -t mangle -F PREROUTING",
        Verdict.REACHABLE, ("near", "next"),
    ),
    "what a socket sends alone": hinging(
        "true", "true", Verdict.REACHABLE, ("near", "next"), inside={
            "near": (
                "ip6tables -w -P OUTPUT DROP; ip6tables -w -A OUTPUT -m owner --socket-exists -j ACCEPT",
                "ip6tables -w -F OUTPUT; ip6tables -w -P OUTPUT ACCEPT",
            ),
        },
    ),
    "what comes to oneself, dropped at loopback": hinging(
        f"nft add table netdev beside; nft 'add chain netdev beside in {AT_LOOPBACK.format('ingress')}';"
        f" nft 'add chain netdev beside out {AT_LOOPBACK.format('egress')}';"
        " nft 'add rule netdev beside in ip daddr 127.0.0.1 tcp dport 7776 drop';"
        " nft 'add rule netdev beside out ip6 daddr ::1 tcp dport 7776 drop'",
        "nft delete table netdev beside", Verdict.REACHABLE, ("hosted", "web"),
    ),
    "a link-local address is not local to a port": hinging(
        f"nft add table netdev beside; for port in {AT_ONE}; do"
        ' nft "add chain netdev beside $port { type filter hook ingress device $port priority 0; }";'
        ' nft "add rule netdev beside $port tcp dport { 80, 7777 } fib daddr type local drop";'
        ' nft "add rule netdev beside $port udp dport 80 fib daddr type unreachable drop"; done',
        "nft delete table netdev beside", Verdict.REACHABLE, ("near", "hosted"),
    ),
    "loopback that is down": hinging(
        "ip link set lo down", "ip link set lo up", Verdict.REACHABLE, ("hosted", "web")
    ),
    "small segments of TCP, dropped": hinging(
        "iptables -w -I FORWARD -p tcp -m tcpmss --mss 1:500 -j DROP;"
        " iptables -w -I FORWARD -p tcp -m conntrack --ctstate NEW -m tcpmss ! --mss 536:65535 -j DROP;"
        f" {BESIDE} tcp dport 7777 tcp option maxseg size 536-65535 drop';"
        " nft 'add rule inet beside forward tcp option maxseg size 1-500 drop'",
        f"iptables -w -D FORWARD 1; iptables -w -D FORWARD 1; {UNDONE}", Verdict.REACHABLE,
    ),
    # the next connection between the two would expect the same, and is lost
    "connections that expect others": hinging(
        "nft add table inet beside;"
        " nft 'add ct expectation inet beside more { protocol tcp; dport 9999; timeout 10s; size 12; l3proto ip; }';"
        " nft 'add chain inet beside forward { type filter hook forward priority -5; }';"
        ' nft \'add rule inet beside forward ip daddr 10.100.2.11 tcp dport 5432 ct expectation set "more"\'',
        UNDONE, Verdict.REACHABLE, doubts=frozenset({"ct expectation"}),
    ),
    "a verdict that is drawn": hinging(
        f"{BESIDE} ip saddr 10.100.1.11 numgen random mod 2 vmap {{ 0 : drop, 1 : accept }}'", UNDONE,
        Verdict.UNKNOWN, doubts=frozenset({"numgen"}),
    ),
    # who looks for a neighbour of IPv6 asks a group
    "what groups get, dropped": hinging(
        "ip6tables -w -I FORWARD -m pkttype --pkt-type multicast -j DROP", "ip6tables -w -D FORWARD 1",
        Verdict.REACHABLE, ("near", "next"),
    ),
    "frames for others, dropped": hinging(
        "nft add table bridge beside; nft 'add chain bridge beside forward { type filter hook forward priority 0; }';"
        " nft 'add rule bridge beside forward meta pkttype other udp dport 80 drop';"
        " nft 'add rule bridge beside forward meta pkttype host tcp dport 80 drop';"
        f" nft add table netdev beside; for port in {AT_ONE}; do"
        ' nft "add chain netdev beside $port { type filter hook ingress device $port priority 0; }";'
        ' nft "add rule netdev beside $port meta pkttype other udp dport 7777 drop";'
        ' nft "add rule netdev beside $port meta pkttype host tcp dport 7777 drop"; done',
        "nft delete table bridge beside; nft delete table netdev beside", Verdict.REACHABLE, ("near", "next"),
    ),
    "an address of another interface is not local to one": hinging(
        "nft add table inet beside; nft 'add chain inet beside first { type filter hook prerouting priority -5; }';"
        " nft 'add rule inet beside first fib daddr . iif type local udp dport 80 drop';"
        " ip6tables -w -I INPUT -m addrtype --dst-type LOCAL --limit-iface-in -p tcp --dport 80 -j DROP;"
        " ip6tables -w -I INPUT -m addrtype ! --dst-type LOCAL --limit-iface-in -p tcp --dport 7777 -j DROP",
        f"ip6tables -w -D INPUT 1; ip6tables -w -D INPUT 1; {UNDONE}", Verdict.REACHABLE, ("near", "hosted"),
    ),
    "ARP of those alone who have the addresses": hinging(
        f"{of_frames('prerouting priority -300', 'arp saddr ip != { 10.100.1.11, 10.100.1.12, 10.100.2.11 } drop')};"
        " nft 'add rule bridge beside c arp operation { request, reply } arp htype 1 arp daddr ip != 10.100.0.0/16"
        " arp daddr ip != 172.16.0.0/12 drop'",
        UNFRAMED, Verdict.REACHABLE, doubts=frozenset({LEARNED}),
    ),
    "ARP of one for another": hinging(
        "arptables -A INPUT -s 10.100.1.11 -d 10.100.1.1 --opcode Request -j DROP;"
        f" {of_frames('forward priority 0', 'arp saddr ip 10.100.1.11 arp daddr ip 10.100.1.12 drop')}",
        f"arptables -F; {UNFRAMED}", Verdict.UNKNOWN, doubts=frozenset({LEARNED}),
    ),
    "a mark that a bridge sets before it hands frames up": hinging(
        f"{of_frames('prerouting priority -300', 'ip saddr 10.100.1.11 meta mark set 7')}; {MARKED_DROPPED}",
        f"{UNFRAMED}; {ACCEPTED}", Verdict.BLOCKED,
    ),
    "a mark that a bridge sets as it hands frames up": hinging(
        f"{of_frames('input priority 0', 'ip saddr 10.100.1.11 meta mark set 7')};"
        " ip rule add pref 77 fwmark 7 to 10.100.2.0/24 blackhole",
        f"{UNFRAMED}; ip rule del pref 77", Verdict.BLOCKED,
    ),
    "a mark that a bridge sets as it passes frames on": hinging(
        f"{of_frames('forward priority -200', 'ip saddr 10.100.1.11 meta mark set 7')}; {MARKED_DROPPED};"
        " ip6tables -w -I FORWARD -i brone -o brone -p tcp -j DROP; ip6tables -w -I FORWARD -i brone -p udp -j DROP",
        f"{UNFRAMED}; {ACCEPTED}; ip6tables -w -D FORWARD 1; ip6tables -w -D FORWARD 1",
        Verdict.BLOCKED, ("near", "next"),
    ),
    "a mark that a bridge sets too late": hinging(
        f"{of_frames('prerouting priority 100', 'ip saddr 10.100.1.11 meta mark set 7')};"
        " nft 'add chain bridge beside late { type filter hook forward priority 100; }';"
        " nft 'add rule bridge beside late ip saddr 10.100.1.11 ip daddr 10.100.1.12 meta mark set 8';"
        f" {MARKED} -m mark --mark 7 -j DROP; iptables -w -I FORWARD -m mark --mark 8 -j DROP",
        f"{UNFRAMED}; {UNMARKED}; {ACCEPTED}", Verdict.REACHABLE, ("near", "next"),
    ),
    "a mark that is set at an interface": hinging(
        "nft add table netdev beside; nft 'add chain netdev beside at { type filter hook ingress device brone"
        " priority 0; }'; nft 'add rule netdev beside at ip saddr 10.100.1.11 meta mark set 7';"
        f" {MARKED_DROPPED}",
        f"nft delete table netdev beside; {ACCEPTED}", Verdict.BLOCKED,
    ),
    "a mark for all but some by load": hinging(
        f"{MARKED} -s 10.100.1.11 -m limit --limit 900/s --limit-burst 900 -j ACCEPT;"
        f" {MARKED} -s 10.100.1.11 -j MARK --set-mark 7; {MARKED_DROPPED}",
        f"{UNMARKED}; {ACCEPTED}", Verdict.UNKNOWN, doubts=frozenset({"a mark that may be set"}),
    ),
    "a mark for all that were not lost by load": hinging(
        f"{MARKED} -s 10.100.1.11 -d 10.100.2.11 -m limit --limit 1/hour --limit-burst 1 -j DROP;"
        f" {MARKED} -s 10.100.1.11 -j MARK --set-mark 7; iptables -w -I FORWARD -m mark --mark 7 -j DROP",
        f"{UNMARKED}; {ACCEPTED}", Verdict.BLOCKED,
    ),
    "a mark by a chain that some are led through": hinging(
        "iptables -w -t mangle -N marking; iptables -w -t mangle -A marking -j MARK --set-mark 7;"
        f" {MARKED} -p tcp -m socket --transparent -j marking;"
        " ip rule add pref 77 fwmark 7 to 10.100.2.0/24 blackhole",
        f"{UNMARKED}; iptables -w -t mangle -F marking; iptables -w -t mangle -X marking;"
        " ip rule del pref 77",
        Verdict.REACHABLE, doubts=frozenset({"policy rule 77: fwmark"}),
    ),
    "a mark by a hash": hinging(
        f"{MARKED} -s 10.100.1.11 -j HMARK --hmark-tuple src --hmark-mod 10 --hmark-rnd 1 --hmark-offset 100;"
        " iptables -w -I FORWARD -s 10.100.1.11 -m mark --mark 0 -j DROP",
        f"{UNMARKED}; {ACCEPTED}", Verdict.UNKNOWN, doubts=frozenset({"a mark that may be set"}),
    ),
    "a mark in turns that nobody asks for": hinging(
        f"{BESIDE} ip saddr 10.100.1.11 meta mark set numgen inc mod 2 offset 100'", UNDONE, Verdict.REACHABLE,
    ),
    "a set of interfaces that has a port": hinging(
        "ipset create ports hash:net,iface;"
        f" for port in {AT_ONE}; do ipset add ports 10.100.1.0/24,physdev:$port; done;"
        " iptables -w -I FORWARD -m set --match-set ports src,src -j DROP",
        "iptables -w -D FORWARD 1; ipset destroy ports", Verdict.REACHABLE,
    ),
    "a translation of nft's among those of iptables": hinging(
        "nft add rule ip nat POSTROUTING oifname nothing masquerade", NATIVE_GONE, Verdict.REACHABLE, ("near", "web"),
    ),
    "translations of iptables' among nft's": hinging(
        f"{ONE_OF_SEVERAL} --dport 80 -j DNAT --to-destination 10.100.2.11:7777;"
        f" {TRANSLATED} PREROUTING -p udp -d 192.0.2.1 -m addrtype ! --dst-type LOCAL -j DNAT --to-destination :5432;"
        " nft 'add rule ip nat PREROUTING ip daddr 192.0.2.1 icmp type echo-request dnat to 10.100.2.11'",
        "nft delete rule ip nat PREROUTING handle $(nft -a list chain ip nat PREROUTING"
        f" | sed -n 's/.*echo-request.*handle //p'); {LAST}; {LAST}",
        Verdict.REACHABLE, ("near", "web"),
    ),
    "a way by a mark that is drawn": hinging(
        f"{MARKED} -m statistic --mode random --probability 0.5 -j MARK --set-mark 7;"
        " ip rule add pref 77 not fwmark 7 to 10.100.2.0/24 blackhole",
        f"{UNMARKED}; ip rule del pref 77", Verdict.UNKNOWN, doubts=frozenset({"policy rule 77: fwmark"}),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_packets_agree(host: Built, name: str) -> None:
    """Nothing is certain that is not as packets have it, nothing in doubt but for the reason that there is."""
    case = CASES[name]
    outcome = host.done(name, case.does, case.undoes, case.inside)
    assert outcome.enforced.disagreements == ()
    assert outcome.unlike == ()
    assert outcome.enforced.doubts == case.doubts
    assert outcome.pair(*case.pair).verdict is case.verdict
