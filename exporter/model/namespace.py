"""A network namespace as its kernel has it: interfaces, addresses, routes, firewall and sockets."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from exporter.model.firewall import Firewall

if TYPE_CHECKING:
    from collections.abc import Mapping
    from ipaddress import IPv4Interface, IPv6Interface

    from exporter.model.report import Protocol
    from exporter.model.snapshot import Address, Subnet


@dataclass(frozen=True, slots=True)
class Bridge:
    """What a bridge does with frames.

    `calls_iptables`, `calls_ip6tables` and `calls_arptables` are this bridge's own br_netfilter switches. Frames pass
    iptables where either the bridge's switch or the namespace's (`bridge-nf-call-iptables`) is on.
    """

    calls_iptables: bool = False
    calls_ip6tables: bool = False
    calls_arptables: bool = False
    vlan_filtering: bool = False


@dataclass(frozen=True, slots=True)
class Port:
    """An interface as a port of a bridge. `vlans` are the ids that pass, `untagged` those that leave without a tag."""

    isolated: bool = False
    hairpin: bool = False
    forwarding: bool = True
    pvid: int | None = None
    vlans: frozenset[int] = frozenset()
    untagged: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Interface:
    """A network interface. Indexes are the kernel's.

    `peer` is the index of the other end of a veth, or of the parent of a macvlan, in another namespace or this one;
    `master` the bridge that the interface is a port of; `kind` rtnetlink's name (`veth`, `bridge`, `macvlan`), empty
    for physical cards and loopback. `mode` is macvlan's. `programs` are what else may drop packets there, and cannot be
    foreseen: `XDP`, `tc`.
    """

    index: int
    name: str
    kind: str
    mac: str
    up: bool
    master: int | None = None
    peer: int | None = None
    mode: str = ""
    addresses: tuple[IPv4Interface | IPv6Interface, ...] = ()
    bridge: Bridge | None = None
    port: Port | None = None
    programs: tuple[str, ...] = ()


class RouteKind(StrEnum):
    """What a route does with packets (`RTN_…`)."""

    UNICAST = "unicast"
    LOCAL = "local"
    BROADCAST = "broadcast"
    ANYCAST = "anycast"
    MULTICAST = "multicast"
    BLACKHOLE = "blackhole"
    UNREACHABLE = "unreachable"
    PROHIBIT = "prohibit"
    THROW = "throw"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Hop:
    """A next hop: a gateway, or the destination itself on the interface's link."""

    interface: int
    gateway: Address | None = None


@dataclass(frozen=True, slots=True)
class Route:
    """An entry of a routing table. Of several `hops` the kernel takes any."""

    table: int
    kind: RouteKind
    destination: Subnet
    hops: tuple[Hop, ...] = ()
    source: Address | None = None
    metric: int = 0


class RuleAction(StrEnum):
    """What a policy rule does (`FR_ACT_…`)."""

    LOOKUP = "lookup"
    GOTO = "goto"
    NOP = "nop"
    BLACKHOLE = "blackhole"
    UNREACHABLE = "unreachable"
    PROHIBIT = "prohibit"


@dataclass(frozen=True, slots=True)
class PolicyRule:
    """An entry of `ip rule`, lowest priority first. `opaque` names a selector that is not understood."""

    family: int
    priority: int
    action: RuleAction
    table: int = 0
    inverted: bool = False
    source: Subnet | None = None
    destination: Subnet | None = None
    input_interface: str = ""
    output_interface: str = ""
    mark: int = 0
    mark_mask: int = 0
    protocol: int | None = None
    source_ports: tuple[int, int] | None = None
    destination_ports: tuple[int, int] | None = None
    suppress_prefix_length: int | None = None
    goto: int | None = None
    opaque: str = ""


@dataclass(frozen=True, slots=True)
class Listener:
    """A socket that takes packets for an address (`0.0.0.0`, `::`: any) and port.

    `relay` is where docker-proxy passes them on to, by its command line; None for every other program. A socket on `::`
    takes IPv4 as well, unless it is `v6only`.
    """

    protocol: Protocol
    address: Address
    port: int
    relay: tuple[Address, int] | None = None
    v6only: bool = False
    program: str = ""


@dataclass(frozen=True, slots=True)
class Namespace:
    """One network namespace.

    `settings` are the sysctls under `net/`, by path and as the kernel prints them: `ipv4/conf/all/forwarding`. A
    namespace that has no br_netfilter has no `bridge/bridge-nf-call-iptables`.
    """

    interfaces: Mapping[int, Interface] = field(default_factory=dict)
    routes: tuple[Route, ...] = ()
    rules: tuple[PolicyRule, ...] = ()
    firewall: Firewall = field(default_factory=Firewall)
    listeners: tuple[Listener, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)
