"""Firewall rules of iptables and nftables in one representation, in netfilter's words.

Everything that is compared is a whole number (addresses as integers, states and flags as bits) or the name of an
interface. Parsers write out what their language leaves implicit: nft's `ip saddr` in a table of family inet is a match
on the family and one on the address; `tcp dport` is one on the protocol and one on the port.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum, IntFlag, StrEnum
from functools import cache
from operator import is_
from typing import TYPE_CHECKING, Final

from exporter.model.records import record

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from exporter.model.ranges import Ranges


class Hook(StrEnum):
    """Where on a packet's way a base chain is called."""

    INGRESS = "ingress"
    PREROUTING = "prerouting"
    INPUT = "input"
    FORWARD = "forward"
    OUTPUT = "output"
    POSTROUTING = "postrouting"
    EGRESS = "egress"


class TableFamily(StrEnum):
    """Which packets a table sees; `inet` is `ip` and `ip6` at once, `bridge` are frames that a bridge passes on."""

    IP = "ip"
    IP6 = "ip6"
    INET = "inet"
    BRIDGE = "bridge"
    ARP = "arp"
    NETDEV = "netdev"


class Field(StrEnum):
    """What a match looks at."""

    FAMILY = "family"
    """4 or 6."""
    ETHER_TYPE = "ether_type"
    PROTOCOL = "protocol"
    """The number of the transport protocol: 6 TCP, 17 UDP, 1 ICMP, 58 ICMPv6."""
    SOURCE = "source"
    DESTINATION = "destination"
    """IP addresses as integers, of the family of the packet."""
    SOURCE_PORT = "source_port"
    DESTINATION_PORT = "destination_port"
    ICMP_TYPE = "icmp_type"
    ICMP_CODE = "icmp_code"
    TCP_FLAGS = "tcp_flags"
    """Bits of the TCP header: FIN 1, SYN 2, RST 4, PSH 8, ACK 16, URG 32."""
    INPUT_INTERFACE = "input_interface"
    OUTPUT_INTERFACE = "output_interface"
    """Names, empty where there is none. Of a frame that a bridge passes on, br_netfilter shows the bridge here to
    iptables, inet, ip and ip6; in tables of family bridge it is the port."""
    INPUT_PORT = "input_port"
    OUTPUT_PORT = "output_port"
    """Names of bridge ports (physdev), empty for packets that came or leave through no port of a bridge."""
    INPUT_KIND = "input_kind"
    OUTPUT_KIND = "output_kind"
    """The kind of the interface as rtnetlink names it (nft's `iifkind`), such as `bridge` or `veth`."""
    INPUT_TYPE = "input_type"
    OUTPUT_TYPE = "output_type"
    """ARPHRD numbers (nft's `iiftype`): 1 Ethernet, 772 loopback."""
    INPUT_GROUP = "input_group"
    OUTPUT_GROUP = "output_group"
    """The number of the group that somebody put the interface in (`ip link set … group 5`), 0 where nobody did."""
    ARP_OPERATION = "arp_operation"
    """1 for questions, 2 for answers."""
    ARP_SOURCE = "arp_source"
    ARP_DESTINATION = "arp_destination"
    """The addresses of IPv4 that somebody asks or answers from, and that he asks for or answers to."""
    ARP_SOURCE_MAC = "arp_source_mac"
    ARP_DESTINATION_MAC = "arp_destination_mac"
    """The link addresses of these two in a frame of ARP, 0 for the one that somebody asks for."""
    LINK = "link"
    """The interface that link-local addresses of IPv6 are looked for at, where that is not the one of the packet's own
    way: a port of a bridge has none."""
    SOURCE_MAC = "source_mac"
    DESTINATION_MAC = "destination_mac"
    """Link addresses of the frame that a packet came in, and at bridges and single interfaces leaves in."""
    MARK = "mark"
    CT_STATE = "ct_state"
    """One bit of `CtState`."""
    CT_STATUS = "ct_status"
    """Bits of `CtStatus`."""
    CT_MARK = "ct_mark"
    CT_DIRECTION = "ct_direction"
    """0 for packets in the direction of the first one, 1 for replies."""
    CT_PROTOCOL = "ct_protocol"
    CT_ORIGINAL_SOURCE = "ct_original_source"
    CT_ORIGINAL_DESTINATION = "ct_original_destination"
    CT_ORIGINAL_SOURCE_PORT = "ct_original_source_port"
    CT_ORIGINAL_DESTINATION_PORT = "ct_original_destination_port"
    """The first packet of the connection, before any translation."""
    CT_REPLY_SOURCE = "ct_reply_source"
    CT_REPLY_DESTINATION = "ct_reply_destination"
    CT_REPLY_SOURCE_PORT = "ct_reply_source_port"
    CT_REPLY_DESTINATION_PORT = "ct_reply_destination_port"
    """The packet that is expected back."""
    PACKET_TYPE = "packet_type"
    """A `PacketType`."""
    IPSEC = "ipsec"
    """1 of what came or leaves in packets of IPsec, else 0."""
    SOCKET_USER = "socket_user"
    SOCKET_GROUP = "socket_group"
    """Owner of the socket that sent a packet; packets that are forwarded have none."""


