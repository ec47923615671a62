"""What may keep packets back on their way: hooks, bridges' chains, gates of interfaces, neighbours, distrust."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter.evaluate.enforced.frames import past_bridge, past_gates
from exporter.evaluate.enforced.hooks import Hooks
from exporter.evaluate.enforced.neighbours import Asking, resolved
from exporter.evaluate.enforced.packets import parts

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from exporter.evaluate.enforced.flight import Conversation, Flight
    from exporter.evaluate.enforced.frames import Met
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

    def sent_aside(self) -> list[Passing]:
        """Return the packets, and copies of them, that went elsewhere since somebody asked."""
        return self._hooks.sent_aside()

    def past_bridge(
        self,
        hooks: tuple[Hook, ...],
        passing: Passing,
        port: str | Column,
        output: str,
        bridge: Interface | None,
        *,
        early: bool | None = None,
    ) -> Sequence[Passing]:
        """Return the frames that pass the chains of the bridge family, apart where they were rewritten apart."""
        found = [passing] if passing.cells else []
        for hook in hooks if not passing.stack.bridging.idle else ():
            before, found = found, []
            for each in before:
                met: list[Met] = []
                past = past_bridge(self._hooks.sight, hook, each, port, output, bridge, early=early, met=met)
                found += self._apart(past, met)
        return found

    def past_gates(self, hook: Hook, interfaces: str | Column, passing: Passing) -> Sequence[Passing]:
        """Return the packets that pass what stands at single interfaces, apart where they were rewritten apart."""
        if passing.stack.gates.idle:
            return (passing,) if passing.cells else ()
        met: list[Met] = []
        return self._apart(past_gates(self._hooks.sight, hook, interfaces, passing, met), met)

    def _apart(self, past: Passing, met: Iterable[Met]) -> list[Passing]:
        """Return what goes on, and beside it what was rewritten; note what goes elsewhere."""
        found = [past] if past.cells else []
        for taken, passing, through in met:
            self._hooks.note(taken, passing)
            found += self._hooks.led_astray(through, taken, passing)
        return found

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
