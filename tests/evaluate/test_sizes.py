"""Hosts larger than any, in reasonable memory."""

from __future__ import annotations

import tracemalloc
from itertools import combinations, islice
from typing import TYPE_CHECKING

import pytest

from exporter.evaluate import evaluate
from exporter.evaluate.enforced.walk import ENDLESS
from exporter.model.reach import Verdict
from exporter.parse import parse
from tests.bench.hosts import Size, layout, measured_in_a_child
from tests.hosts import ALL, Host, host
from tests.kernels import kernel

if TYPE_CHECKING:
    from collections.abc import Callable

    from exporter.model.observation import Observation


def peak_bytes(observation: Observation) -> int:
    """Return the memory that parsing and evaluating takes at its height."""
    tracemalloc.start()
    evaluate(parse(observation))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


def crowd(version: str, size: int) -> Host:
    """Return containers on one network."""
    built = host(version).network("net", subnets=("10.0.0.0/8",))
    for index in range(size):
        built.container(f"c{index}", "net")
    return built


def suburbs(version: str, size: int) -> Host:
    """Return networks with one container each."""
    built = host(version)
    for index in range(size):
        built.network(f"n{index}").container(f"c{index}", f"n{index}")
    return built


def publishers(version: str, size: int) -> Host:
    """Return networks with one container each that publishes a port."""
    built = host(version)
    for index in range(size):
        built.network(f"n{index}").container(f"c{index}", f"n{index}", publish=[f"{10_000 + index}:80"])
    return built


def society(version: str, size: int) -> Host:
    """Return containers each of which is on another three of a few networks."""
    built = host(version)
    names = [f"n{index}" for index in range(13)]
    for name in names:
        built.network(name, subnets=(f"10.{names.index(name)}.0.0/16",))
    for index, networks in enumerate(islice(combinations(names, 3), size)):
        built.container(f"c{index}", *networks, publish=[f"{10_000 + index}:80"])
    return built


@pytest.mark.parametrize(
    ("town", "size", "mebibytes"),
    [(crowd, 1000, 40), (suburbs, 1000, 30), (society, 80, 30), (publishers, 80, 30)],
    ids=["a thousand on one network", "a thousand networks", "80 sets of networks", "80 publishers"],
)
def test_large_hosts_are_evaluated(town: Callable[[str, int], Host], size: int, mebibytes: int) -> None:
    """Evaluation of a host of this size stays within this memory."""
    assert peak_bytes(town("29", size).observation()) < mebibytes * 2**20


@pytest.mark.parametrize("version", ALL)
def test_a_thousand_neighbours_all_reach_each_other(version: str) -> None:
    """The counts of a crowd are those of a complete graph."""
    report = evaluate(parse(crowd(version, 1000).observation()))
    assert report.totals.reachable_pairs == report.totals.pairs == 999_000
    radius = report.blast_radius
    assert (radius.isolated_containers, radius.max_reach, radius.largest_component) == (0, 999, 1000)


def test_hundred_thousand_rules_are_evaluated() -> None:
    """A host with as many rules is evaluated in bounded memory, and to the same verdicts as without the strangers'."""
    spent = measured_in_a_child("28.5", Size(20, 4, 100_000))
    print(f"{spent.rules} rules: {spent.parse + spent.evaluate:.0f} ms, {spent.peak:.0f} MiB")
    plain = evaluate(parse(layout("28.5", 20, 4, 0).observation()))
    assert spent.rules >= 100_000
    assert spent.pairs == plain.totals.reachable_pairs
    assert spent.peak < 600


@pytest.mark.parametrize("before", ["", "-j MARK --set-xmark 0x1/0x1"], ids=["plain", "with marks"])
def test_chains_in_a_circle_come_to_an_end(before: str) -> None:
    """Chains that call each other over and over leave verdicts undecided, with the reason, and evaluation ends."""
    built = kernel(host("28.5").container("one").container("two")).engine_rules()
    marking = [f"-A ROUND {before}"] if before else []
    built.rules(*marking, *(f"-A ROUND -p tcp -m tcp --dport {port} -j ABOUT" for port in range(1000, 1004)))
    built.rules("-A ABOUT -j ROUND", "-A ABOUT -j ROUND", "-A ABOUT -j ROUND", "-I DOCKER-USER -j ROUND")
    seen = built.look()
    undecided = [path for path in seen.pair("one", "two").paths if path.undecided]
    assert [(str(path.ports), path.protocol.value) for path in undecided] == [("1000-1003", "tcp")]
    assert {path.undecided for path in undecided} == {ENDLESS}


def test_ten_thousand_networks_are_apart() -> None:
    """Containers each on a network of their own reach nobody."""
    report = evaluate(parse(suburbs("29", 10_000).observation()))
    assert report.totals.reachable_pairs == 0
    assert report.blast_radius.isolated_containers == 10_000


def test_publishers_reach_each_other() -> None:
    """Every published port is open to every other network, and each path names it."""
    report = evaluate(parse(publishers("29", 100).observation()))
    assert report.totals.reachable_pairs == report.totals.pairs == 9900
    pair = report.pair(report.containers[0], report.containers[1])
    assert pair.verdict is Verdict.REACHABLE
    assert {str(path.ports) for path in pair.paths} == {"10001"}
