"""What goes wrong in the kernel and in the programs that show it: the report is right, or says what is missing."""

from __future__ import annotations

import ctypes
import itertools
import subprocess
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import pytest

from exporter.evaluate import evaluate
from exporter.observe.host import EngineHost
from exporter.observe.observer import open_observer
from exporter.observe.tier import Tier
from exporter.parse import parse
from tests.lab import VERSIONS, Engine, engine
from tests.lab.system import find_tool, run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from exporter.model.report import Report
    from exporter.observe.observer import Observer

pytestmark = pytest.mark.lab

TIMEOUT = 2.0
PROGRAMS = ("iptables-nft-save", "ip6tables-nft-save", "nft")
CAP_NET_ADMIN: Final = 12

RULES = ("*filter", ":FAULT - [0:0]", "-A FAULT -i docker0 -o docker0 -j DROP", "-I FORWARD -j FAULT")
NO_RULES = ("*filter", "-D FORWARD -j FAULT", "-F FAULT", "-X FAULT")


@pytest.fixture(scope="module")
def host() -> Iterator[Engine]:
    """Return an engine with two containers that reach each other; what goes wrong here is not its own doing."""
    with engine(VERSIONS[-1]) as made:
        for name in ("web", "client"):
            made.run(name)
        made.on_host("nft", "add table inet fault")
        made.on_host("nft", "add chain inet fault forward { type filter hook forward priority 5; }")
        made.on_host("nft", "add rule inet fault forward tcp dport 9 counter accept")
        yield made


@pytest.fixture
def observer(host: Engine) -> Iterator[Observer]:
    """Return what looks at it."""
    made = open_observer(EngineHost(host.host), TIMEOUT, Tier.SANDBOXES, host.netns)
    yield made
    made.close()


def report(observer: Observer) -> Report:
    """Return what follows from a look."""
    return evaluate(parse(observer.observe()))


def changed(host: Engine) -> None:
    """Make the firewall one that has to be read again."""
    host.on_host("nft", "add table inet passing; delete table inet passing")


def whole(found: Report) -> bool:
    """Tell whether all could be read, and the containers reach each other."""
    return not found.missing and (found.totals.reachable_pairs, found.totals.unknown_pairs) == (2, 0)


FAKES = {
    "hangs": "exec sleep 1000",
    "hangs after half": "echo '*filter'; echo ':FORWARD ACCEPT [0:0]'; exec sleep 1000",
    "may not": "echo 'Could not fetch rule set generation id: Permission denied (you must be root)' >&2; exit 4",
    "prints garbage": "head -c 5000 /dev/urandom",
    "prints nothing": "exit 0",
    "breaks off": "echo '*filter'; echo ':FORWARD ACCEPT [0:0]'; exit 0",
    "breaks off in JSON": """echo '{"nftables": [{"table": {"family": "ip", "name": "filter"}}'""",
    "tells of no tables": """echo '{"nftables": []}'""",
    "crashes": "kill -SEGV $$",
    "prints without end": "exec yes '-A FORWARD -j ACCEPT'",
}


