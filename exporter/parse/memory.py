"""What was understood at the look before: of a host, most is the same again.

Everything here is found by the whole of what is to be understood, and forgotten once a look did not ask for it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from exporter.model.namespace import USUAL_RULES
from exporter.parse.aligned import Aligned, Indexed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from exporter.model.firewall import Chain, Rule, Table, TableKey
    from exporter.model.namespace import Interface, Namespace, OwnAddress, PolicyRule, Route
    from exporter.model.observation import NamespaceDocuments
    from exporter.model.snapshot import Container, Engine, EngineVersion, Network, Product, Sandbox
    from exporter.parse.containers import ListedContainer
    from exporter.parse.kernel.ipsets import IpSets


class Understood(NamedTuple):
    """The rules of a chain that nft listed, by what it printed."""

    text: str
    rules: tuple[Rule, ...]


@dataclass(frozen=True, slots=True)
class Listed:
    """A table as nft listed it: what makes its `sets`, and its chains and their rules by name."""

    sets: bytes
    rules: Mapping[str, Understood] = field(default_factory=dict)
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

    def listed(self, key: TableKey, sets: bytes) -> Listed:
        """Return how nft listed a table before, where its rules say the same as then: with the same sets."""
        before = self._listed_before.get(key)
        return before if before is not None and before.sets == sets else Listed(sets)

    def note(self, table: Table, listed: Listed) -> None:
        """Note how nft listed a table for the next look."""
        self._listed[table.key] = listed


Usable = tuple[str, tuple["OwnAddress", ...]]
"""Addresses that answer, and the name of the interface that has them."""


@dataclass(slots=True)
class InterfaceMemory:
    """What was understood of links and addresses at the look before, and the addresses that interfaces had then."""

    links: Indexed[Interface] = field(default_factory=Indexed)
    addresses: Aligned[Usable] = field(default_factory=Aligned)
    told: Mapping[str, tuple[OwnAddress, ...]] = field(default_factory=dict)


class Policy(NamedTuple):
    """Policy rules, and what they are told by."""

    documents: Sequence[Mapping[str, Any]] | None = None
    rules: tuple[PolicyRule, ...] = USUAL_RULES


@dataclass(slots=True)
class NamespaceMemory:
    """What is known of one namespace, or of the one of a sandbox that was looked at before another one's."""

    interfaces: InterfaceMemory = field(default_factory=InterfaceMemory)
    routes: Indexed[Route | None] = field(default_factory=Indexed)
    policy: Policy = field(default_factory=Policy)
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
