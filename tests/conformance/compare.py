"""A report against what packets did: every probe and every pair."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING

from exporter.model.ports import PortSet
from exporter.model.reach import Protocol, Verdict, Via
from tests.lab.agent import is_link_local

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from exporter.model.reach import PairVerdict, Path
    from exporter.model.report import Report
    from tests.lab import Arrival

    _Probe = tuple[str, str, int]
    """An address, a protocol and a port, 0 for ping."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """What was compared, why each unknown pair is unknown, and every disagreement in words.

    `doubts` are the reasons of all undecided paths, also of those between pairs that another path decides.
    """

    pairs: int
    probes: int
    unknown: tuple[str, ...]
    doubts: frozenset[str]
    disagreements: tuple[str, ...]


def compare(
    report: Report,
    arrived: Collection[Arrival],
    addresses: Iterable[str],
    ports: Iterable[int],
    listening: Iterable[int] | None = None,
    protocols: Iterable[str] = ("tcp", "udp", "icmp"),
) -> Comparison:
    """Compare a report with the probes that arrived, out of all to `addresses` and `ports` from every sandbox, by id.

    An undecided path may do either; everything else has to be as reported, probe by probe and pair by pair, also
    between containers that share a sandbox. What arrived at other addresses, which the report cannot know, counts for
    the pair only. Where nobody listened on some of the ports inside the sandboxes, `listening` are those on which
    somebody did.
    """
    names = {container.sandbox: container.name for container in reversed(report.containers)}
    truth: dict[tuple[str, str], set[_Probe]] = defaultdict(set)
    for probe in arrived:
        truth[probe.source, probe.destination].add((probe.address, probe.protocol, probe.port))
    probed = _Probed.of(addresses, ports, protocols)
    heard = PortSet.of(*(listening if listening is not None else ports))
    wrong: list[str] = []
    unknown: list[str] = []
    doubts: set[str] = set()
    pairs = 0
    for source, destination in product(names, names):
        if source == destination and source not in report.reach.within:
            continue
        pairs += 1
        verdict = report.reach.between(source, destination)
        if verdict.verdict is Verdict.UNKNOWN:
            unknown.append(next(path.undecided for path in verdict.paths if path.undecided))
        doubts.update(path.undecided for path in verdict.paths if path.undecided)
        label = f"{names[source]} -> {names[destination]}"
        wrong.extend(f"{label}: {text}" for text in _wrong(verdict, truth[source, destination], probed, heard))
    return Comparison(
        pairs, pairs * len(probed.addresses) * len(probed.kinds), tuple(unknown), frozenset(doubts), tuple(wrong)
    )


@dataclass(frozen=True, slots=True)
class _Probed:
    """What was sent from every sandbox: every kind, a protocol with a port (0 for ping), to every address."""

    addresses: frozenset[str]
    near: frozenset[str]
    """Those of them that are link-local."""
    kinds: frozenset[tuple[str, int]]

    @classmethod
    def of(cls, addresses: Iterable[str], ports: Iterable[int], protocols: Iterable[str]) -> _Probed:
        sent = frozenset(addresses)
        kinds = {("icmp", 0), *product(("tcp", "udp"), ports)}
        asked = frozenset(protocols)
        near = frozenset(filter(is_link_local, sent))
        return cls(sent, near, frozenset(kind for kind in kinds if kind[0] in asked))

    def among(self, probes: Iterable[_Probe]) -> set[_Probe]:
        return {probe for probe in probes if probe[0] in self.addresses and probe[1:] in self.kinds}


def _wrong(verdict: PairVerdict, arrived: set[_Probe], probed: _Probed, heard: PortSet) -> Iterator[str]:
    possible = _promised(verdict.paths, probed)
    certain = _promised((_audible(path, heard) for path in verdict.paths if not path.undecided), probed)
    for address, protocol, port in sorted(probed.among(arrived) - possible - _said_by_others(verdict.paths, probed)):
        yield f"{protocol} to {address} port {port} arrives, the report says it does not"
    for address, protocol, port in sorted(certain - arrived):
        yield f"{protocol} to {address} port {port} does not arrive, the report says it does"
    carried = [probe for probe in arrived if probe[1] != Protocol.ICMP]
    if verdict.verdict is Verdict.BLOCKED and carried:
        yield f"blocked, but {len(carried)} probes arrive"
    if verdict.verdict is Verdict.REACHABLE and not carried and _were_tried(verdict.paths, probed):
        yield "reachable, but no probe arrives"


def _were_tried(paths: Iterable[Path], probed: _Probed) -> bool:
    """Return whether packets were sent by paths: by those without addresses if some were sent to link-local ones."""
    return any(path.addresses for path in paths) or bool(probed.near)


def _said_by_others(paths: Iterable[Path], probed: _Probed) -> set[_Probe]:
    """Return the probes to link-local addresses whose port another address leads to: a path need not tell them."""
    led = {kind for path in paths for kind in probed.kinds if _leads(path, kind)} if probed.near else ()
    return {(address, *kind) for address, kind in product(probed.near, led)}


def _audible(path: Path, heard: PortSet) -> Path:
    """Reduce a path to the ports where somebody listened; a published port leads to one where somebody does."""
    return path if path.via is Via.PUBLISHED_PORT else replace(path, ports=path.ports & heard)


def _promised(paths: Iterable[Path], probed: _Probed) -> set[_Probe]:
    return {
        (address, *kind)
        for path in paths
        for kind in probed.kinds
        if _leads(path, kind)
        for address in probed.addresses.intersection(path.addresses)
    }


def _leads(path: Path, kind: tuple[str, int]) -> bool:
    protocol, port = kind
    return protocol == path.protocol and (protocol == Protocol.ICMP or port in path.ports)
