"""What was understood at the look before: of a host, most is the same again.

Everything here is found by the whole of what is to be understood, and forgotten once a look did not ask for it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from exporter.model.firewall import Rule, TableFamily
    from exporter.model.namespace import Interface, Namespace, Route
    from exporter.model.observation import NamespaceDocuments
    from exporter.model.snapshot import Network, Product, Sandbox
    from exporter.parse.containers import ListedContainer
    from exporter.parse.kernel.interfaces import Usable
    from exporter.parse.kernel.ipsets import IpSets

Meaning = TypeVar("Meaning")

_AHEAD = 64
"""How far on a document is looked for in the list before: more than end at once in most cases."""


class Aligned(Generic[Meaning]):
    """Meanings of the documents of a list, which are in the order of the list before but for some that came or went.

    A document is the same as another where it is equal: to that, `true` and `1` are one, and no source writes now this
    and now that.
    """

    def __init__(self) -> None:
        self._documents: Sequence[Mapping[str, Any]] = ()
        self._meanings: list[Meaning] = []

    def __call__(
        self,
        documents: Sequence[Mapping[str, Any]],
        understand: Callable[[Mapping[str, Any]], Meaning],
        holds: Callable[[Mapping[str, Any], Meaning], bool] = lambda _document, _meaning: True,
    ) -> list[Meaning]:
        """Return what each document means. `holds` is whether what an equal one meant before is still so."""
        before, known = self._documents, self._meanings
        place, end = 0, len(before)
        # of a list that has nothing to do with the one before, not every document is looked for at length
        spare = 4 * len(documents) + 16 * _AHEAD
        found: list[Meaning] = []
        for document in documents:
            if place < end and before[place] == document:
                at = place
            else:
                ahead = range(place + 1, min(place + _AHEAD, end) if spare > 0 else place)
                at = next((number for number in ahead if before[number] == document), -1)
                spare -= len(ahead) if at < 0 else at - place
            if at < 0:
                found.append(understand(document))
                continue
            place = at + 1
            meaning = known[at]
            found.append(meaning if holds(document, meaning) else understand(document))
        self._documents, self._meanings = documents, found
        return found


class Sayings:
    """Rules by their text, of one table: `before` those of the look before, `now` those of this one."""

    def __init__(self, before: Mapping[str, Rule]) -> None:
        self.before = before
        self.now: dict[str, Rule] = {}


class RuleMemory:
    """Rules of iptables. What a text says depends on the table, on its chains, and on sets of addresses."""

    def __init__(self) -> None:
        self._ipsets: IpSets | None = None
        self._tables: dict[tuple[TableFamily, str, frozenset[str]], Sayings] = {}
        self._before: Mapping[tuple[TableFamily, str, frozenset[str]], Sayings] = {}

    def turn(self, ipsets: IpSets) -> None:
        """Begin another look."""
        self._before = self._tables if ipsets == self._ipsets else {}
        self._tables, self._ipsets = {}, ipsets

    def table(self, family: TableFamily, table: str, chains: frozenset[str]) -> Sayings:
        """Return what is known of the rules of a table that has these chains."""
        key = family, table, chains
        found = self._tables.get(key)
        if found is None:
            before = self._before.get(key)
            found = self._tables[key] = Sayings(before.now if before is not None else {})
            if before is not None:
                before.before = {}
        return found


@dataclass(slots=True)
class Indexed(Generic[Meaning]):
    """Meanings of documents that name interfaces, and the indexes that interfaces had then."""

    aligned: Aligned[Meaning] = field(default_factory=Aligned)
    indexes: Mapping[str, int] = field(default_factory=dict)

    def moved(self, indexes: Mapping[str, int]) -> frozenset[str]:
        """Return the names that stand for something else than then, or for nothing."""
        return frozenset(name for name, _ in indexes.items() ^ self.indexes.items())


@dataclass(slots=True)
class NamespaceMemory:
    """What is known of one namespace."""

    links: Indexed[Interface] = field(default_factory=Indexed)
    addresses: Aligned[Usable] = field(default_factory=Aligned)
    routes: Indexed[tuple[Route, ...]] = field(default_factory=Indexed)
    rules: RuleMemory = field(default_factory=RuleMemory)


@dataclass(slots=True)
class Memory:
    """What is known of one host: its own namespace part by part, and those of its sandboxes as wholes."""

    product: Product | None = None
    containers: Aligned[ListedContainer | None] = field(default_factory=Aligned)
    networks: Mapping[str, Network] = field(default_factory=dict)
    boxes: Mapping[str, Sandbox] = field(default_factory=dict)
    host: NamespaceMemory = field(default_factory=NamespaceMemory)
    sandboxes: dict[str, tuple[NamespaceDocuments, Namespace, Mapping[str, str]]] = field(default_factory=dict)
