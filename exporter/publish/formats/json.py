"""The report as JSON, schema 1. Only ASCII leaves: any name, valid Unicode or not, survives the way."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from exporter.model.report import SCHEMA
from exporter.model.whatif import Fate
from exporter.publish.formats.memo import PerVerdict
from exporter.publish.formats.probes import outcome

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

    from exporter.model.explanation import Explanation, Trip
    from exporter.model.probe import PairProbed, Probed
    from exporter.model.reach import PairVerdict, Path
    from exporter.model.report import Pair, PolicyResult, Report, RuleResult, Violation
    from exporter.model.whatif import Foretelling, ForetoldPair

_CHUNK = 1 << 15
"""Characters from which on a chunk is long enough."""

_UNTOLD: Mapping[tuple[str, str], str] = MappingProxyType({})


def render(report: Report, causes: Mapping[tuple[str, str], str] = _UNTOLD) -> str:
    """Return the whole report as one JSON text; `causes` as for a document."""
    return "".join(Document(report, causes).chunks())


class Document:
    """A report as JSON, in chunks, so that it never is in memory as a whole.

    Any number of readers may take their time: what is as long as the host is large is made once for all of them.
    `causes` are what decides about pairs that drift, by the names of their containers.
    """

    def __init__(self, report: Report, causes: Mapping[tuple[str, str], str] = _UNTOLD) -> None:
        self.report = report
        self._causes = causes
        # A JSON object without its closing brace; lists of pairs are its last members, a pair to a line.
        self._head = json.dumps(_head(report), separators=(",", ":"))[:-1]
        self._names = {container.id: json.dumps(container.name) for container in report.containers}
        self._rest = PerVerdict(_verdict)

    def chunks(self) -> Iterator[str]:
        """Yield the document, no more than a few thousand characters at once unless a single pair has more."""
        for begin in range(0, len(self._head), _CHUNK):
            yield self._head[begin : begin + _CHUNK]
        report = self.report
        yield ',"violations":['
        violations = report.policy.violations if report.policy else ()
        yield from _chunks(json.dumps(violation(each), separators=(",", ":")) for each in violations)
        yield '],"drift":['
        yield from _chunks(_pair(pair, self._names, _drift(pair, self._causes)) for pair in report.drifted())
        yield '],"pairs":['
        yield from _chunks(_pair(pair, self._names, self._rest(pair.verdict)) for pair in report.pairs())
        yield "\n]}\n"


def _chunks(lines: Iterator[str]) -> Iterator[str]:
    gathered: list[str] = []
    length, separator = 0, "\n"
    for line in lines:
        gathered.append(line)
        length += len(line)
        if length >= _CHUNK:
            chunk = separator + ",\n".join(gathered)
            # before somebody waits for the chunk to be read
            gathered.clear()
            length, separator = 0, ",\n"
            yield chunk
    if gathered:
        yield separator + ",\n".join(gathered)


def _pair(pair: Pair, names: Mapping[str, str], rest: str) -> str:
    source, destination = names[pair.source.id], names[pair.destination.id]
    return f'{{"source":{source},"destination":{destination},"declared":"{pair.declared.verdict}",{rest}'


def explanation(answer: Explanation) -> str:
    """Return why a pair is reachable, blocked or unknown, as one JSON text."""
    document = {
        "source": answer.source.name,
        "destination": answer.destination.name,
        "verdict": answer.verdict,
        "paths": [path(each) for each in answer.paths],
        **reasons(answer),
    }
    return json.dumps(document, indent=2) + "\n"


def reasons(answer: Explanation) -> dict[str, Any]:
    """Return what opens and what blocks a pair, and the packets that were followed."""
    return {
        "findings": [{"text": finding.text, "opens": finding.opens} for finding in answer.findings],
        "trips": [_trip(trip) for trip in answer.trips],
    }


def probes(answer: PairProbed) -> str:
    """Return what packets say about a pair, as one JSON text."""
    document = {
        "source": answer.source.name,
        "destination": answer.destination.name,
        "verdict": answer.verdict,
        "probes": [_probed(each) for each in answer.probed],
    }
    return json.dumps(document, indent=2) + "\n"


def _probed(probed: Probed) -> dict[str, Any]:
    relay = probed.probe.relay
    return {
        "packet": asdict(probed.probe.packet),
        "relay": asdict(relay) if relay else None,
        "verdict": probed.verdict,
        "arrived": probed.sight.arrived,
        "answered": probed.sight.answered,
        "result": probed.result,
        "outcome": outcome(probed),
    }


def _trip(trip: Trip) -> dict[str, Any]:
    return {
        "packet": asdict(trip.packet),
        "verdict": trip.verdict,
        "outcome": trip.outcome,
        "decided_by": trip.decided_by,
        "change": trip.change,
        "legs": [asdict(leg) for leg in trip.legs],
    }


def foretelling(foretold: Foretelling) -> str:
    """Return what would become of the pairs that a change concerns, as one JSON text."""
    document = {
        "schema": SCHEMA,
        "action": foretold.action,
        "warnings": foretold.warnings,
        "assumptions": foretold.assumptions,
        "totals": {
            "containers": foretold.containers,
            "pairs": foretold.containers * (foretold.containers - 1),
            "before": asdict(foretold.before),
            "after": asdict(foretold.after),
            **{fate.value: foretold.fates[fate] for fate in Fate},
        },
        "pairs": [_foretold(pair) for pair in foretold.pairs],
    }
    return json.dumps(document, separators=(",", ":")) + "\n"


def _foretold(pair: ForetoldPair) -> dict[str, Any]:
    return {
        "source": pair.source,
        "destination": pair.destination,
        "fate": pair.fate,
        "before": pair.before,
        "after": pair.after,
        "reason": pair.reason,
        "paths_before": [path(each) for each in pair.paths_before],
        "paths_after": [path(each) for each in pair.paths_after],
    }


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
        "missing": dict(report.missing) | _missing_configuration(report),
        "unsupported": dict(report.unsupported),
        "assumptions": [*report.assumptions, *report.declared_assumptions],
        "declared_assumptions": list(report.declared_assumptions),
        "bridge_netfilter": dict(report.bridge_netfilter),
        "pending_restart": asdict(report.pending_restart) if report.pending_restart else None,
        "networks": [asdict(network) for network in report.networks],
        "containers": [asdict(container) for container in report.containers],
        "totals": asdict(report.totals),
        "tenancy": asdict(report.tenancy) if report.tenancy else None,
        "policy": _policy(report.policy) if report.policy else None,
    }


def _policy(found: PolicyResult) -> dict[str, Any]:
    return {"untold": list(found.untold), "rules": [rule(result) for result in found.results]}


def rule(result: RuleResult) -> dict[str, Any]:
    """Return what became of a rule."""
    return {
        "name": result.rule.name,
        "effect": result.rule.effect,
        "why": result.rule.why,
        "sources": result.sources,
        "destinations": result.destinations,
        "pairs": result.pairs,
        "violations": result.violations,
    }


def violation(found: Violation) -> dict[str, Any]:
    """Return a pair that violates a rule, with the paths that do."""
    return {
        "rule": found.rule.name,
        "source": found.source.name,
        "source_tenant": found.source.tenant,
        "destination": found.destination.name,
        "destination_tenant": found.destination.tenant,
        "verdict": found.verdict,
        "reason": found.reason,
        "paths": [path(each) for each in found.paths],
    }


def _missing_configuration(report: Report) -> dict[str, str]:
    return {"configuration": report.configuration_missing} if report.configuration_missing else {}


def _verdict(verdict: PairVerdict) -> str:
    document = {
        "verdict": verdict.verdict,
        "reason": verdict.reason,
        "paths": [path(each) for each in verdict.paths],
    }
    return _members(document)


def _drift(pair: Pair, causes: Mapping[tuple[str, str], str]) -> str:
    cause = causes.get((pair.source.name, pair.destination.name))
    return _members({"verdict": pair.verdict.verdict, "reason": pair.drift_reason, "decided_by": cause})


def _members(document: Mapping[str, Any]) -> str:
    """Return an object without its opening brace: the end of one that was begun."""
    return json.dumps(document, separators=(",", ":"))[1:]
