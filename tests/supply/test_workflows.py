"""The workflows: what can be known of them without running them."""

from __future__ import annotations

import os
import re

import pytest
import yaml

from tests.supply.lock import ROOT
from tests.supply.workflows import FILES, asked_of_make, parsed, targets, workflow

PINNED = re.compile(r"uses: [\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+\n")

WRITES = {
    "checks.yml": {},
    "image.yml": {},
    "release.yml": {
        "build": {"id-token", "attestations"},
        "image": {"packages", "id-token", "attestations"},
        "pypi": {"id-token"},
        "github": {"contents"},
    },
}
"""Which job may change what. Signing and publishing need an identity, nothing else does."""


def test_all_workflows_are_looked_at() -> None:
    """A new workflow cannot come without saying what it may change."""
    assert sorted(WRITES) == FILES


@pytest.mark.parametrize("name", FILES)
def test_rights_are_given_to_jobs_and_are_those_of_the_table(name: str) -> None:
    """A workflow has no right at all; a job has those that it names, writes nothing it need not, and ends in time."""
    file = workflow(name)
    assert file.document["permissions"] == {}
    for job, content in file.jobs.items():
        rights: dict[str, str] = content["permissions"]
        assert {right for right, access in rights.items() if access == "write"} == WRITES[name].get(job, set()), job
        assert set(rights.values()) <= {"read", "write"}, job
        assert "uses" in content or content["timeout-minutes"] <= 60, job


@pytest.mark.parametrize("name", FILES)
def test_foreign_actions_are_pinned(name: str) -> None:
    """Whatever is not ours is named by its commit, with the version beside it for people."""
    used = [line.strip().removeprefix("- ") + "\n" for line in workflow(name).text.splitlines() if "uses:" in line]
    foreign = [line for line in used if "uses: ./" not in line]
    assert foreign
    assert not [line for line in foreign if not PINNED.fullmatch(line)]


def test_an_action_is_the_same_everywhere() -> None:
    """No two workflows use an action at different commits."""
    used = {step["uses"] for name in FILES for step in workflow(name).steps() if "uses" in step}
    assert len(used) == len({action.partition("@")[0] for action in used})


@pytest.mark.parametrize("name", FILES)
def test_the_shell_gets_no_text_from_outside(name: str) -> None:
    """No expression is pasted into a script: names of branches and titles would become part of it."""
    assert not [script for script in workflow(name).scripts() if "${{" in script]


@pytest.mark.parametrize("name", FILES)
def test_no_credentials_are_left_behind(name: str) -> None:
    """A checkout keeps no token for the steps that follow, and the code of a stranger's change gets no secret."""
    file = workflow(name)
    checkouts = [step for step in file.steps() if step.get("uses", "").startswith("actions/checkout@")]
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)
    assert "pull_request_target" not in file.document["on"]
    assert "secrets." not in file.text


def test_what_is_made_can_be_made() -> None:
    """Every target that a workflow makes is one of the Makefile, and every script of ours that it runs is there."""
    scripts = [script for name in FILES for script in workflow(name).scripts()]
    made = {target for script in scripts for target in asked_of_make(script)}
    assert {"lint", "dist", "sbom"} <= made <= targets()
    assert ".ci/run" in scripts
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def test_a_release_is_checked_first() -> None:
    """Nothing is built before all is checked, no image is pushed before sdist and wheel are built, PyPI comes last."""
    jobs = workflow("release.yml").jobs
    assert jobs["checks"]["uses"] == "./.github/workflows/checks.yml"
    assert (jobs["build"]["needs"], jobs["image"]["needs"]) == ("checks", ["checks", "build"])
    assert any("GITHUB_REF_NAME" in step.get("run", "") for step in jobs["build"]["steps"])
    assert (jobs["pypi"]["needs"], jobs["github"]["needs"]) == (["build", "image"], "pypi")


def test_images_are_built_as_they_are_released() -> None:
    """What a change is tested with is for the platforms and with the packages that a release is made for."""
    builds = []
    for name in ("image.yml", "release.yml"):
        file = workflow(name)
        (step,) = [step for step in file.steps() if step.get("uses", "").startswith("docker/build-push-action@")]
        matrix = next(job["strategy"]["matrix"] for job in file.jobs.values() if step in job.get("steps", ()))
        packages = matrix.get("packages") or [each["packages"] for each in matrix["include"]]
        builds.append((step["with"]["platforms"], packages))
        assert step["with"]["push"] is (name == "release.yml")
    assert builds[0] == builds[1]
    assert builds[0][0] == "linux/amd64,linux/arm64"


def test_a_key_that_stands_there_twice_is_refused() -> None:
    """The reading is strict: of two values, YAML's readers would take the last without a word."""
    with pytest.raises(yaml.YAMLError, match="twice"):
        parsed("on: push\npermissions: {}\npermissions: write-all\n")
    assert parsed("on: push").document == {"on": "push"}
