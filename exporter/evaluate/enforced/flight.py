"""Packets under way between namespaces, and what is remembered of the way they came."""

from __future__ import annotations

from dataclasses import field, replace
from enum import Enum
from typing import TYPE_CHECKING

from exporter.evaluate.enforced.packets import Atom, Column, Some, parts
from exporter.model.firewall import CtState
from exporter.model.namespace import USUAL_HOPS
from exporter.model.reach import TRANSPORTS, Protocol
from exporter.model.records import record

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from exporter.evaluate.enforced.segments import Station
    from exporter.evaluate.enforced.stack import Stack
    from exporter.model.namespace import Interface

TCP, UDP = TRANSPORTS[Protocol.TCP], TRANSPORTS[Protocol.UDP]
ICMP, ICMP6 = 1, 58
ARP = -1
"""In a protocol's place: no packet of IP, but a frame of ARP."""
ARP_REQUEST, ARP_REPLY = 1, 2
"""What such a frame has in the place of a type of ICMP."""
Value = int | Column
Port = Atom | Some | None


class Stage(Enum):
    """Which packet of a conversation is under way.

    The first, the answer to it, the one that confirms the answer, what the answering side says after that, or what it
    says where it ends the conversation with that.
    """

    FIRST = "first"
    ANSWER = "answer"
    CONFIRMATION = "confirmation"
    SAYING = "saying"
    ENDING = "ending"


BACK = (Stage.ANSWER, Stage.SAYING, Stage.ENDING)
"""Packets from the side that the first one was sent to."""


@record(eq=False)
class Passage:
    """A namespace that the first packets came through: what its conntrack knows of their connections.

    `tracked` are the cells whose connections it follows. `before` are the addresses and ports of the packets as they
    came, `after` as they left; where nothing was rewritten the two are the same.
    """

    stack: Stack
    tracked: int
    before: Ends
    after: Ends
    ct_mark: Value = 0


@record(eq=False)
class Ends:
    """Where packets come from and go to."""

    source: Value
    source_port: Port
    destination: Value
    destination_port: Port

    @property
    def destined(self) -> tuple[Value, Port]:
        """Where packets go to."""
        return self.destination, self.destination_port

    def reversed(self) -> Ends:
        """Return the ends of an answer."""
        return Ends(self.destination, self.destination_port, self.source, self.source_port)

    def alike(self, other: Ends, cells: int) -> int:
        """Return the cells whose packets have the addresses and ports of others."""
        if (self.source_port, self.destination_port) != (other.source_port, other.destination_port):
            return 0
        return _equal(self.source, other.source, cells) & _equal(self.destination, other.destination, cells)


def _equal(one: Value, other: Value, cells: int) -> int:
    found = 0
    for value, at in parts(one, cells):
        for another, here in parts(other, at):
            found |= here if value == another else 0
    return found


@record(eq=False)
class Flight:
    """Packets of one protocol. `doubts` are what is not known about whether they come this far, with the cells.

    `routed` tells whether a namespace passed them on from one link to another, in the place of a bridge. `sealed` are
    the cells of those that a policy of IPsec may have sent in others, `astray` of those that somebody led on who is not
    seen: what he made of their source nobody knows, and he may lead their answers back. `contested` are the cells of
    those that several may take: another one may have answered what they say before, so that namespaces which see both
    take them for packets of that conversation. `hops` is how many namespaces they may come to yet (TTL, hop limit).
    """

    protocol: int
    ends: Ends
    passages: tuple[Passage, ...] = ()
    doubts: Mapping[str, int] = field(default_factory=dict)
    icmp_type: int | None = None
    routed: bool = False
    sealed: int = 0
    astray: int = 0
    contested: int = 0
    hops: int = USUAL_HOPS

    def passed(self, stack: Stack) -> Sequence[Passage]:
        """Return how packets came through a namespace before."""
        return [passage for passage in self.passages if passage.stack is stack]

    def doubted(self, doubts: Mapping[str, int]) -> Flight:
        """Return the flight with more doubts."""
        if not doubts:
            return self
        merged = dict(self.doubts)
        for name, cells in doubts.items():
            merged[name] = merged.get(name, 0) | cells
        return replace(self, doubts=merged)

    def sure(self, known: Mapping[str, int]) -> Flight:
        """Return the flight without doubts about some cells."""
        left = {name: cells & ~known.get(name, 0) for name, cells in self.doubts.items()}
        return replace(self, doubts={name: cells for name, cells in left.items() if cells})


