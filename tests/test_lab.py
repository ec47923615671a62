"""The lab itself: what the other tests take for granted about it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.lab import (
    HOST,
    VERSIONS,
    Container,
    Engine,
    LabError,
    Network,
    Topology,
    arrivals,
    build,
    connects,
    engine,
    local_addresses,
    measure,
    ports_in_use,
    reap,
    start_engine,
)
from tests.lab.registry import NAMED_NAMESPACES, PREFIX, STATE, Plot, cgroup_roots, locked, processes, reap_alone
from tests.lab.room import BUCKETS, LIMITS, room_for_many
from tests.lab.system import ProcessIdentity

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent

pytestmark = pytest.mark.lab


@pytest.fixture(autouse=True)
def _root() -> None:
    """Without root there is no lab; where the whole suite is meant to run, that is a failure."""
    if os.geteuid() != 0:
        if os.environ.get("CI") == "true":
            pytest.fail("the lab needs root, and CI=true forbids to leave it out")
        pytest.skip("THE LAB WAS NOT RUN: it needs root to start engines")


@pytest.fixture(scope="module", params=VERSIONS)
def opened(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """Return an engine with two containers on its default bridge; the second publishes a port."""
    with engine(request.param) as made:
        made.run("one")
        made.run("two", "--publish=20080:80")
        yield made


def address_of(made: Engine, container: str) -> str:
    """Return a container's address on the default bridge."""
    return str(made.api(f"/containers/{container}/json")["NetworkSettings"]["Networks"]["bridge"]["IPAddress"])


def kinds(made: Engine, source: str, destination: str) -> set[tuple[str, int]]:
    """Return protocols and ports that arrive from one container at another's own address."""
    seen = measure(made, [address_of(made, destination)], [80])
    return {(arrival.protocol, arrival.port) for arrival in seen.between(source, destination)}


def test_an_engine_reports_its_version(opened: Engine) -> None:
    """The engine that answers is the one asked for."""
    assert opened.api("/version")["Version"].startswith(opened.version)


def test_an_engine_has_a_host_of_its_own(opened: Engine) -> None:
    """Neither the namespace nor its interfaces are the machine's."""
    assert opened.sandbox_inode() != Path("/proc/self/ns/net").stat().st_ino
    assert "docker0" in opened.on_host("ls", "/sys/class/net").split()
    assert not Path("/sys/class/net/docker0").exists()


def test_containers_on_the_default_bridge_reach_each_other(opened: Engine) -> None:
    """TCP, UDP and ICMP echo all arrive."""
    assert kinds(opened, "one", "two") == {("tcp", 80), ("udp", 80), ("icmp", 0)}
    assert kinds(opened, "two", "one") == {("tcp", 80), ("udp", 80), ("icmp", 0)}


def test_a_relayed_connection_arrives_where_it_is_relayed_to(opened: Engine) -> None:
    """A published port on the bridge's gateway leads through docker-proxy into the container."""
    assert connects(opened, "one", "172.17.0.1", 20080) == "two"


def test_a_free_port_of_the_host_leads_to_the_host(opened: Engine) -> None:
    """What no container publishes arrives in the host's own namespace."""
    assert connects(opened, "one", "172.17.0.1", 20081) == HOST


def test_a_sandbox_reaches_itself(opened: Engine) -> None:
    """A source's own address is an arrival like any other."""
    assert connects(opened, "one", "127.0.0.1", 80) == "one"


def test_a_source_port_can_be_chosen(opened: Engine) -> None:
    """Rules that look at the source port can be told apart."""
    rule = ["-p", "tcp", "--sport", "7000", "-j", "DROP"]
    opened.on_host("iptables", "-I", "FORWARD", *rule)
    try:
        assert connects(opened, "one", address_of(opened, "two"), 80, source_port=7000) is None
        assert connects(opened, "one", address_of(opened, "two"), 80, source_port=7001) == "two"
    finally:
        opened.on_host("iptables", "-D", "FORWARD", *rule)


def test_measurements_repeat(opened: Engine) -> None:
    """Two measurements of an unchanged engine see the same."""
    addresses, ports = local_addresses(opened), ports_in_use(opened, 80, 7777)
    assert arrivals(opened, addresses, ports) == arrivals(opened, addresses, ports)


