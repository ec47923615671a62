"""Where probes may go."""

from __future__ import annotations

from ipaddress import IPv6Address
from typing import TYPE_CHECKING

from exporter.evaluate.enforced.route_table import anycast
from exporter.model.probe import Ground
from exporter.model.reach import HOST

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from exporter.model.addresses import Address
    from exporter.model.namespace import Namespace
    from exporter.model.snapshot import Kernel


def ground(kernel: Kernel) -> Ground:
    """Return the addresses of the sandboxes that could be read, and of the host."""
    namespaces = {HOST: kernel.host, **kernel.sandboxes}
    return Ground(
        {name: frozenset(_addresses(namespace)) for name, namespace in namespaces.items()},
        {name: frozenset(_shared(namespace)) for name, namespace in namespaces.items()},
    )


def _addresses(namespace: Namespace) -> Iterator[str]:
    return _beyond(own.ip for interface in namespace.interfaces.values() for own in interface.addresses)


def _shared(namespace: Namespace) -> Iterator[str]:
    return _beyond(IPv6Address(each.address) for each in anycast(namespace))


def _beyond(addresses: Iterable[Address]) -> Iterator[str]:
    return (str(address) for address in addresses if not (address.is_loopback or address.is_link_local))
