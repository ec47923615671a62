"""The Dockerfile, built on a small Debian and run as deploy/README.md says, on real engines."""

from __future__ import annotations

import fcntl
import io
import os
import sys
import tarfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.lab import VERSIONS, Engine, LabError, engine
from tests.lab.packages import python_root
from tests.lab.system import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.lab

ROOT = Path(__file__).parents[2]
BUILDER = "28.5"
IMAGE = "docker-icc-exporter"
BASE = "debian-with-python"
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
PASSED_ON = ("PIP_INDEX_URL", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")
STARTS_WITHIN = 15.0
ENDS_WITHIN = 2.0
SCRAPE = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=5).read().decode())"


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the image as `docker save` writes it, built where the machine's network can be reached.

    The workers of one run share it.
    """
    shared = tmp_path_factory.getbasetemp()
    shared = shared.parent if "PYTEST_XDIST_WORKER" in os.environ else shared
    file = shared / "image.tar"
    with (shared / "image.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not file.exists():
            build_image(file)
    return file


def build_image(file: Path) -> None:
    """Build the image on an engine in the machine's own network, and save it."""
    with engine(BUILDER, connected=True) as made:
        import_base(made)
        arguments = [f"--build-arg=BASE={BASE}", f"--build-arg=PIP_CERT={CERTIFICATES}"]
        arguments += [f"--build-arg={name}={os.environ[name]}" for name in PASSED_ON if name in os.environ]
        made.docker("build", "--network=host", f"--tag={IMAGE}", *arguments, str(ROOT), timeout=300)
        part = file.with_suffix(".part")
        made.docker("save", f"--output={part}", IMAGE)
    part.rename(file)


def import_base(made: Engine) -> None:
    """Give the engine a base image; it trusts whom this machine trusts."""
    made.docker("import", str(python_root()), f"{BASE}:plain")
    bundle = Path(os.environ.get("PIP_CERT") or os.environ.get("SSL_CERT_FILE") or CERTIFICATES)
    context = io.BytesIO()
    with tarfile.open(fileobj=context, mode="w") as tar:
        for name, content in (
            ("Dockerfile", f"FROM {BASE}:plain\nCOPY bundle {CERTIFICATES}\n".encode()),
            ("bundle", bundle.read_bytes() if bundle.exists() else b""),
        ):
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o644
            tar.addfile(member, io.BytesIO(content))
    made.docker("build", f"--tag={BASE}", "-", stdin=context.getvalue())


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