@pytest.mark.parametrize("fault", FAKES)
def test_programs_that_show_the_firewall_fail(
    fault: str,
    host: Engine,
    observer: Observer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The firewall counts as unread, with a reason, the rest is there; when they work again all is well."""
    assert whole(report(observer))
    for name in PROGRAMS:
        program = tmp_path / name
        program.write_text(f"#!/bin/sh\n{FAKES[fault]}\n")
        program.chmod(0o755)
    with monkeypatch.context() as patched:
        patched.setenv("PATH", str(tmp_path), prepend=":")
        changed(host)
        found = report(observer)
    assert found.missing["firewall"]
    assert found.totals.reachable_pairs + found.totals.unknown_pairs >= 2
    assert whole(report(observer))
    assert "Traceback" not in caplog.text


def test_one_program_fails(host: Engine, observer: Observer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever of them prints nothing, no pair is told to be blocked that is not."""
    for name in PROGRAMS:
        folder = tmp_path / f"only-{name}"
        folder.mkdir()
        (folder / name).write_text("#!/bin/sh\nexit 0\n")
        (folder / name).chmod(0o755)
        with monkeypatch.context() as patched:
            patched.setenv("PATH", str(folder), prepend=":")
            changed(host)
            found = report(observer)
        assert found.missing["firewall"]
        assert found.totals.reachable_pairs == 2


def test_the_namespace_is_gone(host: Engine, tmp_path: Path) -> None:
    """Without the path of the engine's namespace there is the API alone, and a reason; when it is back there is all."""
    place = tmp_path / "netns"
    place.touch()
    run(["mount", "--bind", str(host.netns), str(place)])
    observer = open_observer(EngineHost(host.host), TIMEOUT, Tier.SANDBOXES, place)
    try:
        assert whole(report(observer))
        run(["umount", str(place)])
        found = report(observer)
        assert found.missing["firewall"] == f"{place} is not a network namespace"
        assert found.totals.reachable_pairs == 2
        place.unlink()
        assert "No such file" in report(observer).missing["firewall"]
        place.touch()
        run(["mount", "--bind", str(host.netns), str(place)])
        assert whole(report(observer))
    finally:
        subprocess.run(["umount", str(place)], check=False, capture_output=True)
        observer.close()


@contextmanager
def without_capability(number: int) -> Iterator[None]:
    """Take a capability from this thread, and so from those that it starts, and give it back."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    held = (ctypes.c_uint32 * 6)()
    assert libc.capget(header, held) == 0
    less = (ctypes.c_uint32 * 6)(*held)
    less[0] &= ~(1 << number)
    assert libc.capset(header, less) == 0
    try:
        yield
    finally:
        assert libc.capset(header, held) == 0


def test_a_capability_is_lost(observer: Observer) -> None:
    """What needs CAP_NET_ADMIN is told to need it from the moment it is lost, and is back when that is."""
    assert whole(report(observer))
    with without_capability(CAP_NET_ADMIN):
        found = report(observer)
        assert "CAP_NET_ADMIN" in found.missing["firewall"]
        assert found.totals.reachable_pairs == 2
    assert whole(report(observer))


def test_chains_come_and_go_while_they_are_read(host: Engine, observer: Observer) -> None:
    """Each report is that of the moment before or after a change, or says that the firewall could not be read."""
    ending = threading.Event()
    restore = [str(find_tool("iptables-nft-restore")), "--noflush", "--wait"]
    inside = ["nsenter", f"--net={host.netns}", "--", *restore]

    def change() -> None:
        for lines in itertools.cycle((RULES, NO_RULES)):
            if ending.is_set() and lines is RULES:
                return
            subprocess.run(inside, input="\n".join((*lines, "COMMIT", "")), text=True, check=True)

    changing = threading.Thread(target=change)
    changing.start()
    seen = []
    try:
        for _ in range(10):
            found = report(observer)
            said = (found.totals.reachable_pairs, found.totals.unknown_pairs)
            seen.append("unread" if "firewall" in found.missing else said)
            if "firewall" in found.missing:
                assert "rules change faster than they can be read" in found.missing["firewall"]
    finally:
        ending.set()
        changing.join()
    assert set(seen) <= {(2, 0), (0, 0), "unread"}
    assert whole(report(observer))


def test_the_bridge_lost_its_address(host: Engine, observer: Observer) -> None:
    """A host whose only bridge has no address any more is still the engine's; one with another address may not be."""
    host.on_host("ip", "-4", "address", "flush", "dev", "docker0")
    try:
        assert whole(report(observer))
        host.on_host("ip", "address", "add", "10.77.7.1/24", "dev", "docker0")
        assert "its docker0 has other addresses than 172.17.0.1" in report(observer).missing["bridge"]
    finally:
        host.on_host("ip", "-4", "address", "flush", "dev", "docker0")
        host.on_host("ip", "address", "add", "172.17.0.1/16", "brd", "172.17.255.255", "dev", "docker0")


def test_the_engine_restarts_between_two_reads(host: Engine) -> None:
    """What was listed before a restart is not joined with what is there after it."""
    observer = open_observer(EngineHost(host.host), 20.0, Tier.SANDBOXES, host.netns)
    client = observer._client
    get = client.get
    restarts = iter([True])

    def restarted(path: str) -> object:
        if path == "/networks" and next(restarts, False):
            host.restart("--icc=false")
        return get(path)

    assert whole(report(observer))
    client.get = restarted  # type: ignore[method-assign]
    found = report(observer)
    assert (found.engine.icc_enabled, found.totals.containers, found.totals.reachable_pairs) == (False, 0, 0)
    observer.close()
    host.restart()
    for name in ("web", "client"):
        host.docker("start", name)
