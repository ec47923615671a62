"""The kernel's list of virtual services (ip_vs_info_seq_show), and the rules that stand for them."""

from __future__ import annotations

from contextlib import suppress
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.errors import ObservationError
from exporter.model.firewall import Backend, Field, Hook, InRanges, Onward, Rewrite, Rule, Table, Target, Unforeseeable
from exporter.model.ranges import Ranges
from exporter.parse.kernel.ipvs import parse_ipvs

LISTED = """\
TCP  AC1B0001:0050 rr
  -> AC1B001F:1F90 Masq
  -> AC1B001E:0050 Route
UDP  [2001:0db8:0000:0000:0000:0000:0000:0001]:0035 wlc
  -> [2001:0db8:0000:0000:0000:0000:0000:0002]:0035 Tunnel
FWM  00000100 rr
  -> 0A000006:0000 Masq
TCP  AC1B0001:0000 sh persistent 360 FFFFFFFF
"""
PROTOCOLS = InRanges(Field.PROTOCOL, Ranges.of(6, 17, 132))


def number(text: str) -> Ranges:
    """Return an address as rules have it."""
    return Ranges.of(int(ip_address(text)))


def rules(table: Table) -> tuple[Rule, ...]:
    """Return the rules, which are the same for what comes in and what is sent."""
    incoming, outgoing = (table.chains[name] for name in ("INPUT", "OUTPUT"))
    assert incoming.rules == outgoing.rules
    assert [(chain.base.hook, chain.base.priority) for chain in (incoming, outgoing) if chain.base] == [
        (Hook.INPUT, 99),
        (Hook.OUTPUT, -98),
    ]
    return incoming.rules


def test_each_server_is_a_rule() -> None:
    """It says which packets may be sent there, and how; a service without servers is one that may drop them."""
    four, six = parse_ipvs(LISTED)
    assert (four.key, six.key) == (("ip", "IPVS", Backend.IPVS), ("ip6", "IPVS", Backend.IPVS))
    selected = InRanges(Field.PROTOCOL, Ranges.of(6)), InRanges(Field.DESTINATION, number("172.27.0.1"))
    at_80 = *selected, InRanges(Field.DESTINATION_PORT, Ranges.of(80))

    def to(address: str, port: int, onward: Onward) -> Rewrite:
        target = Target(number(address), Ranges.of(port) if port else Ranges())
        return Rewrite("IPVS", Field.DESTINATION, (target,), onward)

    assert rules(four) == (
        Rule((*at_80, to("172.27.0.31", 8080, Onward.TRANSLATED)), "TCP 172.27.0.1:80 -> 172.27.0.31:8080"),
        Rule((*at_80, to("172.27.0.30", 80, Onward.AS_THEY_WERE)), "TCP 172.27.0.1:80 -> 172.27.0.30:80"),
        Rule(
            (PROTOCOLS, InRanges(Field.MARK, Ranges.of(256)), to("10.0.0.6", 0, Onward.TRANSLATED)),
            "FWM 0x100 -> 10.0.0.6:0",
        ),
        Rule((*selected, Unforeseeable("IPVS")), "TCP 172.27.0.1:0"),
    )
    (only,) = rules(six)
    assert only.text == "UDP [2001:db8::1]:53 -> [2001:db8::2]:53"


def test_nothing_is_nothing() -> None:
    """Without services, or with such as the namespace itself serves, packets go on as they were."""
    assert parse_ipvs("") == ()
    assert parse_ipvs("TCP  7F000001:0050 rr\n  -> 7F000001:0050 Local\n") == ()


@pytest.mark.parametrize(
    "line",
    [
        "",
        "TCP",
        "ESP  AC1B0001:0050 rr",
        "TCP  AC1B0001 rr",
        "TCP  AC1B00010:0050 rr",
        "TCP  [::1:0050 rr",
        "FWM  mark rr",
        "  -> AC1B001F:0050 Masq",
        "TCP  AC1B0001:0050 rr\n  -> AC1B001F:0050",
        "TCP  AC1B0001:0050 rr\n  -> AC1B001F:0050 Teleport",
    ],
)
def test_what_is_no_list_is_refused(line: str) -> None:
    """The line is named, and nothing is made of it."""
    with pytest.raises(ObservationError, match="no line of a list of virtual services"):
        parse_ipvs(f"{line}\n")


@given(st.text(alphabet="TCPFWM->[]:0A \n", max_size=60) | st.text(max_size=40))
def test_garbage_is_refused_or_understood(text: str) -> None:
    """Whatever is listed, there is no other error."""
    with suppress(ObservationError):
        parse_ipvs(text)
