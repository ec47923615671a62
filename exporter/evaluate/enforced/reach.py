"""All ordered pairs of sandboxes, from what the kernel does to the packets between them."""

from __future__ import annotations

from collections import defaultdict
from ipaddress import ip_address
from typing import TYPE_CHECKING

from exporter.evaluate.enforced.conversations import Conversations, Found
from exporter.evaluate.enforced.likeness import Likeness
from exporter.evaluate.enforced.near import Nearby
from exporter.evaluate.enforced.records import Record, beyond, verdicts
from exporter.evaluate.enforced.worlds import worlds
from exporter.model.reach import HOST, PairVerdict, Protocol, Reach, Via

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from exporter.evaluate.enforced.world import World
    from exporter.model.snapshot import Kernel, Network, Snapshot

PROTOCOLS = (Protocol.TCP, Protocol.UDP, Protocol.ICMP)


def enforced_reach(snapshot: Snapshot, kernel: Kernel) -> Reach:
    """Return what the kernel lets pass for every ordered pair of sandboxes."""
    return _Reaching(snapshot, kernel).reach()


class _Reaching:
    def __init__(self, snapshot: Snapshot, kernel: Kernel) -> None:
        self._snapshot = snapshot
        self._sandboxes = list(snapshot.sandboxes)
        self._bits = {sandbox: 1 << position for position, sandbox in enumerate(self._sandboxes)}
        self._worlds = worlds(snapshot, kernel)
        self._conversations = Conversations(self._worlds, self._bits)
        self._members: dict[str, int] = {}

    def reach(self) -> Reach:
        """Return verdicts for all pairs."""
        rows: list[dict[str, PairVerdict]] = [{} for _ in self._sandboxes]
        within: dict[str, PairVerdict] = {}
        for destination, arrived in self._arrived().items():
            for cells, verdict in verdicts(arrived):
                for position in _positions(cells):
                    rows[position][destination] = verdict
                    if self._sandboxes[position] == destination:
                        within[destination] = verdict
        shared = {name: found for name, found in within.items() if len(self._snapshot.sandboxes[name].members) > 1}
        class_of = {sandbox: position for position, sandbox in enumerate(self._sandboxes)}
        return Reach(class_of, tuple(rows), shared)

    def _arrived(self) -> Mapping[str, list[Record]]:
        """Return what arrives in each sandbox that containers live in."""
        records: dict[str, list[Record]] = defaultdict(list)
        for family, world in self._worlds.items():
            for cells, addresses in self._asked(world):
                for protocol in PROTOCOLS:
                    for found in self._conversations.found(family, protocol, addresses[0], cells):
                        if self._snapshot.sandboxes[found.stack.name].members:
                            made = self._records(world, family, protocol, addresses, found)
                            records[found.stack.name].extend(made)
        for sandbox, more in self._arrived_nearby(records).items():
            records[sandbox].extend(more)
        return records

    def _arrived_nearby(self, known: Mapping[str, Sequence[Record]]) -> Mapping[str, list[Record]]:
        """Return what link-local addresses lead to beside what is known."""
        more: dict[str, list[Record]] = defaultdict(list)
        world = self._worlds[6]
        for near in Nearby(world, self._bits, known).wanting(PROTOCOLS):
            for found in self._conversations.on(near.link).found(6, near.protocol, near.address, near.cells):
                sandbox = found.stack.name
                if self._snapshot.sandboxes[sandbox].members:
                    for record in self._records(world, 6, near.protocol, [near.address], found):
                        more[sandbox].extend(beyond(record, known.get(sandbox, ())))
        return more

    def _asked(self, world: World) -> Iterator[tuple[int, Sequence[int]]]:
        """Yield the cells and the destinations to ask about together: the host's own packets fare unlike others'."""
        host = self._bits[HOST]
        # nobody is asked about in whose namespace no container lives
        living = sum(self._bits[box.id] for box in self._snapshot.sandboxes.values() if box.members)
        yield from ((living & ~host, addresses) for addresses in self._alike(world, own=False))
        if self._snapshot.sandboxes[HOST].members:
            yield from ((host, addresses) for addresses in self._alike(world, own=True))

    def _alike(self, world: World, *, own: bool) -> Iterable[Sequence[int]]:
        """Return all destinations, those together that fare alike."""
        likeness = Likeness(world, own=own)
        groups: dict[object, list[int]] = defaultdict(list)
        known: dict[object, object] = {}
        for address in sorted(_destinations(world)):
            early = likeness.at_once(address)
            if early not in known:
                known[early] = likeness.of(address, self._conversations.emission(world, address))
            groups[known[early]].append(address)
        return groups.values()

    def _records(
        self, world: World, family: int, protocol: Protocol, addresses: Sequence[int], found: Found
    ) -> Iterator[Record]:
        ports = found.ports.ports.intervals if found.ports else ()
        doubts: dict[int, list[str]] = defaultdict(list)
        for name, cells in found.doubts.items():
            doubts[cells & found.cells].append(name)
        for cells, names in _partition(found.cells, doubts):
            undecided = "; ".join(sorted(names))
            for here, via, network, within in self._mechanisms(world, found, cells):
                for address in addresses:
                    yield Record(here, via, network, within, protocol, (family, address), ports, undecided)

    def _mechanisms(self, world: World, found: Found, cells: int) -> Iterator[tuple[int, Via, Network | None, str]]:
        """Yield by which mechanism, and on which network, packets arrive."""
        own = cells & self._bits[found.stack.name]
        network = found.network
        if found.published:
            yield cells, Via.PUBLISHED_PORT, network, ""
            return
        if own:
            yield own, Via.SAME_SANDBOX, None, ""
        from_host = cells & self._bits[HOST] & ~own
        if from_host:
            yield from_host, Via.HOST, network, ""
        rest = cells & ~own & ~from_host
        if not rest:
            return
        if found.stack is world.host:
            yield rest, Via.HOST, None, ""
        elif found.routed or network is None:
            yield rest, Via.ROUTED if found.routed else Via.BRIDGE, network, ""
        else:
            yield from self._linked(found, network, rest)

    def _linked(self, found: Found, network: Network, cells: int) -> Iterator[tuple[int, Via, Network | None, str]]:
        strangers = cells & ~self._on(network)
        if strangers:
            yield strangers, Via.BRIDGE, None, ""
        cells &= ~strangers
        linked = self._parents(found) & cells if network.default and network.icc is False else 0
        if linked:
            yield linked, Via.LINK, network, network.id
        if cells & ~linked:
            yield cells & ~linked, _DRIVERS.get(network.driver, Via.PLUGIN), network, network.id

    def _on(self, network: Network) -> int:
        """Return the sources that are on a network."""
        known = self._members.get(network.id)
        if known is None:
            on = (name for name, box in self._snapshot.sandboxes.items() if network.id in box.networks)
            known = self._members[network.id] = sum(self._bits[name] for name in on)
        return known

    def _parents(self, found: Found) -> int:
        """Return the sources that hold a link to a sandbox, where its port is one that the link opens."""
        sandbox = self._snapshot.sandboxes[found.stack.name]
        exposed = {port.port for port in sandbox.exposed if port.protocol is found.protocol}
        if found.ports is None or found.ports.single not in exposed:
            return 0
        parents = 0
        for link in self._snapshot.links:
            if link.child in sandbox.members:
                parents |= self._bits.get(link.parent, 0)
        return parents


