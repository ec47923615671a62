"""Hosts of any size in each engine's own layout: what the exporter would read there, as documents and text.

seen = Layout("28.5", networks=500, containers=10_000, published=250).observation()

Every engine writes its rules in its own order and chains; `test_layouts.py` compares small hosts with what real engines
wrote, and those of the nftables backend (`29 nft`) with what recorded ones did. Networks are dual stack, every second
one is closed (`enable_icc=false`), and so is the default bridge, whose containers hold links. The tier is `kernel`, or
`sandboxes` where the namespaces of containers are `entered`: each is as the engine makes it.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, replace
from functools import cached_property
from ipaddress import IPv6Address, ip_network
from typing import TYPE_CHECKING, Any

from exporter.model.observation import KernelDocuments, NamespaceDocuments
from exporter.observe.documents import NETWORKS, containers, project_list
from tests.bench.nft import RULE, engine_table, user_table
from tests.hosts import Host, host

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from exporter.model.observation import Observation

Document = dict[str, Any]

FIRST_PORT = 20_000
INSIDE_PORT = 80
EXPOSED = 8080
NFTABLES = "29 nft"
"""The layout of the nftables backend, without links and with no rule between two containers."""
_DEFAULT = "docker0"
_FORWARD_CHAINS = {
    "28.5": ("DOCKER", "DOCKER-BRIDGE", "DOCKER-CT", "DOCKER-FORWARD"),
    "26.1": ("DOCKER",),
    "20.10": ("DOCKER",),
}
_SWITCHES = {
    4: (
        "forwarding", "proxy_arp", "rp_filter", "arp_filter", "arp_ignore", "accept_local", "src_valid_mark",
        "proxy_arp_pvlan", "route_localnet",
    ),
    6: ("forwarding", "proxy_ndp", "disable_ipv6", "force_forwarding"),
}  # fmt: skip


@dataclass(frozen=True)
class Bridge:
    """A network on a bridge: its addresses begin with `prefixes`, by version of IP."""

    name: str
    interface: str
    closed: bool
    prefixes: Mapping[int, str]

    def subnet(self, version: int) -> str:
        """Return the network's subnet as rules write it."""
        length = 64 if version == 6 else 16 if self.interface == _DEFAULT else 24
        return str(ip_network(f"{self.prefixes[version]}{'' if version == 6 else '0'}/{length}"))

    def address(self, version: int, number: int) -> str:
        """Return the address of a member, or with 1 of the host, as the kernel prints it."""
        text = f"{self.prefixes[version]}{number if version == 4 else f'{number:x}'}"
        return text if version == 4 else str(IPv6Address(text))


@dataclass(frozen=True)
class Member:
    """A container on a bridge. `index` is that of its veth on the host."""

    name: str
    bridge: Bridge
    number: int
    index: int
    port: int | None = None

    def address(self, version: int) -> str:
        """Return the container's address."""
        return self.bridge.address(version, self.number)


