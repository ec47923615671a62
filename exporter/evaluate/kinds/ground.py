"""What is to be known of a host before its networks and sandboxes are compared, and whether that is worthwhile."""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import chain as joined
from typing import TYPE_CHECKING

from exporter.evaluate.enforced.gateways import left_where_silent
from exporter.evaluate.enforced.policy_rules import usual_policy
from exporter.evaluate.enforced.ports import told_bridges
from exporter.evaluate.enforced.segments import PASSING
from exporter.evaluate.enforced.stand_ins import StandIns
from exporter.evaluate.enforced.strangers import lends, of_nobody, redirects_strangers
from exporter.evaluate.kinds.dead import Known, without_dead_rules
from exporter.evaluate.kinds.directory import Directory, Owner
from exporter.evaluate.kinds.entangled import Entangled, entangled, unread, visited
from exporter.evaluate.kinds.survey import Survey, Surveyor
from exporter.evaluate.kinds.told import told_by_all
from exporter.evaluate.kinds.unremarkable import taken_by_bridges, unremarkable
from exporter.evaluate.kinds.unrolled import unrolled
from exporter.model.addresses import bounds
from exporter.model.firewall import Hook, TableFamily
from exporter.model.reach import HOST

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Mapping, Sequence

    from exporter.evaluate.kinds.directory import Leads
    from exporter.evaluate.kinds.memory import KindsMemory
    from exporter.model.firewall import Firewall
    from exporter.model.namespace import Interface, Namespace, Route
    from exporter.model.snapshot import Kernel, Network, Snapshot

_OF_FRAMES = (TableFamily.BRIDGE, TableFamily.ARP, TableFamily.NETDEV)
_USUAL_DRIVERS = frozenset({"bridge", "host", "null"})


