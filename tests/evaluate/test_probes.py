"""Which packets put verdicts to the test, where they may never go, and what follows from what becomes of them."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING

import pytest

from exporter.evaluate.probes import Planner, expected, judge, lacking
from exporter.model.explanation import Packet, Question
from exporter.model.namespace import Hop, Interface, Listener, Route, RouteKind
from exporter.model.probe import Probe, ProbeResult, Sight
from exporter.model.reach import HOST, Protocol, Verdict
from exporter.model.report import Evidence
from tests.builders import container, report
from tests.hosts import Host, host
from tests.kernels import kernel, own_address

if TYPE_CHECKING:
    from exporter.model.report import Report
    from exporter.model.snapshot import Kernel
    from tests.looks import Look

TCP, UDP = Protocol.TCP, Protocol.UDP


def town() -> Look:
    """Return a host with an open and a closed network, a published port, and a container in host mode."""
    built = host("28.5", icc=False).network("open").network("other")
    built.container("web", publish=["8080:80", "5353:53/udp"]).container("client")
    built.container("left", "open").container("right", "open").container("far", "other").container("hosted", "host")
    return kernel(built).engine_rules().look()


def kernel_of(seen: Look) -> Kernel:
    """Return the kernel of a look, which has one."""
    assert seen.snapshot.kernel is not None
    return seen.snapshot.kernel


def planner(seen: Look, seed: int = 1) -> Planner:
    """Return a planner whose chance is known."""
    return Planner(seen.snapshot, kernel_of(seen), seen.report, random.Random(seed))


def asked(seen: Look, source: str, destination: str, **question: object) -> list[Probe]:
    """Return the probes of a question."""
    containers = seen.containers
    return planner(seen).about(containers[source], containers[destination], Question(**question))  # type: ignore[arg-type]


def with_program(seen: Look, name: str, protocol: Protocol, port: int) -> Look:
    """Return the look with a program that listens in a container."""
    found = kernel_of(seen)
    sandbox = seen.containers[name].sandbox
    listener = Listener(protocol, ip_address("0.0.0.0"), port)
    inside = replace(found.sandboxes[sandbox], listeners=(listener,))
    changed = replace(found, sandboxes={**found.sandboxes, sandbox: inside})
    return replace(seen, snapshot=replace(seen.snapshot, kernel=changed))


# --- Where packets go ---


@pytest.mark.parametrize("seed", range(5))
def test_samples_stay_among_the_sandboxes(seed: int) -> None:
    """Every address of a sample is one that the destination's sandbox or the host has now."""
    seen = town()
    plan = planner(seen, seed)
    found = plan.sample(50)
    namespaces = {HOST: kernel_of(seen).host, **kernel_of(seen).sandboxes}
    own = {
        name: {str(each.ip) for interface in namespace.interfaces.values() for each in interface.addresses}
        for name, namespace in namespaces.items()
    }
    assert found
    for probe in found:
        assert plan.ground.holds(probe)
        assert probe.packet.address in own[probe.destination.sandbox] | own[HOST]


def test_what_several_share_gets_no_tcp() -> None:
    """The kernel takes no TCP at an anycast address, not even from itself: that nothing comes of it is no news."""
    seen = kernel(_two_on_ipv6()).engine_rules().look()
    plan = planner(seen)
    shared = plan.ground.shared[HOST]
    sent = {(probe.packet.protocol, probe.packet.address in shared) for probe in plan.sample(200)}
    assert shared
    assert sent == {(TCP, False), (UDP, False), (UDP, True)}


def _two_on_ipv6() -> Host:
    built = host("28.5").network("six", ipv6=True)
    return built.container("left", "six").container("right", "six").container("hosted", "host")


def test_loopback_is_for_the_same_namespace_and_the_host_alone() -> None:
    """A loopback address means another namespace to everybody else, so such a probe stays off the ground."""
    seen = town()
    ground, containers = planner(seen).ground, seen.containers
    packet = Packet(TCP, "127.0.0.1", 8080)
    assert ground.holds(Probe(containers["hosted"], containers["web"], packet))
    assert ground.holds(Probe(containers["web"], containers["web"], packet))
    assert not ground.holds(Probe(containers["client"], containers["web"], packet))


