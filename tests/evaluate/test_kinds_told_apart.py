"""Whatever tells two containers apart that would be alike without it keeps one from standing for the other."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.evaluate import evaluate, evaluate_after
from exporter.evaluate.enforced import enforced_reach
from exporter.evaluate.kinds import sample
from exporter.model.firewall import Backend, Base, Chain, Field, Hook, InRanges, Rule, Table, TableFamily, Terminate
from exporter.model.firewall import Verdict as RuleVerdict
from exporter.model.namespace import (
    AddressLabel,
    Hop,
    Interface,
    Neighbour,
    OwnAddress,
    Port,
    ProxiedNeighbour,
    Route,
    RouteKind,
    Scope,
)
from exporter.model.ranges import Ranges
from exporter.model.reach import HOST, Verdict
from exporter.parse import Memory, parse
from tests.bench.layouts import Layout
from tests.evaluate.test_kinds import check, same, tampering
from tests.hosts import Host, host, identity
from tests.kernels import kernel

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from exporter.model.namespace import Namespace
    from exporter.model.observation import NamespaceDocuments, Observation
    from exporter.model.snapshot import Network, Snapshot
    from tests.kernels import KernelOf
    from tests.looks import Look

    Change = Callable[[NamespaceDocuments], NamespaceDocuments]

ALIKE = 5
"""Containers of each network: more than a part has, so that some of them are spoken for by others."""


def town(*, internal: bool = False) -> Host:
    """Return two networks of containers that nothing tells apart, one of which has a published port."""
    built = host("28.5").network("n0").network("n1", internal=internal)
    for number in range(ALIKE):
        built.container(f"a{number}", "n0", publish=["8000:80"] if number == 0 else [])
        built.container(f"b{number}", "n1")
    return built


def opened(made: KernelOf) -> KernelOf:
    """Return a host where somebody flushed what keeps networks apart: verdicts may differ across them, too."""
    return made.flush("DOCKER").flush("DOCKER-FORWARD").policy("FORWARD", "ACCEPT").flush("PREROUTING", "raw")


def names(snapshot: Snapshot) -> dict[str, str]:
    """Return what rules call containers, networks' subnets and bridges by."""
    found: dict[str, str] = {}
    for sandbox in snapshot.sandboxes.values():
        if sandbox.endpoints:
            found[sandbox.name] = str(sandbox.endpoints[0].ipv4)
    for network in snapshot.networks.values():
        if network.name in ("n0", "n1"):
            found[network.name] = str(network.pools[0].subnet)
            found[f"{network.name}_bridge"] = network.interface
            found[f"{network.name}_base"] = str(network.pools[0].subnet).rpartition(".")[0]
    return found


OWNERS = ("-s {a1}", "-d {a1}", "-i {n0_bridge}", "")
MATCHES = (
    "-d {a3}",
    "-s {a3}",
    "! -d {a3}",
    "! -s {a3}",
    "-d {n0_base}.4/31",
    "-s {n0_base}.4/31",
    "! -d {n0_base}.4/31",
    "! -s {n0_base}.4/31",
    "-d {b3}",
    "! -d {n1}",
    "-d 0.0.0.0/1",
    "-i br-+",
    "! -i {n1_bridge}",
    "-o {n1_bridge}",
    "! -o {n1_bridge}",
    "-m iprange --src-range {n0_base}.3-{n0_base}.4",
    "-m iprange --dst-range {n0_base}.3-{n0_base}.4",
    "-m iprange ! --src-range {n0_base}.3-{n0_base}.4",
    "-m conntrack --ctorigsrc {n0_base}.4/31",
    "-m conntrack ! --ctorigdst {a3}",
)


def near(snapshot: Snapshot) -> dict[str, str]:
    """Return what rules call the link-local addresses of containers and bridges by."""
    assert snapshot.kernel is not None
    bridges = {each.name: each for each in snapshot.kernel.host.interfaces.values()}
    found = {box.name: str(box.endpoints[0].link_local) for box in snapshot.sandboxes.values() if box.endpoints}
    for network in snapshot.networks.values():
        own = bridges[network.interface].addresses if network.interface in bridges else ()
        found.update((network.name, str(address.ip)) for address in own if address.is_link_local)
    return found


NEAR = (
    "-d {a3} -j DROP",
    "-s {a3} -j DROP",
    "! -d {a3} -j DROP",
    "-s {a1} -d {a3} -j DROP",
    "-d {a3}/127 -j DROP",
    "-d {n0} -j DROP",
    "-s fe80::/10 -j DROP",
    "! -s fe80::/10 -j DROP",
    "-s fd00::/8 ! -d {a3} -j DROP",
    "-i {n0_bridge} -d {a3} -j ACCEPT",
)


@pytest.mark.parametrize("rule", ["", *NEAR])
@pytest.mark.parametrize("shut", ["-d fd00::/8 -j DROP", "-i {n0_bridge} -d fd00::/8 -j DROP", "-j DROP"])
def test_link_local_addresses(shut: str, rule: str) -> None:
    """They are what leads to those who are shut by their other ones, and rules may name some of them."""
    built = host("28.5").network("n0", ipv6=True).network("n1", internal=True, ipv6=True)
    for number in range(ALIKE):
        built.container(f"a{number}", "n0", publish=["8000:80"] if number == 0 else [])
        built.container(f"b{number}", "n1")
    made = kernel(built).engine_rules().rules("-I FORWARD -j DROP", "-I INPUT -j DROP")
    snapshot = made.look().snapshot
    words = {**near(snapshot), "n0_bridge": names(snapshot)["n0_bridge"]}
    for told in filter(None, (shut, rule)):
        for hook in ("FORWARD", "INPUT"):
            made.rules(f"-I {hook} {told}".format(**words), version=6)
    check(made.look().snapshot)
    check(made.unread("sandboxes", "not asked for").look().snapshot)


def _options(text: str) -> set[str]:
    return {word for word in text.split() if word in ("-s", "-d", "-i", "-o")}


@pytest.mark.parametrize(
    ("owner", "match"),
    # a rule asks once for each of its options
    [(owner, match) for owner in OWNERS for match in MATCHES if not _options(owner) & _options(match)],
)
def test_a_rule_of_the_host(owner: str, match: str) -> None:
    """A rule that has an owner is asked for all that it compares beside: negated, in part, by range or wildcard."""
    for made in (kernel(town()).engine_rules(), opened(kernel(town()).engine_rules())):
        words = names(made.look().snapshot)
        made.rules(f"-I FORWARD {owner} {match} -j DROP".format(**words))
        check(made.look().snapshot)
        check(made.unread("sandboxes", "not asked for").look().snapshot)


