"""The answer: who can reach whom, by which paths, and what could not be decided."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

from exporter.model.ports import NO_PORTS, PortSet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from datetime import datetime

    from exporter.model.policy import PolicyResult, Tenancy

SCHEMA = 1
"""Version of the JSON report; fields are only ever added within one version."""

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


@dataclass(frozen=True, slots=True)
class Path:
    """One way into the destination's sandbox.

    A packet that the source sends to any of `addresses`, of `protocol`, to any of `ports` (empty for ICMP) arrives.
    Without `addresses` it is one that the API does not tell.
    `network` is the name of the network that carries or publishes it, None where none does.
    `undecided` is empty for a path that is certain, else the reason why it may also be closed. `within` is the id of
    the network that both ends are attached to, where that network carries the path: names need not be unique.
    """

    via: Via
    network: str | None
    protocol: Protocol
    addresses: tuple[str, ...]
    ports: PortSet = NO_PORTS
    undecided: str = ""
    within: str = field(default="", compare=False, repr=False)

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


@dataclass(frozen=True, slots=True)
class EngineSummary:
    """The engine as the report shows it. `icc_enabled` is None without a default bridge, or where it cannot be told."""

    id: str
    name: str
    version: str
    api_version: str
    firewall_backend: str
    icc_enabled: bool | None


@dataclass(frozen=True, slots=True)
class Evidence:
    """Which sources were readable."""

    api: bool = True
    firewall: bool = False
    bridge: bool = False
    routes: bool = False
    sandboxes: bool = False

    @property
    def kernel(self) -> bool:
        """Whether the verdicts are the kernel's: without one of the three, they are what the configuration promises."""
        return self.firewall and self.bridge and self.routes


@dataclass(frozen=True, slots=True)
class NetworkSummary:
    """A network; `icc_enabled` as configured (None: no such notion), `icc_effective` as the kernel enforces it.

    `families` are those that it has addresses of, `ipv4` and `ipv6`.
    """

    id: str
    name: str
    driver: str
    internal: bool
    icc_enabled: bool | None
    icc_effective: bool | None
    containers: int
    reachable_pairs: int
    families: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ContainerSummary:
    """A running container; `sandbox` is the id of the container that owns its namespace, or `host`.

    `tenant` is None where nobody said whose it is.
    """

    id: str
    name: str
    networks: tuple[str, ...]
    sandbox: str
    tenant: str | None = None


@dataclass(frozen=True, slots=True)
class Totals:
    """Counts over ordered pairs. Undecided pairs are among `reachable_pairs`; drift is None without kernel evidence."""

    containers: int
    pairs: int
    reachable_pairs: int
    unknown_pairs: int
    drift_open: int | None
    drift_closed: int | None


@dataclass(frozen=True, slots=True)
class BlastRadius:
    """How far a break-in spreads: containers without any peer, most peers of one, most in one connected group."""

    isolated_containers: int
    max_reach: int
    largest_component: int


@dataclass(frozen=True, slots=True)
class PendingRestart:
    """What a restart of the daemon would bring.

    `icc` is whether it would change ICC of the default bridge, `reasons` what would change and why, or why not.
    `starts` is whether the daemon would start at all; `reasons` are then why not.
    """

    icc: bool
    reasons: tuple[str, ...] = ()
    starts: bool = True


@dataclass(frozen=True, slots=True)
class Pair:
    """One line of the report."""

    source: ContainerSummary
    destination: ContainerSummary
    verdict: PairVerdict
    declared: PairVerdict

    @property
    def drift_reason(self) -> str:
        """What opens a pair that drifts, by whichever of the two verdicts it is open."""
        return self.verdict.reason or self.declared.reason


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


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that is published, from one look at the engine. Containers are sorted by name.

    `reach` is what the kernel enforces where the evidence allows it; `declared` is then what the configuration
    promises, and None where that is all there is. `missing` tells why evidence could not be read; `unsupported` counts
    the firewall's rules that nobody can foresee, by the name of what is not understood in them. `tenancy` and `policy`
    are None where nobody asked whose containers they are, and wrote no policy. `bridge_netfilter` has
    br_netfilter's switches by family (`ipv4`, `ipv6`), those that are known. `pending_restart` is None where the
    daemon's configuration is not known, `configuration_missing` then says why, if anybody looked.
    """

    taken_at: datetime
    engine: EngineSummary
    evidence: Evidence
    assumptions: tuple[str, ...]
    networks: tuple[NetworkSummary, ...]
    containers: tuple[ContainerSummary, ...]
    totals: Totals
    pairs_by_via: Mapping[Via, int]
    blast_radius: BlastRadius
    reach: Reach
    declared: Reach | None = None
    missing: Mapping[str, str] = field(default_factory=dict)
    unsupported: Mapping[str, int] = field(default_factory=dict)
    tenancy: Tenancy | None = None
    policy: PolicyResult | None = None
    bridge_netfilter: Mapping[str, bool] = field(default_factory=dict)
    pending_restart: PendingRestart | None = None
    configuration_missing: str = ""

    def pair(self, source: ContainerSummary, destination: ContainerSummary) -> PairVerdict:
        """Return the verdict of two distinct containers of this report."""
        return self.reach.between(source.sandbox, destination.sandbox)

    def pairs(self) -> Iterator[Pair]:
        """Yield every reachable or unknown ordered pair, by container name."""
        for pair in self._all_pairs():
            if pair.verdict.verdict is not Verdict.BLOCKED:
                yield pair

    def drifted(self) -> Iterator[Pair]:
        """Yield every ordered pair on which the kernel and the promise disagree, by container name."""
        if self.declared is None:
            return
        places: dict[str, list[int]] = {}
        for place, container in enumerate(self.containers):
            places.setdefault(container.sandbox, []).append(place)
        for source in self.containers:
            found = self._drifting(self.declared, source.sandbox)
            for place in sorted(place for sandbox in found for place in places.get(sandbox, ())):
                if self.containers[place] is not source:
                    yield Pair(source, self.containers[place], *found[self.containers[place].sandbox])

    def _drifting(self, promised: Reach, source: str) -> dict[str, tuple[PairVerdict, PairVerdict]]:
        """Return both verdicts by the sandboxes on which they disagree; one that neither reaches is not looked at."""
        found: dict[str, tuple[PairVerdict, PairVerdict]] = {}
        for sandbox in {*self.reach.row(source), *promised.row(source), source}:
            verdicts = self.reach.between(source, sandbox), promised.between(source, sandbox)
            if {each.verdict for each in verdicts} == {Verdict.BLOCKED, Verdict.REACHABLE}:
                found[sandbox] = verdicts
        return found

    def _all_pairs(self) -> Iterator[Pair]:
        promised = self.reach if self.declared is None else self.declared
        for source in self.containers:
            rows = dict(self.reach.row(source.sandbox)), dict(promised.row(source.sandbox))
            within = self.reach.within.get(source.sandbox, BLOCKED), promised.within.get(source.sandbox, BLOCKED)
            for destination in self.containers:
                if destination is source:
                    continue
                if destination.sandbox == source.sandbox:
                    yield Pair(source, destination, *within)
                else:
                    found = (row.get(destination.sandbox, BLOCKED) for row in rows)
                    yield Pair(source, destination, *found)
