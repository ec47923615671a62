"""Cases in which packets once disagreed with a verdict, kept as they were found."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from exporter.model.observation import FormerAddress, FormerLink
from tests.hosts import ALL, NOW, Host, host, identity
from tests.looks import CLOSED, OPEN, UNKNOWN

CARD = "198.51.100.10"
"""An address of the host's that is on no bridge."""

released = pytest.mark.parametrize("version", ["20.10", "26.1", "28.5"])
newest = pytest.mark.parametrize("version", ["29", "29 nft"])


@released
def test_other_loopback_addresses_are_reached_from_the_host(version: str) -> None:
    """A port published on 127.0.0.2 is open to containers in host mode at that address."""
    seen = host(version).container("a", publish=["127.0.0.2:8080:80"]).container("h", "host").look()
    assert seen.probe("h", "a", "127.0.0.2", "8080/tcp") == OPEN
    assert seen.probe("h", "a", "127.0.0.1", "8080/tcp") == CLOSED


@released
def test_other_loopback_addresses_are_every_namespaces_own(version: str) -> None:
    """Who shares a namespace is reached on 127.0.0.2, too, where that address is spoken of at all."""
    built = host(version).container("a", publish=["127.0.0.2:8080:80"]).container("b", "none")
    seen = built.container("c", "container:b").look()
    assert seen.probe("b", "c", "127.0.0.2", "8080/tcp") == OPEN


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


@newest
def test_newest_hosts_that_do_not_forward(version: str) -> None:
    """What needs to be forwarded is closed by IPv4 and undecided by IPv6; docker-proxy and the host need nothing."""
    built = host(version, ipv6=True, IPv4Forwarding=False).network("net", ipv6=True)
    built.network("open", ipv6=True, gateway_mode_ipv4="nat-unprotected", gateway_mode_ipv6="nat-unprotected")
    built.container("a").container("h", "host").container("o", "open").container("c", "net", publish=["8080:80"])
    seen = built.container("d", "net").look()
    assert seen.direct("a", "o", "open", "80/tcp") == CLOSED
    assert seen.direct("a", "o", "open", "80/tcp", family=6) == UNKNOWN
    assert seen.probe("a", "c", seen.gateway(), "8080/tcp") == CLOSED
    assert seen.probe("a", "c", seen.gateway(family=6), "8080/tcp") == UNKNOWN
    assert seen.probe("d", "c", seen.gateway("net"), "8080/tcp") == OPEN
    assert seen.probe("h", "c", seen.gateway(), "8080/tcp") == OPEN
    assert seen.direct("d", "c", "net", "80/tcp") == OPEN
    assert any("whether the host forwards IPv6" in reason for reason in seen.reasons("a", "c"))


@newest
def test_newest_hosts_that_do_not_forward_between_neighbours(version: str) -> None:
    """Without docker-proxy, what is rewritten has to be forwarded even to the bridge that it came from."""
    built = host(version, ipv6=True, userland_proxy=False, IPv4Forwarding=False).container("a")
    seen = built.container("b", publish=["8080:80"]).look()
    assert seen.probe("a", "b", seen.gateway(), "8080/tcp") == CLOSED
    assert seen.probe("a", "b", seen.gateway(family=6), "8080/tcp") == UNKNOWN


def with_router(version: str, *, userland_proxy: bool = True) -> Host:
    """Return a on a network whose default routes lead to a router, b on one where they lead to the host."""
    built = host(version, userland_proxy=userland_proxy).network("lan", routers=True).network("net")
    built.network("plain", enable_ip_masquerade="false").container("h", "host")
    built.container("a", "lan", publish=["8080:80", "8081:80/udp", f"{CARD}:8082:80", f"{CARD}:8083:80/udp"])
    return built.container("b", "net", publish=["8084:80"])


@pytest.mark.parametrize("version", ALL)
def test_a_default_route_to_a_router_leads_nowhere_known(version: str) -> None:
    """Behind a router, the host is at its address on the own bridge and nowhere else."""
    seen = with_router(version).look()
    assert seen.gateway("lan") == "172.20.0.1"
    assert seen.probe("a", "b", seen.gateway("lan"), "8084/tcp") == OPEN
    assert seen.probe("a", "b", seen.gateway("net"), "8084/tcp") == CLOSED
    assert seen.probe("a", "h", seen.gateway("lan"), "7777/tcp") == OPEN
    assert seen.probe("a", "h", CARD, "7777/tcp") == CLOSED
    assert seen.assumes("outside the host", "lan")


@pytest.mark.parametrize("version", ALL)
def test_who_is_behind_a_router_answers_where_it_finds_back(version: str) -> None:
    """What the host sends to a card's address comes from there; from a bridge it is masqueraded, unless it is plain."""
    seen = with_router(version).look()
    assert seen.direct("h", "a", "lan", "80/tcp") == OPEN
    assert seen.probe("h", "a", seen.gateway("lan"), "8080/tcp") == OPEN
    assert seen.probe("h", "a", seen.gateway("net"), "8080/tcp") == OPEN
    assert seen.probe("h", "a", seen.gateway("plain"), "8080/tcp") == CLOSED
    assert seen.probe("h", "a", seen.gateway("plain"), "8081/udp") == OPEN
    assert seen.probe("h", "a", CARD, "8082/tcp") == CLOSED
    assert seen.probe("h", "a", CARD, "8083/udp") == OPEN
    assert seen.probe("h", "a", "127.0.0.1", "8080/tcp") == OPEN
    assert seen.probe("b", "a", seen.gateway("lan"), "8080/tcp") == OPEN


