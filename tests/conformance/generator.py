"""Random hosts: an engine's arguments, networks, containers, and what happens to them afterwards."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from tests.lab import Container, Network, Topology

if TYPE_CHECKING:
    from collections.abc import Iterator

PORTS = (80, 5432, 7777)
"""Where every sandbox listens: what is published and exposed leads to these."""

CARDS = ("eth10", "eth11")
"""The lab's interfaces for macvlan: engines before 27.0 take one network for each."""

HOST_ADDRESS = "198.51.100.10"
_BINDINGS = ("127.0.0.1:", "127.0.0.2:", f"{HOST_ADDRESS}:", "[::1]:", "172.17.0.1:")
_BRIDGE = "com.docker.network.bridge."
_CUSTOM_BRIDGE = "mybridge"
_CROWDS = 0.15


@dataclass(frozen=True, slots=True)
class Case:
    """A host to build.

    `before` are commands for the host, run before the engine starts with its arguments; `swarm` makes the engine a
    manager before the networks are made; `after` are docker commands that follow the last container.
    """

    version: str
    topology: Topology
    before: tuple[str, ...] = ()
    swarm: bool = False
    after: tuple[tuple[str, ...], ...] = ()


def generate(version: str, seed: int) -> Case:
    """Return the case of a seed: the same one each time."""
    return _Generator(version, seed).case()


