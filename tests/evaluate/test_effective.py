"""The ICC of networks as the kernel enforces it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.hosts import host
from tests.kernels import kernel

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.looks import Look


def found(seen: Look) -> Mapping[str, tuple[bool | None, bool | None]]:
    """Return the ICC of bridges, configured and in effect."""
    return {
        each.name: (each.icc_enabled, each.icc_effective) for each in seen.report.networks if each.driver == "bridge"
    }


BUILT = (
    host("28.5", icc=False)
    .network("open")
    .network("shut", enable_icc="false")
    .network("lone")
    .container("db", expose=["5432/tcp"])
    .container("web", links=["db"])
    .container("a", "open", "shut")
    .container("b", "open", "shut")
    .container("c", "lone")
    .container("d", "container:c")
)


def test_the_kernel_of_an_engine_does_as_configured() -> None:
    """Open is open and closed is closed, links aside; one sandbox alone tells nothing."""
    assert found(kernel(BUILT).engine_rules().look()) == {
        "bridge": (False, False),
        "open": (True, True),
        "shut": (False, False),
        "lone": (True, None),
    }


def test_a_switch_opens_what_is_configured_closed() -> None:
    """Without br_netfilter every network is open."""
    seen = kernel(BUILT).engine_rules().set("bridge/bridge-nf-call-iptables", 0).look()
    assert [found(seen)[name][1] for name in ("bridge", "open", "shut")] == [True, True, True]


def test_a_rule_closes_what_is_configured_open() -> None:
    """A rule of the user closes a network, but one that leaves a port open does not."""
    closed = kernel(BUILT).engine_rules().rules("-A DOCKER-USER -j DROP").look()
    assert found(closed)["open"] == (True, False)
    narrowed = kernel(BUILT).engine_rules().rules("-A DOCKER-USER -p tcp -m tcp --dport 1:1023 -j DROP").look()
    assert found(narrowed)["open"] == (True, True)


def test_without_the_kernel_nothing_is_said() -> None:
    """From the API alone only the configuration is known."""
    assert {effective for _, effective in found(BUILT.look()).values()} == {None}
