"""Paths by way of the host: its addresses, the ports published on them, and containers in host mode behind them.

A packet to a port that is published on a host address is either rewritten (DNAT) before it is routed, and then has to
pass the FORWARD chain to the container's bridge; or it is delivered to the host, where docker-proxy accepts it and
speaks to the container as the host, whom the engine's rules never stop.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property, partial
from ipaddress import ip_address
from typing import TYPE_CHECKING

from exporter.evaluate.declared.behaviour import (
    GATEWAY_PER_FAMILY,
    LINK_LOCAL_PROXIED,
    NO_INTER_NETWORK_DROP,
    Settings,
)
from exporter.evaluate.declared.layer2 import openness
from exporter.evaluate.declared.topology import FAMILIES, Opening, Topology, bridge_gateway, has_router
from exporter.model.ports import ALL_PORTS, NO_PORTS, PortSet
from exporter.model.reach import HOST, Path, Protocol, Via
from exporter.model.snapshot import GATEWAY_BRIDGE, ExposedPort, GatewayMode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from exporter.model.addresses import Address
    from exporter.model.snapshot import Network, PublishedPort, Sandbox

ANY = {4: ip_address("0.0.0.0"), 6: ip_address("::")}  # noqa: S104  compared with, never bound

_ROOTLESS = "rootless: published ports are on the machine's own addresses, which this API does not show"


@dataclass(frozen=True, eq=False)
class HostAddresses:
    """Some of the host's addresses of one family. Made once and shared, so that it can be a key by identity."""

    addresses: tuple[Address, ...]

    @cached_property
    def texts(self) -> tuple[str, ...]:
        """The addresses as text."""
        return tuple(map(str, self.addresses))

    def bound(self, port: PublishedPort) -> tuple[str, ...]:
        """Return those that a port is published on, as text."""
        if not self.addresses or port.host_ip.version != self.addresses[0].version:
            return ()
        if port.host_ip.is_unspecified:
            return self.texts
        return (str(port.host_ip),) if port.host_ip in self.addresses else ()


@dataclass(frozen=True, slots=True)
class Approach:
    """How packets come to some of the host's addresses: by which bridge, None for a source in the host itself."""

    ingress: Network | None
    family: int
    host: HostAddresses


@dataclass(frozen=True, slots=True)
class Publication:
    """A published port and the network of the address that it leads to.

    `same_family` is False where only docker-proxy can lead there: from IPv6 to a container's IPv4 address.
    """

    sandbox: Sandbox
    port: PublishedPort
    network: Network
    same_family: bool


