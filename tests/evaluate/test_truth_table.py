"""Who reaches whom per engine: the rows of the truth table, a column per release.

What the engine's API does not tell is either undecided, with what must be known, or an assumption that the report
names. Rows that only the kernel decides: 3 on engines from 28.0 (br_netfilter), 14 with --allow-direct-routing,
29 (ports of swarm services), 31 (--iptables=false); 33 (frames that are not IP) is no pair's path at all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.hosts import ALL, Host, host
from tests.looks import CLOSED, OPEN, UNKNOWN

if TYPE_CHECKING:
    from exporter.model.reach import Verdict

EVERYTHING = ("80/tcp", "7777/udp", "icmp")
MANAGED_V6 = ("28.5", "29", "29 nft")

engines = pytest.mark.parametrize("version", ALL)


def columns(*verdicts: Verdict) -> pytest.MarkDecorator:
    """Parametrise a test with the truth table's columns: 20.10, 26.1, 28.5, 29 with iptables, 29 with nftables."""
    return pytest.mark.parametrize(("version", "expected"), list(zip(ALL, verdicts, strict=True)), ids=ALL)


def neighbours(version: str, *, icc: str, ipv6: bool = False) -> Host:
    """Return two containers, a and b, on one user-defined bridge."""
    return host(version).network("net", ipv6=ipv6, enable_icc=icc).container("a", "net").container("b", "net")


def strangers(version: str, mode: str = "nat") -> Host:
    """Return a on one bridge, and b on another in a gateway mode, with port 80 published as 8080."""
    return (
        host(version)
        .network("left")
        .network("right", gateway_mode_ipv4=mode)
        .container("a", "left")
        .container("b", "right", publish=["8080:80"])
    )


@engines
@pytest.mark.parametrize("what", EVERYTHING)
def test_row_1_one_bridge_with_icc_is_open(version: str, what: str) -> None:
    """Containers on one bridge with ICC reach each other's every port, exposed or not, and ping."""
    assert neighbours(version, icc="true").look().direct("a", "b", "net", what) == OPEN


@engines
@pytest.mark.parametrize("what", EVERYTHING)
def test_row_2_one_bridge_without_icc_is_closed(version: str, what: str) -> None:
    """Without ICC nothing passes between two addresses of a bridge, either way."""
    seen = neighbours(version, icc="false").look()
    assert seen.direct("a", "b", "net", what) == CLOSED
    assert seen.verdict("b", "a") == CLOSED


@columns(OPEN, CLOSED, CLOSED, CLOSED, CLOSED)
def test_row_3_icc_needs_br_netfilter(version: str, expected: Verdict) -> None:
    """Where the engine tells that br_netfilter is off, icc=false closes nothing; later engines cannot tell."""
    seen = (
        host(version, icc=False, BridgeNfIptables=False, BridgeNfIp6tables=False).container("a").container("b").look()
    )
    assert seen.verdict("a", "b") == expected
    assert seen.assumes("bridge", "br_netfilter") is (expected == CLOSED)


@columns(OPEN, OPEN, CLOSED, CLOSED, CLOSED)
def test_row_4_icc_of_ipv6_needs_ip6tables(version: str, expected: Verdict) -> None:
    """Engines before 27.0 write no ip6tables rules by default, so icc=false is a promise about IPv4 only."""
    seen = neighbours(version, icc="false", ipv6=True).look()
    assert seen.direct("a", "b", "net", "80/tcp", family=6) == expected
    assert seen.direct("a", "b", "net", "80/tcp") == CLOSED
    assert seen.verdict("a", "b") == expected


@engines
def test_rows_5_and_6_a_link_opens_the_exposed_port_one_way(version: str) -> None:
    """A link lets its parent to the child's exposed ports and no further, and does not let the child back."""
    seen = host(version, icc=False).container("a", links=["b"]).container("b", expose=["80"]).look()
    assert seen.direct("a", "b", "bridge", "80/tcp") == OPEN
    assert seen.direct("a", "b", "bridge", "80/udp") == CLOSED
    assert seen.direct("a", "b", "bridge", "7777/tcp") == CLOSED
    assert seen.direct("a", "b", "bridge", "icmp") == CLOSED
    assert seen.verdict("b", "a") == CLOSED
    assert "from source port 80/tcp" in seen.why("b", "a")


