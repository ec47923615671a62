"""Which packets a match holds for: those it may hold for, and those it holds for without doubt."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from exporter.evaluate.enforced.packets import Atom, Column, PortsDiffer, Some
from exporter.evaluate.enforced.route_table import Question
from exporter.model.addresses import is_link_local
from exporter.model.firewall import (
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

if TYPE_CHECKING:
    from collections.abc import Callable

    from exporter.evaluate.enforced.packets import Constant, Packets
    from exporter.model.firewall import AddressType, Match


class Held(NamedTuple):
    """The packets for which a match may hold, and those of them for which it does."""

    may: int
    must: int


class Lookups(Protocol):
    """What matches ask of the namespace's routing table."""

    def address_type(self, address: int, interface: str | None) -> AddressType:
        """Return the type of an address, as seen from an interface or from any."""

    def reverse_path(self, path: ReversePath, packet: Question) -> frozenset[bool]:
        """Return whether a route back to the source exists, and (unless loose) leaves by where the packet came in."""

    @property
    def plain(self) -> bool:
        """Whether nothing but addresses decides about a packet's route."""


_NOBODY = Held(0, 0)


class Matching:
    """Answers for the matches of one namespace and family."""

    def __init__(self, lookups: Lookups) -> None:
        self._lookups = lookups

    def held(self, match: Match, packets: Packets, cells: int) -> Held:
        """Return which of the cells a match holds for.

        Raises PortsDiffer where it holds for a part of the ports that the packets stand for.
        """
        match match:
            case InRanges():
                return self._in_ranges(match, packets, cells)
            case NameIs():
                return _compared(match, packets, cells, lambda value: _named(match, value), negated=match.negated)
            case HasBits():
                holds = lambda value: value & match.mask == match.value  # noqa: E731
                return _compared(match, packets, cells, holds, negated=match.negated)
            case AnyBit():
                return _compared(match, packets, cells, lambda value: value & match.mask != 0, negated=match.negated)
            case AnyOf():
                return self._any_of(match, packets, cells)
            case AddressTypeIs():
                return self._address_type(match, packets, cells)
            case ReversePath():
                return self._reverse_path(match, packets, cells)
            case Opaque():
                return Held(cells, 0)

    @staticmethod
    def _in_ranges(match: InRanges, packets: Packets, cells: int) -> Held:
        value = packets.fields.get(match.field)
        if isinstance(value, Atom):
            covered = match.ranges.holds(value.ports)
            if covered is None:
                raise PortsDiffer(value, [match.ranges])
            return Held(cells, cells) if covered != match.negated else _NOBODY
        if isinstance(value, Some):
            covered = match.ranges.covers(value.low, value.high)
            if covered is None:
                return Held(cells, 0)
            return Held(cells, cells) if covered != match.negated else _NOBODY
        return _compared(match, packets, cells, match.ranges.__contains__, negated=match.negated)

    def _any_of(self, match: AnyOf, packets: Packets, cells: int) -> Held:
        may = must = 0
        for alternative in match.alternatives:
            both = self.all_of(alternative, packets, cells)
            may, must = may | both.may, must | both.must
        return Held(cells & ~must, cells & ~may) if match.negated else Held(may, must)

    def all_of(self, matches: tuple[Match, ...], packets: Packets, cells: int) -> Held:
        """Return the cells that all of the matches hold for."""
        may = must = cells
        for match in matches:
            held = self.held(match, packets, may)
            may, must = held.may, must & held.must
            if not may:
                break
        return Held(may, must)

    def _address_type(self, match: AddressTypeIs, packets: Packets, cells: int) -> Held:
        field = match.field
        if match.side is Side.ANY:
            if Field.LINK in packets.fields:
                return self._address_type_at(match, packets, cells)
            return _compared(match, packets, cells, lambda value: self._is_type(match, value, None), match.negated)
        side = Field.INPUT_INTERFACE if match.side is Side.INPUT else Field.OUTPUT_INTERFACE
        found = 0
        known = 0
        for address, at in packets.splits(field, cells):
            for interface, here in packets.splits(side, at):
                known |= here
                found |= here if self._is_type(match, address, interface) else 0
        return _exactly(known & ~found if match.negated else found)

    def _address_type_at(self, match: AddressTypeIs, packets: Packets, cells: int) -> Held:
        """Look for addresses as seen from anywhere, but for link-local ones (nft_fib6_flowi_init)."""
        link = packets.fields[Field.LINK]
        # not by `_compared`: columns keep what a match said of them, whichever the link was
        found = known = 0
        for address, at in packets.splits(match.field, cells):
            near = isinstance(address, int) and is_link_local(address)
            known |= at
            found |= at if self._is_type(match, address, link if near and isinstance(link, str) else None) else 0
        must = known & ~found if match.negated else found
        value = packets.fields.get(match.field)
        return Held(must | (value.untold & cells if isinstance(value, Column) else 0), must)

    def _is_type(self, match: AddressTypeIs, address: Constant, interface: Constant | None) -> bool:
        name = interface if isinstance(interface, str) else None
        return isinstance(address, int) and self._lookups.address_type(address, name) in match.types

    def _reverse_path(self, match: ReversePath, packets: Packets, cells: int) -> Held:
        yes = no = 0
        plain = self._lookups.plain
        for values, here in packets.apart(_ADDRESSES if plain else (*_ADDRESSES, *OF_POLICY_RULES), cells):
            answers = self._lookups.reverse_path(match, _question(*values))
            yes |= here if True in answers else 0
            no |= here if False in answers else 0
        unknown = cells & ~(yes | no)
        may, must = yes | unknown, yes & ~no
        return Held(cells & ~must, cells & ~may) if match.negated else Held(may, must)


_ADDRESSES = (Field.SOURCE, Field.INPUT_INTERFACE)
OF_POLICY_RULES = (Field.DESTINATION, Field.OUTPUT_INTERFACE, Field.MARK, Field.PROTOCOL)
"""What a way back depends on: the first two, and the others only where there are policy rules."""


def _question(
    source: Constant,
    interface: Constant,
    destination: Constant = 0,
    output: Constant = "",
    mark: Constant = 0,
    protocol: Constant = 0,
) -> Question:
    """Return a packet as it came in."""
    return Question(
        _number(destination), _number(source), str(interface), str(output), _number(mark), _number(protocol)
    )


def _number(value: Constant) -> int:
    return value if isinstance(value, int) else 0


def _named(match: NameIs, value: str) -> bool:
    return any(value.startswith(name[:-1]) if name.endswith("*") else value == name for name in match.names)


def _compared(
    match: InRanges | NameIs | HasBits | AnyBit | AddressTypeIs,
    packets: Packets,
    cells: int,
    holds: Callable[..., bool],
    negated: bool,
) -> Held:
    """Compare values one by one; packets without the field are in neither set, also where the match is negated."""
    value = packets.fields.get(match.field)
    if value is None:
        return _NOBODY
    if isinstance(value, Column):
        held = value.mask(match, holds)
        must = cells & ~value.untold & (value.told & ~held if negated else held)
        return Held(must | (cells & value.untold), must)
    if isinstance(value, Atom | Some):
        return Held(cells, 0)
    return _exactly(cells if holds(value) != negated else 0)


def _exactly(cells: int) -> Held:
    return Held(cells, cells)
