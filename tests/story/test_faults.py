"""What goes wrong on hosts, done to a real engine and to the exporter that watches it.

Through all of it the exporter is scraped without a pause: whatever it shows is so at that moment, or was so until then
and is gone in time. It ends cleanly, and its log has no traceback. `test_lost_engine.py` has engines that die and hang,
`tests/observe/kernel/test_faults.py` what goes wrong in the kernel. The engine that is stopped for a whole minute, and
the storm of a whole minute, are in `make soak`: here the deadlines are as short as the faults.
"""

from __future__ import annotations

import contextlib
import json
import re
import resource
import socket
import tempfile
import threading
import time
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import pytest

from tests.cli.service import ANY_PORT, Service, service
from tests.lab import VERSIONS, Engine, LabError, engine
from tests.lab.client import post
from tests.lab.system import wait_until
from tests.story.engine_proxy import EngineProxy
from tests.story.gauges import shows, withdrawn
from tests.story.scrapes import Scrapes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

pytestmark = pytest.mark.lab

SETTINGS = ("--poll.interval=1s", "--poll.timeout=1s")
SOON = 15.0
LIBFAKETIME = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)


@pytest.fixture(scope="module")
def host() -> Iterator[Engine]:
    """Return an engine with two containers; what happens here does not depend on its release."""
    with engine(VERSIONS[-1]) as made:
        for name in ("web", "client"):
            made.run(name)
        yield made


def state(icc: int, pairs: int) -> Callable[[dict[str, float]], bool]:
    """Return what tells whether the gauges show a default bridge in this state with so many reachable pairs."""
    expected = {"bridge": pairs} if pairs else {}
    return lambda samples: samples.get("docker_icc_up") == 1 and shows(samples, icc, expected)


OPEN = state(1, 2)
ALONE = state(1, 0)
THREE = state(1, 6)
FIREWALL = 'docker_icc_evidence{source="firewall"}'
CLOSED = state(0, 0)


@contextlib.contextmanager
def watched(
    made: Engine, *arguments: str, under: tuple[str, ...] = (), extra: Mapping[str, str] = MappingProxyType({})
) -> Iterator[tuple[Service, Scrapes]]:
    """Have an exporter that has seen the engine, and scrapes of it that are judged; its log has to be clean."""
    command = (*SETTINGS, f"--docker.host={made.host}", *arguments)
    with service(ANY_PORT, *command, under=under, **extra) as exporter, judged(exporter) as scrapes:
        yield exporter, scrapes
    clean(exporter)


@contextlib.contextmanager
def judged(exporter: Service) -> Iterator[Scrapes]:
    """Judge an exporter that sees both containers by all of its scrapes."""
    exporter.seconds_until(OPEN, SOON)
    scrapes = Scrapes(exporter, OPEN)
    with scrapes.going_on():
        yield scrapes


@pytest.fixture(scope="module")
def exporter(host: Engine) -> Iterator[Service]:
    """Return the exporter that has to come through one fault after the other, with a log that is clean in the end."""
    tier = ("--evidence.max=sandboxes", f"--host.netns={host.netns}")
    with service(ANY_PORT, *SETTINGS, *tier, f"--docker.host={host.host}") as running:
        yield running
    clean(running)


@pytest.fixture
def scrapes(exporter: Service) -> Iterator[Scrapes]:
    """Return scrapes of that exporter, from when it sees both containers."""
    with judged(exporter) as found:
        yield found


def clean(exporter: Service) -> None:
    """See that nothing of the exporter's own failed.

    What is not its own is in no entry: CPython says so by itself where there is no memory for raising an error.
    """
    entries = [json.loads(line) for line in exporter.log if line.startswith("{")]
    assert [entry for entry in entries if entry["level"] == "error" or "traceback" in entry] == []
    assert [line for line in exporter.log if "Traceback" in line] == []


def furnish(made: Engine) -> None:
    """Start the two containers again."""
    for name in ("web", "client"):
        made.docker("start", name)


def come_and_go(made: Engine, scrapes: Scrapes) -> None:
    """See that a container still shows, and its end."""
    with scrapes.coming_to(THREE, within=SOON):
        made.run("third")
    with scrapes.coming_to(OPEN, within=SOON):
        made.docker("rm", "--force", "third")


