"""Policies of IPsec: what lets packets pass as they are, and what is no policy."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

import pytest

from exporter.errors import ObservationError
from exporter.model.namespace import Direction, IpsecPolicy
from exporter.parse.kernel.ipsec import parse_policies

ONE = {"dir": "out", "src": "10.0.0.0/8", "dst": "192.0.2.0/24", "priority": 1, "action": "allow"}


@pytest.mark.parametrize(
    ("told", "passes", "narrow"),
    [
        ({}, True, False),
        ({"templates": True}, False, False),
        ({"action": "block"}, False, False),
        ({"action": "of tomorrow"}, False, False),
        ({"narrow": True}, True, True),
    ],
)
def test_only_what_allows_packets_as_they_are_lets_them_pass(told: dict[str, Any], passes: bool, narrow: bool) -> None:
    """A policy with templates wants them transformed."""
    expected = IpsecPolicy(Direction.OUT, ip_network("10.0.0.0/8"), ip_network("192.0.2.0/24"), passes, narrow)
    assert parse_policies([{**ONE, **told}]) == (expected,)


def test_lower_priorities_are_asked_first_and_of_one_those_that_leave_things_undecided() -> None:
    """The kernel does not tell which of one priority it asks first."""
    told = [{**ONE, "priority": 9}, {**ONE, "priority": 9, "action": "block"}, {**ONE, "priority": 5}]
    assert [policy.passes for policy in parse_policies(told)] == [True, False, True]


@pytest.mark.parametrize("told", [{"dir": "sideways"}, {"src": "nowhere"}, {"dst": "::/0"}, {"src": ""}])
def test_what_is_no_policy_is_refused(told: dict[str, str]) -> None:
    """A saved observation may hold anything."""
    with pytest.raises(ObservationError, match="a policy of IPsec"):
        parse_policies([{**ONE, **told}])
