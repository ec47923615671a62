"""Interfaces that no engine makes: cables between bridges and containers, macvlan, bridges, tunnels, and routers."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from tests.conformance.changes import Change, Somebody

if TYPE_CHECKING:
    from collections.abc import Iterator

_UNSEEN: Final = ("what ", "two that answer for ")
"""How the reasons begin for which paths may be undecided where interfaces lead to what is not followed."""
_TWO: Final = ("two that answer for ",)
_TWICE: Final = ("behind which port bridge ", *_TWO)


class OnHost(Somebody):
    """Changes of this kind on a host and in its containers, with their details chosen at random."""

    def changes(self) -> Iterator[Change]:
        """Yield them."""
        yield from self._between_bridges()
        yield from self._routers()
        names = self._facts.sandboxes
        if len(names) > 1:
            yield from self._between(*self._random.sample(names, 2))
            yield self._router_between(*self._random.sample(names, 2))

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

    def _routers(self) -> Iterator[Change]:
        """Yield namespaces that are no container's and have ports of bridges, and somebody who sends by them."""
        if not self._facts.sandboxes:
            return
        other, address = self._bridge, self._address
        inside = self._inside(self._random.choice(self._facts.sandboxes))
        alone = (*_NOBODY, *_port(0, "$bridge"))
        by_neighbour = f"{inside} {_by_router(address, 'eth0')} || true"
        by_host = f"ip rule add to {address} iif {self._bridge} table 78; {_by_router(address, '$bridge')} table 78"
        fixed = f"{inside} ip neigh replace {address} lladdr {_OF_ROUTER} dev eth0 nud permanent || true"
        led = f"ip -n rtr route add {address} dev rtr1; ip -n rtr route add default dev rtr0"
        two = (*alone, *_port(1, other), led, by_neighbour)
        answers = f"{inside} ip route add {address} dev eth0 || true"
        translates = (
            f"ip netns exec rtr iptables -w -t nat -A PREROUTING -d 10.98.9.1 -j DNAT --to-destination {address}"
        )
        near = f"{inside} ip route add 10.98.9.1 dev eth0 || true"
        routers = {
            "nobody's port of a bridge": alone,
            "a router on a bridge": (*alone, _BY_HOST, by_neighbour),
            "a router on a bridge that masquerades": (*alone, _BY_HOST, _MASQUERADES, by_neighbour),
            "a router on a bridge, by the host": (*alone, _BY_HOST, _MASQUERADES, by_host),
            "a router's link address": (*alone, _BY_HOST, fixed),
            "a router on a bridge that answers for others": (*alone, _BY_HOST, _MASQUERADES, _ANSWERS, answers),
            "a router on a bridge that translates": (*alone, _BY_HOST, _MASQUERADES, translates, near),
            "a router on a bridge with a macvlan": (*alone, _MACVLAN, _BY_HOST, by_neighbour),
        }
        if other in self._facts.bridges:
            routers |= {
                "a router on two bridges": two,
                "a router on two bridges that masquerades": (*two, _MASQUERADES),
            }
        for name, commands in routers.items():
            done = f'{_bridge_of(inside)}; if [ -n "$bridge" ]; then {"; ".join(commands)}; fi'
            # the bridge beside it may be the container's own, and then the router has two ports of one
            doubts = _TWICE if "two bridges" in name else _TWO if "macvlan" in name else ()
            yield Change(name, (done,), doubts=doubts, seconds=1)

    def _router_between(self, one: str, other: str) -> Change:
        """Return a namespace that is no container's and passes on what containers send by cables."""
        commands = [*_NOBODY]
        for number, name in enumerate((one, other)):
            inside, end = self._inside(name), f"rtr{number}"
            commands += (
                f"ip link add wire0 netns {self._facts.pids[name]} type veth peer name {end} netns rtr",
                f"ip -n rtr link set {end} up; ip -n rtr address add 10.98.{number}.9/24 dev {end}",
                f"{inside} ip link set wire0 up; {inside} ip address add 10.98.{number}.1/24 dev wire0",
            )
            if number == 0 or self._random.random() < _ANSWERED:
                commands.append(f"{inside} ip route add 10.98.0.0/16 via 10.98.{number}.9")
            else:
                commands.append(_MASQUERADES)
        return Change("a router with cables to containers", tuple(commands), seconds=1)

    def _inside(self, name: str) -> str:
        return f"nsenter --net=/proc/{self._facts.pids[name]}/ns/net"

    def _between(self, one: str, other: str) -> Iterator[Change]:
        """Yield what joins two containers, where each has a card."""
        inside = self._inside(one), self._inside(other)
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


_ANSWERED: Final = 0.5
"""How often the other one knows the way back by a router."""
_OF_ROUTER: Final = "02:00:5e:00:53:02"
_NOBODY: Final = (
    "ip netns add rtr",
    "ip netns exec rtr sysctl -qw net.ipv4.ip_forward=1",
)
_ANSWERS: Final = "ip netns exec rtr sysctl -qw net.ipv4.conf.rtr0.proxy_arp_pvlan=1"
_MACVLAN: Final = (
    "ip -n rtr link add rtr9 link rtr0 type macvlan mode bridge; ip -n rtr link set rtr9 up;"
    " ip -n rtr address add 10.98.9.9/32 dev rtr9"
)
_MASQUERADES: Final = "ip netns exec rtr iptables -w -t nat -A POSTROUTING -j MASQUERADE"


def _port(number: int, bridge: str) -> tuple[str, ...]:
    """Return how a router gets a port of a bridge."""
    end = f"rtr{number}"
    return (
        f"ip link add wire{number} type veth peer name {end} netns rtr; ip link set wire{number} master {bridge} up",
        f"ip -n rtr link set {end} address {_OF_ROUTER} up; ip -n rtr address add 10.98.9.{number + 1}/32 dev {end}",
    )


_BY_HOST: Final = (
    "for own in $(ip -4 -o address show dev $bridge | tr -s ' ' | cut -d' ' -f4);"
    " do ip -n rtr route replace ${own%/*} dev rtr0; ip -n rtr route replace default via ${own%/*}; done"
)
"""How a router finds everybody by the host, where that has an address on its bridge."""


def _bridge_of(inside: str) -> str:
    """Return what names the bridge that a container's card leads to, if it has one."""
    end = f"$({inside} ip -o link show dev eth0 2>/dev/null | sed -n 's/.*@if\\([0-9]*\\):.*/\\1/p')"
    return f'end={end}; bridge=$(ip -o link show | sed -n "s/^$end: .* master \\([^ ]*\\) .*/\\1/p")'


def _by_router(address: str, interface: str) -> str:
    """Return the route to an address by the router on a bridge."""
    return f"ip route add {address} via 10.98.9.1 dev {interface} onlink"


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
