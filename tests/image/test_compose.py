"""deploy/compose: what it grants, and started for real on an engine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.image.build import IMAGE, KERNEL_IMAGE
from tests.image.compose import COMPOSE, PROFILES, compose, folder_of, furnish, services
from tests.image.pages import prometheus
from tests.lab import Engine, LabError, engine
from tests.lab.system import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.lab

RUNNING = ("socket-proxy", "prometheus", "alertmanager")
"""Beside the exporter; Grafana cannot be had here."""

SOCKET = Path("/var/run/docker.sock")
CAPABILITIES = {"exporter": [], "exporter-kernel": ["NET_ADMIN"],
                "exporter-sandboxes": ["NET_ADMIN", "SYS_ADMIN", "SYS_PTRACE"]}  # fmt: skip
EXPORTER = dict(zip(PROFILES, CAPABILITIES, strict=True))
NETNS = "ICC_EXPORTER_HOST_NETNS"
EVIDENCE = {
    "api": {"api"},
    "kernel": {"api", "firewall", "bridge", "routes"},
    "sandboxes": {"api", "firewall", "bridge", "routes", "sandboxes"},
}


@pytest.mark.parametrize("profile", PROFILES)
def test_nothing_has_more_rights_than_it_needs(profile: str) -> None:
    """No container is privileged or can write its root, capabilities are those of the tier, each has a health check."""
    found = services(profile)
    assert found.keys() == {*RUNNING, "grafana", EXPORTER[profile]}
    for name, service in found.items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service.get("cap_add", []) == CAPABILITIES.get(name, []), name
        unconfined = ["apparmor=unconfined"] if name == "exporter-sandboxes" else []
        assert service["security_opt"] == ["no-new-privileges:true", *unconfined], name
        assert not service.get("privileged"), name
        assert "test" in service["healthcheck"], name
        assert service["image"].partition(":")[2].strip("v")[0].isdigit(), name
        for port in service.get("ports", []):
            assert port["host_ip"] == "127.0.0.1", name


def test_the_exporter_is_the_one_of_these_files() -> None:
    """Each tier starts the image that is built from what lies beside it, by its version."""
    found = {profile: services(profile)[name]["image"] for profile, name in EXPORTER.items()}
    assert found == {"api": IMAGE, "kernel": KERNEL_IMAGE, "sandboxes": KERNEL_IMAGE}


@pytest.mark.parametrize("profile", PROFILES)
def test_only_the_proxy_has_the_socket(profile: str) -> None:
    """The engine's socket is mounted into the proxy, read-only, and into nothing else; what is mounted exists."""
    holders = set()
    for name, service in services(profile).items():
        for volume in service.get("volumes", []):
            folder = folder_of(volume)
            if folder in (SOCKET, Path("/run/docker.sock")):
                holders.add(name)
            assert folder in (None, SOCKET) or folder.exists(), f"{name}: {folder}"
            assert folder is None or volume["read_only"], f"{name}: {folder}"
    assert holders == {"socket-proxy"}


def test_only_the_kernel_tier_is_in_the_hosts_network() -> None:
    """The tier below reads no kernel, the one above looks into the host's network from its own."""
    found = {profile: services(profile)[name] for profile, name in EXPORTER.items()}
    assert {profile for profile, service in found.items() if service.get("network_mode") == "host"} == {"kernel"}
    told = {profile: service["environment"].get(NETNS) for profile, service in found.items()}
    assert told == {"api": None, "kernel": None, "sandboxes": "/proc/1/ns/net"}


def test_the_group_of_the_socket_must_be_given() -> None:
    """Without it compose says what is missing, and starts nothing."""
    with pytest.raises(LabError, match=r"the group of /var/run/docker\.sock"):
        compose("config", "--quiet", profile="api", environ={"DOCKER_GID": ""})


@pytest.fixture(scope="module")
def host(saved: Path) -> Iterator[Engine]:
    """Return an engine that has the images, and its socket where a host has it."""
    with engine("28.5") as made:
        furnish(made, saved)
        yield made


