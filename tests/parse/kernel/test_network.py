"""Interfaces, addresses, routes, policy rules and listeners."""

from __future__ import annotations

from ipaddress import IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING, Any

import pytest

from exporter.errors import ObservationError
from exporter.model.addresses import link_local_of
from exporter.model.firewall import Divert
from exporter.model.namespace import (
    USUAL_LABELS,
    USUAL_RULES,
    AddressLabel,
    Bridge,
    ForwardingEntry,
    Hop,
    Interface,
    Listener,
    Neighbour,
    PolicyRule,
    Port,
    ProxiedNeighbour,
    Route,
    RouteKind,
    RuleAction,
    Scope,
)
from exporter.model.reach import Protocol
from exporter.parse.kernel.interfaces import parse_interfaces, with_diverted
from exporter.parse.kernel.labels import parse_labels
from exporter.parse.kernel.listeners import parse_listeners
from exporter.parse.kernel.neighbours import parse_forwarding, parse_neighbours, parse_proxied
from exporter.parse.kernel.routes import coming_routes, parse_routes, parse_rules
from tests.kernels import own_address

if TYPE_CHECKING:
    from exporter.model.addresses import Subnet

LINKS = [
    {"ifindex": 1, "ifname": "lo", "flags": ["LOOPBACK", "UP", "LOWER_UP"], "address": "00:00:00:00:00:00"},
    {
        "ifindex": 4, "ifname": "docker0", "flags": ["NO-CARRIER", "UP"], "address": "02:42:00:00:00:01",
        "linkinfo": {"info_kind": "bridge", "info_data": {"nf_call_iptables": 1, "vlan_filtering": 1}},
    },
    {
        "ifindex": 9, "ifname": "veth1", "flags": ["UP"], "link_index": 2, "link_netnsid": 0, "master": "docker0",
        "linkinfo": {
            "info_kind": "veth", "info_slave_kind": "bridge",
            "info_slave_data": {"state": "forwarding", "hairpin": True, "isolated": True},
        },
        "vlans": [{"vlan": 1, "flags": ["PVID", "Egress Untagged"]}, {"vlan": 5, "vlanEnd": 7}],
    },
    {"ifindex": 10, "ifname": "a", "flags": [], "link": "b", "linkinfo": {"info_kind": "veth"}},
    {"ifindex": 11, "ifname": "b", "flags": ["UP"], "link": "a", "linkinfo": {"info_kind": "veth"}},
    {
        "ifindex": 12, "ifname": "mv", "flags": ["UP"], "link": "a", "link_index": 10,
        "linkinfo": {"info_kind": "macvlan", "info_data": {"mode": "private"}},
    },
]  # fmt: skip


def test_links() -> None:
    """Links become interfaces: masters and peers by index, bridges and their ports with their switches."""
    found = parse_interfaces(LINKS, [])
    assert found[1] == Interface(1, "lo", "", "00:00:00:00:00:00", up=True)
    assert found[4].bridge == Bridge(calls_iptables=True, vlan_filtering=True)
    assert (found[4].port, found[4].up) == (None, True)
    assert (found[9].peer, found[9].master, found[9].bridge) == (2, 4, None)
    assert found[9].port == Port(
        isolated=True, hairpin=True, pvid=1, vlans=frozenset({1, 5, 6, 7}), untagged=frozenset({1})
    )
    assert (found[10].peer, found[10].up, found[11].peer) == (11, False, 10)
    assert (found[12].kind, found[12].mode, found[12].peer) == ("macvlan", "private", 10)


