"""What keeps frames from whoever they are for: ports of bridges, fixed link addresses, interfaces that ask nobody.

What is expected here is what packets did on an engine 28.5 with Linux 6.18.
"""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import TYPE_CHECKING, Any

import pytest

from exporter.evaluate import evaluate, explain
from exporter.evaluate.enforced.neighbours import ANSWERED
from exporter.evaluate.enforced.stack import Stack
from exporter.evaluate.enforced.walk import LEARNED
from exporter.evaluate.enforced.way import OWN_GATEWAY
from exporter.model.firewall import (
    Backend,
    Base,
    Chain,
    Field,
    Firewall,
    Hook,
    InRanges,
    Rule,
    Table,
    TableFamily,
    Target,
    Terminate,
    Translate,
    Translation,
)
from exporter.model.firewall import Verdict as RuleVerdict
from exporter.model.namespace import (
    USUAL_RULES,
    ForwardingEntry,
    Hop,
    Interface,
    Namespace,
    Neighbour,
    PolicyRule,
    Port,
    ProxiedNeighbour,
    Route,
    RouteKind,
    RuleAction,
)
from exporter.model.ranges import Ranges
from exporter.model.reach import Protocol, Via
from exporter.parse.kernel.iptables import parse_iptables
from tests.hosts import host
from tests.kernels import kernel, own_address

if TYPE_CHECKING:
    from collections.abc import Mapping

    from exporter.model.report import Report
    from exporter.model.snapshot import Snapshot

BUILT = (
    host("28.5").network("six", ipv6=True).network("other", ipv6=True)
    .container("a", "six").container("b", "six").container("c", "six").container("d", "other").container("h", "host")
)  # fmt: skip
NOBODY = "02:00:5e:00:53:01"
ALL_WAYS = "icmp4 icmp6 tcp4 tcp6 udp4 udp6"


class Scene:
    """A host whose engine's rules were flushed, to be changed."""

    def __init__(self) -> None:
        made = kernel(BUILT)
        self.snapshot: Snapshot = made.look().snapshot
        read = self.snapshot.kernel
        assert read is not None
        self.host: Namespace = read.host
        self.inside: dict[str, Namespace] = dict(read.sandboxes)
        self.ids = {each.name: each.id for each in self.snapshot.sandboxes.values()}
        self.bridge = next(each for each in self.host.interfaces.values() if each.name == self.network("six"))

    def network(self, name: str) -> str:
        """Return the bridge of a network."""
        return next(each.interface for each in self.snapshot.networks.values() if each.name == name)

    def card(self, name: str) -> Interface:
        """Return a container's interface."""
        own = self.inside[self.ids[name]].interfaces.values()
        return next(each for each in own if each.name == "eth0")

    def addresses(self, name: str) -> tuple[IPv4Address | IPv6Address, ...]:
        """Return a container's addresses, the link-local one last."""
        return tuple(item.ip for item in self.card(name).addresses)

    def change(self, name: str, **parts: Any) -> None:  # noqa: ANN401
        """Change a container's namespace, or the host's."""
        if name == "host":
            self.host = replace(self.host, **parts)
        else:
            self.inside[self.ids[name]] = replace(self.inside[self.ids[name]], **parts)

    def interface(self, name: str, interface: Interface, **parts: Any) -> None:  # noqa: ANN401
        """Change an interface of a container or the host."""
        own = self.host if name == "host" else self.inside[self.ids[name]]
        self.change(name, interfaces={**own.interfaces, interface.index: replace(interface, **parts)})

    def port(self, name: str, **switches: bool) -> None:
        """Change the port of a container on its bridge."""
        end = self.card(name).peer
        assert end is not None
        self.interface("host", self.host.interfaces[end], port=Port(**switches))  # type: ignore[arg-type]

    def knows(self, name: str, at: str | None = None, **parts: bool) -> None:
        """Let the bridge know a container's link address at its own port or at another's."""
        end = self.card(at or name).peer
        assert end is not None
        entry = ForwardingEntry(end, self.card(name).mac, **parts)
        self.change("host", forwarding=(*self.host.forwarding, entry))

    def set(self, name: str, **settings: int | str) -> None:
        """Set sysctls of a container or the host, `/` written as `__`."""
        own = self.host if name == "host" else self.inside[self.ids[name]]
        told = {path.replace("__", "/"): str(value) for path, value in settings.items()}
        self.change(name, settings={**own.settings, **told})

    def fix(self, name: str, other: str, mac: str) -> None:
        """Fix the link address that a container or the host has for another container."""
        own = self.host if name == "host" else self.inside[self.ids[name]]
        index = self.bridge.index if name == "host" else self.card(name).index
        fixed = tuple(Neighbour(index, address, mac) for address in self.addresses(other))
        self.change(name, neighbours=(*own.neighbours, *fixed))

    def report(self) -> Report:
        """Return what the exporter makes of it."""
        assert self.snapshot.kernel is not None
        changed = replace(self.snapshot.kernel, host=self.host, sandboxes=self.inside)
        return evaluate(replace(self.snapshot, kernel=changed))

    def ways(self, source: str, destination: str) -> Mapping[str, str]:
        """Return what is not known of each protocol and version of IP by which a container reaches another's addresses.

        Empty texts stand for certainty.
        """
        report = self.report()
        ends = (next(each for each in report.containers if each.name == name) for name in (source, destination))
        own = set(map(str, self.addresses(destination))) if destination != "h" else {str(self.bridge.addresses[0].ip)}
        own |= {str(item.ip) for item in self.bridge.addresses} if destination == "h" else set()
        found: dict[str, str] = {}
        for path in report.pair(*ends).paths:
            for address in own.intersection(path.addresses):
                way = f"{path.protocol.value}{ip_address(address).version}"
                found[way] = path.undecided if way not in found else min(found[way], path.undecided)
        return found


