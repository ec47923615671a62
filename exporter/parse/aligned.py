"""What was understood of a list of documents at the look before: most of them are there again."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import compress, count
from operator import ne
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

Meaning = TypeVar("Meaning")

_AHEAD = 64
"""How far on a document is looked for in the list before: more than end at once in most cases."""

_STRIDE = 1 << 10
"""How many documents are compared at once, without looking at any of them by itself."""


class Aligned(Generic[Meaning]):
    """Meanings of the documents of a list, which are in the order of the list before but for some that came or went.

    A document is the same as another where it is equal: to that, `true` and `1` are one, and no source writes now this
    and now that.
    """

    def __init__(self) -> None:
        self._documents: Sequence[Mapping[str, Any]] = ()
        self._meanings: list[Meaning] = []

    def __call__(
        self,
        documents: Sequence[Mapping[str, Any]],
        understand: Callable[[Mapping[str, Any]], Meaning],
        holds: Callable[[Mapping[str, Any], Meaning], bool] | None = None,
    ) -> list[Meaning]:
        """Return what each document means. `holds` is whether what an equal one meant before is still so."""
        before, known = self._documents, self._meanings
        if not before:
            self._documents, self._meanings = documents, [understand(document) for document in documents]
            return self._meanings
        place = at = 0
        # of a list that has nothing to do with the one before, not every document is looked for at length
        spare = 4 * len(documents) + 16 * _AHEAD
        found: list[Meaning] = []
        while at < len(documents):
            run = _run(before, place, documents, at)
            if run:
                same = known[place : place + run]
                if holds is not None:
                    pairs = zip(documents[at : at + run], same, strict=True)
                    same = [
                        meaning if holds(document, meaning) else understand(document) for document, meaning in pairs
                    ]
                found += same
                place, at = place + run, at + run
                continue
            ahead = before[place + 1 : place + _AHEAD] if spare > 0 else ()
            further = next((number for number, other in enumerate(ahead, 1) if other == documents[at]), 0)
            spare -= further or len(ahead)
            place += further
            if not further:
                found.append(understand(documents[at]))
                at += 1
        self._documents, self._meanings = documents, found
        return found


def _run(before: Sequence[object], place: int, now: Sequence[object], at: int) -> int:
    """Return how many items from one place on are those of another list from another place on."""
    run = 0
    while True:
        one, other = before[place + run : place + run + _STRIDE], now[at + run : at + run + _STRIDE]
        alike = min(len(one), len(other))
        run += (same := next(compress(count(), map(ne, one, other)), alike))
        if same < _STRIDE:
            return run


@dataclass(slots=True)
class Indexed(Generic[Meaning]):
    """Meanings of documents that name interfaces, and the indexes that interfaces had then."""

    aligned: Aligned[Meaning] = field(default_factory=Aligned)
    indexes: Mapping[str, int] = field(default_factory=dict)

    def moved(self, indexes: Mapping[str, int]) -> frozenset[str]:
        """Return the names that stand for something else than then, or for nothing."""
        return frozenset(name for name, _ in indexes.items() ^ self.indexes.items())
