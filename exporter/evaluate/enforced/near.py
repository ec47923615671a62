"""Link-local addresses of IPv6: asked about where no other address leads as far.

They mean something on one link alone, to those who are on it. On hosts as engines set them up they lead nowhere that
others do not; but whoever shuts a container by its addresses may not think of them.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from exporter.evaluate.enforced.listening import Listening
from exporter.evaluate.enforced.strangers import redirects_strangers
from exporter.model.addresses import is_link_local
from exporter.model.ports import HIGHEST, LOWEST
from exporter.model.reach import HOST, Protocol, Via

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from exporter.evaluate.enforced.records import Record
    from exporter.evaluate.enforced.segments import Segment, Station
    from exporter.evaluate.enforced.world import World

_ELSEWHERE = (Via.PUBLISHED_PORT, Via.ROUTED)
"""Ways that do not end at an address of the link that they begin on."""


@dataclass(frozen=True, slots=True)
class Near:
    """A link-local address of somebody on a link, and the cells of those there whom it may lead further."""

    link: Segment
    address: int
    protocol: Protocol
    cells: int


class Nearby:
    """Knows how far all other addresses lead, by what arrives in each sandbox."""

    def __init__(self, world: World, bits: Mapping[str, int], arrived: Mapping[str, Sequence[Record]]) -> None:
        self._world = world
        self._bits = bits
        self._arrived = arrived
        self._listening = Listening(world)
        self._known: dict[tuple[str, Protocol], Mapping[str, int]] = {}
        self._relayed: dict[Protocol, int] = {}
        # rules that lead packets for others' addresses elsewhere may do so with these
        self._led_astray = any(redirects_strangers(stack.namespace.firewall) for stack in world.stacks.values())

    def wanting(self, protocols: Iterable[Protocol]) -> Iterator[Near]:
        """Yield the link-local addresses that may lead further than others."""
        for protocol in protocols:
            for link in self._world.links:
                senders = self._senders(link)
                for address, owners in link.owners.items():
                    cells = self._wanting(owners, senders, protocol) if is_link_local(address) else 0
                    if cells:
                        yield Near(link, address, protocol, cells)

    def _senders(self, link: Segment) -> int:
        found = 0
        for station in link.stations:
            if self._world.snapshot.sandboxes[station.stack.name].members:
                found |= self._bits[station.stack.name]
        return found

    def _wanting(self, owners: Sequence[Station], senders: int, protocol: Protocol) -> int:
        """Return the cells that others of the owners' addresses do not lead to all that this one may lead to."""
        if self._led_astray:
            return senders
        found = 0
        for owner in owners:
            name, members = owner.stack.name, self._world.snapshot.sandboxes[owner.stack.name].members
            asking = senders if len(members) > 1 else senders & ~self._bits[name]
            if members:
                led = self._led(name, protocol)
                network = owner.network.id if owner.network is not None else ""
                found |= asking & ~(led.get(network, 0) | led.get(_WITHIN, 0))
            if name == HOST:
                found |= asking & ~self._led_by_proxies(protocol)
        return found

    def _led(self, destination: str, protocol: Protocol) -> Mapping[str, int]:
        """Return the cells that are led to all ports of a destination, by the network that leads them there."""
        known = self._known.get((destination, protocol))
        if known is None:
            ways: dict[str, list[Record]] = defaultdict(list)
            for record in self._arrived.get(destination, ()):
                if record.protocol is protocol and record.via not in _ELSEWHERE and not record.undecided:
                    ways[_by(record)].append(record)
            known = {network: _led_everywhere(records) for network, records in ways.items()}
            self._known[destination, protocol] = known
        return known

    def _led_by_proxies(self, protocol: Protocol) -> int:
        """Return the cells that are led to all ports which docker-proxy takes for any address of the host's."""
        known = self._relayed.get(protocol)
        if known is None:
            known = -1
            for listener in self._world.host.namespace.listeners:
                if listener.protocol is protocol and listener.address.version == 6:
                    for lead in self._listening.leads(listener):
                        known &= self._led_to(self._owners.get(int(lead.address), ""), protocol, listener.port)
            self._relayed[protocol] = known
        return known

    def _led_to(self, destination: str, protocol: Protocol, port: int) -> int:
        """Return the cells that are led to a destination by a port that is published for it."""
        found = 0
        for record in self._arrived.get(destination, ()):
            if record.via is Via.PUBLISHED_PORT and record.protocol is protocol and not record.undecided:
                found |= record.cells if any(low <= port <= high for low, high in record.ports) else 0
        return found

    @cached_property
    def _owners(self) -> Mapping[int, str]:
        sandboxes = self._world.snapshot.sandboxes.values()
        return {address: sandbox.id for sandbox in sandboxes for address in sandbox.addresses}


_WITHIN = "within"
"""In the place of a network, for what a namespace sends to itself."""


def _by(record: Record) -> str:
    if record.via is Via.SAME_SANDBOX:
        return _WITHIN
    if record.via is Via.HOST:
        return record.network.id if record.network is not None else ""
    return record.within


def _led_everywhere(records: Sequence[Record]) -> int:
    """Return the cells that some record has for every port; ICMP has none."""
    told: dict[tuple[tuple[int, int], ...], int] = defaultdict(int)
    for record in records:
        told[record.ports] |= record.cells
    ends = {LOWEST, HIGHEST + 1, *(end for ports in told for low, high in ports for end in (low, high + 1))}
    places = {end: place for place, end in enumerate(sorted(ends))}
    led = [told.get((), 0)] * (len(places) - 1)
    for ports, cells in told.items():
        for low, high in ports:
            for place in range(places[low], places[high + 1]):
                led[place] |= cells
    found = -1
    for cells in led:
        found &= cells
    return found
