"""Whether a sender learns the link address of a neighbour: the question and its answer meet rules as well.

IPv6 asks by ICMPv6, which the hooks of IP see, IPv4 by ARP, which tables of family arp see. Both are frames like any
other to bridges and at single interfaces.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from ipaddress import ip_address
from typing import TYPE_CHECKING

from exporter.evaluate.enforced.flight import ARP, ICMP6, Conversation, Ends, Flight, Stage
from exporter.evaluate.enforced.frames import past_bridge, past_gates
from exporter.evaluate.enforced.hooks import Hooks, Passing
from exporter.evaluate.enforced.packets import Column
from exporter.model.firewall import CtState, Field, Hook

if TYPE_CHECKING:
    from exporter.evaluate.enforced.flight import Value
    from exporter.evaluate.enforced.world import Segment, Station, World
    from exporter.model.namespace import Interface

LEARNED = "what neighbours learned of each other before, where rules drop their questions or answers"

_SOLICITATION, _ADVERTISEMENT = 135, 136
_SOLICITED_NODE = int(ip_address("ff02::1:ff00:0"))
_NOWHERE = Ends(0, None, 0, None)
_HOOKS = Hooks(Conversation(Stage.FIRST))


@dataclass(frozen=True, slots=True)
class Asking:
    """A station that looks for the owner of an address, and the one that answers."""

    sender: Station
    receiver: Station
    segment: Segment
    target: int


def resolved(world: World, asking: Asking, passing: Passing) -> tuple[int, dict[str, int]]:
    """Return the packets whose sender learns the receiver's link address, and doubts about that."""
    if not _filtered(world, asking):
        return passing.cells, {}
    there = _Way(world, asking.segment.bridge, asking.sender, asking.receiver)
    back = _Way(world, asking.segment.bridge, asking.receiver, asking.sender)
    asks = _asks_from(asking.sender, passing)
    asked, first = there.past(passing.cells, _question(asking.sender, asks, asking.target))
    cells, second = back.past(asked, _answer(asking, asks))
    doubts = {**first.doubted(second.doubts).doubts}
    lost = passing.cells & ~cells
    if lost:
        # whoever is asked learns the asker's address from the question, and keeps it for a while
        learned, third = back.past(lost, _question(asking.receiver, asking.target, 0))
        cells |= learned
        doubts = {**third.doubted({**doubts, LEARNED: learned}).doubts}
    return cells, {name: doubted & cells for name, doubted in doubts.items() if doubted & cells}


def _filtered(world: World, asking: Asking) -> bool:
    """Return whether anything on the way could keep a message back."""
    ends = (asking.sender.stack, asking.receiver.stack)
    bridge = asking.segment.bridge
    met = ends if bridge is None else (*ends, world.host)
    if any(not (stack.bridging.idle and stack.gates.idle) for stack in met):
        return True
    crossed = bridge is not None and world.host not in ends and world.host.calls_resolving(bridge)
    return any(not stack.resolving.idle for stack in (met if crossed else ends))


def _question(asker: Station, source: Value, target: int) -> Flight:
    if asker.stack.family == 4:
        return Flight(ARP, _NOWHERE)
    solicited = _SOLICITED_NODE | (target & 0xFFFFFF)
    return Flight(ICMP6, Ends(source, None, solicited, None), icmp_type=_SOLICITATION)


def _answer(asking: Asking, asks: Value) -> Flight:
    if asking.sender.stack.family == 4:
        return Flight(ARP, _NOWHERE)
    return Flight(ICMP6, Ends(asking.target, None, asks, None), icmp_type=_ADVERTISEMENT)


def _asks_from(sender: Station, passing: Passing) -> Value:
    """Return the address that a solicitation comes from (ndisc_solicit).

    The packets' own source where that is the sender's; else its link-local address.
    """
    source = passing.flight.ends.source
    values = source.values if isinstance(source, Column) else {source: -1}
    own = {int(item.ip) for item in sender.interface.addresses if item.version == 6}
    if all(value in own for value in values):
        return source
    links = (int(item.ip) for item in sender.interface.addresses if item.version == 6 and item.is_link_local)
    return next(links, int(ip_address("fe80::1")))


@dataclass(frozen=True, slots=True)
class _Way:
    """The way of a message from one station to another, by a bridge of the host or by a cable."""

    world: World
    bridge: Interface | None
    one: Station
    other: Station

    def past(self, cells: int, message: Flight) -> tuple[int, Flight]:
        """Return the messages of some cells that arrive."""
        passing = Passing(self.one.stack, cells, message, message.ends, untracked=cells)
        passing = _through(replace(passing, output=self.one.interface.name), Hook.OUTPUT, Hook.POSTROUTING)
        passing = _gated(passing, Hook.EGRESS, self.one.interface.name)
        if self.bridge is not None:
            passing = self._by_bridge(self.bridge, passing)
        passing = replace(passing, stack=self.other.stack, output="", interface=self.other.interface.name)
        passing = _gated(passing, Hook.INGRESS, self.other.interface.name)
        if self.bridge is not None and self.other.stack is self.world.host:
            port = _port(self.one)
            passing = _bridged(passing, (Hook.PREROUTING, Hook.INPUT), port, "", None)
        passing = _through(passing, Hook.PREROUTING, Hook.INPUT)
        return passing.cells, passing.flight

    def _by_bridge(self, bridge: Interface, passing: Passing) -> Passing:
        host, entering, leaving = self.world.host, _port(self.one), _port(self.other)
        passing = replace(passing, stack=host)
        if self.one.stack is host:
            passing = _bridged(passing, (Hook.OUTPUT, Hook.POSTROUTING), "", leaving, bridge)
            return _gated(passing, Hook.EGRESS, leaving)
        passing = _gated(passing, Hook.INGRESS, entering)
        if self.other.stack is host:
            return passing
        passing = _bridged(passing, (Hook.PREROUTING,), entering, leaving, bridge)
        if host.calls_resolving(bridge):
            passing = _through(replace(passing, interface=bridge.name, output=""), Hook.PREROUTING)
            passing = _through(replace(passing, output=bridge.name), Hook.FORWARD, Hook.POSTROUTING)
        passing = _bridged(passing, (Hook.FORWARD, Hook.POSTROUTING), entering, leaving, bridge)
        return _gated(passing, Hook.EGRESS, leaving)


def _port(station: Station) -> str:
    return station.port.name if station.port else ""


def _through(passing: Passing, *hooks: Hook) -> Passing:
    """Lead messages through hooks that see them. Conntrack leaves them alone."""
    stack = passing.stack
    for hook in hooks:
        chains = [chain for chain in stack.resolving.chains(hook) if chain.base.kind != "nat"]
        if chains and passing.cells:
            packets = _HOOKS.packets(passing)
            packets.fields[Field.CT_STATE] = int(CtState.UNTRACKED)
            outcome = stack.walker.through(chains, packets, passing.cells)
            passing = replace(passing, cells=outcome.accepted, flight=passing.flight.doubted(outcome.doubts))
    return passing


def _gated(passing: Passing, hook: Hook, interface: str) -> Passing:
    cells, flight = past_gates(_HOOKS, hook, interface, passing)
    return replace(passing, cells=cells, flight=flight)


def _bridged(
    passing: Passing, hooks: tuple[Hook, ...], entering: str, leaving: str, bridge: Interface | None
) -> Passing:
    cells, flight = past_bridge(_HOOKS, hooks, passing, entering, leaving, bridge)
    return replace(passing, cells=cells, flight=flight)
