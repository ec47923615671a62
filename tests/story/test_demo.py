"""`make demo`: with a real engine, and replayed without root."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.request import urlopen

import pytest

from tests.lab.registry import NAMED_NAMESPACES, PREFIX, STATE, Plot, processes
from tests.lab.system import ProcessIdentity

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.lab

ROOT = Path(__file__).parents[2]
DEMO = (sys.executable, "-m", "tests.demo")
NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
READS_ALL = ("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")
"""For what lies in root's home: another user's Python would lie in his own."""

READY_WITHIN = 60.0
TOLD_WITH_ENGINE = ("export DOCKER_HOST=unix://", "docker-icc-exporter explain tenant-a tenant-c", "Ctrl-C ends")


class Demo:
    """A running demo; `text` is what it has printed until it was ready."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        watchdog = threading.Timer(READY_WITHIN, process.kill)
        watchdog.start()
        self.text = ""
        assert process.stdout
        for line in process.stdout:
            self.text += line
            if line.startswith("Ctrl-C"):
                break
        watchdog.cancel()
        found = re.search(r"http://127\.0\.0\.1:[0-9]+", self.text)
        assert found, self.text
        self.url = found[0]

    def scrape(self) -> list[str]:
        """Return the lines of the metrics."""
        with urlopen(f"{self.url}/metrics", timeout=5) as answer:
            return str(answer.read().decode()).splitlines()

    def interrupt(self) -> tuple[int, str]:
        """Press Ctrl-C; return the exit code and what is printed after it."""
        os.killpg(self.process.pid, signal.SIGINT)
        rest, _ = self.process.communicate(timeout=30)
        return self.process.returncode, rest


@contextmanager
def demo(*prefix: str) -> Iterator[Demo]:
    """Have a demo in a process group of its own, as a shell would start it."""
    process = subprocess.Popen(
        [*prefix, *DEMO],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    try:
        yield Demo(process)
    finally:
        process.kill()
        process.wait()
        if process.stdout:
            process.stdout.close()


def plots_of(pid: int) -> list[Plot]:
    """Return the lab's plots that belong to a process."""
    plots = (Plot(path.name) for path in STATE.glob(f"{PREFIX}*"))
    return [plot for plot in plots if (owner := plot.owner()) and owner.pid == pid]


def test_the_demo_shows_a_real_engine_and_leaves_nothing() -> None:
    """It prints where to look and what to try, serves the story's numbers, and Ctrl-C removes all that it made."""
    with demo() as shown:
        for text in TOLD_WITH_ENGINE:
            assert text in shown.text
        lines = shown.scrape()
        assert "icc_enabled 1.0" in lines
        assert 'docker_icc_network_enabled{driver="bridge",network="tenants"} 0.0' in lines
        assert "docker_icc_containers 11.0" in lines
        assert "" not in tried(shown.text).values()
        (plot,) = plots_of(shown.process.pid)
        pids = processes(plot)
        assert pids
        assert shown.interrupt() == (0, "")
    assert [pid for pid in pids if ProcessIdentity.of(pid)] == []
    assert list(NAMED_NAMESPACES.glob(f"{plot.name}*")) == []
    assert not plot.folder.exists()
    assert not listens(shown.url)


def tried(text: str) -> dict[str, str]:
    """Run each command that the demo proposes, in the order of its text; return what they print."""
    lines = [line.strip() for line in text.splitlines() if line.startswith(("  export ", "  docker"))]
    settings = "; ".join(line for line in lines if line.startswith("export "))
    commands = [line for line in lines if not line.startswith(("export ", "docker_icc_"))]
    printed: dict[str, str] = {}
    for command in commands:
        done = subprocess.run(
            ["bash", "-c", f"{settings}; {command}"], capture_output=True, text=True, check=False, timeout=30
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        if not command.startswith("docker network"):
            printed[command] = done.stdout.strip()
    return printed


def listens(url: str) -> bool:
    """Tell whether anybody serves there."""
    try:
        with urlopen(url, timeout=2):
            return True
    except OSError:
        return False


def test_the_demo_replays_without_root() -> None:
    """Another user gets the recorded host, is told so, and Ctrl-C ends it."""
    with demo(*NOBODY, *READS_ALL) as shown:
        assert shown.text.startswith("REPLAY, NOT A LIVE ENGINE: starting an engine needs root.\n")
        lines = shown.scrape()
        assert "icc_enabled 1.0" in lines
        assert "docker_icc_containers 11.0" in lines
        assert "" not in tried(shown.text).values()
        assert shown.interrupt() == (0, "")
    assert not listens(shown.url)
