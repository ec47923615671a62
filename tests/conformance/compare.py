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
    truth: dict[tuple[str, str], set[tuple[str, str, int]]] = defaultdict(set)
    for probe in arrived:
        truth[probe.source, probe.destination].add((probe.address, probe.protocol, probe.port))
    probed = {probe for probe in _probes(addresses, ports) if probe[1] in set(protocols)}
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
    return Comparison(pairs, pairs * len(probed), tuple(unknown), frozenset(doubts), tuple(wrong))


def _probes(addresses: Iterable[str], ports: Iterable[int]) -> Iterator[tuple[str, str, int]]:
    numbers = list(ports)
    for address in addresses:
        yield address, "icmp", 0
        yield from ((address, protocol, port) for protocol in ("tcp", "udp") for port in numbers)


def _wrong(
    verdict: PairVerdict, arrived: set[tuple[str, str, int]], probed: set[tuple[str, str, int]], heard: PortSet
) -> Iterator[str]:
    possible = _promised(verdict.paths, probed)
    certain = _promised((_audible(path, heard) for path in verdict.paths if not path.undecided), probed)
    for address, protocol, port in sorted((arrived & probed) - possible - _said_by_others(verdict.paths, probed)):
        yield f"{protocol} to {address} port {port} arrives, the report says it does not"
    for address, protocol, port in sorted(certain - arrived):
        yield f"{protocol} to {address} port {port} does not arrive, the report says it does"
    carried = [probe for probe in arrived if probe[1] != Protocol.ICMP]
    if verdict.verdict is Verdict.BLOCKED and carried:
        yield f"blocked, but {len(carried)} probes arrive"
    if verdict.verdict is Verdict.REACHABLE and not carried and _were_tried(verdict.paths, probed):
        yield "reachable, but no probe arrives"


def _were_tried(paths: Iterable[Path], probed: set[tuple[str, str, int]]) -> bool:
    """Return whether packets were sent by paths: by those without addresses if some were sent to link-local ones."""
    return any(path.addresses for path in paths) or any(is_link_local(address) for address, _, _ in probed)


def _said_by_others(paths: Iterable[Path], probed: set[tuple[str, str, int]]) -> set[tuple[str, str, int]]:
    """Return the probes to link-local addresses whose port another address leads to: a path need not tell them."""
    led = {
        (protocol, port)
        for address, protocol, port in probed
        if any(path.protocol == protocol and (not port or port in path.ports) for path in paths)
    }
    return {probe for probe in probed if probe[1:] in led and is_link_local(probe[0])}


def _audible(path: Path, heard: PortSet) -> Path:
    """Reduce a path to the ports where somebody listened; a published port leads to one where somebody does."""
    return path if path.via is Via.PUBLISHED_PORT else replace(path, ports=path.ports & heard)


def _promised(paths: Iterable[Path], probed: set[tuple[str, str, int]]) -> set[tuple[str, str, int]]:
    return {
        (address, protocol, port)
        for path in paths
        for address, protocol, port in probed
        if address in path.addresses
        and protocol == path.protocol
        and (path.protocol is Protocol.ICMP or port in path.ports)
    }