@engines
def test_row_7_links_of_user_networks_open_nothing(version: str) -> None:
    """A link between containers of a user-defined network is a name only."""
    built = host(version).network("net", enable_icc="false")
    seen = built.container("a", "net", links=["b"]).container("b", "net", expose=["80"]).look()
    assert seen.verdict("a", "b") == CLOSED


@engines
def test_row_8_docker_proxy_leads_around_icc(version: str) -> None:
    """A port published by a peer is open by the gateway's address where docker-proxy runs, whatever ICC says."""
    seen = host(version, icc=False).container("a").container("b", publish=["8080:80"]).look()
    assert seen.probe("a", "b", seen.gateway(), "8080/tcp") == OPEN
    assert seen.probe("a", "b", seen.gateway(), "80/tcp") == CLOSED
    assert seen.direct("a", "b", "bridge", "80/tcp") == CLOSED


@columns(UNKNOWN, UNKNOWN, UNKNOWN, CLOSED, CLOSED)
def test_row_8_without_docker_proxy_icc_holds(version: str, expected: Verdict) -> None:
    """Without docker-proxy the port is rewritten, and icc=false drops it; before 29.5 nothing says that it is off."""
    built = host(version, icc=False, userland_proxy=False).container("a").container("b", publish=["8080:80"])
    seen = built.look()
    assert seen.verdict("a", "b") == expected
    assert all("docker-proxy" in reason for reason in seen.reasons("a", "b"))


@engines
@pytest.mark.parametrize("what", EVERYTHING)
def test_row_9_bridges_are_closed_to_each_other(version: str, what: str) -> None:
    """Nothing passes from one bridge to an address on another, published port or not."""
    assert strangers(version).look().direct("a", "b", "right", what) == CLOSED


@engines
@pytest.mark.parametrize("via", ["left", "right", "bridge"])
def test_row_10_published_ports_between_bridges(version: str, via: str) -> None:
    """A published port is open to other bridges by any gateway, where docker-proxy runs."""
    seen = strangers(version).look()
    assert seen.probe("a", "b", seen.gateway(via), "8080/tcp") == OPEN


@columns(UNKNOWN, UNKNOWN, UNKNOWN, OPEN, OPEN)
def test_row_10_without_docker_proxy(version: str, expected: Verdict) -> None:
    """From 29.0 on published ports are open to other bridges without docker-proxy too."""
    built = host(version, userland_proxy=False).network("net").container("a", "net")
    seen = built.container("b", publish=["8080:80"]).look()
    assert seen.probe("a", "b", seen.gateway("net"), "8080/tcp") == expected


@columns(CLOSED, CLOSED, CLOSED, OPEN, OPEN)
def test_row_11_published_ports_from_a_bridge_without_masquerade(version: str, expected: Verdict) -> None:
    """From 29.0 on a datagram arrives, but the answer that TCP needs is dropped as direct access to the source."""
    built = host(version).network("plain", enable_ip_masquerade="false").container("a", "plain")
    seen = built.container("b", publish=["8080:80", "8080:80/udp"]).look()
    assert seen.probe("a", "b", seen.gateway("plain"), "8080/udp") == expected
    assert seen.probe("a", "b", seen.gateway("plain"), "8080/tcp") == CLOSED


@columns(CLOSED, CLOSED, OPEN, OPEN, OPEN)
def test_row_12_routed_networks(version: str, expected: Verdict) -> None:
    """Other bridges reach published ports of a routed network, and ping it, at the container's own address."""
    built = host(version).network("left").network("right", gateway_mode_ipv4="routed").container("a", "left")
    seen = built.container("b", "right", routed=["80"]).look()
    assert seen.direct("a", "b", "right", "80/tcp") == expected
    assert seen.direct("a", "b", "right", "icmp") == expected
    assert seen.direct("a", "b", "right", "7777/tcp") == CLOSED


