"""What the engine's daemon would be configured with if it were started anew."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Setting:
    """A switch of the daemon, and where it is set."""

    value: bool
    origin: str

    def __str__(self) -> str:
        return f"{str(self.value).lower()} ({self.origin})"


@dataclass(frozen=True, slots=True)
class Configuration:
    """The configuration of the next start.

    `default_bridge` is whether there would be one (`--bridge=none`). `refusals` are reasons why the daemon would not
    start with it. `service` is what would start it, empty where nobody knows: the command line is then assumed to stay
    as it is. `unused` are flags in /etc/default/docker that nothing reads.
    """

    icc: Setting
    iptables: Setting
    ip6tables: Setting
    userland_proxy: Setting
    ip_forward: Setting
    live_restore: Setting
    default_bridge: bool
    service: str
    refusals: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
