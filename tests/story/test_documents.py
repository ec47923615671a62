"""Every command that a document shows, typed on a host with a real engine, the demo's containers and an exporter."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import bcrypt
import pytest

from exporter import webconfig
from tests.cli.program import environment
from tests.cli.service import service
from tests.demo import furnish
from tests.deploy.rules import DEPLOY, alerts
from tests.documents import ROOT, commands, cron_lines
from tests.lab import Engine, engine
from tests.lab.packages import unpacked
from tests.lab.system import SYSTEM_PATH, wait_until
from tests.prometheus.alertmanager import Alertmanager, alertmanager

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.lab

EXAMPLE = re.compile(r"^```yaml\n# exporter.yml\n(.*?)^```", re.MULTILINE | re.DOTALL)

_COMPOSE = "tests/image/test_compose.py starts the stack, with images that can be had here"
_STACK = "tests/image/test_stack.py makes a swarm and deploys the stack, with images that can be had here"
_SERVICE = "the machine's /opt and /etc are left alone: tests/supply/test_build.py installs the wheel far from here"

NOT_HERE = {
    "make": "tests/story/test_demo.py does that",
    "systemctl": "no systemd runs here; tests/deploy/test_systemd.py is about the unit",
    "modprobe": "modules are the machine's, which tests leave alone",
    "cat": "the host's /etc is the machine's: what is configured there is tests/story/test_pending.py",
    "dockerd --validate": "it reads the host's /etc, as cat does",
    "htpasswd": "it wants a terminal: test_a_password_is_asked_for gives it one",
    "cd deploy/compose": _COMPOSE,
    'echo "DOCKER_GID': _COMPOSE,
    "(umask 077; openssl": _COMPOSE,
    "docker compose": _COMPOSE,
    "docker build": "tests/image builds both images, at length",
    "docker run": "tests/image/test_image.py runs them with these images",
    "docker node": _STACK,
    "export DOCKER_GID": _STACK,
    "docker stack": _STACK,
    "python3 -m venv /opt": _SERVICE,
    "/opt/docker-icc-exporter/bin/pip": _SERVICE,
    "cp deploy/systemd": _SERVICE,
}
"""Beginnings of commands that are not run, and why."""

STANDS_FOR = {"SOURCE": "tenant-a", "DESTINATION": "tenant-c", "HOST:10422": "localhost:10422", "RULE": "a-rule"}
"""What a reader puts in the place of words in capitals."""

POLICY = """\
rules:
  - name: nobody-meets-tenant-a
    why: so that one is violated
    deny: {from: any, to: {name: tenant-a}}
"""


def here(line: str) -> bool:
    """Tell whether a command can be run."""
    return not line.startswith(tuple(NOT_HERE))


RUN = [(page, line) for page, line in commands() if here(line)]


class Desk:
    """Where somebody sits who reads the documents: in a folder, on the engine's host."""

    def __init__(self, made: Engine, folder: Path, manager: Alertmanager) -> None:
        self._engine = made
        self.folder = folder
        self._amtool = f"amtool --alertmanager.url=http://{manager.address}"
        installed = [unpacked(name) / "usr/bin" for name in (made.version, "alertmanager", "named")]
        path = os.pathsep.join((*map(str, (Path(sys.executable).parent, *installed)), SYSTEM_PATH))
        perl = [unpacked("named") / "usr/share/perl5", *unpacked("named").glob("usr/lib/*/perl5/*")]
        self._environ = {"PATH": path, "DOCKER_HOST": made.host, "PERL5LIB": os.pathsep.join(map(str, perl))}

    def type(self, line: str) -> subprocess.CompletedProcess[str]:
        """Run a line; the machine's own loopback is where Alertmanager is, the host's where the exporter is."""
        for words, said in STANDS_FOR.items():
            line = re.sub(rf"\b{words}\b", said, line)
        shell = ["bash", "-c", f"cd {self.folder} && {line.replace('amtool', self._amtool)}"]
        command = shell if line.startswith("amtool") else self._engine.world.enter(shell)
        environ = environment(**self._environ)
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=environ)

    def type_in_terminal(self, line: str, password: str) -> str:
        """Run a line at a terminal, type a password whenever one is asked for, and return all that shows."""
        terminal, end = os.openpty()
        libraries = os.pathsep.join(map(str, unpacked("named").glob("usr/lib/*-linux-gnu")))
        environ = environment(**self._environ, LD_LIBRARY_PATH=libraries)
        command = ["setsid", "--ctty", "--wait", "bash", "-c", line]
        with subprocess.Popen(command, stdin=end, stdout=end, stderr=end, env=environ) as process:
            os.close(end)
            shown = b""
            # the terminal of a program that has ended is an error to read from
            with contextlib.suppress(OSError):
                while piece := os.read(terminal, 1000):
                    shown += piece
                    if shown.endswith(b"assword: "):
                        os.write(terminal, f"{password}\n".encode())
            assert process.wait(10) == 0, shown
        os.close(terminal)
        return shown.decode()


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
        (folder / "peaceful.yaml").write_text(POLICY.replace("tenant-a", "nobody"))
        shutil.copytree(DEPLOY, folder / "deploy")
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


def test_cron_is_silent_unless_something_is_wrong(desk: Desk) -> None:
    """The line for cron says what `check` says where a rule is violated, and nothing where none is."""
    (line,) = cron_lines()
    assert " /etc/docker-icc-exporter/" in line
    line = line.replace(" /etc/docker-icc-exporter/", " ")
    told = desk.type(line)
    assert told.returncode == 1
    assert "nobody-meets-tenant-a: violated" in told.stdout
    quiet = desk.type(line.replace("policy.yaml", "peaceful.yaml"))
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (0, "", "")


def test_a_password_is_asked_for(desk: Desk, tmp_path: Path) -> None:
    """What is printed after the password was typed twice is a hash of it that a web configuration takes."""
    (line,) = (line for _, line in commands() if line.startswith("htpasswd"))
    hashed = desk.type_in_terminal(line, "open sesame").split()[-1]
    assert bcrypt.checkpw(b"open sesame", hashed.encode())
    web = tmp_path / "web.yml"
    web.write_text(f"basic_auth_users: {{prometheus: {hashed}}}\n")
    assert webconfig.read(web).users.keys() == {"prometheus"}


def test_the_address_of_runbooks_can_be_changed(desk: Desk) -> None:
    """After the command, every alert of both kinds leads to the new address; it may be typed again."""
    (line,) = (line for _, line in commands() if line.startswith("sed ") and "runbooks" in line)
    assert desk.type(line).returncode == 0
    for name in ("deploy/prometheus/rules/alerts.yml", "deploy/grafana/provisioning/alerting/docker-icc.yml"):
        text = (desk.folder / name).read_text()
        assert text.count("https://wiki.example.org/docker-icc/") == text.count("runbook_url:") == len(alerts())


def test_little_is_left_out() -> None:
    """What cannot be typed here is what the list says, and it is the smaller part."""
    left = [line for _, line in commands() if not here(line)]
    assert [start for start in NOT_HERE if not any(line.startswith(start) for line in left)] == []
    assert len(RUN) > 2 * len(left)
