"""An engine that dies, hangs and comes back, and an exporter that has to end meanwhile."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from tests.cli.service import ANY_PORT, Service, service
from tests.lab import VERSIONS, Engine, engine
from tests.story.gauges import POLL, shows, withdrawn

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.lab

SOON = 5.0
ENDS_WITHIN = 2.0
IMPATIENT = ("--poll.interval=1s", "--poll.timeout=1s")
FIRST = ("nice", "-n", "-15")
"""How the exporter is run: seconds are its own then, and not those that other tests keep the machine from it."""


@pytest.fixture(scope="module", params=VERSIONS)
def host(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """Return an engine with two containers that survive it."""
    with engine(request.param, "--live-restore") as made:
        for name in ("web", "client"):
            made.run(name)
        yield made


@pytest.fixture
def stopped(host: Engine) -> Iterator[Engine]:
    """Return the engine, and let it run on afterwards if it was stopped."""
    yield host
    host.kill(signal.SIGCONT)


@pytest.fixture
def dead(host: Engine) -> Iterator[Engine]:
    """Return the engine, and start it again afterwards if it was killed."""
    yield host
    if not host.answers():
        host.start("--live-restore")


def good(samples: dict[str, float]) -> bool:
    """Tell whether the gauges show the engine as it is."""
    return samples.get("docker_icc_up") == 1 and shows(samples, 1, {"bridge": 2})


def watching(made: Engine, *options: str) -> Iterator[Service]:
    """Have an exporter that has seen the engine."""
    with service(ANY_PORT, *options, f"--docker.host={made.host}", under=FIRST) as exporter:
        exporter.seconds_until(good, SOON)
        yield exporter


@pytest.fixture
def patient(host: Engine) -> Iterator[Service]:
    """Return an exporter that polls once a minute."""
    yield from watching(host, POLL)


@pytest.fixture
def impatient(host: Engine) -> Iterator[Service]:
    """Return an exporter that polls every second, and does not wait longer for an answer."""
    yield from watching(host, *IMPATIENT)


def test_a_killed_engine_withdraws_the_gauges(dead: Engine, patient: Service) -> None:
    """After SIGKILL `docker_icc_up` is 0 at once and nothing else is claimed; after a start all is back by itself."""
    dead.kill()
    patient.seconds_until(withdrawn, timeout=1)
    dead.start("--live-restore")
    patient.seconds_until(good, SOON)


def test_a_hanging_engine_withdraws_the_gauges(stopped: Engine, impatient: Service) -> None:
    """After SIGSTOP the polls time out and the gauges go; after SIGCONT they are back by themselves."""
    stopped.kill(signal.SIGSTOP)
    impatient.seconds_until(withdrawn, SOON)
    stopped.kill(signal.SIGCONT)
    impatient.seconds_until(good, SOON)


def test_it_ends_in_time_while_the_engine_runs(patient: Service) -> None:
    """SIGTERM ends it within two seconds, with exit code 0."""
    assert patient.end() < ENDS_WITHIN


@pytest.mark.parametrize("options", [IMPATIENT, (POLL, "--poll.timeout=30s")], ids=["impatient", "patient"])
def test_it_ends_in_time_while_the_engine_hangs(stopped: Engine, options: tuple[str, ...]) -> None:
    """SIGTERM ends it within two seconds also while a poll waits for an engine that does not answer."""
    for exporter in watching(stopped, *options):
        stopped.kill(signal.SIGSTOP)
        if options == IMPATIENT:
            exporter.seconds_until(withdrawn, SOON)
        assert exporter.end() < ENDS_WITHIN
    with service(ANY_PORT, *options, f"--docker.host={stopped.host}", under=FIRST) as late:
        late.logged("started")
        assert late.end() < ENDS_WITHIN


def test_it_ends_in_time_while_the_engine_is_gone(dead: Engine, patient: Service) -> None:
    """SIGTERM ends it within two seconds also when the engine died, or was never there."""
    dead.kill()
    patient.seconds_until(withdrawn, timeout=1)
    assert patient.end() < ENDS_WITHIN
    with service(ANY_PORT, POLL, f"--docker.host={dead.host}", under=FIRST) as late:
        late.seconds_until(withdrawn, SOON)
        assert late.end() < ENDS_WITHIN
