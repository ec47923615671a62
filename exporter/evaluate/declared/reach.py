"""All ordered pairs of sandboxes, computed once per class of sources that see the same."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from ipaddress import ip_address
from typing import TYPE_CHECKING

from exporter.evaluate.declared.ingress import service_paths
from exporter.evaluate.declared.layer2 import ALL_PROTOCOLS, foreign_paths, is_foreign, shared_network_paths
from exporter.evaluate.declared.published import Approach, HostAddresses, PublishedPorts
from exporter.evaluate.declared.routed import Entry, routed_paths
from exporter.evaluate.declared.topology import (
    FAMILIES,
    LOOPBACK,
    Attachment,
    Opening,
    Segment,
    Standing,
    Topology,
    bridge_gateway,
)
from exporter.model.reach import HOST, PairVerdict, Path, Reach, Via
from exporter.model.snapshot import GATEWAY_BRIDGE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from exporter.model.addresses import Address
    from exporter.model.snapshot import Network, Sandbox, Snapshot

_ORPHANS = "whether they were left behind in the same namespace: both joined a container that started anew since"

Row = dict[str, PairVerdict]


def declared_reach(snapshot: Snapshot) -> Reach:
    """Return what the engine's configuration promises for every ordered pair of sandboxes."""
    topology = Topology.of(snapshot)
    rows = _Rows(topology)
    classes: dict[Standing, int] = {}
    class_of = {
        sandbox.id: classes.setdefault(topology.standing(sandbox), len(classes))
        for sandbox in snapshot.sandboxes.values()
    }
    found = Reach(class_of, tuple(rows.row(standing) for standing in classes), {})
    within = {
        sandbox.id: PairVerdict(
            rows.in_order((rows.own_paths(sandbox), _by_way_of_the_host(found.row(sandbox.id).get(sandbox.id))))
        )
        for sandbox in snapshot.sandboxes.values()
        if len(sandbox.members) > 1
    }
    return replace(found, within=within)


def _by_way_of_the_host(verdict: PairVerdict | None) -> tuple[Path, ...]:
    """Return the paths by which a sandbox comes back to itself: its own published ports."""
    return tuple(path for path in verdict.paths if path.via is Via.PUBLISHED_PORT) if verdict else ()