@pytest.mark.parametrize(
    ("kind", "mode", "there", "own"),
    [
        ("macvlan", "bridge", (), ()),
        ("macvlan", "passthru", ("a macvlan in mode passthru",), ("a macvlan in mode passthru",)),
        ("macvlan", "source", ("a macvlan in mode source",), ("a macvlan in mode source",)),
        ("macvtap", "vepa", (), ("macvtap",)),
        ("macvtap", "passthru", ("a macvlan in mode passthru",), ("macvtap", "a macvlan in mode passthru")),
    ],
)
def test_macvlans_that_take_what_comes_in(kind: str, mode: str, there: tuple[str, ...], own: tuple[str, ...]) -> None:
    """Nobody can foresee what they take of what comes in at the interface that they stand on."""
    link = {
        "ifindex": 3, "ifname": "mv", "link": "a", "flags": ["UP", "LOWER_UP"],
        "linkinfo": {"info_kind": kind, "info_data": {"mode": mode}},
    }  # fmt: skip
    found = parse_interfaces([{"ifindex": 2, "ifname": "a", "flags": ["UP"]}, link], [])
    assert (found[2].programs, found[3].programs) == (there, own)
    assert (found[3].kind, found[3].mode) == ("macvlan", mode)


def test_macvlans_in_other_namespaces_take_what_comes_in() -> None:
    """One of a container takes it at the interface of the host that it stands on, whose index it tells."""
    host = parse_interfaces([{"ifindex": 2, "ifname": "a", "flags": ["UP"]}], [])
    link = {
        "ifindex": 2, "ifname": "eth0", "link_index": 2, "link_netnsid": 0, "flags": ["UP", "LOWER_UP"],
        "linkinfo": {"info_kind": "macvlan", "info_data": {"mode": "passthru"}},
    }  # fmt: skip
    inside = parse_interfaces([link], [])
    assert with_diverted(host, inside.values(), here=False)[2].programs == ("a macvlan in mode passthru",)
    assert inside[2].programs == ()


def test_actions_of_tc_lead_packets_elsewhere() -> None:
    """By an interface that is told, or nobody knows where; what the filters drop is undecided beside that."""
    sent = {"kind": "mirred", "dev": "b", "inward": True}
    unknown = {"kind": "mirred", "dev": "", "inward": False}
    link = {"ifindex": 2, "ifname": "a", "tc": True, "actions": [sent, unknown, {"kind": "pedit"}], "bpf": True}
    found = parse_interfaces([link], [])[2]
    written = Divert("what tc writes into packets at a", copied=True)
    assert found.diverts == (Divert("where tc leads packets at a", "b", inward=True, copied=True), written, written)
    assert (found.programs, found.bpf) == (("tc",), True)


@pytest.mark.parametrize("program", ["xdp", "tcx"])
def test_programs_of_bpf_are_told(program: str) -> None:
    """Whatever they do, filters that are none are no such programs."""
    found = parse_interfaces(
        [{"ifindex": 2, "ifname": "a", program: True}, {"ifindex": 3, "ifname": "b", "tc": True}], []
    )
    assert (found[2].bpf, found[3].bpf) == (True, False)


@pytest.mark.parametrize("state", ["disabled", "listening", "learning", "blocking"])
def test_ports_that_do_not_forward(state: str) -> None:
    """A port forwards in the state of that name alone."""
    link = {
        "ifindex": 2,
        "ifname": "p",
        "linkinfo": {"info_slave_kind": "bridge", "info_slave_data": {"state": state}},
    }
    port = parse_interfaces([link], [])[2].port
    assert port is not None
    assert not port.forwarding


@pytest.mark.parametrize(
    ("told", "port"),
    [
        ({"learning": False}, Port(learning=False)),
        ({"flood": False}, Port(flood=False)),
        ({"mcast_flood": False}, Port(mcast_flood=False)),
        ({"bcast_flood": False}, Port(bcast_flood=False)),
        ({"locked": True}, Port(locked=True)),
        ({"neigh_suppress": True}, Port(answers=True)),
        ({"proxy_arp_wifi": True}, Port(answers=True)),
        ({"proxy_arp": True}, Port(proxied=True)),
        ({"learning": True, "flood": True, "mcast_flood": True, "bcast_flood": True, "locked": False}, Port()),
        ({}, Port()),
    ],
)
def test_switches_of_ports(told: dict[str, bool], port: Port) -> None:
    """What a kernel or an older file does not tell is as usual."""
    link = {"ifindex": 2, "ifname": "p", "linkinfo": {"info_slave_kind": "bridge", "info_slave_data": told}}
    assert parse_interfaces([link], [])[2].port == port


