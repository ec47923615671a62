"""Which networks and which sandboxes nothing tells apart but their names and addresses.

Two sandboxes of one kind, on the same networks or on networks of one kind, fare alike: whoever changes their names and
addresses for each other, everywhere, has the same host before him. Whatever is not known to be so is peculiar.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from functools import partial
from itertools import chain as joined
from typing import TYPE_CHECKING

from exporter.evaluate.enforced.asked_for import ADDRESSES
from exporter.evaluate.enforced.gateways import left_where_silent
from exporter.evaluate.enforced.policy_rules import usual_policy
from exporter.evaluate.enforced.route_table import taken
from exporter.evaluate.enforced.segments import PASSING
from exporter.evaluate.enforced.stand_ins import StandIns
from exporter.evaluate.enforced.strangers import lends, of_nobody, redirects_strangers
from exporter.evaluate.enforced.ways import PICKED_PORT
from exporter.evaluate.kinds.dead import DeadMemory, Known, without_dead_rules
from exporter.evaluate.kinds.directory import Directory, Owner
from exporter.evaluate.kinds.entangled import Entangled, entangled, unread, visited
from exporter.evaluate.kinds.kept import Kept
from exporter.evaluate.kinds.steps import LINKS, PORTS
from exporter.evaluate.kinds.survey import Survey, SurveyMemory, Surveyor
from exporter.evaluate.kinds.telling import Telling
from exporter.evaluate.kinds.unremarkable import neighbours_set, unremarkable
from exporter.evaluate.kinds.unrolled import UnrolledMemory, unrolled
from exporter.model.addresses import bounds, link_local_of
from exporter.model.firewall import Hook, TableFamily
from exporter.model.ranges import Ranges
from exporter.model.reach import HOST

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from exporter.evaluate.kinds.dead import Told as ToldOf
    from exporter.evaluate.kinds.directory import Leads
    from exporter.evaluate.kinds.steps import Bits
    from exporter.evaluate.kinds.telling import Told
    from exporter.evaluate.kinds.unremarkable import Own
    from exporter.model.addresses import Subnet
    from exporter.model.firewall import Field, Firewall
    from exporter.model.namespace import Interface, Namespace, OwnAddress, Route
    from exporter.model.snapshot import Endpoint, IpamPool, Kernel, Network, Sandbox, Snapshot

_OF_FRAMES = (TableFamily.BRIDGE, TableFamily.ARP, TableFamily.NETDEV)
_USUAL_DRIVERS = frozenset({"bridge", "host", "null"})


@dataclass(slots=True)
class KindsMemory:
    """What was found out at the look before, and need not be again where it follows from the same.

    `unread` are the ports of networks' bridges that lead to those who are no containers and were not read.
    """

    told: Kept[ToldOf] = field(default_factory=Kept)
    takes: Kept[bool] = field(default_factory=Kept)
    living: DeadMemory = field(default_factory=DeadMemory)
    unrolled: UnrolledMemory = field(default_factory=UnrolledMemory)
    survey: SurveyMemory = field(default_factory=SurveyMemory)
    inside: Kept[Own] = field(default_factory=Kept)
    leads: Kept[Leads] = field(default_factory=Kept)
    places: Kept[Hashable] = field(default_factory=Kept)
    bridges: Kept[Hashable] = field(default_factory=Kept)
    settings: Kept[Mapping[str, Hashable]] = field(default_factory=Kept)
    unread: Sequence[str] = ()


class Kinds:
    """The kinds of a snapshot's networks and sandboxes, by id.

    `read` are those whose namespaces are not as usual, `firewalls` the rules that may ever hold, theirs and the host's.
    `strangers` are addresses of nobody that packets are sent to, None where there are none such; `wide` are the
    sandboxes that send packets for others elsewhere. Where it goes by link addresses or by who else is on a bridge,
    those who stand for others are looked at `closely`: by their own namespaces.
    """

    def __init__(self, snapshot: Snapshot, kernel: Kernel | None, memory: KindsMemory) -> None:
        self._snapshot = snapshot
        self._memory = memory
        self._host = kernel.host if kernel is not None else None
        self._pools = {
            network.id: [(pool.subnet.version, *bounds(pool.subnet)) for pool in network.pools]
            for network in snapshot.networks.values()
        }
        self._linked = frozenset(end for link in snapshot.links for end in (link.parent, link.child))
        self.directory = Directory(snapshot, self._host)
        self.peculiar = self.directory.peculiar
        self._interfaces: Mapping[str, Interface] = (
            {interface.name: interface for interface in self._host.interfaces.values()} if self._host else {}
        )
        self._bridges = {
            interface.index: network.id
            for network in self.directory.networks.values()
            if (interface := self._interface(network)) is not None
        }
        found = entangled(snapshot, kernel) if kernel is not None else Entangled()
        self.entangled = found.bridges
        memory.unread = unread(snapshot, kernel, found.ports) if kernel is not None else []
        joined = {self._bridges[index] for index in self.entangled if index in self._bridges}
        odd = self.entangled | visited(snapshot, kernel) if kernel is not None else frozenset[int]()
        self.peculiar |= {Owner("network", self._bridges[index]) for index in odd if index in self._bridges}
        taking = self._taking(kernel) if kernel is not None else frozenset[str]()
        self.strangers = _strangers(snapshot, kernel) if kernel is not None and taking else None
        plain = frozenset[str]()
        if kernel is not None:
            plain = unremarkable(snapshot, kernel, memory.inside, self.strangers or ())
        if joined:
            plain -= {name for name in plain if not joined.isdisjoint(snapshot.sandboxes[name].networks)}
        self.read = frozenset(kernel.sandboxes) - plain if kernel is not None else frozenset()
        self.cables = self._cables_of(kernel)
        self.ports = dict(self._published_ports())
        self._leads = self._leads_of(self._host) if self._host is not None else None
        self.firewalls = self._living(kernel) if kernel is not None else {}
        survey = self.survey = self._surveyed(kernel)
        self.wide = frozenset(name for name in self.read - {HOST} if redirects_strangers(self.firewalls[name]))
        lending = frozenset(name for name in self.read & taking if kernel is not None and lends(kernel.sandboxes[name]))
        self.closely = survey.noted.by_link_address or self._goes_by_who_answers(kernel)
        self.usual = (
            not survey.noted.unusual
            and not self.directory.overlapping
            and self._usual_host()
            and not _at_single_interfaces(self._host)
            and not self._ports_differ()
            and _usual_networks(snapshot)
            and not (self.closely and kernel is not None and self._boxes_unread(kernel))
            and not self._led_by(kernel, self.wide | lending)
        )
        self._rules: dict[Owner, list[Hashable]] = defaultdict(list)
        for place, said in survey.chains.items():
            for owner, rules in said.places.items():
                self._rules[owner].append((place, rules))
        self.peculiar |= survey.noted.peculiar
        self._mark_neighbours(kernel)
        self._mark_lent(kernel, lending)
        self._marks: dict[Owner, list[Hashable]] = defaultdict(list)
        self._mark_inhabited()
        self._mark_strangers()
        self._mark_addresses()
        self._mark_link_local()
        self._mark_link_addresses(kernel)
        self._settings = self._settings_of(self._host) if self._host is not None else {}
        self._routes: dict[str, list[Route]] = defaultdict(list)
        self.leading_astray: set[int] = set()
        self._follow_routes()
        self._mark_sockets()
        picked = Ranges((PICKED_PORT,))
        self._ports_told = Telling({*survey.noted.ports, picked}, self._bits(PORTS))
        # numbers in the place of kinds: those of sandboxes are made of those of networks
        memory.bridges.turn(snapshot)
        numbers: dict[Hashable, int] = {}
        self.networks = {
            network.id: numbers.setdefault(self._network(network), len(numbers))
            for network in snapshot.networks.values()
        }
        numbers = {}
        memory.places.turn(snapshot)
        # one object in the place of all that are equal
        self._same: dict[Hashable, Hashable] = {}
        self.sandboxes = {
            sandbox.id: numbers.setdefault(self._sandbox(sandbox), len(numbers))
            for sandbox in snapshot.sandboxes.values()
        }

    # --- What makes everybody peculiar ---

    def _taking(self, kernel: Kernel) -> frozenset[str]:
        """Return the namespaces that may take packets to addresses of nobody, or lead them elsewhere."""
        self._memory.takes.turn(self._snapshot)
        namespaces = ((HOST, kernel.host), *kernel.sandboxes.items())
        return frozenset(name for name, each in namespaces if self._memory.takes(name, (each,), partial(_takes, each)))

    def _living(self, kernel: Kernel) -> Mapping[str, Firewall]:
        """Return the rules that may ever hold."""
        memory = self._memory
        known = Known(self._snapshot, kernel, memory.told, self.strangers or ())
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
        return len(kernel.sandboxes.keys() - {HOST}) < len(self._snapshot.sandboxes.keys() - {HOST})

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
        own.update(joined.from_iterable(self._snapshot.sandboxes[name].addresses for name in takers))
        namespaces = (kernel.host, *(kernel.sandboxes[name] for name in self.read - {HOST}))
        hops = (hop for each in namespaces for route in each.routes for hop in route.hops)
        told = {int(hop.gateway) for hop in hops if hop.gateway is not None}
        ends = (end for box in self._snapshot.sandboxes.values() for end in box.endpoints)
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
        interfaces = self._host.interfaces if self._host is not None else {}
        return any(
            self._is_odd(interface) and interface.kind == "veth" and index not in self.cables
            for index, interface in interfaces.items()
        )

    def _is_odd(self, port: Interface) -> bool:
        return port.port is not None and (port.port not in PASSING or self._keeps_somebody_apart(port))

    def _keeps_somebody_apart(self, port: Interface) -> bool:
        """Return whether a port is down and a container's: one that nobody has yet comes up in a moment."""
        return not port.up and any(int(own.ip) in self.directory.owners for own in port.peer_addresses)

    def _usual_host(self) -> bool:
        """Return whether the host leads packets by their destination alone, and none of strangers to somebody here."""
        host = self._host
        return host is None or (
            usual_policy(host)
            and not redirects_strangers(self.firewalls[HOST])
            and not lends(host)
            and left_where_silent(host).isdisjoint(self._bridges)
        )

    # --- Ports of the host ---

    def _published_ports(self) -> Iterator[tuple[int, tuple[Owner, int]]]:
        """Yield the host's ports that are published for one sandbox alone, with their number among its own."""
        holders: dict[int, set[str]] = defaultdict(set)
        for sandbox in self._snapshot.sandboxes.values():
            for port in sandbox.published:
                holders[port.host_port].add(sandbox.id)
        for sandbox in self._snapshot.sandboxes.values():
            owner = self.directory.boxes[sandbox.id]
            for place, number in enumerate(sandbox.host_ports if sandbox.published else ()):
                if len(holders[number]) > 1:
                    self.peculiar.add(owner)
                else:
                    yield number, (owner, place)

    def _mark_sockets(self) -> None:
        """Note the host's sockets: those of published ports are their owner's, others may be on a network's address."""
        for listener in self._host.listeners if self._host is not None else ():
            holder = self.ports.get(listener.port)
            bound = self.directory.owners.get(int(listener.address))
            if bound is not None:
                self.peculiar.add(bound)
            relay = self.directory.owners.get(int(listener.relay[0])) if listener.relay else None
            if holder is not None and (listener.relay is None or relay == holder[0]):
                part = None if listener.relay is None else (listener.relay[0].version, listener.relay[1])
                says = (holder[1], listener.protocol, str(listener.address), part, listener.v6only)
                self._marks[holder[0]].append(("socket", says))
            else:
                self.peculiar |= {owner for owner in (holder and holder[0], relay) if owner is not None}

    def _mark_neighbours(self, kernel: Kernel | None) -> None:
        """Whoever's link address is fixed somewhere, or is answered for, is like nobody else."""
        for namespace in (kernel.host, *kernel.sandboxes.values()) if kernel is not None else ():
            for address in neighbours_set(namespace):
                owner = self.directory.owners.get(address)
                if owner is not None:
                    self.peculiar.add(owner)

    def _mark_lent(self, kernel: Kernel | None, lending: frozenset[str]) -> None:
        """Whoever is on a network with somebody who takes his packets, too, is like nobody else."""
        if kernel is None:
            return
        boxes = self._snapshot.sandboxes
        for name in lending:
            lent = Ranges.union(taken(kernel.sandboxes[name]))
            near = {*boxes[name].networks}
            self.peculiar |= {
                self.directory.boxes[other]
                for other, box in boxes.items()
                if not near.isdisjoint(box.networks) and any(address in lent for address in box.addresses)
            }

    # --- What rules and routes ask for ---

    def _bits(self, fields: AbstractSet[Field]) -> list[Bits]:
        return [each for each in self.survey.noted.bits if each.match.field in fields]

    def _mark_inhabited(self) -> None:
        """Tell networks of somebody peculiar from others: he may do something there to whoever else is on one."""
        for name in self.read - {HOST}:
            for network in self._snapshot.sandboxes[name].networks:
                self._marks[Owner("network", network)].append(("inhabited", name))

    def _mark_addresses(self) -> None:
        """Note in which sets that general rules and routes ask for whose addresses are."""
        telling = Telling(self.survey.noted.addresses, self._bits(ADDRESSES))
        if not telling:
            return
        parted: set[str] = set()
        for low, high, network in joined.from_iterable(self.directory.subnets.values()):
            marks = self._marks[Owner("network", network)]
            if telling.parts(low, high):
                parted.add(network)
                # nothing is asked of addresses that nobody has and nobody sends to
                own = (*self.directory.gateways[network], *self.strangers_near[network])
                marks.append(("parted", tuple(telling.of(each) for each in own if low <= each <= high)))
            else:
                marks.append(("within", telling.of(low)))
        boxes = [box for box in self._snapshot.sandboxes.values() if not parted.isdisjoint(box.networks)]
        told = telling.of_all(joined.from_iterable(box.addresses for box in boxes))
        for box in boxes:
            self._marks[self.directory.boxes[box.id]].append(("within", tuple(told[own] for own in box.addresses)))

    def _mark_link_local(self) -> None:
        """Note whose link-local addresses are in sets that rules ask for and that do not hold all of them."""
        asked = [ranges for ranges in self.survey.noted.addresses if ranges.covers(*_ALL_LINK_LOCAL) is None]
        telling = Telling(asked, (each for each in self._bits(ADDRESSES) if each.version != 4))
        if not telling:
            return
        for name, sandbox in self._snapshot.sandboxes.items():
            own = tuple(telling.of(int(each.link_local)) if each.link_local else () for each in sandbox.endpoints)
            self._marks[self.directory.boxes[name]].append(("near", own))
        for network in self.directory.networks.values():
            interface = self._interface(network)
            addresses = interface.addresses if interface is not None else ()
            near = tuple(telling.of(int(address.ip)) for address in addresses if address.is_link_local)
            self._marks[Owner("network", network.id)].append(("near", near))

    def _mark_link_addresses(self, kernel: Kernel | None) -> None:
        """Note whose link addresses are in sets that rules ask for."""
        telling = Telling(self.survey.noted.links, self._bits(LINKS))
        if kernel is None or not telling:
            return
        for name, namespace in kernel.sandboxes.items():
            cards = (card for card in namespace.interfaces.values() if card.mac and card.name != "lo")
            told = tuple(sorted(telling.of(_number(card.mac)) for card in cards))
            self._marks[self.directory.boxes[name]].append(("link", told))
        for network in self.directory.networks.values():
            interface = self._interface(network)
            if interface is not None and interface.mac:
                self._marks[Owner("network", network.id)].append(("link", telling.of(_number(interface.mac))))

    def _mark_strangers(self) -> None:
        """Note which addresses of nobody in whose subnets packets are sent to."""
        self.strangers_near: dict[str, list[int]] = defaultdict(list)
        for address in sorted(self.strangers or ()):
            network = self.directory.inside(address, address)
            if network is not None:
                self.strangers_near[network].append(address)
        for network, addresses in self.strangers_near.items():
            told = tuple(self._word(self.directory.networks[network], address, 0) for address in addresses)
            self._marks[Owner("network", network)].append(("strangers", told))

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
        owners = self.directory.owners
        found = set(_cables(kernel, self.read))
        for each in told:
            own = {owner for address in each.peer_addresses if (owner := owners.get(int(address.ip))) is not None}
            if own and (self._is_odd(each) or (each.peer_mac and counted[each.peer_mac] > 1)):
                self.peculiar |= own
                found.add(each.index)
        return frozenset(found)

    # --- Networks ---

    def _leads_of(self, host: Namespace) -> Leads:
        self._memory.leads.turn(self._snapshot)
        bridges = (host.interfaces[index] for index in self._bridges)
        causes = (*host.routes, *bridges)
        return self._memory.leads(HOST, causes, lambda: self.directory.leads(host.routes, self._bridges))

    def _network(self, network: Network) -> Hashable:
        owner = Owner("network", network.id)
        interface = self._interface(network)
        if owner in self.peculiar or network.driver != "bridge" or (self._host is not None and interface is None):
            self.peculiar.add(owner)
            return ("peculiar", network.id)
        return (
            network.internal, network.ingress, network.default, network.ipv4, network.ipv6, network.icc,
            network.masquerade, network.gateway_mode_v4, network.gateway_mode_v6, network.inhibit_ipv4,
            tuple(map(_pool, network.pools)),
            self._bridge(network, interface) if interface is not None else None,
            tuple(sorted(map(repr, self._marks[owner]))),
            tuple(self._rules[owner]),
        )  # fmt: skip

    def _interface(self, network: Network) -> Interface | None:
        if self._host is None:
            return None
        found = self._interfaces.get(network.interface)
        return found if found is not None and found.kind == "bridge" and found.master is None else None

    def _settings_of(self, host: Namespace) -> Mapping[str, Hashable]:
        self._memory.settings.turn(self._snapshot)
        return self._memory.settings(HOST, (host.settings,), lambda: _settings(host))

    def _bridge(self, network: Network, interface: Interface) -> Hashable:
        routes = self._routes[network.id]
        same = self._memory.bridges(
            network.id, (interface, *routes), lambda: self._addressed(network, interface, routes)
        )
        return same, self._settings.get(interface.name, ())

    def _addressed(self, network: Network, interface: Interface, routes: Sequence[Route]) -> Hashable:
        own = tuple((self._own(network, interface, each), each.scope, each.deprecated) for each in interface.addresses)
        led = Counter(self._route(network, interface, route) for route in routes)
        return interface.up, interface.arp, interface.bridge, own, frozenset(led.items())

    def _own(self, network: Network, interface: Interface, address: OwnAddress) -> Hashable:
        """Return an address by its place; a link-local one by what it follows from, as it is where that is unusual."""
        if not address.is_link_local:
            return self._word(network, int(address.ip), address.prefixlen)
        made = interface.mac and address.ip == link_local_of(interface.mac)
        return ("link-local",) if made else self._word(network, int(address.ip), address.prefixlen)

    def _word(self, network: Network, number: int, length: int) -> Hashable:
        """Return an address or prefix by its place in the network's own subnets, as it is where it has none."""
        for position, (_, low, high) in enumerate(self._pools[network.id]):
            if low <= number <= high:
                return position, number - low, length
        return number, length

    def _route(self, network: Network, interface: Interface, route: Route) -> Hashable:
        destination: Subnet = route.destination
        number = int(destination.network_address)
        mine = destination.version == 6 and any(int(address.ip) == number for address in interface.addresses)
        local = destination.is_link_local and mine
        source = route.source and self._word(network, int(route.source), 0)
        where = "link-local" if local else self._word(network, number, destination.prefixlen)
        gateways = tuple(str(hop.gateway) for hop in route.hops)
        return route.table, route.kind, route.metric, route.preference, route.hop_limit, source, where, gateways

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
                self._routes[only].append(route)
                if into is not None and into != only:
                    self.peculiar |= {Owner("network", into), Owner("network", only)}
            else:
                self.leading_astray.update(hop.interface for hop in route.hops)
                told = {*over, into} - {None}
                self.peculiar |= {Owner("network", network) for network in told if network is not None}

    # --- Sandboxes ---

    def _sandbox(self, sandbox: Sandbox) -> Hashable:
        owner = self.directory.boxes[sandbox.id]
        places = self._memory.places(sandbox.id, (sandbox,), lambda: self._places(sandbox))
        if places is None or owner in self.peculiar or not self._ordinary(sandbox):
            self.peculiar.add(owner)
            return ("peculiar", sandbox.id)
        return (
            tuple([self.networks[network] for network in sandbox.networks]), places,
            self._published(sandbox) if sandbox.published else (),
            tuple(sorted(map(repr, self._marks[owner]))) if owner in self._marks else (),
            tuple(self._rules[owner]) if owner in self._rules else (),
        )  # fmt: skip

    def _ordinary(self, sandbox: Sandbox) -> bool:
        return (
            sandbox.id not in self.read
            and sandbox.id not in self._linked
            and not (sandbox.published and self._snapshot.sandboxes[HOST].members)
        )

    def _published(self, sandbox: Sandbox) -> Hashable:
        return tuple(
            sorted(
                (str(port.host_ip), port.container_port, port.protocol.value, *self._port(port.host_port))
                for port in sandbox.published
            )
        )

    def _port(self, port: int) -> tuple[int, Told]:
        """Return a published port by its number among its owner's, and the sets of ports that it is in."""
        return self.ports[port][1], self._ports_told.of(port)

    def _places(self, sandbox: Sandbox) -> Hashable:
        """Return all of a sandbox that depends on no other one; None for one that is like no other.

        It is the host's, on no network or on one twice, or has an address outside of its networks.
        """
        endpoints = tuple(self._endpoint(endpoint) for endpoint in sandbox.endpoints)
        alone = sandbox.id == HOST or sandbox.orphaned or not endpoints
        if alone or None in endpoints or len({*sandbox.networks}) < len(sandbox.networks):
            return None
        names = [self._snapshot.networks[network].name for network in sandbox.networks]
        order = tuple(sorted(range(len(names)), key=names.__getitem__))
        found = len(sandbox.members) > 1, endpoints, order, frozenset(sandbox.routed), frozenset(sandbox.exposed)
        return self._same.setdefault(found, found)

    def _endpoint(self, endpoint: Endpoint) -> Hashable:
        network = self._snapshot.networks[endpoint.network_id]
        own: list[Hashable] = []
        for address, gateway in ((endpoint.ipv4, endpoint.gateway_v4), (endpoint.ipv6, endpoint.gateway_v6)):
            if address is None:
                own.append((None, gateway is None))
                continue
            version, number = address.version, int(address)
            pools = enumerate(self._pools[network.id])
            pool = next((place for place, (of, low, high) in pools if of == version and low <= number <= high), None)
            if pool is None:
                return None
            hop = self._word(network, int(gateway), 0) if gateway is not None else None
            own.append((pool, hop))
        return tuple(own), endpoint.gw_priority, bool(endpoint.mac)


