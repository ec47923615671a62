"""One round of probes: sockets are made in each sandbox by a thread that walks through them, then packets go out."""

from __future__ import annotations

import logging
import secrets
import threading
from typing import TYPE_CHECKING, Final

from exporter import threads
from exporter.errors import ForbiddenProbe, ProbeError, SystemShort, message_of
from exporter.model.probe import Sight
from exporter.model.reach import HOST, Protocol
from exporter.observe.kernel.netns import OWN, Netns
from exporter.observe.kernel.processes import ProcessReader
from exporter.observe.kernel.trouble import Unreadable
from exporter.observe.probe.mark import Mark
from exporter.observe.probe.round import Leg, Round

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from exporter.model.probe import Ground, Probe
    from exporter.observe.kernel.processes import Process

logger = logging.getLogger(__name__)

LONGEST: Final = 15.0
"""Seconds that a round may take; it knows by itself when nothing more can come."""


class Prober:
    """Sends probes between the sandboxes of an engine. One thread asks at a time; `interrupt` may any other.

    `netns` is the path of the engine's network namespace, where that is not the exporter's own.
    """

    def __init__(self, netns: Path | None = None) -> None:
        self._netns = str(netns) if netns else OWN
        self._processes = ProcessReader()
        self._ending = threading.Event()

    def send(self, probes: Sequence[Probe], ground: Ground) -> list[Sight]:
        """Return what was seen of each probe.

        Raises ForbiddenProbe where one would leave the ground, and then sends none; ProbeError when `interrupt` ended
        it.
        """
        for probe in probes:
            if not ground.holds(probe):
                raise ForbiddenProbe(f"refused to send a packet to {probe.packet}: no sandbox of this engine has it")
        seen: list[list[Sight]] = []
        failed: list[str] = []

        def work() -> None:
            try:
                seen.append(self._send(probes, ground))
            except Exception as error:
                logger.exception("sending probes failed")
                failed.append(message_of(error))

        # a thread of its own, for it does not come back to its namespace
        try:
            threads.start(work).wait(LONGEST + 1)
        except SystemShort as error:
            raise ProbeError(str(error)) from error
        if self._ending.is_set():
            raise ProbeError("the round of probes was ended")
        if not seen:
            raise ProbeError(failed[0] if failed else f"a round of probes did not end within {LONGEST:g} s")
        return seen[0]

    def interrupt(self) -> None:
        """Make a `send` that another thread is in end at once, and all further ones."""
        self._ending.set()

    def _send(self, probes: Sequence[Probe], ground: Ground) -> list[Sight]:
        with Round(Mark(1 + secrets.randbelow(0xFFFF)), self._ending, LONGEST) as round_:
            ways = [_legs(probe, 2 * number) for number, probe in enumerate(probes)]
            self._prepare(round_, [leg for way in ways for leg in way], probes, ground)
            round_.run()
            return [_sight(probe, way, round_) for probe, way in zip(probes, ways, strict=True)]

    def _prepare(self, round_: Round, legs: Sequence[Leg], probes: Sequence[Probe], ground: Ground) -> None:
        """Make the sockets of each sandbox in it."""
        members = {each.sandbox: each.id for probe in probes for each in (probe.source, probe.destination)}
        found = self._processes.read([identity for sandbox, identity in members.items() if sandbox != HOST]).containers
        for sandbox in {*members, HOST}:
            here = [leg for leg in legs if sandbox in leg.places]
            if not here:
                continue
            try:
                with self._open(sandbox, found.get(members.get(sandbox, ""))) as namespace:
                    namespace.enter()
                    round_.furnish(sandbox, here, ground.addresses[sandbox])
            except Unreadable as error:
                round_.trouble[sandbox] = str(error)

    def _open(self, sandbox: str, process: Process | None) -> Netns:
        """Return the namespace of a sandbox. Raises Unreadable."""
        if sandbox == HOST:
            return Netns.open(self._netns)
        if process is None:
            raise Unreadable("no process of the container is visible: it has ended, or the host's PID view is needed")
        namespace = Netns.open(self._processes.namespace(process))
        if self._processes.lives(process):
            return namespace
        with namespace:
            raise Unreadable("the container has ended")


def _legs(probe: Probe, number: int) -> tuple[Leg, ...]:
    """Return what is sent for a probe: where docker-proxy relays a connection, its part is played as well.

    docker-proxy is given no connection, so it makes none: from the host to the container a packet of our own goes.
    """
    source, destination, packet = probe.source.sandbox, probe.destination.sandbox, probe.packet
    if probe.withheld:
        return ()
    if packet.protocol is Protocol.UDP:
        return (Leg(number, source, (destination,), packet, probe.inside),)
    if probe.relay is None:
        return (Leg(number, source, (destination,), packet),)
    first = Leg(number, source, tuple(dict.fromkeys((destination, HOST))), packet)
    return first, Leg(number + 1, HOST, (destination,), probe.relay)


def _sight(probe: Probe, legs: Sequence[Leg], round_: Round) -> Sight:
    """Return what was seen of the packets of one probe."""
    if not legs:
        return Sight(withheld=probe.withheld)
    first, relayed = legs[0], legs[1:]
    trouble = next((why for leg in legs if (why := round_.trouble_of(leg))), "")
    if trouble or first.number in round_.withheld:
        return Sight(withheld=round_.withheld.get(first.number, ""), trouble=trouble)
    there, seen = probe.destination.sandbox, round_.seen
    if there in seen[first.number] or not relayed:
        return Sight(there in seen[first.number], first.number in round_.answered, deaf=round_.deaf_to(first))
    arrived = HOST in seen[first.number] and there in seen[relayed[0].number]
    deaf = next((why for leg in legs if (why := round_.deaf_to(leg))), "")
    return Sight(arrived, round_.answered >= {leg.number for leg in legs}, relayed=arrived, deaf=deaf)