def certain(ways: Mapping[str, str]) -> str:
    """Return what certainly arrives."""
    return " ".join(sorted(way for way, doubt in ways.items() if not doubt))


def doubts(ways: Mapping[str, str]) -> set[str]:
    """Return what is not known."""
    return {doubt for doubt in ways.values() if doubt}


PAIRS = [(one, other) for one in "abch" for other in "abch" if one != other]


def check(scene: Scene, **cut: str) -> None:
    """Compare what certainly arrives between all pairs; `ab="udp4"` are those that are not as usual."""
    for one, other in PAIRS:
        assert certain(scene.ways(one, other)) == cut.get(one + other, ALL_WAYS), (one, other)


def test_everything_arrives_as_long_as_nothing_is_changed() -> None:
    """The scene has no rules."""
    check(Scene())


# --- Routes ---


def test_a_route_by_an_address_of_ones_own_leads_one_of_two_ways() -> None:
    """To the destination at once if the address was there before the route, else to whoever answers for it: nobody."""
    scene = Scene()
    card = scene.card("a")
    own = next(item.ip for item in card.addresses if item.version == 4)
    other = next(address for address in scene.addresses("b") if address.version == 4)
    routes = scene.inside[scene.ids["a"]].routes
    scene.change("a", routes=(*routes, Route(254, RouteKind.UNICAST, ip_network(other), (Hop(card.index, own),))))
    assert certain(scene.ways("a", "c")) == ALL_WAYS
    assert certain(scene.ways("a", "b")) == "icmp6 tcp6 udp6"
    assert doubts(scene.ways("a", "b")) == {OWN_GATEWAY}
    assert doubts(scene.ways("b", "a")) == {OWN_GATEWAY}


def test_an_interface_may_be_forced_to_pass_on_ipv6() -> None:
    """From Linux 6.17 on (force_forwarding), where no interface does: what came in by it is passed on, no answer."""
    scene = Scene()
    scene.set("host", ipv6__conf__all__forwarding=0)
    assert certain(scene.ways("a", "d")) == "icmp4 tcp4 udp4"
    scene.set("host", **{f"ipv6__conf__{scene.network('six')}__force_forwarding": 1})
    assert certain(scene.ways("a", "d")) == "icmp4 icmp6 tcp4 udp4 udp6"
    assert certain(scene.ways("d", "a")) == "icmp4 tcp4 udp4"


@pytest.mark.parametrize(
    ("level", "arrives"), [(0, "icmp4 icmp6 tcp6 udp4 udp6"), (1, "icmp6 tcp6 udp6"), (2, "icmp4 icmp6 tcp6 udp4 udp6")]
)
def test_a_reverse_path_filter_asks_policy_rules_for_the_way_back(level: int, arrives: str) -> None:
    """From the packet's destination, that is: a rule for what d sends decides about what is sent to d."""
    scene = Scene()
    other = next(each for each in scene.host.interfaces.values() if each.name == scene.network("other"))
    d = next(address for address in scene.addresses("d") if address.version == 4)
    away = Route(77, RouteKind.UNICAST, ip_network("0.0.0.0/0"), (Hop(other.index),))
    rule = PolicyRule(4, 100, RuleAction.LOOKUP, 77, source=ip_network(d))
    scene.change("host", routes=(*scene.host.routes, away), rules=(*USUAL_RULES, rule))
    scene.set("host", ipv4__conf__all__rp_filter=level)
    assert certain(scene.ways("a", "d")) == arrives
    assert certain(scene.ways("a", "b")) == ALL_WAYS


@pytest.mark.parametrize(("level", "arrives"), [(0, "udp"), (1, ""), (2, "udp")])
@pytest.mark.parametrize("asks", ["routes", "rules"])
def test_a_reverse_path_filter_is_asked_of_frames_that_are_rewritten(level: int, asks: str, arrives: str) -> None:
    """br_nf_pre_routing_finish routes them, for whoever sends, and for what the receiver would send to him."""
    scene = Scene()
    a, b, c = (next(address for address in scene.addresses(name) if address.version == 4) for name in "abc")
    to_c = Translate(Translation.DNAT, (Target(Ranges.of(int(c)), Ranges(())),))
    steps = (InRanges(Field.DESTINATION, Ranges.of(int(b))), InRanges(Field.PROTOCOL, Ranges.of(17)), to_c)
    chain = Chain("to", (Rule(steps),), Base(Hook.PREROUTING, -100, kind="nat"))
    table = Table(TableFamily.IP, "nat", Backend.NFTABLES, {"to": chain})
    other = next(each for each in scene.host.interfaces.values() if each.name == scene.network("other"))
    elsewhere = Route(254, RouteKind.UNICAST, ip_network(a), (Hop(other.index),))
    away = Route(77, RouteKind.UNICAST, ip_network("0.0.0.0/0"), (Hop(other.index),))
    rules = (PolicyRule(4, 100, RuleAction.LOOKUP, 77, source=ip_network(c)),) if asks == "rules" else ()
    routes = (*scene.host.routes, away if asks == "rules" else elsewhere)
    scene.change("host", routes=routes, rules=(*USUAL_RULES, *rules), firewall=Firewall((table,)))
    scene.set("host", ipv4__conf__all__rp_filter=level)
    report = scene.report()
    ends = (next(each for each in report.containers if each.name == name) for name in "ac")
    assert " ".join(path.protocol for path in report.pair(*ends).paths if str(b) in path.addresses) == arrives


