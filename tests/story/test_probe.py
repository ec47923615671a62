"""Verdicts put to the test by packets, on real engines: as a command, and by the daemon after each poll."""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from exporter.evaluate import evaluate
from exporter.evaluate.probes import Planner
from exporter.model.explanation import Question
from exporter.model.probe import ProbeResult
from exporter.model.reach import Protocol
from exporter.observe.host import EngineHost
from exporter.observe.observer import Observer, open_observer
from exporter.observe.probe import Prober
from exporter.observe.tier import Tier
from exporter.parse import parse
from exporter.runtime.probing import put_to_the_test
from tests.cli.program import COMMAND, environment, run
from tests.cli.service import ANY_PORT, service
from tests.lab import VERSIONS, Engine, engine
from tests.lab.hostns import ADDRESS_V6
from tests.lab.system import run as command

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from exporter.model.probe import Probed
    from exporter.model.report import Report

pytestmark = pytest.mark.lab

DUAL_STACK = ("--ipv6", "--subnet=fd00:a::/64", "--subnet=10.100.1.0/24")


@pytest.fixture(scope="module", params=VERSIONS)
def host(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """Return a furnished engine of each version."""
    with engine(request.param, "--icc=false") as made:
        furnish(made)
        yield made


@pytest.fixture(scope="module")
def newest() -> Iterator[Engine]:
    """Return a furnished engine for what does not depend on its version."""
    with engine(VERSIONS[-1], "--icc=false") as made:
        furnish(made)
        yield made


def furnish(made: Engine) -> None:
    """Add to a closed default bridge an open dual-stack network, published ports and a container in host mode."""
    made.docker("network", "create", *DUAL_STACK, "open")
    made.docker("network", "create", "--driver=macvlan", "--subnet=10.100.3.0/24", "--opt=parent=eth10", "mac")
    made.run("web", "--publish=8080:80", "--publish=5353:53/udp", command=("httpd", "-f", "-p", "80", "-h", "/tmp"))
    made.run("client")
    made.run("left", "--network=open")
    made.run("right", "--network=open")
    made.run("hosted", "--network=host")
    made.run("far", "--network=mac")


def settings(host: Engine) -> tuple[str, ...]:
    """Return the options that every look at the engine needs."""
    return f"--docker.host={host.host}", "--evidence.max=sandboxes", f"--host.netns={host.netns}"


def probe(host: Engine, *arguments: str) -> tuple[int, list[dict[str, Any]]]:
    """Return the exit code of the command and its probes."""
    done = run("probe", *settings(host), "--format=json", *arguments)
    assert done.stderr == ""
    return done.returncode, json.loads(done.stdout)["probes"]


def told(probes: list[dict[str, Any]]) -> set[tuple[str, str, str]]:
    """Return protocol and IP version, verdict and result of each probe."""
    return {
        (f"{each['packet']['protocol']}{6 if ':' in each['packet']['address'] else 4}", each["verdict"], each["result"])
        for each in probes
    }


# --- On a host that nobody touched ---


@pytest.mark.parametrize(
    ("source", "destination", "expected"),
    [
        ("left", "right", {(f"{protocol}{v}", "reachable", "agreed") for protocol in ("tcp", "udp") for v in (4, 6)}),
        ("client", "web", {(f"{p}4", v, "agreed") for p in ("tcp", "udp") for v in ("reachable", "blocked")}),
        ("web", "client", {("tcp4", "blocked", "agreed"), ("udp4", "blocked", "agreed")}),
        ("hosted", "left", {(f"{p}{v}", "reachable", "agreed") for p in ("tcp", "udp") for v in (4, 6)}),
    ],
)
def test_packets_agree(host: Engine, source: str, destination: str, expected: set[tuple[str, str, str]]) -> None:
    """Open ways by TCP and UDP, IPv4 and IPv6, through docker-proxy and from the host; closed ones by icc=false."""
    code, probes = probe(host, source, destination)
    assert code == 0
    assert expected <= told(probes)
    assert {each["result"] for each in probes} == {"agreed"}


def test_a_datagram_that_changes_its_version_of_ip_is_seen(host: Engine) -> None:
    """What comes to a published port by IPv6 is passed on by docker-proxy to a container that has IPv4 alone."""
    narrowed = ("--protocol=udp", "--port=5353", f"--address={ADDRESS_V6}")
    for source in ("hosted", "right"):
        code, (probed,) = probe(host, source, "web", *narrowed)
        assert (code, probed["verdict"], probed["result"], probed["arrived"]) == (0, "reachable", "agreed", True)
        assert probed["relay"]["port"] == 53


def test_a_sample_of_the_host_agrees(host: Engine) -> None:
    """Fifty verdicts drawn by lot hold, and some of each kind are among them."""
    with closing(observer(host)) as looking:
        probed = put(host, looking, lambda planner: planner.sample(50))
    assert {each.result for each in probed} == {ProbeResult.AGREED}
    assert len(probed) == 50
    assert {(each.probe.packet.protocol, each.verdict) for each in probed} == {
        (protocol, verdict) for protocol in (Protocol.TCP, Protocol.UDP) for verdict in ("reachable", "blocked")
    }


def transmitted(host: Engine, card: str) -> int:
    """Return how many packets a card of the host has sent."""
    shown = json.loads(command(["ip", "-n", host.netns.name, "-json", "-statistics", "link", "show", card]))
    return int(shown[0]["stats64"]["tx"]["packets"])


def test_what_might_leave_the_host_is_not_sent(host: Engine) -> None:
    """To a macvlan network, a bridge's container has no way but the host's card: nothing is sent or decided."""
    sent = transmitted(host, "eth0")
    code, probes = probe(host, "client", "far")
    assert code == 2
    assert transmitted(host, "eth0") == sent
    assert {each["outcome"] for each in probes} == {"not sent: it might leave the host: host sends it by eth0"}


# --- Programs in containers ---

COUNTING = """
import select, socket, sys
tcp = socket.create_server(("0.0.0.0", 7777)); udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind(("0.0.0.0", 7777)); print("ready", flush=True); accepted = datagrams = 0
while True:
    for ready in select.select([tcp, udp, sys.stdin], [], [])[0]:
        if ready is tcp: tcp.accept(); accepted += 1
        elif ready is udp: udp.recv(99); datagrams += 1
        else: print(accepted, datagrams, flush=True); sys.exit()
"""


@contextmanager
def counting(host: Engine, name: str) -> Iterator[Callable[[], str]]:
    """Have a program listen in a container's sandbox; give what tells how many connections and datagrams it got."""
    inside = ["nsenter", f"--net=/proc/{host.pid_of(name)}/ns/net", sys.executable, "-c", COUNTING]
    with subprocess.Popen(inside, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        reading = process.stdout
        writing = process.stdin

        def got() -> str:
            writing.close()
            return reading.readline().strip()

        yield got


def test_programs_get_no_connection_and_no_datagram(newest: Engine) -> None:
    """A port in use is probed by TCP, and the program that holds it never hears of it; by UDP it is not probed."""
    with counting(newest, "right") as got:
        code, probes = probe(newest, "left", "right", "--port=7777", "--address=10.100.1.3")
        assert [(each["packet"]["protocol"], each["result"]) for each in probes] == [
            ("tcp", "agreed"),
            ("udp", "undecided"),
        ]
        assert probes[1]["outcome"] == "not sent: a program that listens there would be given the datagram"
        assert code == 0
        assert got() == "0 0"


def test_a_published_port_in_use_is_probed_without_its_program(host: Engine) -> None:
    """docker-proxy is not given a connection either: its part is played by a packet from the host."""
    code, probes = probe(host, "client", "web", "--protocol=tcp", "--port=8080")
    assert code == 0
    assert "arrives through docker-proxy and is answered" in {each["outcome"] for each in probes}


def test_a_datagram_is_withheld_in_the_last_moment(newest: Engine) -> None:
    """A program that began to listen after the look is found out in the sandbox itself, right before the packet."""
    with closing(observer(newest)) as looking:
        planner, seen, report = planned(looking)
        containers = {each.name: each for each in report.containers}
        asked = Question(Protocol.UDP, 7777)
        probes = planner.about(containers["left"], containers["right"], asked)
        with counting(newest, "right") as got:
            probed = put_to_the_test(probes, planner.ground, Prober(newest.netns), (seen, report), lambda: report)
            assert got() == "0 0"
    assert {each.result for each in probed} == {ProbeResult.UNDECIDED}
    assert {each.reason for each in probed} == {"a program that listens there would be given the datagram"}


# --- Disagreements ---


def observer(host: Engine) -> Observer:
    """Return what looks at the engine with all evidence."""
    return open_observer(EngineHost(host.host), 10.0, Tier.SANDBOXES, host.netns)


def planned(looking: Observer) -> tuple[Planner, Any, Report]:
    """Look, and return who plans probes of what was seen."""
    seen = parse(looking.observe())
    report = evaluate(seen)
    assert seen.kernel is not None
    return Planner(seen, seen.kernel, report, random.Random(7)), seen, report


def put(host: Engine, looking: Observer, choose: Callable[[Planner], Any]) -> list[Probed]:
    """Look, probe, and look again."""
    planner, seen, report = planned(looking)
    return put_to_the_test(
        choose(planner), planner.ground, Prober(host.netns), (seen, report),
        lambda: evaluate(parse(looking.observe())),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("pair", "verdict", "rule"),
    [
        (("left", "right"), "reachable", "-s 10.100.1.0/24 -d 10.100.1.0/24 -j DROP"),
        (("client", "web"), "blocked", "-i docker0 -o docker0 -j ACCEPT"),
    ],
)
def test_a_rule_behind_the_report_s_back_is_a_disagreement(
    newest: Engine, pair: tuple[str, str], verdict: str, rule: str
) -> None:
    """A report from before somebody added a rule is contradicted by packets, in both directions."""
    with closing(observer(newest)) as looking:
        planner, seen, report = planned(looking)
        containers = {each.name: each for each in report.containers}
        source, destination = (containers[name] for name in pair)
        address = next(each for each in planner.ground.addresses[destination.sandbox] if ":" not in each)
        probes = [each for each in planner.about(source, destination, Question()) if each.packet.address == address]
        assert len(probes) == 2
        newest.on_host("sh", "-ec", f"iptables -I FORWARD {rule}")
        try:
            stale = put_to_the_test(probes, planner.ground, Prober(newest.netns), (seen, report), lambda: report)
            fresh = put_to_the_test(
                probes, planner.ground, Prober(newest.netns), (seen, report),
                lambda: evaluate(parse(looking.observe())),
            )  # fmt: skip
        finally:
            newest.on_host("sh", "-ec", f"iptables -D FORWARD {rule}")
    assert [(each.verdict, each.result) for each in stale] == [(verdict, ProbeResult.DISAGREED)] * 2
    assert {each.result for each in fresh} == {ProbeResult.UNDECIDED}
    assert all("the verdict changed meanwhile" in each.reason for each in fresh)


@contextmanager
def full_queue(made: Engine, container: str) -> Iterator[None]:
    """Have a container's card drop all that it should send: queues are no evidence that anybody reads."""
    queue = ["nsenter", f"--net=/proc/{made.pid_of(container)}/ns/net", "tc", "qdisc"]
    command([*queue, "add", "dev", "eth0", "root", "pfifo", "limit", "0"])
    try:
        yield
    finally:
        command([*queue, "delete", "dev", "eth0", "root"])


def test_what_no_evidence_shows_is_found_by_packets(newest: Engine) -> None:
    """The command says that a packet disagrees, and exits 1."""
    with full_queue(newest, "left"):
        done = run("probe", *settings(newest), "left", "right", "--address=10.100.1.3", "--protocol=tcp")
    assert done.returncode == 1
    first, second = done.stdout.splitlines()
    assert first == "left -> right: reachable"
    assert second.startswith("  disagreed  10.100.1.3:")
    assert second.endswith("/tcp: reachable; does not arrive")


# --- What is missing ---


@pytest.mark.parametrize(
    ("capability", "complaint"),
    [("net_raw", "CAP_NET_RAW"), ("sys_admin", "CAP_SYS_ADMIN"), ("net_admin", "CAP_NET_ADMIN")],
)
def test_a_missing_capability_is_named(newest: Engine, capability: str, complaint: str) -> None:
    """Without what probing needs, the exit code is 2 and the output names the capability."""
    limited = ["setpriv", f"--bounding-set=-{capability}", "--inh-caps=-all", *COMMAND]
    arguments = ["probe", *settings(newest), "left", "right"]
    done = subprocess.run([*limited, *arguments], capture_output=True, text=True, check=False, env=environment())
    assert done.returncode == 2
    assert complaint in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


# --- The daemon ---


def counts(samples: dict[str, float]) -> dict[str, float]:
    """Return the probes by result."""
    name = 'docker_icc_exporter_probes_total{result="'
    return {series[len(name) : -2]: value for series, value in samples.items() if series.startswith(name)}


def test_the_daemon_probes_after_each_poll(host: Engine) -> None:
    """Agreements grow with each poll, nothing disagrees, the page tells of it, and SIGTERM waits for no round."""
    with service(ANY_PORT, "--poll.interval=2s", "--probe.sample=12", *settings(host)) as exporter:
        exporter.seconds_until(lambda samples: counts(samples).get("agreed", 0) >= 12, timeout=30)
        exporter.seconds_until(lambda samples: counts(samples).get("agreed", 0) >= 30, timeout=30)
        samples = exporter.samples()
        found = counts(samples)
        if found["disagreed"]:
            pytest.fail(str(exporter.logged("a packet disagrees with a verdict")))
        # a round that a busy machine cuts short leaves some undecided
        assert (found["disagreed"], found["failed"]) == (0, 0)
        assert samples["docker_icc_exporter_probe_disagreements"] == 0
        assert re.search(r"Put to the test by packets: \d+ agreed, 0 disagreed", exporter.get("/"))
        assert samples["docker_icc_up"] == 1


def test_the_daemon_tells_of_a_disagreement(newest: Engine) -> None:
    """It is counted, logged with pair, packet and verdict, and shown on the page; the gauge tells when it is over."""
    gauge = "docker_icc_exporter_probe_disagreements"
    with service(ANY_PORT, "--poll.interval=1s", "--probe.sample=40", *settings(newest)) as exporter:
        with full_queue(newest, "left"):
            exporter.seconds_until(lambda samples: samples.get(gauge, 0) > 0, 60)
            told = exporter.logged("a packet disagrees with a verdict")
            # packets of left go nowhere, nor do its answers
            assert "left" in (told["source"], told["destination"])
            assert told["verdict"] == "reachable"
            assert f"{told['source']} → {told['destination']}, " in exporter.get("/")
        exporter.seconds_until(lambda samples: samples[gauge] == 0, 60)
        assert counts(exporter.samples())["disagreed"] > 0
