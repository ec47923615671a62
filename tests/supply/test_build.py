"""Wheel and sdist, built by `make dist` from two different folders, and the wheel installed far from the checkout."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from exporter import __version__
from tests.lab.system import run
from tests.supply.lock import ROOT, RUNTIME
from tests.supply.venv import fresh, install

# the builds are made once
pytestmark = pytest.mark.xdist_group("supply")

NAME = f"docker_icc_exporter-{__version__}"
HOST = ROOT / "tests" / "data" / "demo-host.json"
LYING_ABOUT = (
    "notes.txt", ".env", "core", "exporter/__pycache__/old.cpython-311.pyc", ".mypy_cache/x", ".coverage",
    "deploy/compose/grafana-password", "dist/old.txt", "build/lib/exporter/old.py", "docker_icc_exporter.egg-info/x",
)  # fmt: skip
"""Files of a checkout that are nobody's business."""


@dataclass(frozen=True, slots=True)
class Build:
    """A folder, and what was built of it."""

    folder: Path

    @property
    def wheel(self) -> Path:
        """The wheel."""
        return self.folder / "dist" / f"{NAME}-py3-none-any.whl"

    @property
    def sdist(self) -> Path:
        """The sdist."""
        return self.folder / "dist" / f"{NAME}.tar.gz"


def files_of_the_repository(scratch: Path) -> list[str]:
    """Return the files that are there and not ignored, whether or not this is a clone."""
    git = ["git", f"--git-dir={scratch}", f"--work-tree={ROOT}"]
    run([*git, "init", "--quiet"])
    return run([*git, "ls-files", "-z", "--others", "--exclude-standard"]).split("\0")[:-1]


def build(folder: Path, tools: Path, umask: int, **environ: str) -> Build:
    """Run `make dist` in a folder."""
    kept = {name: value for name, value in os.environ.items() if name != "SOURCE_DATE_EPOCH"}
    subprocess.run(
        ["make", f"--directory={folder}", "dist", f"VENV={sys.prefix}", f"BUILDER={tools}"],
        check=True, capture_output=True, timeout=120, umask=umask, env=kept | environ,
    )  # fmt: skip
    return Build(folder)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Return the files of the repository."""
    return files_of_the_repository(tmp_path_factory.mktemp("git"))


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return where the programs go that build."""
    return tmp_path_factory.mktemp("tools") / "venv"


@pytest.fixture(scope="module")
def first(files: list[str], tools: Path, tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Return what is built of the checkout, with everything beside it that may lie about there."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    for name in LYING_ABOUT:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("secret")
    return build(folder, tools, 0o022, TZ="Asia/Tokyo")


@pytest.fixture(scope="module")
def second(first: Build, tools: Path, tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Return what is built of the sdist, elsewhere, years before, by somebody who keeps files to himself."""
    folder = tmp_path_factory.mktemp("elsewhere")
    with tarfile.open(first.sdist) as tar:
        tar.extractall(folder, filter="data")
    for path in (folder / NAME).rglob("*"):
        if path.is_file():
            path.chmod(path.stat().st_mode & 0o700)
            os.utime(path, (1_500_000_001, 1_500_000_001))
    return build(folder / NAME, tools, 0o077, TZ="America/New_York", LC_ALL="C", HOME=str(folder))


def test_builds_are_reproducible(first: Build, second: Build) -> None:
    """The sdist and the wheel have the same bytes whoever builds them where, when and from which of the two."""
    assert first.folder != second.folder
    assert first.sdist.read_bytes() == second.sdist.read_bytes()
    assert first.wheel.read_bytes() == second.wheel.read_bytes()


def test_the_sdist_is_the_repository(first: Build, files: list[str]) -> None:
    """It holds the repository's files with their content and right to run, its own metadata, and nothing else."""
    with tarfile.open(first.sdist) as tar:
        members = {member.name.removeprefix(f"{NAME}/"): member for member in tar.getmembers() if member.isfile()}
        assert set(members) == {*files, "PKG-INFO"}
        for name in files:
            content = tar.extractfile(members[name])
            assert content is not None
            assert content.read() == (first.folder / name).read_bytes(), name
            assert bool(members[name].mode & 0o111) == bool((ROOT / name).stat().st_mode & 0o100), name


def test_the_wheel_is_the_package(first: Build, files: list[str]) -> None:
    """It holds every file of the package, templates and `py.typed` included, the licence, and nothing else."""
    package = {name for name in files if name.startswith("exporter/")}
    assert {
        "exporter/publish/templates/page.html",
        "exporter/publish/templates/style.css",
        "exporter/py.typed",
    } <= package
    about = {
        f"{NAME}.dist-info/{name}" for name in ("METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE")
    }
    with zipfile.ZipFile(first.wheel) as wheel:
        assert set(wheel.namelist()) == package | about
        assert all(wheel.read(name) == (first.folder / name).read_bytes() for name in package)


@pytest.fixture(scope="module")
def installed(first: Build, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the programs of an environment that has the wheel and what is locked for it."""
    programs = fresh(tmp_path_factory.mktemp("installed") / "venv", RUNTIME)
    install(programs, "--no-index", "--no-deps", str(first.wheel))
    return programs


def alone(programs: Path, *command: str, folder: Path) -> str:
    """Run a program of the environment where nothing leads to the checkout."""
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(
        [str(programs / command[0]), *command[1:]],
        cwd=folder, env=kept, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert done.stderr == ""
    return done.stdout


def test_the_wheel_works_without_the_checkout(installed: Path, tmp_path: Path) -> None:
    """With the locked packages and nothing else, the program says its version and reports on a recorded host."""
    place = alone(installed, "python", "-c", "import exporter; print(exporter.__file__)", folder=tmp_path)
    assert Path(place).is_relative_to(installed.parent)
    assert alone(installed, "docker-icc-exporter", "--version", folder=tmp_path).split()[-1] == __version__
    asked = ("report", f"--snapshot={HOST}", "--format=json")
    report = json.loads(alone(installed, "docker-icc-exporter", *asked, folder=tmp_path))
    assert report == json.loads(run([sys.executable, "-m", "exporter", *asked]))
    assert report["totals"]["reachable_pairs"] > 0


def test_the_installed_page_has_its_template_and_style(installed: Path, tmp_path: Path) -> None:
    """Files that are no code were installed where the code looks for them."""
    script = "from exporter.publish.page import Page; print(Page('/metrics').content_security_policy)"
    assert "style-src" in alone(installed, "python", "-c", script, folder=tmp_path)
