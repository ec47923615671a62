"""Routes and policy rules of both families, with the keys and values of `ip -json -details route` and `rule`.

`family` (`inet`, `inet6`) is added, and what `ip` writes as a key with null is true here.
"""

from __future__ import annotations

import errno
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from exporter.observe.kernel import netns
from exporter.observe.kernel.links import bridge_ports, is_link_local
from exporter.observe.kernel.messages import fibmsg, rtmsg
from exporter.observe.kernel.netlink import attributes
from exporter.observe.kernel.nexthops import read_nexthops

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from exporter.observe.kernel.links import Link
    from exporter.observe.kernel.memo import Memo
    from exporter.observe.kernel.netlink import Netlink
    from exporter.observe.kernel.nexthops import Nexthop

FAMILIES: Final = {2: "inet", 10: "inet6"}

_GET_ROUTE, _GET_RULE = 26, 34
_MESSAGE = struct.Struct("=BBBBBBBBI")
_HOST = {2: 32, 10: 128}
_TYPES: Final = (
    "none", "unicast", "local", "broadcast", "anycast", "multicast", "blackhole", "unreachable", "prohibit", "throw",
    "nat", "xresolve",
)  # fmt: skip
_TABLES: Final = {253: "default", 254: "main", 255: "local"}
_HOP_FLAGS: Final = ((1, "dead"), (4, "onlink"), (2, "pervasive"), (8, "offload"), (16, "linkdown"), (32, "unresolved"))
_CLONED = 0x200
_HEADERS = 28
"""Bytes of the headers of netlink and of a route."""
_NEXTHOP_ID: Final = 30
"""RTA_NH_ID, which pyroute2 does not know."""
_PREFERENCES: Final = {1: "high", 3: "low"}
"""All but the usual one (`medium`), as ICMPV6_ROUTER_PREF_…"""
_PROTOCOLS: Final = {1: "icmp", 6: "tcp", 17: "udp", 58: "ipv6-icmp", 132: "sctp"}


@dataclass(frozen=True, slots=True)
class Route:
    """A route, before the indexes in it are names."""

    document: Mapping[str, Any]
    device: int | None
    hops: tuple[tuple[Mapping[str, Any], int], ...] = ()


def read_routes(netlink: Netlink, decode: Memo[Route | None]) -> list[Route]:
    """Return the routes of all tables and families. Raises as `Netlink.dump` does."""
    found = []
    for family in FAMILIES:
        for message in netlink.dump(_GET_ROUTE, _MESSAGE.pack(family, 0, 0, 0, 0, 0, 0, 0, 0)):
            # the kernel lists IPv6 routes for other families too, where that one is not there
            route = decode(message) if message[16] == family else None
            if route is not None:
                found.append(route)
    if any(map(_untold, found)):
        objects = read_nexthops(netlink)
        return [_by_objects(route, objects) if _untold(route) else route for route in found]
    return found


def _untold(route: Route) -> bool:
    """Return whether a route tells nothing of where it leads but the id of a nexthop object."""
    return "nhid" in route.document and route.device is None and not route.hops


def _by_objects(route: Route, objects: Mapping[int, Nexthop]) -> Route:
    """Return a route as the kernel tells it with `nexthop_compat_mode`."""
    told = objects.get(route.document["nhid"])
    if told is None:
        return route
    family = route.document["family"]
    members = ((objects[identity], weight) for identity, weight in told.members if identity in objects)
    hops = tuple(
        ({**_by_object(each, family), "weight": weight, "flags": _hop_flags(each.flags)}, each.device)
        for each, weight in members
        if each.device is not None
    )
    flags = _hop_flags(told.flags)
    own = _by_object(told, family) | ({"flags": flags} if flags else {})
    return Route({**route.document, **own}, told.device, hops)


def _by_object(nexthop: Nexthop, family: str) -> dict[str, Any]:
    way: dict[str, Any] = {}
    if nexthop.gateway:
        own = FAMILIES.get(nexthop.family, str(nexthop.family))
        way = {"gateway": nexthop.gateway} if own == family else {"via": {"family": own, "host": nexthop.gateway}}
    return way | ({"encap": str(nexthop.encap)} if nexthop.encap else {})


