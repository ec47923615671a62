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
        # of a list that has little to do with the one before, most documents are looked for in their own place alone
        spare = 4 * len(documents)
        found: list[Meaning] = []
        while at < len(documents):
            if place < len(before) and before[place] == documents[at]:
                run = _run(before, place, documents, at)
                same = known[place : place + run]
                if holds is not None:
                    pairs = zip(documents[at : at + run], same, strict=True)
                    same = [
                        meaning if holds(document, meaning) else understand(document) for document, meaning in pairs
                    ]
                found += same
                place, at = place + run, at + run
                continue
            further = 0
            if spare > 0:
                further = _further(before, place, documents[at])
                spare -= further or min(_AHEAD, len(before) - place)
                place += further
            if not further:
                found.append(understand(documents[at]))
                at += 1
                place = place if spare > 0 else at
        self._documents, self._meanings = documents, found
        return found


def _further(before: Sequence[object], place: int, document: object) -> int:
    """Return how far on behind a place of a list a document is, 0 where it is not near."""
    try:
        return before.index(document, place + 1, place + _AHEAD) - place
    except ValueError:
        return 0


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
