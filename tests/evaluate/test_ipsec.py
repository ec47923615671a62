"""Policies of IPsec in the evaluator: whom they select is undecided, and nobody is taken for another."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network

import pytest

from exporter.evaluate import evaluate
from exporter.evaluate.enforced.ipsec import DOUBT
from exporter.model.namespace import Direction, IpsecPolicy
from tests.hosts import host
from tests.kernels import kernel

BUILT = host("28.5").network("n1").network("n2").container("a", "n1").container("b", "n1").container("h", "host").look()
ALL = ip_network("0.0.0.0/0")
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
