"""The whole daemon as a process of its own."""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from exporter.observe.client import EngineClient
from exporter.observe.files import dumps
from exporter.observe.host import EngineHost
from exporter.observe.observer import Observer
from tests.cli.program import HOST
from tests.fake_engine import container, dribbles, hangs, network
from tests.runtime.test_schedule import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.fake_engine import FakeEngine


class Exporter:
    """A running exporter, its address and its log."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self._log = log
        wait_until(lambda: self._ports() or process.poll() is not None, within=10)
        self.port = int(self._ports()[0])

    def _ports(self) -> list[str]:
        return re.findall(r"msg=listening address=127\.0\.0\.1:(\d+)", self.log)

    @property
    def log(self) -> str:
        return self._log.read_text()

    def fetch(self, path: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def metric(self, name: str) -> float | None:
        found = re.search(rf"^{re.escape(name)} (\S+)$", self.fetch("/metrics")[1], re.MULTILINE)
        return float(found[1]) if found else None

    def resident(self) -> int:
        """Return the bytes of memory that it occupies."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) << 10

    def stop(self) -> tuple[int, float]:
        """Send SIGTERM; return the exit code and how long it took."""
        began = time.monotonic()
        self.process.terminate()
        return self.process.wait(10), time.monotonic() - began


@contextmanager
def exporter(tmp_path: Path, config: str, *arguments: str, address: str | None = "127.0.0.1:0") -> Iterator[Exporter]:
    """Run the exporter with a configuration file; without an address here, the file names it."""
    (tmp_path / "config.yml").write_text(config)
    command = [sys.executable, "-m", "exporter", "serve", "--config.file", str(tmp_path / "config.yml")]
    environ = {key: value for key, value in os.environ.items() if not key.startswith(("ICC_EXPORTER_", "DOCKER_"))}
    log = tmp_path / "log"
    with log.open("wb") as output:
        listen = ["--web.listen-address", address] if address else []
        process = subprocess.Popen([*command, *listen, *arguments], stderr=output, env=environ)
    try:
        yield Exporter(process, log)
    finally:
        process.kill()
        process.wait()


def settings(engine: FakeEngine, interval: str = "60s", timeout: str = "30s") -> str:
    """Return a configuration that looks at the engine."""
    return f"docker: {{host: '{engine.url}'}}\npoll: {{interval: {interval}, timeout: {timeout}}}\n"


def test_the_first_poll_is_at_once_and_events_bring_the_next(engine: FakeEngine, tmp_path: Path) -> None:
    """With a minute between polls the gauges are there at once, and a started container shows long before."""
    with exporter(tmp_path, settings(engine)) as process:
        wait_until(lambda: process.metric("reachable_pairs_total") == 2)
        wait_until(lambda: process.metric("docker_icc_exporter_event_stream_up") == 1)
        time.sleep(1.5)
        engine.answers["/containers/json"] = [container(name, 2 + index) for index, name in enumerate("abc")]
        engine.emit("network", "connect")
        engine.emit("container", "start")
        began = time.monotonic()
        wait_until(lambda: process.metric("reachable_pairs_total") == 6)
        assert time.monotonic() - began < 10
        assert process.metric('docker_icc_exporter_events_total{type="container"}') == 1
        assert process.fetch("/-/ready")[0] == 200
        assert process.stop()[0] == 0
    assert {method for method, _ in engine.requests} == {"GET"}


def test_an_engine_that_goes_withdraws_the_gauges_until_it_is_back(engine: FakeEngine, tmp_path: Path) -> None:
    """docker_icc_up is 0 and no verdict is left while the engine is gone; both return by themselves."""
    with exporter(tmp_path, settings(engine, "1s", "1s")) as process:
        wait_until(lambda: process.metric("docker_icc_up") == 1)
        engine.stop()
        engine.events.put(None)
        wait_until(lambda: process.metric("docker_icc_up") == 0)
        assert process.metric("reachable_pairs_total") is None
        assert process.metric("icc_enabled") is None
        engine.start()
        wait_until(lambda: process.metric("docker_icc_up") == 1)
        assert process.metric("reachable_pairs_total") == 2
        assert process.log.count("poll failed") == 1
        assert process.log.count("the engine answers") == 2


