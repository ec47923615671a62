"""A page for every alert, and no page for none."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy.promql import selectors
from tests.deploy.rules import alerts

ROOT = Path(__file__).parents[2]
RUNBOOKS = ROOT / "docs" / "runbooks"
ALERTS = {alert["alert"]: alert for alert in alerts()}
SECTIONS = ["What it means", "How to see it", "How to close it", "How to silence it"]


def test_every_alert_has_a_page_and_every_page_an_alert() -> None:
    """The pages are those of the alerts, and each alert leads to its own."""
    assert {page.stem for page in RUNBOOKS.glob("*.md")} - {"README"} == set(ALERTS)
    bases = {alert["annotations"]["runbook_url"].rpartition("/")[0] for alert in ALERTS.values()}
    assert len(bases) == 1
    for name, alert in ALERTS.items():
        assert alert["annotations"]["runbook_url"].endswith(f"/{name}.md")
    # the command of deploy/README.md that puts another address in finds the one that is there
    assert f"s#{bases.pop()}#" in (ROOT / "deploy" / "README.md").read_text()


@pytest.mark.parametrize("alert", ALERTS)
def test_pages_say_what_it_means_and_what_to_do(alert: str) -> None:
    """Each page has the four sections, and a silence for this very alert."""
    text = (RUNBOOKS / f"{alert}.md").read_text()
    assert text.startswith(f"# {alert}\n")
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == SECTIONS
    assert re.search(rf"^\$ amtool silence add alertname={alert} .*--duration=\d+[hd] --comment=", text, re.MULTILINE)


def test_the_list_is_that_of_the_rules() -> None:
    """The overview has every alert with its severity and duration, in their order."""
    rows = re.findall(
        r"^\| \[(\w+)\]\((\w+)\.md\) \| (\w+) \| (\w+) \|", (RUNBOOKS / "README.md").read_text(), re.MULTILINE
    )
    assert rows == [(name, name, alert["labels"]["severity"], alert["for"]) for name, alert in ALERTS.items()]


def test_what_an_alert_needs_is_told() -> None:
    """An alert that cannot fire in some tier says so in the overview, and on its page with the tier that it takes."""
    rows = re.findall(r"^\| \[(\w+)\].*\| \w+ \| \w+ \| ([^|]*)\|", (RUNBOOKS / "README.md").read_text(), re.MULTILINE)
    needs = {name: tier[1] for name, text in rows if (tier := re.match(r"tier `(\w+)`", text))}
    asked = {name: {each.metric for each in selectors(alert["expr"])} for name, alert in ALERTS.items()}
    assert {name for name, tier in needs.items() if tier == "kernel"} == {
        name
        for name, metrics in asked.items()
        if metrics & {"docker_icc_drift_pairs", "docker_icc_bridge_netfilter_enabled"}
        or name == "DockerIccEvidenceLost"
    }
    assert {name for name, tier in needs.items() if tier == "sandboxes"} == {
        name for name, metrics in asked.items() if any("_config_" in each and "reload" not in each for each in metrics)
    }


def test_links_and_commands_are_right() -> None:
    """Every relative link leads to a file, every command of ours on a page is one, and has the options shown."""
    usages: dict[str, str] = {}
    for page in RUNBOOKS.glob("*.md"):
        text = page.read_text()
        for target in re.findall(r"\]\(([^)#:]+)(?:#[\w-]+)?\)", text):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
        for command, rest in re.findall(r"^\$ docker-icc-exporter (\w+)(.*)$", text, re.MULTILINE):
            if command not in usages:
                asked = [sys.executable, "-m", "exporter", command, "--help"]
                usages[command] = subprocess.run(asked, check=True, capture_output=True, text=True).stdout
            for option in re.findall(r"(?<= )--?[\w.-]+", rest):
                assert re.search(rf"{re.escape(option)}\b", usages[command]), f"{page.name}: {command} has no {option}"