def decode_route(message: bytes) -> Route | None:
    """Return what a message about a route says; None for one that was made for a single connection."""
    decoded = rtmsg(message)
    decoded.decode()
    family, flags = decoded["family"], decoded["flags"]
    if flags & _CLONED:
        return None
    document: dict[str, Any] = {
        "family": FAMILIES[family],
        "type": _TYPES[decoded["type"]] if decoded["type"] < len(_TYPES) else str(decoded["type"]),
        "dst": _prefix(decoded.get_attr("RTA_DST"), decoded["dst_len"], family),
        "table": table_name(decoded.get_attr("RTA_TABLE") or decoded["table"]),
    }
    if told := _hop_flags(flags):
        document["flags"] = told
    if decoded["src_len"]:
        document["from"] = _prefix(decoded.get_attr("RTA_SRC"), decoded["src_len"], family)
    if decoded["tos"]:
        document["tos"] = f"{decoded['tos']:#x}"
    optional = {
        "prefsrc": decoded.get_attr("RTA_PREFSRC"),
        "metric": decoded.get_attr("RTA_PRIORITY"),
        "nhid": _nexthop(message),
        "pref": _PREFERENCES.get(decoded.get_attr("RTA_PREF")),
        "metrics": _metrics(decoded.get_attr("RTA_METRICS")),
        **_way(decoded),
    }
    document |= {key: value for key, value in optional.items() if value is not None}
    hops = tuple(
        ({**_way(hop), "weight": hop["hops"] + 1, "flags": _hop_flags(hop["flags"])}, hop["oif"])
        for hop in decoded.get_attr("RTA_MULTIPATH") or ()
    )
    return Route(document, decoded.get_attr("RTA_OIF"), hops)


def _metrics(told: Any) -> list[dict[str, int]] | None:  # noqa: ANN401 - pyroute2 has no types
    """Return the metrics that decide about packets, as `ip` shows them."""
    limit = told.get_attr("RTAX_HOPLIMIT") if told is not None else None
    return [{"hoplimit": limit}] if limit else None


def route_documents(routes: Iterable[Route], links: Iterable[Link]) -> list[dict[str, Any]]:
    """Return routes with the names of interfaces, without those that IPv6 makes for ports of bridges.

    Of these, to link-local and multicast addresses, each container brings four. Such a route counts for packets that
    came in by its interface, or are sent there by name (rt6_need_strict): by a port of a bridge, none is.
    """
    names, ports = {link.index: link.name for link in links}, bridge_ports(links)
    documents = []
    for route in routes:
        if route.device in ports and _is_made(route.document["dst"]):
            continue
        document = dict(route.document)
        if route.device:
            document["dev"] = names.get(route.device, f"if{route.device}")
        if route.hops:
            document["nexthops"] = [{**hop, "dev": names.get(index, f"if{index}")} for hop, index in route.hops]
        documents.append(document)
    return documents


def _is_made(destination: str) -> bool:
    return destination == "ff00::/8" or is_link_local(destination)


