"""What packets meet outside of the hooks of IP: the chains of bridges, and what stands at single interfaces."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from exporter.evaluate.enforced.gates import UNPLACED
from exporter.evaluate.enforced.hooks import with_mark
from exporter.evaluate.enforced.packets import parts
from exporter.evaluate.enforced.walk import Taken
from exporter.model.firewall import Field, Hook

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from exporter.evaluate.enforced.packets import Column, Packets
    from exporter.evaluate.enforced.passing import Passing
    from exporter.evaluate.enforced.ruleset import BaseChain
    from exporter.evaluate.enforced.sight import Sight
    from exporter.evaluate.enforced.walk import Outcome
    from exporter.model.namespace import Interface

_BR_NETFILTER = {Hook.PREROUTING: 0, Hook.FORWARD: -1}
"""The priorities at which br_netfilter leads frames through the hooks of IP (br_nf_ops)."""

_LEAVING = (Hook.FORWARD, Hook.POSTROUTING, Hook.OUTPUT)


class Met(NamedTuple):
    """What rules took of packets to lead it elsewhere. `through` asks what they do with packets that they rewrote."""

    taken: Sequence[Taken]
    passing: Passing
    through: Callable[[Passing], Outcome]


def past_bridge(
    seen: Sight,
    hook: Hook,
    passing: Passing,
    port: str | Column,
    output: str,
    bridge: Interface | None,
    *,
    early: bool | None = None,
    met: list[Met] | None = None,
) -> Passing:
    """Lead frames through the bridge family's chains of a hook, which see ports for interfaces.

    Through all of them, or through those alone that are called before the hooks of IP (`early`) or after. `met` is
    where it is noted what they lead elsewhere.
    """
    stack = passing.stack
    if stack.bridging.idle:
        return passing
    inside = bridge.name if bridge else passing.interface
    entering = "" if hook is Hook.OUTPUT else port or inside
    leaving = (output or (bridge.name if bridge else "")) if hook in _LEAVING else ""
    chains = [chain for chain in stack.bridging.chains(hook) if early is None or _is_early(chain) == early]

    def see(each: Passing) -> Packets:
        view = each._replace(interface=entering, output=leaving)
        return _framed(seen.packets(view), view)

    def through(each: Passing) -> Outcome:
        return stack.bridge_walker.through(chains, see(each), each.cells)

    packets = see(passing)
    outcome = stack.bridge_walker.through(chains, packets, passing.cells)
    passed = with_mark(passing, packets)._replace(flight=passing.flight.doubted(outcome.doubts))
    if outcome.taken and met is not None:
        met.append(Met(outcome.taken, passed, through))
    return passed._replace(cells=outcome.accepted)


def _is_early(chain: BaseChain) -> bool:
    """Return whether a chain is called before br_netfilter, as of equal priority the one that came later is."""
    return chain.base.priority <= _BR_NETFILTER.get(chain.base.hook, -1)


def past_gates(
    seen: Sight, hook: Hook, interfaces: str | Column, passing: Passing, met: list[Met] | None = None
) -> Passing:
    """Lead packets past what sees all that come in (ingress) or leave (egress) by their interfaces.

    `met` is where it is noted what leads them elsewhere.
    """
    if passing.stack.gates.idle:
        return passing
    kept = 0
    for name, cells in parts(interfaces, passing.cells):
        here = _past_gate(seen, hook, str(name), passing._replace(cells=cells), met)
        passing = passing._replace(flight=here.flight, mark=here.mark)
        kept |= here.cells
    return passing._replace(cells=kept)


def _past_gate(seen: Sight, hook: Hook, name: str, passing: Passing, met: list[Met] | None) -> Passing:
    if not name:
        return passing
    gates, walker = passing.stack.gates, passing.stack.walker
    chains, unplaced, diverts = gates.chains(hook, name), gates.unplaced.get(hook, ()), gates.diverts(name)
    doubt, before = gates.doubt(name), passing
    if doubt:
        passing = passing._replace(flight=passing.flight.doubted({doubt: passing.cells}))
    inside, outside = (name, "") if hook is Hook.INGRESS else ("", name)

    def see(each: Passing) -> Packets:
        view = each._replace(interface=inside, output=outside, port="", output_port="")
        return _at(name, seen.unconnected(view), view)

    def through(each: Passing) -> Outcome:
        outcome = walker.through(chains, see(each), each.cells)
        for chain in unplaced:
            outcome.taken += walker.base(chain, see(each), each.cells).taken
        outcome.taken += [Taken(divert, None, each.cells) for divert in diverts]
        return outcome

    passed, taken = passing, list[Taken]()
    if chains:
        packets = see(passing)
        outcome = walker.through(chains, packets, passing.cells)
        passed = with_mark(passing, packets)._replace(cells=outcome.accepted)
        passed = passed._replace(flight=passing.flight.doubted(outcome.doubts))
        taken += outcome.taken
    for chain in unplaced:
        outcome = walker.base(chain, see(passing), passing.cells)
        doubts = {UNPLACED.format(chain=chain.name): outcome.dropped & passing.cells}
        passed = passed._replace(flight=passed.flight.doubted(doubts))
        taken += outcome.taken
    if met is not None and taken:
        met.append(Met(taken, passed._replace(cells=passing.cells), through))
    if met is not None and diverts:
        met.append(Met([Taken(divert, None, before.cells) for divert in diverts], before, through))
    return passed


def _at(name: str, packets: Packets, passing: Passing) -> Packets:
    """Return packets as frames at an interface."""
    if passing.stack.family == 6:
        packets.fields[Field.LINK] = name
    return _framed(packets, passing)


def _framed(packets: Packets, passing: Passing) -> Packets:
    """Return packets as frames, which may be for others."""
    packets.fields[Field.PACKET_TYPE] = passing.packet_type
    return packets
