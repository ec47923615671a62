"""What a restart of the daemon would change, by the configuration that it would find."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from exporter.model.daemon import Configuration
from exporter.model.report import PendingRestart

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exporter.model.daemon import Setting
    from exporter.model.snapshot import Network, Snapshot

_RELOAD: Final = ", once systemd has read its units anew (systemctl daemon-reload)"


def pending_restart(snapshot: Snapshot) -> PendingRestart | None:
    """Return what a restart would change; None where the configuration is not known.

    A daemon that would not start changes ICC as well: nobody keeps what it kept.
    """
    configuration = snapshot.configuration
    if not isinstance(configuration, Configuration):
        return None
    refused = tuple(f"the daemon would not start: {reason}" for reason in configuration.refusals)
    if refused:
        return PendingRestart(icc=True, reasons=refused, starts=False)
    now, then = _now(snapshot), configuration.icc.value if configuration.default_bridge else None
    if keeps_networks(snapshot):
        return PendingRestart(icc=False, reasons=tuple(_kept(configuration, now, then)))
    reasons = (*_changes(snapshot, configuration, now, then), *_unused(configuration))
    return PendingRestart(icc=now is not then, reasons=reasons)


def keeps_networks(snapshot: Snapshot) -> bool:
    """Return whether a restart leaves the default bridge as it is, whatever is configured.

    It does where containers outlive the daemon, and only where it was and will be started with live-restore: else they
    end with the old daemon or are ended by the new one, before it sets up networks (moby: initNetworkController).
    """
    configuration = snapshot.configuration
    configured = configuration.live_restore.value if isinstance(configuration, Configuration) else None
    running = snapshot.engine.live_restore
    return (
        bool(snapshot.containers) and (configured if running is None else running and configured is not False) is True
    )


def default_bridge(snapshot: Snapshot) -> Network | None:
    """Return the engine's default bridge."""
    return next((network for network in snapshot.networks.values() if network.default), None)


def _now(snapshot: Snapshot) -> bool | None:
    network = default_bridge(snapshot)
    return network.icc if network is not None else None


def _kept(configuration: Configuration, now: bool | None, then: bool | None) -> Iterator[str]:
    if now is not then:
        wanted = "no default bridge" if then is None else f"icc={configuration.icc}"
        yield (
            f"{wanted} is configured, and comes into effect when the daemon starts while no container runs: "
            "live-restore keeps networks as they are"
        )


def _changes(snapshot: Snapshot, configuration: Configuration, now: bool | None, then: bool | None) -> Iterator[str]:
    if now is not then:
        is_now = "there is none now" if now is None else f"it is {str(now).lower()} now"
        wanted = "there would be none" if then is None else f"icc would be {configuration.icc}"
        yield f"default bridge: {wanted}, {is_now}{_when(configuration.icc)}"
    proxy, proposed = snapshot.engine.userland_proxy, configuration.userland_proxy
    if proxy is not None and proxy is not proposed.value:
        yield f"userland-proxy would be {proposed}, it is {str(proxy).lower()} now{_when(proposed)}"


def _when(setting: Setting) -> str:
    """Return what has to happen before a restart, for a setting in a unit: systemd keeps units in memory."""
    return _RELOAD if "/systemd/" in setting.origin else ""


def _unused(configuration: Configuration) -> Iterator[str]:
    if configuration.unused:
        flags = " ".join(configuration.unused)
        reader = configuration.service or "what is known of the daemon's start"
        yield f"/etc/default/docker says {flags} in DOCKER_OPTS, which {reader} does not read"
