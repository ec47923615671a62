"""nft's translations, as real nft prints them."""

from __future__ import annotations

import pytest

from exporter.model.firewall import (
    Divert,
    Field,
    HasBits,
    InRanges,
    Match,
    Step,
    Target,
    Translate,
    Translation,
    Unforeseeable,
)
from exporter.model.ranges import Ranges
from tests.parse.kernel.nft import TCP, V4, V6, are, between, number, parsed, steps

TO, SOURCE, DESTINATION = Field.DESTINATION_PORT, Field.SOURCE, Field.DESTINATION
DNAT, SNAT = Translation.DNAT, Translation.SNAT
REDIRECT, MASQUERADE = Translation.REDIRECT, Translation.MASQUERADE


def to(addresses: str = "", ports: tuple[int, int] | int | None = None, *matches: Match) -> Target:
    """Return a target: `10.0.0.1`, `10.0.0.1-10.0.0.9`."""
    low, _, high = addresses.partition("-")
    found = Ranges(((number(low), number(high or low)),)) if addresses else Ranges()
    interval = (ports, ports) if isinstance(ports, int) else ports
    return Target(found, Ranges((interval,)) if interval else Ranges(), matches)


def translated(kind: Translation, *targets: Target) -> Translate:
    """Return a translation."""
    return Translate(kind, targets)


def at(port: int) -> InRanges:
    """Return the match of a destination port."""
    return are(TO, port)


NETWORK = between(SOURCE, "10.0.0.0", "10.0.0.3")

DESTINATIONS: dict[str, tuple[Step, ...]] = {
    "dnat ip to 10.0.0.1": (V4, translated(DNAT, to("10.0.0.1"))),
    "tcp dport 80 dnat ip to 10.0.0.1:8080": (TCP, at(80), V4, translated(DNAT, to("10.0.0.1", 8080))),
    "tcp dport 80 dnat ip to 10.0.0.1-10.0.0.9:8080-8090": (
        TCP, at(80), V4, translated(DNAT, to("10.0.0.1-10.0.0.9", (8080, 8090))),
    ),
    "tcp dport 80 dnat to :8080": (TCP, at(80), translated(DNAT, to("", 8080))),
    "ip6 daddr fd00::1 tcp dport 80 dnat to [fd00::2]:80": (
        V6, are(DESTINATION, number("fd00::1")), TCP, at(80), translated(DNAT, to("fd00::2", 80)),
    ),
    "dnat ip6 to fd00::1-fd00::9 random,persistent": (V6, translated(DNAT, to("fd00::1-fd00::9"))),
    "dnat ip to tcp dport map { 80 : 10.0.0.1, 81 : 10.0.0.2 }": (
        V4, TCP, translated(DNAT, to("10.0.0.1", None, at(80)), to("10.0.0.2", None, at(81))),
    ),
    "dnat ip to tcp dport map { 80 : 10.0.0.1 . 8080, 81 : 10.0.0.2 . 8081 }": (
        V4, TCP, translated(DNAT, to("10.0.0.1", 8080, at(80)), to("10.0.0.2", 8081, at(81))),
    ),
    "dnat ip to ip daddr . tcp dport map @forwards": (
        V4, TCP, translated(DNAT, to("10.0.0.2", 8080, are(DESTINATION, number("10.0.0.1")), at(80))),
    ),
    "tcp dport 80 dnat ip to 10.0.0.1 : tcp dport map { 80 : 8080 }": (
        TCP, at(80), V4, translated(DNAT, to("10.0.0.1", 8080, at(80))),
    ),
    "dnat ip to ip daddr map { 10.0.0.1 : 10.0.0.2, * : 10.0.0.3 }": (
        V4, translated(DNAT, to("10.0.0.2", None, are(DESTINATION, number("10.0.0.1"))), to("10.0.0.3")),
    ),
    "dnat ip to numgen inc mod 2 map { 0 : 10.0.0.1, 1 : 10.0.0.2 }": (
        V4, translated(DNAT, to("10.0.0.1-10.0.0.2")),
    ),
    "dnat ip to jhash ip saddr mod 2 map { 0 : 10.0.0.1, 1 : 10.0.0.9 }": (
        V4, Translate(DNAT, (Target(Ranges.of(number("10.0.0.1"), number("10.0.0.9")), Ranges()),)),
    ),
    "redirect": (translated(REDIRECT, to()),),
    "tcp dport 80 redirect to :8080-8090 random": (TCP, at(80), translated(REDIRECT, to("", (8080, 8090)))),
    "tcp dport 80 redirect to :tcp dport map { 80 : 8080 }": (
        TCP, at(80), translated(REDIRECT, to("", 8080, at(80))),
    ),
}  # fmt: skip

