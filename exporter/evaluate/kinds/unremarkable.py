"""Namespaces of sandboxes that are as the engine made them: what was read there says no more than its API.

They need not be looked at one by one: the evaluator makes such a namespace from what the API tells (`StandIns`).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property, partial
from ipaddress import ip_network
from itertools import chain as joined
from typing import TYPE_CHECKING

from exporter.evaluate.enforced.expiry import expiry
from exporter.evaluate.enforced.hops import sends_near
from exporter.evaluate.enforced.meeting import asked, leads, named_by_translations, possible
from exporter.evaluate.enforced.picking import USUAL, picked_ports
from exporter.evaluate.enforced.policy_rules import usual_policy
from exporter.evaluate.enforced.ports import told_bridges
from exporter.evaluate.enforced.segments import PASSING
from exporter.evaluate.enforced.stand_ins import StandIns
from exporter.model.addresses import bounds
from exporter.model.firewall import Verdict
from exporter.model.namespace import RouteKind, Scope
from exporter.model.reach import HOST

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator, Mapping

    from exporter.evaluate.enforced.meeting import Lead
    from exporter.evaluate.kinds.kept import Kept
    from exporter.evaluate.kinds.told import Told
    from exporter.model.addresses import Address
    from exporter.model.firewall import Chain, Firewall
    from exporter.model.namespace import Interface, Namespace, OwnAddress, Route
    from exporter.model.ranges import Ranges
    from exporter.model.snapshot import Endpoint, Kernel, Sandbox, Snapshot

_COME_WITH_ADDRESSES = (RouteKind.BROADCAST, RouteKind.MULTICAST)
_AUTOMATIC = {
    version: tuple(map(bounds, map(ip_network, prefixes)))
    for version, prefixes in ((4, ("127.0.0.0/8", "224.0.0.0/4")), (6, ("::1", "ff00::/8")))
}
"""Loopback, and groups."""
_LOOPBACK = 127
_SWITCHES = (
    "arp_ignore", "arp_filter", "proxy_arp", "proxy_arp_pvlan", "proxy_ndp", "accept_local", "route_localnet",
)  # fmt: skip
_RP_FILTER = "rp_filter"


@dataclass(frozen=True, slots=True)
class Own:
    """What a namespace says by itself, whatever others are.

    `cards` are its interfaces, each on a network by its id, where all that can be told from inside is as the engine
    makes it; else None. `filtered` are the sets of addresses that its rules are for, rule by rule, in that case.
    `asked` are those that packets are sent to for a translation, `leads` where these lead to, `routers` those that its
    routes lead by, `fixed` those whose link address somebody fixed, or which it answers for; `macs` are the
    interfaces' own link addresses, `link_addresses` those that were fixed, `near` the link-local ones of IPv6.
    """

    cards: tuple[tuple[Interface, str], ...] | None
    filtered: frozenset[tuple[Ranges, ...]]
    asked: tuple[int, ...]
    leads: frozenset[Lead]
    routers: tuple[int, ...]
    fixed: tuple[int, ...]
    link_addresses: tuple[str, ...]
    macs: tuple[str, ...]
    near: tuple[int, ...]


def unremarkable(
    snapshot: Snapshot, kernel: Kernel, told: Mapping[str, Told], memory: Kept[Own], strangers: Iterable[int]
) -> frozenset[str]:
    """Return the sandboxes whose namespace is as the engine made it, to the last route; rules nobody meets aside.

    `told` is what all namespaces tell; `strangers` are addresses of nobody that packets are sent to.
    """
    if not kernel.sandboxes:
        return frozenset()
    memory.turn(snapshot)
    seen = _Seen(snapshot, kernel, told, memory, strangers)
    return frozenset(name for name in kernel.sandboxes if name != HOST and seen.usual(snapshot.sandboxes[name]))


class _Seen:
    def __init__(
        self,
        snapshot: Snapshot,
        kernel: Kernel,
        told: Mapping[str, Told],
        memory: Kept[Own],
        strangers: Iterable[int],
    ) -> None:
        self._kernel = kernel
        inside = _Inside(snapshot)
        ends = {name: (snapshot.sandboxes[name], told[name], each) for name, each in kernel.sandboxes.items()}
        self._own = {name: memory(name, each, partial(inside.own, *each)) for name, each in ends.items()}
        host = _own(kernel.host, None)
        everyone = (host, *self._own.values())
        possibly = {*joined.from_iterable(sandbox.addresses for sandbox in snapshot.sandboxes.values()), *strangers}
        possibly.update(int(listener.address) for listener in kernel.host.listeners)
        for each in told.values():
            possibly.update(each.addresses)
            possibly.update(low for low, _ in each.taken)
        possibly.update(*(own.asked for own in everyone))
        self._possible = possible(possibly, host.leads.union(*(own.leads for own in everyone)))
        self._met: dict[frozenset[tuple[Ranges, ...]], bool] = {}
        self._special = set(joined.from_iterable((*own.routers, *own.fixed) for own in everyone))
        held = Counter(joined.from_iterable(own.near for own in self._own.values()))
        self._special.update(address for address, count in held.items() if count > 1)
        self._link_addresses = set(joined.from_iterable(own.link_addresses for own in everyone))
        counted = Counter(joined.from_iterable(own.macs for own in self._own.values()))
        counted.update(_told_outside(kernel))
        counted.update(set(taken_by_bridges(kernel.host)))
        self._link_addresses.update(mac for mac, count in counted.items() if count > 1)
        self._told_bridges = told_bridges(kernel.host)
        indexes = {interface.name: interface.index for interface in kernel.host.interfaces.values()}
        self._bridges = {network.id: indexes.get(network.interface) for network in snapshot.networks.values()}

    def usual(self, sandbox: Sandbox) -> bool:
        """Return whether a sandbox's namespace is usual, and nobody has anything to do with it of all others."""
        cards = self._own[sandbox.id].cards
        return (
            cards is not None
            and all(self._on_bridge(card, network) for card, network in cards)
            and self._special.isdisjoint(sandbox.addresses)
            and self._special.isdisjoint(self._own[sandbox.id].near)
            and self._link_addresses.isdisjoint(card.mac for card, _ in cards)
            and not self._meets(self._own[sandbox.id].filtered)
        )

    def _on_bridge(self, card: Interface, network: str) -> bool:
        """Return whether an interface is the end of a cable to a usual port of its network's bridge."""
        end = self._kernel.host.interfaces.get(card.peer) if card.peer is not None else None
        return (
            end is not None
            and end.up
            and not end.programs
            and (end.kind, end.peer) == ("veth", card.index)
            and end.master == self._bridges.get(network)
            and end.port in PASSING
            and end.master not in self._told_bridges
            and all(address.is_link_local for address in end.addresses)
        )

    def _meets(self, filtered: frozenset[tuple[Ranges, ...]]) -> bool:
        """Return whether packets may come to the end of one of some rules; most namespaces have the same."""
        met = self._met.get(filtered)
        if met is None:
            met = self._met[filtered] = any(all(map(self._possible.meets, asked)) for asked in filtered)
        return met


