"""Routing tables: which of their routes is for a packet, and which are tried after it.

Follows the kernel's fib_table_lookup and fib6_table_lookup: the longest prefix, of that the lowest metric.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

from exporter.model.addresses import bounds, is_link_local, within
from exporter.model.namespace import RouteKind
from exporter.model.records import record

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence

    from exporter.model.addresses import Subnet
    from exporter.model.namespace import Hop, Namespace, Route

    Answers = Callable[[Hop], str]
    """What is not known of whether packets go by a hop whose gateway may not answer: nothing where it does."""

_BITS = {4: 32, 6: 128}

NOBODYS_SOCKET = 0
"""The user of packets that no socket of the namespace sends (sock_net_uid; IPv6 leaves the field as it is, empty)."""


@record
class Question:
    """A packet to be routed. `interface` is where it came in, empty for a namespace's own; `output` where it leaves.

    `mark` is None where nobody knows which it is; of several `ports` it has one, nobody knows which. Of a `disguised`
    one nobody knows whether it still has its `source`, and of what a socket sends whose that is (`user`).
    """

    destination: int
    source: int | None = None
    interface: str = ""
    output: str = ""
    mark: int | None = 0
    protocol: int | None = None
    ports: tuple[tuple[int, int] | None, tuple[int, int] | None] = (None, None)
    tos: str = ""
    disguised: bool = False
    user: int | None = None


class Exit(NamedTuple):
    """A way out of a namespace: by an interface, to the owner of an address there.

    `hops` are those that its own packets are sent with by that way, 0 as many as by others.
    """

    interface: int
    towards: int
    hops: int = 0


@dataclass(frozen=True, slots=True)
class Way:
    """Where packets to an address go: `exits` is empty where they end here (`local`) or nowhere.

    `either` are the single ways where nobody knows which of them it is: each has a source of its own.
    """

    local: bool
    exits: tuple[Exit, ...] = ()
    source: int | None = None
    doubt: str = ""
    either: tuple[Way, ...] = ()


class RouteTable:
    """A routing table by prefix length.

    `by_sender` tells whether it has routes for some senders alone; `by_tos` are the types of service that some are for.
    `by_link` tells whether it has routes of IPv6 of which the one is taken by whose interface packets came in,
    `by_origin` whether it has such as lead packets of the namespace itself elsewhere than others.
    """

    def __init__(self) -> None:
        self.by_sender = False
        self.by_link = False
        self.by_origin = False
        self.by_tos: set[str] = set()
        self._by_length: dict[int, dict[int, list[Route]]] = defaultdict(lambda: defaultdict(list))
        self._lengths: list[tuple[int, int]] = []

    def add(self, route: Route) -> None:
        """Add a route; `settle` comes after the last one."""
        prefix = route.destination
        self.by_sender = self.by_sender or route.senders is not None
        self.by_origin = self.by_origin or is_made_anycast(route)
        if route.tos:
            self.by_tos.add(route.tos)
        shift = _BITS[prefix.version] - prefix.prefixlen
        self._by_length[prefix.prefixlen][int(prefix.network_address) >> shift].append(route)
        self._lengths = [(length, _BITS[prefix.version] - length) for length in self._by_length]

    def settle(self) -> None:
        """Put routes in the order in which they are taken."""
        self._lengths.sort(reverse=True)
        for prefixes in self._by_length.values():
            for routes in prefixes.values():
                routes.sort(key=lambda route: (not route.tos, route.metric, -route.preference))
                self.by_link = self.by_link or (len(routes) > 1 and _are_rivals(routes))

    def routes(self) -> Iterator[Route]:
        """Yield all routes."""
        for prefixes in self._by_length.values():
            for routes in prefixes.values():
                yield from routes

    def is_within(self, other: RouteTable) -> bool:
        """Return whether a prefix of this table is a part of one of another table."""
        wider = {length: prefixes for length, prefixes in other._by_length.items() if length < _BITS[4]}
        return any(
            number >> length - short in wider[short]
            for length, prefixes in self._by_length.items()
            for short in wider
            if short < length
            for number in prefixes
        )

    @property
    def everywhere(self) -> Sequence[Route]:
        """The routes to everywhere."""
        return self._by_length[0].get(0, ())

    def find(self, question: Question, names: dict[int, str]) -> Route | None:
        """Return the first route of the longest prefix, by the interface that is asked for if one of them leaves by it.

        rt6_device_match; nothing of IPv4 asks for one. Of IPv6's one metric the most preferred, and of several of these
        the one that leads back to where packets came in (rt6_score_route, for ip6_pol_route_input). To a link-local
        address no other one leads than that which packets came in by or leave by (rt6_need_strict).
        """
        strict = is_link_local(question.destination)
        device = question.output or (question.interface if strict else "")
        for length, shift in self._lengths:
            found = self._by_length[length].get(question.destination >> shift)
            if found and self.by_sender:
                found = _for_sender(found, question.source or 0)
            if found and self.by_tos:
                found = [route for route in found if route.tos in ("", question.tos)]
            if found and not device:
                return _by_link(found, question.interface, names) if self.by_link else found[0]
            if found:
                bound = (route for route in found if any(names.get(hop.interface) == device for hop in route.hops))
                best = next(bound, None if strict else found[0])
                if best is not None:
                    return best
        return None

    def tried(self, question: Question) -> Iterator[Route]:
        """Yield the routes for a packet in the order in which they are tried, the one that is found otherwise first.

        Those of a shorter prefix come after the longer ones' (fib6_backtrack), and those for all senders then, too,
        where there are others for some.
        """
        source, begun = question.source or 0, False
        for length, shift in self._lengths:
            found = self._by_length[length].get(question.destination >> shift, [])
            for_all = [route for route in found if route.senders is None]
            own = [route for route in found if route.senders is not None and within(source, route.senders)]
            if own or begun or not length or len(for_all) == len(found):
                own.sort(key=_few, reverse=True)
                for _, routes in groupby(own, key=_few):
                    yield from _in_turn([*routes])
                yield from _in_turn(for_all)
                begun = begun or bool(own or for_all)

    def by_turns(self) -> Iterator[Route]:
        """Yield the routes by gateways beside which there are others, of the same prefix or of shorter ones."""
        for length, prefixes in self._by_length.items():
            for number, routes in prefixes.items():
                led = [route for route in routes if any(hop.gateway is not None for hop in route.hops)]
                if led and (len(routes) > 1 or len(led[0].hops) > 1 or self._has_shorter(number, length)):
                    yield from led

    def _has_shorter(self, number: int, length: int) -> bool:
        """Return whether a shorter prefix with routes holds one that is given by its first bits."""
        return any(
            number >> length - other in prefixes for other, prefixes in self._by_length.items() if other < length
        )


def _few(route: Route) -> int:
    """Return how few senders a route is for, by the length of their prefix."""
    return route.senders.prefixlen if route.senders is not None else 0


def _in_turn(routes: Sequence[Route]) -> Iterator[Route]:
    """Yield routes of one prefix in the order in which they are tried.

    Once those of the lowest metric were in vain, the most preferred of all others is next (find_rr_leaf).
    """
    first = [route for route in routes if route.metric == routes[0].metric]
    yield from first
    yield from sorted(routes[len(first) :], key=lambda route: -route.preference)


def answered(table: RouteTable, question: Question, answers: Answers) -> list[tuple[Route | None, str]]:
    """Return the routes that may be taken by who leaves gateways that do not answer, and what is not known of these.

    The last one is the first by which somebody answers for sure.
    """
    found: list[tuple[Route | None, str]] = []
    unknown = ""
    for route in table.tried(question):
        told = [answers(hop) for hop in route.hops]
        certain = not all(told) if told else True
        unknown = unknown or ("" if certain else told[0])
        found.append((route, unknown))
        if certain:
            break
    return found or [(None, "")]


def _are_rivals(routes: Sequence[Route]) -> bool:
    """Return whether nothing but interfaces tells the first routes of a prefix of IPv6 apart.

    Those of links are told apart by these anyway.
    """
    first, second, *_ = routes
    prefix = first.destination
    return (
        prefix.version == 6
        and first.kind is second.kind is RouteKind.UNICAST
        and (first.metric, first.preference) == (second.metric, second.preference)
        and not prefix.is_link_local
    )


def _by_link(routes: Sequence[Route], interface: str, names: Mapping[int, str]) -> Route:
    """Return the route that is taken by packets that came in by an interface, of those of one prefix."""
    best = [route for route in routes if (route.metric, route.preference) == (routes[0].metric, routes[0].preference)]
    back = (route for route in best if any(names.get(hop.interface) == interface for hop in route.hops))
    return next(back, best[0]) if interface else best[0]


def _for_sender(routes: list[Route], source: int) -> list[Route]:
    """Return the routes of one destination that are for a source: those for the fewest senders.

    Those for all are passed over as well where there are others for some, none of which is for this one
    (fib6_node_lookup_1 goes back to shorter prefixes), unless they are to everywhere: there is nowhere to go back to.
    """
    own = [(route.senders.prefixlen, route) for route in routes if route.senders and within(source, route.senders)]
    if own:
        longest = max(length for length, _ in own)
        return [route for length, route in own if length == longest]
    for_all = [route for route in routes if route.senders is None]
    return for_all if len(for_all) == len(routes) or not routes[0].destination.prefixlen else []


def lent(routes: Iterable[Route], families: Container[int]) -> Iterator[Subnet]:
    """Yield the prefixes of local routes: packets to any address in them end here, whether or not an interface has it.

    Those of loopback and those of a single link are no addresses that others send to.
    """
    for route in routes:
        prefix = route.destination
        if route.kind is RouteKind.LOCAL and prefix.version in families:
            first = int(prefix.network_address)
            if first >> 24 != 127 if prefix.version == 4 else first != 1 and not is_link_local(first):
                yield prefix


class Anycast(NamedTuple):
    """An address that a namespace shares with others on a link; it answers for those that it `joined`."""

    address: int
    interface: int
    joined: bool


def anycast(namespace: Namespace) -> Iterator[Anycast]:
    """Yield the addresses of IPv6 that a namespace shares with others.

    Who passes packets on joins the first one of each prefix that he has (addrconf_join_anycast). The kernel makes a
    route for it, with a metric that no route has which somebody made.
    """
    for route in namespace.routes:
        if route.kind is RouteKind.ANYCAST and route.destination.version == 6 and route.hops:
            yield Anycast(int(route.destination.network_address), route.hops[0].interface, not route.metric)


def is_made_anycast(route: Route) -> bool:
    """Return whether somebody made a route of anycast: what the namespace itself sends leaves by that.

    Those of the kernel's own lead it back (RTF_ANYCAST in ip6_rt_get_dev_rcu), and of IPv4 there are none
    (ip_route_output_key_hash_rcu asks for local ones alone).
    """
    return route.kind is RouteKind.ANYCAST and (route.metric != 0 or route.destination.version == 4)


def taken(namespace: Namespace) -> Iterator[tuple[int, int]]:
    """Yield the ranges of addresses, of both families, to which packets end in a namespace by its local routes."""
    return map(bounds, lent(namespace.routes, _BITS))
