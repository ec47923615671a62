"""Who is shut by address and answers at his link-local one of IPv6: packets are the judge.

One host for all of them: what a case changes it puts back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from exporter.model.addresses import link_local_of
from exporter.model.reach import Verdict
from tests.conformance.cases import Case
from tests.conformance.routed import dual_stack
from tests.lab import Container, Network, Topology

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.conformance.runner import Built

pytestmark = pytest.mark.lab

_BRIDGE = "com.docker.network.bridge."


def _in_mode(mode: str, bridge: str) -> Mapping[str, str]:
    """Return the options of a network in a gateway mode, for both families."""
    return {f"{_BRIDGE}name": bridge, f"{_BRIDGE}gateway_mode_ipv4": mode, f"{_BRIDGE}gateway_mode_ipv6": mode}


TOPOLOGY = Topology(
    networks=(
        *dual_stack("one"),
        Network(
            "inner", "bridge", {f"{_BRIDGE}name": "brinner"},
            ("--internal", "--ipv6", "--subnet=fd00:c::/64", "--subnet=10.100.3.0/24"),
        ),
        Network(
            "sealed", "bridge", _in_mode("isolated", "brsealed"),
            ("--internal", "--ipv6", "--subnet=fd00:e1::/64", "--subnet=10.100.5.0/24"),
        ),
        Network(
            "bare", "bridge", {f"{_BRIDGE}name": "brbare", f"{_BRIDGE}enable_ip_masquerade": "false"},
            ("--ipv6", "--subnet=fd00:e2::/64", "--subnet=10.100.6.0/24"),
        ),
        Network(
            "led", "bridge", _in_mode("routed", "brled"),
            ("--ipv6", "--subnet=fd00:e3::/64", "--subnet=10.100.10.0/24"),
        ),
        Network(
            "apart", "bridge", {f"{_BRIDGE}name": "brapart", f"{_BRIDGE}enable_icc": "false"},
            ("--ipv6", "--subnet=fd00:d::/64", "--subnet=10.100.4.0/24"),
        ),
        Network(
            "closed", "bridge", {f"{_BRIDGE}name": "brclosed", f"{_BRIDGE}enable_icc": "false"},
            ("--subnet=10.100.7.0/24",),
        ),
        Network("lan", "macvlan", {"parent": "eth10"}, ("--ipv6", "--subnet=fd00:e::/64", "--subnet=10.100.8.0/24")),
    ),
    containers=(
        Container("near", "one", flags=("--ip=10.100.1.11", "--ip6=fd00:a::11")),
        Container("next", "one", flags=("--ip=10.100.1.12", "--ip6=fd00:a::12")),
        Container("third", "one", flags=("--ip=10.100.1.13", "--ip6=fd00:a::13")),
        Container("served", "one", flags=("-p=8080:80", "-p=8081:80/udp")),
        Container("inside", "inner"),
        Container("sealed1", "sealed"),
        Container("sealed2", "sealed"),
        Container("bare1", "bare"),
        Container("led1", "led"),
        Container("apart1", "apart"),
        Container("apart2", "apart", ("one",)),
        Container("closed1", "closed"),
        Container("closed2", "closed"),
        Container("lan1", "lan", flags=("--ip=10.100.8.11", "--ip6=fd00:e::11")),
        Container("lan2", "lan", flags=("--ip=10.100.8.12", "--ip6=fd00:e::12")),
        Container("hosted", "host"),
    ),
)  # fmt: skip

FILTERED = "sysctl -qw net.bridge.bridge-nf-call-iptables=1 net.bridge.bridge-nf-call-ip6tables=1"


def shut(*rules: str) -> tuple[str, str]:
    """Return how rules of iptables are set, those with addresses of IPv6 by ip6tables, and how they go."""
    tools = [("ip6tables" if "{" in rule or ":" in rule else "iptables", rule) for rule in rules]
    return tuple("; ".join(f"{tool} -w -{how} {rule}" for tool, rule in tools) for how in "ID")  # type: ignore[return-value]


def on_host(*rules: str) -> tuple[str, str]:
    """Return how rules of the host are set and go, which frames on bridges meet as well."""
    does, undoes = shut(*rules)
    return f"{FILTERED}; {does}", undoes


def both(one: tuple[str, str], other: tuple[str, str]) -> tuple[str, str]:
    """Return how one thing is done after the other, and undone before it."""
    return f"{one[0]}; {other[0]}", f"{other[1]}; {one[1]}"


LEARNED = frozenset({"what neighbours learned of each other before, where their questions or answers are lost"})
TO_NEXT = ("DOCKER-USER -d 10.100.1.12 -j DROP", "DOCKER-USER -d fd00:a::12 -j DROP")
# Whoever asks for a neighbour from an address whose answers are lost keeps what he sends from another one waiting, too:
# both wait for one entry, whose next question comes from whatever was sent last (ndisc_solicit).
TO_NEXT_BUT_ANSWERS = (
    TO_NEXT[0],
    *(f"{TO_NEXT[1]} -p {each}" for each in ("tcp", "udp", "icmpv6 --icmpv6-type echo-request")),
)
FROM_NEAR = ("INPUT -s 10.100.1.11 -j DROP", "INPUT -s fd00:a::11 -j DROP")
NO_GLOBAL = (
    "ip -6 address flush dev eth0 scope global",
    "ip -6 address add fd00:a::12/64 dev eth0 nodad; ip -6 route replace default via fd00:a::1",
)
NO_LINK_LOCAL = ("ip -6 address del {near}/64 dev eth0", "ip -6 address add {near}/64 dev eth0 nodad")
WITH_IPV6 = (
    "sysctl -qw net.ipv6.conf.eth0.accept_dad=0 net.ipv6.conf.eth0.disable_ipv6=0",
    "sysctl -qw net.ipv6.conf.eth0.disable_ipv6=1",
)
NO_ROUTE = ("ip -6 route del fe80::/64 dev eth0", "ip -6 route add fe80::/64 dev eth0 proto kernel metric 256")

CASES: Mapping[str, Case] = {
    "IPv6 where the network has none, in spite of icc=false": Case(
        ("closed1", "closed2"), Verdict.REACHABLE, inside={"closed1": WITH_IPV6, "closed2": WITH_IPV6}
    ),
    "shut on the host": Case(("near", "next"), Verdict.REACHABLE, *on_host(*TO_NEXT), doubts=LEARNED),
    "shut on the host, by its subnets": Case(
        ("near", "third"), Verdict.REACHABLE,
        *on_host("DOCKER-USER -s 10.100.1.0/24 -j DROP", "DOCKER-USER -s fd00:a::/64 -j DROP"),
    ),
    "shut on the host, its link-local address as well": Case(
        ("near", "next"), Verdict.BLOCKED, *on_host(*TO_NEXT, "DOCKER-USER -d {next} -j DROP"), doubts=LEARNED
    ),
    "shut on the host, another one's link-local address as well": Case(
        ("near", "next"), Verdict.REACHABLE, *on_host(*TO_NEXT, "DOCKER-USER -d {third} -j DROP"), doubts=LEARNED
    ),
    "shut on the host, all link-local ones as well": Case(
        ("near", "next"), Verdict.BLOCKED, *on_host(*TO_NEXT, "DOCKER-USER -d fe80::/10 -j DROP"), doubts=LEARNED
    ),
    "shut on the host, link-local answers of TCP as well": Case(
        ("near", "next"), Verdict.REACHABLE, *on_host(*TO_NEXT, "DOCKER-USER -s {next} -p tcp -j DROP"), doubts=LEARNED
    ),
    "shut inside": Case(("near", "next"), Verdict.REACHABLE, inside={"next": shut(*FROM_NEAR)}),
    "shut inside, but for one port of link-local ones": Case(
        ("near", "next"), Verdict.REACHABLE,
        inside={"next": shut(*FROM_NEAR, "INPUT -s fe80::/10 -p tcp ! --dport 80 -j DROP")},
    ),
    "no address of IPv6 but the link-local one": Case(
        ("near", "next"), Verdict.REACHABLE, inside={"next": both(shut(*FROM_NEAR), NO_GLOBAL)}
    ),
    "shut inside, the sender without a link-local address": Case(
        ("near", "next"), Verdict.BLOCKED, inside={"near": NO_LINK_LOCAL, "next": shut(*FROM_NEAR)}
    ),
    "shut on the host, the sender without a link-local address": Case(
        ("near", "next"), Verdict.REACHABLE, *on_host(*TO_NEXT_BUT_ANSWERS), inside={"near": NO_LINK_LOCAL}
    ),
    "shut on the host, the sender without a route to link-local addresses": Case(
        ("near", "next"), Verdict.REACHABLE, *on_host(*TO_NEXT), inside={"near": NO_ROUTE}, doubts=LEARNED
    ),
    "shut on the host, the receiver without a route to link-local addresses": Case(
        ("near", "next"), Verdict.REACHABLE, *on_host(*TO_NEXT), inside={"next": NO_ROUTE}, doubts=LEARNED
    ),
    "the host shut by its address": Case(
        ("near", "hosted"), Verdict.REACHABLE,
        *shut("INPUT -s 10.100.1.0/24 -j DROP", "INPUT -s fd00:a::/64 -j DROP"), doubts=LEARNED,
    ),
    "the host shut by its addresses, link-local as well": Case(
        ("near", "hosted"), Verdict.BLOCKED,
        *shut("INPUT -s 10.100.1.0/24 -j DROP", "INPUT -s fd00:a::/64 -j DROP", "INPUT -s fe80::/10 -j DROP"),
        doubts=LEARNED,
    ),
    "shut for the host": Case(
        ("hosted", "next"), Verdict.REACHABLE,
        inside={"next": shut("INPUT -s 10.100.1.1 -j DROP", "INPUT -s fd00:a::1 -j DROP")},
    ),
    "shut on macvlan": Case(
        ("lan1", "lan2"), Verdict.REACHABLE,
        inside={"lan2": shut("INPUT -s 10.100.8.11 -j DROP", "INPUT -s fd00:e::11 -j DROP")},
    ),
    "ports for link-local addresses alone": Case(
        ("near", "next"), Verdict.REACHABLE,
        inside={"next": shut(*FROM_NEAR, "INPUT -i eth0 -p udp -s fe80::/10 -j DROP")},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_packets_agree(host: Built, name: str) -> None:
    """Nothing is in doubt, and everything is as packets have it."""
    case = CASES[name]
    # commands name the link-local addresses of containers as {near}
    own = {container: link_local(host, container) for container in ("near", "next", "third")}
    inside = {at: (does.format(**own), undoes.format(**own)) for at, (does, undoes) in case.inside.items()}
    outcome = host.done(name, case.does.format(**own), case.undoes.format(**own), inside)
    assert outcome.enforced.disagreements == ()
    assert outcome.unlike == ()
    assert {told for reasons in outcome.enforced.doubts for told in reasons.split("; ")} == case.doubts
    assert outcome.pair(*case.pair).verdict is case.verdict


def test_the_promise_holds(host: Built) -> None:
    """Where nothing was changed, link-local addresses lead further than others to published ports alone.

    docker-proxy takes what comes to the host's from networks whose packets the engine's rules do not let through.
    """
    outcome = host.tried(())
    assert outcome.enforced.disagreements == ()
    assert outcome.declared.disagreements == ()
    assert outcome.unlike == ()
    near = {
        (pair.source.name, pair.destination.name): {str(path.via) for path in pair.verdict.paths}
        for pair in outcome.report.pairs()
        if any(address.startswith("fe80:") for path in pair.verdict.paths for address in path.addresses)
    }
    assert near == {(source, "served"): {"published_port"} for source in ("inside", "bare1")}
    drifting = {
        (pair.source.name, pair.destination.name): pair.declared.verdict
        for pair in outcome.report.pairs()
        if pair.declared.verdict != pair.verdict.verdict
    }
    # the engine does not tell whether docker-proxy runs
    assert set(drifting.values()) == {Verdict.UNKNOWN}
    assert near.keys() <= drifting.keys()


def link_local(host: Built, container: str) -> str:
    """Return a container's link-local address, which follows from its link address."""
    networks = host.engine.api(f"/containers/{container}/json")["NetworkSettings"]["Networks"]
    return str(link_local_of(networks["one"]["MacAddress"]))
