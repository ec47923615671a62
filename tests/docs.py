"""The documents that follow from the code: `python -m tests.docs` writes them, a test compares them."""

from __future__ import annotations

from pathlib import Path

from exporter.publish.metrics import METRICS

METRICS_PAGE = Path(__file__).parents[1] / "docs" / "metrics.md"

_HEAD = """\
# Metrics

Gauges about the engine are absent while it cannot be read: nothing is frozen. `process_…` metrics of the exporter
itself follow Prometheus' conventions. This page is made from the code (`make docs`).

| name | type | labels | meaning |
|---|---|---|---|
"""


def metrics_page() -> str:
    """Return the page about metrics."""
    rows = (
        f"| `{spec.name}` | {spec.kind} | {', '.join(spec.labels) or '–'} | {spec.help} |\n"  # noqa: RUF001  a dash
        for spec in METRICS
    )
    return _HEAD + "".join(rows)


if __name__ == "__main__":
    METRICS_PAGE.write_text(metrics_page())
