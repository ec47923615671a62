"""Cases in which packets once disagreed with a verdict, kept as they were found."""

from __future__ import annotations

import pytest

from tests.hosts import host
from tests.looks import CLOSED, OPEN


@pytest.mark.parametrize("version", ["20.10", "26.1", "28.5"])
def test_other_loopback_addresses_are_reached_from_the_host(version: str) -> None:
    """A port published on 127.0.0.2 is open to containers in host mode at that address."""
    seen = host(version).container("a", publish=["127.0.0.2:8080:80"]).container("h", "host").look()
    assert seen.probe("h", "a", "127.0.0.2", "8080/tcp") == OPEN
    assert seen.probe("h", "a", "127.0.0.1", "8080/tcp") == CLOSED


def test_routed_internal_networks_let_no_echo_in() -> None:
    """The rules of an internal network come before the one that lets echo into a routed one."""
    built = host("28.5").network("in", internal=True, gateway_mode_ipv4="routed", enable_icc="false")
    seen = built.container("a", "in").container("b", "in").container("c").look()
    assert seen.direct("c", "a", "in", "icmp") == CLOSED
    assert seen.direct("b", "a", "in", "icmp") == CLOSED


def test_nothing_is_routed_where_the_host_does_not_forward() -> None:
    """With IPv4Forwarding false, a routed network does not even let echo in from other bridges."""
    built = host("28.5").network("open", gateway_mode_ipv4="routed").container("a").container("b", "open")
    assert built.look().direct("a", "b", "open", "icmp") == OPEN
    built.info["IPv4Forwarding"] = False
    assert built.look().direct("a", "b", "open", "icmp") == CLOSED