@pytest.mark.parametrize(
    ("version", "sent", "got"),
    [
        (4, "icmp4 icmp6 tcp6 udp6", "icmp4 icmp6 tcp6 udp4 udp6"),
        (6, ALL_WAYS, "icmp4 icmp6 tcp4 udp4 udp6"),
    ],
)
def test_policy_rules_for_the_sources_of_what_is_sent(version: int, sent: str, got: str) -> None:
    """Sockets ask for a route before they have one, answers with it; of IPv4, those that are connected ask again."""
    scene = Scene()
    own = next(address for address in scene.addresses("a") if address.version == version)
    scene.change("a", rules=(*USUAL_RULES, PolicyRule(version, 100, RuleAction.BLACKHOLE, source=ip_network(own))))
    assert certain(scene.ways("a", "b")) == sent
    assert certain(scene.ways("b", "a")) == got


@pytest.mark.parametrize(("gateway", "arrives"), [("", ALL_WAYS), ("fd00::dead", "icmp6 tcp6 udp6")])
def test_gateways_of_ipv6_for_ipv4(gateway: str, arrives: str) -> None:
    """They are asked for by neighbour discovery (ip_neigh_for_gw)."""
    scene = Scene()
    other = next(each for each in scene.host.interfaces.values() if each.name == scene.network("other"))
    four, six, _ = scene.addresses("d")
    hop = Hop(other.index, ip_address(gateway) if gateway else six)
    scene.change("host", routes=(*scene.host.routes, Route(254, RouteKind.UNICAST, ip_network(four), (hop,))))
    assert certain(scene.ways("a", "d")) == arrives


def test_a_policy_rule_may_be_for_a_part_of_the_ports() -> None:
    """Also where no rule of a firewall tells them apart."""
    scene = Scene()
    rule = PolicyRule(4, 100, RuleAction.BLACKHOLE, protocol=17, destination_ports=(80, 90))
    scene.change("host", rules=(*USUAL_RULES, rule))
    report = scene.report()
    ends = (next(each for each in report.containers if each.name == name) for name in "ad")
    own = {str(address) for address in scene.addresses("d") if address.version == 4}
    ports = {path.protocol: path.ports for path in report.pair(*ends).paths if own & {*path.addresses}}
    assert [port in ports[Protocol.UDP] for port in (79, 80, 90, 91)] == [True, False, False, True]
    assert [port in ports[Protocol.TCP] for port in (79, 80, 90, 91)] == [True] * 4


@pytest.mark.parametrize(
    ("sender", "settings", "arrives"),
    [
        ("d", {"ipv4__ip_default_ttl": 1}, "icmp6 tcp6 udp6"),
        ("d", {"ipv4__ip_default_ttl": 2}, ALL_WAYS),
        ("d", {"ipv6__conf__eth0__hop_limit": 1}, "icmp4 tcp4 udp4"),
        ("d", {"ipv6__conf__lo__hop_limit": 1}, ALL_WAYS),
        ("a", {"ipv4__ip_default_ttl": 1}, "icmp4 icmp6 tcp6 udp4 udp6"),
        ("host", {"ipv4__ip_default_ttl": 1}, ALL_WAYS),
        # no kernel says so, and some file might
        ("d", {"ipv4__ip_default_ttl": "9" * 5000}, ALL_WAYS),
    ],
)
def test_packets_come_as_far_as_their_sender_lets_them(
    sender: str, settings: dict[str, int | str], arrives: str
) -> None:
    """Of those with one hop none is passed on, nor of answers; on their own link they arrive."""
    scene = Scene()
    scene.set(sender, **settings)
    assert certain(scene.ways("d", "a")) == arrives
    assert certain(scene.ways("b", "a")) == ALL_WAYS
    check(scene)


MARKING = """*mangle
:PREROUTING ACCEPT [0:0]
-A PREROUTING -j MARK --set-mark 7
COMMIT
*filter
:OUTPUT ACCEPT [0:0]
-A OUTPUT -m mark --mark 7 -j DROP
COMMIT
"""


@pytest.mark.parametrize(("accepts", "arrives"), [(0, "icmp4 tcp4 udp4"), (1, "icmp4 udp4")])
def test_a_socket_may_take_the_mark_of_what_it_accepts(accepts: int, arrives: str) -> None:
    """Then its answers have it, as rules see."""
    scene = Scene()
    rules = parse_iptables(MARKING, TableFamily.IP, Backend.IPTABLES_NFT, None)
    scene.change("a", firewall=Firewall(rules))
    scene.set("a", ipv4__tcp_fwmark_accept=accepts)
    found = scene.ways("d", "a")
    assert certain({way: said for way, said in found.items() if way.endswith("4")}) == arrives


