"""From a snapshot to a report. Pure: no clock, no I/O, no environment."""

from exporter.evaluate.diff import diff
from exporter.evaluate.explain import explain
from exporter.evaluate.report import evaluate
from exporter.evaluate.whatif import whatif

__all__ = ["diff", "evaluate", "explain", "whatif"]