@pytest.mark.parametrize("chain", ["OUTPUT", "INPUT"])
@pytest.mark.parametrize("match", MATCHES)
def test_a_rule_inside_a_container(chain: str, match: str) -> None:
    """What a container's own rules say of others is asked for as well."""
    if ("-i" in match and chain == "OUTPUT") or ("-o" in match and chain == "INPUT"):
        match = match.replace("-i ", "-o ") if chain == "OUTPUT" else match.replace("-o ", "-i ")
    for made in (kernel(town()).engine_rules(), opened(kernel(town()).engine_rules())):
        words = names(made.look().snapshot)
        made.inside("a1", f"-A {chain} {match} -j DROP".format(**words))
        check(made.look().snapshot)


def _with(snapshot: Snapshot, name: str, change: Callable[[Namespace], Namespace]) -> Snapshot:
    """Return a snapshot with a namespace changed: a container's, by its name, or the host's."""
    assert snapshot.kernel is not None
    read = snapshot.kernel
    if name == "host":
        return replace(snapshot, kernel=replace(read, host=change(read.host)))
    sandbox = next(each.id for each in snapshot.sandboxes.values() if each.name == name)
    return replace(
        snapshot, kernel=replace(read, sandboxes={**read.sandboxes, sandbox: change(read.sandboxes[sandbox])})
    )


@pytest.mark.parametrize("where", ["host", "a1"])
@pytest.mark.parametrize(
    "destination", ["{a3}/32", "{b3}/32", "{n0_base}.4/31", "{n1}", "0.0.0.0/1"], ids=lambda text: text.strip("{}")
)
def test_a_route(where: str, destination: str) -> None:
    """Routes on the host and inside containers may lead some packets into nothing."""
    seen = opened(kernel(town()).engine_rules()).look().snapshot
    subnet = ip_network(destination.format(**names(seen)))
    black = Route(254, RouteKind.BLACKHOLE, subnet, ())
    check(_with(seen, where, lambda own: replace(own, routes=(*own.routes, black))))


@pytest.mark.parametrize("where", ["host", "a1"])
def test_a_route_that_limits_hops(where: str) -> None:
    """What one container sends comes no further than to the host, what others send does."""
    seen = opened(kernel(town()).engine_rules()).look().snapshot

    def limited(own: Namespace) -> Namespace:
        return replace(own, routes=tuple(replace(each, hop_limit=1) for each in own.routes))

    changed = _with(seen, where, limited)
    check(changed)
    report = evaluate(changed)
    by_name = {container.name: container for container in report.containers}
    assert report.pair(by_name["a1"], by_name["b1"]).verdict is (
        Verdict.BLOCKED if where == "a1" else Verdict.REACHABLE
    )
    assert report.pair(by_name["a2"], by_name["b1"]).verdict is Verdict.REACHABLE


@pytest.mark.parametrize("where", ["host", "a1"])
@pytest.mark.parametrize(
    "destination",
    [
        "{a3}/32",
        "{b3}/32",
        "{n0_base}.200/32",
        "{n1_base}.200/32",
        "{n0_base}.4/31",
        "{n1}",
        "10.99.0.7/32",
        "10.99.0.0/24",
    ],
    ids=lambda text: text.strip("{}"),
)
def test_a_local_route(where: str, destination: str) -> None:
    """Whoever takes packets for addresses that he has not answers for them to those on his network."""
    seen = opened(kernel(town()).engine_rules()).look().snapshot
    taken = Route(255, RouteKind.LOCAL, ip_network(destination.format(**names(seen))), (Hop(1),))
    there = _with(seen, where, lambda own: replace(own, routes=(*own.routes, taken)))
    assert check(there) == (where != "host" or taken.destination.prefixlen == 32)
    hop = Hop(_cards(seen, "a1")[0], ip_address(names(seen)["a1"]))
    led = replace(taken, table=254, kind=RouteKind.UNICAST, hops=(hop,))
    check(_with(there, "host", lambda own: replace(own, routes=(*own.routes, led))))


@pytest.mark.parametrize("where", ["a1", "host"])
@pytest.mark.parametrize(("chain", "field"), [("INPUT", "-s"), ("OUTPUT", "-d"), ("INPUT", "-d"), ("OUTPUT", "-s")])
def test_a_rule_about_an_address_that_is_taken(where: str, chain: str, field: str) -> None:
    """It is met by packets to whoever takes them, or by his answers, though no interface has the address."""
    made = opened(kernel(town().container("own", "host")).engine_rules())
    if where == "host":
        made.rules(f"-I {chain} {field} 10.99.0.7 -j DROP")
    else:
        made.inside(where, f"-A {chain} {field} 10.99.0.7 -j DROP")
    seen = made.look().snapshot
    taken = Route(255, RouteKind.LOCAL, ip_network("10.99.0.7/32"), (Hop(1),))
    assert check(_with(seen, "host", lambda own: replace(own, routes=(*own.routes, taken))))


def test_a_route_by_another_container() -> None:
    """A container that somebody sends packets by is like no other one."""
    seen = opened(kernel(town()).engine_rules()).look().snapshot
    words = names(seen)
    assert seen.kernel is not None
    bridge = next(each.index for each in seen.kernel.host.interfaces.values() if each.name == words["n0_bridge"])
    hop = Hop(bridge, ip_address(words["a2"]))
    route = Route(254, RouteKind.UNICAST, ip_network(f"{words['b3']}/32"), (hop,))
    check(_with(seen, "host", lambda own: replace(own, routes=(*own.routes, route))))


def test_a_reverse_path_filter_without_a_default_route() -> None:
    """On an internal network nothing leads back to strangers, and a strict filter drops what they send."""
    seen = opened(kernel(town(internal=True)).engine_rules()).look().snapshot
    strict = {"ipv4/conf/all/rp_filter": "1"}
    check(_with(seen, "b1", lambda own: replace(own, settings={**own.settings, **strict})))


def test_a_rule_about_an_address_that_is_translated() -> None:
    """An address that nobody has, and that the host leads elsewhere, is one that packets are sent to."""
    made = kernel(town()).engine_rules()
    words = names(made.look().snapshot)
    made.rules(f"-A PREROUTING -d 203.0.113.5/32 -p tcp -j DNAT --to-destination {words['a0']}:80", table="nat")
    check(made.inside("a2", "-A OUTPUT -d 203.0.113.5/32 -j DROP").look().snapshot)


