"""`GET /containers/json` to containers as the list shows them, before references are resolved."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from exporter.model.report import Protocol
from exporter.model.snapshot import Endpoint, ExposedPort, PublishedPort, RoutedPort
from exporter.parse.fields import address, identity, integer, mapping, objects, strings, text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_RUNNING = frozenset({"running", "paused"})
"""States with a live namespace: the kernel answers for a paused container too."""

_ANY = {4: "0.0.0.0", 6: "::"}  # noqa: S104  an address to compare with, nothing binds it


@dataclass(frozen=True, slots=True)
class ListedContainer:
    """A running container of the list. `parents` are names of containers that hold a legacy link to it."""

    id: str
    name: str
    mode: str
    parents: tuple[str, ...]
    endpoints: tuple[tuple[str, Endpoint], ...]
    published: tuple[PublishedPort, ...]
    routed: tuple[RoutedPort, ...]
    exposed: tuple[ExposedPort, ...]


def parse_containers(documents: Sequence[Mapping[str, Any]]) -> dict[str, ListedContainer]:
    """Return running containers by id; containers in any other state have no network."""
    listed = (_container(document) for document in documents if text(document, "State") in _RUNNING)
    return {container.id: container for container in listed}


def _container(document: Mapping[str, Any]) -> ListedContainer:
    container_id = identity(document, "container")
    names = [name.strip("/") for name in strings(document, "Names")]
    own = [name for name in names if "/" not in name]
    ports = objects(document, "Ports")
    return ListedContainer(
        id=container_id,
        name=own[0] if own else container_id[:12],
        mode=text(mapping(document, "HostConfig"), "NetworkMode"),
        parents=tuple(name.partition("/")[0] for name in names if "/" in name),
        endpoints=tuple(_endpoints(mapping(mapping(document, "NetworkSettings"), "Networks"))),
        published=tuple(dict.fromkeys(_published(ports))),
        routed=tuple(dict.fromkeys(_routed(ports))),
        exposed=tuple(dict.fromkeys(_exposed(ports))),
    )


def _endpoints(networks: Mapping[str, Any]) -> Iterator[tuple[str, Endpoint]]:
    """Yield the name of each network that the container is attached to now, and its endpoint there."""
    for name, document in networks.items():
        if isinstance(document, dict) and text(document, "EndpointID"):
            yield (
                name,
                Endpoint(
                    network_id=text(document, "NetworkID"),
                    ipv4=address(text(document, "IPAddress")),
                    ipv6=address(text(document, "GlobalIPv6Address")),
                    gateway_v4=address(text(document, "Gateway")),
                    gateway_v6=address(text(document, "IPv6Gateway")),
                    gw_priority=integer(document, "GwPriority"),
                ),
            )


def _public(port: Mapping[str, Any]) -> int:
    number = integer(port, "PublicPort")
    return number if 0 < number <= 65535 else 0


def _published(ports: Sequence[Mapping[str, Any]]) -> Iterator[PublishedPort]:
    for port in ports:
        host_ip = address(text(port, "IP") or _ANY[4])
        for exposed in _exposed([port]):
            if host_ip is not None and _public(port):
                yield PublishedPort(host_ip, _public(port), exposed.port, exposed.protocol)


def _routed(ports: Sequence[Mapping[str, Any]]) -> Iterator[RoutedPort]:
    """Yield the ports of gateway mode routed: bound to an address, but to no port, of the host."""
    for port in ports:
        host_ip = address(text(port, "IP"))
        for exposed in _exposed([port]):
            if host_ip is not None and not _public(port):
                yield RoutedPort(host_ip.version, exposed.port, exposed.protocol)


def _exposed(ports: Sequence[Mapping[str, Any]]) -> Iterator[ExposedPort]:
    for port in ports:
        number, protocol = integer(port, "PrivatePort"), text(port, "Type")
        if 0 < number <= 65535 and protocol in (Protocol.TCP, Protocol.UDP):
            yield ExposedPort(number, Protocol(protocol))
