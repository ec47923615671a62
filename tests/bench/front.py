"""What clients that mean no good cost the others, for `make bench-front`.

One exporter with TLS and a password on a host of 250 containers is scraped as Prometheus does it, on a kept
connection, without and with others around: idle TLS clients, readers that hardly read, a flood of malformed requests,
and strangers who ask many times at once.
"""

from __future__ import annotations

import base64
import http.client
import json
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import bcrypt

from exporter.observe.files import dumps
from tests.bench.abuse import FLOOD, IDLE, PIPELINES, SLOW
from tests.bench.processes import discard
from tests.bench.timing import head, judged, p99, row
from tests.certificates import Authority
from tests.evaluate.test_sizes import crowd

if TYPE_CHECKING:
    from collections.abc import Iterator

SCRAPES = 600
PAUSE = 0.01
"""Seconds between two scrapes."""

EXTRA_MS = 5.0
EXTRA_MIB = 16.0
"""What clients of all kinds may need once they have been there. None is given back: see `memory`."""

GROWTH_MIB = 2.0
PASSWORD = "open sesame"
AUTHORIZATION = f"Basic {base64.b64encode(f'prometheus:{PASSWORD}'.encode()).decode()}"


class Exporter:
    """A running exporter, and one kept connection to it."""

    def __init__(self, process: subprocess.Popen[str], address: str, authority: Path) -> None:
        self.process = process
        self.address = address
        self.authority = authority
        context = ssl.create_default_context(cafile=authority)
        self._connection = http.client.HTTPSConnection(address, timeout=10, context=context)

    def scrape(self) -> float:
        """Return the milliseconds that a scrape took."""
        began = time.perf_counter()
        self._connection.request("GET", "/metrics", headers={"Authorization": AUTHORIZATION, "Accept-Encoding": "gzip"})
        answer = self._connection.getresponse()
        answer.read()
        if answer.status != http.client.OK:
            raise SystemExit(f"a scrape got status {answer.status}")
        return (time.perf_counter() - began) * 1000

    def scrapes(self, number: int = SCRAPES) -> list[float]:
        """Return how long so many scrapes took."""
        durations = []
        for _ in range(number):
            durations.append(self.scrape())
            time.sleep(PAUSE)
        return durations

    def memory(self) -> float:
        """Return the resident memory in MiB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) / 1024

    def descriptors(self) -> int:
        """Return how many descriptors are open."""
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))


@contextmanager
def running() -> Iterator[Exporter]:
    """Have an exporter with TLS and a password on a recorded host."""
    with tempfile.TemporaryDirectory() as name:
        folder, authority = Path(name), Authority()
        authority.issue("localhost", "127.0.0.1").save(folder, "server")
        (folder / "ca.crt").write_text(authority.cert)
        (folder / "host.json").write_text(dumps(crowd("28.5", 250).observation()))
        hashed = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(10)).decode()
        tls = "tls_server_config: {cert_file: server.crt, key_file: server.key}\n"
        (folder / "web.yml").write_text(f"{tls}basic_auth_users: {{prometheus: {hashed}}}\n")
        command = [sys.executable, "-m", "exporter", "--log.format=json", "--web.listen-address=127.0.0.1:0"]
        # one poll only: what is measured afterwards is the front alone
        command += [f"--snapshot={folder}/host.json", f"--web.config.file={folder}/web.yml", "--poll.interval=1h"]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        try:
            assert process.stderr
            address = next(json.loads(line)["address"] for line in process.stderr if '"listening"' in line)
            next(line for line in process.stderr if "the engine answers" in line)
            threading.Thread(target=discard, args=(process.stderr,), daemon=True).start()
            yield Exporter(process, address, folder / "ca.crt")
        finally:
            process.terminate()
            process.wait(10)


@contextmanager
def attacked(exporter: Exporter, kind: str) -> Iterator[subprocess.Popen[str]]:
    """Have clients of a kind around."""
    command = [sys.executable, "-m", "tests.bench.abuse", kind, exporter.address, str(exporter.authority)]
    pipe = subprocess.PIPE
    attacker = subprocess.Popen([*command, AUTHORIZATION], stdin=pipe, stdout=pipe, text=True)
    try:
        assert attacker.stdout
        if attacker.stdout.readline() != "ready\n":
            raise SystemExit(f"the clients of kind {kind} did not come")
        yield attacker
    finally:
        attacker.communicate()


class Course:
    """What is measured one after the other: with clients of each kind, after they have gone, and with nobody else."""

    def __init__(self, exporter: Exporter) -> None:
        self._exporter = exporter
        self.durations: dict[str, list[float]] = {}
        self.memory: list[tuple[str, float, int]] = []
        exporter.scrapes(100)
        self.remember("before")
        self.quiet = exporter.scrapes()

    def stay(self, kind: str, name: str) -> None:
        """Scrape while clients are there that stay until they are told to go."""
        with attacked(self._exporter, kind):
            self.durations[name] = self._exporter.scrapes()
            self.remember(f"with {name}")
        time.sleep(2)
        self.remember("after they have gone")
        self.quiet += self._exporter.scrapes()

    def flood(self, kind: str, name: str) -> None:
        """Scrape while requests of a kind come that end by themselves."""
        with attacked(self._exporter, kind) as attacker:
            self.durations[name] = []
            while attacker.poll() is None:
                self.durations[name] += self._exporter.scrapes(20)
        self.remember(f"after {name}")
        self.quiet += self._exporter.scrapes()

    def remember(self, name: str) -> None:
        """Note what the exporter needs now."""
        self.memory.append((name, self._exporter.memory(), self._exporter.descriptors()))


def scrapes(course: Course) -> Iterator[str]:
    """Yield how long scrapes took."""
    yield f"{len(course.quiet)} scrapes with nobody else, between the others"
    yield head("Scrape over TLS with a password", "nobody else")
    yield row("nobody else", course.quiet, course.quiet)
    for name, values in course.durations.items():
        extra = p99(values) - p99(course.quiet)
        met = extra < EXTRA_MS
        goal = judged(f"under {EXTRA_MS:g} ms more", met=met)
        yield row(
            name, values, course.quiet, f"p99 {extra:+.2f} ms, {p99(values) / p99(course.quiet):.2f} times; {goal}"
        )


def memory(course: Course) -> Iterator[str]:
    """Yield what memory was needed, and whether it is bounded.

    What clients needed is freed when they go, and stays resident: malloc keeps it for those who come next.
    """
    yield "Memory and descriptors"
    yield from (f"  {name:<44}{resident:9.1f} MiB{descriptors:8}" for name, resident, descriptors in course.memory)
    sizes = [resident for _, resident, _ in course.memory]
    turn = (len(sizes) - 1) // 2
    first, second = max(sizes[: turn + 1]), max(sizes[turn + 1 :])
    for name, extra, limit in (
        ("the most of the first turn, above before", first - sizes[0], EXTRA_MIB),
        ("the most of the second turn, above that", second - first, GROWTH_MIB),
    ):
        yield f"  {name:<44}{extra:+9.1f} MiB  {judged(f'under {limit:g} MiB', met=extra < limit)}"


def main() -> int:
    """Measure and print; the exit code is 1 where a goal was missed."""
    with running() as exporter:
        course = Course(exporter)
        for turn in ("", ", again"):
            course.stay("idle", f"{IDLE} idle TLS clients{turn}")
            course.stay("slow", f"{SLOW} readers that hardly read{turn}")
            course.flood("flood", f"{FLOOD:,} malformed requests{turn}")
            course.flood("pipelined", f"{PIPELINES} strangers' pipelines{turn}")
    lines = [*scrapes(course), *memory(course)]
    print("\n".join(lines))
    return 1 if any("MISSED" in line for line in lines) else 0


if __name__ == "__main__":
    sys.exit(main())
