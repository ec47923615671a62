"""Dashboards and alert rules for Grafana, without a Grafana."""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from exporter.publish.metrics import METRICS
from tests.deploy.dashboards import DASHBOARDS, queries
from tests.deploy.files import GRAFANA, files
from tests.deploy.lint import LINT
from tests.deploy.names import OF_PROMETHEUS
from tests.deploy.promql import RATES, selectors
from tests.deploy.rules import alerts, expressions

if TYPE_CHECKING:
    from collections.abc import Callable

    Spoil = Callable[[dict[str, Any]], None]

ALERTING = GRAFANA / "provisioning" / "alerting" / "docker-icc.yml"


@pytest.mark.parametrize("name", files())
def test_files_are_what_they_follow_from(name: str) -> None:
    """A dashboard is what the panels say, the alert rules are those of Prometheus; `make docs` writes both."""
    assert (GRAFANA / name).read_text() == files()[name]


@pytest.mark.parametrize("rule", LINT)
@pytest.mark.parametrize("name", DASHBOARDS)
def test_dashboards_keep_every_rule_of_the_linter(name: str, rule: str) -> None:
    """No complaint, and no waiver."""
    board = json.loads((GRAFANA / "dashboards" / f"{name}.json").read_text())
    assert list(LINT[rule](board)) == []


def _panel(key: str, value: object) -> Spoil:
    return lambda board: board["panels"][0].update({key: value})


def _target(key: str, value: object) -> Spoil:
    return lambda board: board["panels"][0]["targets"][0].update({key: value})


def _variable(index: int, key: str, value: object) -> Spoil:
    return lambda board: board["templating"]["list"][index].update({key: value})


_LOKI = {"type": "loki", "uid": "${datasource}"}

SPOILED: dict[str, Spoil] = {
    "template-datasource-rule": _variable(0, "name", "source"),
    "template-job-rule": _variable(1, "multi", False),
    "template-instance-rule": _variable(2, "allValue", ".*"),
    "template-label-promql-rule": _variable(1, "query", {"query": "label_values(up{, job)"}),
    "template-on-time-change-reload-rule": _variable(2, "refresh", 1),
    "panel-datasource-rule": _panel("datasource", {"type": "prometheus", "uid": "mine"}),
    "panel-title-description-rule": _panel("description", ""),
    "panel-units-rule": _panel("fieldConfig", {"defaults": {"unit": "furlong"}}),
    "panel-no-targets-rule": _panel("targets", []),
    "target-promql-rule": _target("expr", "sum("),
    "target-rate-interval-rule": _target("expr", "rate(x_total[5m])"),
    "target-job-rule": _target("expr", 'up{instance=~"$instance"}'),
    "target-instance-rule": _target("expr", 'up{job=~"$job"}'),
    "target-counter-agg-rule": _target("expr", "rate(reachable_pairs_total[$__rate_interval])"),
    "target-logql-rule": _target("datasource", _LOKI),
    "target-logql-auto-rule": _target("datasource", _LOKI),
    "uneditable-dashboard-rule": lambda board: board.update({"editable": True}),
}


@pytest.mark.parametrize("rule", LINT)
def test_every_rule_of_the_linter_can_fail(rule: str) -> None:
    """A dashboard that breaks a rule gets a complaint from it."""
    board = copy.deepcopy(DASHBOARDS["overview"])
    SPOILED[rule](board)
    assert list(LINT[rule](board))


def test_panels_have_places_of_their_own() -> None:
    """No two panels of a dashboard overlap, none leaves the grid, ids and uids are unique."""
    for board in DASHBOARDS.values():
        taken: set[tuple[int, int]] = set()
        for panel in board["panels"]:
            place = panel["gridPos"]
            assert place["x"] + place["w"] <= 24
            cells = {
                (x, y)
                for x in range(place["x"], place["x"] + place["w"])
                for y in range(place["y"], place["y"] + place["h"])
            }
            assert not cells & taken, panel["title"]
            taken |= cells
        assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    assert len({board["uid"] for board in DASHBOARDS.values()}) == len(DASHBOARDS)


