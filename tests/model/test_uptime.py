"""Uptimes in the engine's words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.model.uptime import uptime_bounds, uptime_seconds

HOUR = 3600


def human_duration(seconds: float) -> str:
    """Return what go-units' HumanDuration says, translated line by line."""
    whole, minutes, hours = int(seconds), int(seconds / 60), int(seconds / HOUR + 0.5)
    for text, holds in (
        ("Less than a second", whole < 1),
        ("1 second", whole == 1),
        (f"{whole} seconds", whole < 60),
        ("About a minute", minutes == 1),
        (f"{minutes} minutes", minutes < 60),
        ("About an hour", hours == 1),
        (f"{hours} hours", hours < 48),
        (f"{hours // 24} days", hours < 24 * 7 * 2),
        (f"{hours // 24 // 7} weeks", hours < 24 * 30 * 2),
        (f"{hours // 24 // 30} months", hours < 24 * 365 * 2),
    ):
        if holds:
            return text
    return f"{int(seconds / HOUR) // 24 // 365} years"


@given(st.one_of(st.floats(0, 200), st.floats(0, 1e4), st.floats(0, 3e6), st.floats(0, 4e8)))
def test_the_bounds_hold_for_every_uptime(seconds: float) -> None:
    """Whatever text the engine makes of an uptime, the uptime lies within the bounds read from the text."""
    lowest, below = uptime_bounds(f"Up {human_duration(seconds)}") or (None, None)
    assert lowest is not None
    assert below is not None
    assert lowest <= seconds < below


@given(st.floats(0, 4e8), st.floats(0, 4e8))
def test_a_longer_uptime_never_reads_shorter(one: float, other: float) -> None:
    """Lower bounds are in the order of the uptimes, so one that fell means a restart."""
    shorter, longer = sorted((one, other))
    lower = uptime_seconds(f"Up {human_duration(shorter)}")
    upper = uptime_seconds(f"Up {human_duration(longer)}")
    assert lower is not None
    assert upper is not None
    assert lower <= upper


@pytest.mark.parametrize(
    ("status", "bounds"),
    [
        ("Up Less than a second", (0, 1)),
        ("Up 1 second", (1, 2)),
        ("Up 59 seconds", (59, 60)),
        ("Up About a minute", (60, 120)),
        ("Up 2 minutes (unhealthy)", (120, 180)),
        ("Up About an hour (Paused)", (3600, 5400)),
        ("Up 3 hours (health: starting)", (9000, 12600)),
        ("Up 2 days", (171000, 257400)),
    ],
)
def test_statuses_are_read(status: str, bounds: tuple[int, int]) -> None:
    """The engine's texts give the seconds that they stand for, whatever follows in brackets."""
    assert uptime_bounds(status) == bounds
    assert uptime_seconds(status) == bounds[0]


@pytest.mark.parametrize(
    "status",
    ["", "Up", "Created", "Exited (0) 2 hours ago", "Restarting (1) 3 seconds ago", "Up 3 moons", "up 3 s"],
)
def test_other_statuses_tell_no_uptime(status: str) -> None:
    """A text without an uptime gives None, never a guess."""
    assert uptime_seconds(status) is None