_DRIVERS = {"bridge": Via.BRIDGE, "macvlan": Via.MACVLAN, "ipvlan": Via.IPVLAN, "overlay": Via.OVERLAY}


def _partition(cells: int, named: Mapping[int, Sequence[str]]) -> Iterator[tuple[int, list[str]]]:
    """Yield disjoint sets of cells with the names of all sets that they are in."""
    parts: list[tuple[int, list[str]]] = [(cells, [])]
    for mask, names in named.items():
        following: list[tuple[int, list[str]]] = []
        for part, known in parts:
            if part & mask:
                following.append((part & mask, [*known, *names]))
            if part & ~mask:
                following.append((part & ~mask, known))
        parts = following
    yield from ((part, names) for part, names in parts if part)


def _positions(cells: int) -> Iterator[int]:
    """Yield the positions of bits that are set."""
    while cells:
        lowest = cells & -cells
        yield lowest.bit_length() - 1
        cells ^= lowest


def _destinations(world: World) -> set[int]:
    """Return all addresses that packets are sent to: those of every namespace, and those that translations name."""
    found = world.asked_about()
    for stack in world.stacks.values():
        found |= {address for address in stack.reached_at if not _local_scope(address, world.family)}
    return found


def _local_scope(address: int, family: int) -> bool:
    text = ip_address(address.to_bytes(4 if family == 4 else 16))
    # of IPv4, link-local addresses are routed as any others
    return (family == 6 and text.is_link_local) or text.is_multicast or text.is_loopback