def test_a_restart_with_other_flags(host: Engine, scrapes: Scrapes) -> None:
    """`--icc=false`, `--live-restore`: the gauges are the old ones, gone, the new ones, and never anything else."""
    with scrapes.coming_to(withdrawn, within=SOON, by=(ALONE,)):
        host.stop()
    with scrapes.coming_to(CLOSED, within=SOON):
        host.start("--icc=false")
    furnish(host)
    with scrapes.coming_to(withdrawn, within=SOON):
        host.stop()
    with scrapes.coming_to(OPEN, within=SOON, by=(ALONE,)):
        host.start("--live-restore")
        furnish(host)
    # its containers run on, and nothing is said of them; then all are there at once
    with scrapes.coming_to(withdrawn, within=SOON):
        host.stop()
    with scrapes.coming_to(OPEN, within=SOON):
        host.start("--live-restore")


def test_a_full_disk(host: Engine, scrapes: Scrapes) -> None:
    """What runs on an engine that cannot write is told, and so are its end and its return as soon as there is room."""
    room = "mount -o remount,size={} /run"
    used = int(host.on_host("sh", "-c", "df --output=used -k /run | tail -1"))
    with contextlib.ExitStack() as undo:
        undo.callback(host.on_host, "sh", "-c", room.format("50%"))
        undo.callback(host.on_host, "rm", "-f", "/run/full")
        host.on_host("sh", "-c", room.format(f"{used + 2048}k"))
        host.on_host("sh", "-c", "dd if=/dev/zero of=/run/full bs=64k 2>/dev/null || true")
        with pytest.raises(LabError, match="no space left"):
            host.run("third")
        scrapes.stay(2)
        with scrapes.coming_to(withdrawn, within=SOON):
            host.kill()
        undo.close()
        with scrapes.coming_to(OPEN, within=SOON):
            host.start("--live-restore")
    with contextlib.suppress(LabError):
        host.docker("rm", "--force", "third")


