"""What may keep packets back on their way: hooks, bridges' chains, gates of interfaces, neighbours, distrust."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter.evaluate.enforced.frames import past_bridge, past_gates
from exporter.evaluate.enforced.hooks import Hooks
from exporter.evaluate.enforced.neighbours import Asking, resolved
from exporter.evaluate.enforced.packets import parts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exporter.evaluate.enforced.flight import Conversation, Flight
    from exporter.evaluate.enforced.packets import Column
    from exporter.evaluate.enforced.passing import Passing
    from exporter.evaluate.enforced.segments import Station
    from exporter.evaluate.enforced.stack import Stack
    from exporter.evaluate.enforced.world import World
    from exporter.model.firewall import Hook
    from exporter.model.namespace import Interface


class Obstacles:
    """What packets of one stage of conversations meet in a world."""

    def __init__(self, world: World, conversation: Conversation) -> None:
        self._world = world
        self._hooks = Hooks(conversation)

    def through(self, hook: Hook, passing: Passing) -> Iterator[Passing]:
        """Yield what comes out of a hook of IP, apart where it was rewritten apart."""
        return self._hooks.through(hook, passing)

    def copies(self) -> list[Passing]:
        """Return the copies that hooks made of packets since somebody asked."""
        return self._hooks.copies()

    def past_bridge(
        self,
        hooks: tuple[Hook, ...],
        passing: Passing,
        port: str | Column,
        output: str,
        bridge: Interface | None,
        *,
        early: bool | None = None,
    ) -> Passing:
        """Return the frames that pass the chains of the bridge family, and how they go on."""
        return past_bridge(self._hooks.sight, hooks, passing, port, output, bridge, early=early)

    def past_gates(self, hook: Hook, interfaces: str | Column, passing: Passing) -> Passing:
        """Return the packets that pass what stands at single interfaces, and how they go on."""
        return past_gates(self._hooks.sight, hook, interfaces, passing)

    def resolved(self, sender: Station, receiver: Station, target: int, passing: Passing) -> tuple[int, dict[str, int]]:
        """Return the packets whose sender learns the link address of the next hop, and doubts about that."""
        world = self._world.resolving(target)
        return resolved(world, Asking(world.same(sender), world.same(receiver), target), passing)

    def believed(self, stack: Stack, cells: int, flight: Flight, interface: str | Column) -> int:
        """Return the packets whose source the kernel believes.

        It asks no reverse path filter about what was in packets of IPsec (secpath_exists in fib_validate_source). That
        of those which went astray is not known.
        """
        valid = 0
        for name, at in parts(interface, cells):
            for source, of in parts(flight.ends.source, at):
                valid |= of & flight.astray
                if stack.believes(int(source), str(name)):
                    valid |= of
                elif of & flight.sealed and stack.admits(int(source), str(name)):
                    valid |= of & flight.sealed
        return valid
