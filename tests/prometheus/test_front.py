"""Prometheus before the closed front door: TLS both ways, a name on the list, a password."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.certificates import Authority
from tests.cli.program import HOST
from tests.cli.service import ANY_PORT, Service, service
from tests.cli.test_webconfig import PAGE
from tests.lab.packages import PROMETHEUS
from tests.prometheus.closed_front import close, settings
from tests.prometheus.server import prometheus, promtool

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.lab


@contextmanager
def closed(folder: Path, authority: Authority) -> Iterator[Service]:
    """Have an exporter that lets one client in, with a certificate and a password."""
    options = (ANY_PORT, "--poll.interval=1s", "--snapshot", HOST, "--web.config.file", close(folder, authority))
    with service(*options) as exporter:
        yield exporter


@pytest.mark.parametrize("version", PROMETHEUS)
def test_a_prometheus_gets_in(version: str, tmp_path: Path) -> None:
    """The target is up, and stays up when the exporter's certificate changes between two scrapes."""
    authority = Authority()
    with (
        closed(tmp_path, authority) as exporter,
        prometheus(version, exporter.address, tmp_path, *settings(tmp_path)) as running,
    ):
        assert running.query("icc_enabled") == [({}, 1)]
        authority.issue("127.0.0.1").save(tmp_path, "server")
        exporter.logged("web configuration read again")
        time.sleep(3)
        assert running.query("min_over_time(up[1m])") == [({}, 1)]
        (target,) = running.ask("targets")["activeTargets"]
        assert (target["health"], target["lastError"]) == ("up", "")


@pytest.mark.parametrize("version", PROMETHEUS)
@pytest.mark.parametrize(
    ("password", "certificate", "complaint"),
    [("wrong", "client", "server returned HTTP status 401 Unauthorized"), ("wonder", "server", "")],
)
def test_others_do_not(version: str, password: str, certificate: str, complaint: str, tmp_path: Path) -> None:
    """A wrong password and a certificate without the name both leave the target down."""
    with (
        closed(tmp_path, Authority()) as exporter,
        prometheus(version, exporter.address, tmp_path, *settings(tmp_path, password, certificate)) as running,
    ):
        assert running.query("up") == [({}, 0)]
        (target,) = running.ask("targets")["activeTargets"]
        assert complaint in target["lastError"]


@pytest.mark.parametrize("version", PROMETHEUS)
def test_the_example_is_a_web_configuration_to_prometheus_too(version: str, tmp_path: Path) -> None:
    """`promtool check web-config` accepts what the page shows, but for keys that are newer than the checker."""
    authority = Authority()
    authority.issue("127.0.0.1").save(tmp_path, "server")
    (tmp_path / "ca.crt").write_text(authority.cert)
    example = yaml.safe_load(PAGE.partition("```yaml\n")[2].partition("```")[0])
    del example["rate_limit"]
    if version == "2.42":
        del example["tls_server_config"]["client_allowed_sans"]
    (tmp_path / "web.yml").write_text(yaml.safe_dump(example))
    assert "SUCCESS" in promtool(version, "check", "web-config", str(tmp_path / "web.yml"))
