"""The way of one packet, noted step by step: the evaluation is everybody's, only nothing of it is remembered.

What happens is told by notes, which name namespaces, interfaces and rules. Words for them are found elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from ipaddress import ip_address
from typing import TYPE_CHECKING

from exporter.evaluate.enforced.conversations import Asked, Conversations
from exporter.evaluate.enforced.emission import Emission, sources_of
from exporter.evaluate.enforced.flight import Departure
from exporter.evaluate.enforced.journey import Journey, of_one_alone
from exporter.evaluate.enforced.obstacles import Obstacles
from exporter.evaluate.enforced.packets import Atom, Column, only, parts
from exporter.evaluate.enforced.passing import Passing
from exporter.evaluate.enforced.ports import Frame, usual
from exporter.evaluate.enforced.segments import asks, beyond, followed, hears
from exporter.evaluate.enforced.ways import led_back, ways
from exporter.evaluate.enforced.worlds import worlds
from exporter.model.reach import HOST

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from exporter.evaluate.enforced.conversations import Found, Relay
    from exporter.evaluate.enforced.flight import Conversation, Crossing, Delivery, Ends, Flight, Port, Stage
    from exporter.evaluate.enforced.journey import Moving
    from exporter.evaluate.enforced.listening import Lead
    from exporter.evaluate.enforced.packets import Picked, Some
    from exporter.evaluate.enforced.redirects import Redirect
    from exporter.evaluate.enforced.route_table import Exit
    from exporter.evaluate.enforced.segments import Station
    from exporter.evaluate.enforced.stack import Stack
    from exporter.evaluate.enforced.walk import Step
    from exporter.evaluate.enforced.ways import Ways
    from exporter.evaluate.enforced.world import World
    from exporter.model.addresses import Address
    from exporter.model.explanation import Packet
    from exporter.model.firewall import Hook
    from exporter.model.namespace import Interface
    from exporter.model.reach import Protocol
    from exporter.model.snapshot import Kernel, Snapshot


@dataclass(frozen=True, slots=True)
class At:
    """Where a packet comes from and goes to at one moment; a port is None where it is not known, or there is none."""

    family: int
    source: int
    source_port: int | None
    destination: int
    destination_port: int | None


@dataclass(frozen=True, slots=True)
class Begun:
    """A packet of a conversation begins its way."""

    stage: Stage


@dataclass(frozen=True, slots=True)
class Sent:
    """A namespace sends the packet, by an interface; empty where no route leads to the address."""

    place: str
    at: At
    output: str


@dataclass(frozen=True, slots=True)
class Linked:
    """The packet goes onto a link, to who answers for the next hop's address: by name, nobody where that is empty.

    `deaf` is why the link keeps sender and receiver apart, where it does; `strayed` that the sender asked nobody, and
    sends to a link address that nobody has. `doubt` is what is not known of the link,
    `unseen` that it leads to where nobody looks.
    """

    place: str
    output: str
    family: int
    towards: int
    bridge: str
    receiver: str
    deaf: str
    ports: tuple[str, ...]
    strayed: bool = False
    doubt: str = ""
    unseen: bool = False


@dataclass(frozen=True, slots=True)
class Bridged:
    """The host's bridge passes a frame from port to port; `filtered` tells whether iptables sees it."""

    bridge: str
    ports: tuple[str, str]
    filtered: bool


@dataclass(frozen=True, slots=True)
class Filtered:
    """Chains of a hook dealt with the packet; `after` is empty where it was lost. `doubts` are what is not known."""

    place: str
    hook: Hook | None
    steps: tuple[Step, ...]
    before: At
    after: tuple[At, ...]
    interface: str
    output: str
    doubts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Routed:
    """A namespace decides about a packet that came in: its own, or passed on by `output` where it `forwards`.

    A packet that is `spent` was passed on as often as it may be.
    """

    place: str
    at: At
    interface: str
    local: bool
    output: str
    forwards: bool
    spent: bool


