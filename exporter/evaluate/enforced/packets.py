"""Many packets at once: they go the same way and differ by cell, one bit of a whole number for each.

A cell stands for the sources that no rule and no route tells apart. What all packets have in common is a constant; what
differs is a column. Sets of packets are whole numbers, so that a rule costs one operation for all sources together.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from itertools import chain, pairwise
from typing import TYPE_CHECKING, NamedTuple

from exporter.model.firewall import Field
from exporter.model.ranges import Ranges

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence


class Atom(NamedTuple):
    """Ports which so far nothing told apart: what tells them apart raises `PortsDiffer`."""

    ports: Ranges

    @property
    def single(self) -> int | None:
        """The only port, if there is but one."""
        (low, high), *others = self.ports.intervals
        return low if low == high and not others else None

    @property
    def size(self) -> int:
        """How many ports there are."""
        return sum(high - low + 1 for low, high in self.ports.intervals)


class Picked(Atom):
    """Ports of which a source's kernel picks one."""

    __slots__ = ()


def only(port: int) -> Atom:
    """Return one port."""
    return Atom(Ranges.of(port))


WHENCE = (
    Field.SOURCE, Field.SOURCE_MAC, Field.INPUT_PORT, Field.CT_ORIGINAL_SOURCE, Field.CT_REPLY_DESTINATION,
)  # fmt: skip
"""What is not known of packets that somebody led on who is not seen."""

ANSWERED_BEFORE = "whether another one answered before"
ANSWERED = Field.CT_STATE, Field.CT_STATUS, Field.CT_MARK
"""What is not known of packets that several may take, as long as nobody answered for sure."""

SOURCE_PORT = "the port that the source sends from"


class Some(NamedTuple):
    """One number of an interval, nobody knows which: the port that the source's kernel picks, or what `doubt` says."""

    low: int
    high: int
    doubt: str = SOURCE_PORT


Constant = int | str | Atom | Some


class PortsDiffer(Exception):
    """Something treats the ports of an atom differently: each part has to be looked at by itself."""

    def __init__(self, atom: Atom, sets: Iterable[Ranges]) -> None:
        """Name the sets of ports that something asks for."""
        self.atom = atom
        self.sets = [*sets]
        super().__init__(f"ports {atom.ports.intervals} differ by {self.sets}")

    @property
    def parts(self) -> list[Atom]:
        """The ports that are in the same sets, each of which has to be looked at by itself."""
        changes: dict[int, set[int]] = defaultdict(set)
        for number, ports in enumerate((self.atom.ports, *self.sets)):
            for bound in chain.from_iterable((low, high + 1) for low, high in ports.intervals):
                changes[bound] ^= {number}
        found: dict[frozenset[int], list[tuple[int, int]]] = defaultdict(list)
        within: set[int] = set()
        for begin, end in pairwise(sorted(changes)):
            within ^= changes[begin]
            if 0 in within:
                found[frozenset(within)].append((begin, end - 1))
        return [Atom(Ranges.union(intervals)) for intervals in found.values()]


class Column:
    """A value for each cell; of cells in `untold`, nobody knows which. Columns never change."""

    __slots__ = ("_cache", "_told", "untold", "values")

    def __init__(self, values: Mapping[int | str, int], untold: int = 0) -> None:
        """Keep masks of cells by value; masks are disjoint."""
        self.values = values
        self.untold = untold
        self._cache: dict[int, int] = {}
        self._told: int | None = None

    def mask(self, match: object, holds: Callable[..., bool]) -> int:
        """Return the cells whose value satisfies; `match` identifies the question, which is then asked once."""
        known = self._cache.get(id(match))
        if known is None:
            known = 0
            for value, cells in self.values.items():
                if holds(value):
                    known |= cells
            self._cache[id(match)] = known
        return known

    @property
    def told(self) -> int:
        """The cells that have a value which is known; others may have one that is not, or none."""
        if self._told is None:
            self._told = 0
            for cells in self.values.values():
                self._told |= cells
        return self._told

    def within(self, cells: int) -> Column:
        """Return the column in which no other cells have a value."""
        values = {value: mask & cells for value, mask in self.values.items() if mask & cells}
        return Column(values, self.untold & cells)

    def over(self, cells: int, value: int | str) -> Column:
        """Return the column in which these cells have this value."""
        values = {other: rest for other, mask in self.values.items() if (rest := mask & ~cells)}
        values[value] = values.get(value, 0) | cells
        return Column(values, self.untold & ~cells)

    def changed(self, cells: int, change: Callable[[int], int]) -> Column:
        """Return the column in which the numbers of these cells are changed."""
        values: dict[int | str, int] = {}
        for value, mask in self.values.items():
            if rest := mask & ~cells:
                values[value] = values.get(value, 0) | rest
            if isinstance(value, int) and (part := mask & cells):
                new = change(value)
                values[new] = values.get(new, 0) | part
        return Column(values, self.untold)

    def forgotten(self, cells: int) -> Column:
        """Return the column in which nobody knows the values of these cells."""
        values = {other: rest for other, mask in self.values.items() if (rest := mask & ~cells)}
        return Column(values, self.untold | cells)

    def of(self, cell: int) -> int | str | None:
        """Return the value of one cell, given as its bit."""
        return next((value for value, cells in self.values.items() if cells & cell), None)


UNTOLD = Column({}, -1)
"""What nobody knows of any packets."""


@dataclass(slots=True)
class Packets:
    """Packets on their way through one hook. A field that they do not have is missing, and no match on it holds."""

    fields: dict[Field, Constant | Column] = field(default_factory=dict)

    def constant(self, name: Field) -> Constant | None:
        """Return the value that all packets have in a field, None where they differ or have none."""
        value = self.fields.get(name)
        return None if isinstance(value, Column) else value

    def splits(self, name: Field, cells: int) -> Iterator[tuple[Constant, int]]:
        """Yield the values of a field with the cells, among these, that have it."""
        value = self.fields.get(name)
        if isinstance(value, Column):
            yield from ((each, mask & cells) for each, mask in value.values.items() if mask & cells)
        elif value is not None and cells:
            yield value, cells

    def apart(self, names: Sequence[Field], cells: int) -> Iterator[tuple[tuple[Constant, ...], int]]:
        """Yield the values that some fields have together, with the cells that have them."""
        if not names:
            yield (), cells
            return
        for value, at in self.splits(names[0], cells):
            for others, here in self.apart(names[1:], at):
                yield (value, *others), here


def parts(value: int | str | Column, cells: int) -> Iterator[tuple[int | str, int]]:
    """Yield the values of these cells, each with the cells that have it."""
    if isinstance(value, Column):
        yield from ((each, mask & cells) for each, mask in value.values.items() if mask & cells)
    elif cells:
        yield value, cells


def is_of_ipv6(address: int) -> bool:
    """Return whether an address is one of IPv6, by its number."""
    return address >> 32 != 0
