"""What the targets of iptables do."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from exporter.model.firewall import (
    Call,
    CopyMark,
    Dispatch,
    Divert,
    Field,
    HasBits,
    Onward,
    Opaque,
    ProxyLocally,
    Rewrite,
    SetMark,
    Statement,
    Target,
    Terminate,
    Translate,
    Translation,
    Unforeseeable,
    Untrack,
    Verdict,
)
from exporter.model.ranges import Ranges
from tests.parse.kernel.rules import rule


def span(low: str, high: str = "") -> Ranges:
    """Return the set of some addresses."""
    return Ranges(((int(ip_address(low)), int(ip_address(high or low))),))


def port(low: int, high: int | None = None) -> Ranges:
    """Return the set of some ports."""
    return Ranges(((low, low if high is None else high),))


def to(kind: Translation, addresses: Ranges, ports: Ranges, base: int | None = None) -> Translate:
    """Return a translation with one target."""
    return Translate(kind, (Target(addresses, ports, base_port=base),))


NOWHERE = Ranges()
DNAT, SNAT = Translation.DNAT, Translation.SNAT
ALL = 0xFFFFFFFF


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("-j ACCEPT", Terminate(Verdict.ACCEPT)),
        ("-j DROP", Terminate(Verdict.DROP)),
        ("-j REJECT --reject-with icmp-port-unreachable", Terminate(Verdict.REJECT)),
        ("-j RETURN", Terminate(Verdict.RETURN)),
        ("-j user", Call("user")),
        ("-g user", Call("user", goto=True)),
        ("-j DNAT --to-destination 172.17.0.2:80", to(DNAT, span("172.17.0.2"), port(80))),
        ("-j DNAT --to-destination 10.0.0.1-10.0.0.9 --persistent --random", to(DNAT, span("10.0.0.1",
        "10.0.0.9"), NOWHERE)),
        ("-j DNAT --to-destination :80", to(DNAT, NOWHERE, port(80))),
        ("-j DNAT --to-destination 10.0.0.1:2000-2010/1000", to(DNAT, span("10.0.0.1"), port(2000, 2010), 1000)),
        ("-j DNAT --to-destination 10.0.0.1 --to-destination 10.0.0.5", to(
            DNAT, Ranges.of(*(int(ip_address(f"10.0.0.{host}")) for host in (1, 5))), NOWHERE,
        )),
        ("-j SNAT --to-source 1.2.3.4:1000-2000", to(SNAT, span("1.2.3.4"), port(1000, 2000))),
        ("-j MASQUERADE", to(Translation.MASQUERADE, NOWHERE, NOWHERE)),
        ("-p tcp -j MASQUERADE --to-ports 1-20 --random-fully", to(Translation.MASQUERADE, NOWHERE, port(1, 20))),
        ("-p tcp -j REDIRECT --to-ports 80", to(Translation.REDIRECT, NOWHERE, port(80))),
        ("-j REDIRECT", to(Translation.REDIRECT, NOWHERE, NOWHERE)),
        ("-j MARK --set-mark 0x5", SetMark(Field.MARK, 0, 5)),
        ("-j MARK --set-mark 0x5/0x2", SetMark(Field.MARK, 0xFFFFFFF8, 5)),
        ("-j MARK --set-xmark 0x5/0x2", SetMark(Field.MARK, 0xFFFFFFFD, 5)),
        ("-j MARK --and-mark 0xf0", SetMark(Field.MARK, 0xF0, 0)),
        ("-j MARK --or-mark 0x10", SetMark(Field.MARK, 0xFFFFFFEF, 0x10)),
        ("-j MARK --xor-mark 0x3", SetMark(Field.MARK, ALL, 3)),
        ("-j CONNMARK --set-xmark 0x7/0xffffffff", SetMark(Field.CT_MARK, 0, 7)),
        ("-j CONNMARK --save-mark", CopyMark(Field.MARK, Field.CT_MARK)),
        ("-j CONNMARK --restore-mark --nfmask 0xff --ctmask 0xff00", CopyMark(Field.CT_MARK, Field.MARK, 0xFF00, 0xFF)),
        ("-j CONNMARK --save-mark --mask 0xf", CopyMark(Field.MARK, Field.CT_MARK, 0xF, 0xF)),
        ("-j SET --map-set x src --map-mark", Dispatch((
            ((Opaque("SET --map-mark", "--map-set x src"),), SetMark(Field.MARK, 0, 0)),
        ))),
        ("-j HMARK --hmark-rnd 1", Dispatch((
            ((Opaque("HMARK", "--hmark-rnd 1"),), SetMark(Field.MARK, 0, 0)),
        ))),
        ("-j CT --notrack", Untrack()),
        ("-j NOTRACK", Untrack()),
        ("-p tcp -j TPROXY --on-port 3128 --on-ip 127.0.0.1 --tproxy-mark 0x1/0x1", ProxyLocally(
            span("127.0.0.1"), port(3128), 0xFFFFFFFE, 1,
        )),
        ("-p tcp -j TPROXY --on-port 0 --on-ip 0.0.0.0", ProxyLocally(NOWHERE, NOWHERE)),
    ],
)  # fmt: skip
def test_a_target_does_what_the_manual_says(said: str, expected: Statement) -> None:
    """Every target becomes the statement that iptables-extensions(8) describes."""
    assert rule(said).steps[-1] == expected


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("[fd00::2]:80", to(DNAT, span("fd00::2"), port(80))),
        ("fd00::2", to(DNAT, span("fd00::2"), NOWHERE)),
        ("fd00::2-fd00::9", to(DNAT, span("fd00::2", "fd00::9"), NOWHERE)),
        ("[fd00::2-fd00::9]:80-90", to(DNAT, span("fd00::2", "fd00::9"), port(80, 90))),
        ("[fd00::2]-[fd00::9]:80", to(DNAT, span("fd00::2", "fd00::9"), port(80))),
        (":80", to(DNAT, NOWHERE, port(80))),
        ("::1", to(DNAT, span("::1"), NOWHERE)),
    ],
)
def test_ipv6_destinations(said: str, expected: Statement) -> None:
    """Addresses stand in brackets where a port follows."""
    assert rule(f"-j DNAT --to-destination {said}", version=6).steps == (expected,)


def test_a_copy_goes_to_its_gateway() -> None:
    """The packet itself goes on, whoever gets the copy; of an interface that may be anybody who is there."""
    target = Target(Ranges.of(int(ip_address("10.0.0.1"))), Ranges())
    (step,) = rule("-j TEE --gateway 10.0.0.1").steps
    assert step == Rewrite("TEE", Field.DESTINATION, (target,), Onward.COPIED)
    assert rule("-j TEE --gateway 10.0.0.1 --oif eth0").steps == (Divert("TEE", "eth0", copied=True),)


@pytest.mark.parametrize(
    "said",
    [
        "AUDIT --type accept", "CHECKSUM --checksum-fill", "CLASSIFY --set-class 1:1", "CONNSECMARK --save",
        "CT --helper ftp",
        "DSCP --set-dscp 0x10", "ECN --ecn-tcp-remove", "IDLETIMER --timeout 5 --label x", "LED --led-trigger-id x",
        'LOG --log-prefix "x -j DROP " --log-level 4', "LOG --log-prefix -j", 'NFLOG --nflog-prefix "a b"',
        "RATEEST --rateest-name x",
        "SECMARK --selctx x", "SET --add-set x src", "SET --map-set x src --map-prio",
        "TCPMSS --clamp-mss-to-pmtu",
        "TOS --set-tos 1",
        "TRACE", "TTL --ttl-set 64", "TTL --ttl-inc 1", "TTL --ttl-dec 2", "TCPOPTSTRIP --strip-options 5",
        "ULOG --ulog-prefix x",
    ],
)  # fmt: skip
def test_targets_without_an_effect_on_the_way(said: str) -> None:
    """A rule that logs, or changes what no rule looks at, is a rule without a statement."""
    assert rule(f"-j {said}").steps == ()


@pytest.mark.parametrize(
    ("said", "name"),
    [
        ("NFQUEUE --queue-num 3", "NFQUEUE"), ("QUEUE", "QUEUE"), ("SYNPROXY --mss 1460", "SYNPROXY"),
        ("CT --zone 5", "CT zone"), ("CT --zone-orig 5", "CT zone"), ("CT --timeout slow", "CT timeout"),
        ("nowhere", "nowhere"), ("CLUSTERIP --new", "CLUSTERIP"),
        ("TTL --ttl-set 1", "TTL"), ("TTL --ttl-dec 64", "TTL"), ("TTL --ttl-dec 300", "TTL"),
        ("SNAT --to-source 1.2.3.4:x", "SNAT"),
        ("MASQUERADE --new", "MASQUERADE"), ("MARK", "MARK"),
        ("MARK --set-mark x", "MARK"),
        ("MARK --new 5", "MARK"), ("CONNMARK --save-mark --left-shift-mark 5", "CONNMARK"), ("CT --new", "CT"),
        ("TPROXY --on-port x", "TPROXY"), ("TPROXY --new", "TPROXY"), ("NOTRACK --new", "NOTRACK"),
    ],
)  # fmt: skip
def test_targets_that_nobody_can_foresee(said: str, name: str) -> None:
    """A target that hands the packet to a program, or is not understood, may let it pass or lose it."""
    (step,) = rule(f"-j {said}").steps
    assert isinstance(step, Unforeseeable)
    assert step.name == name
    assert said.rsplit(maxsplit=1)[-1] in step.text


@pytest.mark.parametrize(
    "said",
    [
        "NETMAP --to 10.0.0.0/16", "DNAT", "DNAT --to-destination", "DNAT --to-destination x",
        "DNAT --to-destination 10.0.0.1 --new", "DNAT --to-destination :80 --to-destination :81",
        "REDIRECT --to-ports x", "TEE --gateway nobody", "TEE --oif eth0", "TEE --gateway 10.0.0.1 --new",
        "DNPT --src-pfx fd00:1::/64 --dst-pfx fd00:2::/64", "SNPT --src-pfx fd00:2::/64 --dst-pfx fd00:1::/64",
    ],
)  # fmt: skip
def test_targets_that_lead_nobody_knows_where(said: str) -> None:
    """To whom a computed address leads, or what is not understood, may be anybody."""
    assert rule(f"-j {said}").steps == (Divert(said.split(maxsplit=1)[0]),)


@pytest.mark.parametrize(
    ("chain", "field", "kind"),
    [("PREROUTING", Field.DESTINATION, DNAT), ("OUTPUT", Field.DESTINATION, DNAT), ("POSTROUTING", Field.SOURCE, SNAT)],
)
def test_netmap_keeps_the_rest_of_the_address(chain: str, field: Field, kind: Translation) -> None:
    """Each address of a small network goes to the one that has the same rest, in the other network."""
    (step,) = rule("-j NETMAP --to 10.2.0.4/30", "nat", chain).steps
    base = int(ip_address("10.2.0.4"))
    assert step == Translate(
        kind, tuple(Target(Ranges.of(base + rest), NOWHERE, (HasBits(field, 3, rest),)) for rest in range(4))
    )


def test_netmap_in_a_chain_of_the_users_leads_nobody_knows_where() -> None:
    """Who calls the chain decides whether the source or the destination is meant."""
    assert rule("-j NETMAP --to 10.2.0.0/30", "nat", "user").steps == (Divert("NETMAP"),)


@pytest.mark.parametrize("said", ["-j", "-j a b", "stray words", "-i eth0 ! ", "-j DNAT !"])
def test_words_out_of_place_are_unforeseeable(said: str) -> None:
    """Words that may have been the rule's target leave everything open."""
    assert any(isinstance(step, Unforeseeable) for step in rule(said).steps)