@dataclass(frozen=True, slots=True)
class Disbelieved:
    """A namespace takes the packet's source for forged: by a reverse path filter, or as it is the namespace's `own`."""

    place: str
    at: At
    interface: str
    own: bool = False


@dataclass(frozen=True, slots=True)
class Shared:
    """A namespace takes no connections at an address that it shares with others."""

    place: str
    at: At


@dataclass(frozen=True, slots=True)
class Unanswered:
    """The sender does not learn the receiver's link address: rules drop the question or the answer, or it has none.

    `steps` are those of all messages, also of such as arrived; `kept` is the message that ports keep back.
    """

    place: str
    family: int
    towards: int
    steps: tuple[Step, ...]
    receiver: str
    kept: str

    @property
    def dropping(self) -> Step | None:
        """Return the last rule that a message was lost by, None where none was."""
        return next((step for step in reversed(self.steps) if step.drops), None)


@dataclass(frozen=True, slots=True)
class Arrived:
    """The packet came to a namespace's own sockets."""

    place: str
    at: At


@dataclass(frozen=True, slots=True)
class Relayed:
    """docker-proxy took the connection and makes one of its own."""

    address: Address
    port: int


Note = Begun | Sent | Linked | Bridged | Filtered | Routed | Disbelieved | Shared | Unanswered | Arrived | Relayed


@dataclass(frozen=True, slots=True)
class Ended:
    """Where a conversation came about, and what is not known of it."""

    place: str
    doubts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Traced:
    """All that happened to a packet and, for TCP, to its answer and to what confirms that."""

    notes: tuple[Note, ...]
    ended: tuple[Ended, ...]


class Tracer:
    """Leads single packets through the kernel of a snapshot."""

    def __init__(self, snapshot: Snapshot, kernel: Kernel) -> None:
        self._bits = {sandbox: 1 << position for position, sandbox in enumerate(snapshot.sandboxes)}
        self._steps: list[Step] = []
        self._worlds = worlds(snapshot, kernel, all_rules=True)
        for world in self._worlds.values():
            for stack in world.stacks.values():
                stack.trace = self._steps

    def trace(self, sandbox: str, packet: Packet) -> Traced:
        """Send a packet from a sandbox."""
        notes = _Notes(self._steps, self._bits[sandbox])
        conversations = _Conversations(self._worlds, self._bits, notes)
        address, ports = ip_address(packet.address), None if packet.port is None else only(packet.port)
        asked = Asked(address.version, packet.protocol, int(address), ports, self._bits[sandbox])
        found = conversations.one(asked)
        return Traced(tuple(notes.all), tuple(dict.fromkeys(map(_ended, found))))


def _ended(found: Found) -> Ended:
    return Ended(found.stack.name, tuple(name for name, cells in found.doubts.items() if cells & found.cells))


class _Notes:
    """Collects notes about one packet. `steps` is where the walkers write what rules do."""

    def __init__(self, steps: list[Step], cell: int) -> None:
        self.all: list[Note] = []
        self.cell = cell
        self._steps = steps
        steps.clear()

    def add(self, note: Note) -> None:
        self.all.append(note)

    def steps(self) -> tuple[Step, ...]:
        """Return what rules did since this was asked last."""
        steps = tuple(self._steps)
        self._steps.clear()
        return steps

    def at(self, family: int, ends: Ends) -> At:
        return At(
            family,
            self.number(ends.source),
            _port(ends.source_port),
            self.number(ends.destination),
            _port(ends.destination_port),
        )

    def number(self, value: int | Column) -> int:
        found = value.of(self.cell) if isinstance(value, Column) else value
        return found if isinstance(found, int) else 0

    def name(self, value: str | Column) -> str:
        return str(value.of(self.cell) or "") if isinstance(value, Column) else value


def _port(port: Port) -> int | None:
    return port.single if isinstance(port, Atom) else None


