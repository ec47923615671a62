"""When containers started, as precisely as the list ever told, and the addresses that they and their links gave up.

A status is precise when a container is young ("Up 3 seconds") and coarse later ("Up 2 hours"), so the first one
since the container's latest start is kept.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from exporter.model.observation import FormerAddress, FormerLink, Sighting
from exporter.model.uptime import uptime_bounds, uptime_seconds

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_CLOCK_WAS_SET = 0.5
"""Seconds by which the wall clock and the steady clock must part between two looks to say that somebody set it."""

_SLACK = 1.0
"""Seconds by which an uptime may fall behind our own clock before it means a restart."""


@dataclass(frozen=True, slots=True)
class Moment:
    """When the list was read: `wall` to write down, `steady` (seconds, monotonic) to measure with.

    `asked` is the steady time of the request; the engine made its statuses between the two.
    """

    wall: datetime
    steady: float
    asked: float


@dataclass(frozen=True, slots=True)
class _Seen:
    sighting: Sighting
    lowest: int | None
    steady: float
    endpoints: frozenset[str]
    address: str
    names: tuple[str, ...]
    ports: tuple[str, ...]

    @property
    def links(self) -> tuple[FormerLink, ...]:
        """Where rules of links to it lead."""
        addresses = (self.address, *(item.address for item in self.sighting.former))
        return tuple(FormerLink(address, self.ports) for address in addresses if address)

    @property
    def own_names(self) -> frozenset[str]:
        """The names that it has by itself."""
        return frozenset(name.strip("/") for name in self.names if name.count("/") == 1)

    @property
    def parents(self) -> frozenset[str]:
        """The names of containers that hold a link to it: it has a name below each."""
        return frozenset(name.split("/")[1] for name in self.names if name.count("/") > 1)


class Sightings:
    """The first status of every running container since its latest start."""

    def __init__(self) -> None:
        self._seen: dict[str, _Seen] = {}
        self._last: Moment | None = None

    def see(self, containers: Sequence[Mapping[str, Any]], moment: Moment) -> Mapping[str, Sighting]:
        """Take in a list and return the sightings by container id; who is not in the list is forgotten.

        But for where rules of links to it lead: an engine may leave them to whoever gets the address next (moby#24043).
        """
        self._follow_clock(moment)
        seen = {}
        for container in containers:
            identity, status = container.get("Id"), container.get("Status")
            if isinstance(identity, str) and isinstance(status, str):
                seen[identity] = _entry(self._seen.get(identity), container, status, moment)
        for identity, earlier in self._seen.items():
            if identity not in seen and earlier.parents:
                _outlive(earlier, self._seen, seen)
        self._seen = seen
        return {identity: entry.sighting for identity, entry in seen.items()}

    def _follow_clock(self, moment: Moment) -> None:
        """Move what was written down along when the wall clock was set: starts are compared with each other."""
        if self._last is not None:
            passed = (moment.wall - self._last.wall).total_seconds()
            jump = passed - (moment.steady - self._last.steady)
            if abs(jump) > _CLOCK_WAS_SET:
                self._seen = {identity: _moved(entry, jump) for identity, entry in self._seen.items()}
        self._last = moment


def _entry(earlier: _Seen | None, container: Mapping[str, Any], status: str, moment: Moment) -> _Seen:
    endpoints, address = frozenset(_endpoints(container)), _address(container)
    names, ports = tuple(_names(container)), tuple(_ports(container)) or (earlier.ports if earlier else ())
    former: tuple[FormerAddress, ...] = ()
    if earlier is not None:
        former = _former(earlier, address, moment)
        address = address or earlier.address
        if not _restarted(earlier, status, endpoints, moment):
            sighting = replace(earlier.sighting, former=former)
            return replace(earlier, sighting=sighting, endpoints=endpoints, address=address, names=names, ports=ports)
    sighting = Sighting(status, moment.wall, former)
    return _Seen(sighting, uptime_seconds(status), moment.steady, endpoints, address, names, ports)


def _outlive(gone: _Seen, before: Mapping[str, _Seen], now: dict[str, _Seen]) -> None:
    """Leave links to a container that has ended with those who held them, and have not started anew since."""
    for identity, parent in now.items():
        known = before.get(identity)
        if known is None or known.sighting.at != parent.sighting.at or gone.parents.isdisjoint(parent.own_names):
            continue
        left = dict.fromkeys((*parent.sighting.left, *gone.links))
        now[identity] = replace(parent, sighting=replace(parent.sighting, left=tuple(left)))


def _moved(entry: _Seen, seconds: float) -> _Seen:
    by, sighting = timedelta(seconds=seconds), entry.sighting
    former = tuple(replace(item, until=item.until + by) for item in sighting.former)
    return replace(entry, sighting=replace(sighting, at=sighting.at + by, former=former))


def _networks(container: Mapping[str, Any]) -> Mapping[str, Any]:
    networks: Mapping[str, Any] = container.get("NetworkSettings", {}).get("Networks", {})
    return networks


def _endpoints(container: Mapping[str, Any]) -> Iterable[str]:
    return [network["EndpointID"] for network in _networks(container).values() if network.get("EndpointID")]


def _names(container: Mapping[str, Any]) -> Iterable[str]:
    return (name for name in container.get("Names") or () if isinstance(name, str))


def _ports(container: Mapping[str, Any]) -> Iterable[str]:
    ports = (port for port in container.get("Ports") or () if port.get("PrivatePort"))
    return dict.fromkeys(f"{port['PrivatePort']}/{port.get('Type', '')}" for port in ports)


def _address(container: Mapping[str, Any]) -> str:
    """Return the address on the default bridge, whose name no other network can have."""
    return str(_networks(container).get("bridge", {}).get("IPAddress", ""))


def _former(earlier: _Seen, address: str, moment: Moment) -> tuple[FormerAddress, ...]:
    """Return the addresses that were given up, each once, with the one that has just been."""
    known = earlier.sighting.former
    if address in ("", earlier.address) or not earlier.address:
        return known
    others = (item for item in known if item.address not in (address, earlier.address))
    return (*others, FormerAddress(earlier.address, moment.wall))


def _restarted(earlier: _Seen, status: str, endpoints: frozenset[str], moment: Moment) -> bool:
    """Return whether there was a start since.

    It gives all endpoints new ids, and an uptime below what has passed since the container was first seen.
    """
    if earlier.endpoints and endpoints and not earlier.endpoints & endpoints:
        return True
    now = uptime_bounds(status)
    if earlier.lowest is None or now is None:
        return earlier.sighting.status != status
    return now[1] + _SLACK <= earlier.lowest + moment.asked - earlier.steady
