"""The left sides of nft's comparisons and the keys of its maps (libnftables-json(5), EXPRESSIONS).

What nft leaves out is written out: `tcp dport` asks for the protocol first, and `ip saddr` for the family in tables
that see several. nft shows both only where a rule says more than that (payload_dependency_kill).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial, reduce
from typing import TYPE_CHECKING

from exporter.model.firewall import CtStatus, Field, InRanges, ReversePath, Side, TableFamily
from exporter.model.ranges import Ranges
from exporter.parse.kernel.nft_names import (
    ARP_OPERATIONS,
    DIRECTIONS,
    ETHER_TYPES,
    FAMILIES,
    FAMILY_NUMBERS,
    GROUPS,
    ICMP_CODES,
    ICMP_TYPES,
    ICMPV6_CODES,
    ICMPV6_TYPES,
    INTERFACE_TYPES,
    PACKET_TYPES,
    STATES,
    STATUSES,
    TCP_FLAGS,
    TRANSPORTS,
)
from exporter.parse.kernel.nft_subjects import (
    Absent,
    Drawn,
    Fixed,
    HopLimit,
    Name,
    Number,
    Route,
    RouteType,
    SegmentSize,
    Several,
    Unknown,
)
from exporter.parse.kernel.nft_values import (
    ether_address,
    integer,
    ip_address,
    items,
    named,
    plain,
    properties,
    tagged,
    whether,
    words,
    written,
)
from exporter.parse.kernel.values import OF_A_SOCKET

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from exporter.model.firewall import Match, Step
    from exporter.parse.kernel.nft_sets import NamedSet
    from exporter.parse.kernel.nft_subjects import Subject


@dataclass(frozen=True, slots=True)
class Context:
    """What the meaning of a rule depends on: its table's family, its sets, and the names of its timeouts of 0.

    Rules say the same over and over: `known` remembers sets as matches, and `lefts` what is looked at.
    """

    family: TableFamily
    sets: Mapping[str, NamedSet] = field(default_factory=dict)
    momentary: frozenset[str] = frozenset()
    known: dict[tuple[str, str, bool], Match] = field(default_factory=dict)
    lefts: dict[bytes, Left] = field(default_factory=dict)

    @property
    def version(self) -> int | None:
        """The version of IP of all packets that the table sees, None where there are several."""
        return _VERSIONS.get(self.family)


_VERSIONS = {TableFamily.IP: 4, TableFamily.IP6: 6}


@dataclass(frozen=True, slots=True)
class Left:
    """An expression: what it looks at, and what has to hold before it can.

    `transport` says that it is a port of whichever protocol: of one that has none, other bytes are compared.
    """

    name: str
    subject: Subject
    implied: tuple[Match, ...] = ()
    transport: bool = False


def expression(said: object, context: Context) -> Left:
    """Return an expression; one that is not understood is `Unknown` by its name."""
    key = written(said)
    known = context.lefts.get(key)
    if known is None:
        known = context.lefts[key] = _expression(said, context)
    return known


def _expression(said: object, context: Context) -> Left:
    try:
        name, body = tagged(said)
        handler = _EXPRESSIONS.get(name)
        return handler(body, context) if handler else Left(name, Unknown(name))
    except ValueError:
        return Left(name_of(said), Unknown(name_of(said)))


def name_of(said: object) -> str:
    """Return what an expression is called where it is not understood: `meta time`, `ct label`, `ip dscp`."""
    try:
        name, body = tagged(said)
    except ValueError:
        return "expression"
    if name in _OPERATORS and isinstance(body, list | tuple) and body:
        return name_of(body[0])
    if not isinstance(body, dict):
        return name
    words_of = [body.get(key) for key in ("protocol", "key", "name", "field", "result")]
    before = () if "protocol" in body else (name,)
    return " ".join([*before, *(word for word in words_of if isinstance(word, str))])


# --- What has to hold first ---

WITH_PORTS = Ranges.of(6, 17, 33, 132, 136)
"""TCP, UDP, DCCP, SCTP, UDP-Lite."""


def of_family(version: int, context: Context) -> tuple[Match, ...]:
    """Return what asks for a version of IP, nothing where the table sees no other."""
    if context.version is not None:
        return ()
    if context.family is TableFamily.INET:
        return (InRanges(Field.FAMILY, Ranges.of(version)),)
    return (InRanges(Field.ETHER_TYPE, Ranges.of(ETHER_TYPES["ip" if version == 4 else "ip6"])),)


def of_protocol(number: int) -> tuple[Match, ...]:
    """Return what asks for a transport protocol."""
    return (InRanges(Field.PROTOCOL, Ranges.of(number)),)


_LAYERS = {"ip": 4, "ip6": 6, "icmp": 4, "icmpv6": 6, "igmp": 4}
_LINKS = {"arp": ETHER_TYPES["arp"], "vlan": ETHER_TYPES["vlan"]}


def _of_header(protocol: str, context: Context) -> tuple[Match, ...]:
    """Return what has to hold for packets to have a header."""
    implied: tuple[Match, ...] = ()
    if protocol in _LAYERS:
        implied = of_family(_LAYERS[protocol], context)
    elif protocol in _LINKS and context.family is not TableFamily.ARP:
        implied = (InRanges(Field.ETHER_TYPE, Ranges.of(_LINKS[protocol])),)
    if protocol in TRANSPORTS and protocol not in ("ip", "ipv6"):
        implied += of_protocol(TRANSPORTS[protocol])
    return implied


def has_ports(steps: Iterable[Step]) -> bool:
    """Return whether matches leave no packets but those of protocols with ports."""
    return any(
        isinstance(step, InRanges)
        and step.field is Field.PROTOCOL
        and not step.negated
        and all(WITH_PORTS.covers(low, high) for low, high in step.ranges.intervals)
        for step in steps
    )


# --- Headers ---


def _number(name: Field, width: int, names: Mapping[str, int] | None = None) -> Number:
    return Number(name, width, partial(named, names) if names else plain, (1 << width) - 1)


def _address(name: Field, version: int) -> Number:
    width = 32 if version == 4 else 128
    return Number(name, width, partial(ip_address, version), (1 << width) - 1)


def _ether(name: Field) -> Number:
    return Number(name, 48, ether_address, (1 << 48) - 1)


_PORTS = {"sport": Field.SOURCE_PORT, "dport": Field.DESTINATION_PORT}

_HEADERS: Mapping[tuple[str, str], Subject] = {
    ("ip", "saddr"): _address(Field.SOURCE, 4),
    ("ip", "daddr"): _address(Field.DESTINATION, 4),
    ("ip", "protocol"): _number(Field.PROTOCOL, 8, TRANSPORTS),
    ("ip", "version"): Fixed(4),
    ("ip", "hdrlength"): Fixed(5),
    # packets in one piece: only the bit that forbids to cut them differs
    ("ip", "frag-off"): Fixed(0, unknown=0xC000),
    ("ip6", "saddr"): _address(Field.SOURCE, 6),
    ("ip6", "daddr"): _address(Field.DESTINATION, 6),
    ("ip6", "nexthdr"): _number(Field.PROTOCOL, 8, TRANSPORTS),
    ("ip6", "version"): Fixed(6),
    ("ip6", "hoplimit"): HopLimit(),
    ("tcp", "flags"): _number(Field.TCP_FLAGS, 8, TCP_FLAGS),
    ("icmp", "type"): _number(Field.ICMP_TYPE, 8, ICMP_TYPES),
    ("icmp", "code"): _number(Field.ICMP_CODE, 8, ICMP_CODES),
    ("icmpv6", "type"): _number(Field.ICMP_TYPE, 8, ICMPV6_TYPES),
    ("icmpv6", "code"): _number(Field.ICMP_CODE, 8, ICMPV6_CODES),
    # of Ethernet and IPv4, as all are: with that begins what arptables writes
    ("arp", "htype"): Fixed(1),
    ("arp", "hlen"): Fixed(6),
    ("arp", "plen"): Fixed(4),
    ("arp", "operation"): _number(Field.ARP_OPERATION, 16, ARP_OPERATIONS),
    ("arp", "saddr ip"): _address(Field.ARP_SOURCE, 4),
    ("arp", "daddr ip"): _address(Field.ARP_DESTINATION, 4),
    ("arp", "saddr ether"): _ether(Field.ARP_SOURCE_MAC),
    ("arp", "daddr ether"): _ether(Field.ARP_DESTINATION_MAC),
    ("ether", "saddr"): _ether(Field.SOURCE_MAC),
    ("ether", "daddr"): _ether(Field.DESTINATION_MAC),
    ("ether", "type"): _number(Field.ETHER_TYPE, 16, ETHER_TYPES),
    **{
        (protocol, name): _number(port, 16)
        for protocol in ("tcp", "udp", "udplite", "sctp", "dccp", "th")
        for name, port in _PORTS.items()
    },
}


_PAYLOAD = ("protocol", "field")


def _payload(body: object, context: Context) -> Left:
    """Return a field of a header.

    Bytes by their offset (`@th,16,16`) that nft has no name for, and headers within a tunnel's, are not known.
    """
    said = properties(body)
    protocol, name = said.get("protocol"), said.get("field")
    if len(said) != len(_PAYLOAD) or not isinstance(protocol, str) or not isinstance(name, str):
        return Left("raw payload", Unknown("raw payload"))
    implied = _of_header(protocol, context)
    if (protocol, name) == ("ether", "type") and context.family not in (TableFamily.BRIDGE, TableFamily.NETDEV):
        # asked of the link layer; an address there is only in packets that came from one, so that needs no match
        implied = (InRanges(Field.INPUT_TYPE, Ranges.of(INTERFACE_TYPES["ether"])),)
    known = _HEADERS.get((protocol, name), Unknown(f"{protocol} {name}"))
    return Left(f"{protocol} {name}", known, implied, transport=protocol == "th" and name in _PORTS)


def _extension(body: object, context: Context) -> Left:
    """Extension headers of IPv6: packets that are asked about have none."""
    return _option("exthdr", body, of_family(6, context))


def _ip_option(body: object, context: Context) -> Left:
    """Options of IPv4: packets that are asked about have none."""
    return _option("ip option", body, of_family(4, context))


def _option(name: str, body: object, implied: tuple[Match, ...]) -> Left:
    return Left(name, Absent() if "field" in properties(body) else Fixed(0), implied)


def _tcp_option(body: object, _context: Context) -> Left:
    said = properties(body)
    asked = (said.get("name"), said.get("field")) == ("maxseg", "size")
    subject = SegmentSize() if asked else Unknown("tcp option")
    return Left("tcp option", subject, of_protocol(6) if "field" in said else ())


# --- Metadata ---


def _family(value: object) -> int:
    return FAMILIES[value] if isinstance(value, str) and value in FAMILIES else FAMILY_NUMBERS.get(plain(value), 0)


_FAMILY = Number(Field.FAMILY, 8, _family, 0xFF)

_WHETHER_IPSEC = Number(Field.IPSEC, 8, whether, 0xFF)

_META: Mapping[str, Subject] = {
    "nfproto": _FAMILY,
    "protocol": _number(Field.ETHER_TYPE, 16, ETHER_TYPES),
    "l4proto": _number(Field.PROTOCOL, 8, TRANSPORTS),
    "mark": _number(Field.MARK, 32),
    "iifname": Name(Field.INPUT_INTERFACE),
    "oifname": Name(Field.OUTPUT_INTERFACE),
    "iif": Name(Field.INPUT_INTERFACE, index=True),
    "oif": Name(Field.OUTPUT_INTERFACE, index=True),
    "iifkind": Name(Field.INPUT_KIND),
    "oifkind": Name(Field.OUTPUT_KIND),
    "iiftype": _number(Field.INPUT_TYPE, 16, INTERFACE_TYPES),
    "oiftype": _number(Field.OUTPUT_TYPE, 16, INTERFACE_TYPES),
    "pkttype": _number(Field.PACKET_TYPE, 8, PACKET_TYPES),
    "ipsec": _WHETHER_IPSEC,
    "secpath": _WHETHER_IPSEC,
    "iifgroup": _number(Field.INPUT_GROUP, 32, GROUPS),
    "oifgroup": _number(Field.OUTPUT_GROUP, 32, GROUPS),
    "skuid": _number(Field.SOCKET_USER, 32),
    "skgid": _number(Field.SOCKET_GROUP, 32),
}


def _meta(body: object, context: Context) -> Left:
    """Return what the kernel knows beside the packet; time, load, chance and cgroups are not known here."""
    key = properties(body).get("key")
    name = f"meta {key}"
    if key == "cgroup":
        return Left(name, Unknown(name), (OF_A_SOCKET,))
    if key == "nfproto" and context.family not in (TableFamily.INET, *_VERSIONS):
        return Left(name, Unknown(name))
    return Left(name, _META.get(key, Unknown(name)) if isinstance(key, str) else Unknown("meta"))


# --- Connections ---

_ALL_STATUSES = sum(STATUSES.values())
_TRANSLATED = CtStatus.SNAT | CtStatus.DNAT

_CONNECTIONS: Mapping[str, Subject] = {
    "state": _number(Field.CT_STATE, 32, STATES),
    # the kernel keeps more bits than anybody can tell from outside, one beside each of a translation (IPS_DST_NAT_DONE)
    "status": replace(_number(Field.CT_STATUS, 32, STATUSES), known=_ALL_STATUSES, attended=_TRANSLATED),
    "mark": _number(Field.CT_MARK, 32),
    "direction": _number(Field.CT_DIRECTION, 8, DIRECTIONS),
    "protocol": _number(Field.CT_PROTOCOL, 8, TRANSPORTS),
}

_ENDS = {
    ("original", "saddr"): Field.CT_ORIGINAL_SOURCE,
    ("original", "daddr"): Field.CT_ORIGINAL_DESTINATION,
    ("original", "proto-src"): Field.CT_ORIGINAL_SOURCE_PORT,
    ("original", "proto-dst"): Field.CT_ORIGINAL_DESTINATION_PORT,
    ("reply", "saddr"): Field.CT_REPLY_SOURCE,
    ("reply", "daddr"): Field.CT_REPLY_DESTINATION,
    ("reply", "proto-src"): Field.CT_REPLY_SOURCE_PORT,
    ("reply", "proto-dst"): Field.CT_REPLY_DESTINATION_PORT,
}


def _connection(body: object, context: Context) -> Left:
    """Return what conntrack knows; counters, labels, zones and time are not known here.

    What helps is told of connections that another one expected, as none is that is asked about (nft_ct_get_eval).
    """
    said = properties(body)
    key, direction = str(said.get("key")), str(said.get("dir"))
    if key == "l3proto":
        return Left("ct l3proto", _FAMILY, _number(Field.CT_PROTOCOL, 8).present)
    if key == "helper":
        return Left("ct helper", Absent())
    if key in _CONNECTIONS:
        return Left(f"ct {key}", _CONNECTIONS[key])
    family, _, part = key.rpartition(" ")
    end = _ENDS.get((direction, part))
    name = f"ct {key}"
    if end is None:
        return Left(name, Unknown(name))
    if part.startswith("proto-"):
        return Left(name, _number(end, 16), transport=True)
    version = {"ip": 4, "ip6": 6}.get(family, context.version)
    if version is None:
        return Left(name, Unknown(name))
    return Left(name, _address(end, version), of_family(version, context) if family else ())


def _transformed(body: object, _context: Context) -> Left:
    """Return what a policy's state says of a packet of IPsec; of any other the rule is over (nft_xfrm_get_eval)."""
    name = f"ipsec {properties(body).get('key')}"
    return Left(name, Unknown(name), (InRanges(Field.IPSEC, Ranges.of(1)),))


