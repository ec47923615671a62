"""`ipset save`: the sets that rules ask for."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path

import pytest

from exporter.errors import ObservationError
from exporter.model.firewall import AnyOf, Field, HasBits, InRanges, Match, NameIs
from exporter.model.ranges import Ranges
from exporter.parse.kernel.ipsets import IpSets, parse_ipsets, sets_changed

SETS = parse_ipsets((Path(__file__).parent.parent.parent / "data" / "iptables" / "sets.ipset").read_text())
NEVER = AnyOf(())


def span(field: Field, low: str, high: str = "") -> InRanges:
    """Return the match of some addresses."""
    return InRanges(field, Ranges(((int(ip_address(low)), int(ip_address(high or low))),)))


def of(field: Field, *numbers: int) -> InRanges:
    """Return the match of some numbers."""
    return InRanges(field, Ranges.of(*numbers))


TEN = (Field.SOURCE, "10.0.0.0", "10.255.255.255")
TEN_BUT_ONE = span(*TEN).ranges.without(span(Field.SOURCE, "10.0.0.7").ranges)
TCP, UDP, ICMP = (of(Field.PROTOCOL, number) for number in (6, 17, 1))


@pytest.mark.parametrize(
    ("name", "directions", "expected"),
    [
        ("ips", "src", InRanges(Field.SOURCE, TEN_BUT_ONE)),
        ("ips", "dst,dst", InRanges(Field.DESTINATION, TEN_BUT_ONE)),
        ("empty", "src", NEVER),
        ("noted", "src", span(Field.SOURCE, "10.9.9.9")),
        ("subnets", "src", span(Field.SOURCE, "10.5.5.0", "10.5.5.255")),
        ("range", "dst", span(Field.DESTINATION, "10.0.0.5")),
        ("ports", "dst", NEVER),
        ("ports", "src,dst", AnyOf((
            (span(Field.SOURCE, "10.0.0.1", "10.0.0.2"), TCP, of(Field.DESTINATION_PORT, 80)),
            (span(Field.SOURCE, "10.0.0.1"), ICMP, of(Field.ICMP_TYPE, 8), of(Field.ICMP_CODE, 0)),
        ))),
        ("nets", "src,dst", AnyOf((
            (span(*TEN), NameIs(Field.OUTPUT_INTERFACE, ("eth0",))),
            (span(Field.SOURCE, "192.168.0.0", "192.168.255.255"), NameIs(Field.OUTPUT_INTERFACE, ("physdev:veth1",))),
        ))),
        ("wide", "src,src,dst", AnyOf(((
            span(*TEN), UDP, of(Field.SOURCE_PORT, 53), span(Field.DESTINATION, "192.168.0.0", "192.168.255.255"),
        ),))),
        ("pair", "dst,src", AnyOf(((
            span(Field.DESTINATION, "10.0.0.0", "10.255.255.255"), span(Field.SOURCE, "10.1.0.0", "10.1.255.255"),
        ),))),
        ("marked", "src,src", AnyOf(((span(Field.SOURCE, "10.0.0.1"), HasBits(Field.MARK, 0xFF, 5)),))),
        ("macs", "src", of(Field.SOURCE_MAC, 0x0242AC110002)),
        ("open", "dst", AnyOf((
            (of(Field.PROTOCOL, 6, 17), of(Field.DESTINATION_PORT, 80, 443)),
        ))),
        ("seats", "src,src", AnyOf((
            (span(Field.SOURCE, "10.0.0.1"), of(Field.SOURCE_MAC, 0x0242AC110002)), (span(Field.SOURCE, "10.0.0.2"),),
        ))),
        ("all", "src", AnyOf((
            (InRanges(Field.SOURCE, TEN_BUT_ONE),),
            (span(Field.SOURCE, "10.0.0.5"),),
        ))),
    ],
)  # fmt: skip
def test_members_of_a_set(name: str, directions: str, expected: Match) -> None:
    """Each part of an element is asked of the packet's source or destination, as the rule says."""
    assert SETS.match(name, tuple(directions.split(",")), 4) == expected


def test_sets_are_of_one_family() -> None:
    """A packet of the other family is in no set of addresses; sets of ports and MACs have no family."""
    assert SETS.match("ips", ("src",), 6) == NEVER
    assert SETS.match("ips6", ("src",), 4) == NEVER
    assert SETS.match("ips6", ("src",), 6) == span(Field.SOURCE, "fd00::", "fd00:ffff:ffff:ffff:ffff:ffff:ffff:ffff")
    assert SETS.match("open", ("dst",), 6) == SETS.match("open", ("dst",), 4)
    assert SETS.match("macs", ("src",), 6) is not None


