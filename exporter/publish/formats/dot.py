"""The report as a directed graph for Graphviz: containers are nodes, reachable and unknown pairs are edges."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter.model.reach import HOST, Verdict
from exporter.publish.formats.memo import PerVerdict
from exporter.publish.text import visible

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exporter.model.reach import PairVerdict
    from exporter.model.report import ContainerSummary, Report


def render(report: Report) -> str:
    """Return a digraph whose edges bear their mechanisms; dashed ones are undecided, boxed nodes live in the host."""
    return "".join(f"{line}\n" for line in _lines(report))


def _lines(report: Report) -> Iterator[str]:
    yield f"digraph {_quoted(report.engine.name or 'engine')} {{"
    yield "  rankdir=LR;"
    yield '  node [shape=ellipse, fontname="sans-serif"];'
    yield '  edge [fontname="sans-serif", fontsize=10];'
    for container in report.containers:
        yield f"  {_quoted(container.id)} [{_node(container)}];"
    attributes = PerVerdict(_edge)
    for pair in report.pairs():
        yield f"  {_quoted(pair.source.id)} -> {_quoted(pair.destination.id)} [{attributes(pair.verdict)}];"
    yield "}"


def _node(container: ContainerSummary) -> str:
    label = f"label={_quoted(container.name)}"
    return f"{label}, shape=box" if container.sandbox == HOST else label


def _edge(verdict: PairVerdict) -> str:
    mechanisms = dict.fromkeys(path.via.value for path in verdict.paths)
    label = f"label={_quoted(', '.join(mechanisms))}"
    return f"{label}, style=dashed" if verdict.verdict is Verdict.UNKNOWN else label


def _quoted(text: str) -> str:
    # A doubled backslash keeps the label's escapes (\N is the node's own name) and a trailing one from acting.
    escaped = visible(text).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