class _Conversations(Conversations):
    """Conversations of one packet, whose journeys are noted."""

    def __init__(self, worlds: Mapping[int, World], bits: Mapping[str, int], notes: _Notes) -> None:
        super().__init__(worlds, bits)
        self._notes = notes
        self._begun = 0
        self._told: dict[Relay, list[Found]] = {}

    def _from(self, picked: Picked | Some, asked: Asked) -> Iterator[Found]:
        begun, told = len(self._notes.all), dict(self._relayed)
        yield from super()._from(picked, asked)
        self._begun, self._told = begun, told

    def _from_most(self, every: Picked, asked: Asked) -> list[Found]:
        """Tell of the packet as it is from nearly all ports, in the place of from any, where that is known."""
        first, before = self._begun, len(self._notes.all)
        # what docker-proxy leads on is told anew
        self._relayed = self._told
        found = super()._from_most(every, asked)
        del self._notes.all[slice(first, self._begun) if found else slice(before, None)]
        return found

    def emission(self, world: World, address: int) -> Emission:
        """Return from where the packet's sender sends to an address: nobody else is asked about."""
        place = next(name for name, bit in self._bits.items() if bit & self._notes.cell)
        own = sources_of(world.stacks[place], address, world.link_to(world.stacks[place], address))
        return Emission((), (), dict.fromkeys(own.addresses, self._notes.cell))

    def _journey(self, world: World, conversation: Conversation) -> Journey:
        return _Journey(world, conversation, self._notes)

    def _sent(self, world: World, flight: Flight, cells: int) -> Sequence[Moving]:
        """Let the packet itself set out, so that its way out of its own namespace is told, too."""
        address = int(flight.ends.destination)  # type: ignore[arg-type]
        place = next(name for name, bit in self._bits.items() if bit & cells)
        link = world.link_to(world.stacks[place], address)
        own, doubt = sources_of(world.stacks[place], address, link)
        if not own:
            ports = flight.ends.destination_port
            self._notes.add(Sent(place, At(world.family, 0, None, address, _port(ports)), ""))
        told = flight.doubted({doubt: self._bits[place]} if doubt else {})
        flights = (replace(told, ends=replace(flight.ends, source=source)) for source in own)
        return [Departure(world.stacks[place], self._bits[place], each, link=link) for each in flights]

    def _led_on(self, lead: Lead, protocol: Protocol, interval: Atom | None, delivery: Delivery) -> Iterator[Found]:
        self._notes.add(Relayed(lead.address, lead.port))
        cell, self._notes.cell = self._notes.cell, self._bits[HOST]
        found = list(super()._led_on(lead, protocol, interval, delivery))
        self._notes.cell = cell
        yield from found


