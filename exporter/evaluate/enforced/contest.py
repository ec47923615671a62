"""Several who may take what is sent to one next hop: nobody can tell who of them does."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address
from typing import TYPE_CHECKING

from exporter.evaluate.enforced.neighbours import FIXED, Asking, hindered
from exporter.evaluate.enforced.packets import parts
from exporter.evaluate.enforced.segments import (
    HIDDEN,
    PROXY_ANSWERS,
    TWO_ANSWER,
    answers_as_own,
    asks,
    followed,
    hears,
    is_hidden,
)
from exporter.model.firewall import Field

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from exporter.evaluate.enforced.flight import Flight
    from exporter.evaluate.enforced.obstacles import Obstacles
    from exporter.evaluate.enforced.passing import Passing
    from exporter.evaluate.enforced.segments import Station
    from exporter.evaluate.enforced.world import World


def shared_out(
    world: World, obstacles: Obstacles, passing: Passing, sender: Station, receivers: Sequence[Station], address: int
) -> Sequence[tuple[Station, Passing]]:
    """Return who hears what is sent to an address that all of some stations answer for, with what is sent to each.

    Where several may take the same packets, whose turn it is may change at any time.
    """
    heard = [(receiver, *hears(sender, receiver)) for receiver in receivers]
    audible = [(receiver, doubt) for receiver, passes, doubt in heard if passes]
    if len(audible) > 1 and _one_and_the_same(world, passing, sender, audible, address):
        audible = audible[:1]
    sent = [(receiver, _sent(obstacles, passing, sender, receiver, address, doubt)) for receiver, doubt in audible]
    contested = _contested(sent) if len(sent) > 1 else 0
    if not contested:
        return sent
    resolving = world.resolving(address)
    answerers = [resolving.same(receiver) for receiver, each in sent if each.cells & contested]
    doubts = {_who_answers(resolving.same(sender), answerers, address): contested}
    return [(receiver, each._replace(flight=_shared(each.flight, contested, doubts))) for receiver, each in sent]


def _sent(
    obstacles: Obstacles, passing: Passing, sender: Station, receiver: Station, address: int, doubt: str
) -> Passing:
    """Return the packets whose sender has the link address of one who hears them, where their way is known."""
    flight = passing.flight.doubted({doubt: passing.cells} if doubt else {})
    if not followed(sender, receiver):
        return passing._replace(flight=flight)
    cells, doubts = obstacles.resolved(sender, receiver, address, passing)
    return passing._replace(cells=cells, flight=flight.doubted(doubts))


def _contested(sent: Iterable[tuple[Station, Passing]]) -> int:
    """Return the packets that are sent to the one or to another."""
    once = several = 0
    for _, passing in sent:
        once, several = once | passing.cells, several | (once & passing.cells)
    return several


def _shared(flight: Flight, contested: int, doubts: Mapping[str, int]) -> Flight:
    return replace(flight.doubted(doubts), contested=flight.contested | contested)


def _one_and_the_same(
    world: World, passing: Passing, sender: Station, audible: Sequence[tuple[Station, str]], address: int
) -> bool:
    """Return whether it makes no difference which of several interfaces takes packets: all are of one namespace.

    It answers by any of them, and nothing on the way tells them or their ports apart.
    """
    receivers = [receiver for receiver, _ in audible]
    stack = receivers[0].stack
    if any(receiver.stack is not stack for receiver in receivers) or len({doubt for _, doubt in audible}) > 1:
        return False
    own = all(each in stack.reached_at for each, _ in parts(passing.flight.ends.destination, passing.cells))
    if not stack.takes_alike([receiver.interface.name for receiver in receivers], own=own):
        return False
    ports = {receiver.port.name for receiver in receivers if receiver.port is not None}
    if world.host.ruleset.tells_apart(Field.OUTPUT_PORT, ports):
        return False
    macs = {receiver.interface.mac for receiver in receivers}
    if len(macs) > 1 and any(each.ruleset.asks_for(Field.DESTINATION_MAC) for each in (world.host, stack)):
        return False
    resolving = world.resolving(address)
    asker = resolving.same(sender)
    return not any(hindered(resolving, Asking(asker, resolving.same(each), address)) for each in receivers)


def _who_answers(sender: Station, receivers: Sequence[Station], address: int) -> str:
    if not asks(sender, address):
        text = FIXED
    elif any(is_hidden(receiver.interface) for receiver in receivers):
        return HIDDEN
    elif all(answers_as_own(receiver, address, sender) for receiver in receivers):
        text = TWO_ANSWER
    else:
        text = PROXY_ANSWERS
    return text.format(address=ip_address(address.to_bytes(4 if sender.stack.family == 4 else 16)))