class _Generator:
    def __init__(self, version: str, seed: int) -> None:
        self.random = Random(f"{version}/{seed}")
        self.version, self.seed = version, seed
        self.modern = version == "28.5"
        self.networks: list[Network] = []
        self.containers: list[Container] = []
        self.before: list[str] = []
        self.swarm = False
        self.docker0 = True

    def case(self) -> Case:
        args = self._args()
        args += tuple(self._forwarding())
        self.swarm = self.chance(0.12)
        for index in range(self.random.randint(1, 4)):
            self.networks.append(self._network(index))
        for index in range(self.random.randint(4, 9)):
            self.containers.append(self._container(index, default="--bridge=none" not in args))
        self.containers += self._crowd(default="--bridge=none" not in args)
        topology = Topology(self.seed, args, tuple(self.networks), tuple(self.containers))
        return Case(self.version, topology, tuple(self.before), self.swarm, tuple(self._after()))

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability

    def _args(self) -> tuple[str, ...]:
        args: list[str] = []
        if self.chance(0.4):
            args.append("--icc=false")
        if self.chance(0.25):
            args.append("--userland-proxy=false")
        if self.chance(0.1):
            args.append("--ip-masq=false")
        if self.chance(0.15) and self.version != "28.5":
            args += ["--experimental", "--ip6tables"]
        bridge = self.random.random()
        self.docker0 = bridge >= 0.2
        if bridge < 0.07:
            args = [arg for arg in args if arg != "--icc=false"] + ["--bridge=none"]
        elif bridge < 0.2:
            args.append(f"--bridge={_CUSTOM_BRIDGE}")
            self.before += [
                f"ip link add {_CUSTOM_BRIDGE} type bridge",
                f"ip address add 10.99.0.1/24 dev {_CUSTOM_BRIDGE}",
                f"ip link set {_CUSTOM_BRIDGE} up",
            ]
            args += self._routers("10.99.0.9")
        elif bridge < 0.35:
            subnet = f"fd00:{self.seed % 9999}:d::"
            args += ["--ipv6", f"--fixed-cidr-v6={subnet}/64", *self._routers("", f"{subnet}9")]
        elif bridge < 0.45:
            args += ["--bip=172.17.0.1/16", "--default-gateway=172.17.0.9"]
        return tuple(args)

    def _routers(self, *addresses: str) -> list[str]:
        """Return that default routes of the default bridge lead to these addresses of nobody, IPv4 first."""
        flags = zip(("--default-gateway", "--default-gateway-v6"), addresses, strict=False)
        return [f"{flag}={address}" for flag, address in flags if address and self.chance(0.3)]

    def _forwarding(self) -> Iterator[str]:
        """Yield that the engine leaves forwarding alone, which is switched off before."""
        if self.chance(0.1):
            self.before.append("echo 0 > /proc/sys/net/ipv4/ip_forward")
            if self.chance(0.5):
                self.before.append("echo 0 > /proc/sys/net/ipv6/conf/all/forwarding")
            yield "--ip-forward=false"

    def _network(self, index: int) -> Network:
        if self.chance(0.2) and sum(network.driver == "macvlan" for network in self.networks) < len(CARDS):
            return self._macvlan(index)
        if self.swarm and self.chance(0.5):
            return Network(
                f"net{index}", "overlay", {}, ("--attachable", *(["--internal"] if self.chance(0.2) else []))
            )
        options = dict(self._bridge_options())
        internal = self.chance(0.2)
        flags = [*self._subnets(index, routers=0 if internal else 0.12)]
        if internal:
            flags.append("--internal")
        if self.modern and self.chance(0.1):
            options[_BRIDGE + "trusted_host_interfaces"] = "eth0:docker0"
        if self.modern:
            options |= dict(self._gateway_modes(internal=internal, ipv6="--ipv6" in flags))
        return Network(f"net{index}", "bridge", options, tuple(flags))

    def _subnets(self, index: int, *, routers: float) -> Iterator[str]:
        """Yield the flags for a network's subnets, default routes of which lead to nobody now and then."""
        ipv6 = self.chance(0.45)
        if ipv6:
            subnet = f"fd00:{self.seed % 9999}:{index}::"
            yield from ("--ipv6", "--subnet", f"{subnet}/64")
            if self.chance(routers):
                yield f"--aux-address=DefaultGatewayIPv6={subnet}77"
        if ipv6 and self.modern and self.chance(0.25):
            yield "--ipv4=false"
            return
        subnet = f"10.10{index}.{self.seed % 250}"
        yield from ("--subnet", f"{subnet}.0/24")
        if self.chance(routers):
            yield f"--aux-address=DefaultGatewayIPv4={subnet}.77"

    def _bridge_options(self) -> Iterator[tuple[str, str]]:
        if self.chance(0.4):
            yield _BRIDGE + "enable_icc", self.random.choice(["false", "0", "F", "False", "true", "1"])
        if self.chance(0.2):
            yield _BRIDGE + "enable_ip_masquerade", "false"
        if self.chance(0.05):
            yield _BRIDGE + "inhibit_ipv4", "true"

    def _gateway_modes(self, *, internal: bool, ipv6: bool) -> Iterator[tuple[str, str]]:
        modes = ["isolated", "routed"] if internal else ["nat", "nat-unprotected", "routed"]
        for family in (4, 6) if ipv6 else (4,):
            if self.chance(0.35):
                yield f"{_BRIDGE}gateway_mode_ipv{family}", self.random.choice(modes)

    def _macvlan(self, index: int) -> Network:
        parent = CARDS[sum(network.driver == "macvlan" for network in self.networks)]
        mode = self.random.choice(["bridge", "bridge", "private", "vepa", "passthru"])
        flags = ["--subnet", f"10.20{index}.{self.seed % 250}.0/24"]
        if self.chance(0.2):
            flags.append("--internal")
        if self.chance(0.3):
            flags += ["--ipv6", "--subnet", f"fd00:{self.seed % 9999}:a{index}::/64"]
        return Network(f"net{index}", "macvlan", {"parent": parent, "macvlan_mode": mode}, tuple(flags))

    def _container(self, index: int, *, default: bool) -> Container:
        name = f"c{index}{self.random.choice('abxyz')}"
        roll = self.random.random()
        owners = [container for container in self.containers if container.network != "none"]
        if roll < 0.08:
            return Container(name, "none")
        if roll < 0.18:
            return Container(name, "host")
        if roll < 0.28 and owners:
            return Container(name, f"container:{self.random.choice(owners).name}")
        usable = [network for network in self.networks if not self._full(network)]
        names = [network.name for network in usable]
        first = self.random.choice(names) if names and self.chance(0.65 if default else 1) else "bridge"
        also = tuple(other for other in names if other != first and self.chance(0.2))
        links = list(self._links(first, default=default))
        # engines before 28.0 fail to connect a container with links to a network that takes over its default route
        return Container(name, first, () if links else also, (*self._ports(index), *links))

    def _crowd(self, *, default: bool) -> Iterator[Container]:
        """Yield, now and then, containers that nothing tells apart: more than evaluation has of a kind."""
        dice = Random(f"crowd/{self.version}/{self.seed}")
        bridges = [network.name for network in self.networks if network.driver == "bridge"]
        bridges += ["bridge"] if default else []
        if bridges and dice.random() < _CROWDS:
            network = dice.choice(bridges)
            yield from (Container(f"crowd{number}", network) for number in range(5))

    def _full(self, network: Network) -> bool:
        """Return whether no more container fits: a passthru parent takes one."""
        members = (container for container in self.containers if network.name in (container.network, *container.also))
        return network.options.get("macvlan_mode") == "passthru" and any(members)

    def _ports(self, index: int) -> Iterator[str]:
        for slot in range(self.random.randint(0, 3)):
            port = self.random.choice(PORTS)
            protocol = self.random.choice(["", "/udp"])
            if self.chance(0.45):
                yield from ("--expose", f"{port}{protocol}")
            else:
                host = self.random.choice(["", "", "", "", *_BINDINGS])
                if host == "172.17.0.1:" and not self.docker0:
                    host = ""
                yield from ("-p", f"{host}{20000 + 10 * index + slot}:{port}{protocol}")

    def _links(self, network: str, *, default: bool) -> Iterator[str]:
        children = [
            container
            for container in self.containers
            if container.network == "bridge" and not any(flag == "--link" for flag in container.flags)
        ]
        if network == "bridge" and default and children and self.chance(0.35):
            yield from ("--link", self.random.choice(children).name)

    def _after(self) -> Iterator[tuple[str, ...]]:
        for container in self.containers:
            if self.chance(0.08):
                yield (self.random.choice(["pause", "restart", *self._ends(container)]), container.name)
            elif self.chance(0.1) and container.network.startswith("net"):
                yield from self._connected(container)
        yield from self._moved()

    def _ends(self, container: Container) -> Iterator[str]:
        """Yield what may end a container: a linked one's rule would be left to whoever gets its address, unseen."""
        if all(container.name not in other.flags for other in self.containers):
            yield "kill"

    def _moved(self) -> Iterator[tuple[str, ...]]:
        """Take a linked container off the default bridge and back, while another one may take its address."""
        linked = [container.flags[-1] for container in self.containers if "--link" in container.flags]
        others = [
            container.name
            for container in self.containers
            if container.network == "bridge" and "--link" not in container.flags and container.name not in linked
        ]
        if linked and self.chance(0.5):
            child, other = self.random.choice(linked), self.random.choice([*others, ""])
            moving = [name for name in (child, other) if name]
            yield from (("network", "disconnect", "bridge", name) for name in moving)
            yield from (("network", "connect", "bridge", name) for name in reversed(moving))

    def _connected(self, container: Container) -> Iterator[tuple[str, ...]]:
        """Attach a running container to one more network, on engines that know it with a gateway priority."""
        attached = {container.network, *container.also}
        others = [network.name for network in self.networks if network.driver == "bridge"]
        for name in others:
            if name not in attached:
                priority = ["--gw-priority", self.random.choice(["-1", "1"])] if self.modern else []
                yield ("network", "connect", *priority, name, container.name)
                return
