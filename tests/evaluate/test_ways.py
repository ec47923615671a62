"""Which way packets take in a namespace, and from whom it believes that they come.

What is expected here is what packets did between network namespaces with Linux 6.18.
"""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv6Network, ip_address, ip_network
from itertools import permutations
from typing import Any

import pytest

from exporter.evaluate.enforced.emission import sources_of
from exporter.evaluate.enforced.picking import USUAL, picked_ports
from exporter.evaluate.enforced.route_table import Question
from exporter.evaluate.enforced.stack import Stack
from exporter.evaluate.enforced.way import way
from exporter.model.firewall import ReversePath
from exporter.model.namespace import AddressLabel, Hop, Interface, Namespace, OwnAddress, Route, RouteKind, Scope
from exporter.parse.kernel.routes import parse_rules

IN, OUT, FAR = 2, 3, 4


def address(text: str, length: int = 24, scope: Scope = Scope.GLOBAL) -> OwnAddress:
    """Return an address of an interface."""
    return OwnAddress(ip_address(text), length, scope)


def number(text: str) -> int:
    """Return an address as a number."""
    return int(ip_address(text))


def route(prefix: str, interface: int, table: int = 254, kind: RouteKind = RouteKind.UNICAST) -> Route:
    """Return a route by one interface."""
    return Route(table, kind, ip_network(prefix), (Hop(interface),))


def namespace(*rules: dict[str, Any], unnumbered: int = 0, **switches: int) -> Stack:
    """Return a namespace that 10.1.0.0/24 is behind one interface of, and all others behind another.

    Policy rules are put after the one for the local table; the interface that packets come in by may have no address.
    """
    interfaces = {
        1: Interface(1, "lo", "", "", True, addresses=(address("127.0.0.1", 8),)),
        IN: Interface(IN, "in", "veth", "", True, addresses=() if unnumbered else (address("10.3.0.1"),)),
        OUT: Interface(OUT, "out", "veth", "", True, addresses=(address("10.2.0.1"),)),
        FAR: Interface(FAR, "far", "veth", "", True, addresses=(address("10.4.0.1"),)),
    }
    routes = (
        route("10.2.0.1/32", OUT, 255, RouteKind.LOCAL),
        route("10.3.0.1/32", IN, 255, RouteKind.LOCAL),
        route("10.1.0.0/24", OUT),
        route("10.5.0.0/24", IN),
        route("0.0.0.0/0", FAR, 100),
    )
    usual = [{"priority": priority, "src": "all", "table": name} for priority, name in ((0, "local"), (32766, "main"))]
    told = parse_rules([usual[0], *rules, usual[1]] if rules else None)
    settings = {f"ipv4/conf/all/{name}": str(value) for name, value in switches.items()}
    return Stack("host", Namespace(interfaces, routes, rules=told, settings=settings), 4)


OPAQUE = {"priority": 100, "src": "all", "tos": "0x10", "table": "100"}


def test_a_rule_that_is_not_understood_applies_and_does_not() -> None:
    """Both ways are followed, and which of them it is stays open."""
    found = way(namespace(OPAQUE), Question(number("10.1.0.9")))
    assert {item.interface for item in found.exits} == {FAR, OUT}
    assert found.doubt == "policy rule 100: tos"


def test_a_rule_that_changes_nothing_leaves_nothing_open() -> None:
    """Where both ways are the same, or the rule is for others by what is understood of it, there is no doubt."""
    same = way(namespace(OPAQUE | {"table": "main"}), Question(number("10.1.0.9")))
    others = way(
        namespace(OPAQUE | {"src": "10.9.0.0", "srclen": 24}), Question(number("10.1.0.9"), number("10.1.0.7"))
    )
    assert [(each.exits[0].interface, each.doubt) for each in (same, others)] == [(OUT, "")] * 2


BY_MARK = {"priority": 100, "src": "all", "fwmark": "0x7", "table": "100"}
INVERTED = {"not": True}


