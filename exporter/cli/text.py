"""Answers in plain text: one fact a line, and the sign in front carries the meaning."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final, NamedTuple

from exporter.model.probe import ProbeResult
from exporter.model.reach import Verdict
from exporter.model.report import SCHEMA
from exporter.model.whatif import Fate
from exporter.publish.formats import table
from exporter.publish.formats.hops import hop_text
from exporter.publish.formats.json import path as path_document
from exporter.publish.formats.probes import outcome
from exporter.publish.text import count

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from exporter.model.explanation import Explanation, Finding, PairChange, ReportDiff, Trip
    from exporter.model.probe import PairProbed
    from exporter.model.reach import Path
    from exporter.model.whatif import Foretelling, ForetoldPair

GOOD: Final = "green"
BAD: Final = "red"
DOUBTFUL: Final = "yellow"

SIGNS: Final = {True: "+", False: "-", None: " "}
"""By whether a finding opens a pair."""

_VERDICT_COLOURS: Final = {Verdict.REACHABLE: BAD, Verdict.BLOCKED: GOOD, Verdict.UNKNOWN: DOUBTFUL}
_RESULT_COLOURS: Final = {
    ProbeResult.AGREED: GOOD,
    ProbeResult.DISAGREED: BAD,
    ProbeResult.UNDECIDED: DOUBTFUL,
    ProbeResult.FAILED: DOUBTFUL,
}


class Line(NamedTuple):
    """A line of text and the colour it has on a terminal."""

    text: str
    colour: str | None = None


def explain(explanation: Explanation) -> Iterator[Line]:
    """Yield the verdict, then what opens (+) and what blocks (-), then the paths and packets that were followed."""
    names = f"{explanation.source.name} -> {explanation.destination.name}"
    yield Line(f"{names}: {explanation.verdict}", _VERDICT_COLOURS[explanation.verdict])
    for finding in explanation.findings:
        yield Line(f"  {SIGNS[finding.opens]} {finding.text}", _finding_colour(finding))
    if explanation.paths:
        yield Line("paths:")
    for text in ways(explanation.paths):
        yield Line(f"  {text}")
    for trip in explanation.trips:
        yield from _trip(trip)


def _trip(trip: Trip) -> Iterator[Line]:
    """Yield the way of a packet, a hop a line, and what decided about it."""
    yield Line("")
    yield Line(f"packet to {trip.packet}: {trip.outcome}", _VERDICT_COLOURS[trip.verdict])
    for leg in trip.legs:
        yield Line(f"  {leg.name}")
        for hop in leg.hops:
            yield Line(f"  {'x' if hop.lost else ' '} {hop.place}: {hop_text(hop)}", GOOD if hop.lost else None)
    if trip.decided_by:
        yield Line(f"  decided by {trip.decided_by}")
    if trip.change:
        yield Line(f"  to {'open' if trip.verdict is Verdict.BLOCKED else 'close'} it: {trip.change}")


def probes(answer: PairProbed) -> Iterator[Line]:
    """Yield the verdict of the pair, then each packet with its own and with what became of it."""
    names = f"{answer.source.name} -> {answer.destination.name}"
    yield Line(f"{names}: {answer.verdict}", _VERDICT_COLOURS[answer.verdict])
    for each in answer.probed:
        text = f"  {each.result:<9}  {each.probe.packet}: {each.verdict}; {outcome(each)}"
        yield Line(text, _RESULT_COLOURS.get(each.result))


def _finding_colour(finding: Finding) -> str | None:
    return {True: BAD, False: GOOD, None: None}[finding.opens]


def ways(paths: Iterable[Path]) -> Iterator[str]:
    """Yield paths in words; those that differ in protocol and ports only share a line."""
    for way in table.ways(paths):
        where = f" on {way.network}" if way.network else ""
        addresses = ", ".join(way.addresses) or "an address that the API does not tell"
        doubt = f" (undecided: {way.undecided})" if way.undecided else ""
        yield f"{way.via}{where}: {way.opens} at {addresses}{doubt}"


def diff(difference: ReportDiff) -> Iterator[Line]:
    """Yield what opened or came (+), closed or went (-) and what changed (~)."""
    if difference.icc_before is not difference.icc_after:
        before, after = (_icc(value) for value in (difference.icc_before, difference.icc_after))
        yield Line(f"~ icc_enabled: {before} -> {after}", BAD if difference.icc_after else GOOD)
    for name in difference.containers_removed:
        yield Line(f"- container {name}")
    for name in difference.containers_added:
        yield Line(f"+ container {name}")
    for change in difference.pairs:
        yield from _change(change)


def _change(change: PairChange) -> Iterator[Line]:
    was_open, is_open = (verdict not in {None, Verdict.BLOCKED} for verdict in (change.before, change.after))
    sign, colour = {(False, True): ("+", BAD), (True, False): ("-", GOOD)}.get((was_open, is_open), ("~", DOUBTFUL))
    before, after = change.before or "absent", change.after or "absent"
    verdicts = before if before == after else f"{before} -> {after}"
    yield Line(f"{sign} {change.source} -> {change.destination}: {verdicts}", colour)
    yield from _changed_ways(change.paths_before, change.paths_after)


def whatif(foretold: Foretelling) -> Iterator[Line]:
    """Yield the numbers, then each pair that closes (-), opens (+), stays open (=) or is undecided (?), and why."""
    before, after = foretold.before, foretold.after
    yield Line(f"with {foretold.action}:")
    pairs = count(foretold.containers * (foretold.containers - 1), "pair")
    undecided = f", {after.unknown_pairs:,} of them undecided" if after.unknown_pairs else ""
    yield Line(f"  of {pairs} {before.reachable_pairs:,} are reachable now, {after.reachable_pairs:,} then{undecided}")
    fates = ", ".join(f"{foretold.fates[fate]:,} {_FATES[fate]}" for fate in Fate)
    yield Line(f"  {fates}; all others stay as they are")
    for warning in foretold.warnings:
        yield Line(f"! {warning}", DOUBTFUL)
    for pair in foretold.pairs:
        yield from _foretold(pair)
    if foretold.concerned > len(foretold.pairs):
        yield Line(f"… the first {len(foretold.pairs):,} of {foretold.concerned:,} by name")
    yield Line("assumed:")
    for assumption in foretold.assumptions:
        yield Line(f"  {assumption}")


_FATES: Final = {
    Fate.CLOSES: "close",
    Fate.OPENS: "open",
    Fate.STAYS_OPEN: "stay open by other ways or fewer",
    Fate.UNDECIDED: "become undecided",
}
_FATE_SIGNS: Final = {
    Fate.CLOSES: ("-", GOOD),
    Fate.OPENS: ("+", BAD),
    Fate.STAYS_OPEN: ("=", None),
    Fate.UNDECIDED: ("?", DOUBTFUL),
}


def _foretold(pair: ForetoldPair) -> Iterator[Line]:
    sign, colour = _FATE_SIGNS[pair.fate]
    yield Line(f"{sign} {pair.source} -> {pair.destination} {pair.fate.word}: {pair.reason}", colour)
    yield from _changed_ways(pair.paths_before, pair.paths_after)
    for text in ways(path for path in pair.paths_after if path in pair.paths_before):
        yield Line(f"    = {text}")


def _changed_ways(before: tuple[Path, ...], after: tuple[Path, ...]) -> Iterator[Line]:
    for text in ways(path for path in before if path not in after):
        yield Line(f"    - {text}")
    for text in ways(path for path in after if path not in before):
        yield Line(f"    + {text}")


def _icc(value: bool | None) -> str:
    return "unknown" if value is None else str(value).lower()


def diff_json(difference: ReportDiff) -> str:
    """Return the same as one JSON document."""
    document = {
        "schema": SCHEMA,
        "containers_added": difference.containers_added,
        "containers_removed": difference.containers_removed,
        "icc_enabled": {"before": difference.icc_before, "after": difference.icc_after},
        "pairs": [
            {
                "source": change.source,
                "destination": change.destination,
                "before": change.before,
                "after": change.after,
                "paths_before": [path_document(path) for path in change.paths_before],
                "paths_after": [path_document(path) for path in change.paths_after],
            }
            for change in difference.pairs
        ],
    }
    return json.dumps(document, indent=2) + "\n"
