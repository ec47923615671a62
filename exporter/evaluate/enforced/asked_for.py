"""What rules, routes and neighbours ask for: of rules, be it deep inside of them."""

from __future__ import annotations

from collections import defaultdict
from itertools import chain as joined
from typing import TYPE_CHECKING

from exporter.evaluate.enforced.merging import condensed
from exporter.model.addresses import bounds, prefix_of
from exporter.model.firewall import (
    AnyOf,
    Dispatch,
    Field,
    HasBits,
    InRanges,
    Rewrite,
    TableFamily,
    Translate,
    reached,
)
from exporter.model.ranges import Ranges

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from exporter.model.firewall import AnyBit, Chain, Firewall, Match, Step
    from exporter.model.namespace import Namespace, Route

ADDRESSES = frozenset(
    {
        Field.SOURCE,
        Field.DESTINATION,
        Field.CT_ORIGINAL_SOURCE,
        Field.CT_ORIGINAL_DESTINATION,
        Field.CT_REPLY_SOURCE,
        Field.CT_REPLY_DESTINATION,
        Field.ARP_SOURCE,
        Field.ARP_DESTINATION,
    }
)
"""Fields that hold addresses."""

PORTS = frozenset(
    {
        Field.SOURCE_PORT,
        Field.DESTINATION_PORT,
        Field.CT_ORIGINAL_SOURCE_PORT,
        Field.CT_ORIGINAL_DESTINATION_PORT,
        Field.CT_REPLY_SOURCE_PORT,
        Field.CT_REPLY_DESTINATION_PORT,
    }
)
"""Fields that hold ports."""

_SOURCES = frozenset({Field.SOURCE, Field.CT_ORIGINAL_SOURCE, Field.CT_REPLY_DESTINATION})


def mask_of(match: HasBits | AnyBit) -> tuple[int, int]:
    """Return the bits that a match looks at, and what they have to be, -1 where any of them is enough."""
    return match.mask, match.value if isinstance(match, HasBits) else -1


def is_masked(number: int, mask: int, value: int) -> bool:
    """Return whether a number is as `mask_of` a match asks."""
    return bool(number & mask) if value < 0 else number & mask == value


def steps_of(firewall: Firewall) -> Iterator[Step]:
    """Yield the steps of all rules, with what is inside them."""
    for table in firewall.tables:
        for chain in table.chains.values():
            for rule in chain.rules:
                yield from _matches(rule.steps)


def _matches(steps: Sequence[Step] | Sequence[Match]) -> Iterator[Step]:
    """Yield steps with what is inside them."""
    for step in steps:
        yield step
        match step:
            case AnyOf(alternatives):
                for alternative in alternatives:
                    yield from _matches(alternative)
            case Dispatch(cases):
                for matches, statement in cases:
                    yield from _matches((*matches, statement))
            case Translate(targets=targets) | Rewrite(targets=targets):
                for target in targets:
                    yield from _matches(target.matches)
            case _:
                pass


def ranges_asked_for(firewall: Firewall, family: int, *, sources: bool) -> Iterator[Ranges]:
    """Yield the sets of addresses that rules for a family ask for.

    Chains that translate see first packets only. Their source is an address asked about where that is the host's own
    packet, or where conntrack does not follow what it answers; else such `sources` do not matter there.
    """
    for table in firewall.tables:
        if table.family is (TableFamily.IP6 if family == 4 else TableFamily.IP):
            continue
        translating = _reached_by_nat_alone(table.chains)
        for chain in table.chains.values():
            for rule in chain.rules:
                for match in _matches(rule.steps):
                    if isinstance(match, InRanges) and match.field in ADDRESSES:
                        if not sources and chain.name in translating and match.field in _SOURCES:
                            continue
                        yield match.ranges


def _reached_by_nat_alone(chains: Mapping[str, Chain]) -> AbstractSet[str]:
    """Return the chains that packets come to from base chains of type nat, and from no others."""
    others = (name for name, chain in chains.items() if chain.base is not None and chain.base.kind != "nat")
    return chains.keys() - reached(chains, others)


def telling_apart(namespace: Namespace, family: int) -> Iterator[Ranges]:
    """Yield the sets of addresses that rules, routes, neighbours and labels of a namespace treat each in their own way.

    Prefixes of one length with routes of a table that do the same are one: no address is in two of them.
    """
    yield from ranges_asked_for(condensed(namespace.firewall), family, sources=True)
    alike: dict[object, list[tuple[int, int]]] = defaultdict(list)
    for route in namespace.routes:
        prefix = route.destination
        if prefix.version == family:
            # an address leads to itself, from itself
            source = "own" if _leads_to_itself(route) else route.source
            does = (route.hops, source, route.metric, route.senders, route.preference, route.tos, route.hop_limit)
            alike[route.table, route.kind, prefix.prefixlen, does].append(bounds(prefix))
    for each in namespace.neighbours:
        if each.address.version == family:
            alike["fixed", each.interface, each.mac].append((int(each.address), int(each.address)))
    for proxied in namespace.proxied:
        if proxied.address.version == family:
            alike["proxied", proxied.interface].append((int(proxied.address), int(proxied.address)))
    yield from map(Ranges.union, alike.values())
    prefixes = joined(
        joined.from_iterable((rule.source, rule.destination) for rule in namespace.rules),
        joined.from_iterable((policy.source, policy.destination) for policy in namespace.policies),
        (each.prefix for each in namespace.labels if namespace.labelled),
    )
    yield from (Ranges((bounds(each),)) for each in prefixes if each is not None and each.version == family)


def _leads_to_itself(route: Route) -> bool:
    return route.source is not None and route.destination == prefix_of(route.source, route.source.max_prefixlen)