@pytest.mark.parametrize(
    ("kind", "flags", "arp"),
    [("veth", ["UP"], True), ("veth", ["UP", "NOARP"], False), ("ipvlan", ["UP", "NOARP"], True)],
)
def test_interfaces_without_arp(kind: str, flags: list[str], arp: bool) -> None:
    """The flag is the kernel's own on ipvlan, which does without link addresses."""
    link = {"ifindex": 2, "ifname": "p", "flags": flags, "linkinfo": {"info_kind": kind}}
    assert parse_interfaces([link], [])[2].arp is arp


def test_neighbours() -> None:
    """Fixed ones have a link address, others are answered for, on one interface or all."""
    documents: list[dict[str, Any]] = [
        {"dst": "10.0.0.2", "dev": "eth0", "lladdr": "02:00:00:00:00:AA", "state": ["PERMANENT"]},
        {"dst": "fd00::2", "dev": "docker0", "lladdr": "02:00:00:00:00:bb", "state": ["NOARP"]},
        {"dst": "10.0.0.3", "dev": "docker0", "proxy": True},
        {"dst": "fd00::3", "proxy": True},
        {"dst": "10.0.0.4", "dev": "gone", "lladdr": "02:00:00:00:00:cc", "state": ["PERMANENT"]},
        {"dst": "10.0.0.5", "dev": "gone", "proxy": True},
    ]
    assert parse_neighbours(documents, INDEXES) == (
        Neighbour(3, ip_address("10.0.0.2"), "02:00:00:00:00:aa"),
        Neighbour(4, ip_address("fd00::2"), "02:00:00:00:00:bb"),
    )
    assert parse_proxied(documents, INDEXES) == (
        ProxiedNeighbour(4, ip_address("10.0.0.3")),
        ProxiedNeighbour(0, ip_address("fd00::3")),
    )


@pytest.mark.parametrize(
    "document",
    [
        {"dev": "eth0"},
        {"dev": "eth0", "dst": "10.0.0.3", "lladdr": "zz"},
        {"dev": "eth0", "dst": "x"},
        {"dst": "", "proxy": True},
    ],
)
def test_what_is_no_neighbour(document: dict[str, Any]) -> None:
    """Documents without an address are refused."""
    with pytest.raises(ObservationError):
        (parse_proxied if "proxy" in document else parse_neighbours)([document], INDEXES)


def test_labels() -> None:
    """They keep their order; those at interfaces that nobody knows are left out."""
    documents: list[dict[str, Any]] = [
        {"address": "fd00:77::", "prefixlen": 64, "ifname": "eth0", "label": 99},
        {"address": "fd00:78::", "prefixlen": 64, "ifname": "gone", "label": 98},
        {"address": "::", "prefixlen": 0, "label": 1},
    ]
    assert parse_labels(documents, INDEXES) == (
        AddressLabel(IPv6Network("fd00:77::/64"), 99, INDEXES["eth0"]),
        AddressLabel(IPv6Network("::/0"), 1),
    )
    assert parse_labels([], INDEXES) == ()
    assert parse_labels(None, INDEXES) == USUAL_LABELS


@pytest.mark.parametrize("document", [{"label": 1}, {"address": "10.0.0.0", "prefixlen": 8}, {"address": "fd00::1"}])
def test_what_is_no_label(document: dict[str, Any]) -> None:
    """Prefixes are of IPv6, and end where they say."""
    with pytest.raises(ObservationError):
        parse_labels([document], INDEXES)


