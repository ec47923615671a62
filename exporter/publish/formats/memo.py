"""Rendering shared verdicts once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from exporter.model.reach import PairVerdict

Rendered = TypeVar("Rendered")

_CAPACITY = 4096  # a report of 250 containers that see alike has 250 distinct verdicts, at worst it has 62,250


class PerVerdict(Generic[Rendered]):
    """Remembers what a function made of a verdict, by identity: evaluation shares one value among many pairs."""

    def __init__(self, render: Callable[[PairVerdict], Rendered]) -> None:
        self._render = render
        self._known: dict[int, tuple[PairVerdict, Rendered]] = {}

    def __call__(self, verdict: PairVerdict) -> Rendered:
        """Return the rendering of a verdict, made now or before."""
        known = self._known.get(id(verdict))
        if known is not None:
            return known[1]
        if len(self._known) >= _CAPACITY:
            self._known.clear()
        rendered = self._render(verdict)
        # The verdict is kept with its rendering, or its identity could pass to another one.
        self._known[id(verdict)] = verdict, rendered
        return rendered
