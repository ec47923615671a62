"""What was found out about sandboxes at the look before, and follows from the same again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from exporter.model.snapshot import Snapshot

Finding = TypeVar("Finding")


class Kept(Generic[Finding]):
    """Findings by sandbox, as long as what they follow from are the same objects, and engine and networks are equal.

    What is parsed again from an equal document is the same object (`parse/memory.py`).
    """

    def __init__(self) -> None:
        self._ground: tuple[object, ...] = ()
        self._old: Mapping[str, tuple[tuple[object, ...], Finding]] = {}
        self._new: dict[str, tuple[tuple[object, ...], Finding]] = {}

    def turn(self, snapshot: Snapshot) -> None:
        """Begin another look; what the one before did not ask for is forgotten."""
        ground = snapshot.networks, snapshot.engine
        self._old = self._new if ground == self._ground else {}
        self._ground, self._new = ground, {}

    def __call__(self, sandbox: str, causes: tuple[object, ...], find: Callable[[], Finding]) -> Finding:
        """Return what follows for a sandbox."""
        known = self._old.get(sandbox)
        if known is None or any(one is not other for one, other in zip(known[0], causes, strict=True)):
            known = causes, find()
        self._new[sandbox] = known
        return known[1]
