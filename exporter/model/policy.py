"""What a host is held to: whose containers are whose, and which of them may reach which."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from glob import escape
from typing import TYPE_CHECKING, Final

from exporter.model.ports import ALL_PORTS, PortSet
from exporter.model.report import Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from exporter.model.report import ContainerSummary, Path, Verdict


class Effect(StrEnum):
    """What a rule says of paths: they must not be open, or rules below it do not concern them."""

    DENY = "deny"
    ALLOW = "allow"


class Relation(StrEnum):
    """How the tenant of a destination relates to the source's."""

    SAME = "same"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Selector:
    """Which containers are meant: those that fit every field that is not empty, and none of `excluded`.

    Fields hold patterns of the shell (`*`, `?`, `[…]`), of which one has to fit; labels come as key and patterns.
    """

    names: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    tenants: tuple[str, ...] = ()
    labels: tuple[tuple[str, tuple[str, ...]], ...] = ()
    excluded: tuple[Selector, ...] = ()

    def parts(self) -> Iterator[Selector]:
        """Yield this selector and what it excludes."""
        yield self
        for selector in self.excluded:
            yield from selector.parts()


ANY: Final = Selector()


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of a policy, about paths from sources to destinations by these protocols and ports.

    `ports` are the destination's own. `relation` narrows destinations by the tenant of the source; None takes all.
    """

    name: str
    why: str
    effect: Effect
    source: Selector
    destination: Selector
    relation: Relation | None = None
    protocols: frozenset[Protocol] = frozenset({Protocol.TCP, Protocol.UDP})
    ports: PortSet = ALL_PORTS

    @property
    def asks_for_tenants(self) -> bool:
        """Whether somebody's tenant matters to the rule."""
        return self.relation is not None or any(part.tenants for part in self._parts())

    @property
    def labels(self) -> frozenset[str]:
        """The labels that the rule selects by, beside the tenants'."""
        return frozenset(key for part in self._parts() for key, _ in part.labels)

    def _parts(self) -> Iterator[Selector]:
        yield from self.source.parts()
        yield from self.destination.parts()


@dataclass(frozen=True, slots=True)
class Policy:
    """Rules in their order: an allow rule is an exception to the deny rules below it."""

    rules: tuple[Rule, ...]


def tenants_apart(trusted: Iterable[str] = ()) -> Policy:
    """Return what is checked where nobody wrote a policy: different tenants are apart, but for those that are trusted.

    Names of tenants are any text, which a pattern has to spell out.
    """
    names = tuple(map(escape, trusted))
    ends = Selector(excluded=(Selector(tenants=names),)) if names else ANY
    why = "containers of different tenants must not reach each other"
    return Policy((Rule("tenants-apart", why, Effect.DENY, ends, ends, Relation.OTHER),))


@dataclass(frozen=True, slots=True)
class Standards:
    """What a host is held to. `tenant_label` is empty where nobody asks whose containers they are.

    `trusted` are tenants who may reach everybody and be reached, such as the host's owner.
    """

    tenant_label: str = ""
    policy: Policy | None = None
    trusted: tuple[str, ...] = ()

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels of containers that matter, sorted: all others are none of our business."""
        named = {key for rule in self.policy.rules for key in rule.labels} if self.policy else set()
        return tuple(sorted(named | ({self.tenant_label} if self.tenant_label else set())))


NO_STANDARDS: Final = Standards()


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
    """Whose containers are whose by `label`. Tenants are sorted by name.

    `told` is False where an observation was made without the label: nothing is known then. A container without the
    label (`without` counts them) is a tenant of its own. `cross_pairs` are reachable and undecided ordered pairs of
    containers of different tenants of which neither is trusted; None where no container has the label, or nothing is
    known.
    """

    label: str
    told: bool
    tenants: tuple[TenantSummary, ...] = ()
    without: int = 0
    cross_pairs: int | None = None


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
