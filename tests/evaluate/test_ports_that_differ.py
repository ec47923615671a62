"""Ports that nothing tells apart are looked at together, however many intervals they are."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.evaluate import explain
from exporter.evaluate.enforced.packets import SOURCE_PORT, Atom, PortsDiffer, only
from exporter.model.ranges import Ranges
from exporter.model.reach import Protocol
from tests.hosts import host
from tests.kernels import kernel
from tests.looks import OPEN, UNKNOWN

_HIGHEST = 30
_PORTS = st.integers(1, _HIGHEST)
_SETS = st.lists(st.tuples(_PORTS, _PORTS), max_size=5).map(Ranges.union)


@given(_SETS.filter(bool), st.lists(_SETS, max_size=4))
def test_parts_are_the_ports_in_the_same_sets(ports: Ranges, sets: list[Ranges]) -> None:
    """No port is lost or in two parts; of each set a part has all or nothing, and no two parts are in the same ones."""
    parts = [part.ports for part in PortsDiffer(Atom(ports), sets).parts]
    assert sorted(port for part in parts for port in part.numbers()) == [*ports.numbers()]
    told = [tuple(each.holds(part) for each in sets) for part in parts]
    assert not any(held is None for holds in told for held in holds)
    assert len({*told}) == len(told)


@given(_SETS, _SETS.filter(bool))
def test_what_a_set_holds_of_another(one: Ranges, other: Ranges) -> None:
    """It is all, nothing or a part."""
    held = {number in one for number in other.numbers()}
    assert one.holds(other) is (held.pop() if len(held) == 1 else None)


@given(_SETS.filter(bool))
def test_a_single_port(ports: Ranges) -> None:
    """Only one port is single."""
    numbers = [*ports.numbers()]
    assert Atom(ports).single == (numbers[0] if len(numbers) == 1 else None)
    assert only(numbers[0]).single == numbers[0]


def test_a_thousand_ports_of_a_set_are_one_part() -> None:
    """The others are another."""
    odd = Ranges.union((port, port) for port in range(1, 2000, 2))
    everything = Atom(Ranges(((1, 65535),)))
    assert len(PortsDiffer(everything, [odd]).parts) == 2


SINGLED_OUT = {
    "one": "-I DOCKER-USER -p tcp --sport 40000 -j DROP",
    "one, of answers": "-I DOCKER-USER -p tcp --dport 40000 -j DROP",
    "several": "-I DOCKER-USER -p tcp -m multiport --sports 40000,50000:50100 -j DROP",
}
TOO_MANY = {
    "a third": "-I DOCKER-USER -p tcp --sport 40000:50000 -j DROP",
    "all but one": "-I DOCKER-USER -d 172.17.0.3 -p tcp -m multiport --sports 1:39999,40001:65535 -j DROP",
}


@pytest.mark.parametrize("name", SINGLED_OUT)
def test_a_few_ports_that_a_kernel_may_pick_decide_nothing(name: str) -> None:
    """Who sends by TCP is not kept out by what is dropped from a few ports, and `explain` tells of the others."""
    seen = kernel(host("28.5").container("a").container("b")).engine_rules().rules(SINGLED_OUT[name]).look()
    assert seen.direct("a", "b", "bridge", "80/tcp") == OPEN
    assert not seen.reasons("a", "b")
    (found,) = explain(seen.snapshot, seen.report, "a", "b").trips
    assert found.outcome == "arrives in b and is answered"
    assert [leg.name for leg in found.legs] == ["request", "answer"]


@pytest.mark.parametrize("name", TOO_MANY)
def test_many_ports_that_a_kernel_may_pick_leave_it_open(name: str) -> None:
    """Where many ports are dropped, nobody knows whether the one that is picked is among them."""
    seen = kernel(host("28.5").container("a").container("b")).engine_rules().rules(TOO_MANY[name]).look()
    assert seen.direct("a", "b", "bridge", "80/tcp") == UNKNOWN
    (found,) = explain(seen.snapshot, seen.report, "a", "b", Protocol.TCP).trips
    assert found.outcome == f"perhaps arrives in b and is answered; not known: {SOURCE_PORT}"
    assert [leg.name for leg in found.legs] == ["request", "answer"]


def test_a_few_ports_that_docker_proxy_may_get() -> None:
    """Whose connections to the container come from a port that is dropped makes new ones from others."""
    built = host("28.5").container("a").container("b", publish=["8080:80"])
    rules = "-I INPUT -i docker0 -p tcp --dport 40000 -j DROP", "-I INPUT -i docker0 -p tcp --sport 40001 -j DROP"
    of = kernel(built).engine_rules().rules(*rules)
    seen = of.look()
    assert seen.probe("a", "b", seen.gateway(), "8080/tcp") == OPEN
    address = ip_address(seen.gateway())
    (found,) = explain(seen.snapshot, seen.report, "a", "b", Protocol.TCP, 8080, address).trips
    assert [leg.name for leg in found.legs] == [
        "request", "answer", "docker-proxy", "relayed request", "relayed answer",
    ]  # fmt: skip
