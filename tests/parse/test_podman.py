"""Podman's Docker-compatible API, which looks like an engine's and leaves out what decides."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from exporter.model.observation import Observation
from exporter.model.snapshot import Product
from tests.hosts import NOW, identity
from tests.looks import OPEN, UNKNOWN, Look

VERSION = {
    "Platform": {"Name": "linux/amd64/debian-12"},
    "Components": [{"Name": "Podman Engine", "Version": "4.9.3"}, {"Name": "Conmon"}, {"Name": "OCI Runtime (crun)"}],
    "Version": "4.9.3",
    "ApiVersion": "1.41",
    "MinAPIVersion": "1.24",
    "Os": "linux",
}

BRIDGE = {
    "Name": "podman",
    "Id": "2f259bab93aaaaa2542ba43ef33eb990d0999ee1b9924b557b7be53c0b7a1bb9",
    "Driver": "bridge",
    "Scope": "local",
    "Internal": False,
    "EnableIPv6": False,
    "Options": None,
    "IPAM": {"Driver": "default", "Config": [{"Subnet": "10.88.0.0/16", "Gateway": "10.88.0.1"}]},
}


def container(name: str, last: int, **network: str) -> dict[str, Any]:
    """Return an entry of the list of containers; a network's endpoint has its name for an id."""
    endpoint = {"NetworkID": "podman", "EndpointID": "", "IPAddress": f"10.88.0.{last}", "Gateway": "10.88.0.1"}
    return {
        "Id": identity(name),
        "Names": [f"/{name}"],
        "State": "running",
        "Status": "Up 5 minutes",
        "Ports": [],
        "HostConfig": {"NetworkMode": "bridge"},
        "NetworkSettings": {"Networks": {"podman": endpoint | network}},
    }


def podman(*containers: dict[str, Any]) -> Observation:
    """Return what Podman's API shows."""
    return Observation(NOW, VERSION, {"ID": "p", "Name": "lab", "OSType": "linux"}, [BRIDGE], containers)


def test_podman_is_recognised() -> None:
    """The components of `GET /version` name Podman."""
    seen = Look.at(podman())
    assert seen.snapshot.engine.product is Product.PODMAN
    assert seen.assumes("not a Docker Engine")


@pytest.mark.parametrize("options", [None, {}, {"com.docker.network.bridge.enable_icc": "true"}, {"isolate": "true"}])
def test_icc_is_unknown(options: dict[str, str] | None) -> None:
    """ICC is never 1, nor 0, whatever the options say."""
    observation = replace(podman(), networks=[{**BRIDGE, "Options": options}])
    seen = Look.at(observation)
    assert seen.report.engine.icc_enabled is None
    assert [network.icc_enabled for network in seen.report.networks] == [None]


@pytest.mark.parametrize("endpoint", ["", "7d0c"])
def test_members_of_a_network_are_undecided(endpoint: str) -> None:
    """Containers on one network may reach each other or be isolated: unknown, also without ids of endpoints."""
    seen = Look.at(podman(container("a", 2, EndpointID=endpoint), container("b", 3, EndpointID=endpoint)))
    assert seen.verdict("a", "b") == UNKNOWN
    assert (seen.report.totals.unknown_pairs, seen.report.totals.reachable_pairs) == (2, 2)


@pytest.mark.parametrize("settings", [None, {}, {"Networks": None}])
def test_containers_whose_networks_are_not_told_are_undecided(settings: dict[str, Any] | None) -> None:
    """Releases that leave networks out of the list (podman#9529, podman#26313) do not thereby block any pair."""
    silent = [
        container(name, last) | {"NetworkSettings": settings, "HostConfig": None} for name, last in (("a", 2), ("b", 3))
    ]
    assert Look.at(podman(*silent)).verdict("a", "b") == UNKNOWN


def test_one_namespace_is_certain() -> None:
    """What shares a namespace reaches itself on any engine."""
    joiner = container("b", 3) | {
        "HostConfig": {"NetworkMode": f"container:{identity('a')}"},
        "NetworkSettings": {"Networks": {}},
    }
    assert Look.at(podman(container("a", 2, EndpointID="x"), joiner)).verdict("a", "b") == OPEN
