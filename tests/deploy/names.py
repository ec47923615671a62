"""Metrics that rules and dashboards ask for, and that are not the exporter's."""

from __future__ import annotations

from typing import Final

OWN_JOB: Final = 'job="docker-icc"'
"""What tells the exporter's targets from all others."""

OF_PROMETHEUS: Final = frozenset({"ALERTS", "up", "process_cpu_seconds_total", "process_resident_memory_bytes"})
"""Made by Prometheus itself, or by the exporter's client library."""
