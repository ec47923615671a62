"""What an observation means: one engine, its networks, containers and sandboxes, in Docker's words."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from exporter.model.addresses import link_local_of
from exporter.model.records import record

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime
    from ipaddress import IPv6Address

    from exporter.model.addresses import Address, Subnet
    from exporter.model.daemon import Configuration
    from exporter.model.namespace import Namespace
    from exporter.model.reach import Protocol

GATEWAY_BRIDGE = "docker_gwbridge"
"""The bridge by which members of overlay networks reach the host; the list does not show their endpoints on it."""


class EngineVersion(NamedTuple):
    """Major, minor and patch of `Version`; suffixes of distributions are ignored."""

    major: int
    minor: int = 0
    patch: int = 0


FACTS_KEPT = EngineVersion(22, 6)
"""Engines keep what they read of the kernel at their start, and do not look again (moby#43130; 22.06 became 23.0)."""


class Product(StrEnum):
    """Whose implementation of the Engine API answers."""

    DOCKER = "docker"
    PODMAN = "podman"


@dataclass(frozen=True, slots=True)
class Engine:
    """The engine. A field is None where this engine's API does not tell.

    `bridge_netfilter` is whether frames that stay on one bridge pass iptables (IPv4) and ip6tables (IPv6);
    `userland_proxy` whether docker-proxy relays published ports; `experimental` whether features are on that
    engines before 27.0 need for ip6tables; `live_restore` whether containers outlive the daemon.
    """

    id: str
    name: str
    version: EngineVersion
    version_text: str
    api_version: str
    product: Product
    firewall_backend: str
    rootless: bool
    swarm: bool
    experimental: bool | None
    ipv4_forwarding: bool | None
    bridge_netfilter_v4: bool | None
    bridge_netfilter_v6: bool | None
    userland_proxy: bool | None
    live_restore: bool | None = None


class GatewayMode(StrEnum):
    """`com.docker.network.bridge.gateway_mode_ipv4` and `_ipv6` (engine 27.0 and later)."""

    NAT = "nat"
    NAT_UNPROTECTED = "nat-unprotected"
    ROUTED = "routed"
    ISOLATED = "isolated"


@dataclass(frozen=True, slots=True)
class IpamPool:
    """A subnet of a network, and the part of it that addresses are taken from.

    `gateway` is the host's own address on a bridge, `router` whoever else the user had default routes lead to.
    """

    subnet: Subnet
    range: Subnet
    gateway: Address | None
    router: Address | None = None


@dataclass(frozen=True, slots=True)
class Network:
    """A network of the engine.

    `icc` is None where the driver has no such notion or the engine's answer about it means nothing.
    `default` marks the engine's default bridge. `mode` and `flag` are macvlan's and ipvlan's.
    """

    id: str
    name: str
    driver: str
    internal: bool
    ingress: bool
    default: bool
    ipv4: bool
    ipv6: bool
    pools: tuple[IpamPool, ...]
    icc: bool | None
    masquerade: bool
    gateway_mode_v4: GatewayMode
    gateway_mode_v6: GatewayMode
    inhibit_ipv4: bool
    trusted_host_interfaces: tuple[str, ...]
    interface: str
    parent: str
    mode: str
    flag: str

    def has(self, family: int) -> bool:
        """Return whether the network has addresses of IP version 4 or 6."""
        return self.ipv4 if family == 4 else self.ipv6

    def gateway_mode(self, family: int) -> GatewayMode:
        """Return the gateway mode for IP version 4 or 6."""
        return self.gateway_mode_v4 if family == 4 else self.gateway_mode_v6


@record
class Endpoint:
    """A sandbox's attachment to a network. An address is None where the endpoint has none of that family.

    `mac` is the link address that the engine gave, where there is an address of IPv6.
    """

    network_id: str
    ipv4: Address | None
    ipv6: Address | None
    gateway_v4: Address | None
    gateway_v6: Address | None
    gw_priority: int = 0
    mac: str = ""

    @property
    def link_local(self) -> IPv6Address | None:
        """The link-local address that follows from the link address, None where that is not known."""
        return link_local_of(self.mac) if self.mac else None

    def address(self, family: int) -> Address | None:
        """Return the address of IP version 4 or 6."""
        return self.ipv4 if family == 4 else self.ipv6

    def gateway(self, family: int) -> Address | None:
        """Return the next hop that the engine gave for IP version 4 or 6."""
        return self.gateway_v4 if family == 4 else self.gateway_v6


@record
class PublishedPort:
    """`host_ip:host_port` of the host leads to `container_port`. Operational: what the engine has set up."""

    host_ip: Address
    host_port: int
    container_port: int
    protocol: Protocol


@dataclass(frozen=True, slots=True, order=True)
class ExposedPort:
    """A port that the image or the command line declares: what a link opens."""

    port: int
    protocol: Protocol


@dataclass(frozen=True, slots=True, order=True)
class RoutedPort:
    """A published port of a network in gateway mode routed: open at the container's own address of a family."""

    family: int
    port: int
    protocol: Protocol


@dataclass(frozen=True, slots=True)
class Link:
    """A legacy link of the default bridge: the parent may talk to these ports of the child.

    `undecided` says why the engine's rule may not be the child's, or not any more; empty when it is.
    """

    parent: str
    child: str
    ports: tuple[ExposedPort, ...]
    undecided: str = ""


@record
class Container:
    """A running container. `sandbox` is the id of the container that owns its namespace, or `host`.

    `labels` are those of the snapshot's that the container has.
    """

    id: str
    name: str
    sandbox: str
    labels: Mapping[str, str] = field(default_factory=dict)


@record
class Sandbox:
    """A network namespace: its endpoints, and what the engine publishes and exposes of it.

    The host's sandbox has no endpoints. A sandbox without any has a loopback interface only; an `orphaned` one lost
    its others when the container that owned it ended or started anew.

    `addresses` are all of its addresses as numbers, `networks` the ids of its endpoints' networks, `host_ports` the
    host's ports that are published for it, in an order that does not depend on their numbers.
    """

    id: str
    name: str
    members: tuple[str, ...]
    endpoints: tuple[Endpoint, ...] = ()
    published: tuple[PublishedPort, ...] = ()
    routed: tuple[RoutedPort, ...] = ()
    exposed: tuple[ExposedPort, ...] = ()
    orphaned: bool = False
    addresses: tuple[int, ...] = field(init=False, repr=False, compare=False)
    networks: tuple[str, ...] = field(init=False, repr=False, compare=False)
    host_ports: tuple[int, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Find out once what is asked for over and over."""
        told = [address for endpoint in self.endpoints for address in (endpoint.ipv4, endpoint.ipv6)]
        object.__setattr__(self, "addresses", tuple([int(address) for address in told if address is not None]))
        object.__setattr__(self, "networks", tuple([endpoint.network_id for endpoint in self.endpoints]))
        object.__setattr__(self, "host_ports", _host_ports(self.published) if self.published else ())


def _host_ports(published: Iterable[PublishedPort]) -> tuple[int, ...]:
    told: dict[int, list[tuple[int, str, str]]] = {}
    for port in published:
        told.setdefault(port.host_port, []).append((port.container_port, port.protocol, str(port.host_ip)))
    return tuple(sorted(told, key=lambda port: (sorted(told[port]), port)))


@dataclass(frozen=True, slots=True)
class Kernel:
    """What the kernel has: the engine's own namespace, and those of sandboxes, by sandbox id, that could be read.

    `missing` gives the reason for each source of evidence (`firewall`, `bridge`, `routes`, `sandboxes`) that could not.
    `strangers` are addresses of nobody that packets are sent to, where they were chosen on a host that this is a part
    of: none of that host has them. `modules` are those whose rules are not read and which are loaded (ebtables-legacy).
    """

    host: Namespace
    sandboxes: Mapping[str, Namespace]
    missing: Mapping[str, str]
    strangers: frozenset[int] | None = None
    modules: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One engine at one moment, every reference resolved. Mappings are keyed by id.

    `labels` are the ones that were asked for: of any other, nobody knows which containers have it.
    `configuration` is that of the daemon's next start, or the reason why it is not known; empty where nobody looked.
    """

    taken_at: datetime
    engine: Engine
    networks: Mapping[str, Network]
    containers: Mapping[str, Container]
    sandboxes: Mapping[str, Sandbox]
    links: tuple[Link, ...]
    assumptions: tuple[str, ...]
    kernel: Kernel | None = None
    labels: frozenset[str] = frozenset()
    configuration: Configuration | str = ""
