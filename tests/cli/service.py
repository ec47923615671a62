"""The program as a service: a process that serves until it is asked to end."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from contextlib import contextmanager
from queue import Queue
from typing import TYPE_CHECKING, Any
from urllib.request import urlopen

from tests.cli.program import COMMAND, environment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

ANY_PORT = "--web.listen-address=127.0.0.1:0"


class Service:
    """A running exporter that logs JSON."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self._lines: Queue[str] = Queue()
        self.log: list[str] = []
        """Every line that it has logged so far."""
        threading.Thread(target=self._read, daemon=True).start()
        self.address = self.logged("listening")["address"]

    def _read(self) -> None:
        assert self.process.stderr
        for line in self.process.stderr:
            self.log.append(line)
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

    def samples(self) -> dict[str, float]:
        """Scrape: return the values by name and labels, as the text format writes them."""
        lines = (line for line in self.get("/metrics").splitlines() if not line.startswith("#"))
        return {series: float(value) for series, _, value in (line.rpartition(" ") for line in lines)}

    def seconds_until(self, shows: Callable[[dict[str, float]], bool], timeout: float) -> float:
        """Scrape until the samples are as wished; return how long that took. Too long is a failure."""
        begun = time.monotonic()
        while not shows(samples := self.samples()):
            assert time.monotonic() - begun < timeout, f"not within {timeout} s: {samples}"
            time.sleep(0.02)
        return time.monotonic() - begun

    def end(self) -> float:
        """Send SIGTERM, see the exit code 0, and return how long that took."""
        begun = time.monotonic()
        self.process.terminate()
        assert self.process.wait(10) == 0
        return time.monotonic() - begun


@contextmanager
def service(*arguments: str | Path, under: Sequence[str] = (), **extra: str) -> Iterator[Service]:
    """Have an exporter on a free port, and see it end cleanly. A program that it is to run `under` goes before it."""
    command = [*under, *COMMAND, "--log.format=json", *map(str, arguments)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment(**extra))
    try:
        running = Service(process)
        yield running
        running.end()
    finally:
        process.kill()
        process.wait()
        if process.stderr:
            process.stderr.close()
