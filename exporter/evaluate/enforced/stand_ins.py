"""Namespaces of containers that could not be read, made from what the engine's API tells of their endpoints."""

from __future__ import annotations

from ipaddress import ip_interface, ip_network
from typing import TYPE_CHECKING

from exporter.evaluate.declared.topology import Topology
from exporter.evaluate.enforced.routing import LOCAL_TABLE, MAIN_TABLE
from exporter.model.namespace import Hop, Interface, Namespace, Route, RouteKind

if TYPE_CHECKING:
    from collections.abc import Iterator
    from ipaddress import IPv4Interface, IPv6Interface

    from exporter.model.snapshot import Address, Endpoint, Network, Sandbox, Snapshot

_ANYWHERE = {4: ip_network("0.0.0.0/0"), 6: ip_network("::/0")}

_LOOPBACK = Interface(1, "lo", "", "", up=True, addresses=(ip_interface("127.0.0.1/8"), ip_interface("::1/128")))


class StandIns:
    """Namespaces as the engine sets them up. An interface has no kind: its network tells what it is connected to."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._topology = Topology.of(snapshot)

    def namespace(self, sandbox: Sandbox) -> Namespace:
        """Return the namespace of a sandbox."""
        interfaces: dict[int, Interface] = {1: _LOOPBACK}
        routes = [Route(LOCAL_TABLE, RouteKind.LOCAL, item.network, (Hop(1),)) for item in _LOOPBACK.addresses]
        for index, endpoint in enumerate(sandbox.endpoints, start=2):
            network = self._snapshot.networks[endpoint.network_id]
            addresses = tuple(_with_prefix(network, address) for address in (endpoint.ipv4, endpoint.ipv6) if address)
            interfaces[index] = Interface(index, f"eth{index - 2}", "", "", up=True, addresses=addresses)
            for address in addresses:
                routes.append(Route(LOCAL_TABLE, RouteKind.LOCAL, ip_network(address.ip), (Hop(index),)))
                routes.append(Route(MAIN_TABLE, RouteKind.UNICAST, address.network, (Hop(index),)))
            routes.extend(self._defaults(sandbox, endpoint, network, index))
        return Namespace(interfaces, tuple(routes))

    def _defaults(self, sandbox: Sandbox, endpoint: Endpoint, network: Network, index: int) -> Iterator[Route]:
        for family, anywhere in _ANYWHERE.items():
            gateway = endpoint.gateway(family)
            if gateway is not None and self._topology.gateway(sandbox, family) == network:
                yield Route(MAIN_TABLE, RouteKind.UNICAST, anywhere, (Hop(index, gateway),))


def _with_prefix(network: Network, address: Address) -> IPv4Interface | IPv6Interface:
    prefix = next((pool.subnet.prefixlen for pool in network.pools if address in pool.subnet), address.max_prefixlen)
    return ip_interface(f"{address}/{prefix}")
