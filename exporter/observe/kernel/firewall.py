"""The firewall of a namespace, each part as the program prints it that loses nothing of it.

* Tables that iptables-nft made are read by iptables-nft-save: `nft -j` leaves out the arguments of iptables' matches.
* Other tables of nftables are read by `nft -j list table`, one by one. Where ebtables-nft made rules of those with
  modules, ebtables-nft-save shows the arguments; it gives up where nft has put rules into such a table.
* Tables that look like iptables' may hold what nft put there, and iptables-nft-save does not tell the truth about all
  of it: `ip saddr @set drop` it prints as `-j DROP`. Where a table has sets, which iptables never makes, or the program
  says itself that something is incompatible, the table is read by both. Of a table that it then shows nothing of,
  `iptables-nft -S` shows the chains that nft left alone, one by one. What modules were told in the others is read
  from the kernel's own structures.
* iptables-legacy has tables of its own. Asking for them would make them, so only those are asked for that exist.

nftables counts its changes (the generation), so tables need not be read again while that number stays. It tells
nothing about legacy tables, ipsets, and sets whose elements come and go by themselves: these are read each time. Only
the packet counters of rules are then as old as the last change.
"""

from __future__ import annotations

import contextlib
import json
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from exporter.model.listing import listing
from exporter.observe.kernel import programs
from exporter.observe.kernel.nfnetlink import Overview, Table, read_devices, read_modules, read_overview
from exporter.observe.kernel.programs import Failed, Missing
from exporter.observe.kernel.trouble import Unreadable, reason
from exporter.observe.kernel.xtables import written

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from exporter.observe.kernel.budget import Budget

_ATTEMPTS = 4
_IPTABLES: Final = frozenset({"filter", "nat", "mangle", "raw", "security"})
_NFT: Final = {"ip": "iptables-nft", "ip6": "ip6tables-nft"}
_EBTABLES: Final = frozenset({"filter", "nat", "broute"})
_LEGACY: Final = {"ip_tables_names": "iptables-legacy", "ip6_tables_names": "ip6tables-legacy"}
_OWN_NET: Final = Path("/proc/thread-self/net")
_NAME: Final = re.compile(r"[A-Za-z][\w/\\.-]*", re.ASCII)
_INCOMPATIBLE: Final = re.compile(r"^# Table `([^']+)' (?:is|contains) incompatible", re.MULTILINE)
_IPSET: Final = re.compile(r" --(?:match|add|del|map)-set ")
_COMES_AND_GOES: Final = frozenset({"dynamic", "timeout"})
_MODULE: Final = '"xt": '
_CHAINS_LIMIT: Final = 100
"""Chains of a table that are asked for one by one, each by a program of its own."""


@dataclass(frozen=True, slots=True)
class FirewallDocuments:
    """The fields of `NamespaceDocuments` about the firewall; `missing` is about ipsets alone."""

    iptables: Mapping[str, str] = field(default_factory=dict)
    tables: tuple[str, ...] = ()
    nftables: tuple[str, ...] = ()
    ebtables: str = ""
    ipsets: str = ""
    missing: Mapping[str, str] = field(default_factory=dict)


NOTHING: Final = FirewallDocuments()


@dataclass(frozen=True, slots=True)
class _Listed:
    """A table as nft lists it.

    `shown` is whether the table itself is in there, `comes_and_goes` whether it has sets whose elements change without
    a new generation.
    """

    text: str
    shown: bool
    comes_and_goes: bool


@dataclass(frozen=True, slots=True)
class _Tables:
    """What nftables has at one generation."""

    overview: Overview
    iptables: Mapping[str, str]
    native: Mapping[Table, _Listed]
    ebtables: str = ""

    @property
    def whole(self) -> bool:
        """Whether every table is shown to its end: what a program breaks off without an error is asked for again."""
        return all(
            self.native[table].shown
            if table in self.native
            else f"*{table.name}\n" in self.iptables.get(_NFT.get(table.family, ""), "")
            for table in self.overview.tables
        ) and all(text.count("\n*") + text.startswith("*") == text.count("\nCOMMIT") for text in self.iptables.values())


