"""Links and addresses, with the keys and values of `ip -json -details link` and `address`."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from exporter.model.namespace import Scope
from exporter.observe.kernel.messages import ifaddrmsg, ifinfmsg
from exporter.observe.kernel.netlink import HEADER, aligned, attribute, attribute_list, attribute_places, attributes

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from exporter.observe.kernel.memo import Memo
    from exporter.observe.kernel.netlink import Netlink

_GET_LINK, _GET_ADDRESS = 18, 22
_LINK = struct.Struct("=BxHiII")
_ADDRESS = struct.Struct("=BBBBi")
_EXT_MASK, _TARGET_NETNSID, _ADDRESS_TARGET_NETNSID = 29, 46, 10
_VF, _VLANS, _SKIP_STATS = 1, 2, 8
_AF_BRIDGE, _AF_INET, _AF_INET6 = 7, 2, 10
_COUNTERS = frozenset({7, 23})
"""IFLA_STATS, IFLA_STATS64: every packet changes them."""
_AF_SPEC, _INET_CONF, _INET6_CONF = 26, 1, 2

_UP, _RUNNING = 0x1, 0x40
_FLAGS: Final = (
    (0x8, "LOOPBACK"), (0x2, "BROADCAST"), (0x10, "POINTOPOINT"), (0x1000, "MULTICAST"), (0x80, "NOARP"),
    (0x200, "ALLMULTI"), (0x100, "PROMISC"), (0x400, "MASTER"), (0x800, "SLAVE"), (_UP, "UP"), (0x10000, "LOWER_UP"),
    (0x20000, "DORMANT"),
)  # fmt: skip
_MACVLAN_MODES: Final = {1: "private", 2: "vepa", 4: "bridge", 8: "passthru", 16: "source"}
_IPVLAN_MODES: Final = {0: "l2", 1: "l3", 2: "l3s"}
_PORT_STATES: Final = ("disabled", "listening", "learning", "forwarding", "blocking")

_INFO: Final = {
    "bridge": {
        "IFLA_BR_VLAN_FILTERING": "vlan_filtering",
        "IFLA_BR_VLAN_DEFAULT_PVID": "vlan_default_pvid",
        "IFLA_BR_STP_STATE": "stp_state",
        "IFLA_BR_NF_CALL_IPTABLES": "nf_call_iptables",
        "IFLA_BR_NF_CALL_IP6TABLES": "nf_call_ip6tables",
        "IFLA_BR_NF_CALL_ARPTABLES": "nf_call_arptables",
    },
    "vlan": {"IFLA_VLAN_ID": "id"},
    "vxlan": {"IFLA_VXLAN_ID": "id", "IFLA_VXLAN_PORT": "port"},
    "vrf": {"IFLA_VRF_TABLE": "table"},
}
"""What is kept of a kind's own attributes; iproute2's names for them."""

_PORT: Final = {
    "IFLA_BRPORT_MODE": "hairpin",
    "IFLA_BRPORT_ISOLATED": "isolated",
    "IFLA_BRPORT_LEARNING": "learning",
    "IFLA_BRPORT_UNICAST_FLOOD": "flood",
    "IFLA_BRPORT_MCAST_FLOOD": "mcast_flood",
    "IFLA_BRPORT_BCAST_FLOOD": "bcast_flood",
    "IFLA_BRPORT_PROXYARP": "proxy_arp",
    "IFLA_BRPORT_PROXYARP_WIFI": "proxy_arp_wifi",
    "IFLA_BRPORT_NEIGH_SUPPRESS": "neigh_suppress",
    "IFLA_BRPORT_LOCKED": "locked",
}

_CONF4: Final = {
    0: "forwarding", 2: "proxy_arp", 3: "accept_redirects", 5: "send_redirects", 7: "rp_filter", 12: "arp_filter",
    13: "medium_id", 18: "arp_ignore", 22: "accept_local", 23: "src_valid_mark", 24: "proxy_arp_pvlan",
    25: "route_localnet",
}  # fmt: skip
_CONF6: Final = {0: "forwarding", 1: "hop_limit", 22: "proxy_ndp", 26: "disable_ipv6", 59: "force_forwarding"}
"""Sysctls of an interface by their place in the arrays that come with it (IPV4_DEVCONF_…, one less; DEVCONF_…)."""
_EVERYWHERE: Final = frozenset({("hop_limit", 64), ("medium_id", 0)})
"""What is left out: every interface has it, unless somebody says otherwise (IPV6_DEFAULT_HOPLIMIT)."""


@dataclass(frozen=True, slots=True)
class Link:
    """A link, before the indexes of others in it are names. `conf` are its sysctls by path."""

    document: Mapping[str, Any]
    index: int
    name: str
    kind: str
    master: int | None
    parent: int | None
    peer_namespace: int | None
    conf: Mapping[str, str] = field(default_factory=dict)


def decode_link(message: bytes) -> Link:
    """Return what a message about a link says."""
    decoded = ifinfmsg(message)
    decoded.decode()
    info = decoded.get_attr("IFLA_LINKINFO")
    name = str(decoded.get_attr("IFLA_IFNAME") or "")
    index = int(decoded["index"])
    document: dict[str, Any] = {
        "ifindex": index,
        "ifname": name,
        "flags": _flags(int(decoded["flags"])),
        "address": decoded.get_attr("IFLA_ADDRESS"),
    }
    kind = ""
    if info is not None:
        kind = str(info.get_attr("IFLA_INFO_KIND") or "")
        document["linkinfo"] = _link_info(info, kind)
    group = decoded.get_attr("IFLA_GROUP")
    if group:
        document["group"] = str(group)
    xdp = decoded.get_attr("IFLA_XDP")
    if xdp is not None and xdp.get_attr("IFLA_XDP_ATTACHED"):
        document["xdp"] = True
    return Link(
        {key: value for key, value in document.items() if value is not None},
        index,
        name,
        kind,
        decoded.get_attr("IFLA_MASTER"),
        decoded.get_attr("IFLA_LINK"),
        decoded.get_attr("IFLA_LINK_NETNSID"),
        _conf(message, name),
    )


def without_counters(message: bytes) -> bytes:
    """Return what a message about a link says of anything but its traffic: its bytes but for header and statistics."""
    kept, begin = [], HEADER.size
    for kind, place, length in attribute_places(message, HEADER.size + _LINK.size):
        if kind in _COUNTERS:
            kept.append(message[begin:place])
            begin = place + aligned(length)
    return b"".join((*kept, message[begin:]))


def read_links(netlink: Netlink, decode: Memo[Link]) -> list[Link]:
    """Return all links of the namespace. Raises as `Netlink.dump` does."""
    body = _LINK.pack(0, 0, 0, 0, 0) + attribute(_EXT_MASK, struct.pack("=I", _VF | _SKIP_STATS))
    return [decode(message) for message in netlink.dump(_GET_LINK, body)]


def link_documents(links: Iterable[Link]) -> list[dict[str, Any]]:
    """Return links with the names of their masters and parents, as `ip` shows them.

    `link_index` is there for parents and peers in the same namespace too, beside their name in `link`.
    """
    names = {link.index: link.name for link in links}
    return [_named(link, names) for link in links]


def bridge_ports(links: Iterable[Link]) -> frozenset[int]:
    """Return the indexes of ports of bridges: what they receive is the bridge's (br_handle_frame)."""
    bridges = {link.index for link in links if link.kind == "bridge"}
    return frozenset(link.index for link in links if link.master in bridges)


