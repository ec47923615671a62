"""What the modules of iptables look at."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from exporter.model.firewall import (
    AddressType,
    AddressTypeIs,
    AnyBit,
    AnyOf,
    CtState,
    CtStatus,
    Field,
    HasBits,
    InRanges,
    Match,
    NameIs,
    Opaque,
    ReversePath,
    Side,
)
from exporter.model.ranges import Ranges
from exporter.parse.kernel.values import OF_A_SOCKET
from tests.parse.kernel.rules import doubts, matches, rule

TCP, UDP = InRanges(Field.PROTOCOL, Ranges.of(6)), InRanges(Field.PROTOCOL, Ranges.of(17))
SOURCE, DESTINATION = Field.SOURCE, Field.DESTINATION
ABOUT_NEIGHBOURS = InRanges(Field.PROTOCOL, Ranges.of(58)), InRanges(Field.ICMP_TYPE, Ranges(((133, 137),)))


def number(text: str) -> int:
    """Return an address as a number."""
    return int(ip_address(text))


def between(field: Field, low: str, high: str, *, negated: bool = False) -> InRanges:
    """Return the match of a range of addresses."""
    return InRanges(field, Ranges(((number(low), number(high)),)), negated)


def ports(field: Field, *intervals: tuple[int, int], negated: bool = False) -> InRanges:
    """Return the match of port ranges."""
    return InRanges(field, Ranges(intervals), negated)


FROM, TO = Field.SOURCE_PORT, Field.DESTINATION_PORT


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("", ()),
        ("-s 10.0.0.1/32", (between(SOURCE, "10.0.0.1", "10.0.0.1"),)),
        ("-s 10.0.0.1", (between(SOURCE, "10.0.0.1", "10.0.0.1"),)),
        ("! -s 10.0.0.0/8", (between(SOURCE, "10.0.0.0", "10.255.255.255", negated=True),)),
        ("-s ! 10.0.0.0/8", (between(SOURCE, "10.0.0.0", "10.255.255.255", negated=True),)),
        ("-d 10.0.0.0/255.255.0.0", (between(DESTINATION, "10.0.0.0", "10.0.255.255"),)),
        (
            "-d 10.0.7.0/255.0.255.0",
            (HasBits(DESTINATION, number("255.0.255.0"), number("10.0.7.0")),),
        ),
        ("-s 0.0.0.0/0", (between(SOURCE, "0.0.0.0", "255.255.255.255"),)),
        (
            "! -s 10.0.0.1/32 -d 10.0.0.2/32",
            (between(SOURCE, "10.0.0.1", "10.0.0.1", negated=True), between(DESTINATION, "10.0.0.2", "10.0.0.2")),
        ),
        ("-i br-1", (NameIs(Field.INPUT_INTERFACE, ("br-1",)),)),
        ("! -i docker0 -o eth+", (
            NameIs(Field.INPUT_INTERFACE, ("docker0",), negated=True), NameIs(Field.OUTPUT_INTERFACE, ("eth*",)),
        )),
        ("-o +", (NameIs(Field.OUTPUT_INTERFACE, ("*",)),)),
        ("-i string -o prefix", (
            NameIs(Field.INPUT_INTERFACE, ("string",)), NameIs(Field.OUTPUT_INTERFACE, ("prefix",)),
        )),
        ("-p tcp", (TCP,)),
        ("-p 6", (TCP,)),
        ("-p all", ()),
        ("-p 0", ()),
        ("! -p udp", (InRanges(Field.PROTOCOL, Ranges.of(17), negated=True),)),
        ("-p gre", (InRanges(Field.PROTOCOL, Ranges.of(47)),)),
        ("-f", (AnyOf(()),)),
        ("! -f", (AnyOf((), negated=True),)),
        ("-p tcp -m tcp", (TCP,)),
        ("-p tcp -m tcp --dport 80", (TCP, ports(TO, (80, 80)))),
        ("-p tcp --dport 80", (TCP, ports(TO, (80, 80)))),
        ("-m tcp --dport 80", (TCP, ports(TO, (80, 80)))),
        ("-p tcp -m tcp --dport ! 80", (TCP, ports(TO, (80, 80), negated=True))),
        ("-p tcp -m tcp --sport 1:1023 ! --dport 80:90", (
            TCP, ports(FROM, (1, 1023)), ports(TO, (80, 90), negated=True),
        )),
        ("-p tcp -m tcp --sport :1023 --dport 1024:", (TCP, ports(FROM, (0, 1023)), ports(TO, (1024, 65535)))),
        ("-p udp -m udp --dport 53", (UDP, ports(TO, (53, 53)))),
        ("-p udplite -m udplite --sport 53", (InRanges(Field.PROTOCOL, Ranges.of(136)), ports(FROM, (53, 53)))),
        ("-p sctp -m sctp --dport 80", (InRanges(Field.PROTOCOL, Ranges.of(132)), ports(TO, (80, 80)))),
        ("-p dccp -m dccp --dport 80", (InRanges(Field.PROTOCOL, Ranges.of(33)), ports(TO, (80, 80)))),
        ("-p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN", (TCP, HasBits(Field.TCP_FLAGS, 23, 2))),
        ("-p tcp -m tcp ! --tcp-flags ALL NONE", (TCP, HasBits(Field.TCP_FLAGS, 63, 0, negated=True))),
        ("-p tcp -m tcp --syn", (TCP, HasBits(Field.TCP_FLAGS, 23, 2))),
        ("-p icmp -m icmp --icmp-type 8", (
            InRanges(Field.PROTOCOL, Ranges.of(1)), InRanges(Field.ICMP_TYPE, Ranges.of(8)),
        )),
        ("-p icmp -m icmp ! --icmp-type echo-request", (
            InRanges(Field.PROTOCOL, Ranges.of(1)), InRanges(Field.ICMP_TYPE, Ranges.of(8), negated=True),
        )),
        ("-p icmp -m icmp ! --icmp-type 3/4", (
            InRanges(Field.PROTOCOL, Ranges.of(1)),
            AnyOf(
                ((InRanges(Field.ICMP_TYPE, Ranges.of(3)), InRanges(Field.ICMP_CODE, Ranges.of(4))),), negated=True
            ),
        )),
        ("-p icmp -m icmp --icmp-type 3/0-5", (
            InRanges(Field.PROTOCOL, Ranges.of(1)),
            AnyOf(((InRanges(Field.ICMP_TYPE, Ranges.of(3)), InRanges(Field.ICMP_CODE, Ranges(((0, 5),)))),)),
        )),
        ("-p icmp -m icmp --icmp-type any", (InRanges(Field.PROTOCOL, Ranges.of(1)), AnyOf(((),)))),
        ("-p tcp -m multiport --dports 443,80,1000:2000", (TCP, ports(TO, (80, 80), (443, 443), (1000, 2000)))),
        ("-p tcp -m multiport ! --sports 80,81", (TCP, ports(FROM, (80, 81), negated=True))),
        ("-p udp -m multiport ! --ports 80", (
            UDP, AnyOf(((ports(FROM, (80, 80)),), (ports(TO, (80, 80)),)), negated=True),
        )),
        ("-m iprange --src-range 10.0.0.1-10.0.0.9 ! --dst-range 10.0.1.1-10.0.1.1", (
            between(SOURCE, "10.0.0.1", "10.0.0.9"), between(DESTINATION, "10.0.1.1", "10.0.1.1", negated=True),
        )),
        ("-m mac ! --mac-source 02:42:AC:11:00:02", (
            InRanges(Field.SOURCE_MAC, Ranges.of(0x0242AC110002), negated=True),
        )),
        ("-m devgroup --src-group 0x5", (HasBits(Field.INPUT_GROUP, 0xFFFFFFFF, 5),)),
        ("-m devgroup ! --dst-group 0x1/0xff", (HasBits(Field.OUTPUT_GROUP, 0xFF, 1, negated=True),)),
        ("-m devgroup --dst-group default", (HasBits(Field.OUTPUT_GROUP, 0xFFFFFFFF, 0),)),
        ("-m statistic --mode random --probability 1.00000000000", ()),
        ("-m statistic --mode random ! --probability 0.00000000000", ()),
        ("-m statistic --mode random --probability 0.00000000000", (AnyOf(()),)),
        ("-m statistic --mode nth ! --every 1 --packet 0", (AnyOf(()),)),
        ("-m policy --dir in --pol none", (InRanges(Field.IPSEC, Ranges.of(0)),)),
        ("-m policy --dir out --pol ipsec --strict --reqid 5", (
            InRanges(Field.IPSEC, Ranges.of(1)), Opaque("reqid", "--reqid 5"),
        )),
        ("-m mark --mark 0x1/0xff", (HasBits(Field.MARK, 0xFF, 1),)),
        ("-m mark ! --mark 5", (HasBits(Field.MARK, 0xFFFFFFFF, 5, negated=True),)),
        ("-m connmark --mark 0x5", (HasBits(Field.CT_MARK, 0xFFFFFFFF, 5),)),
        ("-m pkttype --pkt-type unicast", (InRanges(Field.PACKET_TYPE, Ranges.of(0)),)),
        ("-m pkttype ! --pkt-type multicast", (InRanges(Field.PACKET_TYPE, Ranges.of(2), negated=True),)),
        ("-m physdev --physdev-in veth1", (NameIs(Field.INPUT_PORT, ("veth1",)),)),
        ("-m physdev ! --physdev-in veth+", (NameIs(Field.INPUT_PORT, ("veth*",), negated=True),)),
        ("-m physdev --physdev-is-in ! --physdev-is-out", (
            NameIs(Field.INPUT_PORT, ("",), negated=True), NameIs(Field.OUTPUT_PORT, ("",)),
        )),
        ("-m physdev --physdev-is-bridged", (NameIs(Field.OUTPUT_PORT, ("",), negated=True),)),
        ("-m addrtype --dst-type LOCAL", (AddressTypeIs(DESTINATION, frozenset({AddressType.LOCAL})),)),
        ("-m addrtype ! --src-type UNICAST,LOCAL,THROW --limit-iface-in", (
            AddressTypeIs(SOURCE, frozenset({AddressType.UNICAST, AddressType.LOCAL}), Side.INPUT, negated=True),
        )),
        ("-m addrtype --dst-type BROADCAST --limit-iface-out", (
            AddressTypeIs(DESTINATION, frozenset({AddressType.BROADCAST}), Side.OUTPUT),
        )),
        ("-m rpfilter", (ReversePath(),)),
        ("-m rpfilter --loose --validmark --invert", (ReversePath(loose=True, with_mark=True, negated=True),)),
        ("-m helper --helper ftp", (AnyOf(()),)),
        ("-m helper ! --helper ftp", ()),
        ("-m recent --set --name x --rsource", ()),
        ("-m recent ! --set --name x --rsource", (AnyOf(()),)),
        ("-m owner --uid-owner 1000", (InRanges(Field.SOCKET_USER, Ranges.of(1000)),)),
        ("-m owner ! --gid-owner 10-20", (
            AnyOf(((InRanges(Field.SOCKET_GROUP, Ranges(((10, 20),))),),), negated=True),
        )),
        ("-m owner --socket-exists", (AnyOf((
            (InRanges(Field.SOCKET_USER, Ranges(((0, 0xFFFFFFFF),))),),
            (*ABOUT_NEIGHBOURS, NameIs(Field.OUTPUT_PORT, ("",))),
        )),)),
        ('-m comment --comment "a -j DROP \\"x\\" ! -s 10.0.0.1"', ()),
        ("-m comment --comment -s -p tcp", (TCP,)),
    ],
)  # fmt: skip
def test_a_module_means_what_the_manual_says(said: str, expected: tuple[Match, ...]) -> None:
    """Every option becomes the match that iptables-extensions(8) describes, negated by itself alone."""
    assert matches(said) == expected


STATE, STATUS = Field.CT_STATE, Field.CT_STATUS
WITHOUT_CONNECTION = AnyBit(STATE, CtState.INVALID | CtState.UNTRACKED)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("-m conntrack --ctstate RELATED,ESTABLISHED", (AnyBit(STATE, CtState.RELATED | CtState.ESTABLISHED),)),
        ("-m state --state NEW", (AnyBit(STATE, CtState.NEW),)),
        ("-m conntrack ! --ctstate NEW,UNTRACKED", (AnyBit(STATE, CtState.NEW | CtState.UNTRACKED, negated=True),)),
        ("-m conntrack --ctstate DNAT", (AnyOf(((AnyBit(STATUS, CtStatus.DNAT),),)),)),
        ("-m conntrack ! --ctstate SNAT,NEW", (
            AnyOf(((AnyBit(STATE, CtState.NEW),), (AnyBit(STATUS, CtStatus.SNAT),)), negated=True),
        )),
        ("-m conntrack --ctstatus ASSURED,SEEN_REPLY", (AnyBit(STATUS, CtStatus.ASSURED | CtStatus.SEEN_REPLY),)),
        ("-m conntrack ! --ctstatus NONE", (AnyBit(STATUS, CtStatus(0), negated=True),)),
        ("-m conntrack --ctproto tcp", (InRanges(Field.CT_PROTOCOL, Ranges.of(6)),)),
        ("-m conntrack --ctorigsrc 10.0.0.0/8 ! --ctorigdst 10.0.0.1", (
            between(Field.CT_ORIGINAL_SOURCE, "10.0.0.0", "10.255.255.255"),
            between(Field.CT_ORIGINAL_DESTINATION, "10.0.0.1", "10.0.0.1", negated=True),
        )),
        ("-m conntrack --ctreplsrc 1.1.1.1 --ctrepldst 2.2.2.2", (
            between(Field.CT_REPLY_SOURCE, "1.1.1.1", "1.1.1.1"),
            between(Field.CT_REPLY_DESTINATION, "2.2.2.2", "2.2.2.2"),
        )),
        ("-m conntrack --ctorigsrcport 1:5 --ctorigdstport 80 ! --ctreplsrcport 7 --ctrepldstport 9", (
            ports(Field.CT_ORIGINAL_SOURCE_PORT, (1, 5)), ports(Field.CT_ORIGINAL_DESTINATION_PORT, (80, 80)),
            ports(Field.CT_REPLY_SOURCE_PORT, (7, 7), negated=True), ports(Field.CT_REPLY_DESTINATION_PORT, (9, 9)),
        )),
        ("-m conntrack --ctdir ORIGINAL", (InRanges(Field.CT_DIRECTION, Ranges.of(0)),)),
        ("-m conntrack ! --ctdir REPLY", (InRanges(Field.CT_DIRECTION, Ranges.of(1), negated=True),)),
        ("-m conntrack --ctstate INVALID --ctdir REPLY", (
            AnyBit(STATE, CtState.INVALID),
            AnyOf(((WITHOUT_CONNECTION,), (InRanges(Field.CT_DIRECTION, Ranges.of(1)),))),
        )),
    ],
)  # fmt: skip
def test_conntrack(said: str, expected: tuple[Match, ...]) -> None:
    """Every condition on connections becomes its match; without a connection, the state alone decides."""
    assert matches(said) == expected


def test_accept_local_is_known_but_for_own_addresses() -> None:
    """With `--accept-local` a route back is enough, and for the host's own addresses nobody can tell."""
    (found,) = matches("-m rpfilter --accept-local --invert")
    assert isinstance(found, AnyOf)
    assert found.negated
    assert found.alternatives[0] == (ReversePath(),)
    assert isinstance(found.alternatives[1][1], Opaque)