class Ground:
    """What a part of a host may leave out, and whether one can stand for all of it (`usual`).

    `peculiar` are those who are known to be like nobody else. `read` are those whose namespaces are not as usual,
    `firewalls` the rules that may ever hold, theirs and the host's, `cables` the host's ends that stay.
    `strangers` are addresses of nobody that packets are sent to, None where there are none such; `wide` are the
    sandboxes that send packets for others elsewhere, `lending` those that take them. `routes` are the host's by the
    network over whose bridge they lead; `leading_astray` are the interfaces of those that lead into subnets elsewhere.
    Where it goes by link addresses or by who else is on a bridge, those who stand for others are looked at `closely`:
    by their own namespaces.
    """

    def __init__(self, snapshot: Snapshot, kernel: Kernel | None, memory: KindsMemory) -> None:
        self.snapshot = snapshot
        self.kernel = kernel
        self._memory = memory
        self.host = kernel.host if kernel is not None else None
        self.pools = {
            network.id: [(pool.subnet.version, *bounds(pool.subnet)) for pool in network.pools]
            for network in snapshot.networks.values()
        }
        self.linked = frozenset(end for link in snapshot.links for end in (link.parent, link.child))
        self.directory = Directory(snapshot, self.host)
        self._passing: dict[int, bool] = {}
        self.peculiar = self.directory.peculiar
        self._interfaces: Mapping[str, Interface] = (
            {interface.name: interface for interface in self.host.interfaces.values()} if self.host else {}
        )
        self._bridges = {
            interface.index: network.id
            for network in self.directory.networks.values()
            if (interface := self.interface(network)) is not None
        }
        found = entangled(snapshot, kernel) if kernel is not None else Entangled()
        self.entangled = found.bridges
        memory.unread = unread(snapshot, kernel, found.ports) if kernel is not None else []
        joined = {self._bridges[index] for index in self.entangled if index in self._bridges}
        self._told_bridges = told_bridges(self.host) if self.host is not None else frozenset[int]()
        odd = self.entangled | visited(snapshot, kernel) if kernel is not None else frozenset[int]()
        odd |= self._told_bridges
        self.peculiar |= {Owner("network", self._bridges[index]) for index in odd if index in self._bridges}
        memory.told.turn(snapshot)
        self._told = told_by_all(kernel, memory.told) if kernel is not None else {}
        taking = frozenset(name for name, told in self._told.items() if told.takes)
        self.strangers = _strangers(snapshot, kernel) if kernel is not None and taking else None
        plain = frozenset[str]()
        if kernel is not None:
            plain = unremarkable(snapshot, kernel, self._told, memory.inside, self.strangers or ())
        if joined:
            plain -= {name for name in plain if not joined.isdisjoint(snapshot.sandboxes[name].networks)}
        self.read = frozenset(kernel.sandboxes) - plain if kernel is not None else frozenset()
        self.cables = self._cables_of(kernel)
        self.ports = dict(self._published_ports())
        self._leads = self._leads_of(self.host) if self.host is not None else None
        self.firewalls = self._living(kernel) if kernel is not None else {}
        survey = self.survey = self._surveyed(kernel)
        self.wide = frozenset(name for name in self.read - {HOST} if redirects_strangers(self.firewalls[name]))
        self.lending = frozenset(
            name for name in self.read & taking if kernel is not None and lends(kernel.sandboxes[name])
        )
        self.closely = survey.noted.by_link_address or self._goes_by_who_answers(kernel)
        self.usual = (
            not survey.noted.unusual
            and not self.directory.overlapping
            and self._usual_host()
            and not _at_single_interfaces(self.host)
            and not self._sends_aside(kernel)
            and not self._ports_differ()
            and _usual_networks(snapshot)
            and not (self.closely and kernel is not None and self._boxes_unread(kernel))
            and not self._led_by(kernel, self.wide | self.lending)
        )
        self.peculiar |= survey.noted.peculiar
        self.routes: dict[str, list[Route]] = defaultdict(list)
        self.leading_astray: set[int] = set()
        self._follow_routes()
        self.strangers_near = self._strangers_near()

    def _living(self, kernel: Kernel) -> Mapping[str, Firewall]:
        """Return the rules that may ever hold."""
        memory = self._memory
        known = Known(self.snapshot, self._told.values(), self.strangers or ())
        memory.living.turn(known)
        inside = {
            name: without_dead_rules(kernel.sandboxes[name].firewall, known, memory.living, name)
            for name in sorted(self.read - {HOST})
        }
        return {
            HOST: unrolled(without_dead_rules(kernel.host.firewall, known, memory.living), memory.unrolled),
            **inside,
        }

    def _goes_by_who_answers(self, kernel: Kernel | None) -> bool:
        """Return whether somebody's way hinges on who answers on the bridges that he is on."""
        return kernel is not None and any(left_where_silent(kernel.sandboxes[name]) for name in self.read - {HOST})

    def _boxes_unread(self, kernel: Kernel) -> bool:
        return len(kernel.sandboxes.keys() - {HOST}) < len(self.snapshot.sandboxes.keys() - {HOST})

    def _sends_aside(self, kernel: Kernel | None) -> bool:
        """Return whether filters at interfaces of somebody's own lead packets to whoever it may be."""
        if kernel is None:
            return False
        own = (kernel.sandboxes[name].interfaces.values() for name in self.read - {HOST})
        return any(card.diverts for card in joined.from_iterable(own))

    def _led_by(self, kernel: Kernel | None, takers: frozenset[str]) -> bool:
        """Return whether somebody may send packets for others by sandboxes that take these, or send them elsewhere.

        Those are in the paths to them then, whoever's they are.
        """
        if kernel is None or not takers:
            return False
        own = {
            int(each.ip)
            for name in takers
            for card in kernel.sandboxes[name].interfaces.values()
            for each in card.addresses
        }
        own.update(joined.from_iterable(self.snapshot.sandboxes[name].addresses for name in takers))
        namespaces = (kernel.host, *(kernel.sandboxes[name] for name in self.read - {HOST}))
        hops = (hop for each in namespaces for route in each.routes for hop in route.hops)
        told = {int(hop.gateway) for hop in hops if hop.gateway is not None}
        ends = (end for box in self.snapshot.sandboxes.values() for end in box.endpoints)
        told.update(int(each) for end in ends for each in (end.gateway_v4, end.gateway_v6) if each is not None)
        elsewhere = any(
            lead.into is not None and lead.into not in {self._bridges.get(hop.interface) for hop in lead.route.hops}
            for lead in (self._leads.routes if self._leads is not None else ())
        )
        return elsewhere or not own.isdisjoint(told)

    def _surveyed(self, kernel: Kernel | None) -> Survey:
        if kernel is None:
            return Survey()
        surveyor = Surveyor(self.directory, self.ports, self._memory.survey)
        surveyor.read(self.firewalls[HOST])
        if self._leads is not None:
            surveyor.note_routes(self._leads)
        for name in sorted(self.read - {HOST}):
            surveyor.note(name, kernel.sandboxes[name], self.firewalls[name])
        return surveyor.survey

    def _ports_differ(self) -> bool:
        """Return whether bridges have ports that keep something from whoever it is that has them."""
        interfaces = self.host.interfaces if self.host is not None else {}
        return any(
            self._is_odd(interface) and interface.kind == "veth" and index not in self.cables
            for index, interface in interfaces.items()
        )

    def _is_odd(self, port: Interface) -> bool:
        """Return whether a port of a bridge keeps something from whoever has it; those alike are one object."""
        told = port.port
        if told is None:
            return False
        passing = self._passing.get(id(told))
        if passing is None:
            passing = self._passing[id(told)] = told in PASSING
        return not passing or port.master in self._told_bridges or self._keeps_somebody_apart(port)

    def _keeps_somebody_apart(self, port: Interface) -> bool:
        """Return whether a port is down and a container's: one that nobody has yet comes up in a moment."""
        return not port.up and any(int(own.ip) in self.directory.owners for own in port.peer_addresses)

    def _usual_host(self) -> bool:
        """Return whether the host leads packets by their destination alone, and none of strangers to somebody here."""
        host = self.host
        return host is None or (
            usual_policy(host)
            and not host.labelled
            and not redirects_strangers(self.firewalls[HOST])
            and not lends(host)
            and left_where_silent(host).isdisjoint(self._bridges)
        )

    def _published_ports(self) -> Iterator[tuple[int, tuple[Owner, int]]]:
        """Yield the host's ports that are published for one sandbox alone, with their number among its own."""
        holders: dict[int, set[str]] = defaultdict(set)
        for sandbox in self.snapshot.sandboxes.values():
            for port in sandbox.published:
                holders[port.host_port].add(sandbox.id)
        for sandbox in self.snapshot.sandboxes.values():
            owner = self.directory.boxes[sandbox.id]
            for place, number in enumerate(sandbox.host_ports if sandbox.published else ()):
                if len(holders[number]) > 1:
                    self.peculiar.add(owner)
                else:
                    yield number, (owner, place)

    def _cables_of(self, kernel: Kernel | None) -> frozenset[int]:
        """Return the host's ends of the cables that stay where they are, by index.

        Those are the ones of sandboxes that were read. Of those that were not, it is told at the host's end whose they
        are: they are the ones with a port that is not as usual, or with the link address of another interface.
        """
        ends = [each for each in kernel.host.interfaces.values() if each.peer_addresses] if kernel is not None else []
        if kernel is None or not ends:
            return _cables(kernel, self.read) if kernel is not None else frozenset()
        cards = [card for each in kernel.sandboxes.values() for card in each.interfaces.values() if card.kind == "veth"]
        read = {card.peer for card in cards}
        told = [each for each in ends if each.index not in read]
        counted = Counter([*(each.peer_mac for each in told), *(card.mac for card in cards)])
        counted.update(set(taken_by_bridges(kernel.host)))
        owners = self.directory.owners
        found = set(_cables(kernel, self.read))
        for each in told:
            if self._is_odd(each) or (each.peer_mac and counted[each.peer_mac] > 1):
                own = {owner for address in each.peer_addresses if (owner := owners.get(int(address.ip))) is not None}
                self.peculiar |= own
                found |= {each.index} if own else set()
        return frozenset(found)

    def _leads_of(self, host: Namespace) -> Leads:
        self._memory.leads.turn(self.snapshot)
        bridges = (host.interfaces[index] for index in self._bridges)
        causes = (*host.routes, *bridges)
        return self._memory.leads(HOST, causes, lambda: self.directory.leads(host.routes, self._bridges))

    def interface(self, network: Network) -> Interface | None:
        """Return the bridge of a network, where it has one that is a port of no other."""
        if self.host is None:
            return None
        found = self._interfaces.get(network.interface)
        return found if found is not None and found.kind == "bridge" and found.master is None else None

    def word(self, network: str, number: int, length: int) -> Hashable:
        """Return an address or prefix by its place in the network's own subnets, as it is where it has none."""
        for position, (_, low, high) in enumerate(self.pools[network]):
            if low <= number <= high:
                return position, number - low, length
        return number, length

    def _follow_routes(self) -> None:
        """Sort the host's routes by bridge; one that leads into a network's subnets elsewhere makes that peculiar.

        What such routes leave by is no part of the network, whatever else it is, and stays where others go.
        """
        for route, into in self._leads.routes if self._leads is not None else ():
            if len(route.hops) == 1:
                only = self._bridges.get(route.hops[0].interface)
                if only is None and into is None:
                    continue
                over = {only}
            else:
                over = {self._bridges.get(hop.interface) for hop in route.hops}
                only = next(iter(over)) if len(over) == 1 else None
            if only is not None:
                self.routes[only].append(route)
                if into is not None and into != only:
                    self.peculiar |= {Owner("network", into), Owner("network", only)}
            else:
                self.leading_astray.update(hop.interface for hop in route.hops)
                told = {*over, into} - {None}
                self.peculiar |= {Owner("network", network) for network in told if network is not None}

    def _strangers_near(self) -> Mapping[str, Sequence[int]]:
        """Return the addresses of nobody in a network's subnets that packets are sent to."""
        near: dict[str, list[int]] = defaultdict(list)
        for address in sorted(self.strangers or ()):
            network = self.directory.inside(address, address)
            if network is not None:
                near[network].append(address)
        return near


