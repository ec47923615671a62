"""What was understood at the look before: of a host, most is the same again.

Everything here is found by the whole of what is to be understood, and forgotten once a look did not ask for it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import compress, count
from operator import ne
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from exporter.model.firewall import Chain, Rule, Table, TableKey
    from exporter.model.namespace import Interface, Namespace, OwnAddress, Route
    from exporter.model.observation import NamespaceDocuments
    from exporter.model.snapshot import Container, Engine, EngineVersion, Network, Product, Sandbox
    from exporter.parse.containers import ListedContainer
    from exporter.parse.kernel.interfaces import Usable
    from exporter.parse.kernel.ipsets import IpSets
    from exporter.parse.kernel.nft_sets import NamedSet

Meaning = TypeVar("Meaning")

_AHEAD = 64
"""How far on a document is looked for in the list before: more than end at once in most cases."""

_STRIDE = 1 << 10
"""How many documents are compared at once, without looking at any of them by itself."""


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
        holds: Callable[[Mapping[str, Any], Meaning], bool] | None = None,
    ) -> list[Meaning]:
        """Return what each document means. `holds` is whether what an equal one meant before is still so."""
        before, known = self._documents, self._meanings
        if not before:
            self._documents, self._meanings = documents, [understand(document) for document in documents]
            return self._meanings
        place = at = 0
        # of a list that has nothing to do with the one before, not every document is looked for at length
        spare = 4 * len(documents) + 16 * _AHEAD
        found: list[Meaning] = []
        while at < len(documents):
            run = _run(before, place, documents, at)
            if run:
                same = known[place : place + run]
                if holds is not None:
                    pairs = zip(documents[at : at + run], same, strict=True)
                    same = [
                        meaning if holds(document, meaning) else understand(document) for document, meaning in pairs
                    ]
                found += same
                place, at = place + run, at + run
                continue
            ahead = before[place + 1 : place + _AHEAD] if spare > 0 else ()
            further = next((number for number, other in enumerate(ahead, 1) if other == documents[at]), 0)
            spare -= further or len(ahead)
            place += further
            if not further:
                found.append(understand(documents[at]))
                at += 1
        self._documents, self._meanings = documents, found
        return found


def _run(before: Sequence[object], place: int, now: Sequence[object], at: int) -> int:
    """Return how many items from one place on are those of another list from another place on."""
    run = 0
    while True:
        one, other = before[place + run : place + run + _STRIDE], now[at + run : at + run + _STRIDE]
        alike = min(len(one), len(other))
        run += (same := next(compress(count(), map(ne, one, other)), alike))
        if same < _STRIDE:
            return run


@dataclass(frozen=True, slots=True)
class Listed:
    """A table as nft listed it: its sets, what the rules of its chains mean, and these chains."""

    sets: Mapping[str, NamedSet]
    rules: Mapping[str, Aligned[Rule]] = field(default_factory=dict)
    chains: Mapping[str, Chain] = field(default_factory=dict)


class RuleMemory:
    """Tables. What a rule says depends on its table's chains, by name, and on sets of addresses."""

    def __init__(self) -> None:
        self._ipsets: IpSets | None = None
        self._tables: dict[TableKey, Mapping[str, Chain]] = {}
        self._before: Mapping[TableKey, Mapping[str, Chain]] = {}
        self._listed: dict[TableKey, Listed] = {}
        self._listed_before: Mapping[TableKey, Listed] = {}

    def turn(self, ipsets: IpSets) -> None:
        """Begin another look."""
        self._before = self._tables if ipsets == self._ipsets else {}
        self._tables, self._ipsets = {}, ipsets
        self._listed_before, self._listed = self._listed, {}

    def chains(self, table: Table, names: AbstractSet[str]) -> Mapping[str, Chain]:
        """Return the chains that a table with these names had before, where its rules say the same as then."""
        before = self._before.get(table.key, {})
        return before if before.keys() == names else {}

    def keep(self, table: Table) -> None:
        """Note a table for the next look."""
        self._tables[table.key] = table.chains

    def listed(self, key: TableKey, sets: Mapping[str, NamedSet]) -> Listed:
        """Return how nft listed a table before, where its rules say the same as then: with the same sets."""
        before = self._listed_before.get(key)
        return before if before is not None and before.sets == sets else Listed(sets)

    def note(self, table: Table, listed: Listed) -> None:
        """Note how nft listed a table for the next look."""
        self._listed[table.key] = listed


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
    told: Mapping[str, tuple[OwnAddress, ...]] = field(default_factory=dict)
    routes: Indexed[Route | None] = field(default_factory=Indexed)
    rules: RuleMemory = field(default_factory=RuleMemory)
    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Resolved:
    """Containers and sandboxes, with what they follow from: the list, the networks, the labels that are asked for."""

    listed: Mapping[str, ListedContainer] = field(default_factory=dict)
    networks: Mapping[str, Network] = field(default_factory=dict)
    labels: frozenset[str] = frozenset()
    containers: Mapping[str, Container] = field(default_factory=dict)
    sandboxes: Mapping[str, Sandbox] = field(default_factory=dict)


@dataclass(slots=True)
class Memory:
    """What is known of one host: its own namespace part by part, and those of its sandboxes as wholes."""

    engine: tuple[Product, EngineVersion] | None = None
    containers: Aligned[ListedContainer | None] = field(default_factory=Aligned)
    networks: Aligned[Network | None] = field(default_factory=Aligned)
    resolved: Resolved = field(default_factory=Resolved)
    host: NamespaceMemory = field(default_factory=NamespaceMemory)
    sandboxes: dict[str, tuple[NamespaceDocuments, Namespace, Mapping[str, str]]] = field(default_factory=dict)

    def turn(self, engine: Engine) -> None:
        """Begin another look: documents of another engine mean something else."""
        if self.engine != (engine.product, engine.version):
            self.engine = engine.product, engine.version
            self.containers, self.networks = Aligned(), Aligned()