def test_what_bridges_know() -> None:
    """Entries by what they do: those that the kernel made for who knocks at a locked port let nobody in."""
    usual = {"mac": "02:00:00:00:00:AA", "ifname": "eth0", "master": "docker0"}
    documents: list[dict[str, Any]] = [
        {**usual, "flags": [], "state": ""},
        {**usual, "flags": ["sticky"], "state": "static", "vlan": 7},
        {**usual, "flags": ["extern_learn"], "state": ""},
        {**usual, "flags": [], "state": "permanent"},
        {**usual, "flags": ["locked"], "state": ""},
        {**usual, "ifname": "gone", "flags": [], "state": ""},
    ]
    mac = "02:00:00:00:00:aa"
    assert parse_forwarding(documents, INDEXES) == (
        ForwardingEntry(3, mac),
        ForwardingEntry(3, mac, vlan=7, lasting=True, sticky=True),
        ForwardingEntry(3, mac, lasting=True),
        ForwardingEntry(3, mac, local=True),
    )


def test_addresses() -> None:
    """Addresses belong to interfaces by name; those that do not answer (yet) are left out."""
    usual = {"family": "inet6", "prefixlen": 64}
    addresses: list[dict[str, Any]] = [
        {"ifname": "lo", "local": "127.0.0.1", "prefixlen": 8},
        {"ifname": "docker0", "local": "fd00::1", **usual},
        {"ifname": "docker0", "local": "fd00::2", **usual, "tentative": True},
        {"ifname": "docker0", "local": "fd00::3", **usual, "tentative": True, "optimistic": True},
        {"ifname": "docker0", "local": "fd00::4", **usual, "dadfailed": True},
        {"ifname": "gone", "local": "10.0.0.1", "prefixlen": 8},
    ]
    nested = {"ifname": "docker0", "addr_info": [{"local": "172.17.0.1", "prefixlen": 16}]}
    found = parse_interfaces(LINKS, [*addresses, nested])
    assert found[1].addresses == (own_address("127.0.0.1/8"),)
    assert found[4].addresses == (
        own_address("fd00::1/64"),
        own_address("fd00::3/64"),
        own_address("172.17.0.1/16"),
    )


def test_link_local_addresses_that_are_about_to_be_used() -> None:
    """They are taken to answer already, with the route that comes then, unless another host turned out to have one."""
    usual = {"family": "inet6", "prefixlen": 64, "tentative": True}
    addresses: list[dict[str, Any]] = [
        {"ifname": "docker0", "local": "fe80::1", **usual},
        {"ifname": "docker0", "local": "fe80::2", **usual, "dadfailed": True},
        {"ifname": "gone", "local": "fe80::3", **usual},
        {"ifname": "docker0", "local": "fd00::4", **usual},
        {"ifname": "docker0", "local": "fe80::x", **usual},
    ]
    found = parse_interfaces(LINKS, addresses[:-1])
    assert found[4].addresses == (own_address("fe80::1/64"),)
    assert list(coming_routes(addresses, {"docker0": 4})) == [Route(255, RouteKind.LOCAL, net("fe80::1"), (Hop(4),))]


@pytest.mark.parametrize(
    ("mac", "address"), [("02:42:ac:11:00:02", "fe80::42:acff:fe11:2"), ("0a:00:00:00:00:01", "fe80::800:ff:fe00:1")]
)
def test_link_local_addresses_of_link_addresses(mac: str, address: str) -> None:
    """They have the link address in two halves, and one bit turned round (EUI-64)."""
    assert link_local_of(mac) == ip_address(address)


@pytest.mark.parametrize(
    ("told", "scope"),
    [
        ({"local": "10.0.0.1", "prefixlen": 8}, Scope.GLOBAL),
        ({"local": "127.0.0.1", "prefixlen": 8}, Scope.HOST),
        ({"local": "127.0.0.1", "prefixlen": 8, "scope": "global"}, Scope.GLOBAL),
        ({"local": "10.0.0.1", "prefixlen": 8, "scope": "link"}, Scope.LINK),
        ({"local": "10.0.0.1", "prefixlen": 8, "scope": "77"}, 77),
        ({"local": "fe80::1", "prefixlen": 64, "scope": "link"}, Scope.GLOBAL),
    ],
)
def test_scopes_of_addresses(told: dict[str, Any], scope: int) -> None:
    """What was saved without one has that which `ip` gives; of IPv6 it is nothing but the address."""
    (found,) = parse_interfaces(LINKS, [{"ifname": "docker0", **told}])[4].addresses
    assert found.scope == scope