class FirewallReader:
    """Reads firewalls, and remembers what has not changed since the look before."""

    def __init__(self) -> None:
        self._old: dict[int, _Tables] = {}
        self._new: dict[int, _Tables] = {}

    def turn(self) -> None:
        """Begin another look; namespaces that the one before did not see are forgotten."""
        self._old, self._new = self._new, {}

    def read(self, namespace: int | None, budget: Budget) -> FirewallDocuments:
        """Return the firewall of the calling thread's namespace; `namespace` is its cookie.

        Raises Unreadable with what cannot be read and why.
        """
        tables = self._settled(namespace, budget)
        iptables = {**tables.iptables, **_legacy(budget)}
        if not iptables and not tables.native:
            return replace(NOTHING, tables=tuple(map(str, tables.overview.tables)))
        native = tuple(each.text for each in tables.native.values())
        names = tuple(map(str, tables.overview.tables))
        documents = FirewallDocuments(iptables, names, native, tables.ebtables)
        return _with_ipsets(documents, budget)

    def _settled(self, namespace: int | None, budget: Budget) -> _Tables:
        """Return nftables' tables as they were at one moment. Raises Unreadable."""
        overview = read_overview(budget)
        for _ in range(_ATTEMPTS):
            if not overview.tables:
                return _Tables(overview, {}, {})
            known = self._old.get(namespace) if namespace is not None else None
            failure: Failed | None = None
            tables = None
            try:
                tables = _tables(overview, known, budget)
            except Failed as error:
                # a chain that is gone before it is listed fails, too
                failure = error
            before, overview = overview, read_overview(budget)
            if overview == before:
                if tables is None:
                    raise failure or Unreadable("nothing was read")
                if namespace is not None and tables.whole:
                    self._new[namespace] = tables
                return tables
        raise Unreadable("nftables: rules change faster than they can be read")


def _tables(overview: Overview, known: _Tables | None, budget: Budget) -> _Tables:
    if known is not None and known.overview == overview:
        native = {
            table: _nft(table, budget) if listed.comes_and_goes else listed for table, listed in known.native.items()
        }
        return replace(known, native=native)
    iptables, doubtful = _iptables(overview, budget)
    native = {
        table: _nft(table, budget) for table in overview.tables if not _looks_like_iptables(table) or table in doubtful
    }
    for table in filter(_looks_like_iptables, native):
        shown = iptables[_NFT[table.family]]
        if f"*{table.name}\n" not in shown:
            iptables[_NFT[table.family]] = shown + _chain_by_chain(table, native[table], budget)
    return _Tables(overview, iptables, native, _ebtables(native, budget))


def _is_shown(table: Table, entries: Sequence[Mapping[str, Any]]) -> bool:
    shown = [entry.get("table") for entry in entries]
    return any(isinstance(entry, dict) and entry.get("name") == table.name for entry in shown)


def _looks_like_iptables(table: Table) -> bool:
    return table.family in _NFT and table.name in _IPTABLES


def _iptables(overview: Overview, budget: Budget) -> tuple[dict[str, str], set[Table]]:
    """Return what iptables-nft-save prints, and the tables of which that is not all or not true."""
    dumps, doubtful = {}, set(overview.with_sets)
    for family, name in _NFT.items():
        tables = [table for table in overview.tables if table.family == family and _looks_like_iptables(table)]
        if not tables:
            continue
        program = _nft_program(name, "-save", budget)
        try:
            text = programs.run([program, "-c"], budget)
        except Failed:
            text, failed = _one_by_one(program, tables, budget)
            doubtful |= failed
        dumps[name] = text
        doubtful |= {Table(family, found) for found in _INCOMPATIBLE.findall(text)}
    return dumps, doubtful


def _one_by_one(program: str, tables: Iterable[Table], budget: Budget) -> tuple[str, set[Table]]:
    """Return what can be printed where one table's rules make the program give up, and the tables that do."""
    texts, failed = [], set()
    for table in tables:
        try:
            texts.append(programs.run([program, "-c", "-t", table.name], budget))
        except Failed:
            failed.add(table)
    return "".join(texts), failed


def _chain_by_chain(table: Table, listed: _Listed, budget: Budget) -> str:
    """Return what iptables-nft-save would print of a table: the rules of chains that iptables shows by themselves."""
    entries, rules = listing(listed.text)
    chains = [str(entry["chain"].get("name")) for entry in entries if "chain" in entry]
    asked = dict.fromkeys(str(json.loads(rule).get("chain")) for rule in rules if _MODULE in rule)
    program = _nft_program(_NFT[table.family], "", budget)
    shown: list[str] = []
    for chain in filter(_NAME.fullmatch, list(asked)[:_CHAINS_LIMIT]):
        with contextlib.suppress(Failed):
            lines = programs.run([program, "-t", table.name, "-S", chain], budget).splitlines()
            shown += (line for line in lines if line.startswith("-A "))
    return "\n".join((f"*{table.name}", *(f":{chain} - [0:0]" for chain in chains), *shown, "COMMIT", ""))


def _ebtables(native: Mapping[Table, _Listed], budget: Budget) -> str:
    """Return what ebtables-nft-save prints where nft left out arguments of what it prints, else nothing."""
    if not any(_looks_like_ebtables(table) and _MODULE in listed.text for table, listed in native.items()):
        return ""
    try:
        return programs.run([_nft_program("ebtables-nft", "-save", budget)], budget)
    except (Missing, Failed):
        return ""


