"""What packets meet outside of the hooks of IP: the chains of bridges, and what stands at single interfaces."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter.evaluate.enforced.gates import UNPLACED
from exporter.evaluate.enforced.packets import parts
from exporter.model.firewall import Field, Hook

if TYPE_CHECKING:
    from exporter.evaluate.enforced.flight import Flight
    from exporter.evaluate.enforced.packets import Column, Packets
    from exporter.evaluate.enforced.passing import Passing
    from exporter.evaluate.enforced.sight import Sight
    from exporter.model.namespace import Interface

MARKED = "a mark that is set at an interface"

_LEAVING = (Hook.FORWARD, Hook.POSTROUTING, Hook.OUTPUT)


def past_bridge(
    seen: Sight,
    hooks: tuple[Hook, ...],
    passing: Passing,
    port: str | Column,
    output: str,
    bridge: Interface | None,
) -> tuple[int, Flight]:
    """Lead frames through the bridge family's chains, which see ports for interfaces."""
    stack = passing.stack
    cells, flight = passing.cells, passing.flight
    if stack.bridging.idle:
        return cells, flight
    inside = bridge.name if bridge else passing.interface
    for hook in hooks:
        entering = port or inside
        leaving = (output or (bridge.name if bridge else "")) if hook in _LEAVING else ""
        view = passing._replace(cells=cells, interface="" if hook is Hook.OUTPUT else entering, output=leaving)
        packets = _framed(seen.packets(view), view)
        outcome = stack.bridge_walker.through(stack.bridging.chains(hook), packets, cells)
        cells, flight = outcome.accepted, flight.doubted(outcome.doubts)
        if not cells:
            break
    return cells, flight


def past_gates(seen: Sight, hook: Hook, interfaces: str | Column, passing: Passing) -> tuple[int, Flight]:
    """Lead packets past what sees all that come in (ingress) or leave (egress) by their interfaces."""
    flight = passing.flight
    if passing.stack.gates.idle:
        return passing.cells, flight
    kept = 0
    for name, cells in parts(interfaces, passing.cells):
        here, flight = _past_gate(seen, hook, str(name), passing._replace(cells=cells, flight=flight))
        kept |= here
    return kept, flight


def _past_gate(seen: Sight, hook: Hook, name: str, passing: Passing) -> tuple[int, Flight]:
    stack, cells, flight = passing.stack, passing.cells, passing.flight
    if not name:
        return cells, flight
    doubt = stack.gates.doubt(name)
    if doubt:
        flight = flight.doubted({doubt: cells})
    inside, outside = (name, "") if hook is Hook.INGRESS else ("", name)
    view = passing._replace(interface=inside, output=outside, port="", output_port="")
    chains = stack.gates.chains(hook, name)
    if chains:
        packets = _framed(seen.unconnected(view), view)
        outcome = stack.walker.through(chains, packets, cells)
        cells, flight = outcome.accepted, flight.doubted(outcome.doubts)
        if packets.fields.get(Field.MARK, 0) != passing.mark:
            flight = flight.doubted({MARKED: cells})
    for chain in stack.gates.unplaced.get(hook, ()):
        outcome = stack.walker.base(chain, _framed(seen.unconnected(view), view), cells)
        flight = flight.doubted({UNPLACED.format(chain=chain.name): outcome.dropped & cells})
    return cells, flight


def _framed(packets: Packets, passing: Passing) -> Packets:
    """Return packets as frames, which may be for others."""
    packets.fields[Field.PACKET_TYPE] = passing.packet_type
    return packets
