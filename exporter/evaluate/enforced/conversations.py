"""Whether conversations come about: the first packet arrives, and for TCP its answer and what confirms it, too.

docker-proxy's conversations are two: one of the source with the host, one of the host with the container.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from exporter.evaluate.enforced.emission import Emission, Emitter
from exporter.evaluate.enforced.flight import (
    ICMP,
    ICMP6,
    TCP,
    Conversation,
    Delivery,
    Departure,
    Ends,
    Flight,
    Stage,
)
from exporter.evaluate.enforced.journey import Journey
from exporter.evaluate.enforced.listening import Listening
from exporter.evaluate.enforced.packets import (
    SOURCE_PORT,
    Atom,
    Column,
    Picked,
    PortsDiffer,
    Some,
    only,
    parts,
)
from exporter.evaluate.enforced.picking import USUAL, picked_ports
from exporter.evaluate.enforced.policy_rules import OF_PORTS
from exporter.model.ports import HIGHEST, LOWEST
from exporter.model.ranges import Ranges
from exporter.model.reach import HOST, TRANSPORTS, Protocol
from exporter.model.records import record

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from exporter.evaluate.enforced.flight import Passage, Port, Value
    from exporter.evaluate.enforced.journey import Moving
    from exporter.evaluate.enforced.listening import Lead
    from exporter.evaluate.enforced.segments import Segment, Station
    from exporter.evaluate.enforced.stack import Stack
    from exporter.evaluate.enforced.world import World
    from exporter.model.snapshot import Network

_ECHO = {4: (ICMP, 8), 6: (ICMP6, 128)}
_ALL = Atom(Ranges(((LOWEST, HIGHEST),)))
_NEARLY_ALL = 99
"""Of a hundred ports, those that a kernel picks one of so surely that it is never told otherwise by a few tries."""
ENDED = "whether who answers ends the conversation at once"
_MOST_CUTS = 16
"""Sets of ports that are taken from these before it is left open which of them is picked: each is a new start."""

Relay = tuple[int, Protocol, int, int]
"""Where docker-proxy leads connections on to: a version of IP, a protocol, an address and a port."""


@record(eq=False)
class Found:
    """Conversations of some cells that come about, with the sandbox where they end.

    `published` tells that something on the way led them to another address than the source's.
    """

    stack: Stack
    cells: int
    protocol: Protocol
    ports: Atom | None
    network: Network | None
    published: bool
    routed: bool
    doubts: Mapping[str, int]


class Asked(NamedTuple):
    """What conversations are asked about: those of some cells with an address and its ports."""

    family: int
    protocol: Protocol
    address: int
    ports: Port
    cells: int


class Conversations:
    """All conversations of the sandboxes of two worlds, IPv4's and IPv6's. `bits` are the cells of sandboxes.

    Of those `on` one link, with its link-local addresses, `whole` are all.
    """

    def __init__(
        self,
        worlds: Mapping[int, World],
        bits: Mapping[str, int],
        whole: Conversations | None = None,
        senders: Sequence[Station] | None = None,
    ) -> None:
        self._worlds = worlds
        self._bits = bits
        self._whole = whole or self
        self._on: dict[int, Conversations] = {}
        self._relayed: dict[Relay, list[Found]] = {}
        self.picking: Sequence[tuple[Ranges, int]] = whole.picking if whole else _picking(worlds, bits)
        self._emitters = {family: Emitter(world, bits, senders) for family, world in worlds.items()}
        self.listening: Mapping[int, Listening] = (
            whole.listening if whole else {family: Listening(world) for family, world in worlds.items()}
        )

    def on(self, link: Segment) -> Conversations:
        """Return the conversations with link-local addresses of a link, which only those on it begin."""
        found = self._on.get(id(link))
        if found is None:
            found = self._on[id(link)] = Conversations(self._worlds, self._bits, self, link.stations)
        return found

    def found(self, family: int, protocol: Protocol, address: int, cells: int = -1) -> Iterator[Found]:
        """Yield the conversations with an address that come about, by intervals of ports."""
        pending: list[Port] = [_ALL if protocol in TRANSPORTS else None]
        while pending:
            ports = pending.pop()
            try:
                found = self.one(Asked(family, protocol, address, ports, cells))
            except PortsDiffer as difference:
                pending.extend(difference.parts)
            else:
                yield from found

    def one(self, asked: Asked) -> list[Found]:
        """Return the conversations that come about, whichever port they come from.

        Where that matters, those count for certain that come about from nearly all ports: who sends does not stay with
        one that rules single out.
        """
        return [
            found
            for ports, cells in self.picking
            if ports and cells & asked.cells
            for found in self._from_any(ports, asked._replace(cells=cells & asked.cells))
        ]

    def _from_any(self, ports: Ranges, asked: Asked) -> list[Found]:
        """Return the conversations from whichever of some ports is picked."""
        found = list(self._from(Some(ports.intervals[0][0], ports.intervals[-1][1]), asked))
        hinging = 0
        for each in found:
            hinging |= _hinging(each)
        if not hinging:
            return found
        most = self._from_most(Picked(ports), asked._replace(cells=hinging))
        surely = [each for each in most if not _hinging(each)]
        return [*filter(_any, (_besides(each, surely) for each in found)), *surely]

    def _from_most(self, every: Picked, asked: Asked) -> list[Found]:
        """Return the conversations from those ports that nothing tells apart, where these are nearly all there are."""
        picked = every
        for _ in range(_MOST_CUTS):
            try:
                return list(self._from(picked, asked))
            except PortsDiffer as difference:
                if not isinstance(difference.atom, Picked):
                    raise
                picked = Picked(*max(difference.parts, key=lambda part: part.size))
                if picked.size * 100 < every.size * _NEARLY_ALL:
                    break
        return []

    def _from(self, picked: Picked | Some, asked: Asked) -> Iterator[Found]:
        """Yield the conversations from the ports that a kernel may pick."""
        family, protocol, address, ports, cells = asked
        world = self._worlds[family]
        number, kind = (TRANSPORTS[protocol], None) if protocol in TRANSPORTS else _ECHO[family]
        flight = Flight(number, Ends(0, picked if protocol in TRANSPORTS else None, address, ports), icmp_type=kind)
        journey = self._journey(world, Conversation(Stage.FIRST))
        delivered = journey.deliveries(*self._sent(world, flight, cells))
        if protocol is Protocol.TCP:
            confirmed = (self._confirmed(world, flight, delivery) for delivery in delivered)
            delivered = [delivery for delivery in confirmed if delivery is not None]
        for delivery in journey.decided(delivered):
            yield from self._ended(world, protocol, address, ports, delivery)

    def _journey(self, world: World, conversation: Conversation) -> Journey:
        return Journey(world, conversation)

    def emission(self, world: World, address: int) -> Emission:
        """Return what all sandboxes send to an address, or those on a link."""
        return self._emitters[world.family].to(address)

    def _sent(self, world: World, flight: Flight, cells: int) -> Sequence[Moving]:
        """Return the packets of some cells to a flight's destination."""
        return list(self.emission(world, int(flight.ends.destination)).moving(flight, cells))  # type: ignore[arg-type]

    def _confirmed(self, world: World, flight: Flight, delivery: Delivery) -> Delivery | None:
        """Return the part of a delivery whose answers arrive, and where what confirms them arrives, too.

        Those of packets that went astray may be led back by whoever led them here: he may have sent them from himself.
        """
        astray = delivery.cells & delivery.flight.astray
        passages: dict[str, list[Passage]] = defaultdict(list)
        for passage in delivery.flight.passages:
            passages[passage.stack.name].append(passage)
        back = _answer(delivery)
        answered: dict[str, int] = defaultdict(int)
        arrived, doubts, on_the_way_back = 0, dict(delivery.flight.doubts), False
        journey = self._journey(world, Conversation(Stage.ANSWER, passages))
        answers = self._heard(world, flight, journey, back)
        for item in answers:
            arrived |= item.cells
            for passage in item.flight.passages:
                answered[passage.stack.name] |= passage.tracked & item.cells
                alone = passage.stack.name not in passages or len(item.flight.passed(passage.stack)) > 1
                if alone and not passage.stack.ruleset.idle:
                    on_the_way_back = True
            _merge(doubts, item.flight.doubts, item.cells)
        if not arrived | astray:
            return None
        third = Conversation(Stage.CONFIRMATION, _marked(passages, answers), answered)
        confirmed = 0
        confirmations = self._sent_again(world, flight, arrived, self._journey(world, third), delivery)
        for item in confirmations:
            confirmed |= item.cells
            _merge(doubts, item.flight.doubts, item.cells)
        cells = delivery.cells & arrived & confirmed
        # who sees the way back alone, or again, or forgets, takes what is said for the first packets of another one
        if on_the_way_back or any(_is_new_again(passage, cells) for passage in delivery.flight.passages):
            known = {**passages, **_begun_by(third, confirmations)}
            cells = self._said(world, flight, known, replace(back, cells=cells), doubts)
        cells |= astray
        return replace(delivery, cells=cells, flight=replace(delivery.flight, doubts=doubts)) if cells else None

    def _said(
        self,
        world: World,
        flight: Flight,
        known: Mapping[str, Sequence[Passage]],
        back: Departure,
        doubts: dict[str, int],
    ) -> int:
        """Return the cells that hear what is said after the handshake, and add doubts about that.

        What is lost is sent again, in one packet with the end of the conversation where nothing comes between the two
        (tcp_retrans_try_collapse): past who has forgotten it, that may get through where what is said alone does not.
        """
        heard, stages = 0, [(Stage.SAYING, "")]
        if any(passage.stack.expiry.confirmed for passages in known.values() for passage in passages):
            stages.append((Stage.ENDING, ENDED))
        for stage, doubt in stages:
            left = replace(back, cells=back.cells & ~heard)
            if left.cells:
                for item in self._heard(world, flight, self._journey(world, Conversation(stage, known)), left):
                    heard |= item.cells
                    _merge(doubts, {**item.flight.doubts, **({doubt: item.cells} if doubt else {})}, item.cells)
        return heard

    def _sent_again(
        self, world: World, flight: Flight, cells: int, journey: Journey, first: Delivery
    ) -> Sequence[Delivery]:
        """Return what arrives where the first packets did, of what is sent as they were."""
        if not cells:
            return ()
        arrived = journey.deliveries(*self._sent(world, flight, cells))
        ends = first.flight.ends
        there = (item for item in arrived if item.stack is first.stack)
        same = (replace(item, cells=item.flight.ends.alike(ends, item.cells)) for item in there)
        return journey.decided([item for item in same if item.cells])

    def _heard(self, world: World, flight: Flight, journey: Journey, back: Departure) -> Sequence[Delivery]:
        """Return what arrives, of what is sent back, at those whose packets it answers.

        What is said after the handshake goes the way of the answer; but namespaces that do not follow the conversation
        may rewrite it, as a new one.
        """
        fitting = (
            replace(item, cells=item.cells & self._bits[item.stack.name] & self._fitting(world, flight, item))
            for item in journey.deliveries(back)
        )
        return journey.decided(list(fitting))

    def _fitting(self, world: World, flight: Flight, answer: Delivery) -> int:
        """Return the cells whose own packets an answer answers: it comes from where they were sent to."""
        ends, sent = answer.flight.ends, flight.ends
        if ends.source != sent.destination or ends.source_port != sent.destination_port:
            return 0
        towards = ends.destination
        sources = self.emission(world, int(sent.destination)).sources  # type: ignore[arg-type]
        if not isinstance(towards, Column):
            return sources.get(towards, 0)
        fitting = 0
        for address, cells in towards.values.items():
            fitting |= cells & sources.get(int(address), 0)
        return fitting

    def _ended(
        self, world: World, protocol: Protocol, address: int, ports: Port, delivery: Delivery
    ) -> Iterator[Found]:
        """Yield where conversations end that came to a namespace's own sockets: docker-proxy leads them on."""
        flight = delivery.flight
        interval = ports if isinstance(ports, Atom) else None
        ends = flight.ends
        translated = ends.destination != address or ends.destination_port != ports
        if delivery.stack is world.host and isinstance(ends.destination_port, Some):
            for each in self.listening[world.family].among(protocol, ends.destination, ends.destination_port):
                flight = flight.doubted({ends.destination_port.doubt: delivery.cells})
                for lead in self.listening[world.family].leads(each):
                    yield from self._led_on(lead, protocol, interval, replace(delivery, flight=flight))
        elif delivery.stack is world.host and protocol in TRANSPORTS:
            listener = self.listening[world.family].at(protocol, ends.destination, ends.destination_port)
            if listener is not None and self.listening[world.family].held(listener):
                for lead in self.listening[world.family].leads(listener):
                    yield from self._led_on(lead, protocol, interval, delivery)
                return
        yield Found(
            stack=delivery.stack,
            cells=delivery.cells,
            protocol=protocol,
            ports=interval,
            network=world.network_at(delivery.stack, ends.destination, delivery.interface),
            published=translated and delivery.stack is not world.host,
            routed=flight.routed,
            doubts=flight.doubts,
        )

    def _led_on(self, lead: Lead, protocol: Protocol, interval: Atom | None, delivery: Delivery) -> Iterator[Found]:
        key = (lead.address.version, protocol, int(lead.address), lead.port)
        if key not in self._relayed:
            self._relayed[key] = []  # a proxy that leads to itself leads nowhere
            self._relayed[key] = self._to_container(*key)
        for second in self._relayed[key]:
            doubts = dict(delivery.flight.doubts)
            for name in (*second.doubts, *([lead.doubt] if lead.doubt else [])):
                doubts[name] = doubts.get(name, 0) | delivery.cells
            yield Found(
                second.stack,
                delivery.cells,
                protocol,
                interval,
                second.network,
                published=True,
                routed=False,
                doubts=doubts,
            )

    def _to_container(self, family: int, protocol: Protocol, address: int, port: int) -> list[Found]:
        return self._whole.one(Asked(family, protocol, address, only(port), self._bits[HOST]))


