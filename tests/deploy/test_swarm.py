"""The stack in deploy/swarm, as the Docker CLI itself reads it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from exporter import __version__
from tests.deploy.rules import DEPLOY
from tests.lab import LabError
from tests.lab.packages import unpacked
from tests.lab.system import run

pytestmark = pytest.mark.lab

STACK = DEPLOY / "swarm" / "stack.yml"
PROXIES = {"socket-proxy", "discovery-proxy"}
SOCKET = "/var/run/docker.sock"


def stack(version: str, **environ: str) -> dict[str, Any]:
    """Return the stack as `docker stack deploy` of an engine's version understands it."""
    cli = unpacked(version) / "usr/bin/docker"
    text = run([str(cli), "stack", "config", f"--compose-file={STACK}"], env=environ)
    document: dict[str, Any] = yaml.safe_load(text)
    return document


@pytest.mark.parametrize("version", ["26.1", "28.5"])
def test_the_stack_is_understood(version: str) -> None:
    """The CLI takes the file; an exporter and a proxy run on every node, what watches them on one manager."""
    services = stack(version, DOCKER_GID="999")["services"]
    modes = {name: service["deploy"].get("mode", "replicated") for name, service in services.items()}
    assert modes == {
        "socket-proxy": "global",
        "exporter": "global",
        "discovery-proxy": "replicated",
        "prometheus": "replicated",
        "alertmanager": "replicated",
    }
    assert [name for name, service in services.items() if service.get("ports")] == ["prometheus"]
    for name, service in services.items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert "test" in service["healthcheck"], name
        holds = any(volume["source"] == SOCKET for volume in service["volumes"])
        assert holds == (name in PROXIES), name


def test_versions_are_pinned() -> None:
    """No image is whatever is newest: the exporter is the release that the file is of, until another is named."""
    images = {name: each["image"] for name, each in stack("28.5", DOCKER_GID="999")["services"].items()}
    assert images["exporter"] == f"docker-icc-exporter:{__version__}"
    assert all(image.partition(":")[2].strip("v")[0].isdigit() for image in images.values())


def test_the_group_of_the_socket_must_be_given() -> None:
    """Without it the CLI says what is missing."""
    with pytest.raises(LabError, match=r"the group of /var/run/docker\.sock"):
        stack("28.5", DOCKER_GID="")


def test_tenants_are_stacks() -> None:
    """Whose a container is, says the label that `docker stack deploy` gives to all of a stack."""
    environment = yaml.safe_load(STACK.read_text())["services"]["exporter"]["environment"]
    assert environment["ICC_EXPORTER_TENANT_LABEL"] == "com.docker.stack.namespace"


@pytest.mark.parametrize("file", sorted((DEPLOY / "prometheus").glob("*.yml")), ids=lambda file: file.name)
def test_every_prometheus_knows_an_alertmanager(file: Path) -> None:
    """No configuration leaves its alerts with nobody: in a stack they go to its own Alertmanager."""
    ((targets,),) = (
        each.values()
        for manager in yaml.safe_load(file.read_text())["alerting"]["alertmanagers"]
        for each in manager["static_configs"]
    )
    host = "alertmanager" if "swarm" in file.name else "localhost"
    assert targets == [f"{host}:9093"]


def test_discovery_asks_for_the_service_by_its_name() -> None:
    """Prometheus looks for the exporter as the stack `icc` calls it, on the network that both are on."""
    document = yaml.safe_load(STACK.read_text())
    (scrape,) = yaml.safe_load((DEPLOY / "prometheus" / "prometheus-dockerswarm.yml").read_text())["scrape_configs"]
    (discovery,) = scrape["dockerswarm_sd_configs"]
    wanted = {each["name"]: each["values"] for each in discovery["filters"]}
    assert wanted["service"] == ["icc_exporter"]
    for name in ("exporter", "prometheus", "alertmanager"):
        assert document["services"][name]["networks"] == ["monitoring"]
    assert scrape["relabel_configs"][0]["regex"] == "icc_monitoring"
    endpoint = next(each for each in document["services"]["discovery-proxy"]["command"] if "endpoint=" in each)
    assert discovery["host"] == f"unix://{Path(endpoint.partition('=')[2])}"
