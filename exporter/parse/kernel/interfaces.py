"""`ip -json -details link` and `address` to interfaces.

{"ifindex": 9, "ifname": "veth24a1e5c", "flags": ["UP", "LOWER_UP"], "link_index": 2, "link_netnsid": 0,
 "master": "docker0", "address": "02:42:ac:11:00:02", "linkinfo": {"info_kind": "veth", "info_slave_kind": "bridge",
 "info_slave_data": {"state": "forwarding", "hairpin": false, "isolated": true}}}
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from exporter.errors import ObservationError
from exporter.model.firewall import Divert
from exporter.model.namespace import Bridge, Interface, OwnAddress, Port, Scope
from exporter.parse.addresses import parse_address
from exporter.parse.fields import flag, integer, link_address, mapping, objects, strings, text
from exporter.parse.kernel.values import number
from exporter.parse.memory import InterfaceMemory

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from exporter.parse.aligned import Indexed
    from exporter.parse.memory import Usable


def parse_interfaces(
    links: Sequence[Mapping[str, Any]], addresses: Sequence[Mapping[str, Any]], memory: InterfaceMemory | None = None
) -> Mapping[int, Interface]:
    """Return interfaces by index. Raises ObservationError for a link without index or name."""
    known = memory or InterfaceMemory()
    indexes = {_name(link): _index(link) for link in links}
    told: dict[str, tuple[OwnAddress, ...]] = {}
    shared = _Shared()
    for name, usable in known.addresses(addresses, _usable):
        told[name] = told[name] + usable if name in told else usable

    moved = _concerned(links, known.links, indexes) | _apart(known.told, told)

    def understand(link: Mapping[str, Any]) -> Interface:
        name = _name(link)
        return _interface(link, name, indexes, told.get(name, ()), shared)

    def holds(link: Mapping[str, Any], found: Interface) -> bool:
        return found.name not in moved and text(link, "master") not in moved and text(link, "link") not in moved

    interfaces = known.links.aligned(links, understand, holds if moved else None)
    known.links.indexes, known.told = indexes, told
    return with_diverted({interface.index: interface for interface in interfaces}, interfaces, here=True)


def with_diverted(
    interfaces: Mapping[int, Interface], children: Iterable[Interface], *, here: bool
) -> Mapping[int, Interface]:
    """Return interfaces of which it is told where macvlans that stand on them take what they please.

    Those are in the same namespace (`here`) or in others. One in mode passthru takes all that comes in for one
    receiver, also while it is down; one in mode source what those send whom it lists (macvlan_handle_frame).
    """
    taking = [each for each in children if each.mode in _TAKING and each.peer_here is here]
    diverted = {each.peer: each.mode for each in taking} | {each.index: each.mode for each in taking if here}
    changed = {
        index: replace(found, programs=(*found.programs, f"a macvlan in mode {mode}"))
        for index, mode in diverted.items()
        if index is not None and (found := interfaces.get(index)) is not None
    }
    return {**interfaces, **changed} if changed else interfaces


_TAKING = frozenset({"passthru", "source"})


def _concerned(links: Sequence[Mapping[str, Any]], known: Indexed[Interface], indexes: Mapping[str, int]) -> set[str]:
    """Return the names that stand for something else than before, and that links known before go by, or name."""
    moved = known.moved(indexes)
    if not moved:
        return set()
    named = {text(link, key) for link in links for key in ("master", "link")}
    return {name for name in moved if name in named or (name in known.indexes and name in indexes)}


def _apart(before: Mapping[str, Sequence[OwnAddress]], now: Mapping[str, Sequence[OwnAddress]]) -> set[str]:
    """Return the interfaces that have other addresses than before."""
    found = {name for name, own in now.items() if (old := before.get(name)) is not own and old != own}
    return found | (before.keys() - now.keys())


def _index(link: Mapping[str, Any]) -> int:
    found = integer(link, "ifindex")
    if found <= 0:
        raise ObservationError("a link without `ifindex`")
    return found


def _name(link: Mapping[str, Any]) -> str:
    found = text(link, "ifname")
    if not found:
        raise ObservationError("a link or address without `ifname`")
    return found


def _interface(
    link: Mapping[str, Any],
    name: str,
    indexes: Mapping[str, int],
    addresses: tuple[OwnAddress, ...],
    shared: _Shared,
) -> Interface:
    info = shared.info(link)
    flags = shared.flags(link)
    kind = _OF_TAPS.get(info.kind, info.kind)
    return Interface(
        index=_index(link),
        name=name,
        kind=kind,
        mac=link_address(link, "address"),
        # without its card, or the carrier of that, a macvlan sends nothing (netif_stacked_transfer_operstate)
        up="UP" in flags and (kind != "macvlan" or "LOWER_UP" in flags),
        master=indexes.get(text(link, "master")),
        # the other end has a name only where it is in this namespace
        peer=integer(link, "link_index") or indexes.get(text(link, "link")),
        peer_here="link" in link,
        peer_namespace=integer(link, "link_netnsid") if "link_netnsid" in link else None,
        mode=info.mode,
        flag=info.flag,
        addresses=addresses,
        bridge=info.bridge,
        port=info.port,
        programs=_programs(link, info.kind),
        diverts=tuple(_diverts(link, name)) if "actions" in link else (),
        bpf=any(link.get(key) for key in ("xdp", "tcx", "bpf")),
        # ipvlan finds its own by their addresses, and sets the flag itself in its modes l3 and l3s
        arp=kind == "ipvlan" or "NOARP" not in flags,
        peer_mac=link_address(link, "peer_mac"),
        peer_addresses=tuple(_of_peer(link)),
        group=_group(text(link, "group")) if "group" in link else 0,
        peer_inode=integer(link, "peer_inode") or None,
    )


_IPVLAN_FLAGS = ("private", "vepa")
"""What keeps the children of one card apart, which bridge between each other else (IPVLAN_F_PRIVATE, IPVLAN_F_VEPA)."""

_OF_TAPS = {"macvtap": "macvlan", "ipvtap": "ipvlan"}
"""Kinds whose frames a program takes, where one has opened them (tap_handle_frame), and what they are else."""


def _group(told: str) -> int:
    """Return the number of a group: a name of any but the usual one is known only to who gave it."""
    try:
        return number(told)
    except ValueError:
        return 0


def _programs(link: Mapping[str, Any], kind: str) -> tuple[str, ...]:
    """Return what else may drop packets, by its name in verdicts."""
    named = tuple(name for key, name in (("xdp", "XDP"), ("tc", "tc"), ("tcx", "tcx")) if link.get(key))
    if kind in _OF_TAPS:
        named = (*named, kind)
    queue = text(link, "queue")
    return (*named, f"a queue of kind {queue}") if queue else named


def _diverts(link: Mapping[str, Any], name: str) -> Iterator[Divert]:
    """Yield where actions of tc may lead packets. Raises ObservationError.

    Who gets what another one than `mirred` writes into them, or what that sends by nobody knows which interface, may be
    anybody.
    """
    for told in objects(link, "actions"):
        device = text(told, "dev")
        where = f"where tc leads packets at {name}" if device else f"what tc writes into packets at {name}"
        yield Divert(where, device, inward=flag(told, "inward") is True, copied=True)


def _of_peer(link: Mapping[str, Any]) -> Iterator[OwnAddress]:
    """Yield the addresses of the other end. Raises ObservationError."""
    for told in strings(link, "peer_addresses"):
        address, _, length = told.partition("/")
        try:
            yield _address(address, int(length))
        except ValueError as error:
            raise ObservationError(f"an address of the peer of {_name(link)}: {error}") from error


def _address(told: str, length: int) -> OwnAddress:
    """Return an address with the length of its prefix. Raises ValueError."""
    address = parse_address(told)
    if not 0 <= length <= address.max_prefixlen:
        raise ValueError(f"{told} with a prefix of {length} bits")
    return OwnAddress(address, length)


def _bridge(data: Mapping[str, Any]) -> Bridge:
    return Bridge(
        calls_iptables=bool(data.get("nf_call_iptables")),
        calls_ip6tables=bool(data.get("nf_call_ip6tables")),
        calls_arptables=bool(data.get("nf_call_arptables")),
        vlan_filtering=bool(data.get("vlan_filtering")),
    )


class _Info(NamedTuple):
    """What a link says of its kind, and of the port of a bridge that it is."""

    kind: str
    mode: str
    flag: str
    bridge: Bridge | None
    port: Port | None


class _Shared:
    """What links say as one object for all that say the same, as most do, is understood once.

    All ports that are alike are one object then, too.
    """

    def __init__(self) -> None:
        self._infos: dict[int, _Info] = {}
        self._flags: dict[int, frozenset[str]] = {}
        self._ports: dict[Port, Port] = {}

    def info(self, link: Mapping[str, Any]) -> _Info:
        """Return what a link says of itself; `vlans` are its own."""
        if "vlans" in link:
            return self._info(link)
        told = id(link.get("linkinfo"))
        known = self._infos.get(told)
        if known is None:
            known = self._infos[told] = self._info(link)
        return known

    def flags(self, link: Mapping[str, Any]) -> frozenset[str]:
        """Return the flags of a link."""
        told = id(link.get("flags"))
        known = self._flags.get(told)
        if known is None:
            known = self._flags[told] = frozenset(strings(link, "flags"))
        return known

    def _info(self, link: Mapping[str, Any]) -> _Info:
        info = mapping(link, "linkinfo")
        data, kind = mapping(info, "info_data"), text(info, "info_kind")
        port = _port(link, mapping(info, "info_slave_data")) if text(info, "info_slave_kind") == "bridge" else None
        return _Info(
            kind,
            text(data, "mode"),
            next((each for each in _IPVLAN_FLAGS if data.get(each) is True), ""),
            _bridge(data) if kind == "bridge" else None,
            self._ports.setdefault(port, port) if port is not None else None,
        )


def _port(link: Mapping[str, Any], data: Mapping[str, Any]) -> Port:
    """Return the port's switches; `vlans` are those of `bridge -json vlan`: `{"vlan": 1, "flags": ["PVID"]}`."""
    flags = {identity: set(strings(vlan, "flags")) for vlan in objects(link, "vlans") for identity in _range(vlan)}
    return Port(
        isolated=bool(data.get("isolated")),
        hairpin=bool(data.get("hairpin")),
        forwarding=text(data, "state") in ("forwarding", ""),
        learning=data.get("learning") is not False,
        flood=data.get("flood") is not False,
        mcast_flood=data.get("mcast_flood") is not False,
        bcast_flood=data.get("bcast_flood") is not False,
        locked=bool(data.get("locked")),
        answers=bool(data.get("neigh_suppress") or data.get("proxy_arp_wifi")),
        proxied=bool(data.get("proxy_arp")),
        pvid=next((identity for identity, told in flags.items() if "PVID" in told), None),
        vlans=frozenset(flags),
        untagged=frozenset(identity for identity, told in flags.items() if "Egress Untagged" in told),
    )