def test_hundreds_of_ports_are_one_alternative() -> None:
    """Elements that differ in their ports alone are asked about once, of each protocol."""
    entries = (f"add s 10.0.0.1,{name}:{port}" for port in range(1000, 1600, 2) for name in ("tcp", "udp"))
    sets = parse_ipsets("\n".join(["create s hash:ip,port family inet", *entries]))
    ports = InRanges(Field.DESTINATION_PORT, Ranges.of(*range(1000, 1600, 2)))
    there = span(Field.DESTINATION, "10.0.0.1")
    assert sets.match("s", ("dst", "dst"), 4) == AnyOf(((there, TCP, ports), (there, UDP, ports)))


def test_the_smallest_network_decides() -> None:
    """An exception within a network, and an entry within the exception, each hold for what is theirs."""
    sets = parse_ipsets(
        "create s hash:net family inet\nadd s 10.0.0.0/8\nadd s 10.1.0.0/16 nomatch\nadd s 10.1.1.0/24\n"
    )
    found = sets.match("s", ("src",), 4)
    assert isinstance(found, InRanges)
    for address, inside in (("10.0.0.1", True), ("10.1.0.1", False), ("10.1.1.1", True), ("11.0.0.1", False)):
        assert (int(ip_address(address)) in found.ranges) is inside


@pytest.mark.parametrize(
    "text",
    [
        "",
        "create s hash:new family inet\n",
        "create s hash:ip family inet bitmask 255.0.255.0\nadd s 10.0.0.0\n",
        "create s hash:ip family inet\nadd s nonsense\n",
        "create s hash:ip,port family inet\nadd s 10.0.0.1\n",
        "create s hash:ip,port family inet\nadd s 10.0.0.1,gre:5\n",
        "create s hash:ip,port family inet\nadd s 10.0.0.1,tcp:http\n",
        "create s hash:net,iface family inet\nadd s 10.0.0.1,br*\n",
        "create s hash:net,net family inet\nadd s 10.0.0.0/8,10.0.0.0/8\nadd s 10.1.0.0/16,10.0.0.0/8 nomatch\n",
        "create s list:set size 8\nadd s other\n",
        "create s list:set size 8\nadd s s\n",
    ],
)
def test_sets_that_are_not_understood(text: str) -> None:
    """A set that is not there, of an unknown type, or with elements that are none is no match but a doubt."""
    assert parse_ipsets(text).match("s", ("src", "src", "src"), 4) is None


def test_directions_that_are_none() -> None:
    """A rule asks for the source or the destination."""
    assert SETS.match("ips", ("both",), 4) is None


@pytest.mark.parametrize("text", ["nonsense", "add s 10.0.0.1\n", "create s hash:ip\ncreate s hash:ip\n", "create s"])
def test_text_that_is_no_dump(text: str) -> None:
    """The one error names the line."""
    with pytest.raises(ObservationError, match=r"line \d of ipset save"):
        parse_ipsets(text)


def test_sets_that_rules_change() -> None:
    """What is added to a list goes into its sets; whoever asks for a list asks for what is in its sets."""
    text = "\n".join(f"create {name} hash:ip family inet" for name in ("one", "two", "other"))
    text += "\ncreate all list:set size 8\nadd all one\nadd all two\ncreate some list:set size 8\nadd some other\n"
    one = parse_ipsets(text, ["-A FORWARD -j SET --add-set one src --exist --timeout 60"])
    assert [name for name in one.sets if one.dynamic(name)] == ["one", "all"]
    listed = parse_ipsets(text, ["-A FORWARD -j DROP", "-A INPUT -p tcp -j SET --del-set all src"])
    assert [name for name in listed.sets if listed.dynamic(name)] == ["one", "two", "all"]


@pytest.mark.parametrize(
    ("rule", "names"),
    [
        ("-A FORWARD -j SET --add-set one src --del-set two dst,dst", {"one", "two"}),
        ("-A FORWARD -j SET --map-set one src --map-mark", set()),
        ("-A FORWARD -m set --match-set one src -j DROP", set()),
    ],
)
def test_what_rules_change(rule: str, names: set[str]) -> None:
    """SET adds and takes away; what it looks up stays as it is."""
    assert sets_changed(rule) == names


def test_no_sets() -> None:
    """A namespace without sets prints nothing."""
    assert parse_ipsets("") == IpSets({})
