"""Verdicts from the kernel about containers whose namespaces were not read, or not all: as the engine makes them."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address
from typing import Any

import pytest

from exporter.evaluate.enforced.segments import HIDDEN
from exporter.model.namespace import Hop, Interface, Namespace, OwnAddress, Port, Route, RouteKind
from exporter.model.reach import Protocol, Verdict
from tests.hosts import Host, host
from tests.kernels import kernel
from tests.looks import CLOSED, OPEN, UNKNOWN, Look

MODES = pytest.mark.parametrize(
    ("driver", "told", "expected"),
    [
        ("macvlan", {"macvlan_mode": "bridge"}, OPEN),
        ("macvlan", {}, OPEN),
        ("macvlan", {"macvlan_mode": "private"}, CLOSED),
        ("macvlan", {"macvlan_mode": "vepa"}, UNKNOWN),
        ("ipvlan", {"ipvlan_flag": "bridge"}, OPEN),
        ("ipvlan", {}, OPEN),
        ("ipvlan", {"ipvlan_flag": "private"}, CLOSED),
        ("ipvlan", {"ipvlan_flag": "vepa"}, UNKNOWN),
    ],
)


def lan(driver: str, told: dict[str, Any]) -> Host:
    """Return a host with two containers on a network of a driver."""
    built = host("28.5").network("lan", driver, parent="eth0", **told)
    return built.container("a", "lan").container("b", "lan")


def unread(built: Host) -> Look:
    """Return what the tier kernel makes of a host."""
    return kernel(built).engine_rules().unread("sandboxes", "not asked for").look()


@MODES
def test_what_a_parent_interface_passes(driver: str, told: dict[str, str], expected: Verdict) -> None:
    """It goes by macvlan's mode and ipvlan's flag, which the engine's API tells."""
    assert unread(lan(driver, told)).verdict("a", "b") is expected


@MODES
@pytest.mark.parametrize("known", [("a", "b"), ("a",)], ids=["all are read", "one is read"])
def test_what_a_parent_interface_passes_that_is_read(
    driver: str, told: dict[str, str], expected: Verdict, known: tuple[str, ...]
) -> None:
    """Interfaces tell the same, and are of one parent whether or not the other one was read."""
    seen = unread(lan(driver, told))
    snapshot, read = seen.snapshot, seen.snapshot.kernel
    assert read is not None
    (network,) = (each for each in snapshot.networks.values() if each.name == "lan")
    boxes = {box.name: box for box in snapshot.sandboxes.values()}
    inside = {boxes[name].id: _inside(driver, told, seen.ip(name, "lan"), number) for number, name in enumerate(known)}
    card = Interface(77, network.parent, "", "02:00:00:00:00:77", up=True)
    here = replace(read.host, interfaces={**read.host.interfaces, 77: card})
    read = replace(read, host=here, sandboxes=inside, missing={})
    assert Look(seen.observation, replace(snapshot, kernel=read)).verdict("a", "b") is expected


def _inside(driver: str, told: dict[str, str], address: str, number: int) -> Namespace:
    own = OwnAddress(ip_address(address), 16)
    flag = told.get("ipvlan_flag", "bridge")
    options: dict[str, Any] = {"mode": told.get("macvlan_mode", "bridge")}
    if driver == "ipvlan":
        options = {"mode": "l2", "flag": "" if flag == "bridge" else flag}
    mac = "02:00:00:00:00:77" if driver == "ipvlan" else f"02:00:00:00:01:{number:02x}"
    interface = Interface(90 + number, "eth0", driver, mac, up=True, peer=77, addresses=(own,), **options)
    local = Route(255, RouteKind.LOCAL, OwnAddress(own.ip, 32).network, (Hop(interface.index),))
    return Namespace(
        {interface.index: interface}, (local, Route(254, RouteKind.UNICAST, own.network, (Hop(interface.index),)))
    )


@pytest.mark.parametrize(("version", "expected"), [("20.10", CLOSED), ("26.1", OPEN), ("28.5", OPEN)])
def test_loopback_of_ipv6(version: str, expected: Verdict) -> None:
    """Before 26.0, engines switch IPv6 off in the namespace of who has no address of it, and ::1 with it."""
    built = host(version).container("a").container("b", "container:a").seen("b", "2 minutes", before=5)
    seen = unread(built)
    assert seen.probe("a", "b", "::1", "80/tcp") is expected
    assert seen.probe("a", "b", "127.0.0.1", "80/tcp") is OPEN
    six = host(version).network("six", ipv6=True).container("a", "six").container("b", "container:a")
    assert unread(six).probe("a", "b", "::1", "80/tcp") is OPEN


@pytest.mark.parametrize("mode", ["l3", "l3s"])
def test_ipvlan_routes_between_its_subnets(mode: str) -> None:
    """In layer 3, default routes lead out by the interface, where the parent finds who is meant."""
    subnets = ("10.1.0.0/24", "10.2.0.0/24")
    built = host("28.5").network("lan", "ipvlan", subnets=subnets, parent="eth0", ipvlan_mode=mode)
    seen = unread(built.container("a", "lan").container("b", "lan", pool=1))
    assert {path.protocol for path in seen.pair("a", "b").paths} == set(Protocol)
    assert seen.verdict("a", "b") is OPEN


def test_members_of_overlays_have_an_address_that_is_not_listed() -> None:
    """They go out by docker_gwbridge, and have one of the addresses there that are nobody's else; none is certain."""
    built = host("28.5", swarm=True).network("over", "overlay").container("h", "host")
    built.container("a", "over", publish=["8080:80"]).container("b", "over").container("c", publish=["8081:80"])
    seen = unread(built)
    snapshot, read = seen.snapshot, seen.snapshot.kernel
    assert read is not None
    (bridge,) = (each for each in read.host.interfaces.values() if each.name == "docker_gwbridge")
    gateway = next(each.ip for each in bridge.addresses if each.version == 4)
    cables = {70 + number: _cable(70 + number, bridge.index, OwnAddress(gateway + number, 16)) for number in (1, 2, 3)}
    here = replace(read.host, interfaces={**read.host.interfaces, **cables})
    found = Look(seen.observation, replace(snapshot, kernel=replace(read, host=here)))
    assert found.verdict("a", "b") is OPEN
    pairs = (("a", "h"), ("h", "a"), ("h", "b"), ("b", "c"))
    assert {found.verdict(*pair) for pair in pairs} == {UNKNOWN}
    assert {reason for pair in pairs for reason in found.reasons(*pair)} == {HIDDEN}
    assert found.verdict("c", "b") is CLOSED


def _cable(index: int, bridge: int, peer: OwnAddress) -> Interface:
    return Interface(
        index, f"veth{index}", "veth", "", up=True, master=bridge, peer=index + 100, port=Port(), peer_addresses=(peer,)
    )
