"""What a soak complains about."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest

from tests.soak import __main__ as soak_module
from tests.soak.__main__ import LEAST_EVENTS, Soak

if TYPE_CHECKING:
    from tests.cli.service import Service
    from tests.lab import Engine


class Weather(Soak):
    """A storm of which only the outcome is known."""

    def __init__(self, events: float) -> None:
        super().__init__(cast("Engine", None), cast("Service", None))
        self._outcome = events

    def storm(self, seconds: float) -> tuple[float, float]:
        """Return what came of it."""
        del seconds
        return 9.0, self._outcome


@pytest.mark.parametrize(("events", "complaints"), [(LEAST_EVENTS, 0), (LEAST_EVENTS - 0.1, 1)])
def test_a_storm_has_to_be_one(events: float, complaints: int) -> None:
    """With fewer events a second than that the soak has missed its goal, however flat memory was."""
    soaked = Weather(events)
    soak_module.storm(soaked, 60)
    assert len(soaked.missed) == complaints
