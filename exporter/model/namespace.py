"""A network namespace as its kernel has it: interfaces, addresses, routes, firewall and sockets."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from ipaddress import IPv6Network
from typing import TYPE_CHECKING

from exporter.model.addresses import is_link_local, prefix_of
from exporter.model.firewall import Firewall
from exporter.model.records import record

if TYPE_CHECKING:
    from collections.abc import Mapping

    from exporter.model.addresses import Address, Subnet
    from exporter.model.firewall import Divert
    from exporter.model.reach import Protocol


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
    """An interface as a port of a bridge."""

    isolated: bool = False
    hairpin: bool = False
    forwarding: bool = True

    learning: bool = True
    """The bridge remembers who sent by the port."""

    flood: bool = True
    """The bridge sends there what is for nobody it knows."""

    mcast_flood: bool = True
    """The bridge sends there what is for a group."""

    bcast_flood: bool = True
    """The bridge sends there what is for all."""

    locked: bool = False
    """Only those may send by the port whom the bridge knows to be there."""

    answers: bool = False
    """The bridge may answer questions for link addresses in the place of whoever is behind the port
    (`neigh_suppress`, `proxy_arp_wifi`)."""

    proxied: bool = False
    """The bridge answers so for whoever asks by the port, and leads what is for nobody it knows, for a group or for all
    past the port (`proxy_arp`)."""

    pvid: int | None = None

    vlans: frozenset[int] = frozenset()
    """The ids that pass."""

    untagged: frozenset[int] = frozenset()
    """The ids of `vlans` that leave without a tag."""


USUAL_HOPS = 64
"""What a namespace lets its packets be passed on for, unless told otherwise (IPDEFTTL, IPV6_DEFAULT_HOPLIMIT)."""

ENOUGH_HOPS = 8
"""As many as packets are ever passed on for, of those that come to anybody."""


class Scope(IntEnum):
    """How far what has an address or a route is from here (`RT_SCOPE_…`): the less, the further."""

    GLOBAL = 0
    SITE = 200
    LINK = 253
    HOST = 254
    NOWHERE = 255


@record
class OwnAddress:
    """An address of an interface, and the length of the prefix of those that are taken to be on its link.

    `scope` is that of an address of IPv4, where somebody chooses it; of IPv6 it follows from the address. One of IPv6
    that is `deprecated` answers, and is sent from only where there is no other.

    As small as can be, for large hosts have tens of thousands: ipaddress has such a class with the network made for
    each, at eight times the memory.
    """

    ip: Address
    prefixlen: int
    scope: int = Scope.GLOBAL
    deprecated: bool = False

    @property
    def version(self) -> int:
        """Return 4 or 6."""
        return self.ip.version

    @property
    def is_link_local(self) -> bool:
        """Return whether the address means nothing beyond its link (fe80::/10); of IPv4, the kernel routes all."""
        return self.version == 6 and is_link_local(int(self.ip))

    @property
    def network(self) -> Subnet:
        """Return the addresses that are taken to be on the link."""
        return prefix_of(self.ip, self.prefixlen)


@record
class Interface:
    """A network interface. Indexes are the kernel's."""

    index: int
    name: str

    kind: str
    """Rtnetlink's name (`veth`, `bridge`, `macvlan`), empty for physical cards and loopback."""

    mac: str
    up: bool

    master: int | None = None
    """The bridge that the interface is a port of."""

    peer: int | None = None
    """The index of the other end of a veth, or of the parent of a macvlan."""

    peer_here: bool = False
    """Whether `peer` is in this namespace; else it is in another one."""

    peer_namespace: int | None = None
    """The number here of the other namespace that `peer` is in, if that is told."""

    mode: str = ""
    """Macvlan's or ipvlan's."""

    flag: str = ""
    """What an ipvlan was made with beside its mode (`private`, `vepa`)."""

    addresses: tuple[OwnAddress, ...] = ()
    bridge: Bridge | None = None
    port: Port | None = None

    programs: tuple[str, ...] = ()
    """What else may drop packets there, and cannot be foreseen: `XDP`, `tc`, `tcx`, a queue."""

    diverts: tuple[Divert, ...] = ()
    """Where filters of tc may lead packets that pass there."""

    bpf: bool = False
    """Whether a program sees the packets that pass there."""

    arp: bool = True
    """Without it the kernel asks nobody there for link addresses (`IFF_NOARP`)."""

    peer_mac: str = ""
    """The other end's, where its namespace was not entered and the kernel tells."""

    peer_addresses: tuple[OwnAddress, ...] = ()
    """The other end's, where its namespace was not entered and the kernel tells."""

    group: int = 0
    """The number of the group that somebody put the interface in."""

    peer_inode: int | None = None
    """The namespace of the other end, where indexes alone do not tell it and it was found out."""


@dataclass(frozen=True, slots=True)
class Neighbour:
    """The link address of a neighbour that somebody fixed (`nud permanent`, `nud noarp`): nobody is asked for it."""

    interface: int
    address: Address
    mac: str


@dataclass(frozen=True, slots=True)
class ProxiedNeighbour:
    """An address that the namespace answers for in the place of another on an interface (`ip neigh add proxy`)."""

    interface: int
    address: Address


@dataclass(frozen=True, slots=True)
class ForwardingEntry:
    """What a bridge knows of a link address."""

    port: int
    """The index of the port that the address is behind, or the bridge's own if the entry is `local`."""

    mac: str

    vlan: int = 0
    """0 where none was told."""

    local: bool = False

    lasting: bool = False
    """Else the entry is forgotten some time after whoever has the address was silent."""

    sticky: bool = False
    """The entry stays where it is, whoever sends from that address elsewhere."""


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


