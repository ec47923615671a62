"""`GET /version` and `GET /info` to an Engine."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from exporter.model.snapshot import FACTS_KEPT, Engine, EngineVersion, Product
from exporter.parse.fields import flag, mapping, objects, strings, text

if TYPE_CHECKING:
    from collections.abc import Mapping

_VERSION = re.compile(r"^v?(\d{1,9})(?:\.(\d{1,9}))?(?:\.(\d{1,9}))?")
_DEVELOPMENT_MINOR = 999
"""Builds of moby's master call themselves `29-dev`: later than every 29.x release."""

NEWEST_KNOWN = EngineVersion(29, 7, 2)

# FirewallBackend.Info carries EnableUserlandProxy since 29.5, and only when the proxy is enabled.
_USERLAND_PROXY_TOLD = EngineVersion(29, 5)


def parse_engine(version: Mapping[str, Any], info: Mapping[str, Any]) -> Engine:
    """Return the engine; fields that its API does not tell, or tells without meaning it, are None."""
    number = parse_version(text(version, "Version"))
    # what is kept is from before the engine switched br_netfilter on itself, and from 28.0 on it is a constant false
    known_netfilter = number < FACTS_KEPT
    return Engine(
        id=text(info, "ID"),
        name=text(info, "Name"),
        version=number,
        version_text=text(version, "Version"),
        api_version=text(version, "ApiVersion"),
        product=_product(version),
        firewall_backend=text(mapping(info, "FirewallBackend"), "Driver") or "iptables",
        rootless="name=rootless" in {option.partition(",")[0] for option in strings(info, "SecurityOptions")},
        swarm=text(mapping(info, "Swarm"), "LocalNodeState") == "active",
        experimental=flag(info, "ExperimentalBuild"),
        ipv4_forwarding=flag(info, "IPv4Forwarding"),
        bridge_netfilter_v4=flag(info, "BridgeNfIptables") if known_netfilter else None,
        bridge_netfilter_v6=flag(info, "BridgeNfIp6tables") if known_netfilter else None,
        userland_proxy=_userland_proxy(number, info),
        live_restore=flag(info, "LiveRestoreEnabled"),
    )


def parse_version(value: str) -> EngineVersion:
    """Return `20.10.24+dfsg1` as (20, 10, 24), and the newest version known for what is no version."""
    match = _VERSION.match(value)
    if match is None:
        return NEWEST_KNOWN
    major, minor, patch = match.groups()
    return EngineVersion(int(major), int(minor) if minor else _DEVELOPMENT_MINOR, int(patch or 0))


def _product(version: Mapping[str, Any]) -> Product:
    names = [text(component, "Name") for component in objects(version, "Components")]
    names.append(text(mapping(version, "Platform"), "Name"))
    return Product.PODMAN if any("podman" in name.lower() for name in names) else Product.DOCKER


def _userland_proxy(version: EngineVersion, info: Mapping[str, Any]) -> bool | None:
    backend = mapping(info, "FirewallBackend")
    details = backend.get("Info")
    for item in details if isinstance(details, list | tuple) else ():
        if isinstance(item, list | tuple) and len(item) == 2 and item[0] == "EnableUserlandProxy":
            return bool(item[1] == "true")
    return False if backend and version >= _USERLAND_PROXY_TOLD else None
