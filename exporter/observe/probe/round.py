"""The packets of one round, from the first that is sent to the last that may still come."""

from __future__ import annotations

import errno
import os
import selectors
import socket
import time
from collections import defaultdict
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final, Self

from exporter.model.explanation import Packet
from exporter.model.probe import HEARD
from exporter.model.reach import TRANSPORTS, Protocol
from exporter.observe.kernel.budget import Budget
from exporter.observe.kernel.sockets import read_sockets
from exporter.observe.kernel.trouble import reason
from exporter.observe.probe.mark import MOST, Answer, Asked
from exporter.observe.probe.sending import connect, family_of, open_sender, send

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterable, Mapping
    from types import TracebackType

    from exporter.observe.probe.mark import Mark

PER_SECOND: Final = 100
"""Packets that are sent in a second at most. A SYN without an answer is repeated once beyond that, by the kernel."""

REPEATS: Final = (0.3, 0.8)
"""Seconds after which a datagram that was not seen is sent again: a burst may have made a queue overflow."""

PATIENCE: Final = 1.8
"""Seconds from the last packet to the end: the kernel repeats a SYN after one."""

LATE: Final = "the round did not end in time"

_TICK: Final = 0.05
_SOCKETS_TIME: Final = 2.0
_FULL: Final = 256
_SO_RCVBUFFORCE: Final = 33
_ROOM: Final = 1 << 20
_CONTROLS: Final = MOST // 2
"""The numbers of controls begin here."""

_HIGH_PORTS: Final = range(20000, 30000)


@dataclass(frozen=True, slots=True)
class Leg:
    """A packet from one place to others: sandboxes by id. It is sent where no program holds a port of `spared`."""

    number: int
    source: str
    destinations: tuple[str, ...]
    packet: Packet
    spared: frozenset[int] = frozenset()

    @property
    def places(self) -> tuple[str, ...]:
        """All places where sockets are needed."""
        return self.source, *self.destinations


@dataclass(frozen=True, slots=True)
class _Watch:
    place: str
    family: socket.AddressFamily
    protocol: Protocol


