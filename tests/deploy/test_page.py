"""deploy/README.md says what is there."""

from __future__ import annotations

import re

from tests.deploy.dashboards import DASHBOARDS
from tests.deploy.rules import DEPLOY
from tests.image.build import PACKAGES
from tests.image.compose import COMPOSE
from tests.lab.packages import PROMETHEUS

PAGE = (DEPLOY / "README.md").read_text()


def test_every_file_for_prometheus_and_every_dashboard_is_named() -> None:
    """Nothing is offered that the page does not tell of, and it tells of nothing else."""
    named = set(re.findall(r"^\| `prometheus/(prometheus[\w-]*\.yml)` \|", PAGE, re.MULTILINE))
    assert named == {file.name for file in (DEPLOY / "prometheus").glob("*.yml")}
    titles = [board["title"].rpartition(" / ")[2] for board in DASHBOARDS.values()]
    assert all(f"| {title} |" in PAGE for title in titles)


def test_the_versions_that_tests_use_are_named() -> None:
    """What is said to be tested is what the tests take."""
    *others, newest = PROMETHEUS
    assert f"Prometheus {', '.join(others)} and {newest}" in PAGE


def test_packages_and_allow_list_are_those_that_are_tested() -> None:
    """The build argument and the proxy's pattern of the page are the ones that everything else uses."""
    assert f'--build-arg PACKAGES="{PACKAGES}"' in PAGE
    (pattern,) = re.findall(r"^-allowGET=.*$", PAGE, re.MULTILINE)
    assert f"'{pattern}'" in COMPOSE.read_text()
