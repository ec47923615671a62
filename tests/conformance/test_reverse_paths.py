"""Who asks for the way back to where packets came from, on a real engine: rpfilter, nft's fib, and rp_filter.

One host for all of them: what a case changes it puts back.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from exporter.evaluate.enforced.walk import WAY_BACK
from tests.conformance.changes import Change
from tests.conformance.routed import dual_stack, let_through
from tests.lab import Container, Topology

if TYPE_CHECKING:
    from tests.conformance.runner import Built, Outcome

pytestmark = pytest.mark.lab

TOPOLOGY = Topology(
    networks=dual_stack("one", "two"),
    containers=(
        Container("near", "one", flags=("--ip=10.100.1.11", "--ip6=fd00:a::11")),
        Container("next", "one", flags=("--ip=10.100.1.12", "--ip6=fd00:a::12")),
        Container("third", "one", flags=("--ip=10.100.1.13", "--ip6=fd00:a::13")),
        Container("far", "two", flags=("--ip=10.100.2.11", "--ip6=fd00:b::11", "--publish=8001:80")),
        Container("hosted", "host"),
    ),
    host=let_through("-F POSTROUTING"),
)

XTABLES = "; ".join(
    f"{program} -w -t raw -A PREROUTING -m rpfilter --invert -j DROP" for program in ("iptables", "ip6tables")
)
WITHOUT = "iptables -w -t raw -F; ip6tables -w -t raw -F"
MINE, NOTHING = (
    "nft add table inet mine; nft add chain inet mine at '{{ {at} }}'; nft add rule inet mine at ",
    "nft delete table inet mine",
)
NATIVE = MINE.format(at="type filter hook prerouting priority -300;") + "fib saddr . iif oif missing drop"
FORWARD = MINE.format(at="type filter hook forward priority -1;") + "fib saddr . iif oif missing drop"


def rule(said: str, family: str = "") -> tuple[str, str]:
    """Return how a policy rule is set, and undone."""
    return f"ip {family} rule add pref 99 {said}", f"ip {family} rule del pref 99"


FROM = rule("from 10.100.2.11 blackhole")
OF_UDP = rule("ipproto udp to 10.100.1.0/24 blackhole")
OF_UDP_V6 = rule("ipproto udp to fd00:a::/64 blackhole", "-6")
BY_OTHER = rule("iif brtwo to 10.100.1.0/24 blackhole")
WORSE = (
    "ip -6 route add fd00:a::11 dev eth0 metric 5; ip -6 route add fd00:a::11 dev brone metric 50",
    "ip -6 route del fd00:a::11 dev eth0; ip -6 route del fd00:a::11 dev brone",
)
"""By no bridge: far would be told that near is on its own, and believe it for minutes (ndisc_send_redirect)."""
GATEWAY, GATEWAY_V6, FAR, NEXT = "10.100.1.1", "fd00:a::1", "10.100.2.11", "10.100.1.12"
OF_THIRD = rule("from 10.100.1.13 blackhole")
STRICT, LOOSE, OFF = (f"sysctl -qw net.ipv4.conf.all.rp_filter={level}" for level in (1, 2, 0))
STRANGE = (
    f"ip address add 10.55.0.1/32 dev eth0; ip route add {NEXT}/32 dev eth0 src 10.55.0.1",
    f"ip route del {NEXT}/32 dev eth0; ip address del 10.55.0.1/32 dev eth0",
)
"""near sends to next from an address that the host knows no way to on the bridge."""


def led_to_third(address: str) -> tuple[str, str]:
    """Return how UDP from the bridge is led to third, a frame still, and how no more."""
    said = f"PREROUTING -i brone -p udp -d {address} -j DNAT --to-destination 10.100.1.13"
    return f"iptables -w -t nat -I {said}", f"iptables -w -t nat -D {said}"


BY_NEXT, BY_HOST = led_to_third(NEXT), led_to_third(GATEWAY)


@dataclass(frozen=True, slots=True)
class Odd:
    """What is done and undone on the host and in near; by which protocols packets from near then arrive somewhere.

    `perhaps` are those by which they do on some kernels, and on others do not.
    """

    does: tuple[str, ...]
    undoes: tuple[str, ...]
    arrives: dict[str, str] = field(default_factory=dict)
    doubts: frozenset[str] = frozenset()
    inside: tuple[str, str] = ("", "")
    perhaps: dict[str, str] = field(default_factory=dict)


CASES = {
    "rpfilter": Odd((XTABLES,), (WITHOUT,), {GATEWAY: "icmp tcp udp", FAR: "icmp tcp udp"}),
    "fib": Odd((NATIVE,), (NOTHING,), {GATEWAY_V6: "icmp tcp udp", FAR: "icmp tcp udp"}),
    # what is sent to an address is asked for as what comes from it
    "a rule for what the receiver sends": Odd((FROM[0],), (FROM[1],), {FAR: "icmp udp"}),
    "rpfilter, a rule for what the receiver sends": Odd((FROM[0], XTABLES), (FROM[1], WITHOUT), {FAR: ""}),
    "fib, a rule for what the receiver sends": Odd((FROM[0], NATIVE), (FROM[1], NOTHING), {FAR: ""}),
    "rpfilter, a rule for a protocol": Odd(
        (OF_UDP[0], OF_UDP_V6[0], XTABLES), (OF_UDP[1], OF_UDP_V6[1], WITHOUT),
        {GATEWAY: "icmp tcp udp", GATEWAY_V6: "icmp tcp"},
    ),
    # older kernels do not tell of it (seen on Linux 6.1)
    "fib, a rule for a protocol": Odd(
        (OF_UDP[0], NATIVE), (OF_UDP[1], NOTHING),
        {GATEWAY: "icmp tcp"}, frozenset({WAY_BACK}), perhaps={GATEWAY: "udp"},
    ),
    "fib, a rule for a protocol of IPv6": Odd(
        (OF_UDP_V6[0], NATIVE), (OF_UDP_V6[1], NOTHING), {GATEWAY_V6: "icmp tcp"}
    ),
    "rpfilter, a rule for another interface": Odd((BY_OTHER[0], XTABLES), (BY_OTHER[1], WITHOUT), {FAR: "icmp udp"}),
    "fib in FORWARD, a rule for another interface": Odd((BY_OTHER[0], FORWARD), (BY_OTHER[1], NOTHING), {FAR: ""}),
    # tcp needs a way back
    "rpfilter, a better route by another interface": Odd(
        (WORSE[0], XTABLES), (WORSE[1], WITHOUT), {GATEWAY_V6: "icmp udp"}
    ),
    "fib, a better route by another interface": Odd((WORSE[0], NATIVE), (WORSE[1], NOTHING), {GATEWAY_V6: ""}),
    "rewritten on the bridge": Odd((BY_NEXT[0],), (BY_NEXT[1],), {NEXT: "icmp udp"}, inside=STRANGE),
    "rp_filter": Odd((STRICT,), (OFF,), {NEXT: "icmp udp"}, inside=STRANGE),
    # who is not rewritten meets no routing
    "rp_filter, rewritten on the bridge": Odd(
        (BY_NEXT[0], STRICT), (BY_NEXT[1], OFF), {NEXT: "icmp"}, inside=STRANGE
    ),
    "a loose rp_filter, rewritten on the bridge": Odd(
        (BY_NEXT[0], LOOSE), (BY_NEXT[1], OFF), {NEXT: "icmp udp"}, inside=STRANGE
    ),
    "rp_filter, rewritten on the bridge, a rule for what the receiver sends": Odd(
        (BY_NEXT[0], OF_THIRD[0], STRICT), (BY_NEXT[1], OF_THIRD[1], OFF), {NEXT: "icmp tcp"}
    ),
    "rewritten back to the bridge, a rule for what the receiver sends": Odd(
        (BY_HOST[0], OF_THIRD[0]), (BY_HOST[1], OF_THIRD[1]), {GATEWAY: "icmp tcp udp"}
    ),
    "rp_filter, rewritten back to the bridge, a rule for what the receiver sends": Odd(
        (BY_HOST[0], OF_THIRD[0], STRICT), (BY_HOST[1], OF_THIRD[1], OFF), {GATEWAY: "icmp tcp"}
    ),
}  # fmt: skip


def arrivals(outcome: Outcome, address: str) -> str:
    """Return by which protocols packets from near to an address arrive somewhere."""
    told = (each for each in outcome.truth.packets.arrived if (each.source, each.address) == ("near", address))
    return " ".join(sorted({each.protocol for each in told}))


@pytest.mark.parametrize("name", CASES)
def test_packets_agree(host: Built, name: str) -> None:
    """Packets do what the verdicts say, which are certain but where kernels differ."""
    odd = CASES[name]
    inside, outside = odd.inside
    changes = (Change(name, odd.does, doubts=tuple(odd.doubts)), Change(name, (inside,), "near"))
    undone = Change(f"{name}, undone", odd.undoes), Change(f"{name}, undone", (outside,), "near")
    outcome = host.tried(changes, undone)
    assert outcome.enforced.disagreements == ()
    assert outcome.unlike == ()
    assert {*outcome.enforced.doubts} == odd.doubts
    for address, expected in odd.arrives.items():
        certain = {*arrivals(outcome, address).split()} - {*odd.perhaps.get(address, "").split()}
        assert certain == {*expected.split()}, address
