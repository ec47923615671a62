"""Ports that another program than docker-proxy relays, on a real engine: packets are the judge."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from exporter.model.reach import Protocol, Via
from tests.conformance.runner import built
from tests.lab import VERSIONS, Container, Topology
from tests.lab.packages import unpacked

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.lab


def test_docker_proxy_by_another_name(tmp_path: Path) -> None:
    """On the container's own bridge, published ports are reached through the relay alone."""
    program = tmp_path / "relay-of-ours"
    program.symlink_to(unpacked(VERSIONS[-1]) / "usr/sbin/docker-proxy")
    containers = (Container("web", flags=("-p=20001:7777", "-p=20002:7777/udp")), Container("near"))
    with built(Topology(args=(f"--userland-proxy-path={program}",), containers=containers)) as host:
        outcome = host.tried(())
    assert outcome.enforced.disagreements == ()
    assert outcome.enforced.doubts == frozenset()
    published = {path.protocol for path in outcome.pair("near", "web").paths if path.via is Via.PUBLISHED_PORT}
    assert published == {Protocol.TCP, Protocol.UDP}