def test_a_storm_of_events(host: Engine, exporter: Service, scrapes: Scrapes) -> None:
    """Containers that start and stop as fast as the engine can, and others that are paused and go on, at once.

    Polls keep their distance, however many events there are, and what is there in the end shows in time.
    """
    names = ("storm-1", "storm-2")
    for name in names:
        host.run(name, "--network=none")
    before, begun = exporter.samples(), time.monotonic()
    threads = [threading.Thread(target=pound, args=(host, name)) for name in (*names, "web", "client")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took, after = time.monotonic() - begun, exporter.samples()
    events, polls = (total(after, name) - total(before, name) for name in ("events_total", "polls_total"))
    assert events >= 50
    # 0.25 s apart by events, and one a second by the clock
    assert polls <= 5 * took + 3
    come_and_go(host, scrapes)
    host.docker("rm", "--force", *names)


def pound(made: Engine, name: str) -> None:
    """Let a container off the networks start and stop, another be paused and go on: none of it changes a pair."""
    actions = ("kill", "start") if name.startswith("storm") else ("pause", "unpause")
    ends = time.monotonic() + 3
    while time.monotonic() < ends:
        for action in actions:
            # a signal may be on its way when the next comes
            with contextlib.suppress(LabError):
                post(made.socket, f"/containers/{name}/{action}")


def total(samples: dict[str, float], name: str) -> float:
    """Return the sum of a counter's series."""
    return sum(value for series, value in samples.items() if series.startswith(f"docker_icc_exporter_{name}"))


@pytest.mark.skipif(LIBFAKETIME is None, reason="needs Debian's package faketime")
def test_the_clock_is_set(host: Engine, tmp_path: Path) -> None:
    """An hour back, a year forward and twenty years back: polls go on, and so does what they show."""
    clock = tmp_path / "clock"
    clock.write_text("+0")
    faked = {
        "LD_PRELOAD": str(LIBFAKETIME),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    with watched(host, extra=faked) as (exporter, scrapes):
        for shift in ("-1h", "+365d", "-20y"):
            clock.write_text(shift)
            before = total(exporter.samples(), "polls_total")
            exporter.seconds_until(lambda samples, before=before: total(samples, "polls_total") >= before + 2, SOON)  # type: ignore[misc]
            assert exporter.get("/-/ready")
        come_and_go(host, scrapes)


def test_a_proxy_that_cuts_answers(host: Engine, tmp_path: Path) -> None:
    """Wherever an answer is cut, half of it is not believed; when answers are whole again, so are the gauges."""
    with contextlib.ExitStack() as stack:
        proxy = stack.enter_context(EngineProxy(tmp_path / "proxy.sock", host.socket))
        _, scrapes = stack.enter_context(watched(host, f"--docker.host={proxy.url}"))
        # nothing, in a head, in /version, in /info
        for size in (0, 60, 600, 2500):
            with scrapes.coming_to(withdrawn, within=SOON):
                proxy.cut_after(size)
            with scrapes.coming_to(OPEN, within=SOON):
                proxy.cut_after(None)
        # in the documents of one look or another
        with scrapes.coming_to(OPEN, withdrawn, within=SOON):
            for size in (4500, 6000, 9000):
                proxy.cut_after(size)
                time.sleep(1.5)
        with scrapes.coming_to(OPEN, within=SOON):
            proxy.cut_after(None)


def test_permission_for_the_socket_is_lost(host: Engine) -> None:
    """A user who may not open the socket any more is told so when the connection is gone, and it is all back after."""
    # wherever the program lies, it may be read; to connect to a socket is to write
    reads_all = ("--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search")
    nobody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *reads_all)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.chmod(0o755)
        proxy = stack.enter_context(EngineProxy(folder / "proxy.sock", host.socket))
        (folder / "proxy.sock").chmod(0o666)
        exporter, scrapes = stack.enter_context(watched(host, f"--docker.host={proxy.url}", under=nobody))
        with scrapes.coming_to(withdrawn, within=SOON):
            (folder / "proxy.sock").chmod(0o600)
            proxy.cut_after(None)
        scrapes.stay(1.5)
        assert "Permission denied" in exporter.get("/")
        with scrapes.coming_to(OPEN, within=SOON):
            (folder / "proxy.sock").chmod(0o666)


def limit(exporter: Service, kind: int, soft: int) -> None:
    """Let a running exporter have less than before."""
    _, hard = resource.prlimit(exporter.process.pid, kind)
    resource.prlimit(exporter.process.pid, kind, (soft, hard))


def highest_descriptor(exporter: Service) -> int:
    """Return the highest descriptor that is open, a moment later than before."""
    time.sleep(0.03)
    return max(int(entry.name) for entry in Path(f"/proc/{exporter.process.pid}/fd").iterdir())


def test_descriptors_run_short(host: Engine, exporter: Service, scrapes: Scrapes) -> None:
    """The kernel cannot be read without descriptors, and that is told; what the API tells stays; all is back after.

    Scrapes are answered as long as there are descriptors for them: clients that are idle have to give theirs.
    """
    soft, _ = resource.prlimit(exporter.process.pid, resource.RLIMIT_NOFILE)
    exporter.seconds_until(lambda samples: samples.get(FIREWALL) == 1, SOON)
    with scrapes.some_refused(), contextlib.ExitStack() as clients:
        clients.callback(limit, exporter, resource.RLIMIT_NOFILE, soft)
        # for longer than a look may take, so that what is open between two looks is seen
        limit(exporter, resource.RLIMIT_NOFILE, min(highest_descriptor(exporter) for _ in range(80)) + 4)
        address, _, port = exporter.address.rpartition(":")

        def come() -> None:
            clients.enter_context(socket.create_connection((address, int(port)), timeout=5))

        for _ in range(60):
            come()

        def crowded_out() -> bool:
            # those who had to give way to a scrape, or were idle for too long, left descriptors
            come()
            return scrapes.seen.get(FIREWALL) == 0

        assert wait_until(crowded_out, SOON, interval=0.1)
        scrapes.stay(1.5)
    exporter.seconds_until(lambda samples: samples.get(FIREWALL) == 1, SOON)
    come_and_go(host, scrapes)


def test_memory_runs_short(host: Engine, exporter: Service, scrapes: Scrapes) -> None:
    """Without memory for a thread there may be no polls, but never an old gauge: what was not seen anew goes."""
    status = Path(f"/proc/{exporter.process.pid}/status").read_text()
    size = int(re.findall(r"VmSize:\s+(\d+)", status)[0]) << 10
    with scrapes.coming_to(withdrawn, THREE, within=SOON):
        limit(exporter, resource.RLIMIT_AS, size)
        host.run("third")
    scrapes.stay(2)
    with scrapes.coming_to(THREE, within=SOON, by=(withdrawn,)):
        limit(exporter, resource.RLIMIT_AS, resource.RLIM_INFINITY)
    exporter.seconds_until(lambda samples: samples.get(FIREWALL) == 1, SOON)
    with scrapes.coming_to(OPEN, within=SOON):
        host.docker("rm", "--force", "third")
