"""`GET /containers/json` to containers as the list shows them, before references are resolved."""

from __future__ import annotations

import re
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from exporter.errors import ObservationError
from exporter.model.reach import Protocol
from exporter.model.records import record
from exporter.model.snapshot import Endpoint, ExposedPort, Product, PublishedPort, RoutedPort
from exporter.parse.fields import address, identity, integer, mapping, objects, own_address, strings, text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from exporter.parse.aligned import Aligned

_RUNNING = frozenset({"running", "paused"})
"""States with a live namespace: the kernel answers for a paused container too."""

_OTHERS = frozenset({
    "created", "restarting", "removing", "exited", "dead",
    "stopped", "stopping", "configured", "initialized", "unknown",
})  # fmt: skip
"""States without one; those from `stopped` on are Podman's words."""

_STATES = _RUNNING | _OTHERS

_ANY = {4: "0.0.0.0", 6: "::"}  # noqa: S104  an address to compare with, nothing binds it


@record
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
    labels: Mapping[str, str]


_UNTOLD = ("(not told)", Endpoint("(not told)", None, None, None, None))
"""Stands for the networks of a container where Podman's list leaves them out (podman#9529, podman#26313)."""


def parse_containers(
    documents: Sequence[Mapping[str, Any]], product: Product, known: Aligned[ListedContainer | None]
) -> dict[str, ListedContainer]:
    """Return running containers by id, sorted by name; containers in any other state have no network."""
    found = known(documents, lambda document: _container(document, product) if _runs(document) else None)
    listed = [container for container in found if container is not None]
    return {container.id: container for container in sorted(listed, key=attrgetter("name", "id"))}


def _runs(document: Mapping[str, Any]) -> bool:
    """Return whether a container runs. Raises ObservationError for a word that nobody knows: it could mean yes."""
    state = text(document, "State")
    if state not in _STATES:
        name = identity(document, "container")[:12]
        raise ObservationError(f"container {name} has the State {state!r}, which this program does not know")
    return state in _RUNNING


def _container(document: Mapping[str, Any], product: Product) -> ListedContainer:
    container_id = identity(document, "container")
    names = [name.strip("/") for name in strings(document, "Names")]
    own = [name for name in names if "/" not in name]
    mode = text(mapping(document, "HostConfig"), "NetworkMode")
    networks = mapping(document, "NetworkSettings").get("Networks")
    if product is Product.DOCKER:
        _see_complete(container_id, mode, networks)
    endpoints = tuple(_endpoints(networks, product)) if isinstance(networks, dict) else ()
    untold = product is Product.PODMAN and mode not in ("none", "host") and not mode.startswith("container:")
    ports, labels = objects(document, "Ports"), mapping(document, "Labels")
    return ListedContainer(
        id=container_id,
        name=own[0] if own else container_id[:12],
        mode=mode,
        parents=tuple([name.partition("/")[0] for name in names if "/" in name]),
        endpoints=endpoints if endpoints or not untold else (_UNTOLD,),
        published=tuple(sorted(set(_published(ports)), key=_binding)) if ports else (),
        routed=tuple(sorted(set(_routed(ports)))) if ports else (),
        exposed=tuple(sorted(set(_exposed(ports)))) if ports else (),
        labels={key: value for key, value in labels.items() if isinstance(value, str)} if labels else _NO_LABELS,
    )


_NO_LABELS: Mapping[str, str] = {}
"""One for thousands of containers."""


def _see_complete(container_id: str, mode: str, networks: object) -> None:
    """See that what every Docker Engine tells is there: without it, a container would seem to be on no network.

    Raises ObservationError.
    """
    if not mode:
        raise ObservationError(f"container {container_id[:12]} has no HostConfig.NetworkMode")
    if not isinstance(networks, dict):
        raise ObservationError(f"container {container_id[:12]} has no NetworkSettings.Networks")


def _binding(port: PublishedPort) -> tuple[int, int, int, str, int]:
    return port.host_ip.version, int(port.host_ip), port.host_port, port.protocol, port.container_port


def _endpoints(networks: Mapping[str, Any], product: Product) -> Iterator[tuple[str, Endpoint]]:
    """Yield the name of each network that the container is attached to now, and its endpoint there, by name.

    Docker lists networks that a container will join when it starts, without an endpoint; Podman names no endpoint.
    """
    for name, document in sorted(networks.items()):
        if isinstance(document, dict) and (text(document, "EndpointID") or product is Product.PODMAN):
            ipv6 = own_address(text(document, "GlobalIPv6Address"))
            yield (
                name,
                Endpoint(
                    network_id=text(document, "NetworkID"),
                    ipv4=own_address(text(document, "IPAddress")),
                    ipv6=ipv6,
                    gateway_v4=address(text(document, "Gateway")),
                    gateway_v6=address(text(document, "IPv6Gateway")),
                    gw_priority=integer(document, "GwPriority"),
                    mac=_mac(document) if ipv6 is not None else "",
                ),
            )


def _mac(document: Mapping[str, Any]) -> str:
    """Return the link address of an endpoint; empty where it has none, as with ipvlan, or one of another kind."""
    told = text(document, "MacAddress").lower()
    return told if _MAC.fullmatch(told) else ""


_MAC = re.compile("[0-9a-f]{2}(:[0-9a-f]{2}){5}")


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
        yield from exposed_port(integer(port, "PrivatePort"), text(port, "Type"))


def exposed_port(number: int, protocol: str) -> Iterator[ExposedPort]:
    """Yield the port, if it is one that verdicts are about."""
    if 0 < number <= 65535 and protocol in (Protocol.TCP, Protocol.UDP):
        yield ExposedPort(number, Protocol(protocol))