def test_a_tier_that_there_is_none_of_starts_nothing(host: Engine) -> None:
    """Compose would make a folder of the name of the file with its target, and Prometheus would watch nobody."""
    environ = {"DOCKER_HOST": host.host, "DOCKER_GID": str(host.socket.stat().st_gid)}
    try:
        with pytest.raises(LabError, match=r"targets/kernl\.yml"):
            compose("up", "--detach", "--no-build", "--pull=never", "prometheus", profile="kernl", environ=environ)
    finally:
        compose("down", "--volumes", "--timeout=2", profile="kernl", environ=environ)
    assert not (COMPOSE.parent / "targets" / "kernl.yml").exists()


class Stack:
    """The services of a profile on an engine."""

    def __init__(self, made: Engine, profile: str, override: Path) -> None:
        self.engine = made
        self._profile = profile
        self._override = override

    def __call__(self, *arguments: str) -> str:
        environ = {"DOCKER_HOST": self.engine.host, "DOCKER_GID": str(self.engine.socket.stat().st_gid)}
        return compose(f"--file={self._override}", *arguments, profile=self._profile, environ=environ)

    def query(self, expression: str) -> dict[str, float]:
        """Return what Prometheus has, by the label `source`."""
        try:
            result = prometheus(self.engine, f"query?query={expression}")["result"]
        except LabError:
            return {}
        return {each["metric"].get("source", ""): float(each["value"][1]) for each in result}


@pytest.fixture(params=PROFILES)
def stack(request: pytest.FixtureRequest, host: Engine, tmp_path: Path) -> Iterator[tuple[str, Stack]]:
    """Return what `docker compose up` starts, all of it healthy; only the health checks are in more of a hurry."""
    profile: str = request.param
    names = (*RUNNING, EXPORTER[profile])
    override = tmp_path / "hurry.yaml"
    hurry = {"interval": "1s", "start_period": "1s", "retries": 30}
    changed: dict[str, dict[str, Any]] = {name: {"healthcheck": hurry} for name in names}
    # the engine's host is a network namespace of this machine, whose process 1 lives in another
    changed[EXPORTER[profile]] |= {"environment": {NETNS: f"/proc/{host.pid}/ns/net"} if profile == "sandboxes" else {}}
    override.write_text(yaml.safe_dump({"services": changed}))
    run = Stack(host, profile, override)
    try:
        run("up", "--detach", "--no-build", "--pull=never", "--wait", "--wait-timeout=60", *names)
    except LabError as error:
        raise AssertionError(f"{error}\n{run('logs')}") from error
    yield profile, run
    run("down", "--volumes", "--timeout=2")


def test_the_whole_stack_starts(stack: tuple[str, Stack]) -> None:
    """Everything gets healthy, Prometheus has the tier's evidence and the rules, and Alertmanager knows Prometheus."""
    profile, run = stack
    # the first scrape may come before the first poll has ended, and the second a quarter of a minute later
    assert wait_until(lambda: run.query("docker_icc_up") == {"": 1}, 40, 0.5), run("logs")
    evidence = run.query("docker_icc_evidence")
    assert {source for source, readable in evidence.items() if readable} == EVIDENCE[profile]
    assert run.query("icc_enabled") == {"": 1}
    # the stack's containers, which may start later, reach the customer's published port, and are the host's owner's
    hairpins = "docker_icc_reachable_pairs{via='published_port'}>0"
    assert wait_until(lambda: bool(run.query(hairpins)), 40, 0.5), run("logs")
    assert run.query("docker_icc_cross_tenant_pairs") == {"": 0}
    rules = prometheus(run.engine, "rules")
    assert {group["name"] for group in rules["groups"]} == {"docker-icc", "docker-icc-recording"}
    known = prometheus(run.engine, "alertmanagers")
    assert [each["url"] for each in known["activeAlertmanagers"]] == ["http://alertmanager:9093/api/v2/alerts"]
    docker = run.engine.docker
    # what docs/runbooks/README.md tells to type
    assert "Evidence" in docker("exec", "icc-exporter", "docker-icc-exporter", "report")
    ready = f"http://{EXPORTER[profile]}:10422/-/ready"
    assert "Ready" in docker("exec", "docker-icc-prometheus-1", "wget", "-qO-", ready)
    docker("kill", "--signal=HUP", "icc-exporter")
    assert wait_until(lambda: "configuration read again" in run("logs", EXPORTER[profile]), 10, 0.2), run("logs")
    docker("logs", "icc-exporter")
    asked = run.engine.docker("logs", "docker-icc-socket-proxy-1").splitlines()
    assert {line.split()[0] for line in asked} == {"200"}, asked
