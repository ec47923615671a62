"""Chains of type nat where nothing asks for conntrack: the kernel calls none of them. Packets are the judge.

On the default bridge, where no rules for a resolver are in containers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.conformance.runner import built
from tests.lab import Container, Topology

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conformance.runner import Built

pytestmark = pytest.mark.lab

TOPOLOGY = Topology(
    args=("--ipv6", "--fixed-cidr-v6=fd00:dead:b::/64"), containers=(Container("near"), Container("next"))
)
DROPS = "nft 'table inet odd { chain in { type nat hook input priority 100; tcp dport 80 drop; udp dport 80 drop; }; }'"
SENT = "nft 'table inet odd { chain out { type nat hook output priority -100; policy drop; tcp dport 80 accept; }; }'"
GONE = "nft flush ruleset"


def beside(family: str, rule: str) -> str:
    """Return how somebody makes a rule that no packet comes to."""
    return f"nft 'table {family} beside {{ chain c {{ {rule}; }}; }}'"


CASES = {
    "alone": DROPS,
    "of what is sent": SENT,
    "beside rules that keep no state": f"{DROPS}; {beside('inet', 'limit rate 9/second reject')}",
    "not tracked": f"{DROPS}; {beside('ip', 'notrack')}",
    "with conntrack for IPv4": f"{DROPS}; {beside('ip', 'ct state invalid drop')}",
    "with conntrack for IPv6": f"{SENT}; ip6tables -A FORWARD -m conntrack --ctstate NEW -j ACCEPT",
    "with conntrack for both": f"{SENT}; {beside('inet', 'ct mark 1 drop')}",
    "with a translation": f"{DROPS}; iptables -t nat -A POSTROUTING -d 192.0.2.7 -j MASQUERADE",
}


@pytest.fixture(scope="module")
def host() -> Iterator[Built]:
    """Have two containers on the default bridge."""
    with built(TOPOLOGY) as made:
        yield made


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_chains_of_nat_are_called_where_conntrack_is_asked_for(host: Built, case: str) -> None:
    """What they would drop arrives where it is not, by each version of IP for itself."""
    outcome = host.done("nat", "true", "true", {"next": (case, GONE)})
    assert outcome.enforced.disagreements == ()
    assert outcome.enforced.doubts == frozenset()
    assert outcome.unlike == ()
