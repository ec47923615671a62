"""The rules of real engines, as iptables-save printed them."""

from __future__ import annotations

from pathlib import Path

import pytest

from exporter.model.firewall import Call, Terminate, Translate
from tests.parse.kernel.rules import doubts, tables

DATA = Path(__file__).parent.parent.parent / "data" / "iptables"
DUMPS = sorted(DATA.glob("moby-*"))


@pytest.mark.parametrize("path", DUMPS, ids=lambda path: path.name)
def test_an_engines_rules_are_understood(path: Path) -> None:
    """No rule that an engine makes has a match or a target that is not understood, and every call leads to a chain."""
    text = path.read_text()
    found = tables(text, int(path.suffix[-1]), ipsets=None)
    rules = [(table, rule) for table in found for chain in table.chains.values() for rule in chain.rules]
    assert len(rules) == sum("] -A " in line for line in text.split("\n"))
    assert not any(doubts(rule) for _, rule in rules)
    for table, rule in rules:
        assert all(step.chain in table.chains for step in rule.steps if isinstance(step, Call))
        assert isinstance(rule.steps[-1], Call | Terminate | Translate)


@pytest.mark.parametrize("path", DUMPS, ids=lambda path: path.name)
def test_an_engine_translates_published_ports(path: Path) -> None:
    """The chain for published ports leads to containers of the file's family."""
    found = {table.name: table.chains for table in tables(path.read_text(), int(path.suffix[-1]), ipsets=None)}
    published = [step for rule in found["nat"]["DOCKER"].rules for step in rule.steps if isinstance(step, Translate)]
    assert published
    assert all(step.targets[0].addresses and step.targets[0].ports for step in published)
