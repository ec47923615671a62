"""Sets of TCP or UDP ports as sorted intervals."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

LOWEST = 1
HIGHEST = 65535

_TEXT = re.compile(r"[0-9]{1,5}(-[0-9]{1,5})?(,[0-9]{1,5}(-[0-9]{1,5})?)*")


@dataclass(frozen=True, slots=True)
class PortSet:
    """An immutable set of ports, 1 to 65535; `intervals` are closed, sorted, disjoint and never adjacent."""

    intervals: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        for low, high in self.intervals:
            if not LOWEST <= low <= high <= HIGHEST:
                raise ValueError(f"not an interval of ports: {low}-{high}" if low != high else f"not a port: {low}")
        for (_, high), (low, _) in pairwise(self.intervals):
            if low <= high + 1:
                raise ValueError(f"intervals touch or are out of order: {self.intervals}")

    @classmethod
    def of(cls, *ports: int) -> Self:
        """Return the set of exactly these ports."""
        return cls.from_intervals((port, port) for port in ports)

    @classmethod
    def from_intervals(cls, intervals: Iterable[tuple[int, int]]) -> Self:
        """Return the union of closed intervals, given in any order."""
        merged: list[tuple[int, int]] = []
        for low, high in sorted(intervals):
            if merged and low <= merged[-1][1] + 1:
                merged[-1] = (merged[-1][0], max(merged[-1][1], high))
            else:
                merged.append((low, high))
        return cls(tuple(merged))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the set that `str()` of it prints: `"80,443,1024-65535"`, or `""` for none.

        Raises ValueError for anything else.
        """
        if not text:
            return cls()
        if not _TEXT.fullmatch(text):
            raise ValueError(f"not a set of ports: {text!r}")
        parts = (part.partition("-") for part in text.split(","))
        return cls.from_intervals((int(low), int(high or low)) for low, _, high in parts)

    def __bool__(self) -> bool:
        return bool(self.intervals)

    def __len__(self) -> int:
        return sum(high - low + 1 for low, high in self.intervals)

    def __contains__(self, port: int) -> bool:
        return any(low <= port <= high for low, high in self.intervals)

    def __iter__(self) -> Iterator[int]:
        for low, high in self.intervals:
            yield from range(low, high + 1)

    def __or__(self, other: Self) -> Self:
        if not other.intervals:
            return self
        if not self.intervals:
            return other
        return self.from_intervals(self.intervals + other.intervals)

    def __invert__(self) -> Self:
        edges = [LOWEST - 1, *(edge for interval in self.intervals for edge in interval), HIGHEST + 1]
        gaps = zip(edges[::2], edges[1::2], strict=True)
        return type(self)(tuple((high + 1, low - 1) for high, low in gaps if low - high > 1))

    def __and__(self, other: Self) -> Self:
        return ~(~self | ~other)

    def __sub__(self, other: Self) -> Self:
        return self & ~other if other.intervals else self

    def __le__(self, other: Self) -> bool:
        return not self - other

    def __str__(self) -> str:
        return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in self.intervals)


NO_PORTS = PortSet()
ALL_PORTS = PortSet(((LOWEST, HIGHEST),))