def _strangers(snapshot: Snapshot, kernel: Kernel) -> frozenset[int]:
    """Return the addresses of nobody that packets are sent to."""
    stand_ins = StandIns(snapshot)
    boxes = (box for name, box in snapshot.sandboxes.items() if name != HOST)
    inside = [kernel.sandboxes.get(box.id) or stand_ins.namespace(box) for box in boxes]
    subnets = [pool.subnet for network in snapshot.networks.values() for pool in network.pools]
    return frozenset().union(*(of_nobody((kernel.host, *inside), subnets, family) for family in (4, 6)))


def _cables(kernel: Kernel, read: frozenset[str]) -> frozenset[int]:
    """Return the host's ends of the cables of sandboxes that were read, by index."""
    cards = (interface for name in read for interface in kernel.sandboxes[name].interfaces.values())
    return frozenset(card.peer for card in cards if card.peer is not None)


def _at_single_interfaces(host: Namespace | None) -> bool:
    """Return whether there are rules or programs at single interfaces, or rules for frames: they tell ports apart."""
    if host is None:
        return False
    tables = (table.family in _OF_FRAMES for table in host.firewall.tables)
    chains = (chain for table in host.firewall.tables for chain in table.chains.values())
    hooks = (chain.base is not None and chain.base.hook in (Hook.INGRESS, Hook.EGRESS) for chain in chains)
    programs = (bool(interface.programs) for interface in host.interfaces.values())
    return any(tables) or any(hooks) or any(programs)


def _usual_networks(snapshot: Snapshot) -> bool:
    """Return whether all that networks do to each other is what bridges do."""
    networks = snapshot.networks.values()
    trusting = any(network.trusted_host_interfaces for network in networks)
    return not trusting and not snapshot.engine.swarm and all(network.driver in _USUAL_DRIVERS for network in networks)
