"""Alert rules of Grafana, made of those of Prometheus."""

from __future__ import annotations

from typing import Any, Final

import yaml

from tests.deploy.rules import ALERTS, groups

SOURCE: Final = "docker-icc"
"""The uid of the data source that is provisioned beside them."""

FOLDER: Final = "Docker ICC"
INTERVAL: Final = "1m"

_LOOK_BACK: Final = 600
_HEAD: Final = "# Made from deploy/prometheus/rules/alerts.yml: change that, then `make docs`.\n"


def alerting() -> str:
    """Return the file that provisions the rules."""
    document = {"apiVersion": 1, "groups": [_group(group) for group in groups(ALERTS)]}
    return _HEAD + yaml.safe_dump(document, sort_keys=False, width=120)


def _group(group: dict[str, Any]) -> dict[str, Any]:
    rules = [_rule(rule) for rule in group["rules"]]
    return {"orgId": 1, "name": group["name"], "folder": FOLDER, "interval": INTERVAL, "rules": rules}


def _rule(rule: dict[str, Any]) -> dict[str, Any]:
    return {
        "uid": rule["alert"],
        "title": rule["alert"],
        "condition": "firing",
        "data": [_query(rule["expr"]), _threshold()],
        # an expression of Prometheus that returns nothing is an alert that does not fire; the silent ones have absent()
        "noDataState": "OK",
        "execErrState": "Error",
        "for": rule["for"],
        "annotations": {name: _text(text) for name, text in rule["annotations"].items()},
        "labels": rule["labels"],
    }


def _query(expr: str) -> dict[str, Any]:
    model = {"refId": "query", "expr": " ".join(expr.split()), "instant": True, "range": False, "editorMode": "code"}
    return {
        "refId": "query",
        "datasourceUid": SOURCE,
        "relativeTimeRange": {"from": _LOOK_BACK, "to": 0},
        "model": model,
    }


def _threshold() -> dict[str, Any]:
    """Return what makes everything fire that Prometheus returns: none of our expressions returns less than 0."""
    model = {
        "refId": "firing",
        "type": "threshold",
        "datasource": {"type": "__expr__", "uid": "__expr__"},
        "expression": "query",
        "conditions": [{"evaluator": {"type": "gt", "params": [-1]}}],
    }
    return {
        "refId": "firing",
        "datasourceUid": "__expr__",
        "relativeTimeRange": {"from": _LOOK_BACK, "to": 0},
        "model": model,
    }


def _text(text: str) -> str:
    """Return an annotation: $value is another thing there, and a single $ would be an environment variable."""
    return text.replace("{{ $value }}", "{{ $values.query.Value }}").replace("$", "$$")