@pytest.mark.parametrize("what", ["absent", "hanging", "dribbling", "hanging events", "stopped"])
def test_sigterm_ends_within_two_seconds(engine: FakeEngine, tmp_path: Path, what: str) -> None:
    """Whatever the engine does, the process ends in time, with exit code 0."""
    if what == "absent":
        engine.stop()
    elif what == "stopped":
        engine.freeze()
    elif what == "hanging events":
        engine.answers["/events"] = hangs
    else:
        behaviour = hangs if what == "hanging" else dribbles([b"H"] * 2000)
        engine.answers |= {"/version": behaviour, "/events": behaviour}
    with exporter(tmp_path, settings(engine)) as process:
        stalled = socket.create_connection(("127.0.0.1", process.port))
        time.sleep(0.7)
        code, seconds = process.stop()
        stalled.close()
    assert code == 0
    assert seconds < 2.0


def test_sigint_ends_as_sigterm_does(engine: FakeEngine, tmp_path: Path) -> None:
    """^C in a terminal is a regular end."""
    with exporter(tmp_path, settings(engine)) as process:
        process.process.send_signal(signal.SIGINT)
        assert process.process.wait(2) == 0


def test_it_goes_on_after_it_was_stopped(engine: FakeEngine, tmp_path: Path) -> None:
    """A process that somebody stops and lets go on (SIGSTOP, `docker pause`) polls and serves as before."""
    with exporter(tmp_path, settings(engine, "1s", "1s")) as process:
        wait_until(lambda: process.metric("docker_icc_up") == 1)
        process.process.send_signal(signal.SIGSTOP)
        time.sleep(1.2)
        process.process.send_signal(signal.SIGCONT)
        polls = process.metric('docker_icc_exporter_polls_total{result="ok"}') or 0
        wait_until(lambda: (process.metric('docker_icc_exporter_polls_total{result="ok"}') or 0) > polls)
        assert process.stop()[0] == 0


def test_a_hanging_engine_is_a_timeout_not_a_standstill(engine: FakeEngine, tmp_path: Path) -> None:
    """Polls of an engine that does not answer end at their deadline, are counted, and go on."""
    engine.answers["/version"] = hangs
    with exporter(tmp_path, settings(engine, "1s", "200ms")) as process:
        wait_until(lambda: (process.metric('docker_icc_exporter_polls_total{result="timeout"}') or 0) >= 2, within=5)
        assert process.fetch("/-/healthy")[0] == 200
        assert process.fetch("/-/ready")[0] == 503


def test_sighup_reads_the_configuration_again(engine: FakeEngine, tmp_path: Path) -> None:
    """A new interval and another engine take effect at once."""
    with exporter(tmp_path, "docker: {host: 'unix:///nowhere'}\npoll: {interval: 60s}\n") as process:
        wait_until(lambda: process.metric("docker_icc_up") == 0)
        (tmp_path / "config.yml").write_text(settings(engine, "2s"))
        process.process.send_signal(signal.SIGHUP)
        wait_until(lambda: process.metric("docker_icc_up") == 1)
        assert process.metric("docker_icc_exporter_poll_interval_seconds") == 2
        wait_until(lambda: process.metric("docker_icc_exporter_event_stream_up") == 1)


def test_the_evidence_that_is_wanted_is_what_the_settings_say(engine: FakeEngine, tmp_path: Path) -> None:
    """All of a tier that was asked for, read or not, also after a reload; nothing of a file in the engine's place.

    Where nobody asked for a tier, what never could be read is not missed.
    """
    sources = ("api", "firewall", "bridge", "routes", "sandboxes")
    file = tmp_path / "config.yml"

    with exporter(tmp_path, settings(engine)) as process:

        def wanted() -> list[float | None]:
            return [process.metric(f'docker_icc_evidence_wanted{{source="{source}"}}') for source in sources]

        wait_until(lambda: process.metric("docker_icc_up") == 1)
        assert wanted() == [1, 0, 0, 0, 0]
        for setting, expected in (
            (settings(engine) + "evidence: {max: sandboxes}\n", [1, 1, 1, 1, 1]),
            (settings(engine) + "evidence: {max: kernel}\n", [1, 1, 1, 1, 0]),
            (settings(engine) + "evidence: {max: api}\n", [1, 0, 0, 0, 0]),
            (f"snapshot: {HOST}\n", [None] * 5),
            (settings(engine), [1, 0, 0, 0, 0]),
        ):
            file.write_text(setting)
            process.process.send_signal(signal.SIGHUP)
            wait_until(lambda expected=expected: wanted() == expected)