# --- Routes ---


def _of_route(body: object, _context: Context) -> Left:
    key = properties(body).get("key")
    return Left("rt", _WHETHER_IPSEC if key == "ipsec" else Unknown("rt"))


_LOOKED_UP = {"saddr": Field.SOURCE, "daddr": Field.DESTINATION}
_SIDES = {"iif": Side.INPUT, "oif": Side.OUTPUT}


def _route(body: object, _context: Context) -> Left:
    said = properties(body)
    flags, result = words(said.get("flags")), said.get("result")
    if result == "type":
        return Left("fib type", _route_type(flags))
    rest = flags - {"iif", "mark"}
    if result not in ("oif", "oifname", "check") or rest != {"saddr"}:
        return Left("fib", Unknown("fib"))
    return Left("fib", Route(ReversePath(loose="iif" not in flags, with_mark="mark" in flags, native=True)))


def _route_type(flags: frozenset[str]) -> Subject:
    (looked_up,) = (name for flag, name in _LOOKED_UP.items() if flag in flags)
    sides = [side for flag, side in _SIDES.items() if flag in flags]
    if len(sides) > 1 or not flags <= {*_LOOKED_UP, *_SIDES}:
        return Unknown("fib type")
    return RouteType(looked_up, sides[0] if sides else Side.ANY)


