"""Ports that kernels pick for whoever sends, on a real engine, where somebody set other ones: packets are the judge.

All probes come from the ports that every namespace is told to pick from; what docker-proxy sends, the kernel picks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from exporter.evaluate.enforced.packets import SOURCE_PORT
from exporter.model.reach import Verdict
from tests.conformance.routed import both, dual_stack, let_through
from tests.lab import Container, Topology
from tests.lab.packets import SOURCE_PORTS

if TYPE_CHECKING:
    from tests.conformance.runner import Built

pytestmark = pytest.mark.lab

TOPOLOGY: Final = Topology(
    networks=dual_stack("one", "two"),
    containers=(
        Container("near", "one", flags=("--ip=10.100.1.11",)),
        Container("next", "one", flags=("--ip=10.100.1.12",)),
        Container("far", "two", flags=("--ip=10.100.2.11",)),
        Container("proxied", "two", flags=("--publish=[::1]:7776:7777", "--publish=127.0.0.1:7776:7777")),
        Container("hosted", "host"),
    ),
    host=(*let_through("-F POSTROUTING"), "iptables -w -t nat -F OUTPUT", "ip6tables -w -I FORWARD -j DROP"),
)
NAMES: Final = tuple(each.name for each in TOPOLOGY.containers if each.name != "hosted")
LOW, HIGH = SOURCE_PORTS[0], SOURCE_PORTS[-1]


def range_of(low: int, high: int, reserved: str = "") -> tuple[str, str]:
    """Return how a namespace is told to pick other ports, and the usual ones."""
    return (
        f"sysctl -qw net.ipv4.ip_local_port_range='{low} {high}' net.ipv4.ip_local_reserved_ports='{reserved}'",
        "sysctl -qw net.ipv4.ip_local_port_range='32768 60999' net.ipv4.ip_local_reserved_ports=''",
    )


def dropped(ports: str, chain: str = "FORWARD") -> tuple[str, str]:
    """Return how what comes from some ports is dropped, and no longer."""
    rules = [f"{chain} -p {protocol} -m {protocol} {ports} -j DROP" for protocol in ("tcp", "udp")]
    return "; ".join(f"iptables -w -I {rule}" for rule in rules), "; ".join(f"iptables -w -D {rule}" for rule in rules)


EVERYWHERE: Final = range_of(LOW, HIGH)
FROM_NEAR: Final = "-s 10.100.1.11 --sport"
CASES: Final = {
    "the usual ones dropped": (dropped(f"{FROM_NEAR} 32768:60999"), Verdict.REACHABLE, set()),
    "all but the usual ones dropped": (dropped("-s 10.100.1.11 ! --sport 32768:60999"), Verdict.BLOCKED, set()),
    "all of them dropped": (dropped(f"{FROM_NEAR} {LOW}:{HIGH}"), Verdict.BLOCKED, set()),
    "half of them dropped": (dropped(f"{FROM_NEAR} {LOW}:20000"), Verdict.UNKNOWN, {SOURCE_PORT}),
    "answers to them dropped": (
        dropped(f"-s 10.100.2.11 -d 10.100.1.11 --dport {LOW}:{HIGH}"), Verdict.REACHABLE, set()
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_packets_come_from_the_ports_that_are_picked(host: Built, case: str) -> None:
    """Rules about others are for nobody."""
    change, verdict, doubts = CASES[case]
    inside = dict.fromkeys(NAMES, EVERYWHERE)
    outcome = host.done(case, *both(EVERYWHERE, change), inside)
    assert outcome.enforced.disagreements == ()
    assert outcome.enforced.doubts == doubts
    assert outcome.unlike == ()
    assert outcome.pair("near", "far").verdict is verdict


@pytest.mark.parametrize(
    ("told", "ports", "reached"),
    [
        (range_of(40000, 40000), "--sport 40000", False),
        (range_of(40000, 40001, "40001"), "--sport 40000", False),
        (range_of(40000, 40001, "40000"), "--sport 40000", True),
        (range_of(20000, 21000), "--sport 32768:60999", True),
        (range_of(20000, 21000), "! --sport 32768:60999", False),
    ],
)
def test_a_proxy_sends_from_the_ports_of_the_host(
    host: Built, told: tuple[str, str], ports: str, *, reached: bool
) -> None:
    """Its kernel picks one, whatever port it was asked from."""
    outcome = host.done("proxy", *both(told, dropped(f"-d 10.100.2.0/24 {ports}", "OUTPUT")))
    wrong = [each for each in outcome.enforced.disagreements if "port 7776" in each and "127.0.0.1" in each]
    assert wrong == []
    by_proxy = {
        each.protocol for each in outcome.truth.packets.arrived if (each.address, each.port) == ("127.0.0.1", 7776)
        and each.destination == "proxied" and each.source == "host"
    }  # fmt: skip
    assert by_proxy == ({"tcp"} if reached else set())