def asked() -> set[str]:
    """Return the names of all metrics that a rule or a dashboard asks for."""
    everything = [*expressions(), *(expr for board in DASHBOARDS.values() for expr in queries(board))]
    return {selector.metric for expr in everything for selector in selectors(expr)}


def test_only_metrics_are_asked_for_that_there_are() -> None:
    """Rules and dashboards name metrics of the exporter, or of Prometheus itself."""
    assert asked() - OF_PROMETHEUS <= {spec.name for spec in METRICS}


def test_nobody_takes_the_gauge_for_a_counter() -> None:
    """No rule and no dashboard has a rate of `reachable_pairs_total`, and all name the job that they are about."""
    for expr in [*expressions(), *(expr for board in DASHBOARDS.values() for expr in queries(board))]:
        for selector in selectors(expr):
            assert not (selector.metric == "reachable_pairs_total" and selector.function in RATES)
            assert any(label == "job" for label, _, _ in selector.matchers), expr


def test_what_others_have_too_is_asked_of_the_exporter() -> None:
    """Metrics that are not the exporter's alone are those of its job, whichever jobs the reader chose."""
    for expr in (expr for board in DASHBOARDS.values() for expr in queries(board)):
        for selector in selectors(expr):
            everybodys = selector.metric in OF_PROMETHEUS - {"ALERTS"}
            assert not everybodys or ("job", "=", "docker-icc") in selector.matchers, expr


def test_hosts_are_told_apart() -> None:
    """What a panel shows of several hosts has their names, and no number that depends on the zoom is shown."""
    for board in (DASHBOARDS["host"], DASHBOARDS["pairs"]):
        for panel in board["panels"]:
            for target in panel["targets"]:
                assert "increase(" not in target["expr"], panel["title"]
                if panel["type"] in ("timeseries", "state-timeline"):
                    assert "{{instance}}" in target["legendFormat"], panel["title"]
                elif panel["type"] in ("table", "nodeGraph") and " by (" in target["expr"]:
                    assert '"instance"' in target["expr"] or "by (instance" in target["expr"], panel["title"]


def test_alert_rules_are_complete() -> None:
    """Each alert of Prometheus is one of Grafana, with its expression, texts and severity, and no $ to expand."""
    document = yaml.safe_load(ALERTING.read_text())
    rules = {rule["uid"]: rule for group in document["groups"] for rule in group["rules"]}
    assert list(rules) == [alert["alert"] for alert in alerts()]
    for alert in alerts():
        rule = rules[alert["alert"]]
        query, threshold = rule["data"]
        assert query["model"]["expr"] == " ".join(alert["expr"].split())
        assert rule["condition"] == threshold["refId"]
        assert threshold["model"]["expression"] == query["refId"]
        assert rule["labels"] == alert["labels"]
        assert rule["annotations"].keys() == alert["annotations"].keys() == {"summary", "description", "runbook_url"}
        assert len(rule["uid"]) <= 40
    assert "$" not in ALERTING.read_text().replace("$$", "")


def test_the_data_source_is_the_one_that_the_alert_rules_name() -> None:
    """The provisioned data source has the uid that the rules ask, and gets in the way of no other."""
    (source,) = yaml.safe_load((GRAFANA / "provisioning/datasources/prometheus.yml").read_text())["datasources"]
    rules = [rule for group in yaml.safe_load(ALERTING.read_text())["groups"] for rule in group["rules"]]
    assert {rule["data"][0]["datasourceUid"] for rule in rules} == {source["uid"]}
    assert not source.get("isDefault")
    assert source["name"] != "Prometheus"
    # the command of deploy/README.md that puts another data source in finds the one that is there
    assert f"s/datasourceUid: {source['uid']}$/" in (GRAFANA.parent / "README.md").read_text()
