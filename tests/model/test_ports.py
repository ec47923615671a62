"""Sets of ports: the laws of set algebra, and the text that stands for a set."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.model.ports import ALL_PORTS, HIGHEST, LOWEST, NO_PORTS, PortSet

ports = st.integers(LOWEST, HIGHEST)
edges = st.sampled_from((LOWEST, LOWEST + 1, 80, 81, 82, HIGHEST - 1, HIGHEST))
intervals = st.tuples(ports | edges, ports | edges).map(lambda ends: (min(ends), max(ends)))
sets = st.lists(intervals, max_size=6).map(PortSet.from_intervals)


def members(of: PortSet) -> set[int]:
    """Return the set as Python's own."""
    return set(of)


@given(sets, sets, sets)
def test_union_and_intersection_are_lattice_operations(a: PortSet, b: PortSet, c: PortSet) -> None:
    """Both commute, associate, absorb each other, distribute over each other, and are idempotent."""
    assert (a | b, a & b) == (b | a, b & a)
    assert (a | (b | c), a & (b & c)) == ((a | b) | c, (a & b) & c)
    assert a | (a & b) == a & (a | b) == a
    assert a & (b | c) == (a & b) | (a & c)
    assert a | (b & c) == (a | b) & (a | c)
    assert a | a == a & a == a


@given(sets)
def test_complement_partitions_all_ports(a: PortSet) -> None:
    """A set and its complement have no port in common, and all ports together; twice is not at all."""
    assert a & ~a == NO_PORTS
    assert a | ~a == ALL_PORTS
    assert ~~a == a
    assert len(a) + len(~a) == HIGHEST


@given(sets, sets)
def test_de_morgan(a: PortSet, b: PortSet) -> None:
    """The complement of a union is the intersection of the complements, and the other way round."""
    assert ~(a | b) == ~a & ~b
    assert ~(a & b) == ~a | ~b


@given(sets)
def test_identities(a: PortSet) -> None:
    """No ports and all ports are neutral and absorbing."""
    assert a | NO_PORTS == a & ALL_PORTS == a - NO_PORTS == a
    assert a & NO_PORTS == a - a == a - ALL_PORTS == NO_PORTS
    assert a | ALL_PORTS == ALL_PORTS


@given(sets, sets)
def test_operations_are_those_of_pythons_sets(a: PortSet, b: PortSet) -> None:
    """Union, intersection, difference, inclusion, size and truth are what Python's sets make of the same ports."""
    assert members(a | b) == members(a) | members(b)
    assert members(a & b) == members(a) & members(b)
    assert members(a - b) == members(a) - members(b)
    assert (a <= b) == (members(a) <= members(b))
    assert (len(a), bool(a)) == (len(members(a)), bool(members(a)))


@given(sets, ports)
def test_membership_is_iteration(a: PortSet, port: int) -> None:
    """A port is in a set exactly when iterating yields it."""
    assert (port in a) == (port in members(a))


@given(sets, st.sampled_from((LOWEST - 1, HIGHEST + 1, -80, 10**9)))
def test_what_is_no_port_is_in_no_set(a: PortSet, number: int) -> None:
    """Zero and numbers beyond 65535 are in no set, nor in its complement."""
    assert number not in a
    assert number not in ~a


@given(sets, sets)
def test_equal_sets_are_equal_values(a: PortSet, b: PortSet) -> None:
    """There is one value for a set: the same ports compare equal, hash alike and print alike."""
    assert (a == b) == (members(a) == members(b)) == (str(a) == str(b))
    assert hash(PortSet.from_intervals(reversed(a.intervals))) == hash(a)


@given(sets)
def test_text_and_back(a: PortSet) -> None:
    """Parsing what a set prints gives the set."""
    assert PortSet.parse(str(a)) == a


@pytest.mark.parametrize(
    ("text", "intervals"),
    [
        ("", ()),
        ("80", ((80, 80),)),
        ("80,443,1024-65535", ((80, 80), (443, 443), (1024, 65535))),
        ("443,80", ((80, 80), (443, 443))),
        ("80,81,82-90", ((80, 90),)),
        ("1-65535", ((1, 65535),)),
    ],
)
def test_texts_are_read(text: str, intervals: tuple[tuple[int, int], ...]) -> None:
    """Parts may be in any order and may touch: the set is the same."""
    assert PortSet.parse(text).intervals == intervals


@pytest.mark.parametrize(
    "text", ["0", "65536", "-1", "90-80", "80-", "1_000", " 80", "80,", ",", "80-90-100", "http", "8 0", "80;81"]
)
def test_other_texts_are_refused(text: str) -> None:
    """What no set prints is a ValueError, never a guess."""
    with pytest.raises(ValueError, match=r"."):
        PortSet.parse(text)


@given(st.text(alphabet="0123456789-, ", max_size=12))
def test_any_text_is_a_set_or_refused(text: str) -> None:
    """Parsing returns a set that prints and parses to itself, or raises ValueError."""
    try:
        parsed = PortSet.parse(text)
    except ValueError:
        return
    assert PortSet.parse(str(parsed)) == parsed


@pytest.mark.parametrize(
    "intervals",
    [((0, 5),), ((5, 65536),), ((9, 8),), ((1, 5), (5, 9)), ((1, 5), (6, 9)), ((10, 20), (1, 5))],
)
def test_wrong_intervals_are_refused(intervals: tuple[tuple[int, int], ...]) -> None:
    """A value whose intervals are not sorted, disjoint and apart cannot be made."""
    with pytest.raises(ValueError, match="interval"):
        PortSet(intervals)
