"""The allow-lists of the socket proxies in deploy/, against what the exporter really asks and what nobody may."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import yaml

from exporter.observe.client import ALLOWED
from tests.deploy.rules import DEPLOY
from tests.image.socket_proxy import allows, flags
from tests.runtime.test_daemon import exporter, settings
from tests.runtime.test_schedule import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.fake_engine import FakeEngine

FILES = ("compose/compose.yaml", "swarm/stack.yml")
FORBIDDEN = (
    "/containers/web/json", "/v1.51/containers/web/json", "/containers/web/logs", "/containers/web/export",
    "/containers/json/../web/json", "/containers/web/archive?path=/", "/containers/web/top", "/containers/json/",
    "/networks/bridge", "/images/json", "/volumes", "/secrets", "/configs", "/services", "/swarm", "/nodes",
    "/system/df", "/exec/1/json", "/plugins", "/distribution/x/json", "/session", "/grpc", "/", "", "/v1.51",
    "/v1/info", "/v1.5111/info", "/v2.1/info", "/infox", "/x/info", "//info", "/info%0A", "/version/info", "/eventsx",
)  # fmt: skip
WRITES = ("POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "CONNECT", "TRACE")


def patterns(file: str, service: str = "socket-proxy") -> dict[str, str]:
    """Return the flags of a proxy."""
    document: dict[str, Any] = yaml.safe_load((DEPLOY / file).read_text())
    return flags(document["services"][service]["command"])


@pytest.mark.parametrize("file", FILES)
def test_what_the_exporter_asks_passes(file: str, engine: FakeEngine, tmp_path: Path) -> None:
    """Every request of a running exporter, events included, passes; none of them is anything else than a GET."""
    with exporter(tmp_path, settings(engine, "1s")) as process:
        wait_until(lambda: process.metric("docker_icc_exporter_event_stream_up") == 1)
        wait_until(lambda: (process.metric('docker_icc_exporter_polls_total{result="ok"}') or 0) >= 2, within=5)
    asked = {path for _, path in engine.requests}
    assert any("/events" in path for path in asked)
    assert {allows(patterns(file), method, path) for method, path in engine.requests} == {200}


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("path", FORBIDDEN)
def test_everything_else_is_forbidden(file: str, path: str) -> None:
    """No path about single containers or networks, and nothing that only looks like an allowed one, passes."""
    assert allows(patterns(file), "GET", path) == 403


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("method", WRITES)
def test_nothing_but_get_passes(file: str, method: str) -> None:
    """No other method has a pattern at all."""
    assert allows(patterns(file), method, "/info") == 405


@pytest.mark.parametrize("file", FILES)
def test_the_proxy_lets_nothing_through_that_the_exporter_never_asks(file: str) -> None:
    """What passes is within what the exporter's own guard lets out of the process."""
    for path in ("/version", "/info", "/networks", "/containers/json", "/events"):
        for prefix in ("", "/v1.24", "/v1.51"):
            assert allows(patterns(file), "GET", prefix + path) == 200
            assert ALLOWED.fullmatch(prefix + path)


def test_discovery_sees_tasks_and_nothing_of_containers() -> None:
    """The manager's second proxy shows where tasks run; containers, secrets and configurations it does not."""
    own = patterns("swarm/stack.yml", "discovery-proxy")
    for path in ("/v1.51/tasks", "/v1.51/services", "/v1.51/nodes", "/v1.51/networks", "/_ping"):
        assert allows(own, "GET", path) == 200
    for path in ("/containers/json", "/info", "/secrets", "/configs", "/tasks/x/logs", "/services/x/logs", "/swarm"):
        assert allows(own, "GET", path) == 403
    assert allows(own, "POST", "/services") == 405
