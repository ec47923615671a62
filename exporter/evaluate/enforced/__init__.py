"""What the kernel enforces: verdicts from its routes, bridges and firewall rules, packet by packet.

Nothing here knows what an engine means by its configuration; that is `declared`, and the two check each other.
"""

from exporter.evaluate.enforced.reach import enforced_reach

__all__ = ["enforced_reach"]
