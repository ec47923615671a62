"""What happens to a packet, as a line of text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter.publish.text import count

if TYPE_CHECKING:
    from exporter.model.explanation import Hop


def hop_text(hop: Hop) -> str:
    """Return what happens, with the counter of the rule that does it where it has one."""
    packets = hop.decision.packets if hop.decision else None
    return hop.text if packets is None else f"{hop.text} [{count(packets, 'packet')} so far]"
