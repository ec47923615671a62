"""An observation to a snapshot: resolves names, namespaces and links."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from exporter.model.reach import HOST
from exporter.model.snapshot import Container, Endpoint, GatewayMode, Network, Sandbox, Snapshot
from exporter.parse.containers import ListedContainer, parse_containers
from exporter.parse.daemon import parse_configuration
from exporter.parse.engine import parse_engine
from exporter.parse.kernel import bystander, parse_kernel
from exporter.parse.links import parse_links
from exporter.parse.memory import Memory, Resolved
from exporter.parse.networks import parse_networks, with_gateways, with_pools
from exporter.parse.sandboxes import Residence, residences

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from exporter.model.addresses import Address
    from exporter.model.observation import KernelDocuments, Observation
    from exporter.model.snapshot import Kernel

_Thing = TypeVar("_Thing")

_NO_INTERFACE = frozenset({"host", "null"})
"""Drivers whose endpoints add no interface to a sandbox."""


def parse(observation: Observation, memory: Memory | None = None) -> Snapshot:
    """Return what the observation means.

    `memory` is what the looks before left there, and what this one leaves: with it or without, the snapshot is equal.

    Raises ObservationError where a document lacks what identifies it. Fields that are missing otherwise, or are of
    another type than the API promises, count as not told.
    """
    known = memory or Memory()
    engine = parse_engine(observation.version, observation.info)
    known.turn(engine)
    told = parse_networks(observation.networks, engine, known.networks)
    listed = parse_containers(observation.containers, engine.product, known.containers)
    if engine.userland_proxy is None and any(map(_needs_userland_proxy, listed.values())):
        engine = replace(engine, userland_proxy=True)
    residence = residences(listed, observation.sightings, _inodes(observation.kernel))
    endpoints = _told_apart(listed)
    told = with_pools(told | _unlisted_networks(endpoints, told), observation.containers)
    networks = _same(with_gateways(told, _told_gateways(endpoints, told)), known.resolved.networks)
    labels = frozenset(observation.labels)
    resolved = known.resolved = _resolved(listed, residence, networks, labels, known.resolved)
    bystanders = _bystanders(observation.kernel) if observation.kernel is not None else {}
    return Snapshot(
        taken_at=observation.taken_at,
        engine=engine,
        networks=networks,
        containers=resolved.containers,
        sandboxes={**bystanders, **resolved.sandboxes} if bystanders else resolved.sandboxes,
        links=tuple(parse_links(listed, networks, observation.sightings)),
        assumptions=residence.assumptions,
        kernel=_kernel(observation.kernel, resolved.sandboxes, known),
        labels=labels,
        configuration=parse_configuration(observation.daemon, engine) if observation.daemon is not None else "",
    )


def _same(found: Mapping[str, _Thing], before: Mapping[str, _Thing]) -> Mapping[str, _Thing]:
    """Return one object for what is equal to what was there before, and for all: whoever compares looks is quick."""
    kept = {
        name: known if (known := before.get(name)) is thing or known == thing else thing
        for name, thing in found.items()
    }
    return before if kept == before and [*kept] == [*before] else kept


def _resolved(
    listed: Mapping[str, ListedContainer],
    residence: Residence,
    networks: Mapping[str, Network],
    labels: frozenset[str],
    before: Resolved,
) -> Resolved:
    """Return containers and sandboxes: what follows from the same as before is the same object."""
    same_networks, same_labels = networks is before.networks, labels == before.labels
    members: dict[str, list[str]] = defaultdict(list)
    containers: dict[str, Container] = {}
    for container in listed.values():
        sandbox = residence.sandbox_of[container.id]
        members[sandbox].append(container.id)
        known = before.containers.get(container.id)
        if (
            known is None
            or known.sandbox != sandbox
            or not same_labels
            or before.listed.get(container.id) is not container
        ):
            known = Container(container.id, container.name, sandbox, _kept(container.labels, labels))
        containers[container.id] = known
    members[HOST] = members.get(HOST, [])
    sandboxes: dict[str, Sandbox] = {}
    for sandbox, inhabitants in members.items():
        inside = tuple(inhabitants)
        box = before.sandboxes.get(sandbox)
        if (
            box is None
            or box.members != inside
            or box.orphaned != (sandbox in residence.orphaned)
            or not same_networks
            or before.listed.get(sandbox) is not listed.get(sandbox)
        ):
            box = _sandbox(sandbox, inside, listed, residence, networks)
        sandboxes[sandbox] = box
    return Resolved(listed, networks, labels, containers, _same(sandboxes, before.sandboxes))


def _kept(labels: Mapping[str, str], asked: frozenset[str]) -> Mapping[str, str]:
    return {key: value for key, value in labels.items() if key in asked} if asked else _NO_LABELS


_NO_LABELS: Mapping[str, str] = {}
"""One for thousands of containers."""


def _inodes(kernel: KernelDocuments | None) -> dict[str, int]:
    """Return the numbers of the namespaces that were read, by container id and HOST."""
    if kernel is None:
        return {}
    host = {HOST: kernel.host.inode} if kernel.host else {}
    return {container: documents.inode for container, documents in kernel.sandboxes.items()} | host


def _kernel(kernel: KernelDocuments | None, sandboxes: Mapping[str, Sandbox], memory: Memory) -> Kernel | None:
    if kernel is None:
        return None
    members = {sandbox.id: sandbox.members for sandbox in sandboxes.values() if sandbox.id != HOST}
    return parse_kernel(kernel, members, memory)


def _bystanders(kernel: KernelDocuments) -> dict[str, Sandbox]:
    """Return the namespaces that are no container's as sandboxes in which nobody lives."""
    ids = {name: bystander(documents) for name, documents in kernel.bystanders.items()}
    return {identity: Sandbox(identity, name, ()) for name, identity in ids.items()}


