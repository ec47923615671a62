"""Scenarios that catch a wrong calculator: ICC, links and published ports on bridges, numbered as in the reference."""

from __future__ import annotations

from typing import Any

import pytest

from exporter.model.reach import Via
from tests.hosts import ALL, Host, host
from tests.looks import CLOSED, OPEN, UNKNOWN

engines = pytest.mark.parametrize("version", ALL)
newest = pytest.mark.parametrize("version", ["29", "29 nft"])


def linked(version: str, *, icc: bool = False) -> Host:
    """Return a that holds a link to b, which exposes 80/tcp and 53/udp, on the default bridge."""
    return host(version, icc=icc).container("a", links=["b"]).container("b", expose=["80", "53/udp"])


@engines
def test_01_icc_that_is_not_configured_is_on(version: str) -> None:
    """A user-defined network without enable_icc lets its containers talk."""
    seen = host(version).network("net").container("a", "net").container("b", "net").look()
    assert seen.verdict("a", "b") == OPEN
    assert {network.name: network.icc_enabled for network in seen.report.networks}["net"] is True


@engines
@pytest.mark.parametrize(
    ("value", "expected"),
    [(value, True) for value in ("1", "t", "T", "TRUE", "true", "True")]
    + [(value, False) for value in ("0", "f", "F", "FALSE", "false", "False")],
)
def test_02_icc_is_spelled_as_go_spells_booleans(version: str, value: str, *, expected: bool) -> None:
    """Every spelling that Go's ParseBool takes means to us what it means to the engine."""
    seen = host(version).network("net", enable_icc=value).container("a", "net").container("b", "net").look()
    assert seen.verdict("a", "b") == (OPEN if expected else CLOSED)


@pytest.mark.parametrize("value", ["no", "yes", "off", "fALSE", " true", "2"])
def test_02_icc_that_no_engine_accepts_is_undecided(value: str) -> None:
    """A spelling that Go would refuse is neither open nor closed."""
    seen = host("28.5").network("net", enable_icc=value).container("a", "net").container("b", "net").look()
    assert seen.verdict("a", "b") == UNKNOWN


@engines
def test_03_the_daemons_icc_is_about_the_default_bridge_only(version: str) -> None:
    """With --icc=false containers on a user-defined network still reach each other."""
    seen = host(version, icc=False).network("net").container("a", "net").container("b", "net").look()
    assert seen.verdict("a", "b") == OPEN
    assert seen.report.engine.icc_enabled is False


@engines
def test_04_one_open_network_is_enough(version: str) -> None:
    """Containers that share a closed and an open network reach each other, by the open one."""
    built = host(version, icc=False).network("net")
    seen = built.container("a", "bridge", "net").container("b", "bridge", "net").look()
    assert {(path.via, path.network) for path in seen.pair("a", "b").paths} == {(Via.BRIDGE, "net")}
    assert seen.direct("a", "b", "bridge", "80/tcp") == CLOSED


@engines
def test_05_two_closed_networks_stay_closed(version: str) -> None:
    """Sharing two networks without ICC opens nothing."""
    built = host(version, icc=False).network("net", enable_icc="0")
    seen = built.container("a", "bridge", "net").container("b", "bridge", "net").look()
    assert seen.verdict("a", "b") == CLOSED


@pytest.mark.parametrize(("version", "expected"), [("26.0.0", UNKNOWN), ("26.0.1", UNKNOWN), ("26.0.2", CLOSED)])
def test_engines_that_left_ipv6_on(version: str, expected: str) -> None:
    """No rule of icc=false is for link-local addresses on networks without IPv6 (CVE-2024-32473)."""
    built = host("26.1").network("net", enable_icc="0").container("a", "net").container("b", "net")
    built.version["Version"] = version
    assert built.look().verdict("a", "b") == expected


@engines
def test_06_a_link_opens_exactly_the_exposed_ports(version: str) -> None:
    """A link opens each exposed port with its protocol, in the link's direction."""
    seen = linked(version).look()
    opened = {(path.via, path.protocol.value, str(path.ports)) for path in seen.pair("a", "b").paths}
    assert opened == {(Via.LINK, "tcp", "80"), (Via.LINK, "udp", "53")}
    assert seen.verdict("b", "a") == CLOSED


