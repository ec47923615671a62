"""The report as CSV (RFC 4180), one row for each path of each pair."""

from __future__ import annotations

import csv
from io import StringIO
from typing import TYPE_CHECKING

from exporter.publish.text import encodable

if TYPE_CHECKING:
    from exporter.model.reach import Path
    from exporter.model.report import Pair, Report

COLUMNS = (
    "source",
    "destination",
    "verdict",
    "declared",
    "reason",
    "via",
    "network",
    "protocol",
    "addresses",
    "ports",
    "undecided",
)

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def render(report: Report) -> str:
    """Return all reachable and unknown pairs; several addresses of a path are separated by spaces."""
    text = StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    for pair in report.pairs():
        writer.writerows(_row(pair, path) for path in pair.verdict.paths)
    return text.getvalue()


def _row(pair: Pair, path: Path) -> tuple[str, ...]:
    verdict = pair.verdict
    return (
        _cell(pair.source.name),
        _cell(pair.destination.name),
        verdict.verdict,
        pair.declared.verdict,
        _cell(verdict.reason),
        path.via,
        _cell(path.network or ""),
        path.protocol,
        " ".join(path.addresses),
        str(path.ports),
        _cell(path.undecided),
    )


def _cell(text: str) -> str:
    """Return text that a spreadsheet takes as text: one that would begin a formula gets an apostrophe before it."""
    return encodable(f"'{text}" if text.startswith(_FORMULA) else text)
