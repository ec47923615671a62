"""Tables that the kernel keeps for all namespaces together, in a size for many small hosts side by side.

Neighbours have one for each family (struct neigh_table). Engines side by side have more than it takes by default. A
full table drops packets, and one that is half full forgets whoever was learned five seconds ago (neigh_forced_gc), in
the middle of a measurement.

Connections have one (nf_conntrack_hash), as long as the machine's memory suggests. All of it is walked for each
namespace that ends (nf_ct_iterate_cleanup) and whenever an engine forgets the connections of a container
(ctnetlink_dump_table): a twentieth of what many engines cost. A place that has fifty already drops packets
(MAX_CHAINLEN), and probes of many hosts at a time make some ten thousands of connections.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

LIMITS = {"gc_thresh2": 16384, "gc_thresh3": 32768}
"""From how many on neighbours are forgotten after five seconds, and how many there may be at all."""

BUCKETS = 65536
"""How long the table of connections is: longer than all of them are many."""


@contextlib.contextmanager
def room_for_many(switches: Path = Path("/proc/sys/net")) -> Iterator[None]:
    """Have tables that suit many engines for the length of a with block, where the machine allows it."""
    with contextlib.ExitStack() as restored:
        for family in ("ipv4", "ipv6"):
            for name, least in LIMITS.items():
                with contextlib.suppress(OSError):
                    _bound(switches / family / "neigh/default" / name, restored, least=least)
        with contextlib.suppress(OSError):
            _bound(switches / "netfilter/nf_conntrack_buckets", restored, most=BUCKETS)
        yield


def _bound(switch: Path, restored: contextlib.ExitStack, least: int = 0, most: int | None = None) -> None:
    found = int(switch.read_text())
    wanted = max(least, found if most is None else min(most, found))
    if wanted != found:
        switch.write_text(str(wanted))
        restored.callback(switch.write_text, str(found))
