"""Which addresses packets are sent to, and which of them the engine's API shows."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING, Any, Final

from exporter.evaluate.enforced.worlds import worlds
from exporter.model.namespace import RouteKind
from exporter.parse import parse
from tests.lab import LabError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exporter.model.namespace import Namespace
    from exporter.model.observation import Observation
    from exporter.model.snapshot import Snapshot

THIRD_PARTIES: Final = ("192.0.2.1", "2001:db8::1")
"""Nobody has these addresses; rules may lead packets that are sent there to somebody."""

_ADDRESS: Final = {4: IPv4Address, 6: IPv6Address}


def judged(observation: Observation, snapshot: Snapshot) -> set[str]:
    """Return the addresses for which verdicts are compared with packets."""
    own = {*shown_by_api(observation), *_of_namespaces(observation)}
    return {*own, *THIRD_PARTIES, *_asked_about(snapshot)}


def shown_by_api(observation: Observation) -> set[str]:
    """Return every address that the engine's API shows, and the loopback ones."""
    return {"127.0.0.1", "::1", *_of_containers(observation), *_of_networks(observation)}


def _of_containers(observation: Observation) -> Iterator[str]:
    for container in observation.containers:
        for endpoint in container["NetworkSettings"]["Networks"].values():
            yield from filter(None, (endpoint.get("IPAddress"), endpoint.get("GlobalIPv6Address")))
        bound = (port.get("IP", "") for port in container.get("Ports") or ())
        yield from (host for host in bound if host and not ip_address(host).is_unspecified)


def of_bridges(observation: Observation) -> Iterator[str]:
    """Yield the gateways: those that the API leaves out are told by endpoints or follow from the pool."""
    for network in parse(observation).networks.values():
        yield from (str(pool.gateway) for pool in network.pools if pool.gateway)


def _of_networks(observation: Observation) -> Iterator[str]:
    for network in observation.networks:
        pools: list[dict[str, Any]] = (network.get("IPAM") or {}).get("Config") or []
        yield from (pool["Gateway"].partition("/")[0] for pool in pools if pool.get("Gateway"))


def _of_namespaces(observation: Observation) -> Iterator[str]:
    """Yield the addresses that the host and the containers themselves have."""
    kernel = observation.kernel
    if kernel is None or kernel.host is None:
        raise LabError("the exporter could not read the kernel")
    for namespace in (kernel.host, *kernel.sandboxes.values()):
        yield from (item["local"] for item in namespace.addresses)


def _asked_about(snapshot: Snapshot) -> Iterator[str]:
    """Yield the addresses that verdicts are about beside those of namespaces: some stand for others."""
    for family, world in worlds(snapshot, snapshot.kernel).items() if snapshot.kernel is not None else ():
        shared = {address for stack in world.stacks.values() for address in stack.anycast}
        yield from (str(_ADDRESS[family](address)) for address in world.asked_about() | shared)


def _namespaces(snapshot: Snapshot) -> tuple[Namespace, ...]:
    kernel = snapshot.kernel
    return (kernel.host, *kernel.sandboxes.values()) if kernel is not None else ()


def of_local_routes(snapshot: Snapshot) -> Iterator[str]:
    """Yield some of the addresses that nobody has and that routes lead to a namespace itself all the same.

    They are not those that verdicts are about, and count for pairs alone.
    """
    for namespace in _namespaces(snapshot):
        for route in namespace.routes:
            prefix = route.destination
            if route.kind is RouteKind.LOCAL and 0 < prefix.prefixlen < prefix.max_prefixlen and not prefix.is_loopback:
                size = prefix.num_addresses
                yield from (str(prefix[place % size]) for place in (5, size // 4 + 5, size // 2 + 5, size * 3 // 4 + 5))
