"""Rules of iptables as tests write them: one line, and what it means."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter.model.firewall import Backend, Match, Opaque, Rule, TableFamily, Unforeseeable
from exporter.parse.kernel.ipsets import IpSets, parse_ipsets
from exporter.parse.kernel.iptables import parse_iptables

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from exporter.model.firewall import Step, Table

STATEMENTS = ("Terminate", "Call", "Translate", "SetMark", "CopyMark", "Untrack", "ProxyLocally", "Unforeseeable")


def saved(rules: Iterable[str], table: str = "filter", chains: Sequence[str] = ("FORWARD", "user")) -> str:
    """Return the output of iptables-save for a table with these rules."""
    declared = [f":{chain} {'-' if chain.islower() else 'ACCEPT'} [0:0]" for chain in chains]
    return "\n".join([f"*{table}", *declared, *rules, "COMMIT", ""])


def tables(text: str, version: int = 4, ipsets: str | None = "") -> tuple[Table, ...]:
    """Return the tables of a text."""
    family = TableFamily.IP if version == 4 else TableFamily.IP6
    return parse_iptables(text, family, Backend.IPTABLES_NFT, None if ipsets is None else parse_ipsets(ipsets))


def rule(said: str, table: str = "filter", chain: str = "FORWARD", version: int = 4, ipsets: str | None = "") -> Rule:
    """Return a rule by its options."""
    chains = (chain, "user") if chain != "user" else ("user",)
    (found,) = tables(saved([f"-A {chain} {said}".rstrip()], table, chains), version, ipsets)
    return found.chains[chain].rules[0]


def steps(said: str, **given: object) -> tuple[Step, ...]:
    """Return the steps of a rule."""
    return rule(said, **given).steps  # type: ignore[arg-type]


def matches(said: str, version: int = 4, ipsets: str | None = "") -> tuple[Match, ...]:
    """Return the matches of a rule that has no target."""
    return rule(said, version=version, ipsets=ipsets).steps  # type: ignore[return-value]


def doubts(found: Rule) -> set[str]:
    """Return what a rule hinges on that is not understood."""
    return {step.name for step in found.steps if isinstance(step, Opaque | Unforeseeable)}


__all__ = ["IpSets", "doubts", "matches", "rule", "saved", "steps", "tables"]
