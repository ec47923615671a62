"""What arrives where, and the verdicts that follow."""

from __future__ import annotations

from collections import defaultdict
from ipaddress import ip_address
from typing import TYPE_CHECKING, NamedTuple

from exporter.model.ports import NO_PORTS, PortSet
from exporter.model.reach import PairVerdict, Path, Protocol, Via

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from exporter.model.snapshot import Network


class Record(NamedTuple):
    """Packets of some cells to an address and an interval of ports that arrive in one sandbox."""

    cells: int
    via: Via
    network: Network | None
    within: str
    protocol: Protocol
    address: tuple[int, int]
    ports: tuple[tuple[int, int], ...]
    undecided: str


def beyond(record: Record, others: Iterable[Record]) -> Iterator[Record]:
    """Yield what of a record none of others says of the same way: a certain one says more than one that is not."""
    left = [(record.cells, PortSet.from_intervals(record.ports))]
    for other in others:
        same = (other.via, other.network, other.within, other.protocol) == record[1:5]
        if not same or (other.undecided and not record.undecided):
            continue
        told = PortSet.from_intervals(other.ports)
        left = [part for cells, ports in left for part in _less(cells, ports, other.cells, told)]
    icmp = record.protocol is Protocol.ICMP
    yield from (
        record._replace(cells=cells, ports=ports.intervals) for cells, ports in left if cells and (ports or icmp)
    )


def _less(cells: int, ports: PortSet, others: int, told: PortSet) -> Iterator[tuple[int, PortSet]]:
    if cells & ~others:
        yield cells & ~others, ports
    if cells & others and ports - told != NO_PORTS:
        yield cells & others, ports - told


def verdicts(records: Sequence[Record]) -> Iterator[tuple[int, PairVerdict]]:
    """Yield verdicts with the sources that they hold for: sources in the same records have the same verdict."""
    everyone = 0
    for record in records:
        everyone |= record.cells
    groups: list[tuple[int, list[Record]]] = [(everyone, [])]
    by_mask: dict[int, list[Record]] = defaultdict(list)
    for record in records:
        by_mask[record.cells].append(record)
    for mask, alike in by_mask.items():
        following: list[tuple[int, list[Record]]] = []
        for part, known in groups:
            if part & mask:
                following.append((part & mask, [*known, *alike]))
            if part & ~mask:
                following.append((part & ~mask, known))
        groups = following
    for part, known in groups:
        if part and known:
            yield part, PairVerdict(tuple(_paths(known)))


def _paths(records: Iterable[Record]) -> list[Path]:
    """Return paths in canonical order; what is certain is not undecided as well."""
    ports: dict[tuple[Via, Network | None, str, Protocol, str, tuple[int, int]], list[tuple[int, int]]] = defaultdict(
        list
    )
    for record in records:
        key = (record.via, record.network, record.within, record.protocol, record.undecided, record.address)
        ports[key].extend(record.ports)
    certain: dict[tuple[Protocol, tuple[int, int]], PortSet] = {}
    for (_, _, _, protocol, undecided, address), intervals in ports.items():
        if not undecided:
            known = certain.get((protocol, address), NO_PORTS)
            certain[protocol, address] = known | PortSet.from_intervals(intervals)
    alike: dict[tuple[Via, Network | None, str, Protocol, str, PortSet], list[tuple[int, int]]] = defaultdict(list)
    for (via, network, within, protocol, undecided, address), intervals in ports.items():
        found = PortSet.from_intervals(intervals)
        if undecided and (protocol, address) in certain:
            found -= certain[protocol, address]
            if not found:
                continue
        alike[via, network, within, protocol, undecided, found].append(address)
    paths = [
        Path(via, network.name if network else None, protocol, _texts(addresses), found, undecided, within)
        for (via, network, within, protocol, undecided, found), addresses in alike.items()
    ]
    return sorted(paths, key=lambda path: path.order)


def _texts(addresses: Iterable[tuple[int, int]]) -> tuple[str, ...]:
    return tuple(
        str(ip_address(address.to_bytes(4 if family == 4 else 16))) for family, address in sorted(set(addresses))
    )
