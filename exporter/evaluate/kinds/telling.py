"""Which numbers some sets and masks tell apart: addresses, ports or link addresses that rules and routes ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter.evaluate.enforced.asked_for import is_masked, mask_of
from exporter.evaluate.kinds.directory import version_of
from exporter.model.ranges import Membership

if TYPE_CHECKING:
    from collections.abc import Iterable

    from exporter.evaluate.kinds.steps import Bits
    from exporter.model.ranges import Ranges

Told = tuple[int, ...]
"""What is the same for numbers that are in the same sets, and whose bits are as the same masks ask."""


class Telling:
    """Tells numbers of one kind apart by the sets that they are in: by all at once, however many there are."""

    def __init__(self, sets: Iterable[Ranges], bits: Iterable[Bits] = ()) -> None:
        self._sets = Membership(sets)
        self._masks = sorted({_asked(each) for each in bits})

    def __bool__(self) -> bool:
        return bool(self._sets or self._masks)

    def of_all(self, numbers: Iterable[int]) -> dict[int, Told]:
        """Return what is told of numbers."""
        return {number: self.of(number) for number in sorted(numbers)}

    def of(self, number: int) -> Told:
        """Return what is told of a number; of many in their order at the least cost."""
        return self._sets.of(number), *(_is_as(number, *asked) for asked in self._masks)

    def parts(self, low: int, high: int) -> bool:
        """Return whether some of a range, whose length is a power of two, are told from others of it."""
        versions = (0, version_of(high))
        masked = any(mask & (high - low) for mask, _, version in self._masks if version in versions)
        return masked or self._sets.parts(low, high)


def _asked(bits: Bits) -> tuple[int, int, int]:
    """Return a mask, the value that is asked for, -1 where any of the bits is enough, and the version of IP."""
    return *mask_of(bits.match), bits.version


def _is_as(number: int, mask: int, value: int, version: int) -> int:
    return int(version in (0, version_of(number)) and is_masked(number, mask, value))
