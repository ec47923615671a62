"""Where probes may go."""

from __future__ import annotations

from ipaddress import IPv6Address
from typing import TYPE_CHECKING

from exporter.evaluate.enforced.route_table import anycast
from exporter.model.probe import Ground
from exporter.model.reach import HOST

if TYPE_CHECKING:
    from exporter.model.namespace import Namespace
    from exporter.model.snapshot import Kernel


def ground(kernel: Kernel) -> Ground:
    """Return the addresses of the sandboxes that could be read, and of the host."""
    namespaces = {HOST: kernel.host, **kernel.sandboxes}
    return Ground({sandbox: frozenset(_addresses(namespace)) for sandbox, namespace in namespaces.items()})


def _addresses(namespace: Namespace) -> set[str]:
    found = (interface.ip for each in namespace.interfaces.values() for interface in each.addresses)
    shared = (IPv6Address(each.address) for each in anycast(namespace))
    return {str(address) for address in (*found, *shared) if not (address.is_loopback or address.is_link_local)}
