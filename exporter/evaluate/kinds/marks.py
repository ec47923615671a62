"""What sockets, neighbours and sets of addresses tell networks and sandboxes apart by."""

from __future__ import annotations

from collections import defaultdict
from itertools import chain as joined
from typing import TYPE_CHECKING

from exporter.evaluate.enforced.asked_for import ADDRESSES, PORTS
from exporter.evaluate.enforced.picking import picked_by_any
from exporter.evaluate.enforced.route_table import taken
from exporter.evaluate.kinds.directory import Owner
from exporter.evaluate.kinds.steps import LINKS
from exporter.evaluate.kinds.telling import Telling
from exporter.evaluate.kinds.unremarkable import neighbours_set
from exporter.model.ranges import Ranges
from exporter.model.reach import HOST

if TYPE_CHECKING:
    from collections.abc import Hashable
    from collections.abc import Set as AbstractSet

    from exporter.evaluate.kinds.ground import Ground
    from exporter.evaluate.kinds.steps import Bits
    from exporter.evaluate.kinds.telling import Told
    from exporter.model.firewall import Field

_ALL_LINK_LOCAL = 0xFE80 << 112, (0xFE80 << 112) + (1 << 64) - 1
"""Those that kernels and engines give, of fe80::/10."""


class Marks:
    """What is said `of` each owner beside what rules say. Whoever is told apart in some other way becomes peculiar."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._directory = ground.directory
        self.of: dict[Owner, list[Hashable]] = defaultdict(list)
        self._mark_neighbours()
        self._mark_lent()
        self._mark_inhabited()
        self._mark_strangers()
        self._mark_addresses()
        self._mark_link_local()
        self._mark_link_addresses()
        self._mark_sockets()
        self._ports = Telling({*ground.survey.noted.ports, *picked_by_any(ground.kernel)}, self._bits(PORTS))

    def port(self, number: int) -> Told:
        """Return in which sets of ports that rules ask for one is."""
        return self._ports.of(number)

    def _mark_sockets(self) -> None:
        """Note the host's sockets: those of published ports are their owner's, others may be on a network's address."""
        for listener in self._ground.host.listeners if self._ground.host is not None else ():
            holder = self._ground.ports.get(listener.port)
            bound = self._directory.owners.get(int(listener.address))
            if bound is not None:
                self._ground.peculiar.add(bound)
            relay = self._directory.owners.get(int(listener.relay[0])) if listener.relay else None
            if holder is not None and (listener.relay is None or relay == holder[0]):
                part = None if listener.relay is None else (listener.relay[0].version, listener.relay[1])
                says = (holder[1], listener.protocol, str(listener.address), part, listener.v6only)
                self.of[holder[0]].append(("socket", says))
            else:
                self._ground.peculiar |= {owner for owner in (holder and holder[0], relay) if owner is not None}

    def _mark_neighbours(self) -> None:
        """Whoever's link address is fixed somewhere, or is answered for, is like nobody else."""
        kernel = self._ground.kernel
        for namespace in (kernel.host, *kernel.sandboxes.values()) if kernel is not None else ():
            for address in neighbours_set(namespace):
                owner = self._directory.owners.get(address)
                if owner is not None:
                    self._ground.peculiar.add(owner)

    def _mark_lent(self) -> None:
        """Whoever is on a network with somebody who takes his packets, too, is like nobody else."""
        kernel = self._ground.kernel
        if kernel is None:
            return
        boxes = self._ground.snapshot.sandboxes
        for name in self._ground.lending:
            lent = Ranges.union(taken(kernel.sandboxes[name]))
            near = {*boxes[name].networks}
            self._ground.peculiar |= {
                self._directory.boxes[other]
                for other, box in boxes.items()
                if not near.isdisjoint(box.networks) and any(address in lent for address in box.addresses)
            }

    def _bits(self, fields: AbstractSet[Field]) -> list[Bits]:
        return [each for each in self._ground.survey.noted.bits if each.match.field in fields]

    def _mark_inhabited(self) -> None:
        """Tell networks of somebody peculiar from others: he may do something there to whoever else is on one."""
        for name in self._ground.read - {HOST}:
            for network in self._ground.snapshot.sandboxes[name].networks:
                self.of[Owner("network", network)].append(("inhabited", name))

    def _mark_addresses(self) -> None:
        """Note in which sets that general rules and routes ask for whose addresses are."""
        telling = Telling(self._ground.survey.noted.addresses, self._bits(ADDRESSES))
        if not telling:
            return
        parted: set[str] = set()
        for low, high, network in joined.from_iterable(self._directory.subnets.values()):
            marks = self.of[Owner("network", network)]
            if telling.parts(low, high):
                parted.add(network)
                # nothing is asked of addresses that nobody has and nobody sends to
                own = (*self._directory.gateways[network], *self._ground.strangers_near[network])
                marks.append(("parted", tuple(telling.of(each) for each in own if low <= each <= high)))
            else:
                marks.append(("within", telling.of(low)))
        boxes = [box for box in self._ground.snapshot.sandboxes.values() if not parted.isdisjoint(box.networks)]
        told = telling.of_all(joined.from_iterable(box.addresses for box in boxes))
        for box in boxes:
            self.of[self._directory.boxes[box.id]].append(("within", tuple(told[own] for own in box.addresses)))

    def _mark_link_local(self) -> None:
        """Note whose link-local addresses are in sets that rules ask for and that do not hold all of them."""
        asked = [ranges for ranges in self._ground.survey.noted.addresses if ranges.covers(*_ALL_LINK_LOCAL) is None]
        telling = Telling(asked, (each for each in self._bits(ADDRESSES) if each.version != 4))
        if not telling:
            return
        for name, sandbox in self._ground.snapshot.sandboxes.items():
            own = tuple(telling.of(int(each.link_local)) if each.link_local else () for each in sandbox.endpoints)
            self.of[self._directory.boxes[name]].append(("near", own))
        for network in self._directory.networks.values():
            interface = self._ground.interface(network)
            addresses = interface.addresses if interface is not None else ()
            near = tuple(telling.of(int(address.ip)) for address in addresses if address.is_link_local)
            self.of[Owner("network", network.id)].append(("near", near))

    def _mark_link_addresses(self) -> None:
        """Note whose link addresses are in sets that rules ask for."""
        telling = Telling(self._ground.survey.noted.links, self._bits(LINKS))
        kernel = self._ground.kernel
        if kernel is None or not telling:
            return
        for name, namespace in kernel.sandboxes.items():
            cards = (card for card in namespace.interfaces.values() if card.mac and card.name != "lo")
            told = tuple(sorted(telling.of(_number(card.mac)) for card in cards))
            self.of[self._directory.boxes[name]].append(("link", told))
        for network in self._directory.networks.values():
            interface = self._ground.interface(network)
            if interface is not None and interface.mac:
                self.of[Owner("network", network.id)].append(("link", telling.of(_number(interface.mac))))

    def _mark_strangers(self) -> None:
        """Note which addresses of nobody in whose subnets packets are sent to."""
        for network, addresses in self._ground.strangers_near.items():
            told = tuple(self._ground.word(network, address, 0) for address in addresses)
            self.of[Owner("network", network)].append(("strangers", told))


def _number(mac: str) -> int:
    return int(mac.replace(":", ""), 16)