@pytest.mark.parametrize(
    "address", ["192.0.2.1", "8.8.8.8", "172.17.0.99", "2001:db8::1", "224.0.0.1", "172.17.255.255"]
)
def test_an_address_of_nobody_is_refused(address: str) -> None:
    """Addresses outside, unused ones, multicast and broadcast are not probed, whoever asks."""
    seen = town()
    assert asked(seen, "client", "web", address=ip_address(address)) == []
    probe = Probe(seen.containers["client"], seen.containers["web"], Packet(TCP, address, 80))
    assert not planner(seen).ground.holds(probe)


def test_another_container_s_address_is_refused() -> None:
    """A probe of a pair goes to an address of its destination or of the host, never to a third container."""
    seen = town()
    assert asked(seen, "client", "web", address=ip_address(seen.ip("left", "open"))) == []


def test_a_relay_leads_to_the_destination_or_is_refused() -> None:
    """The second packet of a relayed connection is held to the same ground."""
    seen = town()
    packet = Packet(TCP, seen.gateway(), 8080)
    probe = Probe(seen.containers["client"], seen.containers["web"], packet, Packet(TCP, "192.0.2.1", 80))
    assert not planner(seen).ground.holds(probe)


def test_what_might_leave_the_host_is_withheld() -> None:
    """A packet that the host would send on by a card is not sent, though its address is a container's."""
    seen = town()
    found, far, address = kernel_of(seen), seen.containers["far"].sandbox, own_address("203.0.113.5/32")
    card = Interface(99, "eth0", "", "", up=True, addresses=(own_address("198.51.100.10/24"),))
    default = Route(254, RouteKind.UNICAST, ip_network("0.0.0.0/0"), (Hop(99, ip_address("198.51.100.1")),))
    outside = replace(found.host, interfaces={**found.host.interfaces, 99: card}, routes=(*found.host.routes, default))
    extra = Interface(98, "extra", "", "", up=True, addresses=(address,))
    inside = replace(found.sandboxes[far], interfaces={**found.sandboxes[far].interfaces, 98: extra})
    changed = replace(found, host=outside, sandboxes={**found.sandboxes, far: inside})
    seen = replace(seen, snapshot=replace(seen.snapshot, kernel=changed))
    tcp, udp = asked(seen, "client", "far", address=address.ip)
    assert tcp.withheld == udp.withheld == "it might leave the host: host sends it by eth0"
    assert address.ip not in {ip_address(probe.packet.address) for probe in planner(seen).sample(50)}


# --- What is asked about ---


def test_each_way_is_probed_and_what_is_closed_too() -> None:
    """On a closed network: the published ports on the host, and the container's own address, which must not answer."""
    seen = town()
    found = {(probe.packet.address, probe.packet.protocol): probe for probe in asked(seen, "client", "web")}
    own, gateway = seen.ip("web"), seen.gateway()
    verdicts = {key: expected(seen.report, probe) for key, probe in found.items()}
    assert verdicts == {
        (gateway, TCP): Verdict.REACHABLE,
        (gateway, UDP): Verdict.REACHABLE,
        (own, TCP): Verdict.BLOCKED,
        (own, UDP): Verdict.BLOCKED,
    }
    assert found[gateway, TCP].relay == Packet(TCP, own, 80)


def test_a_question_narrows_the_packets() -> None:
    """Protocol, port and address are those that were asked about."""
    seen = town()
    (probe,) = asked(seen, "left", "right", protocol=TCP, port=22, address=ip_address(seen.ip("right", "open")))
    assert probe.packet == Packet(TCP, seen.ip("right", "open"), 22)


def test_a_datagram_is_never_meant_for_a_program() -> None:
    """A UDP port that a program of the destination holds is withheld when it is asked for, and never drawn."""
    seen = with_program(town(), "right", UDP, 53)
    (probe,) = asked(seen, "left", "right", protocol=UDP, port=53)
    assert probe.withheld == "a program that listens there would be given the datagram"
    drawn = [probe for seed in range(4) for probe in planner(seen, seed).sample(50)]
    assert not [
        each for each in drawn if each.packet.protocol is UDP and 53 in each.inside and each.destination.name == "right"
    ]


