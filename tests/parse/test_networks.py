"""`GET /networks`: options, pools and gateways."""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING

import pytest

from exporter.model.snapshot import GatewayMode
from tests.hosts import host

if TYPE_CHECKING:
    from exporter.model.snapshot import Network
    from tests.hosts import Host


def parsed(built: Host, name: str = "net") -> Network:
    """Return a network of the snapshot."""
    return next(network for network in built.look().snapshot.networks.values() if network.name == name)


@pytest.mark.parametrize(
    ("mode", "since"), [("nat", "20.10"), ("routed", "28.5"), ("nat-unprotected", "28.5"), ("isolated", "28.5")]
)
def test_gateway_modes_count_from_the_release_that_has_them(mode: str, since: str) -> None:
    """An older engine stores the option and passes it over; a mode of one family says nothing of the other."""
    for version in ("20.10", "26.1", "28.5", "29"):
        network = parsed(host(version).network("net", gateway_mode_ipv6=mode))
        assert network.gateway_mode(6) == (mode if float(version) >= float(since) else GatewayMode.NAT)
        assert network.gateway_mode(4) is GatewayMode.NAT


@pytest.mark.parametrize("mode", ["", "NAT", "bridge", "routed "])
def test_unknown_gateway_modes_are_nat(mode: str) -> None:
    """What is no mode is the default."""
    assert parsed(host("29").network("net", gateway_mode_ipv4=mode)).gateway_mode_v4 is GatewayMode.NAT


def test_defaults_of_a_bridge_without_options() -> None:
    """A bridge without options has ICC and masquerade, IPv4 and an interface named after its id."""
    network = parsed(host("26.1").network("net"))
    assert (network.icc, network.masquerade, network.ipv4, network.ipv6, network.internal) == (
        True, True, True, False, False
    )  # fmt: skip
    assert network.interface == f"br-{network.id[:12]}"
    assert not network.default


def test_the_default_bridge_is_known_by_its_option() -> None:
    """Not its name but its option marks the default bridge."""
    built = host("28.5", bridge="br0")
    assert parsed(built, "bridge").default
    assert parsed(built, "bridge").interface == "br0"
    assert not parsed(built.network("net", name="docker0")).default


@pytest.mark.parametrize(("driver", "mode"), [("macvlan", "bridge"), ("ipvlan", "l2"), ("overlay", ""), ("weave", "")])
def test_other_drivers_have_modes_and_no_icc(driver: str, mode: str) -> None:
    """ICC is a notion of bridges; macvlan and ipvlan have a mode, by default the driver's own."""
    network = parsed(host("28.5").network("net", driver, enable_icc="false"))
    assert (network.icc, network.mode) == (None, mode)


def test_trusted_interfaces_are_split_at_colons() -> None:
    """`trusted_host_interfaces` is a list of names with colons between them; empty names are none."""
    network = parsed(host("29").network("net", trusted_host_interfaces="eth0::docker0:"))
    assert network.trusted_host_interfaces == ("eth0", "docker0")


def test_a_gateway_that_an_endpoint_names() -> None:
    """The gateway that the list of networks leaves out is the one that an endpoint names."""
    built = host("26.1").network("net", subnets=("10.7.0.0/24",)).container("a", "net")
    del built.document("net")["IPAM"]["Config"][0]["Gateway"]
    built.containers[0]["NetworkSettings"]["Networks"]["net"]["Gateway"] = "10.7.0.77"
    assert parsed(built).pools[0].gateway == ip_address("10.7.0.77")


@pytest.mark.parametrize(
    ("subnet", "addresses", "expected"),
    [
        ("10.7.0.0/24", "", "10.7.0.1"),
        ("10.7.0.0/24", "10.7.0.128/25", "10.7.0.128"),
        ("10.7.0.0/24", "10.7.0.0/25", "10.7.0.1"),
        ("fd00:7::/64", "", "fd00:7::1"),
    ],
)
def test_a_gateway_that_nobody_names(subnet: str, addresses: str, expected: str) -> None:
    """It is the first address that the engine hands out: of the range, and never the subnet's own."""
    built = host("26.1").network("net", subnets=())
    built.document("net")["IPAM"]["Config"] = [{"Subnet": subnet, "IPRange": addresses}]
    assert parsed(built).pools[0].gateway == ip_address(expected)


