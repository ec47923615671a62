"""Where a namespace's routing sends one packet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter.evaluate.enforced.route_table import Exit, Way, is_made_anycast
from exporter.model.namespace import RouteKind

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from exporter.evaluate.enforced.route_table import Question
    from exporter.evaluate.enforced.stack import Stack
    from exporter.model.namespace import Hop, Route

SEVERAL_HOPS = "which of several next hops the packets take"
SEVERAL_DEFAULTS = "which of several default routes packets take: that goes by which gateways were silent lately"
TUNNELLED = "what becomes of packets that a route puts into others (encap)"
OWN_GATEWAY = "whether a route by an address of one's own was there before that address"


def way(stack: Stack, question: Question) -> Way:
    """Return the way of one packet; of one that may take several, all of them."""
    return either([(_along(stack, question, route), doubt) for route, doubt in _routes(stack, question)])


def plain_way(stack: Stack, question: Question) -> Way:
    """Return the way of one packet where routing is plain: by its destination and links alone, so it is found once."""
    key = question if question.interface or question.output else question.destination
    known = stack.ways.get(key)
    if known is None:
        known = stack.ways[key] = way(stack, question)
    return known


def either(found: Sequence[tuple[Way, str]]) -> Way:
    """Return the ways that packets may take as one, given what is not known."""
    first, _ = found[0]
    if all(each == first for each, _ in found):
        return first
    exits = tuple(dict.fromkeys(item for each, _ in found for item in each.exits))
    doubt = next(doubt for _, doubt in found if doubt)
    single = tuple(dict.fromkeys(each for each, _ in found))
    return Way(local=any(each.local for each in single), exits=exits, source=first.source, doubt=doubt, either=single)


def _routes(stack: Stack, question: Question) -> Iterator[tuple[Route | None, str]]:
    for route, doubt in stack.routing.lookups(question):
        yield route, doubt
        if route is not None:
            yield from ((other, doubt or SEVERAL_DEFAULTS) for other in stack.routing.rivals(route))


def _along(stack: Stack, question: Question, route: Route | None) -> Way:
    if route is None or not (route.kind is RouteKind.UNICAST or (is_made_anycast(route) and not question.interface)):
        return _ending(stack, question, route)
    exits = tuple(
        dict.fromkeys(way_out for hop in route.hops for way_out in _exits(stack, question.destination, hop, route))
    )
    source = int(route.source) if route.source is not None else None
    doubt = "" if len(exits) < 2 else SEVERAL_HOPS if len(route.hops) > 1 else OWN_GATEWAY
    doubt = TUNNELLED if route.tunnelled else doubt
    return Way(local=False, exits=exits, source=source, doubt=doubt)


def _ending(stack: Stack, question: Question, route: Route | None) -> Way:
    """Return the way of packets that end here, or nowhere.

    Nobody sends from an address that he shares with others, but from one that suits it (ip6_route_get_saddr).
    """
    if route is not None and route.kind is RouteKind.ANYCAST and stack.family == 6 and route.hops:
        return Way(local=True, source=stack.source_for(route.hops[0].interface, question.destination))
    return Way(local=route is not None and route.kind is RouteKind.LOCAL)


def _exits(stack: Stack, destination: int, hop: Hop, route: Route) -> Iterator[Exit]:
    """Yield the way out by a hop: to its gateway, or to the destination itself where it has none.

    A gateway that was an address of the namespace's own when the route was made leads to the destination, too, for IPv4
    (fib_check_nh takes the scope of a local address, and rt_set_nexthop no gateway of that scope). One that became its
    own later is asked for like any other. The kernel does not tell which it was.
    """
    gateway = int(hop.gateway) if hop.gateway is not None else destination
    yield Exit(hop.interface, gateway, route.hop_limit)
    if stack.family == 4 and hop.gateway is not None and gateway in stack.addresses:
        yield Exit(hop.interface, destination, route.hop_limit)