def test_a_group_of_interfaces_that_a_rule_asks_for() -> None:
    """Of two containers with the same rules, one has its interface in the group."""
    made = kernel(town()).engine_rules()
    for name in ("a1", "a2"):
        made.inside(name, "-A INPUT -m devgroup --src-group 0x5 -j DROP")

    def grouped(own: Namespace) -> Namespace:
        return replace(own, interfaces={index: replace(each, group=5) for index, each in own.interfaces.items()})

    changed = _with(made.look().snapshot, "a1", grouped)
    check(changed)
    reach = evaluate(changed)
    by_name = {container.name: container for container in reach.containers}
    assert reach.pair(by_name["a3"], by_name["a1"]).verdict is Verdict.BLOCKED
    assert reach.pair(by_name["a3"], by_name["a2"]).verdict is Verdict.REACHABLE


def test_isolated_ports_of_containers_that_were_not_read() -> None:
    """Who has the port is not known then, and two that may both be isolated may hear each other or not."""
    made = kernel(town()).engine_rules().isolate("a1", "n0").isolate("a2", "n0").unread("sandboxes", "not asked for")
    seen = made.look().snapshot
    assert seen.kernel is not None
    assert sample(seen) is None
    reach = enforced_reach(seen, seen.kernel)
    ids = {sandbox.name: sandbox.id for sandbox in seen.sandboxes.values()}
    assert reach.between(ids["a1"], ids["a2"]).verdict is Verdict.UNKNOWN
    assert reach.between(ids["b1"], ids["b2"]).verdict is Verdict.REACHABLE


ODD_PORTS = {
    "isolated": Port(isolated=True),
    "not forwarding": Port(forwarding=False),
    "not learning": Port(learning=False),
    "not flooding": Port(flood=False),
    "neither": Port(learning=False, flood=False),
    "without broadcasts": Port(bcast_flood=False),
    "without groups": Port(mcast_flood=False),
    "locked": Port(locked=True),
    "answered for": Port(answers=True),
    "proxied": Port(proxied=True),
}


@pytest.mark.parametrize("port", ODD_PORTS.values(), ids=ODD_PORTS)
def test_an_odd_port_of_a_container_that_was_read(port: Port) -> None:
    """A container at a port that keeps something from it stands for itself."""
    seen = kernel(town()).engine_rules().look().snapshot
    assert seen.kernel is not None
    (card,) = (each for each in _cards(seen, "a1"))

    def plugged(own: Namespace) -> Namespace:
        return replace(own, interfaces={**own.interfaces, card: replace(own.interfaces[card], port=port)})

    check(_with(seen, "host", plugged))


def test_a_port_of_an_interface_that_is_down() -> None:
    """Nobody else can have it: of others on the bridge, whose namespaces are as usual, nothing is in doubt."""
    seen = kernel(town()).engine_rules().look().snapshot
    (card,) = _cards(seen, "a1")

    def down(own: Namespace) -> Namespace:
        end = next(each for each in own.interfaces.values() if each.peer == card)
        return replace(own, interfaces={**own.interfaces, end.index: replace(end, up=False)})

    def idle(own: Namespace) -> Namespace:
        return replace(
            own, interfaces={**own.interfaces, card: replace(own.interfaces[card], port=Port(forwarding=False))}
        )

    changed = _with(_with(seen, "a1", down), "host", idle)
    check(changed)
    assert evaluate(changed).totals.unknown_pairs == 0


def test_a_port_that_is_down_of_a_container_that_was_not_read() -> None:
    """Whose it is is known by the addresses at its other end, and he hears nobody."""
    changed = _unread_with_cables(kernel(town()).engine_rules(), lambda end: replace(end, up=False), "a1")
    assert check(changed)
    assert changed.kernel is not None
    reach = enforced_reach(changed, changed.kernel)
    ids = {sandbox.name: sandbox.id for sandbox in changed.sandboxes.values()}
    assert reach.between(ids["a2"], ids["a1"]).verdict is Verdict.BLOCKED
    assert reach.between(ids["a2"], ids["a3"]).verdict is Verdict.REACHABLE


def test_a_link_address_of_somebody_who_was_not_read() -> None:
    """Who was read and has the same one is in doubt with him."""
    made = kernel(town()).engine_rules()
    read = made.look().snapshot.kernel
    assert read is not None
    mac = _card(made.look().snapshot, "a1").mac
    unread = _unread_with_cables(made, lambda end: replace(end, peer_mac=mac), "a3")
    assert unread.kernel is not None
    ids = {sandbox.name: sandbox.id for sandbox in unread.sandboxes.values()}
    partly = {name: namespace for name, namespace in read.sandboxes.items() if name != ids["a3"]}
    changed = replace(unread, kernel=replace(unread.kernel, sandboxes=partly))
    assert check(changed)
    assert changed.kernel is not None
    reach = enforced_reach(changed, changed.kernel)
    assert reach.between(ids["a2"], ids["a1"]).verdict is Verdict.UNKNOWN
    assert reach.between(ids["a2"], ids["a3"]).verdict is Verdict.UNKNOWN
    assert reach.between(ids["a2"], ids["a4"]).verdict is Verdict.REACHABLE


def test_a_cable_that_was_moved_to_another_bridge() -> None:
    """Whoever is on a bridge that is not his network's meets those who are there, and no others of their kind."""
    built = town().network("n2")
    for number in range(ALIKE):
        built.container(f"c{number}", "n2")
    seen = kernel(built).engine_rules().look().snapshot
    for name, other in (("a1", "c1"), ("c1", "b1"), ("b1", "a2")):
        (card,), (there,) = _cards(seen, name), _cards(seen, other)

        def moved(own: Namespace, card: int = card, there: int = there) -> Namespace:
            end = replace(own.interfaces[card], master=own.interfaces[there].master)
            return replace(own, interfaces={**own.interfaces, card: end})

        check(_with(seen, "host", moved))


@pytest.mark.parametrize("network", ["n1", "n2", "n3"])
def test_who_has_the_address_of_a_gateway_himself(network: str) -> None:
    """What he sends there stays with him, unlike what he sends to the gateways of others."""
    built = town().network("n2").network("n3")
    for number in range(ALIKE):
        built.container(f"c{number}", "n2").container(f"d{number}", "n3")
    seen = kernel(built).engine_rules().look().snapshot
    pools = next(each.pools for each in seen.networks.values() if each.name == network)
    local = Route(255, RouteKind.LOCAL, ip_network(str(pools[0].gateway)), (Hop(1),))
    check(_with(seen, "a2", lambda own: replace(own, routes=(*own.routes, local))))