@pytest.mark.parametrize("config", [None, [], {}, "x", [None], [{"Subnet": ""}], [{"Subnet": "10.0.0.1/33"}], [{}]])
def test_pools_that_are_none(config: object) -> None:
    """A network without a readable subnet has no pool, and is a network all the same."""
    built = host("28.5").network("net", subnets=())
    built.document("net")["IPAM"]["Config"] = config
    assert parsed(built).pools == ()


@pytest.mark.parametrize("options", [None, [], "x", {}])
def test_options_that_are_none(options: object) -> None:
    """Without options a bridge has its defaults."""
    built = host("28.5").network("net")
    built.document("net")["Options"] = options
    assert parsed(built).icc is True


@pytest.mark.parametrize("value", [True, False, 1, None, ["false"]])
def test_icc_of_another_type_than_text_is_not_told(value: object) -> None:
    """Options are texts: a value of another type counts as absent, which is true to the driver."""
    built = host("28.5").network("net", enable_icc=value)
    assert parsed(built).icc is True


@pytest.mark.parametrize(("value", "expected"), [(None, True), (True, True), (False, False), ("false", True)])
def test_ipv4_is_on_unless_switched_off(value: object, *, expected: bool) -> None:
    """Engines before 28.0 have no `EnableIPv4`; absent is true."""
    built = host("28.5").network("net")
    built.document("net")["EnableIPv4"] = value
    assert parsed(built).ipv4 is expected


def test_a_router_is_no_gateway() -> None:
    """Where default routes lead to somebody else, endpoints name that one, and the host has the first address."""
    built = host("28.5").network("net", routers=True, ipv6=True).container("a", "net")
    for config in built.document("net")["IPAM"]["Config"]:
        del config["Gateway"]
    four, six = parsed(built).pools
    assert (four.gateway, four.router) == (ip_address("172.20.0.1"), ip_address("172.20.0.9"))
    assert (six.gateway, six.router) == (ip_address("fd00:3::1"), ip_address("fd00:3::9"))


@pytest.mark.parametrize(
    ("driver", "others"),
    [
        ("macvlan", {"DefaultGatewayIPv4": "10.7.0.9"}),
        ("bridge", {"router": "10.7.0.9"}),
        ("bridge", {"DefaultGatewayIPv6": "10.7.0.9"}),
        ("bridge", {"DefaultGatewayIPv4": "10.7.0.1"}),
        ("bridge", {"DefaultGatewayIPv4": "x"}),
        ("bridge", {"DefaultGatewayIPv4": None}),
        ("bridge", []),
        ("bridge", None),
    ],
)
def test_auxiliary_addresses_that_are_no_router(driver: str, others: object) -> None:
    """Only bridges know one of them by its name; the host itself is none, and neither is what is no address."""
    built = host("28.5").network("net", driver, subnets=())
    config = {"Subnet": "10.7.0.0/24", "Gateway": "10.7.0.1", "AuxiliaryAddresses": others}
    built.document("net")["IPAM"]["Config"] = [config]
    assert parsed(built).pools[0].router is None


@pytest.mark.parametrize("told", [16, 0, 99, None])
def test_what_is_left_out_of_networks_that_a_swarm_made(told: int | None) -> None:
    """Their driver's options and subnets: the latter follow from the containers, if these tell anything."""
    built = host("28.5").network("lan", "macvlan", Scope="swarm", subnets=("10.7.0.0/16",)).container("a", "lan")
    document = built.document("lan")
    document |= {"Options": None, "IPAM": {"Driver": "default", "Config": []}}
    built.containers[0]["NetworkSettings"]["Networks"]["lan"]["IPPrefixLen"] = told
    network = next(each for each in built.look().snapshot.networks.values() if each.name == "lan")
    assert (network.driver, network.icc) == ("", None)
    assert [str(pool.subnet) for pool in network.pools] == (["10.7.0.0/16"] if told == 16 else [])
