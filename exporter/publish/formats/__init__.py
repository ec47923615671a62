"""A report as text, for programs and for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter.publish.formats import csv, dot, json, table

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from exporter.model.report import Report

WITH_CAUSES: Mapping[str, Callable[[Report, Mapping[tuple[str, str], str]], str]] = {
    "table": table.render,
    "json": json.render,
}
"""Those that also tell what decides about pairs that drift, by the names of their containers."""

RENDERERS: Mapping[str, Callable[[Report], str]] = {
    "table": table.render,
    "json": json.render,
    "csv": csv.render,
    "dot": dot.render,
}
"""By the name that users give; each result is a whole text that ends in a newline."""
