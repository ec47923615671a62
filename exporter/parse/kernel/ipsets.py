"""The output of `ipset save`: what is in the sets that rules ask for (ipset(8)).

create blocked hash:net family inet hashsize 1024 maxelem 65536
add blocked 192.0.2.0/24
add blocked 192.0.2.7 nomatch
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeGuard

from exporter.errors import ObservationError
from exporter.model.firewall import AnyOf, Field, HasBits, InRanges, NameIs
from exporter.model.ranges import Ranges
from exporter.parse.kernel.names import ICMP_TYPES, ICMPV6_TYPES
from exporter.parse.kernel.values import (
    ALL_BITS,
    HIGHEST_PORT,
    NEVER,
    address_mask,
    addresses,
    mac,
    number,
    protocol,
    span,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from exporter.model.firewall import Match

_LIST = "list:set"
_KINDS = frozenset({"ip", "net", "port", "iface", "mark", "mac"})
"""What an element's parts can be."""

_OLD_WORLD = 4
_FAMILIES = {"inet": 4, "inet6": 6}
_ANY_FAMILY = frozenset({"list:set", "bitmap:port", "hash:mac"})

_FLAG_OPTIONS = frozenset({"counters", "comment", "skbinfo", "forceadd"})
"""Options of `create` without an argument."""


@dataclass(frozen=True, slots=True)
class Element:
    """An entry: its parts by commas, and whether it is an exception (`nomatch`) or a beginning (`wildcard`)."""

    parts: tuple[str, ...]
    nomatch: bool = False
    wildcard: bool = False


@dataclass(frozen=True, slots=True)
class IpSet:
    """A set. `options` are those of `create` that have an argument."""

    name: str
    type: str
    options: Mapping[str, str] = field(default_factory=dict)
    elements: tuple[Element, ...] = ()

    @property
    def kinds(self) -> tuple[str, ...]:
        """What each part of an element is: `hash:ip,port` is an address and a port."""
        return tuple(self.type.partition(":")[2].split(","))

    @property
    def names(self) -> frozenset[str]:
        """What its elements begin with: of a list, the names of sets."""
        return frozenset(element.parts[0] for element in self.elements)

    @property
    def version(self) -> int | None:
        """The version of IP that the set is for, None for any."""
        return None if self.type in _ANY_FAMILY else _FAMILIES.get(self.options.get("family", "inet"), _OLD_WORLD)


@dataclass(frozen=True, slots=True)
class IpSets:
    """All sets of a namespace by name. `changed` are those that rules say to change for packets."""

    sets: Mapping[str, IpSet] = field(default_factory=dict)
    changed: frozenset[str] = frozenset()

    def dynamic(self, name: str) -> bool:
        """Return whether packets change what is in a set, by itself, by a list that it is in, or by one in it.

        What is to be added to a list is added to one of its sets (list_set_uadd's list_set_kadd).
        """
        lists = {other for other, found in self.sets.items() if found.type == _LIST and name in found.names}
        own = self.sets[name].names if name in self.sets and self.sets[name].type == _LIST else frozenset()
        return not self.changed.isdisjoint({name, *lists, *own})

    def match(self, name: str, directions: tuple[str, ...], version: int) -> Match | None:
        """Return what holds for packets whose parts, each of the source or the destination, are in a set.

        None for a set that is not there, or of a type that is not understood.
        """
        found = self.sets.get(name)
        if found is None or not set(directions) <= {"src", "dst"}:
            return None
        try:
            members = self._list if found.type == _LIST else _members
            return members(found, directions, version)
        except ValueError:
            return None

    def _list(self, found: IpSet, directions: tuple[str, ...], version: int) -> Match:
        """Return what holds for packets in any set of a list; the kernel never holds lists in lists."""
        members = [self.sets.get(element.parts[0]) for element in found.elements]
        if any(member is None or member.type == _LIST for member in members):
            raise ValueError("a list of sets that are not there")
        matches = (_members(member, directions, version) for member in members if member is not None)
        return AnyOf(tuple((match,) for match in matches))


_CHANGES = re.compile(r" --(?:add|del)-set (\S+)")


def sets_changed(rules: str) -> frozenset[str]:
    """Return the names of the sets that rules of iptables-save change (`-j SET --add-set NAME src`)."""
    if " -j SET " not in rules:
        return frozenset()
    changing = (line for line in rules.split("\n") if " -j SET " in line)
    return frozenset(name for line in changing for name in _CHANGES.findall(line))


