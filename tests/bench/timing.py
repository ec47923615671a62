"""Durations of things that take turns, and what is told of them."""

from __future__ import annotations

import time
from statistics import median, quantiles
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def in_turns(
    actions: Mapping[str, Callable[[], object]], rounds: int, seldom: Mapping[str, int] | None = None
) -> dict[str, list[float]]:
    """Return how long the runs of each action took, in milliseconds.

    A, B, C, A, B, C …: what else the machine does meets all of them alike. `seldom` names actions that run in every
    so many rounds only. Each runs once before, unmeasured: connections are made then.
    """
    for action in actions.values():
        action()
    durations: dict[str, list[float]] = {name: [] for name in actions}
    for number in range(rounds):
        for name, action in actions.items():
            if number % (seldom or {}).get(name, 1) == 0:
                began = time.perf_counter()
                action()
                durations[name].append((time.perf_counter() - began) * 1000)
    return durations


def p99(values: list[float]) -> float:
    """Return the 99th percentile."""
    return quantiles(values, n=100, method="inclusive")[98]


def row(name: str, values: list[float], baseline: list[float], note: str = "") -> str:
    """Return a line of a table: median, p99, and the median as a multiple of the baseline's."""
    ratio = median(values) / median(baseline)
    return f"  {name:<44}{median(values):9.2f} ms{p99(values):10.2f} ms{ratio:9.2f}  {note}".rstrip()


def head(title: str, baseline: str) -> str:
    """Return the line above such lines."""
    return f"{title:<46}{'median':>12}{'p99':>13}{'ratio':>9}  to {baseline}"


def judged(goal: str, *, met: bool) -> str:
    """Return what was hoped for, and whether it came true."""
    return f"goal {goal}: {'met' if met else 'MISSED'}"
