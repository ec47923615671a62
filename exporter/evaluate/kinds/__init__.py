"""Large hosts by a part of them: networks and containers that nothing tells apart are evaluated once.

`sample` chooses the part, the evaluators see nothing else, and `Spread` says what their verdicts mean for the rest.
"""

from exporter.evaluate.kinds.memory import KindsMemory
from exporter.evaluate.kinds.sample import Sample, sample
from exporter.evaluate.kinds.spread import Renamings, Spread, sampled

__all__ = ["KindsMemory", "Renamings", "Sample", "Spread", "sample", "sampled"]
