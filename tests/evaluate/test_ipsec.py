"""Policies of IPsec in the evaluator: whom they select is undecided, and nobody is taken for another."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network

import pytest

from exporter.evaluate import evaluate
from exporter.evaluate.enforced.ipsec import DOUBT
from exporter.model.namespace import USUAL_RULES, Direction, Hop, IpsecPolicy, PolicyRule, Route, RouteKind, RuleAction
from exporter.model.reach import Via
from tests.hosts import host
from tests.kernels import kernel

BUILT = host("28.5").network("n1").network("n2").container("a", "n1").container("b", "n1").container("h", "host").look()
ALL = ip_network("0.0.0.0/0")
LATER = tuple(PolicyRule(4, number, RuleAction.LOOKUP, table) for number, table in ((0, 255), (9, 254), (99, 77)))
"""Policy rules that lead nowhere else than the usual ones."""
GATEWAYS = ("172.17.0.1", "172.20.0.1", "172.21.0.1")
"""Addresses of the host."""


def undecided(*policies: IpsecPolicy, ends: tuple[str, str] = ("a", "h")) -> set[str]:
    """Return the addresses at which it is undecided whether anything arrives, with these policies of the host."""
    found = kernel(BUILT).engine_rules().kernel()
    changed = replace(found, host=replace(found.host, policies=policies))
    report = evaluate(replace(BUILT.snapshot, kernel=changed))
    by_name = {container.name: container for container in report.containers}
    paths = report.pair(*(by_name[name] for name in ends)).paths
    whys = {path.undecided for path in paths} - {""}
    assert whys <= {DOUBT.format(source=policy.source, destination=policy.destination) for policy in policies}
    return {address for path in paths if path.undecided for address in path.addresses}


def block(destination: str, direction: Direction = Direction.IN, *, passes: bool = False) -> IpsecPolicy:
    """Return a policy for whatever goes to an address."""
    return IpsecPolicy(direction, ALL, ip_network(destination), passes=passes)


@pytest.mark.parametrize("address", GATEWAYS)
def test_addresses_of_the_host_are_told_apart(address: str) -> None:
    """A policy for one of them says nothing of the others."""
    assert undecided(block(f"{address}/32")) == {address}


def test_the_first_that_selects_a_packet_decides() -> None:
    """What is let through as it is meets no other policy of its direction."""
    assert undecided(block("172.0.0.0/8", passes=True), block("0.0.0.0/0")).isdisjoint(GATEWAYS)
    assert undecided(block("0.0.0.0/0"), block("172.0.0.0/8", passes=True)) >= {*GATEWAYS}


def test_members_of_a_bridge_meet_none() -> None:
    """Frames are not routed."""
    everything = tuple(block("0.0.0.0/0", direction) for direction in Direction)
    assert undecided(*everything, ends=("a", "b")) == set()


@pytest.mark.parametrize("direction", [Direction.OUT, Direction.IN])
@pytest.mark.parametrize("rules", [USUAL_RULES, LATER])
def test_what_was_in_other_packets_is_not_asked_about(direction: Direction, rules: tuple[PolicyRule, ...]) -> None:
    """No reverse path filter is (secpath_exists in fib_validate_source): all that it would drop else stays open."""
    found = kernel(BUILT).set("ipv4/conf/all/rp_filter", 1).kernel()
    names = {interface.name: index for index, interface in found.host.interfaces.items()}
    away = Route(254, RouteKind.UNICAST, ip_network(BUILT.ip("a", "n1")), (Hop(names["docker0"]),))
    sender = next(each.sandbox for each in BUILT.snapshot.containers.values() if each.name == "a")
    sending = replace(found.sandboxes[sender], policies=(block("0.0.0.0/0", direction),))
    changed = replace(
        found,
        host=replace(found.host, routes=(*found.host.routes, away), rules=rules),
        sandboxes={**found.sandboxes, sender: sending},
    )
    report = evaluate(replace(BUILT.snapshot, kernel=changed))
    by_name = {container.name: container for container in report.containers}
    paths = [path for path in report.pair(by_name["a"], by_name["h"]).paths if path.via is Via.HOST]
    whys = {path.undecided for path in paths if GATEWAYS[1] in path.addresses}
    assert whys == ({DOUBT.format(source=ALL, destination=ALL)} if direction is Direction.OUT else set())


@pytest.mark.parametrize(
    ("asked", "sealed", "told"),
    [("none", False, None), ("ipsec", False, ""), ("none", True, DOUBT), ("ipsec", True, DOUBT)],
)
def test_rules_for_packets_of_ipsec(asked: str, sealed: bool, told: str | None) -> None:
    """Where no policy selects them, packets are none; of what one selects, nobody knows."""
    found = kernel(BUILT).rules(f"-A INPUT -m policy --dir in --pol {asked} -j DROP").kernel()
    sender = next(each.sandbox for each in BUILT.snapshot.containers.values() if each.name == "a")
    policies = (block("0.0.0.0/0", Direction.OUT),) if sealed else ()
    sending = replace(found.sandboxes[sender], policies=policies)
    report = evaluate(replace(BUILT.snapshot, kernel=replace(found, sandboxes={**found.sandboxes, sender: sending})))
    by_name = {container.name: container for container in report.containers}
    paths = report.pair(by_name["a"], by_name["h"]).paths
    whys = {why for path in paths for why in path.undecided.split("; ")}
    expected = {told.format(source=ALL, destination=ALL)} if told is not None else set()
    assert whys == (expected | {"ipsec"} if sealed else expected)