@record(eq=False)
class Departure:
    """Packets that a namespace itself sends, with the mark of the socket that they come from.

    `link` is the interface on which a link-local destination is looked for, whose number goes with such an address.
    """

    stack: Stack
    cells: int
    flight: Flight
    mark: Value = 0
    link: str | Column = ""


@record(eq=False)
class Arrival:
    """Packets that come into a namespace by a link. For packets from several links, the three are columns.

    `interface` is where they came in, `port` the port of the bridge if that is one, `mac` who sent the frame,
    `frame_for` whose link address it is for.
    """

    stack: Stack
    cells: int
    flight: Flight
    interface: str | Column
    port: str | Column = ""
    mac: int | Column | None = None
    frame_for: int | Column | None = None


@record(eq=False)
class Crossing:
    """Frames that the host passes from ports of a bridge to another port of it, where `receiver` is.

    Without one they are for a link address that nobody there has: only what br_netfilter leads elsewhere is not lost.
    """

    bridge: Interface
    cells: int
    flight: Flight
    port: str | Column
    mac: int | Column | None
    receiver: Station | None
    frame_for: int | Column | None = None


@record(eq=False)
class Delivery:
    """Packets that arrived at a namespace's own sockets, with the mark that they had then, and where they came in."""

    stack: Stack
    cells: int
    flight: Flight
    mark: Value = 0
    interface: str | Column = ""


@record(eq=False)
class Conversation:
    """What was sent before a packet, for those that are not the first.

    `passages` are those of the first packets by namespace, in their order where they came through one several times;
    `answered` the cells whose answers a namespace saw.
    """

    stage: Stage
    passages: Mapping[str, Sequence[Passage]] = field(default_factory=dict)
    answered: Mapping[str, int] = field(default_factory=dict)

    def forgotten(self, stack: Stack, protocol: int, *, again: bool) -> bool:
        """Return whether a namespace has forgotten what came before packets, which may come through it `again`."""
        expiry = stack.expiry
        match self.stage:
            case Stage.FIRST:
                return protocol in expiry.protocols
            case Stage.ANSWER:
                return expiry.answered if again else expiry.asked
            case Stage.CONFIRMATION:
                return expiry.confirmed if again else expiry.answered
            case Stage.SAYING | Stage.ENDING:
                return expiry.confirmed

    def begins(self, stack: Stack) -> bool:
        """Return whether packets begin a connection in a namespace that knows of none that they are of.

        An answer never does, nor what ends a conversation. What belongs to the middle of one may
        (nf_conntrack_tcp_loose); but while the answer was not seen to what was, its confirmation is invalid.
        """
        match self.stage:
            case Stage.FIRST:
                return True
            case Stage.ANSWER | Stage.ENDING:
                return False
            case Stage.CONFIRMATION:
                return stack.expiry.loose and stack.expiry.of_tcp
            case Stage.SAYING:
                return stack.expiry.loose

    def state(self, stack: Stack, passage: Passage | None, cells: int, untracked: int) -> int | Column:
        """Return what conntrack calls packets of these cells in a namespace that the first ones came through, or not.

        Until there is an answer, all are new. An answer to what the namespace did not see is invalid; so is what
        follows an answer that it did not see (the table of nf_conntrack_proto_tcp.c). What is said in a conversation
        that it does not follow, or has forgotten, is taken for the first packet of a new one where that may be.
        """
        if self.stage is Stage.FIRST:
            known = CtState.NEW
            followed = cells
        else:
            known = CtState.ESTABLISHED
            followed = passage.tracked if passage else 0
            if self.stage is Stage.CONFIRMATION:
                followed &= self.answered.get(stack.name, 0)
        masks = {known: cells & followed & ~untracked, CtState.UNTRACKED: cells & untracked}
        confirms = self.stage is Stage.CONFIRMATION and passage is not None
        unknown = CtState.NEW if self.begins(stack) and not confirms else CtState.INVALID
        masks[unknown] = masks.get(unknown, 0) | cells & ~followed & ~untracked
        values: dict[int | str, int] = {int(state): mask for state, mask in masks.items() if mask}
        return int(known) if len(values) < 2 and int(known) in values else Column(values)
