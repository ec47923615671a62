"""The text of `nft -j list table` to tables (libnftables-json(5)).

{"nftables": [{"metainfo": {"json_schema_version": 1, …}},
              {"table": {"family": "inet", "name": "t"}},
              {"chain": {"family": "inet", "table": "t", "name": "c", "hook": "forward", "prio": 0, …}},
              {"rule": {"family": "inet", "table": "t", "chain": "c", "expr": [{"match": {…}}, {"accept": null}]}}]}
"""

from __future__ import annotations

import re
from dataclasses import replace
from sys import intern
from typing import TYPE_CHECKING

from exporter.errors import ObservationError
from exporter.model.firewall import (
    Backend,
    Base,
    Chain,
    Hook,
    Opaque,
    Rule,
    Table,
    TableFamily,
    Terminate,
    Verdict,
    same_rules,
)
from exporter.model.listing import listing
from exporter.parse.kernel.nft_expressions import Context
from exporter.parse.kernel.nft_printed import BETWEEN, changed_sets, printed_chains
from exporter.parse.kernel.nft_rules import RuleReader
from exporter.parse.kernel.nft_sets import NamedSet
from exporter.parse.kernel.nft_values import words, written
from exporter.parse.memory import Listed, RuleMemory, Understood

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from exporter.model.listing import Listing
    from exporter.parse.kernel.nft_printed import Printed

_PRIORITIES = {"raw": -300, "mangle": -150, "dstnat": -100, "filter": 0, "security": 50, "srcnat": 100}
_BRIDGE_PRIORITIES = {"dstnat": -300, "filter": -200, "out": 100, "srcnat": 300}
"""Names of priorities (nft(8)), which `enum nf_ip_hook_priorities` and `enum nf_br_hook_priorities` come from."""

_PRIORITY = re.compile(r"([a-z]+)(?: ([+-]) (\d{1,9}))?")

_ACTIVE = frozenset({"owner", "persist"})
"""Flags of a table whose chains are called as those of others."""


def parse_nftables(text: str, memory: RuleMemory | None = None) -> tuple[Table, ...]:
    """Return the tables of a listing, in its order; `nft -j list ruleset` lists several.

    What a rule's expressions or statements mean and is not understood is a step of it by its name: `Opaque` for what is
    asked, `Unforeseeable` for what is done. Raises ObservationError for text that is not nft's, or is garbled.
    """
    try:
        return _tables(listing(text), memory or RuleMemory())
    except ValueError as error:
        raise ObservationError(f"nft -j list: {error}") from error
    except RecursionError as error:
        raise ObservationError("nft -j list: expressions within expressions without end") from error


def _tables(listed: Listing, memory: RuleMemory) -> tuple[Table, ...]:
    readers: dict[tuple[str, str], _Reader] = {}
    for entry in listed.entries:
        ((kind, said),) = entry.items()
        if kind == "table":
            key = _text(said, "family"), _text(said, "name")
            if key in readers:
                raise ValueError(f"table {key[0]} {key[1]} comes twice")
            readers[key] = _Reader(said)
        elif kind in _PARTS:
            _PARTS[kind](_reader(readers, kind, (_text(said, "family"), _text(said, "table"))), said)
    for place, printed in printed_chains(listed.rules).items():
        _reader(readers, "rule", (place.family, place.table)).rules(place.chain, printed)
    return tuple(reader.table(memory) for reader in readers.values())


def _reader(readers: Mapping[tuple[str, str], _Reader], kind: str, table: tuple[str, str]) -> _Reader:
    if table not in readers:
        raise ValueError(f"a {kind} of a table that it does not list")
    return readers[table]


def _text(said: object, key: str) -> str:
    value = said.get(key) if isinstance(said, dict) else None
    if not isinstance(value, str):
        raise ValueError(f"an object has no {key}")  # noqa: TRY004
    return value


def _array(said: Mapping[str, object], key: str) -> Sequence[object]:
    value = said.get(key, ())
    if not isinstance(value, list | tuple):
        raise ValueError(f"{key} is not an array")  # noqa: TRY004
    return value


