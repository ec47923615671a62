"""Metrics that rules and dashboards ask for, and that are not the exporter's."""

from __future__ import annotations

from typing import Final

NOT_YET_EXPORTED: Final = frozenset(
    {
        "docker_icc_bridge_netfilter_enabled",
        "docker_icc_config_pending_restart",
        "docker_icc_cross_tenant_pairs",
        "docker_icc_exporter_probes_total",
        "docker_icc_policy_violations",
    }
)
"""Announced; a test fails when one of them is exported, so that none stays here by accident."""

OF_PROMETHEUS: Final = frozenset({"ALERTS", "up", "process_cpu_seconds_total", "process_resident_memory_bytes"})
"""Made by Prometheus itself, or by the exporter's client library."""
