"""Nexthop objects (`ip nexthop`): with `nexthop_compat_mode=0` a route by one tells no more of its ways than the id."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final

from exporter.observe.kernel.netlink import attributes

if TYPE_CHECKING:
    from exporter.observe.kernel.netlink import Netlink

_GET_NEXTHOP: Final = 106
_MESSAGE = struct.Struct("=BBBBI")
_HEADER: Final = 16
_MEMBER = struct.Struct("=IBBH")
_ID, _GROUP, _OIF, _GATEWAY, _ENCAP_TYPE = 1, 2, 5, 6, 7
"""Attributes (`NHA_…`)."""


@dataclass(frozen=True, slots=True)
class Nexthop:
    """Where an object leads: by an interface, or as its `members` do, which are told by id, with their weights."""

    family: int
    flags: int
    device: int | None = None
    gateway: str = ""
    encap: int = 0
    members: tuple[tuple[int, int], ...] = ()


def read_nexthops(netlink: Netlink) -> dict[int, Nexthop]:
    """Return the objects of the namespace by id. Raises as `Netlink.dump` does."""
    return dict(map(_decode, netlink.dump(_GET_NEXTHOP, _MESSAGE.pack(0, 0, 0, 0, 0))))


def _decode(message: bytes) -> tuple[int, Nexthop]:
    family, _, _, _, flags = _MESSAGE.unpack_from(message, _HEADER)
    told = attributes(message, _HEADER + _MESSAGE.size)
    gateway = told.get(_GATEWAY)
    return _number(told[_ID]), Nexthop(
        family,
        flags,
        _number(told[_OIF]) if _OIF in told else None,
        str(ip_address(gateway)) if gateway else "",
        _number(told.get(_ENCAP_TYPE, b"")),
        tuple((identity, weight + 1) for identity, weight, _, _ in _MEMBER.iter_unpack(told.get(_GROUP, b""))),
    )


def _number(value: bytes) -> int:
    return int.from_bytes(value, "little")
