"""Which of several networks carries a container's default routes, on real engines: packets are the judge."""

from __future__ import annotations

import pytest

from tests.conformance.generator import Case
from tests.conformance.runner import run_case
from tests.lab import VERSIONS, Container, Network, Topology

pytestmark = pytest.mark.lab

_NOT_MASQUERADED = {"com.docker.network.bridge.enable_ip_masquerade": "false"}
NETWORKS = (
    Network("four", "bridge", {}, ("--subnet=10.100.1.0/24",)),
    Network("both", "bridge", _NOT_MASQUERADED, ("--ipv6", "--subnet=fd00:a::/64", "--subnet=10.100.2.0/24")),
    Network("twin", "bridge", _NOT_MASQUERADED, ("--ipv6", "--subnet=fd00:b::/64", "--subnet=10.100.3.0/24")),
    Network("lan", "macvlan", {"parent": "eth10"}, ("--subnet=10.100.4.0/24",)),
    Network("inner", "macvlan", {"parent": "eth11"}, ("--internal", "--subnet=10.100.5.0/24")),
)
SIX = Network("six", "bridge", {}, ("--ipv6", "--subnet=fd00:c::/64", "--subnet=10.100.6.0/24"))
ALONE = Network("six", "bridge", {}, ("--ipv6", "--subnet=fd00:c::/64", "--ipv4=false"))

MEMBERS = (
    {"four": 0},
    {"both": 0},
    {"six": 0},
    {"four": 0, "both": -1},
    {"four": 1, "both": 0},
    {"four": 0, "six": 1},
    {"six": 1, "both": 0},
    {"twin": 1, "both": 0, "four": 2},
    {"lan": 2, "both": 0},
    {"inner": 1, "four": 0},
    {"lan": 1, "four": 0},
)
"""Networks of one container each, with the priority that each is given as a gateway."""


@pytest.mark.parametrize("version", VERSIONS)
def test_default_routes(version: str) -> None:
    """Before 29.5, a network with gateways of both versions of IP is taken before one with a higher priority."""
    prioritised = version == VERSIONS[-1]
    containers = (_member(number, on, prioritised=prioritised) for number, on in enumerate(MEMBERS, 1))
    networks = (*NETWORKS, ALONE if prioritised else SIX)
    outcome = run_case(Case(version, Topology(networks=networks, containers=tuple(containers))))
    assert outcome.enforced.disagreements == ()
    assert outcome.enforced.doubts == frozenset()
    assert outcome.unread == ()
    assert outcome.declared.disagreements == ()


def test_ports_of_routed_networks_are_open_at_the_gateways_endpoint() -> None:
    """Whoever is on several networks in gateway mode routed has ports open at the address on one of them alone."""
    routed = {f"com.docker.network.bridge.gateway_mode_ipv{family}": "routed" for family in (4, 6)}
    networks = (
        Network("led", "bridge", routed, ("--ipv6", "--subnet=fd00:a::/64", "--subnet=10.100.1.0/24")),
        Network("other", "bridge", routed, ("--ipv6", "--subnet=fd00:b::/64", "--subnet=10.100.2.0/24")),
        Network("plain", "bridge", {}, ("--subnet=10.100.3.0/24",)),
    )
    on: tuple[dict[str, int], ...] = (
        {"led": 0, "other": 0}, {"led": 0, "other": 1}, {"led": 0, "plain": 1}, {"led": 0}, {"plain": 0},
    )  # fmt: skip
    containers = tuple(_member(number, each, prioritised=True) for number, each in enumerate(on, 1))
    outcome = run_case(Case(VERSIONS[-1], Topology(networks=networks, containers=containers)))
    assert outcome.enforced.disagreements == ()
    assert outcome.unread == ()
    assert outcome.declared.disagreements == ()


def _member(number: int, on: dict[str, int], *, prioritised: bool) -> Container:
    """Return a container on networks, with a published port."""
    published = f"--publish={20000 + number}:80"
    if not prioritised:
        first, *others = on
        return Container(f"c{number}", first, tuple(others), (published,))
    first, *flags = (f"name={network},gw-priority={priority}" for network, priority in on.items())
    return Container(f"c{number}", first, flags=(*(f"--network={each}" for each in flags), published))
