"""What one namespace's hooks do to packets: filters, conntrack and translations, in netfilter's order of priorities."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from ipaddress import ip_address
from itertools import groupby
from typing import TYPE_CHECKING

from exporter.evaluate.enforced.flight import ARP, TCP, UDP, Conversation, Ends, Flight, Passage, Stage
from exporter.evaluate.enforced.packets import Atom, Column, Packets, PortsDiffer, Some, is_of_ipv6, only, parts
from exporter.model.firewall import CtState, CtStatus, Field, Hook, ProxyLocally, Rewrite, Translate, Translation
from exporter.model.ranges import Ranges

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from exporter.evaluate.enforced.flight import Port, Value
    from exporter.evaluate.enforced.packets import Constant
    from exporter.evaluate.enforced.ruleset import BaseChain
    from exporter.evaluate.enforced.stack import Stack
    from exporter.evaluate.enforced.walk import Taken
    from exporter.model.firewall import Target

CONNTRACK = -200
"""The priority at which conntrack looks at packets (NF_IP_PRI_CONNTRACK)."""

NAT_PRIORITY = {Hook.PREROUTING: -100, Hook.OUTPUT: -100, Hook.INPUT: 100, Hook.POSTROUTING: 100}
"""Where the chains of type nat are called, whatever priority they have among each other (nf_nat_inet_fn)."""

_ENTRY = (Hook.PREROUTING, Hook.OUTPUT)
"""Hooks in which conntrack looks a packet up, and in which destinations are rewritten; sources are in the others."""

SEVERAL_ADDRESSES = "which of several addresses the translation takes"
SEVERAL_PORTS = "which of several ports the translation takes"
NO_ADDRESS = "the address that the translation takes"
TRANSPARENT = "whether a transparent socket takes what TPROXY leads to it"

_PROGRAMS = "what BPF programs at the {place} of a container let through"
_OF_PROCESSES = (Hook.OUTPUT, Hook.INPUT)

_SYN, _ACK = 2, 16
_FLAGS = {Stage.FIRST: _SYN, Stage.ANSWER: _SYN | _ACK, Stage.CONFIRMATION: _ACK, Stage.SAYING: _ACK}
_BACK = (Stage.ANSWER, Stage.SAYING)
"""Packets from the side that the first one was sent to."""

_ETHER = {4: 0x0800, 6: 0x86DD}
_MOST_ADDRESSES = 16


@dataclass(frozen=True, slots=True, eq=False)
class Passing:
    """Packets in one namespace, between its hooks.

    `arrived` are their ends as they came in; `untracked` the cells that conntrack does not follow. `local` says that a
    hook already took them for the namespace's own, `own` that it sent them, `settled` that they come back by loopback:
    what their translation is was settled on their way out. `ct_mark` is None until conntrack has seen them. `unbound`
    says that their route was found before their source, which follows from it. `next_hop` is whose link address they
    leave for, where that is not their destination's.
    """

    stack: Stack
    cells: int
    flight: Flight
    arrived: Ends
    interface: str | Column = ""
    port: str | Column = ""
    mac: int | Column | None = None
    output: str | Column = ""
    output_port: str = ""
    next_hop: Value | None = None
    mark: Value = 0
    ct_mark: Value | None = None
    untracked: int = 0
    translated: bool = False
    local: bool = False
    own: bool = False
    settled: bool = False
    unbound: bool = False

    def passage(self) -> Passage:
        """Return what the namespace's conntrack keeps of the packets when they leave or are delivered."""
        return Passage(self.stack, self.cells & ~self.untracked, self.arrived, self.flight.ends, self.ct_mark or 0)


See = Callable[[Passing], Packets]
"""How rules see packets that are between hooks."""