@pytest.mark.parametrize("version", VERSIONS)
def test_icc_false_blocks_what_it_promises(version: str) -> None:
    """With --icc=false nothing arrives at a neighbour's address, and all does from the host."""
    with engine(version, "--icc=false") as made:
        made.run("one")
        made.run("two")
        assert kinds(made, "one", "two") == set()
        assert kinds(made, HOST, "two") == {("tcp", 80), ("udp", 80), ("icmp", 0)}


@pytest.mark.parametrize("version", VERSIONS)
def test_live_restore_keeps_containers_over_a_restart(version: str) -> None:
    """A restart with --live-restore leaves the sandbox in place; one without ends the container."""
    with engine(version, "--live-restore") as made:
        made.run("one")
        inode, pid = made.sandbox_inode("one"), made.pid
        made.restart("--live-restore")
        assert made.pid != pid
        assert made.sandbox_inode("one") == inode
        made.kill(signal.SIGKILL)
        made.restart()
        made.restart()
        assert made.api("/containers/one/json")["State"]["Running"] is False


@pytest.mark.parametrize("version", VERSIONS)
def test_a_topology_is_built_as_described(version: str) -> None:
    """Networks, shared sandboxes, links, later attachments and host commands all come to be."""
    topology = Topology(
        seed=7,
        args=("--icc=false",),
        networks=(Network("net0", options={"com.docker.network.bridge.enable_icc": "false"}), Network("net1")),
        containers=(
            Container("c0x", flags=("--expose", "80")),
            Container("c1x", flags=("--link", "c0x")),
            Container("c2x", "net0", also=("net1",)),
            Container("c3x", "container:c2x"),
            Container("c4x", "net1"),
            Container("c5x", "host"),
        ),
        host=("iptables -I INPUT -p tcp --dport 7777 -j DROP",),
    )
    assert Topology.from_json(json.loads(json.dumps(topology.to_json()))) == topology
    with engine(version, *topology.args) as made:
        ids = build(made, topology)
        seen = measure(made, local_addresses(made), [80, 7777])
        assert set(ids) == {"net0", "net1", "c0x", "c1x", "c2x", "c3x", "c4x", "c5x"}
        assert seen.boxes["c2x"] == seen.boxes["c3x"] == made.sandbox_inode("c2x")
        assert seen.boxes["c5x"] == made.sandbox_inode()
        linked = {(arrival.protocol, arrival.port) for arrival in seen.between("c1x", "c0x")}
        assert linked == {("tcp", 80)}
        assert not seen.between("c0x", "c1x")
        assert seen.between("c3x", "c4x")
        at_host = {(arrival.protocol, arrival.port) for arrival in seen.between("c4x", "c5x")}
        assert at_host == {("tcp", 80), ("udp", 80), ("udp", 7777), ("icmp", 0)}


CRASHING = """
import sys, time
from tests.lab import start_engine
made = start_engine(sys.argv[1], "--live-restore")
made.run("one", "--publish=20080:80")
made.run("two")
made.docker("pause", "two")
print(made.plot.name, flush=True)
time.sleep(600)
"""


CRASHING_HOST = """
import sys, time
from tests.lab.booted import booted
with booted(sys.argv[1]) as host:
    host.start_container("one", "--publish=20080:80")
    print(host.plot.name, flush=True)
    time.sleep(600)
"""


def start_run(version: str, script: str = CRASHING) -> tuple[subprocess.Popen[str], Plot]:
    """Start another process that owns an engine with a container."""
    command = [sys.executable, "-c", script, version]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process.stdout:
        return process, Plot(process.stdout.readline().strip())


def remains(plot: Plot, pids: frozenset[int]) -> list[str]:
    """List whatever is left of an engine."""
    found = [str(pid) for pid in pids if ProcessIdentity.of(pid)]
    found += [str(path) for path in NAMED_NAMESPACES.glob(f"{plot.name}*")]
    found += [str(path) for root in cgroup_roots() for path in root.glob(f"{plot.name}*")]
    found += [str(path) for path in STATE.glob(f"*{plot.name}*")]
    mounts = Path("/proc/self/mounts").read_text()
    return found + [line for line in mounts.splitlines() if plot.name in line]


