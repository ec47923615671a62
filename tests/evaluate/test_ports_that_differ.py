"""Ports that nothing tells apart are looked at together, however many intervals they are."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from exporter.evaluate.enforced.packets import Atom, PortsDiffer, only
from exporter.model.ranges import Ranges

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
