"""The Dockerfile, built on a small Debian and run as deploy/README.md says, on real engines."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import pytest

from tests.image.build import IMAGE
from tests.lab import VERSIONS, Engine, LabError, engine
from tests.lab.system import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.lab

STARTS_WITHIN = 15.0
ENDS_WITHIN = 2.0
SCRAPE = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=5).read().decode())"


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
    lines = host.on_host(sys.executable, "-c", SCRAPE, f"http://{address}:10422/metrics").splitlines()
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


def test_it_ends_in_time(host: Engine) -> None:
    """`docker stop` ends it within two seconds, with exit code 0."""
    assert wait_until(lambda: health(host) == "healthy", STARTS_WITHIN)
    begun = time.monotonic()
    host.docker("stop", "exporter")
    assert time.monotonic() - begun < ENDS_WITHIN
    assert host.api("/containers/exporter/json")["State"]["ExitCode"] == 0
