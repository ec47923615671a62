"""The answer: who can reach whom, by which paths, and what could not be decided."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Final

from exporter.model.reach import BLOCKED, PairVerdict, Reach, Verdict
from exporter.model.records import record

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

    from exporter.model.policy import Rule
    from exporter.model.reach import Path, Via

SCHEMA = 1
"""Version of the JSON report; fields are only ever added within one version."""


@dataclass(frozen=True, slots=True)
class EngineSummary:
    """The engine as the report shows it. `icc_enabled` is None without a default bridge, or where it cannot be told."""

    id: str
    name: str
    version: str
    api_version: str
    firewall_backend: str
    icc_enabled: bool | None


ONE_SANDBOX: Final = "sandboxes/"
"""Begins the name of what is missing of a single container, whose id is the rest of it."""


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

    def __or__(self, other: Evidence) -> Evidence:
        """Return what was readable in one of two looks."""
        names = [source.name for source in fields(self)]
        return Evidence(**{name: getattr(self, name) or getattr(other, name) for name in names})


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


@record
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


@dataclass(frozen=True, slots=True)
class TenantSummary:
    """A tenant: its containers, and how many ordered pairs lead into them from containers of others.

    One that is `trusted` is nobody's trouble and has no trouble with others: pairs with it do not count.
    """

    name: str
    containers: int
    exposed_pairs: int
    trusted: bool = False


@dataclass(frozen=True, slots=True)
class Tenancy:
    """Whose containers are whose by `label`."""

    label: str

    told: bool
    """False where an observation was made without the label: nothing is known then."""

    tenants: tuple[TenantSummary, ...] = ()
    """Sorted by name."""

    without: int = 0
    """Containers without the label: each is a tenant of its own."""

    cross_pairs: int | None = None
    """Reachable and undecided ordered pairs of containers of different tenants of which neither is trusted.

    None where no container has the label, or nothing is known.
    """

    absent: tuple[str, ...] = ()
    """Trusted tenants of whom no container runs: perhaps a mistake in a name."""


@dataclass(frozen=True, slots=True)
class RuleResult:
    """What became of a rule: how many containers fit its two ends, and how many ordered pairs it is about.

    `violations` counts pairs that the rule denies and that are open or undecided; None for a rule that allows.
    """

    rule: Rule
    sources: int
    destinations: int
    pairs: int
    violations: int | None


@dataclass(frozen=True, slots=True)
class Violation:
    """A pair with paths that a rule denies. It is unknown where all of these are undecided."""

    rule: Rule
    source: ContainerSummary
    destination: ContainerSummary
    verdict: Verdict
    paths: tuple[Path, ...]

    @property
    def reason(self) -> str:
        """What would have to be known to tell; empty where a path is certain."""
        return "; ".join(dict.fromkeys(path.undecided for path in self.paths)) if self.verdict == "unknown" else ""


@dataclass(frozen=True, slots=True)
class PolicyResult:
    """What a policy finds, rule by rule in its order.

    `violations` are the first of each rule, by name of source and destination: VIOLATIONS_LISTED at most, where
    `results` counts all. `untold` are labels that the rules ask for and the observation was made without: nothing
    is judged then, for a container without the label and one whose label was not kept look alike.
    """

    results: tuple[RuleResult, ...] = ()
    violations: tuple[Violation, ...] = ()
    untold: tuple[str, ...] = ()

    @property
    def total(self) -> int:
        """The violations of all rules, listed or not: a pair counts for each rule that it violates."""
        return sum(result.violations or 0 for result in self.results)

    def of(self, rule: Rule) -> tuple[Violation, ...]:
        """Return the violations of a rule that are listed."""
        return tuple(violation for violation in self.violations if violation.rule is rule)


VIOLATIONS_LISTED: Final = 1000


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that is published, from one look at the engine."""

    taken_at: datetime
    engine: EngineSummary
    evidence: Evidence

    assumptions: tuple[str, ...]
    """What `reach` rests on."""

    networks: tuple[NetworkSummary, ...]

    containers: tuple[ContainerSummary, ...]
    """Sorted by name."""

    totals: Totals
    pairs_by_via: Mapping[Via, int]
    blast_radius: BlastRadius

    reach: Reach
    """What the kernel enforces where the evidence allows it, else what the configuration promises."""

    declared: Reach | None = None
    """What the configuration promises, None where `reach` is that."""

    declared_assumptions: tuple[str, ...] = ()
    """What `declared` rests on besides `assumptions`."""

    missing: Mapping[str, str] = field(default_factory=dict)
    """Why evidence could not be read."""

    unsupported: Mapping[str, int] = field(default_factory=dict)
    """How many of the firewall's rules nobody can foresee, by the name of what is not understood in them."""

    tenancy: Tenancy | None = None
    """None where nobody asked whose containers they are."""

    policy: PolicyResult | None = None
    """None where nobody wrote one."""

    bridge_netfilter: Mapping[str, bool] = field(default_factory=dict)
    """br_netfilter's switches by family (`ipv4`, `ipv6`), those that are known."""

    pending_restart: PendingRestart | None = None
    """None where the daemon's configuration is not known."""

    configuration_missing: str = ""
    """Why the daemon's configuration is not known, if anybody looked."""

    @property
    def unread_sandboxes(self) -> int | None:
        """How many sandboxes could not be read, or not whole, where others could; None where none is to be read."""
        return sum(source.startswith(ONE_SANDBOX) for source in self.missing) if self.evidence.sandboxes else None

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
