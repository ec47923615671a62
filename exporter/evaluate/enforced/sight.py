"""Packets between hooks as rules see them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter.evaluate.enforced.flight import ARP, ARP_REQUEST, BACK, TCP, UDP, Stage
from exporter.evaluate.enforced.packets import ANSWERED, WHENCE, Atom, Column, Packets, Some
from exporter.model.firewall import CtState, CtStatus, Field, PacketType

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from exporter.evaluate.enforced.flight import Conversation, Flight, Passage
    from exporter.evaluate.enforced.packets import Constant
    from exporter.evaluate.enforced.passing import Passing
    from exporter.evaluate.enforced.stack import Stack

_FIN, _SYN, _ACK = 1, 2, 16
_FLAGS = {
    Stage.FIRST: _SYN,
    Stage.ANSWER: _SYN | _ACK,
    Stage.CONFIRMATION: _ACK,
    Stage.SAYING: _ACK,
    Stage.ENDING: _FIN | _ACK,
}
_ETHER = {4: 0x0800, 6: 0x86DD}


class Sight:
    """How rules see the packets of one stage of a conversation, with what conntrack knows of them."""

    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation

    def packets(self, passing: Passing) -> Packets:
        """Return the packets as the rules of a hook see them."""
        flight, ends = passing.flight, passing.flight.ends
        if flight.protocol == ARP:
            return _of_arp(passing)
        family = passing.stack.family
        fields: dict[Field, Constant | Column] = {
            Field.FAMILY: family,
            Field.ETHER_TYPE: _ETHER[family],
            Field.PROTOCOL: flight.protocol,
            Field.SOURCE: ends.source,
            Field.DESTINATION: ends.destination,
            # without an interface, rules compare with an empty name (nulldevname, nft_meta_store_ifname)
            Field.INPUT_INTERFACE: passing.interface,
            Field.OUTPUT_INTERFACE: passing.output,
            Field.INPUT_PORT: passing.port,
            Field.OUTPUT_PORT: passing.output_port,
            Field.MARK: passing.mark,
            # br_netfilter shows frames for others as if they were for the host (setup_pre_routing, br_nf_forward)
            Field.PACKET_TYPE: PacketType.HOST if passing.packet_type == PacketType.OTHER else passing.packet_type,
            # whether it is sealed as its policy has it, nobody knows
            Field.IPSEC: Column({0: -1}, untold=flight.sealed) if flight.sealed else 0,
        }
        if flight.protocol in (TCP, UDP):
            _put(fields, Field.SOURCE_PORT, ends.source_port)
            _put(fields, Field.DESTINATION_PORT, ends.destination_port)
        else:
            _put(fields, Field.ICMP_TYPE, flight.icmp_type)
            fields[Field.ICMP_CODE] = 0
        if flight.protocol == TCP:
            fields[Field.TCP_FLAGS] = _FLAGS[self._conversation.stage]
        for name, kind, number, group in (
            (passing.interface, Field.INPUT_KIND, Field.INPUT_TYPE, Field.INPUT_GROUP),
            (passing.output, Field.OUTPUT_KIND, Field.OUTPUT_TYPE, Field.OUTPUT_GROUP),
        ):
            _put(fields, kind, _of_interface(name, lambda told: _kind(passing.stack, told)))
            _put(fields, number, _of_interface(name, lambda told: _type(passing.stack, told)))
            _put(fields, group, _group(passing.stack, name))
        _put(fields, Field.SOURCE_MAC, passing.mac)
        _put(fields, Field.DESTINATION_MAC, passing.frame_for)
        if passing.own:
            fields |= {name: Some(0, 0xFFFFFFFF, name) for name in (Field.SOCKET_USER, Field.SOCKET_GROUP)}
        fields |= self._connection(passing)
        if flight.astray & passing.cells:
            fields |= {name: _untold(fields.get(name), flight.astray) for name in WHENCE}
        if self._may_be_known(flight) and flight.contested & passing.cells:
            fields |= {name: _untold(fields.get(name), flight.contested) for name in ANSWERED}
        return Packets(fields)

    def _may_be_known(self, flight: Flight) -> bool:
        """Return whether the packets may be of a conversation with somebody else: none of TCP begins with those."""
        return self._conversation.stage is Stage.FIRST and flight.protocol != TCP

    def unconnected(self, passing: Passing) -> Packets:
        """Return the packets as rules see them that come before conntrack."""
        packets = self.packets(passing)
        packets.fields = {name: value for name, value in packets.fields.items() if name not in _CT_FIELDS}
        return packets

    def entering(self, passing: Passing) -> Packets:
        """Return them as rules see them that may keep conntrack from following them."""
        packets = self.unconnected(passing)
        packets.fields[Field.CT_STATE] = Column({int(CtState.INVALID): -1})
        return packets

    def _connection(self, passing: Passing) -> dict[Field, Constant | Column]:
        """Return what conntrack adds."""
        conversation, ends = self._conversation, passing.flight.ends
        passage = self.known(passing)
        answer = conversation.stage in BACK and not (passage is None and conversation.begins(passing.stack))
        original = passage.before if passage else passing.arrived.reversed() if answer else passing.arrived
        reply = (passage.after if passage else ends if not answer else ends.reversed()).reversed()
        state = conversation.state(passing.stack, passage, passing.cells, passing.untracked)
        fields: dict[Field, Constant | Column] = {
            Field.CT_STATUS: self._status(passing, passage),
            Field.CT_MARK: passing.ct_mark if passing.ct_mark is not None else passage.ct_mark if passage else 0,
            Field.CT_DIRECTION: int(answer),
            Field.CT_PROTOCOL: passing.flight.protocol,
            Field.CT_ORIGINAL_SOURCE: original.source,
            Field.CT_ORIGINAL_DESTINATION: original.destination,
            Field.CT_REPLY_SOURCE: reply.source,
            Field.CT_REPLY_DESTINATION: reply.destination,
        }
        _put(fields, Field.CT_ORIGINAL_SOURCE_PORT, original.source_port)
        _put(fields, Field.CT_ORIGINAL_DESTINATION_PORT, original.destination_port)
        _put(fields, Field.CT_REPLY_SOURCE_PORT, reply.source_port)
        _put(fields, Field.CT_REPLY_DESTINATION_PORT, reply.destination_port)
        return {Field.CT_STATE: state, **_of_connections(fields, state)}

    def _status(self, passing: Passing, passage: Passage | None) -> int:
        before, after = (passage.before, passage.after) if passage else (passing.arrived, passing.flight.ends)
        status = CtStatus.CONFIRMED if passage is not None else CtStatus(0)
        if passage is not None and self._conversation.stage is not Stage.FIRST:
            status |= CtStatus.SEEN_REPLY | CtStatus.CONFIRMED
        if passage is not None and self._conversation.stage not in (Stage.FIRST, Stage.ANSWER):
            status |= CtStatus.ASSURED
        if before.destined != after.destined:
            status |= CtStatus.DNAT
        if before.source != after.source:
            status |= CtStatus.SNAT
        return int(status)

    def found(self, passing: Passing) -> Iterator[tuple[Passage | None, int]]:
        """Yield the connections that a namespace knows, each with the packets that it takes to be of it.

        Those that come through it once are of the one that the first packets began. Others it finds by the addresses
        and ports that they come in with (resolve_normal_ct): what it passed on unchanged and sees again, as where a
        container leads it back, is of the same connection. That is confirmed by then, and its translation is settled
        (nf_nat_initialized); what it rewrote before is of another one.
        """
        stage, again = self._conversation.stage, passing.flight.passed(passing.stack)
        known = self.remembered(passing)
        left = passing.cells
        if stage is not Stage.FIRST and len(known) == 1 and not again:
            yield known[0], left
            return
        for passage in reversed(known):
            came = passage.after.reversed() if stage in BACK else passage.before
            cells = came.alike(passing.arrived, left & passage.tracked)
            if cells:
                yield passage, cells
                left &= ~cells
        if left:
            yield None, left

    def remembered(self, passing: Passing) -> Sequence[Passage]:
        """Return how packets before came through a namespace of which it has not forgotten that."""
        conversation, stack, flight = self._conversation, passing.stack, passing.flight
        again = flight.passed(stack)
        if conversation.forgotten(stack, flight.protocol, again=bool(again)):
            return ()
        return again if conversation.stage is Stage.FIRST else conversation.passages.get(stack.name, ())

    def known(self, passing: Passing) -> Passage | None:
        """Return the connection of packets that are all of one, or of none that the namespace knows."""
        return next(self.found(passing), (None, 0))[0]


_CT_FIELDS = frozenset(name for name in Field if name.value.startswith("ct_"))


def _of_connections(
    fields: Mapping[Field, Constant | Column], state: int | Column
) -> Mapping[Field, Constant | Column]:
    """Return what conntrack knows of packets; of those that are of no connection, it knows their state alone."""
    if not isinstance(state, Column):
        return {name: _without(value, -1) for name, value in fields.items()} if state in _WITHOUT_CONNECTION else fields
    without = 0
    for kind in _WITHOUT_CONNECTION:
        without |= state.values.get(int(kind), 0)
    return {name: _without(value, without) for name, value in fields.items()} if without else fields


def _without(value: Constant | Column, cells: int) -> Constant | Column:
    if isinstance(value, Column):
        return value.within(~cells)
    return value if isinstance(value, Atom | Some) else Column({value: ~cells})


_WITHOUT_CONNECTION = (CtState.INVALID, CtState.UNTRACKED)

_ARP_FRAME = 0x0806


def _of_arp(passing: Passing) -> Packets:
    """Return frames as rules see them. Who asks for a link address has none to write for it (arp_create)."""
    ends, asks = passing.flight.ends, passing.flight.icmp_type == ARP_REQUEST
    fields: dict[Field, Constant | Column] = {
        Field.ETHER_TYPE: _ARP_FRAME,
        Field.ARP_SOURCE: ends.source,
        Field.ARP_DESTINATION: ends.destination,
        Field.INPUT_INTERFACE: passing.interface,
        Field.OUTPUT_INTERFACE: passing.output,
        Field.INPUT_PORT: passing.port,
        Field.OUTPUT_PORT: passing.output_port,
        Field.MARK: passing.mark,
        Field.PACKET_TYPE: passing.packet_type,
    }
    _put(fields, Field.ARP_OPERATION, passing.flight.icmp_type)
    for name, mac in (
        (Field.SOURCE_MAC, passing.mac),
        (Field.DESTINATION_MAC, passing.frame_for),
        (Field.ARP_SOURCE_MAC, passing.mac),
        (Field.ARP_DESTINATION_MAC, 0 if asks else passing.frame_for),
    ):
        _put(fields, name, mac)
    return Packets(fields)


def _of_interface(name: str | Column, told: Callable[[str], int | str | None]) -> Constant | Column | None:
    """Return what is told of interfaces; packets without one, or of which nothing is told, have no such field."""
    if not isinstance(name, Column):
        return told(name)
    found: dict[int | str, int] = {}
    for each, cells in name.values.items():
        value = told(str(each))
        if value is not None:
            found[value] = found.get(value, 0) | cells
    return Column(found)


def _kind(stack: Stack, name: str) -> str | None:
    """Return the kind of an interface; cards have none (nft_meta_get_eval_kind)."""
    interface = stack.by_name.get(name)
    return interface.kind or None if interface is not None else None


def _group(stack: Stack, name: str | Column) -> Constant | Column | None:
    """Return the group of an interface: nearly always nobody made any."""
    if not stack.grouped:
        return 0 if name else None
    return _of_interface(name, lambda told: stack.by_name[told].group if told in stack.by_name else None)


def _type(stack: Stack, name: str) -> int | None:
    """Return the ARPHRD number of an interface: all but loopback are taken for Ethernet."""
    return (_LOOPBACK if name == "lo" else _ETHERNET) if name in stack.by_name else None


_ETHERNET, _LOOPBACK = 1, 772


def _untold(value: Constant | Column | None, cells: int) -> Column:
    """Return a field of which nobody knows the values that these cells have."""
    if isinstance(value, Column):
        return value.forgotten(cells)
    return Column({value: ~cells} if isinstance(value, int | str) else {}, cells)


def _put(fields: dict[Field, Constant | Column], name: Field, value: Constant | Column | None) -> None:
    if value is not None:
        fields[name] = value
