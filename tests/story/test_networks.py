"""User-defined networks: what --icc=false does not cover, and how soon a change shows."""

from __future__ import annotations

import time
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.cli.service import ANY_PORT, Service, service
from tests.lab import VERSIONS, Engine, engine
from tests.story.gauges import IN_TIME, POLL, compare, shows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.lab

CLOSED = "--opt=com.docker.network.bridge.enable_icc=false"


@pytest.fixture(scope="module", params=VERSIONS)
def host(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """Return an engine with --icc=false."""
    with engine(request.param, "--icc=false") as made:
        yield made


@pytest.fixture
def empty(host: Engine) -> Iterator[Engine]:
    """Return the engine, and remove afterwards what the test made on it."""
    yield host
    names = host.docker("ps", "--all", "--quiet").split()
    if names:
        host.docker("rm", "--force", *names)
    host.docker("network", "prune", "--force")


@pytest.fixture
def exporter(empty: Engine) -> Iterator[Service]:
    """Return an exporter that has seen the empty engine."""
    with service(ANY_PORT, POLL, f"--docker.host={empty.host}") as running:
        running.seconds_until(lambda samples: shows(samples, 0, {}), timeout=5)
        yield running


def test_each_network_has_its_own_icc(empty: Engine, exporter: Service) -> None:
    """A network with enable_icc=false is closed, one without is open whatever the daemon's flag says."""
    empty.docker("network", "create", "shop")
    empty.docker("network", "create", CLOSED, "tenants")
    for name in ("api", "db"):
        empty.run(name, "--network=shop")
    for name in ("tenant-a", "tenant-b"):
        empty.run(name, "--network=tenants")
    compare(exporter, empty, icc=0, bridge=2)
    samples = exporter.samples()
    for network, icc, pairs in (("bridge", 0, 0), ("shop", 1, 2), ("tenants", 0, 0)):
        labels = f'{{driver="bridge",network="{network}"}}'
        assert samples[f"docker_icc_network_enabled{labels}"] == icc
        assert samples[f"docker_icc_network_reachable_pairs{labels}"] == pairs


def test_a_published_port_pierces_a_closed_network(empty: Engine, exporter: Service) -> None:
    """Neighbours reach a tenant's published port through the host; nothing else of it, and not each other."""
    empty.docker("network", "create", CLOSED, "tenants")
    empty.run("tenant-a", "--network=tenants")
    empty.run("tenant-b", "--network=tenants", "--publish=8443:80")
    found = compare(exporter, empty, icc=0, published_port=1)
    assert found.between("tenant-a", "tenant-b") == {("tcp", 8443)}
    assert found.between("tenant-b", "tenant-a") == set()


def test_changes_show_within_a_second(
    empty: Engine, exporter: Service, record_property: Callable[[str, object], None]
) -> None:
    """A container's start, its connect to a network, its disconnect and its end are in the gauges in time."""
    empty.docker("network", "create", "shop")
    empty.run("api", "--network=shop")
    exporter.seconds_until(lambda samples: samples["docker_icc_containers"] == 1, IN_TIME)

    empty.run("web")
    exporter.seconds_until(lambda samples: samples["docker_icc_containers"] == 2, IN_TIME)
    shown = time.time() - started_at(empty, "web")
    assert shown < IN_TIME
    record_property("start", round(shown, 3))
    for name, command, expected in (
        ("connect", ("network", "connect", "shop", "web"), {"bridge": 2}),
        ("disconnect", ("network", "disconnect", "shop", "web"), {}),
        ("connect again", ("network", "connect", "shop", "web"), {"bridge": 2}),
        ("end", ("kill", "web"), {}),
    ):
        begun = time.monotonic()
        empty.docker(*command)
        exporter.seconds_until(partial(shows, icc=0, expected=expected), IN_TIME)
        record_property(name, round(time.monotonic() - begun, 3))


def started_at(made: Engine, container: str) -> float:
    """Return when the engine started a container."""
    text = str(made.api(f"/containers/{container}/json")["State"]["StartedAt"])
    return datetime.fromisoformat(text[:26].rstrip("Z") + "+00:00").timestamp()