_ALL_LINK_LOCAL = 0xFE80 << 112, (0xFE80 << 112) + (1 << 64) - 1
"""Those that kernels and engines give, of fe80::/10."""


def _number(mac: str) -> int:
    return int(mac.replace(":", ""), 16)


def _takes(namespace: Namespace) -> bool:
    """Return whether packets to addresses of nobody may end in a namespace, or be sent elsewhere there."""
    own = {int(each.ip) for interface in namespace.interfaces.values() for each in interface.addresses}
    takes = any(low != high or low not in own for low, high in taken(namespace))
    return takes or redirects_strangers(namespace.firewall)


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


def _pool(pool: IpamPool) -> Hashable:
    base = int(pool.subnet.network_address)
    gateway = int(pool.gateway) - base if pool.gateway is not None else None
    router = int(pool.router) - base if pool.router is not None else None
    first = int(pool.range.network_address) - base
    return pool.subnet.version, pool.subnet.prefixlen, first, pool.range.prefixlen, gateway, router


def _settings(host: Namespace) -> Mapping[str, tuple[tuple[str, str, str], ...]]:
    """Return the sysctls of each interface."""
    found: dict[str, list[tuple[str, str, str]]] = defaultdict(list)
    for path, value in host.settings.items():
        parts = path.split("/")
        if len(parts) == 4 and parts[1] == "conf":
            found[parts[2]].append((parts[0], parts[3], value))
    return {name: tuple(sorted(values)) for name, values in found.items()}


def _usual_networks(snapshot: Snapshot) -> bool:
    """Return whether all that networks do to each other is what bridges do."""
    networks = snapshot.networks.values()
    trusting = any(network.trusted_host_interfaces for network in networks)
    return not trusting and not snapshot.engine.swarm and all(network.driver in _USUAL_DRIVERS for network in networks)