def test_interfaces_without_an_address_send_from_another_ones() -> None:
    """Of IPv4 from the first one's that has any, never from loopback's; of IPv6 from the one that is most like it."""
    addresses = {1: ("127.0.0.1/8", "::1/128"), 2: ("fe80::2/64",), 3: ("198.51.100.10/24", "fd00:1::1/64"), 4: ()}
    addresses |= {5: ("172.17.0.1/16", "fd00:2::1/64")}
    interfaces = {
        index: Interface(index, f"if{index}", "", "", up=True, addresses=tuple(map(own_address, told)))
        for index, told in addresses.items()
    }
    for index, family, towards, expected in (
        (4, 4, "172.17.0.2", "198.51.100.10"), (5, 4, "192.0.2.1", "172.17.0.1"), (2, 6, "fd00:2::9", "fd00:2::1"),
        (4, 6, "fd00:1::9", "fd00:1::1"),
    ):  # fmt: skip
        found = Stack("host", Namespace(interfaces), family).source_for(index, int(ip_address(towards)))
        assert found == int(ip_address(expected)), (index, towards)
    alone = {index: interfaces[index] for index in (1, 2, 4)}
    assert Stack("host", Namespace(alone), 4).source_for(4, 0) is None
    assert Stack("host", Namespace(alone), 6).source_for(2, 0) == int(ip_address("fe80::2"))


@pytest.mark.parametrize(("dropped", "arrives"), [("10.9.0.1", ""), ("", "icmp4 tcp4 udp4"), (None, "icmp4 tcp4 udp4")])
def test_masquerading_goes_by_the_next_hop(dropped: str | None, arrives: str) -> None:
    """By a router in the second subnet of a bridge, from the bridge's address in that (nf_nat_masquerade_ipv4).

    Empty stands for the bridge's first address.
    """
    scene = Scene()
    bridge, card = scene.bridge, scene.card("a")
    first = next(item.ip for item in bridge.addresses if item.version == 4)
    far = own_address("10.77.0.1/32")
    scene.interface("host", bridge, addresses=(*bridge.addresses, own_address("10.9.0.1/24")))
    scene.interface("a", card, addresses=(*card.addresses, own_address("10.9.0.9/24"), far))
    inside = Route(255, RouteKind.LOCAL, ip_network(far.ip), (Hop(card.index),))
    scene.change("a", routes=(*scene.inside[scene.ids["a"]].routes, inside))
    by = Route(254, RouteKind.UNICAST, ip_network("10.77.0.0/24"), (Hop(bridge.index, ip_address("10.9.0.9")),))
    anything = Target(Ranges(()), Ranges(()))
    masquerading = Chain(
        "all", (Rule((Translate(Translation.MASQUERADE, (anything,)),)),), Base(Hook.POSTROUTING, 100, kind="nat")
    )
    table = Table(TableFamily.IP, "nat", Backend.NFTABLES, {"all": masquerading})
    scene.change("host", routes=(*scene.host.routes, by), firewall=Firewall((table,)))
    if dropped is not None:
        own = Ranges.of(int(ip_address(dropped or first)))
        chain = Chain("in", (Rule((InRanges(Field.SOURCE, own), Terminate(RuleVerdict.DROP))),), Base(Hook.INPUT, 0))
        scene.change("a", firewall=Firewall((Table(TableFamily.IP, "mine", Backend.NFTABLES, {"in": chain}),)))
    report = scene.report()
    ends = (next(each for each in report.containers if each.name == name) for name in "da")
    paths = [path for path in report.pair(*ends).paths if str(far.ip) in path.addresses]
    assert " ".join(sorted(f"{path.protocol.value}4" for path in paths)) == arrives


def test_who_may_not_pass_by_his_link_address_is_not_found_either() -> None:
    """Rules of bridges that drop what a link address sends drop its questions and answers, too."""
    scene = Scene()
    own = Ranges.of(int(scene.card("b").mac.replace(":", ""), 16))
    rule = Rule((InRanges(Field.SOURCE_MAC, own), Terminate(RuleVerdict.DROP)))
    chain = Chain("frames", (rule,), Base(Hook.FORWARD, 0))
    table = Table(TableFamily.BRIDGE, "mine", Backend.NFTABLES, {"frames": chain})
    scene.change("host", firewall=Firewall((table,)))
    for ends in ("ab", "ba", "bc", "cb"):
        assert certain(scene.ways(*ends)) == "", ends
    assert certain(scene.ways("a", "c")) == certain(scene.ways("a", "h")) == certain(scene.ways("b", "h")) == ALL_WAYS


# --- Ports of bridges ---


@pytest.mark.parametrize("switches", [{"learning": False}, {"flood": False}], ids=["learning off", "flood off"])
def test_one_of_learning_and_flooding_is_enough(switches: dict[str, bool]) -> None:
    """Who is not known is reached by flooding, and who answers is known."""
    scene = Scene()
    scene.port("b", **switches)
    check(scene)


def test_a_port_that_neither_learns_nor_floods() -> None:
    """Nothing that is for one leaves by it, and so no answer: only who is asked by others first finds them."""
    scene = Scene()
    scene.port("b", learning=False, flood=False)
    check(scene, ab="", cb="", hb="", ba="", bc="", bh="")
    assert scene.ways("a", "b") == scene.ways("h", "b") == {}
    assert doubts(scene.ways("b", "a")) == {LEARNED}
    assert "tcp4" not in scene.ways("b", "a")


def test_a_static_entry_is_as_good_as_learning() -> None:
    """Somebody may tell a bridge who is behind a port."""
    scene = Scene()
    scene.port("b", learning=False, flood=False)
    scene.knows("b", lasting=True)
    check(scene)


