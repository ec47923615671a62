"""Rules whose effect nobody can foresee, by the name of what is not understood in them."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

from exporter.model.firewall import AnyOf, Dispatch, Divert, Opaque, Rewrite, Translate, Unforeseeable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from exporter.model.firewall import Firewall, Step

MOST_NAMES = 20
"""Names that are told apart. Whoever may write rules chooses them; the rest is counted together."""

OTHERS = "other"

_LONGEST = 32
_UNUSUAL = re.compile(r"[^a-z0-9_.-]+")


def unsupported(firewall: Firewall) -> Mapping[str, int]:
    """Return the numbers of rules with such a match or statement by its name, the most frequent first."""
    chains = (chain for table in firewall.tables for chain in table.chains.values())
    told = (rule for chain in chains for rule in chain.holding(_TELLING))
    found = Counter(name for rule in told for name in {_clean(name) for name in _names(rule.steps)})
    ranked = sorted(found.items(), key=lambda item: (item[0] == OTHERS, -item[1], item[0]))
    named, rest = dict(ranked[:MOST_NAMES]), ranked[MOST_NAMES:]
    if rest:
        named[OTHERS] = named.get(OTHERS, 0) + sum(rules for _, rules in rest)
    return named


def _names(steps: Iterable[Step]) -> Iterator[str]:
    for step in steps:
        match step:
            case Opaque(name) | Unforeseeable(name) | Divert(name):
                yield name
            case Rewrite(name, _, targets):
                yield name
                yield from _names(match for target in targets for match in target.matches)
            case AnyOf(alternatives):
                yield from _names(match for alternative in alternatives for match in alternative)
            case Dispatch(cases):
                for matches, statement in cases:
                    yield from _names((*matches, statement))
            case Translate(targets=targets):
                yield from _names(match for target in targets for match in target.matches)


_TELLING = frozenset({Opaque, Unforeseeable, Rewrite, Divert, AnyOf, Dispatch, Translate})
"""Steps that may hold a name; most rules have none of them."""


def _clean(name: str) -> str:
    return _UNUSUAL.sub(" ", name.lower()).strip()[:_LONGEST].rstrip() or OTHERS
