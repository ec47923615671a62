"""Alerts on a real host: three Prometheus servers and an Alertmanager watch while things go wrong.

The exporter's front door is closed: they come by TLS, with a certificate and a password.
"""

from __future__ import annotations

import signal
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.certificates import Authority
from tests.cli.service import ANY_PORT, Service, service
from tests.deploy.dashboards import DASHBOARDS, queries, query
from tests.deploy.promql import with_values
from tests.deploy.rules import RULES, alerts, groups
from tests.lab import Engine, engine
from tests.lab.packages import PROMETHEUS
from tests.prometheus.alertmanager import DEPLOYED, Alertmanager, alertmanager, amtool
from tests.prometheus.closed_front import close, settings
from tests.prometheus.server import Prometheus, prometheus
from tests.story.test_probe import full_queue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.lab

SOON = 30.0
HURRY = {"for: 15m": "for: 0s", "for: 5m": "for: 0s", "for: 2m": "for: 0s", "for: 1m": "for: 0s",
         "[1d] offset 1h": "[1m] offset 8s", "[5m]": "[3s]", "[30m]": "[20s]",
         "[1h]": "[20s]", "offset 1h": "offset 20s"}  # fmt: skip
"""What promtool's scenarios prove to the minute; here it would only take time."""

DAEMON = "/run/lab/daemon.json"
"""The engine's configuration, from its second start on."""

POLICY_FILE = "policy.yml"
POLICY = """\
rules:
  - name: nobody-meets-client
    why: so that a rule is violated
    deny: {from: any, to: {name: client}}
"""