class _Rows:
    """Builds rows; what several rows have in common is made once."""

    def __init__(self, topology: Topology) -> None:
        self._topology = topology
        self._published = PublishedPorts(topology)
        self._shared: dict[tuple[str, str, tuple[Segment, ...], tuple[Opening, ...]], tuple[Path, ...]] = {}
        self._destinations: dict[Entry, Sequence[Attachment]] = {}
        self._routed: dict[tuple[Entry, str, str, bool], tuple[Path, ...]] = {}
        self._addresses: dict[tuple[int, frozenset[Address]], HostAddresses] = {}
        self._singles: dict[Address, HostAddresses] = {}
        self._united: dict[tuple[tuple[str, ...], ...], tuple[str, ...]] = {}
        networks = topology.snapshot.networks.values()
        self._foreign = [network for network in networks if is_foreign(network)]
        self._trusted = {name for network in networks for name in network.trusted_host_interfaces}

    def own_paths(self, sandbox: Sandbox) -> tuple[Path, ...]:
        """Return the paths between containers that share a namespace: all of its own addresses."""
        if sandbox.id == HOST:
            known = self._topology.host_addresses
            everywhere = {
                family: HostAddresses((*self._topology.loopbacks[family], *known[family])) for family in FAMILIES
            }
            approaches = (Approach(None, family, addresses) for family, addresses in everywhere.items())
            return tuple(path for item in approaches for path in self._published.host_paths(item, Via.SAME_SANDBOX))
        addresses = tuple(str(address) for address in _own_addresses(self._topology, sandbox))
        undecided = _ORPHANS if sandbox.orphaned else ""
        return tuple(
            Path(Via.SAME_SANDBOX, None, protocol, addresses, ports, undecided)
            for protocol, ports in ALL_PROTOCOLS.items()
        )

    def row(self, standing: Standing) -> Row:
        """Return the verdicts by destination of a source with this standing, blocked ones left out."""
        groups: dict[str, list[tuple[Path, ...]]] = defaultdict(list)
        for destination, found in self._all_paths(standing):
            if found:
                groups[destination].append(found)
        for destination, found in self._nearby(standing):
            more = tuple(_beyond(found, groups.get(destination, ())))
            if more:
                groups[destination].append(more)
        return {destination: PairVerdict(self.in_order(found)) for destination, found in groups.items()}

    def in_order(self, groups: Sequence[tuple[Path, ...]]) -> tuple[Path, ...]:
        """Return the paths of a pair in their order; those that differ in nothing but addresses are one."""
        paths = [path for group in groups for path in group]
        if len(groups) > 1:
            alike: dict[Path, list[Path]] = defaultdict(list)
            for path in paths:
                alike[replace(path, addresses=())].append(path)
            paths = [found[0] if len(found) == 1 else self._together(found) for found in alike.values()]
        return tuple(sorted(paths, key=lambda path: path.order))

    def _together(self, paths: Sequence[Path]) -> Path:
        """Return one path of several; hosts have many addresses, and whole rows the same ones."""
        key = tuple(path.addresses for path in paths)
        if key not in self._united:
            self._united[key] = _union(key)
        return replace(paths[0], addresses=self._united[key])

    def _all_paths(self, standing: Standing) -> Iterator[tuple[str, tuple[Path, ...]]]:
        if standing.host:
            yield from self._from_host()
        else:
            yield from self._on_shared_networks(standing)
            yield from self._to_other_bridges(standing)
        yield from self._past_unknown_drivers(standing)
        approaches = list(self._approaches(standing))
        yield from service_paths(self._topology, standing, approaches)
        for approach in approaches:
            yield from self._published.reached(approach, standing.openings).items()

    def _on_shared_networks(self, standing: Standing) -> Iterator[tuple[str, tuple[Path, ...]]]:
        links: dict[str, list[Opening]] = defaultdict(list)
        for opening in standing.openings:
            links[opening.child].append(opening)
        for network_id, segments in standing.attached:
            for member in self._topology.members[network_id]:
                openings = tuple(links.get(member.sandbox.id, ()))
                key = (network_id, member.sandbox.id, segments, openings)
                if key not in self._shared:
                    self._shared[key] = shared_network_paths(self._topology, member, segments, openings)
                yield member.sandbox.id, self._shared[key]

    def _to_other_bridges(self, standing: Standing) -> Iterator[tuple[str, tuple[Path, ...]]]:
        on_link = {(network_id, item.family) for network_id, segments in standing.attached for item in segments}
        for family in FAMILIES:
            ingress = self._bridge(standing.route(family))
            if ingress is not None:
                entry = Entry.by(ingress, family, self._trusted)
                neighbours = self._members(ingress, family)
                for member in self._routed_to(entry):
                    if (member.network.id, family) not in on_link:
                        neighbour = member.sandbox.id in neighbours
                        yield member.sandbox.id, self._routed_paths(entry, member, neighbour=neighbour)

    def _routed_to(self, entry: Entry) -> Sequence[Attachment]:
        """Return whatever packets reach by being forwarded."""
        if entry not in self._destinations:
            self._destinations[entry] = [
                member
                for members in self._topology.members.values()
                for member in members
                if self._routed_paths(entry, member, neighbour=True)
            ]
        return self._destinations[entry]

    def _routed_paths(self, entry: Entry, member: Attachment, *, neighbour: bool) -> tuple[Path, ...]:
        key = (entry, member.network.id, member.sandbox.id, neighbour)
        if key not in self._routed:
            self._routed[key] = tuple(routed_paths(self._topology, entry, member, neighbour=neighbour))
        return self._routed[key]

    def _members(self, network: Network, family: int) -> frozenset[str]:
        members = self._topology.members.get(network.id, ())
        return frozenset(member.sandbox.id for member in members if member.endpoint.address(family))

    def _past_unknown_drivers(self, standing: Standing) -> Iterator[tuple[str, tuple[Path, ...]]]:
        """Yield what nobody can tell: where a network of an unknown driver leads, and who finds a way into it."""
        attached = {network_id for network_id, _ in standing.attached}
        for network in self._foreign:
            if network.id in attached:
                for sandbox in self._topology.snapshot.sandboxes.values():
                    # at its own address there, it is on a shared network
                    apart = all(endpoint.network_id != network.id for endpoint in sandbox.endpoints)
                    yield sandbox.id, self._anywhere(network, sandbox, own=apart)
            elif standing.host or any(standing.routes):
                for member in self._topology.members.get(network.id, ()):
                    yield member.sandbox.id, self._anywhere(network, member.sandbox, inside=standing.host)

    def _anywhere(
        self, network: Network, sandbox: Sandbox, *, own: bool = True, inside: bool = False
    ) -> tuple[Path, ...]:
        """Return undecided paths to every address that leads to a sandbox, its own or the host's, if there is any.

        From `inside` of the host, those of its loopback lead there as well.
        """
        ends = sandbox.endpoints if own else ()
        known = (self._topology.host_addresses, *((self._topology.loopbacks,) if inside else ()))
        hosts = [address for each in known for family in FAMILIES for address in each[family]]
        hosts = hosts if sandbox.id == HOST or sandbox.published else []
        reachable = bool(ends or (sandbox.members and hosts))
        there = [address for endpoint in ends for address in (endpoint.ipv4, endpoint.ipv6) if address]
        return foreign_paths(network, tuple(map(str, [*there, *hosts]))) if reachable else ()

    def _from_host(self) -> Iterator[tuple[str, tuple[Path, ...]]]:
        """Yield what a process in the host reaches by sending to container addresses: the engine filters none of it."""
        for members in self._topology.members.values():
            for member in members:
                addresses = _addresses_for_host(self._topology, member)
                if addresses is not None:
                    yield (
                        member.sandbox.id,
                        tuple(
                            Path(Via.HOST, member.network.name, protocol, addresses, ports)
                            for protocol, ports in ALL_PROTOCOLS.items()
                        ),
                    )

    def _approaches(self, standing: Standing) -> Iterator[Approach]:
        """Yield how packets of such a source come to the host's addresses."""
        for family in FAMILIES:
            if standing.host:
                yield Approach(None, family, self._host_addresses(family, frozenset()))
                yield Approach(None, family, HostAddresses(self._topology.loopbacks[family]))
            else:
                yield from self._approaches_by_bridges(standing, family)

    def _approaches_by_bridges(self, standing: Standing, family: int) -> Iterator[Approach]:
        """Yield the default route to all addresses that are not on link, and the on-link gateway of each bridge."""
        egress = self._bridge(standing.route(family))
        attached = [
            self._topology.network(network)
            for network, segments in standing.attached
            if any(segment.family == family for segment in segments)
        ]
        others = [network for network in attached if network is not egress]
        if egress is not None:
            on_link = frozenset(
                address for network in others for address in self._topology.host_inside(network, family)
            )
            yield Approach(egress, family, self._host_addresses(family, on_link))
        for network in others:
            gateway = bridge_gateway(network, family)
            if gateway is not None:
                yield Approach(network, family, self._single(gateway))

    def _nearby(self, standing: Standing) -> Iterator[tuple[str, tuple[Path, ...]]]:
        """Yield what the host's link-local addresses on the source's networks lead to."""
        for network_id, segments in standing.attached:
            network = self._bridge(network_id)
            if network is not None and any(segment.family == 6 for segment in segments):
                yield from self._published.nearby(network).items()

    def _host_addresses(self, family: int, excluded: frozenset[Address]) -> HostAddresses:
        key = (family, excluded)
        if key not in self._addresses:
            known = self._topology.host_addresses[family]
            self._addresses[key] = HostAddresses(tuple(address for address in known if address not in excluded))
        return self._addresses[key]

    def _single(self, address: Address) -> HostAddresses:
        return self._singles.setdefault(address, HostAddresses((address,)))

    def _bridge(self, network_id: str | None) -> Network | None:
        network = self._topology.network(network_id) if network_id else None
        return network if network is not None and network.driver == "bridge" else None