def link_settings(links: Iterable[Link]) -> dict[str, str]:
    """Return the sysctls of interfaces by path, but for ports of bridges: none of theirs is ever asked."""
    ports = bridge_ports(links)
    return {path: value for link in links if link.index not in ports for path, value in link.conf.items()}


def is_link_local(address: str) -> bool:
    """Return whether an address or prefix, as `ip` prints it, is one that IPv6 makes for each interface."""
    return address.startswith("fe80::")


def read_vlans(netlink: Netlink) -> dict[int, list[dict[str, Any]]]:
    """Return the VLANs of bridges and their ports by ifindex, as `bridge -json vlan` shows them. Raises as `dump`."""
    body = _LINK.pack(_AF_BRIDGE, 0, 0, 0, 0) + attribute(_EXT_MASK, struct.pack("=I", _VLANS))
    found: dict[int, list[dict[str, Any]]] = {}
    for message in netlink.dump(_GET_LINK, body):
        spec = attribute_list(attributes(message, 32).get(_AF_SPEC, b""))
        vlans = [_vlan(value) for kind, value in spec if kind == _BRIDGE_VLAN_INFO]
        if vlans:
            found[_LINK.unpack_from(message, 16)[2]] = vlans
    return found


_BRIDGE_VLAN_INFO = 2
_VLAN = struct.Struct("=HH")
_PVID, _UNTAGGED = 2, 4


