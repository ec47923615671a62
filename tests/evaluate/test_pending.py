"""What a restart of the daemon would change."""

from __future__ import annotations

from dataclasses import replace

import pytest

from exporter.evaluate import evaluate
from exporter.model.daemon import Configuration, Setting
from exporter.model.report import PendingRestart, Report
from tests.hosts import host
from tests.kernels import kernel

ON, OFF = Setting(True, "the default"), Setting(False, "daemon.json")
SAME = Configuration(ON, ON, ON, ON, ON, OFF, default_bridge=True, service="")
CLOSED = replace(SAME, icc=OFF)
LIVE = replace(CLOSED, live_restore=ON)
KEPT = (
    "icc=false (daemon.json) is configured, and comes into effect when the daemon starts while no container runs: "
    "live-restore keeps networks as they are"
)


def report(
    configured: Configuration | str, *, running: bool = True, live_restore: bool | None = False, bridge: str = "docker0"
) -> Report:
    """Return the report of an open default bridge whose daemon would be started with another configuration."""
    built = host("29", bridge=bridge, LiveRestoreEnabled=live_restore)
    seen = (built.container("web") if running else built).look()
    return evaluate(replace(seen.snapshot, configuration=configured))


def pending(configured: Configuration, *, running: bool = True, live_restore: bool | None = False) -> PendingRestart:
    """Return what is pending there."""
    found = report(configured, running=running, live_restore=live_restore).pending_restart
    assert found is not None
    return found


def test_nothing_is_pending_where_that_runs_which_is_configured() -> None:
    """No change, and no reason."""
    assert pending(SAME) == PendingRestart(icc=False)


def test_another_icc_is_pending() -> None:
    """What it would be, where that is set, and what it is now; what a unit says counts once systemd has read it."""
    reason = "default bridge: icc would be false (daemon.json), it is true now"
    assert pending(replace(CLOSED, service="docker.service")) == PendingRestart(icc=True, reasons=(reason,))
    unit = Setting(False, "/lib/systemd/system/docker.service")
    (told,) = pending(replace(CLOSED, icc=unit)).reasons
    assert told.endswith("it is true now, once systemd has read its units anew (systemctl daemon-reload)")


@pytest.mark.parametrize(
    ("configured", "running", "live_restore", "icc"),
    [
        (LIVE, True, True, False),
        (LIVE, False, True, True),
        (LIVE, True, False, True),
        (CLOSED, True, True, True),
        (LIVE, True, None, False),
        (CLOSED, True, None, True),
    ],
)
def test_live_restore_keeps_networks(
    configured: Configuration, running: bool, live_restore: bool | None, icc: bool
) -> None:
    """Only containers that outlive the old daemon and are taken over by the new one keep a configuration out."""
    found = pending(configured, running=running, live_restore=live_restore)
    assert found.icc is icc
    assert (found.reasons == (KEPT,)) is not icc


def test_the_default_bridge_may_go_or_come() -> None:
    """A bridge that would be gone, or there again, is a change of its ICC."""
    gone = pending(replace(SAME, default_bridge=False))
    assert gone == PendingRestart(True, ("default bridge: there would be none, it is true now",))
    come = report(SAME, running=False, bridge="").pending_restart
    assert come == PendingRestart(True, ("default bridge: icc would be true (the default), there is none now",))
    assert report(replace(SAME, default_bridge=False), running=False, bridge="").pending_restart == PendingRestart(
        icc=False
    )


def test_a_daemon_that_would_not_start_is_a_change() -> None:
    """Each reason is told, and nothing else: no ICC comes of it."""
    found = pending(replace(CLOSED, refusals=("one", "two")))
    reasons = ("the daemon would not start: one", "the daemon would not start: two")
    assert found == PendingRestart(icc=True, reasons=reasons, starts=False)


def test_docker_proxy_is_told_of_and_changes_no_icc() -> None:
    """Where the engine tells whether docker-proxy runs, a change of that is told as well."""
    found = pending(replace(SAME, userland_proxy=OFF))
    assert found == PendingRestart(False, ("userland-proxy would be false (daemon.json), it is true now",))


def test_docker_opts_that_nothing_reads_are_told_of() -> None:
    """Flags in /etc/default/docker that the unit does not use change nothing."""
    found = pending(replace(SAME, service="docker.service", unused=("--icc=false",)))
    assert found.icc is False
    assert found.reasons == ("/etc/default/docker says --icc=false in DOCKER_OPTS, which docker.service does not read",)


def test_what_is_not_known_is_not_pending() -> None:
    """Without the configuration nothing is said but why."""
    seen = report("no dockerd is visible")
    assert (seen.pending_restart, seen.configuration_missing) == (None, "no dockerd is visible")


def test_br_netfilter_as_the_kernel_has_it() -> None:
    """The kernel's sysctl counts before the engine's word; a kernel that has none has no such module."""
    built = host("20.10", BridgeNfIptables=True, BridgeNfIp6tables=False).container("web")
    assert built.look().report.bridge_netfilter == {"ipv4": True, "ipv6": False}
    below = kernel(built).engine_rules().set("bridge/bridge-nf-call-iptables", 0)
    assert below.look().report.bridge_netfilter == {"ipv4": False, "ipv6": True}
    below.settings = {}
    assert below.look().report.bridge_netfilter == {"ipv4": False, "ipv6": False}
    assert below.unread("bridge", "no permission").look().report.bridge_netfilter == {"ipv4": True, "ipv6": False}


def test_networks_have_the_families_that_they_have_addresses_of() -> None:
    """IPv4 by default, IPv6 where it is switched on, and no IPv4 where that is off."""
    built = host("28.5").network("both", ipv6=True).network("six", ipv4=False, ipv6=True)
    families = {network.name: network.families for network in built.look().report.networks}
    assert (families["bridge"], families["both"], families["six"]) == (("ipv4",), ("ipv4", "ipv6"), ("ipv6",))


def test_br_netfilter_is_not_known_to_newer_engines() -> None:
    """Since 23.0 the engine's word is of its start, and without the kernel nothing is said."""
    assert host("28.5", BridgeNfIptables=False, BridgeNfIp6tables=False).look().report.bridge_netfilter == {}
