"""Third parties that stand for all others: who they are, and who they never are."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.evaluate.enforced.strangers import STRANGERS, Held, redirects_strangers, strangers
from exporter.model.firewall import Backend, Firewall, TableFamily
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