class _Reader:
    """Gathers one table: rules ask for sets and chains that may be listed after them."""

    def __init__(self, said: Mapping[str, object]) -> None:
        try:
            self._family = TableFamily(_text(said, "family"))
        except ValueError as error:
            raise ValueError(f"{_text(said, 'family')!r} is no family of tables") from error
        self._name = _text(said, "name")
        self._flags = words(said.get("flags"))
        self._sets: dict[str, NamedSet] = {}
        self._momentary: set[str] = set()
        self._chains: dict[str, Base | None] = {}
        self._changed: set[str] = set()
        self._rules: dict[str, str] = {}
        self._packets: dict[str, tuple[int | None, ...]] = {}

    def set(self, said: Mapping[str, object]) -> None:
        name, size = _text(said, "name"), said.get("size")
        limited = size if isinstance(size, int) else 0
        self._sets[name] = NamedSet(name, _array(said, "elem"), limited)

    def element(self, said: Mapping[str, object]) -> None:
        """Add elements that are listed apart from their set."""
        name = _text(said, "name")
        if name not in self._sets:
            raise ValueError(f"elements of set {name}, which it does not list")
        known = self._sets[name]
        self._sets[name] = replace(known, listed=(*known.listed, *_array(said, "elem")))

    def timeout(self, said: Mapping[str, object]) -> None:
        """Add a timeout for connections that holds no time at all in some state."""
        policy = said.get("policy")
        if isinstance(policy, dict) and 0 in policy.values():
            self._momentary.add(_text(said, "name"))

    def chain(self, said: Mapping[str, object]) -> None:
        # rules name it, and the places of rules
        name = intern(_text(said, "name"))
        if name in self._chains:
            raise ValueError(f"chain {name} comes twice")
        self._chains[name] = self._base(said) if "hook" in said else None

    def rules(self, chain: str, printed: Printed) -> None:
        """Add the rules of a chain."""
        chain = intern(chain)
        self._rules[chain] = BETWEEN.join(printed.rules)
        self._packets[chain] = tuple(printed.packets)
        self._changed.update(changed_sets(self._rules[chain]))

    def table(self, memory: RuleMemory) -> Table:
        """Return the table; chains and rules that are as before are the same objects.

        Raises ValueError for rules of chains that are not listed.
        """
        unknown = [name for name in self._rules if name not in self._chains]
        if unknown:
            raise ValueError(f"rules of chain {unknown[0]}, which it does not list")
        sets = {name: replace(known, dynamic=name in self._changed) for name, known in self._sets.items()}
        told_apart = written((*(known.parts for known in sets.values()), *sorted(self._momentary)))
        before = memory.listed((self._family, self._name, Backend.NFTABLES), told_apart)
        reader = RuleReader(Context(self._family, sets, frozenset(self._momentary)))
        rules: dict[str, Understood] = {}
        # of each network's chains, some say the same
        same: dict[str, Understood] = {}
        for name, text in self._rules.items():
            found = before.rules.get(name)
            if found is None or found.text != text:
                found = same.get(text) or _understood(text, found, reader)
            rules[name] = same[text] = found
        chains = {}
        for name, base in self._chains.items():
            chain = self._switched(Chain(name, rules[name].rules if name in rules else (), base))
            known = before.chains.get(name)
            chains[name] = known if known is not None and same_rules(known, chain) else chain
        told = {name: counts for name, counts in self._packets.items() if any(count is not None for count in counts)}
        table = Table(self._family, self._name, Backend.NFTABLES, chains, told)
        memory.note(table, Listed(told_apart, rules, chains))
        return table

    def _switched(self, chain: Chain) -> Chain:
        """Return a chain as its table's flags have it: the kernel calls none of a table that is dormant.

        nft 1.0 prints another word in the flag's place: of such tables nobody can tell.
        """
        if chain.base is None or self._flags <= _ACTIVE:
            return chain
        if "dormant" in self._flags:
            return replace(chain, base=None)
        doubt = Opaque("table flags", ",".join(sorted(self._flags)))
        rules = tuple(replace(rule, steps=(doubt, *rule.steps)) for rule in chain.rules)
        if chain.base.policy is not Verdict.ACCEPT:
            rules = (*rules, Rule((doubt, Terminate(chain.base.policy)), f"policy {chain.base.policy}"))
        return replace(chain, rules=rules, base=replace(chain.base, policy=Verdict.ACCEPT))

    def _base(self, said: Mapping[str, object]) -> Base:
        hook, policy = _text(said, "hook"), said.get("policy", "accept")
        if hook not in [known.value for known in Hook] or policy not in ("accept", "drop"):
            raise ValueError(f"hook {hook!r} with policy {policy!r} is none of the kernel's")
        devices = sorted(words(said.get("dev")) | words(said.get("devs")))
        return Base(Hook(hook), self._priority(said.get("prio")), Verdict(policy), _text(said, "type"), tuple(devices))

    def _priority(self, said: object) -> int:
        """`-100`, `"dstnat"`, `"filter + 10"`."""
        if isinstance(said, int):
            return said
        found = _PRIORITY.fullmatch(said) if isinstance(said, str) else None
        names = _BRIDGE_PRIORITIES if self._family is TableFamily.BRIDGE else _PRIORITIES
        if found is None or found[1] not in names:
            raise ValueError(f"{said!r} is no priority")
        return names[found[1]] + int(f"{found[2] or '+'}{found[3] or 0}")


_PARTS = {
    "chain": _Reader.chain,
    "set": _Reader.set,
    "map": _Reader.set,
    "element": _Reader.element,
    "ct timeout": _Reader.timeout,
}
"""Objects that decide something. Counters, limits and helpers with names are asked for by rules alone."""


def _understood(text: str, before: Understood | None, reader: RuleReader) -> Understood:
    """Return the rules of a chain; those that were in it `before` are the same objects."""
    known = dict(zip(before.text.split(BETWEEN), before.rules, strict=True)) if before is not None else {}
    return Understood(text, tuple([known.get(said) or reader.rule(said) for said in text.split(BETWEEN)]))
