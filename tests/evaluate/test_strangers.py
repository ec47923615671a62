"""Third parties that stand for all others: who they are, and who they never are."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.evaluate.enforced.strangers import (
    STRANGERS,
    Held,
    lends,
    lent_strangers,
    redirects_strangers,
    strangers,
)
from exporter.model.firewall import Backend, Firewall, TableFamily
from exporter.model.namespace import LOCAL_TABLE, MAIN_TABLE, Hop, Namespace, Route, RouteKind
from exporter.parse.kernel.ipsets import parse_ipsets
from exporter.parse.kernel.iptables import parse_iptables

NOBODY = Held(frozenset(), ())


def nat(*lines: str, family: TableFamily = TableFamily.IP) -> Firewall:
    """Return a firewall with a table nat."""
    chains = (":PREROUTING ACCEPT [0:0]", ":OUTPUT ACCEPT [0:0]", ":DOCKER - [0:0]")
    text = "\n".join(("*nat", *chains, *lines, "COMMIT", ""))
    return Firewall(tuple(parse_iptables(text, family, Backend.IPTABLES_NFT, parse_ipsets(""))))


LED = "-j DNAT --to-destination 10.0.0.2:80"


@pytest.mark.parametrize(
    "lines",
    [
        (),
        (f"-A PREROUTING -d 203.0.113.7/32 -p tcp {LED}",),
        (f"-A PREROUTING -p tcp -m addrtype --dst-type LOCAL {LED}",),
        ("-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER", f"-A DOCKER -p tcp -m tcp --dport 80 {LED}"),
        ("-A OUTPUT -p tcp -j ACCEPT",),
    ],
)
def test_who_is_left_alone(lines: tuple[str, ...]) -> None:
    """Published ports, single addresses and rules that lead nobody elsewhere make nobody up."""
    assert not redirects_strangers(nat(*lines))
    assert strangers([nat(*lines)], 4, NOBODY) == frozenset()


def test_a_chain_that_others_come_to_as_well() -> None:
    """One way to it that asks for no local address is enough."""
    both = (
        "-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER",
        "-A OUTPUT -p tcp -j DOCKER",
        f"-A DOCKER -p tcp {LED}",
    )
    assert redirects_strangers(nat(*both))
    assert strangers([nat(*both)], 4, NOBODY) == {STRANGERS[4]}
    assert strangers([nat(*both)], 6, NOBODY) == frozenset()


def test_each_range_that_rules_name_has_one() -> None:
    """Inside of what a rule names and outside, also where it is negated."""
    found = strangers([nat(f"-A PREROUTING ! -d 10.0.0.0/8 -p tcp {LED}")], 4, NOBODY)
    assert {ip_address(address) in ip_network("10.0.0.0/8") for address in found} == {True, False}
    assert STRANGERS[4] in found


@given(
    st.lists(st.tuples(st.integers(0, 2**32 - 1), st.integers(1, 31)), max_size=6),
    st.frozensets(st.integers(0, 2**32 - 1), max_size=20),
)
def test_nobody_is_made_up_who_is_somebody(ranges: list[tuple[int, int]], held: frozenset[int]) -> None:
    """Whatever rules name and whoever is there: those that are made up have no address of anybody's, nor an odd one."""
    networks = [ip_network((address, prefix), strict=False) for address, prefix in ranges]
    rules = [f"-A PREROUTING -d {network} -p tcp {LED}" for network in networks]
    found = strangers([nat(f"-A PREROUTING -p udp {LED}", *rules)], 4, Held(held | {STRANGERS[4]}, ()))
    assert not found & (held | {STRANGERS[4]})
    odd = [each for each in map(ip_address, found) if each.is_loopback or each.is_multicast or each.is_unspecified]
    assert odd == []


def taking(*prefixes: str, firewall: Firewall | None = None) -> Namespace:
    """Return a namespace with local routes."""
    routes = tuple(Route(LOCAL_TABLE, RouteKind.LOCAL, ip_network(prefix), (Hop(1),)) for prefix in prefixes)
    return Namespace(routes=routes, firewall=firewall or Firewall())


