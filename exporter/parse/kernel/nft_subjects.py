"""What nft's expressions look at, and when one of some values holds for it.

The values that `one_of` gets are those of nft's JSON; it raises ValueError for values that it does not understand.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from exporter.model.firewall import (
    AddressType,
    AddressTypeIs,
    AnyBit,
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
from exporter.parse.kernel.nft_values import EVERYTHING, combined, integer, interval, items, plain, tagged
from exporter.parse.kernel.values import ASKS_FOR_SEGMENTS, NEVER, hop_limit, segment_size

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from exporter.model.firewall import Match
    from exporter.parse.kernel.nft_values import Reader

ALWAYS = AnyOf(((),))
"""Holds for every packet."""

_NOT_IN_EVERY_PACKET = frozenset({
    *(field for field in Field if field.value.startswith("ct_") and field is not Field.CT_STATE),
    Field.SOCKET_USER, Field.SOCKET_GROUP, Field.SOURCE_MAC, Field.DESTINATION_MAC,
    Field.INPUT_TYPE, Field.OUTPUT_TYPE, Field.INPUT_GROUP, Field.OUTPUT_GROUP,
})  # fmt: skip
"""Fields that no other match of the rule vouches for; without one, the kernel gives the whole rule up (NFT_BREAK)."""

_MOST_SINGLES = 256
"""Values of a range that may be compared one by one."""


def negated(match: Match) -> Match:
    """Return what holds where a match does not, and the packet has what is looked at."""
    if isinstance(match, Opaque):
        return match
    if match in (ALWAYS, NEVER):
        return NEVER if match == ALWAYS else ALWAYS
    return replace(match, negated=not match.negated)


def either(matches: Iterable[Match]) -> Match:
    """Return what holds where one of the matches does."""
    alternatives = tuple((match,) for match in dict.fromkeys(matches))
    return alternatives[0][0] if len(alternatives) == 1 else AnyOf(alternatives)


@dataclass(frozen=True, slots=True)
class Number:
    """A number, `((packet's & keep) ^ toggle) >> shift`; a negative shift goes to the left.

    `known` are the bits that a packet's field tells of the kernel's, `attended` those that never come without others.
    """

    field: Field
    width: int
    read: Reader
    keep: int
    toggle: int = 0
    shift: int = 0
    known: int = -1
    attended: int = 0

    @property
    def present(self) -> tuple[Match, ...]:
        """What holds for packets that have it."""
        if self.field not in _NOT_IN_EVERY_PACKET:
            return ()
        return (InRanges(self.field, Ranges(((0, self._all),))),)

    @property
    def whole(self) -> bool:
        """Whether it is what the packet has."""
        return self.keep & self._all == self._all and not (self.toggle or self.shift)

    @property
    def _all(self) -> int:
        return (1 << self.width) - 1

    def one_of(self, values: Sequence[object]) -> Match:
        """Return what holds where the result is within one of the values."""
        return self._within([interval(self.read, self.width, value) for value in values])

    def _within(self, intervals: Sequence[tuple[int, int]]) -> Match:
        if self.keep & ~self.known:
            return either(self._in_part(low, high) for low, high in intervals)
        free = self.keep ^ self._all
        if not (self.toggle or self.shift or free & (free + 1)):
            if not free and len(intervals) == 1:
                return InRanges(self.field, Ranges((intervals[0],)))
            ranges = Ranges.union(_above(low, high, free) for low, high in intervals)
            return InRanges(self.field, ranges) if ranges else NEVER
        return either(match for low, high in intervals for match in self._between(low, high))

    def _in_part(self, low: int, high: int) -> Match:
        """Return what holds for a number that has bits of which nothing is told: none of them, or nobody knows."""
        if low != high or low & ~self.known or not self.whole:
            raise ValueError("bits of which nothing is told")
        if low & self.attended:
            return NEVER
        return AnyOf(((HasBits(self.field, self.known, low), Opaque(self.field.replace("_", " "))),))

    def ordered(self, operator: str, value: object) -> Match:
        """Return what holds for numbers below or above a value, or that value itself: `<`, `<=`, `>`, `>=`."""
        bound, _ = interval(self.read, self.width, value)
        low, high = {
            "<": (0, bound - 1),
            "<=": (0, bound),
            ">": (bound + 1, self._all),
            ">=": (bound, self._all),
        }[operator]
        return self._within([(low, high)] if low <= high else [])

    def any_bit(self, value: object) -> Match:
        """Return what holds where one of the flags is set."""
        mask = combined(self.read, value) & self.keep
        if self.toggle or self.shift or mask & ~self.known:
            raise ValueError("flags that are changed before they are looked at")
        return AnyBit(self.field, mask) if mask else NEVER

    def changed(self, operator: str, value: object) -> Number:
        """Return the number after `&`, `|`, `^`, `<<` or `>>`."""
        if operator in ("<<", ">>"):
            return self._shifted(integer(value) if operator == ">>" else -integer(value))
        wanted = combined(self.read, value)
        mask = self._unshifted(wanted)
        if operator != "&" and self._shifted_back(mask) != wanted:
            raise ValueError("bits that no packet's number has")
        match operator:
            case "&":
                return replace(self, keep=self.keep & mask, toggle=self.toggle & mask)
            case "|":
                return replace(self, keep=self.keep & ~mask, toggle=self.toggle | mask)
            case "^":
                return replace(self, toggle=self.toggle ^ mask)
            case _:
                raise ValueError("an operator that is not known")

    def _shifted(self, by: int) -> Number:
        if self.shift or not -self.width < by < self.width:
            raise ValueError("shifted twice, or too far")
        stays = self._all >> -by if by < 0 else self._all >> by << by
        return replace(self, keep=self.keep & stays, toggle=self.toggle & stays, shift=by)

    def _unshifted(self, value: int) -> int:
        """Return where bits of the result are in the packet's number."""
        return (value << self.shift if self.shift >= 0 else value >> -self.shift) & self._all

    def _between(self, low: int, high: int) -> Iterator[Match]:
        last = min(high, self._result(self.keep & ~self.toggle))
        if last - low >= _MOST_SINGLES:
            raise ValueError("too many values")
        for value in range(low, last + 1):
            wanted = self._unshifted(value) ^ self.toggle
            if self._result(wanted) == value and not wanted & ~self.keep:
                yield HasBits(self.field, self.keep, wanted)

    def _result(self, number: int) -> int:
        return self._shifted_back((number & self.keep) ^ self.toggle)

    def _shifted_back(self, number: int) -> int:
        return number >> self.shift if self.shift >= 0 else number << -self.shift & self._all