def test_a_route_of_the_host_by_a_port() -> None:
    """What leads to a container by the port of another one does so whether or not others speak for that one."""
    seen = kernel(town()).engine_rules().look().snapshot
    (card,) = _cards(seen, "b3")
    route = Route(254, RouteKind.UNICAST, ip_network(names(seen)["a2"]), (Hop(card),))
    changed = _with(seen, "host", lambda own: replace(own, routes=(*own.routes, route)))
    check(_with(changed, "b1", lambda own: replace(own, routes=own.routes[:-1])))


def test_cables_within_a_container_are_not_the_hosts() -> None:
    """Who runs containers himself has cables to namespaces that nobody knows; indexes mean something else there."""
    seen = kernel(town()).engine_rules().isolate("a1", "n0").isolate("a2", "n0").look().snapshot
    assert seen.kernel is not None
    ends = [card for name in ("a1", "a2") for card in _cards(seen, name)]
    own = {sandbox.name: sandbox.id for sandbox in seen.sandboxes.values()}
    unread = {name: each for name, each in seen.kernel.sandboxes.items() if name not in (own["a1"], own["a2"])}
    nested = {90 + end: Interface(90 + end, f"veth{end}", "veth", "", True, peer=end) for end in ends}
    changed = _with(
        replace(seen, kernel=replace(seen.kernel, sandboxes=unread)),
        "b1",
        lambda box: replace(box, interfaces={**box.interfaces, **nested}),
    )
    assert changed.kernel is not None
    found = enforced_reach(changed, changed.kernel).between(own["a1"], own["a2"])
    assert found.verdict is Verdict.UNKNOWN


@pytest.mark.parametrize("port", ODD_PORTS.values(), ids=ODD_PORTS)
def test_an_odd_port_of_nobody_knows_whom(port: Port) -> None:
    """Without the containers' namespaces, whoever may have the port is undecided, also to the host."""
    made = kernel(town().container("h", "host")).engine_rules().unread("sandboxes", "not asked for")
    seen = made.look().snapshot
    assert seen.kernel is not None
    bridge = next(each.index for each in seen.kernel.host.interfaces.values() if each.name == names(seen)["n0_bridge"])
    end = next(each for each in seen.kernel.host.interfaces.values() if each.master == bridge)
    changed = _with(
        seen, "host", lambda own: replace(own, interfaces={**own.interfaces, end.index: replace(end, port=port)})
    )
    assert changed.kernel is not None
    assert sample(changed) is None
    reach = enforced_reach(changed, changed.kernel)
    ids = {sandbox.name: sandbox.id for sandbox in changed.sandboxes.values()}
    assert reach.between(ids["a1"], ids["a2"]).verdict is Verdict.UNKNOWN or port.isolated
    host_ends = reach.between(HOST, ids["a1"]).verdict
    assert host_ends is (Verdict.REACHABLE if port == Port(isolated=True) else Verdict.UNKNOWN)
    assert reach.between(ids["b1"], ids["b2"]).verdict is Verdict.REACHABLE


def _card(snapshot: Snapshot, name: str) -> Interface:
    assert snapshot.kernel is not None
    sandbox = next(each.id for each in snapshot.sandboxes.values() if each.name == name)
    return next(each for each in snapshot.kernel.sandboxes[sandbox].interfaces.values() if each.name != "lo")


def test_an_interface_without_arp() -> None:
    """A container that neither asks nor answers stands for itself, and a bridge for its network alone."""
    seen = opened(kernel(town()).engine_rules()).look().snapshot
    card = _card(seen, "a2")
    check(
        _with(seen, "a2", lambda own: replace(own, interfaces={**own.interfaces, card.index: replace(card, arp=False)}))
    )
    assert seen.kernel is not None
    bridge = next(each for each in seen.kernel.host.interfaces.values() if each.name == names(seen)["n0_bridge"])
    check(
        _with(
            seen,
            "host",
            lambda own: replace(own, interfaces={**own.interfaces, bridge.index: replace(bridge, arp=False)}),
        )
    )


@pytest.mark.parametrize("name", [Field.ARP_SOURCE, Field.ARP_DESTINATION])
@pytest.mark.parametrize(("family", "hook"), [(TableFamily.ARP, Hook.INPUT), (TableFamily.BRIDGE, Hook.FORWARD)])
def test_a_rule_about_arp(family: TableFamily, hook: Hook, name: Field) -> None:
    """Whose questions or answers a rule drops stands for himself."""
    made = opened(kernel(town()).engine_rules())
    address = int(ip_address(names(made.look().snapshot)["a2"]))
    arp = InRanges(Field.ETHER_TYPE, Ranges.of(0x0806))
    drop = Rule((arp, InRanges(name, Ranges.of(address)), Terminate(RuleVerdict.DROP)), "drop")
    check(
        made.table(Table(family, "mine", Backend.NFTABLES, {"c": Chain("c", (drop,), Base(hook, 0))})).look().snapshot
    )


@pytest.mark.parametrize("target", ["a3", "a0"])
@pytest.mark.parametrize("mac_of", ["nobody", "a3", "a4"])
@pytest.mark.parametrize("where", ["host", "a1"])
def test_a_fixed_link_address(where: str, mac_of: str, target: str) -> None:
    """Neither who has it, nor whom it is for, nor whose it is stands for others."""
    seen = opened(kernel(town()).engine_rules()).look().snapshot
    words = names(seen)
    mac = "02:00:5e:00:53:01" if mac_of == "nobody" else _card(seen, mac_of).mac
    assert seen.kernel is not None
    bridge = next(each.index for each in seen.kernel.host.interfaces.values() if each.name == words["n0_bridge"])
    index = bridge if where == "host" else _card(seen, where).index
    fixed = Neighbour(index, ip_address(words[target]), mac)
    changed = _with(seen, where, lambda own: replace(own, neighbours=(fixed,)))
    check(changed)
    assert changed.kernel is not None
    check(replace(changed, kernel=replace(changed.kernel, sandboxes={}, missing={"sandboxes": "not asked for"})))


