"""Dashboards of Grafana out of a few words: panels that lay themselves out, and the variables that all share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

CHOSEN: Final = 'job=~"$job", instance=~"$instance"'
"""In every selector: what the reader chose."""

WIDTH: Final = 24
"""Columns of Grafana's grid."""

_SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}


@dataclass(frozen=True, slots=True)
class Query:
    """An expression; `legend` names its series, `ref` the query where a panel has several."""

    expr: str
    legend: str = "{{instance}}"
    ref: str = "A"
    table: bool = False


@dataclass(frozen=True, slots=True)
class Panel:
    """One picture. `mappings` gives texts and colours to values; `options` and `custom` are Grafana's own words."""

    kind: str
    title: str
    description: str
    queries: tuple[Query, ...]
    width: int = 12
    height: int = 8
    unit: str = "short"
    mappings: dict[str, tuple[str, str]] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    custom: dict[str, Any] = field(default_factory=dict)
    thresholds: tuple[tuple[float | None, str], ...] = ((None, "green"),)
    transformations: tuple[dict[str, Any], ...] = ()


def selector(metric: str, *matchers: str) -> str:
    """Return a metric of the hosts that the reader chose."""
    return f"{metric}{{{', '.join((CHOSEN, *matchers))}}}"


def stat(title: str, description: str, expr: str, *, unit: str = "short", good: bool = False, width: int = 4) -> Panel:
    """Return a number that is red unless it is 0, or never red where it says nothing `good` or bad."""
    thresholds = ((None, "blue"),) if good else ((None, "green"), (1.0, "red"))
    options = {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "value", "graphMode": "area"}
    return Panel("stat", title, description, (Query(expr),), width, 4, unit, options=options, thresholds=thresholds)


def lines(
    title: str, description: str, *queries: Query, unit: str = "short", stacked: bool = False, width: int = 12
) -> Panel:
    """Return values over time. They change in steps, so they are drawn so."""
    custom: dict[str, Any] = {"lineInterpolation": "stepAfter", "fillOpacity": 30 if stacked else 5}
    if stacked:
        custom["stacking"] = {"mode": "normal"}
    options = {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi", "sort": "desc"}}
    return Panel("timeseries", title, description, queries, width, unit=unit, custom=custom, options=options)


def states(
    title: str,
    description: str,
    *queries: Query,
    texts: dict[str, tuple[str, str]],
    width: int = 12,
    height: int = 8,
) -> Panel:
    """Return which state everything was in, and when it changed."""
    options = {"mergeValues": True, "showValue": "auto", "rowHeight": 0.8, "legend": {"showLegend": False}}
    return Panel("state-timeline", title, description, queries, width, height, "none", texts, options)


def table(
    title: str,
    description: str,
    *queries: Query,
    height: int = 8,
    transformations: tuple[dict[str, Any], ...] = (),
    mappings: dict[str, tuple[str, str]] | None = None,
) -> Panel:
    """Return rows, one a series; cells have the colours of their values."""
    custom = {"cellOptions": {"type": "color-background"}} if mappings else {}
    return Panel(
        "table",
        title,
        description,
        queries,
        WIDTH,
        height,
        mappings=mappings or {},
        custom=custom,
        transformations=transformations,
    )


def dashboard(uid: str, title: str, description: str, panels: tuple[Panel, ...]) -> dict[str, Any]:
    """Return a dashboard as Grafana reads it."""
    return {
        "uid": uid,
        "title": title,
        "description": description,
        "tags": ["docker-icc"],
        "editable": False,
        "graphTooltip": 1,
        "schemaVersion": 39,
        "version": 1,
        "refresh": "30s",
        "time": {"from": "now-24h", "to": "now"},
        "timezone": "browser",
        "annotations": {"list": []},
        "links": [
            {
                "type": "dashboards",
                "title": "Docker ICC",
                "tags": ["docker-icc"],
                "asDropdown": False,
                "includeVars": True,
                "keepTime": True,
            }
        ],
        "templating": {"list": [_source_variable(), _variable("job", ""), _variable("instance", 'job=~"$job"')]},
        "panels": _placed(panels),
    }


def _source_variable() -> dict[str, Any]:
    return {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "current": {}}


def _variable(label: str, matcher: str) -> dict[str, Any]:
    # of the exporter's own metric: it is there while the engine is not
    query = f"label_values(docker_icc_exporter_build_info{{{matcher}}}, {label})"
    return {
        "name": label,
        "label": label.title(),
        "type": "query",
        "datasource": _SOURCE,
        "query": {"query": query, "refId": label},
        "definition": query,
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".+",
        "current": {"text": "All", "value": "$__all"},
    }


def _placed(panels: tuple[Panel, ...]) -> list[dict[str, Any]]:
    """Return panels in rows from left to right; a row is as high as its highest panel."""
    placed, x, y, row = [], 0, 0, 0
    for number, panel in enumerate(panels, start=1):
        if x + panel.width > WIDTH:
            x, y, row = 0, y + row, 0
        place = {"x": x, "y": y, "w": panel.width, "h": panel.height}
        placed.append(_panel(number, panel, place))
        x, row = x + panel.width, max(row, panel.height)
    return placed


def _panel(number: int, panel: Panel, place: dict[str, int]) -> dict[str, Any]:
    steps = [{"value": value, "color": colour} for value, colour in panel.thresholds]
    defaults: dict[str, Any] = {
        "unit": panel.unit,
        "custom": panel.custom,
        "mappings": [_mapping(panel.mappings)] if panel.mappings else [],
        "thresholds": {"mode": "absolute", "steps": steps},
    }
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": _SOURCE,
        "gridPos": place,
        "targets": [_target(query) for query in panel.queries],
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": panel.options,
        "transformations": list(panel.transformations),
    }


def _target(query: Query) -> dict[str, Any]:
    kind: dict[str, Any] = {"format": "table", "instant": True, "range": False} if query.table else {"range": True}
    return {"refId": query.ref, "datasource": _SOURCE, "expr": query.expr, "legendFormat": query.legend, **kind}


def _mapping(texts: dict[str, tuple[str, str]]) -> dict[str, Any]:
    options = {
        value: {"text": text, "color": colour, "index": index}
        for index, (value, (text, colour)) in enumerate(texts.items())
    }
    return {"type": "value", "options": options}
