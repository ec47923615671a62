"""Packets to addresses of nobody that come to somebody here.

Those are third parties' that a transparent proxy takes, and such as a local route leads to its own namespace though no
interface has them. They cannot be asked about one by one. Rules tell them apart by the ranges that they name, and
routes by their prefixes, so one address of nobody in each of those stands for all others in it.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from ipaddress import ip_address, ip_network
from itertools import chain as joined
from itertools import islice, pairwise
from typing import TYPE_CHECKING, Final

from exporter.evaluate.enforced.asked_for import telling_apart
from exporter.evaluate.enforced.merging import merged
from exporter.evaluate.enforced.route_table import anycast, lent
from exporter.model.addresses import bounds
from exporter.model.firewall import (
    LEADING,
    AddressType,
    AddressTypeIs,
    Dispatch,
    Divert,
    Field,
    InRanges,
    ProxyLocally,
    Rewrite,
    TableFamily,
    Translate,
    Translation,
)
from exporter.model.namespace import RouteKind
from exporter.model.ranges import Ranges

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from exporter.model.addresses import Subnet
    from exporter.model.firewall import Firewall, Step, Table
    from exporter.model.namespace import Namespace

STRANGERS: Final = {4: int(ip_address("192.0.2.1")), 6: int(ip_address("2001:db8::1"))}
"""Whom nobody is (RFC 5737, RFC 3849): they stand for all third parties that no rule tells apart."""

_LAST: Final = {4: (1 << 32) - 1, 6: (1 << 128) - 1}

_UNSENT: Final = {
    family: Ranges.union(bounds(ip_network(each)) for each in prefixes)
    for family, prefixes in (
        (4, ("0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/4", "255.255.255.255")),
        (6, ("::/96", "::ffff:0:0/96", "fe80::/10", "ff00::/8")),
    )
}
"""What no program sends to as to others. Kernels route all else, be it reserved (240.0.0.0/4, 64:ff9b::/96)."""


@dataclass(frozen=True, slots=True)
class Held:
    """Addresses that somebody has, and the subnets in which only neighbours are looked for."""

    addresses: frozenset[int]
    subnets: tuple[tuple[int, int], ...]


def redirects_strangers(firewall: Firewall) -> bool:
    """Return whether packets to addresses of third parties may be led to somebody else.

    Rules that rewrite destinations are harmless for the host's own addresses, and for a single one that they name.
    """
    return any(True for _ in _redirecting(firewall))


def written_anywhere(namespace: Namespace) -> bool:
    """Return whether filters of tc may write any address into packets."""
    cards = (card for card in namespace.interfaces.values() if card.diverts)
    return any(not divert.device for card in cards for divert in card.diverts)


def strangers(firewalls: Iterable[Firewall], family: int, held: Held) -> frozenset[int]:
    """Return the third parties to ask about: none where packets to them are left alone."""
    unseen = TableFamily.IP6 if family == 4 else TableFamily.IP
    tables = [table for firewall in firewalls for table in _redirecting(firewall) if table.family is not unseen]
    if not tables:
        return frozenset()
    asked = dict.fromkeys(ranges for table in tables for ranges in _asked(table))
    parted = (((low, high) for low, high in ranges.intervals if low != high) for ranges in asked)
    return _one_of_each(parted, [(0, _LAST[family])], family, held)


def of_nobody(everyone: Sequence[Namespace], subnets: Iterable[Subnet], family: int) -> frozenset[int]:
    """Return the addresses that nobody has and that packets may be sent to all the same, given networks' subnets."""
    interfaces = joined.from_iterable(each.interfaces.values() for each in everyone)
    own = joined.from_iterable(interface.addresses for interface in interfaces)
    shared = {own.address for each in everyone for own in anycast(each)} if family == 6 else set[int]()
    near = tuple(bounds(subnet) for subnet in subnets if subnet.version == family)
    held = Held(frozenset(shared.union(int(address.ip) for address in own if address.version == family)), near)
    asked = strangers((each.firewall for each in everyone), family, held)
    if any(map(written_anywhere, everyone)):
        asked |= {STRANGERS[family]} - held.addresses
    return asked | lent_strangers(everyone, family, held)


def lent_strangers(everyone: Sequence[Namespace], family: int, held: Held) -> frozenset[int]:
    """Return those to ask about of the addresses that nobody has and that local routes lead to a namespace itself."""
    told = {span for each in everyone for span in map(bounds, lent(each.routes, (family,)))}
    spans = [(low, high) for low, high in told if low != high or low not in held.addresses]
    if not spans:
        return frozenset()
    everywhere = Ranges.union(spans)
    # where a namespace takes everything, as transparent proxies do, single addresses are third parties like any other
    some = Ranges.union(span for span in spans if span != (0, _LAST[family]))
    sets = dict.fromkeys(joined.from_iterable(telling_apart(each, family) for each in everyone))
    parted = (
        (
            (low, high)
            for low, high in ranges.intervals
            if (everywhere if low != high else some).covers(low, high) is not False
        )
        for ranges in sets
    )
    routes = joined.from_iterable(each.routes for each in everyone)
    groups = {int(each.destination.network_address) for each in routes if each.kind is RouteKind.BROADCAST}
    return _one_of_each(parted, spans, family, replace(held, addresses=held.addresses | groups))


