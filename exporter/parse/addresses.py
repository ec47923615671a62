"""Addresses and networks of text, as `ipaddress` reads them and several times as fast: large hosts have ten thousands.

The C library reads what is usual; whatever it refuses, such as an address with its zone, `ipaddress` decides.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from socket import AF_INET, AF_INET6, inet_pton
from typing import TYPE_CHECKING

from exporter.model.addresses import prefix_of

if TYPE_CHECKING:
    from exporter.model.addresses import Address, Subnet


def parse_address(text: str) -> Address:
    """Return an address. Raises ValueError."""
    try:
        return IPv6Address(inet_pton(AF_INET6, text)) if ":" in text else IPv4Address(inet_pton(AF_INET, text))
    except (OSError, ValueError):
        return ip_address(text)


def parse_number(text: str, version: int) -> int:
    """Return an address of IP version 4 or 6 as a number. Raises ValueError."""
    try:
        return int.from_bytes(inet_pton(AF_INET if version == 4 else AF_INET6, text), "big")
    except (OSError, ValueError):
        found = ip_address(text)
    if found.version != version:
        raise ValueError(f"{text} is no IPv{version} address")
    return int(found)


def parse_network(text: str) -> Subnet:
    """Return the network of an address with the length of a prefix; bits behind that are dropped. Raises ValueError.

    Without a length it is the address alone.
    """
    base, found, length = text.partition("/")
    if found and not (length.isascii() and length.isdecimal()):
        return ip_network(text, strict=False)
    address = parse_address(base)
    bits = int(length) if found else address.max_prefixlen
    if isinstance(address, IPv6Address) and address.scope_id is not None:
        return ip_network(text, strict=False)
    return prefix_of(address, bits)
