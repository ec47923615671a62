"""Real nft, in a network namespace of its own."""

from __future__ import annotations

import re
import subprocess
from collections import defaultdict
from typing import TYPE_CHECKING

import pytest

from exporter.parse.kernel import nft_names
from tests.parse.kernel.nft import expected, listed, only, rule, source

if TYPE_CHECKING:
    from collections.abc import Mapping

pytestmark = pytest.mark.lab

CHAINS: dict[tuple[str, str], list[str]] = defaultdict(list)
for _family, _chain, _said in expected():
    CHAINS[_family, _chain].append(_said)


@pytest.mark.parametrize(("family", "chain"), CHAINS)
def test_what_is_printed_here_means_what_was_recorded(family: str, chain: str) -> None:
    """The nft and the kernel of this machine give every rule of the tests the same steps.

    What changes a set is not listed beside what asks for it, which means something else then.
    """
    changing = [said for said in CHAINS[family, chain] if re.match(r"(add|update|delete) @", said)]
    asking = [said for said in CHAINS[family, chain] if said not in changing]
    for rules in filter(None, (asking, changing)):
        found = only(listed(source(family, chain, rules))).chains["c"]
        assert found.base is not None
        for said, each in zip(rules, found.rules, strict=True):
            assert each.steps == rule(said, family, chain).steps, said


@pytest.mark.parametrize(
    ("said", "names"),
    [
        ("icmp type", nft_names.ICMP_TYPES),
        ("icmp code", nft_names.ICMP_CODES),
        ("icmpv6 type", nft_names.ICMPV6_TYPES),
        ("icmpv6 code", nft_names.ICMPV6_CODES),
        ("meta iiftype", nft_names.INTERFACE_TYPES),
        ("meta pkttype", nft_names.PACKET_TYPES),
        ("ether type", nft_names.ETHER_TYPES),
        ("ct state", nft_names.STATES),
        ("ct status", nft_names.STATUSES),
        ("ct direction", nft_names.DIRECTIONS),
        ("tcp flags", nft_names.TCP_FLAGS),
        ("meta l4proto", nft_names.TRANSPORTS),
    ],
)
def test_names_are_those_of_nft(said: str, names: Mapping[str, int]) -> None:
    """Every name that nft may print stands for the number that it says itself."""
    done = subprocess.run(["nft", "describe", *said.split()], capture_output=True, text=True, check=True, timeout=60)
    printed = dict(re.findall(r"^\t(\S+)\s+(\d\w*)$", done.stdout, re.MULTILINE))
    assert printed
    assert {name: names[name] for name in printed} == {name: int(number, 0) for name, number in printed.items()}
