"""What stands at single interfaces, and what keeps neighbours from finding each other."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from exporter.evaluate import evaluate
from exporter.evaluate.enforced.walk import LEARNED
from exporter.model.firewall import Divert
from exporter.model.reach import Verdict
from tests.hosts import host
from tests.kernels import kernel
from tests.parse.kernel.nft import read_tables

if TYPE_CHECKING:
    from exporter.model.report import Report
    from tests.looks import Look

BUILT = host("28.5").network("six", ipv6=True).container("a", "six").container("b", "six").look()
BRIDGE = next(network.interface for network in BUILT.snapshot.networks.values() if network.name == "six")


def port(container: str) -> str:
    """Return the name of the host's end of a container's cable."""
    made = kernel(BUILT).kernel()
    own = next(each for each in BUILT.snapshot.containers.values() if each.name == container)
    ends = {each.peer for each in made.sandboxes[own.sandbox].interfaces.values()}
    return next(made.host.interfaces[end].name for end in ends if end is not None)


def looks(family: str, chain: dict[str, Any], *rules: list[dict[str, Any]], inside: str = "") -> Look:
    """Return the host with a table of one base chain, given as nft prints it."""
    own = {"family": family, "table": "t"}
    said: list[dict[str, Any]] = [
        {"table": {"family": family, "name": "t"}},
        {"chain": {**own, "name": "c", "type": "filter", "prio": 0, "policy": "accept", **chain}},
        *({"rule": {**own, "chain": "c", "expr": expr}} for expr in rules),
    ]
    (table,) = read_tables({"nftables": said})
    return kernel(BUILT).engine_rules().table(table, inside).look()


def ports(seen: Look, source: str, destination: str) -> dict[tuple[str, str], str]:
    """Return the ports that a source reaches, by protocol and address family."""
    pair = seen.report.pair(
        *(next(c for c in seen.report.containers if c.name == name) for name in (source, destination))
    )
    return {
        (path.protocol.value, "v6" if ":" in address else "v4"): str(path.ports)
        for path in pair.paths
        for address in path.addresses
        if path.via.value == "bridge" and not path.undecided
    }


UDP_80: list[dict[str, Any]] = [
    {"match": {"op": "==", "left": {"payload": {"protocol": "udp", "field": "dport"}}, "right": 80}},
    {"drop": None},
]
ALL_BUT_80 = "1-79,81-65535"


@pytest.mark.parametrize(
    ("hook", "at", "closed"),
    [("ingress", "a", "ab"), ("egress", "b", "ab"), ("ingress", "b", "ba"), ("egress", "a", "ba")],
)
def test_a_rule_at_a_port_is_for_packets_of_one_direction(hook: str, at: str, closed: str) -> None:
    """Ingress of a port sees what its container sends, egress what it gets; no other packet."""
    seen = looks("netdev", {"hook": hook, "dev": port(at)}, UDP_80)
    for pair in ("ab", "ba"):
        expected = ALL_BUT_80 if pair == closed else "1-65535"
        assert ports(seen, *pair)["udp", "v4"] == ports(seen, *pair)["udp", "v6"] == expected
        assert ports(seen, *pair)["tcp", "v4"] == "1-65535"


def test_rules_at_an_unknown_interface_leave_packets_undecided() -> None:
    """Where nobody says which interface a chain belongs to, what it drops may pass or not."""
    seen = looks("netdev", {"hook": "ingress"}, UDP_80)
    assert ports(seen, "a", "b")["udp", "v4"] == ALL_BUT_80
    pair = seen.report.pair(*seen.report.containers)
    assert {path.undecided for path in pair.paths} == {"", "which interface chain c belongs to"}


def shut(*diverts: Divert) -> Report:
    """Return the report of the host where a rule drops all between containers, and filters at a port divert packets."""
    dropped = looks("inet", {"hook": "forward", "policy": "drop"})
    found = dropped.snapshot.kernel
    assert found is not None
    interfaces = {
        index: replace(each, diverts=diverts) if each.name == port("a") else each
        for index, each in found.host.interfaces.items()
    }
    return evaluate(replace(dropped.snapshot, kernel=replace(found, host=replace(found.host, interfaces=interfaces))))


@pytest.mark.parametrize(
    ("divert", "led"),
    [
        (Divert("sent by tc", "eth0", copied=True), set()), (Divert("sent by tc", port("b"), copied=True), {"ab"}),
        (Divert("sent by tc", "gone", copied=True), set()), (Divert("sent by tc", BRIDGE, copied=True), {"ab"}),
        (Divert("sent by tc", port("b"), inward=True, copied=True), {"ab"}),
        (Divert("written by tc", copied=True), {"ab"}),
    ],
)  # fmt: skip
def test_filters_lead_packets_past_the_firewall(divert: Divert, led: set[str]) -> None:
    """Who may get them is undecided by the filter's name: whoever the interface leads to, or anybody.

    What another one sends is dropped before it comes to the port.
    """
    report = shut(divert)
    told = {f"{pair.source.name}{pair.destination.name}": pair.verdict for pair in report.pairs()}
    unknown = {names for names, each in told.items() if each.verdict is Verdict.UNKNOWN}
    assert unknown == led
    assert {path.undecided for each in told.values() for path in each.paths} <= {divert.name}


@pytest.mark.parametrize("program", ["XDP", "tc"])
def test_programs_at_an_interface_leave_its_packets_undecided(program: str) -> None:
    """What an XDP program or a filter of tc does, nobody can foresee: verdicts name it."""
    seen = kernel(BUILT).engine_rules().look()
    found = seen.snapshot.kernel
    assert found is not None
    interfaces = {
        index: replace(each, programs=(program,)) if each.name == port("a") else each
        for index, each in found.host.interfaces.items()
    }
    changed = replace(found, host=replace(found.host, interfaces=interfaces))
    report = evaluate(replace(seen.snapshot, kernel=changed))
    for pair in report.pairs():
        assert pair.verdict.verdict is Verdict.UNKNOWN
        assert {path.undecided for path in pair.verdict.paths} == {f"what {program} lets through at {port('a')}"}
    assert report.totals.unknown_pairs == report.totals.pairs == 2


def test_a_bridge_that_drops_arp_passes_ipv6_alone() -> None:
    """Nobody finds a neighbour by IPv4 where ARP is dropped."""
    arp: list[dict[str, Any]] = [
        {"match": {"op": "==", "left": {"payload": {"protocol": "ether", "field": "type"}}, "right": "arp"}},
        {"drop": None},
    ]
    seen = looks("bridge", {"hook": "forward"}, arp)
    assert {family for _, family in ports(seen, "a", "b")} == {"v6"}


def test_a_namespace_that_drops_arp_may_have_been_asked() -> None:
    """Who drops all that comes by ARP answers nobody; whom it asked itself knows its link address."""
    seen = looks("arp", {"hook": "input", "policy": "drop"}, inside="b")
    assert {family for _, family in ports(seen, "a", "b")} == {"v6"}
    a, b = seen.report.containers
    undecided = {path.undecided for path in seen.report.pair(a, b).paths if "." in path.addresses[0]}
    assert undecided == {LEARNED}
    assert {family for _, family in ports(seen, "b", "a")} == {"v6"}
