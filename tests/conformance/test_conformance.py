"""Random hosts on real engines: no verdict may differ from what packets do."""

from __future__ import annotations

import pytest

from tests.conformance.generator import generate
from tests.conformance.runner import run_case
from tests.lab import VERSIONS

SEEDS = range(1, 13)


@pytest.mark.lab
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("version", VERSIONS)
def test_packets_agree(version: str, seed: int) -> None:
    """Every probe of a random host arrives exactly where the report says."""
    outcome = run_case(generate(version, seed))

    again = f"python -m tests.conformance --version {version} --seed {seed}"
    assert not outcome.comparison.disagreements, "\n".join((again, *outcome.comparison.disagreements))


def test_a_seed_is_one_host() -> None:
    """The same seed gives the same host, so that a failure can be repeated."""
    assert generate("28.5", 7) == generate("28.5", 7)
    assert generate("28.5", 7) != generate("28.5", 8)
