"""What a namespace tells of addresses by itself, whatever others are: found out once for all who ask."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from exporter.evaluate.enforced.route_table import anycast, taken
from exporter.evaluate.enforced.strangers import redirects_strangers, written_anywhere
from exporter.model.firewall import LEADING, AnyOf, Dispatch, Field, InRanges, ProxyLocally, Rewrite, Translate
from exporter.model.reach import HOST

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from exporter.evaluate.kinds.kept import Kept
    from exporter.model.firewall import Firewall, Match, Statement
    from exporter.model.namespace import Namespace
    from exporter.model.snapshot import Kernel


class Told(NamedTuple):
    """What a namespace tells.

    `addresses` are those that it has, or shares with others, `taken` those that its local routes lead to it,
    `concerned` those that its translations lead to and ask for. `redirects` is whether these may lead packets to
    addresses of nobody elsewhere, `takes` whether that is so or such packets may end here.
    """

    addresses: tuple[int, ...]
    taken: tuple[tuple[int, int], ...]
    concerned: tuple[tuple[int, int], ...]
    redirects: bool
    takes: bool


def told_by_all(kernel: Kernel, memory: Kept[Told]) -> Mapping[str, Told]:
    """Return what each namespace tells. `memory` has turned to this look."""
    namespaces = {**kernel.sandboxes, HOST: kernel.host}
    return {name: memory(name, (each,), partial(_told, each)) for name, each in namespaces.items()}


def _told(namespace: Namespace) -> Told:
    own = {int(address.ip) for interface in namespace.interfaces.values() for address in interface.addresses}
    led = tuple(taken(namespace))
    redirects = redirects_strangers(namespace.firewall) or written_anywhere(namespace)
    return Told(
        tuple(own.union(shared.address for shared in anycast(namespace))),
        led,
        tuple(_concerned(namespace.firewall)),
        redirects,
        redirects or any(low != high or low not in own for low, high in led),
    )


def _concerned(firewall: Firewall) -> Iterator[tuple[int, int]]:
    for table in firewall.tables:
        for chain in table.chains.values():
            for rule in chain.holding(LEADING):
                yield from _spans(rule.steps)


def _spans(steps: Iterable[Match | Statement]) -> Iterator[tuple[int, int]]:
    """Yield the addresses that a translation leads to, and those that it asks for, which are then looked at."""
    for step in steps:
        match step:
            case InRanges(Field.DESTINATION, ranges):
                yield from ranges.intervals
            case AnyOf(alternatives):
                for alternative in alternatives:
                    yield from _spans(alternative)
            case Translate(targets=targets) | Rewrite(targets=targets):
                for target in targets:
                    yield from target.addresses.intervals
                    yield from _spans(target.matches)
            case ProxyLocally(addresses):
                yield from addresses.intervals
            case Dispatch(cases):
                for matches, statement in cases:
                    yield from _spans((*matches, statement))
            case _:
                pass