class Hooks:
    """The hooks that the packets of one stage of a conversation pass."""

    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation

    def through(self, hook: Hook, passing: Passing) -> Iterator[Passing]:
        """Yield what comes out of a hook, apart where it was rewritten apart."""
        passing = _past_programs(hook, passing)
        if passing.stack.ruleset.idle:
            yield passing
            return
        chains = passing.stack.ruleset.chains(hook)
        nat = [chain for chain in chains if chain.base.kind == "nat"]
        other = [chain for chain in chains if chain.base.kind != "nat"]
        boundary = NAT_PRIORITY.get(hook)
        if boundary is None:
            yield from self._filtered(other, passing)
            return
        if hook in _ENTRY:
            early = [chain for chain in other if chain.base.priority < CONNTRACK]
            other = [chain for chain in other if chain.base.priority >= CONNTRACK]
            entered = [each for raw in self._entered(early, passing) for each in self._looked_up(raw)]
        else:
            entered = [passing]
        before = [chain for chain in other if chain.base.priority <= boundary]
        after = [chain for chain in other if chain.base.priority > boundary]
        for one in entered:
            for two in self._filtered(before, one):
                for three in self._translated(hook, nat, two):
                    yield from self._filtered(after, three)

    def _entered(self, early: Sequence[BaseChain], passing: Passing) -> Iterator[Passing]:
        """Pass what comes before conntrack (raw), where packets may be kept from it."""
        if not early:
            yield passing
            return
        for passed, packets in self._walk(early, passing, self._entering):
            state = packets.fields[Field.CT_STATE]
            kept = state.values.get(int(CtState.UNTRACKED), 0) if isinstance(state, Column) else 0
            yield replace(passed, untracked=passed.untracked | kept & passed.cells)

    def _looked_up(self, passing: Passing) -> Iterator[Passing]:
        """Tell packets apart by the connection that conntrack finds for them, with the mark that it has.

        What comes back by loopback has been looked up already (nf_conntrack_in).
        """
        if passing.settled:
            yield passing
            return
        again = passing.flight.passed(passing.stack)
        for passage, cells in self._found(passing):
            mark = (again[-1] if again else passage).ct_mark if passage is not None else 0
            plain = cells == passing.cells and mark == passing.ct_mark
            yield passing if plain else replace(passing, cells=cells, ct_mark=mark)

    def _found(self, passing: Passing) -> Iterator[tuple[Passage | None, int]]:
        """Yield the connections that a namespace knows, each with the packets that it takes to be of it.

        Those that come through it once are of the one that the first packets began. Others it finds by the addresses
        and ports that they come in with (resolve_normal_ct): what it passed on unchanged and sees again, as where a
        container leads it back, is of the same connection. That is confirmed by then, and its translation is settled
        (nf_nat_initialized); what it rewrote before is of another one.
        """
        stage, again = self._conversation.stage, passing.flight.passed(passing.stack)
        known = again if stage is Stage.FIRST else self._conversation.passages.get(passing.stack.name, ())
        left = passing.cells
        if stage is not Stage.FIRST and len(known) == 1 and not again:
            yield known[0], left
            return
        for passage in reversed(known):
            came = passage.after.reversed() if stage in _BACK else passage.before
            cells = came.alike(passing.arrived, left & passage.tracked)
            if cells:
                yield passage, cells
                left &= ~cells
        if left:
            yield None, left

    def _known(self, passing: Passing) -> Passage | None:
        """Return the connection of packets that are all of one, or of none that the namespace knows."""
        return next(self._found(passing), (None, 0))[0]

    def _filtered(self, chains: Sequence[BaseChain], passing: Passing) -> Iterator[Passing]:
        if not chains:
            yield passing
            return
        yield from (passed for passed, _ in self._walk(chains, passing, self.packets))

    def _walk(self, chains: Sequence[BaseChain], passing: Passing, see: See) -> Iterator[tuple[Passing, Packets]]:
        """Lead packets through chains, and keep the marks that they come out with."""
        packets = see(passing)
        outcome = passing.stack.walker.through(chains, packets, passing.cells)
        passed = replace(
            passing,
            cells=outcome.accepted,
            flight=passing.flight.doubted(outcome.doubts),
            mark=_number(packets.fields[Field.MARK]),
            ct_mark=_number(packets.fields.get(Field.CT_MARK, passing.ct_mark)),
        )
        found = (*_past_proxies(outcome.taken, passed), *self._led_astray(chains, outcome.taken, passed, see))
        yield from ((each, packets) for each in found)

    def _led_astray(
        self, chains: Sequence[BaseChain], taken: Iterable[Taken], passing: Passing, see: See
    ) -> Iterator[Passing]:
        """Yield packets as they may be rewritten behind conntrack's back.

        That is in doubt, and so is what becomes of them in the rest of the hook. Only where rules there lead them
        further is asked: by all of these, for which of them come later nobody has noted.
        """
        seen: dict[Hashable, int] = {}
        waiting = [*_rewrites(taken, passing)]
        while waiting:
            led = waiting.pop()
            ends = led.flight.ends
            parts_of = ends.source, ends.source_port, ends.destination, ends.destination_port
            key = tuple(id(part) if isinstance(part, Column) else part for part in parts_of)
            fresh = led.cells & ~seen.get(key, 0)
            if not fresh:
                continue
            seen[key] = seen.get(key, 0) | fresh
            here = replace(led, cells=fresh)
            # before conntrack has seen them, it takes them for what they are then
            yield replace(here, arrived=ends) if see == self._entering else here
            outcome = led.stack.walker.through(chains, see(here), fresh)
            waiting += _rewrites(outcome.taken, replace(here, flight=here.flight.doubted(outcome.doubts)))

    def _translated(self, hook: Hook, nat: Sequence[BaseChain], passing: Passing) -> Iterator[Passing]:
        begun = self._begun(passing)
        if passing.cells & ~begun:
            yield self._as_before(hook, replace(passing, cells=passing.cells & ~begun))
        if not begun:
            return
        first = replace(passing, cells=begun)
        translated = [first] if not nat or passing.settled else self._newly(hook, nat, first)
        yield from translated if hook in _ENTRY else map(self._without_clashes, translated)

    def _without_clashes(self, passing: Passing) -> Passing:
        """Drop what is taken for a new connection, and whose answers would be taken for packets of another one.

        It is given another port to come from (get_unique_tuple), or lost (nf_ct_resolve_clash): whom TCP says that does
        not know it.
        """
        if self._conversation.stage is not Stage.SAYING:
            return passing
        clashing, expected = 0, passing.flight.ends.reversed()
        for passage in self._conversation.passages.get(passing.stack.name, ()):
            for known in (passage.before, passage.after.reversed()):
                clashing |= expected.alike(known, passing.cells & passage.tracked)
        return replace(passing, cells=passing.cells & ~clashing) if clashing else passing

    def _begun(self, passing: Passing) -> int:
        """Return the cells whose packets a namespace takes for the first ones of a connection."""
        if self._conversation.stage not in (Stage.FIRST, Stage.SAYING):
            return 0
        passage = self._known(passing)
        return passing.cells & ~(passage.tracked if passage else 0)

    def _newly(self, hook: Hook, nat: Sequence[BaseChain], passing: Passing) -> Iterator[Passing]:
        """Let the nat chains decide about a connection's first packets: the first chain that rewrites is the last."""
        packets = self.packets(passing)
        remaining = passing.cells & ~passing.untracked
        kept = passing.cells & passing.untracked
        flight = passing.flight
        parts: list[tuple[Taken, int]] = []
        for chain in nat:
            outcome = passing.stack.walker.base(chain, packets, remaining)
            parts += [(taken, taken.cells) for taken in outcome.taken]
            ways = [outcome.accepted, outcome.dropped, *(taken.cells for taken in outcome.taken)]
            doubted = _more_than_once(ways)
            flight = flight.doubted(
                {name: cells & doubted for name, cells in outcome.doubts.items() if cells & doubted}
            )
            remaining = outcome.accepted
            yield from self._led_astray([chain], outcome.taken, replace(passing, flight=flight), self.packets)
        if remaining | kept:
            yield replace(passing, cells=remaining | kept, flight=flight)
        for taken, cells in parts:
            if isinstance(taken.statement, Translate) and taken.target is not None:
                here = replace(passing, cells=cells, flight=flight, translated=True)
                yield from _rewritten(hook, taken.statement.kind, taken.target, here)

    def _as_before(self, hook: Hook, passing: Passing) -> Passing:
        """Rewrite later packets as the first ones were rewritten, answers the other way round.

        Destinations in the entry hooks, sources in the others, each for packets of either direction (nf_nat_packet).
        """
        passage = self._known(passing)
        if passage is None or not passage.tracked & passing.cells & ~passing.untracked:
            return passing
        before, after, ends = passage.before, passage.after, passing.flight.ends
        answering = self._conversation.stage in _BACK
        if hook in _ENTRY:
            if answering and after.source != before.source:
                ends = replace(ends, destination=before.source, destination_port=before.source_port)
            elif not answering and _destination(after) != _destination(before):
                ends = replace(ends, destination=after.destination, destination_port=after.destination_port)
        elif answering and _destination(after) != _destination(before):
            ends = replace(ends, source=before.destination, source_port=before.destination_port)
        elif not answering and after.source != before.source:
            ends = replace(ends, source=after.source, source_port=after.source_port)
        return replace(passing, flight=replace(passing.flight, ends=ends))

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
            Field.PACKET_TYPE: 0,
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
        for name, kind, number in (
            (passing.interface, Field.INPUT_KIND, Field.INPUT_TYPE),
            (passing.output, Field.OUTPUT_KIND, Field.OUTPUT_TYPE),
        ):
            _put(fields, kind, _of_interface(name, lambda told: _kind(passing.stack, told)))
            _put(fields, number, _of_interface(name, lambda told: _type(passing.stack, told)))
        _put(fields, Field.SOURCE_MAC, passing.mac)
        if passing.own:
            fields |= {name: Some(0, 0xFFFFFFFF, name) for name in (Field.SOCKET_USER, Field.SOCKET_GROUP)}
        fields |= self._connection(passing)
        return Packets(fields)

    def unconnected(self, passing: Passing) -> Packets:
        """Return the packets as rules see them that come before conntrack."""
        packets = self.packets(passing)
        packets.fields = {name: value for name, value in packets.fields.items() if name not in _CT_FIELDS}
        return packets

    def _entering(self, passing: Passing) -> Packets:
        """Return them as rules see them that may keep conntrack from following them."""
        packets = self.unconnected(passing)
        packets.fields[Field.CT_STATE] = Column({int(CtState.INVALID): -1})
        return packets

    def _connection(self, passing: Passing) -> dict[Field, Constant | Column]:
        """Return what conntrack adds."""
        conversation, ends = self._conversation, passing.flight.ends
        passage = self._known(passing)
        answer = conversation.stage in _BACK
        original = passage.before if passage else passing.arrived.reversed() if answer else passing.arrived
        reply = (passage.after if passage else ends if not answer else ends.reversed()).reversed()
        fields: dict[Field, Constant | Column] = {
            Field.CT_STATE: conversation.state(passing.stack, passage, passing.cells, passing.untracked),
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
        return fields

    def _status(self, passing: Passing, passage: Passage | None) -> int:
        before, after = (passage.before, passage.after) if passage else (passing.arrived, passing.flight.ends)
        status = CtStatus.CONFIRMED if passage is not None else CtStatus(0)
        if self._conversation.stage is not Stage.FIRST:
            status |= CtStatus.SEEN_REPLY | CtStatus.CONFIRMED
        if self._conversation.stage in (Stage.CONFIRMATION, Stage.SAYING):
            status |= CtStatus.ASSURED
        if _destination(before) != _destination(after):
            status |= CtStatus.DNAT
        if before.source != after.source:
            status |= CtStatus.SNAT
        return int(status)


def _past_programs(hook: Hook, passing: Passing) -> Passing:
    """Lead packets that a namespace itself sends or receives past the programs at the cgroups of its processes."""
    programs = passing.stack.namespace.programs
    if not programs or hook not in _OF_PROCESSES:
        return passing
    doubt = _PROGRAMS.format(place=" and ".join(programs))
    return replace(passing, flight=passing.flight.doubted({doubt: passing.cells}))


_CT_FIELDS = frozenset(name for name in Field if name.value.startswith("ct_"))


_ARP_FRAME = 0x0806


def _of_arp(passing: Passing) -> Packets:
    """Return frames as rules see them; what is in a frame of ARP is opaque to the matches of such rules."""
    fields: dict[Field, Constant | Column] = {
        Field.ETHER_TYPE: _ARP_FRAME,
        Field.INPUT_INTERFACE: passing.interface,
        Field.OUTPUT_INTERFACE: passing.output,
        Field.INPUT_PORT: passing.port,
        Field.OUTPUT_PORT: passing.output_port,
        Field.MARK: passing.mark,
    }
    _put(fields, Field.SOURCE_MAC, passing.mac)
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


def _type(stack: Stack, name: str) -> int | None:
    """Return the ARPHRD number of an interface: all but loopback are taken for Ethernet."""
    return (_LOOPBACK if name == "lo" else _ETHERNET) if name in stack.by_name else None


_ETHERNET, _LOOPBACK = 1, 772


def _put(fields: dict[Field, Constant | Column], name: Field, value: Constant | Column | None) -> None:
    if value is not None:
        fields[name] = value


def _number(value: object) -> Value:
    return value if isinstance(value, int | Column) else 0


def _destination(ends: Ends) -> tuple[object, Port]:
    return ends.destination, ends.destination_port


def _more_than_once(sets: Iterable[int]) -> int:
    once = twice = 0
    for cells in sets:
        twice |= once & cells
        once |= cells
    return twice


_Choice = tuple[int | None, int, str]
"""An address, None for one that stays as it is, the cells that get it, and what makes that unsure."""


def _rewritten(hook: Hook, kind: Translation, target: Target, passing: Passing) -> Iterator[Passing]:
    if hook in _ENTRY:
        return _led_to(_destinations(hook, kind, target, passing), target, passing)
    return _sent_from(_sources(kind, target, passing), target, passing)


def _led_to(addresses: Iterable[_Choice], target: Target, passing: Passing) -> Iterator[Passing]:
    """Yield packets with other destinations."""
    ends, flight = passing.flight.ends, passing.flight
    port = _translated_port(ends.destination_port, target)
    for address, cells, unsure in addresses:
        sure = flight.doubted({unsure: cells} if unsure else {})
        there = replace(ends, destination=address if address is not None else ends.destination, destination_port=port)
        yield replace(passing, cells=cells, flight=replace(sure, ends=there))


def _sent_from(addresses: Iterable[_Choice], target: Target, passing: Passing) -> Iterator[Passing]:
    """Yield packets with other sources."""
    ends, flight = passing.flight.ends, passing.flight
    port = _translated_port(ends.source_port, target)
    for address, cells, unsure in addresses:
        sure = flight.doubted({unsure: cells} if unsure else {})
        source = address if address is not None else ends.source
        there = replace(ends, source=source, source_port=port)
        yield replace(passing, cells=cells, flight=replace(sure, ends=there))


def _rewrites(taken: Iterable[Taken], passing: Passing) -> Iterator[Passing]:
    """Yield packets as statements rewrite them, each by itself and after those that come before it in its rule."""
    rewriting = (item for item in taken if isinstance(item.statement, Rewrite))
    for _, of_rule in groupby(rewriting, key=lambda item: id(item.rule)):
        before: list[Passing] = []
        for _, of_statement in groupby(of_rule, key=lambda item: id(item.statement)):
            led = [
                changed
                for item in of_statement
                for each in (replace(passing, cells=item.cells), *before)
                if item.cells & each.cells
                for changed in _rewritten_by(item, replace(each, cells=item.cells & each.cells))
            ]
            yield from led
            before = led


def _rewritten_by(item: Taken, passing: Passing) -> Iterator[Passing]:
    statement, target, cells = item.statement, item.target, passing.cells
    if isinstance(statement, Rewrite) and target is not None:
        addresses = _each(target, cells) if target.addresses else ((None, cells, ""),)
        change = _led_to if statement.field is Field.DESTINATION else _sent_from
        yield from change(addresses, target, passing)


def _past_proxies(taken: Iterable[Taken], passed: Passing) -> Iterator[Passing]:
    """Yield the packets that local sockets may take, and those that go on: nft's rule is over where none does."""
    proxied = surely = 0
    for item in taken:
        if isinstance(item.statement, ProxyLocally):
            proxied |= item.cells
            surely |= item.surely
    flight = passed.flight.doubted({TRANSPARENT: proxied & passed.cells} if proxied & passed.cells else {})
    if proxied & passed.cells:
        yield replace(passed, cells=proxied & passed.cells, flight=flight, local=True)
    if passed.cells & ~surely:
        yield replace(passed, cells=passed.cells & ~surely, flight=flight)


def _translated_port(port: Port, target: Target) -> Port:
    """Return the port after a translation. A port that is in the range already stays (nf_nat_l4proto_unique_tuple).

    Which one of several it is otherwise matters only to rules that ask for it.
    """
    if not target.ports or port is None:
        return port
    low, high = target.ports.intervals[0][0], target.ports.intervals[-1][1]
    if target.base_port is not None and isinstance(port, Atom):
        if port.single is None:
            raise PortsDiffer(port, map(Ranges.of, port.ports.numbers()))
        return only(low + (port.single - target.base_port) % (high - low + 1))
    if low == high:
        return only(low)
    if isinstance(port, Atom):
        covered = target.ports.holds(port.ports)
        if covered is None:
            raise PortsDiffer(port, [target.ports])
        if covered:
            return port
    return Some(low, high, SEVERAL_PORTS)


def _destinations(hook: Hook, kind: Translation, target: Target, passing: Passing) -> Iterator[_Choice]:
    if kind is Translation.REDIRECT:
        yield from _redirected(hook, passing)
    elif not target.addresses:
        yield None, passing.cells, ""
    else:
        yield from _each(target, passing.cells)


def _redirected(hook: Hook, passing: Passing) -> Iterator[_Choice]:
    """Yield the address that REDIRECT takes: the input interface's first one, loopback's for the host's own packets."""
    stack = passing.stack
    if hook is Hook.OUTPUT:
        yield int(ip_address("127.0.0.1" if stack.family == 4 else "::1")), passing.cells, ""
        return
    for name, cells in parts(passing.interface, passing.cells):
        interface = stack.by_name.get(str(name))
        own = [item for item in interface.addresses if item.version == stack.family] if interface else []
        first = next((item for item in own if stack.family == 4 or not item.is_link_local), None)
        if first is not None:
            yield int(first.ip), cells, ""


def _sources(kind: Translation, target: Target, passing: Passing) -> Iterator[_Choice]:
    if kind is Translation.MASQUERADE:
        yield from _masqueraded(passing)
    elif not target.addresses:
        yield None, passing.cells, ""
    else:
        yield from _each(target, passing.cells)


def _masqueraded(passing: Passing) -> Iterator[_Choice]:
    """Yield the address of the output interface, or one that it is lent: without any, masquerading drops.

    Of IPv4 it is the one that suits the next hop (nf_nat_masquerade_ipv4), of IPv6 the destination
    (nf_nat_masquerade_ipv6).
    """
    stack = passing.stack
    for name, cells in parts(passing.output, passing.cells):
        interface = stack.by_name.get(str(name))
        if interface is None:
            continue
        for towards, at in _suiting(passing, cells):
            address = stack.source_for(interface.index, towards)
            if address is not None:
                yield address, at, ""


def _suiting(passing: Passing, cells: int) -> Iterator[tuple[int, int]]:
    """Yield the addresses that a source has to suit: a gateway of IPv6 is none for IPv4 (rt_nexthop)."""
    six = passing.stack.family == 6
    destination = passing.flight.ends.destination
    for towards, at in parts(destination if six or passing.next_hop is None else passing.next_hop, cells):
        instead = parts(destination, at) if not six and is_of_ipv6(int(towards)) else ((towards, at),)
        yield from ((int(each), here) for each, here in instead)


def _each(target: Target, cells: int) -> Iterator[_Choice]:
    addresses = [
        address
        for low, high in target.addresses.intervals
        for address in range(low, min(high, low + _MOST_ADDRESSES) + 1)
    ]
    doubt = SEVERAL_ADDRESSES if len(addresses) > 1 else ""
    for address in addresses[:_MOST_ADDRESSES]:
        yield address, cells, doubt
