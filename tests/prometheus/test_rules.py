"""The rules in deploy/: what each alert does in time, as three versions of Prometheus' checker run it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.deploy.dashboards import query
from tests.deploy.promql import with_values
from tests.deploy.rules import RULES, alerts
from tests.lab.packages import PROMETHEUS
from tests.prometheus.scenarios import HOST, JOB, SCENARIOS, Scenario
from tests.prometheus.server import promtool

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.lab

WATCHDOG = "DockerIccWatchdog"


@pytest.mark.parametrize("server", PROMETHEUS)
def test_rules_are_valid(server: str) -> None:
    """Every file of rules passes the checker without a complaint, its lint included."""
    for file in sorted(RULES.glob("*.yml")):
        checked = promtool(server, "check", "rules", "--lint=all", "--lint-fatal", str(file))
        assert re.search(r"SUCCESS: \d+ rules found", checked), checked
        assert "FAILED" not in checked


@pytest.mark.parametrize("interval", sorted({scenario.interval for scenario in SCENARIOS}))
@pytest.mark.parametrize("server", PROMETHEUS)
def test_alerts_fire_and_resolve(server: str, interval: str, tmp_path: Path) -> None:
    """Every scenario goes as it says, to the minute and to the text of the annotations."""
    groups = [group(scenario) for scenario in SCENARIOS if scenario.interval == interval]
    outcome = outcome_of(server, groups, tmp_path, interval)
    assert outcome.rstrip().endswith("SUCCESS"), outcome


@pytest.mark.parametrize("server", PROMETHEUS)
def test_sums_are_recorded(server: str, tmp_path: Path) -> None:
    """Each recording rule has its value."""
    outcome = outcome_of(server, [recordings()], tmp_path)
    assert outcome.rstrip().endswith("SUCCESS"), outcome


@pytest.mark.parametrize("server", PROMETHEUS)
def test_the_overview_shows_that_nobody_watches(server: str, tmp_path: Path) -> None:
    """With no target at all there is an alert among those of the chosen hosts, which are all."""
    shown = with_values(query("overview", "Alerts"), job=".+")
    test = {"expr": f"count({shown})", "eval_time": "10m", "exp_samples": [{"value": 1}]}
    outcome = outcome_of(server, [{"name": "no target", "interval": "1m", "promql_expr_test": [test]}], tmp_path)
    assert outcome.rstrip().endswith("SUCCESS"), outcome


@pytest.mark.parametrize("server", PROMETHEUS)
def test_the_matrix_keeps_hosts_apart(server: str, tmp_path: Path) -> None:
    """A pair that is reachable on one host, and its namesake that is undecided on another, are two cells."""
    series = 'docker_icc_pair{{instance="{host}", source="web", destination="db", via="bridge", verdict="{verdict}"}}'
    cells = [
        {"labels": f'{{from="{host} / web", to="{host} / db"}}', "value": value} for host, value in (("a", 1), ("b", 2))
    ]
    pairs = (("a", "reachable"), ("b", "unknown"))
    test = {
        "name": "matrix",
        "interval": "1m",
        "input_series": [
            {"series": labelled(series.format(host=host, verdict=verdict)), "values": "1x9"} for host, verdict in pairs
        ],
        "promql_expr_test": [
            {"expr": with_values(query("pairs", "Matrix")), "eval_time": "5m", "exp_samples": cells},
        ],
    }
    outcome = outcome_of(server, [test], tmp_path)
    assert outcome.rstrip().endswith("SUCCESS"), outcome


def outcome_of(server: str, groups: list[dict[str, Any]], folder: Path, interval: str = "1m") -> str:
    """Return what the checker prints of tests of our rules, which it evaluates at an interval."""
    rules = [str(file) for file in sorted(RULES.glob("*.yml"))]
    file = folder / "scenarios.yml"
    document = {"rule_files": rules, "evaluation_interval": interval, "tests": groups}
    file.write_text(yaml.safe_dump(document, sort_keys=False))
    return promtool(server, "test", "rules", str(file))


def test_every_alert_has_its_scenarios() -> None:
    """Each alert is seen to fire, to be silent, to resolve after firing, and to leave no silence where data go.

    The watchdog is seen to fire: it does nothing else.
    """
    assert {scenario.silent for scenario in SCENARIOS if scenario.alert == WATCHDOG and scenario.fires} == {()}
    for alert in alerts():
        if alert["alert"] == WATCHDOG:
            continue
        own = [scenario for scenario in SCENARIOS if scenario.alert == alert["alert"]]
        assert any(scenario.fires for scenario in own), alert["alert"]
        assert any(scenario.silent and not scenario.fires and not scenario.instead for scenario in own), alert["alert"]
        assert any(scenario.fires and scenario.silent[-1] > scenario.fires[-1] for scenario in own), alert["alert"]
        assert alert["alert"] == "DockerIccExporterSilent" or any(scenario.instead for scenario in own), alert["alert"]


def group(scenario: Scenario) -> dict[str, Any]:
    """Return a scenario as the checker reads it."""
    checks = [check(scenario.alert, minute, expected(scenario)) for minute in scenario.fires]
    checks += [check(scenario.alert, minute, []) for minute in scenario.silent]
    tests: dict[str, Any] = {
        "name": f"{scenario.alert} {scenario.truth}",
        "interval": scenario.interval,
        "input_series": [{"series": labelled(name), "values": values} for name, values in scenario.series.items()],
        "alert_rule_test": checks,
    }
    if scenario.instead:
        firing = f'count(ALERTS{{alertname="{scenario.instead}", alertstate="firing", instance="{HOST}"}})'
        last = scenario.silent[-1]
        tests["promql_expr_test"] = [{"expr": firing, "eval_time": f"{last}m", "exp_samples": [{"value": 1}]}]
    return tests


def check(alert: str, minute: int, expected_alerts: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what is expected of an alert at a minute."""
    return {"alertname": alert, "eval_time": f"{minute}m", "exp_alerts": expected_alerts}