@dataclass(frozen=True)
class Layout:
    """A host with some networks of containers, beside pairs of linked containers on the default bridge.

    Of the containers, the first `published` publish a port each; `user_rules` are in DOCKER-USER, each of which drops
    what a stranger sends to a container; `pair_rules` are, too, and let one container talk to another. `without` are
    containers that have stopped, `spare` counts networks without any: hosts are looked at before and after events.
    `entered` is whether containers' namespaces are read, too; every tenth rule `counted` so many packets.
    """

    version: str
    networks: int = 2
    containers: int = 4
    published: int = 2
    links: int = 1
    user_rules: int = 1
    pair_rules: int = 0
    without: frozenset[int] = frozenset()
    spare: int = 0
    entered: bool = False
    counted: int = 0

    @cached_property
    def bridges(self) -> Sequence[Bridge]:
        """The bridges in the order in which they were made, the default one first."""
        default = Bridge("bridge", _DEFAULT, closed=True, prefixes={4: "172.17.0."})
        made = (
            Bridge(
                f"n{number}",
                f"br-n{number}",
                closed=number % 2 == 1,
                prefixes={4: f"10.{64 + number // 256}.{number % 256}.", 6: f"fd00:64:{number:x}::"},
            )
            for number in range(self.networks + self.spare)
        )
        return (default, *made)

    @cached_property
    def members(self) -> Sequence[Member]:
        """The containers in the order in which they were started."""
        made = []
        index = len(self.bridges) + 4
        for place in range(self.containers):
            index += 1
            bridge = self.bridges[1 + place % self.networks]
            port = FIRST_PORT + place if place < self.published else None
            if place not in self.without:
                made.append(Member(f"c{place}", bridge, 2 + place // self.networks, index, port))
        for place in range(2 * self.links):
            index += 1
            made.append(Member(f"c{self.containers + place}", self.bridges[0], 2 + place, index))
        return made

    @property
    def rules(self) -> int:
        """How many rules the host has."""
        native = sum(text.count(RULE) for text in self._native)
        return native + sum(text.count("] -A ") for text in self._saved.values())

    @cached_property
    def _host(self) -> Host:
        # engines before 27.0 set up ip6tables only where experimental features are on
        experimental: dict[str, Any] = {"ExperimentalBuild": True} if self.version in ("20.10", "26.1") else {}
        built = host(self.version, icc=False, **experimental)
        for bridge in self.bridges[1:]:
            options: dict[str, Any] = {"enable_icc": "false"} if bridge.closed else {}
            subnets = (bridge.subnet(4), bridge.subnet(6))
            built.network(bridge.name, ipv6=True, subnets=subnets, name=bridge.interface, **options)
        linked = [member for member in self.members if member.bridge.interface == _DEFAULT]
        children = {parent.name: child.name for child, parent in zip(linked[::2], linked[1::2], strict=True)}
        for member in self.members:
            built.container(
                member.name,
                member.bridge.name,
                publish=[f"{member.port}:{INSIDE_PORT}"] if member.port else [],
                expose=[f"{EXPOSED}/tcp"] if member.name in children.values() else [],
                links=[children[member.name]] if member.name in children else [],
            )
        return built

    def observation(self) -> Observation:
        """Return what the exporter reads."""
        seen = self._host.observation()
        documents = NamespaceDocuments(
            inode=1,
            iptables=self._saved,
            tables=self._tables(),
            nftables=self._native,
            links=list(self._links()),
            addresses=list(self._addresses()),
            routes=list(self._routes()),
            rules=_POLICY,
            listeners=list(self._listeners()),
            settings=self._settings(),
        )
        inside = {
            str(document["Id"]): _inside(member)
            for document, member in zip(seen.containers, self.members, strict=True)
            if self.entered
        }
        kernel = KernelDocuments(documents, inside, {} if self.entered else {"sandboxes": "not asked for"})
        # as the exporter reads them: numbers and texts that no verdict needs are not kept
        listed = [_addressed(document, member) for document, member in zip(seen.containers, self.members, strict=True)]
        return type(seen)(
            seen.taken_at,
            seen.version,
            seen.info,
            project_list(seen.networks, NETWORKS, "networks"),
            project_list(listed, containers(()), "containers"),
            seen.sightings,
            kernel,
        )

    # --- Rules ---

    @cached_property
    def _native(self) -> Sequence[str]:
        if self.version != NFTABLES:
            return ()
        engines = [engine_table(version, *self._with(version), INSIDE_PORT) for version in (4, 6)]
        user = user_table(4, self._strangers(), INSIDE_PORT)
        return [_recounted(text, self.counted) for text in (*engines, user)]

    @cached_property
    def _saved(self) -> Mapping[str, str]:
        if self.version == NFTABLES:
            return {}
        return {"iptables-nft": self._counting(self._save(4)), "ip6tables-nft": self._counting(self._save(6))}

    def _counting(self, saved: str) -> str:
        if not self.counted:
            return saved
        counter = f"[{self.counted}:{60 * self.counted}] "
        lines = (
            line.replace("[0:0] ", counter, 1) if number % 10 == 0 and line.startswith("[") else line
            for number, line in enumerate(saved.split("\n"))
        )
        return "\n".join(lines)

    def _tables(self) -> Sequence[str]:
        if self.version == NFTABLES:
            return ("ip docker-bridges", "ip6 docker-bridges", "ip tenants")
        raw = ("ip raw", "ip6 raw") if self.version == "28.5" else ()
        return ("ip nat", "ip filter", "ip6 nat", "ip6 filter", *raw)

    def _with(self, version: int) -> tuple[Sequence[Bridge], Sequence[Member]]:
        """Return the bridges and members that have a version of IP."""
        bridges = [bridge for bridge in self.bridges if version in bridge.prefixes]
        return bridges, [member for member in self.members if version in member.bridge.prefixes]

    def _save(self, version: int) -> str:
        bridges, members = self._with(version)
        parts = []
        if self.version == "28.5":
            parts.append(_table("raw", ("PREROUTING", "OUTPUT"), (), _raw(version, members)))
            parts.append(_table("filter", *self._filter_28(version, bridges, members)))
        else:
            parts.append(_table("filter", *self._filter_20(version, bridges, members)))
        nat = ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING")
        parts.append(_table("nat", nat, ("DOCKER",), self._nat(version, bridges, members)))
        return "".join(parts)

    def _filter_28(
        self, version: int, bridges: Sequence[Bridge], members: Sequence[Member]
    ) -> tuple[Sequence[str], Sequence[str], Iterable[str]]:
        chains = (*_FORWARD_CHAINS["28.5"], *_ISOLATION, "DOCKER-USER")
        names = [bridge.interface for bridge in bridges]
        rules = [
            "-A FORWARD -j DOCKER-USER",
            "-A FORWARD -j DOCKER-FORWARD",
            *reversed(list(_opened(version, members))),
            *(f"-A DOCKER ! -i {name} -o {name} -j DROP" for name in names),
            *(self._linked(members) if version == 4 else ()),
            *(f"-A DOCKER-BRIDGE -o {name} -j DOCKER" for name in names),
            *(f"-A DOCKER-CT -o {name} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT" for name in names),
            *(f"-A DOCKER-FORWARD -j {chain}" for chain in ("DOCKER-CT", _ISOLATION[0], "DOCKER-BRIDGE")),
            *(rule for bridge in bridges for rule in _outgoing_28(bridge)),
            *(f"-A {_ISOLATION[0]} -i {name} ! -o {name} -j {_ISOLATION[1]}" for name in names),
            *(f"-A {_ISOLATION[1]} -o {name} -j DROP" for name in reversed(names)),
            *(self._user(version)),
        ]
        return _FILTER, chains, rules

    def _filter_20(
        self, version: int, bridges: Sequence[Bridge], members: Sequence[Member]
    ) -> tuple[Sequence[str], Sequence[str], Iterable[str]]:
        users = () if version == 6 and self.version == "20.10" else ("DOCKER-USER",)
        builtin = ("INPUT", "FORWARD" if version == 4 else "FORWARD DROP", "OUTPUT")
        chains = ("DOCKER", *_ISOLATION, *users)
        # bridges without IPv6 are kept apart over IPv6, too
        names = [bridge.interface for bridge in reversed(self.bridges)]
        rules = [
            *(f"-A FORWARD -j {chain}" for chain in users),
            f"-A FORWARD -j {_ISOLATION[0]}",
            *(rule for bridge in reversed(bridges) for rule in _outgoing_20(bridge)),
            *(f"-A FORWARD -i {bridge.interface} -o {bridge.interface} -j DROP" for bridge in bridges if bridge.closed),
            *_opened(version, members),
            *(self._linked(members) if version == 4 else ()),
            *(f"-A {_ISOLATION[0]} -i {name} ! -o {name} -j {_ISOLATION[1]}" for name in names),
            f"-A {_ISOLATION[0]} -j RETURN",
            *(f"-A {_ISOLATION[1]} -o {name} -j DROP" for name in names),
            f"-A {_ISOLATION[1]} -j RETURN",
            *(self._user(version)),
            *(f"-A {chain} -j RETURN" for chain in users),
        ]
        return builtin, chains, rules

    def _nat(self, version: int, bridges: Sequence[Bridge], members: Sequence[Member]) -> Iterator[str]:
        own = "127.0.0.0/8" if version == 4 else "::1/128"
        yield "-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER"
        yield f"-A OUTPUT ! -d {own} -m addrtype --dst-type LOCAL -j DOCKER"
        for bridge in reversed(bridges):
            yield f"-A POSTROUTING -s {bridge.subnet(version)} ! -o {bridge.interface} -j MASQUERADE"
        published = [member for member in members if member.port is not None]
        bits = _BITS[version]
        if self.version != "28.5":
            for member in published:
                address = f"{member.address(version)}/{bits}"
                yield f"-A POSTROUTING -s {address} -d {address} -p tcp -m tcp --dport {INSIDE_PORT} -j MASQUERADE"
        for bridge in reversed(bridges):
            yield f"-A DOCKER -i {bridge.interface} -j RETURN"
        local = "! -s fe80::/10 " if version == 6 and self.version == "28.5" else ""
        for member in published:
            address = member.address(version) if version == 4 else f"[{member.address(version)}]"
            yield (
                f"-A DOCKER {local}! -i {member.bridge.interface} -p tcp -m tcp --dport {member.port}"
                f" -j DNAT --to-destination {address}:{INSIDE_PORT}"
            )

    @staticmethod
    def _linked(members: Sequence[Member]) -> Iterator[str]:
        on_default = [member for member in members if member.bridge.interface == _DEFAULT]
        ends = f"-i {_DEFAULT} -o {_DEFAULT} -p tcp -m tcp"
        for child, parent in zip(on_default[::2], on_default[1::2], strict=True):
            there = f"-s {parent.address(4)}/32 -d {child.address(4)}/32"
            back = f"-s {child.address(4)}/32 -d {parent.address(4)}/32"
            yield f"-A DOCKER {there} {ends} --dport {EXPOSED} -j ACCEPT"
            yield f"-A DOCKER {back} {ends} --sport {EXPOSED} -j ACCEPT"

    def _user(self, version: int) -> Iterator[str]:
        if version == 6:
            return
        inside = self._victims
        for stranger, victim in self._strangers():
            yield f"-A DOCKER-USER -s {stranger}/32 -d {victim}/32 -p tcp -m tcp --dport {INSIDE_PORT} -j DROP"
        for number in range(self.pair_rules):
            one, other = (inside[(number * step) % len(inside)].address(4) for step in (1, 7))
            yield f"-A DOCKER-USER -s {one}/32 -d {other}/32 -p tcp -m tcp --dport {5432 + number % 3} -j ACCEPT"

    @property
    def _victims(self) -> Sequence[Member]:
        """Whom users write rules about; they do not write them anew when a container stops."""
        return [member for member in replace(self, without=frozenset()).members if 6 in member.bridge.prefixes]

    def _strangers(self) -> Iterator[tuple[str, str]]:
        victims = self._victims
        for number in range(self.user_rules):
            stranger = f"198.{18 + number // 57_600}.{number // 240 % 240}.{7 + number % 240}"
            yield stranger, victims[number % len(victims)].address(4)

    # --- Interfaces, addresses and routes ---

    def _links(self) -> Iterator[Document]:
        yield _link(1, "lo", 0, flags=["LOOPBACK", "UP", "LOWER_UP"])
        yield _link(2, "eth0", 2) | {"linkinfo": {"info_kind": "veth"}, "link_index": 2, "link_netnsid": 0}
        for index, bridge in enumerate(self.bridges, 5):
            data = {"vlan_filtering": 0, "stp_state": 0}
            calls = dict.fromkeys(("nf_call_iptables", "nf_call_ip6tables", "nf_call_arptables"), 0)
            kind = {"info_kind": "bridge", "info_data": data | calls}
            yield _link(index, bridge.interface, index) | {"linkinfo": kind}
        for number, member in enumerate(self.members, 1):
            length = 16 if member.bridge.interface == _DEFAULT else 24
            own = [f"{member.address(4)}/{length}"]
            own += [f"{member.address(6)}/64"] if 6 in member.bridge.prefixes else []
            yield _link(member.index, _veth(member), member.index) | {
                "linkinfo": _PORT,
                "master": member.bridge.interface,
                "link_index": 2,
                "link_netnsid": number,
                "peer_mac": _mac(member.index, "02"),
                "peer_addresses": own,
            }

    def _interfaces(self) -> Iterator[tuple[int, str]]:
        """Yield the interfaces whose link-local addresses and routes are read: ports of bridges are not among them."""
        yield 2, "eth0"
        yield from ((index, bridge.interface) for index, bridge in enumerate(self.bridges, 5))

    def _addresses(self) -> Iterator[Document]:
        yield _address(1, "lo", "127.0.0.1", 8)
        yield _address(2, "eth0", "198.51.100.10", 24)
        for index, bridge in enumerate(self.bridges, 5):
            length = 16 if bridge.interface == _DEFAULT else 24
            yield _address(index, bridge.interface, bridge.address(4, 1), length)
        yield _address(1, "lo", "::1", 128)
        yield _address(2, "eth0", "2001:db8:100::10", 64) | {"nodad": True}
        for index, bridge in enumerate(self.bridges, 5):
            if 6 in bridge.prefixes:
                yield _address(index, bridge.interface, bridge.address(6, 1), 64) | {"nodad": True}
        for index, name in self._interfaces():
            yield _address(index, name, _link_local(index), 64)

    def _routes(self) -> Iterator[Document]:
        own = [("eth0", "198.51.100.0/24", "198.51.100.10", "198.51.100.255")]
        for bridge in self.bridges:
            net = ip_network(bridge.subnet(4))
            own.append((bridge.interface, str(net), bridge.address(4, 1), str(net.broadcast_address)))
        yield _route("inet", "unicast", "default", "main", "eth0", gateway="198.51.100.1")
        for name, subnet, address, _ in own:
            yield _route("inet", "unicast", subnet, "main", name, prefsrc=address)
        for name, _, address, broadcast in own:
            yield _route("inet", "local", address, "local", name, prefsrc=address)
            yield _route("inet", "broadcast", broadcast, "local", name, prefsrc=address)
        for kind, dst in (("local", "127.0.0.0/8"), ("local", "127.0.0.1"), ("broadcast", "127.255.255.255")):
            yield _route("inet", kind, dst, "local", "lo", prefsrc="127.0.0.1")
        six = [("eth0", "2001:db8:100::/64", "2001:db8:100::10")]
        six += [
            (bridge.interface, bridge.subnet(6), bridge.address(6, 1))
            for bridge in self.bridges
            if 6 in bridge.prefixes
        ]
        for name, subnet, _ in six:
            yield _route("inet6", "unicast", subnet, "main", name, metric=256)
        for _, name in self._interfaces():
            yield _route("inet6", "unicast", "fe80::/64", "main", name, metric=256)
        gateway = "2001:db8:100::1"
        yield _route("inet6", "unicast", "default", "main", "eth0", metric=1024, gateway=gateway)
        yield _route("inet6", "local", "::1", "local", "lo", metric=0)
        for name, subnet, address in six:
            yield _route("inet6", "anycast", subnet.partition("/")[0], "local", name, metric=0)
            yield _route("inet6", "local", address, "local", name, metric=0)
        for index, name in self._interfaces():
            yield _route("inet6", "anycast", "fe80::", "local", name, metric=0)
            yield _route("inet6", "local", _link_local(index), "local", name, metric=0)
            yield _route("inet6", "multicast", "ff00::/8", "local", name, metric=256)

    def _listeners(self) -> Iterator[Document]:
        for member in self.members:
            for version, bound in ((4, "0.0.0.0"), (6, "::")):
                if member.port is not None:
                    yield {
                        "protocol": "tcp",
                        "address": bound,
                        "port": member.port,
                        "v6only": version == 6,
                        "program": "docker-proxy",
                        "relay": [member.address(version), INSIDE_PORT],
                    }

    def _settings(self) -> dict[str, str]:
        names = ["lo", "eth0", *(bridge.interface for bridge in self.bridges), "all", "default"]
        found = {
            f"ipv{version}/conf/{name}/{switch}": "1" if switch == "forwarding" else "0"
            for name in names
            for version, switches in _SWITCHES.items()
            for switch in switches
        }
        return found | {
            "ipv4/ip_forward": "1",
            "bridge/bridge-nf-call-iptables": "1",
            "bridge/bridge-nf-call-ip6tables": "1",
        }


_FILTER = ("INPUT", "FORWARD", "OUTPUT")
_ISOLATION = ("DOCKER-ISOLATION-STAGE-1", "DOCKER-ISOLATION-STAGE-2")
_BITS = {4: 32, 6: 128}
_SLAVE = {"state": "forwarding", "hairpin": False, "isolated": False, "learning": True, "flood": True}
_PORT = {"info_kind": "veth", "info_slave_kind": "bridge", "info_slave_data": _SLAVE}
_FLAGS = ["BROADCAST", "MULTICAST", "UP", "LOWER_UP"]
_POLICY = tuple(
    {"family": family, "priority": priority, "src": "all", "table": table}
    for family, tables in (("inet", ("local", "main", "default")), ("inet6", ("local", "main")))
    for priority, table in zip((0, 32766, 32767), tables, strict=False)
)


def _inside(member: Member) -> NamespaceDocuments:
    """Return a container's namespace: a cable to its bridge, and the engine's resolver unless on the default one."""
    bridge = member.bridge
    resolves = bridge.interface != _DEFAULT
    ports = {"tcp": 32_768 + member.index * 7 % 28_000, "udp": 32_768 + member.index * 11 % 28_000}
    length = ip_network(bridge.subnet(4)).prefixlen
    addresses = [_address(1, "lo", "127.0.0.1", 8), _address(2, "eth0", member.address(4), length)]
    addresses.append(_address(1, "lo", "::1", 128))
    if 6 in bridge.prefixes:
        addresses.append(_address(2, "eth0", member.address(6), 64) | {"nodad": True})
        addresses.append(_address(2, "eth0", _link_local(member.index, "02"), 64))
    return NamespaceDocuments(
        inode=1 + member.index,
        iptables={"iptables-nft": _resolver(ports)} if resolves else {},
        tables=("ip nat",) if resolves else (),
        links=[
            _link(1, "lo", 0, flags=["LOOPBACK", "UP", "LOWER_UP"]),
            _link(2, "eth0", member.index)
            | {
                "address": _mac(member.index, "02"),
                "linkinfo": {"info_kind": "veth"},
                "link_index": member.index,
                "link_netnsid": 0,
            },
        ],
        addresses=addresses,
        routes=list(_routes_inside(member)),
        rules=_POLICY,
        listeners=[{"protocol": name, "address": _DNS, "port": port} for name, port in ports.items() if resolves],
        settings={
            f"ipv{version}/conf/{name}/{switch}": "0"
            for version, switches in _SWITCHES.items()
            for name in ("lo", "eth0", "all", "default")
            for switch in switches
        },
    )


def _routes_inside(member: Member) -> Iterator[Document]:
    bridge = member.bridge
    net = ip_network(bridge.subnet(4))
    address = member.address(4)
    yield _route("inet", "unicast", "default", "main", "eth0", gateway=bridge.address(4, 1))
    yield _route("inet", "unicast", str(net), "main", "eth0", prefsrc=address)
    yield _route("inet", "local", address, "local", "eth0", prefsrc=address)
    yield _route("inet", "broadcast", str(net.broadcast_address), "local", "eth0", prefsrc=address)
    yield _route("inet", "local", "127.0.0.0/8", "local", "lo", prefsrc="127.0.0.1")
    yield _route("inet", "local", "127.0.0.1", "local", "lo", prefsrc="127.0.0.1")
    yield _route("inet", "broadcast", "127.255.255.255", "local", "lo", prefsrc="127.0.0.1")
    yield _route("inet6", "local", "::1", "local", "lo", metric=0)
    if 6 not in bridge.prefixes:
        return
    for subnet in (bridge.subnet(6), "fe80::/64"):
        yield _route("inet6", "unicast", subnet, "main", "eth0", metric=256)
    yield _route("inet6", "unicast", "default", "main", "eth0", metric=1024, gateway=bridge.address(6, 1))
    for local in (member.address(6), _link_local(member.index, "02")):
        yield _route("inet6", "local", local, "local", "eth0", metric=0)
    yield _route("inet6", "multicast", "ff00::/8", "local", "eth0", metric=256)


def _addressed(document: Mapping[str, Any], member: Member) -> Mapping[str, Any]:
    """Return the engine's document of a container with its addresses, which it counts network by network."""
    (endpoint,) = document["NetworkSettings"]["Networks"].values()
    endpoint["IPAddress"] = member.address(4)
    endpoint["MacAddress"] = _mac(member.index, "02")
    if 6 in member.bridge.prefixes:
        endpoint["GlobalIPv6Address"] = member.address(6)
    return document


_DNS = "127.0.0.11"


def _recounted(text: str, packets: int) -> str:
    """Return a table whose every tenth rule has counted so many packets; few rules of an idle host have counted any."""
    if not packets:
        return text
    idle, busy = (json.dumps({"counter": {"packets": each, "bytes": 60 * each}}) for each in (0, packets))
    head, *rules = text.split(RULE)
    told = [rule if number % 10 else rule.replace(idle, busy) for number, rule in enumerate(rules)]
    return RULE.join((head, *told))


def _table(name: str, builtin: Sequence[str], chains: Sequence[str], rules: Iterable[str]) -> str:
    policies = (chain if " " in chain else f"{chain} ACCEPT" for chain in builtin)
    declared = (*(f":{policy} [0:0]" for policy in policies), *(f":{chain} - [0:0]" for chain in chains))
    return "\n".join((f"*{name}", *declared, *(f"[0:0] {rule}" for rule in rules), "COMMIT", ""))


def _resolver(ports: Mapping[str, int]) -> str:
    """Return what the engine writes inside of a container on a network with a resolver, which listens at `ports`."""
    asked = f"-A DOCKER_OUTPUT -d {_DNS}/32"
    answers = f"-A DOCKER_POSTROUTING -s {_DNS}/32"
    return _table(
        "nat",
        ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"),
        ("DOCKER_OUTPUT", "DOCKER_POSTROUTING"),
        (
            f"-A OUTPUT -d {_DNS}/32 -j DOCKER_OUTPUT",
            f"-A POSTROUTING -d {_DNS}/32 -j DOCKER_POSTROUTING",
            *(
                f"{asked} -p {name} -m {name} --dport 53 -j DNAT --to-destination {_DNS}:{port}"
                for name, port in ports.items()
            ),
            *(f"{answers} -p {name} -m {name} --sport {port} -j SNAT --to-source :53" for name, port in ports.items()),
        ),
    )


def _raw(version: int, members: Sequence[Member]) -> Iterator[str]:
    for member in members:
        address = f"{member.address(version)}/{_BITS[version]}"
        yield f"-A PREROUTING -d {address} ! -i {member.bridge.interface} -j DROP"


def _opened(version: int, members: Sequence[Member]) -> Iterator[str]:
    for member in members:
        if member.port is not None:
            name, address = member.bridge.interface, f"{member.address(version)}/{_BITS[version]}"
            yield f"-A DOCKER -d {address} ! -i {name} -o {name} -p tcp -m tcp --dport {INSIDE_PORT} -j ACCEPT"


def _outgoing_28(bridge: Bridge) -> Iterator[str]:
    name = bridge.interface
    if bridge.closed:
        yield f"-A DOCKER-FORWARD -i {name} -o {name} -j DROP"
        yield f"-A DOCKER-FORWARD -i {name} ! -o {name} -j ACCEPT"
    else:
        yield f"-A DOCKER-FORWARD -i {name} -j ACCEPT"


def _outgoing_20(bridge: Bridge) -> Iterator[str]:
    name = bridge.interface
    yield f"-A FORWARD -o {name} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"
    yield f"-A FORWARD -o {name} -j DOCKER"
    yield f"-A FORWARD -i {name} ! -o {name} -j ACCEPT"
    if not bridge.closed:
        yield f"-A FORWARD -i {name} -o {name} -j ACCEPT"


def _veth(member: Member) -> str:
    # one object for each name, as whoever reads addresses and routes has it
    return sys.intern(f"veth{member.index:07x}")


def _mac(index: int, first: str = "0a") -> str:
    return f"{first}:00:00:{index >> 16 & 255:02x}:{index >> 8 & 255:02x}:{index & 255:02x}"


def _link_local(index: int, first: str = "0a") -> str:
    """Return the link-local address that follows from the link's own (EUI-64)."""
    upper = int(first, 16) ^ 2
    return str(IPv6Address(f"fe80::{upper:x}00:ff:fe{index >> 16 & 255:02x}:{index & 65535:x}"))


def _link(index: int, name: str, number: int, flags: Sequence[str] = ()) -> Document:
    return {
        "ifindex": index,
        "ifname": name,
        "flags": flags or _FLAGS,
        "address": _mac(number) if number else "00:00:00:00:00:00",
    }


def _address(index: int, name: str, local: str, length: int) -> Document:
    family = "inet6" if ":" in local else "inet"
    return {
        "ifindex": index,
        "family": family,
        "local": local,
        "prefixlen": length,
        "ifname": name,
    }


def _route(family: str, kind: str, dst: str, table: str, dev: str, **more: object) -> Document:
    return {"family": family, "type": kind, "dst": dst, "table": table, **more, "dev": dev}