def _picking(worlds: Mapping[int, World], bits: Mapping[str, int]) -> Sequence[tuple[Ranges, int]]:
    """Return the ports that kernels pick from, with the cells of the namespaces of these; the usual ones last."""
    found: dict[Ranges, int] = defaultdict(int)
    told = 0
    for stack in next(iter(worlds.values())).stacks.values():
        ports = picked_ports(stack.namespace)
        if ports != USUAL:
            found[ports] |= bits[stack.name]
            told |= bits[stack.name]
    return [*found.items(), (USUAL, ~told)]


def _hinging(found: Found) -> int:
    """Return the cells for which it is not known because of the port that is picked."""
    cells = 0
    for name, doubted in found.doubts.items():
        if name == SOURCE_PORT or name.endswith(OF_PORTS):
            cells |= doubted
    return cells & found.cells


def _any(found: Found) -> bool:
    return found.cells != 0


def _besides(found: Found, surely: Sequence[Found]) -> Found:
    """Return what was found without what hinges on the port, and is known to be there from nearly all."""
    known = 0
    for each in surely:
        known |= each.cells if each.stack is found.stack else 0
    return replace(found, cells=found.cells & ~(known & _hinging(found)))


def _answer(delivery: Delivery) -> Departure:
    """Return what a socket says to whom it accepts.

    It may take the mark of what it was asked with (inet_request_mark), which routes and rules then see. Whoever asked
    from a link-local address is looked for where that came in (tcp_v6_init_req).
    """
    accepts = delivery.stack.namespace.setting("ipv4/tcp_fwmark_accept")
    mark = delivery.mark if accepts else 0
    flight = Flight(TCP, delivery.flight.ends.reversed())
    return Departure(delivery.stack, delivery.cells, flight, mark, delivery.interface)