@columns(CLOSED, CLOSED, CLOSED, OPEN, OPEN)
@pytest.mark.parametrize("what", EVERYTHING)
def test_row_13_nat_unprotected_networks(version: str, expected: Verdict, what: str) -> None:
    """From 29.0 on a nat-unprotected network is open to other bridges altogether."""
    seen = strangers(version, "nat-unprotected").look()
    assert seen.direct("a", "b", "right", what) == expected


@columns(CLOSED, CLOSED, CLOSED, OPEN, OPEN)
def test_row_14_trusted_host_interfaces(version: str, expected: Verdict) -> None:
    """From 29.0 on a bridge that another network trusts reaches that network's published ports, and no others."""
    built = host(version).network("left", name="br-left").network("right", trusted_host_interfaces="eth0:br-left")
    seen = built.container("a", "left").container("b", "right", publish=["8080:80"]).look()
    assert seen.direct("a", "b", "right", "80/tcp") == expected
    assert seen.direct("a", "b", "right", "7777/tcp") == CLOSED
    assert seen.direct("a", "b", "right", "icmp") == CLOSED


@pytest.mark.parametrize("version", ["29", "29 nft"])
def test_row_14_direct_routing_is_an_assumption(version: str) -> None:
    """The API does not tell --allow-direct-routing, which opens published ports at the container's own address."""
    assert strangers(version).look().assumes("--allow-direct-routing")


@engines
def test_row_15_loopback_publications(version: str) -> None:
    """A port published on 127.0.0.1 is open to containers in host mode and to nobody else."""
    built = host(version).container("a").container("b", publish=["127.0.0.1:8080:80"]).container("h", "host")
    seen = built.network("net").container("c", "net").look()
    assert {seen.probe(name, "b", "127.0.0.1", "8080/tcp") for name in ("a", "c")} == {CLOSED}
    assert {seen.probe(name, "b", seen.gateway(), "8080/tcp") for name in ("a", "c", "h")} == {CLOSED}
    assert seen.probe("h", "b", "127.0.0.1", "8080/tcp") == OPEN
    assert seen.verdict("c", "b") == CLOSED


@columns(CLOSED, CLOSED, CLOSED, CLOSED, OPEN)
def test_row_16_published_ports_from_an_internal_network(version: str, expected: Verdict) -> None:
    """With nftables the destination accepts before the internal network's own rule drops."""
    built = host(version).network("closed", internal=True).container("a", "closed")
    seen = built.container("b", publish=["8080:80"]).look()
    assert seen.probe("a", "b", seen.gateway("closed"), "8080/tcp") == expected
    assert seen.probe("a", "b", seen.gateway(), "8080/tcp") == CLOSED


@engines
def test_row_17_internal_networks_are_closed_both_ways(version: str) -> None:
    """Neither does anything reach an internal network from another bridge, nor the other way round."""
    built = host(version).network("closed", internal=True).container("a").container("b", "closed", expose=["80"])
    seen = built.look()
    assert (seen.verdict("a", "b"), seen.verdict("b", "a")) == (CLOSED, CLOSED)


@engines
@pytest.mark.parametrize("what", EVERYTHING)
def test_row_18_members_of_an_internal_network(version: str, what: str) -> None:
    """An internal network with ICC is open to its own members."""
    seen = host(version).network("in", internal=True).container("a", "in").container("b", "in").look()
    assert seen.direct("a", "b", "in", what) == OPEN


@engines
@pytest.mark.parametrize("what", EVERYTHING)
@pytest.mark.parametrize("internal", [False, True])
def test_row_19_the_host_reaches_every_bridge(version: str, what: str, *, internal: bool) -> None:
    """A container in host mode reaches every port of a bridge, whatever its ICC, internal or not."""
    built = host(version).network("net", internal=internal, enable_icc="false")
    assert built.container("a", "host").container("b", "net").look().direct("a", "b", "net", what) == OPEN