def test_a_published_datagram_is_withheld_by_the_port_it_leads_to() -> None:
    """What counts is the port inside: host port 5353 leads to 53, where a program listens."""
    seen = with_program(town(), "web", UDP, 53)
    found = asked(seen, "client", "web", protocol=UDP, port=5353)
    assert {probe.withheld for probe in found if probe.packet.address == seen.gateway()} == {
        "a program that listens there would be given the datagram"
    }


def test_a_datagram_to_a_port_of_the_host_that_is_not_the_destination_s_is_withheld() -> None:
    """It might be given to whoever published that port."""
    seen = town()
    (probe,) = asked(seen, "left", "right", protocol=UDP, port=7, address=ip_address(seen.gateway("open")))
    assert probe.withheld


def test_a_published_port_is_no_way_to_a_container_in_host_mode() -> None:
    """The host's own sockets hold it for another container: that something arrives there says nothing of the host's."""
    seen = town()
    found = asked(seen, "client", "hosted", protocol=TCP, port=8080)
    assert {probe.withheld for probe in found} == {"the host holds the port for web"}


# --- Samples ---


def test_samples_are_bounded_and_repeatable() -> None:
    """A sample has as many packets as wanted and no packet twice; the same chance gives the same sample."""
    seen = town()
    found = planner(seen).sample(30)
    assert found == planner(seen).sample(30)
    assert len(found) == 30 == len({(each.source, each.destination, each.packet) for each in found})
    assert found != planner(seen, 2).sample(30)
    assert planner(seen).sample(0) == []


def test_of_three_packets_two_must_not_arrive() -> None:
    """Both kinds, both protocols and no undecided verdict are drawn; blocked ones twice as often."""
    seen = town()
    found = planner(seen).sample(48)
    assert Counter(expected(seen.report, each) for each in found) == {Verdict.BLOCKED: 32, Verdict.REACHABLE: 16}
    assert {each.packet.protocol for each in found} == {TCP, UDP}


def test_neighbours_of_a_closed_network_are_drawn() -> None:
    """That icc=false holds is what most depends on, so packets between its members are a good part of the sample."""
    seen = town()
    pairs: Counter[tuple[str, str]] = Counter()
    for seed in range(10):
        pairs.update((each.source.name, each.destination.name) for each in planner(seen, seed).sample(48))
    # of 30 pairs, these two would be drawn 32 times if all were alike
    assert pairs["client", "web"] + pairs["web", "client"] >= 60


def test_where_everything_is_open_everything_is_sampled_open() -> None:
    """On a host with one kind of verdict, the sample is filled with that."""
    seen = kernel(host("28.5").container("a").container("b")).engine_rules().look()
    found = planner(seen).sample(12)
    assert Counter(expected(seen.report, each) for each in found) == {Verdict.REACHABLE: 12}


def test_a_sample_of_one_container_is_empty() -> None:
    """A pair needs two."""
    assert planner(kernel(host("28.5").container("a")).engine_rules().look()).sample(5) == []


# --- Verdicts against packets ---


def pair(**changes: object) -> tuple[Look, Probe, Report]:
    """Return a look, a probe of an open pair, and its report."""
    seen = town()
    (probe,) = asked(seen, "left", "right", protocol=TCP, port=80)
    return seen, replace(probe, **changes), seen.report  # type: ignore[arg-type]


ARRIVED, ANSWERED, LOST = Sight(arrived=True), Sight(arrived=True, answered=True), Sight()


@pytest.mark.parametrize(
    ("names", "sight", "result"),
    [
        (("left", "right"), ANSWERED, ProbeResult.AGREED),
        (("left", "right"), ARRIVED, ProbeResult.DISAGREED),
        (("left", "right"), LOST, ProbeResult.DISAGREED),
        (("client", "far"), ANSWERED, ProbeResult.DISAGREED),
        (("client", "far"), ARRIVED, ProbeResult.AGREED),
        (("client", "far"), LOST, ProbeResult.AGREED),
    ],
)
def test_a_connection_needs_an_answer(names: tuple[str, str], sight: Sight, result: ProbeResult) -> None:
    """By TCP, reachable means there and back; anything less is what a blocked verdict foretells."""
    seen = town()
    (probe,) = asked(seen, *names, protocol=TCP, port=80)
    assert judge(probe, sight, seen.report, seen.report, seen.snapshot).result is result


