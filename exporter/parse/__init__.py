"""From documents to a snapshot. Pure: no clock, no I/O, no environment."""

from exporter.parse.memory import Memory
from exporter.parse.snapshot import parse

__all__ = ["Memory", "parse"]
