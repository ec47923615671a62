"""A Prometheus from Debian's archive, and a relay that shows what it and the exporter say to each other."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import urlopen

import yaml

from tests.lab.packages import unpacked
from tests.lab.system import LET_GARBAGE_LIE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

PATIENCE = 15.0
HANGS = 120.0
"""Seconds after which the checker is taken to hang; it computes for ten, and not alone."""
DEPLOYED = Path(__file__).parents[2] / "deploy" / "prometheus" / "prometheus.yml"


@dataclass(frozen=True, slots=True)
class Exchange:
    """The headers of one scrape and its answer, by lower-case name."""

    request: dict[str, str]
    status: int
    answer: dict[str, str]


class Relay(ThreadingHTTPServer):
    """Passes requests on to the exporter, headers and all, and keeps what was said."""

    daemon_threads = True

    def __init__(self, exporter: str) -> None:
        super().__init__(("127.0.0.1", 0), _RelayHandler)
        self.exporter = exporter
        self.exchanges: list[Exchange] = []

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"127.0.0.1:{self.server_address[1]}"


class _RelayHandler(BaseHTTPRequestHandler):
    server: Relay

    def do_GET(self) -> None:
        connection = HTTPConnection(self.server.exporter, timeout=5)
        try:
            connection.request("GET", self.path, headers=dict(self.headers))
            answer = connection.getresponse()
            body = answer.read()
        finally:
            connection.close()
        self.server.exchanges.append(Exchange(_lower(self.headers), answer.status, _lower(answer.headers)))
        self.send_response(answer.status)
        for name in ("Content-Type", "Content-Encoding"):
            if value := answer.headers.get(name):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def _lower(headers: Any) -> dict[str, str]:  # noqa: ANN401 - two libraries' mappings
    return {name.lower(): value for name, value in headers.items()}


@contextmanager
def relay(exporter: str) -> Iterator[Relay]:
    """Have a relay in front of an exporter."""
    with Relay(exporter) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()


class Prometheus:
    """A running server; `query` asks it."""

    def __init__(self, address: str, process: subprocess.Popen[bytes], log: Path) -> None:
        self._address = address
        self._process = process
        self._log = log

    def ask(self, path: str, **parameters: str) -> Any:  # noqa: ANN401 - JSON
        """Return the data that its API answers with; waits until it listens."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                with urlopen(f"http://{self._address}/api/v1/{path}?{urlencode(parameters)}", timeout=5) as answer:
                    return json.load(answer)["data"]
            except (URLError, ConnectionError):
                assert self._process.poll() is None, self._log.read_text()
                assert time.monotonic() < deadline, self._log.read_text()
                time.sleep(0.1)

    def returns(self, expression: str) -> int:
        """Return how many samples an instant query gives now."""
        return len(self.ask("query", query=expression)["result"])

    def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """Return the samples of an instant query, with their labels but for the job's, as soon as there are any."""
        deadline = time.monotonic() + PATIENCE
        while not (found := self.ask("query", query=expression)["result"]):
            assert time.monotonic() < deadline, self._log.read_text()
            time.sleep(0.1)
        return [
            ({name: text for name, text in each["metric"].items() if name not in ("job", "instance", "__name__")},
             float(each["value"][1]))
            for each in found
        ]  # fmt: skip


def configuration(target: str, settings: Iterable[str], rules: Path | None, alertmanager: str | None) -> str:
    """Return what deploy/ offers, in a hurry and with these addresses."""
    document = yaml.safe_load(DEPLOYED.read_text())
    document["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    document["rule_files"] = [str(rules / "*.yml")] if rules else []
    document["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"] = [alertmanager] if alertmanager else []
    (scrape,) = document["scrape_configs"]
    scrape["static_configs"][0]["targets"] = [target]
    scrape |= yaml.safe_load("\n".join(settings)) or {}
    if alertmanager:
        # whoever has one scrapes it, and its series have names that the exporter's have too
        document["scrape_configs"].append({"job_name": "other", "static_configs": [{"targets": [alertmanager]}]})
    return str(yaml.safe_dump(document))


@contextmanager
def prometheus(
    version: str, target: str, folder: Path, *settings: str, rules: Path | None = None, alertmanager: str | None = None
) -> Iterator[Prometheus]:
    """Have a Prometheus of this version that scrapes a target, and evaluates a folder of rules, every second.

    `settings` are more lines of the job, if any.
    """
    (folder / "prometheus.yml").write_text(configuration(target, settings, rules, alertmanager))
    with started(version, folder) as server:
        yield server


@contextmanager
def started(version: str, folder: Path) -> Iterator[Prometheus]:
    """Have a Prometheus of this version with the configuration in a folder."""
    address = f"127.0.0.1:{free_port()}"
    command = [
        str(unpacked(f"prometheus-{version}") / "usr/bin/prometheus"),
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={address}",
        # what is sent before it knows of an Alertmanager, some seconds after its start, is lost until it is sent again
        "--rules.alert.resend-delay=5s",
    ]
    log = folder / "prometheus.log"
    with log.open("wb") as output:
        environ = {**os.environ, **LET_GARBAGE_LIE}
        process = subprocess.Popen(command, stdout=output, stderr=output, cwd=folder, env=environ)
    try:
        yield Prometheus(address, process, log)
    finally:
        process.kill()
        process.wait()


def free_port() -> int:
    """Return a port that nobody listens on: Prometheus does not tell which one it took by itself."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def promtool(version: str, *arguments: str, stdin: str = "") -> str:
    """Return everything that Prometheus's checker prints."""
    program = str(unpacked(f"prometheus-{version}") / "usr/bin/promtool")
    done = subprocess.run(
        [program, *arguments],
        input=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=HANGS,
        env={**os.environ, **LET_GARBAGE_LIE},
    )
    return done.stdout