def test_a_namespace_takes_what_is_its_own_and_no_more() -> None:
    """Loopback, link-local addresses and those that interfaces have are no addresses of nobody."""
    usual = taking("127.0.0.0/8", "127.0.0.1/32", "10.0.0.2/32", "::1/128", "fe80::1/128", "fd00::2/128")
    held = frozenset({int(ip_address("10.0.0.2")), int(ip_address("fd00::2"))})
    assert not lends(usual)
    assert [lent_strangers([usual], family, Held(held, ())) for family in (4, 6)] == [frozenset()] * 2


def test_an_address_that_no_interface_has() -> None:
    """A route to a single one is enough, and nothing stands for it."""
    one = taking("10.0.0.7/32")
    assert not lends(one)
    assert lent_strangers([one], 4, NOBODY) == {int(ip_address("10.0.0.7"))}


def test_each_part_of_a_local_route_has_one() -> None:
    """Parts are what rules and routes of anybody tell apart; a broadcast address is for others to ask about."""
    rules = nat("-A PREROUTING -d 10.0.0.64/26 -j ACCEPT", "-A PREROUTING -s 10.0.0.5 -j ACCEPT")
    there = Namespace(
        routes=(
            Route(MAIN_TABLE, RouteKind.BLACKHOLE, ip_network("10.0.0.128/25")),
            Route(LOCAL_TABLE, RouteKind.BROADCAST, ip_network("10.0.0.9")),
        )
    )
    found = lent_strangers([taking("10.0.0.0/24", firewall=rules), there], 4, NOBODY)
    parts = [ip_network(each) for each in ("10.0.0.0/26", "10.0.0.64/26", "10.0.0.128/25")]
    assert [sum(ip_address(each) in part for each in found) for part in parts] == [2, 1, 1]
    assert int(ip_address("10.0.0.5")) in found
    assert lends(taking("10.0.0.0/24"))


def test_who_takes_everything() -> None:
    """Of third parties, single addresses that rules name are not asked about one by one."""
    rules = nat("-A PREROUTING -s 203.0.113.7 -j ACCEPT")
    assert lent_strangers([taking("0.0.0.0/0", firewall=rules)], 4, NOBODY) == {STRANGERS[4]}


@given(st.integers(0, 2**32 - 1), st.integers(24, 31), st.data())
def test_nobody_of_a_local_route_is_somebody(address: int, length: int, data: st.DataObject) -> None:
    """As long as there is an address in it that nobody has, that one is asked about."""
    prefix = ip_network((address, length), strict=False)
    own = range(int(prefix.network_address), int(prefix.broadcast_address) + 1)
    held = data.draw(st.frozensets(st.sampled_from(own)))
    found = lent_strangers([taking(str(prefix))], 4, Held(held, ()))
    sent_to = frozenset() if prefix.is_loopback or prefix.is_multicast or address >> 24 == 0 else frozenset(own)
    free = sent_to - held - {2**32 - 1}
    assert len(found) == (1 if free else 0)
    assert found <= free


@pytest.mark.parametrize(
    ("prefix", "sent_to"),
    [
        ("240.0.0.0/24", "240.0.0.0"),
        ("255.255.255.0/24", "255.255.255.0"),
        ("255.255.255.255/32", ""),
        ("224.0.0.0/8", ""),
        ("4000::/64", "4000::"),
        ("64:ff9b::/96", "64:ff9b::"),
        ("100::/64", "100::"),
        ("::ffff:0:0/96", ""),
        ("ff05::/16", ""),
    ],
)
def test_what_kernels_route_though_it_is_reserved(prefix: str, sent_to: str) -> None:
    """Reserved addresses are routed like others, groups and IPv4's in the shape of IPv6 are not."""
    expected = frozenset({int(ip_address(sent_to))} if sent_to else ())
    assert lent_strangers([taking(prefix)], ip_network(prefix).version, NOBODY) == expected
