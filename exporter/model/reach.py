"""Verdicts of pairs: by which paths packets get from one sandbox into another, and what could not be decided."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Final, NamedTuple

from exporter.model.ports import NO_PORTS, PortSet
from exporter.model.records import record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

HOST = "host"
"""The sandbox id of the engine's own network namespace."""


class Verdict(StrEnum):
    """Of an ordered pair of containers."""

    REACHABLE = "reachable"
    BLOCKED = "blocked"
    UNKNOWN = "unknown"


class Protocol(StrEnum):
    """What a path carries. `icmp` is echo, ICMP or ICMPv6 after the family of the address."""

    TCP = "tcp"
    UDP = "udp"
    ICMP = "icmp"


TRANSPORTS: Final[Mapping[Protocol, int]] = {Protocol.TCP: 6, Protocol.UDP: 17}
"""The protocols that have ports, by their numbers in IP packets."""


class Via(StrEnum):
    """The mechanism of a path, the most direct first: a pair that has several counts under the first."""

    SAME_SANDBOX = "same_sandbox"
    BRIDGE = "bridge"
    LINK = "link"
    MACVLAN = "macvlan"
    IPVLAN = "ipvlan"
    OVERLAY = "overlay"
    PLUGIN = "plugin"
    ROUTED = "routed"
    HOST = "host"
    PUBLISHED_PORT = "published_port"


@record
class Path:
    """One way into the destination's sandbox.

    A packet that the source sends to any of `addresses`, of `protocol`, to any of `ports` arrives.
    """

    via: Via

    network: str | None
    """The name of the network that carries or publishes it, None where none does."""

    protocol: Protocol

    addresses: tuple[str, ...]
    """Empty where it is one that the API does not tell."""

    ports: PortSet = NO_PORTS
    """Empty for ICMP."""

    undecided: str = ""
    """Empty for a path that is certain, else the reason why it may also be closed."""

    within: str = field(default="", compare=False, repr=False)
    """The id of the network that both ends are attached to, where that network carries the path: names need not be
    unique."""

    @property
    def order(self) -> tuple[int, str, str, int, tuple[tuple[int, int], ...], tuple[str, ...]]:
        """Where the path stands among the paths of a pair, whatever order the engine lists things in."""
        via, protocol = _VIA_ORDER[self.via], _PROTOCOL_ORDER[self.protocol]
        return via, self.network or "", self.undecided, protocol, self.ports.intervals, self.addresses


@dataclass(frozen=True)
class PairVerdict:
    """What holds for an ordered pair; one value is shared by all pairs for which the same holds.

    ICMP echo is among the paths and decides nothing: a pair that can only ping is blocked.
    """

    paths: tuple[Path, ...] = ()

    @cached_property
    def reason(self) -> str:
        """What opens the pair, or what would have to be known to tell; empty when blocked."""
        carrying = [path for path in self.paths if path.protocol is not Protocol.ICMP]
        if self.verdict is Verdict.UNKNOWN:
            return "; ".join(dict.fromkeys(path.undecided for path in carrying))
        opened = (path for path in carrying if not path.undecided)
        return "; ".join(
            dict.fromkeys(f"{path.via} on {path.network}" if path.network else path.via for path in opened)
        )

    @cached_property
    def verdict(self) -> Verdict:
        """Reachable with one certain path for TCP or UDP, unknown with undecided ones only, else blocked."""
        carrying = [path for path in self.paths if path.protocol is not Protocol.ICMP]
        if any(not path.undecided for path in carrying):
            return Verdict.REACHABLE
        return Verdict.UNKNOWN if carrying else Verdict.BLOCKED

    @cached_property
    def via(self) -> Via | None:
        """The mechanism under which the pair is counted; None when blocked."""
        carrying = [path for path in self.paths if path.protocol is not Protocol.ICMP]
        certain = [path for path in carrying if not path.undecided]
        return min((path.via for path in certain or carrying), key=_VIA_ORDER.__getitem__, default=None)


_PROTOCOL_ORDER = {protocol: position for position, protocol in enumerate(Protocol)}
_VIA_ORDER = {via: position for position, via in enumerate(Via)}

BLOCKED = PairVerdict()


