"""Interfaces that no engine makes: cables between bridges and containers, macvlan, bridges and tunnels inside."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from tests.conformance.changes import Change, Somebody

if TYPE_CHECKING:
    from collections.abc import Iterator

_UNSEEN: Final = ("what ", "two that answer for ")
"""How the reasons begin for which paths may be undecided where interfaces lead to what is not followed."""
_TWICE: Final = ("behind which port bridge ", "two that answer for ")


class OnHost(Somebody):
    """Changes of this kind on a host and in its containers, with their details chosen at random."""

    def changes(self) -> Iterator[Change]:
        """Yield them."""
        yield from self._between_bridges()
        names = self._facts.sandboxes
        if len(names) > 1:
            yield from self._between(*self._random.sample(names, 2))

    def _between_bridges(self) -> Iterator[Change]:
        one, other, address = self._bridge, self._bridge, self._address
        made = "ip link add wire0 type veth peer name wire1"
        ends = f"ip link set wire0 master {one} up", f"ip link set wire1 master {other} up"
        if one != other and {one, other} <= {*self._facts.bridges}:
            yield Change("a cable between bridges", (made, *ends), doubts=_UNSEEN, seconds=1)
        if one in self._facts.bridges:
            own = "ip address add 10.97.9.1/24 dev wire1"
            plugged = (made, ends[0], "ip link set wire1 up", own)
            yield Change("a cable of the host's into a bridge", plugged, doubts=_UNSEEN, seconds=1)
            child = f"ip link add wire0 link {one} type macvlan mode bridge; ip link set wire0 up"
            yield Change("a macvlan on a bridge", (child, f"ip address add {address}/32 dev wire0"), doubts=_UNSEEN)

    def _between(self, one: str, other: str) -> Iterator[Change]:
        """Yield what joins two containers, where each has a card."""
        inside = tuple(f"nsenter --net=/proc/{self._facts.pids[name]}/ns/net" for name in (one, other))
        first, second = inside
        ends = (f"netns {self._facts.pids[name]}" for name in (one, other))
        cable = f"ip link add wire0 {next(ends)} type veth peer name wire0 {next(ends)}"
        up = tuple(f"{each} ip link set wire0 up" for each in inside)
        told = tuple(_addressed(each, "wire0", number) for number, each in enumerate(inside, 1))
        yield Change("a cable from container to container", (cable, *up, *told))
        yield Change("a cable from container to container, half up", (cable, up[0], *told))
        switch = (
            f"{second} ip link add wire1 type bridge; {second} ip link set wire0 master wire1",
            f"{second} ip link set wire1 up; {_addressed(second, 'wire1', 3)}",
        )
        yield Change("a cable into a bridge inside", (cable, *up, *switch, told[0]), doubts=_UNSEEN)
        child = "ip link add wire0 link eth0 type macvlan mode"
        both = f"{first} {child} bridge", f"{second} {child} private"
        for change in (
            Change("macvlan inside of two", (*both, *up, *told)),
            Change("macvlan inside of one", (both[0], up[0], told[0], _addressed(second, "eth0", 2))),
            Change("one link address twice", tuple(f"{each} {_SAME}" for each in inside), doubts=_TWICE),
            Change("a tunnel that ends in another container", (*_tunnel(*inside), *up, *told), doubts=_UNSEEN),
        ):
            plugged = f"if {first} {_PLUGGED} && {second} {_PLUGGED}; then {'; '.join(change.commands)}; fi"
            yield replace(change, commands=(plugged,))


_PLUGGED: Final = "ip link show dev eth0 >/dev/null 2>&1"
_SAME: Final = "ip link set eth0 address 02:42:00:00:00:77"


def _addressed(inside: str, interface: str, number: int) -> str:
    """Return how an interface gets addresses of both families, where IPv6 is not off."""
    added = f"{inside} ip address add"
    return f"{added} 10.97.0.{number}/24 dev {interface}; {added} fd97::{number}/64 dev {interface} nodad || true"


def _tunnel(first: str, second: str) -> tuple[str, ...]:
    """Return how two containers get the ends of a tunnel: one is told where the other is."""
    address = f"$({second} ip -4 -o address show dev eth0 scope global | tr -s ' ' / | cut -d/ -f4)"
    made = "ip link add wire0 type vxlan id 7 dstport 4789 dev eth0"
    return f"{first} {made} remote {address}", f"{second} {made}"
