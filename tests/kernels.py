"""The kernel under a host of `tests.hosts`, as its engine sets it up or as somebody changed it afterwards.

seen = kernel(host("28.5").container("web").container("db")).engine_rules().rules("-I DOCKER-USER -j DROP").look()

Interfaces, addresses and routes follow from what the engine's API tells. Rules are lines of iptables-save, which are
read as the exporter reads them; `table` takes any other table in the words of the model.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, Self

from exporter.model.addresses import link_local_of
from exporter.model.firewall import Backend, Firewall, TableFamily
from exporter.model.namespace import (
    Bridge,
    Hop,
    Interface,
    Listener,
    Namespace,
    OwnAddress,
    Port,
    Route,
    RouteKind,
    Scope,
)
from exporter.model.reach import HOST, Protocol
from exporter.model.snapshot import Kernel
from exporter.parse.kernel.ipsets import parse_ipsets
from exporter.parse.kernel.iptables import parse_iptables
from tests.looks import Look

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exporter.model.firewall import Table
    from exporter.model.snapshot import Endpoint, Network, Sandbox, Snapshot
    from tests.hosts import Host

_LOCAL, _MAIN = 255, 254


def own_address(told: str) -> OwnAddress:
    """Return an address of an interface: `172.17.0.1/16`."""
    address, _, length = told.partition("/")
    ip = ip_address(address)
    return OwnAddress(ip, int(length), Scope.HOST if ip.version == 4 and ip.is_loopback else Scope.GLOBAL)


_LOOPBACK = (own_address("127.0.0.1/8"), own_address("::1/128"))
_BUILTIN = {
    "filter": ("INPUT", "FORWARD", "OUTPUT"),
    "nat": ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"),
    "raw": ("PREROUTING", "OUTPUT"),
    "mangle": ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"),
}


def kernel(built: Host | Look) -> KernelOf:
    """Return the kernel of a host, without any rules yet."""
    return KernelOf(built if isinstance(built, Look) else built.look())


@dataclass
class _Chains:
    """Lines of one iptables table, by chain."""

    rules: dict[str, list[str]] = field(default_factory=dict)
    policies: dict[str, str] = field(default_factory=dict)

    def saved(self, table: str) -> str:
        """Return what iptables-save prints."""
        chains = dict.fromkeys((*_BUILTIN[table], *self.rules))
        declared = [f":{chain} {self._policy(table, chain)} [0:0]" for chain in chains]
        lines = [f"[{number}:0] {line}" for chain in chains for number, line in enumerate(self.rules.get(chain, ()), 7)]
        return "\n".join((f"*{table}", *declared, *lines, "COMMIT", ""))

    def _policy(self, table: str, chain: str) -> str:
        return self.policies.get(chain, "ACCEPT") if chain in _BUILTIN[table] else "-"


class KernelOf:
    """A kernel under construction."""

    def __init__(self, seen: Look) -> None:
        self._seen = seen
        self._snapshot = seen.snapshot
        self.settings = {"bridge/bridge-nf-call-iptables": "1", "bridge/bridge-nf-call-ip6tables": "1"}
        self.listeners: list[Listener] = []
        self.missing: dict[str, str] = {}
        self._chains: dict[tuple[int, str], _Chains] = {}
        self._tables: list[Table] = []
        self._inside: dict[str, list[Table]] = {}
        self._ports: dict[int, Port] = {}
        self._host: dict[int, Interface] = {1: Interface(1, "lo", "", "", up=True, addresses=_LOOPBACK)}
        self._extra: list[Route] = []
        self._bridges: dict[str, int] = {}
        self._namespaces: dict[str, Namespace] = {}
        self._veths: dict[tuple[str, str], int] = {}
        self._wire()

    # --- What the engine sets up ---

    def engine_rules(self) -> Self:
        """Add the rules of engine 28 for bridges, isolation, published ports and links, and its docker-proxies."""
        self.policy("FORWARD", "DROP")
        self.rules("-A FORWARD -j DOCKER-USER", "-A FORWARD -j DOCKER-FORWARD")
        parts = ("DOCKER-CT", "DOCKER-ISOLATION-STAGE-1", "DOCKER-BRIDGE")
        self.rules(*(f"-A DOCKER-FORWARD -j {chain}" for chain in parts))
        self.rules(
            "-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER",
            "-A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER",
            table="nat",
        )
        for chain in ("DOCKER-USER", "DOCKER-ISOLATION-STAGE-1"):
            self._of(4, "filter").rules.setdefault(chain, [])
        for network in self._bridged():
            self._published(network)
            self._linked(network)
            self._bridge_rules(network)
        return self

    def _bridge_rules(self, network: Network) -> None:
        name = network.interface
        self.rules(
            f"-A DOCKER-CT -o {name} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
            f"-A DOCKER-BRIDGE -o {name} -j DOCKER",
            f"-A DOCKER ! -i {name} -o {name} -j DROP",
            f"-A DOCKER-FORWARD -i {name} -o {name} -j {'DROP' if network.icc is False else 'ACCEPT'}",
            f"-A DOCKER-FORWARD -i {name} ! -o {name} -j ACCEPT",
        )
        for pool in network.pools:
            if network.masquerade and pool.subnet.version == 4:
                self.rules(f"-A POSTROUTING -s {pool.subnet} ! -o {name} -j MASQUERADE", table="nat")

    def _published(self, network: Network) -> None:
        name = network.interface
        for sandbox in self._snapshot.sandboxes.values():
            inside = next((each.ipv4 for each in sandbox.endpoints if each.network_id == network.id), None)
            for port in sandbox.published if sandbox.endpoints[:1] and inside == sandbox.endpoints[0].ipv4 else ():
                target = f"{inside}:{port.container_port}"
                bound = "" if port.host_ip.is_unspecified else f"-d {port.host_ip}/32 "
                if port.host_ip.version == 4:
                    self.rules(
                        f"-A DOCKER {bound}! -i {name} -p {port.protocol} -m {port.protocol}"
                        f" --dport {port.host_port} -j DNAT --to-destination {target}",
                        table="nat",
                    )
                    self.rules(
                        f"-A DOCKER -d {inside}/32 ! -i {name} -o {name} -p {port.protocol} -m {port.protocol}"
                        f" --dport {port.container_port} -j ACCEPT"
                    )
                    direct = f"-A PREROUTING -d {inside}/32 ! -i {name} -j DROP"
                    if direct not in self._of(4, "raw").rules.get("PREROUTING", []):
                        self.rules(direct, table="raw")
                if inside is not None:
                    relay = inside, port.container_port
                    self.listeners.append(Listener(port.protocol, port.host_ip, port.host_port, relay, v6only=True))

    def _linked(self, network: Network) -> None:
        for link in self._snapshot.links if network.default else ():
            parent, child = (self._endpoint(each, network) for each in (link.parent, link.child))
            for port in self._snapshot.sandboxes[link.child].exposed:
                ends = f"-i {network.interface} -o {network.interface} -p {port.protocol} -m {port.protocol}"
                self.rules(
                    f"-A DOCKER -s {parent.ipv4}/32 -d {child.ipv4}/32 {ends} --dport {port.port} -j ACCEPT",
                    f"-A DOCKER -s {child.ipv4}/32 -d {parent.ipv4}/32 {ends} --sport {port.port} -j ACCEPT",
                )

    # --- What somebody changes ---

    def rules(self, *lines: str, table: str = "filter", version: int = 4) -> Self:
        """Add rules: `-A CHAIN …` at the end of a chain, `-I CHAIN …` at its beginning."""
        for line in lines:
            how, chain, said = line.split(" ", 2)
            rules = self._of(version, table).rules.setdefault(chain, [])
            rules.insert(0 if how == "-I" else len(rules), f"-A {chain} {said}")
        for chain in {line.split(" -j ")[-1].split()[0] for line in lines if " -j " in line}:
            if chain.startswith("DOCKER"):
                self._of(version, table).rules.setdefault(chain, [])
        return self

    def flush(self, chain: str, table: str = "filter", version: int = 4) -> Self:
        """Remove all rules of a chain."""
        self._of(version, table).rules[chain] = []
        return self

    def policy(self, chain: str, policy: str, table: str = "filter", version: int = 4) -> Self:
        """Set the policy of a builtin chain."""
        self._of(version, table).policies[chain] = policy
        return self

    def table(self, table: Table, inside: str = "") -> Self:
        """Add a table to the host's firewall, or to the one inside a container."""
        if inside:
            self._inside.setdefault(self._sandbox(inside).id, []).append(table)
        else:
            self._tables.append(table)
        return self

    def inside(self, container: str, *lines: str, table: str = "filter") -> Self:
        """Add rules of a table inside a container."""
        chains = _Chains()
        for line in lines:
            chains.rules.setdefault(line.split()[1], []).append(line)
        return self.table(_parsed(chains, table, 4), container)

    def set(self, path: str, value: int) -> Self:
        """Set one of the host's sysctls, by its path under `net/`."""
        self.settings[path] = str(value)
        return self

    def isolate(self, container: str, network: str = "bridge") -> Self:
        """Set `isolated on` for the port of a container on a bridge."""
        self._ports[self._veths[self._sandbox(container).id, network]] = Port(isolated=True)
        return self

    def listen(self, protocol: Protocol, address: str, port: int) -> Self:
        """Let some program of the host listen."""
        self.listeners.append(Listener(protocol, ip_address(address), port))
        return self

    def unread(self, source: str, reason: str) -> Self:
        """Say that a source of evidence could not be read."""
        self.missing[source] = reason
        return self

    # --- What the exporter makes of it ---

    def look(self) -> Look:
        """Return what the exporter makes of it."""
        snapshot = replace(self._snapshot, kernel=self.kernel())
        return Look(self._seen.observation, snapshot)

    def kernel(self) -> Kernel:
        """Return the kernel."""
        interfaces = {
            index: replace(interface, port=self._ports.get(index, interface.port))
            for index, interface in self._host.items()
        }
        forwarding = {
            f"ipv{family}/conf/{name}/forwarding": "1"
            for family in (4, 6)
            for name in ("all", *(interface.name for interface in interfaces.values()))
        }
        tables = [_parsed(chains, table, version) for (version, table), chains in self._chains.items()]
        routes = [route for each in interfaces.values() for route in _connected(each.index, each.addresses)]
        joined = [route for each in interfaces.values() for route in _anycast(each.index, each.addresses)]
        host = Namespace(
            interfaces,
            (*routes, *joined),
            firewall=Firewall((*tables, *self._tables)),
            listeners=tuple(self.listeners),
            settings=forwarding | self.settings,
        )
        sandboxes = {
            sandbox: replace(namespace, firewall=Firewall(tuple(self._inside.get(sandbox, ()))))
            for sandbox, namespace in self._namespaces.items()
        }
        return Kernel(host, {} if "sandboxes" in self.missing else sandboxes, self.missing)

    def _of(self, version: int, table: str) -> _Chains:
        return self._chains.setdefault((version, table), _Chains())

    def _bridged(self) -> Iterator[Network]:
        yield from (network for network in self._snapshot.networks.values() if network.driver == "bridge")

    def _sandbox(self, container: str) -> Sandbox:
        found = next(each for each in self._snapshot.containers.values() if each.name == container)
        return self._snapshot.sandboxes[found.sandbox]

    def _endpoint(self, sandbox: str, network: Network) -> Endpoint:
        endpoints = self._snapshot.sandboxes[sandbox].endpoints
        return next(endpoint for endpoint in endpoints if endpoint.network_id == network.id)

    def _wire(self) -> None:
        for network in self._bridged():
            index = self._bridges[network.id] = len(self._host) + 1
            mac = f"02:42:ff:00:00:{index:02x}"
            addresses = tuple(OwnAddress(pool.gateway, pool.subnet.prefixlen) for pool in network.pools if pool.gateway)
            addresses += (OwnAddress(link_local_of(mac), 64),) if network.ipv6 else ()
            self._host[index] = Interface(
                index,
                network.interface,
                "bridge",
                mac,
                up=True,
                addresses=addresses,
                bridge=Bridge(),
            )
        for sandbox in self._snapshot.sandboxes.values():
            if sandbox.id != HOST:
                self._namespaces[sandbox.id] = self._plugged(sandbox, self._snapshot)

    def _plugged(self, sandbox: Sandbox, snapshot: Snapshot) -> Namespace:
        interfaces = {1: Interface(1, "lo", "", "", up=True, addresses=_LOOPBACK)}
        routes = list(_connected(1, _LOOPBACK))
        for number, endpoint in enumerate(sandbox.endpoints):
            network = snapshot.networks[endpoint.network_id]
            if network.id not in self._bridges:
                continue
            outside = len(self._host) + 1
            index = 1000 + outside
            self._veths[sandbox.id, network.name] = outside
            self._host[outside] = Interface(
                outside,
                f"veth{outside}",
                "veth",
                f"02:42:fe:00:00:{outside:02x}",
                up=True,
                master=self._bridges[network.id],
                peer=index,
                port=Port(),
            )
            addresses = tuple(_addresses(endpoint, network))
            mac = endpoint.mac or f"02:42:00:00:00:{outside:02x}"
            interfaces[index] = Interface(index, f"eth{number}", "veth", mac, True, peer=outside, addresses=addresses)
            routes += _connected(index, addresses)
            if number == 0:
                routes += _defaults(index, endpoint)
        return Namespace(interfaces, tuple(routes))