def mounts_of_nobody() -> list[str]:
    """Return the machine's mounts but those of plots, for other runs come and go as they like."""
    return [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if PREFIX not in line]


def own_plots() -> set[Path]:
    """Return the state folders of this process: other runs come and go as they like."""
    own = ProcessIdentity.own()
    return {path for path in STATE.glob(f"{PREFIX}*") if Plot(path.name).owner() == own}


@pytest.mark.parametrize("version", VERSIONS)
def test_nothing_is_left_of_a_killed_run(version: str) -> None:
    """After SIGKILL the next run removes processes, namespaces, cgroups and folders, and works."""
    process, plot = start_run(version)
    pids = processes(plot)
    assert len(pids) >= 6  # anchor, dockerd, containerd, shim, docker-proxy, container
    with locked():  # else whoever starts an engine at that moment is the next run
        process.kill()
        process.wait()
        assert plot.name in reap_alone()
    assert remains(plot, pids) == []
    with engine(version) as made:
        made.run("one")
        assert connects(made, "one", address_of(made, "one"), 80) == "one"


def test_nothing_is_left_of_a_host_that_systemd_booted() -> None:
    """Systemd makes processes, mounts and cgroups of its own; they are the plot's as well."""
    before = mounts_of_nobody()
    process, plot = start_run(VERSIONS[-1], CRASHING_HOST)
    pids = processes(plot)
    assert len(pids) >= 8  # anchor, systemd, journald, dockerd, containerd, shim, docker-proxy, container
    with locked():
        process.kill()
        process.wait()
        assert plot.name in reap_alone()
    assert remains(plot, pids) == []
    assert mounts_of_nobody() == before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_run_that_is_asked_to_end_cleans_up_itself(number: signal.Signals) -> None:
    """SIGTERM and SIGINT leave nothing for the next run to remove."""
    process, plot = start_run(VERSIONS[0])
    pids = processes(plot)
    process.send_signal(number)
    process.wait(30)
    assert remains(plot, pids) == []


def test_a_living_run_is_left_alone(opened: Engine) -> None:
    """The reaper does not touch what belongs to a living owner."""
    process, plot = start_run(opened.version)
    try:
        assert plot.name not in reap()
        assert opened.answers()
        assert processes(plot)
    finally:
        process.terminate()
        process.wait(30)


def test_an_engine_that_cannot_start_leaves_nothing(tmp_path: Path) -> None:
    """A refused daemon argument is an error that shows the log, and everything is removed."""
    before = own_plots()
    with pytest.raises(LabError, match="did not start"):
        start_engine(VERSIONS[0], f"--config-file={tmp_path}/nowhere.json")
    assert own_plots() == before


def test_room_for_many_is_made_and_given_back(tmp_path: Path) -> None:
    """Sizes that suit already are left alone, and so is a machine that has none for a family."""
    folders = tmp_path / "ipv6/neigh/default", tmp_path / "netfilter"
    found = {"gc_thresh1": "128", "gc_thresh2": "512", "gc_thresh3": "99999"}, {"nf_conntrack_buckets": "262144"}
    for folder, switches in zip(folders, found, strict=True):
        folder.mkdir(parents=True)
        for name, value in switches.items():
            (folder / name).write_text(value)
    with room_for_many(tmp_path):
        assert [read(folder) for folder in folders] == [
            {**found[0], "gc_thresh2": str(LIMITS["gc_thresh2"])},
            {"nf_conntrack_buckets": str(BUCKETS)},
        ]
        with room_for_many(tmp_path):
            assert read(folders[1]) == {"nf_conntrack_buckets": str(BUCKETS)}
        assert read(folders[1]) == {"nf_conntrack_buckets": str(BUCKETS)}
    assert [read(folder) for folder in folders] == [*found]


def read(folder: Path) -> dict[str, str]:
    """Return the files of a folder with what they say."""
    return {path.name: path.read_text() for path in folder.iterdir()}
