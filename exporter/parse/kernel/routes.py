"""`ip -json -details route` and `rule` to routes and policy rules.

    {"type": "unicast", "dst": "default", "gateway": "172.17.0.1", "dev": "eth0", "table": "main", "metric": 100}
    {"dst": "10.0.0.0/8", "nexthops": [{"gateway": "10.1.0.1", "dev": "eth0", "flags": []}]}
    {"priority": 100, "not": true, "src": "10.0.0.0", "srclen": 8, "fwmark": "0x1", "fwmask": "0xff", "table": "7"}

What is printed of IPv4 and IPv6 looks the same for `default` and `all`: `family` (`inet`, `inet6`) tells which it is.
"""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Network, IPv6Network
from itertools import chain
from typing import TYPE_CHECKING, Any

from exporter.errors import ObservationError
from exporter.model.namespace import LOCAL_TABLE, USUAL_RULES, Hop, PolicyRule, Route, RouteKind, RuleAction
from exporter.parse.aligned import Indexed
from exporter.parse.fields import address, integer, mapping, objects, strings, subnet, text
from exporter.parse.kernel.interfaces import is_coming
from exporter.parse.kernel.values import ALL_BITS, HIGHEST_PORT, number, protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from exporter.model.addresses import Subnet

_TABLES = {"local": 255, "main": 254, "default": 253, "unspec": 0, "all": 0}
_NAMED_TABLES = 1 << 32
_DIGITS = len(str(_NAMED_TABLES))
_ANYWHERE: Mapping[int, Subnet] = {4: IPv4Network("0.0.0.0/0"), 6: IPv6Network("::/0")}
_FAMILIES = {"inet": 4, "inet6": 6}


def table_number(document: Mapping[str, Any], usual: str) -> int:
    """Return the number of a document's `table`.

    A name that only the host's rt_tables knows gets a number of its own, beyond all real ones: equal names are equal
    tables.
    """
    value = document.get("table", usual)
    told = str(value)
    if told.isascii() and told.isdecimal() and len(told) <= _DIGITS:
        return int(told)
    return _TABLES.get(told) or _NAMED_TABLES + int.from_bytes(told.encode(errors="surrogatepass"), "big")


def family_of(document: Mapping[str, Any], *texts: str) -> int:
    """Return 4 or 6, as told by `family` or, without it, by any of the texts that is an address."""
    told = _FAMILIES.get(text(document, "family"))
    if told is not None:
        return told
    found = next((parsed for parsed in map(subnet, texts) if parsed is not None), None)
    return found.version if found else 6 if "pref" in document else 4


# --- Routes ---


def parse_routes(
    documents: Sequence[Mapping[str, Any]], indexes: Mapping[str, int], memory: Indexed[Route | None] | None = None
) -> tuple[Route, ...]:
    """Return routes, given the indexes of interfaces by name. Raises ObservationError for what is no route."""
    known = memory or Indexed["Route | None"]()
    moved = known.moved(indexes)
    links = {name: (Hop(index),) for name, index in indexes.items()}

    def understand(document: Mapping[str, Any]) -> Route | None:
        return _route(document, links)

    def holds(document: Mapping[str, Any], _: Route | None) -> bool:
        return "nexthops" not in document and text(document, "dev") not in moved

    found = known.aligned(documents, understand, holds if moved and _mention(documents, moved) else None)
    known.indexes = indexes
    return tuple([route for route in found if route is not None])


def coming_routes(documents: Iterable[Mapping[str, Any]], indexes: Mapping[str, int]) -> Iterator[Route]:
    """Yield the routes to link-local addresses that are about to be in use (ipv6_ifa_notify)."""
    for document in documents:
        index = indexes.get(text(document, "ifname"))
        own = address(text(document, "local")) if index is not None and is_coming(document) else None
        if own is not None and index is not None:
            yield Route(LOCAL_TABLE, RouteKind.LOCAL, IPv6Network(int(own)), (Hop(index),))


def _mention(documents: Sequence[Mapping[str, Any]], interfaces: frozenset[str]) -> bool:
    """Return whether a route may lead over one of some interfaces."""
    named = {name for document in documents if isinstance(name := document.get("dev"), str)}
    return not named.isdisjoint(interfaces) or any("nexthops" in document for document in documents)


def _route(document: Mapping[str, Any], links: Mapping[str, tuple[Hop, ...]]) -> Route | None:
    """Return a route, given what leads to those on the link of each interface: one object for all of its routes."""
    kind = _kind(document)
    several = objects(document, "nexthops") if "nexthops" in document else ()
    hops = tuple(chain.from_iterable(_hops(hop, links) for hop in several)) if several else _hops(document, links)
    if kind is RouteKind.UNICAST and not hops:
        return None  # its interfaces are down, or went away while they were listed
    route = Route(
        table=table_number(document, "main"),
        kind=kind,
        destination=_destination(document),
        hops=hops,
        source=address(text(document, "prefsrc")),
        metric=integer(document, "metric"),
    )
    if _SELDOM.isdisjoint(document):
        return route
    return replace(
        route,
        senders=_senders(document),
        preference=_PREFERENCES.get(text(document, "pref"), 0),
        tos=text(document, "tos"),
        hop_limit=next((integer(told, "hoplimit") for told in objects(document, "metrics")), 0),
        tunnelled=any("encap" in way for way in (document, *several)),
    )


_SELDOM = frozenset({"from", "pref", "tos", "metrics", "encap", "nexthops"})
"""What few routes tell."""


def _kind(document: Mapping[str, Any]) -> RouteKind:
    """Return what a route does: one of anycast by loopback throws packets away (ip6_rt_init_dst_reject)."""
    kind = _KINDS.get(text(document, "type") or "unicast", RouteKind.OTHER)
    return RouteKind.UNREACHABLE if kind is RouteKind.ANYCAST and text(document, "dev") == "lo" else kind