@pytest.mark.parametrize("odd", ["scope", "link-local", "route"])
def test_a_container_that_sends_from_elsewhere(odd: str) -> None:
    """By the scope of its address, a better one of IPv4 that is link-local, or what a route of its says."""
    seen = opened(kernel(town()).engine_rules()).look().snapshot
    card = _card(seen, "a1")
    strange = OwnAddress(ip_address("169.254.9.9"), 16)
    own = {
        "scope": tuple(replace(each, scope=Scope.LINK) for each in card.addresses),
        "link-local": (strange, *card.addresses),
        "route": card.addresses,
    }[odd]

    def changed(namespace: Namespace) -> Namespace:
        routes = tuple(
            replace(route, source=strange.ip if odd == "link-local" else ip_address("127.0.0.1"))
            if odd != "scope" and not route.destination.prefixlen
            else route
            for route in namespace.routes
        )
        return replace(
            namespace,
            interfaces={**namespace.interfaces, card.index: replace(card, addresses=own)},
            routes=routes,
        )

    check(_with(seen, "a1", changed))


@pytest.mark.parametrize("setting", ["arp_ignore", "arp_filter", "proxy_arp", "proxy_arp_pvlan"])
@pytest.mark.parametrize("where", ["host", "a1"])
def test_settings_of_answers(where: str, setting: str) -> None:
    """Whom a namespace answers is its own matter."""
    seen = opened(kernel(town()).engine_rules()).look().snapshot
    told = {f"ipv4/conf/all/{setting}": "8", "ipv4/conf/all/forwarding": "1", "ipv4/conf/eth0/forwarding": "1"}
    check(_with(seen, where, lambda own: replace(own, settings={**own.settings, **told})))


@pytest.mark.parametrize("setting", ["ipv4/ip_default_ttl", "ipv6/conf/eth0/hop_limit"])
@pytest.mark.parametrize("where", ["host", "a1"])
def test_how_far_packets_come(where: str, setting: str) -> None:
    """Who sends with fewer hops than it takes is like nobody else."""
    seen = opened(kernel(town()).engine_rules()).look().snapshot
    check(_with(seen, where, lambda own: replace(own, settings={**own.settings, setting: "1"})))


def test_an_address_that_is_answered_for() -> None:
    """Who is answered for by the host is like nobody else."""
    seen = opened(kernel(town()).engine_rules()).look().snapshot
    words = names(seen)
    card = _card(seen, "a1")
    on_link = Route(254, RouteKind.UNICAST, ip_network(words["n1"]), (Hop(card.index),))
    seen = _with(seen, "a1", lambda own: replace(own, routes=(*own.routes, on_link)))
    proxied = ProxiedNeighbour(0, ip_address(words["b3"]))
    check(_with(seen, "host", lambda own: replace(own, proxied=(proxied,))))


@pytest.mark.parametrize("where", ["host", "a1"])
def test_labels_of_addresses(where: str) -> None:
    """Who is sent to from another address than everybody else is like nobody else."""
    built = host("28.5").network("n0", ipv6=True).network("n1", ipv6=True).container("own", "host")
    for number in range(ALIKE):
        built.container(f"a{number}", "n0").container(f"b{number}", "n1")
    shut = ("-A FORWARD -s fd00:9::9/128 -j DROP", "-A OUTPUT -s fd00:9::9/128 -j DROP", "-A FORWARD -j ACCEPT")
    seen = kernel(built).engine_rules().rules(*shut, version=6).look().snapshot
    assert seen.kernel is not None
    bridge = next(each for each in seen.kernel.host.interfaces.values() if each.name == names(seen)["n0_bridge"])
    card = bridge if where == "host" else _card(seen, where)
    target = next(end.ipv6 for box in seen.sandboxes.values() if box.name == "a3" for end in box.endpoints)
    labels = tuple(AddressLabel(IPv6Network(prefix), 9) for prefix in (f"{target}/128", "fd00:9::/64"))
    mine = replace(card, addresses=(*card.addresses, OwnAddress(ip_address("fd00:9::9"), 64)))

    def changed(own: Namespace) -> Namespace:
        return replace(own, interfaces={**own.interfaces, card.index: mine}, labels=labels)

    found = _with(seen, where, changed)
    check(found)
    assert found.kernel is not None
    reach, ids = enforced_reach(found, found.kernel), {box.name: box.id for box in found.sandboxes.values()}
    source = HOST if where == "host" else ids[where]
    addressed = {
        name: {address for path in reach.between(source, ids[name]).paths for address in path.addresses}
        for name in ("a2", "a3")
    }
    assert target not in addressed["a3"]
    assert len(addressed["a2"]) > len(addressed["a3"])


def _cards(snapshot: Snapshot, name: str) -> list[int]:
    """Return the host's ends of a container's cables."""
    assert snapshot.kernel is not None
    sandbox = next(each.id for each in snapshot.sandboxes.values() if each.name == name)
    return [each.peer for each in snapshot.kernel.sandboxes[sandbox].interfaces.values() if each.peer is not None]


def _unread_with_cables(
    made: KernelOf, change: Callable[[Interface], Interface] = lambda end: end, *whose: str
) -> Snapshot:
    """Return a host that tells the other ends of its cables, which nobody looked at; `whose` are changed."""
    seen = made.look().snapshot
    assert seen.kernel is not None
    changed = {end for name in whose for end in _cards(seen, name)}
    cards = [card for each in seen.kernel.sandboxes.values() for card in each.interfaces.values()]
    ends = {card.peer: card for card in cards if card.peer is not None}

    def told(own: Namespace) -> Namespace:
        known = {
            index: replace(cable, peer_mac=ends[index].mac, peer_addresses=ends[index].addresses)
            for index, cable in own.interfaces.items()
            if index in ends
        }
        known |= {index: change(cable) for index, cable in known.items() if index in changed}
        return replace(own, interfaces={**own.interfaces, **known})

    return _with(made.unread("sandboxes", "not asked for").look().snapshot, "host", told)


def test_isolated_ports_of_containers_whose_cables_are_known() -> None:
    """The addresses at the other end of a cable tell whose port it is, though nobody looked inside."""
    made = kernel(town()).engine_rules().isolate("a1", "n0").isolate("a2", "n0")
    unread = _unread_with_cables(made)
    assert unread.kernel is not None
    reach = enforced_reach(unread, unread.kernel)
    ids = {sandbox.name: sandbox.id for sandbox in unread.sandboxes.values()}
    assert reach.between(ids["a1"], ids["a2"]).verdict is Verdict.BLOCKED
    assert reach.between(ids["a1"], ids["a3"]).verdict is Verdict.REACHABLE
    assert check(unread)


