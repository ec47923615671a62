"""Policies of IPsec, on a real engine: who meets one that does not let packets pass as they are is not judged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from exporter.evaluate.enforced.ipsec import DOUBT
from exporter.model.reach import Protocol, Verdict
from tests.conformance.changes import Change
from tests.conformance.runner import changed
from tests.lab import Container, Network, Topology

if TYPE_CHECKING:
    from exporter.model.reach import PairVerdict
    from tests.conformance.runner import Outcome

pytestmark = pytest.mark.lab

TOPOLOGY: Final = Topology(
    networks=(
        Network("one", "bridge", {}, ("--ipv6", "--subnet=fd00:a::/64", "--subnet=10.100.1.0/24")),
        Network("two", "bridge", {}, ("--subnet=10.100.2.0/24",)),
    ),
    containers=(
        Container("plain", "one", flags=("--ip=10.100.1.11", "--ip6=fd00:a::11")),
        Container("silent", "one", flags=("--ip=10.100.1.12", "--ip6=fd00:a::12")),
        Container("deaf", "one", flags=("--ip=10.100.1.13", "--ip6=fd00:a::13")),
        Container("open", "one", flags=("--ip=10.100.1.14", "--ip6=fd00:a::14")),
        Container("closed", "one", flags=("--ip=10.100.1.15", "--ip6=fd00:a::15")),
        Container("far", "two", flags=("--ip=10.100.2.11", "--publish=8001:80")),
        Container("hosted", "host"),
    ),
    # networks are not kept apart, or nothing between them would be routed
    host=("iptables -w -I FORWARD -j ACCEPT", "iptables -w -t raw -F"),
)
TEMPLATE: Final = "tmpl proto esp mode transport"
ANYBODY: Final = "src 0.0.0.0/0 dst 0.0.0.0/0"
CHANGES: Final = (
    # bridges ask nobody: members of one network meet no policy of the host
    Change("fwd", (f"ip xfrm policy add src 10.100.1.0/24 dst 10.100.1.0/24 dir fwd priority 9 {TEMPLATE}",)),
    Change("routed", ("ip xfrm policy add src 10.100.1.0/24 dst 10.100.2.0/24 dir fwd action block priority 9",)),
    Change("host", ("ip xfrm policy add src 0.0.0.0/0 dst 10.100.1.14/32 dir out action block priority 9",)),
    Change(
        "silent",
        (
            "ip xfrm policy add src 0.0.0.0/0 dst 10.0.0.0/8 dir out action block priority 9",
            f"ip xfrm policy add src ::/0 dst ::/0 dir out {TEMPLATE}",
        ),
        "silent",
    ),
    Change("deaf", (f"ip xfrm policy add {ANYBODY} proto udp dir in action block",), "deaf"),
    Change(
        "open",
        (
            # of an interface of IPsec, which there is none of
            f"ip xfrm policy add {ANYBODY} dir out action block if_id 7 priority 1",
            f"ip xfrm policy add {ANYBODY} dir out priority 5",
            "ip xfrm policy add src 0.0.0.0/0 dst 10.0.0.0/8 dir out action block priority 9",
            f"ip xfrm policy add {ANYBODY} dir fwd action block priority 9",
        ),
        "open",
    ),
    # only whom a policy selects is heard; to the other family nothing is said
    Change(
        "closed",
        (
            "ip xfrm policy setdefault in block",
            "ip xfrm policy add src 10.100.1.11/32 dst 0.0.0.0/0 dir in priority 7",
        ),
        "closed",
    ),
)


@pytest.fixture(scope="module")
def outcome() -> Outcome:
    """Do it all, and compare."""
    return changed(TOPOLOGY, CHANGES)


def doubts(found: PairVerdict) -> set[str]:
    """Return why paths are undecided."""
    return {path.undecided for path in found.paths if path.undecided}


def test_packets_agree(outcome: Outcome) -> None:
    """No verdict that is certain is wrong."""
    assert outcome.report.missing == {}
    assert outcome.enforced.disagreements == ()
    assert outcome.unlike == ()


def test_policies_are_those_that_ip_shows(outcome: Outcome) -> None:
    """But for those of interfaces of IPsec."""
    kernel = outcome.truth.observation.kernel
    assert kernel is not None
    everyone = [
        {(each["dir"], each["dst"], each["action"], each["priority"]) for each in namespace.policies}
        for namespace in kernel.sandboxes.values()
        if namespace is not kernel.host
    ]
    assert {
        ("out", "0.0.0.0/0", "allow", 5), ("fwd", "0.0.0.0/0", "block", 9), ("out", "10.0.0.0/8", "block", 9),
    } in everyone  # fmt: skip
    assert {
        ("in", "0.0.0.0/0", "allow", 7), ("in", "0.0.0.0/0", "block", 1 << 32), ("in", "::/0", "block", 1 << 32),
    } in everyone  # fmt: skip
    assert kernel.host is not None
    assert {(each["dst"], each.get("templates", False)) for each in kernel.host.policies} == {
        ("10.100.1.0/24", True), ("10.100.2.0/24", False), ("10.100.1.14/32", False),
    }  # fmt: skip


def test_who_may_not_send_is_not_judged(outcome: Outcome) -> None:
    """Neither as a sender, nor where an answer is wanted."""
    found = outcome.pair("silent", "plain")
    assert found.verdict is Verdict.UNKNOWN
    assert doubts(found) == {
        DOUBT.format(source="0.0.0.0/0", destination="10.0.0.0/8"),
        DOUBT.format(source="::/0", destination="::/0"),
    }
    assert not {item.source for item in outcome.truth.packets.arrived if item.destination == "plain"} & {"silent"}


def test_what_no_policy_selects_may_be_blocked(outcome: Outcome) -> None:
    """By default, in a direction: whom a policy lets in is certain, over its family."""
    assert doubts(outcome.pair("open", "closed")) == {
        DOUBT.format(source=anybody, destination=anybody) for anybody in ("0.0.0.0/0", "::/0")
    }
    found = outcome.pair("plain", "closed")
    assert {path.undecided for path in found.paths if "." in path.addresses[0]} == {""}
    reached = {item.source for item in outcome.truth.packets.arrived if item.destination == "closed"}
    assert "plain" in reached
    assert not {"open", "deaf"} & reached


def test_a_policy_may_be_for_one_protocol(outcome: Outcome) -> None:
    """What else there is stays reachable; IPv6 has policies of its own."""
    found = outcome.pair("plain", "deaf")
    assert found.verdict is Verdict.REACHABLE
    assert doubts(found) == {DOUBT.format(source="0.0.0.0/0", destination="0.0.0.0/0")}
    assert {path.undecided for path in found.paths if ":" in path.addresses[0]} == {""}


def test_bridges_ask_no_policy_and_the_first_one_counts(outcome: Outcome) -> None:
    """The host's policies for forwarded packets, and one that another stands before, change nothing."""
    for ends in (("plain", "open"), ("open", "plain")):
        found = outcome.pair(*ends)
        assert (found.verdict, doubts(found)) == (Verdict.REACHABLE, set())


def test_what_is_routed_meets_policies_of_forwarding(outcome: Outcome) -> None:
    """Way and answer: of packets the other way round, that is, only what wants none is certain."""
    routed = DOUBT.format(source="10.100.1.0/24", destination="10.100.2.0/24")
    there, back = outcome.pair("plain", "far"), outcome.pair("far", "plain")
    assert doubts(there) == doubts(back) == {routed}
    assert {path.protocol for path in there.paths if path.undecided} == {*Protocol}
    assert {path.protocol for path in back.paths if path.undecided} == {Protocol.TCP}
    assert doubts(outcome.pair("hosted", "far")) == set()


def test_the_host_asks_its_policies(outcome: Outcome) -> None:
    """Who is in its namespace is not judged towards the address that a policy names."""
    assert {DOUBT.format(source="0.0.0.0/0", destination="10.100.1.14/32")} <= doubts(outcome.pair("hosted", "open"))
    assert doubts(outcome.pair("hosted", "plain")) == set()