@pytest.mark.parametrize(("address", "deprecated"), [("fd00::1", True), ("10.0.0.1", False)])
def test_deprecated_addresses(address: str, deprecated: bool) -> None:
    """Of IPv6 alone that says anything."""
    told = {"ifname": "docker0", "local": address, "prefixlen": 24, "deprecated": True}
    (found,) = parse_interfaces(LINKS, [told])[4].addresses
    assert found.deprecated is deprecated


@pytest.mark.parametrize(
    ("links", "addresses"),
    [
        ([{}], []),
        ([{"ifindex": 1}], []),
        ([{"ifname": "lo"}], []),
        ([{"ifname": "lo", "ifindex": "1"}], []),
        ([], [{"ifname": "lo", "local": "x", "prefixlen": 8}]),
        ([], [{"ifname": "lo", "local": "10.0.0.1", "prefixlen": 99}]),
    ],
)
def test_what_is_no_link_or_address(links: list[dict[str, Any]], addresses: list[dict[str, Any]]) -> None:
    """Documents without what identifies them are refused."""
    with pytest.raises(ObservationError):
        parse_interfaces(links, addresses)


INDEXES = {"eth0": 3, "docker0": 4}
DEFAULT = {4: ip_network("0.0.0.0/0"), 6: ip_network("::/0")}


def net(text: str) -> Subnet:
    """Return a subnet."""
    return ip_network(text)


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (
            {"dst": "default", "gateway": "10.0.0.1", "dev": "eth0"},
            Route(254, RouteKind.UNICAST, DEFAULT[4], (Hop(3, ip_address("10.0.0.1")),)),
        ),
        (
            {"dst": "default", "family": "inet6", "dev": "eth0", "metric": 1024, "table": "main"},
            Route(254, RouteKind.UNICAST, DEFAULT[6], (Hop(3),), metric=1024),
        ),
        ({"dst": "default", "dev": "eth0", "pref": "medium"}, Route(254, RouteKind.UNICAST, DEFAULT[6], (Hop(3),))),
        (
            {"type": "local", "dst": "10.0.0.1", "dev": "docker0", "table": "local", "prefsrc": "10.0.0.1"},
            Route(255, RouteKind.LOCAL, net("10.0.0.1/32"), (Hop(4),), ip_address("10.0.0.1")),
        ),
        ({"type": "blackhole", "dst": "10.0.0.0/8", "table": "7"}, Route(7, RouteKind.BLACKHOLE, net("10.0.0.0/8"))),
        ({"type": "throw", "dst": "fd00::/8", "table": 9}, Route(9, RouteKind.THROW, net("fd00::/8"))),
        (
            {"dst": "fd00::/8", "dev": "eth0", "encap": "seg6"},
            Route(254, RouteKind.UNICAST, net("fd00::/8"), (Hop(3),), tunnelled=True),
        ),
        ({"type": "nat", "dst": "10.0.0.0/8"}, Route(254, RouteKind.OTHER, net("10.0.0.0/8"))),
        (
            {"dst": "fd00::/8", "from": "fd01::/16", "dev": "eth0"},
            Route(254, RouteKind.UNICAST, net("fd00::/8"), (Hop(3),), senders=net("fd01::/16")),
        ),
        (
            {"dst": "default", "from": "fd01::1", "dev": "eth0"},
            Route(254, RouteKind.UNICAST, DEFAULT[6], (Hop(3),), senders=net("fd01::1/128")),
        ),
        (
            {"dst": "fd00::/8", "dev": "eth0", "pref": "low"},
            Route(254, RouteKind.UNICAST, net("fd00::/8"), (Hop(3),), preference=-1),
        ),
        (
            {"dst": "10.0.0.0/8", "dev": "eth0", "tos": "0x10"},
            Route(254, RouteKind.UNICAST, net("10.0.0.0/8"), (Hop(3),), tos="0x10"),
        ),
        (
            {"dst": "10.0.0.0/8", "dev": "eth0", "metrics": [{"mtu": 1400, "hoplimit": 3}]},
            Route(254, RouteKind.UNICAST, net("10.0.0.0/8"), (Hop(3),), hop_limit=3),
        ),
        (
            {"dst": "10.0.0.0/8", "dev": "eth0", "via": {"family": "inet6", "host": "fe80::1"}},
            Route(254, RouteKind.UNICAST, net("10.0.0.0/8"), (Hop(3, ip_address("fe80::1")),)),
        ),
        (
            {
                "dst": "default",
                "nexthops": [
                    {"gateway": "fd00::1", "dev": "eth0", "flags": []},
                    {"gateway": "fd00::2", "dev": "docker0", "flags": ["dead", "linkdown"]},
                    {"dev": "gone", "flags": []},
                ],
            },
            Route(254, RouteKind.UNICAST, DEFAULT[6], (Hop(3, ip_address("fd00::1")),)),
        ),
    ],
)
def test_routes(document: dict[str, Any], expected: Route) -> None:
    """A route keeps its table, kind, destination and the hops that work."""
    assert parse_routes([document], INDEXES) == (expected,)


