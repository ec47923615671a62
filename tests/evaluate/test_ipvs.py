"""IPVS in the evaluator: what a virtual service takes may come to its real servers, and nobody counts as shut off."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING

from exporter.cli import text
from exporter.evaluate import evaluate, explain
from exporter.evaluate.enforced.walk import ASTRAY
from exporter.model.namespace import LOCAL_TABLE, Hop, Route, RouteKind
from exporter.model.reach import Protocol, Verdict, Via
from exporter.parse.kernel.ipvs import parse_ipvs
from tests.hosts import host
from tests.kernels import kernel

if TYPE_CHECKING:
    from exporter.model.reach import PairVerdict
    from exporter.model.report import Report
    from exporter.model.snapshot import Snapshot

NETWORKS = host("28.5").network("n1").network("n2").container("a", "n1").container("b", "n1").container("c", "n2")
BUILT = NETWORKS.container("h", "host").look()
MARKS = "-A PREROUTING -p tcp -m tcp --dport 8080 -j MARK --set-xmark 0x100/0xffffffff"


def listed(address: str, port: int = 0) -> str:
    """Return an end as the kernel lists it."""
    return f"{int(ip_address(address)):08X}:{port:04X}"


def look(service: str, *rules: str, inside: str = "") -> tuple[Snapshot, Report]:
    """Return a host with a virtual service, its own or a container's."""
    made = kernel(BUILT).engine_rules().rules(MARKS, table="mangle").rules(*rules)
    for table in parse_ipvs(service):
        made.table(table, inside)
    seen = replace(BUILT.snapshot, kernel=made.kernel())
    return seen, evaluate(seen)


def undecided(report: Report, source: str, destination: str) -> set[tuple[str, ...]]:
    """Return the mechanism, the addresses and the ports of the paths of TCP that hinge on IPVS."""
    paths = pair(report, source, destination).paths
    assert {path.undecided for path in paths} <= {"", "IPVS", f"IPVS; {ASTRAY}"}
    hinging = (path for path in paths if path.undecided and path.protocol is Protocol.TCP)
    return {(path.via, *path.addresses, str(path.ports)) for path in hinging}


def pair(report: Report, source: str, destination: str) -> PairVerdict:
    """Return the verdict about two containers by their names."""
    by_name = {container.name: container for container in report.containers}
    return report.pair(by_name[source], by_name[destination])


SERVER = listed(BUILT.ip("c", "n2"), 8080)
OF_HOST = listed("172.20.0.1", 80)
VIRTUAL = f"TCP  {OF_HOST} rr\n  -> {SERVER} Masq\n"


def test_a_service_of_the_host_may_lead_to_another_bridge() -> None:
    """Packets for it may be translated to the server's address, as by a published port; others are as they were."""
    _, report = look(VIRTUAL)
    assert undecided(report, "a", "c") == {(Via.PUBLISHED_PORT, "172.20.0.1", "80")}
    assert undecided(report, "a", "h") == {(Via.HOST, "172.20.0.1", "80")}
    assert (pair(report, "a", "c").verdict, pair(report, "c", "a").verdict) == (Verdict.UNKNOWN, Verdict.BLOCKED)


def test_a_service_by_mark_takes_what_rules_marked() -> None:
    """The packet keeps its port where the server has none, at all addresses of the host."""
    _, report = look(f"FWM  00000100 rr\n  -> {listed(BUILT.ip('c', 'n2'))} Masq\n")
    everywhere = "172.17.0.1", "172.20.0.1", "172.21.0.1"
    assert undecided(report, "a", "c") == {(Via.PUBLISHED_PORT, *everywhere, "8080")}


