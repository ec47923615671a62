"""What was found out about sandboxes and networks at the look before, and follows from the same again."""

from __future__ import annotations

from operator import is_
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from exporter.model.snapshot import Sandbox, Snapshot

Finding = TypeVar("Finding")


def changed(before: Mapping[str, Sandbox], now: Mapping[str, Sandbox]) -> frozenset[str]:
    """Return the sandboxes that came, went or are not what they were; most are the same object."""
    return frozenset(name for name, box in now.items() if (old := before.get(name)) is not box and old != box).union(
        before.keys() - now.keys()
    )


def identical(one: Sequence[object], other: Sequence[object]) -> bool:
    """Return whether two sequences hold the same objects."""
    return len(one) == len(other) and all(map(is_, one, other))


class Kept(Generic[Finding]):
    """Findings by id, as long as what they follow from are the same objects, and engine and networks are equal.

    What is parsed again from an equal document is the same object (`parse/memory.py`).
    """

    def __init__(self) -> None:
        self._ground: tuple[object, ...] = ()
        self._old: Mapping[str, tuple[Finding, *tuple[object, ...]]] = {}
        self._new: dict[str, tuple[Finding, *tuple[object, ...]]] = {}

    def turn(self, snapshot: Snapshot) -> None:
        """Begin another look; what the one before did not ask for is forgotten."""
        ground = snapshot.networks, snapshot.engine
        self._old = self._new if ground == self._ground else {}
        self._ground, self._new = ground, {}

    def __call__(self, own: str, causes: Sequence[object], find: Callable[[], Finding]) -> Finding:
        """Return what follows for a sandbox or a network."""
        known = self._old.get(own)
        if known is None or not identical(known[1:], causes):
            known = find(), *causes
        self._new[own] = known
        return known[0]
