"""What nftables rewrites behind conntrack's back, copies, or sends by an interface, as tc does: who gets it really.

One host for all of them: what a case changes it puts back.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from exporter.evaluate.enforced.walk import ASTRAY
from tests.conformance.changes import Change
from tests.conformance.generator import PORTS
from tests.conformance.routed import dual_stack, let_through
from tests.lab import Container, Topology

if TYPE_CHECKING:
    from tests.conformance.runner import Built, Outcome

pytestmark = pytest.mark.lab

TOPOLOGY = Topology(
    networks=dual_stack("one", "two"),
    containers=(
        Container("near", "one", flags=("--ip=10.100.1.11", "--ip6=fd00:a::11", "--mac-address=02:42:0a:64:01:0b")),
        Container("next", "one", flags=("--ip=10.100.1.12", "--ip6=fd00:a::12", "--mac-address=02:42:0a:64:01:0c")),
        Container("third", "one", flags=("--ip=10.100.1.13", "--ip6=fd00:a::13", "--mac-address=02:42:0a:64:01:0d")),
        Container("far", "two", flags=("--ip=10.100.2.11", "--ip6=fd00:b::11")),
    ),
    host=let_through("-F POSTROUTING"),
)
NEAR, NEXT, THIRD, FAR = "10.100.1.11", "10.100.1.12", "10.100.1.13", "10.100.2.11"
GATEWAY, NOBODY = "10.100.1.1", "192.0.2.1"
NEAR_V6, NEXT_V6, GATEWAY_V6, FAR_V6 = "fd00:a::11", "fd00:a::12", "fd00:a::1", "fd00:b::11"
OPEN, OTHER = PORTS[:2]

RAW, MANGLE = "prerouting priority -300;", "prerouting priority -150;"
CLOSED = f"iptables -w -I FORWARD -s {NEAR} -d {THIRD} -j DROP"
OPENED = CLOSED.replace("-I", "-D")
CLOSED_SOURCE = f"iptables -w -I FORWARD -s {NEAR} -d {FAR} -j DROP"
OPENED_SOURCE = CLOSED_SOURCE.replace("-I", "-D")
OPENED_TRACKED = f"iptables -w -D FORWARD -s {NEAR} -d {FAR} -m conntrack ! --ctstate UNTRACKED -j DROP"


NEAR_MAC, NEXT_MAC, THIRD_MAC = "02:42:0a:64:01:0b", "02:42:0a:64:01:0c", "02:42:0a:64:01:0d"
PORTS_OF_ONE = "$(ip -oneline link show master brone | sed 's/^[0-9]*: \\([^@:]*\\).*/\\1/')"


def port_of(mac: str) -> str:
    """Return what the shell takes for the port of brone behind which a link address is."""
    return f"$(bridge fdb show br brone | sed -n 's/^{mac} dev \\([^ ]*\\).*/\\1/p' | head -n 1)"


PORT_OF_NEAR, PORT_OF_THIRD = port_of(NEAR_MAC), port_of(THIRD_MAC)


def by_tc(does: str, device: str) -> tuple[str, ...]:
    """Return commands that have tc lead away what comes in from near for third."""
    matched = f"protocol ip u32 match ip src {NEAR}/32 match ip dst {THIRD}/32"
    return (
        f"tc qdisc add dev {PORT_OF_NEAR} clsact",
        f"tc filter add dev {PORT_OF_NEAR} ingress {matched} action mirred {does} dev {device}",
    )


def at_interfaces(hook: str, where: str, *said: str) -> tuple[str, ...]:
    """Return commands that make a chain with rules at each of some interfaces."""
    chain = f'nft "add chain netdev behind $each {{ type filter hook {hook} device $each priority 0; }}"'
    added = "; ".join((chain, *(f'nft "add rule netdev behind $each {each}"' for each in said)))
    return ("nft add table netdev behind", f"for each in {where}; do {added}; done")


def on_bridges(hook: str, *said: str) -> tuple[str, ...]:
    """Return commands that make a chain with rules for frames."""
    chain = f"nft add table bridge behind; nft add chain bridge behind at '{{ type filter hook {hook} }}'"
    return (chain, *(f"nft add rule bridge behind at {each}" for each in said))


def rules(hook: str, *said: str) -> tuple[str, ...]:
    """Return commands that make a chain with rules."""
    chain = f"nft add table inet behind; nft add chain inet behind at '{{ type filter hook {hook} }}'"
    return (chain, *(f"nft add rule inet behind at {each}" for each in said))


@dataclass(frozen=True, slots=True)
class Rewriting:
    """What is done on the host; whom packets from near to addresses then come to, and by which protocols."""

    does: tuple[str, ...]
    leads: dict[str, str] = field(default_factory=dict)
    doubts: frozenset[str] = frozenset({"ip daddr set"})
    undoes: tuple[str, ...] = ()
    family: str = "inet"
    inside: str = ""


THERE = f"ip saddr {NEAR} ip daddr {GATEWAY} ip daddr set {FAR}"
THERE_AND_BACK = (
    f"ip saddr {NEAR} ip daddr {NOBODY} ip daddr set {FAR}", f"ip saddr {FAR} ip daddr {NEAR} ip saddr set {NOBODY}"
)  # fmt: skip
TO_THIRD = f"ip saddr {NEAR} ip daddr {THIRD}"
BY_IP = "nft add table ip behind", "nft add chain ip behind at '{ type filter hook prerouting priority -150; }'"
COMPUTED = "ip daddr & 255.255.0.0 | 0.0.2.11"
COPIED = f"PREROUTING -s {NEAR} -d {FAR} -j TEE --gateway"
NO_TC = f"tc qdisc del dev {PORT_OF_NEAR} clsact"
LETS, LEADS = "what tc lets through at PORT", "where tc leads packets at PORT"
LED_BY_TC = frozenset({LETS, f"{LETS}; {LEADS}"})
BOTH = frozenset({"ip daddr set", "ip saddr set", "ip daddr set; ip saddr set"})
CASES = {
    "before conntrack": Rewriting(rules(RAW, THERE), {GATEWAY: "far: icmp udp"}),
    "after conntrack": Rewriting(rules(MANGLE, THERE), {GATEWAY: "far: icmp udp"}),
    "there and back": Rewriting(rules(RAW, *THERE_AND_BACK), {NOBODY: "far: icmp tcp udp", FAR: "far: icmp udp"}, BOTH),
    "IPv6": Rewriting(
        rules(RAW, f"ip6 saddr {NEAR_V6} ip6 daddr {GATEWAY_V6} ip6 daddr set {FAR_V6}"),
        {GATEWAY_V6: "far: icmp udp"}, frozenset({"ip6 daddr set"}),
    ),
    "a third party's": Rewriting(
        rules(RAW, f"ip saddr {NEAR} ip daddr 192.0.2.0/24 ip daddr set {NEXT}"), {NOBODY: "next: icmp udp"}
    ),
    "on the bridge, past a rule for where it was sent": Rewriting(
        (CLOSED, *rules(RAW, f"ip saddr {NEAR} ip daddr {THIRD} ip daddr set {NEXT}")),
        {THIRD: "next: icmp udp"}, undoes=(OPENED,),
    ),
    "by a map": Rewriting(
        rules(RAW, f"ip daddr {GATEWAY} ip daddr set ip saddr map '{{ {NEAR} : {FAR}, {NEXT} : {THIRD} }}'"),
        {GATEWAY: "far: icmp udp"},
    ),
    "another source, past a rule for the own": Rewriting(
        (CLOSED_SOURCE, *rules(RAW, f"ip saddr {NEAR} ip daddr {FAR} ip saddr set 10.100.1.99")),
        {FAR: "far: icmp udp"}, frozenset({"ip saddr set"}), (OPENED_SOURCE,),
    ),
    "a port, past a rule for where it was sent": Rewriting(
        (
            f"iptables -w -I FORWARD -p udp --dport {OTHER} -j DROP",
            *rules(RAW, f"udp dport {OTHER} udp dport set {OPEN}"),
        ),
        {FAR: "far: icmp tcp udp"}, frozenset({"udp dport set"}),
        (f"iptables -w -D FORWARD -p udp --dport {OTHER} -j DROP",),
    ),
    "several in one rule, past a rule for all others": Rewriting(
        (
            f"iptables -w -I FORWARD -s {NEAR} -d {FAR} -p udp -j DROP",
            f"iptables -w -I FORWARD -s {NEAR} -d {FAR} -p udp --dport {OPEN} -m mark --mark 7 -j ACCEPT",
            *rules(RAW, f"ip saddr {NEAR} ip daddr {GATEWAY} udp dport {OTHER} ip daddr set {FAR}"
                   f" udp dport set {OPEN} meta mark set 7"),
        ),
        {GATEWAY: "far: udp; host: icmp tcp udp"}, frozenset({"ip daddr set; udp dport set"}), (
            f"iptables -w -D FORWARD -s {NEAR} -d {FAR} -p udp -j DROP",
            f"iptables -w -D FORWARD -s {NEAR} -d {FAR} -p udp --dport {OPEN} -m mark --mark 7 -j ACCEPT",
        ),
    ),
    "by one rule after another": Rewriting(
        (
            f"iptables -w -I FORWARD -s {NEAR} -d {FAR} -p udp -j DROP",
            *rules(RAW, f"ip saddr {NEAR} ip daddr {GATEWAY} udp dport {OTHER} ip daddr set {FAR}",
                   f"ip daddr {FAR} udp dport {OTHER} ip daddr set {NEXT}"),
        ),
        {GATEWAY: "host: icmp tcp udp; next: udp"},
        undoes=(f"iptables -w -D FORWARD -s {NEAR} -d {FAR} -p udp -j DROP",),
    ),
    "not followed any more": Rewriting(
        (
            f"iptables -w -I FORWARD -s {NEAR} -d {FAR} -m conntrack ! --ctstate UNTRACKED -j DROP",
            *rules(RAW, f"{THERE} notrack"),
        ),
        {GATEWAY: "far: icmp udp"}, undoes=(OPENED_TRACKED,),
    ),
    "after conntrack, past a rule for where it was sent first": Rewriting(
        (
            f"iptables -w -I FORWARD -s {NEAR} -d {FAR} -m conntrack ! --ctorigdst {GATEWAY} -j DROP",
            *rules(MANGLE, THERE),
        ),
        {GATEWAY: "far: icmp udp"},
        undoes=(f"iptables -w -D FORWARD -s {NEAR} -d {FAR} -m conntrack ! --ctorigdst {GATEWAY} -j DROP",),
    ),
    "where packets are passed on": Rewriting(
        rules("forward priority -1;", f"ip saddr {NEAR} ip daddr {FAR} ip daddr set {NEXT}"), {FAR: ""}
    ),
    "a copy for whom it was sent to, past a rule for the packet": Rewriting(
        (CLOSED_SOURCE, f"iptables -w -t mangle -A {COPIED} {FAR}", *rules(RAW)),
        {FAR: "far: icmp tcp udp"}, frozenset({"TEE"}), (OPENED_SOURCE, f"iptables -w -t mangle -D {COPIED} {FAR}"),
    ),
    "a copy for whom it was sent to, past a rule on the bridge": Rewriting(
        (CLOSED, f"iptables -w -I FORWARD -s {NEAR} -d {THIRD} -j TEE --gateway {THIRD}", *rules(RAW)),
        {THIRD: "third: icmp tcp udp"}, frozenset({"TEE"}),
        (OPENED, f"iptables -w -D FORWARD -s {NEAR} -d {THIRD} -j TEE --gateway {THIRD}"),
    ),
    "a copy for somebody else": Rewriting(
        (f"iptables -w -t mangle -A {COPIED} {THIRD}", *rules(RAW)),
        {FAR: "far: icmp tcp udp"}, frozenset(), (f"iptables -w -t mangle -D {COPIED} {THIRD}",),
    ),
    "a copy for somebody else, where the packet is dropped": Rewriting(
        (CLOSED_SOURCE, f"iptables -w -t mangle -A {COPIED} {THIRD}", *rules(RAW)),
        {FAR: ""}, frozenset(), (OPENED_SOURCE, f"iptables -w -t mangle -D {COPIED} {THIRD}"),
    ),
    "a copy by nft": Rewriting(
        (
            CLOSED_SOURCE, "nft add table ip copies",
            "nft add chain ip copies at '{ type filter hook prerouting priority -150; }'",
            f"nft add rule ip copies at ip saddr {NEAR} ip daddr {FAR} dup to {FAR}", *rules(RAW),
        ),
        {FAR: "far: icmp tcp udp"}, frozenset({"dup"}), (OPENED_SOURCE, "nft delete table ip copies"),
    ),
    "a copy of IPv6": Rewriting(
        (
            f"ip6tables -w -I FORWARD -s {NEAR_V6} -d {FAR_V6} -j DROP",
            f"ip6tables -w -t mangle -A PREROUTING -s {NEAR_V6} -d {FAR_V6} -j TEE --gateway {FAR_V6}", *rules(RAW),
        ),
        {FAR_V6: "far: icmp tcp udp"}, frozenset({"TEE"}), (
            f"ip6tables -w -D FORWARD -s {NEAR_V6} -d {FAR_V6} -j DROP",
            f"ip6tables -w -t mangle -D PREROUTING -s {NEAR_V6} -d {FAR_V6} -j TEE --gateway {FAR_V6}",
        ),
    ),
    "a copy by an interface": Rewriting(
        (CLOSED_SOURCE, *BY_IP, f"nft add rule ip behind at ip saddr {NEAR} ip daddr {FAR} dup to {FAR} device brtwo"),
        {FAR: "far: icmp tcp udp"}, frozenset({"dup"}), (OPENED_SOURCE,), "ip",
    ),
    "a copy where a map says": Rewriting(
        (CLOSED_SOURCE, *BY_IP, f"nft add rule ip behind at 'dup to ip saddr map {{ {NEAR} : {FAR} }}'"),
        {FAR: "far: icmp tcp udp"}, frozenset({"dup"}), (OPENED_SOURCE,), "ip",
    ),
    "a computed address": Rewriting(
        rules(RAW, f"'ip saddr {NEAR} ip daddr {GATEWAY} ip daddr set {COMPUTED}'"), {GATEWAY: "far: icmp udp"}
    ),
    "at a bridge": Rewriting(
        at_interfaces("ingress", "brone", THERE), {GATEWAY: "far: icmp udp"}, family="netdev"
    ),
    "at ports": Rewriting(
        at_interfaces("ingress", PORTS_OF_ONE, THERE), {GATEWAY: "far: icmp udp"}, family="netdev"
    ),
    "at ports, IPv6": Rewriting(
        at_interfaces("ingress", PORTS_OF_ONE, f"ip6 saddr {NEAR_V6} ip6 daddr {GATEWAY_V6} ip6 daddr set {FAR_V6}"),
        {GATEWAY_V6: "far: icmp udp"}, frozenset({"ip6 daddr set"}), family="netdev",
    ),
    "at ports, a computed address": Rewriting(
        at_interfaces("ingress", PORTS_OF_ONE, f"ip saddr {NEAR} ip daddr {GATEWAY} ip daddr set {COMPUTED}"),
        {GATEWAY: "far: icmp udp"}, family="netdev",
    ),
    "at ports, who gets the frame as well": Rewriting(
        (CLOSED, *at_interfaces("ingress", PORTS_OF_ONE, f"{TO_THIRD} ip daddr set {NEXT} ether daddr set {NEXT_MAC}")),
        {THIRD: "next: icmp udp"}, frozenset({"ether daddr set; ip daddr set"}), (OPENED,), "netdev",
    ),
    "at ports, another port, past a rule for where it was sent": Rewriting(
        (
            f"iptables -w -I FORWARD -p udp --dport {OTHER} -j DROP",
            *at_interfaces("ingress", PORTS_OF_ONE, f"udp dport {OTHER} udp dport set {OPEN}"),
        ),
        {THIRD: "third: icmp tcp udp", FAR: "far: icmp tcp udp"}, frozenset({"udp dport set"}),
        (f"iptables -w -D FORWARD -p udp --dport {OTHER} -j DROP",), "netdev",
    ),
    "at ports, another source, past a rule for the own": Rewriting(
        (
            CLOSED_SOURCE,
            *at_interfaces("ingress", PORTS_OF_ONE, f"ip saddr {NEAR} ip daddr {FAR} ip saddr set 10.100.1.99"),
        ),
        {FAR: "far: icmp udp"}, frozenset({"ip saddr set"}), (OPENED_SOURCE,), "netdev",
    ),
    "where a container sends": Rewriting(
        (
            "nft add table netdev behind",
            "nft 'add chain netdev behind at { type filter hook egress device eth0 priority 0; }'",
            f"nft add rule netdev behind at ip daddr {GATEWAY} ip daddr set {FAR}",
        ),
        {GATEWAY: "far: icmp udp"}, family="netdev", inside="near",
    ),
    "on a bridge": Rewriting(on_bridges(RAW, THERE), {GATEWAY: "far: icmp udp"}, family="bridge"),
    "on a bridge, who gets the frame as well": Rewriting(
        (CLOSED, *on_bridges(RAW, f"{TO_THIRD} ip daddr set {NEXT} ether daddr set {NEXT_MAC}")),
        {THIRD: "next: icmp udp"}, frozenset({"ether daddr set; ip daddr set"}), (OPENED,), "bridge",
    ),
    "on a bridge, another source, past a rule for the own": Rewriting(
        (CLOSED, *on_bridges(RAW, f"{TO_THIRD} ip saddr set {NEXT}")),
        {THIRD: "third: icmp udp"}, frozenset({"ip saddr set"}), (OPENED,), "bridge",
    ),
    "on a bridge, once br_netfilter has seen it": Rewriting(
        on_bridges("prerouting priority 10;", f"{TO_THIRD} ip daddr set {FAR}"), {THIRD: ""}, family="bridge"
    ),
    "by a port, past a rule on the bridge": Rewriting(
        (CLOSED, *at_interfaces("ingress", PORTS_OF_ONE, f"{TO_THIRD} fwd to {PORT_OF_THIRD}")),
        {THIRD: "third: icmp tcp udp"}, frozenset({"fwd"}), (OPENED,), "netdev",
    ),
    "a copy by a port, past a rule on the bridge": Rewriting(
        (CLOSED, *at_interfaces("ingress", PORTS_OF_ONE, f"{TO_THIRD} dup to {PORT_OF_THIRD}")),
        {THIRD: "third: icmp tcp udp"}, frozenset({"dup"}), (OPENED,), "netdev",
    ),
    "by another bridge, past a rule for who is there": Rewriting(
        (
            CLOSED_SOURCE,
            *at_interfaces("ingress", PORTS_OF_ONE, f"ip saddr {NEAR} ip daddr {FAR} fwd ip to {FAR} device brtwo"),
        ),
        {FAR: "far: icmp tcp udp"}, frozenset({"fwd"}), (OPENED_SOURCE,), "netdev",
    ),
    "by tc, past a rule on the bridge": Rewriting(
        (CLOSED, *by_tc("egress redirect", PORT_OF_THIRD), *rules(RAW)),
        {THIRD: "third: icmp tcp udp"}, LED_BY_TC, (OPENED, NO_TC),
    ),
    "a copy by tc, past a rule on the bridge": Rewriting(
        (CLOSED, *by_tc("egress mirror", PORT_OF_THIRD), *rules(RAW)),
        {THIRD: "third: icmp tcp udp"}, LED_BY_TC, (OPENED, NO_TC),
    ),
    "in by another bridge by tc": Rewriting(
        (CLOSED, *by_tc("ingress redirect", "brtwo"), *rules(RAW)),
        {THIRD: ""}, LED_BY_TC | {f"{ASTRAY}; {LETS}; {LEADS}"}, (OPENED, NO_TC),
    ),
    "by an interface that leads to nobody here": Rewriting(
        at_interfaces("ingress", PORTS_OF_ONE, f"{TO_THIRD} fwd to eth10"),
        {THIRD: ""}, frozenset({"fwd"}), (), "netdev",
    ),
}  # fmt: skip


PORT_OF_FAR = "$(ip -oneline link show master brtwo | sed 's/^[0-9]*: \\([^@:]*\\).*/\\1/')"


def test_questions_for_neighbours_are_led_elsewhere_as_well(host: Built) -> None:
    """Who looks for somebody on his own bridge finds him on the other one: that is undecided."""
    there = (f"{asked} {FAR} fwd to brtwo" for asked in ("ip daddr", "arp daddr ip"))
    back = (f"{asked} {NEAR} fwd to {PORT_OF_NEAR}" for asked in ("ip daddr", "arp daddr ip"))
    does = (*at_interfaces("ingress", PORT_OF_NEAR, *there), *at_interfaces("ingress", PORT_OF_FAR, *back)[1:])
    route = f"ip route add {FAR} dev eth0", f"ip route del {FAR} dev eth0"
    outcome = host.done("led on", "; ".join(does), "nft delete table netdev behind", {"near": route})
    assert outcome.enforced.disagreements == ()
    assert led(outcome, FAR) == "far: icmp udp"
    assert "" not in {path.undecided for path in outcome.pair("near", "far").paths if FAR in path.addresses}


def led(outcome: Outcome, address: str) -> str:
    """Return whom packets from near to an address come to, and by which protocols."""
    told = [each for each in outcome.truth.packets.arrived if (each.source, each.address) == ("near", address)]
    receivers = sorted({each.destination for each in told})
    by = {one: sorted({each.protocol for each in told if each.destination == one}) for one in receivers}
    return "; ".join(f"{one}: {' '.join(protocols)}" for one, protocols in by.items())


@pytest.mark.parametrize("name", CASES)
def test_packets_agree(host: Built, name: str) -> None:
    """Whoever gets them is in doubt, named by the statement; nothing that is certain is wrong."""
    case = CASES[name]
    change = Change(name, case.does, case.inside, doubts=tuple(case.doubts))
    undone = f"nft delete table {case.family} behind", *case.undoes
    outcome = host.tried((change,), (Change(f"{name}, undone", undone, case.inside),))
    assert outcome.enforced.disagreements == ()
    assert outcome.unlike == ()
    assert {re.sub(r"veth\w+", "PORT", each) for each in outcome.enforced.doubts} == case.doubts
    assert {address: led(outcome, address) for address in case.leads} == case.leads
