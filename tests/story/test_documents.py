"""Every command that a document shows, typed on a host with a real engine, the demo's containers and an exporter."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.cli.program import environment
from tests.cli.service import service
from tests.demo import furnish
from tests.lab import Engine, engine
from tests.lab.packages import unpacked
from tests.lab.system import SYSTEM_PATH, wait_until
from tests.prometheus.alertmanager import Alertmanager, alertmanager

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.lab

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")), *sorted(ROOT.glob("docs/runbooks/*.md"))]
EXAMPLE = re.compile(r"^```yaml\n# exporter.yml\n(.*?)^```", re.MULTILINE | re.DOTALL)
FENCE = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)

NOT_HERE = {
    "make": "tests/story/test_demo.py does that",
    "systemctl": "no systemd runs here; tests/deploy/test_systemd.py is about the unit",
    "journalctl": "no systemd runs here",
    "modprobe": "modules are the machine's, which tests leave alone",
    "cat": "the host's /etc is the machine's: what is configured there is tests/story/test_pending.py",
}
"""Programs of commands that are not run, and why."""

STANDS_FOR = {"SOURCE": "tenant-a", "DESTINATION": "tenant-c", "HOST:10422": "localhost:10422", "RULE": "a-rule"}
"""What a reader puts in the place of words in capitals."""

POLICY = """\
rules:
  - name: nobody-meets-tenant-a
    why: so that one is violated
    deny: {from: any, to: {name: tenant-a}}
"""


def commands() -> list[tuple[str, str]]:
    """Return all commands with the page that shows them."""
    found = []
    for page in PAGES:
        for block in FENCE.findall(page.read_text()):
            lines = [line.removeprefix("$ ") for line in block.splitlines() if line.startswith("$ ")]
            found += [(page.relative_to(ROOT).as_posix(), line) for line in lines]
    return found


RUN = [(page, line) for page, line in commands() if line.split()[0] not in NOT_HERE]


class Desk:
    """Where somebody sits who reads the documents: in a folder, on the engine's host."""

    def __init__(self, made: Engine, folder: Path, manager: Alertmanager) -> None:
        self._engine = made
        self._folder = folder
        self._amtool = f"amtool --alertmanager.url=http://{manager.address}"
        installed = (unpacked(made.version) / "usr/bin", unpacked("alertmanager") / "usr/bin")
        path = os.pathsep.join((*map(str, (Path(sys.executable).parent, *installed)), SYSTEM_PATH))
        self._environ = {"PATH": path, "DOCKER_HOST": made.host}

    def type(self, line: str) -> subprocess.CompletedProcess[str]:
        """Run a line; the machine's own loopback is where Alertmanager is, the host's where the exporter is."""
        for words, said in STANDS_FOR.items():
            line = re.sub(rf"\b{words}\b", said, line)
        shell = ["bash", "-c", f"cd {self._folder} && {line.replace('amtool', self._amtool)}"]
        command = shell if line.startswith("amtool") else self._engine.world.enter(shell)
        environ = environment(**self._environ)
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=environ)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """Return a desk with what the documents speak of."""
    folder = tmp_path_factory.mktemp("desk")
    with engine("28.5") as made, alertmanager(folder) as manager:
        furnish(made)
        for name in ("server", "icc-exporter"):
            made.run(name, f"--label=com.docker.compose.project={name}")
        found = Desk(made, folder, manager)
        (folder / "policy.yaml").write_text(POLICY)
        (folder / "exporter.yml").write_text(EXAMPLE.findall((ROOT / "docs" / "operations.md").read_text())[0])
        for name in ("monday", "tuesday", "before", "now", "incident"):
            assert found.type(f"docker-icc-exporter snapshot -o {name}.json").returncode == 0
        with service("--poll.interval=1s", f"--docker.host={made.host}", under=made.world.enter(())) as exporter:
            assert wait_until(lambda: "engine answers" in "".join(exporter.log), 15)
            assert manager.alerts() == {}
            yield found


@pytest.mark.parametrize(("page", "line"), RUN, ids=[f"{page}: {line}" for page, line in RUN])
def test_what_a_document_shows_works(desk: Desk, page: str, line: str) -> None:
    """It says something, or does it; an exit code of 1 is an answer of ours and of grep, and of nobody else."""
    done = desk.type(line)
    answers = (0, 1) if line.startswith("docker-icc-exporter") else (0,)
    assert done.returncode in answers, (page, line, done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    assert "error:" not in done.stderr


def test_little_is_left_out() -> None:
    """What cannot be typed here is what the list says, and it is the smaller part."""
    left = {line.split()[0] for _, line in commands()} - {line.split()[0] for _, line in RUN}
    assert left == NOT_HERE.keys()
    assert len(RUN) > 4 * (len(commands()) - len(RUN))
