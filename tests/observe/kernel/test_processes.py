"""Whose processes are whose, told from a /proc that was written by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from exporter.observe.kernel.processes import Process, ProcessReader, Relay

if TYPE_CHECKING:
    from pathlib import Path

WEB = "a" * 64
SHIM, RUNTIME, FIRST = 100, 200, 300


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """Return a /proc with a shim, as its container has no cgroup."""
    process(tmp_path, SHIM, parent=1, start=5, comm="containerd-shim", mounts="host", command=f"shim\0-id\0{WEB}\0")
    return tmp_path


def process(
    proc: Path, pid: int, *, parent: int, start: int, comm: str, mounts: str, command: str = "", cgroup: str = "/"
) -> None:
    """Add a process."""
    folder = proc / str(pid)
    (folder / "ns").mkdir(parents=True)
    (folder / "ns/mnt").symlink_to(f"mnt:[{mounts}]")
    (folder / "comm").write_text(f"{comm}\n")
    (folder / "cmdline").write_text(command)
    (folder / "cgroup").write_text(f"0::{cgroup}\n")
    (folder / "stat").write_text(f"{pid} ({comm}) S {parent} {'0 ' * 17}{start} 0\n")


def test_a_shim_has_the_first_process_of_its_container_as_a_child(proc: Path) -> None:
    """Where there are no cgroups, that child is the container."""
    process(proc, FIRST, parent=SHIM, start=9, comm="sleep", mounts="container")
    assert ProcessReader(proc).read([WEB]).containers == {WEB: Process(FIRST, 9)}


def test_the_runtime_that_clears_up_is_not_the_container(proc: Path) -> None:
    """Runc is a child of the shim too, in the host's namespaces: once the container has ended, it is the only one."""
    process(proc, RUNTIME, parent=SHIM, start=9, comm="runc", mounts="host")
    assert ProcessReader(proc).read([WEB]).containers == {}


PROXY = "-proto\0tcp\0-host-ip\x000.0.0.0\0-host-port\x008080\0-container-ip\x00172.17.0.2\0-container-port\x0080\0"
DAEMON, RELAY = 400, 350


@pytest.mark.parametrize(
    ("comm", "parent", "options", "found"),
    [
        ("docker-proxy", DAEMON, PROXY, True),
        ("docker-proxy", 1, PROXY, True),
        ("some-other-name", DAEMON, PROXY, True),
        ("some-other-name", 1, PROXY, False),
        ("some-other-name", DAEMON, "--config\0/etc/x\0", False),
    ],
)
def test_a_relay_may_have_any_name(proc: Path, comm: str, parent: int, options: str, found: bool) -> None:
    """What a dockerd started with docker-proxy's command line is one (--userland-proxy-path)."""
    process(proc, DAEMON, parent=1, start=4, comm="dockerd", mounts="host", command="dockerd\0")
    process(proc, RELAY, parent=parent, start=8, comm=comm, mounts="host", command=f"/opt/{comm}\0{options}")
    relay = Relay(RELAY, "tcp", ("0.0.0.0", 8080), ("172.17.0.2", 80))
    assert ProcessReader(proc).read([WEB]).relays == ((relay,) if found else ())


def test_a_process_that_ended_while_it_was_looked_at_is_nobody(proc: Path) -> None:
    """It has no time of start any more, and is not taken for the oldest for that."""
    process(proc, RUNTIME, parent=1, start=3, comm="sh", mounts="container", cgroup=f"/docker/{WEB}")
    process(proc, FIRST, parent=SHIM, start=9, comm="sleep", mounts="container", cgroup=f"/docker/{WEB}")
    (proc / str(RUNTIME) / "stat").unlink()
    reader = ProcessReader(proc)
    assert reader.read([WEB]).containers == {WEB: Process(FIRST, 9)}
    assert reader.lives(Process(FIRST, 9))
    assert not reader.lives(Process(FIRST, 8))
    assert not reader.lives(Process(RUNTIME, 0))
