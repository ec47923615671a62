"""The ports that kernels pick from for whoever sends without choosing one."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final

from exporter.model.ranges import Ranges

if TYPE_CHECKING:
    from exporter.model.namespace import Namespace
    from exporter.model.snapshot import Kernel

USUAL: Final = Ranges(((32768, 60999),))
"""What every namespace begins with (inet_init_net)."""


def picked_ports(namespace: Namespace) -> Ranges:
    """Return the ports that a namespace's kernel picks from, by either version of IP: none where all are reserved.

    inet_get_local_port_range and inet_is_local_reserved_port, in __inet_hash_connect and udp_lib_get_port.
    """
    settings = namespace.settings
    return _picked(settings.get("ipv4/ip_local_port_range", ""), settings.get("ipv4/ip_local_reserved_ports", ""))


def picked_by_any(kernel: Kernel | None) -> frozenset[Ranges]:
    """Return the sets of ports that kernels pick from, on a host and in its containers."""
    namespaces = (kernel.host, *kernel.sandboxes.values()) if kernel is not None else ()
    return frozenset({USUAL, *map(picked_ports, namespaces)})


@lru_cache(maxsize=1 << 8)
def _picked(told: str, reserved: str) -> Ranges:
    """Return what nearly all namespaces say alike: `32768 60999` without `8080,9000-9010`."""
    try:
        picked = _spans("-".join(told.split())) if told else USUAL
        return picked.without(_spans(reserved)) if reserved else picked
    except ValueError:
        return USUAL


def _spans(text: str) -> Ranges:
    """Raise ValueError for what are no numbers."""
    ends = ([int(end) for end in span.split("-")] for span in text.split(","))
    return Ranges.union((span[0], span[-1]) for span in ends)
