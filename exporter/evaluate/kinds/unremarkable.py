"""Namespaces of sandboxes that are as the engine made them: what was read there says no more than its API.

They need not be looked at one by one: the evaluator makes such a namespace from what the API tells (`StandIns`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter.evaluate.enforced.meeting import met, named_by_translations, possible
from exporter.evaluate.enforced.routing import usual_policy
from exporter.evaluate.enforced.stand_ins import StandIns
from exporter.evaluate.enforced.world import PASSING
from exporter.evaluate.kinds.kept import Kept
from exporter.model.namespace import RouteKind, Scope
from exporter.model.report import HOST

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator, Mapping

    from exporter.evaluate.enforced.meeting import Possible
    from exporter.model.namespace import Interface, Namespace, OwnAddress, Route
    from exporter.model.snapshot import Endpoint, Kernel, Sandbox, Snapshot

_COME_WITH_ADDRESSES = (RouteKind.BROADCAST, RouteKind.ANYCAST, RouteKind.MULTICAST)
_LOOPBACK = 127
_SWITCHES = (
    "arp_ignore", "arp_filter", "proxy_arp", "proxy_arp_pvlan", "proxy_ndp", "accept_local", "route_localnet",
)  # fmt: skip


def unremarkable(snapshot: Snapshot, kernel: Kernel, memory: Kept[bool] | None = None) -> frozenset[str]:
    """Return the sandboxes whose namespace is as the engine made it, to the last route; rules nobody meets aside."""
    if not kernel.sandboxes:
        return frozenset()
    known = Kept[bool]() if memory is None else memory
    known.turn(snapshot)
    seen = _Seen(snapshot, kernel, known)
    return frozenset(name for name in kernel.sandboxes if name != HOST and seen.usual(snapshot.sandboxes[name]))


class _Seen:
    def __init__(self, snapshot: Snapshot, kernel: Kernel, memory: Kept[bool]) -> None:
        self._snapshot = snapshot
        self._memory = memory
        self._kernel = kernel
        self._stand_ins = StandIns(snapshot)
        everyone = (kernel.host, *kernel.sandboxes.values())
        bound = (int(listener.address) for listener in kernel.host.listeners)
        self._possible: Possible = possible(
            {*_addresses(snapshot, everyone), *bound, *_asked_about(everyone)},
            (namespace.firewall for namespace in everyone),
        )
        self._routers = {
            int(hop.gateway)
            for namespace in everyone
            for route in namespace.routes
            for hop in route.hops
            if hop.gateway is not None
        }
        self._named = {address for own in everyone for address in neighbours_set(own)}
        self._link_addresses = {each.mac for own in everyone for each in own.neighbours}
        self._bridges = {interface.name: interface.index for interface in kernel.host.interfaces.values()}

    def usual(self, sandbox: Sandbox) -> bool:
        namespace = self._kernel.sandboxes[sandbox.id]
        return (
            len(sandbox.members) == 1
            and not namespace.programs
            and self._plugged(sandbox, namespace)
            and self._routed(sandbox, namespace)
            and self._found_by_asking(sandbox, namespace)
            and _switched(sandbox, namespace)
            and self._filters_nothing(namespace)
        )

    def _plugged(self, sandbox: Sandbox, namespace: Namespace) -> bool:
        """Return whether each interface is the end of a cable to a usual port of its network's bridge."""
        cards = [interface for interface in namespace.interfaces.values() if interface.name != "lo"]
        ends = {frozenset(_of_endpoint(endpoint)): endpoint for endpoint in sandbox.endpoints}
        if len(cards) != len(ends) or len(ends) != len(sandbox.endpoints):
            return False
        for card in cards:
            endpoint = ends.get(frozenset(int(item.ip) for item in card.addresses if not _comes_by_itself(item)))
            usual = all(item.scope == Scope.GLOBAL for item in card.addresses)
            if endpoint is None or not usual or not self._on_bridge(card, endpoint):
                return False
        loopback = next((each for each in namespace.interfaces.values() if each.name == "lo"), None)
        return loopback is not None and all(item.ip.is_loopback for item in loopback.addresses)

    def _on_bridge(self, card: Interface, endpoint: Endpoint) -> bool:
        network = self._snapshot.networks[endpoint.network_id]
        end = self._kernel.host.interfaces.get(card.peer) if card.peer is not None else None
        return (
            network.driver == "bridge"
            and card.up
            and card.arp
            and not card.programs
            and end is not None
            and end.up
            and not end.programs
            and (card.kind, end.kind, end.peer) == ("veth", "veth", card.index)
            and end.master == self._bridges.get(network.interface)
            and end.port in PASSING
            and all(address.is_link_local for address in end.addresses)
        )

    def _routed(self, sandbox: Sandbox, namespace: Namespace) -> bool:
        """Return whether routes are those of a stand-in, and nobody takes the sandbox for a router."""
        own = (address for endpoint in sandbox.endpoints for address in _of_endpoint(endpoint))
        made = self._memory(sandbox.id, (sandbox, namespace), lambda: self._as_made(sandbox, namespace))
        return made and self._routers.isdisjoint(own)

    def _as_made(self, sandbox: Sandbox, namespace: Namespace) -> bool:
        return usual_policy(namespace) and _routes(namespace) == _routes(self._stand_ins.namespace(sandbox))

    def _found_by_asking(self, sandbox: Sandbox, namespace: Namespace) -> bool:
        """Return whether no link address is fixed, inside or for the sandbox, and nobody answers in its place."""
        own = {address for endpoint in sandbox.endpoints for address in _of_endpoint(endpoint)}
        macs = {interface.mac for interface in namespace.interfaces.values() if interface.name != "lo"}
        return not (namespace.neighbours or namespace.proxied or own & self._named or macs & self._link_addresses)

    def _filters_nothing(self, namespace: Namespace) -> bool:
        if not namespace.firewall.tables:
            return True
        chains = (chain for table in met(namespace.firewall, self._possible).tables for chain in table.chains.values())
        return all(chain.base is None or (not chain.rules and chain.base.policy.value == "accept") for chain in chains)


