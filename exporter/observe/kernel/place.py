"""Whether a namespace is the engine's own: one that is another's would be read without an error, and lie."""

from __future__ import annotations

from contextlib import suppress
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from exporter.model.addresses import Subnet
    from exporter.model.observation import NamespaceDocuments

_BRIDGE_NAME: Final = "com.docker.network.bridge.name"
_DEFAULT_BRIDGE: Final = "docker0"
WRONG: Final = "this is not the engine's network namespace: use --host.netns"


def wrong_place(networks: Iterable[Mapping[str, Any]], host: NamespaceDocuments) -> str:
    """Return why a namespace cannot be that of an engine with these networks; empty if it can.

    Each bridge network has a bridge there, `br-` and the beginning of its id unless it is told otherwise. A bridge that
    somebody removed by hand must not make its host a stranger, so one that is there is enough; except `docker0`, which
    every engine has: that one's address has to be right as well, unless somebody took it away.
    """
    expected = dict(bridges(networks))
    if not expected:
        return ""
    present = {link.get("ifname") for link in host.links if _is_bridge(link)}
    addresses = {(str(each.get("ifname")), str(each["local"])) for each in host.addresses if each.get("local")}
    for name, gateways in expected.items():
        if name in present and (name != _DEFAULT_BRIDGE or _has_only(addresses, name, gateways)):
            return ""
    if _DEFAULT_BRIDGE in present and _DEFAULT_BRIDGE in expected:
        return f"{WRONG} (its {_DEFAULT_BRIDGE} has other addresses than {', '.join(expected[_DEFAULT_BRIDGE])})"
    named = ", ".join(sorted(expected)[:3])
    return f"{WRONG} (it has none of the engine's bridges: {named}{', …' if len(expected) > 3 else ''})"


def overlays(networks: Iterable[Mapping[str, Any]]) -> Iterator[Subnet]:
    """Yield the subnets of overlay networks."""
    for network in networks:
        pools = (network.get("IPAM") or {}).get("Config") or () if network.get("Driver") == "overlay" else ()
        for pool in pools:
            with suppress(ValueError):
                yield ip_network(str(pool.get("Subnet")), strict=False)


def bridges(networks: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, list[str]]]:
    """Yield the name of each network's bridge and the addresses that it should have."""
    for network in networks:
        if network.get("Driver") != "bridge" or network.get("ConfigOnly"):
            continue
        options = network.get("Options")
        named = options.get(_BRIDGE_NAME) if isinstance(options, dict) else None
        name = named or f"br-{str(network.get('Id', ''))[:12]}"
        pools = network.get("IPAM", {}).get("Config", [])
        yield str(name), [str(pool["Gateway"]) for pool in pools if pool.get("Gateway")]


def _has_only(addresses: Iterable[tuple[str, str]], name: str, gateways: Iterable[str]) -> bool:
    """Return whether an interface has one of the gateways' addresses, or none at all but link-local ones."""
    wanted = {gateway.partition("/")[0] for gateway in gateways}
    own = {local for interface, local in addresses if interface == name and not ip_address(local).is_link_local}
    return not wanted or not own or not wanted.isdisjoint(own)


def _is_bridge(link: Mapping[str, Any]) -> bool:
    info = link.get("linkinfo")
    return isinstance(info, dict) and info.get("info_kind") == "bridge"