@columns(OPEN, OPEN, CLOSED, CLOSED, CLOSED)
def test_row_19_isolated_gateways(version: str, expected: Verdict) -> None:
    """From 28.0 on gateway mode isolated leaves the host without an address on the bridge; before it was no mode."""
    built = host(version).network("net", internal=True, gateway_mode_ipv4="isolated")
    seen = built.container("a", "host").container("b", "net").look()
    assert seen.verdict("a", "b") == expected
    assert seen.verdict("b", "a") == expected


@engines
@pytest.mark.parametrize("internal", [False, True])
def test_row_20_bridges_reach_the_host(version: str, *, internal: bool) -> None:
    """What a container in host mode listens on is open to every bridge by its gateway, if INPUT lets it in."""
    built = host(version).network("net", internal=internal, enable_icc="false").container("a", "net")
    seen = built.container("b", "host").look()
    assert seen.probe("a", "b", seen.gateway("net"), "7777/tcp") == OPEN
    assert seen.probe("a", "b", "127.0.0.1", "7777/tcp") == CLOSED
    assert seen.assumes("INPUT")


@engines
@pytest.mark.parametrize("owner", ["bridge", "host", "none"])
def test_row_21_one_namespace_is_open_to_itself(version: str, owner: str) -> None:
    """Containers that share a namespace reach each other by its loopback, whatever network it is on."""
    built = host(version, icc=False).container("a", owner).container("b", "container:a" if owner != "host" else "host")
    seen = built.look()
    assert {seen.probe("a", "b", "127.0.0.1", what) for what in EVERYTHING} == {OPEN}
    assert seen.verdict("b", "a") == OPEN


@engines
def test_row_22_no_network_no_way(version: str) -> None:
    """Nothing reaches a container without a network, and it reaches nothing."""
    seen = host(version).container("a").container("b", "none").container("h", "host").look()
    assert {seen.verdict(*pair) for pair in (("a", "b"), ("b", "a"), ("h", "b"), ("b", "h"))} == {CLOSED}


@engines
@pytest.mark.parametrize(("mode", "expected"), [("bridge", OPEN), ("private", CLOSED), ("vepa", UNKNOWN)])
def test_row_23_macvlan_modes(version: str, mode: str, expected: Verdict) -> None:
    """Macvlan switches between its containers by its mode; with vepa the switch outside decides."""
    built = host(version).network("lan", "macvlan", parent="eth0", macvlan_mode=mode)
    assert built.container("a", "lan").container("b", "lan").look().verdict("a", "b") == expected


@pytest.mark.parametrize("version", ["26.1", "28.5", "29", "29 nft"])
@pytest.mark.parametrize(("flag", "expected"), [("bridge", OPEN), ("private", CLOSED), ("vepa", UNKNOWN)])
def test_row_24_ipvlan_flags(version: str, flag: str, expected: Verdict) -> None:
    """Ipvlan passes between its containers by its flag; with vepa the switch outside decides."""
    built = host(version).network("lan", "ipvlan", parent="eth0", ipvlan_flag=flag)
    assert built.container("a", "lan").container("b", "lan").look().verdict("a", "b") == expected


def test_row_24_ipvlan_flags_before_23() -> None:
    """Engines before 23.0 pass over `ipvlan_flag`, so the containers of a private ipvlan reach each other."""
    built = host("20.10").network("lan", "ipvlan", parent="eth0", ipvlan_flag="private")
    assert built.container("a", "lan").container("b", "lan").look().verdict("a", "b") == OPEN


@engines
@pytest.mark.parametrize("driver", ["macvlan", "ipvlan"])
def test_row_25_the_parent_interface_keeps_the_host_out(version: str, driver: str) -> None:
    """Macvlan and ipvlan are closed to the host and its bridges, unless something outside routes."""
    built = host(version).network("lan", driver, parent="eth0").container("a", "lan").container("b")
    seen = built.container("h", "host").look()
    pairs = (("a", "b"), ("b", "a"), ("a", "h"), ("h", "a"))
    assert {seen.verdict(*pair) for pair in pairs} == {CLOSED}
    assert seen.assumes("outside", "lan")


