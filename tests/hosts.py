"""Hosts as the Engine API documents them, written in a line per thing, and what the exporter makes of them.

seen = host("28.5", icc=False).network("a").container("web", "a", publish=["8080:80"]).container("db").look()
assert seen.verdict("db", "web") == "unknown"
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from typing import TYPE_CHECKING, Any, Self

from exporter.model.observation import Observation, Sighting
from tests.looks import Look

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

Document = dict[str, Any]

NOW = datetime(2026, 1, 1, tzinfo=UTC)
BRIDGE_OPTION = "com.docker.network.bridge."


@dataclass(frozen=True, slots=True)
class Release:
    """An engine's release, and what of it shows in the shape of its documents."""

    version: str
    api_version: str
    nftables: bool = False

    @property
    def number(self) -> tuple[int, int]:
        """Return major and minor."""
        major, minor = self.version.split(".")[:2]
        return int(major), int(minor)


RELEASES = {
    "20.10": Release("20.10.24+dfsg1", "1.41"),
    "26.1": Release("26.1.5+dfsg1", "1.45"),
    "28.5": Release("28.5.2+dfsg4", "1.51"),
    "29": Release("29.7.2", "1.55"),
    "29 nft": Release("29.7.2", "1.55", nftables=True),
}
"""The columns of the truth table."""

ALL = tuple(RELEASES)