def expected(scenario: Scenario) -> list[dict[str, Any]]:
    """Return the alert as it should fire, its texts filled in."""
    (rule,) = (rule for rule in alerts() if rule["alert"] == scenario.alert)
    labels = {"job": JOB, **({"instance": scenario.instance} if scenario.instance else {}), **scenario.labels}
    texts = {name: filled(text, labels, scenario.value) for name, text in rule["annotations"].items()}
    return [{"exp_labels": {**labels, **rule["labels"]}, "exp_annotations": texts}]


def filled(text: str, labels: dict[str, str], value: str) -> str:
    """Return a text with the values of labels, and of the expression."""
    text = re.sub(r"\{\{ \$labels\.(\w+) \}\}", lambda match: labels[match[1]], text)
    text = text.replace("{{ $value }}", value)
    assert "{{" not in text
    return text


def labelled(series: str) -> str:
    """Return a series with the labels of the job and, unless it has one, of the host."""
    name, _, labels = series.rstrip("}").partition("{")
    own = [f'job="{JOB}"'] + ([] if "instance=" in labels else [f'instance="{HOST}"'])
    return f"{name}{{{', '.join([*own, labels] if labels else own)}}}"


def recordings() -> dict[str, Any]:
    """Return a test of the recording rules: two hosts of three and four containers."""
    series = {"reachable_pairs_total": "4x9", "docker_icc_pairs": "6x9", "icc_enabled": "1x9"}
    series |= {f'{name}{{instance="other:10422"}}': values for name, values in
               {"reachable_pairs_total": "6x9", "docker_icc_pairs": "12x9", "icc_enabled": "0x9"}.items()}  # fmt: skip
    wanted = {
        f'instance:reachable_pairs:sum{{instance="{HOST}"}}': 4,
        'instance:reachable_pairs:ratio{instance="other:10422"}': 0.5,
        "job:reachable_pairs:sum": 10,
        "job:icc_enabled:sum": 1,
    }
    return {
        "name": "recording rules",
        "interval": "1m",
        "input_series": [{"series": labelled(name), "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {"expr": f"sum({name})", "eval_time": "5m", "exp_samples": [{"value": value}]}
            for name, value in wanted.items()
        ],
    }