class _Inside:
    """Looks into namespaces, at nothing else."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._made: dict[Hashable, frozenset[Hashable]] = {}
        self._on: dict[int, frozenset[str]] = {}

    @cached_property
    def _stand_ins(self) -> StandIns:
        return StandIns(self._snapshot)

    def own(self, sandbox: Sandbox, told: Told, namespace: Namespace) -> Own:
        """Return what a namespace says by itself."""
        made = (
            sandbox.id != HOST
            and len(sandbox.members) == 1
            and not (namespace.programs or namespace.neighbours or namespace.proxied)
            and not told.redirects
            and self._switched(sandbox, namespace)
            and usual_policy(namespace)
            and all(chain.base.policy is Verdict.ACCEPT for chain in _bases(namespace.firewall) if chain.base)
            and self._routed_as_made(sandbox, namespace)
        )
        return _own(namespace, self._plugged(sandbox, namespace) if made else None)

    def _switched(self, sandbox: Sandbox, namespace: Namespace) -> bool:
        """Return whether sysctls are those that matter to nobody; a reverse path filter, where all ways are one."""
        on = self._switches_on(namespace.settings)
        return (
            on.isdisjoint(_SWITCHES)
            and (_RP_FILTER not in on or _one_way(sandbox, namespace))
            and not any(sends_near(namespace, family) for family in (4, 6))
            and not expiry(namespace).unusual
            and picked_ports(namespace) == USUAL
        )

    def _switches_on(self, settings: Mapping[str, str]) -> frozenset[str]:
        """Return the names of those that are not 0 anywhere: one object tells that for most namespaces."""
        on = self._on.get(id(settings))
        if on is None:
            told = (path.rpartition("/")[2] for path, value in settings.items() if value != "0")
            on = self._on[id(settings)] = frozenset(told)
        return on

    def _routed_as_made(self, sandbox: Sandbox, namespace: Namespace) -> bool:
        """Return whether a namespace has the routes that the engine makes, which are alike for all on a network."""
        likeness = self._stand_ins.likeness(sandbox)
        made = self._made.get(likeness)
        if made is None:
            made = self._made[likeness] = _routes(sandbox, self._stand_ins.namespace(sandbox))
        return _routes(sandbox, namespace) == made

    def _plugged(self, sandbox: Sandbox, namespace: Namespace) -> tuple[tuple[Interface, str], ...] | None:
        """Return the interfaces with their networks, if each is the end of a cable with an endpoint's addresses."""
        cards = [interface for interface in namespace.interfaces.values() if interface.name != "lo"]
        ends = {
            frozenset(int(address) for address in _of_card(endpoint) if address is not None): endpoint.network_id
            for endpoint in sandbox.endpoints
        }
        loopback = next((each for each in namespace.interfaces.values() if each.name == "lo"), None)
        if loopback is None or not (loopback.up and all(item.ip.is_loopback for item in loopback.addresses)):
            return None
        if len(cards) != len(ends) or len(ends) != len(sandbox.endpoints):
            return None
        found = []
        for card in cards:
            network = ends.get(frozenset(int(item.ip) for item in card.addresses))
            if network is None or not self._usual(card, network):
                return None
            found.append((card, network))
        return tuple(found)

    def _usual(self, card: Interface, network: str) -> bool:
        return (
            self._snapshot.networks[network].driver == "bridge"
            and card.up
            and card.arp
            and not card.programs
            and card.kind == "veth"
            and all(item.scope == Scope.GLOBAL and not item.deprecated for item in card.addresses)
        )


