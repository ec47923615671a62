"""`GET /containers/json`: names, ports, endpoints and sandboxes."""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

import pytest

from exporter.model.reach import HOST, Protocol
from exporter.model.snapshot import ExposedPort, PublishedPort, RoutedPort
from tests.hosts import host
from tests.looks import Look

if TYPE_CHECKING:
    from exporter.model.snapshot import Sandbox
    from tests.hosts import Host


def with_ports(ports: object) -> Sandbox:
    """Return the sandbox of a container whose `Ports` is given."""
    built = host("28.5").container("a")
    built.containers[0]["Ports"] = ports
    return sandbox(built)


def sandbox(built: Host, name: str = "a") -> Sandbox:
    """Return a container's sandbox."""
    seen = built.look()
    return seen.snapshot.sandboxes[seen.containers[name].sandbox]


def test_published_routed_and_exposed_ports() -> None:
    """A port of the host is published, an address without one routed, neither is exposed; all three are exposed."""
    found = with_ports(
        [
            {"IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"},
            {"IP": "::", "PrivatePort": 443, "Type": "tcp"},
            {"IP": "", "PrivatePort": 53, "Type": "udp"},
        ]
    )
    assert found.published == (PublishedPort(ip_address("0.0.0.0"), 8080, 80, Protocol.TCP),)
    assert found.routed == (RoutedPort(6, 443, Protocol.TCP),)
    assert set(found.exposed) == {
        ExposedPort(80, Protocol.TCP),
        ExposedPort(443, Protocol.TCP),
        ExposedPort(53, Protocol.UDP),
    }


@pytest.mark.parametrize(
    "port",
    [
        {"PrivatePort": 80, "PublicPort": 8080, "Type": "sctp"},
        {"PrivatePort": 0, "PublicPort": 8080, "Type": "tcp"},
        {"PrivatePort": 65536, "PublicPort": 8080, "Type": "tcp"},
        {"PrivatePort": "80", "PublicPort": 8080, "Type": "tcp"},
        {"PrivatePort": True, "PublicPort": 8080, "Type": "tcp"},
        {"PublicPort": 8080, "Type": "tcp"},
        {"IP": "localhost", "PrivatePort": 80, "PublicPort": 8080},
        None,
        "80/tcp",
    ],
)
def test_what_is_no_tcp_or_udp_port_is_passed_over(port: object) -> None:
    """Other protocols, numbers out of range and fields of other types make no port."""
    found = with_ports([port])
    assert (found.published, found.routed, found.exposed) == ((), (), ())


@pytest.mark.parametrize("ports", [None, {}, "", 7, [[]]])
def test_ports_that_are_no_list(ports: object) -> None:
    """A container whose ports are not told has none."""
    assert with_ports(ports).published == ()


def test_a_port_that_is_listed_twice_is_one() -> None:
    """Engines list a port once for each endpoint."""
    port = {"IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"}
    assert len(with_ports([port, dict(port)]).published) == 1


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["/web"], "web"),
        (["/parent/alias", "/web"], "web"),
        (["web"], "web"),
        ([], None),
        (None, None),
        (["/"], ""),
        ([7, "/web"], "web"),
    ],
)
def test_a_container_has_one_name_of_its_own(names: list[Any] | None, expected: str | None) -> None:
    """Names behind a parent's are links; without a name of its own a container has the beginning of its id."""
    built = host("28.5").container("a")
    built.containers[0]["Names"] = names
    (container,) = Look.at(built.observation()).report.containers
    assert container.name == (expected if expected is not None else container.id[:12])


def test_containers_are_sorted_by_name() -> None:
    """Whatever the list's order, the report's is by name."""
    built = host("28.5").container("b").container("c").container("a")
    assert [container.name for container in built.look().report.containers] == ["a", "b", "c"]


def test_an_endpoint_without_an_id_is_no_attachment() -> None:
    """A network that is configured but not joined, as of a container that was just made, counts for nothing."""
    built = host("28.5").container("a")
    built.containers[0]["NetworkSettings"]["Networks"]["bridge"]["EndpointID"] = ""
    assert sandbox(built).endpoints == ()


def test_the_host_and_none_add_no_interface() -> None:
    """Endpoints on the networks host and none are no attachments; the first is the host's sandbox."""
    built = host("28.5").container("a", "none").container("h", "host")
    assert sandbox(built).endpoints == ()
    assert sandbox(built, "h").id == HOST


def test_an_endpoint_has_the_addresses_of_its_document() -> None:
    """Addresses of both families, gateways and the gateway priority are read."""
    built = host("28.5", ipv6=True).container("a", priority={"bridge": 3})
    (endpoint,) = sandbox(built).endpoints
    assert (endpoint.ipv4, endpoint.ipv6) == (ip_address("172.17.0.2"), ip_address("fd00::2"))
    assert (endpoint.gateway_v4, endpoint.gateway_v6) == (ip_address("172.17.0.1"), ip_address("fd00::1"))
    assert endpoint.gw_priority == 3


@pytest.mark.parametrize("address", ["", "x", "172.17.0.2/33x/", "999.1.1.1", None, 7])
def test_addresses_that_are_none(address: object) -> None:
    """What is no address is none."""
    built = host("28.5").container("a")
    built.containers[0]["NetworkSettings"]["Networks"]["bridge"]["IPAddress"] = address
    (endpoint,) = sandbox(built).endpoints
    assert endpoint.ipv4 == (ip_address("172.17.0.2") if address == "172.17.0.2/33x/" else None)
