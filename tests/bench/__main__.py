"""Measure polls, scrapes, the time from a start to the gauge, and memory, and print them beside their baselines.

One real engine has few containers and one grows to many. What is compared takes turns.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from statistics import median
from typing import TYPE_CHECKING

import docker

from exporter.evaluate import evaluate_after
from exporter.observe.client import EngineClient
from exporter.observe.host import EngineHost
from exporter.observe.observer import Observer
from exporter.parse import Memory, parse
from exporter.publish.exposition import render
from exporter.publish.state import Board, Published
from exporter.runtime.refresh import Refresher
from exporter.runtime.tally import Tally
from tests.bench.processes import OPENMETRICS, TEXT, WAIT, exporter, usual_server
from tests.bench.timing import head, in_turns, judged, p99, row
from tests.lab import VERSIONS, Engine, engine

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from tests.bench.processes import Server

POLL_RATIO = 1.5
SCRAPE_MS = 5.0
SCRAPE_FLATNESS = 1.5
LATENCY_MS = 1000.0
MEMORY_MIB = 64.0
ROUNDS_PER_LIST = 8
"""The SDK's containers.list() takes so long that it runs in few rounds only."""


def main() -> int:
    """Measure everything; the exit code is 1 where a goal was missed."""
    options = _options()
    lines: list[str] = []
    with engine(options.engine) as small, engine(options.engine) as big:
        start(small, range(options.few))
        first, last = options.containers - options.starts, options.containers
        middle = (first + last) // 2
        start(big, range(first))
        with exporter(big, "sandboxes") as whole:
            lines += reacting("sandboxes", [delay(big, whole, count) for count in range(first, middle)])
        with exporter(small, "api") as at_few, exporter(big, "api") as at_many:
            at_few.wait_for(options.few)
            lines += reacting("api", [delay(big, at_many, count) for count in range(middle, last)])
            lines += polling(big, options.polls)
            lines += scraping({options.few: at_few, options.containers: at_many}, options.scrapes)
            lines += remembering("api", at_many)
        with exporter(big, "sandboxes") as whole:
            whole.wait_for(last)
            lines += remembering("sandboxes", whole)
    print(f"engine {options.engine}, {options.containers} containers, {os.cpu_count()} cores")
    print("\n".join(lines))
    return 1 if any("MISSED" in line for line in lines) else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench ARGS=…", description=__doc__)
    parser.add_argument("--engine", choices=VERSIONS, default="28.5")
    parser.add_argument("--containers", type=int, default=250, help="of the big engine")
    parser.add_argument("--few", type=int, default=10, help="containers of the small engine")
    parser.add_argument("--starts", type=int, default=120, help="containers started one after the other, and timed")
    parser.add_argument("--polls", type=int, default=80)
    parser.add_argument("--scrapes", type=int, default=500)
    return parser.parse_args()


def start(made: Engine, numbers: Iterable[int]) -> None:
    """Start containers on the default bridge, four at a time."""
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: made.run(f"bench-{number}"), numbers))


def delay(made: Engine, watched: Server, count: int) -> float:
    """Start one more container and return the milliseconds from its start, as the engine tells it, to the gauge."""
    name = f"bench-{count}"
    with ThreadPoolExecutor(1) as pool:
        seen = pool.submit(watched.wait_for, count + 1)
        made.run(name)
        text = made.api(f"/containers/{name}/json")["State"]["StartedAt"]
        # nanoseconds are more than datetimes hold
        started = datetime.fromisoformat(f"{text[:26].rstrip('Z')}+00:00").timestamp()
        return (seen.result() - started) * 1000


def reacting(tier: str, delays: list[float]) -> Iterator[str]:
    """Tell how long it took from a container's start to the changed gauge."""
    interval = [15000 / 2] * 2
    yield head(f"From a container's start to the gauge, tier {tier}", "half of the 15 s between polls")
    met = p99(delays) < LATENCY_MS
    yield row(f"{len(delays)} starts", delays, interval, judged("p99 under 1 s", met=met))


