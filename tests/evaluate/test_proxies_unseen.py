"""Where docker-proxy leads that nobody saw: without its command line, or with several, no verdict rests on it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from exporter.evaluate.enforced.listening import UNSEEN
from exporter.model.namespace import DOCKER_PROXY
from exporter.model.reach import Protocol
from tests.evaluate.test_kinds import check
from tests.hosts import host
from tests.kernels import kernel
from tests.looks import CLOSED, OPEN, UNKNOWN, Look

if TYPE_CHECKING:
    from tests.kernels import KernelOf

WHY = UNSEEN.format(port=8080, protocol=Protocol.TCP)


def published() -> KernelOf:
    """Return a host whose containers reach a published port of their own bridge by docker-proxy alone."""
    built = host("28.5", icc=False).container("client").container("web", publish=["8080:80"]).container("other")
    return kernel(built).engine_rules()


def without_relays(of: KernelOf, program: str, missing: dict[str, str]) -> Look:
    """Return what the exporter makes of a host whose docker-proxies have no command lines."""
    seen = of.look()
    found = seen.snapshot.kernel
    assert found is not None
    listeners = tuple(replace(each, relay=None, program=program) for each in found.host.listeners)
    snapshot = replace(
        seen.snapshot, kernel=replace(found, host=replace(found.host, listeners=listeners), missing=missing)
    )
    check(snapshot)
    return Look(seen.observation, snapshot)


def test_a_command_line_decides() -> None:
    """What is seen to lead to the container does, and nothing is open."""
    seen = published().look()
    assert seen.probe("client", "web", seen.gateway(), "8080/tcp") == OPEN
    assert not seen.reasons("client", "web")


@pytest.mark.parametrize(
    ("program", "missing"),
    [("", {"relays": "no PID view"}), (DOCKER_PROXY, {})],
    ids=["no process is seen", "several may have the socket"],
)
def test_whoever_has_the_port_published_may_be_led_to(program: str, missing: dict[str, str]) -> None:
    """That is not known, and nobody else is led to."""
    seen = without_relays(published(), program, missing)
    assert seen.probe("client", "web", seen.gateway(), "8080/tcp") == UNKNOWN
    assert seen.reasons("client", "web") == {WHY}
    assert seen.probe("client", "other", seen.gateway(), "8080/tcp") == CLOSED


def test_sockets_that_were_not_read_may_be_docker_proxy_s() -> None:
    """Without any of the host's sockets, published ports may have docker-proxies."""
    of = published().unread("listeners", "not permitted")
    of.listeners.clear()
    seen = of.look()
    assert seen.probe("client", "web", seen.gateway(), "8080/tcp") == UNKNOWN
    assert seen.reasons("client", "web") == {WHY}


def test_a_socket_that_no_docker_proxy_has_leads_nowhere() -> None:
    """With --userland-proxy=false the engine holds the port itself."""
    seen = without_relays(published(), "", {})
    assert seen.probe("client", "web", seen.gateway(), "8080/tcp") == CLOSED