class PublishedPorts:
    """The published ports of a snapshot. What holds for every bridge but the container's own is computed once."""

    def __init__(self, topology: Topology) -> None:
        self._topology = topology
        self._by_network: dict[str, list[Publication]] = defaultdict(list)
        for publication in publications(topology):
            self._by_network[publication.network.id].append(publication)
        self._all = [item for publications in self._by_network.values() for item in publications]
        sandboxes = topology.snapshot.sandboxes.values()
        held = [port for sandbox in sandboxes for port in sandbox.published]
        self._taken = {protocol: _Taken(held, protocol) for protocol in (Protocol.TCP, Protocol.UDP)}
        networks = topology.snapshot.networks.values()
        masqueraded = (
            bridge_gateway(item, family) for item in networks for family in FAMILIES if is_masqueraded(item, family)
        )
        self._masqueraded = frozenset(str(address) for address in masqueraded if address is not None)
        self._cache: dict[object, Mapping[str, tuple[Path, ...]]] = {}

    def reached(self, approach: Approach, openings: tuple[Opening, ...]) -> Mapping[str, tuple[Path, ...]]:
        """Return the paths by destination sandbox; `openings` are those of the source's links."""
        elsewhere = self._elsewhere(approach)
        own = self._by_network.get(approach.ingress.id, []) if approach.ingress else []
        if not own:
            return elsewhere
        neighbours = {item.sandbox.id for item in own}
        return {sandbox: paths for sandbox, paths in elsewhere.items() if sandbox not in neighbours} | self._paths(
            approach, own, partial(self._delivers_to_neighbour, approach, openings), openings
        )

    def nearby(self, ingress: Network) -> Mapping[str, tuple[Path, ...]]:
        """Return what the host's link-local address on a bridge leads to and its others there do not, by destination.

        docker-proxy takes such packets where the engine does not rewrite them. That address is not in the API.
        """
        if self._topology.behaviour.version < LINK_LOCAL_PROXIED or bridge_gateway(ingress, 6) is None:
            return {}
        kind = (ingress.internal, ingress.masquerade, ingress.gateway_mode(6))
        key = ("nearby", kind)
        if key not in self._cache:
            approach = Approach(ingress, 6, HostAddresses((ANY[6],)))
            ports: dict[str, dict[tuple[str, Protocol, str], PortSet]] = defaultdict(dict)
            for item in self._all:
                undecided = self._topology.behaviour.decide(lambda settings: settings.userland_proxy)
                afar = self._topology.behaviour.decide(partial(self._delivers_elsewhere, approach, item)) != ""
                if item.port.host_ip == ANY[6] and undecided is not None and afar:
                    group, way = ports[item.sandbox.id], (item.network.name, item.port.protocol, undecided)
                    group[way] = group.get(way, NO_PORTS) | PortSet.of(item.port.host_port)
            self._cache[key] = {
                sandbox: tuple(
                    Path(Via.PUBLISHED_PORT, network, protocol, (), found, undecided)
                    for (network, protocol, undecided), found in group.items()
                )
                for sandbox, group in ports.items()
            }
        return self._cache[key]

    def _elsewhere(self, approach: Approach) -> Mapping[str, tuple[Path, ...]]:
        """Return what holds for containers that are not on the bridge of the approach."""
        ingress = approach.ingress
        kind = ingress and (ingress.internal, ingress.masquerade, ingress.gateway_mode(approach.family))
        key = (kind, approach.host)
        if key not in self._cache:
            delivers = partial(self._delivers_elsewhere, approach)
            self._cache[key] = self._paths(approach, self._all, delivers) | self._host_mode(approach)
        return self._cache[key]

    def _paths(
        self,
        approach: Approach,
        publications: Sequence[Publication],
        delivers: Callable[[Publication, Settings], bool],
        openings: tuple[Opening, ...] = (),
    ) -> dict[str, tuple[Path, ...]]:
        ports: dict[str, dict[tuple[str, Protocol, tuple[str, ...], str], PortSet]] = defaultdict(dict)
        for item in publications:
            doubt = _opened(approach, item, openings)
            for addresses, undecided in self._outcomes(approach, item, partial(delivers, item), doubt):
                group = ports[item.sandbox.id]
                key = (item.network.name, item.port.protocol, addresses, undecided)
                group[key] = group.get(key, NO_PORTS) | PortSet.of(item.port.host_port)
        return {
            sandbox: tuple(
                Path(Via.PUBLISHED_PORT, network, protocol, addresses, found, undecided)
                for (network, protocol, addresses, undecided), found in group.items()
            )
            for sandbox, group in ports.items()
        }

    def _outcomes(
        self, approach: Approach, item: Publication, delivers: Callable[[Settings], bool], doubt: str | None
    ) -> Iterator[tuple[tuple[str, ...], str]]:
        """Yield the addresses of the approach that lead to a published port, with what must be known for it.

        `doubt` is what must be known where nothing else leads there.
        """
        bound = approach.host.bound(item.port)
        afar = self._unanswered(approach, item, bound)
        near = tuple(address for address in bound if address not in afar) if afar else bound
        for addresses, holds in ((near, delivers), (afar, partial(self._delivers_afar, approach, item))):
            if not addresses:
                continue
            decided = self._topology.behaviour.decide(holds)
            undecided = doubt or None if decided is None else decided
            if undecided is not None and self._topology.behaviour.rootless and approach.ingress is not None:
                yield (), _ROOTLESS
            elif undecided is not None:
                yield addresses, undecided

    def _unanswered(self, approach: Approach, item: Publication, bound: tuple[str, ...]) -> tuple[str, ...]:
        """Return the host's addresses to which the answers of a container behind a router do not find back.

        What the host sends to an address of its own comes from that address, also when it is rewritten, and is
        masqueraded as if a container of the address's bridge had sent it.
        """
        family = approach.family
        if approach.ingress is not None or item.port.protocol is Protocol.UDP or not has_router(item.network, family):
            return ()
        foreign = (ip_address(text) for text in bound if text not in self._masqueraded)
        return tuple(str(address) for address in foreign if not self._topology.on_link(item.sandbox, address))

    def _delivers_afar(self, approach: Approach, item: Publication, settings: Settings) -> bool:
        """Return whether the answer to the host's own packet comes back from a container behind a router.

        It does where docker-proxy speaks to the container, and where the engine masquerades what the host sends into
        the bridge, which it does for want of docker-proxy.
        """
        return self._proxied_only(approach, item, settings) == settings.userland_proxy

    def _delivers_elsewhere(self, approach: Approach, item: Publication, settings: Settings) -> bool:
        """Return whether a packet from the host or from another bridge arrives."""
        if self._proxied_only(approach, item, settings):
            return settings.userland_proxy
        if approach.ingress is None:
            inside = approach.family == 6 and all(address.is_loopback for address in approach.host.addresses)
            return settings.userland_proxy or not inside
        return _crosses(self._topology, approach.ingress, item, settings)

    def _delivers_to_neighbour(
        self, approach: Approach, openings: tuple[Opening, ...], item: Publication, settings: Settings
    ) -> bool:
        """Return whether a packet from the container's own bridge arrives.

        docker-proxy takes it (rewriting is for `! -i bridge` then), or it is rewritten and has to pass as any other
        packet between members of the bridge.
        """
        if settings.userland_proxy or self._proxied_only(approach, item, settings):
            return settings.userland_proxy
        if not self._topology.behaviour.forwards(approach.family, settings):
            return False
        if item.port.protocol is not Protocol.UDP and self._topology.bridge_netfilter(approach.family) is False:
            # the answer stays on the bridge, where nothing gives it back the address that was asked
            return False
        linked = _opened(approach, item, openings) == ""
        return linked or self._icc_open(item.network, approach.family, settings)

    def _proxied_only(self, approach: Approach, item: Publication, settings: Settings) -> bool:
        """Return whether the engine writes no rule for the port, so that docker-proxy alone leads there."""
        return not item.same_family or not self._topology.behaviour.filters(approach.family, settings)

    def _icc_open(self, network: Network, family: int, settings: Settings) -> bool:
        reason = openness(self._topology, network, family)
        return reason == "" or (reason is not None and not self._topology.behaviour.filters(family, settings))

    def _host_mode(self, approach: Approach) -> dict[str, tuple[Path, ...]]:
        if approach.ingress is None or not self._topology.snapshot.sandboxes[HOST].members:
            return {}
        return {HOST: self.host_paths(approach, Via.HOST)}

    def host_paths(self, approach: Approach, via: Via) -> tuple[Path, ...]:
        """Return the paths to containers in host mode: the host's ports that the engine does not hold for another."""
        groups: dict[tuple[Protocol, PortSet], list[str]] = defaultdict(list)
        for address in approach.host.addresses:
            for protocol, taken in self._taken.items():
                groups[protocol, ALL_PORTS - taken.on(address)].append(str(address))
            groups[Protocol.ICMP, NO_PORTS].append(str(address))
        return tuple(
            Path(via, None, protocol, tuple(addresses), ports) for (protocol, ports), addresses in groups.items()
        )


