"""One at a time, and who waits is served by where he comes from: nobody is kept out by somebody else's hurry."""

from __future__ import annotations

import asyncio
import ipaddress
from collections import deque
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PLACES: Final = 4
"""Who may wait from one origin."""

WAITING: Final = 40
"""Who may wait in all, before nobody gets a place whose origin has one already."""

ORIGINS: Final = 500
"""That may wait at all: as many as there are connections; beyond are those who left and did not wait for an answer."""

_SITE: Final = 64
"""Bits of an IPv6 address that somebody is given; the others he makes up himself."""


class TooMany(Exception):
    """So many wait already that another one would not have his turn in time."""


class Turns:
    """Who waits for what one at a time may have. Origins have their turns one after the other."""

    def __init__(self) -> None:
        self._taken = False
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}

    @asynccontextmanager
    async def turn(self, origin: str) -> AsyncIterator[None]:
        """Wait for a turn, and have it until the end of the block. Raises TooMany at once where there is no place."""
        if self._taken:
            await self._place(origin)
        self._taken = True
        try:
            yield
        finally:
            self._pass_on()

    def _place(self, origin: str) -> asyncio.Future[None]:
        mine = self._waiting.get(origin)
        crowded = sum(map(len, self._waiting.values())) >= WAITING
        if (len(mine) >= PLACES or crowded) if mine else len(self._waiting) >= ORIGINS:
            raise TooMany
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(origin, deque()).append(place)
        return place

    def _pass_on(self) -> None:
        """Let the next origin have its turn, and put it behind all others."""
        self._taken = False
        while self._waiting and not self._taken:
            origin = next(iter(self._waiting))
            places = self._waiting.pop(origin)
            place = places.popleft()
            if places:
                self._waiting[origin] = places
            if not place.done():
                # taken from now on, not only when who waited goes on: nobody comes in between
                self._taken = True
                place.set_result(None)


def origin_of(host: str) -> str:
    """Return what stands for all addresses that a client may have at will; a Unix socket's client has none."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    return str(address.ipv4_mapped or int(address) >> (address.max_prefixlen - _SITE))