@engines
def test_07_a_link_needs_both_ends_on_the_default_bridge(version: str) -> None:
    """A link whose parent is on a user-defined network has no firewall rule."""
    built = host(version, icc=False).network("net", enable_icc="false")
    seen = built.container("a", "net", links=["b"]).container("b", "net", expose=["80"]).look()
    assert seen.verdict("a", "b") == CLOSED


@engines
@pytest.mark.parametrize("ended", ["a", "b"])
def test_08_a_link_ends_with_either_container(version: str, ended: str) -> None:
    """When the parent or the child of a link has exited, nothing of the link is left for anybody else."""
    built = linked(version).container("c", expose=["80"])
    next(each for each in built.containers if each["Names"] == [f"/{ended}"])["State"] = "exited"
    seen = built.look()
    assert seen.report.totals.reachable_pairs == 0
    assert ended not in seen.containers


@engines
def test_09_a_link_to_a_restarted_child_is_undecided(version: str) -> None:
    """A child that was started after its parent may have another address than the link's rule."""
    seen = linked(version).seen("a", "3 hours").seen("b", "2 seconds").look()
    assert seen.verdict("a", "b") == UNKNOWN
    assert any("started after its parent" in reason for reason in seen.reasons("a", "b"))
    assert linked(version).seen("a", "2 seconds").seen("b", "3 hours").look().verdict("a", "b") == OPEN


@engines
def test_10_with_icc_a_link_adds_nothing(version: str) -> None:
    """Where ICC is on, a linked pair is open both ways on all ports."""
    seen = linked(version, icc=True).look()
    assert seen.vias("a", "b") == seen.vias("b", "a") == {Via.BRIDGE}
    assert seen.direct("a", "b", "bridge", "7777/tcp") == OPEN


@pytest.mark.parametrize("version", ["20.10", "26.1", "28.5"])
def test_11_docker_proxy_is_undecided_where_nothing_gives_it_away(version: str) -> None:
    """A port published on IPv4 only does not show whether docker-proxy runs, which decides behind icc=false."""
    seen = host(version, icc=False).container("a").container("b", publish=["0.0.0.0:8080:80"]).look()
    assert seen.verdict("a", "b") == UNKNOWN
    assert seen.report.totals.unknown_pairs == 1
    assert seen.report.totals.reachable_pairs == 1


@pytest.mark.parametrize("version", ["20.10", "26.1", "28.5"])
def test_11_a_port_on_ipv6_gives_docker_proxy_away(version: str) -> None:
    """An IPv6 port that leads to a container without IPv6 needs docker-proxy, so every such engine runs it."""
    seen = host(version, icc=False).container("a").container("b", publish=["8080:80"]).look()
    assert seen.vias("a", "b") == {Via.PUBLISHED_PORT}
    assert seen.verdict("a", "b") == OPEN


@newest
@pytest.mark.parametrize(("userland_proxy", "expected"), [(True, OPEN), (False, CLOSED)])
def test_11_engines_from_29_5_tell_docker_proxy(version: str, expected: str, *, userland_proxy: bool) -> None:
    """The firewall backend's information names docker-proxy when it is enabled, and leaves it out when not."""
    built = host(version, icc=False, userland_proxy=userland_proxy)
    seen = built.container("a").container("b", publish=["0.0.0.0:8080:80"]).look()
    assert seen.verdict("a", "b") == expected


@pytest.mark.parametrize(("version", "expected"), [("28.5", UNKNOWN), ("29", OPEN), ("29 nft", OPEN)])
def test_12_published_ports_between_bridges_without_docker_proxy(version: str, expected: str) -> None:
    """Without docker-proxy inter-network isolation closes published ports to other bridges before 29.0 only."""
    built = host(version, userland_proxy=False).network("net").container("a", "net")
    assert built.container("b", publish=["8080:80"]).look().verdict("a", "b") == expected


@engines
@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_13_loopback_is_the_hosts_own(version: str, address: str) -> None:
    """A port on a loopback address is published to containers in host mode alone, on ::1 by docker-proxy only."""
    built = host(version, ipv6=True).network("net", ipv6=True).container("a", "net").container("h", "host")
    seen = built.container("b", publish=[f"[{address}]:8080:80"]).look()
    told = address == "127.0.0.1" or version.startswith("29")
    assert seen.probe("h", "b", address, "8080/tcp") == (OPEN if told else UNKNOWN)
    assert Via.PUBLISHED_PORT not in seen.vias("a", "b")


