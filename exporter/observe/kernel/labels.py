"""Labels of addresses of IPv6, by which a namespace chooses what to send from, as `ip -json addrlabel` tells them."""

from __future__ import annotations

import errno
import struct
from ipaddress import IPv6Address
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from exporter.model.namespace import USUAL_LABELS
from exporter.observe.kernel.links import is_link_local
from exporter.observe.kernel.netlink import attributes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from exporter.observe.kernel.links import Link
    from exporter.observe.kernel.memo import Memo
    from exporter.observe.kernel.netlink import Netlink

_GET_LABEL = 74
_MESSAGE = struct.Struct("=BxBxII")
"""Family, length of the prefix, ifindex, number of the change (struct ifaddrlblmsg)."""
_ATTRIBUTES = 28
"""Where attributes begin: after the header of netlink and the message's own."""
_ADDRESS, _LABEL = 1, 2
_AF_INET6 = 10
_LOOPBACK: Final = "::1"


class Label(NamedTuple):
    """A label, before the index in it is a name."""

    address: str
    length: int
    value: int
    device: int


_USUAL = [Label(str(each.prefix.network_address), each.prefix.prefixlen, each.label, 0) for each in USUAL_LABELS]


def matter(addresses: Iterable[Mapping[str, Any]]) -> bool:
    """Return whether a namespace has several addresses to choose from: few have, and to ask takes 0.1 ms."""
    told: Iterator[str] = (each["local"] for each in addresses if each["family"] == "inet6")
    return sum(own != _LOOPBACK and not is_link_local(own) for own in told) > 1


def read_labels(netlink: Netlink, links: Iterable[Link], decode: Memo[Label]) -> list[dict[str, Any]] | None:
    """Return the labels in the kernel's order, None where they are those of every namespace. Raises as `dump`.

    Labels at interfaces that went away are left out.
    """
    try:
        messages = netlink.dump(_GET_LABEL, _MESSAGE.pack(_AF_INET6, 0, 0, 0))
    except OSError as error:
        if error.errno == errno.EOPNOTSUPP:  # a kernel that was started without IPv6 (ipv6.disable=1)
            return None
        raise
    found = [decode(message) for message in messages]
    if found == _USUAL:
        return None
    names = {link.index: link.name for link in links}
    return [_document(each, names.get(each.device, "")) for each in found if not each.device or each.device in names]


def decode_label(message: bytes) -> Label:
    """Return what a message about a label says."""
    _, length, device, _ = _MESSAGE.unpack_from(message, 16)
    told = attributes(message, _ATTRIBUTES)
    return Label(str(IPv6Address(told[_ADDRESS])), length, int.from_bytes(told[_LABEL], "little"), device)


def _document(label: Label, name: str) -> dict[str, Any]:
    own = {"ifname": name} if name else {}
    return {"address": label.address, "prefixlen": label.length, "label": label.value, **own}
