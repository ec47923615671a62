"""Sets of whole numbers as sorted intervals: addresses, ports, protocols, marks."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from itertools import chain
from typing import TYPE_CHECKING, Self

from exporter.model.records import record

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


@record
class Ranges:
    """An immutable set of whole numbers; `intervals` are closed, sorted, disjoint and never adjacent."""

    intervals: tuple[tuple[int, int], ...] = ()

    @classmethod
    def of(cls, *numbers: int) -> Self:
        """Return the set of exactly these numbers."""
        return cls.union((number, number) for number in numbers)

    @classmethod
    def union(cls, intervals: Iterable[tuple[int, int]]) -> Self:
        """Return the union of closed intervals, given in any order; one that ends before it begins is empty."""
        told = [interval for interval in intervals if interval[0] <= interval[1]]
        if len(told) < 2:
            return cls(tuple(told))
        merged: list[tuple[int, int]] = []
        for low, high in sorted(told):
            if merged and low <= merged[-1][1] + 1:
                merged[-1] = (merged[-1][0], max(merged[-1][1], high))
            else:
                merged.append((low, high))
        return cls(tuple(merged))

    def without(self, other: Ranges) -> Self:
        """Return the numbers that are not in another set."""
        kept: list[tuple[int, int]] = []
        for low, high in self.intervals:
            begin = low
            position = max(0, bisect_right(other.intervals, (low,)) - 1)
            while position < len(other.intervals) and (hole := other.intervals[position])[0] <= high:
                if hole[0] > begin:
                    kept.append((begin, hole[0] - 1))
                begin = max(begin, hole[1] + 1)
                position += 1
            if begin <= high:
                kept.append((begin, high))
        return type(self)(tuple(kept))

    def holds(self, other: Ranges) -> bool | None:
        """Return whether the set has all numbers of another: True, False if it has none of them, None for a part."""
        first: bool | None = None
        for low, high in other.intervals:
            covered = self.covers(low, high)
            if covered is None or (first is not None and covered is not first):
                return None
            first = covered
        return bool(first)

    def numbers(self) -> Iterator[int]:
        """Yield the numbers one by one."""
        return chain.from_iterable(range(low, high + 1) for low, high in self.intervals)

    def __bool__(self) -> bool:
        return bool(self.intervals)

    def __contains__(self, number: int) -> bool:
        position = bisect_right(self.intervals, (number + 1,)) - 1
        return position >= 0 and self.intervals[position][1] >= number

    def covers(self, low: int, high: int) -> bool | None:
        """Return whether the set holds all of a closed interval: True, False for none of it, None for a part."""
        position = bisect_right(self.intervals, (low + 1,)) - 1
        if position >= 0 and self.intervals[position][1] >= low:
            return True if self.intervals[position][1] >= high else None
        following = position + 1
        touches = following < len(self.intervals) and self.intervals[following][0] <= high
        return None if touches else False


class Membership:
    """Tells in which of some sets numbers are: by all at once, however many these are."""

    def __init__(self, sets: Iterable[Ranges]) -> None:
        changes: dict[int, int] = defaultdict(int)
        for number, ranges in enumerate(sets):
            for low, high in ranges.intervals:
                changes[low] ^= 1 << number
                changes[high + 1] ^= 1 << number
        self._edges = sorted(edge for edge, change in changes.items() if change)
        self._changes = [changes[edge] for edge in self._edges]
        self._known: dict[int, int] = {}
        self._numbers: dict[int, int] = {}
        self._place, self._inside = 0, 0

    def __bool__(self) -> bool:
        return bool(self._edges)

    def of(self, number: int) -> int:
        """Return what is the same for all numbers in the same sets; of many in their order at the least cost."""
        place = bisect_right(self._edges, number)
        found = self._known.get(place)
        if found is None:
            found = self._known[place] = self._numbers.setdefault(self._sets_at(place), len(self._numbers))
        return found

    def parts(self, low: int, high: int) -> bool:
        """Return whether sets begin or end within a range of numbers."""
        return bisect_right(self._edges, low) != bisect_right(self._edges, high)

    def _sets_at(self, place: int) -> int:
        """Return the sets that begin and do not end before a place, as bits."""
        if place < self._place:
            self._place, self._inside = 0, 0
        for change in self._changes[self._place : place]:
            self._inside ^= change
        self._place = place
        return self._inside
