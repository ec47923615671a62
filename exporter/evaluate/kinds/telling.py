"""Which numbers some sets and masks tell apart: addresses, ports or link addresses that rules and routes ask for."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from typing import TYPE_CHECKING

from exporter.evaluate.kinds.directory import version_of
from exporter.model.firewall import HasBits

if TYPE_CHECKING:
    from collections.abc import Iterable

    from exporter.evaluate.kinds.rules import Bits
    from exporter.model.ranges import Ranges

Told = tuple[int, ...]
"""What is the same for numbers that are in the same sets, and whose bits are as the same masks ask."""


class Telling:
    """Tells numbers of one kind apart by the sets that they are in: by all at once, however many there are."""

    def __init__(self, sets: Iterable[Ranges], bits: Iterable[Bits] = ()) -> None:
        changes: dict[int, int] = defaultdict(int)
        for number, ranges in enumerate(sets):
            for low, high in ranges.intervals:
                changes[low] ^= 1 << number
                changes[high + 1] ^= 1 << number
        self._edges = sorted(edge for edge, change in changes.items() if change)
        self._changes = [changes[edge] for edge in self._edges]
        self._masks = sorted({_asked(each) for each in bits})
        self._known: dict[int, int] = {}
        self._numbers: dict[int, int] = {}
        self._place, self._inside = 0, 0

    def __bool__(self) -> bool:
        return bool(self._edges or self._masks)

    def of_all(self, numbers: Iterable[int]) -> dict[int, Told]:
        """Return what is told of numbers."""
        return {number: self.of(number) for number in sorted(numbers)}

    def of(self, number: int) -> Told:
        """Return what is told of a number; of many in their order at the least cost."""
        place = bisect_right(self._edges, number)
        found = self._known.get(place)
        if found is None:
            found = self._known[place] = self._numbers.setdefault(self._sets_at(place), len(self._numbers))
        return found, *(_is_as(number, *asked) for asked in self._masks)

    def _sets_at(self, place: int) -> int:
        """Return the sets that begin and do not end before a place, as bits."""
        if place < self._place:
            self._place, self._inside = 0, 0
        for change in self._changes[self._place : place]:
            self._inside ^= change
        self._place = place
        return self._inside

    def parts(self, low: int, high: int) -> bool:
        """Return whether sets hold a part of a range of numbers."""
        return bisect_right(self._edges, low) != bisect_right(self._edges, high)

    def masks(self, low: int, high: int) -> bool:
        """Return whether masks tell some of a range, whose length is a power of two, from others of it."""
        return any(mask & (high - low) for mask, _, version in self._masks if version in (0, version_of(high)))

    def of_first(self, low: int, high: int) -> Told:
        """Return what is told of a range that no set parts: masks look at the bits that all in it share."""
        versions = (0, version_of(high))
        return self.of(low)[0], *(low & mask & ~(high - low) for mask, _, version in self._masks if version in versions)


def _asked(bits: Bits) -> tuple[int, int, int]:
    """Return a mask, the value that is asked for, -1 where any of the bits is enough, and the version of IP."""
    match, version = bits
    return match.mask, match.value if isinstance(match, HasBits) else -1, version


def _is_as(number: int, mask: int, value: int, version: int) -> int:
    if version not in (0, version_of(number)):
        return 0
    return int(number & mask != 0) if value < 0 else int(number & mask == value)
