"""What the exporter shows, put beside what packets did."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.story.truth import truth

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.cli.service import Service
    from tests.lab import Engine
    from tests.story.truth import Truth

IN_TIME = 1.0
"""Seconds within which a change of the host shows, though the next poll is a minute away."""

POLL = "--poll.interval=1m"

OF_ITSELF = ("docker_icc_exporter_", "docker_icc_evidence_wanted", "process_")
"""How names begin of what the exporter tells of itself, whether or not there is an engine."""

_VIA = 'docker_icc_reachable_pairs{via="'


def vias(samples: Mapping[str, float]) -> dict[str, int]:
    """Return the numbers of reachable pairs by the way that makes them so, without those that are 0."""
    found = {name[len(_VIA) : -2]: int(value) for name, value in samples.items() if name.startswith(_VIA)}
    return {via: number for via, number in found.items() if number}


def shows(samples: Mapping[str, float], icc: int, expected: Mapping[str, int]) -> bool:
    """Tell whether the gauges show these pairs, and their sum."""
    total = sum(expected.values())
    return (samples.get("icc_enabled"), samples.get("reachable_pairs_total"), vias(samples)) == (icc, total, expected)


def compare(exporter: Service, engine: Engine, icc: int, *, undecided: int = 0, **expected: int) -> Truth:
    """See the expected numbers in time, see packets agree with them pair by pair, and return what the packets did.

    So many of the pairs may be undecided; they count as reachable, and here they have to be.
    """
    exporter.seconds_until(lambda samples: shows(samples, icc, expected), IN_TIME)
    found = truth(engine)
    pairs = json.loads(exporter.get("/api/v1/report"))["pairs"]
    assert {(pair["source"], pair["destination"]) for pair in pairs} == found.pairs
    assert [pair["verdict"] for pair in pairs].count("unknown") == undecided
    samples = exporter.samples()
    assert shows(samples, icc, expected)
    assert samples["reachable_pairs_total"] == len(found.pairs)
    return found


def withdrawn(samples: Mapping[str, float]) -> bool:
    """Tell whether nothing is said of an engine but that it cannot be read, and what of it is asked for."""
    ours = {name for name in samples if not name.startswith(OF_ITSELF)}
    return ours == {"docker_icc_up"} and samples["docker_icc_up"] == 0
