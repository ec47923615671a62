"""The units in deploy/systemd, judged by systemd itself."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.cli.program import COMMAND, environment
from tests.cli.service import ANY_PORT, Service
from tests.deploy.rules import DEPLOY
from tests.deploy.sandbox import sandbox_of, trace_of
from tests.lab import engine
from tests.lab.packages import unpacked
from tests.lab.system import children_of

if TYPE_CHECKING:
    from pathlib import Path

UNITS = DEPLOY / "systemd"
SERVICE = "docker-icc-exporter.service"
EXPOSURE = {(): 1.3, ("kernel",): 2.1, ("kernel", "sandboxes"): 2.7}
"""What `systemd-analyze security` of systemd 252 says: 0 is a service without any right, 10 one with all of them."""

pytestmark = pytest.mark.lab


def placed(folder: Path, *drop_ins: str) -> Path:
    """Put the units into a folder, with a program that exists and the settings that somebody chose."""
    for unit in UNITS.glob("docker-icc-exporter.s*"):
        if unit.is_file():
            text = unit.read_text().replace("/opt/docker-icc-exporter/bin/docker-icc-exporter", "/bin/true")
            (folder / unit.name).write_text(text)
    chosen = folder / f"{SERVICE}.d"
    chosen.mkdir()
    for name in drop_ins:
        shutil.copy(UNITS / f"{SERVICE}.d" / f"{name}.conf.example", chosen / f"{name}.conf")
    return folder / SERVICE


def analyze(*arguments: str) -> str:
    """Return what systemd-analyze prints, on both streams."""
    command = ["systemd-analyze", *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True, timeout=60)
    return done.stdout


@pytest.mark.parametrize("drop_ins", [*EXPOSURE, ("socket",), ("files",), ("kernel", "sandboxes", "socket")])
def test_units_are_understood(drop_ins: tuple[str, ...], tmp_path: Path) -> None:
    """No line is one that systemd complains about."""
    service = placed(tmp_path, *drop_ins)
    assert analyze("verify", str(service), str(tmp_path / "docker-icc-exporter.socket")) == ""


@pytest.mark.parametrize(("drop_ins", "exposure"), EXPOSURE.items())
def test_the_exposure_is_what_the_page_says(drop_ins: tuple[str, ...], exposure: float, tmp_path: Path) -> None:
    """The score of each tier is not worse than deploy/README.md states."""
    judged = analyze("security", "--offline=true", str(placed(tmp_path, *drop_ins)))
    (found,) = re.findall(r"Overall exposure level for \S+: ([\d.]+) ", judged)
    assert float(found) <= exposure
    assert f"| {exposure} |" in (DEPLOY / "README.md").read_text()


@pytest.mark.parametrize(("tier", "drop_ins"), [("api", ()), ("sandboxes", ("kernel", "sandboxes"))])
def test_the_sandbox_allows_what_the_exporter_does(tier: str, drop_ins: tuple[str, ...], tmp_path: Path) -> None:
    """No system call, kind of socket or memory of a running exporter is one that the unit denies it."""
    placed(tmp_path, *drop_ins)
    texts = [(tmp_path / SERVICE).read_text()]
    texts += [(tmp_path / f"{SERVICE}.d" / f"{name}.conf").read_text() for name in drop_ins]
    allowed = sandbox_of(texts)
    output = tmp_path / "trace"
    with engine("28.5") as made:
        made.run("web", "--publish=8080:80")
        tracer = [str(unpacked("strace") / "usr/bin/strace"), "--follow-forks", f"--output={output}", "--"]
        options = [f"--docker.host={made.host}", f"--evidence.max={tier}", f"--host.netns={made.netns}"]
        command = [*tracer, *COMMAND, "--log.format=json", ANY_PORT, "--poll.interval=1s", *options]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment())
        try:
            exporter = Service(process)
            exporter.seconds_until(lambda samples: samples.get("docker_icc_containers") == 1, timeout=30)
            assert exporter.samples()['docker_icc_evidence{source="sandboxes"}'] == (tier == "sandboxes")
            exporter.get("/")
            (pid,) = children_of(process.pid)
            os.kill(pid, signal.SIGTERM)
            assert process.wait(20) == 0
        finally:
            process.kill()
            process.wait()
            if process.stderr:
                process.stderr.close()
    done = trace_of(output)
    assert {"execve", "epoll_wait", "accept4"} < done.calls
    assert done.calls - allowed.calls == set()
    assert done.families - allowed.families == set()
    assert done.writable_code == ()


def test_each_tier_has_its_capabilities_and_no_other(tmp_path: Path) -> None:
    """The service has none, the kernel's has one, that of the sandboxes has three."""
    for names, expected in (
        ((), set()),
        (("kernel",), {"CAP_NET_ADMIN"}),
        (("kernel", "sandboxes"), {"CAP_NET_ADMIN", "CAP_SYS_ADMIN", "CAP_SYS_PTRACE"}),
    ):
        folder = tmp_path / "-".join(("api", *names))
        folder.mkdir()
        placed(folder, *names)
        texts = [(folder / SERVICE).read_text(), *(file.read_text() for file in (folder / f"{SERVICE}.d").iterdir())]
        granted = re.findall(r"^CapabilityBoundingSet=(.*)$", "\n".join(texts), re.MULTILINE)
        assert set(" ".join(granted).split()) == expected


def test_files_that_only_root_may_read_are_handed_over(tmp_path: Path) -> None:
    """What the settings name is among the credentials, by its name."""
    placed(tmp_path, "files")
    text = (tmp_path / f"{SERVICE}.d" / "files.conf").read_text()
    handed = set(re.findall(r"^LoadCredential=([\w.]+):/etc/docker-icc-exporter/\1$", text, re.MULTILINE))
    named = re.findall(r"^Environment=(ICC_EXPORTER_\w+)=%d/([\w.]+)$", text, re.MULTILINE)
    assert {name for name, _ in named} == {"ICC_EXPORTER_WEB_CONFIG_FILE", "ICC_EXPORTER_POLICY_FILE"}
    assert {file for _, file in named} < handed