def test_an_entry_that_ages_leaves_packets_undecided() -> None:
    """What was learned before a port stopped to learn is forgotten after a while."""
    scene = Scene()
    scene.port("b", learning=False, flood=False)
    scene.knows("b")
    assert {text.split(" behind")[0] for text in doubts(scene.ways("a", "b"))} == {
        f"how long bridge {scene.bridge.name} remembers the link address"
    }
    assert set(scene.ways("a", "b")) == set(ALL_WAYS.split())


@pytest.mark.parametrize("lasting", [True, False])
def test_an_entry_at_another_port_leads_there(lasting: bool) -> None:
    """Frames go where the bridge takes the address to be; what was learned there is forgotten."""
    scene = Scene()
    scene.port("b", learning=False)
    scene.knows("b", at="c", lasting=lasting)
    assert certain(scene.ways("a", "b")) == ""
    assert bool(scene.ways("a", "b")) is not lasting


def test_a_locked_port_lets_nobody_in_that_it_does_not_know() -> None:
    """Neither questions nor answers of whoever is behind it pass."""
    scene = Scene()
    scene.port("b", locked=True)
    check(scene, ab="", cb="", hb="", ba="", bc="", bh="")
    assert scene.ways("a", "b") == scene.ways("b", "a") == scene.ways("b", "h") == {}


@pytest.mark.parametrize(("parts", "at"), [({"local": True}, "b"), ({"lasting": True}, "c")])
def test_other_entries_do_not_open_a_locked_port(parts: dict[str, bool], at: str) -> None:
    """The address has to be known at this very port, and not for the bridge's own."""
    scene = Scene()
    scene.port("b", locked=True)
    scene.knows("b", at=at, **parts)
    assert scene.ways("b", "a") == {}


def test_a_locked_port_lets_in_whom_it_knows() -> None:
    """A static entry opens it; one that was learned before is forgotten after a while."""
    scene = Scene()
    scene.port("b", locked=True)
    scene.knows("b", lasting=True)
    check(scene)
    scene.change("host", forwarding=())
    scene.knows("b")
    assert certain(scene.ways("b", "a")) == ""
    assert set(scene.ways("b", "a")) == set(ALL_WAYS.split())


def test_entries_are_those_of_the_vlan_that_frames_are_in() -> None:
    """A bridge that tells VLANs apart knows addresses by VLAN."""
    scene = Scene()
    assert scene.bridge.bridge is not None
    scene.interface("host", scene.bridge, bridge=replace(scene.bridge.bridge, vlan_filtering=True))
    for name in "abc":
        scene.port(name, pvid=1, vlans=frozenset({1}), untagged=frozenset({1}), locked=name == "b")  # type: ignore[arg-type]
    scene.knows("b", lasting=True)
    assert scene.ways("b", "a") == {}
    (entry,) = scene.host.forwarding
    scene.change("host", forwarding=(replace(entry, vlan=1),))
    assert certain(scene.ways("b", "a")) == ALL_WAYS


@pytest.mark.parametrize(("switches", "version"), [({"bcast_flood": False}, "4"), ({"mcast_flood": False}, "6")])
def test_who_is_not_asked_may_have_asked_himself(switches: dict[str, bool], version: str) -> None:
    """Without broadcasts nobody finds him by IPv4, without groups by IPv6, but the host, and whom he asked before."""
    scene = Scene()
    scene.port("b", **switches)
    rest = " ".join(way for way in ALL_WAYS.split() if not way.endswith(version))
    once = " ".join(way for way in ALL_WAYS.split() if way != f"tcp{version}")
    check(scene, ab=rest, cb=rest, ba=once, bc=once)
    assert set(scene.ways("a", "b")) == set(ALL_WAYS.split())


def test_two_without_broadcasts_never_find_each_other() -> None:
    """Neither is asked by the other."""
    scene = Scene()
    for name in "ab":
        scene.port(name, bcast_flood=False)
    assert certain(scene.ways("a", "b")) == "icmp6 tcp6 udp6"
    assert set(scene.ways("a", "b")) == {"icmp6", "tcp6", "udp6"}


def test_questions_do_not_leave_by_a_port_with_proxy_arp() -> None:
    """Not even the host's, of neither version."""
    scene = Scene()
    scene.port("b", proxied=True)
    for source in "ah":
        assert certain(scene.ways(source, "b")) == ""
    assert doubts(scene.ways("a", "b")) == {LEARNED}


def test_a_bridge_that_answers_for_others() -> None:
    """Who is not asked may be answered for, if the host has a link address of him; and that may be a wrong one."""
    scene = Scene()
    scene.port("b", answers=True)
    check(scene)
    scene.fix("host", "b", NOBODY)
    assert certain(scene.ways("a", "b")) == ""
    told = f"what bridge {scene.bridge.name} answers in the place of those who are asked"
    assert doubts(scene.ways("a", "b")) == {told}


# --- Interfaces that ask nobody, or answer nobody ---


def test_an_interface_without_arp() -> None:
    """It neither asks nor answers, of both versions."""
    scene = Scene()
    scene.interface("b", scene.card("b"), arp=False)
    check(scene, ab="", cb="", hb="", ba="", bc="", bh="")
    assert scene.ways("a", "b") == scene.ways("b", "a") == {}


def test_who_passes_packets_on_knows_who_looks_for_a_router() -> None:
    """By its link-local address, whether or not it answers questions (ndisc_recv_rs)."""
    scene = Scene()
    scene.interface("b", scene.card("b"), arp=False)
    assert doubts(scene.ways("h", "b")) == {LEARNED}
    scene.set("host", **{f"ipv6__conf__{scene.bridge.name}__forwarding": 0})
    assert scene.ways("h", "b") == {}