def neighbours_set(namespace: Namespace) -> Iterator[int]:
    """Yield the addresses whose link address somebody fixed in a namespace, or which it answers for."""
    yield from (int(each.address) for each in namespace.neighbours)
    yield from (int(each.address) for each in namespace.proxied)


def _of_endpoint(endpoint: Endpoint) -> Iterator[int]:
    return (int(address) for address in (endpoint.ipv4, endpoint.ipv6) if address is not None)


def _asked_about(everyone: Iterable[Namespace]) -> Iterator[int]:
    """Yield addresses that packets are sent to for a translation, but for those of Docker's resolver."""
    for namespace in everyone:
        yield from (own for own in named_by_translations(namespace.firewall) if own >> 24 != _LOOPBACK)


def _addresses(snapshot: Snapshot, everyone: Iterable[Namespace]) -> Iterator[int]:
    for sandbox in snapshot.sandboxes.values():
        yield from sandbox.addresses
    for namespace in everyone:
        for interface in namespace.interfaces.values():
            yield from (int(address.ip) for address in interface.addresses)


def _switched(sandbox: Sandbox, namespace: Namespace) -> bool:
    """Return whether sysctls are those that matter to nobody; a reverse path filter, where all ways are one."""
    everywhere = any(route.destination.version == 4 and not route.destination.prefixlen for route in namespace.routes)
    choosing = () if everywhere and len(sandbox.endpoints) == 1 else ("rp_filter",)
    return not any(
        value != "0" and path.rpartition("/")[2] in (*_SWITCHES, *choosing)
        for path, value in namespace.settings.items()
    )


def _routes(namespace: Namespace) -> frozenset[Hashable]:
    """Return the routes that lead somewhere, by the addresses of their interfaces, and what else they send from."""
    names: Mapping[int, frozenset[int]] = {
        index: frozenset(int(item.ip) for item in interface.addresses if not _comes_by_itself(item))
        for index, interface in namespace.interfaces.items()
    }
    return frozenset(
        (
            route.table,
            route.kind,
            route.destination,
            tuple((names.get(hop.interface), hop.gateway) for hop in route.hops),
            None if any(_names_own(route, names.get(hop.interface)) for hop in route.hops) else route.source,
        )
        for route in namespace.routes
        if _leads(route)
    )


def _names_own(route: Route, own: frozenset[int] | None) -> bool:
    return route.source is not None and own is not None and int(route.source) in own


def _comes_by_itself(address: OwnAddress) -> bool:
    """Return whether the kernel gives such addresses, for which packets are never sent beyond the link."""
    return address.version == 6 and address.is_link_local


def _leads(route: Route) -> bool:
    destination = route.destination
    automatic = destination.is_loopback or destination.is_link_local or destination.is_multicast
    return not automatic and route.kind not in _COME_WITH_ADDRESSES
