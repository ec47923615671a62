"""The report as aligned text for a terminal."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from exporter.model.ports import ALL_PORTS
from exporter.model.reach import Protocol
from exporter.publish.formats.json import timestamp
from exporter.publish.formats.memo import PerVerdict
from exporter.publish.text import columns, count, visible

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from exporter.model.reach import PairVerdict, Path, Via
    from exporter.model.report import NetworkSummary, Pair, Report, Totals

Row = tuple[str, ...]

_PAIR_TITLES = ("SOURCE", "DESTINATION", "VERDICT", "VIA", "NETWORK", "ADDRESSES", "OPEN")
_NETWORK_TITLES = ("NETWORK", "DRIVER", "ICC", "EFFECTIVE", "INTERNAL", "CONTAINERS", "REACHABLE PAIRS")
_DRIFT_TITLES = ("DRIFT: SOURCE", "DESTINATION", "CONFIGURED", "ENFORCED", "OPEN BY")
_CAUSE_TITLE = "DECIDED BY"


def render(report: Report, causes: Mapping[tuple[str, str], str] = MappingProxyType({})) -> str:
    """Return what the engine is, its networks, every reachable or unknown pair, what drifts, and the totals.

    `causes` are what decides about pairs that drift, by the names of their containers.
    """
    blocks = [
        _aligned(_facts(report)),
        _aligned([_NETWORK_TITLES, *map(_network, report.networks)]),
        _aligned([_PAIR_TITLES, *_pairs(report)]) if report.totals.reachable_pairs else "No container reaches another.",
    ]
    drift = [_drift(pair, causes) for pair in report.drifted()]
    if drift:
        titles = (*_DRIFT_TITLES, _CAUSE_TITLE) if causes else _DRIFT_TITLES
        blocks.append(_aligned([titles, *drift]))
    return "\n\n".join([*blocks, _summary(report)]) + "\n"


def _switch(value: bool | None) -> str:
    """Return a setting of the engine in a word; None is one that does not exist or cannot be told."""
    return {True: "on", False: "off", None: "-"}[value]


@dataclass(frozen=True, slots=True)
class Way:
    """Paths to the same addresses by the same mechanism; `opens` tells the protocols and ports in which they differ."""

    via: Via
    network: str | None
    addresses: tuple[str, ...]
    undecided: str
    opens: str


def ways(paths: Iterable[Path]) -> list[Way]:
    """Return the ways that the paths make up, in their order."""
    groups: dict[tuple[Via, str | None, tuple[str, ...], str], list[Path]] = {}
    for path in paths:
        groups.setdefault((path.via, path.network, path.addresses, path.undecided), []).append(path)
    return [Way(*group, opens=opens(members)) for group, members in groups.items()]


def opens(paths: Iterable[Path]) -> str:
    """Return protocols and ports in words: `tcp 80,443; udp any; icmp`."""
    return "; ".join(map(_opens, paths))


def _opens(path: Path) -> str:
    if path.protocol is Protocol.ICMP:
        return path.protocol
    return f"{path.protocol} {'any' if path.ports == ALL_PORTS else path.ports}"


def _facts(report: Report) -> list[Row]:
    engine = report.engine
    evidence = [name for name in report.evidence.__slots__ if getattr(report.evidence, name)]
    facts: list[Row] = [
        ("Engine", f"{engine.name} {engine.version} (API {engine.api_version}, {engine.firewall_backend})"),
        ("ICC", _switch(engine.icc_enabled)),
        ("Taken at", timestamp(report.taken_at)),
        ("Evidence", ", ".join(evidence) or "none"),
    ]
    if report.bridge_netfilter:
        switches = (f"{family} {_switch(enabled)}" for family, enabled in report.bridge_netfilter.items())
        facts.append(("br_netfilter", ", ".join(switches)))
    if report.pending_restart:
        facts += [("At restart", reason) for reason in report.pending_restart.reasons or ("nothing changes",)]
    facts += [("Not read", f"{source}: {reason}") for source, reason in report.missing.items()]
    if report.configuration_missing:
        facts.append(("Not read", f"configuration: {report.configuration_missing}"))
    facts += [("Assumed", assumption) for assumption in report.assumptions]
    return facts + [("Declared if", assumption) for assumption in report.declared_assumptions]


def _network(network: NetworkSummary) -> Row:
    return (
        network.name,
        network.driver,
        _switch(network.icc_enabled),
        _switch(network.icc_effective),
        "yes" if network.internal else "-",
        str(network.containers),
        str(network.reachable_pairs),
    )


def _pairs(report: Report) -> Iterator[Row]:
    rest = PerVerdict(_ways)
    for pair in report.pairs():
        for way in rest(pair.verdict):
            yield (pair.source.name, pair.destination.name, *way)


def _ways(verdict: PairVerdict) -> list[Row]:
    """Return the cells of a row for each way; they are the same for all pairs that share the verdict."""
    return [
        (
            verdict.verdict,
            way.via,
            way.network or "-",
            " ".join(way.addresses),
            f"{way.opens} ({way.undecided})" if way.undecided else way.opens,
        )
        for way in ways(verdict.paths)
    ]


def _drift(pair: Pair, causes: Mapping[tuple[str, str], str]) -> Row:
    names, verdicts = (pair.source.name, pair.destination.name), (pair.declared.verdict, pair.verdict.verdict)
    cause = (causes.get(names, "-"),) if causes else ()
    return *names, *verdicts, pair.drift_reason, *cause


def _summary(report: Report) -> str:
    totals = report.totals
    undecided = f", {totals.unknown_pairs:,} of them undecided" if totals.unknown_pairs else ""
    of = f"{totals.reachable_pairs:,} of {count(totals.pairs, 'pair')} reachable{undecided}"
    return f"{count(totals.containers, 'container')}; {of}{_drifting(totals)}."


def _drifting(totals: Totals) -> str:
    if totals.drift_open is None or totals.drift_closed is None:
        return ""
    if not totals.drift_open + totals.drift_closed:
        return "; the kernel does what the configuration says"
    return f"; against the configuration {totals.drift_open:,} open and {totals.drift_closed:,} closed"


def _aligned(rows: Sequence[Row]) -> str:
    cells = [[visible(cell) for cell in row] for row in rows]
    widths = [max(map(columns, column)) for column in zip(*cells, strict=True)]
    return "\n".join(_line(row, widths) for row in cells)


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    padded = (cell + " " * (width - columns(cell)) for cell, width in zip(row, widths, strict=True))
    return "  ".join(padded).rstrip()