def test_a_cgroup_is_asked_of_packets_with_a_socket() -> None:
    """What is passed on has none, and `!` does not hold for it, either."""
    for said in ("--cgroup 5", "! --cgroup 5"):
        of_a_socket, found = matches(f"-m cgroup {said}")
        assert of_a_socket == OF_A_SOCKET
        assert isinstance(found, Opaque)


def test_a_port_that_packets_do_not_leave_by() -> None:
    """`! --physdev-out` holds for packets of no bridge, and never for those that leave a bridge by no port."""
    (found,) = matches("-m physdev ! --physdev-out veth1")
    assert found == AnyOf((
        (NameIs(Field.OUTPUT_PORT, ("",), negated=True), NameIs(Field.OUTPUT_PORT, ("veth1",), negated=True)),
        (NameIs(Field.OUTPUT_PORT, ("",)), NameIs(Field.INPUT_PORT, ("",))),
    ))  # fmt: skip


@pytest.mark.parametrize(
    ("said", "holds"),
    [
        ("--hl-eq 255", True),
        ("--hl-eq 64", False),
        ("--hl-lt 255", False),
        ("--hl-gt 254", True),
        ("--hl-gt 255", False),
    ],
)
def test_a_hop_limit_is_known_of_those_who_look_for_neighbours(said: str, holds: bool) -> None:
    """That is 255, or nobody heeds it; that of others is up to them."""
    for negated, text in ((False, said), (True, f"! {said}")):
        others = AnyOf((ABOUT_NEIGHBOURS,), negated=True), Opaque("hl", text)
        expected = AnyOf((ABOUT_NEIGHBOURS, others) if holds else (others,), negated=negated)
        assert matches(f"-m hl {text}", version=6) == (expected,)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("--mss 1:500", AnyOf(())),
        ("! --mss 536:65535", AnyOf(((HasBits(Field.TCP_FLAGS, 2, 2),),), negated=True)),
        ("--mss 1460", AnyOf(((HasBits(Field.TCP_FLAGS, 2, 2), Opaque("tcpmss", "--mss 1460")),))),
    ],
)
def test_segments_that_are_asked_for(said: str, expected: Match) -> None:
    """Nobody's kernel asks for less than 536 bytes, and for none after the handshake."""
    assert matches(f"-m tcpmss {said}") == (expected,)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("-m rt --rt-type 0", (AnyOf(()),)), ("-m frag ! --fragmore", (AnyOf(()),)), ("-m hbh", (AnyOf(()),)),
        ("-m dst --dst-len 5", (AnyOf(()),)),
        ("-s fd00::/16", (between(SOURCE, "fd00::", "fd00:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),)),
        ("! -d fd00::1/128", (between(DESTINATION, "fd00::1", "fd00::1", negated=True),)),
        ("-s fd00::1/ffff::ffff", (HasBits(SOURCE, number("ffff::ffff"), number("fd00::1")),)),
        ("-p ipv6-icmp -m icmp6 --icmpv6-type 128", (
            InRanges(Field.PROTOCOL, Ranges.of(58)), InRanges(Field.ICMP_TYPE, Ranges.of(128)),
        )),
        ("-m iprange --dst-range fd00::1-fd00::9", (between(DESTINATION, "fd00::1", "fd00::9"),)),
        ("-m addrtype --dst-type UNICAST", (
            AddressTypeIs(DESTINATION, frozenset(AddressType) - {AddressType.MULTICAST}),
        )),
        ("-m addrtype --dst-type UNICAST,LOCAL", (AddressTypeIs(DESTINATION, frozenset({AddressType.LOCAL})),)),
        ("-m addrtype ! --src-type UNREACHABLE", (
            AddressTypeIs(
                SOURCE,
                frozenset({AddressType.BLACKHOLE, AddressType.PROHIBIT, AddressType.UNREACHABLE}),
                negated=True,
            ),
        )),
    ],
)  # fmt: skip
def test_ipv6(said: str, expected: tuple[Match, ...]) -> None:
    """Addresses and ICMP types of IPv6 are told as those of IPv4."""
    assert matches(said, version=6) == expected


@pytest.mark.parametrize(
    ("said", "name"),
    [
        ("-m limit --limit 5/sec", "limit"), ("-m recent --rcheck --seconds 60 --name x --rsource", "recent"),
        ("-m hashlimit --hashlimit-above 5/sec --hashlimit-name h", "hashlimit"), ("-m statistic --mode random",
        "statistic"), ("-m statistic --mode nth --every 3 --packet 0", "statistic"),
        ("-m statistic --mode random --probability 0.5", "statistic"),
        ('-m string --string "-j ACCEPT" --algo bm', "string"), ("-m u32 --u32 0x6&0xff=0x1", "u32"),
        ('-m bpf --bytecode "1,6 0 0 1"', "bpf"), ("-m time --timestart 08:00", "time"), ("-m quota --quota 5",
        "quota"),
        ("-m recent --remove --name x --rsource", "recent"), ("-m policy --dir in --strict", "policy"),
        ("-m cpu --cpu 1", "cpu"),
        ("-m cgroup --cgroup 5", "cgroup"), ("-m nfacct --nfacct-name x", "nfacct"), ("-m length --length 100",
        "length"),
        ("-m ttl --ttl-gt 5", "ttl"), ("-m dscp --dscp 0x10", "dscp"), ("-m tos --tos 1",
        "tos"),
        ("-m ecn --ecn-tcp-cwr", "ecn"), ("-m connlimit --connlimit-above 3", "connlimit"),
        ("-m connbytes --connbytes 5", "connbytes"), ("-m socket --transparent", "socket"), ("-m rateest --rateest x",
        "rateest"),
        ("-m eui64", "eui64"), ("-m devgroup --src-group mine", "src-group"),
        ("-m devgroup --of 5", "of"),
        ("-m mh --mh-type 5", "mh"), ("-m ipv6header --soft", "ipv6header"), ("-m ah --ahspi 1", "ah"),
        ("-m esp --espspi 1", "esp"), ("-m nonsense --what ever", "nonsense"), ("-m conntrack --ctexpire 10:20",
        "ctexpire"),
        ("-p tcp -m tcp --tcp-option 5", "tcp-option"), ("-p sctp -m sctp --chunk-types any INIT", "chunk-types"),
        ("-m owner --suppl-groups", "suppl-groups"), ("-m set --match-set none src", "set"), ("-x 5", "x"),
        ("-p tcp -m tcp --newer thing", "newer"), ("-p nonsense", "p"), ("-s 10.0.0.1/99", "s"), ("-i br*", "i"),
        ("-p tcp -m tcp --dport http", "dport"), ("-p tcp -m multiport --dports 1,x", "dports"),
        ("-m addrtype --dst-type X", "addrtype"),
        ("-m conntrack --ctstate OTHER", "ctstate"), ("-m mark --mark x", "mark"), ("-m mac --mac-source x",
        "mac-source"),
        ("-m pkttype --pkt-type x", "pkt-type"), ("-m iprange --src-range 1", "src-range"), ("-m rpfilter --new",
        "rpfilter"),
    ],
)  # fmt: skip
def test_what_is_not_understood_is_opaque_by_its_name(said: str, name: str) -> None:
    """Nothing is dropped: a module, option or argument that is not understood is a match that nobody can decide."""
    found = rule(f"{said} -j ACCEPT")
    assert doubts(found) == {name}
    assert isinstance(found.steps[-2], Opaque)


def test_opaque_matches_come_after_those_that_can_be_decided() -> None:
    """What cannot be decided matters only for packets that everything else holds for."""
    assert [type(step) for step in matches("-m limit --limit 1/s -s 10.0.0.1 -m length --length 5 -p tcp")] == [
        InRanges, InRanges, Opaque, Opaque,
    ]  # fmt: skip
