"""What became of a probe, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter.model.probe import ProbeResult
from exporter.model.reach import Protocol

if TYPE_CHECKING:
    from exporter.model.probe import Probed


def outcome(probed: Probed) -> str:
    """Return what the packet did, and why that decides nothing, where it does not."""
    if probed.probe.withheld or probed.sight.withheld:
        return f"not sent: {probed.reason}"
    if probed.result is ProbeResult.FAILED:
        return f"cannot be told: {probed.reason}"
    return f"{_fate(probed)}; {probed.reason}" if probed.reason else _fate(probed)


def _fate(probed: Probed) -> str:
    sight = probed.sight
    if not sight.arrived:
        return "does not arrive"
    how = "arrives through docker-proxy" if sight.relayed else "arrives"
    if probed.probe.packet.protocol is Protocol.UDP:
        return how
    return f"{how} and is answered" if sight.answered else f"{how}, its answer does not come back"