def test_an_answer_that_asks_from_the_link() -> None:
    """Who answers from an address of another interface asks for the neighbour from the link-local one, which is shut.

    So the bridge's own address and another network's gateway are not alike, for all of a host and for a part.
    """
    built = host("28.5").network("n0", ipv6=True).network("n1", ipv6=True).container("own", "host")
    for number in range(ALIKE):
        built.container(f"a{number}", "n0").container(f"b{number}", "n1")
    made = kernel(built).engine_rules().rules("-I INPUT -s fe80::/10 -j DROP", version=6)
    made.rules("-I OUTPUT -s fe80::/10 -j DROP", version=6)
    seen = made.look()
    assert check(seen.snapshot)
    gateways = {each.name: next(pool.gateway for pool in each.pools if pool.subnet.version == 6) for each in _six(seen)}
    assert seen.probe("a1", "own", str(gateways["n0"]), "80/tcp") is Verdict.REACHABLE
    assert seen.probe("a1", "own", str(gateways["n1"]), "80/tcp") is Verdict.UNKNOWN


def _six(seen: Look) -> list[Network]:
    return [network for network in seen.snapshot.networks.values() if network.ipv6]


INSIDE = (
    "{chain} {link} -j DROP",
    "{chain} {link} -d {net}.4 -j DROP",
    "INPUT -m devgroup --src-group 0x5 -j DROP",
    "INPUT -m addrtype --dst-type LOCAL --limit-iface-in -p udp -j DROP",
    "{chain} -s 0.0.0.3/0.0.0.255 -j DROP",
    "{chain} ! -d 0.0.1.2/0.0.3.255 -p tcp -m tcp --dport 80 -j DROP",
    "{chain} -d {net}.3 -j DROP",
    "{chain} -d {net}.4 -p udp -j DROP",
    "{chain} -s {net}.5 -j ACCEPT",
    "{chain} -d {other}.3 -j DROP",
    "{chain} -d {other}.0/24 -p tcp -m tcp --dport 1:8000 -j DROP",
    "{chain} -m iprange --src-range {net}.3-{other}.4 -j DROP",
    "{chain} -p tcp -m tcp --dport 20000:20001 -j DROP",
    "{chain} -d 10.99.0.7 -j DROP",
    "{chain} -d 192.0.2.0/24 -j DROP",
)
"""Rules of a container's own: they ask for others by their link addresses, by masks, ranges and one by one."""
LEADING_INSIDE = (
    "{nat} -p tcp -m tcp --dport 80 -j REDIRECT --to-ports 81",
    "{nat} -p tcp -m tcp --dport 80 -j DNAT --to-destination {other}.3:80",
    "{nat} -d 203.0.113.0/24 -p udp -j DNAT --to-destination {net}.3",
    "{nat} -d {other}.0/24 -p tcp -m tcp --dport 80 -j DNAT --to-destination {net}.4",
    "{nat} -d {net}.2/31 -p tcp -j REDIRECT",
    "{nat} ! -d 10.64.0.0/16 -p tcp -j DNAT --to-destination 198.51.100.10:20001",
)
PREFIXES = ("10.99.0.0/24", "10.98.0.0/15", "10.64.0.0/16", "10.64.1.0/25", "10.64.0.0/30", "0.0.0.0/0", "fd00:64::/32")


@st.composite
def headstrong(draw: st.DrawFn) -> Observation:
    """Return a host of which one or two containers changed their own namespaces in ways that others may notice."""
    networks = draw(st.integers(3, 4))
    size = draw(st.integers(4 * networks, 5 * networks))
    layout = Layout("28.5", networks, size, published=draw(st.integers(0, 4)), links=1, entered=True)
    seen = layout.observation()
    assert seen.kernel is not None
    inside = dict(seen.kernel.sandboxes)
    for number in draw(st.lists(st.integers(0, size - 1), min_size=1, max_size=2, unique=True)):
        name = identity("container", f"c{number}")
        inside[name] = draw(changed(inside[name], networks))
    tampered = replace(seen, kernel=replace(seen.kernel, sandboxes=inside))
    return draw(tampering(tampered, 1)) if draw(st.integers(0, 3)) == 0 else tampered


@st.composite
def changed(draw: st.DrawFn, own: NamespaceDocuments, networks: int) -> NamespaceDocuments:
    """Return a container's namespace as somebody within changed it."""
    for _ in range(draw(st.integers(1, 2))):
        words = {
            "chain": draw(st.sampled_from(("INPUT", "OUTPUT"))),
            "nat": draw(st.sampled_from(("OUTPUT", "OUTPUT", "PREROUTING"))),
            "net": f"10.64.{draw(st.integers(0, networks - 1))}",
            "other": f"10.64.{draw(st.integers(0, networks - 1))}",
            "link": f"-m mac --mac-source 02:00:00:00:00:{draw(st.integers(10, 30)):02x}",
        }
        match draw(st.sampled_from(("rules", "rules", "nat", "local", "policy", "tos", "gateway", "mac", "ipsec"))):
            case "rules":
                told = draw(st.lists(st.sampled_from(INSIDE), min_size=1, max_size=3))
                told = [line.format(**words) for line in told]
                own = _filtering(own, "filter", [line for line in told if not ("OUTPUT" in line and "mac" in line)])
            case "nat":
                own = _filtering(own, "nat", [draw(st.sampled_from(LEADING_INSIDE)).format(**words)])
            case "local":
                prefix = draw(st.sampled_from(PREFIXES))
                family = "inet6" if ":" in prefix else "inet"
                table = draw(st.sampled_from(("local", "local", "main", "100")))
                local = {"family": family, "type": "local", "dst": prefix, "table": table, "dev": "lo"}
                own = replace(own, routes=[*own.routes, local])
            case "policy":
                asked = draw(st.sampled_from((f"from {words['net']}.0", f"to {words['net']}.3"))).split()
                rule: dict[str, Any] = {"family": "inet", "priority": 100, "src": "all", "table": "main"}
                rule |= {"src": asked[1], "srclen": 24} if asked[0] == "from" else {"dst": asked[1]}
                own = replace(
                    own, rules=[*(own.rules or ()), draw(st.sampled_from((rule, {**rule, "action": "blackhole"})))]
                )
            case "tos":
                tos = _by(f"{words['net']}.0/24", tos="0x10")
                own = replace(own, routes=[*own.routes, tos])
            case "gateway":
                gateway = f"fd00:64:{draw(st.integers(0, networks - 1))}::{draw(st.integers(1, 4))}"
                there = _by(draw(st.sampled_from(("::/0", "fd00:64::/32"))), metric=512, gateway=gateway)
                own = replace(own, routes=[*own.routes, there])
            case "mac":
                mac = f"02:00:00:00:00:{draw(st.integers(10, 30)):02x}"
                own = replace(
                    own, links=[each if each["ifname"] == "lo" else {**each, "address": mac} for each in own.links]
                )
            case _:
                policy = {
                    "dir": draw(st.sampled_from(("in", "out"))),
                    "src": "0.0.0.0/0",
                    "dst": f"{words['net']}.0/24",
                }
                own = replace(own, policies=[{**policy, "priority": 100, "action": "block", "templates": False}])
    return own


