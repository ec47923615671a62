"""What Prometheus makes of the exporter: three versions of the server, and their checker."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.cli.service import ANY_PORT, Service, service
from tests.lab import engine
from tests.lab.packages import PROMETHEUS
from tests.prometheus.server import prometheus, promtool, relay

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.lab

DEPLOY = Path(__file__).parents[2] / "deploy" / "prometheus"


@pytest.fixture(scope="module")
def exporter() -> Iterator[Service]:
    """Return an exporter of an engine with three containers, of which two reach each other."""
    with engine("28.5") as made, service(ANY_PORT, f"--docker.host={made.host}") as running:
        for name in ("web", "client"):
            made.run(name)
        made.run("offline", "--network=none")
        running.seconds_until(lambda samples: samples.get("reachable_pairs_total") == 2, timeout=5)
        running.seconds_until(lambda samples: samples["docker_icc_containers"] == 3, timeout=5)
        yield running


@pytest.mark.parametrize("server", PROMETHEUS)
def test_a_prometheus_scrapes_it(server: str, exporter: Service, tmp_path: Path) -> None:
    """The target is up, the values are right, and the scrape is compressed and in the format it likes best."""
    with relay(exporter.address) as between, prometheus(server, between.address, tmp_path) as running:
        assert running.query("icc_enabled") == [({}, 1)]
        assert running.query("reachable_pairs_total") == [({}, 2)]
        assert running.query("up") == [({}, 1)]
        assert running.query("sum(docker_icc_reachable_pairs) == scalar(reachable_pairs_total)") == [({}, 2)]
        assert running.query("docker_icc_network_containers == 2") == [({"driver": "bridge", "network": "bridge"}, 2)]
        assert running.ask("metadata", metric="reachable_pairs_total")["reachable_pairs_total"][0]["type"] == "gauge"
        (target,) = running.ask("targets")["activeTargets"]
        assert (target["health"], target["lastError"]) == ("up", "")
        assert running.ask("status/buildinfo")["version"].startswith(f"{server}.")
    scrape = between.exchanges[0]
    preferred = scrape.request["accept"].split(",")[0]
    assert preferred.startswith("application/openmetrics-text;version=1.0.0")
    assert scrape.status == 200
    assert scrape.answer["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert scrape.answer["content-encoding"] == "gzip"


@pytest.mark.parametrize("server", PROMETHEUS)
def test_the_checker_has_one_complaint(server: str, exporter: Service) -> None:
    """`promtool check metrics` prints exactly the line that the wished-for name of a gauge earns, and no other."""
    checked = promtool(server, "check", "metrics", stdin=exporter.get("/metrics"))
    assert checked == 'reachable_pairs_total non-counter metrics should not have "_total" suffix\n'


@pytest.mark.parametrize("server", PROMETHEUS)
def test_the_configuration_to_copy_is_valid(server: str) -> None:
    """`promtool check config` accepts what deploy/ offers."""
    for file in [*sorted(DEPLOY.glob("*.yml")), DEPLOY.parent / "compose" / "prometheus.yml"]:
        assert "SUCCESS" in promtool(server, "check", "config", str(file))


def test_every_configuration_calls_the_job_by_its_name() -> None:
    """Rules and dashboards find the exporter's series wherever its targets come from."""
    for file in [*DEPLOY.glob("*.yml"), DEPLOY.parent / "compose" / "prometheus.yml"]:
        jobs = [scrape["job_name"] for scrape in yaml.safe_load(file.read_text())["scrape_configs"]]
        assert jobs == ["docker-icc"], file