class PacketType(IntEnum):
    """What the link address that a frame is for makes of it to who gets it (`PACKET_…` of if_packet.h).

    What a namespace itself sends is of type HOST until somebody gets it.
    """

    HOST = 0
    BROADCAST = 1
    MULTICAST = 2
    OTHER = 3


class CtState(IntFlag):
    """The state that conntrack gives a packet."""

    INVALID = 1
    ESTABLISHED = 2
    RELATED = 4
    NEW = 8
    UNTRACKED = 64


class CtStatus(IntFlag):
    """What conntrack knows of a connection (`IPS_…` of nf_conntrack_common.h)."""

    EXPECTED = 1
    SEEN_REPLY = 2
    ASSURED = 4
    CONFIRMED = 8
    SNAT = 16
    DNAT = 32
    DYING = 512


class AddressType(StrEnum):
    """What the routing table says about an address (`RTN_…`): iptables' addrtype, nft's `fib … type`."""

    UNSPEC = "unspec"
    UNICAST = "unicast"
    LOCAL = "local"
    BROADCAST = "broadcast"
    ANYCAST = "anycast"
    MULTICAST = "multicast"
    BLACKHOLE = "blackhole"
    UNREACHABLE = "unreachable"
    PROHIBIT = "prohibit"


class Side(StrEnum):
    """An interface that a lookup of an address is limited to."""

    ANY = "any"
    INPUT = "input"
    OUTPUT = "output"


# --- Matches: each narrows the packets that the rest of the rule sees. ---


@record
class InRanges:
    """The number is one of these."""

    field: Field
    ranges: Ranges
    negated: bool = False


@dataclass(frozen=True, slots=True)
class HasBits:
    """`number & mask == value`: marks, TCP flags (`--tcp-flags`), addresses with a mask that is no prefix."""

    field: Field
    mask: int
    value: int
    negated: bool = False


@dataclass(frozen=True, slots=True)
class AnyBit:
    """`number & mask != 0`: `--ctstate A,B`, nft's `ct state a,b`. An nft set `{ a, b }` is `InRanges`."""

    field: Field
    mask: int
    negated: bool = False


@record
class NameIs:
    """The interface's name is one of these; `*` at the end stands for any rest (iptables writes `+`)."""

    field: Field
    names: tuple[str, ...]
    negated: bool = False


@dataclass(frozen=True, slots=True)
class AddressTypeIs:
    """The type of the source's or the destination's address is one of these, seen from an interface or from any."""

    field: Field
    types: frozenset[AddressType]
    side: Side = Side.ANY
    negated: bool = False


@dataclass(frozen=True, slots=True)
class ReversePath:
    """A route back to the source exists and leaves by the input interface (any interface where `loose`).

    iptables' rpfilter; nft's `fib saddr . iif oif exists`, which is `native`; negated, `oif missing`.
    """

    loose: bool = False
    with_mark: bool = False
    negated: bool = False
    native: bool = False


