"""What systemd is told; the tests play its side of the socket."""

from __future__ import annotations

import os
import signal
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from exporter.runtime.notify import Manager
from tests.fake_engine import hangs
from tests.runtime.test_daemon import exporter, settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.fake_engine import FakeEngine


class Systemd:
    """The receiving end of NOTIFY_SOCKET."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener

    def hears(self, timeout: float = 5.0) -> dict[str, str]:
        """Return the next message."""
        self._listener.settimeout(timeout)
        return dict(line.split("=", 1) for line in self._listener.recv(4096).decode().splitlines())

    def waits_for(self, key: str, timeout: float = 5.0) -> dict[str, str]:
        """Return the next message with this key; what comes before it is forgotten."""
        while key not in (message := self.hears(timeout)):
            pass
        return message

    def silent(self, seconds: float) -> bool:
        """Tell whether nothing comes for so long."""
        try:
            self.hears(seconds)
        except TimeoutError:
            return True
        return False


@contextmanager
def systemd(monkeypatch: pytest.MonkeyPatch, address: str, watchdog: str | None = "3000000") -> Iterator[Systemd]:
    """Listen where the environment will say."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(f"\0{address[1:]}" if address.startswith("@") else address)
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        monkeypatch.delenv("WATCHDOG_PID", raising=False)
        if watchdog is None:
            monkeypatch.delenv("WATCHDOG_USEC", raising=False)
        else:
            monkeypatch.setenv("WATCHDOG_USEC", watchdog)
        yield Systemd(listener)


def test_a_service_tells_its_whole_life(engine: FakeEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """READY comes with the first published state, WATCHDOG again and again, RELOADING and READY at SIGHUP, STOPPING."""
    with (
        systemd(monkeypatch, str(tmp_path / "notify")) as manager,
        exporter(tmp_path, settings(engine, "1s", "1s")) as process,
    ):
        assert manager.hears() == {"READY": "1"}
        assert process.metric("docker_icc_up") == 1
        assert manager.hears() == manager.hears() == {"WATCHDOG": "1"}
        process.process.send_signal(signal.SIGHUP)
        assert manager.waits_for("RELOADING")["MONOTONIC_USEC"].isdigit()
        manager.waits_for("READY")
        process.process.terminate()
        assert manager.waits_for("STOPPING") == {"STOPPING": "1"}
        assert process.process.wait(5) == 0
        assert manager.silent(0.1)


def test_it_is_not_ready_before_the_first_poll_has_ended(
    engine: FakeEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the first poll waits for the engine, READY is withheld; its failure is something to see, and ready."""
    engine.answers["/version"] = hangs
    with (
        systemd(monkeypatch, f"@icc-exporter-{os.getpid()}", watchdog=None) as manager,
        exporter(tmp_path, settings(engine, "1s", "1s")) as process,
    ):
        assert process.fetch("/-/ready")[0] == 503
        assert manager.silent(0.3)
        assert manager.hears() == {"READY": "1"}
        assert process.metric("docker_icc_up") == 0
        # nobody asked for signs of life
        assert manager.silent(0.6)


def test_signs_of_life_end_with_the_polls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that still serves, but whose polls do not come to an end, is one that systemd should start anew."""
    fifo = tmp_path / "host.json"
    os.mkfifo(fifo)
    config = "poll: {interval: 1s, timeout: 500ms}\n"
    with (
        systemd(monkeypatch, str(tmp_path / "notify")) as manager,
        # opening the fifo takes for ever, and interrupting a file's observer does nothing
        exporter(tmp_path, config, f"--snapshot={fifo}") as process,
    ):
        assert manager.waits_for("READY")
        while not manager.silent(1.5):
            pass
        assert process.fetch("/-/healthy")[0] == 200


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, Manager()),
        ({"NOTIFY_SOCKET": "vsock:2:1234"}, Manager()),
        ({"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "1"}, Manager("/run/x", watches=True)),
        ({"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "0"}, Manager("/run/x")),
        ({"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "1", "WATCHDOG_PID": "1"}, Manager("/run/x")),
        (
            {"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "1", "WATCHDOG_PID": str(os.getpid())},
            Manager("/run/x", watches=True),
        ),
    ],
)
def test_the_environment_tells_who_listens(environ: dict[str, str], expected: Manager) -> None:
    """No socket, one that is not for us, no watchdog, and a watchdog of another process are each understood."""
    assert Manager.of(environ) == expected


def test_a_manager_that_is_gone_is_no_reason_to_end(tmp_path: Path) -> None:
    """Where nobody listens any more, messages go nowhere and nothing is raised."""
    manager = Manager(str(tmp_path / "nobody"), watches=True)
    manager.ready()
    manager.reloading()
    manager.alive()
    manager.stopping()
