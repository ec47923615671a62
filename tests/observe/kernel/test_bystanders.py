"""Namespaces that are no container's on a real engine's host: which are found, where, and what is said of others."""

from __future__ import annotations

import os
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from exporter.observe.files import dumps, loads
from exporter.observe.host import EngineHost
from exporter.observe.kernel import bystanders
from exporter.observe.observer import open_observer
from exporter.observe.tier import Tier
from exporter.parse import parse
from tests.lab import VERSIONS, Engine, engine
from tests.lab.system import run, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from exporter.model.observation import KernelDocuments
    from exporter.observe.observer import Observer

pytestmark = pytest.mark.lab

MOUNTS = rb"""23 1 0:22 / /proc rw,relatime shared:14 - proc proc rw
36 23 0:4 net:[4026532456] /run/netns/a\040name\012\033 rw shared:181 - nsfs nsfs rw
37 23 0:4 mnt:[4026532457] /run/other rw - nsfs nsfs rw
38 23 8:1 /net:[4026532458] /run/file rw - ext4 /dev/sda1 rw
39 23 0:4 net:[4026532459] /run/\377 rw - nsfs nsfs rw
"""


@pytest.fixture(scope="module")
def host() -> Iterator[Engine]:
    """Return an engine with two containers."""
    with engine(VERSIONS[-1]) as made:
        for name in ("web", "client"):
            made.run(name)
        yield made


@pytest.fixture
def observer(host: Engine) -> Iterator[Observer]:
    """Return what looks at it."""
    made = open_observer(EngineHost(host.host), 10, Tier.SANDBOXES, host.netns)
    yield made
    made.close()


@pytest.fixture
def searches(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """Return one entry for each time that all namespaces of the machine are looked at."""
    found: list[None] = []
    elsewhere = bystanders.BystanderReader._elsewhere

    def counted(reader: bystanders.BystanderReader, views: tuple[int, ...]) -> dict[int, bystanders.Place]:
        found.append(None)
        return elsewhere(reader, views)

    monkeypatch.setattr(bystanders.BystanderReader, "_elsewhere", counted)
    return found


@contextmanager
def named(host: Engine, name: str) -> Iterator[None]:
    """Make a namespace with a name, and take it away again with its cables."""
    host.on_host("ip", "netns", "add", name)
    try:
        yield
    finally:
        # what a namespace takes along goes a while after it
        host.on_host("sh", "-c", f"for each in 0 1; do ip -n {name} link del p$each; done; ip netns del {name}")


def cable(host: Engine, name: str, number: int = 0) -> None:
    """Give a namespace a port of the default bridge."""
    host.on_host("ip", "link", "add", f"{name}{number}", "type", "veth", "peer", "name", f"p{number}", "netns", name)
    host.on_host("ip", "link", "set", f"{name}{number}", "master", "docker0", "up")


def look(observer: Observer) -> KernelDocuments:
    """Return what is seen, which is the same once it was written and read."""
    observation = observer.observe()
    assert observation.kernel is not None
    assert parse(loads(dumps(observation), "saved")) == parse(observation)
    return observation.kernel


def test_what_is_mounted_and_what_processes_have(tmp_path: Path) -> None:
    """Names are anybody's; what is not a namespace, or has ended, is passed over."""
    for pid, inode, name in ((1, 4026531840, "init"), (7, 4026532456, "sleep"), (8, 4026532460, "a\n\x1bb")):
        own = tmp_path / str(pid)
        (own / "ns").mkdir(parents=True)
        (own / "ns/net").symlink_to(f"net:[{inode}]")
        (own / "comm").write_text(f"{name}\n")
    (tmp_path / "1/mountinfo").write_bytes(MOUNTS)
    (tmp_path / "9").mkdir()
    found = bystanders.BystanderReader(tmp_path)._elsewhere((1, 9))
    assert found == {
        4026531840: (f"{tmp_path}/1/ns/net", "pid 1 init"),
        4026532456: (f"{tmp_path}/1/root/run/netns/a name\n\x1b", "a name\ufffd\ufffd"),
        4026532459: (f"{tmp_path}/1/root/run/\udcff", "\ufffd"),
        4026532460: (f"{tmp_path}/8/ns/net", "pid 8 a\ufffd\ufffdb"),
    }


def test_nobody_is_looked_for_on_a_usual_host(observer: Observer, searches: list[None]) -> None:
    """All cables lead to containers."""
    assert look(observer).bystanders == {}
    assert searches == []


def test_a_mounted_namespace_and_one_beyond_it(host: Engine, observer: Observer, searches: list[None]) -> None:
    """They are called by their mounts; the next look knows where they are, and forgets them when they are gone."""
    with named(host, "near"), named(host, "beyond"):
        cable(host, "near")
        host.on_host("ip", "-n", "near", "link", "add", "p1", "type", "veth", "peer", "name", "p1", "netns", "beyond")
        for _ in range(2):
            found = look(observer)
            assert {name.partition(" (")[2] for name in found.bystanders} == {"near)", "beyond)"}
            assert bystanders.BYSTANDERS not in found.missing
        assert len(searches) == 1
        boxes = parse(observer.observe()).sandboxes.values()
        assert {*found.bystanders} == {box.name for box in boxes if box.id.startswith("namespace ")}
    assert wait_until(lambda: look(observer).bystanders == {}, timeout=5)


def test_the_tier_kernel_looks_for_nobody(host: Engine) -> None:
    """It enters no namespaces."""
    with named(host, "near"):
        cable(host, "near")
        observer = open_observer(EngineHost(host.host), 10, Tier.KERNEL, host.netns)
        assert look(observer).bystanders == {}
        observer.close()


def test_a_namespace_of_a_process(host: Engine, observer: Observer) -> None:
    """It is called by the process."""
    with subprocess.Popen(["unshare", "--net", "sleep", "100"]) as process:
        try:
            comm = f"/proc/{process.pid}/comm"
            assert wait_until(lambda: run(["cat", comm]).strip() == "sleep", timeout=5)
            host.on_host("sh", "-ec", f"ip link add port0 type veth peer name p0 netns {process.pid}")
            host.on_host("ip", "link", "set", "port0", "master", "docker0", "up")
            (name,) = look(observer).bystanders
            assert name.endswith(f"(pid {process.pid} sleep)")
        finally:
            host.on_host("ip", "link", "del", "port0")
            process.kill()


def test_a_namespace_that_is_nowhere(host: Engine, observer: Observer) -> None:
    """Whom only an open file holds cannot be found: that is said, by the port."""
    with named(host, "near"):
        cable(host, "near")
        anchor = host.on_host("sh", "-c", "sleep 100 </run/netns/near >/dev/null 2>&1 & echo $!").strip()
        host.on_host("umount", "-l", "/run/netns/near")
        try:
            found = look(observer)
            assert found.bystanders == {}
            assert found.missing[bystanders.BYSTANDERS] == "no namespace was found at the other end of near0"
        finally:
            os.kill(int(anchor), 9)
            host.on_host("sh", "-c", "ip link del near0; touch /run/netns/near")


def test_no_more_are_read_than_a_few(host: Engine, observer: Observer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody may make many."""
    monkeypatch.setattr(bystanders, "MOST", 1)
    with named(host, "near"), named(host, "next"):
        cable(host, "near")
        cable(host, "next")
        found = look(observer)
        assert len(found.bystanders) == 1
        assert "namespaces are no container's" in found.missing[bystanders.BYSTANDERS]