@dataclass(frozen=True, slots=True)
class AnyOf:
    """One of the alternatives holds; all matches of an alternative have to. Concatenations in sets are this, too."""

    alternatives: tuple[tuple[Match, ...], ...]
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Opaque:
    """A match that decides by something that is not known here: it may hold, and it may not.

    `name` is what it is called (`limit`, `string`, `meta time`): the metric counts by it and reports name it. It is
    also told for matches that are known and depend on time, chance or load.
    """

    name: str
    text: str = ""


Match = InRanges | HasBits | AnyBit | NameIs | AddressTypeIs | ReversePath | AnyOf | Opaque


# --- Statements: each does something to the packets that came so far. ---


class Verdict(StrEnum):
    """How a rule ends for a packet."""

    ACCEPT = "accept"
    DROP = "drop"
    REJECT = "reject"
    RETURN = "return"


@dataclass(frozen=True, slots=True)
class Terminate:
    """The packet leaves this base chain (accept), is lost (drop, reject), or goes back to the caller (return)."""

    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Call:
    """The packet continues in another chain of the table; with `goto`, it does not come back to this one."""

    chain: str
    goto: bool = False


@dataclass(frozen=True, slots=True)
class Dispatch:
    """A verdict map: the first case whose matches all hold decides; without one, the rule is over.

    `key` is the one field that every case compares with one exact value, where there is such: cases can then be looked
    up by it. The value is the first match of the case.
    """

    cases: tuple[tuple[tuple[Match, ...], Statement], ...]
    key: Field | None = None


class Translation(StrEnum):
    """What of a connection's first packet is rewritten."""

    DNAT = "dnat"
    SNAT = "snat"
    MASQUERADE = "masquerade"
    REDIRECT = "redirect"


@dataclass(frozen=True, slots=True)
class Target:
    """Where a translation leads, for packets that the matches hold for.

    Empty `addresses` or `ports` stay as they are. Of several addresses or ports the kernel takes any, except that with
    `base_port` a port moves by its distance from that one (`--to-destination :2000-2010/1000`).
    """

    addresses: Ranges
    ports: Ranges
    matches: tuple[Match, ...] = ()
    base_port: int | None = None


@dataclass(frozen=True, slots=True)
class Translate:
    """The connection is rewritten as its first packet says, by the first target that applies; then it is accepted.

    Where none applies, as with a map without the packet's key, the rule is over.
    """

    kind: Translation
    targets: tuple[Target, ...]


@dataclass(frozen=True, slots=True)
class SetMark:
    """`new = (old & keep) ^ toggle`, of MARK or CT_MARK."""

    field: Field
    keep: int
    toggle: int


@dataclass(frozen=True, slots=True)
class CopyMark:
    """Bits of one mark go to the other: CONNMARK --save-mark and --restore-mark, `meta mark set ct mark`."""

    source: Field
    target: Field
    source_mask: int = 0xFFFFFFFF
    target_mask: int = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Untrack:
    """Conntrack does not follow the packet: its state is UNTRACKED, and it is never translated."""


@dataclass(frozen=True, slots=True)
class ProxyLocally:
    """TPROXY: a local socket takes the packet. Empty addresses or ports stay as they are; iptables' also accepts."""

    addresses: Ranges
    ports: Ranges
    keep_mark: int = 0xFFFFFFFF
    toggle_mark: int = 0
    terminates: bool = True


@dataclass(frozen=True, slots=True)
class Unforeseeable:
    """A statement whose effect is not known here (QUEUE to a program, SYNPROXY, …): the packet may pass or be lost."""

    name: str
    text: str = ""


class Onward(StrEnum):
    """How packets are sent elsewhere, whatever their destination.

    IPVS sends them to a real server, with its address as their destination or with the one that they had; TEE and nft's
    `dup` send copies to a gateway, while the packets themselves go on.
    """

    TRANSLATED = "translated"
    AS_THEY_WERE = "as they were"
    COPIED = "copied"