_HIGHEST_VLAN = 4094


def _range(vlan: Mapping[str, Any]) -> range:
    first = integer(vlan, "vlan")
    return range(first, min(integer(vlan, "vlanEnd") or first, _HIGHEST_VLAN) + 1)


def _usable(document: Mapping[str, Any]) -> Usable:
    return _name(document), tuple(_answering(document))


def _answering(document: Mapping[str, Any]) -> Iterator[OwnAddress]:
    """Yield the addresses that answer, of a list with an entry for each address or, as `ip` has it, for each link.

    While an IPv6 address is tentative, the kernel answers nobody who looks for it, and once another host turned out
    to have it (dadfailed), it never does (RFC 4862 §5.4; ndisc_recv_ns). An optimistic one answers. A link-local one,
    which each new interface waits for, is taken to do so already: nothing tells when that second is over.
    """
    for address in objects(document, "addr_info") if "addr_info" in document else [document]:
        waits = address.get("tentative") and not (address.get("optimistic") or is_coming(address))
        if waits or address.get("dadfailed"):
            continue
        try:
            own = _address(text(address, "local"), integer(address, "prefixlen"))
            scope = _scope(own, text(address, "scope"))
            old = own.version == 6 and bool(address.get("deprecated"))
            usual = scope == own.scope and not old
            yield own if usual else OwnAddress(own.ip, own.prefixlen, scope, old)
        except ValueError as error:
            raise ObservationError(f"an address of {_name(document)}: {error}") from error


def is_coming(address: Mapping[str, Any]) -> bool:
    """Return whether an address is a link-local one that nobody else is known to have, and not yet in use."""
    waits = bool(address.get("tentative")) and not address.get("dadfailed")
    return waits and text(address, "local").startswith("fe80:")


def _scope(own: OwnAddress, told: str) -> int:
    """Return the scope of an address; one that was saved without it has the one that `ip address add` gives. Raises.

    What is unknown to `ip` by name is a number (rtnl_rtscope_n2a).
    """
    if own.version == 6:
        return Scope.GLOBAL
    if not told:
        return Scope.HOST if own.ip.is_loopback else Scope.GLOBAL
    return _SCOPES[told] if told in _SCOPES else number(told, Scope.NOWHERE)


_SCOPES = {scope.name.lower(): scope for scope in Scope}
