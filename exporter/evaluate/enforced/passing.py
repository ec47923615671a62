"""Packets in one namespace, on their way from hook to hook."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from exporter.evaluate.enforced.flight import Passage
from exporter.model.firewall import PacketType

if TYPE_CHECKING:
    from exporter.evaluate.enforced.flight import Ends, Flight, Value
    from exporter.evaluate.enforced.packets import Column
    from exporter.evaluate.enforced.stack import Stack
    from exporter.model.firewall import Divert


class Passing(NamedTuple):
    """Packets in one namespace, between its hooks.

    `arrived` are their ends as they came in; `untracked` the cells that conntrack does not follow. `local` says that a
    hook already took them for the namespace's own, `own` that it sent them, `settled` that they come back by loopback:
    what their translation is was settled on their way out. `ct_mark` is None until conntrack has seen them. `unbound`
    says that their route was found before their source, which follows from it. `next_hop` is whose link address they
    leave for, where that is not their destination's. `routed_mark` is the mark that their route was asked for by, where
    that is another one than `mark` by now. `link` is the interface on which the namespace looks for the
    link-local addresses that it sends to. `mac` is who sent the frame that they are in, `frame_for` whose link address
    that is for, and `packet_type` what that makes of it. `onward` is the real server that IPVS sends them to, or the
    gateway of a copy; `diverted` is what sends them, or a copy, elsewhere.
    It is a tuple since it is what is made most, each from the one before: that costs a fifth of what a dataclass takes.
    """

    stack: Stack
    cells: int
    flight: Flight
    arrived: Ends
    interface: str | Column = ""
    port: str | Column = ""
    mac: int | Column | None = None
    frame_for: int | Column | None = None
    output: str | Column = ""
    output_port: str = ""
    next_hop: Value | None = None
    link: str | Column = ""
    mark: Value = 0
    routed_mark: Value | None = None
    ct_mark: Value | None = None
    untracked: int = 0
    translated: bool = False
    local: bool = False
    own: bool = False
    settled: bool = False
    unbound: bool = False
    packet_type: int | Column = PacketType.HOST
    onward: int | None = None
    diverted: Divert | None = None

    def passage(self) -> Passage:
        """Return what the namespace's conntrack keeps of the packets when they leave or are delivered."""
        return Passage(self.stack, self.cells & ~self.untracked, self.arrived, self.flight.ends, self.ct_mark or 0)


_PLACES = {name: place for place, name in enumerate(Passing._fields)}


def _replace(passing: Passing, /, **changes: object) -> Passing:
    values: list[object] = [*passing]
    for name, value in changes.items():
        values[_PLACES[name]] = value
    return tuple.__new__(Passing, values)


# the one that comes with a NamedTuple does the same in more than twice the time
Passing._replace = _replace  # type: ignore[method-assign, assignment]
