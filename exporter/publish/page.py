"""The page at `/`: one state as HTML. It needs neither scripts nor anything from elsewhere."""

from __future__ import annotations

from base64 import b64encode
from collections import Counter
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from hashlib import sha256
from itertools import islice, pairwise
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from exporter import __version__
from exporter.evaluate.trips import MOST_CAUSES
from exporter.model.probe import ProbeResult
from exporter.model.reach import Verdict, Via
from exporter.model.report import ONE_SANDBOX
from exporter.publish.formats.hops import hop_text
from exporter.publish.formats.memo import PerVerdict
from exporter.publish.formats.probes import outcome
from exporter.publish.formats.table import ways
from exporter.publish.text import count, encodable, visible

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from exporter.model.explanation import Explanation
    from exporter.model.reach import PairVerdict
    from exporter.model.report import (
        ContainerSummary,
        NetworkSummary,
        Pair,
        PolicyResult,
        Report,
        Tenancy,
        TenantSummary,
        Violation,
    )
    from exporter.model.whatif import Foretelling
    from exporter.publish.state import ProbeStats, Published

MATRIX_LIMIT = 60
"""Containers that the matrix shows at most: what a wide screen holds, and 3,600 cells."""

NETWORK_LIMIT = 200
FORETOLD_LIMIT = 200
CHOICE_LIMIT = 500
DRIFT_LIMIT = MOST_CAUSES
VIOLATION_LIMIT = 100
MISSING_LIMIT = 50
TENANT_LIMIT = 100

SYMBOLS: Mapping[Via, str] = {
    Via.SAME_SANDBOX: "S",
    Via.BRIDGE: "B",
    Via.LINK: "L",
    Via.MACVLAN: "M",
    Via.IPVLAN: "I",
    Via.OVERLAY: "O",
    Via.PLUGIN: "G",
    Via.ROUTED: "R",
    Via.HOST: "H",
    Via.PUBLISHED_PORT: "P",
}
"""What a cell of a reachable pair shows."""

MECHANISMS: Mapping[Via, str] = {
    Via.SAME_SANDBOX: "shared namespace",
    Via.BRIDGE: "bridge",
    Via.LINK: "link",
    Via.MACVLAN: "macvlan",
    Via.IPVLAN: "ipvlan",
    Via.OVERLAY: "overlay",
    Via.PLUGIN: "plugin driver",
    Via.ROUTED: "routed",
    Via.HOST: "host network",
    Via.PUBLISHED_PORT: "published port",
}


@dataclass(frozen=True, slots=True)
class Cell:
    """One pair of the matrix; `kind` is its CSS class."""

    kind: str
    symbol: str
    title: str


@dataclass(frozen=True, slots=True)
class Peer:
    """A container of the matrix; `query` is its name as it stands in the query of an address."""

    name: str
    query: str

    @classmethod
    def named(cls, name: str) -> Self:
        """Return the container of a name."""
        return cls(name, quote(encodable(name), safe=""))


@dataclass(frozen=True, slots=True)
class Matrix:
    """Sources by destinations, of the first containers by name; `rows` has the cells of each of them.

    `key` names the symbols that occur, `drifts` tells whether one of the cells is marked as drift.
    """

    peers: tuple[Peer, ...]
    rows: tuple[tuple[Cell, ...], ...]
    key: tuple[tuple[str, str, str], ...]
    left_out: int
    drifts: bool


@dataclass(frozen=True, slots=True)
class Share:
    """The reachable pairs of one mechanism, and where their part of a bar that is 100 wide begins."""

    name: str
    pairs: int
    start: float
    width: float


@dataclass(frozen=True, slots=True)
class Answers:
    """What was asked for, beside the state itself: why a pair is as it is, and what a change would bring.

    `complaint` and `objection` are why the one and the other is not there.
    """

    explanation: Explanation | None = None
    complaint: str = ""
    foretelling: Foretelling | None = None
    objection: str = ""