def _filtering(own: NamespaceDocuments, table: str, lines: list[str]) -> NamespaceDocuments:
    """Return a namespace with one table of rules more, or with its own of that name no longer."""
    builtin = ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING") if table == "nat" else ("INPUT", "FORWARD", "OUTPUT")
    saved = own.iptables.get("iptables-nft", "")
    kept = [part for part in saved.split("*") if part and not part.startswith(f"{table}\n")]
    said = "\n".join((table, *(f":{each} ACCEPT [0:0]" for each in builtin), *(f"[0:0] -A {line}" for line in lines)))
    parts = [*kept, f"{said}\nCOMMIT\n"]
    names = tuple(f"ip {part.partition(chr(10))[0]}" for part in parts)
    return replace(own, iptables={"iptables-nft": "".join(f"*{part}" for part in parts)}, tables=names)


@given(headstrong())
@settings(deadline=None, max_examples=20)
def test_what_containers_do_to_themselves(seen: Observation) -> None:
    """Whatever somebody changes inside of a container, the part says the same as the whole."""
    check(parse(seen))


BITS = ("-d 0.0.0.1/0.0.1.255", "! -d 0.0.0.3/0.0.0.255", "-s 0.0.1.0/0.0.1.0")


@pytest.mark.parametrize("match", BITS)
def test_a_mask_that_is_no_prefix(match: str) -> None:
    """The host may ask for some bits of addresses: containers and gateways that have them are told from others."""
    made = opened(kernel(town().container("h", "host")).engine_rules())
    for chain in ("INPUT", "FORWARD"):
        made.rules(f"-I {chain} {match} -j DROP")
    check(made.look().snapshot)


def test_a_mask_tells_gateways_apart() -> None:
    """They are asked about together where nothing does."""
    made = kernel(town().container("own", "host")).engine_rules().rules("-I INPUT -d 0.1.0.1/0.1.255.255 -j DROP")
    seen = made.look()
    assert names(seen.snapshot)["n1"] == "172.21.0.0/16"
    assert seen.probe("a1", "own", "172.20.0.1", "80/tcp") is Verdict.REACHABLE
    assert seen.probe("a1", "own", "172.21.0.1", "80/tcp") is Verdict.BLOCKED