class Alike(NamedTuple):
    """Destinations for which the same holds, but for their own names, addresses and ports.

    `verdict` is that of one of them, and `write` gives each one's.
    """

    verdict: PairVerdict
    members: Sequence[str]
    write: Callable[[str], PairVerdict]


class Verdicts(Mapping[str, PairVerdict]):
    """Verdicts by destination, each written when it is asked for: whoever only counts need not ask."""

    def __init__(self, groups: Iterable[Alike]) -> None:
        """Take groups of destinations that have none in common."""
        self.groups = tuple(groups)
        self._written: dict[str, PairVerdict] = {}

    @classmethod
    def of(cls, verdicts: Mapping[str, PairVerdict]) -> Verdicts:
        """Return any verdicts as one of these: pairs for which the same holds share one."""
        groups: dict[int, list[str]] = {}
        for destination, verdict in verdicts.items():
            groups.setdefault(id(verdict), []).append(destination)
        return cls(Alike(verdicts[members[0]], members, verdicts.__getitem__) for members in groups.values())

    @cached_property
    def names(self) -> frozenset[str]:
        """All destinations, kept for whoever asks again: of sheets, which many rows share."""
        return self.those(*Verdict)

    @cached_property
    def _groups(self) -> Mapping[str, Alike]:
        return {member: group for group in self.groups for member in group.members}

    def __getitem__(self, destination: str) -> PairVerdict:
        found = self._written.get(destination)
        if found is None:
            found = self._written[destination] = self._groups[destination].write(destination)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._groups)

    def __len__(self) -> int:
        return len(self._groups)

    def alike(self, destination: str) -> PairVerdict | None:
        """Return the verdict of one of those for which the same holds."""
        group = self._groups.get(destination)
        return group.verdict if group is not None else None

    def those(self, *verdicts: Verdict) -> frozenset[str]:
        """Return the destinations that have one of these verdicts."""
        found = [group.members for group in self.groups if group.verdict.verdict in verdicts]
        return frozenset(found[0]) if len(found) == 1 else frozenset(chain.from_iterable(found))


@dataclass(frozen=True, slots=True, eq=False)
class Row(Mapping[str, PairVerdict]):
    """Verdicts by destination of a class of sources, most of which are those of many other classes, too.

    `sheets` are shared among rows, by identity, and have no destination in common. Of the `near`, `own` alone tells,
    and of nobody else on the sheets.
    """

    sheets: tuple[Verdicts, ...]
    own: Verdicts
    near: frozenset[str] = frozenset()

    @classmethod
    def of(cls, row: Mapping[str, PairVerdict]) -> Row:
        """Return any row as one of these."""
        return row if isinstance(row, cls) else cls((), Verdicts.of(row))

    def __getitem__(self, destination: str) -> PairVerdict:
        found = self.own.get(destination)
        if found is None and destination not in self.near:
            found = next((sheet[destination] for sheet in self.sheets if destination in sheet.names), None)
        if found is None:
            raise KeyError(destination)
        return found

    def __iter__(self) -> Iterator[str]:
        yield from self.own
        for sheet in self.sheets:
            yield from (name for name in sheet if name not in self.near)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def alike(self, destination: str) -> PairVerdict | None:
        """Return the verdict of a destination, or of another for which the same holds but for names and addresses."""
        found = self.own.alike(destination)
        if found is not None or destination in self.near:
            return found
        return next((sheet.alike(destination) for sheet in self.sheets if destination in sheet.names), None)


@dataclass(frozen=True, slots=True)
class Reach:
    """Verdicts of all ordered pairs of sandboxes, kept once per class of sources that see the same.

    `class_of` gives the class of a source sandbox, `rows[class]` the verdicts by destination sandbox (a missing
    destination is blocked, without any path), `within` the verdict between two containers that share a sandbox.
    """

    class_of: Mapping[str, int]
    rows: tuple[Mapping[str, PairVerdict], ...]
    within: Mapping[str, PairVerdict]

    def between(self, source: str, destination: str) -> PairVerdict:
        """Return the verdict from one sandbox to another, or to itself."""
        if source == destination:
            return self.within.get(source, BLOCKED)
        return self.rows[self.class_of[source]].get(destination, BLOCKED)

    def row(self, source: str) -> Mapping[str, PairVerdict]:
        """Return verdicts by destination for this source; it may hold the source itself, which is no destination."""
        return self.rows[self.class_of[source]]
