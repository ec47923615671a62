"""A topology as data: an engine's arguments, its networks, its containers; and how to build it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.lab.engine import Engine


@dataclass(frozen=True, slots=True)
class Network:
    """One `docker network create`."""

    name: str
    driver: str = "bridge"
    options: Mapping[str, str] = field(default_factory=dict)
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Container:
    """One `docker run`; `also` are networks that it is connected to afterwards."""

    name: str
    network: str = "bridge"
    also: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Topology:
    """Everything that decides who reaches whom; `host` are shell commands for the engine's host, run last."""

    seed: int = 0
    args: tuple[str, ...] = ()
    networks: tuple[Network, ...] = ()
    containers: tuple[Container, ...] = ()
    host: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Topology:
        """Read the recordings' `topology`."""
        return cls(
            int(document["seed"]),
            tuple(document["args"]),
            tuple(Network(n["name"], n["driver"], dict(n["options"]), tuple(n["flags"])) for n in document["networks"]),
            tuple(
                Container(c["name"], c["network"], tuple(c["also"]), tuple(c["flags"])) for c in document["containers"]
            ),
            tuple(document["host"]),
        )

    def to_json(self) -> dict[str, Any]:
        """Return the recordings' `topology`: the same keys, lists in place of tuples."""
        return {
            "seed": self.seed,
            "args": list(self.args),
            "networks": [{**asdict(n), "options": dict(n.options), "flags": list(n.flags)} for n in self.networks],
            "containers": [{**asdict(c), "also": list(c.also), "flags": list(c.flags)} for c in self.containers],
            "host": list(self.host),
        }


def build(engine: Engine, topology: Topology) -> dict[str, str]:
    """Build a topology on an engine that has its arguments; return the ids of networks and containers by name.

    One after the other: the order decides every address, and links and shared sandboxes need what they name.
    """
    ids: dict[str, str] = {}
    for network in topology.networks:
        options = [f"--opt={key}={value}" for key, value in network.options.items()]
        command = ("network", "create", f"--driver={network.driver}", *options, *network.flags, network.name)
        ids[network.name] = engine.docker(*command).strip()
    for container in topology.containers:
        # the default bridge is not named: old CLIs refuse --link beside --network
        network_flags = () if container.network == "bridge" else (f"--network={container.network}",)
        ids[container.name] = engine.run(container.name, *network_flags, *container.flags)
        for name in container.also:
            engine.docker("network", "connect", name, container.name)
    for command_line in topology.host:
        engine.on_host("sh", "-ec", command_line)
    return ids
