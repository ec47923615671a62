"""Addresses of IP, and those of IPv6 that mean something on one link alone."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

Address = IPv4Address | IPv6Address
Subnet = IPv4Network | IPv6Network

_LINK_LOCAL_V6 = 0xFE80 >> 6
_FIRST_LINK_LOCAL = 0xFE80 << 112
LINK_LOCAL = _FIRST_LINK_LOCAL, _FIRST_LINK_LOCAL | (1 << 118) - 1
"""The first and the last address, by their numbers, that mean nothing beyond their link."""


def is_link_local(address: int) -> bool:
    """Return whether an address, by its number, means nothing beyond its link: one of fe80::/10."""
    return address >> 118 == _LINK_LOCAL_V6


def link_local_of(mac: str) -> IPv6Address:
    """Return the link-local address that follows from an interface's link address (addrconf_ifid_eui48)."""
    number = int(mac.replace(":", ""), 16)
    return IPv6Address(_FIRST_LINK_LOCAL | (number >> 24 ^ 1 << 17) << 40 | 0xFFFE << 24 | number & 0xFFFFFF)


def prefix_of(address: Address, length: int) -> Subnet:
    """Return the prefix of some length that an address begins with, many times as fast as `ip_network` does."""
    if isinstance(address, IPv4Address):
        return IPv4Network((int(address), length), strict=False)
    return IPv6Network((int(address), length), strict=False)


def bounds(prefix: Subnet) -> tuple[int, int]:
    """Return the first and last address as numbers; `broadcast_address` makes an object that stays with the prefix."""
    low = int(prefix.network_address)
    return low, low | (1 << prefix.max_prefixlen - prefix.prefixlen) - 1


def within(address: int, prefix: Subnet) -> bool:
    """Return whether an address of the prefix's own version begins with it."""
    shift = prefix.max_prefixlen - prefix.prefixlen
    return address >> shift == int(prefix.network_address) >> shift
