"""How many pairs of containers there are to each verdict, by what matters of both: no pair is looked at one by one."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from exporter.model.reach import PairVerdict, Reach

Tenant = tuple[str, str]
"""The name of a tenant, or the id of a container that has none and is one of its own."""


class Member(NamedTuple):
    """What matters of a container of a sandbox, as a source (`sends`) and as a destination (`takes`)."""

    tenant: Tenant
    sends: int
    takes: int


class Meeting(NamedTuple):
    """Ordered pairs of distinct containers that share a verdict, by whether both are the same tenant's."""

    verdict: PairVerdict
    destination: str
    sends: int
    takes: int
    same: int
    other: int


Crowd = dict[int, Counter[Tenant]]
"""Numbers of containers by what matters of them at one end, and by tenant."""


def meetings(reach: Reach, members: Mapping[str, Sequence[Member]]) -> Iterator[Meeting]:
    """Yield all pairs that have a verdict; `members` are the containers of each sandbox."""
    sending = {sandbox: _crowd((each.tenant, each.sends) for each in inside) for sandbox, inside in members.items()}
    taking = {sandbox: _crowd((each.tenant, each.takes) for each in inside) for sandbox, inside in members.items()}
    for index, sources in _by_class(reach, sending).items():
        totals = {sends: senders.total() for sends, senders in sources.items()}
        for destination, verdict in reach.rows[index].items():
            # a row may hold one of its own sources, which does not meet itself by it
            own = sending[destination] if reach.class_of[destination] == index else {}
            for takes, takers in taking[destination].items():
                for sends, senders in sources.items():
                    left_out = own.get(sends, _NOBODY)
                    same = sum(number * (senders[who] - left_out[who]) for who, number in takers.items())
                    pairs = takers.total() * (totals[sends] - left_out.total())
                    yield Meeting(verdict, destination, sends, takes, same, pairs - same)
    for sandbox, verdict in reach.within.items():
        alike = Counter((each.sends, each.takes) for each in members[sandbox])
        for takes, takers in taking[sandbox].items():
            for sends, senders in sending[sandbox].items():
                same = sum(number * senders[who] for who, number in takers.items())
                other = takers.total() * senders.total() - same
                yield Meeting(verdict, sandbox, sends, takes, same - alike[sends, takes], other)


_NOBODY: Counter[Tenant] = Counter()


def _by_class(reach: Reach, sending: Mapping[str, Crowd]) -> Mapping[int, Crowd]:
    sources: defaultdict[int, Crowd] = defaultdict(lambda: defaultdict(Counter))
    for sandbox, crowd in sending.items():
        for sends, senders in crowd.items():
            sources[reach.class_of[sandbox]][sends].update(senders)
    return sources


def _crowd(ends: Iterator[tuple[Tenant, int]]) -> Crowd:
    crowd: Crowd = defaultdict(Counter)
    for tenant, matters in ends:
        crowd[matters][tenant] += 1
    return crowd