# --- Chance ---


def _numgen(body: object, _context: Context) -> Left:
    return Left("numgen", _drawn("numgen", body))


def _symhash(body: object, _context: Context) -> Left:
    return Left("symhash", _drawn("symhash", body))


def _jhash(body: object, context: Context) -> Left:
    return Left("jhash", _drawn("jhash", body), expression(properties(body).get("expr"), context).implied)


def _drawn(name: str, body: object) -> Subject:
    said = properties(body)
    count = integer(said.get("mod"))
    if count < 1:
        raise ValueError("a choice of nothing")
    return Drawn(name, integer(said.get("offset", 0)), count)


# --- Operators ---

_OPERATORS = ("&", "|", "^", "<<", ">>")


def _changed(operator: str, body: object, context: Context) -> Left:
    """Return the result of `&`, `|`, `^`, `<<` and `>>` with values that the rule names."""
    first, *others = items(body)
    left = expression(first, context)
    try:
        subject = reduce(lambda subject, value: _calculated(operator, subject, value), others, left.subject)
    except ValueError:
        subject = Unknown(left.name)
    return replace(left, subject=subject)


def _calculated(operator: str, subject: Subject, value: object) -> Subject:
    if not isinstance(subject, Number | Fixed):
        raise ValueError("bits of what is no number")  # noqa: TRY004 - as all that is not understood
    return subject.changed(operator, value)


def _concatenation(body: object, context: Context) -> Left:
    """Return several expressions at once. A part that names the protocol vouches for ports."""
    parts = [expression(part, context) for part in items(body)]
    if not parts:
        raise ValueError("a concatenation of nothing")
    implied = tuple(dict.fromkeys(match for part in parts for match in part.implied))
    named_protocol = any(isinstance(part.subject, Number) and part.subject.field is Field.PROTOCOL for part in parts)
    return Left(
        " . ".join(part.name for part in parts),
        Several(tuple(part.subject for part in parts)),
        implied,
        transport=any(part.transport for part in parts) and not named_protocol,
    )


_EXPRESSIONS: Mapping[str, Callable[[object, Context], Left]] = {
    "payload": _payload,
    "meta": _meta,
    "ct": _connection,
    "fib": _route,
    "rt": _of_route,
    "ipsec": _transformed,
    "exthdr": _extension,
    "ip option": _ip_option,
    "tcp option": _tcp_option,
    "numgen": _numgen,
    "symhash": _symhash,
    "jhash": _jhash,
    "concat": _concatenation,
    **{operator: partial(_changed, operator) for operator in _OPERATORS},
}
