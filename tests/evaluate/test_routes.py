"""Which of several routes packets take, which of them hinge on what the kernel does not tell, and what comes of none.

What is expected here is what packets did between network namespaces with Linux 6.18.
"""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from exporter.evaluate.enforced.emission import sources_of
from exporter.evaluate.enforced.gateways import left_where_silent
from exporter.evaluate.enforced.policy_rules import usual_policy
from exporter.evaluate.enforced.route_table import Question
from exporter.evaluate.enforced.routing import OF_TOS, UNHEEDED
from exporter.evaluate.enforced.stack import Stack
from exporter.evaluate.enforced.way import SEVERAL_DEFAULTS, SEVERAL_HOPS, way
from exporter.model.namespace import (
    LOCAL_TABLE,
    MAIN_TABLE,
    USUAL_RULES,
    Hop,
    Interface,
    Namespace,
    OwnAddress,
    PolicyRule,
    Route,
    RouteKind,
    RuleAction,
)

ONE, OTHER, THIRD = 2, 3, 4
LINKS = {ONE: ("10.1.0.1", "fd00:1::1"), OTHER: ("10.2.0.1", "fd00:2::1"), THIRD: ("10.3.0.1", "fd00:3::1")}
FAR, FAR_V6 = "192.0.2.9", "fd00:b::9"


def route(
    prefix: str,
    interface: int,
    gateway: str = "",
    senders: str = "",
    *,
    metric: int = 0,
    preference: int = 0,
    tos: str = "",
) -> Route:
    """Return a route of the main table by one interface."""
    hop = Hop(interface, ip_address(gateway) if gateway else None)
    some = ip_network(senders) if senders else None
    kind, destination = RouteKind.UNICAST, ip_network(prefix)
    return Route(MAIN_TABLE, kind, destination, (hop,), None, metric, senders=some, preference=preference, tos=tos)


def namespace(
    *routes: Route, rules: tuple[PolicyRule, ...] = USUAL_RULES, old: frozenset[str] = frozenset()
) -> Namespace:
    """Return a namespace with three interfaces, some of whose addresses are deprecated."""
    told = {
        index: tuple(
            OwnAddress(ip_address(each), 24 if "." in each else 64, deprecated=each in old) for each in each_of
        )
        for index, each_of in LINKS.items()
    }
    interfaces = {index: Interface(index, f"eth{index}", "veth", "", True, addresses=told[index]) for index in LINKS}
    own = (
        Route(LOCAL_TABLE, RouteKind.LOCAL, ip_network(each), (Hop(index),))
        for index, addresses in LINKS.items()
        for each in addresses
    )
    return Namespace(interfaces, (*own, *routes), rules=rules)


def number(text: str) -> int:
    """Return an address as a number."""
    return int(ip_address(text))


def led(made: Namespace, destination: str, source: str = "") -> tuple[set[int], str]:
    """Return the interfaces that packets may leave by, and what is not known."""
    stack = Stack("host", made, ip_address(destination).version)
    found = way(stack, Question(number(destination), number(source) if source else None))
    return {each.interface for each in found.exits}, found.doubt


@pytest.mark.parametrize(
    ("second", "expected"),
    [
        (route("0.0.0.0/0", OTHER, "10.2.0.9"), ({ONE, OTHER}, SEVERAL_DEFAULTS)),
        (route("0.0.0.0/0", ONE, "10.1.0.9"), ({ONE}, "")),
        (route("0.0.0.0/0", OTHER, "10.2.0.9", metric=1), ({ONE}, "")),
        (route("0.0.0.0/0", OTHER), ({ONE}, "")),
        (route("192.0.2.0/24", OTHER, "10.2.0.9"), ({OTHER}, "")),
    ],
)
def test_default_routes_of_one_metric(second: Route, expected: tuple[set[int], str]) -> None:
    """The kernel takes another than the first while a gateway is silent; one without a gateway never."""
    assert led(namespace(route("0.0.0.0/0", ONE, "10.1.0.9"), second), FAR) == expected


@pytest.mark.parametrize(
    ("second", "expected"),
    [
        (route("0.0.0.0/0", OTHER, "10.2.0.9"), (["10.1.0.1", "10.2.0.1"], SEVERAL_DEFAULTS)),
        (route("0.0.0.0/0", OTHER, "10.2.0.9", metric=1), (["10.1.0.1"], "")),
        (route("0.0.0.0/0", ONE, "10.1.0.8"), (["10.1.0.1"], "")),
        (
            replace(route("0.0.0.0/0", ONE, "10.1.0.9"), source=ip_address("10.3.0.1")),
            (["10.1.0.1", "10.3.0.1"], SEVERAL_DEFAULTS),
        ),
    ],
)
def test_where_packets_come_from_by_several_defaults(second: Route, expected: tuple[list[str], str]) -> None:
    """Each route has an address of its own to send from, or names it."""
    stack = Stack("host", namespace(route("0.0.0.0/0", ONE, "10.1.0.9"), second), 4)
    found = sources_of(stack, number(FAR))
    assert ([str(ip_address(each)) for each in found.addresses], found.doubt) == expected


