"""What `check` tells of a policy: rule by rule, with the explanation of each violation."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final
from xml.etree import ElementTree as ET

from exporter.cli.text import BAD, DOUBTFUL, GOOD, SIGNS, Line, ways
from exporter.errors import PolicyError
from exporter.evaluate import explain
from exporter.model.policy import Effect, tenants_apart
from exporter.model.reach import Verdict
from exporter.model.report import SCHEMA
from exporter.publish.formats import json as json_report
from exporter.publish.text import count, visible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

    from exporter.model.explanation import Explanation
    from exporter.model.policy import Standards
    from exporter.model.report import Report, RuleResult, Tenancy, Violation
    from exporter.model.snapshot import Snapshot

_BUILT_IN: Final = "built-in policy"


@dataclass(frozen=True, slots=True)
class Told:
    """A violation, and why its pair is open."""

    violation: Violation
    explanation: Explanation


@dataclass(frozen=True, slots=True)
class CheckedRule:
    """What became of a rule, with the first of its violations; `idle` says why it is about no pair."""

    result: RuleResult
    told: tuple[Told, ...]
    idle: str

    @property
    def left_out(self) -> int:
        """How many violations are counted and not told."""
        return (self.result.violations or 0) - len(self.told)


@dataclass(frozen=True, slots=True)
class Checked:
    """What became of a policy, called `policy`. `warnings` are about what it rests on."""

    policy: str
    taken_at: datetime
    engine: str
    tenant_label: str
    rules: tuple[CheckedRule, ...]
    warnings: tuple[str, ...]

    @property
    def violations(self) -> int:
        """The violations of all rules: a pair counts for each rule that it violates."""
        return sum(rule.result.violations or 0 for rule in self.rules)


def demanded(held_to: Standards) -> Standards:
    """Return the standards with a policy: without one of the user's, tenants are to be apart."""
    return held_to if held_to.policy else replace(held_to, policy=tenants_apart(held_to.trusted))


def check(snapshot: Snapshot, report: Report, file: Path | None, limit: int) -> Checked:
    """Return what a report says of its policy, with `limit` violations of each rule at most.

    `file` is the policy's, None for the built-in one. Raises PolicyError where nothing can be said.
    """
    policy, tenancy = report.policy, report.tenancy
    if policy is None or tenancy is None:
        raise PolicyError("the report was made without a policy")
    if policy.untold:
        raise PolicyError(
            f"what was seen does not tell of label {' and '.join(policy.untold)}, which the policy asks for: snapshots "
            "keep the labels that --tenant.label and --policy.file named when they were made"
        )
    if file is None and not tenancy.tenants and len(report.containers) > 1:
        raise PolicyError(
            f"no running container has the label {tenancy.label}, so no tenants can be told apart: name another one by "
            "--tenant.label, or write a policy"
        )
    rules = tuple(_rule(snapshot, report, result, policy.of(result.rule)[:limit]) for result in policy.results)
    asks = any(result.rule.asks_for_tenants for result in policy.results)
    return Checked(
        str(file) if file else _BUILT_IN,
        report.taken_at,
        report.engine.name,
        tenancy.label,
        rules,
        tuple(_warnings(tenancy, built_in=file is None)) if asks else (),
    )


def _warnings(tenancy: Tenancy, *, built_in: bool) -> Iterator[str]:
    if tenancy.without:
        have = f"{count(tenancy.without, 'container')} without the label {tenancy.label}"
        yield f"{have}: each counts as a tenant of its own"
    if built_in and tenancy.absent:
        yield f"no container runs of {' and '.join(tenancy.absent)}, whom --tenant.trusted names"


def _rule(snapshot: Snapshot, report: Report, result: RuleResult, violations: Sequence[Violation]) -> CheckedRule:
    told = tuple(Told(violation, _explanation(snapshot, report, violation)) for violation in violations)
    return CheckedRule(result, told, _idle(result))


def _idle(result: RuleResult) -> str:
    if result.pairs:
        return ""
    ends = {"from": result.sources, "to": result.destinations}
    empty = " and ".join(end for end, containers in ends.items() if not containers)
    return f"no running container fits {empty}" if empty else "no two running containers fit"


def _explanation(snapshot: Snapshot, report: Report, violation: Violation) -> Explanation:
    """Explain the one packet that violates, where there is only one, else as little as holds all of them."""
    protocols = {path.protocol for path in violation.paths}
    ports = {port for path in violation.paths for port in (path.ports.intervals[:2] or [None])}
    only = next(iter(ports)) if len(ports) == 1 else None
    return explain(
        snapshot,
        report,
        violation.source.name,
        violation.destination.name,
        next(iter(protocols)) if len(protocols) == 1 else None,
        only[0] if only and only[0] == only[1] else None,
    )


# --- Text ---