@pytest.mark.parametrize(
    "document",
    [
        {"dst": "10.0.0.0/8", "dev": "gone"},
        {"dst": "10.0.0.0/8", "dev": "eth0", "flags": ["dead", "linkdown"]},
    ],
)
def test_routes_that_no_packet_takes(document: dict[str, Any]) -> None:
    """Routes by dead or vanished interfaces are left out."""
    assert parse_routes([document], INDEXES) == ()


@pytest.mark.parametrize("name", ["vpn", "9" * 5000, "\u0667", "\ud800"])
def test_tables_with_names(name: str) -> None:
    """Names that only the host's configuration knows are equal where they are the same, whatever they look like."""
    route = parse_routes([{"dst": "10.0.0.0/8", "dev": "eth0", "table": name}], INDEXES)[0]
    rule, other = parse_rules([{"priority": 5, "table": name}, {"priority": 6, "table": "lan"}])
    assert route.table == rule.table != other.table
    assert route.table > 0xFFFFFFFF


LOOKUP = RuleAction.LOOKUP


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({"priority": 0, "src": "all", "table": "local"}, PolicyRule(4, 0, LOOKUP, 255)),
        ({"priority": 0, "family": "inet6", "table": "local"}, PolicyRule(6, 0, LOOKUP, 255)),
        (
            {"priority": 1, "src": "10.0.0.0", "srclen": 8, "dst": "10.1.2.3", "table": "100", "not": True},
            PolicyRule(4, 1, LOOKUP, 100, inverted=True, source=net("10.0.0.0/8"), destination=net("10.1.2.3/32")),
        ),
        (
            {"priority": 1, "fwmark": "0x1", "fwmask": "0xff", "iif": "eth0", "oif": "eth1", "table": 5},
            PolicyRule(4, 1, LOOKUP, 5, input_interface="eth0", output_interface="eth1", mark=1, mark_mask=0xFF),
        ),
        ({"priority": 1, "fwmark": "0x0", "table": 5}, PolicyRule(4, 1, LOOKUP, 5, mark_mask=0xFFFFFFFF)),
        (
            {"priority": 1, "ipproto": "tcp", "sport": 80, "dport_start": 1, "dport_end": 9, "table": 5},
            PolicyRule(4, 1, LOOKUP, 5, protocol=6, source_ports=(80, 80), destination_ports=(1, 9)),
        ),
        (
            {"priority": 1, "suppress_prefixlen": 0, "table": "main"},
            PolicyRule(4, 1, LOOKUP, 254, suppress_prefix_length=0),
        ),
        ({"priority": 1, "goto": 100}, PolicyRule(4, 1, RuleAction.GOTO, 254, goto=100)),
        ({"priority": 1, "goto": "none"}, PolicyRule(4, 1, RuleAction.NOP, 254)),
        ({"priority": 1, "nop": True}, PolicyRule(4, 1, RuleAction.NOP, 254)),
        ({"priority": 1, "action": "prohibit"}, PolicyRule(4, 1, RuleAction.PROHIBIT, 254)),
        ({"table": "main", "suppress_ifgroup": "default"}, PolicyRule(4, 0, LOOKUP, 254, suppress_group=0)),
        ({"table": "main", "suppress_ifgroup": 7}, PolicyRule(4, 0, LOOKUP, 254, suppress_group=7)),
        ({"table": "main", "suppress_ifgroup": "lan"}, PolicyRule(4, 0, LOOKUP, 254, opaque="suppress_ifgroup")),
        ({"table": 5, "uid_start": 0, "uid_end": 5}, PolicyRule(4, 0, LOOKUP, 5, users=(0, 5))),
    ],
)  # fmt: skip
def test_policy_rules(document: dict[str, Any], expected: PolicyRule) -> None:
    """A rule keeps its selectors and what it does; selectors that are not understood are named."""
    assert parse_rules([document]) == (expected,)