@dataclass(frozen=True, slots=True)
class Rewrite:
    """An address or a port is rewritten behind conntrack's back (nft's `ip daddr set`), as the first target says.

    What becomes of the packet is not known here: it may go to the target, go on as it was, or be lost. `field` is
    SOURCE or DESTINATION, whichever side's address or port it is. With `onward` the target is where the packet is sent
    from here, though it came for the namespace itself, or a copy of it, which leaves the packet as it is.
    """

    name: str
    field: Field
    targets: tuple[Target, ...]
    onward: Onward | None = None

    @property
    def copied(self) -> bool:
        """Whether the packet itself goes on as it was."""
        return self.onward is Onward.COPIED


@dataclass(frozen=True, slots=True)
class Divert:
    """Packets, or copies of them, go elsewhere whatever their destination, past all that comes after.

    By a `device` they are sent as they are (nft's `fwd to`, tc's `mirred egress`), or come in by it anew where it is
    `inward`. Without one, nobody knows where they go: what is written into them is computed, or says who gets a frame.
    What is `copied` goes on as it was; of others it is not known whether they do.
    """

    name: str
    device: str = ""
    inward: bool = False
    copied: bool = False


Statement = (
    Terminate
    | Call
    | Dispatch
    | Translate
    | SetMark
    | CopyMark
    | Untrack
    | ProxyLocally
    | Unforeseeable
    | Rewrite
    | Divert
)
Step = Match | Statement

LEADING = frozenset({Translate, Rewrite, Divert, ProxyLocally, Dispatch})
"""Types of statements that lead packets elsewhere, or have cases that may."""


# --- Tables ---


@record
class Rule:
    """A rule: steps from left to right. A rule without a statement only counts.

    `text` is the rule as its own tool writes it.
    """

    steps: tuple[Step, ...]
    text: str = ""


@dataclass(frozen=True, slots=True)
class Base:
    """What makes a chain a base chain. `priority` orders the chains of a hook, lowest first.

    `kind` is nft's type: `nat` chains see the first packet of a connection only; `device` limits ingress and egress.
    """

    hook: Hook
    priority: int
    policy: Verdict = Verdict.ACCEPT
    kind: str = "filter"
    devices: tuple[str, ...] = ()


BUILTIN: Final[Mapping[str, Mapping[str, Base]]] = {
    "raw": {"PREROUTING": Base(Hook.PREROUTING, -300), "OUTPUT": Base(Hook.OUTPUT, -300)},
    "mangle": {
        "PREROUTING": Base(Hook.PREROUTING, -150),
        "INPUT": Base(Hook.INPUT, -150),
        "FORWARD": Base(Hook.FORWARD, -150),
        "OUTPUT": Base(Hook.OUTPUT, -150, kind="route"),
        "POSTROUTING": Base(Hook.POSTROUTING, -150),
    },
    "nat": {
        "PREROUTING": Base(Hook.PREROUTING, -100, kind="nat"),
        "INPUT": Base(Hook.INPUT, 100, kind="nat"),
        "OUTPUT": Base(Hook.OUTPUT, -100, kind="nat"),
        "POSTROUTING": Base(Hook.POSTROUTING, 100, kind="nat"),
    },
    "filter": {
        "INPUT": Base(Hook.INPUT, 0),
        "FORWARD": Base(Hook.FORWARD, 0),
        "OUTPUT": Base(Hook.OUTPUT, 0),
    },
    "security": {
        "INPUT": Base(Hook.INPUT, 50),
        "FORWARD": Base(Hook.FORWARD, 50),
        "OUTPUT": Base(Hook.OUTPUT, 50),
    },
}
"""The chains that each table of iptables begins with (`enum nf_ip_hook_priorities`, linux/netfilter_ipv4.h)."""


