"""The files of deploy/grafana that follow from something else."""

from __future__ import annotations

import json
from typing import Final

from tests.deploy.dashboards import DASHBOARDS
from tests.deploy.provisioning import alerting
from tests.deploy.rules import DEPLOY

GRAFANA: Final = DEPLOY / "grafana"


def files() -> dict[str, str]:
    """Return contents by path below deploy/grafana."""
    boards = {f"dashboards/{name}.json": json.dumps(board, indent=1) + "\n" for name, board in DASHBOARDS.items()}
    return {**boards, "provisioning/alerting/docker-icc.yml": alerting()}