def test_a_bridge_without_arp() -> None:
    """The host reaches nobody there, and nobody the host; between ports nothing changes."""
    scene = Scene()
    scene.interface("host", scene.bridge, arp=False)
    check(scene, ah="", bh="", ch="", ha="", hb="", hc="")


def test_fixed_link_addresses_make_up_for_arp() -> None:
    """Packets arrive in one direction where one end has one, and TCP where both do."""
    scene = Scene()
    scene.interface("b", scene.card("b"), arp=False)
    scene.fix("a", "b", scene.card("b").mac)
    check(scene, ab="icmp4 icmp6 udp4 udp6", cb="", hb="", ba="", bc="", bh="")
    scene.fix("b", "a", scene.card("a").mac)
    check(scene, cb="", hb="", bc="", bh="")


@pytest.mark.parametrize(
    ("level", "answered"), [(0, True), (1, True), (2, True), (3, True), (5, True), (8, False)], ids=str
)
def test_arp_ignore(level: int, answered: bool) -> None:
    """Only level 8 answers for no address; who is asked by such a one knows it all the same."""
    scene = Scene()
    scene.set("b", ipv4__conf__eth0__arp_ignore=level)
    assert certain(scene.ways("a", "b")) == (ALL_WAYS if answered else "icmp6 tcp6 udp6")
    assert doubts(scene.ways("a", "b")) == (set() if answered else {LEARNED})


def test_any_question_tells_who_asks() -> None:
    """Two that answer nobody, or know each other already, still hear whom the other one asks about third ones."""
    scene = Scene()
    for name in "ab":
        scene.set(name, ipv4__conf__eth0__arp_ignore=8)
    assert scene.ways("a", "b")["udp4"] == LEARNED
    scene.fix("b", "a", scene.card("a").mac)
    assert scene.ways("a", "b")["udp4"] == LEARNED
    scene.interface("b", scene.card("b"), arp=False)
    assert "udp4" not in scene.ways("a", "b")


def test_arp_ignore_for_another_subnet() -> None:
    """Level 2 answers to its own subnet alone."""
    scene = Scene()
    card = scene.card("a")
    scene.set("b", ipv4__conf__all__arp_ignore=2)
    strange = own_address("10.99.0.1/24")
    scene.interface("a", card, addresses=(strange, *card.addresses[1:]))
    assert {way: doubt for way, doubt in scene.ways("a", "b").items() if way.endswith("4")} == {
        "icmp4": LEARNED, "udp4": LEARNED
    }  # fmt: skip


def test_the_address_that_somebody_asks_from_tells_destinations_apart() -> None:
    """The host asks from the address that it answers from: one of the subnet is told, one of a card is not."""
    scene = Scene()
    card = own_address("198.51.100.10/32")
    loopback = scene.host.interfaces[1]
    scene.interface("host", loopback, addresses=(*loopback.addresses, card))
    local = Route(255, RouteKind.LOCAL, card.network, (Hop(1),))
    scene.change("host", routes=(*scene.host.routes, local))
    gateway = next(str(item.ip) for item in scene.bridge.addresses if item.version == 4)

    def undecided(address: str) -> set[str]:
        report = scene.report()
        ends = (next(each for each in report.containers if each.name == name) for name in "bh")
        paths = report.pair(*ends).paths
        return {path.undecided for path in paths if address in path.addresses and path.protocol is Protocol.TCP}

    assert undecided(gateway) == undecided("198.51.100.10") == {""}
    scene.set("b", ipv4__conf__all__arp_ignore=2)
    assert undecided(gateway) == {""}
    assert undecided("198.51.100.10") == {LEARNED}


def test_who_answers_for_another_is_not_known_by_asking() -> None:
    """A proxy whose answers are lost asks from its own address."""
    scene = Scene()
    on_link(scene)
    scene.set("host", ipv4__conf__all__proxy_arp=1)
    scene.port("a", learning=False, flood=False)
    assert scene.ways("a", "d") == {}


def test_arp_filter_asks_for_a_way_back() -> None:
    """Who does not lead back by the interface that was asked is not answered."""
    scene = Scene()
    scene.set("b", ipv4__conf__all__arp_filter=1)
    check(scene)
    away = Route(254, RouteKind.BLACKHOLE, ip_network(scene.addresses("a")[0]), ())
    scene.change("b", routes=(*scene.inside[scene.ids["b"]].routes, away))
    assert "udp4" not in certain(scene.ways("a", "b"))


# --- Fixed link addresses ---


@pytest.mark.parametrize("other", ["nobody's", "somebody else's"])
def test_a_wrong_link_address(other: str) -> None:
    """What is sent goes elsewhere; who is sent to can send, by IPv6 as well only where answers find back."""
    scene = Scene()
    scene.fix("a", "b", NOBODY if other == "nobody's" else scene.card("c").mac)
    check(scene, ab="", ba="icmp4 udp4")
    assert scene.ways("a", "b") == {}
    assert set(scene.ways("b", "a")) == {"icmp4", "udp4"}


def test_the_right_link_address() -> None:
    """It changes nothing."""
    scene = Scene()
    scene.fix("a", "b", scene.card("b").mac)
    check(scene)


def test_a_wrong_link_address_in_the_host() -> None:
    """The host itself, and what it routes, does not arrive; neighbours do."""
    scene = Scene()
    scene.fix("host", "b", NOBODY)
    check(scene, hb="", bh="icmp4 udp4")
    assert scene.ways("d", "b") == {}
    assert certain(scene.ways("d", "a")) == ALL_WAYS


