"""What iptables' modules look at (iptables-extensions(8)), one table of options for each.

A module that is not listed, an option that is not, and an argument that is none become `Opaque` under their own name:
they decide by something that is not known here, such as time, chance, load, or the packet's content.
"""

from __future__ import annotations

from functools import cache, partial
from typing import TYPE_CHECKING

from exporter.model.firewall import (
    AddressType,
    AddressTypeIs,
    AnyOf,
    Field,
    HasBits,
    InRanges,
    NameIs,
    Opaque,
    ReversePath,
    Side,
)
from exporter.model.ranges import Ranges
from exporter.parse.kernel.conntrack import conntrack_matches, state_matches
from exporter.parse.kernel.names import ICMP_TYPES, ICMPV6_TYPES
from exporter.parse.kernel.options import opaque
from exporter.parse.kernel.values import (
    ABOUT_NEIGHBOURS,
    ALL_BITS,
    NEVER,
    OF_A_SOCKET,
    address_match,
    addresses,
    bits,
    hop_limit,
    mac,
    number,
    protocol,
    segment_size,
    span,
    spans,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from exporter.model.firewall import Match
    from exporter.parse.kernel.options import Context, Option


if TYPE_CHECKING:
    Handler = Callable[[Option, Context], Match]
    Module = Callable[[str, Sequence[Option], Context], Iterator[Match]]


def each(handlers: Mapping[str, Handler], option: Option, context: Context) -> Match:
    """Return the match of one option."""
    handler = handlers.get(option.name)
    try:
        return handler(option, context) if handler else opaque(option)
    except ValueError:
        return opaque(option)


def module_matches(module: str, options: Sequence[Option], context: Context) -> Iterator[Match]:
    """Yield the matches of one `-m module` with its options."""
    if module in _WITHOUT_MEANING:
        return
    handlers = _INDEPENDENT.get(module)
    if handlers is not None:
        yield from (each(handlers, option, context) for option in options)
        return
    whole = _TOGETHER.get(module)
    text = " ".join(map(str, options))
    try:
        yield from tuple(whole(options, context)) if whole else (Opaque(module, text),)
    except (ValueError, KeyError):
        yield Opaque(module, text)


def general_match(option: Option, context: Context) -> Match | None:
    """Return the match of an option that belongs to no module, None where it holds for every packet."""
    if option.name == "-p" and option.arguments in (("all",), ("0",)):
        return None
    return each(_GENERAL, option, context)


# --- Options that belong to no module ---


@cache
def of_protocol(number: int, *, negated: bool = False) -> InRanges:
    """Return the match of a protocol: one object for all rules that ask for it."""
    return InRanges(Field.PROTOCOL, Ranges.of(number), negated)


def _protocol(option: Option, _context: Context) -> Match:
    return of_protocol(protocol(option.only), negated=option.negated)


def _address(field: Field, option: Option, context: Context) -> Match:
    return address_match(field, option.only, context.version, negated=option.negated)


def interface_names(text: str) -> tuple[str]:
    """Return an interface's name, where `+` at the end stands for any rest.

    Raises ValueError for names that end in `*`: Linux allows them, and `NameIs` has another use for it.
    """
    if text.endswith("*"):
        raise ValueError("an interface whose name ends in *")
    return (text[:-1] + "*",) if text.endswith("+") else (text,)


def _interface(field: Field, option: Option, _context: Context) -> Match:
    return NameIs(field, interface_names(option.only), option.negated)


def _fragment(option: Option, _context: Context) -> Match:
    """Second and later fragments: what is asked about are packets in one piece, and conntrack puts pieces together."""
    return AnyOf((), option.negated)


_GENERAL: Mapping[str, Handler] = {
    "-s": partial(_address, Field.SOURCE),
    "-d": partial(_address, Field.DESTINATION),
    "-i": partial(_interface, Field.INPUT_INTERFACE),
    "-o": partial(_interface, Field.OUTPUT_INTERFACE),
    "-p": _protocol,
    "-f": _fragment,
}


# --- Modules whose options are conditions of their own ---


def _ports(field: Field, option: Option, _context: Context) -> Match:
    return InRanges(field, Ranges((span(option.only),)), option.negated)


_FLAGS = {"NONE": 0, "FIN": 1, "SYN": 2, "RST": 4, "PSH": 8, "ACK": 16, "URG": 32, "ALL": 63}


def _flag_bits(text: str) -> int:
    found = 0
    for name in text.split(","):
        if name not in _FLAGS:
            raise ValueError(f"{name} is no flag of TCP")
        found |= _FLAGS[name]
    return found


def _tcp_flags(option: Option, _context: Context) -> Match:
    mask, value = option.arguments
    return HasBits(Field.TCP_FLAGS, _flag_bits(mask), _flag_bits(value), option.negated)


def _syn(option: Option, _context: Context) -> Match:
    if option.arguments:
        raise ValueError("--syn takes no argument")
    return HasBits(Field.TCP_FLAGS, _flag_bits("FIN,SYN,RST,ACK"), _flag_bits("SYN"), option.negated)


def _icmp(names: Mapping[str, str], option: Option, context: Context) -> Match:
    """`8`, `3/4`, `3/0-5`, `echo-request`; ICMP's `any`, which is 255, is every type."""
    kind, found, codes = names.get(option.only, option.only).partition("/")
    if kind in ("any", "255") and context.version == 4:
        return AnyOf(((),), option.negated)
    kind_match = InRanges(Field.ICMP_TYPE, Ranges.of(number(kind, 255)), option.negated and not found)
    if not found:
        return kind_match
    code_match = InRanges(Field.ICMP_CODE, Ranges((span(codes, "-", 255),)))
    return AnyOf(((kind_match, code_match),), option.negated)


def _multiport(fields: Iterable[Field], option: Option, _context: Context) -> Match:
    ports = spans(option.only)
    first, *others = fields
    if not others:
        return InRanges(first, ports, option.negated)
    return AnyOf(tuple((InRanges(field, ports),) for field in (first, *others)), option.negated)


def _address_range(field: Field, option: Option, context: Context) -> Match:
    return InRanges(field, Ranges((addresses(option.only, context.version),)), option.negated)


def _mac(option: Option, _context: Context) -> Match:
    return InRanges(Field.SOURCE_MAC, Ranges.of(mac(option.only)), option.negated)


def _mark(field: Field, option: Option, _context: Context) -> Match:
    value, mask = bits(option.only)
    return HasBits(field, mask, value, option.negated)


_PACKET_TYPES = {"host": 0, "unicast": 0, "broadcast": 1, "bcast": 1, "multicast": 2, "mcast": 2}


def _packet_type(option: Option, _context: Context) -> Match:
    found = _PACKET_TYPES.get(option.only)
    if found is None:
        raise ValueError(f"{option.only} is no type of packet")
    return InRanges(Field.PACKET_TYPE, Ranges.of(found), option.negated)


def _port_in(option: Option, _context: Context) -> Match:
    return NameIs(Field.INPUT_PORT, interface_names(option.only), option.negated)


def _port_out(option: Option, _context: Context) -> Match:
    """Of packets that came in by a port, those that leave by none are never matched (physdev_mt)."""
    wanted = NameIs(Field.OUTPUT_PORT, interface_names(option.only), option.negated)
    if not option.negated:
        return AnyOf(((_no_port(Field.OUTPUT_PORT, negated=True), wanted),))
    bridged = (_no_port(Field.OUTPUT_PORT, negated=True), wanted)
    neither = (_no_port(Field.OUTPUT_PORT, negated=False), _no_port(Field.INPUT_PORT, negated=False))
    return AnyOf((bridged, neither))


def _is_port(field: Field, option: Option, _context: Context) -> Match:
    return _no_port(field, negated=not option.negated)


def _no_port(field: Field, *, negated: bool) -> NameIs:
    return NameIs(field, ("",), negated)


def _owner(field: Field, option: Option, _context: Context) -> Match:
    """Return a match on the owner; a packet without a socket has none, and another one than any (owner_mt)."""
    return _with_socket(InRanges(field, Ranges((span(option.only, "-", ALL_BITS),))), option)


def _socket_exists(option: Option, _context: Context) -> Match:
    """Return a match on sockets: one of the kernel's, which is nobody's, sends what looks for neighbours (ndisc_sk)."""
    owned = (InRanges(Field.SOCKET_USER, Ranges(((0, ALL_BITS),))),)
    return AnyOf((owned, (*ABOUT_NEIGHBOURS, _no_port(Field.OUTPUT_PORT, negated=False))), option.negated)


def _with_socket(match: Match, option: Option) -> Match:
    return AnyOf(((match,),), negated=True) if option.negated else match


_GROUPS = {"--src-group": Field.INPUT_GROUP, "--dst-group": Field.OUTPUT_GROUP}


def _group(option: Option, _context: Context) -> Match:
    value, mask = bits("0" if option.only == "default" else option.only)
    return HasBits(_GROUPS[option.name], mask, value, option.negated)


def _hop_limit(option: Option, _context: Context) -> Match:
    value = number(option.only, 255)
    wanted = {"--hl-eq": (value, value), "--hl-lt": (0, value - 1), "--hl-gt": (value + 1, 255)}[option.name]
    return hop_limit("hl", Ranges.union([wanted]), str(option), negated=option.negated)


def _segment_size(option: Option, _context: Context) -> Match:
    return segment_size("tcpmss", Ranges((span(option.only),)), str(option), negated=option.negated)


_SOURCE_PORTS, _DESTINATION_PORTS = partial(_ports, Field.SOURCE_PORT), partial(_ports, Field.DESTINATION_PORT)
_TRANSPORT: Mapping[str, Handler] = {
    "--sport": _SOURCE_PORTS,
    "--source-port": _SOURCE_PORTS,
    "--dport": _DESTINATION_PORTS,
    "--destination-port": _DESTINATION_PORTS,
}
_FROM = partial(_multiport, (Field.SOURCE_PORT,))
_TO = partial(_multiport, (Field.DESTINATION_PORT,))

_INDEPENDENT: Mapping[str, Mapping[str, Handler]] = {
    "tcp": {**_TRANSPORT, "--tcp-flags": _tcp_flags, "--syn": _syn},
    "udp": _TRANSPORT,
    "udplite": _TRANSPORT,
    "sctp": _TRANSPORT,
    "dccp": _TRANSPORT,
    "icmp": {"--icmp-type": partial(_icmp, ICMP_TYPES)},
    "icmp6": {"--icmpv6-type": partial(_icmp, ICMPV6_TYPES)},
    "icmpv6": {"--icmpv6-type": partial(_icmp, ICMPV6_TYPES)},
    "ipv6-icmp": {"--icmpv6-type": partial(_icmp, ICMPV6_TYPES)},
    "tcpmss": {"--mss": _segment_size},
    "hl": dict.fromkeys(("--hl-eq", "--hl-lt", "--hl-gt"), _hop_limit),
    "multiport": {
        "--sports": _FROM,
        "--source-ports": _FROM,
        "--dports": _TO,
        "--destination-ports": _TO,
        "--ports": partial(_multiport, (Field.SOURCE_PORT, Field.DESTINATION_PORT)),
    },
    "iprange": {
        "--src-range": partial(_address_range, Field.SOURCE),
        "--dst-range": partial(_address_range, Field.DESTINATION),
    },
    "mac": {"--mac-source": _mac},
    "mark": {"--mark": partial(_mark, Field.MARK)},
    "connmark": {"--mark": partial(_mark, Field.CT_MARK)},
    "devgroup": {"--src-group": _group, "--dst-group": _group},
    "pkttype": {"--pkt-type": _packet_type},
    "physdev": {
        "--physdev-in": _port_in,
        "--physdev-out": _port_out,
        "--physdev-is-in": partial(_is_port, Field.INPUT_PORT),
        "--physdev-is-out": partial(_is_port, Field.OUTPUT_PORT),
        "--physdev-is-bridged": partial(_is_port, Field.OUTPUT_PORT),
    },
    "owner": {
        "--uid-owner": partial(_owner, Field.SOCKET_USER),
        "--gid-owner": partial(_owner, Field.SOCKET_GROUP),
        "--socket-exists": _socket_exists,
    },
}

_WITHOUT_MEANING = frozenset({"comment", "standard"})


# --- Modules whose options depend on one another ---

_NO_SUCH_ADDRESS = frozenset({"THROW", "NAT", "XRESOLVE"})
"""Types that addrtype has a name for and a lookup never answers with."""


_LOOKED_UP_V6 = frozenset({AddressType.ANYCAST, AddressType.LOCAL, AddressType.UNREACHABLE})
_REJECTED = frozenset({AddressType.BLACKHOLE, AddressType.PROHIBIT, AddressType.UNREACHABLE})


def _address_types(text: str, version: int) -> frozenset[AddressType]:
    """Return the types that an address may be of; of IPv6, any that is no group's is unicast (addrtype_mt6)."""
    told = frozenset(AddressType(name.lower()) for name in text.split(",") if name not in _NO_SUCH_ADDRESS)
    if version == 4:
        return told
    looked_up = told & _LOOKED_UP_V6
    if looked_up:
        return looked_up | _REJECTED if AddressType.UNREACHABLE in looked_up else looked_up
    return frozenset(AddressType) - {AddressType.MULTICAST} if told == {AddressType.UNICAST} else told


_ADDRESS_TYPE_FIELDS = {"--src-type": Field.SOURCE, "--dst-type": Field.DESTINATION}
_LIMITS = {"--limit-iface-in": Side.INPUT, "--limit-iface-out": Side.OUTPUT}


def _address_type(options: Sequence[Option], context: Context) -> Iterator[Match]:
    side = next((_LIMITS[option.name] for option in options if option.name in _LIMITS), Side.ANY)
    for option in options:
        field = _ADDRESS_TYPE_FIELDS.get(option.name)
        if field is not None:
            yield AddressTypeIs(field, _address_types(option.only, context.version), side, option.negated)
        elif option.name not in _LIMITS:
            raise ValueError(f"{option.name} is no option of addrtype")


def _reverse_path(options: Sequence[Option], _context: Context) -> Iterator[Match]:
    """`--accept-local` lets pass what claims one of the host's own addresses, which a route never leads back to."""
    given = {option.name for option in options}
    if given - {"--loose", "--validmark", "--invert", "--accept-local"}:
        raise ValueError("an unknown option of rpfilter")
    inverted = "--invert" in given
    path = ReversePath("--loose" in given, "--validmark" in given, inverted)
    if "--accept-local" not in given:
        yield path
        return
    own = AddressTypeIs(Field.SOURCE, frozenset({AddressType.LOCAL}))
    plain = ReversePath(path.loose, path.with_mark)
    yield AnyOf(((plain,), (own, Opaque("accept-local", "-m rpfilter --accept-local"))), inverted)


_COUNTS_ONLY = frozenset({"--update-counters", "--update-subcounters"})


def _set(options: Sequence[Option], context: Context) -> Iterator[Match]:
    """Membership; options that ask for a set's counters, or for its exceptions, are not known."""
    for option in options:
        if option.name == "--match-set":
            name, directions = option.arguments
            yield _member(name, directions, option, context)
        elif option.name not in _COUNTS_ONLY:
            raise ValueError(f"{option.name} of sets")


def _member(name: str, directions: str, option: Option, context: Context) -> Match:
    if context.ipsets is None:
        return Opaque("set", str(option))
    if context.ipsets.dynamic(name):
        return Opaque("a dynamic set", str(option))
    found = context.ipsets.match(name, tuple(directions.split(",")), context.version)
    if found is None:
        return Opaque("set", str(option))
    return AnyOf(((found,),), negated=True) if option.negated else found


def _statistic(options: Sequence[Option], _context: Context) -> Iterator[Match]:
    """Chance and turns: `--probability 0` is never, `1` always, and so is every one of one."""
    given = {option.name: option for option in options}
    mode, negated = given.pop("--mode").only, any(option.negated for option in options)
    numbers = {name: float(option.only) for name, option in given.items()}
    if mode == "random" and numbers in ({"--probability": 0}, {"--probability": 1}):
        always = numbers["--probability"] == 1
    elif mode == "nth" and numbers == {"--every": 1, "--packet": 0}:
        always = True
    else:
        raise ValueError("neither always nor never")
    if always == negated:
        yield NEVER


def _recent(options: Sequence[Option], _context: Context) -> Iterator[Match]:
    """`--set` holds for whoever sends (recent_mt); all else depends on who did before."""
    found = next((option for option in options if option.name == "--set"), None)
    if found is None:
        raise ValueError("who sent before")
    if found.negated:
        yield NEVER


def _helper(options: Sequence[Option], _context: Context) -> Iterator[Match]:
    """Yield what holds for packets of a connection that another one expected, which those asked about are not."""
    if not all(option.negated for option in options):
        yield NEVER


def _of_cgroup(options: Sequence[Option], _context: Context) -> Iterator[Match]:
    """Yield the match of a packet's socket's cgroup: of one that has none, nothing holds (cgroup_mt)."""
    yield OF_A_SOCKET
    yield Opaque("cgroup", " ".join(map(str, options)))


def _extension(_options: Sequence[Option], _context: Context) -> Iterator[Match]:
    """Extension headers of IPv6: packets that are asked about have none, and nothing holds of these, negated or not."""
    yield NEVER


_OF_POLICY = {"none": 0, "ipsec": 1}


def _policy(options: Sequence[Option], _context: Context) -> Iterator[Match]:
    """Whether a packet is one of IPsec (policy_mt), and of which: what more is asked holds for none that is not."""
    given = {option.name: option for option in options}
    wanted = given["--pol"].only if "--pol" in given else ""
    if wanted not in _OF_POLICY or "--dir" not in given:
        raise ValueError("neither of packets of IPsec nor of others")
    yield InRanges(Field.IPSEC, Ranges.of(_OF_POLICY[wanted]))
    yield from (opaque(option) for option in options if option.name not in ("--pol", "--dir", "--strict"))


_TOGETHER: Mapping[str, Callable[[Sequence[Option], Context], Iterator[Match]]] = {
    "addrtype": _address_type,
    "cgroup": _of_cgroup,
    "conntrack": conntrack_matches,
    "dst": _extension,
    "frag": _extension,
    "hbh": _extension,
    "helper": _helper,
    "policy": _policy,
    "recent": _recent,
    "rpfilter": _reverse_path,
    "rt": _extension,
    "set": _set,
    "state": state_matches,
    "statistic": _statistic,
}
