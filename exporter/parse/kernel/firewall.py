"""The firewall of a namespace, from all that show a part of it."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from exporter.errors import ObservationError
from exporter.model.firewall import BUILTIN, Backend, Firewall, Opaque, TableFamily, Unforeseeable
from exporter.parse.kernel.ebtables import parse_ebtables
from exporter.parse.kernel.ipsets import parse_ipsets
from exporter.parse.kernel.iptables import incompatible_tables, parse_iptables
from exporter.parse.kernel.ipvs import parse_ipvs
from exporter.parse.kernel.nft_statements import LEADING_ELSEWHERE, MASQUERADES
from exporter.parse.kernel.nftables import parse_nftables

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from exporter.model.firewall import Chain, Rule, Table
    from exporter.model.observation import NamespaceDocuments
    from exporter.parse.kernel.ipsets import IpSets
    from exporter.parse.kernel.iptables import General
    from exporter.parse.memory import RuleMemory

_PROGRAMS = {
    "iptables-nft": (TableFamily.IP, Backend.IPTABLES_NFT),
    "ip6tables-nft": (TableFamily.IP6, Backend.IPTABLES_NFT),
    "iptables-legacy": (TableFamily.IP, Backend.IPTABLES_LEGACY),
    "ip6tables-legacy": (TableFamily.IP6, Backend.IPTABLES_LEGACY),
}

_ALL_VERSIONS = frozenset({4, 6})
_VERSIONS = {TableFamily.IP: frozenset({4}), TableFamily.IP6: frozenset({6})}
_ASKING = re.compile(r"\b(?:ct|state|flow|helper|cluster|xt|synproxy|masquerade|redirect|netmap)\b|conn|nat\b")
"""Words of matches and statements that hold on to conntrack (nf_ct_netns_get), or that may: more cannot hurt.

They are looked for in small letters: `re.IGNORECASE` takes three times as long.
"""


def parse_firewall(documents: NamespaceDocuments, memory: RuleMemory, general: General) -> Firewall:
    """Return the firewall: what nftables holds in the order that it lists tables in, then the legacy tables and IPVS.

    Raises ObservationError where a part cannot be read, a table that nftables lists is in none of the documents, or
    nobody tells where a rule leads packets.
    """
    ipsets = parse_ipsets(documents.ipsets, documents.iptables.values())
    memory.turn(ipsets)
    tables = {_key(table): table for table in _native(documents, memory)}
    for table in _iptables(documents, Backend.IPTABLES_NFT, ipsets, memory, general):
        native = tables.get(_key(table))
        tables[_key(table)] = table if native is None else _merged(table, native)
    for table in parse_ebtables(documents.ebtables):
        if _key(table) in tables:
            tables[_key(table)] = _merged(table, tables[_key(table)])
    for table in tables.values():
        _refuse_hidden(table)
    unread = [name for name in (*_incompatible(documents), *documents.tables) if name not in tables]
    if unread:
        raise ObservationError(f"table {unread[0]} could not be read")
    order = {name: position for position, name in enumerate(documents.tables)}
    held = sorted(tables.values(), key=lambda table: order.get(_key(table), len(order)))
    legacy = _iptables(documents, Backend.IPTABLES_LEGACY, ipsets, memory, general)
    found = (*held, *legacy, *parse_ipvs(documents.ipvs))
    return Firewall(found, _untracked(found))


def _untracked(tables: Sequence[Table]) -> frozenset[int]:
    """Return the versions of IP in which no rule, be it of a chain that nobody calls, has conntrack follow packets."""
    tracked: set[int] = set()
    for table in tables:
        versions = _VERSIONS.get(table.family, _ALL_VERSIONS)
        if not versions <= tracked and (table.backend is Backend.IPVS or _asks_for_conntrack(table)):
            tracked |= versions
    return _ALL_VERSIONS - tracked


def _asks_for_conntrack(table: Table) -> bool:
    return any(_ASKING.search(rule.text.lower()) for chain in table.chains.values() for rule in chain.rules)


def _native(documents: NamespaceDocuments, memory: RuleMemory) -> Iterator[Table]:
    for text in documents.nftables or ():
        yield from parse_nftables(text, memory)


def _key(table: Table) -> str:
    return f"{table.family} {table.name}"


def _iptables(
    documents: NamespaceDocuments, wanted: Backend, ipsets: IpSets, memory: RuleMemory, general: General
) -> Iterator[Table]:
    for program, text in documents.iptables.items():
        if program not in _PROGRAMS:
            raise ObservationError(f"{program} is no program that shows rules")
        family, backend = _PROGRAMS[program]
        if backend is wanted:
            yield from parse_iptables(text, family, backend, ipsets, memory, general)


def _incompatible(documents: NamespaceDocuments) -> Iterator[str]:
    """Yield the tables of which iptables-nft-save does not show all: nft has to."""
    for program, text in documents.iptables.items():
        family, backend = _PROGRAMS[program]
        if backend is Backend.IPTABLES_NFT:
            yield from (f"{family} {name}" for name in incompatible_tables(text))


def _merged(shown: Table, native: Table) -> Table:
    """Return a table that iptables-nft-save or ebtables-nft-save and nft show, each a part of the truth.

    nft leaves out the arguments of xtables' modules; the others leave out what only nft can write, such as sets. No
    rule has both, for neither program makes such.
    """
    chains = {
        name: replace(chain, rules=_merged_rules(shown.chains[name], chain)) if name in shown.chains else chain
        for name, chain in native.chains.items()
    }
    return replace(native, chains=chains)


def _merged_rules(shown: Chain, native: Chain) -> tuple[Rule, ...]:
    if len(shown.rules) != len(native.rules):
        return native.rules
    return tuple(
        ours if _hides_arguments(theirs) else theirs for ours, theirs in zip(shown.rules, native.rules, strict=True)
    )


def _refuse_hidden(table: Table) -> None:
    """Raise ObservationError for a rule of iptables among nft's own, which nft shows without where it leads packets."""
    if table.backend is not Backend.NFTABLES or table.name not in BUILTIN:
        return
    for chain in table.chains.values():
        for rule in chain.rules:
            name = next((step.name for step in rule.steps if isinstance(step, Unforeseeable)), "")
            if name in LEADING_ELSEWHERE:
                raise ObservationError(f"table {_key(table)}: no program tells what {name} in chain {chain.name} does")


def _hides_arguments(rule: Rule) -> bool:
    return any(
        step.name.startswith("xt") if isinstance(step, Opaque | Unforeseeable) else step == MASQUERADES
        for step in rule.steps
    )
