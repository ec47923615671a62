"""The rules of Prometheus in deploy/, as everything else reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import yaml

DEPLOY: Final = Path(__file__).parents[2] / "deploy"
RULES: Final = DEPLOY / "prometheus" / "rules"
ALERTS: Final = RULES / "alerts.yml"


def groups(file: Path) -> list[dict[str, Any]]:
    """Return the groups of a file of rules."""
    found: list[dict[str, Any]] = yaml.safe_load(file.read_text())["groups"]
    return found


def alerts() -> list[dict[str, Any]]:
    """Return every alert."""
    return [rule for group in groups(ALERTS) for rule in group["rules"]]


def expressions() -> list[str]:
    """Return the expressions of every rule."""
    return [rule["expr"] for file in sorted(RULES.glob("*.yml")) for group in groups(file) for rule in group["rules"]]
