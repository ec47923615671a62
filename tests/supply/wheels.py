"""A folder that takes the place of the package index: the project's wheel, and those that are locked for it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from tests.lab.system import run
from tests.supply.lock import BUILD, ROOT, RUNTIME
from tests.supply.venv import fresh

if TYPE_CHECKING:
    from pathlib import Path


def fill(folder: Path, scratch: Path, python: str) -> None:
    """Put there what this interpreter's pip wants for `install docker-icc-exporter`, what is locked by its hashes."""
    hatchling = fresh(scratch, BUILD) / "hatchling"
    build = [str(hatchling), "build", "--target", "wheel", "--directory", str(folder)]
    run(["sh", "-c", 'cd "$0" && exec "$@"', str(ROOT), *build])
    pip = [sys.executable, "-m", "pip", "--quiet", f"--python={python}"]
    locked = ("--require-hashes", "--only-binary=:all:", f"--requirement={RUNTIME}")
    run([*pip, "download", f"--dest={folder}", *locked])