def test_policy_rules_that_nobody_told_of() -> None:
    """They are those of every namespace; where there are none, that is told."""
    assert parse_rules(None) == USUAL_RULES
    assert parse_rules([]) == ()


def test_policy_rules_come_by_priority() -> None:
    """The lowest priority is asked first."""
    assert [rule.priority for rule in parse_rules([{"priority": 9}, {"priority": 1}])] == [1, 9]


@pytest.mark.parametrize(
    "document", [{"src": "x"}, {"src": "10.0.0.0", "srclen": 99}, {"action": "x"}, {"fwmark": "x"}, {"sport": "x"}]
)
def test_what_is_no_policy_rule(document: dict[str, Any]) -> None:
    """Values that are none are refused."""
    with pytest.raises(ObservationError):
        parse_rules([document])


@pytest.mark.parametrize("key", ["address", "peer_mac"])
def test_what_is_no_link_address(key: str) -> None:
    """It is refused before anybody looks for its number."""
    with pytest.raises(ObservationError):
        parse_interfaces([{"ifindex": 2, "ifname": "eth0", key: "inet6"}], [])


def test_listeners() -> None:
    """A socket keeps where it listens, and docker-proxy's where it passes everything on to."""
    proxy = {"protocol": "tcp", "address": "::", "port": 80, "v6only": True, "program": "docker-proxy"}
    found = parse_listeners(
        [proxy | {"relay": ["172.17.0.2", 8080]}, {"protocol": "udp", "address": "10.0.0.1", "port": 53}]
    )
    assert found == (
        Listener(
            Protocol.TCP, ip_address("::"), 80, (ip_address("172.17.0.2"), 8080), v6only=True, program="docker-proxy"
        ),
        Listener(Protocol.UDP, ip_address("10.0.0.1"), 53),
    )


@pytest.mark.parametrize("relay", [None, [], ["x", 80], ["10.0.0.1"], "10.0.0.1:80", ["10.0.0.1", "80"]])
def test_relays_that_are_none(relay: object) -> None:
    """Without a readable target nobody says where docker-proxy leads to."""
    document = {"protocol": "tcp", "address": "::", "port": 80, "relay": relay}
    assert parse_listeners([document])[0].relay is None


@pytest.mark.parametrize("document", [{}, {"address": "x", "protocol": "tcp"}, {"address": "::", "protocol": "sctp"}])
def test_what_is_no_listener(document: dict[str, Any]) -> None:
    """A socket without address or protocol is refused."""
    with pytest.raises(ObservationError):
        parse_listeners([document])