def _vlan(value: bytes) -> dict[str, Any]:
    flags, number = _VLAN.unpack_from(value)
    told = [text for bit, text in ((_PVID, "PVID"), (_UNTAGGED, "Egress Untagged")) if flags & bit]
    return {"vlan": number, "flags": told} if told else {"vlan": number}


def decode_address(message: bytes) -> dict[str, Any]:
    """Return an address as an entry of `ip -json address`'s `addr_info`, with its `ifindex`.

    `scope` is told where it is not what most have, and that of IPv6 follows from the address.
    """
    decoded = ifaddrmsg(message)
    decoded.decode()
    inet6 = decoded["family"] == _AF_INET6
    address = decoded.get_attr("IFA_ADDRESS")
    local = decoded.get_attr("IFA_LOCAL") or address
    flags = decoded.get_attr("IFA_FLAGS")
    flags = decoded["flags"] if flags is None else flags
    document = {
        "ifindex": decoded["index"],
        "family": "inet6" if inet6 else "inet",
        "local": local,
        "prefixlen": decoded["prefixlen"],
    }
    if address not in (None, local):
        document["address"] = address
    broadcast = decoded.get_attr("IFA_BROADCAST")
    if broadcast:
        document["broadcast"] = broadcast
    if not inet6 and decoded["scope"]:
        document["scope"] = scope_name(decoded["scope"])
    names = {**_ADDRESS_FLAGS, 0x01: "temporary" if inet6 else "secondary"}
    return document | {name: True for bit, name in names.items() if flags & bit}


_SCOPES: Final = {int(scope): scope.name.lower() for scope in Scope}


def scope_name(scope: int) -> str:
    """Return a scope as `ip` prints it on a machine where nobody named any."""
    return _SCOPES.get(scope, str(scope))


_ADDRESS_FLAGS: Final = {
    0x02: "nodad", 0x04: "optimistic", 0x08: "dadfailed", 0x20: "deprecated", 0x40: "tentative", 0x200: "noprefixroute",
}  # fmt: skip