@pytest.mark.parametrize(
    ("rule", "mark", "out", "doubt"),
    [
        (BY_MARK, 7, {FAR}, ""),
        (BY_MARK, 0, {OUT}, ""),
        (BY_MARK, None, {FAR, OUT}, "policy rule 100: fwmark"),
        (BY_MARK | {"src": "10.9.0.0", "srclen": 24}, None, {OUT}, ""),
        (BY_MARK | INVERTED, None, {FAR, OUT}, "policy rule 100: fwmark"),
        (BY_MARK | INVERTED | {"src": "10.9.0.0", "srclen": 24}, None, {FAR}, ""),
        (OPAQUE | INVERTED, 0, {FAR, OUT}, "policy rule 100: tos"),
    ],
)
def test_a_mark_that_nobody_knows(rule: dict[str, Any], mark: int | None, out: set[int], doubt: str) -> None:
    """A rule that asks for it may apply or not, unless the packet is for others by what is known of it."""
    found = way(namespace(rule), Question(number("10.1.0.9"), number("10.1.0.7"), mark=mark))
    assert ({item.interface for item in found.exits}, found.doubt) == (out, doubt)


@pytest.mark.parametrize(
    ("wanted", "out", "doubt"),
    [
        ((32768, 60999), {FAR}, ""),
        ((1, 65535), {FAR}, ""),
        ((1, 32767), {OUT}, ""),
        ((40000, 50000), {FAR, OUT}, "policy rule 100: sport"),
        ((60999, 65535), {FAR, OUT}, "policy rule 100: sport"),
    ],
)
def test_a_port_that_nobody_knows(wanted: tuple[int, int], out: set[int], doubt: str) -> None:
    """Of those that the sender picks from, a rule may ask for some."""
    rule = {"priority": 100, "src": "all", "sport_start": wanted[0], "sport_end": wanted[1], "table": "100"}
    picked = Question(number("10.1.0.9"), number("10.1.0.7"), ports=(USUAL.intervals[0], (80, 80)))
    found = way(namespace(rule), picked)
    assert ({item.interface for item in found.exits}, found.doubt) == (out, doubt)


def test_many_rules_that_are_not_understood_are_gone_through_once() -> None:
    """The ways do not double with each."""
    rules = [OPAQUE | {"priority": number, "table": "77"} for number in range(10, 60)]
    assert len(list(namespace(*rules).routing.lookups(Question(number("10.1.0.9"))))) == 1


@pytest.mark.parametrize(("level", "believed"), [(0, True), (1, False), (2, True)])
def test_a_loose_filter_takes_any_way_back(level: int, believed: bool) -> None:
    """A strict one takes the interface's own alone."""
    stack = namespace(rp_filter=level)
    assert stack.believes(number("10.1.0.2"), "in") is believed
    assert stack.believes(number("10.5.0.2"), "in")
    assert stack.believes(number("10.9.0.2"), "in") is (level == 0)


def test_a_loose_filter_is_a_strict_one_where_there_is_no_address() -> None:
    """__fib_validate_source does not look for another way then (no_addr)."""
    stack = namespace(unnumbered=1, rp_filter=2)
    assert not stack.believes(number("10.1.0.2"), "in")
    assert stack.believes(number("10.5.0.2"), "in")


@pytest.mark.parametrize(
    ("switches", "believed"),
    [
        ({}, False),
        ({"rp_filter": 2}, False),
        ({"accept_local": 1}, True),
        ({"accept_local": 1, "rp_filter": 1}, False),
        ({"accept_local": 1, "rp_filter": 2}, True),
    ],
)
@pytest.mark.parametrize("rules", [(), ({"priority": 9, "src": "all", "fwmark": "0x7", "table": "77"},)])
def test_own_addresses_of_others(switches: dict[str, int], believed: bool, rules: tuple[dict[str, Any], ...]) -> None:
    """With accept_local they may come in; a filter then asks for the way back as for all others."""
    stack = namespace(*rules, **switches)
    found = stack.believes(number("10.2.0.1"), "in") and stack.led_back(Question(number("10.2.0.1")), "in")[0]
    assert found is believed


