"""Legacy links of the default bridge, and whose the rules are that the engine wrote for them.

A rule names the addresses that both ends had when the parent started, or came back to the bridge. It stays as it is
when the child comes by another address; the parent may then talk to whoever gets the old one (moby#24043).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter.model.snapshot import Link
from exporter.parse.containers import exposed_port
from exporter.parse.fields import address
from exporter.parse.lifetimes import started, surely_before

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Set

    from exporter.model.addresses import Address
    from exporter.model.observation import FormerLink, Sighting
    from exporter.model.snapshot import ExposedPort, Network
    from exporter.parse.containers import ListedContainer

_RESTARTED = (
    "the linked container was started after its parent: the engine keeps the link's rule for the old address "
    "(moby#24043), and its API does not tell that address"
)
_MOVED = (
    "the linked container was seen with another address since its parent started: the engine keeps the link's rule "
    "for the old one (moby#24043)"
)
_UNLISTED = (
    "the linked container lists no port: it may expose none, or the engine forgot them when it left a network and came "
    "back"
)
_DIGITS = len("65535")
_TAKEN_OVER = "the address belonged to a linked container, and the engine may have kept the link's rule (moby#24043)"


def parse_links(
    listed: Mapping[str, ListedContainer], networks: Mapping[str, Network], sightings: Mapping[str, Sighting]
) -> Iterator[Link]:
    """Yield the links between running containers, then those that outlived them for another container."""
    by_name = {container.name: container.id for container in listed.values()}
    inherited: list[Link] = []
    for child in (container for container in listed.values() if container.parents):
        for parent in dict.fromkeys(by_name[name] for name in child.parents if name in by_name):
            given_up = _given_up(sightings.get(child.id), sightings.get(parent))
            restarted = surely_before(started(sightings.get(parent)), started(sightings.get(child.id)))
            unlisted = not child.exposed and len(child.endpoints) > 1
            undecided = _RESTARTED if restarted else _MOVED if given_up else _UNLISTED if unlisted else ""
            yield Link(parent, child.id, child.exposed, undecided)
            heirs = _holders(listed, networks, given_up) if given_up else ()
            inherited += (Link(parent, heir, child.exposed, _TAKEN_OVER) for heir in heirs if heir != parent)
    yield from inherited
    for holder in listed.values():
        sighting = sightings.get(holder.id)
        if sighting is not None and sighting.left:
            yield from _outliving(holder, listed, networks, sighting.left)


def _outliving(
    parent: ListedContainer,
    listed: Mapping[str, ListedContainer],
    networks: Mapping[str, Network],
    left: Iterable[FormerLink],
) -> Iterator[Link]:
    """Yield the links whose containers have ended, and whose addresses others have now."""
    for link in left:
        own = address(link.address)
        for heir in _holders(listed, networks, {own}) if own else ():
            if heir != parent.id and parent.name not in listed[heir].parents:
                yield Link(parent.id, heir, tuple(_exposed(link.ports)), _TAKEN_OVER)


def _exposed(ports: Iterable[str]) -> Iterator[ExposedPort]:
    """Yield ports as they are written down: `80/tcp`."""
    for text in ports:
        number, _, protocol = text.partition("/")
        # int() refuses what is endless
        yield from exposed_port(int(number) if number.isdecimal() and len(number) <= _DIGITS else 0, protocol)


def _given_up(child: Sighting | None, parent: Sighting | None) -> frozenset[Address]:
    """Return the addresses that the child had on the default bridge when its parent may have run already."""
    linked = started(parent)
    since = (item for item in child.former if linked is None or item.until >= linked[0]) if child else ()
    return frozenset(found for item in since if (found := address(item.address)) is not None)


def _holders(
    listed: Mapping[str, ListedContainer], networks: Mapping[str, Network], addresses: Set[Address]
) -> Iterator[str]:
    """Yield the containers that have one of the addresses on the default bridge now."""
    for container in listed.values():
        for _, endpoint in container.endpoints:
            network = networks.get(endpoint.network_id)
            if network is not None and network.default and endpoint.ipv4 in addresses:
                yield container.id
