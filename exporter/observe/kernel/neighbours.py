"""Neighbours that somebody set, and what bridges know of link addresses, as `ip -json neigh` and `bridge -json fdb`.

Neighbours that were learned are left out: they come and go with packets.
"""

from __future__ import annotations

import struct
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final

from exporter.observe.kernel.netlink import attributes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from exporter.observe.kernel.links import Link
    from exporter.observe.kernel.netlink import Netlink

_GET_NEIGHBOUR = 30
_MESSAGE = struct.Struct("=B3xiHBB")
"""Family, ifindex, state, flags, type (struct ndmsg)."""
_ATTRIBUTES = 28
"""Where attributes begin: after the header of netlink and the message's own."""
_DST, _LLADDR, _VLAN, _MASTER, _FLAGS_EXT = 1, 2, 5, 9, 15

_AF_BRIDGE = 7
_LENGTHS: Final = {2: 4, 10: 16}
"""Bytes of an address by family."""
_MAC = len("00:00:00:00:00:00")
"""Tunnels have other link addresses, and only their ends."""
_NOARP, _PERMANENT = 0x40, 0x80
_FIXED: Final = ((_PERMANENT, "PERMANENT"), (_NOARP, "NOARP"))
_PROXY = 0x08
_FDB_FLAGS: Final = ((0x10, "extern_learn"), (0x20, "offload"), (0x40, "sticky"))
_SELF, _TOLD = 0x02, 0x10 | 0x40
_LOCKED = 0x2


def read_neighbours(netlink: Netlink, links: Iterable[Link]) -> list[dict[str, Any]]:
    """Return the neighbours of both families that are fixed, and those that are answered for. Raises as `dump`.

    The kernel itself makes noarp entries for groups, and with a link's own address where that resolves none, as on
    loopback (arp_constructor, ndisc_constructor): those say nothing that is not known, and come and go.
    """
    known = list(links)
    names = {link.index: link.name for link in known}
    silent = {
        link.index: link.document.get("address")
        for link in known
        if not {"LOOPBACK", "NOARP"}.isdisjoint(link.document["flags"])
    }
    documents: list[dict[str, Any]] = []
    for flags in (0, _PROXY):
        for message in netlink.dump(_GET_NEIGHBOUR, _MESSAGE.pack(0, 0, 0, flags, 0)):
            documents += _neighbour(message, names, silent)
    return documents


def _neighbour(message: bytes, names: Mapping[int, str], silent: Mapping[int, str | None]) -> Iterator[dict[str, Any]]:
    family, index, state, flags, _ = _MESSAGE.unpack_from(message, 16)
    proxy = bool(flags & _PROXY)
    # one that is answered for without an interface is answered for on all of them
    named = index in names or (proxy and not index)
    if family not in _LENGTHS or not named or not (proxy or state & (_NOARP | _PERMANENT)):
        return
    told = attributes(message, _ATTRIBUTES)
    address = told.get(_DST, b"")
    if len(address) != _LENGTHS[family] or ip_address(address).is_multicast:
        return
    document: dict[str, Any] = {"dst": str(ip_address(address))}
    if index:
        document["dev"] = names[index]
    mac = _text(told.get(_LLADDR, b""))
    if proxy:
        yield document | {"proxy": True}
    elif len(mac) == _MAC and not (state == _NOARP and silent.get(index) == mac):
        yield document | {"lladdr": mac, "state": [name for bit, name in _FIXED if state & bit]}


def needs_fdb(documents: Iterable[Mapping[str, Any]]) -> bool:
    """Return whether a port of a bridge does with frames what depends on whom the bridge knows."""
    for document in documents:
        port = document.get("linkinfo", {}).get("info_slave_data", {})
        if port.get("locked") or port.get("proxy_arp") or not (port.get("learning", True) and port.get("flood", True)):
            return True
    return False


def read_fdb(netlink: Netlink, links: Iterable[Link], *, whole: bool) -> list[dict[str, Any]]:
    """Return what bridges know of link addresses: all of it, or what somebody told them. Raises as `Netlink.dump`."""
    known = list(links)
    if not any(link.kind == "bridge" for link in known):
        return []
    names = {link.index: link.name for link in known}
    messages = netlink.dump(_GET_NEIGHBOUR, _MESSAGE.pack(_AF_BRIDGE, 0, 0, 0, 0))
    if not whole:
        own = {link.index: _bytes(link.document.get("address")) for link in known}
        messages = [message for message in messages if _was_told(message, own)]
    return [document for message in messages for document in _fdb_entry(message, names)]


def _was_told(message: bytes, own: Mapping[int, bytes]) -> bool:
    """Return whether an entry is neither learned nor that of a device's own address, which the kernel makes.

    Hosts have thousands of the latter, so messages are not taken apart for that.
    """
    _, index, state, flags, _ = _MESSAGE.unpack_from(message, 16)
    if flags & _SELF:
        return False
    if state & _NOARP or flags & _TOLD:
        return True
    return bool(state & _PERMANENT) and own.get(index, b"") not in message


def _bytes(mac: str | None) -> bytes:
    return bytes.fromhex((mac or "").replace(":", ""))


def _fdb_entry(message: bytes, names: Mapping[int, str]) -> Iterator[dict[str, Any]]:
    """Yield an entry of a bridge. Those without a master are the addresses that a device itself listens to (`self`)."""
    _, index, state, flags, _ = _MESSAGE.unpack_from(message, 16)
    told = attributes(message, _ATTRIBUTES)
    if _MASTER not in told or index not in names:
        return
    master = int.from_bytes(told[_MASTER], "little")
    document: dict[str, Any] = {"mac": _text(told.get(_LLADDR, b"")), "ifname": names[index]}
    if _VLAN in told:
        document["vlan"] = int.from_bytes(told[_VLAN], "little")
    document["flags"] = [name for bit, name in _FDB_FLAGS if flags & bit]
    if int.from_bytes(told.get(_FLAGS_EXT, b""), "little") & _LOCKED:
        document["flags"].append("locked")
    document["master"] = names.get(master, f"if{master}")
    document["state"] = "permanent" if state & _PERMANENT else "static" if state & _NOARP else ""
    yield document


def _text(mac: bytes) -> str:
    return mac.hex(":")