def _report(seen: Observation) -> set[tuple[object, ...]]:
    snapshot = parse(seen)
    assert snapshot.kernel is not None
    reach = enforced_reach(snapshot, snapshot.kernel)
    paths = (
        (one, two, path)
        for one in snapshot.sandboxes
        for two in snapshot.sandboxes
        for path in reach.between(one, two).paths
    )
    return {
        (one, two, path.via, path.protocol, address, path.ports, path.undecided)
        for one, two, path in paths
        for address in path.addresses
    }


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("rule", ["", "-d 10.99.0.7 -j DROP", "-d 10.99.0.0/29 -j DROP", "-d 0.0.0.8/0.0.0.8 -j DROP"])
def test_very_many_addresses_are_asked_about_together(family: int, rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """That says what asking about them one by one says: some are routed, filtered or answered for elsewhere."""
    seen = Layout("28.5", 3, 6, published=2, links=0, entered=True).observation()
    assert seen.kernel is not None
    assert seen.kernel.host is not None
    own = seen.kernel.sandboxes[identity("container", "c0")]
    base, length, kind = ("10.99.0.", 32, "inet") if family == 4 else ("fd00:99::", 128, "inet6")
    texts = [f"{base}{number:x}" if family == 6 else f"{base}{number}" for number in range(1, 25)]
    told = [{"ifindex": 1, "ifname": "lo", "family": kind, "local": text, "prefixlen": length} for text in texts]
    local = [{"family": kind, "type": "local", "dst": text, "table": "local", "dev": "lo"} for text in texts]
    own = replace(own, addresses=[*own.addresses, *told], routes=[*own.routes, *local])
    own = _filtering(own, "filter", [f"INPUT {rule}"] if rule else [])
    gateway = "10.64.0.2" if family == 4 else "fd00:64::2"
    by = {"family": kind, "type": "unicast", "table": "main", "dev": "br-n0", "gateway": gateway}
    host_routes = [*seen.kernel.host.routes, {**by, "dst": f"{base}0/{length - 4}"}]
    other = seen.kernel.sandboxes[identity("container", "c3")]
    black = {"family": kind, "type": "blackhole", "dst": f"{base}8/{length - 3}", "table": "main"}
    inside = {
        **seen.kernel.sandboxes,
        identity("container", "c0"): own,
        identity("container", "c3"): replace(other, routes=[*other.routes, black]),
    }
    host = replace(seen.kernel.host, routes=host_routes)
    seen = replace(seen, kernel=replace(seen.kernel, host=host, sandboxes=inside))
    together = _report(seen)
    monkeypatch.setattr("exporter.evaluate.enforced.likeness.Likeness.of", lambda _, address, __: address)
    monkeypatch.setattr("exporter.evaluate.enforced.likeness.Likeness.at_once", lambda _, address: address)
    assert together == _report(seen)
    assert rule or any(path[4] in texts for path in together)


def _ruled(*lines: str, table: str = "filter") -> Change:
    return lambda own: _filtering(own, table, [line.removeprefix("-A ") for line in lines])


def _routed(*routes: Mapping[str, object]) -> Change:
    return lambda own: replace(own, routes=[*own.routes, *routes])


def _local(*prefixes: str) -> Change:
    return _routed(
        *({"family": "inet", "type": "local", "dst": each, "table": "local", "dev": "lo"} for each in prefixes)
    )


def _by(destination: str, **more: object) -> dict[str, object]:
    family = "inet6" if ":" in destination else "inet"
    return {"family": family, "type": "unicast", "dst": destination, "table": "main", "dev": "eth0", **more}


_FROM: dict[str, Any] = {"family": "inet", "priority": 9, "src": "10.64.0.0", "srclen": 24, "table": "main"}

HEADSTRONG: dict[str, Change] = {
    "a link address": _ruled("INPUT -m mac --mac-source 02:00:00:00:00:20 -j DROP"),
    "a group of interfaces": _ruled("INPUT -m devgroup --src-group 0x5 -j DROP"),
    "a type of address": _ruled("INPUT -m addrtype --dst-type LOCAL --limit-iface-in -j ACCEPT"),
    "a mask": _ruled("INPUT -s 0.0.0.3/0.0.0.255 -j DROP"),
    "thousands of ranges": _ruled(
        *(
            f"INPUT -m iprange --src-range 10.64.{n % 12}.{n // 12}-10.64.{n % 12}.{n // 12 + 1} -j DROP"
            for n in range(2000)
        )
    ),
    "thousands of ports": _ruled(*(f"INPUT -p tcp -m tcp --dport {2 * n} -j DROP" for n in range(1, 2000))),
    "everybody by name": _ruled(*(f"OUTPUT -d 10.64.{n % 12}.{2 + n // 12} -j DROP" for n in range(120))),
    "a policy rule": lambda own: replace(own, rules=[*(own.rules or ()), _FROM]),
    "a policy of IPsec": lambda own: replace(
        own, policies=[{"dir": "out", "src": "0.0.0.0/0", "dst": "10.64.1.0/24", "priority": 1, "action": "block"}]
    ),
    "a label": lambda own: replace(own, labels=[{"address": "fd00:64:1::", "prefixlen": 64, "label": 9}]),
    "a type of service": _routed(_by("10.64.1.0/24", tos="0x10")),
    "a route for some senders": _routed(_by("fd00:64:1::/64", metric=9, **{"from": "fd00:64:2::/64"})),
    "strangers sent to itself": _ruled("OUTPUT -p tcp -m tcp --dport 80 -j REDIRECT --to-ports 81", table="nat"),
    "everybody sent to one": _ruled("OUTPUT -p tcp -j DNAT --to-destination 10.64.1.2:80", table="nat"),
    "a local route": _local("10.99.0.0/24"),
    "thousands of local routes": _local(*(f"10.{100 + n // 256}.{n % 256}.0/24" for n in range(2000))),
    "single addresses in subnets of others": _local("10.64.1.200/32", "10.64.2.201/32"),
    "all addresses in another table": _routed(
        {"family": "inet", "type": "local", "dst": "default", "table": "100", "dev": "lo"}
    ),
    "two gateways": _routed(_by("2001:db8:7::/64", gateway="fd00:64::3", metric=1024)),
    "a link address of another": lambda own: replace(
        own, links=[each if each["ifname"] == "lo" else {**each, "address": "02:00:00:00:00:20"} for each in own.links]
    ),
}
"""What one container may do in its own namespace that others may notice."""


@pytest.mark.parametrize("change", HEADSTRONG.values(), ids=HEADSTRONG)
def test_a_part_does_not_grow_for_what_one_container_does(change: Change) -> None:
    """It stands for itself: of more networks and containers beside it, the part holds no more."""
    sizes = []
    for times in (2, 4):
        seen = Layout("28.5", 12 * times, 60 * times, published=6 * times, entered=True).observation()
        assert seen.kernel is not None
        own = identity("container", "c0")
        inside = {**seen.kernel.sandboxes, own: change(seen.kernel.sandboxes[own])}
        snapshot = parse(replace(seen, kernel=replace(seen.kernel, sandboxes=inside)))
        assert snapshot.kernel is not None
        assert own not in snapshot.kernel.missing
        part = sample(snapshot)
        assert part is not None
        sizes.append(len(part.snapshot.sandboxes))
    assert sizes[0] < 40
    assert sizes[1] <= sizes[0] + 5


@pytest.mark.parametrize("change", HEADSTRONG.values(), ids=HEADSTRONG)
def test_what_one_container_does_changes_no_other_verdict(change: Change) -> None:
    """The part says the same as the whole."""
    seen = Layout("28.5", 3, 18, published=4, entered=True).observation()
    assert seen.kernel is not None
    own = identity("container", "c0")
    inside = {**seen.kernel.sandboxes, own: change(seen.kernel.sandboxes[own])}
    assert check(parse(replace(seen, kernel=replace(seen.kernel, sandboxes=inside))))


@pytest.mark.parametrize("rule", LEADING_INSIDE)
def test_translations_of_one_container(rule: str) -> None:
    """Whoever's packets it sends elsewhere, those are in the paths that lead there."""
    seen = Layout("28.5", 3, 18, published=4, entered=True).observation()
    assert seen.kernel is not None
    own = identity("container", "c0")
    changed_own = _filtering(
        seen.kernel.sandboxes[own], "nat", [rule.format(nat="OUTPUT", net="10.64.0", other="10.64.1")]
    )
    inside = {**seen.kernel.sandboxes, own: changed_own}
    assert check(parse(replace(seen, kernel=replace(seen.kernel, sandboxes=inside))))


def test_what_one_container_does_after_another() -> None:
    """What is known from the look before does not outlive what somebody changes inside."""
    seen = Layout("28.5", 3, 12, published=2, entered=True).observation()
    assert seen.kernel is not None
    before, memory = None, Memory()
    for number, change in enumerate(HEADSTRONG.values()):
        own = identity("container", f"c{number % 3}")
        inside = {**seen.kernel.sandboxes, own: change(seen.kernel.sandboxes[own])}
        snapshot = parse(replace(seen, kernel=replace(seen.kernel, sandboxes=inside)), memory)
        report, before = evaluate_after(snapshot, before)
        assert snapshot.kernel is not None
        same(report.reach, enforced_reach(snapshot, snapshot.kernel), snapshot)


@pytest.mark.parametrize("rule", LEADING_INSIDE)
def test_translations_of_two_containers_in_one_namespace(rule: str) -> None:
    """What it sends to itself is among the paths between the two."""
    made = opened(kernel(town().container("beside", "container:a1")).engine_rules())
    base = names(made.look().snapshot)
    words = {"nat": "-A OUTPUT", "net": base["n0_base"], "other": base["n1_base"]}
    seen = made.inside("a1", rule.format(**words), table="nat").look().snapshot
    assert check(seen)
