"""The rules of Grafana's dashboard-linter, each held to every panel and query: none of them is waived."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from exporter.publish.metrics import METRICS
from tests.deploy.promql import RATES, selectors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Board = dict[str, Any]
    Rule = Callable[[Board], Iterator[str]]

UNITS: Final = {"none", "short", "percentunit", "s", "bytes"}
"""Those of Grafana's that we use."""

_TEMPLATED: Final = {"$datasource", "${datasource}"}
_COUNTERS: Final = {spec.name for spec in METRICS if spec.kind == "counter"}
_GAUGES: Final = {spec.name for spec in METRICS if spec.kind == "gauge"}
_RANGE: Final = re.compile(r"\[([^\]]*)\]")


def variables(board: Board) -> dict[str, dict[str, Any]]:
    """Return the variables of a dashboard by name."""
    return {variable["name"]: variable for variable in board["templating"]["list"]}


def targets(board: Board) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every query with the title of its panel."""
    for panel in board["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target


def _template_datasource(board: Board) -> Iterator[str]:
    sources = [variable for variable in board["templating"]["list"] if variable["type"] == "datasource"]
    if [(source["name"], source["label"], source["query"]) for source in sources] != [
        ("datasource", "Data source", "prometheus")
    ]:
        yield "there is not one data source variable with the usual name"


def _template(label: str) -> Rule:
    def rule(board: Board) -> Iterator[str]:
        variable = variables(board).get(label, {})
        expected = {"type": "query", "label": label.title(), "multi": True, "allValue": ".+"}
        if {key: variable.get(key) for key in expected} != expected:
            yield f"variable {label} is not as it should be"
        if variable.get("datasource", {}).get("uid") not in _TEMPLATED:
            yield f"variable {label} does not use the data source variable"

    return rule


def _template_label_promql(board: Board) -> Iterator[str]:
    for variable in variables(board).values():
        if variable["type"] != "query":
            continue
        match = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
        try:
            if not match or not selectors(match[1]):
                yield f"variable {variable['name']} asks for no label"
        except ValueError as error:
            yield f"variable {variable['name']}: {error}"


def _template_on_time_change_reload(board: Board) -> Iterator[str]:
    for variable in variables(board).values():
        if variable["type"] == "query" and variable["refresh"] != 2:
            yield f"variable {variable['name']} is not read again when the time changes"


def _panel_datasource(board: Board) -> Iterator[str]:
    for panel in board["panels"]:
        if {each["datasource"]["uid"] for each in (panel, *panel["targets"])} - _TEMPLATED:
            yield f"{panel['title']} does not use the data source variable"


def _panel_title_description(board: Board) -> Iterator[str]:
    for panel in board["panels"]:
        if not panel["title"] or not panel["description"]:
            yield f"panel {panel['id']} lacks title or description"


def _panel_units(board: Board) -> Iterator[str]:
    for panel in board["panels"]:
        if panel["fieldConfig"]["defaults"]["unit"] not in UNITS:
            yield f"{panel['title']} has no valid unit"


def _panel_no_targets(board: Board) -> Iterator[str]:
    for panel in board["panels"]:
        if not panel["targets"]:
            yield f"{panel['title']} asks for nothing"


def _target_promql(board: Board) -> Iterator[str]:
    for title, target in targets(board):
        try:
            selectors(target["expr"])
        except ValueError as error:
            yield f"{title}: {error}"


def _target_rate_interval(board: Board) -> Iterator[str]:
    for title, target in targets(board):
        if set(_RANGE.findall(target["expr"])) - {"$__rate_interval"}:
            yield f"{title}: a range is not $__rate_interval"


def _target_label(label: str) -> Rule:
    def rule(board: Board) -> Iterator[str]:
        for title, target in targets(board):
            if not _parses(target["expr"]):
                continue
            for selector in selectors(target["expr"]):
                if (label, "=~", f"${label}") not in selector.matchers:
                    yield f"{title}: {selector.metric} is not of the chosen {label}"

    return rule


def _target_counter_agg(board: Board) -> Iterator[str]:
    for title, target in targets(board):
        if not _parses(target["expr"]):
            continue
        for selector in selectors(target["expr"]):
            counter = selector.metric in _COUNTERS or (
                selector.metric.endswith("_total") and selector.metric not in _GAUGES
            )
            if counter != (selector.function in RATES):
                yield f"{title}: {selector.metric} is {'not ' * counter}aggregated as a counter"


def _target_logql(board: Board) -> Iterator[str]:
    for title, target in targets(board):
        if target["datasource"]["type"] != "prometheus":
            yield f"{title}: not a query for Prometheus"


def _uneditable(board: Board) -> Iterator[str]:
    if board["editable"]:
        yield "the dashboard can be edited"


def _parses(expr: str) -> bool:
    """Tell whether an expression is one; that it is has a rule of its own."""
    try:
        selectors(expr)
    except ValueError:
        return False
    return True


LINT: Final[dict[str, Rule]] = {
    "template-datasource-rule": _template_datasource,
    "template-job-rule": _template("job"),
    "template-instance-rule": _template("instance"),
    "template-label-promql-rule": _template_label_promql,
    "template-on-time-change-reload-rule": _template_on_time_change_reload,
    "panel-datasource-rule": _panel_datasource,
    "panel-title-description-rule": _panel_title_description,
    "panel-units-rule": _panel_units,
    "panel-no-targets-rule": _panel_no_targets,
    "target-promql-rule": _target_promql,
    "target-rate-interval-rule": _target_rate_interval,
    "target-job-rule": _target_label("job"),
    "target-instance-rule": _target_label("instance"),
    "target-counter-agg-rule": _target_counter_agg,
    # there is no query of Loki: both of its rules hold when that is so
    "target-logql-rule": _target_logql,
    "target-logql-auto-rule": _target_logql,
    "uneditable-dashboard-rule": _uneditable,
}
"""By the linter's names; each yields complaints."""