@record
class Hop:
    """A next hop: a gateway, or the destination itself on the interface's link."""

    interface: int
    gateway: Address | None = None


@record
class Route:
    """An entry of a routing table."""

    table: int
    kind: RouteKind
    destination: Subnet

    hops: tuple[Hop, ...] = ()
    """Of several the kernel takes any."""

    source: Address | None = None
    metric: int = 0

    senders: Subnet | None = None
    """Those whose packets alone it is for (`from`, of IPv6), None where it is for all."""

    preference: int = 0
    """1 (`pref high`), 0, or -1 (`low`): of IPv6, of one metric, the route with the highest is taken."""

    tos: str = ""
    """The type of service of the packets that it is for, of IPv4."""

    hop_limit: int = 0
    """What packets that a namespace itself sends by it are sent with, 0 where that is as by others."""

    tunnelled: bool = False
    """What is in packets is another thing then (`encap`)."""


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
    """An entry of `ip rule`, lowest priority first. `opaque` names a selector that is not understood.

    `users` are those that a packet's socket may be of.
    """

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
    users: tuple[int, int] | None = None
    suppress_prefix_length: int | None = None
    suppress_group: int | None = None
    goto: int | None = None
    opaque: str = ""


LOCAL_TABLE, MAIN_TABLE, DEFAULT_TABLE = 255, 254, 253
_USUAL = {4: {0: LOCAL_TABLE, 32766: MAIN_TABLE, 32767: DEFAULT_TABLE}, 6: {0: LOCAL_TABLE, 32766: MAIN_TABLE}}
USUAL_RULES = tuple(
    PolicyRule(family, priority, RuleAction.LOOKUP, table)
    for family, tables in _USUAL.items()
    for priority, table in tables.items()
)
"""The rules that every namespace begins with."""


@dataclass(frozen=True, slots=True)
class AddressLabel:
    """An entry of `ip addrlabel`: what addresses of IPv6 are labelled with, at one interface alone unless that is 0."""

    prefix: IPv6Network
    label: int
    interface: int = 0


UNLABELLED = 0xFFFFFFFF
"""The label of addresses that no entry is for (IPV6_ADDR_LABEL_DEFAULT)."""

_LABELS = (
    ("::1/128", 0), ("::/96", 3), ("::ffff:0:0/96", 4), ("2001::/32", 6), ("2001:10::/28", 7), ("3ffe::/16", 12),
    ("2002::/16", 2), ("fec0::/10", 11), ("fc00::/7", 5), ("::/0", 1),
)  # fmt: skip
USUAL_LABELS = tuple(AddressLabel(IPv6Network(prefix), label) for prefix, label in _LABELS)
"""The labels that every namespace begins with (ip6addrlbl_init_table), in the order in which the kernel asks."""


class Direction(StrEnum):
    """Which packets a policy of IPsec is for (`XFRM_POLICY_…`)."""

    IN = "in"
    OUT = "out"
    FORWARD = "fwd"


@dataclass(frozen=True, slots=True)
class IpsecPolicy:
    """A policy of IPsec: packets it selects are let through as they are, if it `passes` them; else nobody can tell.

    A `narrow` one selects by more than addresses.
    """

    direction: Direction
    source: Subnet
    destination: Subnet
    passes: bool
    narrow: bool = False


DOCKER_PROXY = "docker-proxy"
"""The name of its program, as observations have it."""


@dataclass(frozen=True, slots=True)
class Listener:
    """A socket that takes packets for an address (`0.0.0.0`, `::`: any) and port.

    `relay` is where docker-proxy passes them on to, by its command line; None for every other program, and where it is
    not known whose of several command lines is meant. A socket on `::` takes IPv4 as well, unless it is `v6only`.
    """

    protocol: Protocol
    address: Address
    port: int
    relay: tuple[Address, int] | None = None
    v6only: bool = False
    program: str = ""


@dataclass(frozen=True, slots=True)
class Namespace:
    """One network namespace."""

    interfaces: Mapping[int, Interface] = field(default_factory=dict)
    routes: tuple[Route, ...] = ()
    rules: tuple[PolicyRule, ...] = USUAL_RULES
    firewall: Firewall = field(default_factory=Firewall)
    listeners: tuple[Listener, ...] = ()

    settings: Mapping[str, str] = field(default_factory=dict)
    """The sysctls under `net/`, by path and as the kernel prints them: `ipv4/conf/all/forwarding`.

    A namespace that has no br_netfilter has no `bridge/bridge-nf-call-iptables`.
    """

    neighbours: tuple[Neighbour, ...] = ()
    """Those that do not depend on who asked whom before."""

    proxied: tuple[ProxiedNeighbour, ...] = ()

    forwarding: tuple[ForwardingEntry, ...] = ()
    """What somebody told bridges, and all that they know where a port does not learn, flood or let pass as usual."""

    programs: tuple[str, ...] = ()
    """What else may drop packets that the namespace sends or receives itself (`cgroup`)."""

    policies: tuple[IpsecPolicy, ...] = ()
    """Those of IPsec, in the order in which the kernel asks them.

    Of one priority, where it does not tell which it asks first, those that do not let packets pass as they are stand
    before the others.
    """

    labels: tuple[AddressLabel, ...] = USUAL_LABELS
    """Those of addresses of IPv6, in the order in which the kernel asks: the first that an address has counts."""

    inode: int = 0
    """What tells a namespace from all others."""

    @property
    def labelled(self) -> bool:
        """Whether somebody changed what addresses are labelled with."""
        return self.labels != USUAL_LABELS

    def setting(self, path: str, default: int = 0) -> int:
        """Return a sysctl's number by its path under `net/`; the default where there is none."""
        try:
            return int(self.settings[path])
        except (KeyError, ValueError):
            return default