def _parsed(chains: _Chains, table: str, version: int) -> Table:
    family = TableFamily.IP if version == 4 else TableFamily.IP6
    (found,) = parse_iptables(chains.saved(table), family, Backend.IPTABLES_NFT, parse_ipsets(""))
    return found


def _addresses(endpoint: Endpoint, network: Network) -> Iterator[OwnAddress]:
    for address in (endpoint.ipv4, endpoint.ipv6):
        if address is not None:
            pool = next(pool for pool in network.pools if address in pool.subnet)
            yield OwnAddress(address, pool.subnet.prefixlen)
    if endpoint.link_local is not None:
        yield OwnAddress(endpoint.link_local, 64)


def _connected(index: int, addresses: tuple[OwnAddress, ...]) -> Iterator[Route]:
    for address in addresses:
        yield Route(_LOCAL, RouteKind.LOCAL, ip_network(address.ip), (Hop(index),))
        yield Route(_LOCAL if index == 1 else _MAIN, _kind(index), address.network, (Hop(index),))


def _anycast(index: int, addresses: tuple[OwnAddress, ...]) -> Iterator[Route]:
    """Yield the routes to the addresses that whoever passes packets on shares with others (addrconf_join_anycast)."""
    for prefix in dict.fromkeys(address.network for address in addresses if address.version == 6):
        if prefix.prefixlen < 127:
            yield Route(_LOCAL, RouteKind.ANYCAST, ip_network(prefix.network_address), (Hop(index),))


def _kind(index: int) -> RouteKind:
    return RouteKind.LOCAL if index == 1 else RouteKind.UNICAST


def _defaults(index: int, endpoint: Endpoint) -> Iterator[Route]:
    for family, anywhere in ((4, "0.0.0.0/0"), (6, "::/0")):
        gateway = endpoint.gateway(family)
        if gateway is not None:
            yield Route(_MAIN, RouteKind.UNICAST, ip_network(anywhere), (Hop(index, gateway),))
