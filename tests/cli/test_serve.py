"""The program as a service: it serves without a command, logs for machines, reloads, and says that it is healthy."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

from tests.cli.program import HOST, environment, run
from tests.cli.service import ANY_PORT, service

if TYPE_CHECKING:
    from pathlib import Path


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
    """It does not start, says why in one line, and the exit code is that of wrong use."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = run("serve", f"--web.listen-address={address}", "--snapshot", HOST)
    assert done.returncode == 2
    assert done.stderr == f"error: cannot listen on {address}: Address already in use\n"


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
