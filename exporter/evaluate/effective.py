"""Whether networks let their containers talk to each other, as the kernel has it and whatever is configured."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from exporter.model.reach import Protocol, Row, Via

if TYPE_CHECKING:
    from collections.abc import Mapping

    from exporter.model.reach import PairVerdict, Reach
    from exporter.model.snapshot import Snapshot


def effective(snapshot: Snapshot, reach: Reach) -> Mapping[str, bool]:
    """Return by network id whether any two of its sandboxes talk over it, links aside; undecided ones may.

    A network on which no two sandboxes meet tells nothing and is left out.
    """
    members: dict[str, set[str]] = defaultdict(set)
    for sandbox in snapshot.sandboxes.values():
        for endpoint in sandbox.endpoints:
            if snapshot.networks[endpoint.network_id].icc is not None:
                members[endpoint.network_id].add(sandbox.id)
    return {network: _open(network, inside, reach) for network, inside in members.items() if len(inside) > 1}


def _open(network: str, members: set[str], reach: Reach) -> bool:
    classes: dict[int, set[str]] = defaultdict(set)
    for source in members:
        classes[reach.class_of[source]].add(source)
    for index, sources in classes.items():
        row = Row.of(reach.rows[index])
        told = map(row.alike, members - sources if len(sources) == 1 else members)
        if any(verdict is not None and _carries(verdict, network) for verdict in told):
            return True
    return False


def _carries(verdict: PairVerdict, network: str) -> bool:
    return any(
        path.within == network and path.via is not Via.LINK and path.protocol is not Protocol.ICMP
        for path in verdict.paths
    )
