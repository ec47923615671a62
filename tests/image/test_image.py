"""The Dockerfile, built on a small Debian and run as deploy/README.md says, on real engines."""

from __future__ import annotations

import json
import re
import time
from typing import TYPE_CHECKING

import pytest

from tests.documents import commands
from tests.image.build import IMAGE, KERNEL_IMAGE, PACKAGES, ROOT
from tests.image.compose import settle
from tests.image.pages import page
from tests.lab import VERSIONS, Engine, LabError, engine
from tests.lab.system import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.lab

STARTS_WITHIN = 15.0
ENDS_WITHIN = 2.0
EVIDENCE = {IMAGE: {"api"}, KERNEL_IMAGE: {"api", "firewall", "bridge", "routes"}}
"""What is read by the containers that deploy/README.md starts."""


@pytest.fixture(scope="module", params=VERSIONS)
def host(request: pytest.FixtureRequest, saved: Path) -> Iterator[Engine]:
    """Return an engine that has the image and a container, and runs the exporter with as few rights as it needs."""
    with engine(request.param) as made:
        made.docker("load", f"--input={saved}")
        made.run("web")
        made.docker("run", "--detach", "--name=exporter", "--health-interval=1s", *flags(made), IMAGE)
        yield made


def flags(made: Engine) -> list[str]:
    """Return the flags that deploy/README.md recommends, with the engine's own socket."""
    group = made.socket.stat().st_gid
    rights = ["--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges", f"--group-add={group}"]
    return [*rights, f"--volume={made.socket}:/var/run/docker.sock:ro"]


def health(made: Engine) -> str:
    """Return what the engine holds of the exporter's health."""
    return str(made.api("/containers/exporter/json")["State"]["Health"]["Status"])


def test_it_becomes_healthy_and_counts(host: Engine) -> None:
    """The HEALTHCHECK succeeds, and the metrics are those of the engine that runs the exporter beside one container."""
    assert wait_until(lambda: health(host) == "healthy", STARTS_WITHIN), host.docker("logs", "exporter")
    document = host.api("/containers/exporter/json")
    address = document["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]
    lines = page(host, f"http://{address}:10422/metrics").splitlines()
    assert {"icc_enabled 1.0", "reachable_pairs_total 2.0", "docker_icc_up 1.0"} <= set(lines)


def test_it_has_no_rights(host: Engine) -> None:
    """It runs as nobody's user, without a capability, and cannot write a file."""
    status = host.docker("exec", "exporter", "cat", "/proc/1/status").splitlines()
    fields = dict(line.split(":\t", 1) for line in status)
    assert set(fields["Uid"].split()) == {"65532"}
    assert {fields[name] for name in ("CapPrm", "CapEff", "CapBnd")} == {"0" * 16}
    assert fields["NoNewPrivs"] == "1"
    with pytest.raises(LabError, match="Read-only file system"):
        host.docker("exec", "exporter", "touch", "/tmp/file")


def test_it_is_also_the_command_line(host: Engine) -> None:
    """The image takes the program's commands and options."""
    table = host.docker("run", "--rm", "--name=once", *flags(host), IMAGE, "report")
    assert any(line.split()[:3] == ["exporter", "web", "reachable"] for line in table.splitlines())
    assert host.docker("run", "--rm", IMAGE, "--version").startswith("docker-icc-exporter ")


def test_it_has_the_python_and_the_debian_that_it_is_released_with(host: Engine) -> None:
    """What the Dockerfile builds on where images can be pulled is what these tests build on."""
    (wanted,) = re.findall(r"^ARG BASE=python:([\d.]+)-slim-(\w+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    python = host.docker("exec", "exporter", "python3", "--version").split()[1].rpartition(".")[0]
    released = host.docker("exec", "exporter", "cat", "/etc/os-release")
    assert (python, dict(re.findall(r"^(\w+)=(\w+)$", released, re.MULTILINE))["VERSION_CODENAME"]) == wanted


def test_it_ends_in_time(host: Engine) -> None:
    """`docker stop` ends it within two seconds, with exit code 0."""
    assert wait_until(lambda: health(host) == "healthy", STARTS_WITHIN)
    begun = time.monotonic()
    host.docker("stop", "exporter")
    assert time.monotonic() - begun < ENDS_WITHIN
    assert host.api("/containers/exporter/json")["State"]["ExitCode"] == 0


@pytest.fixture(scope="module")
def bare(saved: Path) -> Iterator[Engine]:
    """Return an engine that has both images and a container, and its socket where a host has it."""
    with engine(VERSIONS[-1]) as made:
        settle(made, saved)
        made.run("web")
        yield made


@pytest.mark.parametrize("image", EVIDENCE)
def test_the_commands_of_the_page(image: str, bare: Engine) -> None:
    """What deploy/README.md says to type starts an exporter that sees what its tier promises."""
    (line,) = (line for _, line in commands() if line.startswith("docker run ") and f" {image} " in line)
    bare.on_host("sh", "-c", line)

    def evidence() -> set[str]:
        try:
            text = page(bare, "http://127.0.0.1:10422/api/v1/report")
        except LabError:
            return set()
        return {source for source, readable in json.loads(text)["evidence"].items() if readable}

    try:
        assert wait_until(lambda: evidence() == EVIDENCE[image], STARTS_WITHIN), bare.docker("logs", "icc-exporter")
    finally:
        bare.docker("rm", "--force", "icc-exporter")


def test_the_page_builds_what_is_tested() -> None:
    """The two images that deploy/README.md says to build are those that `build_images` makes."""
    assert [line for _, line in commands() if line.startswith("docker build ")] == [
        f"docker build -t {IMAGE} .",
        f'docker build -t {KERNEL_IMAGE} --build-arg PACKAGES="{PACKAGES}" .',
    ]