def test_what_is_sent_as_it_was_comes_to_who_has_the_address() -> None:
    """A server by direct routing takes packets for an address of its own alone, as the service's has to be then."""
    _, report = look(f"TCP  {OF_HOST} rr\n  -> {SERVER} Route\n")
    assert undecided(report, "a", "c") == set()
    shared = Route(LOCAL_TABLE, RouteKind.LOCAL, ip_network("172.20.0.1/32"), (Hop(1),))
    seen, _ = look(f"TCP  {OF_HOST} rr\n  -> {SERVER} Route\n")
    assert seen.kernel is not None
    box = next(each.sandbox for each in seen.containers.values() if each.name == "c")
    inside = seen.kernel.sandboxes[box]
    taking = replace(inside, routes=(*inside.routes, shared))
    changed = replace(seen.kernel, sandboxes={**seen.kernel.sandboxes, box: taking})
    report = evaluate(replace(seen, kernel=changed))
    assert {found[1:] for found in undecided(report, "a", "c")} == {("172.20.0.1", "80")}


def test_input_comes_first() -> None:
    """What the filter of INPUT drops, IPVS never sees (NF_IP_PRI_NAT_SRC - 1)."""
    _, report = look(VIRTUAL, "-A INPUT -p tcp -m tcp --dport 80 -j DROP")
    assert undecided(report, "a", "c") == set()


def test_what_the_host_itself_sends_is_taken_as_well() -> None:
    """Its services are for its own packets, too (LOCAL_OUT)."""
    _, report = look(f"TCP  {listed('172.21.0.99', 53)} rr\n  -> {SERVER} Masq\n")
    assert undecided(report, "h", "c") == {(Via.PUBLISHED_PORT, "172.21.0.99", "53")}
    assert undecided(report, "a", "c") == set()


def test_a_service_without_servers_may_drop_packets() -> None:
    """Nothing is led on, and what it takes may be lost."""
    _, report = look(f"TCP  {OF_HOST} rr\n")
    assert (undecided(report, "a", "c"), undecided(report, "a", "h")) == (set(), {(Via.HOST, "172.20.0.1", "80")})


def test_a_container_s_service_leads_on_as_well() -> None:
    """As that of the namespace that the ports of swarm's services lead to."""
    service = f"TCP  {listed(BUILT.ip('b', 'n1'), 80)} rr\n  -> {listed(BUILT.ip('a', 'n1'), 81)} Masq\n"
    _, report = look(service, inside="b")
    assert undecided(report, "h", "a") == {(Via.PUBLISHED_PORT, BUILT.ip("b", "n1"), "80")}


def test_the_part_tells_what_the_whole_does() -> None:
    """The server stands for itself, however many are like it otherwise."""
    built = host("28.5").network("n1").network("n2")
    for number in range(8):
        built = built.container(f"a{number}", "n1").container(f"c{number}", "n2")
    crowd = built.look()
    made = kernel(crowd).engine_rules()
    for table in parse_ipvs(f"TCP  {OF_HOST} rr\n  -> {listed(crowd.ip('c3', 'n2'), 8080)} Masq\n"):
        made.table(table)
    report = evaluate(replace(crowd.snapshot, kernel=made.kernel()))
    found = {name: pair(report, "a1", name).verdict for name in (f"c{number}" for number in range(8))}
    assert found == {name: Verdict.UNKNOWN if name == "c3" else Verdict.BLOCKED for name in found}


def test_explain_names_the_service() -> None:
    """The packet's way leads past it, and on to the server."""
    seen, report = look(VIRTUAL)
    told = [line.text for line in text.explain(explain(seen, report, "a", "c"))]
    assert (
        "    perhaps rule 1 of ip IPVS INPUT leads from another address or port to the container on network n2"
        in str(told[1])
    )
    server = f"{BUILT.ip('c', 'n2')}:8080 (c)"
    assert f"    host: ip IPVS INPUT rule 1 `TCP 172.20.0.1:80 (host on n1) -> {server}`: perhaps IPVS" in told
    assert f"    c: gets it at {BUILT.ip('c', 'n2')}:8080" in told


def test_it_is_counted_with_what_is_not_understood() -> None:
    """The metric has a name for it."""
    _, report = look(VIRTUAL)
    assert report.unsupported == {"ipvs": 2}