def _beyond(paths: Iterable[Path], others: Sequence[tuple[Path, ...]]) -> Iterator[Path]:
    """Yield paths to the ports that no other path of the same way leads to."""
    for path in paths:
        left = path.ports
        for other in (each for group in others for each in group):
            if (other.via, other.network, other.protocol, other.undecided) == (
                path.via,
                path.network,
                path.protocol,
                "",
            ):
                left -= other.ports
        if left:
            yield replace(path, ports=left)


def _union(groups: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    """Return all of some addresses in their order."""
    addresses = {ip_address(text) for group in groups for text in group}
    return tuple(map(str, sorted(addresses, key=lambda address: (address.version, int(address)))))


def _own_addresses(topology: Topology, sandbox: Sandbox) -> Iterator[Address]:
    # every namespace takes all of 127.0.0.0/8 for its own; these are the addresses of it that are spoken of
    yield from topology.loopbacks[4]
    for family in FAMILIES:
        yield from (address for endpoint in sandbox.endpoints if (address := endpoint.address(family)))
    if topology.keeps_ipv6(sandbox):
        yield LOOPBACK[6]


def _addresses_for_host(topology: Topology, member: Attachment) -> tuple[str, ...] | None:
    """Return the addresses by which the host reaches a member of a network, None where it does not.

    The host needs an address of its own on the bridge. Members of overlays that have no other default route are
    reached by their hidden endpoint on docker_gwbridge, whose address the list does not show. macvlan and ipvlan keep
    the parent's host out.
    """
    network = member.network
    if network.driver == "overlay":
        gateway = topology.gateway(member.sandbox, 4)
        return () if gateway is not None and gateway.name == GATEWAY_BRIDGE else None
    addresses = tuple(
        str(address)
        for family in FAMILIES
        if (address := member.endpoint.address(family)) and bridge_gateway(network, family)
    )
    return addresses or None
