"""What a host is held to: whose containers are whose, and which of them may reach which."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from glob import escape
from typing import TYPE_CHECKING, Final

from exporter.model.ports import ALL_PORTS, PortSet
from exporter.model.reach import Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


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
