"""Values as iptables and ipset print them. Every function raises ValueError for text that is none of its kind."""

from __future__ import annotations

from functools import lru_cache

from exporter.model.addresses import bounds
from exporter.model.firewall import AnyOf, Field, HasBits, InRanges, Match, NameIs, Opaque
from exporter.model.ranges import Ranges
from exporter.parse.addresses import parse_network, parse_number
from exporter.parse.kernel.names import PROTOCOLS

HIGHEST_PORT = 0xFFFF
ALL_BITS = 0xFFFFFFFF
_BITS = {4: 32, 6: 128}

NEVER = AnyOf(())
"""No alternative at all: holds for no packet."""


OF_A_SOCKET = AnyOf(
    ((InRanges(Field.SOCKET_USER, Ranges(((0, ALL_BITS),))),), (NameIs(Field.OUTPUT_INTERFACE, ("",)),))
)
"""Holds for packets that may be known to be of a socket: those that a namespace sends, and those that come to it."""

_ICMPV6, _OF_NEIGHBOURS, _FROM_THE_LINK = 58, (133, 137), 255
ABOUT_NEIGHBOURS = (
    InRanges(Field.PROTOCOL, Ranges.of(_ICMPV6)),
    InRanges(Field.ICMP_TYPE, Ranges((_OF_NEIGHBOURS,))),
)
"""Together they hold for neighbour discovery."""


def hop_limit(name: str, wanted: Ranges, text: str = "", *, negated: bool = False) -> AnyOf:
    """Return the match of a hop limit within some ranges.

    That of neighbour discovery is always the same, or nobody heeds it (ndisc_rcv); others' the sender may choose.
    """
    others = (AnyOf((ABOUT_NEIGHBOURS,), negated=True), Opaque(name, text))
    found = (ABOUT_NEIGHBOURS, others) if _FROM_THE_LINK in wanted else (others,)
    return AnyOf(found, negated)


ASKS_FOR_SEGMENTS = HasBits(Field.TCP_FLAGS, 2, 2)
"""Holds for packets of TCP that begin a connection, or accept it."""
_SEGMENTS = Ranges(((536, 0xFFFF),))


def segment_size(name: str, wanted: Ranges, text: str = "", *, negated: bool = False) -> AnyOf:
    """Return the match of the size of segments (MSS) that whoever begins or accepts a connection of TCP asks for.

    Of later packets nothing holds. A kernel asks for what its interface takes (tcp_advertise_mss): that is taken to be
    packets of 576 bytes at least.
    """
    always = wanted.holds(_SEGMENTS)
    found = {True: ((ASKS_FOR_SEGMENTS,),), False: (), None: ((ASKS_FOR_SEGMENTS, Opaque(name, text)),)}
    return AnyOf(found[always], negated)


def number(text: str, highest: int = ALL_BITS) -> int:
    """Return a number in decimal or, with `0x`, in hexadecimal notation: `22`, `0x16`."""
    found = int(text, 16) if text.startswith("0x") else int(text)
    if not 0 <= found <= highest:
        raise ValueError(f"{text} is not between 0 and {highest}")
    return found


def span(text: str, separator: str = ":", highest: int = HIGHEST_PORT) -> tuple[int, int]:
    """Return a range, either end of which may be left out: `80`, `1000:2000`, `:1023`, `1024:`."""
    low, found, high = text.partition(separator)
    if not found:
        only = number(low, highest)
        return only, only
    return number(low, highest) if low else 0, number(high, highest) if high else highest


def spans(text: str, separator: str = ":", highest: int = HIGHEST_PORT) -> Ranges:
    """Return a list of ranges: `22,80,1000:2000`."""
    return Ranges.union(span(part, separator, highest) for part in text.split(","))


def bits(text: str) -> tuple[int, int]:
    """Return the value and the mask of a mark: `0x1/0xff`; without a mask it is every bit."""
    value, found, mask = text.partition("/")
    return number(value), number(mask) if found else ALL_BITS


def protocol(text: str) -> int:
    """Return the number of a transport protocol: `tcp`, `6`."""
    found = PROTOCOLS.get(text)
    return number(text, 0xFF) if found is None else found


def mac(text: str) -> int:
    """Return an Ethernet address as a number: `02:42:ac:11:00:02`."""
    parts = text.split(":")
    if len(parts) != 6 or not all(1 <= len(part) <= 2 for part in parts):
        raise ValueError(f"{text} is no Ethernet address")
    return int.from_bytes(bytes(int(part, 16) for part in parts), "big")


def addresses(text: str, version: int) -> tuple[int, int]:
    """Return the first and last of some addresses: `10.0.0.1`, `10.0.0.0/8`, `10.0.0.1-10.0.0.9`."""
    low, found, high = text.partition("-")
    if found:
        return parse_number(low, version), parse_number(high, version)
    if "/" not in text:
        only = parse_number(text, version)
        return only, only
    network = parse_network(text)
    if network.version != version:
        raise ValueError(f"{text} is not of IPv{version}")
    return bounds(network)


@lru_cache(maxsize=1 << 12)
def address_mask(text: str, version: int) -> int:
    """Return a mask, given as the length of a prefix or as an address: `24`, `255.0.255.0`."""
    if text.isdecimal():
        length = number(text, _BITS[version])
        return ((1 << length) - 1) << (_BITS[version] - length)
    return parse_number(text, version)


def address_match(field: Field, text: str, version: int, *, negated: bool) -> Match:
    """Return the match of an address with a mask: `10.0.0.0/8`, `10.0.0.1/255.0.255.255`, `fd00::1`."""
    base, found, rest = text.partition("/")
    value = parse_number(base, version)
    everything = (1 << _BITS[version]) - 1
    mask = address_mask(rest, version) if found else everything
    free = mask ^ everything
    if free & (free + 1):
        return HasBits(field, mask, value & mask, negated)
    low = value & mask
    return InRanges(field, Ranges(((low, low | free if free else low),)), negated)