class _Journey(Journey):
    """A journey of one packet that notes what happens to it."""

    def __init__(self, world: World, conversation: Conversation, notes: _Notes) -> None:
        super().__init__(world, conversation, _Obstacles(world, conversation, notes))
        self._notes = notes
        notes.add(Begun(conversation.stage))

    def deliveries(self, *moving: Moving) -> list[Delivery]:
        delivered = super().deliveries(*moving)
        for item in delivered:
            self._notes.add(Arrived(item.stack.name, self._notes.at(item.stack.family, item.flight.ends)))
        return delivered

    def _depart(self, item: Departure) -> Iterator[Moving | Delivery]:
        stack = item.stack
        found = ways(self._setting_out(item))
        output = self._notes.name(found.output(stack)) if found.leaving else "lo" if found.local else ""
        self._notes.add(Sent(stack.name, self._notes.at(stack.family, item.flight.ends), output))
        yield from super()._depart(item)

    def _launch(self, passing: Passing, way: Exit) -> Iterator[Moving]:
        if passing.cells:
            self._notes.add(self._linked(passing, way))
        yield from super()._launch(passing, way)

    def _redirected(self, told: Redirect, flight: Flight) -> Iterator[Moving]:
        linked = self._linked(Passing(told.sender.stack, told.cells, flight, flight.ends), told.way)
        self._notes.add(replace(linked, doubt=told.told))
        yield from super()._redirected(told, flight)

    def _linked(self, passing: Passing, way: Exit) -> Linked:
        stack = passing.stack
        sender = self._world.station(stack, way.interface)
        bridge = sender.segment.bridge if sender else None
        world = self._world.resolving(way.towards)
        receivers = self._world.answering(stack, way)
        heard = {each: doubt for each in receivers if sender for passes, doubt in [hears(sender, each)] if passes}
        receiver = next(iter([*heard, *receivers]), None)
        lost = sender is not None and not heard and self._leads_out(sender, passing, way, found=bool(receivers))
        doubt = beyond(sender) if sender and lost else ""
        return Linked(
            stack.name,
            stack.routing.names[way.interface],
            world.family,
            way.towards,
            bridge.name if bridge else "",
            receiver.stack.name if receiver else "",
            _deafness(sender, receiver) if sender and receiver and not heard else "",
            tuple(each.port.name for each in (sender, receiver) if each and each.port),
            sender is not None and not (receivers or doubt or asks(world.same(sender), way.towards)),
            heard.get(receiver, doubt) if receiver else doubt,
            not followed(sender, receiver) if sender and receiver in heard else bool(doubt),
        )

    def _leads_out(self, sender: Station, passing: Passing, way: Exit, *, found: bool) -> bool:
        """Return whether somebody may get the packet by a router that is not seen; `found` is who has the next hop."""
        return any(
            sender.segment.routed_to(int(destination), sender)
            or (not found and self._world.led_on(sender, way, int(destination)))
            for destination, _ in parts(passing.flight.ends.destination, passing.cells)
        )

    def _cross(self, item: Crossing) -> Iterator[Moving | Delivery]:
        if item.receiver is not None:
            output = item.receiver.port.name if item.receiver.port else ""
            filtered = self._world.host.calls_iptables(item.bridge)
            self._notes.add(Bridged(item.bridge.name, (self._notes.name(item.port), output), filtered))
        yield from super()._cross(item)

    def _route(self, passing: Passing) -> Iterator[Moving | Delivery]:
        stack, at = passing.stack, self._notes.at(passing.stack.family, passing.flight.ends)
        interface = self._notes.name(passing.interface)
        found = ways(passing)
        local = bool(found.local) or passing.local
        output = self._notes.name(found.output(stack)) if found.cells else ""
        spent = passing.flight.hops < 2
        if passing.local or _is_led_back(passing, found):
            self._notes.add(Routed(stack.name, at, interface, local, output, stack.forwards_from(interface), spent))
        else:
            self._notes.add(Disbelieved(stack.name, at, interface))
        yield from super()._route(passing)

    def _deliver(self, passing: Passing) -> Iterator[Moving | Delivery]:
        if not of_one_alone(passing).cells:
            self._notes.add(Shared(passing.stack.name, self._notes.at(passing.stack.family, passing.flight.ends)))
        yield from super()._deliver(passing)


