"""deploy/swarm, started for real on a swarm of one node."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.deploy.rules import DEPLOY
from tests.image.compose import furnish
from tests.image.pages import prometheus
from tests.lab import Engine, LabError, engine
from tests.lab.packages import unpacked
from tests.lab.system import SYSTEM_PATH, run, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.lab

STACK = DEPLOY / "swarm" / "stack.yml"
SERVICES = ("socket-proxy", "exporter", "discovery-proxy", "prometheus", "alertmanager")
STARTED = 120.0
"""Seconds: a task counts as running once it was found to be healthy, and Prometheus looks for tasks every 15."""


@pytest.fixture(scope="module")
def swarm(saved: Path) -> Iterator[Engine]:
    """Return a manager that has the images, its socket where a host has it, and the stack."""
    with engine("28.5") as made:
        furnish(made, saved)
        made.docker("swarm", "init", "--advertise-addr=127.0.0.1")
        node = made.docker("node", "ls", "--quiet").strip()
        made.docker("node", "update", "--label-add=prometheus=true", node)
        deploy(made)
        yield made


def deploy(made: Engine) -> None:
    """Deploy the stack, as its first line says; the kernel here has no IPsec for what passes between nodes."""
    environ = {"DOCKER_GID": str(made.socket.stat().st_gid), "ENCRYPTED": "false", "PATH": SYSTEM_PATH}
    cli = str(unpacked(made.version) / "usr/bin/docker")
    arguments = ("stack", "deploy", "--resolve-image=never", "--detach=true", f"--compose-file={STACK}", "icc")
    run([cli, "--host", made.host, *arguments], env={**os.environ, **environ})


def state(made: Engine) -> str:
    """Return what became of every task, for a failure's message."""
    logs = [made.docker("service", "logs", "--tail=20", f"icc_{name}") for name in SERVICES]
    return "\n".join((made.docker("stack", "ps", "--no-trunc", "icc"), *logs))


def query(made: Engine, expression: str) -> list[tuple[str, float]]:
    """Return what Prometheus has, by the instance."""
    try:
        result = prometheus(made, f"query?query={expression}")["result"]
    except LabError:
        return []
    return [(each["metric"].get("instance", ""), float(each["value"][1])) for each in result]


def test_every_service_runs_and_is_healthy(swarm: Engine) -> None:
    """As many tasks run as are wished for, and their health checks say that they work."""

    def running() -> set[str]:
        told = swarm.docker("service", "ls", "--format={{.Name}} {{.Replicas}}").splitlines()
        return {line.split()[0] for line in told if line.split()[1] == "1/1"}

    assert wait_until(lambda: running() == {f"icc_{name}" for name in SERVICES}, STARTED, 0.5), state(swarm)


def test_prometheus_finds_the_exporter_of_each_node(swarm: Engine) -> None:
    """Its service discovery asks the manager; the series are the node's, and say what the engine is like."""
    node = swarm.docker("node", "inspect", "--format={{.Description.Hostname}}", "self").strip()
    assert wait_until(lambda: query(swarm, "docker_icc_up") == [(node, 1)], STARTED, 0.5), state(swarm)
    assert query(swarm, "icc_enabled") == [(node, 1)]
    # the stack, which is the host's owner's, and a customer whose published port it reaches
    assert query(swarm, "docker_icc_tenants") == [(node, 2)]
    assert query(swarm, "docker_icc_containers_without_tenant") == [(node, 0)]
    hairpins = "docker_icc_reachable_pairs{via='published_port'}>0"
    assert wait_until(lambda: bool(query(swarm, hairpins)), STARTED, 0.5), state(swarm)
    assert query(swarm, "docker_icc_cross_tenant_pairs") == [(node, 0)]
    known = prometheus(swarm, "alertmanagers")
    assert [each["url"] for each in known["activeAlertmanagers"]] == ["http://alertmanager:9093/api/v2/alerts"]
    rules = prometheus(swarm, "rules")
    assert {group["name"] for group in rules["groups"]} == {"docker-icc", "docker-icc-recording"}


def test_the_proxies_refuse_nothing_that_is_needed(swarm: Engine) -> None:
    """What the exporter and Prometheus ask for is in the lists of paths."""
    for name in ("socket-proxy", "discovery-proxy"):
        asked = swarm.docker("service", "logs", "--raw", f"icc_{name}").splitlines()
        assert asked
        assert {line.split()[0] for line in asked} == {"200"}, asked


def test_the_commands_of_the_runbooks_work(swarm: Engine) -> None:
    """The task of a node is found by the name of its service, and answers."""
    (task,) = swarm.docker("ps", "--quiet", "--filter=name=icc_exporter").split()
    assert "Evidence" in swarm.docker("exec", task, "docker-icc-exporter", "report")
    (server,) = swarm.docker("ps", "--quiet", "--filter=name=icc_prometheus").split()
    assert "Ready" in swarm.docker("exec", server, "wget", "-qO-", "http://icc_exporter:10422/-/ready")
