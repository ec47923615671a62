"""How far packets of a namespace come: each that passes them on counts down what they were sent with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter.model.namespace import ENOUGH_HOPS, USUAL_HOPS

if TYPE_CHECKING:
    from exporter.model.namespace import Namespace


def hop_limit(namespace: Namespace, family: int, interface: str) -> int:
    """Return what packets are sent with by an interface, where their route says nothing else (RTAX_HOPLIMIT).

    Of IPv4 that is one number for all (ip4_dst_hoplimit), of IPv6 each interface has its own (ip6_dst_hoplimit).
    """
    path = "ipv4/ip_default_ttl" if family == 4 else f"ipv6/conf/{interface}/hop_limit"
    return namespace.setting(path, USUAL_HOPS)


def sends_near(namespace: Namespace, family: int) -> bool:
    """Return whether packets of a namespace may be lost for being passed on too often."""
    if any(0 < route.hop_limit < ENOUGH_HOPS and route.destination.version == family for route in namespace.routes):
        return True
    names = (interface.name for interface in namespace.interfaces.values())
    return any(hop_limit(namespace, family, name) < ENOUGH_HOPS for name in names)
