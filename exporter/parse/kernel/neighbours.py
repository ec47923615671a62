"""`ip -json neigh` and `bridge -json fdb` to what is fixed of neighbours and known to bridges.

{"dst": "172.17.0.3", "dev": "eth0", "lladdr": "02:42:ac:11:00:03", "state": ["PERMANENT"]}
{"dst": "172.18.0.2", "dev": "docker0", "proxy": true}
{"mac": "02:42:ac:11:00:03", "ifname": "veth24a1e5c", "flags": [], "master": "docker0", "state": "static"}
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from exporter.errors import ObservationError
from exporter.model.namespace import ForwardingEntry, Neighbour, ProxiedNeighbour
from exporter.parse.fields import integer, link_address, strings, text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from exporter.model.addresses import Address


def parse_neighbours(documents: Sequence[Mapping[str, Any]], indexes: Mapping[str, int]) -> tuple[Neighbour, ...]:
    """Return the neighbours whose link address is fixed. Raises ObservationError for wrong ones."""
    return tuple(
        Neighbour(indexes[text(document, "dev")], _address(document), link_address(document, "lladdr").lower())
        for document in documents
        if not document.get("proxy") and text(document, "dev") in indexes
    )


def parse_proxied(documents: Sequence[Mapping[str, Any]], indexes: Mapping[str, int]) -> tuple[ProxiedNeighbour, ...]:
    """Return what is answered for in the place of others, by interface, 0 for all. Raises ObservationError likewise."""
    return tuple(
        ProxiedNeighbour(indexes.get(text(document, "dev"), 0), _address(document))
        for document in documents
        if document.get("proxy") and (not text(document, "dev") or text(document, "dev") in indexes)
    )


def parse_forwarding(documents: Sequence[Mapping[str, Any]], indexes: Mapping[str, int]) -> tuple[ForwardingEntry, ...]:
    """Return what bridges know of link addresses.

    Entries that the kernel made for whoever knocks at a locked port (`locked`) let nobody in (BR_FDB_LOCKED), and what
    somebody else keeps up to date (`extern_learn`) does not age (br_fdb_cleanup).
    """
    return tuple(
        ForwardingEntry(
            port=indexes[text(document, "ifname")],
            mac=text(document, "mac").lower(),
            vlan=integer(document, "vlan"),
            local=text(document, "state") == "permanent",
            lasting=text(document, "state") == "static" or "extern_learn" in strings(document, "flags"),
            sticky="sticky" in strings(document, "flags"),
        )
        for document in documents
        if text(document, "ifname") in indexes and "locked" not in strings(document, "flags")
    )


def _address(document: Mapping[str, Any]) -> Address:
    try:
        return ip_address(text(document, "dst"))
    except ValueError as error:
        raise ObservationError(f"a neighbour at {text(document, 'dev')}: {error}") from error