def _begun_by(conversation: Conversation, items: Sequence[Delivery]) -> Mapping[str, Sequence[Passage]]:
    """Return the connections that packets began on their way in namespaces that had forgotten the conversation."""
    begun: dict[str, list[Passage]] = defaultdict(list)
    for item in items:
        for passage in item.flight.passages:
            if conversation.begins(passage.stack):
                begun[passage.stack.name].append(passage)
    return begun


def _is_new_again(passage: Passage, cells: int) -> bool:
    """Return whether a namespace may take what is said for something new, though it saw the first packets."""
    return cells & ~passage.tracked != 0 or passage.stack.expiry.of_tcp


def _marked(passages: Mapping[str, Sequence[Passage]], answers: Sequence[Delivery]) -> Mapping[str, Sequence[Passage]]:
    """Return passages with the marks that their connections have once answers came through."""
    found = dict(passages)
    for item in answers:
        for passage in item.flight.passages:
            name, mark = passage.stack.name, passage.ct_mark
            found[name] = [_with_mark(each, mark, _answering(each, passage, item)) for each in found.get(name, ())]
    return found


def _answering(known: Passage, passage: Passage, answer: Delivery) -> int:
    """Return the cells whose answers are of a connection; of those that come through once, all are."""
    once = len(answer.flight.passed(passage.stack)) == 1
    return answer.cells if once else known.after.reversed().alike(passage.before, answer.cells)


def _with_mark(passage: Passage, mark: Value, cells: int) -> Passage:
    old = passage.ct_mark
    if mark == old:
        return passage
    column = old if isinstance(old, Column) else Column({old: -1})
    for value, at in parts(mark, cells):
        column = column.over(at, value)
    untold = mark.untold & cells if isinstance(mark, Column) else 0
    return replace(passage, ct_mark=column.forgotten(untold) if untold else column)


def _merge(doubts: dict[str, int], more: Mapping[str, int], cells: int) -> None:
    for name, doubted in more.items():
        if doubted & cells:
            doubts[name] = doubts.get(name, 0) | (doubted & cells)
