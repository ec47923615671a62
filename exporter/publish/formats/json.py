"""The report as JSON, schema 1. Only ASCII leaves: any name, valid Unicode or not, survives the way."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC
from typing import TYPE_CHECKING, Any

from exporter.model.report import SCHEMA
from exporter.publish.formats.memo import PerVerdict

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from exporter.model.explanation import Explanation
    from exporter.model.report import PairVerdict, Path, Report

_PAIRS_PER_CHUNK = 500


def render(report: Report) -> str:
    """Return the whole report as one JSON text."""
    return "".join(stream(report))


def stream(report: Report) -> Iterator[str]:
    """Yield the report in chunks of bounded size, so that a large one never is in memory as a whole."""
    # The head is a JSON object without its closing brace; the pairs are its last member, one to a line.
    head = json.dumps(_head(report), separators=(",", ":"))
    yield f'{head[:-1]},"pairs":['
    names = {container.id: json.dumps(container.name) for container in report.containers}
    rest = PerVerdict(_verdict)
    lines: list[str] = []
    separator = "\n"
    for pair in report.pairs():
        source, destination = names[pair.source.id], names[pair.destination.id]
        lines.append(f'{separator}{{"source":{source},"destination":{destination},{rest(pair.verdict)}')
        separator = ",\n"
        if len(lines) == _PAIRS_PER_CHUNK:
            yield "".join(lines)
            lines.clear()
    yield "".join(lines) + "\n]}\n"


def explanation(answer: Explanation) -> str:
    """Return why a pair is reachable, blocked or unknown, as one JSON text."""
    document = {
        "source": answer.source.name,
        "destination": answer.destination.name,
        "verdict": answer.verdict,
        "paths": [path(each) for each in answer.paths],
        "findings": [{"text": finding.text, "opens": finding.opens} for finding in answer.findings],
    }
    return json.dumps(document, indent=2) + "\n"


def timestamp(moment: datetime) -> str:
    """Return an aware time as `2026-01-01T00:00:00Z`."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def path(each: Path) -> dict[str, Any]:
    """Return a path as the document that the schema promises."""
    document: dict[str, Any] = {
        "via": each.via,
        "network": each.network,
        "protocol": each.protocol,
        "addresses": list(each.addresses),
        "ports": str(each.ports),
    }
    return document | {"undecided": each.undecided} if each.undecided else document


def _head(report: Report) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "taken_at": timestamp(report.taken_at),
        "engine": asdict(report.engine),
        "evidence": asdict(report.evidence),
        "assumptions": list(report.assumptions),
        "networks": [asdict(network) for network in report.networks],
        "containers": [asdict(container) for container in report.containers],
        "totals": asdict(report.totals),
    }


def _verdict(verdict: PairVerdict) -> str:
    document = {
        "verdict": verdict.verdict,
        "declared": verdict.verdict,
        "reason": verdict.reason,
        "paths": [path(each) for each in verdict.paths],
    }
    return json.dumps(document, separators=(",", ":"))[1:]
