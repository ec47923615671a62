"""Routers that lead packets back out of where they came in, and tell who sends to go past them (ICMP redirects).

Who believes that sends to the next hop himself for some minutes, whatever the router's own rules do (__ip_do_redirect).
Of IPv6 nobody is believed whose gateway's address is not link-local (ndisc_redirect_rcv), as it is for no engine.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from exporter.evaluate.enforced.packets import parts
from exporter.evaluate.enforced.route_table import NOBODYS_SOCKET, Exit, Question
from exporter.model.namespace import RouteKind
from exporter.model.reach import HOST

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from exporter.evaluate.enforced.flight import Delivery
    from exporter.evaluate.enforced.passing import Passing
    from exporter.evaluate.enforced.segments import Station
    from exporter.evaluate.enforced.stack import Stack
    from exporter.evaluate.enforced.world import World

TELLS = "whether {router} tells who sends to go past it (ICMP redirect)"
"""What is not known of packets that come by a router."""
TOLD = "whether {router} has told who sends to go past it (ICMP redirect)"
"""What is not known of packets that go past it."""


class Redirect(NamedTuple):
    """What a router may have told: a sender, and the way to the next hop by which he sends some packets then."""

    router: str
    sender: Station
    way: Exit
    cells: int

    @property
    def tells(self) -> str:
        """What is not known of packets by the router."""
        return TELLS.format(router=self.router)

    @property
    def told(self) -> str:
        """What is not known of packets past the router."""
        return TOLD.format(router=self.router)


def redirects(world: World, passing: Passing, leaving: Mapping[Exit, int]) -> Iterator[Redirect]:
    """Yield what a namespace may tell of packets that it passes on by some ways.

    __mkroute_input notes those that leave by the interface that they came in by, from whoever is on that link, and
    ip_forward tells of them before rules see them; of such that were rewritten nobody is told
    (nf_nat_icmp_reply_translation). Who has rules of nat does not tell of connections that he keeps back, but of what
    belongs to none, as answers to what he did not see: after one of those the sender goes past him with whatever is for
    that address.
    """
    stack = passing.stack
    if stack.family == 6 or passing.flight.ends is not passing.arrived:
        return
    for way, cells in leaving.items():
        name = stack.routing.names[way.interface]
        station = world.station(stack, way.interface)
        back = sum(at for each, at in parts(passing.interface, cells & passing.cells) if each == name)
        if not back or station is None or not (_is_on(stack, "all", _SENDS) or _is_on(stack, name, _SENDS)):
            continue
        for source, of in parts(passing.flight.ends.source, back):
            if not _is_near(stack, int(source), name):
                continue
            for sender in station.segment.widely.owners.get(int(source), ()):
                if sender.stack is not stack and _heeds(sender):
                    yield Redirect(_name(station), sender, Exit(sender.interface.index, way.towards), of)


_SENDS, _ACCEPTS = "send_redirects", "accept_redirects"


def decided(delivered: Sequence[Delivery], told: Collection[Redirect]) -> list[Delivery]:
    """Return deliveries without doubt whether a router told anyone where packets arrive both by it and past it."""
    ways = {(each.tells, each.told) for each in told}
    found: dict[tuple[Stack, str], int] = defaultdict(int)
    for item in delivered:
        for name, cells in item.flight.doubts.items():
            found[item.stack, name] |= cells & item.cells
    sure = {
        (stack, name): found[stack, by] & found[stack, past]
        for stack in {item.stack for item in delivered}
        for by, past in ways
        for name in (by, past)
    }
    return [
        replace(item, flight=item.flight.sure({name: sure.get((item.stack, name), 0) for name in item.flight.doubts}))
        for item in delivered
    ]


def _is_near(stack: Stack, source: int, interface: str) -> bool:
    """Return whether a source is on the link of an interface, as the way back to it has it (fib_validate_source)."""
    if not stack.routing.plain:
        return True
    route, _ = stack.routing.lookup(Question(source, user=NOBODYS_SOCKET))
    if route is None or route.kind is not RouteKind.UNICAST:
        return False
    return any(hop.gateway is None and stack.routing.names.get(hop.interface) == interface for hop in route.hops)


def _heeds(sender: Station) -> bool:
    """Return whether a sender believes routers (IN_DEV_RX_REDIRECTS); one that was not read is taken to."""
    stack, name = sender.stack, sender.interface.name
    switches = [_is_on(stack, each, _ACCEPTS) for each in ("all", name)]
    return all(switches) if stack.forwards_from(name) else any(switches)


def _is_on(stack: Stack, interface: str, switch: str) -> bool:
    return stack.namespace.settings.get(f"ipv4/conf/{interface}/{switch}") != "0"


def _name(station: Station) -> str:
    if station.stack.name == HOST:
        return "the host"
    return next((str(each.ip) for each in station.interface.addresses if each.version == 4), station.interface.name)
