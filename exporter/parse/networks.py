"""`GET /networks` to networks."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from exporter.model.addresses import prefix_of
from exporter.model.snapshot import Engine, EngineVersion, GatewayMode, IpamPool, Network, Product
from exporter.parse.fields import address, flag, go_bool, identity, integer, mapping, objects, subnet, text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence, Set

    from exporter.model.addresses import Address, Subnet
    from exporter.parse.aligned import Aligned

_BRIDGE = "com.docker.network.bridge."
_GATEWAY_MODES = {
    GatewayMode.NAT: EngineVersion(0),
    GatewayMode.ROUTED: EngineVersion(27, 0),
    GatewayMode.NAT_UNPROTECTED: EngineVersion(28, 0),
    GatewayMode.ISOLATED: EngineVersion(28, 0),
}
"""Since which engine a mode exists; an older engine stores the option and ignores it."""


_IPVLAN_FLAG = EngineVersion(23, 0)
"""Since when ipvlan_flag exists; an older engine stores the option and ignores it."""


def parse_networks(
    documents: Sequence[Mapping[str, Any]], engine: Engine, known: Aligned[Network | None]
) -> dict[str, Network]:
    """Return networks by id. Config-only networks are templates, not networks, and left out."""
    found = known(documents, lambda document: _network(document, engine))
    return {network.id: network for network in found if network is not None}


def with_gateways(networks: Mapping[str, Network], told: Mapping[str, Set[Address]]) -> dict[str, Network]:
    """Return bridge networks with the gateways that `GET /networks` leaves out when the user did not choose them.

    An endpoint names where its default route leads, which is the gateway unless the user chose a router; and it names
    nothing on `--internal` networks since 25.0. What nobody names is the first address of the pool: the engine's IPAM
    hands addresses out in order, and the gateway's first.
    """
    return {
        network.id: network
        if network.driver != "bridge" or all(pool.gateway is not None for pool in network.pools)
        else replace(network, pools=tuple(_with_gateway(pool, told.get(network.id, ())) for pool in network.pools))
        for network in networks.values()
    }


def with_pools(networks: Mapping[str, Network], containers: Iterable[Mapping[str, Any]]) -> dict[str, Network]:
    """Return networks with the subnets that `GET /networks` leaves out where it leaves out the driver's options."""
    bare = {network.id for network in networks.values() if not (network.driver or network.pools)}
    found: dict[str, set[Subnet]] = {each: set() for each in bare}
    for container in containers if bare else ():
        for endpoint in mapping(mapping(container, "NetworkSettings"), "Networks").values():
            if isinstance(endpoint, dict) and text(endpoint, "NetworkID") in bare:
                found[text(endpoint, "NetworkID")].update(_told_subnets(endpoint))
    return {
        each.id: replace(each, pools=tuple(IpamPool(own, own, None) for own in sorted(found[each.id], key=str)))
        if each.id in bare
        else each
        for each in networks.values()
    }


def _told_subnets(endpoint: Mapping[str, Any]) -> Iterator[Subnet]:
    for own, length in (("IPAddress", "IPPrefixLen"), ("GlobalIPv6Address", "GlobalIPv6PrefixLen")):
        told, prefix = address(text(endpoint, own)), integer(endpoint, length)
        if told is not None and 0 < prefix <= told.max_prefixlen:
            yield prefix_of(told, prefix)


def _with_gateway(pool: IpamPool, told: Iterable[Address]) -> IpamPool:
    if pool.gateway is not None:
        return pool
    named = (gateway for gateway in told if gateway in pool.subnet and gateway != pool.router)
    return replace(pool, gateway=next(named, _first_address(pool)))


def _first_address(pool: IpamPool) -> Address:
    first = pool.range.network_address
    whole = first == pool.subnet.network_address and pool.subnet.num_addresses > 1
    return first + 1 if whole else first


def _network(document: Mapping[str, Any], engine: Engine) -> Network | None:
    if flag(document, "ConfigOnly"):
        return None
    options = mapping(document, "Options")
    driver = "" if _is_untold(document) else text(document, "Driver")
    network_id = identity(document, "network")
    return Network(
        id=network_id,
        name=text(document, "Name"),
        driver=driver,
        internal=flag(document, "Internal") is True,
        ingress=flag(document, "Ingress") is True,
        default=text(options, _BRIDGE + "default_bridge") == "true",
        ipv4=flag(document, "EnableIPv4") is not False,
        ipv6=flag(document, "EnableIPv6") is True,
        pools=tuple(_pools(document, driver)),
        icc=_icc(options, driver, engine),
        masquerade=go_bool(text(options, _BRIDGE + "enable_ip_masquerade")) is not False,
        gateway_mode_v4=_gateway_mode(text(options, _BRIDGE + "gateway_mode_ipv4"), engine),
        gateway_mode_v6=_gateway_mode(text(options, _BRIDGE + "gateway_mode_ipv6"), engine),
        inhibit_ipv4=go_bool(text(options, _BRIDGE + "inhibit_ipv4")) is True,
        trusted_host_interfaces=tuple(filter(None, text(options, _BRIDGE + "trusted_host_interfaces").split(":"))),
        interface=text(options, _BRIDGE + "name") or f"br-{network_id[:12]}",
        parent=text(options, "parent"),
        mode=text(options, f"{driver}_mode") or {"macvlan": "bridge", "ipvlan": "l2"}.get(driver, ""),
        flag=(text(options, "ipvlan_flag") if engine.version >= _IPVLAN_FLAG else "") or "bridge",
    )


def _is_untold(document: Mapping[str, Any]) -> bool:
    """Return whether a driver's options and subnets are left out, as those of networks that a swarm made.

    The list has them of overlays alone, whose options matter to nobody.
    """
    return text(document, "Scope") == "swarm" and text(document, "Driver") != "overlay" and not document.get("Options")


def _icc(options: Mapping[str, Any], driver: str, engine: Engine) -> bool | None:
    """Return the configured ICC; absent means true to the bridge driver, and nothing at all to Podman's API."""
    if driver != "bridge" or engine.product is Product.PODMAN:
        return None
    return go_bool(text(options, _BRIDGE + "enable_icc") or "true")


def _gateway_mode(value: str, engine: Engine) -> GatewayMode:
    if value not in set(GatewayMode):
        return GatewayMode.NAT
    mode = GatewayMode(value)
    return mode if engine.version >= _GATEWAY_MODES[mode] else GatewayMode.NAT


def _pools(document: Mapping[str, Any], driver: str) -> Iterator[IpamPool]:
    for config in objects(mapping(document, "IPAM"), "Config"):
        pool = subnet(text(config, "Subnet"))
        if pool is not None:
            taken_from = subnet(text(config, "IPRange")) or pool
            gateway = address(text(config, "Gateway"))
            router = _router(config, pool) if driver == "bridge" else None
            yield IpamPool(pool, taken_from, gateway, router if router != gateway else None)


def _router(config: Mapping[str, Any], pool: Subnet) -> Address | None:
    """Return what `--default-gateway` and `--aux-address DefaultGatewayIPv4=...` ask for."""
    return address(text(mapping(config, "AuxiliaryAddresses"), f"DefaultGatewayIPv{pool.version}"))
