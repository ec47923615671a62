"""Which packets put verdicts to the test, and what is learned from what became of them."""

from exporter.evaluate.probes.judgement import expected, judge, lacking
from exporter.evaluate.probes.planner import Chance, Planner

__all__ = ["Chance", "Planner", "expected", "judge", "lacking"]
