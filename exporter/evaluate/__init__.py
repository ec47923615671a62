"""From a snapshot to a report. Pure: no clock, no I/O, no environment."""

from exporter.evaluate.diff import diff
from exporter.evaluate.explain import explain
from exporter.evaluate.report import Evaluated, evaluate, evaluate_after
from exporter.evaluate.trips import causes
from exporter.evaluate.whatif import whatif

__all__ = ["Evaluated", "causes", "diff", "evaluate", "evaluate_after", "explain", "whatif"]