class Round:
    """Sockets, and what they saw. A context that closes them.

    `seen` are the places where the packet of a leg arrived, `answered` the legs whose answers did; `withheld` and
    `trouble` are reasons, by leg and by place (or leg).

    Silence counts only where something would have been heard: each place sends a control to itself, for each of the
    sockets that watch there.
    """

    def __init__(self, mark: Mark, ending: threading.Event, longest: float) -> None:
        self.seen: defaultdict[int, set[str]] = defaultdict(set)
        self.answered: set[int] = set()
        self.withheld: dict[int, str] = {}
        self.trouble: dict[str | int, str] = {}
        self._mark = mark
        self._ending = ending
        self._ends = time.monotonic() + longest
        self._selector = selectors.DefaultSelector()
        self._watching: dict[_Watch, socket.socket] = {}
        self._senders: dict[int, tuple[Leg, socket.socket]] = {}
        self._controls: dict[_Watch, Leg] = {}
        self._bare: set[int] = set()

    def trouble_of(self, leg: Leg) -> str:
        """Return why nothing can be said of a leg; empty if something can."""
        return next((self.trouble[key] for key in (leg.number, *leg.places) if key in self.trouble), "")

    def deaf_to(self, leg: Leg) -> str:
        """Return why it means nothing that a leg was not seen, or not answered; empty if it means something."""
        if self._known(leg):
            return ""
        family, protocol = family_of(leg.packet.address), leg.packet.protocol
        for place in leg.places:
            control = self._controls.get(_Watch(place, family, protocol))
            if control is not None and not self._known(control):
                return "not even what a sandbox sends to itself is seen there: silence means nothing"
        return ""

    # --- Sockets, made in the place that the calling thread is in ---

    def furnish(self, place: str, legs: Iterable[Leg], addresses: Iterable[str]) -> None:
        """Make the sockets that some legs need in a place with these addresses. What fails is trouble of that place."""
        own = {family_of(address): address for address in addresses}
        try:
            held = self._held(place, legs)
            for leg in legs:
                self._furnish(place, leg, held, own)
        except OSError as error:
            self.trouble[place] = reason(error, "probing from a sandbox", "CAP_NET_RAW with CAP_NET_ADMIN")

    def _held(self, place: str, legs: Iterable[Leg]) -> frozenset[int]:
        """Return the ports at which programs take datagrams, where any are to come."""
        if not any(leg.packet.protocol is Protocol.UDP and place in leg.destinations for leg in legs):
            return frozenset()
        found = read_sockets(Budget(_SOCKETS_TIME))
        return frozenset(each.port for each in found if each.protocol == Protocol.UDP)

    def _furnish(self, place: str, leg: Leg, held: frozenset[int], own: Mapping[socket.AddressFamily, str]) -> None:
        family, protocol = family_of(leg.packet.address), leg.packet.protocol
        address = own.get(family) or (leg.packet.address if ip_address(leg.packet.address).is_loopback else None)
        # a namespace without any address of a family gets no packet of it, nor sends one
        if address and (place in leg.destinations or protocol is Protocol.TCP):
            self._watch(_Watch(place, family, protocol), address, held)
        if place in leg.destinations and protocol is Protocol.UDP:
            # docker-proxy passes datagrams on by whichever version of IP its container has
            for other, own_address in own.items():
                self._watch(_Watch(place, other, protocol), own_address, held)
        if place in leg.destinations and leg.spared & held:
            self.withheld[leg.number] = HEARD
        if place == leg.source:
            if not address:
                self._bare.add(leg.number)
            self._senders[leg.number] = leg, open_sender(protocol, leg.packet.address, self._mark, leg.number)

    def _watch(self, watch: _Watch, address: str, held: frozenset[int]) -> None:
        """Make a raw socket, and the control that it is to see."""
        if watch in self._watching:
            return
        made = socket.socket(watch.family, socket.SOCK_RAW, TRANSPORTS[watch.protocol])
        self._watching[watch] = made
        self._mark.listen(made, watch.protocol)
        made.setblocking(False)
        made.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _ROOM)
        self._selector.register(made, selectors.EVENT_READ, watch)
        packet = Packet(watch.protocol, address, next(port for port in _HIGH_PORTS if port not in held))
        control = Leg(_CONTROLS + len(self._controls), watch.place, (watch.place,), packet)
        self._controls[watch] = control
        self._senders[control.number] = control, open_sender(watch.protocol, address, self._mark, control.number)

    # --- Packets ---

    def run(self) -> None:
        """Send everything, at a steady pace, and wait until nothing more can come."""
        due = sorted(self._due(), key=lambda item: item[0])
        began = time.monotonic()
        for at, leg in due:
            if self._over():
                break
            if at and self._known(leg):
                continue
            self._look(max(began + at - time.monotonic(), 1 / PER_SECOND))
            self._emit(leg)
        last = time.monotonic()
        while not self._over() and time.monotonic() < last + PATIENCE and not all(map(self._known, self._sent())):
            self._look(_TICK)
        # what came while others had the processor
        self._look(0)
        if self._over():
            self.trouble |= {leg.number: LATE for leg in self._sent() if not self._known(leg)}

    def _sent(self) -> list[Leg]:
        hindered = self.withheld.keys() | self.trouble.keys()
        return [leg for leg, _ in self._senders.values() if hindered.isdisjoint((leg.number, *leg.places))]

    def _due(self) -> Iterable[tuple[float, Leg]]:
        """Yield when to send what, in seconds from the beginning."""
        for position, leg in enumerate(self._sent()):
            first = position / PER_SECOND
            yield first, leg
            if leg.packet.protocol is Protocol.UDP:
                yield from ((first + after, leg) for after in REPEATS)

    def _known(self, leg: Leg) -> bool:
        """Return whether nothing more can be learned of a leg."""
        if leg.number in self.trouble:
            return True
        seen = bool(self.seen[leg.number])
        return seen and (leg.packet.protocol is Protocol.UDP or leg.number in self.answered)

    def _over(self) -> bool:
        return self._ending.is_set() or time.monotonic() > self._ends

    def _emit(self, leg: Leg) -> None:
        made, packet = self._senders[leg.number][1], leg.packet
        try:
            if packet.protocol is Protocol.TCP:
                connect(made, packet.address, packet.port or 0)
            else:
                send(made, packet.address, packet.port or 0, self._mark.content(leg.number))
        except OSError as error:
            # said of a sender without an address, as where IPv6 is turned off, and of one without a free port
            if error.errno == errno.EADDRNOTAVAIL and leg.number in self._bare:
                return
            self.trouble[leg.number] = f"the packet could not be sent: {os.strerror(error.errno or errno.EIO)}"

    def _look(self, seconds: float) -> None:
        """Take note of everything that comes within some seconds."""
        until = time.monotonic() + seconds
        while True:
            left = until - time.monotonic()
            for key, _ in self._selector.select(max(left, 0)):
                self._read(key.data, self._watching[key.data])
            if left <= 0:
                return

    def _read(self, watch: _Watch, watching: socket.socket) -> None:
        for _ in range(_FULL):
            try:
                packet, sender = watching.recvfrom(_FULL)
            except OSError:
                return
            found = self._mark.read(packet, watch.family, watch.protocol)
            if isinstance(found, Asked):
                self.seen[found.number].add(watch.place)
            elif isinstance(found, Answer) and found.number in self._senders:
                self._answer(watch.place, found, str(sender[0]))

    def _answer(self, place: str, answer: Answer, sender: str) -> None:
        """Take note of an answer, if it comes from where the packet was sent to: any other ends no connection."""
        leg, made = self._senders[answer.number]
        if place != leg.source or (sender, answer.source_port) != (leg.packet.address, leg.packet.port):
            return
        if made.fileno() >= 0 and made.getsockname()[1] != answer.destination_port:
            return
        self.answered.add(leg.number)
        # the next repetition of the answer finds no socket, and is reset by the kernel
        made.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._selector.close()
        for watching in self._watching.values():
            watching.close()
        for _, made in self._senders.values():
            made.close()
