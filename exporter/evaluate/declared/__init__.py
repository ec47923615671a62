"""What the engine's configuration promises: verdicts from its API alone, for each engine version's own rules."""

from exporter.evaluate.declared.reach import declared_reach

__all__ = ["declared_reach"]