def test_where_packets_come_from_by_several_next_hops() -> None:
    """By each hop from an address that suits it."""
    hops = Hop(ONE, ip_address("10.1.0.9")), Hop(OTHER, ip_address("10.2.0.9"))
    several = replace(route("0.0.0.0/0", ONE), hops=hops)
    found = sources_of(Stack("host", namespace(several), 4), number(FAR))
    assert found.addresses == (number("10.1.0.1"), number("10.2.0.1"))
    assert found.doubt == SEVERAL_HOPS


def test_gateways_of_ipv6_are_not_chosen_among_like_that() -> None:
    """What fib_select_default does, it does for IPv4."""
    two = route("::/0", ONE, "fd00:1::9"), route("::/0", OTHER, "fd00:2::9")
    assert led(namespace(*two), FAR_V6) == ({ONE}, "")


@pytest.mark.parametrize(
    ("source", "interface"),
    [("", ONE), ("fd00:1::1", ONE), ("fd00:2::1", THIRD), ("fd00:2::7", OTHER), ("fd00:3::1", ONE)],
)
def test_routes_for_some_senders(source: str, interface: int) -> None:
    """Those for the fewest count; those for all are passed over for others, too, for what is less exact."""
    made = namespace(
        route("::/0", ONE),
        route("fd00:b::/64", THIRD, metric=1),
        route("fd00:b::/64", OTHER, senders="fd00:2::/64"),
        route("fd00:b::/64", THIRD, senders="fd00:2::1/128", metric=9),
    )
    assert led(made, FAR_V6, source) == ({interface}, "")
    assert not usual_policy(made)


@pytest.mark.parametrize(("source", "interface"), [("", ONE), ("fd00:1::1", ONE), ("fd00:2::1", OTHER)])
def test_default_routes_for_some_senders(source: str, interface: int) -> None:
    """Nothing is less exact than one to everywhere that is for all."""
    made = namespace(route("::/0", ONE, metric=1), route("::/0", OTHER, senders="fd00:2::/64", metric=9))
    assert led(made, FAR_V6, source) == ({interface}, "")


def test_a_source_is_picked_without_a_route() -> None:
    """Where only a route for some senders leads, the address that is most like the destination is tried."""
    made = namespace(route("::/0", OTHER, senders="fd00:2::/64"))
    assert sources_of(Stack("host", made, 6), number("fd00:2:0:9::1")).addresses == (number("fd00:2::1"),)
    assert sources_of(Stack("host", made, 6), number("fd00:3:0:9::1")).addresses == ()


def test_preferences() -> None:
    """Of one metric, the most preferred counts, whichever came first."""
    made = namespace(route("fd00:b::/64", ONE, preference=-1), route("fd00:b::/64", OTHER, preference=1))
    assert led(made, FAR_V6) == ({OTHER}, "")
    worse = namespace(route("fd00:b::/64", ONE), route("fd00:b::/64", OTHER, metric=1, preference=1))
    assert led(worse, FAR_V6) == ({ONE}, "")


LIKE = route("fd00:b::/64", ONE, metric=256), route("fd00:b::/64", OTHER, metric=256)


@pytest.mark.parametrize(
    ("routes", "came_in_by", "leaves_by"),
    [
        (LIKE, "", ONE),
        (LIKE, "eth2", ONE),
        (LIKE, "eth3", OTHER),
        (LIKE, "eth4", ONE),
        ((LIKE[0], replace(LIKE[1], metric=257)), "eth3", ONE),
        ((replace(LIKE[0], preference=1), LIKE[1]), "eth3", ONE),
    ],
)
def test_routes_that_lead_back(routes: tuple[Route, ...], came_in_by: str, leaves_by: int) -> None:
    """Of those of IPv6 that differ in nothing else, packets that are passed on take that by which they came in."""
    found = way(Stack("", namespace(*routes), 6), Question(number(FAR_V6), interface=came_in_by))
    assert {item.interface for item in found.exits} == {leaves_by}


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (route("192.0.2.0/24", OTHER, tos="0x10", metric=9), ({ONE, OTHER}, OF_TOS.format(tos="0x10"))),
        (route("192.0.2.0/24", ONE, tos="0x10"), ({ONE}, "")),
        (route("192.0.2.0/28", OTHER, tos="0x10"), ({ONE, OTHER}, OF_TOS.format(tos="0x10"))),
        (route("192.0.0.0/16", OTHER, tos="0x10"), ({ONE}, "")),
    ],
)
def test_routes_by_type_of_service(other: Route, expected: tuple[set[int], str]) -> None:
    """Whoever sends may choose it; of one prefix they come first (fib_table_lookup)."""
    made = namespace(route("192.0.2.0/24", ONE), other)
    assert led(made, FAR) == expected
    assert not usual_policy(made)


