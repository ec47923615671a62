"""Virtual environments with nothing but what is locked: not even pip."""

from __future__ import annotations

import sys
import venv
from typing import TYPE_CHECKING

from tests.lab.system import run

if TYPE_CHECKING:
    from pathlib import Path


def fresh(folder: Path, lock: Path) -> Path:
    """Make an environment with what a lock names, each file checked by its hash, and return its folder of programs."""
    venv.create(folder, with_pip=False)
    programs = folder / "bin"
    install(programs, "--require-hashes", "--only-binary=:all:", f"--requirement={lock}")
    return programs


def install(programs: Path, *arguments: str) -> None:
    """Let this environment's pip install something into another one."""
    pip = [sys.executable, "-m", "pip", "--quiet", f"--python={programs / 'python'}"]
    run([*pip, "install", "--no-compile", *arguments], timeout=120)