def test_a_filter_that_hinges_on_a_rule_that_is_not_understood() -> None:
    """The packet may be believed, and may be not."""
    back = Question(number("10.1.0.2"))
    assert namespace(OPAQUE, rp_filter=1).led_back(back, "out") == (True, "policy rule 100: tos")
    assert namespace(OPAQUE, rp_filter=1).led_back(back, "in") == (False, "")


TO, FROM_IT = {"dst": "10.1.0.0", "dstlen": 24, "src": "all"}, {"src": "10.3.0.1"}
"""Selectors of what goes to where a packet came from, and of what comes from where it goes to."""


@pytest.mark.parametrize(
    ("selector", "native", "answers"),
    [
        ({"src": "10.9.9.9"}, True, {True}),
        (FROM_IT, False, {False}),
        (FROM_IT, True, {False}),
        ({**TO, "iif": "lo"}, False, {False}),
        ({**TO, "iif": "out"}, False, {True}),
        ({**TO, "iif": "in"}, True, {True}),
        ({**TO, "ipproto": "udp"}, False, {True}),
        ({**TO, "ipproto": "udp"}, True, {True, False}),
        ({**TO, "ipproto": "udp", "dport": 80}, True, {True}),
        ({**TO, "fwmark": "0x7"}, True, {True}),
        ({**TO, "tos": "0x10"}, False, {True, False}),
    ],
)
def test_rules_ask_policy_rules_for_a_way_back(selector: dict[str, Any], native: bool, answers: set[bool]) -> None:
    """As for a packet of one's own to the source, from where it goes to: rpfilter_mt, nft_fib4_eval."""
    rule = {"priority": 100, "action": "blackhole", **selector}
    stack = namespace(rule, {"priority": 32766, "src": "all", "table": "main"})
    packet = Question(number("10.3.0.1"), number("10.1.0.9"), "out", mark=7, protocol=17)
    assert stack.routing.reverse_path(ReversePath(native=native), packet) == answers


def test_what_loopback_brings_is_led_back_to() -> None:
    """Though no route to an own address is one of the kind that is asked for."""
    own = number("10.2.0.1")
    for native in (False, True):
        assert namespace().routing.reverse_path(ReversePath(native=native), Question(own, own, "lo")) == {True}
        assert namespace().routing.reverse_path(ReversePath(native=native), Question(own, own, "in")) == {False}


@pytest.mark.parametrize(
    ("path", "interface", "answers"),
    [
        (ReversePath(), "in", {True}),
        (ReversePath(), "out", {True}),
        (ReversePath(), "far", {False}),
        (ReversePath(loose=True), "far", {True}),
        (ReversePath(native=True), "in", {False}),
        (ReversePath(native=True), "out", {True}),
    ],
)
def test_rpfilter_looks_for_a_route_of_ipv6_by_the_interface(
    path: ReversePath, interface: str, answers: set[bool]
) -> None:
    """Whatever its metric is (rt6_device_match); nft takes the best one."""
    routes = tuple(replace(route("fd00:1::/64", each), metric=metric) for each, metric in ((OUT, 5), (IN, 50)))
    routes += (route("::/0", FAR),)
    stack = Stack("host", Namespace(namespace().namespace.interfaces, routes), 6)
    assert stack.routing.reverse_path(path, Question(0, number("fd00:1::9"), interface)) == answers


def test_a_rule_in_forward_asks_as_from_where_the_packet_leaves() -> None:
    """Only those of nft can stand there (nft_fib4_eval)."""
    stack = namespace({"priority": 100, "action": "blackhole", **TO, "iif": "far"})
    packet = Question(number("10.9.0.1"), number("10.1.0.9"), "out", "far")
    strict, loose = ReversePath(native=True), ReversePath(native=True, loose=True)
    assert stack.routing.reverse_path(strict, packet) == {False}
    assert stack.routing.reverse_path(loose, packet) == {True}