@record
class Chain:
    """A chain with its rules in order.

    Looks share the chains that stayed the same, so what was found out about one is found out once. It has places of its
    own: a dictionary for each of thousands of chains would take more room than their rules.
    """

    name: str
    rules: tuple[Rule, ...] = ()
    base: Base | None = None
    _does: frozenset[type] | None = field(default=None, init=False, repr=False, compare=False)
    _held: dict[frozenset[type], tuple[Rule, ...]] | None = field(default=None, init=False, repr=False, compare=False)
    _calls: tuple[tuple[tuple[Step, ...], str], ...] | None = field(default=None, init=False, repr=False, compare=False)

    @property
    def does(self) -> frozenset[type]:
        """The types of the rules' steps, without those within other steps."""
        found = self._does
        if found is None:
            found = _shared(frozenset(type(step) for rule in self.rules for step in rule.steps))
            object.__setattr__(self, "_does", found)
        return found

    def holding(self, types: frozenset[type]) -> tuple[Rule, ...]:
        """Return the rules that have a step of one of these types, in order, without those within other steps."""
        if self.does.isdisjoint(types):
            return ()
        known = self._held
        if known is None:
            known = {}
            object.__setattr__(self, "_held", known)
        if types not in known:
            known[types] = tuple(rule for rule in self.rules if not types.isdisjoint(map(type, rule.steps)))
        return known[types]

    @property
    def calls(self) -> tuple[tuple[tuple[Step, ...], str], ...]:
        """The chains that rules call, with all steps of each such rule."""
        if self.does.isdisjoint((Call, Dispatch)):
            return ()
        found = self._calls
        if found is None:
            called = ((rule.steps, name) for rule in self.rules for step in rule.steps for name in _called(step))
            found = tuple(called)
            object.__setattr__(self, "_calls", found)
        return found


@cache
def _shared(types: frozenset[type]) -> frozenset[type]:
    """Return one object for all that is equal: there are few kinds of chains, and thousands of each."""
    return types


def same_rules(one: Chain, other: Chain) -> bool:
    """Return whether two chains have the same objects as rules."""
    return one.base == other.base and len(one.rules) == len(other.rules) and all(map(is_, one.rules, other.rules))


def reached(chains: Mapping[str, Chain], first: Iterable[str]) -> frozenset[str]:
    """Return the names of the chains that packets may come to from the `first`, with these."""
    found = set(first)
    waiting = list(found)
    while waiting:
        chain = chains.get(waiting.pop())
        fresh = {name for _, name in chain.calls} - found if chain is not None else set()
        found |= fresh
        waiting += fresh
    return frozenset(found)


def _called(step: Step) -> Iterator[str]:
    if isinstance(step, Call):
        yield step.chain
    elif isinstance(step, Dispatch):
        for _, statement in step.cases:
            yield from _called(statement)


class Backend(StrEnum):
    """Which tool shows a table."""

    IPTABLES_NFT = "iptables-nft"
    IPTABLES_LEGACY = "iptables-legacy"
    NFTABLES = "nftables"
    IPVS = "IPVS"


TableKey = tuple[TableFamily, str, Backend]


@dataclass(frozen=True, slots=True)
class Table:
    """A table. `packets` are the counters of rules by chain: None for one that has none, empty where no rule has."""

    family: TableFamily
    name: str
    backend: Backend
    chains: Mapping[str, Chain] = field(default_factory=dict)
    packets: Mapping[str, tuple[int | None, ...]] = field(default_factory=dict)

    @property
    def key(self) -> TableKey:
        """Return what tells the table from all others of its namespace."""
        return self.family, self.name, self.backend

    def counter(self, chain: str, number: int) -> int | None:
        """Return how often a rule held, where it counts."""
        told = self.packets.get(chain, ())
        return told[number] if number < len(told) else None


@dataclass(frozen=True, slots=True)
class Firewall:
    """All tables of one network namespace.

    Chains of equal hook and priority run in the reverse of their tables' order: the kernel calls the one first that was
    registered last (nf_hook_entries_grow), and lists tables by age. `untracked` are the versions of IP in which nothing
    asks for conntrack: chains of type nat are not called there (nf_nat_inet_fn).
    """

    tables: tuple[Table, ...] = ()
    untracked: frozenset[int] = frozenset()