def test_sighup_with_a_new_listen_address_asks_for_a_restart(engine: FakeEngine, tmp_path: Path) -> None:
    """Another address in the file is named in the log, everything else counts, and the old address goes on serving."""
    file = tmp_path / "config.yml"
    with exporter(tmp_path, settings(engine) + "web: {listen-address: '127.0.0.1:0'}\n", address=None) as process:
        wait_until(lambda: process.metric("docker_icc_up") == 1)
        process.process.send_signal(signal.SIGHUP)
        wait_until(lambda: process.log.count("configuration read again") == 1)
        assert "takes effect after a restart" not in process.log
        file.write_text(settings(engine, "50s") + "web: {listen-address: ['127.0.0.1:0', '[::1]:0']}\n")
        process.process.send_signal(signal.SIGHUP)
        wait_until(lambda: process.log.count("configuration read again") == 2)
        (warning,) = [line for line in process.log.splitlines() if "a new listen address" in line]
        assert " level=warn " in warning
        assert ' msg="a new listen address takes effect after a restart"' in warning
        # published with the next state, which the new interval's first poll makes
        wait_until(lambda: process.metric("docker_icc_exporter_poll_interval_seconds") == 50)


def test_two_hundred_idle_connections_and_a_stalled_client_cost_little(engine: FakeEngine, tmp_path: Path) -> None:
    """Scrapes go on beside them, on kept and on new connections, and memory stays where it is."""
    with exporter(tmp_path, settings(engine)) as process, ExitStack() as clients:
        wait_until(lambda: process.metric("docker_icc_up") == 1)
        for _ in range(200):
            clients.enter_context(socket.create_connection(("127.0.0.1", process.port), timeout=10))
        stalled = clients.enter_context(socket.create_connection(("127.0.0.1", process.port), timeout=10))
        stalled.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: text/pl")
        kept = clients.enter_context(closing(http.client.HTTPConnection("127.0.0.1", process.port, timeout=10)))

        def scrape() -> None:
            kept.request("GET", "/metrics")
            assert b"\nreachable_pairs_total 2.0\n" in kept.getresponse().read()

        began = time.monotonic()
        for _ in range(100):
            scrape()
        before = process.resident()
        for _ in range(500):
            scrape()
        for _ in range(50):
            assert process.metric("reachable_pairs_total") == 2
        assert process.resident() - before < 1 << 20
        assert time.monotonic() - began < 60
        stalled.sendall(b"ain\r\n\r\n")
        assert stalled.recv(100).startswith(b"HTTP/1.1 200 OK\r\n")


def test_a_bad_configuration_at_sighup_changes_nothing(engine: FakeEngine, tmp_path: Path) -> None:
    """With a mistake in the file the old settings stay in force; the failure is logged and exported."""
    with exporter(tmp_path, settings(engine)) as process:
        wait_until(lambda: process.metric("docker_icc_up") == 1)
        for bad in ("poll: {interval: soon}\n", "docker: {host: 'ftp://x'}\n", "{"):
            (tmp_path / "config.yml").write_text(bad)
            count = process.log.count("stays as it was")
            process.process.send_signal(signal.SIGHUP)
            wait_until(lambda count=count: process.log.count("stays as it was") == count + 1)
        assert process.metric("docker_icc_exporter_poll_interval_seconds") == 60
        wait_until(lambda: process.metric("docker_icc_exporter_config_last_reload_successful") == 0)
        assert process.metric("docker_icc_up") == 1