class _Taken:
    """The host's ports of one protocol that the engine holds for containers."""

    def __init__(self, held: Sequence[PublishedPort], protocol: Protocol) -> None:
        ports: dict[Address, list[int]] = defaultdict(list)
        for port in held:
            if port.protocol is protocol:
                ports[port.host_ip].append(port.host_port)
        self._bound = {address: PortSet.of(*numbers) for address, numbers in ports.items()}

    def on(self, address: Address) -> PortSet:
        """Return the ports held on an address."""
        return self._bound.get(address, NO_PORTS) | self._bound.get(ANY[address.version], NO_PORTS)


def publications(topology: Topology) -> Iterator[Publication]:
    """Yield every published port that leads anywhere: to the endpoint that gives the container its default route."""
    for sandbox in topology.snapshot.sandboxes.values():
        for port in sandbox.published:
            family = port.host_ip.version
            network = _published_network(topology, sandbox, family)
            if network is None:
                continue
            hidden = network.name == GATEWAY_BRIDGE and family == 4
            same_family = hidden or topology.address_on(sandbox, network, family) is not None
            if bridge_gateway(network, family if same_family else 10 - family) is not None:
                yield Publication(sandbox, port, network, same_family)


def _published_network(topology: Topology, sandbox: Sandbox, family: int) -> Network | None:
    """Return the network that a port of a family is published for: since 28.0 each family may have its own."""
    per_family = topology.behaviour.version >= GATEWAY_PER_FAMILY
    own = topology.gateway(sandbox, family) if per_family else None
    return own or topology.gateway(sandbox, 4) or topology.gateway(sandbox, 6)