def sending(*addresses: OwnAddress, version: int = 4, **switches: int) -> Stack:
    """Return a namespace with an interface that has these addresses, beside another one."""
    own = Interface(IN, "in", "veth", "", True, addresses=addresses)
    other = Interface(OUT, "out", "veth", "", True, addresses=(address("10.1.0.1"), address("fd00:9::1", 64)))
    loopback = Interface(1, "lo", "", "", True, addresses=(address("127.0.0.1", 8, Scope.HOST),))
    settings = {f"ipv4/conf/all/{name}": str(value) for name, value in switches.items()}
    return Stack("host", Namespace({1: loopback, IN: own, OUT: other}, settings=settings), version)


def test_link_local_addresses_of_ipv4_are_lent_and_used() -> None:
    """Their scope is that of all others, unless somebody gave them another one."""
    stack = sending(address("169.254.7.1", 16))
    assert stack.source_for(IN, number("10.9.0.9")) == number("169.254.7.1")


NEAR = (address("10.8.0.1", scope=Scope.LINK), address("10.7.0.1"), address("10.9.0.1"))


@pytest.mark.parametrize(
    ("towards", "scope", "expected"),
    [
        ("10.9.0.9", Scope.GLOBAL, "10.9.0.1"),
        ("10.5.0.9", Scope.GLOBAL, "10.7.0.1"),
        ("10.8.0.9", Scope.GLOBAL, "10.7.0.1"),
        ("10.8.0.9", Scope.LINK, "10.8.0.1"),
        ("0.0.0.0", Scope.LINK, "10.8.0.1"),
        ("0.0.0.0", Scope.GLOBAL, "10.7.0.1"),
    ],
)
def test_addresses_that_reach_less_far_are_passed_over(towards: str, scope: Scope, expected: str) -> None:
    """inet_select_addr: one of the subnet goes before the first one, and no next hop is in none."""
    assert sending(*NEAR).source_for(IN, number(towards), scope) == number(expected)


def test_nothing_is_lent_that_is_for_a_link() -> None:
    """in_dev_select_addr passes it over for whoever asks, and takes no other of another interface's subnet either."""
    stack = sending(address("10.8.0.1", scope=Scope.LINK))
    assert stack.source_for(IN, number("10.5.0.9")) == number("10.1.0.1")
    assert stack.source_for(1, number("10.8.0.9"), Scope.LINK) == number("10.1.0.1")


def test_addresses_of_the_host_are_of_the_link_with_route_localnet() -> None:
    """inet_select_addr asks for no more then."""
    told = address("10.8.0.1", scope=Scope.HOST)
    assert sending(told).source_for(IN, 0, Scope.LINK) == number("10.1.0.1")
    assert sending(told, route_localnet=1).source_for(IN, 0, Scope.LINK) == number("10.8.0.1")


def test_no_more_bits_of_ipv6_count_than_those_of_the_prefix() -> None:
    """Of two that are alike so far, the first one is taken."""
    first, second = address("fd00:1::1", 64), address("fd00:1::9:1", 64)
    assert sending(first, second, version=6).source_for(IN, number("fd00:1::9:2")) == number("fd00:1::1")


LABELLED = tuple(address(each, 64) for each in ("fd00:1::1", "2001::1", "2002:1::1", "2001:10::1", "2400::1"))


@pytest.mark.parametrize(
    ("towards", "expected"),
    [
        ("fd00:77::1", "fd00:1::1"),
        ("2001:db8::1", "2400::1"),
        ("2003::1", "2400::1"),
        ("2001:3f::1", "2400::1"),
        ("2001:0:77::1", "2001::1"),
        ("2001:17::1", "2001:10::1"),
        ("2002:77::1", "2002:1::1"),
    ],
)
def test_ipv6_goes_by_labels_before_bits(towards: str, expected: str) -> None:
    """As every namespace has them."""
    for told in permutations(LABELLED):
        assert sending(*told, version=6).source_for(IN, number(towards)) == number(expected)


