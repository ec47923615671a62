"""Packets that leave what is seen, and whoever may get them there or back from there."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from exporter.evaluate.enforced.flight import BACK, Arrival, Delivery
from exporter.evaluate.enforced.packets import UNTOLD, parts
from exporter.evaluate.enforced.segments import beyond, link_address
from exporter.model.reach import TRANSPORTS

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

    from exporter.evaluate.enforced.flight import Flight, Stage
    from exporter.evaluate.enforced.passing import Passing
    from exporter.evaluate.enforced.route_table import Exit
    from exporter.evaluate.enforced.segments import Station
    from exporter.evaluate.enforced.world import World


SHARED_OUT = "to which task swarm leads what its services publish: the namespace that shares it out was not read"


class Unseen:
    """Leads packets of one stage of conversations on in a world, as somebody may who is not seen."""

    def __init__(self, world: World, stage: Stage) -> None:
        self._world = world
        self._stage = stage
        self._led_on: dict[Hashable, int] = {}

    def routed(self, sender: Station, passing: Passing) -> Iterator[Arrival]:
        """Send packets whose next hop is nobody's that is seen to wherever a router that is not may lead them."""
        flight = passing.flight.doubted({beyond(sender): passing.cells})
        for destination, cells in parts(passing.flight.ends.destination, passing.cells):
            for receiver in sender.segment.routed_to(int(destination), sender):
                yield _arrival(receiver, cells, replace(flight, routed=True))

    def led_on(self, sender: Station, passing: Passing, way: Exit) -> Iterator[Arrival]:
        """Send packets to somebody whom nobody knows, who may lead them on to whoever is seen.

        To a station he does so once: what becomes of them there is in doubt, by whatever way they came to him.
        """
        flight = passing.flight.doubted({beyond(sender): passing.cells})
        for destination, cells in parts(passing.flight.ends.destination, passing.cells):
            for receiver in self._world.led_on(sender, way, int(destination)):
                key = receiver, destination, flight.ends.destination_port
                new = cells & ~self._led_on.get(key, 0)
                self._led_on[key] = self._led_on.get(key, 0) | new
                led = replace(flight, routed=True, astray=flight.astray | new)
                if new:
                    yield _arrival(receiver, new, led)

    def sent_by(self, passing: Passing, device: str) -> Iterator[Arrival]:
        """Send packets by an interface to whoever may get them there, whoever they are for.

        What loopback is given, and a cable whose other end is here as well, comes in by that.
        """
        sending = passing.stack.by_name.get(device)
        own = passing.stack.namespace.interfaces
        peer = own.get(sending.peer or 0) if sending is not None and sending.peer_here else None
        if device == "lo" or (peer is not None and peer.kind == "veth"):
            yield from self.taken_in(passing, peer.name if peer is not None else device)
        for receiver in self._world.behind(passing.stack, device):
            yield _aside(receiver, passing)

    def taken_in(self, passing: Passing, device: str) -> Iterator[Arrival]:
        """Let packets come in by an interface: of a bridge's port, the bridge takes them in, or passes them on."""
        stack = passing.stack
        interface = stack.by_name.get(device)
        if interface is None:
            return
        master = stack.namespace.interfaces.get(interface.master or 0)
        inside = (master or interface).name
        port = device if master is not None else ""
        yield Arrival(stack, passing.cells, passing.flight, inside, port, UNTOLD, UNTOLD)
        for receiver in self._world.beside(stack, interface):
            yield _aside(receiver, passing)

    def anywhere(self, passing: Passing) -> Iterator[Delivery]:
        """Deliver packets to everybody, past all that somebody may have against them.

        Of those that answer, which are still to be for who asked, none gets another destination.
        """
        flight = passing.flight
        for stack in self._world.stacks.values():
            address, interface = stack.first_address
            ends = flight.ends if self._stage in BACK else replace(flight.ends, destination=address)
            if address and passing.cells:
                yield Delivery(stack, passing.cells, replace(flight, ends=ends), interface=interface)

    def shared_out(self, sender: Station, passing: Passing) -> Iterator[Arrival]:
        """Send packets for nobody who is seen to the tasks of services: swarm may share them out in `ingress_sbox`.

        Which ports those are is told by the rules that led packets here (DOCKER-INGRESS).
        """
        flight, tasks = passing.flight, sender.segment.tasks
        if tasks is None or flight.protocol not in TRANSPORTS.values():
            return
        flight = flight.doubted({SHARED_OUT: passing.cells})
        for receiver in tasks.stations:
            for address in receiver.interface.addresses:
                if address.version == sender.stack.family:
                    ends = replace(flight.ends, destination=int(address.ip))
                    led = replace(flight, ends=ends, routed=True, astray=flight.astray | passing.cells)
                    yield _arrival(receiver, passing.cells, led)


def _arrival(receiver: Station, cells: int, flight: Flight) -> Arrival:
    interface = receiver.interface
    return Arrival(receiver.stack, cells, flight, interface.name, mac=UNTOLD, frame_for=link_address(interface))


def _aside(receiver: Station, passing: Passing) -> Arrival:
    """Return what somebody gets in frames that were for somebody else before, or are for nobody yet."""
    return Arrival(receiver.stack, passing.cells, passing.flight, receiver.interface.name, "", UNTOLD, UNTOLD)