SOURCES: dict[str, tuple[Step, ...]] = {
    "masquerade": (translated(MASQUERADE, to()),),
    "masquerade fully-random,persistent": (translated(MASQUERADE, to()),),
    "tcp dport 80 masquerade to :1024-65535 random": (TCP, at(80), translated(MASQUERADE, to("", (1024, 65535)))),
    "snat ip to 10.0.0.1": (V4, translated(SNAT, to("10.0.0.1"))),
    "ip saddr 10.0.0.0/30 snat to 10.0.0.1-10.0.0.9": (V4, NETWORK, translated(SNAT, to("10.0.0.1-10.0.0.9"))),
    "snat ip to ip saddr map { 10.0.0.1 : 10.0.0.2 }": (
        V4, translated(SNAT, to("10.0.0.2", None, are(SOURCE, number("10.0.0.1")))),
    ),
    "ip saddr 10.0.0.0/30 snat ip prefix to 10.1.0.0/30": (
        V4, NETWORK, translated(SNAT, *(to(f"10.1.0.{host}", None, HasBits(SOURCE, 3, host)) for host in range(4))),
    ),
    "snat ip prefix to ip saddr map { 10.0.0.0/30 : 10.1.0.0/30 }": (
        V4,
        translated(SNAT, *(to(f"10.1.0.{host}", None, NETWORK, HasBits(SOURCE, 3, host)) for host in range(4))),
    ),
}  # fmt: skip

MEANINGS: dict[tuple[str, str, str], object] = {
    **{("inet", "dnat", said): meaning for said, meaning in DESTINATIONS.items()},
    **{("inet", "snat", said): meaning for said, meaning in SOURCES.items()},
    ("ip", "dnat", "ip daddr 10.0.0.1 dnat to 10.0.0.2"): (
        are(DESTINATION, number("10.0.0.1")),
        translated(DNAT, to("10.0.0.2")),
    ),
    ("inet", "snat", "snat ip prefix to ip saddr map { 10.0.0.0/8 : 10.0.0.0/8 }"): "snat",
}


@pytest.mark.parametrize(
    ("family", "chain", "said"), [case for case, meaning in MEANINGS.items() if isinstance(meaning, tuple)]
)
def test_a_translation_leads_where_the_kernel_leads(family: str, chain: str, said: str) -> None:
    """Addresses, ports, ranges, maps and networks, and the family that a translation is for."""
    assert steps(said, family, chain) == MEANINGS[family, chain, said]


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("snat", {"family": "ip", "addr": {"prefix": {"addr": "10.0.0.0", "len": 8}}, "flags": "netmap"}),
        ("dnat", {"family": "ip", "addr": {"map": {"key": {"meta": {"key": "mark"}}, "data": "@gone"}}}),
        ("dnat", {"family": "ip", "addr": "fd00::1"}),
        ("dnat", {"family": "ip", "addr": {"ct": {"key": "daddr"}}}),
        ("redirect", {"port": 70000}),
    ],
)
def test_a_translation_that_is_not_understood_may_lead_anywhere(name: str, body: object) -> None:
    """Large networks, maps that are not there, and what is no address."""
    step = parsed([{name: body}])[-1]
    assert isinstance(step, Unforeseeable if name == "snat" else Divert)
    assert step.name == name


def test_ports_by_chance_are_not_told_apart_from_addresses() -> None:
    """One of two addresses, each with a port of its own, is no range that the kernel takes any of."""
    pairs = [[number, {"concat": [f"10.0.0.{number}", 80 + number]}] for number in range(2)]
    chance = {"map": {"key": {"numgen": {"mode": "inc", "mod": 2}}, "data": {"set": pairs}}}
    assert isinstance(parsed([{"dnat": {"family": "ip", "addr": chance}}])[-1], Divert)
