"""Which of two containers started first, as far as their statuses tell."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from exporter.model.uptime import uptime_bounds

if TYPE_CHECKING:
    from exporter.model.observation import Sighting

Interval = tuple[datetime, datetime]


def started(sighting: Sighting | None) -> Interval | None:
    """Return the earliest and the latest moment of the container's start, None where its status does not tell."""
    bounds = uptime_bounds(sighting.status) if sighting else None
    if sighting is None or bounds is None:
        return None
    lowest, below = bounds
    try:
        return sighting.at - timedelta(seconds=below), sighting.at - timedelta(seconds=lowest)
    except OverflowError:  # before the calendar begins: no status of a real engine
        return None


def surely_before(first: Interval | None, second: Interval | None) -> bool:
    """Return whether the first start was certainly earlier than the second."""
    return first is not None and second is not None and first[1] < second[0]
