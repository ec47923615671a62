"""The program as a shell runs it: in a process of its own, without a terminal."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

DATA = Path(__file__).parent.parent / "data"
HOST = DATA / "demo-host.json"
LATER = DATA / "demo-host-later.json"

COMMAND = (sys.executable, "-W", "error", "-m", "exporter")


def environment(**extra: str) -> dict[str, str]:
    """Return this environment without anything that means something to the program, plus `extra`."""
    ours = ("ICC_EXPORTER_", "DOCKER_", "NO_COLOR")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)} | extra


def run(*arguments: str | Path, stdin: str = "", **extra: str) -> subprocess.CompletedProcess[str]:
    """Run the program to its end; a traceback is never an answer."""
    done = subprocess.run(
        [*COMMAND, *map(str, arguments)],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env=environment(**extra),
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


def failure(*arguments: str | Path, stdin: str = "", **extra: str) -> str:
    """Run the program, see it fail with exit code 2 and nothing on standard output, and return its complaint."""
    done = run(*arguments, stdin=stdin, **extra)
    assert (done.returncode, done.stdout) == (2, ""), done
    return done.stderr
