"""What packets meet outside of the hooks of IP: the chains of bridges, and what stands at single interfaces."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter.evaluate.enforced.gates import UNPLACED
from exporter.evaluate.enforced.hooks import with_mark
from exporter.evaluate.enforced.packets import parts
from exporter.model.firewall import Field, Hook

if TYPE_CHECKING:
    from exporter.evaluate.enforced.packets import Column, Packets
    from exporter.evaluate.enforced.passing import Passing
    from exporter.evaluate.enforced.ruleset import BaseChain
    from exporter.evaluate.enforced.sight import Sight
    from exporter.model.namespace import Interface

_BR_NETFILTER = {Hook.PREROUTING: 0, Hook.FORWARD: -1}
"""The priorities at which br_netfilter leads frames through the hooks of IP (br_nf_ops)."""

_LEAVING = (Hook.FORWARD, Hook.POSTROUTING, Hook.OUTPUT)


def past_bridge(
    seen: Sight,
    hooks: tuple[Hook, ...],
    passing: Passing,
    port: str | Column,
    output: str,
    bridge: Interface | None,
    *,
    early: bool | None = None,
) -> Passing:
    """Lead frames through the bridge family's chains, which see ports for interfaces.

    Through all of them, or through those alone that are called before the hooks of IP (`early`) or after.
    """
    stack = passing.stack
    if stack.bridging.idle:
        return passing
    inside = bridge.name if bridge else passing.interface
    for hook in hooks:
        chains = [chain for chain in stack.bridging.chains(hook) if early is None or _is_early(chain) == early]
        entering = port or inside
        leaving = (output or (bridge.name if bridge else "")) if hook in _LEAVING else ""
        view = passing._replace(interface="" if hook is Hook.OUTPUT else entering, output=leaving)
        packets = _framed(seen.packets(view), view)
        outcome = stack.bridge_walker.through(chains, packets, passing.cells)
        flight = passing.flight.doubted(outcome.doubts)
        passing = with_mark(passing, packets)._replace(cells=outcome.accepted, flight=flight)
        if not passing.cells:
            break
    return passing


def _is_early(chain: BaseChain) -> bool:
    """Return whether a chain is called before br_netfilter, as of equal priority the one that came later is."""
    return chain.base.priority <= _BR_NETFILTER.get(chain.base.hook, -1)


def past_gates(seen: Sight, hook: Hook, interfaces: str | Column, passing: Passing) -> Passing:
    """Lead packets past what sees all that come in (ingress) or leave (egress) by their interfaces."""
    if passing.stack.gates.idle:
        return passing
    kept = 0
    for name, cells in parts(interfaces, passing.cells):
        here = _past_gate(seen, hook, str(name), passing._replace(cells=cells))
        passing = passing._replace(flight=here.flight, mark=here.mark)
        kept |= here.cells
    return passing._replace(cells=kept)


def _past_gate(seen: Sight, hook: Hook, name: str, passing: Passing) -> Passing:
    if not name:
        return passing
    stack = passing.stack
    doubt = stack.gates.doubt(name)
    flight = passing.flight.doubted({doubt: passing.cells}) if doubt else passing.flight
    inside, outside = (name, "") if hook is Hook.INGRESS else ("", name)
    view = passing._replace(interface=inside, output=outside, port="", output_port="")
    chains = stack.gates.chains(hook, name)
    if chains:
        packets = _at(name, seen.unconnected(view), view)
        outcome = stack.walker.through(chains, packets, passing.cells)
        flight = flight.doubted(outcome.doubts)
        passing = with_mark(passing, packets)._replace(cells=outcome.accepted)
    for chain in stack.gates.unplaced.get(hook, ()):
        outcome = stack.walker.base(chain, _at(name, seen.unconnected(view), view), passing.cells)
        flight = flight.doubted({UNPLACED.format(chain=chain.name): outcome.dropped & passing.cells})
    return passing._replace(flight=flight)


def _at(name: str, packets: Packets, passing: Passing) -> Packets:
    """Return packets as frames at an interface."""
    if passing.stack.family == 6:
        packets.fields[Field.LINK] = name
    return _framed(packets, passing)


def _framed(packets: Packets, passing: Passing) -> Packets:
    """Return packets as frames, which may be for others."""
    packets.fields[Field.PACKET_TYPE] = passing.packet_type
    return packets