def text(checked: Checked) -> Iterator[Line]:
    """Yield rule by rule whether it holds, and what violates it."""
    for rule in checked.rules:
        yield from _of_rule(rule)
    for warning in checked.warnings:
        yield Line(f"? {warning}", DOUBTFUL)
    violated = sum(1 for rule in checked.rules if rule.result.violations)
    if violated:
        of = f"{violated:,} of {count(len(checked.rules), 'rule')}"
        yield Line(f"{checked.policy}: {of} violated, {count(checked.violations, 'violation')}", BAD)
    else:
        yield Line(f"{checked.policy}: no violation", GOOD)


def _of_rule(rule: CheckedRule) -> Iterator[Line]:
    result = rule.result
    name = result.rule.name
    if rule.idle:
        yield Line(f"? {name}: {rule.idle}, so the rule is about no pair", DOUBTFUL)
    elif result.rule.effect is Effect.ALLOW:
        yield Line(f"  {name}: allows {count(result.pairs, 'pair')}")
    elif not result.violations:
        yield Line(f"+ {name}: holds for {count(result.pairs, 'pair')}", GOOD)
    else:
        yield Line(f"- {name}: violated by {result.violations:,} of {count(result.pairs, 'pair')}", BAD)
        yield Line(f"  why: {result.rule.why}")
        yield from _violations(rule)


def _violations(rule: CheckedRule) -> Iterator[Line]:
    for told in rule.told:
        ends = (told.violation.source, told.violation.destination)
        tenants = told.violation.rule.asks_for_tenants
        pair = " -> ".join(f"{end.name} ({end.tenant or 'no tenant'})" if tenants else end.name for end in ends)
        colour = BAD if told.violation.verdict is Verdict.REACHABLE else DOUBTFUL
        yield Line(f"    {pair}: {told.violation.verdict}", colour)
        yield from (Line(f"        {way}") for way in ways(told.violation.paths))
        yield from (Line(f"        {reason}") for reason in _reasons(told.explanation))
    if rule.left_out:
        yield Line(f"    and {rule.left_out:,} more (--limit)")


def _reasons(explanation: Explanation) -> Iterator[str]:
    for finding in explanation.findings:
        yield f"{SIGNS[finding.opens]} {finding.text}"
    for trip in explanation.trips:
        if trip.verdict is not Verdict.BLOCKED:
            yield f"packet to {trip.packet}: {trip.outcome}"
            yield f"  decided by {trip.decided_by}"
            if trip.change:
                yield f"  to close it: {trip.change}"


# --- JSON and JUnit ---


def _json(checked: Checked) -> str:
    document = {
        "schema": SCHEMA,
        "taken_at": json_report.timestamp(checked.taken_at),
        "engine": checked.engine,
        "policy": checked.policy,
        "tenant_label": checked.tenant_label,
        "violations": checked.violations,
        "warnings": list(checked.warnings),
        "rules": [_json_rule(rule) for rule in checked.rules],
    }
    return json.dumps(document, indent=2) + "\n"


def _json_rule(rule: CheckedRule) -> dict[str, Any]:
    pairs = [json_report.violation(told.violation) | json_report.reasons(told.explanation) for told in rule.told]
    return json_report.rule(rule.result) | {"idle": rule.idle, "violating": pairs, "left_out": rule.left_out}


def _junit(checked: Checked) -> str:
    """Return a test case for each rule that denies; one that is about no pair counts as skipped."""
    cases = [_case(rule) for rule in checked.rules if rule.result.rule.effect is Effect.DENY]
    totals = {
        "tests": str(len(cases)),
        "failures": str(sum(case.find("failure") is not None for case in cases)),
        "errors": "0",
    }
    # of the suite alone: the schema of Jenkins' xUnit plugin knows it nowhere else
    skipped = str(sum(case.find("skipped") is not None for case in cases))
    root = ET.Element("testsuites", {"name": "docker-icc-exporter check", **totals})
    taken_at = json_report.timestamp(checked.taken_at)
    about = {"name": visible(checked.policy), "hostname": visible(checked.engine), "timestamp": taken_at}
    suite = ET.SubElement(root, "testsuite", {**about, **totals, "skipped": skipped})
    suite.extend(cases)
    if checked.warnings:
        ET.SubElement(suite, "system-err").text = "\n".join(map(visible, checked.warnings))
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _case(rule: CheckedRule) -> ET.Element:
    result = rule.result
    case = ET.Element("testcase", {"classname": "policy", "name": result.rule.name})
    if rule.idle:
        ET.SubElement(case, "skipped", {"message": rule.idle})
    elif result.violations:
        message = f"{count(result.violations, 'pair')} of {result.pairs:,}: {result.rule.why}"
        failure = ET.SubElement(case, "failure", {"type": "violation", "message": visible(message)})
        failure.text = "\n".join(["", *(visible(line.text) for line in _violations(rule)), ""])
    return case


RENDERERS: Final[Mapping[str, Callable[[Checked], str]]] = {"json": _json, "junit": _junit}
"""By the name that users give; each result is a whole text that ends in a newline."""