def test_the_link_address_of_a_group_leaves_packets_undecided() -> None:
    """UDP arrives, TCP does not: what is for all opens no connection."""
    scene = Scene()
    scene.fix("a", "b", "ff:ff:ff:ff:ff:ff")
    assert certain(scene.ways("a", "b")) == ""
    assert all(text.startswith("whose the link address is that is fixed for") for text in doubts(scene.ways("a", "b")))


def test_the_link_address_of_the_port_leads_to_the_host() -> None:
    """It takes what comes by a port for the port's own address, and passes it on to whom it is for.

    An answer of neighbour discovery that came by a router counts for nothing (ndisc_rcv).
    """
    scene = Scene()
    end = scene.card("a").peer
    assert end is not None
    scene.fix("a", "b", scene.host.interfaces[end].mac)
    assert certain(scene.ways("a", "b")) == "icmp4 icmp6 tcp4 udp4 udp6"
    assert {path.via.value for path in _between(scene, "a", "b")} >= {"routed"}


def _between(scene: Scene, source: str, destination: str) -> Any:  # noqa: ANN401
    report = scene.report()
    return report.pair(
        *(next(each for each in report.containers if each.name == name) for name in (source, destination))
    ).paths


def test_who_was_not_asked_may_not_be_known_to_the_bridge() -> None:
    """A port that does not flood leads only to who sent something, and a fixed address asks for nothing."""
    scene = Scene()
    scene.port("b", flood=False)
    scene.fix("a", "b", scene.card("b").mac)
    assert {text.split(" the link")[0] for text in doubts(scene.ways("a", "b"))} == {
        f"whether bridge {scene.bridge.name} has learned"
    }
    scene.knows("b", lasting=True)
    assert certain(scene.ways("a", "b")) == ALL_WAYS


def test_a_link_address_at_loopback() -> None:
    """What a namespace sends to itself is lost: of IPv4 all of it, of IPv6 what is for that address."""
    built = host("28.5").network("six", ipv6=True).container("a", "six").container("b", "container:a")
    made = kernel(built).look().snapshot
    assert made.kernel is not None
    ((sandbox, own),) = made.kernel.sandboxes.items()
    address = next(item.ip for each in own.interfaces.values() for item in each.addresses if each.name == "eth0")
    six = next(item.ip for each in own.interfaces.values() for item in each.addresses[1:] if each.name == "eth0")

    def reached(*fixed: Neighbour) -> set[str]:
        assert made.kernel is not None
        changed = replace(made.kernel, sandboxes={sandbox: replace(own, neighbours=fixed)})
        report = evaluate(replace(made, kernel=changed))
        paths = report.pair(*(next(each for each in report.containers if each.name == name) for name in "ab")).paths
        return {told for path in paths for told in path.addresses}

    assert {"127.0.0.1", str(address), "::1", str(six)} <= reached()
    assert reached(Neighbour(1, IPv4Address(0), NOBODY)).isdisjoint({"127.0.0.1", str(address)})
    assert "::1" in reached(Neighbour(1, six, NOBODY))
    assert str(six) not in reached(Neighbour(1, six, NOBODY))


# --- Answers in the place of others ---


def on_link(scene: Scene) -> None:
    """Let a take the network of d for its own."""
    routes = [
        Route(254, RouteKind.UNICAST, item.network, (Hop(scene.card("a").index),)) for item in scene.card("d").addresses
    ]
    scene.change("a", routes=(*routes, *scene.inside[scene.ids["a"]].routes))


def test_nobody_answers_for_another_network() -> None:
    """Who looks for it on his own link finds nobody."""
    scene = Scene()
    on_link(scene)
    assert scene.ways("a", "d") == {}
    assert set(scene.ways("d", "a")) == {"icmp4", "icmp6", "udp4", "udp6"}


@pytest.mark.parametrize("where", ["all", "bridge"])
def test_proxy_arp_answers_for_what_is_routed(where: str) -> None:
    """The host answers for what it leads elsewhere, by IPv4."""
    scene = Scene()
    on_link(scene)
    scene.set("host", **{f"ipv4__conf__{where if where == 'all' else scene.bridge.name}__proxy_arp": 1})
    assert certain(scene.ways("a", "d")) == "icmp4 tcp4 udp4"
    check(scene)
    scene.set("host", **{f"ipv4__conf__{scene.bridge.name}__forwarding": 0})
    assert scene.ways("a", "d") == {}


@pytest.mark.parametrize(("ndp", "ways"), [(0, "icmp4 tcp4 udp4"), (1, ALL_WAYS)])
def test_addresses_that_are_answered_for(ndp: int, ways: str) -> None:
    """One of IPv4 needs no switch."""
    scene = Scene()
    on_link(scene)
    scene.set("host", **{f"ipv6__conf__{scene.bridge.name}__proxy_ndp": ndp})
    proxied = tuple(ProxiedNeighbour(scene.bridge.index, address) for address in scene.addresses("d"))
    scene.change("host", proxied=proxied)
    assert certain(scene.ways("a", "d")) == ways
    assert set(scene.ways("a", "d")) == set(ways.split())


