"""Programs that are measured from outside: the exporter, and prometheus_client's own server."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import IO, Self

    from tests.lab import Engine

WAIT = 15.0
TEXT = "text/plain;version=0.0.4"
OPENMETRICS = "application/openmetrics-text;version=1.0.0"


class Server:
    """A program that serves metrics, and one kept connection to it."""

    def __init__(self, process: subprocess.Popen[str], address: str) -> None:
        self.process = process
        self._connection = http.client.HTTPConnection(address, timeout=WAIT)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()
        self.process.terminate()
        self.process.wait(WAIT)

    def get(self, path: str = "/metrics", accept: str = TEXT, encoding: str = "identity") -> bytes:
        """Return the body at a path."""
        self._connection.request("GET", path, headers={"Accept": accept, "Accept-Encoding": encoding})
        answer = self._connection.getresponse()
        body = answer.read()
        if answer.status != http.client.OK:
            raise SystemExit(f"GET {path}: status {answer.status}: {body[:200]!r}")
        return body

    def containers(self) -> int | None:
        """Return the gauge of containers; None while there is none."""
        lines = self.get().decode().splitlines()
        value = next((line.split()[1] for line in lines if line.startswith("docker_icc_containers ")), None)
        return None if value is None else int(float(value))

    def wait_for(self, containers: int) -> float:
        """Return the time at which the gauge was first seen to have this value."""
        deadline = time.time() + WAIT
        while self.containers() != containers:
            if time.time() > deadline:
                raise SystemExit(f"the gauge did not come to {containers} containers within {WAIT:g} s")
            time.sleep(0.005)
        return time.time()

    def memory(self, field: str) -> float:
        """Return a field of the kernel's account of the process's memory, in MiB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition(f"{field}:")[2].split()[0]) / 1024


def exporter(made: Engine, tier: str) -> Server:
    """Start an exporter on an engine, in its network namespace; as it is by default but for its port and its tier."""
    command = [sys.executable, "-m", "exporter", f"--docker.host={made.host}", "--web.listen-address=127.0.0.1:0"]
    evidence = [f"--evidence.max={tier}", f"--host.netns={made.netns}"]
    process = subprocess.Popen([*command, *evidence, "--log.format=json"], stderr=subprocess.PIPE, text=True)
    assert process.stderr
    address = next((json.loads(line)["address"] for line in process.stderr if '"listening"' in line), None)
    if address is None:
        raise SystemExit(f"the exporter did not start: exit code {process.wait()}")
    threading.Thread(target=discard, args=(process.stderr,), daemon=True).start()
    return Server(process, address)


def usual_server(samples: bytes) -> Server:
    """Start prometheus_client's server, as exporters usually use it, on the same samples."""
    command = [sys.executable, "-m", "tests.bench.usual"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin
    assert process.stdout
    process.stdin.write(samples.decode())
    process.stdin.close()
    return Server(process, process.stdout.readline().strip())


def discard(stream: IO[str]) -> None:
    """Read a stream to its end: a full pipe would stop who writes into it."""
    for _ in stream:
        pass