def test_a_broken_policy_at_sighup_leaves_the_good_one_in_force(engine: FakeEngine, tmp_path: Path) -> None:
    """The log names the mistake and a metric says so; other settings count, and so does the next good policy."""
    policy = tmp_path / "policy.yaml"
    rule = "rules: [{{name: {0}, why: w, deny: {{from: any, to: {1}}}}}]\n"
    policy.write_text(rule.format("first", "any"))
    config = settings(engine) + f"policy: {{file: '{policy}'}}\n"
    labels = {"role": "db", "token": "hunter2"}
    engine.answers["/containers/json"] = [container("a", 2, Labels=labels), container("b", 3)]
    violations = 'docker_icc_policy_violations{{rule="{}"}}'
    with exporter(tmp_path, config) as process:
        wait_until(lambda: process.metric(violations.format("first")) == 2)
        assert process.metric("docker_icc_exporter_policy_last_reload_successful") == 1

        policy.write_text(rule.format("second", "all"))
        (tmp_path / "config.yml").write_text(config.replace("60s", "50s"))
        process.process.send_signal(signal.SIGHUP)
        wait_until(lambda: process.metric("docker_icc_exporter_policy_last_reload_successful") == 0)
        wait_until(lambda: process.metric("docker_icc_exporter_poll_interval_seconds") == 50)
        assert process.metric("docker_icc_exporter_config_last_reload_successful") == 1
        assert process.metric(violations.format("first")) == 2
        (line,) = [line for line in process.log.splitlines() if "the policy stays as it was" in line]
        assert f"{policy}:1: to must be any or a mapping of name, network, tenant, label or not" in line
        assert "has mistakes, which the log names" in process.fetch("/")[1]

        policy.write_text(rule.format("third", "{label: {role: db}}"))
        process.process.send_signal(signal.SIGHUP)
        wait_until(lambda: process.metric(violations.format("third")) == 1)
        assert process.metric("docker_icc_exporter_policy_last_reload_successful") == 1
        assert process.metric(violations.format("first")) is None
        kept = process.fetch("/api/v1/snapshot")[1]
        assert '"role": "db"' in kept
        assert "hunter2" not in kept

        (tmp_path / "config.yml").write_text(settings(engine))
        process.process.send_signal(signal.SIGHUP)
        wait_until(lambda: process.metric("docker_icc_exporter_policy_last_reload_successful") is None)
        wait_until(lambda: process.metric(violations.format("third")) is None)
        assert process.metric("docker_icc_up") == 1


def test_a_broken_policy_ends_the_start(engine: FakeEngine, tmp_path: Path) -> None:
    """Each mistake is named with file, line and reason; the engine is not asked anything."""
    policy = tmp_path / "policy.yaml"
    policy.write_text("rules:\n  - name: r\n    deny: {from: any, to: any}\n")
    command = [sys.executable, "-m", "exporter", "serve", "--web.listen-address=127.0.0.1:0"]
    done = subprocess.run(
        [*command, "--docker.host", engine.url, "--policy.file", str(policy)],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert (done.returncode, done.stderr) == (2, f"error: {policy}:2: why is missing in a rule\n")
    assert engine.requests == []


def test_a_snapshot_without_the_labels_of_a_policy_leaves_it_unjudged(tmp_path: Path) -> None:
    """The series of the policy and of tenants are absent, everything else is there."""
    policy = tmp_path / "policy.yaml"
    policy.write_text("rules: [{name: r, why: w, deny: {from: any, to: {label: {role: db}}}}]\n")
    recorded = Path(__file__).parents[1] / "data" / "demo-host.json"
    with exporter(tmp_path, f"snapshot: {recorded}\npolicy: {{file: '{policy}'}}\n") as process:
        wait_until(lambda: process.metric("docker_icc_up") == 1)
        served = process.fetch("/metrics")[1]
        assert "docker_icc_policy_" not in served
        assert "docker_icc_tenants" not in served
        assert "_tenant_pairs" not in served
        assert "does not tell of label role" in process.fetch("/")[1]


def test_a_snapshot_is_served_in_place_of_an_engine(engine: FakeEngine, tmp_path: Path) -> None:
    """The file's observation is what is published; it is read again at SIGHUP, and a broken one is a failed poll."""
    observer = Observer(EngineClient(EngineHost(engine.url), 5.0))
    file = tmp_path / "host.json"
    file.write_text(dumps(observer.observe()))
    with exporter(tmp_path, "poll: {interval: 60s}\n", "--snapshot", str(file)) as process:
        wait_until(lambda: process.metric("reachable_pairs_total") == 2)
        engine.answers["/networks"] = [network()]
        engine.answers["/containers/json"] = [container("a")]
        file.write_text(dumps(observer.observe()))
        process.process.send_signal(signal.SIGHUP)
        wait_until(lambda: process.metric("reachable_pairs_total") == 0)
        file.write_text("{}")
        process.process.send_signal(signal.SIGHUP)
        wait_until(lambda: process.metric("docker_icc_up") == 0)
        assert process.metric('docker_icc_exporter_polls_total{result="malformed"}') == 1
    observer.close()


def test_a_port_in_use_ends_the_start(engine: FakeEngine, tmp_path: Path) -> None:
    """The address is named, the exit code is that of wrong use, and the engine was not asked anything."""
    (tmp_path / "config.yml").write_text(settings(engine))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        command = [sys.executable, "-m", "exporter", "serve", "--web.listen-address", address]
        done = subprocess.run(
            [*command, "--docker.host", engine.url], capture_output=True, text=True, timeout=10, check=False
        )
    assert done.returncode == 2
    assert done.stderr == f"error: cannot listen on {address}: Address already in use\n"
    assert engine.requests == []