_KINDS = {kind.value: kind for kind in RouteKind}
_PREFERENCES = {"high": 1, "low": -1}


def _destination(document: Mapping[str, Any]) -> Subnet:
    told = text(document, "dst")
    if told == "default":
        gateways = [text(hop, "gateway") for hop in objects(document, "nexthops")]
        named = (text(document, key) for key in ("gateway", "prefsrc", "from"))
        return _ANYWHERE[family_of(document, *named, *gateways)]
    found = subnet(told)
    if found is None:
        raise ObservationError(f"a route to {told!r}")
    return found


def _senders(document: Mapping[str, Any]) -> Subnet | None:
    if "from" not in document:
        return None
    found = subnet(text(document, "from"))
    if found is None:
        raise ObservationError(f"a route from {document['from']!r}")
    return found


def _hops(hop: Mapping[str, Any], links: Mapping[str, tuple[Hop, ...]]) -> tuple[Hop, ...]:
    """Return a next hop, if it works: the kernel passes over dead ones, and uses those without carrier."""
    link = links.get(text(hop, "dev"), ())
    if hop.get("flags") and "dead" in strings(hop, "flags"):
        return ()
    gateway = text(hop, "gateway") or ("via" in hop and text(mapping(hop, "via"), "host"))
    return tuple(Hop(each.interface, address(gateway)) for each in link) if gateway else link


# --- Policy rules ---

_UNDERSTOOD = frozenset({
    "action", "dport", "dport_end", "dport_start", "dst", "dstlen", "family", "fwmark", "fwmask", "goto", "iif",
    "iif_detached", "ipproto", "nop", "not", "oif", "oif_detached", "priority", "protocol", "sport", "sport_end",
    "sport_start", "src", "srclen", "suppress_prefixlen", "table", "uid_end", "uid_start", "unresolved",
})  # fmt: skip
_WITH_GROUP = _UNDERSTOOD | {"suppress_ifgroup"}


def parse_rules(documents: Sequence[Mapping[str, Any]] | None) -> tuple[PolicyRule, ...]:
    """Return policy rules by priority, the usual ones where none were told. Raises ObservationError for what is none.

    Keys that are not understood become the rule's `opaque`.
    """
    if documents is None:
        return USUAL_RULES
    rules = []
    for document in documents:
        try:
            rules.append(_rule(document))
        except ValueError as error:
            raise ObservationError(f"policy rule {integer(document, 'priority')}: {error}") from error
    return tuple(sorted(rules, key=lambda rule: rule.priority))


def _rule(document: Mapping[str, Any]) -> PolicyRule:
    source, destination = _selector(document, "src"), _selector(document, "dst")
    action, target = _action(document)
    group = _suppressed_group(document)
    return PolicyRule(
        family=family_of(document, text(document, "src"), text(document, "dst")),
        priority=integer(document, "priority"),
        action=action,
        table=table_number(document, "main"),
        inverted="not" in document,
        source=source,
        destination=destination,
        input_interface=text(document, "iif"),
        output_interface=text(document, "oif"),
        mark=_number(document, "fwmark", 0),
        mark_mask=_number(document, "fwmask", ALL_BITS if "fwmark" in document else 0),
        protocol=protocol(str(document["ipproto"])) if "ipproto" in document else None,
        source_ports=_ports(document, "sport"),
        destination_ports=_ports(document, "dport"),
        users=_users(document),
        suppress_prefix_length=integer(document, "suppress_prefixlen") if "suppress_prefixlen" in document else None,
        suppress_group=group,
        goto=target,
        opaque=", ".join(sorted(map(str, document.keys() - (_UNDERSTOOD if group is None else _WITH_GROUP)))),
    )


def _suppressed_group(document: Mapping[str, Any]) -> int | None:
    """Return the number of a group of interfaces, None where there is none, or a name that only who gave it knows."""
    told = str(document.get("suppress_ifgroup", ""))
    return 0 if told == "default" else int(told) if told.isdecimal() else None


def _selector(document: Mapping[str, Any], key: str) -> Subnet | None:
    told = text(document, key)
    if told in ("", "all"):
        return None
    length = f"{key}len"
    found = subnet(f"{told}/{integer(document, length)}" if length in document else told)
    if found is None:
        raise ValueError(f"{key} {told!r}")
    return found


def _action(document: Mapping[str, Any]) -> tuple[RuleAction, int | None]:
    """Return what a rule does and the priority that it goes to. A `goto` without a target does nothing."""
    if "goto" in document:
        target = document["goto"]
        return (RuleAction.GOTO, target) if isinstance(target, int) else (RuleAction.NOP, None)
    if "nop" in document:
        return RuleAction.NOP, None
    told = text(document, "action") or RuleAction.LOOKUP
    return RuleAction.LOOKUP if told in ("to_tbl", "unicast") else RuleAction(told), None


def _number(document: Mapping[str, Any], key: str, usual: int) -> int:
    return number(str(document[key])) if key in document else usual


def _users(document: Mapping[str, Any]) -> tuple[int, int] | None:
    if "uid_start" not in document:
        return None
    return integer(document, "uid_start"), integer(document, "uid_end")


def _ports(document: Mapping[str, Any], key: str) -> tuple[int, int] | None:
    """`"sport": 80`, or `"sport_start": 80, "sport_end": 90`."""
    low, high = document.get(key, document.get(f"{key}_start")), document.get(key, document.get(f"{key}_end"))
    return None if low is None or high is None else (number(str(low), HIGHEST_PORT), number(str(high), HIGHEST_PORT))
