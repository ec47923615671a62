"""What a recording shows of the kernel, as the documents that the exporter reads today.

The recorder wrote less than the exporter reads: sysctls of all interfaces together, links of sandboxes without their
kind, and docker-proxies without what they pass packets on to. What is missing follows from what is there.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from exporter.model.observation import KernelDocuments, NamespaceDocuments

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_NOBODY = 1
"""The number of a host's namespace that no container lives in."""

_SOCKET = re.compile(r"^(tcp|udp) +\w+ +\d+ +\d+ +(\S+):(\d+) .*?\(\(\"([^\"]*)\"", re.MULTILINE)


def kernel_documents(recording: Mapping[str, Any]) -> KernelDocuments:
    """Return the kernel's part of a recording."""
    listed = {container["Names"][0][1:]: container for container in recording["api"]["containers"]}
    sandboxes = {listed[name]["Id"]: document for name, document in recording["sandboxes"].items() if name in listed}
    shared = [
        sandboxes[container["Id"]]["sandbox"]
        for container in listed.values()
        if container["HostConfig"]["NetworkMode"] == "host" and container["Id"] in sandboxes
    ]
    host = _host(recording, sandboxes, shared[0] if shared else _NOBODY)
    return KernelDocuments(
        host,
        {
            identity: host if document["sandbox"] == host.inode else _sandbox(document)
            for identity, document in sandboxes.items()
        },
    )


def _host(recording: Mapping[str, Any], sandboxes: Mapping[str, Any], inode: int) -> NamespaceDocuments:
    host = recording["host"]
    ports = {port["ifname"]: port for port in host["bridge_ports"]}
    native = _by_table(host["nft_ruleset"]["nftables"])
    return NamespaceDocuments(
        inode=inode,
        tables=tuple(native),
        nftables=tuple(json.dumps({"nftables": entries}) for entries in native.values()),
        links=[_with_port(link, ports.get(link["ifname"])) for link in host["addr"]],
        addresses=host["addr"],
        routes=_routes(host),
        listeners=tuple(_listeners(host["listening"], recording["api"]["inspect"], sandboxes)),
        settings=_settings(host["sysctl"], host["addr"]),
    )


def _sandbox(document: Mapping[str, Any]) -> NamespaceDocuments:
    links = [
        link if "link_index" not in link else link | {"linkinfo": {"info_kind": "veth"}} for link in document["addr"]
    ]
    return NamespaceDocuments(
        inode=document["sandbox"], links=links, addresses=document["addr"], routes=_routes(document)
    )


def _by_table(entries: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """Return the entries of a ruleset, table by table."""
    found: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for entry in entries:
        for kind, value in entry.items():
            if kind != "metainfo":
                found[f"{value['family']} {value['name' if kind == 'table' else 'table']}"].append(entry)
    return dict(found)


def _with_port(link: Mapping[str, Any], port: Mapping[str, Any] | None) -> dict[str, Any]:
    if port is None:
        return dict(link)
    slave = {"info_slave_kind": "bridge", "info_slave_data": dict(port)}
    return {**link, "linkinfo": {**link.get("linkinfo", {}), **slave}}


def _routes(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {"family": family, **route}
        for family, key in (("inet", "route"), ("inet6", "route6"))
        for route in document[key]
    ]


def _settings(sysctls: Mapping[str, str], links: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return sysctls by path; forwarding is on or off for all interfaces alike, as the engine switches it."""
    found = {name.removeprefix("net.").replace(".", "/"): value for name, value in sysctls.items()}
    for link in links:
        found[f"ipv4/conf/{link['ifname']}/forwarding"] = found["ipv4/ip_forward"]
        found[f"ipv6/conf/{link['ifname']}/forwarding"] = found["ipv6/conf/all/forwarding"]
    return found


def _listeners(
    text: str, inspected: Sequence[Mapping[str, Any]], sandboxes: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    """Yield the sockets that `ss -Htulnp` shows; `*` stands for both families, `[::]` for IPv6 alone."""
    targets = dict(_targets(inspected, sandboxes))
    for protocol, address, port, program in _SOCKET.findall(text):
        bound = address.strip("[]").partition("%")[0]
        document = {
            "protocol": protocol,
            "address": "::" if bound == "*" else bound,
            "port": int(port),
            "v6only": bound != "*" and ":" in bound,
            "program": program,
        }
        target = targets.get((protocol, int(port)))
        if program == "docker-proxy" and target is not None:
            addresses, inside = target
            family = 6 if ":" in document["address"] and 6 in addresses else 4
            document["relay"] = [addresses[family], inside]
        yield document


def _targets(
    inspected: Sequence[Mapping[str, Any]], sandboxes: Mapping[str, Any]
) -> Iterator[tuple[tuple[str, int], tuple[dict[int, str], int]]]:
    """Yield where published ports lead to: the addresses on the interface of the container's default route."""
    for container in inspected:
        for exposed, bindings in (container["NetworkSettings"].get("Ports") or {}).items():
            inside, _, protocol = exposed.partition("/")
            for binding in bindings or ():
                yield (
                    (protocol, int(binding["HostPort"])),
                    (_gateway_addresses(sandboxes[container["Id"]]), int(inside)),
                )


def _gateway_addresses(sandbox: Mapping[str, Any]) -> dict[int, str]:
    found: dict[int, str] = {}
    for family, key, name in ((4, "route", "inet"), (6, "route6", "inet6")):
        devices = [route["dev"] for route in sandbox[key] if route["dst"] == "default"]
        for link in sandbox["addr"]:
            for address in link["addr_info"]:
                if link["ifname"] in devices and (address["family"], address["scope"]) == (name, "global"):
                    found[family] = address["local"]
    return found