@pytest.mark.parametrize(
    ("labels", "towards", "expected"),
    [
        ((), "fd00:77::1", "fd00:1::1"),
        ((), "2003::1", "2002:1::1"),
        ((), "2001:30::1", "2001::1"),
        ((("fd00:77::/64", 9), ("2400::/16", 9)), "fd00:77::1", "2400::1"),
        ((("fd00:77::/64", 9, IN), ("2400::/16", 9, IN)), "fd00:77::1", "2400::1"),
        ((("fd00:77::/64", 9, OUT), ("2400::/16", 9)), "fd00:77::1", "fd00:1::1"),
        ((("fd00:77::/64", 9), ("2400::/16", 9, OUT)), "fd00:77::1", "fd00:1::1"),
        ((("fd00:77::/64", 9), ("fd00::/8", 8), ("2400::/16", 8)), "fd00:77::1", "fd00:1::1"),
        ((("fd00::/8", 8), ("fd00:77::/64", 9), ("2400::/16", 9)), "fd00:77::1", "fd00:1::1"),
    ],
)
def test_the_first_label_counts(labels: tuple[tuple[Any, ...], ...], towards: str, expected: str) -> None:
    """Of those at any interface, or at the one in question."""
    told = tuple(AddressLabel(IPv6Network(prefix), *rest) for prefix, *rest in labels)
    stack = Stack("host", replace(sending(*LABELLED, version=6).namespace, labels=told), 6)
    assert stack.source_for(IN, number(towards)) == number(expected)


def test_what_is_lent_is_labelled_where_it_is() -> None:
    """Not where the packets leave: FAR has two addresses, and the interface none."""
    stack = sending(version=6)
    lending = Interface(FAR, "far", "veth", "", True, addresses=(address("2400::1", 64), address("2600::1", 64)))
    told = (AddressLabel(IPv6Network("fd00:77::/64"), 9, IN), AddressLabel(IPv6Network("2600::/16"), 9, FAR))
    namespace = replace(stack.namespace, interfaces={**stack.namespace.interfaces, FAR: lending}, labels=told)
    assert Stack("host", namespace, 6).source_for(IN, number("fd00:77::1")) == number("2600::1")


@pytest.mark.parametrize(
    ("gateway", "expected"), [(None, "10.8.0.1"), ("10.9.0.9", "10.9.0.1"), ("10.5.0.9", "10.7.0.1")]
)
def test_a_namespace_sends_from_what_suits_the_gateway(gateway: str | None, expected: str) -> None:
    """Without one, from the first address that is for the link (fib_result_prefsrc)."""
    stack = sending(*NEAR)
    hop = Hop(IN, ip_address(gateway) if gateway else None)
    routes = (Route(254, RouteKind.UNICAST, ip_network("10.77.0.0/16"), (hop,)),)
    own = Stack("host", Namespace(stack.namespace.interfaces, routes), 4)
    assert sources_of(own, number("10.77.0.1")).addresses == (number(expected),)


def test_a_namespace_sends_by_ipv6_from_what_suits_the_destination() -> None:
    """Whatever the gateway (ip6_route_get_saddr)."""
    stack = sending(address("fd00:1::1", 64), address("fd00:2::1", 64))
    routes = (Route(254, RouteKind.UNICAST, ip_network("::/0"), (Hop(IN, ip_address("fd00:1::9")),)),)
    own = Stack("host", Namespace(stack.namespace.interfaces, routes), 6)
    assert sources_of(own, number("fd00:2:0:1::1")).addresses == (number("fd00:2::1"),)


@pytest.mark.parametrize(
    ("told", "reserved", "expected"),
    [
        ("", "", [(32768, 60999)]),
        ("32768\t60999", "", [(32768, 60999)]),
        ("1024\t65535", "", [(1024, 65535)]),
        ("80\t80", "", [(80, 80)]),
        ("32768\t60999", "8080,40000-40001,60999", [(32768, 39999), (40002, 60998)]),
        ("80\t80", "80", []),
        ("some", "", [(32768, 60999)]),
    ],
)
def test_ports_that_kernels_pick_from(told: str, reserved: str, expected: list[tuple[int, int]]) -> None:
    """Those of the namespace that nobody reserved (tests/conformance/test_picked_ports.py)."""
    settings = {"ipv4/ip_local_port_range": told, "ipv4/ip_local_reserved_ports": reserved}
    assert picked_ports(Namespace(settings=settings)).intervals == tuple(expected)