@dataclass
class Stage:
    """The host, those who watch it, and which alerts have fired so far."""

    engine: Engine
    exporter: Service
    servers: dict[str, Prometheus]
    alertmanager: Alertmanager
    netns: Path
    config: Path
    seen: set[str]

    def fires(self, alert: str) -> None:
        """See an alert fire on every server, and arrive."""
        firing = f'ALERTS{{alertname="{alert}", alertstate="firing"}}'
        self._wait(lambda: all(server.returns(firing) for server in self.servers.values()), f"{alert} does not fire")
        self._wait(lambda: alert in self.alertmanager.alerts(), f"{alert} does not arrive")
        annotations = self.alertmanager.alerts()[alert]["annotations"]
        assert not [text for text in annotations.values() if "{{" in text or "<no value>" in text or "<error" in text]
        self.seen.add(alert)

    def resolves(self, alert: str) -> None:
        """See an alert resolve on every server, and for those who were told."""
        any_state = f'ALERTS{{alertname="{alert}"}}'
        self._wait(
            lambda: not any(server.returns(any_state) for server in self.servers.values()), f"{alert} does not resolve"
        )
        self._wait(lambda: alert not in self.alertmanager.alerts(), f"{alert} is not told to be resolved")

    def configure(self, content: str) -> None:
        """Write the engine's configuration, which counts from its next start on."""
        self.engine.on_host("sh", "-c", f"echo '{content}' > {DAEMON}")

    def restart(self, *arguments: str) -> None:
        """Start the engine anew with its containers."""
        self.engine.restart(*arguments)
        for name in ("web", "client"):
            self.engine.docker("start", name)

    @staticmethod
    def _wait(condition: Callable[[], bool], complaint: str) -> None:
        deadline = time.monotonic() + SOON
        while not condition():
            assert time.monotonic() < deadline, complaint
            time.sleep(0.2)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Return a host whose kernel is read, watched by all servers."""
    folder = tmp_path_factory.mktemp("stage")
    rules, netns, config = folder / "rules", folder / "netns", folder / "exporter.yml"
    rules.mkdir()
    for file in RULES.glob("*.yml"):
        text = file.read_text()
        for slow, fast in HURRY.items():
            text = text.replace(slow, fast)
        (rules / file.name).write_text(text)
    config.write_text("poll: {interval: 1s}\n")
    with ExitStack() as stack:
        made = stack.enter_context(engine("28.5"))
        netns.symlink_to(made.netns)
        made.docker("network", "create", "--opt=com.docker.network.bridge.enable_icc=false", "closed")
        for name in ("web", "client"):
            label = f"--label=com.docker.compose.project={name}"
            made.run(name, label, *(("--publish=8080:80",) if name == "web" else ()))
            made.docker("network", "connect", "closed", name)
        policy = folder / POLICY_FILE
        policy.write_text(POLICY)
        extra = (f"--policy.file={policy}", "--probe.sample=5")
        flags = (f"--config.file={config}", f"--docker.host={made.host}", "--evidence.max=sandboxes")
        door = ("--web.config.file", close(folder, Authority()))
        exporter = stack.enter_context(
            service(ANY_PORT, *flags, f"--host.netns={netns}", "--metrics.pairs=100", *extra, *door)
        )
        manager = stack.enter_context(alertmanager(folder))
        servers = {}
        for version in PROMETHEUS:
            own = folder / version
            own.mkdir()
            servers[version] = stack.enter_context(
                prometheus(version, exporter.address, own, *settings(folder), rules=rules, alertmanager=manager.address)
            )
        yield Stage(made, exporter, servers, manager, netns, config, set())


def test_icc_is_told_until_it_is_off(stage: Stage) -> None:
    """The alert of the default bridge arrives, resolves when the engine runs with icc=false, and comes back."""
    stage.fires("DockerIccEnabled")
    stage.engine.stop()
    stage.fires("DockerIccEngineSilent")
    stage.resolves("DockerIccEnabled")
    stage.configure('{"icc": false}')
    stage.restart(f"--config-file={DAEMON}")
    stage.resolves("DockerIccEngineSilent")
    stage.resolves("DockerIccEnabled")
    assert [server.query("icc_enabled") for server in stage.servers.values()] == [[({}, 0)]] * len(stage.servers)
    stage.fires("DockerIccPublishedPortHairpin")


def test_packets_that_contradict_a_verdict_are_told(stage: Stage) -> None:
    """Where packets are lost by what no evidence shows, the alert fires, and resolves when all agree for a while."""
    with full_queue(stage.engine, "client"):
        stage.fires("DockerIccProbeDisagreed")
    stage.resolves("DockerIccProbeDisagreed")


def test_a_configuration_that_waits_is_told(stage: Stage) -> None:
    """A file that is changed under the running engine is told until it says again what the engine runs with."""
    stage.configure('{"icc": true}')
    stage.fires("DockerIccRestartPending")
    stage.configure('{"icc": false,}')
    stage.fires("DockerIccConfigInvalid")
    stage.resolves("DockerIccRestartPending")
    stage.configure('{"icc": false}')
    stage.resolves("DockerIccConfigInvalid")


def test_tampering_is_told(stage: Stage) -> None:
    """Rules that somebody adds by hand, br_netfilter off and a bad configuration are told, and resolve."""
    on_host = stage.engine.on_host
    on_host("iptables", "-I", "DOCKER-USER", "-j", "ACCEPT")
    stage.fires("DockerIccDriftOpen")
    stage.engine.run("late", "--network=closed")
    stage.fires("DockerIccReachablePairsRose")
    stage.fires("DockerIccTenantsCross")
    stage.fires("DockerIccPolicyViolated")
    on_host("iptables", "-D", "DOCKER-USER", "-j", "ACCEPT")
    stage.resolves("DockerIccDriftOpen")
    on_host("sh", "-c", "echo 0 > /proc/sys/net/bridge/bridge-nf-call-iptables")
    stage.fires("DockerIccBridgeNetfilterOff")
    on_host("sh", "-c", "echo 1 > /proc/sys/net/bridge/bridge-nf-call-iptables")
    stage.resolves("DockerIccBridgeNetfilterOff")
    on_host("iptables", "-I", "DOCKER-USER", "-m", "limit", "--limit", "1/second", "-j", "ACCEPT")
    stage.fires("DockerIccUnknownPairs")
    for file in (stage.config, stage.config.with_name(POLICY_FILE)):
        good = file.read_text()
        file.write_text("poll: {interval: soon}\n")
        stage.exporter.process.send_signal(signal.SIGHUP)
        stage.fires("DockerIccConfigReloadFailed")
        file.write_text(good)
        stage.exporter.process.send_signal(signal.SIGHUP)
        stage.resolves("DockerIccConfigReloadFailed")


@pytest.mark.parametrize("server", PROMETHEUS)
@pytest.mark.parametrize("name", DASHBOARDS)
def test_every_expression_of_a_dashboard_returns_data(stage: Stage, name: str, server: str) -> None:
    """Whatever a panel asks for is there."""
    for expr in queries(DASHBOARDS[name]):
        assert stage.servers[server].returns(with_values(expr)), expr


@pytest.mark.parametrize("server", PROMETHEUS)
def test_other_jobs_are_not_mistaken_for_exporters(stage: Stage, server: str) -> None:
    """With all jobs chosen, no target of another one counts as a host, or shows its process as the exporter's."""
    asked = stage.servers[server]
    assert asked.query('up{job="other"}') == [({}, 1)]
    assert asked.query(with_values(query("overview", "Hosts not read"), job=".+")) == [({}, 0)]
    for title in ("Memory of the exporter", "CPU of the exporter"):
        assert asked.returns(with_values(query("host", title), job=".+")) == 1


