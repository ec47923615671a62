"""The program as a service: it serves without a command, logs for machines, reloads, and says that it is healthy."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from queue import Queue
from typing import TYPE_CHECKING, Any
from urllib.request import urlopen

from tests.cli.program import COMMAND, HOST, environment, run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ANY_PORT = "--web.listen-address=127.0.0.1:0"


class Service:
    """A running exporter that logs JSON."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self._lines: Queue[str] = Queue()
        threading.Thread(target=self._read, daemon=True).start()
        self.address = self.logged("listening")["address"]

    def _read(self) -> None:
        assert self.process.stderr
        for line in self.process.stderr:
            self._lines.put(line)

    def logged(self, message: str) -> dict[str, Any]:
        """Return the next log entry with this message."""
        while True:
            entry: dict[str, Any] = json.loads(self._lines.get(timeout=10))
            if entry["msg"] == message:
                return entry

    def get(self, path: str) -> str:
        """Return the body at a path."""
        with urlopen(f"http://{self.address}{path}", timeout=5) as answer:
            return str(answer.read().decode())


@contextmanager
def service(*arguments: str | Path, **extra: str) -> Iterator[Service]:
    """Have an exporter on a free port, and see it end cleanly."""
    command = [*COMMAND, "--log.format=json", *map(str, arguments)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment(**extra))
    try:
        yield Service(process)
        process.terminate()
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait()
        if process.stderr:
            process.stderr.close()


def healthy(address: str) -> int:
    """Return the exit code of the health check for an exporter on this address."""
    environ = environment(ICC_EXPORTER_WEB_LISTEN_ADDRESS=address)
    return subprocess.run(
        [sys.executable, "-m", "exporter.health"], env=environ, stderr=subprocess.DEVNULL, check=False, timeout=20
    ).returncode


def test_it_serves_without_a_command() -> None:
    """Options at the top level are those of `serve`, and metrics of a recorded host come out."""
    with service(ANY_PORT, "--web.telemetry-path=/m", "--snapshot", HOST) as exporter:
        exporter.logged("started")
        for _ in range(100):
            body = exporter.get("/m")
            if "reachable_pairs_total" in body:
                break
        assert "\nicc_enabled 1" in body


def test_a_port_in_use_is_an_error_that_names_it() -> None:
    """It does not start, says why in one line, and the exit code is not 0."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = run("serve", f"--web.listen-address={address}", "--snapshot", HOST)
    assert done.returncode == 1
    assert f"cannot listen on {address}: Address already in use" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_health_check_finds_the_exporter() -> None:
    """`python -m exporter.health` asks where the environment says that it serves."""
    with service("serve", ANY_PORT, "--snapshot", HOST) as exporter:
        address = exporter.address
        assert healthy(address) == 0
    assert healthy(address) == 1


def test_sighup_reads_the_file_again(tmp_path: Path) -> None:
    """A new telemetry path in the file counts after SIGHUP; a mistake in it changes nothing."""
    file = tmp_path / "exporter.yml"
    file.write_text(f"snapshot: {HOST}\nweb: {{telemetry-path: /one}}\n")
    with service(ANY_PORT, ICC_EXPORTER_CONFIG_FILE=str(file)) as exporter:
        file.write_text(f"snapshot: {HOST}\nweb: {{telemetry-path: /two}}\n")
        os.kill(exporter.process.pid, signal.SIGHUP)
        exporter.logged("configuration read again")
        assert "docker_icc_up" in exporter.get("/two")
        file.write_text("web: {telemetry-path: two}\n")
        os.kill(exporter.process.pid, signal.SIGHUP)
        entry = exporter.logged(
            f"the configuration stays as it was: {file}:1: web.telemetry-path: not a path: 'two' "
            "(it begins with / and holds letters, digits and . _ ~ - / only)"
        )
        assert entry["level"] == "error"
        assert "docker_icc_up" in exporter.get("/two")
