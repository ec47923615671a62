"""Which of several addresses of IPv6 packets come from by the labels of addresses, on a real engine.

Whoever receives them drops of each source something else, so that another choice would show.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from tests.conformance.changes import Change
from tests.conformance.routed import dual_stack, let_through
from tests.conformance.runner import changed
from tests.lab import Container, Topology

if TYPE_CHECKING:
    from tests.conformance.runner import Outcome

pytestmark = pytest.mark.lab

TOPOLOGY: Final = Topology(
    networks=dual_stack("one", "two"),
    containers=(
        Container("server", "one", flags=("--ip6=fd00:a::11",)),
        Container("usual", "one", flags=("--ip6=fd00:a::12",)),
        Container("changed", "one", flags=("--ip6=fd00:a::13",)),
        Container("flushed", "one", flags=("--ip6=fd00:a::14",)),
        Container("far", "two"),
    ),
    host=let_through("-F POSTROUTING"),
)
TEREDO, SIX_TO_FOUR, ORCHID, ULA = "2001::1", "2002:77::1", "2001:10::1", "fd00:77::1"
LIKE_TEREDO, LIKE_SIX_TO_FOUR, LIKE_ORCHID = "2001:db8::1", "2003::1", "2001:3f::1"
BY_CARD, BY_LOOPBACK = "fd00:78::1", "fd00:79::1"
DESTINATIONS: Final = (
    TEREDO, SIX_TO_FOUR, ORCHID, ULA, LIKE_TEREDO, LIKE_SIX_TO_FOUR, LIKE_ORCHID, BY_CARD, BY_LOOPBACK,
)  # fmt: skip
LOST: Final = {"icmp": "icmpv6 --icmpv6-type echo-request", "tcp": "tcp", "udp": "udp"}
"""What to drop of a protocol."""


def senders(last: int) -> dict[str, tuple[str, ...]]:
    """Return the addresses of one who sends, with the protocols by which the server takes nothing from there."""
    return {
        f"fd00:a::{last}": (),
        f"2001:0:1::{last}": ("tcp",),
        f"2002:1::{last}": ("udp",),
        f"2001:10:1::{last}": ("icmp",),
        f"2400::{last}": ("tcp", "udp"),
    }


def addressed(last: int) -> tuple[str, ...]:
    """Return commands that give somebody these addresses, and ways to the server's."""
    # the first one is there
    added = (f"ip address add {own}/64 dev eth0 nodad" for own in list(senders(last))[1:])
    return *added, *(f"ip -6 route add {each} via fd00:a::11" for each in DESTINATIONS)


CHANGES: Final = (
    Change(
        "server",
        (
            *(f"ip address add {each}/128 dev lo nodad" for each in DESTINATIONS),
            *(f"ip -6 route add {each} dev eth0" for each in ("2001:0:1::/64", "2002:1::/64", "2001:10:1::/64")),
            "ip -6 route add 2400::/64 dev eth0; ip -6 route add 2400:2::/64 dev eth0",
            *(
                f"ip6tables -w -A INPUT -s {source} -p {LOST[protocol]} -j DROP"
                for last in (12, 13, 14)
                for source, protocols in senders(last).items()
                for protocol in protocols
            ),
            "ip6tables -w -A INPUT -s 2400:2::1 -p tcp -j DROP",
        ),
        "server",
    ),
    Change("usual", addressed(12), "usual"),
    Change(
        "changed",
        (
            *addressed(13),
            "ip addrlabel add prefix fd00:77::/64 label 99; ip addrlabel add prefix 2400::/64 label 99",
            "ip addrlabel add prefix fd00:78::/64 dev eth0 label 98; ip addrlabel add prefix fd00:78::/64 label 97",
            "ip addrlabel add prefix 2002:1::/64 dev eth0 label 98",
            "ip addrlabel add prefix fd00:79::/64 dev lo label 99",
            "ip addrlabel del prefix 2001::/32 label 6",
        ),
        "changed",
    ),
    Change("flushed", (*addressed(14), "ip addrlabel flush"), "flushed"),
    Change(
        "masquerading",
        (
            "ip address add 2400:2::1/64 dev brone nodad",
            *(f"ip -6 route add {each} via fd00:a::11" for each in (ULA, BY_CARD)),
            "ip6tables -w -t nat -A POSTROUTING -s fd00:b::/64 -o brone -j MASQUERADE",
            "ip addrlabel add prefix fd00:77::/64 label 99; ip addrlabel add prefix 2400:2::/64 label 99",
        ),
    ),
)


@pytest.fixture(scope="module")
def outcome() -> Outcome:
    """Do it all, and compare."""
    return changed(TOPOLOGY, CHANGES)


def test_packets_agree(outcome: Outcome) -> None:
    """No verdict is wrong, and none is open."""
    assert outcome.report.missing == {}
    assert outcome.enforced.disagreements == ()
    assert not outcome.enforced.doubts
    assert outcome.unlike == ()


def lost(outcome: Outcome, source: str, address: str) -> tuple[str, ...]:
    """Return the protocols by which packets to an address do not arrive at the server."""
    ends = source, address, "server"
    told = outcome.truth.packets.arrived
    found = {each.protocol for each in told if (each.source, each.address, each.destination) == ends}
    return tuple(name for name in LOST if name not in found)


OF_TEREDO, OF_SIX_TO_FOUR, OF_ORCHID, OF_OTHERS = ("tcp",), ("udp",), ("icmp",), ("tcp", "udp")


@pytest.mark.parametrize(
    ("sender", "address", "expected"),
    [
        ("usual", ULA, ()),
        ("usual", TEREDO, OF_TEREDO),
        ("usual", SIX_TO_FOUR, OF_SIX_TO_FOUR),
        ("usual", ORCHID, OF_ORCHID),
        ("usual", LIKE_TEREDO, OF_OTHERS),
        ("usual", LIKE_SIX_TO_FOUR, OF_OTHERS),
        ("usual", LIKE_ORCHID, OF_OTHERS),
        ("changed", ULA, OF_OTHERS),
        ("changed", LIKE_TEREDO, OF_TEREDO),
        ("changed", BY_CARD, OF_SIX_TO_FOUR),
        ("changed", BY_LOOPBACK, ()),
        ("flushed", ULA, ()),
        ("flushed", LIKE_TEREDO, OF_TEREDO),
        ("flushed", LIKE_SIX_TO_FOUR, OF_SIX_TO_FOUR),
        ("flushed", LIKE_ORCHID, OF_TEREDO),
        ("far", ULA, ("tcp",)),
        ("far", BY_CARD, ()),
    ],
)
def test_labels_go_before_bits(outcome: Outcome, sender: str, address: str, expected: tuple[str, ...]) -> None:
    """Those that the kernel begins with are followed as well, and without any it is bits, and whether it is an ORCHID.

    Where somebody removed the label of Teredo, its addresses have the one of all others. What is masqueraded goes by
    the host's.
    """
    assert lost(outcome, sender, address) == expected
