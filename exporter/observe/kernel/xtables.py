"""What modules of iptables were told, from their structures in the kernel, as iptables writes it.

Only where iptables itself says nothing of a chain, since nft has put rules of its own there, is it read from these.
"""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    Decoder = Callable[[bytes, str], Iterator[str]]


class Module(NamedTuple):
    """A match or a target of a rule, by the name and the revision of its structure; `family` is `ip` or `ip6`."""

    kind: str
    name: str
    revision: int
    info: bytes
    family: str


def written(module: Module) -> str | None:
    """Return a module with its options, `-m addrtype --dst-type LOCAL`; None where that is not known."""
    decoder = _DECODERS.get((module.kind, module.name, module.revision))
    try:
        options = list(decoder(module.info, module.family)) if decoder else None
    except (struct.error, ValueError, IndexError):
        return None
    return None if options is None else " ".join((_OPTIONS[module.kind], module.name, *options))


_OPTIONS: Final = {"match": "-m", "target": "-j"}


def _negated(option: str, *, inverted: object) -> str:
    return f"! {option}" if inverted else option


def _names(told: int, names: Sequence[str]) -> str:
    """Return the names of bits. Raises ValueError for one that has none."""
    if told >> len(names) or not told:
        raise ValueError("a bit without a name")
    return ",".join(name for place, name in enumerate(names) if told >> place & 1)


# --- Matches ---

_TYPES: Final = (
    "UNSPEC", "UNICAST", "LOCAL", "BROADCAST", "ANYCAST", "MULTICAST", "BLACKHOLE", "UNREACHABLE", "PROHIBIT", "THROW",
    "NAT", "XRESOLVE",
)  # fmt: skip


def _addrtype(info: bytes, _family: str) -> Iterator[str]:
    """`struct xt_addrtype_info_v1`."""
    source, destination, flags = struct.unpack_from("=HHI", info)
    if source:
        yield _negated(f"--src-type {_names(source, _TYPES)}", inverted=flags & 1)
    if destination:
        yield _negated(f"--dst-type {_names(destination, _TYPES)}", inverted=flags & 2)
    if flags & 4:
        yield "--limit-iface-in"
    if flags & 8:
        yield "--limit-iface-out"


_STATES: Final = ("INVALID", "ESTABLISHED", "RELATED", "NEW", "", "", "SNAT", "DNAT", "UNTRACKED")
_OF_STATES, _AS_STATE = 1, 1 << 13


def _conntrack(info: bytes, _family: str) -> Iterator[str]:
    """`struct xt_conntrack_mtinfo3`, of states alone. Raises ValueError for what asks for more."""
    asked, inverted, states = struct.unpack_from("=HHH", info, 146)
    if asked & ~_AS_STATE != _OF_STATES:
        raise ValueError("more than states")
    yield _negated(f"--ctstate {_names(states, _STATES)}", inverted=inverted & _OF_STATES)


_WHOLE: Final = (0, 0xFFFF)


def _span(low: int, high: int) -> str:
    return str(low) if low == high else f"{low}:{high}"


def _ports(info: bytes, inverted: int) -> Iterator[str]:
    first_source, last_source, first, last = struct.unpack_from("=HHHH", info)
    if (first_source, last_source) != _WHOLE:
        yield _negated(f"--sport {_span(first_source, last_source)}", inverted=inverted & 1)
    if (first, last) != _WHOLE:
        yield _negated(f"--dport {_span(first, last)}", inverted=inverted & 2)


_FLAGS: Final = ("FIN", "SYN", "RST", "PSH", "ACK", "URG")


def _tcp(info: bytes, _family: str) -> Iterator[str]:
    """`struct xt_tcp`. Raises ValueError where an option is asked for."""
    option, mask, flags, inverted = struct.unpack_from("=BBBB", info, 8)
    if option:
        raise ValueError("an option of TCP")
    yield from _ports(info, inverted)
    if mask:
        told = _names(flags, _FLAGS) if flags else "NONE"
        yield _negated(f"--tcp-flags {_names(mask, _FLAGS)} {told}", inverted=inverted & 8)


def _udp(info: bytes, _family: str) -> Iterator[str]:
    """`struct xt_udp`."""
    return _ports(info, info[8])


_SIDES: Final = ("--sports", "--dports", "--ports")


