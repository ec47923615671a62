"""What is at the other end of a veth, asked from this one: for those who may not enter sandboxes.

The kernel answers for another namespace that has a number here (`link_netnsid`), if CAP_NET_ADMIN holds there too
(IFLA_TARGET_NETNSID and IFA_TARGET_NETNSID, Linux 4.20 and 5.0).
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Final

from exporter.observe.kernel.links import decode_address, decode_link, is_link_local
from exporter.observe.kernel.netlink import ROUTE, Netlink, attribute

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from exporter.observe.kernel.budget import Budget

_GET_LINK, _GET_ADDRESS = 18, 22
_LINK = struct.Struct("=BxHiII")
_ADDRESS = struct.Struct("=BBBBi")
_EXT_MASK, _LINK_TARGET, _ADDRESS_TARGET = 29, 46, 10
_SKIP_STATS: Final = 8


def with_peers(links: Iterable[Mapping[str, Any]], budget: Budget) -> list[dict[str, Any]]:
    """Return links, those of kind veth with `peer_mac` and `peer_addresses` where the kernel tells them.

    Raises OSError where no netlink can be had at all, Spent.
    """
    seen: dict[int, dict[int, dict[str, Any]]] = {}
    found = []
    with Netlink(ROUTE, budget) as netlink:
        for link in links:
            number = link.get("link_netnsid")
            if number is None or not netlink.strict:
                found.append(dict(link))
                continue
            if number not in seen:
                seen[number] = _ends(netlink, number)
            found.append({**link, **seen[number].get(link.get("link_index", 0), {})})
    return found


def _ends(netlink: Netlink, number: int) -> dict[int, dict[str, Any]]:
    """Return MACs and addresses, without link-local ones, by ifindex in another namespace; nothing if it is silent."""
    target = struct.pack("=i", number)
    try:
        links = netlink.dump(
            _GET_LINK,
            _LINK.pack(0, 0, 0, 0, 0)
            + attribute(_EXT_MASK, struct.pack("=I", _SKIP_STATS))
            + attribute(_LINK_TARGET, target),
        )
        addresses = netlink.dump(_GET_ADDRESS, _ADDRESS.pack(0, 0, 0, 0, 0) + attribute(_ADDRESS_TARGET, target))
    except OSError:
        return {}
    ends = {link.index: _end(link.document) for link in map(decode_link, links)}
    for address in map(decode_address, addresses):
        if address["ifindex"] in ends and not is_link_local(address["local"]):
            ends[address["ifindex"]]["peer_addresses"].append(f"{address['local']}/{address['prefixlen']}")
    return ends


def _end(document: Mapping[str, Any]) -> dict[str, Any]:
    return {"peer_mac": document.get("address", ""), "peer_addresses": []}
