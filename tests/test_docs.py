"""The documents say what the code does."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.docs import METRICS_PAGE, metrics_page

ROOT = Path(__file__).parents[1]


def test_the_page_of_metrics_is_current() -> None:
    """docs/metrics.md lists exactly the metrics of the code; `make docs` brings it up to date."""
    assert METRICS_PAGE.read_text() == metrics_page()


def test_links_lead_somewhere() -> None:
    """Every relative link in the documents names a file that exists."""
    for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("deploy/*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_faults_are_tested_where_the_page_says() -> None:
    """Each row of the table of faults names tests, all of them in the files below it, and each file has one."""
    section = (
        (ROOT / "docs" / "operations.md").read_text().partition("## When something happens")[2].partition("\n## ")[0]
    )
    defined = {
        name: set(re.findall(r"^ *def (test_\w+)", (ROOT / name).read_text(), re.MULTILINE))
        for name in re.findall(r"`(tests/[\w/]+\.py)`", section)
    }
    rows = [set(re.findall(r"`(test_\w+)`", row)) for row in re.findall(r"^\| [^|].* \|$", section, re.MULTILINE)[1:]]
    assert all(rows)
    assert set().union(*rows) <= set().union(*defined.values())
    assert all(names & set().union(*rows) for names in defined.values())


def test_help_has_every_target() -> None:
    """`make help` lists each target that says what it is for, and CONTRIBUTING.md each that measures."""
    described = re.findall(r"^([\w-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE)
    told = subprocess.run(["make", "help"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert re.findall(r"^make ([\w-]+) ", told, re.MULTILINE) == described
    page = (ROOT / "CONTRIBUTING.md").read_text()
    for target in described:
        assert not target.startswith("bench") or f"| `make {target}` |" in page


def test_commands_of_the_readme_exist() -> None:
    """Every subcommand that the README shows is one."""
    shown = set(re.findall(r"^\$ docker-icc-exporter (\w+)", (ROOT / "README.md").read_text(), re.MULTILINE))
    command = [sys.executable, "-m", "exporter", "--help"]
    known = subprocess.run(command, check=True, capture_output=True, text=True).stdout

    assert shown == {name for name in shown if f"\n  {name} " in known}
