"""Several who may take what is sent to one next hop: nobody can tell who of them does."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address
from typing import TYPE_CHECKING

from exporter.evaluate.enforced.neighbours import FIXED
from exporter.evaluate.enforced.segments import PROXY_ANSWERS, TWO_ANSWER, answers_as_own, asks, hears

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exporter.evaluate.enforced.flight import Flight
    from exporter.evaluate.enforced.segments import Station
    from exporter.evaluate.enforced.world import World


def shared_out(
    world: World, flight: Flight, cells: int, sender: Station, receivers: Sequence[Station], address: int
) -> tuple[Flight, Sequence[tuple[Station, str]]]:
    """Return who hears what is sent to an address that all of some stations answer for, with what is not known of that.

    Besides, the packets as they go on: where several may take them, whose turn it is may change at any time.
    """
    heard = [(receiver, *hears(sender, receiver)) for receiver in receivers]
    audible = [(receiver, doubt) for receiver, passes, doubt in heard if passes]
    if len(audible) < 2:
        return flight, audible
    if _one_and_the_same([receiver for receiver, _ in audible]):
        return flight, audible[:1]
    resolving = world.resolving(address)
    asker, answerers = resolving.same(sender), [resolving.same(receiver) for receiver, _ in audible]
    doubted = flight.doubted({_who_answers(asker, answerers, address): cells})
    return replace(doubted, contested=flight.contested | cells), audible


def _one_and_the_same(receivers: Sequence[Station]) -> bool:
    """Return whether it makes no difference which of several interfaces takes a packet: all are of one namespace."""
    stack, port = receivers[0].stack, receivers[0].port
    if any(receiver.stack is not stack or receiver.port is not port for receiver in receivers):
        return False
    return stack.takes_alike([receiver.interface.name for receiver in receivers])


def _who_answers(sender: Station, receivers: Sequence[Station], address: int) -> str:
    if not asks(sender, address):
        text = FIXED
    elif all(answers_as_own(receiver, address, sender) for receiver in receivers):
        text = TWO_ANSWER
    else:
        text = PROXY_ANSWERS
    return text.format(address=ip_address(address.to_bytes(4 if sender.stack.family == 4 else 16)))