def identity(*parts: object) -> str:
    """Return an id such as the engine makes: 64 hexadecimal digits."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()


class Host:
    """The documents of one engine, under construction.

    `icc`, `masquerade`, `ipv6` and `bridge` (`""`: `--bridge=none`) are the default network's; `userland_proxy` shows
    in what the engine tells from 29.5 on, and in IPv6 ports that only docker-proxy can lead to a container without
    IPv6; `info` overrides fields of `GET /info`.
    """

    def __init__(
        self,
        version: str,
        *,
        icc: bool = True,
        masquerade: bool = True,
        ipv6: bool = False,
        bridge: str = "docker0",
        userland_proxy: bool = True,
        swarm: bool = False,
        **info: object,
    ) -> None:
        self.release = RELEASES[version]
        self.version = _version(self.release)
        self.info = _info(self.release, userland_proxy=userland_proxy, swarm=swarm) | info
        self.userland_proxy = userland_proxy
        self.networks: list[Document] = []
        self.containers: list[Document] = []
        self.sightings: dict[str, Sighting] = {}
        self.link_names: dict[str, list[str]] = {}
        self._names: dict[str, str] = {}
        self._members: dict[str, int] = {}
        self._by_name: dict[str, Document] = {}
        if bridge:
            options: dict[str, Any] = {
                "default_bridge": "true",
                "enable_icc": str(icc).lower(),
                "enable_ip_masquerade": str(masquerade).lower(),
                "host_binding_ipv4": "0.0.0.0",
                "name": bridge,
            }
            self.network("bridge", ipv6=ipv6, **options)
        self.network("host", "host", subnets=())
        self.network("none", "null", subnets=())
        if swarm:
            self.network("docker_gwbridge", enable_icc="false", enable_ip_masquerade="true", name="docker_gwbridge")
            self.network("ingress", "overlay", Ingress=True)

    def network(
        self,
        name: str,
        driver: str = "bridge",
        /,
        *,
        internal: bool = False,
        ipv4: bool = True,
        ipv6: bool = False,
        subnets: Iterable[str] | None = None,
        routers: bool = False,
        **options: object,
    ) -> Self:
        """Add a network. Options in lower case are the driver's, others are fields of the document.

        With `routers`, default routes lead to the ninth address of each subnet in place of the host's.
        """
        index = len(self.networks)
        prefix = BRIDGE_OPTION if driver == "bridge" else ""
        pools = subnets if subnets is not None else _subnets(index, ipv4=ipv4, ipv6=ipv6)
        document = {
            "Name": name,
            "Id": identity("network", name, index),
            "Scope": "swarm" if driver == "overlay" else "local",
            "Driver": driver,
            "EnableIPv6": ipv6,
            "IPAM": {
                "Driver": "default",
                "Options": None,
                "Config": [_pool(subnet, routers=routers) for subnet in pools] or None,
            },
            "Internal": internal,
            "Attachable": driver == "overlay",
            "Ingress": False,
            "ConfigFrom": {"Network": ""},
            "ConfigOnly": False,
            "Containers": {},
            "Options": {prefix + key: value for key, value in options.items() if key[:1].islower()},
            "Labels": {},
        } | {key: value for key, value in options.items() if key[:1].isupper()}
        if self.release.number >= (28, 0):
            document["EnableIPv4"] = ipv4
        if self.release.number >= (29, 0):
            del document["Containers"]
        self.networks.append(document)
        self._by_name[name] = document
        return self

    def container(
        self,
        name: str,
        *networks: str,
        publish: Iterable[str] = (),
        expose: Iterable[str] = (),
        routed: Iterable[str] = (),
        links: Iterable[str] = (),
        state: str = "running",
        up: str = "2 minutes",
        priority: Mapping[str, int] | None = None,
        pool: int = 0,
        mode: str = "",
        labels: Mapping[str, str] | None = None,
    ) -> Self:
        """Add a container on networks, the first also its mode; `container:x`, `host` and `none` are modes too.

        `publish` is `[ADDRESS:]PORT:PORT[/udp]`, `routed` are ports that gateway mode routed opens, `links` the
        containers that it holds a legacy link to, `pool` which subnet of its networks gives the addresses. An
        observation keeps the labels of all containers.
        """
        wanted = networks or ("bridge",)
        attached = [network for network in wanted if not network.startswith("container:")]
        ipv6 = any(self.document(network)["EnableIPv6"] for network in attached)
        ports = [
            *_published(publish, ipv6=ipv6 or self.userland_proxy),
            *_routed(routed, ipv6=ipv6),
            *self._exposed(expose),
        ]
        self.containers.append(
            {
                "Id": identity("container", name),
                "Names": [f"/{name}"],
                "Image": "bb",
                "State": state,
                "Status": f"Up {up}" if state == "running" else f"Exited (0) {up} ago",
                "Ports": ports,
                "Labels": dict(labels or {}),
                "HostConfig": {"NetworkMode": mode or self._mode(wanted[0])},
                "NetworkSettings": {
                    "Networks": {
                        network: self._endpoint(name, network, pool, (priority or {}).get(network, 0))
                        for network in attached
                    }
                },
                "Mounts": [],
            }
        )
        self._names[identity("container", name)] = name
        self.sightings[identity("container", name)] = Sighting(f"Up {up}", NOW)
        for child in links:
            self.link_names.setdefault(child, []).append(f"/{name}/{child}")
        return self

    def seen(self, name: str, status: str, *, before: float = 0) -> Self:
        """Say which status the list first showed of a container, and how many seconds before now."""
        self._names[identity("container", name)] = name
        self.sightings[identity("container", name)] = Sighting(f"Up {status}", NOW - timedelta(seconds=before))
        return self

    def observation(self) -> Observation:
        """Return what one look at this engine shows: the containers that run."""
        containers = [
            document | {"Names": [*document["Names"], *self.link_names[child]]}
            if (child := self._names.get(document["Id"], "")) in self.link_names
            else document
            for document in self.containers
        ]
        labels = tuple(sorted({key for document in self.containers for key in document["Labels"]}))
        return Observation(NOW, self.version, self.info, self.networks, containers, self.sightings, labels=labels)

    def look(self) -> Look:
        """Return what the exporter makes of it."""
        return Look.at(self.observation())

    def document(self, name: str) -> Document:
        """Return the document of the network with a name."""
        return self._by_name[name]

    def _mode(self, network: str) -> str:
        if network == "bridge" and self.release.number < (26, 0):
            return "default"
        target = network.removeprefix("container:")
        return network if target == network else f"container:{identity('container', target)}"

    def _exposed(self, exposed: Iterable[str]) -> Iterator[Document]:
        for text in exposed:
            port = _port(text)
            yield {"IP": "", **port} if self.release.number >= (29, 0) else port

    def _endpoint(self, container: str, network: str, pool: int, priority: int) -> Document:
        document = self.document(network)
        taken = self._members[document["Id"]] = self._members.get(document["Id"], 0) + 1
        endpoint: Document = {
            "NetworkID": document["Id"],
            "EndpointID": identity("endpoint", container, network),
            "Gateway": "",
            "IPAddress": "",
            "IPPrefixLen": 0,
            "IPv6Gateway": "",
            "GlobalIPv6Address": "",
            "GlobalIPv6PrefixLen": 0,
            "MacAddress": "",
        }
        if self.release.number >= (28, 0):
            endpoint["GwPriority"] = priority
        for version, address, length, gateway in (
            (4, "IPAddress", "IPPrefixLen", "Gateway"),
            (6, "GlobalIPv6Address", "GlobalIPv6PrefixLen", "IPv6Gateway"),
        ):
            configs = [
                config for config in document["IPAM"]["Config"] or () if ip_network(config["Subnet"]).version == version
            ]
            if configs:
                config = configs[min(pool, len(configs) - 1)]
                subnet = ip_network(config["Subnet"])
                endpoint |= {address: str(subnet[1 + taken]), length: subnet.prefixlen}
                endpoint[gateway] = _next_hop(config) if self._has_gateway(document) else ""
        number = sum(self._members.values())
        return endpoint | {"MacAddress": f"02:42:00:01:{number >> 8:02x}:{number & 255:02x}"}

    def _has_gateway(self, network: Document) -> bool:
        without = {"isolated", "l3", "l3s"} & {*network["Options"].values()}
        kept = network["Internal"] and (network["Driver"] != "bridge" or self.release.number >= (25, 0))
        return not without and not kept and network["Driver"] != "overlay"


host = Host
"""A host on which nothing runs yet, as a sentence begins."""


def _version(release: Release) -> Document:
    return {
        "Platform": {"Name": ""},
        "Components": [{"Name": "Engine", "Version": release.version}, {"Name": "containerd"}, {"Name": "runc"}],
        "Version": release.version,
        "ApiVersion": release.api_version,
        "MinAPIVersion": "1.44" if release.number >= (29, 0) else "1.12",
        "Os": "linux",
        "Arch": "amd64",
    }


def _info(release: Release, *, userland_proxy: bool, swarm: bool) -> Document:
    info: Document = {
        "ID": "9f1c0a40-5d9b-4b9c-a7f3-3d2b5a0f8a11",
        "Name": "lab",
        "ServerVersion": release.version,
        "OSType": "linux",
        "SecurityOptions": ["name=seccomp,profile=builtin"],
        "IPv4Forwarding": True,
        "ExperimentalBuild": False,
        "Swarm": {"LocalNodeState": "active" if swarm else "inactive"},
    }
    if release.number < (28, 0):
        info |= {"BridgeNfIptables": True, "BridgeNfIp6tables": True}
    else:
        info["FirewallBackend"] = {"Driver": "nftables" if release.nftables else "iptables"}
    if release.number >= (29, 5) and userland_proxy:
        info["FirewallBackend"]["Info"] = [
            ["EnableUserlandProxy", "true"],
            ["UserlandProxyPath", "/usr/bin/docker-proxy"],
        ]
    return info


def _subnets(index: int, *, ipv4: bool, ipv6: bool) -> Iterator[str]:
    if ipv4:
        yield f"172.{17 + index}.0.0/16" if index < 14 else f"10.{index // 256}.{index % 256}.0/24"
    if ipv6:
        yield f"fd00:{index:x}::/64"


def _pool(subnet: str, *, routers: bool) -> Document:
    known = ip_network(subnet)
    others = {"AuxiliaryAddresses": {f"DefaultGatewayIPv{known.version}": str(known[9])}} if routers else {}
    return {"Subnet": subnet, "Gateway": str(known[1]), **others}


def _next_hop(config: Document) -> str:
    chosen: Mapping[str, str] = config.get("AuxiliaryAddresses", {})
    return next(iter(chosen.values()), config["Gateway"])


def _port(text: str) -> Document:
    port, _, protocol = text.partition("/")
    return {"PrivatePort": int(port), "Type": protocol or "tcp"}


def _published(published: Iterable[str], *, ipv6: bool) -> Iterator[Document]:
    for text in published:
        bound, _, inner = text.rpartition(":")
        address, _, outer = bound.rpartition(":")
        for ip in [address.strip("[]")] if address else _everywhere(ipv6=ipv6):
            yield {"IP": ip, "PublicPort": int(outer), **_port(inner)}


def _routed(ports: Iterable[str], *, ipv6: bool) -> Iterator[Document]:
    for text in ports:
        yield from ({"IP": ip, **_port(text)} for ip in _everywhere(ipv6=ipv6))


def _everywhere(*, ipv6: bool) -> list[str]:
    return ["0.0.0.0", "::"] if ipv6 else ["0.0.0.0"]
