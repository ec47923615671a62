"""Processes and commands: the few kernel facts the rest of the lab builds on."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.lab.errors import LabError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

# A pytest started from a user's shell may lack the sbin folders in which iptables lives.
SYSTEM_PATH = os.pathsep.join((os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin", "/bin"))

LET_GARBAGE_LIE = {"GOGC": "400"}
"""For programs in Go: no test needs their memory, and to collect it more often is up to a third of their work."""


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """A pid alone is reused by the kernel; together with the start time it names one process for ever."""

    pid: int
    started: int

    @classmethod
    def of(cls, pid: int) -> ProcessIdentity | None:
        """Identify a process; None when there is none (or only its corpse)."""
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return None
        fields = stat.rpartition(")")[2].split()  # the command before it may itself contain ")"
        return None if fields[0] in "ZX" else cls(pid, int(fields[19]))

    @classmethod
    def own(cls) -> ProcessIdentity:
        """Identify the calling process."""
        identity = cls.of(os.getpid())
        if identity is None:
            raise LabError("/proc does not show the calling process")
        return identity

    def alive(self) -> bool:
        """Tell whether exactly this process still runs."""
        return ProcessIdentity.of(self.pid) == self


def children_of(pid: int) -> frozenset[int]:
    """Return the children that all threads of a process have."""
    found: set[int] = set()
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        found.update(int(child) for child in path.read_text().split())
    return frozenset(found)


def find_tool(name: str) -> str | None:
    """Find a system tool, also where a user's PATH does not look."""
    return shutil.which(name, path=SYSTEM_PATH)


def run(
    command: Sequence[str], *, env: Mapping[str, str] | None = None, timeout: float = 120, stdin: bytes | None = None
) -> str:
    """Run a command and return what it printed; failure is a LabError that carries its stderr."""
    environment = {**os.environ, "PATH": SYSTEM_PATH} if env is None else dict(env)
    try:
        done = subprocess.run(
            list(command), env=environment, input=stdin, capture_output=True, timeout=timeout, check=False
        )
    except FileNotFoundError as error:
        raise LabError(f"{command[0]} is not there; 'python -m tests.lab setup' installs what is missing") from error
    except subprocess.TimeoutExpired as error:
        raise LabError(f"{' '.join(command)}: no end after {timeout} s") from error
    if done.returncode:
        detail = (done.stderr or done.stdout).decode(errors="replace").strip()
        raise LabError(f"{' '.join(command)}: exit status {done.returncode}: {detail}")
    return done.stdout.decode(errors="replace")


def wait_until(condition: Callable[[], bool], timeout: float, interval: float = 0.02) -> bool:
    """Wait until a condition holds; tell whether it came to hold in time."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(interval)
    return True