@pytest.mark.parametrize(("sight", "result"), [(ARRIVED, ProbeResult.AGREED), (LOST, ProbeResult.DISAGREED)])
def test_a_datagram_needs_none(sight: Sight, result: ProbeResult) -> None:
    """By UDP, reachable means that it arrives."""
    seen = town()
    (probe,) = asked(seen, "left", "right", protocol=UDP, port=80)
    assert judge(probe, sight, seen.report, seen.report, seen.snapshot).result is result


def test_a_verdict_that_changed_meanwhile_is_no_disagreement() -> None:
    """Only what the look before and the look after both say is counted."""
    seen, probe, before = pair()
    closed = kernel(host("28.5").network("open").container("left", "open").container("right", "open")).engine_rules()
    after = closed.rules("-I DOCKER-USER -j DROP").look().report
    probed = judge(probe, LOST, before, replace(after, containers=before.containers), seen.snapshot)
    assert probed.result is ProbeResult.UNDECIDED
    assert probed.reason == "the verdict changed meanwhile, from reachable to blocked"


def test_a_container_that_ended_meanwhile_decides_nothing() -> None:
    """Nor does one that has another sandbox now, or an engine that could not be asked again."""
    seen, probe, before = pair()
    fewer = replace(before, containers=before.containers[:-3])
    for after in (fewer, replace(before, evidence=Evidence()), None):
        probed = judge(probe, LOST, before, after, seen.snapshot)
        assert probed.result is ProbeResult.UNDECIDED
        assert probed.reason


def test_an_unknown_verdict_is_never_a_disagreement() -> None:
    """Whatever the packet does, it contradicts nothing."""
    built = host("28.5").container("a").container("b")
    seen = kernel(built).engine_rules().rules("-I DOCKER-USER -m recent --update --name x -j DROP").look()
    (probe,) = asked(seen, "a", "b", protocol=TCP, port=80)
    assert expected(seen.report, probe) is Verdict.UNKNOWN
    for sight in (ANSWERED, LOST):
        assert judge(probe, sight, seen.report, seen.report, seen.snapshot).result is ProbeResult.UNDECIDED


def test_a_busy_program_that_does_not_answer_is_no_disagreement() -> None:
    """A SYN to a full backlog is dropped by the program's own kernel: it arrived, and nobody closed the way."""
    seen = with_program(town(), "right", TCP, 80)
    (probe,) = asked(seen, "left", "right", protocol=TCP, port=80)
    assert judge(probe, ARRIVED, seen.report, seen.report, seen.snapshot).result is ProbeResult.UNDECIDED
    assert judge(probe, LOST, seen.report, seen.report, seen.snapshot).result is ProbeResult.DISAGREED


def test_what_was_not_sent_or_not_seen_says_nothing() -> None:
    """Withheld probes are undecided, troubled ones failed, each with its reason."""
    seen, probe, before = pair()
    withheld = judge(replace(probe, withheld="why"), LOST, before, before, seen.snapshot)
    assert (withheld.result, withheld.reason) == (ProbeResult.UNDECIDED, "why")
    failed = judge(probe, Sight(trouble="CAP_NET_RAW is needed"), before, before, seen.snapshot)
    deaf = judge(probe, Sight(deaf="nothing is seen there"), before, before, seen.snapshot)
    assert (deaf.result, deaf.reason) == (ProbeResult.UNDECIDED, "nothing is seen there")
    assert (failed.result, failed.reason) == (ProbeResult.FAILED, "CAP_NET_RAW is needed")


def test_what_is_missing_is_named() -> None:
    """Verdicts that rest on less than all evidence are not probed, and the reasons are those of the evidence."""
    assert lacking(town().report) == ""
    assert lacking(report((container("a"), container("b")))) == (
        "no evidence of the kernel was asked for: --evidence.max=sandboxes"
    )
    built = kernel(host("28.5").container("a").container("b")).engine_rules().unread("sandboxes", "CAP_SYS_ADMIN")
    assert lacking(built.look().report) == "sandboxes: CAP_SYS_ADMIN"