@newest
def test_without_docker_proxy_the_host_is_masqueraded(version: str) -> None:
    """Who is behind a router answers the host at each of its addresses then."""
    seen = with_router(version, userland_proxy=False).look()
    assert seen.probe("h", "a", CARD, "8082/tcp") == OPEN


@newest
def test_who_is_not_masqueraded_gets_no_answer_from_behind_a_router(version: str) -> None:
    """A routed bridge sends with its containers' own addresses, to which only the host knows the way back."""
    built = with_router(version).network("routed", gateway_mode_ipv4="routed").container("r", "routed")
    seen = built.look()
    assert seen.probe("r", "b", seen.gateway(), "8084/tcp") == OPEN
    assert seen.probe("r", "a", seen.gateway(), "8080/tcp") == CLOSED
    assert seen.probe("r", "a", seen.gateway(), "8081/udp") == OPEN


def moved(version: str, *, parent: str = "3 hours", userland_proxy: bool = True) -> Host:
    """Return a that holds a link to b, which was seen at an address that c has now, a minute ago."""
    built = host(version, icc=False, userland_proxy=userland_proxy).container("a", links=["b"], up=parent)
    built.container("b", up="3 hours", expose=["80"], publish=["8080:80"]).container("c", up="3 hours")
    taken = FormerAddress("172.17.0.4", NOW - timedelta(minutes=1))
    built.seen("a", parent).seen("b", "3 hours", before=3600)
    built.sightings[identity("container", "b")] = replace(built.sightings[identity("container", "b")], former=(taken,))
    return built


@pytest.mark.parametrize("version", ALL)
def test_a_linked_container_that_moved(version: str) -> None:
    """The engine keeps the rule for the old address, also when another container has it now."""
    seen = moved(version).look()
    assert seen.direct("a", "b", "bridge", "80/tcp") == UNKNOWN
    assert seen.direct("a", "c", "bridge", "80/tcp") == UNKNOWN
    assert seen.direct("a", "c", "bridge", "81/tcp") == CLOSED
    assert seen.verdict("c", "a") == CLOSED
    assert any("another address" in reason for reason in seen.reasons("a", "b"))
    assert any("belonged to a linked container" in reason for reason in seen.reasons("a", "c"))


@pytest.mark.parametrize("version", ALL)
def test_a_parent_that_started_after_its_child_moved(version: str) -> None:
    """The engine writes a link's rules when the parent starts, for the address of that moment."""
    seen = moved(version, parent="3 seconds").look()
    assert seen.direct("a", "b", "bridge", "80/tcp") == OPEN
    assert seen.verdict("a", "c") == CLOSED


@pytest.mark.parametrize("version", ALL)
def test_a_linked_container_that_has_ended(version: str) -> None:
    """Its address may still be open to who held the link, whoever has it now."""
    built = host(version, icc=False).container("web", up="3 hours").container("heir").container("db", expose=["80"])
    built.seen("web", "3 hours")
    sighting = built.sightings[identity("container", "web")]
    left = (
        FormerLink("172.17.0.3", ("5432/tcp", "53/udp", "nonsense", "99999/tcp", "9" * 5000 + "/tcp")),
        FormerLink("172.17.0.99"),
    )
    built.sightings[identity("container", "web")] = replace(sighting, left=left)
    seen = built.look()
    assert seen.ip("heir") == "172.17.0.3"
    assert seen.direct("web", "heir", "bridge", "5432/tcp") == UNKNOWN
    assert seen.direct("web", "heir", "bridge", "53/udp") == UNKNOWN
    assert seen.direct("web", "heir", "bridge", "80/tcp") == CLOSED
    assert (seen.verdict("heir", "web"), seen.verdict("web", "db")) == (CLOSED, CLOSED)


@newest
def test_a_doubtful_link_makes_a_published_port_doubtful(version: str) -> None:
    """Without docker-proxy, a neighbour's published port is as open as the link to it."""
    seen = moved(version, userland_proxy=False).look()
    assert seen.probe("a", "b", seen.gateway(), "8080/tcp") == UNKNOWN
    assert seen.probe("c", "b", seen.gateway(), "8080/tcp") == CLOSED


@pytest.mark.parametrize("version", ALL)
def test_a_linked_container_that_came_back_lists_no_ports(version: str) -> None:
    """Engines forget a container's ports in the list when it leaves a network: what the link opens is not known."""
    built = host(version, icc=False).network("other").container("db", "bridge", "other").container("web", links=["db"])
    assert built.look().probe("web", "db", "172.17.0.2", "5432/tcp") == UNKNOWN
    alone = host(version, icc=False).container("db").container("web", links=["db"])
    assert alone.look().probe("web", "db", "172.17.0.2", "5432/tcp") == CLOSED
