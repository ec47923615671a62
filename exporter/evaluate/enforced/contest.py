"""Several who may take what is sent to one next hop: nobody can tell who of them does."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address
from typing import TYPE_CHECKING

from exporter.evaluate.enforced.neighbours import FIXED, Asking, hindered, resolved
from exporter.evaluate.enforced.packets import parts
from exporter.evaluate.enforced.segments import PROXY_ANSWERS, TWO_ANSWER, answers_as_own, asks, followed, hears
from exporter.model.firewall import Field

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exporter.evaluate.enforced.flight import Flight
    from exporter.evaluate.enforced.passing import Passing
    from exporter.evaluate.enforced.segments import Station
    from exporter.evaluate.enforced.world import World


def shared_out(
    world: World, passing: Passing, sender: Station, receivers: Sequence[Station], address: int
) -> tuple[Flight, Sequence[tuple[Station, str]]]:
    """Return who hears what is sent to an address that all of some stations answer for, with what is not known of that.

    Besides, the packets as they go on: where several may take them, whose turn it is may change at any time.
    """
    heard = [(receiver, *hears(sender, receiver)) for receiver in receivers]
    audible = [(receiver, doubt) for receiver, passes, doubt in heard if passes]
    if len(audible) < 2:
        return passing.flight, audible
    resolving = world.resolving(address)
    asker = resolving.same(sender)
    asked = [Asking(asker, resolving.same(receiver), address) for receiver, _ in audible]
    if _one_and_the_same(world, passing, audible) and not any(hindered(resolving, each) for each in asked):
        return passing.flight, audible[:1]
    contested = _contested(resolving, passing, asked)
    if not contested:
        return passing.flight, audible
    doubted = passing.flight.doubted({_who_answers(asker, [each.receiver for each in asked], address): contested})
    return replace(doubted, contested=doubted.contested | contested), audible


def _one_and_the_same(world: World, passing: Passing, audible: Sequence[tuple[Station, str]]) -> bool:
    """Return whether it makes no difference which of several interfaces takes packets: all are of one namespace.

    Rules do not tell their ports apart either.
    """
    receivers = [receiver for receiver, _ in audible]
    stack = receivers[0].stack
    if any(receiver.stack is not stack for receiver in receivers) or len({doubt for _, doubt in audible}) > 1:
        return False
    own = all(each in stack.reached_at for each, _ in parts(passing.flight.ends.destination, passing.cells))
    if not stack.takes_alike([receiver.interface.name for receiver in receivers], own=own):
        return False
    ports = {receiver.port.name for receiver in receivers if receiver.port is not None}
    return not world.host.ruleset.tells_apart(Field.OUTPUT_PORT, ports)


def _contested(resolving: World, passing: Passing, asked: Sequence[Asking]) -> int:
    """Return the packets whose sender may learn the link address of more than one, or send to more without."""
    once = several = 0
    for each in asked:
        cells = passing.cells
        if followed(each.sender, each.receiver):
            cells, _ = resolved(resolving, each, passing)
        once, several = once | cells, several | (once & cells)
    return several


def _who_answers(sender: Station, receivers: Sequence[Station], address: int) -> str:
    if not asks(sender, address):
        text = FIXED
    elif all(answers_as_own(receiver, address, sender) for receiver in receivers):
        text = TWO_ANSWER
    else:
        text = PROXY_ANSWERS
    return text.format(address=ip_address(address.to_bytes(4 if sender.stack.family == 4 else 16)))