class _Obstacles(Obstacles):
    """What packets meet, with notes about what it did to them."""

    def __init__(self, world: World, conversation: Conversation, notes: _Notes) -> None:
        super().__init__(world, conversation)
        self._notes = notes

    def through(self, hook: Hook, passing: Passing) -> Iterator[Passing]:
        outcomes = list(super().through(hook, passing))
        steps = self._notes.steps()
        family = passing.stack.family
        before = self._notes.at(family, passing.flight.ends)
        after = tuple(dict.fromkeys(self._notes.at(family, each.flight.ends) for each in outcomes))
        if steps or after != (before,):
            known = passing.flight.doubts
            doubts = dict.fromkeys(name for each in outcomes for name in each.flight.doubts if name not in known)
            names = self._notes.name(passing.interface), self._notes.name(passing.output)
            self._notes.add(Filtered(passing.stack.name, hook, steps, before, after, *names, tuple(doubts)))
        return iter(outcomes)

    def past_bridge(
        self,
        hooks: tuple[Hook, ...],
        passing: Passing,
        port: str | Column,
        output: str,
        bridge: Interface | None,
        *,
        early: bool | None = None,
    ) -> Sequence[Passing]:
        passed = super().past_bridge(hooks, passing, port, output, bridge, early=early)
        self._note_frames(passing, passed, (self._notes.name(port), output), None)
        return passed

    def past_gates(self, hook: Hook, interfaces: str | Column, passing: Passing) -> Sequence[Passing]:
        passed = super().past_gates(hook, interfaces, passing)
        name = self._notes.name(interfaces)
        self._note_frames(passing, passed, (name, "") if hook == "ingress" else ("", name), hook)
        return passed

    def _note_frames(
        self, passing: Passing, passed: Sequence[Passing], names: tuple[str, str], hook: Hook | None
    ) -> None:
        steps, known, family = self._notes.steps(), passing.flight.doubts, passing.stack.family
        doubts = dict.fromkeys(name for each in passed for name in each.flight.doubts if name not in known)
        if steps or (doubts and hook is not None):
            before = self._notes.at(family, passing.flight.ends)
            after = tuple(dict.fromkeys(self._notes.at(family, each.flight.ends) for each in passed))
            told = tuple(doubts) if hook is not None else ()
            self._notes.add(Filtered(passing.stack.name, hook, steps, before, after, *names, told))

    def resolved(self, sender: Station, receiver: Station, target: int, passing: Passing) -> tuple[int, dict[str, int]]:
        cells, doubts = super().resolved(sender, receiver, target, passing)
        steps = self._notes.steps()
        if not cells:
            family = self._world.resolving(target).family
            kept = _kept_back(sender, receiver, family)
            self._notes.add(Unanswered(sender.stack.name, family, target, steps, receiver.stack.name, kept))
        return cells, doubts

    def believed(self, stack: Stack, cells: int, flight: Flight, interface: str | Column) -> int:
        valid = super().believed(stack, cells, flight, interface)
        if not valid:
            at = self._notes.at(stack.family, flight.ends)
            name = self._notes.name(interface)
            self._notes.add(Disbelieved(stack.name, at, name, own=not stack.admits(at.source, name)))
        return valid


def _is_led_back(passing: Passing, found: Ways) -> bool:
    """Return whether a reverse path filter that asks policy rules takes the packet on one of its ways."""
    names = passing.stack.routing.names
    asked = [("", found.local), *((names[way.interface], cells) for way, cells in found.leaving.items())]
    taken = [led_back(passing, cells, output, {}) for output, cells in asked if cells]
    return not taken or any(taken)


def _deafness(sender: Station, receiver: Station) -> str:
    """Return why frames from one station do not reach another."""
    ports = [each.port.port for each in (sender, receiver) if each.port and each.port.port]
    if not all(port.forwarding for port in ports):
        return "a port is not in state forwarding"
    if ports and all(port.isolated for port in ports):
        return "both ports are isolated"
    if sender.port and sender.port.port and sender.port.port.locked:
        return "the sender's port is locked"
    if receiver.port and not usual(receiver.port.port):
        return "the receiver's port neither learns nor floods"
    return "the ports are in different VLANs" if ports else f"mode {sender.child[1] or receiver.child[1]}"


def _kept_back(sender: Station, receiver: Station, family: int) -> str:
    """Return which message between who asks for a link address and who has it is not passed by their ports."""
    if not hears(sender, receiver, Frame.GROUP if family == 6 else Frame.ALL)[0]:
        return "question"
    return "" if hears(receiver, sender)[0] else "answer"


def _passing(item: Departure) -> Passing:
    return Passing(item.stack, item.cells, item.flight, item.flight.ends, mark=item.mark, own=True)
