"""Room for neighbours: the kernel keeps those of all namespaces in one table for each family (struct neigh_table).

Engines side by side have more than it takes by default. A full table drops packets, and one that is half full forgets
whoever was learned five seconds ago (neigh_forced_gc), in the middle of a measurement.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

LIMITS = {"gc_thresh2": 16384, "gc_thresh3": 32768}
"""From how many on neighbours are forgotten after five seconds, and how many there may be at all."""


@contextlib.contextmanager
def room_for_neighbours(switches: Path = Path("/proc/sys/net")) -> Iterator[None]:
    """Have room for the neighbours of many engines for the length of a with block, where the machine allows it."""
    with contextlib.ExitStack() as restored:
        for family in ("ipv4", "ipv6"):
            for name, wanted in LIMITS.items():
                with contextlib.suppress(OSError):
                    _raise(switches / family / "neigh/default" / name, wanted, restored)
        yield


def _raise(switch: Path, wanted: int, restored: contextlib.ExitStack) -> None:
    found = switch.read_text()
    if int(found) < wanted:
        switch.write_text(str(wanted))
        restored.callback(switch.write_text, found)