class Page:
    """The template, ready to render."""

    def __init__(self, telemetry_path: str) -> None:
        environment = Environment(
            loader=PackageLoader("exporter.publish"),
            autoescape=True,
            finalize=_shown,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.filters |= {
            "count": count,
            "duration": duration,
            "hop": hop_text,
            "moment": moment,
            "outcome": outcome,
            "ways": ways,
        }
        style = environment.get_template("style.css").render()
        self._template = environment.get_template("page.html")
        self._constants: Mapping[str, Any] = {
            "style": Markup(style),  # noqa: S704 - ours, from the package
            "version": __version__,
            "telemetry_path": telemetry_path,
            "mechanisms": MECHANISMS,
            "foretold_limit": FORETOLD_LIMIT,
        }
        digest = b64encode(sha256(style.encode()).digest()).decode()
        self.content_security_policy = (
            f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; form-action 'self'; "
            "base-uri 'none'; frame-ancestors 'none'"
        )

    def render(self, published: Published, now: float, asked: Mapping[str, str], answers: Answers) -> str:
        """Return the page. `asked` are the questions that `answers` belong to.

        All times are shown beside `now`, in seconds since the epoch.
        """
        return self._template.render(
            self._constants,
            published=published,
            now=datetime.fromtimestamp(now, UTC),
            asked=asked,
            answers=answers,
            **_of_probes(published.stats.probes),
            **(_of_report(published.report) if published.report else {}),
            causes=published.causes.found() if published.causes else {},
        )


def _of_probes(probes: ProbeStats | None) -> dict[str, Any]:
    last = probes.last if probes else ()
    results = Counter(each.result for each in last)
    return {
        "probe_counts": ", ".join(f"{results[result]} {result}" for result in ProbeResult),
        "disagreements": [each for each in last if each.result is ProbeResult.DISAGREED],
    }


def _of_report(report: Report) -> dict[str, Any]:
    networks = _busiest_first(report.networks)
    names = [source.name for source in fields(report.evidence)]
    return {
        "report": report,
        "matrix": matrix(report),
        "shares": shares(report),
        "networks": networks[:NETWORK_LIMIT],
        "networks_left_out": max(0, len(networks) - NETWORK_LIMIT),
        "choices": report.containers[:CHOICE_LIMIT],
        "evidence": [(name, getattr(report.evidence, name)) for name in names],
        "also_missing": tuple(islice(_also_missing(report), MISSING_LIMIT)),
        "missing_left_out": max(0, len(report.missing.keys() - names) - MISSING_LIMIT),
        "drift": tuple(_drift(report)),
        "tenants": _most_exposed_first(report.tenancy)[:TENANT_LIMIT] if report.tenancy else [],
        "violations": tuple(_violations(report.policy)) if report.policy else (),
    }


def _most_exposed_first(tenancy: Tenancy) -> list[TenantSummary]:
    return sorted(tenancy.tenants, key=lambda tenant: (-tenant.exposed_pairs, tenant.name))


def _violations(policy: PolicyResult) -> Iterator[tuple[Peer, Peer, Violation]]:
    for violation in policy.violations[:VIOLATION_LIMIT]:
        yield Peer.named(violation.source.name), Peer.named(violation.destination.name), violation


def _also_missing(report: Report) -> Iterator[tuple[str, str]]:
    """Yield what could not be read beside the sources as a whole, with the reason; containers by their names."""
    sources = {source.name for source in fields(report.evidence)}
    names = {each.id: each.name for each in report.containers}
    for what, why in report.missing.items():
        if what not in sources:
            container = names.get(what.removeprefix(ONE_SANDBOX))
            yield what if container is None else f"sandbox of {container}", why


def _drift(report: Report) -> Iterator[tuple[Peer, Peer, Pair]]:
    for pair in islice(report.drifted(), DRIFT_LIMIT):
        yield Peer.named(pair.source.name), Peer.named(pair.destination.name), pair


def matrix(report: Report) -> Matrix:
    """Return the pairs of the first containers by name."""
    shown = report.containers[:MATRIX_LIMIT]
    cell = PerVerdict(_cell)
    plain = [
        [ITSELF if destination is source else cell(report.pair(source, destination)) for destination in shown]
        for source in shown
    ]
    occurring = {(each.kind, each.symbol) for row in plain for each in row}
    key = tuple(entry for entry in _KEY if entry[:2] in occurring)
    peers = tuple(Peer.named(each.name) for each in shown)
    rows = tuple(tuple(_marked(report, shown, at, row)) for at, row in enumerate(plain))
    drifts = any(each.kind.endswith(_DRIFTS) for row in rows for each in row)
    return Matrix(peers, rows, key, len(report.containers) - len(shown), drifts)


def _marked(report: Report, shown: Sequence[ContainerSummary], at: int, row: Sequence[Cell]) -> Iterator[Cell]:
    """Yield the cells of a row, those marked on which the kernel and the configuration disagree."""
    if report.declared is None:
        yield from row
        return
    source = shown[at]
    for destination, cell in zip(shown, row, strict=True):
        promised = report.declared.between(source.sandbox, destination.sandbox).verdict
        if cell is not ITSELF and {cell.kind, promised} == {Verdict.BLOCKED, Verdict.REACHABLE}:
            yield Cell(cell.kind + _DRIFTS, cell.symbol, f"{cell.title}; {promised} by the configuration")
        else:
            yield cell


_DRIFTS = " drifts"


def shares(report: Report) -> tuple[Share, ...]:
    """Return the reachable pairs by mechanism, those that occur, as parts of one bar."""
    total = sum(report.pairs_by_via.values())
    result: list[Share] = []
    start = 0.0
    for via in Via:
        pairs = report.pairs_by_via.get(via, 0)
        if pairs:
            width = 100 * pairs / total
            result.append(Share(MECHANISMS[via], pairs, start, width))
            start += width
    return tuple(result)


ITSELF = Cell("itself", "", "")

_KEY = (
    *(("reachable", SYMBOLS[via], MECHANISMS[via]) for via in Via),
    ("unknown", "?", "undecided"),
    ("blocked", "·", "blocked"),
)


def _cell(verdict: PairVerdict) -> Cell:
    if verdict.verdict is Verdict.BLOCKED or verdict.via is None:
        return Cell("blocked", "·", "blocked")
    if verdict.verdict is Verdict.UNKNOWN:
        return Cell("unknown", "?", f"unknown: {verdict.reason}")
    return Cell("reachable", SYMBOLS[verdict.via], f"reachable by {_ways(verdict)}")


def _ways(verdict: PairVerdict) -> str:
    texts = (
        f"{MECHANISMS[way.via]}{f' on {way.network}' if way.network else ''}, {way.opens}"
        for way in ways(verdict.paths)
    )
    return " and by ".join(dict.fromkeys(texts))


def _busiest_first(networks: tuple[NetworkSummary, ...]) -> list[NetworkSummary]:
    return sorted(networks, key=lambda network: (-network.containers, network.name))


def moment(at: datetime) -> str:
    """Return a time for people, in UTC."""
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def duration(seconds: float) -> str:
    """Return how long something takes or took, in the two largest units that say something."""
    whole = max(0, round(seconds))
    for (size, unit), (smaller_size, smaller_unit) in pairwise(_UNITS):
        if whole >= size:
            rest = whole % size // smaller_size
            return f"{whole // size} {unit} {rest} {smaller_unit}" if rest else f"{whole // size} {unit}"
    return f"{whole} s"


_UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def _shown(value: object) -> object:
    """Spell out hidden characters in everything that the template prints; what remains is escaped by the template."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value