def _opened(approach: Approach, item: Publication, openings: tuple[Opening, ...]) -> str | None:
    """Return why a link may not open the port that a publication leads to (`""`: it does), None where none does."""
    wanted = ExposedPort(item.port.container_port, item.port.protocol)
    found = [opening for opening in openings if opening.child == item.sandbox.id and wanted in opening.ports]
    if not found or approach.family != 4 or not item.network.default:
        return None
    return min(opening.undecided for opening in found)


def answers_pass(ingress: Network, family: int) -> bool:
    """Return whether answers reach a container of `ingress` that come by another bridge (28.2 and later).

    They do where they are addressed to the host, which masqueraded the question, and where the raw table does not
    protect the network's containers.
    """
    return ingress.masquerade or not is_protected(ingress, family)


def is_protected(network: Network, family: int) -> bool:
    """Return whether the raw table drops what comes to a network's containers by another bridge (28.2 and later)."""
    return network.gateway_mode(family) is GatewayMode.NAT and not network.internal


def is_masqueraded(ingress: Network, family: int) -> bool:
    """Return whether what comes from a bridge leaves the host by another one with the host's address."""
    return ingress.masquerade and not ingress.internal and ingress.gateway_mode(family) is not GatewayMode.ROUTED


def _crosses(topology: Topology, ingress: Network, item: Publication, settings: Settings) -> bool:
    """Return whether a packet from another bridge arrives, and for TCP the answer to it.

    Since 29.0 it is rewritten and accepted, but for `--internal` sources with iptables, whose egress drop comes first
    (with nftables the destination's accept does). Its answer comes back by the destination's bridge: unless the source
    was masqueraded, the raw table drops it as direct access to the source's container, or it goes to a router. Before
    29.0 inter-network isolation dropped what was rewritten, and only masqueraded bridges with docker-proxy were spared
    the rewriting (`-t nat -I DOCKER -i bridge -j RETURN`).
    """
    behaviour = topology.behaviour
    if behaviour.version < NO_INTER_NETWORK_DROP:
        return settings.userland_proxy and ingress.masquerade and not ingress.internal
    family = item.port.host_ip.version
    if not behaviour.forwards(family, settings) or (ingress.internal and not behaviour.nftables):
        return False
    comes_back = is_masqueraded(ingress, family) or not has_router(item.network, family)
    answered = answers_pass(ingress, family) or item.network.interface in ingress.trusted_host_interfaces
    return item.port.protocol is Protocol.UDP or (comes_back and answered)
