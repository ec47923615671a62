"""What the exporter costs, beside what the usual ways cost in the same run: python -m tests.bench (make bench).

One real engine grows to 250 containers; polls, scrapes, the time from a container's start to the changed gauge and
memory are measured on the way.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from statistics import median, quantiles
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

import docker
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from exporter.observe.client import EngineClient
from exporter.observe.host import EngineHost
from exporter.observe.observer import Observer
from tests.lab import Engine, engine
from tests.lab.client import get

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from prometheus_client import Metric

VERSION = "28.5"
FEW, MANY = 10, 250
STARTS = 100
POLLS = 40
SCRAPES = 300
WAIT = 10.0


class Line(NamedTuple):
    """One measurement, the baselines measured beside it, and what was hoped for."""

    what: str
    measured: str
    baseline: str
    goal: str
    met: bool


class Exporter:
    """An exporter in a process of its own, and one kept connection to it."""

    def __init__(self, made: Engine) -> None:
        command = [sys.executable, "-m", "exporter", f"--docker.host={made.host}", "--web.listen-address=127.0.0.1:0"]
        self.process = subprocess.Popen([*command, "--log.format=json"], stderr=subprocess.PIPE, text=True)
        assert self.process.stderr
        address = next(json.loads(line)["address"] for line in self.process.stderr if '"listening"' in line)
        self.url = f"http://{address}/metrics"
        self._connection = http.client.HTTPConnection(address, timeout=5)

    def containers(self) -> int | None:
        """Return the gauge of containers; None while there is none."""
        self._connection.request("GET", "/metrics")
        body = self._connection.getresponse().read().decode()
        value = next((line.split()[1] for line in body.splitlines() if line.startswith("docker_icc_containers ")), None)
        return None if value is None else int(float(value))

    def wait_for(self, containers: int) -> float:
        """Return the time at which the gauge was first seen to have this value."""
        deadline = time.time() + WAIT
        while self.containers() != containers:
            if time.time() > deadline:
                raise SystemExit(f"the gauge did not come to {containers} containers within {WAIT} s")
            time.sleep(0.002)
        return time.time()

    def resident(self) -> float:
        """Return the resident memory in MiB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) / 1024

    def close(self) -> None:
        """End it."""
        self._connection.close()
        self.process.terminate()
        self.process.communicate()


class Replay(Collector):
    """The same samples, for prometheus_client's own server to render at each scrape."""

    def __init__(self, text: str) -> None:
        self._families = list(text_string_to_metric_families(text))

    def collect(self) -> Iterable[Metric]:
        """Return the samples."""
        return self._families


def main() -> int:
    """Measure everything and print one line for each goal."""
    with engine(VERSION) as made:
        start(made, range(FEW))
        with contextlib.closing(Exporter(made)) as exporter:
            exporter.wait_for(FEW)
            few = scrapes(exporter.url)
            start(made, range(FEW, MANY - STARTS))
            exporter.wait_for(MANY - STARTS)
            delays = [delay(made, exporter, count) for count in range(MANY - STARTS, MANY)]
            lines = [*polling(made), *scraping(exporter, few), reacting(delays), remembering(exporter)]
    show(lines)
    return 0


def start(made: Engine, numbers: Iterable[int]) -> None:
    """Start containers on the default bridge, four at a time."""
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: made.run(f"bench-{number}"), numbers))


def delay(made: Engine, exporter: Exporter, count: int) -> float:
    """Start one more container and return the seconds from its start, as the engine tells it, to the gauge."""
    name = f"bench-{count}"
    with ThreadPoolExecutor(1) as pool:
        seen = pool.submit(exporter.wait_for, count + 1)
        made.run(name)
        text = made.api(f"/containers/{name}/json")["State"]["StartedAt"]
        # nanoseconds are more than datetimes hold
        started = datetime.fromisoformat(f"{text[:26].rstrip('Z')}+00:00").timestamp()
        return seen.result() - started