def _above(low: int, high: int, free: int) -> tuple[int, int]:
    """Return the numbers that are within an interval when their lowest bits are taken away."""
    return (low + free) // (free + 1) * (free + 1), high | free


@dataclass(frozen=True, slots=True)
class Name:
    """The name of an interface, or of a kind of interfaces; with `index`, nft looked an interface's number up."""

    field: Field
    index: bool = False
    present: tuple[Match, ...] = ()

    def one_of(self, values: Sequence[object]) -> Match:
        """Return what holds for interfaces with one of the names."""
        return NameIs(self.field, tuple(dict.fromkeys(map(self._name, values)))) if values else NEVER

    def _name(self, value: object) -> str:
        """Return a name, `*` at its end for any rest.

        nft 1.0 prints `{"range": ["", ""]}` where a beginning and the name that follows it in the alphabet are in one
        set. A number is printed where no interface has it: no interface is called so, either.
        """
        if not isinstance(value, str):
            raise ValueError("not a name")  # noqa: TRY004
        if self.index and value == "0":
            return ""
        if value.endswith("\\*") or (self.index and value.endswith("*")):
            raise ValueError("an interface whose name ends in *")
        return value


@dataclass(frozen=True, slots=True)
class RouteType:
    """The type of an address: `fib daddr . iif type`."""

    field: Field
    side: Side
    present: tuple[Match, ...] = ()

    def one_of(self, values: Sequence[object]) -> Match:
        """Return what holds for addresses of one of the types."""
        return AddressTypeIs(self.field, frozenset(AddressType(str(value)) for value in values), self.side)


@dataclass(frozen=True, slots=True)
class Route:
    """Whether there is a route back: `fib saddr . iif oif exists`; nft also prints `0` for none."""

    path: ReversePath
    present: tuple[Match, ...] = ()

    def one_of(self, values: Sequence[object]) -> Match:
        """Return what holds where there is a route, or where there is none."""
        (value,) = values
        if value is True:
            return self.path
        if value is False or value == "0":
            return negated(self.path)
        raise ValueError("a certain interface")