def polling(made: Engine, rounds: int) -> Iterator[str]:
    """Tell what a poll costs beside the bare socket, the SDK's low-level client, and its high-level one."""
    with contextlib.ExitStack() as stack:
        host = EngineHost(made.host)
        observer = stack.enter_context(contextlib.closing(Observer(EngineClient(host, WAIT))))
        source = stack.enter_context(contextlib.closing(Observer(EngineClient(host, WAIT))))
        low = stack.enter_context(contextlib.closing(docker.APIClient(made.host, version="auto")))
        high = stack.enter_context(contextlib.closing(docker.DockerClient(made.host)))
        raw = stack.enter_context(contextlib.closing(Raw(made.socket)))
        board = Board(render, Published.not_polled(datetime.now(UTC)))
        refresher = Refresher(
            source, WAIT, board, Tally(15), parse=partial(parse, memory=Memory()), evaluate=evaluate_after
        )
        actions = {
            "raw socket, nothing decoded": lambda: [raw.get(path) for path in PATHS],
            "raw socket, JSON decoded": lambda: [json.loads(raw.get(path)) for path in PATHS],
            BASELINE: lambda: [low.containers(), low.networks()],
            "the SDK's containers.list()": high.containers.list,
            "the exporter's look": observer.observe,
            "look, parse, evaluate, render": refresher.refresh,
        }
        durations = in_turns(actions, rounds, {"the SDK's containers.list()": ROUNDS_PER_LIST})
        if not board.current.up:
            raise SystemExit(f"the refresh failed: {board.current.last_error}")
    yield head("Poll", BASELINE)
    for name, values in durations.items():
        met = median(values) <= POLL_RATIO * median(durations[BASELINE])
        note = judged(f"within {POLL_RATIO}", met=met) if name == "the exporter's look" else ""
        yield row(name, values, durations[BASELINE], note)


BASELINE = "the SDK's low-level client"
PATHS = ("/containers/json", "/networks")


class Raw:
    """A kept connection to the engine's socket, and nothing else."""

    def __init__(self, path: Path) -> None:
        self._connection = http.client.HTTPConnection("localhost")
        self._connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._connection.sock.connect(str(path))

    def get(self, path: str) -> bytes:
        """Return the body at a path."""
        self._connection.request("GET", path)
        return self._connection.getresponse().read()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def scraping(exporters: dict[int, Server], rounds: int) -> Iterator[str]:
    """Tell what a scrape costs at few and at many containers, beside prometheus_client's server on the same samples."""
    with contextlib.ExitStack() as stack:
        usual = {
            count: stack.enter_context(usual_server(server.get(accept=TEXT))) for count, server in exporters.items()
        }
        ours = {f"the exporter, {count} containers": server.get for count, server in exporters.items()}
        theirs = {f"prometheus_client, {count} containers": server.get for count, server in usual.items()}
        durations = in_turns(theirs | ours, rounds)
    few, many = (durations[name] for name in ours)
    baseline = durations[next(iter(theirs))]
    yield head("Scrape", next(iter(theirs)))
    for name, values in durations.items():
        met = p99(values) < SCRAPE_MS and median(many) <= SCRAPE_FLATNESS * median(few)
        note = judged(f"under {SCRAPE_MS:g} ms and flat", met=met) if name in ours else ""
        yield row(name, values, baseline, note)


def remembering(tier: str, server: Server) -> Iterator[str]:
    """Tell the memory of an exporter that was asked for everything it has."""
    scraped = server.memory("VmRSS")
    for accept in (TEXT, OPENMETRICS):
        for encoding in ("identity", "gzip"):
            server.get(accept=accept, encoding=encoding)
    yield f"Memory, tier {tier}"
    yield f"  {'after starts, polls and scrapes':<44}{scraped:9.1f} MiB"
    for path in ("/api/v1/report", "/", "/api/v1/snapshot"):
        began_with = server.memory("VmRSS")
        size = len(server.get(path)) / 2**20
        grown = server.memory("VmRSS")
        yield f"  {f'after GET {path}':<44}{grown:9.1f} MiB  ({size:.1f} MiB sent, {grown - began_with:+.1f} MiB)"
    resident, peak = server.memory("VmRSS"), server.memory("VmHWM")
    note = judged(f"under {MEMORY_MIB:g} MiB", met=resident < MEMORY_MIB)
    yield f"  {'resident at the end':<44}{resident:9.1f} MiB  (peak {peak:.1f} MiB)  {note}"


if __name__ == "__main__":
    sys.exit(main())
