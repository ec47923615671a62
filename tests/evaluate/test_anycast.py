"""The first address of each prefix of IPv6, at which whoever passes packets on is reached as all others who do."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv6Address, IPv6Network
from typing import TYPE_CHECKING

from exporter.evaluate import evaluate, explain
from exporter.model.namespace import Hop, Route, RouteKind
from exporter.model.reach import Protocol
from tests.evaluate.test_kinds import check
from tests.hosts import host
from tests.kernels import kernel
from tests.looks import CLOSED, OPEN, UNKNOWN

if TYPE_CHECKING:
    from exporter.model.snapshot import Snapshot
    from tests.hosts import Host
    from tests.kernels import KernelOf


def town(containers: int = 2) -> Host:
    """Return two networks of IPv6 with containers that nothing tells apart, and one in host mode."""
    built = host("28.5").network("n0", ipv6=True).network("n1", ipv6=True).container("h", "host")
    for number in range(containers):
        built.container(f"a{number}", "n0").container(f"b{number}", "n1")
    return built


def shared(snapshot: Snapshot, name: str) -> str:
    """Return the first address of a network's prefix."""
    network = next(each for each in snapshot.networks.values() if each.name == name)
    return str(next(pool.subnet.network_address for pool in network.pools if pool.subnet.version == 6))


def shut(made: KernelOf) -> KernelOf:
    """Return a host that takes nothing at the addresses which interfaces have."""
    networks = made.look().snapshot.networks.values()
    own = [str(pool.gateway) for each in networks for pool in each.pools if pool.gateway and pool.gateway.version == 6]
    made.rules("-A INPUT -j DROP").rules(*(f"-A INPUT -d {address} -j DROP" for address in own), version=6)
    return made.rules("-A INPUT -d fe80::/10 -j DROP", version=6)


def test_the_host_gets_datagrams_and_echo_there() -> None:
    """By each of its networks, from all of them, and no connections."""
    seen = kernel(town()).engine_rules().look()
    for name in ("n0", "n1"):
        address = shared(seen.snapshot, name)
        assert [seen.probe("a0", "h", address, what) for what in ("53/udp", "icmp", "80/tcp")] == [OPEN, OPEN, CLOSED]


def test_it_is_open_where_all_others_are_shut() -> None:
    """Rules that name the host's addresses do not mean that one."""
    seen = shut(kernel(town()).engine_rules()).look()
    assert seen.verdict("a0", "h") == OPEN
    assert {path.protocol for path in seen.pair("a0", "h").paths} == {Protocol.UDP, Protocol.ICMP}


def test_a_part_of_a_host_tells_of_all_of_it() -> None:
    """A rule for one of these addresses tells its network from others."""
    made = shut(kernel(town(5)).engine_rules())
    assert check(made.look().snapshot)
    address = shared(made.look().snapshot, "n0")
    seen = made.rules(f"-I INPUT -d {address} -p udp -j DROP", version=6).look()
    assert check(seen.snapshot)
    assert seen.probe("b0", "h", address, "53/udp") == CLOSED
    assert seen.probe("a0", "h", shared(seen.snapshot, "n1"), "53/udp") == OPEN


def test_containers_that_pass_packets_on_share_it() -> None:
    """Who of them gets a datagram is not known; those who are apart from others in that stand for themselves."""
    seen = kernel(town(5)).engine_rules().look()
    read = seen.snapshot.kernel
    assert read is not None
    name = seen.containers["a0"].sandbox
    address = shared(seen.snapshot, "n0")
    inside = read.sandboxes[name]
    card = next(index for index, interface in inside.interfaces.items() if interface.name == "eth0")
    joined = Route(255, RouteKind.ANYCAST, IPv6Network(address), (Hop(card),))
    forwards = {**inside.settings, "ipv6/conf/all/forwarding": "1", "ipv6/conf/eth0/forwarding": "1"}
    changed = replace(inside, routes=(*inside.routes, joined), settings=forwards)
    snapshot = replace(seen.snapshot, kernel=replace(read, sandboxes={**read.sandboxes, name: changed}))
    assert check(snapshot)
    report = evaluate(snapshot)
    by_name = {container.name: container for container in report.containers}
    paths = report.pair(by_name["a1"], by_name["h"]).paths
    assert {path.undecided for path in paths if address in path.addresses} == {f"two that answer for {address}"}
    assert UNKNOWN not in {report.pair(by_name["b1"], by_name[each]).verdict for each in ("a0", "h")}


def test_explain_tells_why_no_connection_comes_about() -> None:
    """The address is named, and what it is."""
    seen = kernel(town()).engine_rules().look()
    address = IPv6Address(shared(seen.snapshot, "n0"))
    found = explain(seen.snapshot, seen.report, "a0", "h", Protocol.TCP, 80, address).trips[0]
    assert found.decided_by == f"host: takes no connections at {address}, which all share there who pass packets on"