def timed(actions: Iterable[Callable[[], object]], times: int) -> list[list[float]]:
    """Return how long each run of each action took, in milliseconds; taking turns, all meet the same noise."""
    measured = [(action, list[float]()) for action in actions]
    for action, _ in measured:
        action()
    for _ in range(times):
        for action, durations in measured:
            begun = time.perf_counter()
            action()
            durations.append((time.perf_counter() - begun) * 1000)
    return [durations for _, durations in measured]


def polling(made: Engine) -> Iterator[Line]:
    """Measure a poll against the bare socket, the SDK's low-level client, and its high-level one."""
    with contextlib.ExitStack() as stack:
        observer = stack.enter_context(contextlib.closing(Observer(EngineClient(EngineHost(made.host), WAIT))))
        low = stack.enter_context(contextlib.closing(docker.APIClient(made.host, version="auto")))
        high = stack.enter_context(contextlib.closing(docker.DockerClient(made.host)))
        polls = (
            observer.observe,
            lambda: [get(made.socket, path) for path in ("/containers/json", "/networks")],
            lambda: [low.containers(), low.networks()],
        )
        ours, raw, lower = (median(durations) for durations in timed(polls, POLLS))
        higher = median(timed([high.containers.list], 3)[0])
    baseline = f"raw socket {raw:.1f} ms, low-level client {lower:.1f} ms, containers.list() {higher:.0f} ms"
    yield Line(f"poll, {MANY} containers", f"{ours:.1f} ms", baseline, "1.5 x low-level client", ours <= 1.5 * lower)


def scrapes(url: str) -> list[float]:
    """Return how long scrapes over one connection took, in milliseconds."""
    target = urlsplit(url)
    connection = http.client.HTTPConnection(target.netloc, timeout=5)

    def scrape() -> bytes:
        connection.request("GET", target.path, headers={"Accept": "text/plain;version=0.0.4"})
        return connection.getresponse().read()

    with contextlib.closing(connection):
        return timed([scrape], SCRAPES)[0]


def scraping(exporter: Exporter, few: list[float]) -> Iterator[Line]:
    """Measure scrapes of few and of many containers against prometheus_client's server with the same samples."""
    target = urlsplit(exporter.url)
    connection = http.client.HTTPConnection(target.netloc, timeout=5)
    with contextlib.closing(connection):
        connection.request("GET", target.path, headers={"Accept": "text/plain;version=0.0.4"})
        text = connection.getresponse().read().decode()
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Replay(text))
    server, thread = start_http_server(0, "127.0.0.1", registry)
    try:
        baseline = median(scrapes(f"http://127.0.0.1:{server.server_port}/metrics"))
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    for count, durations in ((FEW, few), (MANY, scrapes(exporter.url))):
        yield Line(
            f"scrape, {count} containers",
            f"{median(durations):.2f} ms (p99 {p99(durations):.2f})",
            f"prometheus_client's server {baseline:.2f} ms",
            "under 5 ms and flat",
            p99(durations) < 5,
        )


def reacting(delays: list[float]) -> Line:
    """Judge the times from a container's start to the changed gauge."""
    measured = f"median {median(delays) * 1000:.0f} ms, p99 {p99(delays) * 1000:.0f} ms"
    return Line(f"start to gauge, {len(delays)} starts", measured, "-", "p99 under 1 s", p99(delays) < 1)


def remembering(exporter: Exporter) -> Line:
    """Measure resident memory."""
    resident = exporter.resident()
    return Line(f"memory, {MANY} containers", f"{resident:.1f} MiB", "-", "under 64 MiB", resident < 64)


def p99(values: list[float]) -> float:
    """Return the 99th percentile."""
    return quantiles(values, n=100, method="inclusive")[98]


def show(lines: list[Line]) -> None:
    """Print the measurements as a table."""
    rows = [("WHAT", "MEASURED", "BASELINE", "GOAL", "")]
    rows += [(*line[:4], "met" if line.met else "MISSED") for line in lines]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


if __name__ == "__main__":
    sys.exit(main())
