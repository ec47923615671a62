"""Keep an engine and its exporter busy, and tell whether memory and descriptors of the exporter stay flat.

Containers start and stop, networks are connected, made and removed, rules come and go, clients scrape and ask, the
configuration is read again; early on comes a storm of events, then the engine is stopped (SIGSTOP), for a minute each
where there is time for that. The storm has to be one. Memory is judged when all of this has been met once. At the end
the gauges must be those of a fresh exporter.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import signal
import sys
import threading
import time
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING
from urllib.error import HTTPError

from tests.cli.service import ANY_PORT, Service, service
from tests.lab import VERSIONS, Engine, LabError, engine
from tests.lab.client import post
from tests.story.gauges import withdrawn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

CONTAINERS = 8
WORKERS = 2
LONGEST = 60.0
"""Seconds that the storm and the stop of the engine take, or a tenth of the whole if that is less."""

RATE = 100
"""Changes of containers a second in the storm: 50 starts and stops, as far as the engine goes along, and 50 others."""

LEAST_EVENTS = 50
"""Events a second that the exporter must have been told, or the storm was none and proves nothing."""

SAMPLES = 40
MEMORY_GROWTH = 1.05
DESCRIPTOR_GROWTH = 2
SETTLES = 15.0
SETTLED = 0.3
"""The share of the time that is the beginning."""

RULES = ("*filter", ":SOAK - [0:0]", "-A SOAK -i docker0 -o docker0 -p tcp --dport 80 -j DROP", "-I FORWARD -j SOAK")
NO_RULES = ("*filter", "-D FORWARD -j SOAK", "-F SOAK", "-X SOAK")
PATHS = ("/metrics", "/api/v1/report", "/", "/api/v1/snapshot", "/api/v1/explain?source=soak-0&destination=soak-1")


@dataclass(frozen=True, slots=True)
class Sample:
    """The exporter at a moment: MiB, open descriptors, threads, seconds of processor time."""

    second: float
    memory: float
    descriptors: int
    threads: int
    processor: float

    @classmethod
    def of(cls, pid: int, second: float) -> Sample:
        """Look at a process."""
        folder = Path(f"/proc/{pid}")
        status = (folder / "status").read_text()
        spent = (folder / "stat").read_text().rpartition(")")[2].split()[11:13]
        return cls(
            second,
            int(status.partition("VmRSS:")[2].split()[0]) / 1024,
            len(list((folder / "fd").iterdir())),
            int(status.partition("Threads:")[2].split()[0]),
            sum(map(int, spent)) / 100,
        )


class Busy:
    """Threads that each do something again and again until the end; a pause makes all of them wait."""

    def __init__(self) -> None:
        self._stopping = threading.Event()
        self._free = threading.Event()
        self._free.set()
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self.done: dict[str, int] = {}
        self.refused: dict[str, int] = {}
        self.broken: list[str] = []

    def keep(self, name: str, action: Callable[[], object], pause: float) -> None:
        """Do something again and again; an engine that refuses is counted, everything else is a complaint."""
        thread = threading.Thread(target=self._run, args=(name, action, pause), name=name)
        self._threads.append(thread)
        thread.start()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Let all wait meanwhile."""
        self._free.clear()
        try:
            yield
        finally:
            self._free.set()

    def stop(self) -> None:
        """End them."""
        self._stopping.set()
        self._free.set()
        for thread in self._threads:
            thread.join()

    def _run(self, name: str, action: Callable[[], object], pause: float) -> None:
        while not self._stopping.wait(pause):
            self._free.wait()
            try:
                action()
            except LabError:
                self._count(self.refused, name)
            except Exception as error:  # noqa: BLE001 - told at the end
                self.broken.append(f"MISSED: {name}: {error!r}")
            else:
                self._count(self.done, name)

    def _count(self, counter: dict[str, int], name: str) -> None:
        with self._lock:
            counter[name] = counter.get(name, 0) + 1


