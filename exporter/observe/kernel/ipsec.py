"""Policies of IPsec (`ip xfrm policy`) of the calling thread's namespace."""

from __future__ import annotations

import errno
import struct
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final

from exporter.observe.kernel.modules import present
from exporter.observe.kernel.netlink import XFRM, Netlink, attributes
from exporter.observe.kernel.trouble import Unreadable, reason

if TYPE_CHECKING:
    from exporter.observe.kernel.budget import Budget

_GET_POLICY, _GET_DEFAULT = 0x15, 0x28
_SELECTOR = struct.Struct(">16s16sHHHH")
"""Destination, source, their ports and the masks of those; big-endian, what follows is not."""
_KIND = struct.Struct("=HBBB3xiI")
"""Family, lengths of the prefixes of destination and source, protocol, interface, user."""
_POLICY = struct.Struct("=96xIIBB6x")
"""Lifetimes, priority, number, direction, action."""
_HEADER = 16
_DIRECTIONS: Final = {0: "in", 1: "out", 2: "fwd"}
"""Others are those of single sockets."""
_BLOCK = 1
_TEMPLATES, _MARK, _IF_ID = 5, 21, 31
_INET = 2
_AFTER_ALL = 1 << 32
"""Priorities of policies are smaller."""
_ANYBODY = ("0.0.0.0/0", "::/0")


def read_policies(budget: Budget) -> list[dict[str, Any]]:
    """Return the policies, with `ip`'s words for their parts.

    What is blocked by default (`ip xfrm policy setdefault`) is so by policies of anybody, after all others. `narrow`
    are those that select by more than addresses, `templates` those that want packets transformed. Left out are those of
    interfaces of IPsec (`if_id`), by which no container is reached. Raises Unreadable.
    """
    if not present("xfrm_user", "xfrm_netlink_rcv"):
        return []
    try:
        with Netlink(XFRM, budget) as netlink:
            messages = netlink.dump(_GET_POLICY, b"")
            blocked = _blocked_by_default(netlink)
    except OSError as error:
        if error.errno == errno.EPROTONOSUPPORT:
            return []
        raise Unreadable(reason(error, "policies of IPsec", "CAP_NET_ADMIN")) from error
    return [policy for message in messages if (policy := _decoded(message)) is not None] + blocked


def _blocked_by_default(netlink: Netlink) -> list[dict[str, Any]]:
    """Return policies that stand for the directions in which packets that no policy selects are dropped."""
    try:
        message = netlink.get(_GET_DEFAULT, bytes(4))
    except OSError as error:
        if error.errno == errno.EINVAL:  # before Linux 5.15 there is no such thing
            return []
        raise
    # struct xfrm_userpolicy_default
    actions = dict(zip(("in", "fwd", "out"), message[_HEADER : _HEADER + 3], strict=False))
    return [
        {"dir": direction, "src": anybody, "dst": anybody, "priority": _AFTER_ALL, "action": "block"}
        for direction, action in actions.items()
        if action == _BLOCK
        for anybody in _ANYBODY
    ]


def _decoded(message: bytes) -> dict[str, Any] | None:
    destination, source, *ports = _SELECTOR.unpack_from(message, _HEADER)
    place = _HEADER + _SELECTOR.size
    family, to, of, protocol, interface, _ = _KIND.unpack_from(message, place)
    place += _KIND.size
    priority, _, direction, action = _POLICY.unpack_from(message, place)
    told = attributes(message, place + _POLICY.size)
    if direction not in _DIRECTIONS or _IF_ID in told:
        return None
    document: dict[str, Any] = {
        "dir": _DIRECTIONS[direction],
        "src": f"{_address(family, source)}/{of}",
        "dst": f"{_address(family, destination)}/{to}",
        "priority": priority,
        "action": "block" if action == _BLOCK else "allow",
    }
    narrow = protocol or interface or any(ports[1::2]) or _MARK in told
    return document | {key: True for key, holds in (("narrow", narrow), ("templates", _TEMPLATES in told)) if holds}


def _address(family: int, value: bytes) -> str:
    return str(ip_address(value[:4] if family == _INET else value))