def taken_by_bridges(host: Namespace) -> Iterator[str]:
    """Yield the link addresses of bridges and their ports: frames for these are the host's."""
    yield from (each.mac for each in host.interfaces.values() if each.kind == "bridge" or each.master is not None)


def _told_outside(kernel: Kernel) -> Iterator[str]:
    """Yield the link addresses at the other ends of the host's cables of interfaces that were not read."""
    read = {card.peer for each in kernel.sandboxes.values() for card in each.interfaces.values()}
    yield from (end.peer_mac for end in kernel.host.interfaces.values() if end.peer_mac and end.index not in read)


def _own(namespace: Namespace, cards: tuple[tuple[Interface, str], ...] | None) -> Own:
    rules = (rule for chain in _bases(namespace.firewall) for rule in chain.rules)
    return Own(
        cards,
        frozenset(tuple(asked(rule)) for rule in rules) if cards is not None else frozenset(),
        # but for those of Docker's resolver
        tuple(each for each in named_by_translations(namespace.firewall) if each >> 24 != _LOOPBACK),
        frozenset(leads(namespace.firewall)),
        tuple(int(hop.gateway) for route in namespace.routes for hop in route.hops if hop.gateway is not None),
        tuple(neighbours_set(namespace)),
        tuple(each.mac for each in namespace.neighbours),
        tuple(each.mac for each in namespace.interfaces.values() if each.kind == "veth"),
        tuple(
            int(item.ip)
            for interface in namespace.interfaces.values()
            for item in interface.addresses
            if item.is_link_local
        ),
    )


def _bases(firewall: Firewall) -> Iterator[Chain]:
    """Yield the chains that packets come to by themselves."""
    chains = (chain for table in firewall.tables for chain in table.chains.values())
    return (chain for chain in chains if chain.base is not None)


def neighbours_set(namespace: Namespace) -> Iterator[int]:
    """Yield the addresses whose link address somebody fixed in a namespace, or which it answers for."""
    yield from (int(each.address) for each in namespace.neighbours)
    yield from (int(each.address) for each in namespace.proxied)


def _of_card(endpoint: Endpoint) -> tuple[Address | None, ...]:
    """Return the addresses of an endpoint's interface: the kernel gives it a link-local one where it has IPv6."""
    return endpoint.ipv4, endpoint.ipv6, endpoint.link_local


def _one_way(sandbox: Sandbox, namespace: Namespace) -> bool:
    """Return whether all packets of IPv4 come by the interface that answers to them leave by."""
    routes = namespace.routes
    everywhere = any(not route.destination.prefixlen and route.destination.version == 4 for route in routes)
    return everywhere and len(sandbox.endpoints) == 1


def _routes(sandbox: Sandbox, namespace: Namespace) -> frozenset[Hashable]:
    """Return the routes that lead somewhere, by the addresses of their interfaces, and what else they send from.

    The sandbox's own addresses go by their places, whatever they are: by negative numbers, which no address has.
    """
    own = joined.from_iterable(map(_of_card, sandbox.endpoints))
    places = {int(address): ~place for place, address in enumerate(own) if address is not None}
    names = {index: _numbers(interface) for index, interface in namespace.interfaces.items()}
    cards = {index: frozenset(places.get(each, each) for each in numbers) for index, numbers in names.items()}
    return frozenset(
        (
            route.table,
            route.kind,
            route.destination.version,
            places.get(low, low) if low == high else low,
            high - low,
            tuple([(cards.get(hop.interface), hop.gateway) for hop in route.hops]),
            None if _names_own(route, names) else route.source,
        )
        for route, low, high in _leading(namespace)
    )


def _leading(namespace: Namespace) -> Iterator[tuple[Route, int, int]]:
    """Yield the routes that do not come with addresses, with the first and the last one that each leads to."""
    for route in namespace.routes:
        if route.kind not in _COME_WITH_ADDRESSES:
            low, high = bounds(route.destination)
            (first, last), (begin, end) = _AUTOMATIC[route.destination.version]
            if not (first <= low <= high <= last or begin <= low <= high <= end):
                yield route, low, high


def _numbers(interface: Interface) -> frozenset[int]:
    return frozenset(int(item.ip) for item in interface.addresses if not _comes_by_itself(item))


def _names_own(route: Route, own: Mapping[int, frozenset[int]]) -> bool:
    """Return whether a route names an address to send from that an interface has by which it leads."""
    source = route.source
    return source is not None and any(int(source) in own.get(hop.interface, ()) for hop in route.hops)


def _comes_by_itself(address: OwnAddress) -> bool:
    """Return whether the kernel gives such addresses, for which packets are never sent beyond the link."""
    return address.version == 6 and address.is_link_local
