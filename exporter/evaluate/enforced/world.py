"""The namespaces of a snapshot and the links between them: who hears whom, and who answers for an address."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from ipaddress import ip_address
from itertools import chain
from typing import TYPE_CHECKING

from exporter.evaluate.enforced.meeting import leads, met, named_by_translations, possible
from exporter.evaluate.enforced.packets import is_of_ipv6
from exporter.evaluate.enforced.route_table import Question, anycast
from exporter.evaluate.enforced.segments import Station, asks, link_address, number_of
from exporter.evaluate.enforced.stack import Stack
from exporter.evaluate.enforced.stand_ins import likely_sockets
from exporter.evaluate.enforced.strangers import of_nobody
from exporter.evaluate.enforced.way import way
from exporter.evaluate.enforced.wiring import Wiring
from exporter.model.addresses import is_link_local
from exporter.model.reach import HOST

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from exporter.evaluate.enforced.packets import Column
    from exporter.evaluate.enforced.route_table import Exit
    from exporter.evaluate.enforced.segments import Segment
    from exporter.evaluate.enforced.wiring import Place
    from exporter.model.namespace import Interface, Namespace
    from exporter.model.snapshot import Kernel, Network, Sandbox, Snapshot

_LOOPBACK = {4: int(ip_address("127.0.0.1")), 6: int(ip_address("::1"))}


class World:
    """All namespaces of a snapshot for one family, by sandbox id, and their segments.

    `namespaces` are those of the sandboxes, which keep those of their rules that packets between them may meet, or
    `all_rules` of them. `six` is the world of IPv6, whose addresses gateways of IPv4 may have.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        kernel: Kernel,
        namespaces: Mapping[str, Namespace],
        family: int,
        *,
        all_rules: bool = False,
        six: World | None = None,
    ) -> None:
        self.snapshot = snapshot
        self.family = family
        self._six = six or self
        host = kernel.host
        if "listeners" in kernel.missing:
            host = replace(host, listeners=likely_sockets(snapshot))
        self.host = Stack(HOST, host, family)
        self.stacks = {HOST: self.host}
        self._station: dict[tuple[str, int], Station] = {}
        self._led_on: dict[tuple[Segment, int], list[Station]] = {}
        named = (int(address) for each in namespaces.values() for address in named_by_translations(each.firewall))
        self._strangers = kernel.strangers
        self._asked = {address for address in named if not self.host.is_loopback(address)}
        self._asked.update(named_by_translations(kernel.host.firewall))
        self._asked.update(self._of_nobody((kernel.host, *namespaces.values())))
        if not all_rules:
            namespaces = dict(self._with_rules_met(namespaces))
        for name, namespace in namespaces.items():
            self.stacks[name] = Stack(name, namespace, family)
        self._wire(Wiring(self.host, namespaces))

    def _wire(self, wiring: Wiring) -> None:
        """Put everybody's interfaces on their segments."""
        for name, stack in self.stacks.items():
            for interface in stack.namespace.interfaces.values():
                if stack is not self.host and interface.name != "lo" and interface.up:
                    sandbox = self.snapshot.sandboxes[name]
                    network = self._network(sandbox, interface)
                    if network is None and not sandbox.members and wiring.leads_to_nobody(stack, interface):
                        network = self._overlay(interface)
                    self._join(wiring.place(stack, interface, network), stack, interface, network)
        for interface in self.host.namespace.interfaces.values():
            self._join(wiring.place_of_host(interface), self.host, interface, None)
        led = set(self._led_elsewhere())
        for one, other in led:
            # who asks is answered where the answer is led back as well
            if (other, one) in led:
                wiring.join(one, other)
        wiring.settle()

    def _led_elsewhere(self) -> Iterator[tuple[Segment, Segment]]:
        """Yield the segments from which questions for neighbours are led to others, past all bridges."""
        for stack in self.stacks.values():
            for names in stack.gates.leads(self.family) if not stack.gates.idle else ():
                ends = [self._on(stack, stack.by_name[name]) for name in names if name in stack.by_name]
                found = [each.segment for each in ends if each is not None]
                if len(found) > 1:
                    yield found[0], found[1]

    @cached_property
    def partly_seen(self) -> bool:
        """Whether packets may go by ways that are not followed, from one namespace to another."""
        return any(
            segment.joined is not None or (segment.unseen and len({station.stack for station in segment.stations}) > 1)
            for segment in self._segments
        )

    @cached_property
    def _segments(self) -> Collection[Segment]:
        return {id(station.segment): station.segment for station in self._station.values()}.values()

    @cached_property
    def links(self) -> Collection[Segment]:
        """The segments by which link-local addresses lead from one to another; those that are joined are one."""
        wide = {id(segment.widely): segment.widely for segment in self._segments}.values()
        return [segment for segment in wide if len({station.stack for station in segment.stations}) > 1]

    def asked_about(self) -> set[int]:
        """Return the addresses that packets are sent to beside those of namespaces: loopback's, and translated ones."""
        listeners = (listener.address for listener in self.host.namespace.listeners)
        bound = {int(address) for address in listeners if address.version == self.family and address.is_loopback}
        named = {address for address in self._asked if (address >> 32 == 0) == (self.family == 4)}
        named = {address for address in named if not is_link_local(address)}
        return {_LOOPBACK[self.family], *bound, *named}

    def _of_nobody(self, everyone: Sequence[Namespace]) -> Iterator[int]:
        """Yield addresses that nobody here has and that packets may be sent to: networks' gateways, third parties."""
        networks = self.snapshot.networks.values()
        pools = [pool for network in networks for pool in network.pools if pool.subnet.version == self.family]
        yield from (int(pool.gateway) for pool in pools if pool.gateway is not None)
        if self._strangers is None:
            yield from of_nobody(everyone, (pool.subnet for pool in pools), self.family)
        else:
            yield from (each for each in self._strangers if (each >> 32 == 0) == (self.family == 4))

    def _with_rules_met(self, namespaces: Mapping[str, Namespace]) -> Iterator[tuple[str, Namespace]]:
        everyone = (self.host.namespace, *namespaces.values())
        addresses = {*self._addresses(everyone), *self.asked_about()}
        found = possible(addresses, (lead for namespace in everyone for lead in leads(namespace.firewall)))
        for name, namespace in namespaces.items():
            yield name, replace(namespace, firewall=met(namespace.firewall, found))

    def _addresses(self, everyone: Sequence[Namespace]) -> Iterator[int]:
        """Yield the addresses that namespaces have, on loopback as well, or share with others."""
        interfaces = (interface for namespace in everyone for interface in namespace.interfaces.values())
        own = (address for interface in interfaces for address in interface.addresses)
        yield from (int(address.ip) for address in own if address.version == self.family)
        yield from (shared.address for each in everyone for shared in anycast(each)) if self.family == 6 else ()

    def station(self, stack: Stack, interface: int) -> Station | None:
        """Return an interface's station; None where nobody else can be, or where it is a port of a bridge."""
        return self._station.get((stack.name, interface))

    def answering(self, stack: Stack, way: Exit) -> list[Station]:
        """Return who answers for the address that packets leave a namespace for."""
        sender = self.station(stack, way.interface)
        if sender is None:
            return []
        world = self.resolving(way.towards)
        if world is not self:
            return list(map(self.same, world.answering(world.same(sender).stack, way)))
        return sender.segment.answering(way.towards, sender)

    def led_on(self, sender: Station, way: Exit, destination: int) -> list[Station]:
        """Return who may get packets by a router that nobody knows, where nobody who is known has the next hop.

        Who is asked for the destination itself has it, and keeps it. All others may send packets to whoever has it, by
        whatever address of his, or to somebody who passes them on: even back to the sender, from another source.
        """
        outside = sender.segment.outside
        if outside is None or (way.towards == destination and asks(sender, destination)):
            return []
        key = outside, destination
        if key not in self._led_on:
            has = [station for station in outside.stations if destination in station.stack.addresses]
            self._led_on[key] = [*has, *self._passing_on(outside, destination)]
        own = sender.stack.addresses
        return [station for station in self._led_on[key] if destination not in own or station.stack is not sender.stack]

    def _passing_on(self, outside: Segment, destination: int) -> Iterable[Station]:
        """Return the stations of those who pass on what is for others; of those without rules, one for each way."""
        found: dict[object, Station] = {}
        for station in outside.stations:
            stack, name = station.stack, station.interface.name
            if destination in stack.addresses or not stack.forwards_from(name):
                continue
            if not stack.plain:
                found[station] = station
                continue
            exits = way(stack, Question(destination)).exits
            ends = ((self.station(stack, each.interface), each.towards) for each in exits)
            for led in ((end.segment, towards) for end, towards in ends if end is not None):
                found.setdefault(led, station)
        return dict.fromkeys(found.values())

    def behind(self, stack: Stack, device: str) -> list[Station]:
        """Return who may get what a namespace sends by an interface, whoever that is for."""
        interface = stack.by_name.get(device)
        if interface is None:
            return []
        others = self.beside(stack, interface)
        return [each for each in others if each.port is interface] or others

    def beside(self, stack: Stack, interface: Interface) -> list[Station]:
        """Return all others who hear an interface or its bridge, and to whom these may lead what they hear."""
        own = self._on(stack, interface)
        if own is None:
            return [each for each in self._station.values() if each.segment.card is interface]
        near = own.segment.widely.stations, own.segment.outside.stations if own.segment.outside is not None else ()
        return [each for each in dict.fromkeys(chain.from_iterable(near)) if each is not own]

    def _on(self, stack: Stack, interface: Interface) -> Station | None:
        """Return an interface, or the bridge that it is a port of, as others hear it."""
        return self.station(stack, interface.index) or self.station(stack, interface.master or 0)

    def resolving(self, address: int) -> World:
        """Return the world in which the link address of a next hop is looked for (ip_neigh_for_gw)."""
        return self._six if is_of_ipv6(address) else self

    def same(self, station: Station) -> Station:
        """Return a station of another world as this one has it."""
        return self._station[station.stack.name, station.interface.index]

    def framed_for(self, sender: Station, receiver: Station, address: int) -> int | None:
        """Return whose link address frames are for that a station sends to the next hop with an address.

        Who asks nobody for it takes its own (arp_constructor), and is the receiver himself.
        """
        asker = self.resolving(address).same(sender)
        fixed = asker.stack.fixed(asker.interface, address)
        return link_address(receiver.interface) if fixed is None else number_of(fixed)

    def link_to(self, stack: Stack, address: int) -> str:
        """Return by which interface a link-local address is looked for: one where somebody answers for it, if any."""
        if not is_link_local(address):
            return ""
        known = (self.station(stack, index) for index in stack.namespace.interfaces)
        stations = [station for station in known if station is not None]
        answered = [station for station in stations if station.segment.answering(address, station)]
        return next((station.interface.name for station in (*answered, *stations)), "")

    def network_at(self, stack: Stack, address: object, interface: str | Column) -> Network | None:
        """Return the network that one of a sandbox's own addresses belongs to, where packets came in by an interface.

        Only a link-local one has to be that interface's.
        """
        if not isinstance(address, int):
            return None
        near = is_link_local(address)
        for index in stack.reached_at.get(address, ()):
            station = self.station(stack, index)
            if (
                station is not None
                and station.network is not None
                and (not near or station.interface.name == interface)
            ):
                return station.network
        return None

    def _join(self, place: Place | None, stack: Stack, interface: Interface, network: Network | None) -> None:
        if place is not None:
            station = Station(stack, interface, place.segment, place.port, network)
            place.segment.stations.append(station)
            self._station[stack.name, interface.index] = station

    def _network(self, sandbox: Sandbox, interface: Interface) -> Network | None:
        """Return the network whose endpoint an interface is, by an address that both have."""
        own = {address.ip for address in interface.addresses}
        for endpoint in sandbox.endpoints:
            if own & {endpoint.ipv4, endpoint.ipv6}:
                return self.snapshot.networks[endpoint.network_id]
        return None

    def _overlay(self, interface: Interface) -> Network | None:
        """Return the overlay network that an interface of a namespace which is no container's is on, by its addresses.

        In such namespaces, `ingress_sbox` and one for each network, swarm shares out what comes for its services.
        """
        for network in self.snapshot.networks.values():
            if network.driver == "overlay" and any(
                pool.subnet.version == own.version and own.ip in pool.subnet
                for pool in network.pools
                for own in interface.addresses
            ):
                return network
        return None