def lends(namespace: Namespace) -> bool:
    """Return whether a local route leads more than one address to the namespace that nobody need have."""
    local = [route for route in namespace.routes if route.kind is RouteKind.LOCAL]
    several = [route for route in local if route.destination.prefixlen < route.destination.max_prefixlen]
    return any(True for _ in lent(several, _LAST))


def _one_of_each(
    parted: Iterable[Iterable[tuple[int, int]]], spans: Sequence[tuple[int, int]], family: int, held: Held
) -> frozenset[int]:
    """Return one address of nobody within `spans` for all of those that are in the same of some sets of addresses."""
    changes: dict[int, list[int]] = defaultdict(list)
    for number, intervals in enumerate(parted):
        for low, high in intervals:
            if high <= _LAST[family] and (low >> 32 == 0) == (family == 4):
                changes[low].append(number)
                changes[high + 1].append(number)
    edges, within = {edge for low, high in spans for edge in (low, high + 1)}, Ranges.union(spans)
    chosen: dict[frozenset[int], int] = {}
    inside = frozenset[int]()
    for low, after in pairwise(sorted({*edges, *changes})):
        inside = inside.symmetric_difference(changes.get(low, ()))
        if low in within and (inside not in chosen or low <= STRANGERS[family] < after):
            found = _nobody(low, after - 1, family, held)
            if found is not None:
                chosen[inside] = found
    return frozenset(chosen.values())


def _nobody(low: int, high: int, family: int, held: Held) -> int | None:
    """Return an address of nobody in a range, outside of all subnets here if there is one."""
    sent_to = Ranges(((low, high),)).without(_UNSENT[family])
    choices = [STRANGERS[family]]
    for first, last in sent_to.intervals:
        middle = (first + last) // 2
        choices += (first, first + 1, first + 2, middle, middle + 1, last - 1, last)
    free = [each for each in choices if each in sent_to and each not in held.addresses]
    far = (each for each in free if not any(first <= each <= last for first, last in held.subnets))
    # where all of these are somebody's, so many more cannot be
    more = islice(sent_to.numbers(), len(held.addresses) + 1)
    near = joined(free, (each for each in more if each not in held.addresses))
    return next(far, next(near, None))


def _redirecting(firewall: Firewall) -> Iterator[Table]:
    for table in firewall.tables:
        chains = table.chains.values()
        found = {chain.name for chain in chains if any(_redirects(rule.steps) for rule in chain.holding(LEADING))}
        if found and not found <= for_local_addresses(table):
            yield table


def _asked(table: Table) -> Iterator[Ranges]:
    """Yield the sets of destinations that a table asks for; single addresses are asked about anyway."""
    for chain in table.chains.values():
        for rule in merged(chain).rules:
            for step in rule.steps:
                if isinstance(step, InRanges) and step.field is Field.DESTINATION:
                    yield step.ranges


def _redirects(steps: Sequence[Step]) -> bool:
    for step in steps:
        match step:
            case InRanges(Field.DESTINATION) if single(step):
                return False
            case AddressTypeIs() if asks_for_local((step,)):
                return False
            case Translate(Translation.DNAT | Translation.REDIRECT) | ProxyLocally():
                return True
            case Rewrite(field=Field.DESTINATION, targets=targets) if any(target.addresses for target in targets):
                return True
            case Divert(device=""):
                return True
            case Dispatch(cases) if any(_redirects((*matches, statement)) for matches, statement in cases):
                return True
            case _:
                pass
    return False


def single(match: InRanges) -> bool:
    """Return whether a match asks for one value."""
    intervals = match.ranges.intervals
    return not match.negated and len(intervals) == 1 and intervals[0][0] == intervals[0][1]


def asks_for_local(steps: Iterable[Step]) -> bool:
    """Return whether steps ask for an address of the namespace's own."""
    return any(
        isinstance(step, AddressTypeIs)
        and step.field is Field.DESTINATION
        and not step.negated
        and step.types == {AddressType.LOCAL}
        for step in steps
    )


def for_local_addresses(table: Table) -> frozenset[str]:
    """Return the chains that only packets to the host's own addresses come to."""
    guarded: dict[str, list[bool]] = defaultdict(list)
    for chain in table.chains.values():
        if chain.base is not None:
            guarded[chain.name].append(False)
        for steps, called in chain.calls:
            guarded[called].append(asks_for_local(steps))
    return frozenset(chain for chain, guards in guarded.items() if all(guards))
