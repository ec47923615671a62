"""Random hosts on real engines: no verdict may differ from what packets do."""

from __future__ import annotations

import pytest

from tests.conformance.generator import generate
from tests.conformance.runner import Outcome, run_case
from tests.lab import VERSIONS

SEEDS = range(1, 9)
TAMPERED_SEEDS = range(101, 111)

UNTOLD = (
    "whether docker-proxy runs",
    "whether the host forwards IPv6",
    "whether the engine writes ip6tables rules",
    "whether they were left behind in the same namespace",
    "macvlan in mode vepa",
    "the linked container ",
    "the address belonged to a linked container",
    "the target ports of swarm services",
    "which ports swarm services publish",
)
"""How the reasons begin for which the API of these engines does not tell (docs/verdicts.md)."""


@pytest.mark.lab
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("version", VERSIONS)
def test_packets_agree(version: str, seed: int) -> None:
    """Every probe of a random host arrives exactly where the kernel's rules and the engine's configuration say."""
    outcome = run_case(generate(version, seed))

    check(outcome, f"python -m tests.conformance --version {version} --seed {seed}")
    assert not outcome.unread, "\n".join(outcome.unread)
    assert not outcome.declared.disagreements, "\n".join(outcome.declared.disagreements)
    assert {reason for reason in outcome.declared.unknown if not reason.startswith(UNTOLD)} == set()
    assert (outcome.report.totals.drift_open, outcome.report.totals.drift_closed) == (0, 0)


@pytest.mark.lab
@pytest.mark.parametrize("seed", TAMPERED_SEEDS)
@pytest.mark.parametrize("version", VERSIONS)
def test_packets_agree_whatever_somebody_did_to_the_host(version: str, seed: int) -> None:
    """Every probe of a random host that was tampered with arrives exactly where the kernel's rules say."""
    outcome = run_case(generate(version, seed), tampered=True)

    check(outcome, f"python -m tests.conformance --tampered --version {version} --seed {seed}")


def check(outcome: Outcome, again: str) -> None:
    """Assert that nothing is wrong, and nothing unknown that can be known."""
    assert outcome.report.evidence.kernel, outcome.report.missing
    assert outcome.report.evidence.sandboxes, outcome.report.missing
    assert not outcome.unlike, (again, outcome.unlike)
    changes = [f"changed {change.name}: {change.commands}" for change in outcome.truth.changes]
    assert not outcome.enforced.disagreements, "\n".join((again, *changes, *outcome.enforced.disagreements))
    assert not outcome.unexplained, (again, *changes, outcome.unexplained)


def test_a_seed_is_one_host() -> None:
    """The same seed gives the same host, so that a failure can be repeated."""
    assert generate("28.5", 7) == generate("28.5", 7)
    assert generate("28.5", 7) != generate("28.5", 8)