def read_rules(netlink: Netlink, decode: Memo[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the policy rules of both families. Raises as `Netlink.dump` does.

    Those that ask for users are `foreign` where nobody can tell whom the namespace calls by these numbers.
    """
    told = (message for family in FAMILIES for message in _rules_of(netlink, family) if message[16] == family)
    found = [decode(message) for message in told]
    if not any("uid_start" in rule for rule in found) or netns.has_the_machines_users():
        return found
    return [rule | {"foreign": True} if "uid_start" in rule else rule for rule in found]


def _rules_of(netlink: Netlink, family: int) -> list[bytes]:
    """Return the rules of a family: none, where the kernel was started without it (ipv6.disable=1)."""
    try:
        return netlink.dump(_GET_RULE, _MESSAGE.pack(family, 0, 0, 0, 0, 0, 0, 0, 0))
    except OSError as error:
        if error.errno == errno.EAFNOSUPPORT:  # fib_nl_dumprule
            return []
        raise


def table_name(table: int) -> str:
    """Return a routing table as `ip` prints it on a machine where nobody named any."""
    return _TABLES.get(table, str(table))


_INVERT, _UNRESOLVED = 0x2, 0x4
_TO_TABLE, _GOTO, _NOP = 1, 2, 3
_NO_SUPPRESSION = 0xFFFFFFFF
_BODY = 28
"""Bytes of the headers of netlink and of a rule."""
_PORT_MASKS, _WHOLE = (28, 29), b"\xff\xff"
"""FRA_SPORT_MASK and FRA_DPORT_MASK (Linux 6.15), told of each rule for a single port, whoever gave it."""


def decode_rule(message: bytes) -> dict[str, Any]:
    """Return a policy rule. `unknown` lists the attributes of newer kernels that are not understood."""
    decoded = fibmsg(message)
    decoded.decode()
    value = decoded.get_attr
    family = decoded["family"]
    document: dict[str, Any] = {"family": FAMILIES[family], "priority": value("FRA_PRIORITY") or 0}
    if decoded["flags"] & _INVERT:
        document["not"] = True
    document |= _selector("src", value("FRA_SRC"), decoded["src_len"], family)
    document |= _selector("dst", value("FRA_DST"), decoded["dst_len"], family)
    document |= _conditions(decoded)
    document |= _action(decoded)
    told = attributes(message, _BODY)
    usual = {number for number in _PORT_MASKS if told.get(number) == _WHOLE}
    unknown = [entry[1]["header"]["type"] for entry in decoded["attrs"] if entry[0] == "UNKNOWN"]
    unknown = [number for number in unknown if number not in usual]
    return document | ({"unknown": unknown} if unknown else {})


def _selector(name: str, address: str | None, length: int, family: int) -> dict[str, Any]:
    if not length and address is None:
        return {"src": "all"} if name == "src" else {}
    zero = "0.0.0.0" if family == 2 else "::"  # noqa: S104 - no address to listen on
    document: dict[str, Any] = {name: address or zero}
    return document if length == _HOST[family] else document | {f"{name}len": length}


def _conditions(decoded: Any) -> dict[str, Any]:  # noqa: ANN401 - pyroute2 has no types
    value = decoded.get_attr
    mark, mask = value("FRA_FWMARK"), value("FRA_FWMASK")
    number, uids = value("FRA_IP_PROTO"), value("FRA_UID_RANGE")
    prefix, group = value("FRA_SUPPRESS_PREFIXLEN"), value("FRA_SUPPRESS_IFGROUP")
    found: dict[str, Any] = {
        "tos": f"{decoded['tos']:#x}" if decoded["tos"] else None,
        "iif": value("FRA_IIFNAME"),
        "oif": value("FRA_OIFNAME"),
        "l3mdev": True if value("FRA_L3MDEV") else None,
        "ipproto": _PROTOCOLS.get(number, str(number)) if number else None,
        "tun_id": value("FRA_TUN_ID") or None,
        "suppress_prefixlen": None if prefix in (None, _NO_SUPPRESSION) else prefix,
        "suppress_ifgroup": None if group in (None, _NO_SUPPRESSION) else group,
    }
    if mark is not None or mask:
        found["fwmark"] = f"{mark or 0:#x}"
        found["fwmask"] = None if mask in (None, _NO_SUPPRESSION) else f"{mask:#x}"
    if uids:
        found["uid_start"], found["uid_end"] = map(int, uids.split(":"))
    for name, ports in (("sport", value("FRA_SPORT_RANGE")), ("dport", value("FRA_DPORT_RANGE"))):
        if ports:
            first, last = map(int, ports.split(":"))
            found |= {name: first} if first == last else {f"{name}_start": first, f"{name}_end": last}
    return {key: entry for key, entry in found.items() if entry is not None}


def _action(decoded: Any) -> dict[str, Any]:  # noqa: ANN401
    action = decoded["action"]
    if action == _TO_TABLE:
        table = decoded.get_attr("FRA_TABLE") or decoded["table"]
        return {"table": table_name(table)} if table else {}
    if action == _GOTO:
        goto = {"goto": decoded.get_attr("FRA_GOTO") or 0}
        return goto | ({"unresolved": True} if decoded["flags"] & _UNRESOLVED else {})
    if action == _NOP:
        return {"nop": True}
    return {"action": _TYPES[action] if action < len(_TYPES) else str(action)}


def _way(decoded: Any) -> dict[str, Any]:  # noqa: ANN401
    """Return where a route or a next hop leads, beside its interface."""
    gateway, via, tunnel = (decoded.get_attr(name) for name in ("RTA_GATEWAY", "RTA_VIA", "RTA_ENCAP_TYPE"))
    way: dict[str, Any] = {"gateway": gateway} if gateway else {}
    if via:
        way["via"] = {"family": FAMILIES.get(via["family"], str(via["family"])), "host": via["addr"]}
    return way | ({"encap": str(tunnel)} if tunnel else {})


def _nexthop(message: bytes) -> int | None:
    told = attributes(message, _HEADERS).get(_NEXTHOP_ID)
    return None if told is None else int.from_bytes(told, "little")


def _prefix(address: str | None, length: int, family: int) -> str:
    if not length or address is None:
        return "default"
    return address if length == _HOST[family] else f"{address}/{length}"


def _hop_flags(flags: int) -> list[str]:
    return [name for bit, name in _HOP_FLAGS if flags & bit]