def parse_ipsets(text: str, rules: Iterable[str] = ()) -> IpSets:
    """Return the sets of `ipset save`, which `rules` of iptables-save may change.

    Raises ObservationError for text that is none.
    """
    created: dict[str, tuple[str, Mapping[str, str]]] = {}
    elements: dict[str, list[Element]] = {}
    for position, line in enumerate(text.split("\n"), 1):
        words = line.split()
        match words:
            case []:
                pass
            case ["create", name, kind, *options] if name not in created:
                created[name] = (kind, dict(_create_options(options)))
                elements[name] = []
            case ["add", name, entry, *options] if name in created:
                told = options[: options.index("comment")] if "comment" in options else options
                elements[name].append(Element(tuple(entry.split(",")), "nomatch" in told, "wildcard" in told))
            case _:
                raise ObservationError(f"line {position} of ipset save is neither a set nor an element of one")
    return IpSets(
        {name: IpSet(name, kind, options, tuple(elements[name])) for name, (kind, options) in created.items()},
        frozenset().union(*map(sets_changed, rules)) if created else frozenset(),
    )


def _create_options(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    remaining = iter(words)
    for word in remaining:
        yield word, "" if word in _FLAG_OPTIONS else next(remaining, "")


def _members(found: IpSet, directions: tuple[str, ...], version: int) -> Match:
    """Return the match of one set that is no list. Raises ValueError where it is not understood.

    Packets of another family are in no set, nor is any where fewer directions are given than elements have parts
    (ip_set_test).
    """
    kinds = found.kinds
    if not set(kinds) <= _KINDS or "bitmask" in found.options:
        raise ValueError(f"sets of type {found.type}")
    if found.version not in (None, version) or len(directions) < len(kinds):
        return NEVER
    at = _gathered(kinds)
    groups: dict[tuple[str, ...], list[Element]] = defaultdict(list)
    for element in found.elements:
        rest = tuple(part for position, part in enumerate(element.parts) if position != at)
        groups[(*rest, "wildcard") if element.wildcard else rest].append(element)
    if any(element.nomatch for element in found.elements) and kinds.count("net") > 1:
        raise ValueError("exceptions in two networks at once")
    told = (tuple(_alternative(found, group, at, directions, version)) for group in groups.values())
    alternatives = _ports_together(told)
    if len(alternatives) == 1 and len(alternatives[0]) == 1:
        return alternatives[0][0]
    return AnyOf(alternatives)


def _gathered(kinds: tuple[str, ...]) -> int:
    """Return the part whose values are gathered into ranges where all others are equal, -1 for none."""
    for kind in ("net", "ip"):
        if kind in kinds:
            return kinds.index(kind)
    return -1


def _ports_together(alternatives: Iterable[tuple[Match, ...]]) -> tuple[tuple[Match, ...], ...]:
    """Return alternatives, those that differ in their ports alone as one: sets have hundreds of ports."""
    groups: dict[tuple[Match, ...], list[tuple[int, int]]] = defaultdict(list)
    for alternative in alternatives:
        ports = (match.ranges for match in alternative if _is_of_ports(match))
        groups[_with_ports(alternative, Ranges())] += (interval for each in ports for interval in each.intervals)
    return tuple(_with_ports(rest, Ranges.union(intervals)) for rest, intervals in groups.items())


def _with_ports(alternative: tuple[Match, ...], ports: Ranges) -> tuple[Match, ...]:
    return tuple(InRanges(match.field, ports) if _is_of_ports(match) else match for match in alternative)


def _is_of_ports(match: Match) -> TypeGuard[InRanges]:
    return isinstance(match, InRanges) and match.field in _PORTS


def _alternative(
    found: IpSet, group: Sequence[Element], at: int, directions: tuple[str, ...], version: int
) -> Iterator[Match]:
    """Yield the matches of elements that differ in one part only."""
    first = group[0]
    kinds = found.kinds
    if any(len(element.parts) != len(first.parts) for element in group) or not 0 < len(first.parts) <= len(kinds):
        raise ValueError("elements of another size than the set's")
    if len(first.parts) < len(kinds) and found.type != "bitmap:ip,mac":
        raise ValueError("elements without all their parts")
    for position, (part, kind, direction) in enumerate(zip(first.parts, kinds, directions, strict=False)):
        outgoing = direction == "dst"
        if position == at:
            name = Field.DESTINATION if outgoing else Field.SOURCE
            yield InRanges(name, _layered(((element.parts[at], element.nomatch) for element in group), found, version))
        else:
            yield from _single(kind, part, found, version, outgoing=outgoing, wildcard=first.wildcard)


def _layered(entries: Iterable[tuple[str, bool]], found: IpSet, version: int) -> Ranges:
    """Return addresses by entries; of networks within networks, the smallest decides (hash:net's nomatch)."""
    mask = address_mask(found.options["netmask"], version) if "netmask" in found.options else None
    entries = list(entries)
    intervals = [(*_masked(addresses(text, version), mask), exception) for text, exception in entries]
    if not any(exception for _, _, exception in intervals):
        return Ranges.union((low, high) for low, high, _ in intervals)
    told = Ranges()
    by_size: dict[int, dict[bool, list[tuple[int, int]]]] = defaultdict(lambda: {False: [], True: []})
    for low, high, exception in intervals:
        by_size[high - low][exception].append((low, high))
    for size in sorted(by_size, reverse=True):
        told = Ranges.union((*told.intervals, *by_size[size][False])).without(Ranges.union(by_size[size][True]))
    return told


def _masked(interval: tuple[int, int], mask: int | None) -> tuple[int, int]:
    if mask is None:
        return interval
    rest = ((1 << 128) - 1 if mask >> 32 else ALL_BITS) ^ mask
    return interval[0] & mask, (interval[1] & mask) | rest


def _single(kind: str, part: str, found: IpSet, version: int, *, outgoing: bool, wildcard: bool) -> Iterator[Match]:
    match kind:
        case "port":
            yield from _port(part, bare=found.type == "bitmap:port", outgoing=outgoing)
        case "iface":
            yield _interface(part, outgoing=outgoing, wildcard=wildcard)
        case "mark":
            mask = number(found.options.get("markmask", hex(ALL_BITS)))
            yield HasBits(Field.MARK, mask, number(part))
        case "mac":
            yield InRanges(Field.DESTINATION_MAC if outgoing else Field.SOURCE_MAC, Ranges.of(mac(part)))
        case _:
            name = Field.DESTINATION if outgoing else Field.SOURCE
            yield InRanges(name, _layered([(part, False)], found, version))


_PORTS = frozenset({Field.SOURCE_PORT, Field.DESTINATION_PORT})
_WITH_PORTS = frozenset({6, 17, 132, 136})
_ICMP = {1: ICMP_TYPES, 58: ICMPV6_TYPES}


def _port(part: str, *, outgoing: bool, bare: bool) -> Iterator[Match]:
    """`tcp:80`, `icmp:8/0`, `icmp:echo-request`, `gre:0`; `80` in a bitmap is of TCP and UDP (ip_set_getport.c)."""
    name = Field.DESTINATION_PORT if outgoing else Field.SOURCE_PORT
    before, told, text = part.rpartition(":")
    if bare:
        yield InRanges(Field.PROTOCOL, Ranges.of(6, 17))
        yield InRanges(name, Ranges((span(text, "-"),)))
        return
    transport = protocol(before) if told else 6
    yield InRanges(Field.PROTOCOL, Ranges.of(transport))
    if transport in _WITH_PORTS:
        yield InRanges(name, Ranges((span(text, "-"),)))
    elif transport in _ICMP:
        kind, _, code = _ICMP[transport].get(text, text).partition("/")
        yield InRanges(Field.ICMP_TYPE, Ranges.of(number(kind, 255)))
        yield InRanges(Field.ICMP_CODE, Ranges.of(number(code or "0", 255)))
    elif number(text, HIGHEST_PORT):
        raise ValueError(f"{part} is no port")


def _interface(name: str, *, outgoing: bool, wildcard: bool) -> Match:
    """`eth0`; `physdev:eth0` is no interface of a packet's, as iptables never asks for ports (set_match_v4)."""
    if name.endswith("*"):
        raise ValueError("an interface whose name ends in *")
    field = Field.OUTPUT_INTERFACE if outgoing else Field.INPUT_INTERFACE
    return NameIs(field, (name + "*" if wildcard else name,))