@pytest.mark.parametrize("server", PROMETHEUS)
def test_every_recording_rule_returns_data(stage: Stage, server: str) -> None:
    """What is recorded is there under its name."""
    for group in groups(RULES / "recording.yml"):
        for rule in group["rules"]:
            assert stage.servers[server].returns(rule["record"]) == 1


def test_blindness_is_told(stage: Stage) -> None:
    """A namespace that is gone, an engine without default bridge, and an exporter that has ended are told."""
    # it has fired from the start on
    stage.fires("DockerIccWatchdog")
    stage.netns.unlink()
    stage.fires("DockerIccEvidenceLost")
    stage.fires("DockerIccProbesFail")
    stage.netns.symlink_to(stage.engine.netns)
    stage.resolves("DockerIccEvidenceLost")
    stage.resolves("DockerIccProbesFail")
    stage.engine.restart("--bridge=none")
    stage.fires("DockerIccStateUnknown")
    stage.exporter.process.send_signal(signal.SIGSTOP)
    stage.fires("DockerIccExporterSilent")
    stage.exporter.process.send_signal(signal.SIGCONT)
    stage.resolves("DockerIccExporterSilent")


def test_failures_on_and_off_are_told(stage: Stage) -> None:
    """An exporter that answers every other scrape or so is told, and the alert resolves when it answers all."""
    for _ in range(3):
        for sent in (signal.SIGSTOP, signal.SIGCONT):
            stage.exporter.process.send_signal(sent)
            time.sleep(2.5)
    stage.fires("DockerIccFlapping")
    stage.resolves("DockerIccFlapping")


def test_every_alert_was_seen_to_fire(stage: Stage) -> None:
    """The stories above are about every alert."""
    assert stage.seen == {alert["alert"] for alert in alerts()}


def test_the_configuration_of_alertmanager_is_valid() -> None:
    """Its own checker accepts what deploy/ offers."""
    assert "SUCCESS" in amtool("check-config", str(DEPLOYED))


@pytest.mark.parametrize(
    ("labels", "receiver"),
    [
        (("alertname=DockerIccWatchdog", "severity=info"), "dead-mans-switch"),
        (("alertname=DockerIccDriftOpen", "severity=critical"), "operators"),
        (("alertname=DockerIccEnabled", "severity=warning"), "operators"),
    ],
)
def test_alerts_are_sent_where_they_belong(labels: tuple[str, ...], receiver: str) -> None:
    """What always fires goes to the dead man's switch, everything else to people."""
    assert amtool("config", "routes", "test", f"--config.file={DEPLOYED}", *labels) == f"{receiver}\n"
