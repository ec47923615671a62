"""Connections that conntrack forgets at once, on a real engine: timeouts of 0, and packets are the judge.

One host for all of them: what a case changes it puts back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from exporter.evaluate.enforced.conversations import ENDED
from tests.conformance.routed import both, dual_stack, let_through
from tests.conformance.test_rules import BY_NEXT, FORWARDS
from tests.lab import Container, Topology

if TYPE_CHECKING:
    from tests.conformance.runner import Built, Outcome

pytestmark = pytest.mark.lab

TOPOLOGY: Final = Topology(
    networks=dual_stack("one", "two"),
    containers=(
        Container("near", "one", flags=("--ip=10.100.1.11",)),
        Container("next", "one", flags=("--ip=10.100.1.12",)),
        Container("far", "two", flags=("--ip=10.100.2.11",)),
        Container("web", flags=("--publish=7776:7777",)),
        Container("hosted", "host"),
    ),
    host=let_through("-F POSTROUTING"),
)

_USUAL: Final = {
    "tcp_timeout_syn_sent": 120,
    "tcp_timeout_syn_recv": 60,
    "tcp_timeout_established": 432000,
    "tcp_timeout_max_retrans": 300,
    "tcp_timeout_unacknowledged": 300,
    "tcp_loose": 1,
    "udp_timeout": 30,
}


def written(**values: int) -> tuple[str, str]:
    """Return how settings of conntrack are set, and set back."""
    does, undoes = (
        " ".join(f"net.netfilter.nf_conntrack_{name}={told[name]}" for name in values) for told in (values, _USUAL)
    )
    return f"sysctl -qw {does}", f"sysctl -qw {undoes}"


def first(*rules: str) -> tuple[str, str]:
    """Return how rules are put first into FORWARD, the last of these as the first one, and taken away."""
    return "; ".join(f"iptables -w -I FORWARD {rule}" for rule in rules), "; ".join(
        "iptables -w -D FORWARD 1" for _ in rules
    )


TIMEOUTS: Final = {
    "asked": written(tcp_timeout_syn_sent=0),
    "asked, none taken up": written(tcp_timeout_syn_sent=0, tcp_loose=0),
    "asked, taken up for nothing": written(tcp_timeout_syn_sent=0, tcp_timeout_unacknowledged=0),
    "answered": written(tcp_timeout_syn_recv=0),
    "answered, none taken up": written(tcp_timeout_syn_recv=0, tcp_loose=0),
    "confirmed": written(tcp_timeout_established=0),
    "answered and confirmed": written(tcp_timeout_syn_recv=0, tcp_timeout_established=0),
    "sent again": written(tcp_timeout_max_retrans=0),
    "not acknowledged": written(tcp_timeout_unacknowledged=0),
    "after a second": written(**dict.fromkeys(list(_USUAL)[:5], 1)),
}
BACK: Final = "-i brtwo -o brone"
RULES: Final = {
    "established alone back": first(f"{BACK} -j DROP", f"{BACK} -m conntrack --ctstate ESTABLISHED -j ACCEPT"),
    "nothing invalid": first("-m conntrack --ctstate INVALID -j DROP"),
    "nothing new but what begins": first("-p tcp ! --syn -m conntrack --ctstate NEW -j DROP"),
    "nothing new back": first(f"{BACK} -p tcp -m conntrack --ctstate NEW -j DROP"),
}
LOST: Final = {
    "established alone back": set(TIMEOUTS) - {"answered", "not acknowledged", "after a second"},
    "nothing invalid": {each for each in TIMEOUTS if each.startswith(("asked", "sent")) or each.endswith("taken up")},
    "nothing new but what begins": {
        "asked", "asked, taken up for nothing", "answered", "confirmed", "answered and confirmed", "sent again",
    },
    "nothing new back": {"asked, taken up for nothing", "confirmed", "answered and confirmed", "sent again"},
}  # fmt: skip
"""The timeouts by which near has no session with far, by the rules that are there."""


def judged(outcome: Outcome) -> None:
    """Hold that no verdict is wrong, and that none is open but by how the answer's end may get through."""
    assert outcome.enforced.disagreements == ()
    assert outcome.enforced.doubts <= {ENDED}
    assert outcome.unlike == ()


def arrived(outcome: Outcome) -> set[str]:
    """Return the protocols by which near reaches far at its address of IPv4, which the rules are for."""
    told = outcome.truth.packets.arrived
    return {each.protocol for each in told if (each.source, each.address) == ("near", "10.100.2.11")}


@pytest.mark.parametrize("timeouts", TIMEOUTS)
@pytest.mark.parametrize("rules", RULES)
def test_what_is_forgotten_is_not_of_a_connection(host: Built, rules: str, timeouts: str) -> None:
    """It is invalid, or new; by TCP alone, for nobody else waits for an answer."""
    outcome = host.done(f"{rules}, {timeouts}", *both(RULES[rules], TIMEOUTS[timeouts]))
    judged(outcome)
    kept = set() if timeouts in LOST[rules] else {"tcp"}
    assert arrived(outcome) - (outcome.enforced.doubts and {"tcp"}) == {"udp", "icmp"} | kept


TWICE: Final = {"next": FORWARDS, "near": BY_NEXT}
"""What near sends to others than its neighbours comes to the host as a frame for next, and again from there."""
MASQUERADED: Final = (
    "iptables -w -t nat -A POSTROUTING -s 10.100.1.0/24 ! -o brone -j MASQUERADE", "iptables -w -t nat -F POSTROUTING"
)  # fmt: skip


@pytest.mark.parametrize(
    "timeouts", [*list(TIMEOUTS.values())[:6], written(udp_timeout=0)], ids=[*list(TIMEOUTS)[:6], "of UDP"]
)
def test_what_comes_again_is_another_connection(host: Built, timeouts: tuple[str, str]) -> None:
    """It is translated anew."""
    judged(host.done("twice", *both(MASQUERADED, timeouts), TWICE))


def test_a_container_forgets_as_the_host_does(host: Built) -> None:
    """What it lets in as established alone is lost on it."""
    inside = first("-p tcp -j DROP", "-p tcp -m conntrack --ctstate ESTABLISHED -j ACCEPT")
    shut = inside[0].replace("FORWARD", "INPUT"), inside[1].replace("FORWARD", "INPUT")
    outcome = host.done("inside", "true", "true", {"near": both(shut, TIMEOUTS["asked"])})
    judged(outcome)
    assert arrived(outcome) == {"udp", "icmp"}