@newest
def test_14_a_port_is_published_where_it_is_bound(version: str) -> None:
    """`0.0.0.0` is all IPv4 addresses, `::` all IPv6 ones, and a gateway's address that address only."""
    built = host(version, ipv6=True).network("net", ipv6=True).container("a", "net")
    ports = ["0.0.0.0:8004:80", "[::]:8006:80", "172.17.0.1:8001:80", "8046:80"]
    seen = built.container("b", publish=ports).look()
    addresses = [seen.gateway(net, family) for net in ("net", "bridge") for family in (4, 6)]
    table = {port: [seen.probe("a", "b", address, f"{port}/tcp") for address in addresses] for port in
             (8004, 8006, 8001, 8046)}  # fmt: skip
    assert table == {
        8004: [OPEN, CLOSED, OPEN, CLOSED],
        8006: [CLOSED, OPEN, CLOSED, OPEN],
        8001: [CLOSED, CLOSED, OPEN, CLOSED],
        8046: [OPEN, OPEN, OPEN, OPEN],
    }


@pytest.mark.parametrize("absent", ["", None])
def test_14_a_port_without_an_address_is_on_all_ipv4_addresses(absent: str | None) -> None:
    """A published port whose host address is empty or missing is bound to 0.0.0.0."""
    built = host("20.10").container("a").container("b", publish=["0.0.0.0:8080:80"])
    built.containers[1]["Ports"][0]["IP"] = absent
    seen = built.look()
    assert seen.probe("a", "b", seen.gateway(), "8080/tcp") == OPEN


def test_15_a_network_without_masquerade_before_29() -> None:
    """On 28.5 a bridge without masquerade does not reach ports that other bridges publish."""
    built = host("28.5").network("plain", enable_ip_masquerade="false").container("a", "plain")
    seen = built.container("b", publish=["8080:80", "8080:80/udp"]).look()
    assert seen.verdict("a", "b") == CLOSED


@newest
def test_15_a_network_without_masquerade_from_29(version: str) -> None:
    """From 29.0 on such a bridge delivers datagrams, while TCP lacks the answer."""
    built = host(version).network("plain", enable_ip_masquerade="false").container("a", "plain")
    seen = built.container("b", publish=["8080:80", "8080:80/udp"]).look()
    assert {path.protocol.value for path in seen.pair("a", "b").paths} == {"udp"}


def test_16_internal_networks_differ_by_backend() -> None:
    """A container on an internal network reaches published ports by its gateway with nftables only."""
    verdicts = {}
    for version in ("29", "29 nft"):
        built = host(version).network("inner", internal=True).container("a", "inner")
        verdicts[version] = built.container("b", publish=["8080:80"]).look().verdict("a", "b")
    assert verdicts == {"29": CLOSED, "29 nft": OPEN}


@engines
def test_16_an_internal_network_reaches_what_docker_proxy_alone_publishes(version: str) -> None:
    """A port of the gateway's IPv6 address that leads to a container without IPv6 is docker-proxy's: INPUT, no rule."""
    built = host(version).network("inner", internal=True, ipv6=True).container("a", "inner")
    seen = built.container("b", publish=["8080:80"]).look()
    assert seen.probe("a", "b", seen.gateway("inner", 6), "8080/tcp") == OPEN


@engines
def test_17_internal_networks_publish_nothing(version: str) -> None:
    """A port that was asked for on an internal network is listed as exposed, and opens nothing."""
    built = host(version).network("inner", internal=True).container("a").container("h", "host")
    seen = built.container("b", "inner", expose=["80"]).look()
    assert seen.verdict("a", "b") == CLOSED
    assert seen.vias("h", "b") == {Via.HOST}


@newest
@pytest.mark.parametrize(("first", "expected"), [("one", CLOSED), ("two", OPEN)])
def test_18_a_port_is_published_by_the_gateways_endpoint(version: str, first: str, expected: str) -> None:
    """Of a container on two networks the port leads to the endpoint with the higher gateway priority."""
    built = host(version, userland_proxy=False).network("one", enable_icc="0").network("two", enable_icc="0")
    seen = built.container("a", "one").container("b", "one", "two", publish=["8080:80"], priority={first: 1}).look()
    assert seen.verdict("a", "b") == expected


