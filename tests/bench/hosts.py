"""Measure parsing and evaluation on generated hosts in each engine's layout: python -m tests.bench.hosts.

Every host is measured in a process of its own, for CPU seconds and for the memory at its height. The baseline is what
it takes in the same run to follow packets one after the other: some are explained, and what they take on average is
taken for all ordered pairs and one port. The update is the next look, the median of
several: all documents and texts anew, one container less, every tenth rule with another counter.
"""

from __future__ import annotations

import argparse
import gc
import json
import resource
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, replace
from ipaddress import ip_address
from itertools import islice, pairwise
from statistics import median
from typing import TYPE_CHECKING

from exporter.collector import paused
from exporter.evaluate import evaluate_after, explain
from exporter.model.reach import Protocol
from exporter.parse import Memory, parse
from tests.bench.layouts import INSIDE_PORT, NFTABLES, Layout
from tests.bench.timing import judged

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exporter.model.report import Report
    from exporter.model.snapshot import Snapshot

VERSIONS = (NFTABLES, "28.5", "26.1", "20.10")
UPDATE_MS = 50.0
MEMORY_MIB = 150.0
EVENTS = 5
PACKETS = 5
"""Packets that the baseline walks; what they take on average is taken for all."""


@dataclass(frozen=True, slots=True)
class Size:
    """A host to measure, and the seconds that were hoped for; None for points of the curve.

    `entered` is whether the namespaces of its containers are read, too.
    """

    containers: int
    networks: int
    rules: int
    seconds: float | None = None
    entered: bool = False


CURVE = (Size(100, 10, 1_000), Size(300, 30, 3_000), Size(1_000, 100, 10_000, 0.5), Size(3_000, 200, 12_000))
GOALS = (Size(10_000, 500, 20_000, 1.0),)
ENTERED = (Size(100, 10, 1_000, entered=True), Size(1_000, 100, 10_000, 0.5, entered=True))


@dataclass(frozen=True, slots=True)
class Cost:
    """What a host took: milliseconds, MiB, and how many rules and reachable pairs it has."""

    rules: int
    pairs: int
    parse: float
    evaluate: float
    update: float
    packet: float
    documents: float
    peak: float


def main() -> int:
    """Measure everything; the exit code is 1 where a goal was missed."""
    parser = argparse.ArgumentParser(prog="make bench-hosts ARGS=…", description=__doc__)
    parser.add_argument("--engine", choices=VERSIONS, action="append", help="engines' layouts; all by default")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(asdict(_measured(*json.loads(options.measure)))))
        return 0
    missed = False
    for version in options.engine or VERSIONS:
        print(f"engine {version}: nat, replies, both families; {PACKETS} packets walked one by one for the baseline")
        print(f"  {'containers':>10}{'networks':>9}{'rules':>8}{'pairs':>10}{'parse':>10}{'evaluate':>10}{'update':>10}"
              f"{'peak':>10}{'one by one':>13}{'ratio':>11}")  # fmt: skip
        # what engines with nftables write within containers was not recorded
        for size in (*CURVE, *GOALS, *(ENTERED if version != NFTABLES else ())):
            for line in _told(version, size):
                missed = missed or "MISSED" in line
                print(line, flush=True)
    return 1 if missed else 0


def _told(version: str, size: Size) -> Iterator[str]:
    cost = measured_in_a_child(version, size)
    total = cost.parse + cost.evaluate
    naive = cost.packet * size.containers * (size.containers - 1)
    tier = "  namespaces of containers read, too" if size.entered else ""
    yield (
        f"  {size.containers:>10,}{size.networks:>9}{cost.rules:>8,}{cost.pairs:>10,}{cost.parse:>7.0f} ms"
        f"{cost.evaluate:>7.0f} ms{cost.update:>7.0f} ms{cost.peak:>6.0f} MiB{naive / 1000:>11,.0f} s"
        f"{naive / total:>10,.0f}x{tier}"
    )
    if size.seconds is not None:
        yield f"    parse and evaluate: {judged(f'at most {size.seconds:g} s', met=total <= size.seconds * 1000)}"
        yield f"    after an event: {judged(f'at most {UPDATE_MS:g} ms', met=cost.update <= UPDATE_MS)}"
    if size.containers >= 10_000:
        grown = f"{cost.documents:.0f} MiB of documents included"
        yield f"    memory, {grown}: {judged(f'under {MEMORY_MIB:g} MiB', met=cost.peak < MEMORY_MIB)}"


def measured_in_a_child(version: str, size: Size) -> Cost:
    """Return what a host took in a process of its own."""
    asked = json.dumps([version, size.containers, size.networks, size.rules, size.entered])
    command = [sys.executable, "-m", "tests.bench.hosts", "--measure", asked]
    return Cost(**json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))


def layout(version: str, containers: int, networks: int, rules: int, *, entered: bool = False) -> Layout:
    """Return a host with at least so many rules: what the engine does not write are the user's."""
    links = 0 if version == NFTABLES else 2
    made = Layout(version, networks, containers, published=networks // 2, links=links, user_rules=0, entered=entered)
    return replace(made, user_rules=max(0, rules - made.rules))


def _measured(version: str, containers: int, networks: int, rules: int, entered: bool) -> Cost:
    made = layout(version, containers, networks, rules, entered=entered)
    first, count = made.observation(), made.rules
    made = replace(made)  # without what the observation was made from
    gc.collect()
    documents = _peak()
    memory = Memory()
    times = [time.process_time()]
    with paused():
        snapshot = parse(first, memory)
        times.append(time.process_time())
        report, known = evaluate_after(snapshot, None)
        times.append(time.process_time())
    peak = _peak()
    updates = []
    for stopped in range(1, EVENTS + 1):
        gone = frozenset(range(containers - stopped, containers))
        then = replace(made, without=gone, counted=stopped).observation()
        gc.collect()
        began = time.process_time()
        with paused():
            _, known = evaluate_after(parse(then, memory), known)
        updates.append(1000 * (time.process_time() - began))
    parsing, evaluating = (1000 * (after - before) for before, after in pairwise(times))
    walked = _walked(snapshot, report)
    return Cost(count, report.totals.reachable_pairs, parsing, evaluating, median(updates), walked, documents, peak)


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _walked(snapshot: Snapshot, report: Report) -> float:
    """Return the milliseconds that one packet and its answer take when they are followed by themselves."""
    sandboxes = snapshot.sandboxes
    named = [container for container in report.containers if sandboxes[container.sandbox].endpoints[0].ipv6]
    pairs = list(islice(zip(named, reversed(named), strict=True), PACKETS))
    began = time.process_time()
    for source, destination in pairs:
        address = sandboxes[destination.sandbox].endpoints[0].ipv4
        explain(snapshot, report, source.name, destination.name, Protocol.TCP, INSIDE_PORT, ip_address(str(address)))
    return 1000 * (time.process_time() - began) / len(pairs)


if __name__ == "__main__":
    sys.exit(main())
