"""The exporter's units on a host that systemd boots: placed, started and asked as an administrator does."""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass
from http.client import HTTPConnection
from threading import Thread
from typing import TYPE_CHECKING, Final

from tests.deploy.rules import DEPLOY
from tests.lab.agent import enter
from tests.lab.client import exchange
from tests.lab.errors import LabError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable
    from pathlib import Path

    from tests.lab.booted import Booted

UNITS: Final = DEPLOY / "systemd"
NAME: Final = "docker-icc-exporter"
SERVICE: Final = f"{NAME}.service"
SOCKET: Final = f"{NAME}.socket"
PORT: Final = 10422
PATIENCE: Final = 30.0

OFTEN: Final = "ICC_EXPORTER_POLL_INTERVAL=1s\n"

FOR_TESTS: Final = """
[Unit]
StartLimitIntervalSec=0
[Service]
SystemCallErrorNumber=kill
"""
"""Tests start more often than a host does; and what asks for a system call that it may not have is not to hide it."""


@dataclass(frozen=True, slots=True)
class Unit:
    """The service of a host."""

    host: Booted

    def file(self, path: str) -> Path:
        """Return a file of the host by its path there."""
        return self.host.root / path.lstrip("/")

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Write a file of root's as an editor does: a new one in place of the old."""
        place = self.file(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        draft = place.with_name(f".{place.name}")
        draft.touch(mode)
        draft.write_text(text)
        draft.rename(place)

    def systemctl(self, *arguments: str) -> str:
        """Run systemctl."""
        return self.host.run("systemctl", *arguments)

    def configure(self, *drop_ins: str, own: str = "", settings: str = OFTEN) -> None:
        """Stop what runs, and copy the examples of these drop-ins beside one of the test's `own`."""
        self.systemctl("stop", SERVICE)
        folder = self.file(f"/etc/systemd/system/{SERVICE}.d")
        for old in folder.glob("*"):
            old.unlink()
        for name in drop_ins:
            self.write(f"/etc/systemd/system/{SERVICE}.d/{name}.conf", example(name))
        self.write(f"/etc/systemd/system/{SERVICE}.d/zz-test.conf", FOR_TESTS + own)
        self.write(f"/etc/default/{NAME}", settings)
        self.systemctl("daemon-reload")

    def start(self, *drop_ins: str, own: str = "", settings: str = OFTEN) -> None:
        """Start the service anew, with these drop-ins and settings."""
        self.configure(*drop_ins, own=own, settings=settings)
        cursor = self.now()
        try:
            self.systemctl("start", SERVICE)
        except LabError as error:
            raise LabError(f"{error}\n{self.journal(cursor)}") from error

    def shown(self, name: str) -> str:
        """Return a property of the service."""
        return self.systemctl("show", f"--property={name}", "--value", SERVICE).strip()

    @property
    def main(self) -> int:
        """The pid of the main process on the host, 0 where there is none."""
        return int(self.shown("MainPID"))

    def status(self) -> dict[str, str]:
        """Return what the kernel says about the main process."""
        lines = self.file(f"/proc/{self.main}/status").read_text().splitlines()
        return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}

    def inside(self, path: str) -> Path:
        """Return a file by its path as the main process sees it."""
        return self.file(f"/proc/{self.main}/root") / path.lstrip("/")

    def journal(self, since: str) -> str:
        """Return what the service and systemd said about it after a cursor."""
        return self.host.run("journalctl", f"--unit={SERVICE}", "--no-pager", f"--after-cursor={since}")

    def now(self) -> str:
        """Return the journal's cursor of now."""
        shown = self.host.run("journalctl", "--lines=0", "--show-cursor", "--no-pager", "--quiet")
        return shown.strip().removeprefix("-- cursor: ")

    def get(self, path: str, tls: ssl.SSLContext | None = None, timeout: float = PATIENCE) -> str:
        """Return what is at a path. Raises LabError where nothing answers, or with no success."""
        _, text = exchange(_Within(str(self.host.netns), tls, timeout), "GET", path)
        return text

    def samples(self, tls: ssl.SSLContext | None = None) -> dict[str, float]:
        """Scrape: return the values by name and labels, as the text format writes them."""
        lines = (line for line in self.get("/metrics", tls).splitlines() if not line.startswith("#"))
        return {series: float(value) for series, _, value in (line.rpartition(" ") for line in lines)}

    def until(self, what: str, holds: Callable[[], bool]) -> None:
        """Wait until something holds; nobody that answers, or without the gauge, is no answer yet."""
        deadline = time.monotonic() + PATIENCE
        while not _tried(holds):
            assert time.monotonic() < deadline, f"{what}: not within {PATIENCE} s\n{self._told()}"
            time.sleep(0.05)

    def _told(self) -> str:
        return self.host.run("journalctl", f"--unit={NAME}*", "--no-pager", "--lines=30")


class _Within(HTTPConnection):
    """A connection from the host itself, by TLS or not."""

    def __init__(self, netns: str, tls: ssl.SSLContext | None, timeout: float) -> None:
        super().__init__("localhost", PORT, timeout=timeout)
        self._netns = netns
        self._tls = tls

    def connect(self) -> None:
        """Connect in a thread of its own: a socket stays in the namespace that it was made in, its thread goes."""
        made: list[socket.socket | OSError] = []
        thread = Thread(target=self._connect, args=(made,))
        thread.start()
        thread.join()
        (found,) = made
        if isinstance(found, OSError):
            raise found
        self.sock = self._tls.wrap_socket(found, server_hostname=self.host) if self._tls else found

    def _connect(self, made: list[socket.socket | OSError]) -> None:
        try:
            enter(self._netns)
            made.append(socket.create_connection(("127.0.0.1", PORT), self.timeout))
        except OSError as error:
            made.append(error)


def example(drop_in: str) -> str:
    """Return a drop-in as it comes with the unit."""
    return (UNITS / f"{SERVICE}.d" / f"{drop_in}.conf.example").read_text()


def _tried(holds: Callable[[], bool]) -> bool:
    try:
        return holds()
    except (LabError, KeyError):
        return False
