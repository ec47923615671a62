"""The kernel's rules as they would be after the engine was restarted, or has made a network anew with another ICC.

Rules of others stay as they are, and where they are: `DOCKER-USER` comes before all of the engine's rules in every
version, and before 28.0 the DROP of a closed bridge comes after all others of FORWARD.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from exporter.evaluate.declared.behaviour import IP6TABLES_BY_DEFAULT
from exporter.evaluate.engine_rules import OWN, USERS, linked, within
from exporter.evaluate.written import FAMILIES, unwritten, written_anew
from exporter.model.firewall import (
    Backend,
    Chain,
    Field,
    Firewall,
    NameIs,
    Rule,
    Terminate,
    Verdict,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from exporter.model.firewall import Table
    from exporter.model.snapshot import Kernel, Network, Snapshot

_COMMENT: Final = 'comment "ICC"'
"""What the nftables backend writes behind its rule for ICC, in a chain of the bridge's own."""

_SWITCHES: Final = {4: "bridge/bridge-nf-call-iptables", 6: "bridge/bridge-nf-call-ip6tables"}
_VERSIONS: Final = {tables: family for family, tables in FAMILIES.items()}


def restarted(snapshot: Snapshot, kernel: Kernel, network: Network | None, filtered: Iterable[int]) -> Kernel:
    """Return the kernel with the engine's rules as a restart writes them; `network` is the default bridge.

    All of a version of IP are written where it is known what they are. Else those for ICC and links alone are.
    """
    firewall = kernel.host.firewall
    known = [family for family in FAMILIES if not unwritten(snapshot, firewall, family)]
    for family in known:
        firewall = written_anew(snapshot, firewall, family)
    anew = {FAMILIES[family] for family in known}
    if network is not None:
        tables = (table if table.family in anew else _table(table, snapshot, network) for table in firewall.tables)
        firewall = replace(firewall, tables=tuple(tables))
    return _with_rules(kernel, firewall, filtered)


def rewritten(snapshot: Snapshot, kernel: Kernel, network: Network, filtered: Iterable[int]) -> Kernel:
    """Return the kernel with the engine's rules for a network's ICC and links as the engine writes them.

    `filtered` are the IP versions for which the engine switches br_netfilter on.
    """
    tables = tuple(_table(table, snapshot, network) for table in kernel.host.firewall.tables)
    return _with_rules(kernel, replace(kernel.host.firewall, tables=tables), filtered)


def _with_rules(kernel: Kernel, firewall: Firewall, filtered: Iterable[int]) -> Kernel:
    settings = {**kernel.host.settings, **{_SWITCHES[family]: "1" for family in filtered}}
    return replace(kernel, host=replace(kernel.host, firewall=firewall, settings=settings))


def _table(table: Table, snapshot: Snapshot, network: Network) -> Table:
    icc = network.icc is True
    family = _VERSIONS.get(table.family)
    if family is None:
        return table
    if table.backend is Backend.NFTABLES:
        name = f"filter-forward-in__{network.interface}"
        if name not in table.chains:
            return table
        chain = _own_chain(table.chains[name], _inside(snapshot, network, family))
        return replace(table, chains={**table.chains, name: chain})
    if table.name != "filter" or "FORWARD" not in table.chains:
        return table
    if family == 6 and snapshot.engine.version < IP6TABLES_BY_DEFAULT and not snapshot.engine.experimental:
        return table
    return replace(table, chains=_chains(table.chains, network, _inside(snapshot, network, family), icc=icc))


def _own_chain(chain: Chain, rules: tuple[Rule, ...]) -> Chain:
    """Return a bridge's chain of the nftables backend with other rules in the place of the one for ICC."""
    kept = [rule for rule in chain.rules if _COMMENT not in rule.text]
    place = next((at for at, rule in enumerate(chain.rules) if _COMMENT in rule.text), len(kept))
    return _with(chain, kept, place, rules)


def _chains(chains: Mapping[str, Chain], network: Network, rules: tuple[Rule, ...], *, icc: bool) -> dict[str, Chain]:
    """Return iptables' chains with other rules for what stays on the bridge than the engine's present ones."""
    cleared = {
        name: replace(chain, rules=tuple(rule for rule in chain.rules if not _is_icc(rule, network)))
        if name in ("FORWARD", OWN)
        else chain
        for name, chain in chains.items()
    }
    if OWN in cleared:
        chain = cleared[OWN]
        place = next((at for at, rule in enumerate(chain.rules) if _leaves(rule, network)), len(chain.rules))
    else:
        chain = cleared["FORWARD"]
        place = _behind_users(chain) if icc else len(chain.rules)
    cleared[chain.name] = _with(chain, list(chain.rules), place, rules)
    return cleared


def _with(chain: Chain, rules: list[Rule], place: int, more: tuple[Rule, ...]) -> Chain:
    return replace(chain, rules=(*rules[:place], *more, *rules[place:]))


def _behind_users(chain: Chain) -> int:
    calls = (at for at, rule in enumerate(chain.rules) if rule.text.endswith(f"-j {USERS}"))
    return next(calls, -1) + 1


def _inside(snapshot: Snapshot, network: Network, family: int) -> tuple[Rule, ...]:
    """Return the rules for packets from the bridge to itself: those of links, where it is closed, and the last one."""
    return (*(linked(snapshot, network) if family == 4 else ()), within(network))


def _is_icc(rule: Rule, network: Network) -> bool:
    """Return whether a rule is iptables' last word about what stays on the bridge: `-i bridge -o bridge -j DROP`."""
    names = [step for step in rule.steps if isinstance(step, NameIs)]
    both = {NameIs(each, (network.interface,)) for each in (Field.INPUT_INTERFACE, Field.OUTPUT_INTERFACE)}
    return set(names) == both and len(rule.steps) == len(names) + 1 and isinstance(rule.steps[-1], Terminate)


def _leaves(rule: Rule, network: Network) -> bool:
    """Return whether a rule of DOCKER-FORWARD is the one for what comes from the bridge: `-i bridge [! -o bridge]`."""
    names = [step for step in rule.steps if isinstance(step, NameIs)]
    return (
        bool(names) and names[0] == NameIs(Field.INPUT_INTERFACE, (network.interface,)) and _accepts(rule, len(names))
    )


def _accepts(rule: Rule, matches: int) -> bool:
    return len(rule.steps) == matches + 1 and rule.steps[-1] == Terminate(Verdict.ACCEPT)