def _looks_like_ebtables(table: Table) -> bool:
    return table.family == "bridge" and table.name in _EBTABLES


def _nft_program(name: str, suffix: str, budget: Budget) -> str:
    """Return a program for the tables which iptables-nft or ebtables-nft made. Raises Missing."""
    try:
        return programs.find(f"{name}{suffix}", "iptables")
    except Missing:
        # distributions that have one of the two backends call it by the common name
        program = programs.find(f"{name.removesuffix('-nft')}{suffix}", "iptables")
        if "nf_tables" in programs.run([program, "--version"], budget):
            return program
        raise


def _legacy(budget: Budget) -> dict[str, str]:
    dumps = {}
    for file, name in _LEGACY.items():
        if _legacy_names(_OWN_NET / file):
            program = _legacy_save(name, budget)
            # it would ask for the module ip_tables, which is there
            dumps[name] = programs.run([program, "-c", "-M", "/bin/false"], budget)
    return dumps


def _legacy_names(path: Path) -> str:
    """Return the tables that iptables-legacy has here, one a line. Raises Unreadable."""
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise Unreadable(reason(error, f"iptables-legacy: {path}", "root")) from error


def _legacy_save(name: str, budget: Budget) -> str:
    try:
        return programs.find(f"{name}-save", "iptables")
    except Missing:
        program = programs.find(f"{name.removesuffix('-legacy')}-save", "iptables")
        if "nf_tables" not in programs.run([program, "--version"], budget):
            return program
        raise


def _nft(table: Table, budget: Budget) -> _Listed:
    """Return a table. Raises Unreadable."""
    program = programs.find("nft", "nftables")
    if not _NAME.fullmatch(table.name):
        raise Unreadable(f"nft cannot be asked for a table with the name {table.name!r}")
    text = programs.run([program, "-j", "list", "table", table.family, table.name], budget).strip()
    try:
        entries = listing(text).entries
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"nft -j list table {table}: the output is not a list of objects as JSON") from error
    if any(_lacks_device(entry.get("chain")) for entry in entries):
        text = _with_devices(table, text, budget)
    if _MODULE in text and table.family in _NFT:
        text = _with_options(table, text, budget)
    return _Listed(text, _is_shown(table, entries), _comes_and_goes(entries))


def _with_devices(table: Table, text: str, budget: Budget) -> str:
    """Return a listing with the interfaces of its chains, `dev`, where nft left them out. Raises Unreadable."""
    devices = read_devices(budget)
    document = json.loads(text)
    for entry in document["nftables"]:
        if _lacks_device(chain := entry.get("chain")):
            chain["dev"] = devices.get((table, str(chain.get("name"))), [])
    return json.dumps(document, ensure_ascii=False)


def _with_options(table: Table, text: str, budget: Budget) -> str:
    """Return a listing with what modules of iptables were told, `options`, where that is known. Raises Unreadable."""
    modules = read_modules(table, budget)
    document = json.loads(text)
    rules = (entry["rule"] for entry in document["nftables"] if "rule" in entry)
    for rule in rules:
        # of a chain without a name, nft prints a text
        statements = [each for each in rule.get("expr", ()) if isinstance(each, dict)]
        shown = [each["xt"] for each in statements if isinstance(each.get("xt"), dict)]
        told = modules.get(rule.get("handle"), [])
        if [(each.get("type"), each.get("name")) for each in shown] == [(each.kind, each.name) for each in told]:
            for each, module in zip(shown, told, strict=True):
                options = written(module)
                if options is not None:
                    each["options"] = options
    return json.dumps(document, ensure_ascii=False)


def _lacks_device(chain: object) -> bool:
    return isinstance(chain, dict) and chain.get("hook") in ("ingress", "egress") and not {"dev", "devs"} & chain.keys()


def _comes_and_goes(entries: Sequence[Mapping[str, Any]]) -> bool:
    sets = [entry[kind] for entry in entries for kind in ("set", "map") if kind in entry]
    return any(
        "timeout" in entry or _COMES_AND_GOES & set(flags if isinstance(flags := entry.get("flags"), list) else [flags])
        for entry in sets
        if isinstance(entry, dict)
    )


def _with_ipsets(documents: FirewallDocuments, budget: Budget) -> FirewallDocuments:
    """Add the sets of iptables where a rule asks for one."""
    if not any(_IPSET.search(text) for text in documents.iptables.values()):
        return documents
    try:
        return replace(documents, ipsets=programs.run([programs.find("ipset", "ipset"), "save"], budget))
    except (Missing, Failed) as error:
        return replace(documents, missing={"ipsets": str(error)})
