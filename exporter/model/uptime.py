"""What the list's `Status` says about a container's age: "Up 3 hours (Paused)"."""

from __future__ import annotations

import re

_STATUS = re.compile(
    r"Up (?:(Less than a second|About a minute|About an hour)|(\d{1,9}) (\w+?)s?)(?: \(.*\))?", re.ASCII
)

_HOUR = 3600
_HALF_HOUR = 1800
_YEAR = 365 * 24 * _HOUR

_WORDS = {
    "Less than a second": (0, 1),
    "About a minute": (60, 120),
    "About an hour": (_HOUR, _HOUR + _HALF_HOUR),
}
# From hours on go-units rounds to the nearest hour before it divides, so each such unit begins half an hour early.
_UNITS = {
    "second": (1, 0),
    "minute": (60, 0),
    "hour": (_HOUR, _HALF_HOUR),
    "day": (24 * _HOUR, _HALF_HOUR),
    "week": (7 * 24 * _HOUR, _HALF_HOUR),
    "month": (30 * 24 * _HOUR, _HALF_HOUR),
}


def uptime_bounds(status: str) -> tuple[int, int] | None:
    """Return seconds (lowest, below) with `lowest <= uptime < below`; None where the text tells no uptime.

    The texts are those of go-units' HumanDuration, which the engine puts behind "Up".
    """
    match = _STATUS.fullmatch(status)
    if match is None:
        return None
    words, number, unit = match.groups()
    if words is not None:
        return _WORDS[words]
    if unit == "year":
        # the last half hour of the second year is the one moment that is called "1 years"
        return max(int(number) * _YEAR, 2 * _YEAR - _HALF_HOUR), (int(number) + 1) * _YEAR
    if unit not in _UNITS:
        return None
    length, early = _UNITS[unit]
    return int(number) * length - early, (int(number) + 1) * length - early


def uptime_seconds(status: str) -> int | None:
    """Return the seconds that the container runs at least; None where the text tells no uptime."""
    bounds = uptime_bounds(status)
    return None if bounds is None else bounds[0]