@pytest.mark.parametrize(("version", "expected"), [("28.5", UNKNOWN), ("29", CLOSED)])
def test_18_gateways_of_both_versions_go_before_priorities(version: str, expected: str) -> None:
    """Before 29.5, a higher priority of a network with one version of IP does not keep a dual-stack one back."""
    built = host(version, userland_proxy=False).network("one", enable_icc="0").network("two", ipv6=True, enable_icc="0")
    seen = built.container("a", "one").container("b", "one", "two", publish=["8080:80"], priority={"one": 1}).look()
    assert seen.probe("a", "b", seen.gateway("one"), "8080/tcp") == expected


@engines
def test_19_a_routed_port_is_on_no_address_of_the_host(version: str) -> None:
    """A port of a routed network is open at the container's address only, and before 28.0 to nobody."""
    built = host(version).network("r", gateway_mode_ipv4="routed").container("a").container("b", "r", routed=["80"])
    seen = built.look()
    assert seen.probe("a", "b", seen.gateway(), "80/tcp") == CLOSED
    assert seen.vias("a", "b") == (set() if version in ("20.10", "26.1") else {Via.ROUTED})


@pytest.mark.parametrize(("version", "expected"), [("28.5", CLOSED), ("29", OPEN), ("29 nft", OPEN)])
def test_20_nat_unprotected_networks(version: str, expected: str) -> None:
    """A nat-unprotected network is closed to other bridges on 28.5, against its name, and open from 29.0 on."""
    built = host(version).network("u", gateway_mode_ipv4="nat-unprotected").container("a").container("b", "u")
    assert built.look().verdict("a", "b") == expected


@pytest.mark.parametrize("version", ["20.10", "26.1"])
def test_31_icc_of_dual_stack_networks(version: str) -> None:
    """Without experimental features icc=false is about IPv4 only; with them IPv6 is undecided."""
    options: dict[str, Any] = {"ipv6": True, "enable_icc": "false"}
    for experimental, expected in ((False, OPEN), (True, UNKNOWN)):
        built = host(version, ExperimentalBuild=experimental).network("net", **options)
        seen = built.container("a", "net").container("b", "net").look()
        assert seen.direct("a", "b", "net", "80/tcp", family=6) == expected
        assert seen.direct("a", "b", "net", "80/tcp") == CLOSED


@pytest.mark.parametrize("version", ["28.5", "29", "29 nft"])
def test_32_networks_without_ipv4(version: str) -> None:
    """On an IPv6-only network all paths are by IPv6 addresses."""
    built = host(version).network("six", ipv4=False, ipv6=True).container("a", "six").container("b", "six")
    seen = built.look()
    assert {path.addresses for path in seen.pair("a", "b").paths} == {(seen.ip("b", "six", 6),)}


@pytest.mark.parametrize(("version", "expected"), [("20.10", OPEN), ("26.1", CLOSED), ("28.5", CLOSED), ("29", CLOSED)])
def test_33_bridge_netfilter_means_something_before_23_only(version: str, expected: str) -> None:
    """`BridgeNfIptables` false opens closed bridges before 23.0; later engines do not look again."""
    seen = host(version, icc=False, BridgeNfIptables=False).container("a").container("b").look()
    assert seen.verdict("a", "b") == expected


@engines
def test_34_rootless_engines_publish_outside_their_namespace(version: str) -> None:
    """By the gateway's address of a rootless engine no published port is reached."""
    built = host(version, SecurityOptions=["name=rootless"]).container("a").network("net")
    seen = built.container("b", "net", publish=["8080:80"]).look()
    assert seen.probe("a", "b", seen.gateway(), "8080/tcp") == CLOSED
    assert seen.verdict("a", "b") == UNKNOWN


@newest
def test_44_pairs_have_a_direction(version: str) -> None:
    """What a published port, a link or an internal network's gateway opens, it opens one way."""
    built = host(version, icc=False).network("net").container("client", "net").container("server", publish=["8080:80"])
    seen = built.container("parent", links=["child"]).container("child", expose=["80"]).look()
    for source, destination in (("client", "server"), ("parent", "child")):
        assert (seen.verdict(source, destination), seen.verdict(destination, source)) == (OPEN, CLOSED)
