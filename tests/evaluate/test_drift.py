"""Where the kernel does something else than the configuration promises, counted pair by pair."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from exporter.model.reach import Verdict
from tests.hosts import Host, host
from tests.kernels import kernel

if TYPE_CHECKING:
    from exporter.model.report import Report


def built() -> Host:
    """Return a closed default bridge and an open network, with namespaces that are shared and one in host mode."""
    return (
        host("28.5", icc=False)
        .network("shop")
        .container("db")
        .container("web", publish=["8080:80"])
        .container("side", "container:web")
        .container("api", "shop")
        .container("cart", "shop")
        .container("agent", "host")
    )


def counted(report: Report) -> tuple[int, int]:
    """Count by looking at every pair: open against the promise, and closed against it."""
    assert report.declared is not None
    verdicts = [
        (report.declared.between(one.sandbox, other.sandbox).verdict, report.pair(one, other).verdict)
        for one in report.containers
        for other in report.containers
        if one is not other
    ]
    return (
        verdicts.count((Verdict.BLOCKED, Verdict.REACHABLE)),
        verdicts.count((Verdict.REACHABLE, Verdict.BLOCKED)),
    )


@pytest.mark.parametrize(
    ("rule", "switch", "opens", "closes"),
    [
        ("", 1, False, False),
        ("", 0, True, False),
        ("-A DOCKER-USER -j DROP", 1, False, True),
        ("-A DOCKER-USER -i docker0 -o docker0 -j ACCEPT", 1, True, False),
        ("-A INPUT -j DROP", 1, False, True),
    ],
)
def test_drift_is_counted_by_direction(rule: str, switch: int, *, opens: bool, closes: bool) -> None:
    """The totals are the pairs on which promise and kernel disagree, each counted once, and in its direction."""
    below = kernel(built()).engine_rules().set("bridge/bridge-nf-call-iptables", switch)
    report = (below.rules(rule) if rule else below).look().report
    totals = report.totals.drift_open, report.totals.drift_closed
    assert totals == counted(report)
    assert (bool(totals[0]), bool(totals[1])) == (opens, closes)
    drifted = [pair.verdict.verdict for pair in report.drifted()]
    assert (drifted.count(Verdict.REACHABLE), drifted.count(Verdict.BLOCKED)) == totals


def test_without_the_kernel_nothing_is_counted() -> None:
    """From the API alone there is nothing to disagree with."""
    totals = built().look().report.totals
    assert (totals.drift_open, totals.drift_closed) == (None, None)