@dataclass(frozen=True, slots=True)
class Fixed:
    """A number that is the same in all packets that are asked about, but for bits that are not known."""

    value: int
    unknown: int = 0
    present: tuple[Match, ...] = ()

    def one_of(self, values: Sequence[object]) -> Match:
        """Return whether the number is one of the values, as a match."""
        if self.unknown:
            raise ValueError("bits that differ from packet to packet")
        readable = (int(value) if isinstance(value, bool) else value for value in values)
        intervals = [interval(plain, 32, value) for value in readable]
        return ALWAYS if any(low <= self.value <= high for low, high in intervals) else NEVER

    def changed(self, operator: str, value: object) -> Fixed:
        """Return the number after `&`."""
        if operator != "&":
            raise ValueError("an operator that is not known")
        mask = integer(value)
        return Fixed(self.value & mask, self.unknown & mask)


@dataclass(frozen=True, slots=True)
class Absent:
    """What none of the packets has that are asked about: no comparison with it holds, whichever it is."""

    present: tuple[Match, ...] = (NEVER,)

    def one_of(self, _values: Sequence[object]) -> Match:
        """No value is ever found."""
        return NEVER


@dataclass(frozen=True, slots=True)
class Drawn:
    """One of some numbers that come by chance, by turns, or by a hash."""

    name: str
    first: int
    count: int
    present: tuple[Match, ...] = ()

    def covered(self, values: Iterable[object]) -> bool:
        """Return whether it is always one of the values."""
        found = Ranges.union(interval(plain, 32, value) for value in values)
        return found.covers(self.first, self.first + self.count - 1) is True

    def one_of(self, values: Sequence[object]) -> Match:
        """Return what holds always where no other number comes, and nobody knows when else."""
        return ALWAYS if self.covered(values) else Opaque(self.name)


@dataclass(frozen=True, slots=True)
class Unknown:
    """What is not known here."""

    name: str
    present: tuple[Match, ...] = ()

    def one_of(self, _values: Sequence[object]) -> Match:
        """Nobody knows."""
        return Opaque(self.name)


@dataclass(frozen=True, slots=True)
class HopLimit:
    """How many routers a packet of IPv6 may come by."""

    present: tuple[Match, ...] = ()

    def one_of(self, values: Sequence[object]) -> Match:
        """Return what holds for one of the values."""
        return hop_limit("ip6 hoplimit", Ranges.union(interval(plain, 8, value) for value in values))


@dataclass(frozen=True, slots=True)
class SegmentSize:
    """The size of segments that a packet of TCP asks for, if it does."""

    present: tuple[Match, ...] = (ASKS_FOR_SEGMENTS,)

    def one_of(self, values: Sequence[object]) -> Match:
        """Return what holds for one of the values."""
        return segment_size("tcp option", Ranges.union(interval(plain, 16, value) for value in values))


@dataclass(frozen=True, slots=True)
class Several:
    """A concatenation: all parts have to be what the value's parts are."""

    parts: tuple[Subject, ...]

    @property
    def present(self) -> tuple[Match, ...]:
        """What holds for packets that have all parts."""
        return tuple(match for part in self.parts for match in part.present)

    def split(self, value: object) -> Sequence[object]:
        """Return the parts of a value."""
        name, body = tagged(value)
        found = items(body)
        if name != "concat" or len(found) != len(self.parts):
            raise ValueError("not as many parts")
        return found

    def one_of(self, values: Sequence[object]) -> Match:
        """Return what holds where all parts are those of one of the values.

        Values that differ in one part only are taken together: large sets are large in one part.
        """
        split = [self.split(value) for value in values]
        if not split:
            return NEVER
        at = max(range(len(self.parts)), key=lambda position: len({repr(parts[position]) for parts in split}))
        groups: dict[str, list[Sequence[object]]] = defaultdict(list)
        for parts in split:
            groups[repr([*parts[:at], *parts[at + 1 :]])].append(parts)
        return AnyOf(tuple(tuple(self._together(group, at)) for group in groups.values()))

    def _together(self, group: Sequence[Sequence[object]], at: int) -> Iterator[Match]:
        for position, part in enumerate(self.parts):
            yield part.one_of([parts[position] for parts in group] if position == at else [group[0][position]])

    def each(self, value: object) -> tuple[Match, ...]:
        """Return what holds for the parts of one value."""
        return tuple(part.one_of([each]) for part, each in zip(self.parts, self.split(value), strict=True))


Subject = Number | Name | RouteType | Route | Fixed | Absent | Drawn | Unknown | HopLimit | SegmentSize | Several


def of_key(subject: Subject, value: object) -> tuple[Match, ...]:
    """Return what holds for packets that a map's key is for. Raises ValueError."""
    if value == EVERYTHING and not isinstance(subject, Name):
        return subject.present
    return subject.each(value) if isinstance(subject, Several) else (subject.one_of([value]),)