def _needs_userland_proxy(container: ListedContainer) -> bool:
    """Return whether a published port gives away that docker-proxy runs, to engines that do not say.

    An IPv6 port of the host can lead to a container without IPv6 by docker-proxy only, and no engine sets up such a
    mapping without it. The reverse proves nothing: the port may have been bound to IPv4 on purpose.
    """
    has_ipv6 = any(endpoint.ipv6 for _, endpoint in container.endpoints)
    return not has_ipv6 and any(port.host_ip.version == 6 for port in container.published)


def _resolve(name: str, endpoint: Endpoint, networks: Mapping[str, Network]) -> str:
    """Return the id of an endpoint's network; Podman's API gives the network's name in the place of the id."""
    if endpoint.network_id in networks:
        return endpoint.network_id
    return next((network.id for network in networks.values() if network.name == name), endpoint.network_id or name)


def _told_apart(listed: Mapping[str, ListedContainer]) -> Collection[tuple[str, Endpoint]]:
    """Return endpoints by their network's name: one of those that tell the same network and gateways, as most do."""
    return {
        (name, endpoint.network_id, id(endpoint.gateway_v4), id(endpoint.gateway_v6)): (name, endpoint)
        for container in listed.values()
        for name, endpoint in container.endpoints
    }.values()


def _told_gateways(
    endpoints: Iterable[tuple[str, Endpoint]], networks: Mapping[str, Network]
) -> dict[str, set[Address]]:
    """Return the gateways that endpoints name, by network."""
    told: dict[str, set[Address]] = defaultdict(set)
    for name, endpoint in endpoints:
        gateways = (endpoint.gateway_v4, endpoint.gateway_v6)
        told[_resolve(name, endpoint, networks)].update(gateway for gateway in gateways if gateway)
    return told


def _unlisted_networks(
    endpoints: Iterable[tuple[str, Endpoint]], networks: Mapping[str, Network]
) -> dict[str, Network]:
    """Return stand-ins for networks that appeared after the list of networks was read: of no known driver."""
    missing = {_resolve(name, endpoint, networks): name for name, endpoint in endpoints}
    return {
        network_id: Network(
            id=network_id, name=name, driver="", internal=False, ingress=False, default=False, ipv4=True, ipv6=True,
            pools=(), icc=None, masquerade=True, gateway_mode_v4=GatewayMode.NAT, gateway_mode_v6=GatewayMode.NAT,
            inhibit_ipv4=False, trusted_host_interfaces=(), interface="", parent="", mode="", flag="",
        )
        for network_id, name in missing.items()
        if network_id not in networks
    }  # fmt: skip


def _sandbox(
    sandbox: str,
    members: tuple[str, ...],
    listed: Mapping[str, ListedContainer],
    residence: Residence,
    networks: Mapping[str, Network],
) -> Sandbox:
    if sandbox == HOST:
        return Sandbox(HOST, HOST, members)
    owner = listed[sandbox]
    if sandbox in residence.orphaned:
        return Sandbox(sandbox, owner.name, members, orphaned=True)
    resolved = [(_resolve(name, endpoint, networks), endpoint) for name, endpoint in owner.endpoints]
    endpoints = [
        endpoint if endpoint.network_id == network_id else replace(endpoint, network_id=network_id)
        for network_id, endpoint in resolved
        if networks[network_id].driver not in _NO_INTERFACE
    ]
    return Sandbox(sandbox, owner.name, members, tuple(endpoints), owner.published, owner.routed, owner.exposed)
