"""The requirements files: what they lock is what pyproject.toml asks for, all of it and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from packaging.requirements import Requirement

from tests.supply.lock import BUILD, DEVELOPMENT, ROOT, RUNTIME, SBOM, closure, pins, project, runtime

if TYPE_CHECKING:
    from pathlib import Path

LOCKED = (RUNTIME, BUILD, SBOM)


def test_the_lock_is_what_runs_and_nothing_else() -> None:
    """requirements.txt names the packages that the exporter needs, directly or not, and no other."""
    assert set(pins(RUNTIME)) == set(closure(runtime()))


def test_the_lock_satisfies_everybody() -> None:
    """Each locked version is one that pyproject.toml and all the packages that need it allow."""
    for name, asked in closure(runtime()).items():
        for requirement in asked:
            assert requirement.specifier.contains(pins(RUNTIME)[name].version), requirement


def test_what_is_tested_is_what_is_shipped() -> None:
    """The versions in the image are those that the tests run with, and so are those of what builds the wheel."""
    tested = pins(DEVELOPMENT)
    for file in (RUNTIME, BUILD):
        for name, pin in pins(file).items():
            assert (file is BUILD and name not in tested) or pin.version == tested[name].version, (file.name, name)


def test_the_builder_is_locked() -> None:
    """The build backend that pyproject.toml names, in a version that it allows, is what `make dist` installs."""
    for text in project()["build-system"]["requires"]:
        requirement = Requirement(text)
        assert requirement.specifier.contains(pins(BUILD)[requirement.name].version)


@pytest.mark.parametrize("file", LOCKED, ids=lambda file: file.name)
def test_every_pin_has_hashes(file: Path) -> None:
    """No package is installed for what leaves this repository unless its file is the one that was locked."""
    assert pins(file)
    assert not [name for name, pin in pins(file).items() if not pin.hashes]


def test_the_image_installs_what_is_locked() -> None:
    """Every package that the Dockerfile installs is checked by its hash, or is our own wheel, without any index."""
    instructions = (ROOT / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
    installs = [
        part for line in instructions if line.startswith("RUN") for part in line.split("&&") if "pip install" in part
    ]
    assert len(installs) == 3
    for command in installs:
        locked = "--require-hashes" in command and "--only-binary=:all:" in command
        assert locked or ("--no-index" in command and "--no-deps" in command), command


def test_a_line_that_is_no_pin_is_refused(tmp_path: Path) -> None:
    """A range, a marker, or a package that stands there twice is not taken for a pin."""
    file = tmp_path / "requirements.txt"
    for content in (
        "click>=8",
        "click",
        "click==8.1; python_version<'4'",
        "click==8.1\nClick==8.2",
        "click==8.1,!=8.2",
    ):
        file.write_text(content + "\n")
        with pytest.raises(ValueError, match=r"requirements\.txt"):
            pins(file)