def without(priority: int) -> tuple[PolicyRule, ...]:
    """Return the usual policy rules without those of a priority."""
    return tuple(rule for rule in USUAL_RULES if rule.priority != priority)


@pytest.mark.parametrize(
    ("rules", "four", "six"),
    [
        (USUAL_RULES, ({ONE}, ""), ({ONE}, "")),
        (without(32767), ({ONE}, ""), ({ONE}, "")),
        (without(32766), (set(), ""), ({ONE}, UNHEEDED)),
        ((), (set(), ""), ({ONE}, UNHEEDED)),
        ((*without(32766), PolicyRule(6, 9, RuleAction.NOP)), (set(), ""), (set(), "")),
    ],
)
def test_rules_that_were_deleted(
    rules: tuple[PolicyRule, ...], four: tuple[set[int], str], six: tuple[set[int], str]
) -> None:
    """Of IPv6 they may be heeded or not, unless there are others."""
    made = namespace(route("0.0.0.0/0", ONE), route("::/0", ONE), rules=rules)
    assert (led(made, FAR), led(made, FAR_V6)) == (four, six)
    assert usual_policy(made) is (rules == USUAL_RULES)


@pytest.mark.parametrize(("target", "interface"), [(100, ONE), (60, OTHER), (50, OTHER), (10, OTHER)])
def test_rules_that_lead_to_others(target: int, interface: int) -> None:
    """One leads to a later rule; one whose target is not there is passed over, and so is what no kernel takes."""
    rules = (
        PolicyRule(4, 50, RuleAction.GOTO, goto=target),
        PolicyRule(4, 70, RuleAction.LOOKUP, 7),
        PolicyRule(4, 100, RuleAction.LOOKUP, MAIN_TABLE),
    )
    other = replace(route("0.0.0.0/0", OTHER), table=7)
    stack = Stack("host", namespace(route("0.0.0.0/0", ONE), other, rules=rules), 4)
    assert [each.interface for each in way(stack, Question(int(ip_address(FAR)))).exits] == [interface]


def test_rules_of_a_family_that_is_not_there() -> None:
    """A kernel without IPv6 has none of it."""
    interfaces = namespace().interfaces
    rules = tuple(rule for rule in USUAL_RULES if rule.family == 4)
    assert usual_policy(Namespace(interfaces, (route("0.0.0.0/0", ONE),), rules=rules))
    assert not usual_policy(Namespace(interfaces, (route("::/0", ONE),), rules=rules))


@pytest.mark.parametrize(
    ("old", "source"),
    [
        (set(), "fd00:1::1"),
        ({"fd00:1::1"}, "fd00:3::1"),
        ({"fd00:1::1", "fd00:2::1", "fd00:3::1"}, "fd00:1::1"),
    ],
)
def test_deprecated_addresses_are_not_sent_from(old: set[str], source: str) -> None:
    """Those of other interfaces are better; where all are deprecated, all is as usual."""
    made = namespace(route("::/0", ONE), old=frozenset(old))
    assert sources_of(Stack("host", made, 6), number("fd00:3::77")).addresses == (number(source),)


@pytest.mark.parametrize(
    ("others", "taken"),
    [
        ((), {ONE}),
        ((route("::/0", OTHER),), {ONE, OTHER}),
        ((route("::/0", OTHER), route("fd00::/16", THIRD)), {ONE, THIRD}),
        ((route("fd00:b::/64", OTHER, metric=2), route("::/0", THIRD)), {ONE, OTHER}),
        # of one metric the most preferred, and once the first metric is in vain, of all others
        ((route("fd00:b::/64", OTHER, metric=1, preference=-1), route("fd00:b::/64", THIRD, metric=2)), {ONE, OTHER}),
        ((route("fd00:b::/64", OTHER, metric=2), route("fd00:b::/64", THIRD, metric=3, preference=1)), {ONE, THIRD}),
        # those for some senders are tried before those for all
        ((route("fd00:b::/64", OTHER, metric=2), route("fd00:b::/64", THIRD, senders="fd00:1::/64")), {THIRD}),
        ((route("fd00::/16", OTHER, senders="fd00:9::/64"), route("fd00::/16", THIRD)), {ONE, THIRD}),
    ],
)
def test_gateways_that_may_be_left(others: tuple[Route, ...], taken: set[int]) -> None:
    """Where a gateway of IPv6 may not answer, packets may go by the next best route, to one that does."""
    made = namespace(route("fd00:b::/64", ONE, "fd00:1::99", metric=1), *others)
    stack = Stack("host", made, 6)
    stack.routing.answers = lambda hop: "silent" if hop.gateway == ip_address("fd00:1::99") else ""
    found = way(stack, Question(number(FAR_V6), number("fd00:1::1")))
    assert {each.interface for each in found.exits} == taken
    assert found.doubt == ("silent" if len(taken) > 1 else "")
    assert bool(left_where_silent(made)) == bool(others)
    assert not left_where_silent(replace(made, settings={"ipv6/conf/all/forwarding": "1"}))