class Soak:
    """One engine, one exporter, and what is done to both."""

    def __init__(self, made: Engine, exporter: Service) -> None:
        self._engine = made
        self._exporter = exporter
        self._numbers = iter(range(CONTAINERS, sys.maxsize))
        self._random = random.Random(1)
        self.busy = Busy()
        self.missed: list[str] = []

    def start(self) -> None:
        """Begin with everything."""
        for worker in range(WORKERS):
            self.busy.keep("containers restarted", lambda worker=worker: self._restart(worker), 0.1)  # type: ignore[misc]
        self.busy.keep("containers made and removed", self._come_and_go, 0.5)
        self.busy.keep("networks connected and left", self._connect, 0.2)
        self.busy.keep("networks made and removed", self._network, 1.0)
        self.busy.keep("rules made and removed", self._rules, 0.3)
        self.busy.keep("requests", self._request, 0.1)
        self.busy.keep("SIGHUPs", lambda: self._exporter.process.send_signal(signal.SIGHUP), 5.0)

    def storm(self, seconds: float) -> tuple[float, float]:
        """Start and stop half of the containers as fast as the engine can, pause and unpause the others.

        Return how many starts and stops a second these were, and how many events a second the exporter was told.
        """
        begun, before = time.monotonic(), self._events()
        done = [0] * CONTAINERS
        with self.busy.paused():
            threads = [
                threading.Thread(target=self._pound, args=(number, begun + seconds, done))
                for number in range(CONTAINERS)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        took = time.monotonic() - begun
        return sum(done[::2]) / took, (self._events() - before) / took

    def silence(self, seconds: float) -> None:
        """Stop the engine for so long; nothing may be said of it from the first deadline on."""
        with self.busy.paused():
            self._engine.kill(signal.SIGSTOP)
            try:
                spent = self._exporter.seconds_until(withdrawn, SETTLES)
                ends = time.monotonic() + seconds - spent
                while time.monotonic() < ends:
                    if not withdrawn(samples := self._exporter.samples()):
                        raise SystemExit(f"MISSED: a gauge of an engine that does not answer: {samples}")
                    time.sleep(0.2)
            finally:
                self._engine.kill(signal.SIGCONT)
            self._exporter.seconds_until(lambda samples: samples["docker_icc_up"] == 1, SETTLES)

    def _events(self) -> float:
        samples = self._exporter.samples()
        return sum(value for name, value in samples.items() if name.startswith("docker_icc_exporter_events_total"))

    def _request(self) -> None:
        try:
            self._exporter.get(self._random.choice(PATHS))
        except HTTPError as error:
            # one of the two that are asked about does not run, or the engine does not answer
            if error.code not in (HTTPStatus.NOT_FOUND, HTTPStatus.SERVICE_UNAVAILABLE):
                raise

    def _pound(self, number: int, ends: float, done: list[int]) -> None:
        actions = ("pause", "unpause") if number % 2 else ("kill", "start")
        while time.monotonic() < ends:
            begun = time.monotonic()
            for action in actions:
                with contextlib.suppress(LabError):
                    post(self._engine.socket, f"/containers/soak-{number}/{action}")
                    done[number] += 1
            time.sleep(max(0.0, 2 * CONTAINERS / RATE - (time.monotonic() - begun)))

    def _restart(self, worker: int) -> None:
        name = f"soak-{self._random.randrange(worker, CONTAINERS, WORKERS)}"
        post(self._engine.socket, f"/containers/{name}/restart?t=0")

    def _come_and_go(self) -> None:
        name = f"soak-{next(self._numbers)}"
        self._engine.run(name, "--publish=80")
        self._engine.docker("rm", "--force", name)

    def _connect(self) -> None:
        name = f"soak-{self._random.randrange(CONTAINERS)}"
        for action in ("connect", "disconnect"):
            post(self._engine.socket, f"/networks/other/{action}", {"Container": name})

    def _network(self) -> None:
        name = f"soak-net-{next(self._numbers)}"
        self._engine.docker("network", "create", name)
        self._engine.docker("network", "rm", name)

    def _rules(self) -> None:
        for lines in (RULES, NO_RULES):
            text = "\n".join((*lines, "COMMIT", ""))
            self._engine.on_host("sh", "-c", f"iptables-restore --wait --noflush <<'END'\n{text}END")


def main() -> int:
    """Soak, and judge; the exit code is 1 where something was not as it should be."""
    parser = argparse.ArgumentParser(prog="make soak ARGS=…", description=__doc__)
    parser.add_argument("--engine", choices=VERSIONS, default=VERSIONS[-1])
    parser.add_argument("--minutes", type=float, default=20.0)
    options = parser.parse_args()
    seconds = options.minutes * 60
    with engine(options.engine) as made:
        made.docker("network", "create", "other")
        for number in range(CONTAINERS):
            made.run(f"soak-{number}")
        arguments = (f"--docker.host={made.host}", f"--host.netns={made.netns}", "--evidence.max=sandboxes")
        with service(ANY_PORT, *arguments, "--poll.interval=5s", "--poll.timeout=5s") as exporter:
            soaked = Soak(made, exporter)
            samples = soak(soaked, exporter, seconds)
            complaints = [*soaked.missed, *soaked.busy.broken, *judged(samples)]
            complaints += [*agreement(exporter, arguments), *logged(exporter)]
    print("\n".join(complaints) or f"flat: {len(samples)} samples over {options.minutes:g} minutes")
    return 1 if complaints else 0


def soak(soaked: Soak, exporter: Service, seconds: float) -> list[Sample]:
    """Keep busy for so long, and print and return what the exporter needed meanwhile."""
    moment = min(LONGEST, seconds / 10)
    extra = {0.05: lambda: storm(soaked, moment), 0.15: lambda: silence(soaked, moment)}
    print(f"{'seconds':>8}{'MiB':>8}{'descriptors':>13}{'threads':>9}{'CPU s':>8}", flush=True)
    samples = []
    begun = time.monotonic()
    soaked.start()
    try:
        while (second := time.monotonic() - begun) < seconds:
            samples.append(Sample.of(exporter.process.pid, second))
            print(row(samples[-1]), flush=True)
            for due in [due for due in extra if second > due * seconds]:
                extra.pop(due)()
            time.sleep(seconds / SAMPLES)
    finally:
        soaked.busy.stop()
    for name, number in sorted(soaked.busy.done.items()):
        refused = soaked.busy.refused.get(name, 0)
        print(f"{number:>8} {name}{f', {refused} refused by the engine' if refused else ''}")
    return samples


def storm(soaked: Soak, seconds: float) -> None:
    """Tell of a storm of events, and judge it."""
    starts, events = soaked.storm(seconds)
    print(f"         storm of {seconds:g} s: {starts:.0f} starts and stops, {events:.0f} events a second", flush=True)
    soaked.missed += calm(events)


def calm(events: float) -> Iterator[str]:
    """Complain about a storm of too few events a second."""
    if events < LEAST_EVENTS:
        yield f"MISSED: a storm of {events:.1f} events a second, {LEAST_EVENTS} are needed"


def silence(soaked: Soak, seconds: float) -> None:
    """Tell of an engine that did not answer."""
    soaked.silence(seconds)
    print(f"         the engine was stopped for {seconds:g} s: nothing was said of it, and all was back", flush=True)


def row(sample: Sample) -> str:
    """Return a line of the table."""
    return f"{sample.second:8.0f}{sample.memory:8.1f}{sample.descriptors:13}{sample.threads:9}{sample.processor:8.1f}"


def judged(samples: Sequence[Sample]) -> Iterator[str]:
    """Compare the second half with the first, without the beginning, in which everything is met for the first time."""
    settled = [sample for sample in samples if sample.second > SETTLED * samples[-1].second]
    first, second = settled[: len(settled) // 2], settled[len(settled) // 2 :]
    for name, grows in (("memory", MEMORY_GROWTH), ("descriptors", None), ("threads", None)):
        before, after = (median(getattr(sample, name) for sample in half) for half in (first, second))
        limit = before * grows if grows else before + DESCRIPTOR_GROWTH
        print(f"{name}: median {before:.1f} in the first half, {after:.1f} in the second (limit {limit:.1f})")
        if after > limit:
            yield f"MISSED: {name} grew from {before:.1f} to {after:.1f}"


def agreement(exporter: Service, arguments: Sequence[str]) -> Iterator[str]:
    """See that the exporter says in the end what one says that has just been started."""
    time.sleep(SETTLES)
    with service(ANY_PORT, *arguments) as fresh:
        fresh.seconds_until(lambda samples: samples["docker_icc_up"] == 1, SETTLES)
        expected, found = said(fresh), said(exporter)
    if expected != found:
        yield f"MISSED: it says {found}, a fresh one {expected}"


def said(exporter: Service) -> dict[str, float]:
    """Return what is said of the engine."""
    return {
        name: value
        for name, value in exporter.samples().items()
        if not name.startswith(("docker_icc_exporter_", "process_"))
    }


def logged(exporter: Service) -> Iterator[str]:
    """Return what should not be in the log."""
    for line in exporter.log:
        entry = json.loads(line)
        if entry["level"] == "error" or "traceback" in entry:
            yield f"MISSED: logged {line.rstrip()}"


if __name__ == "__main__":
    sys.exit(main())