def test_proxy_arp_pvlan_opens_isolated_ports() -> None:
    """The host answers for whoever is behind another port of the same bridge, and passes on what comes."""
    scene = Scene()
    for name in "abc":
        scene.port(name, isolated=True)
    assert scene.ways("a", "b") == {}
    scene.set("host", ipv4__conf__all__proxy_arp=1)
    assert scene.ways("a", "b") == {}
    scene.set("host", ipv4__conf__all__proxy_arp_pvlan=1)
    assert certain(scene.ways("a", "b")) == "icmp4 tcp4 udp4"


def test_a_bridge_may_tell_of_whom_its_host_answers_for() -> None:
    """Who asks by a port with proxy_arp may be told the link address of the owner, and never get there."""
    scene = Scene()
    for name in "abc":
        scene.port(name, isolated=True, proxied=name == "a")
    scene.set("host", ipv4__conf__all__proxy_arp_pvlan=1)
    assert certain(scene.ways("a", "b")) == ""
    assert all(ANSWERED.format(name=scene.bridge.name) in doubt for doubt in doubts(scene.ways("a", "b")))
    assert doubts(scene.ways("a", "b"))
    assert certain(scene.ways("b", "c")) == "icmp4 tcp4 udp4"


def test_proxy_ndp_opens_isolated_ports_in_one_direction() -> None:
    """TCP needs the way back as well."""
    scene = Scene()
    for name in "abc":
        scene.port(name, isolated=True)
    scene.set("host", ipv6__conf__all__proxy_ndp=1)
    scene.change("host", proxied=tuple(ProxiedNeighbour(0, address) for address in scene.addresses("b")))
    assert certain(scene.ways("a", "b")) == "icmp6 udp6"
    assert scene.ways("b", "a") == {}


# --- What is sent to nobody's link address ---


def published(scene: Scene, name: str) -> int:
    """Publish a port of a container by a rule of the host; return the port."""
    made = kernel(BUILT).rules(
        f"-A PREROUTING -p tcp --dport 8080 -j DNAT --to-destination {scene.addresses(name)[0]}:80", table="nat"
    )
    scene.change("host", firewall=made.kernel().host.firewall)
    return 8080


@pytest.mark.parametrize("how", ["a wrong link address", "an interface without ARP"])
def test_br_netfilter_finds_what_it_rewrites(how: str) -> None:
    """A frame for nobody whose packet gets another destination is taken by the host, whomever it was for."""
    scene = Scene()
    port = published(scene, "d")
    gateways = [item.ip for item in scene.bridge.addresses]
    if how == "a wrong link address":
        scene.change("a", neighbours=tuple(Neighbour(scene.card("a").index, each, NOBODY) for each in gateways))
    else:
        scene.interface("a", scene.card("a"), arp=False)
        scene.fix("host", "a", scene.card("a").mac)
    report = scene.report()
    ends = [next(each for each in report.containers if each.name == name) for name in "ad"]
    paths = [path for path in report.pair(*ends).paths if path.via is Via.PUBLISHED_PORT]
    assert {str(path.ports) for path in paths if str(gateways[0]) in path.addresses} == {str(port)}
    scene.change("host", settings={**scene.host.settings, "bridge/bridge-nf-call-iptables": "0"})
    report = scene.report()
    ends = [next(each for each in report.containers if each.name == name) for name in "ad"]
    assert not report.pair(*ends).paths


def told(scene: Scene, source: str, destination: str) -> tuple[str, str]:
    """Return what `explain` says last of the first packet, and what would change it."""
    assert scene.snapshot.kernel is not None
    changed = replace(scene.snapshot, kernel=replace(scene.snapshot.kernel, host=scene.host, sandboxes=scene.inside))
    trip = explain(changed, scene.report(), source, destination).trips[0]
    last = trip.legs[0].hops[-1]
    assert last.lost
    return last.text, trip.change


def test_explain_tells_who_asked_nobody() -> None:
    """What is sent to nobody's link address goes no further."""
    scene = Scene()
    scene.fix("a", "b", NOBODY)
    change = "eth0 in a that asks for link addresses (ip neigh, ip link set arp on)"
    assert told(scene, "a", "b") == ("lets it go no further", change)


def test_explain_tells_of_ports() -> None:
    """What keeps the two apart is named, with the ports."""
    scene = Scene()
    scene.port("b", locked=True)
    assert "keeps b and a apart: the sender's port is locked (veth" in told(scene, "b", "a")[0]
    scene.port("b", learning=False, flood=False)
    assert "keeps a and b apart: the receiver's port neither learns nor floods (veth" in told(scene, "a", "b")[0]


def test_explain_tells_who_is_not_answered() -> None:
    """No rule is to blame, also where one has let the question through."""
    scene = Scene()
    scene.interface("b", scene.card("b"), arp=False)
    accept = Rule((Terminate(RuleVerdict.ACCEPT),), "accept")
    frames = Chain("frames", (accept,), Base(Hook.FORWARD, 0))
    table = Table(TableFamily.BRIDGE, "mine", Backend.NFTABLES, {"frames": frames})
    for tables in ((), (table,)):
        scene.host = replace(scene.host, firewall=replace(scene.host.firewall, tables=tables))
        text, change = told(scene, "a", "b")
        assert text.endswith("ARP is not answered")
        assert change == "ARP that b answers (ip link set arp on, arp_ignore and arp_filter of net.ipv4.conf)"


def test_explain_tells_whose_answers_ports_keep_back() -> None:
    """Who is asked has an answer, which goes nowhere."""
    scene = Scene()
    scene.port("b", locked=True)
    text, change = told(scene, "a", "b")
    assert text.endswith("ARP is not answered: ports keep the answer back")
    assert change == "a link that lets the two hear each other"