def read_addresses(netlink: Netlink, decode: Memo[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return all addresses of the namespace. Raises as `Netlink.dump` does."""
    return [decode(message) for message in netlink.dump(_GET_ADDRESS, _ADDRESS.pack(0, 0, 0, 0, 0))]


def address_documents(addresses: Iterable[Mapping[str, Any]], links: Iterable[Link]) -> list[dict[str, Any]]:
    """Return addresses with the names of their interfaces, without the link-local ones of ports of bridges.

    Packets to one of these, of which each container brings one, come in by the bridge, whose address it is not: nobody
    answers for it (ipv6_get_ifaddr asks for the interface), and nobody takes them (rt6_need_strict).
    """
    names, ports = {link.index: link.name for link in links}, bridge_ports(links)
    return [
        {**address, "ifname": names.get(address["ifindex"], "")}
        for address in addresses
        if address["ifindex"] not in ports or not is_link_local(address["local"])
    ]


def _named(link: Link, names: Mapping[int, str]) -> dict[str, Any]:
    document = dict(link.document)
    if link.master:
        document["master"] = names.get(link.master, f"if{link.master}")
    if link.parent:
        document["link_index"] = link.parent
        if link.peer_namespace is None:
            document["link"] = names.get(link.parent, f"if{link.parent}")
    if link.peer_namespace is not None:
        document["link_netnsid"] = link.peer_namespace
    return document


@lru_cache(maxsize=1 << 8)
def _flags(flags: int) -> list[str]:
    """Return what flags are called: one object for all links that have the same, as most have."""
    carrier = ["NO-CARRIER"] if flags & _UP and not flags & _RUNNING else []
    return carrier + [name for bit, name in _FLAGS if flags & bit]


def _link_info(info: Any, kind: str) -> dict[str, Any]:  # noqa: ANN401 - pyroute2 has no types
    data = info.get_attr("IFLA_INFO_DATA")
    told: dict[str, Any] | None = None
    # a kind that pyroute2 does not know comes as text
    if hasattr(data, "get_attr"):
        own = {name: data.get_attr(attr) for attr, name in _INFO.get(kind, {}).items()} | _mode(data, kind)
        told = {name: value for name, value in own.items() if value is not None}
    slave = info.get_attr("IFLA_INFO_SLAVE_KIND")
    port = info.get_attr("IFLA_INFO_SLAVE_DATA")
    switches = _port(port) if slave == "bridge" and hasattr(port, "get_attr") else None
    return _shared(kind, _items(told), slave or "", _items(switches))


def _items(told: Mapping[str, Any] | None) -> Items | None:
    return None if told is None else tuple(told.items())


Items = tuple[tuple[str, Any], ...]


@lru_cache(maxsize=1 << 10)
def _shared(kind: str, told: Items | None, slave: str, switches: Items | None) -> dict[str, Any]:
    """Return one object for all links that say the same: the cables of ten thousand containers do."""
    document: dict[str, Any] = {"info_kind": kind}
    if told is not None:
        document["info_data"] = dict(told)
    if slave:
        document["info_slave_kind"] = slave
    if switches is not None:
        document["info_slave_data"] = dict(switches)
    return document


def _mode(data: Any, kind: str) -> dict[str, Any]:  # noqa: ANN401
    if kind in ("macvlan", "macvtap"):
        mode = data.get_attr(f"IFLA_{kind.upper()}_MODE")
        return {"mode": mode if isinstance(mode, str) else _MACVLAN_MODES.get(mode, str(mode))}
    if kind in ("ipvlan", "ipvtap"):
        mode, flags = data.get_attr("IFLA_IPVLAN_MODE"), data.get_attr("IFLA_IPVLAN_FLAGS") or 0
        told = {name: True for bit, name in ((1, "private"), (2, "vepa")) if flags & bit}
        return {"mode": _IPVLAN_MODES.get(mode, str(mode)), **told}
    return {}


def _port(port: Any) -> dict[str, Any]:  # noqa: ANN401
    state = port.get_attr("IFLA_BRPORT_STATE")
    known = isinstance(state, int) and 0 <= state < len(_PORT_STATES)
    document: dict[str, Any] = {"state": _PORT_STATES[state] if known else str(state)}
    for attr, name in _PORT.items():
        value = port.get_attr(attr)
        if value is not None:
            document[name] = bool(value)
    return document


def _conf(message: bytes, name: str) -> dict[str, str]:
    spec = attributes(attributes(message, 32).get(_AF_SPEC, b""), 0)
    arrays = (
        (f"ipv4/conf/{name}", attributes(spec.get(_AF_INET, b""), 0).get(_INET_CONF, b""), _CONF4),
        (f"ipv6/conf/{name}", attributes(spec.get(_AF_INET6, b""), 0).get(_INET6_CONF, b""), _CONF6),
    )
    return {
        f"{folder}/{names[place]}": str(value)
        for folder, array, names in arrays
        for place, (value,) in enumerate(struct.iter_unpack("=i", array[: len(array) & ~3]))
        if place in names and (names[place], value) not in _EVERYWHERE
    }
