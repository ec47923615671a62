"""Sets of whole numbers as intervals."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.model.ranges import Ranges

HIGHEST = 40
NUMBERS = range(-2, HIGHEST + 3)
INTERVALS = st.lists(st.tuples(st.integers(0, HIGHEST), st.integers(0, HIGHEST)), max_size=6)
SETS = INTERVALS.map(Ranges.union)


def members(ranges: Ranges) -> set[int]:
    """Return the numbers of a set, one by one."""
    return {number for low, high in ranges.intervals for number in range(low, high + 1)}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([], ()),
        ([(5, 4)], ()),
        ([(1, 2), (3, 4)], ((1, 4),)),
        ([(6, 9), (1, 2), (2, 4)], ((1, 4), (6, 9))),
        ([(1, 9), (3, 4)], ((1, 9),)),
    ],
)
def test_a_union_is_sorted_and_merged(given: list[tuple[int, int]], expected: tuple[tuple[int, int], ...]) -> None:
    """Overlapping and adjacent intervals become one, empty ones none."""
    assert Ranges.union(given).intervals == expected


def test_of_numbers() -> None:
    """A set can be given by its numbers."""
    assert Ranges.of(3, 1, 2, 9).intervals == ((1, 3), (9, 9))
    assert not Ranges.of()
    assert Ranges.of(0)


@given(INTERVALS)
def test_a_union_has_the_numbers_of_its_intervals(intervals: list[tuple[int, int]]) -> None:
    """A number is in the union exactly when it is in one of the intervals."""
    union = Ranges.union(intervals)
    for number in NUMBERS:
        assert (number in union) is any(low <= number <= high for low, high in intervals)


@given(SETS)
def test_equal_sets_are_equal_values(ranges: Ranges) -> None:
    """Intervals are sorted, disjoint and never adjacent: however a set was made, it is the same value."""
    assert Ranges.of(*members(ranges)) == ranges
    assert bool(ranges) is bool(members(ranges))
    assert all(first[1] + 1 < second[0] for first, second in zip(ranges.intervals, ranges.intervals[1:], strict=False))


@given(SETS, st.integers(0, HIGHEST), st.integers(0, HIGHEST))
def test_covers_says_all_none_or_some(ranges: Ranges, one: int, other: int) -> None:
    """An interval is covered as a whole, not at all, or in part."""
    low, high = min(one, other), max(one, other)
    inside = [number in members(ranges) for number in range(low, high + 1)]
    assert ranges.covers(low, high) is (True if all(inside) else None if any(inside) else False)


@given(SETS, SETS)
def test_without_takes_numbers_away(first: Ranges, second: Ranges) -> None:
    """What is left are the numbers of one set that are not in the other, as a set like any other."""
    left = first.without(second)
    assert members(left) == members(first) - members(second)
    assert Ranges.union(left.intervals) == left


@given(SETS, SETS)
def test_taking_away_and_adding_again(first: Ranges, second: Ranges) -> None:
    """A set is what it shares with another, and what it does not share."""
    shared = first.without(first.without(second))
    assert Ranges.union((*shared.intervals, *first.without(second).intervals)) == first
