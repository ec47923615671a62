"""What an engine of a given version and configuration does to packets, where the API tells, and where it does not.

Sources are moby's releases; what each constant gates is told at its use.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING

from exporter.model.snapshot import Engine, EngineVersion

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

INTERNAL_WITHOUT_DEFAULT_ROUTE = EngineVersion(25, 0)
"""moby#46603: containers on `--internal` bridges have no default route; engines before gave them one."""

INTERNAL_IPV6_WORKS = EngineVersion(25, 0)
"""da9e44a620: before, ip6tables rules of `--internal` bridges also dropped neighbour discovery (libnetwork#2626)."""

LOOPBACK_KEEPS_IPV6 = EngineVersion(26, 0)
"""moby#47062: IPv6 is switched off on the interfaces of IPv4-only networks, no longer in the whole namespace."""

IPV6_SWITCHED_OFF = EngineVersion(26, 0, 2)
"""CVE-2024-32473: 26.0.0 and 26.0.1 left it on where the interface's network is IPv4-only."""

IP6TABLES_BY_DEFAULT = EngineVersion(27, 0)
"""Before, ip6tables rules were written only with `--experimental --ip6tables`."""

GATEWAY_PER_FAMILY = EngineVersion(28, 0)
"""moby#48936: the IPv6 default route may belong to another endpoint than the IPv4 one."""

GATEWAY_BY_PRIORITY = EngineVersion(29, 5)
"""moby#52328 (of April 2026): before, whatever has gateways of both versions of IP went before all priorities."""

ROUTED_FROM_OTHER_BRIDGES = EngineVersion(28, 0)
"""moby#48596: other bridges reach a routed network's published ports."""

LINK_LOCAL_PROXIED = EngineVersion(28, 0)
"""moby#48570: what comes from link-local addresses is not rewritten, so that docker-proxy takes it."""

LINKS_BY_LABEL = EngineVersion(28, 0)
"""moby#47406: when a link is removed, what is told of the parent's other links is lost with it."""

DIRECT_ACCESS_DROP = EngineVersion(28, 2)
"""moby#49829: the raw table protects all containers of a network, no longer their published ports alone."""

NO_INTER_NETWORK_DROP = EngineVersion(29, 0)
"""moby#49981: DOCKER-ISOLATION-STAGE-1/2 and the SKIP-DNAT rule are gone, published ports work across bridges."""

PROXY_UNTOLD = "whether docker-proxy runs (--userland-proxy): this engine does not tell"
IP6TABLES_UNTOLD = "whether the engine writes ip6tables rules (--ip6tables): this engine does not tell"
FORWARDING_UNTOLD = "whether the host forwards IPv6: it does not forward IPv4, and the API tells no more"


@dataclass(frozen=True, slots=True)
class Settings:
    """One way in which the engine may be configured, as far as its API leaves that open."""

    userland_proxy: bool
    ip6tables: bool
    ipv6_forwarding: bool


_UNTOLD = {
    "userland_proxy": PROXY_UNTOLD,
    "ip6tables": IP6TABLES_UNTOLD,
    "ipv6_forwarding": FORWARDING_UNTOLD,
}
"""What must be known, by the setting that it depends on."""


@dataclass(frozen=True, slots=True)
class Behaviour:
    """The engine's version and backend, and every configuration that agrees with what its API tells.

    Of IPv6 no engine tells whether it is forwarded; it counts as forwarded where IPv4 is.
    """

    version: EngineVersion
    nftables: bool
    rootless: bool
    proxy_options: tuple[bool, ...]
    ip6tables_options: tuple[bool, ...]
    ipv4_forwarding: bool

    @classmethod
    def of(cls, engine: Engine) -> Behaviour:
        """Return the behaviour of an engine."""
        proxy = engine.userland_proxy
        if engine.version >= IP6TABLES_BY_DEFAULT:
            ip6tables: tuple[bool, ...] = (True,)
        else:
            ip6tables = (True, False) if engine.experimental else (False,)
        return cls(
            version=engine.version,
            nftables=engine.firewall_backend.startswith("nftables"),
            rootless=engine.rootless,
            proxy_options=(True, False) if proxy is None else (proxy,),
            ip6tables_options=ip6tables,
            ipv4_forwarding=engine.ipv4_forwarding is not False,
        )

    @property
    def leaves_ipv6_on(self) -> bool:
        """Return whether containers have link-local addresses on IPv4-only networks, as far as the engine goes."""
        return LOOPBACK_KEEPS_IPV6 <= self.version < IPV6_SWITCHED_OFF

    @property
    def ipv6_forwarding_options(self) -> tuple[bool, ...]:
        """Return whether the host may forward IPv6, and whether it may not."""
        return (True,) if self.ipv4_forwarding else (True, False)

    def decide(self, holds: Callable[[Settings], bool]) -> str | None:
        """Return `""` where it holds whatever the API leaves open, None where it never does, else what must be known.

        `holds` is asked about each possible configuration.
        """
        outcomes = {settings: holds(settings) for settings in self._possible()}
        if all(outcomes.values()):
            return ""
        if not any(outcomes.values()):
            return None
        return next(reason for setting, reason in _UNTOLD.items() if _matters(setting, outcomes))

    def _possible(self) -> Iterator[Settings]:
        for options in product(self.proxy_options, self.ip6tables_options, self.ipv6_forwarding_options):
            yield Settings(*options)

    def forwards(self, family: int, settings: Settings) -> bool:
        """Return whether the host forwards packets of IP version 4 or 6."""
        return self.ipv4_forwarding if family == 4 else settings.ipv6_forwarding

    @staticmethod
    def filters(family: int, settings: Settings) -> bool:
        """Return whether the engine writes firewall rules for IP version 4 or 6."""
        return family == 4 or settings.ip6tables


def _matters(setting: str, outcomes: Mapping[Settings, bool]) -> bool:
    """Return whether an outcome changes with one setting alone."""
    flipped = ((replace(item, **{setting: not getattr(item, setting)}), holds) for item, holds in outcomes.items())
    return any(outcomes.get(item, holds) != holds for item, holds in flipped)