@engines
def test_rows_26_to_28_swarm_networks(version: str) -> None:
    """An overlay is open to its members; sharing the ingress is undecided, sharing docker_gwbridge only is closed."""
    built = host(version, swarm=True).network("one", "overlay").network("two", "overlay")
    built.container("a", "one").container("b", "one").container("c", "two")
    seen = built.look()
    assert {seen.direct("a", "b", "one", what) for what in EVERYTHING} == {OPEN}
    assert seen.verdict("a", "c") == CLOSED
    assert built.container("t", "ingress").container("u", "ingress").look().verdict("t", "u") == UNKNOWN


@engines
def test_row_29_swarm_services_are_an_assumption(version: str) -> None:
    """Where no task of a service with published ports is seen, none is taken to be published."""
    seen = host(version, swarm=True, icc=False).container("a").container("b").look()
    assert seen.verdict("a", "b") == CLOSED
    assert seen.assumes("swarm", "publishes")


@columns(UNKNOWN, UNKNOWN, CLOSED, CLOSED, CLOSED)
def test_row_29_ports_of_swarm_services(version: str, expected: Verdict) -> None:
    """A task on ingress shows that a port is published, which passes icc=false, and bridges that nothing protects."""
    built = host(version, swarm=True, icc=False).network("net").container("t", "ingress")
    seen = built.container("a").container("b").container("c", "net").look()
    assert seen.verdict("a", "b") == UNKNOWN
    assert seen.direct("a", "b", "bridge", "icmp") == CLOSED
    assert seen.verdict("a", "c") == expected
    assert not seen.assumes("swarm")


@columns(OPEN, OPEN, CLOSED, CLOSED, CLOSED)
def test_row_30_bridges_by_ipv6(version: str, expected: Verdict) -> None:
    """Without ip6tables rules nothing keeps bridges apart over IPv6."""
    built = host(version).network("left", ipv6=True).network("right", ipv6=True)
    seen = built.container("a", "left").container("b", "right").look()
    assert {seen.direct("a", "b", "right", what, family=6) for what in EVERYTHING} == {expected}
    assert {seen.direct("a", "b", "right", what) for what in EVERYTHING} == {CLOSED}


@columns(UNKNOWN, UNKNOWN, CLOSED, CLOSED, CLOSED)
def test_row_30_with_experimental_features_ip6tables_is_not_told(version: str, expected: Verdict) -> None:
    """Engines before 27.0 that run with experimental features may write ip6tables rules: the API does not tell."""
    built = host(version, ExperimentalBuild=True).network("left", ipv6=True).network("right", ipv6=True)
    seen = built.container("a", "left").container("b", "right").look()
    assert seen.direct("a", "b", "right", "80/tcp", family=6) == expected


@columns(OPEN, CLOSED, CLOSED, CLOSED, CLOSED)
def test_row_30_tcp_to_an_internal_network_by_ipv6(version: str, expected: Verdict) -> None:
    """Members of internal networks have had no default route since 25.0, so they hear but cannot answer TCP."""
    built = host(version).network("left", ipv6=True).network("inner", ipv6=True, internal=True)
    seen = built.container("a", "left").container("b", "inner").look()
    datagram = CLOSED if version in MANAGED_V6 else OPEN
    assert seen.direct("a", "b", "inner", "80/tcp", family=6) == expected
    assert seen.direct("a", "b", "inner", "80/udp", family=6) == datagram
    assert seen.direct("a", "b", "inner", "icmp", family=6) == datagram


@engines
def test_row_31_iptables_off_is_an_assumption(version: str) -> None:
    """The API does not tell --iptables=false, which leaves all bridges open to each other."""
    assert strangers(version).look().assumes("--iptables=false")


@engines
def test_row_32_rootless_engines(version: str) -> None:
    """Rootless engines publish on the machine's own addresses, which the API does not show, not on their bridges."""
    built = host(version, SecurityOptions=["name=seccomp,profile=builtin", "name=rootless"]).network("net")
    seen = built.container("a", "net").container("b", publish=["8080:80"]).look()
    assert seen.probe("a", "b", seen.gateway("net"), "8080/tcp") == CLOSED
    assert seen.verdict("a", "b") == UNKNOWN
    assert any("rootless" in reason for reason in seen.reasons("a", "b"))