def _multiport(info: bytes, _family: str) -> Iterator[str]:
    """`struct xt_multiport_v1`: where a port has a flag, a range begins with it."""
    side, count = info[0], info[1]
    ports = struct.unpack_from("=15H", info, 2)[:count]
    told = "".join(f"{port}{':' if begins else ','}" for port, begins in zip(ports, info[32:], strict=False))
    yield _negated(f"{_SIDES[side]} {told.rstrip(',')}", inverted=info[47])


def _mark(info: bytes, _family: str) -> Iterator[str]:
    """`struct xt_mark_mtinfo1`."""
    mark, mask, inverted = struct.unpack_from("=IIB", info)
    yield _negated(f"--mark {mark:#x}/{mask:#x}", inverted=inverted)


# --- Targets ---


def _set_mark(info: bytes, _family: str) -> Iterator[str]:
    """`struct xt_mark_tginfo2`."""
    mark, mask = struct.unpack_from("=II", info)
    yield f"--set-xmark {mark:#x}/{mask:#x}"


_BY_ADDRESS, _BY_PORT, _SHIFTED = 1, 2, 32
_CHOICES: Final = ((4, "--random"), (8, "--persistent"), (16, "--random-fully"))


class _Range(NamedTuple):
    """What something is translated to; `base` is the port that those of a shifted range begin at."""

    flags: int
    first: str
    last: str
    ports: tuple[int, int]
    base: int = 0


def _old_range(info: bytes) -> _Range:
    """`struct nf_nat_ipv4_multi_range_compat`, of which there is but one range."""
    count, flags, first, last, low, high = struct.unpack_from("=II4s4s2s2s", info)
    if count != 1:
        raise ValueError("several ranges")
    return _Range(flags, str(IPv4Address(first)), str(IPv4Address(last)), _both(low, high))


def _new_range(info: bytes, family: str) -> _Range:
    """`struct nf_nat_range` and, where it is long enough for a base, `nf_nat_range2`."""
    flags, first, last, low, high = struct.unpack_from("=I16s16s2s2s", info)
    base = int.from_bytes(info[40:42], "big") if flags & _SHIFTED else 0
    return _Range(flags, _address(first, family), _address(last, family), _both(low, high), base)


def _address(told: bytes, family: str) -> str:
    return str(IPv6Address(told) if family == "ip6" else IPv4Address(told[:4]))


def _both(low: bytes, high: bytes) -> tuple[int, int]:
    return int.from_bytes(low, "big"), int.from_bytes(high, "big")


def _range(info: bytes, family: str, revision: int) -> _Range:
    return _old_range(info) if family == "ip" and not revision else _new_range(info, family)


def _port_range(told: _Range) -> str:
    low, high = told.ports
    return (str(low) if low == high else f"{low}-{high}") + (f"/{told.base}" if told.flags & _SHIFTED else "")


def _to_place(option: str, revision: int) -> Decoder:
    def decode(info: bytes, family: str) -> Iterator[str]:
        told = _range(info, family, revision)
        place, by_port = "", told.flags & _BY_PORT
        if told.flags & _BY_ADDRESS:
            place = told.first if told.first == told.last else f"{told.first}-{told.last}"
            place = f"[{place}]" if family == "ip6" and by_port else place
        yield f"{option} {place}" + (f":{_port_range(told)}" if by_port else "")
        yield from (name for bit, name in _CHOICES if told.flags & bit)

    return decode


def _to_ports(info: bytes, family: str) -> Iterator[str]:
    told = _range(info, family, 0)
    if told.flags & _BY_PORT:
        yield f"--to-ports {_port_range(told)}"
    yield from (name for bit, name in _CHOICES if told.flags & bit)


_DECODERS: Final[Mapping[tuple[str, str, int], Decoder]] = {
    ("match", "addrtype", 1): _addrtype,
    ("match", "conntrack", 3): _conntrack,
    ("match", "tcp", 0): _tcp,
    ("match", "udp", 0): _udp,
    ("match", "multiport", 1): _multiport,
    ("match", "mark", 1): _mark,
    ("target", "MARK", 2): _set_mark,
    **{("target", "DNAT", revision): _to_place("--to-destination", revision) for revision in (0, 1, 2)},
    **{("target", "SNAT", revision): _to_place("--to-source", revision) for revision in (0, 1)},
    ("target", "MASQUERADE", 0): _to_ports,
    ("target", "REDIRECT", 0): _to_ports,
}
