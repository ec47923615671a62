"""Rules that nobody can foresee are counted by name, whatever the names."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given

from exporter.evaluate.unsupported import MOST_NAMES, OTHERS, unsupported
from exporter.model.firewall import (
    AnyOf,
    Backend,
    Chain,
    Dispatch,
    Field,
    Firewall,
    InRanges,
    Opaque,
    Rule,
    Table,
    TableFamily,
    Target,
    Terminate,
    Translate,
    Translation,
    Unforeseeable,
    Verdict,
)
from exporter.model.ranges import Ranges
from tests.publish.strategies import names

if TYPE_CHECKING:
    from exporter.model.firewall import Step

TCP = InRanges(Field.PROTOCOL, Ranges.of(6))
ACCEPT = Terminate(Verdict.ACCEPT)


def firewall(*rules: tuple[Step, ...]) -> Firewall:
    """Return a firewall whose one chain has these rules."""
    chain = Chain("FORWARD", tuple(Rule(steps) for steps in rules))
    return Firewall((Table(TableFamily.IP, "filter", Backend.IPTABLES_NFT, {chain.name: chain}),))


@pytest.mark.parametrize(
    "step",
    [
        Opaque("limit"),
        Unforeseeable("limit"),
        AnyOf(((TCP, Opaque("limit")),)),
        Dispatch((((TCP, Opaque("limit")), ACCEPT),)),
        Dispatch((((TCP,), Unforeseeable("limit")),)),
        Translate(Translation.DNAT, (Target(Ranges(), Ranges(), (Opaque("limit"),)),)),
    ],
)
def test_a_name_is_found_wherever_it_stands(step: Step) -> None:
    """In a match, a statement, an alternative, a verdict map and a map of targets."""
    assert unsupported(firewall((TCP, step, ACCEPT), (TCP, ACCEPT))) == {"limit": 1}


def test_a_rule_counts_once_for_each_name() -> None:
    """Rules are counted, not matches."""
    found = unsupported(firewall((Opaque("limit"), Opaque("limit"), Opaque("time")), (Opaque("limit"),)))
    assert found == {"limit": 2, "time": 1}


def test_the_rarest_names_are_counted_together() -> None:
    """However many names there are, the metric has a bounded number of series."""
    rules = [(Opaque(f"match{number:03}"),) for number in range(100)]
    found = unsupported(firewall((Opaque("limit"),), (Opaque("limit"),), *rules))
    assert len(found) == MOST_NAMES + 1
    assert found["limit"] == 2
    assert sum(found.values()) == 102
    assert list(found)[-1] == OTHERS


@given(names)
def test_names_become_plain(name: str) -> None:
    """What is left of a name is short and plain, whoever chose it."""
    ((clean, rules),) = unsupported(firewall((Opaque(name),))).items()
    assert rules == 1
    assert clean
    assert len(clean) <= 32
    assert clean.isascii()
    assert clean.isprintable()
