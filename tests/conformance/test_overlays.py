"""Members of overlay networks, and how they reach what is on no overlay, on real engines: packets are the judge."""

from __future__ import annotations

import pytest

from tests.conformance.generator import Case
from tests.conformance.runner import run_case
from tests.lab import VERSIONS, Container, Network, Topology

pytestmark = pytest.mark.lab

TOPOLOGY = Topology(
    networks=(
        Network("over", "overlay", {}, ("--attachable",)),
        Network("inner", "overlay", {}, ("--attachable", "--internal")),
        Network("plain", "bridge", {}, ("--subnet=10.100.1.0/24",)),
    ),
    containers=(
        Container("one", "over", flags=("--publish=20001:80",)),
        Container("two", "over"),
        Container("both", "over", also=("plain",)),
        Container("shut", "inner"),
        Container("next", "plain", flags=("--publish=20002:80",)),
        Container("open", "host"),
    ),
)

OF_A_SWARM = Topology(
    networks=(
        Network("template", "macvlan", {"parent": "eth10"}, ("--config-only", "--subnet=10.100.2.0/24")),
        Network("lan", "macvlan", {}, ("--scope=swarm", "--attachable", "--config-from=template")),
        Network("bridged", "bridge", {}, ("--scope=swarm", "--attachable")),
        Network("plain", "bridge", {}, ("--subnet=10.100.1.0/24",)),
    ),
    containers=(
        Container("lan1", "lan"),
        Container("lan2", "lan"),
        Container("one", "bridged", flags=("--publish=20001:80",)),
        Container("two", "bridged"),
        Container("next", "plain", flags=("--publish=20002:80",)),
        Container("open", "host"),
    ),
)
"""Networks that a swarm made, of which `GET /networks` leaves out options and subnets."""


@pytest.mark.parametrize("version", VERSIONS)
def test_whoever_is_on_an_overlay_goes_out_by_docker_gwbridge(version: str) -> None:
    """No list tells with which address; unless namespaces are read, packets by that are undecided, and not lost."""
    outcome = run_case(Case(version, TOPOLOGY, swarm=True))
    assert outcome.enforced.disagreements == ()
    assert outcome.enforced.doubts == frozenset()
    assert outcome.unread == ()
    assert outcome.declared.disagreements == ()


@pytest.mark.parametrize("version", VERSIONS)
def test_networks_that_a_swarm_made(version: str) -> None:
    """What their options say is undecided where the API alone is asked."""
    outcome = run_case(Case(version, OF_A_SWARM, swarm=True))
    assert outcome.enforced.disagreements == ()
    assert outcome.enforced.doubts == frozenset()
    assert outcome.unread == ()
    assert outcome.declared.disagreements == ()
