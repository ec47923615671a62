"""`GET /version` and `GET /info` as different engines answer them."""

from __future__ import annotations

from typing import Any

import pytest

from exporter.model.snapshot import EngineVersion, Product
from exporter.parse.engine import NEWEST_KNOWN, parse_engine, parse_version
from tests.hosts import ALL, host


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("20.10.24+dfsg1", (20, 10, 24)),
        ("28.5.2+dfsg4", (28, 5, 2)),
        ("29.0.0-rc.1", (29, 0, 0)),
        ("v27.1", (27, 1, 0)),
        ("26.1.5-ce", (26, 1, 5)),
    ],
)
def test_versions_are_read(text: str, expected: tuple[int, int, int]) -> None:
    """Suffixes of distributions and release candidates are no part of the number."""
    assert parse_version(text) == expected


def test_development_builds_are_later_than_releases() -> None:
    """A build of master is of the newest behaviour of its major version."""
    assert EngineVersion(29, 7, 2) < parse_version("29-dev") < EngineVersion(30)


@pytest.mark.parametrize("text", ["", "dev", "library-import", "-1.2"])
def test_what_is_no_version_is_the_newest(text: str) -> None:
    """An engine that does not say its version is taken for the newest that is known."""
    assert parse_version(text) == NEWEST_KNOWN


@pytest.mark.parametrize("version", ALL)
def test_documents_of_each_release(version: str) -> None:
    """Version, API version, product and backend are as the documents say."""
    engine = host(version).look().snapshot.engine
    assert engine.version_text.startswith(version.removesuffix(" nft"))
    assert engine.product is Product.DOCKER
    assert engine.firewall_backend == ("nftables" if version == "29 nft" else "iptables")


@pytest.mark.parametrize(("version", "expected"), [("20.10", True), ("26.1", None), ("28.5", None), ("29", None)])
def test_bridge_netfilter_is_told_before_23(version: str, *, expected: bool | None) -> None:
    """From 23.0 on the field is what the engine once read, from 28.0 on a constant, and means nothing."""
    engine = host(version, BridgeNfIptables=True, BridgeNfIp6tables=True).look().snapshot.engine
    assert (engine.bridge_netfilter_v4, engine.bridge_netfilter_v6) == (expected, expected)


BACKEND = {"Driver": "iptables"}
ENABLED = {**BACKEND, "Info": [["ReloadedAt", "x"], ["EnableUserlandProxy", "true"]]}


@pytest.mark.parametrize(
    ("version", "backend", "expected"),
    [
        ("29.5.0", ENABLED, True),
        ("29.5.0", BACKEND, False),
        ("29.5.0", {**BACKEND, "Info": [["EnableUserlandProxy", "false"]]}, False),
        ("29.5.0", None, None),
        ("29.5.0", {}, None),
        ("29.4.9", BACKEND, None),
        ("29.4.9", ENABLED, True),
        ("29-dev", BACKEND, False),
        ("28.5.2", BACKEND, None),
        ("28.5.2", {**BACKEND, "Info": "EnableUserlandProxy"}, None),
        ("28.5.2", {**BACKEND, "Info": [["EnableUserlandProxy"], None, 7]}, None),
    ],
)
def test_docker_proxy_is_told_from_29_5(version: str, backend: dict[str, Any] | None, *, expected: bool | None) -> None:
    """Absence of the key means disabled from 29.5 on, and nothing before or without a backend."""
    assert parse_engine({"Version": version}, {"FirewallBackend": backend}).userland_proxy is expected


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["name=rootless"], True),
        (["name=seccomp,profile=builtin", "name=rootless"], True),
        (["name=rootless,x=y"], True),
        (["name=seccomp,profile=rootless"], False),
        ([], False),
        (None, False),
        ("name=rootless", False),
    ],
)
def test_rootless_engines_say_so(options: object, *, expected: bool) -> None:
    """`SecurityOptions` names rootless as an option of its own."""
    assert parse_engine({}, {"SecurityOptions": options}).rootless is expected


@pytest.mark.parametrize(
    ("swarm", "expected"),
    [({"LocalNodeState": "active"}, True), ({"LocalNodeState": "inactive"}, False), (None, False), ("active", False)],
)
def test_swarms_are_recognised(swarm: object, *, expected: bool) -> None:
    """An engine is in a swarm when its node is active."""
    assert parse_engine({}, {"Swarm": swarm}).swarm is expected


def test_an_engine_that_says_nothing() -> None:
    """Of empty documents everything is not told, and nothing is made up."""
    engine = parse_engine({}, {})
    told = (engine.experimental, engine.ipv4_forwarding, engine.bridge_netfilter_v4, engine.userland_proxy)
    assert told == (None, None, None, None)
    assert (engine.id, engine.name, engine.version_text) == ("", "", "")
