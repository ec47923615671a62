"""The oracle: who really reaches whom, found out by sending packets."""

from __future__ import annotations

import itertools
import json
import os
import random
import secrets
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.lab.agent import Plan, is_link_local
from tests.lab.errors import LabError
from tests.lab.links import near
from tests.lab.system import run

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from tests.lab.engine import Engine

HOST = "host"
PROTOCOLS = ("tcp", "udp", "icmp")
# Below the range from which the kernel and the engine take ports by themselves.
SOURCE_PORTS = range(10000, 32768)
_next_source_port = itertools.count(random.randrange(len(SOURCE_PORTS)))


@dataclass(frozen=True, slots=True, order=True)
class Arrival:
    """Packets from a source to an address and port arrive in the destination; port 0 stands for ICMP echo."""

    source: str
    address: str
    protocol: str
    port: int
    destination: str


@dataclass(frozen=True, slots=True)
class Sandbox:
    """A network namespace: the host's, or the one that a container owns and others may share."""

    name: str
    inode: int
    path: str
    containers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Packets:
    """One measurement of a whole engine."""

    addresses: tuple[str, ...]
    ports: tuple[int, ...]
    sandboxes: tuple[Sandbox, ...]
    arrived: frozenset[Arrival]

    unbound: frozenset[tuple[str, str, str, int]]
    """(sandbox, protocol, address, port) where the lab cannot listen, because the engine or its proxy does."""

    silent: frozenset[tuple[str, str, int]]
    """(source, address, port) of TCP sessions that were established with such a program and led no further."""

    @property
    def boxes(self) -> dict[str, int]:
        """The inode of every container's sandbox."""
        return {name: sandbox.inode for sandbox in self.sandboxes for name in sandbox.containers}

    def between(self, source: str, destination: str) -> frozenset[Arrival]:
        """Return what arrives from one container in another, both by container name."""
        box = {name: sandbox.name for sandbox in self.sandboxes for name in sandbox.containers}
        box[HOST] = HOST
        wanted = (box[source], box[destination])
        return frozenset(arrival for arrival in self.arrived if (arrival.source, arrival.destination) == wanted)

    def to_json(self) -> dict[str, Any]:
        """Return the shape of the recordings' `packets`: sandboxes by inode."""
        inode = {sandbox.name: sandbox.inode for sandbox in self.sandboxes}
        return {
            "addresses": list(self.addresses),
            "ports": list(self.ports),
            "boxes": self.boxes,
            "arrived": [
                {
                    "source": inode[arrival.source],
                    "address": arrival.address,
                    "protocol": arrival.protocol,
                    "port": arrival.port,
                    "destination": inode[arrival.destination],
                }
                for arrival in sorted(self.arrived)
            ],
        }


def sandboxes(engine: Engine) -> tuple[Sandbox, ...]:
    """Every network namespace of an engine, each once: the host's first, then by the owning container's name."""
    host_inode = engine.netns.stat().st_ino
    members: dict[int, list[tuple[bool, str, str]]] = {}
    for container in engine.api("/containers/json"):
        document = engine.api(f"/containers/{container['Id']}/json")
        if not document["State"]["Pid"]:
            continue  # it ended while the list was made
        path = f"/proc/{document['State']['Pid']}/ns/net"
        joined = str(document["HostConfig"]["NetworkMode"]).startswith("container:")
        inode = Path(path).stat().st_ino
        members.setdefault(inode, []).append((joined, document["Name"].lstrip("/"), path))
    host = tuple(sorted(name for _, name, _ in members.pop(host_inode, [])))
    found = [Sandbox(HOST, host_inode, str(engine.netns), host)]
    for inode, joined_name_path in members.items():
        _, owner, path = min(joined_name_path)
        found.append(Sandbox(owner, inode, path, tuple(sorted(name for _, name, _ in joined_name_path))))
    return (found[0], *sorted(found[1:], key=lambda sandbox: sandbox.name))


def local_addresses(engine: Engine) -> tuple[str, ...]:
    """Every address of the host and of the sandboxes, loopback included, link-local left out."""
    found: set[str] = set()
    for sandbox in sandboxes(engine):
        links = json.loads(run(["nsenter", f"--net={sandbox.path}", "--", "ip", "-j", "address"]))
        infos = (info for link in links for info in link["addr_info"])
        found.update(info["local"] for info in infos if info["scope"] != "link")
    return tuple(sorted(found))


def ports_in_use(engine: Engine, *more: int) -> tuple[int, ...]:
    """Every published and exposed port of the running containers, and more if wished."""
    rows = (row for container in engine.api("/containers/json") for row in container["Ports"])
    named = {row.get(key, 0) for row in rows for key in ("PrivatePort", "PublicPort")}
    return tuple(sorted((named | set(more)) - {0}))


def measure(
    engine: Engine,
    addresses: Iterable[str],
    ports: Iterable[int],
    *,
    sources: Collection[str] | None = None,
    protocols: Collection[str] = PROTOCOLS,
    source_port: int | None = None,
) -> Packets:
    """Send packets from every sandbox (or from those of some containers) and see where they arrive."""
    boxes = sandboxes(engine)
    tested, asked = sorted(set(ports)), sorted(set(addresses))
    wanted = [
        index
        for index, box in enumerate(boxes)
        if sources is None or box.name in sources or not set(box.containers).isdisjoint(sources)
    ]
    plan = Plan(
        run=secrets.randbits(32),
        sandboxes=[box.path for box in boxes],
        sources=wanted,
        addresses=asked,
        ports=tested,
        listen=sorted({*tested, *ports_in_use(engine)}),
        protocols=[protocol for protocol in PROTOCOLS if protocol in protocols],
        source_ports=[],
        fixed_source_port=source_port is not None,
        near=near([box.path for box in boxes]) if any(map(is_link_local, asked)) else [{} for _ in boxes],
    )
    plan.source_ports.extend(_source_ports(plan) if source_port is None else [source_port])
    return _packets(plan, boxes, _run_agent(plan))


def arrivals(
    engine: Engine, addresses: Iterable[str], ports: Iterable[int], containers: Collection[str] | None = None
) -> frozenset[Arrival]:
    """Return what arrives where, by TCP, UDP and ICMP echo, when every sandbox probes every address and port."""
    return measure(engine, addresses, ports, sources=containers).arrived


def connects(engine: Engine, source: str, address: str, port: int, source_port: int | None = None) -> str | None:
    """Open one TCP connection from a container; return the sandbox that answered."""
    seen = measure(engine, [address], [port], sources=[source], protocols=["tcp"], source_port=source_port)
    return next((arrival.destination for arrival in seen.arrived), None)


def _source_ports(plan: Plan) -> list[int]:
    """Take source ports that no earlier measurement used, as long as the supply lasts.

    A flow's state outlives its packets by minutes, and a packet of a known flow passes rules that a new one does not.
    """
    tested = set(plan.ports)
    needed = sum(1 for _ in plan.probes())
    chosen: list[int] = []
    for position in itertools.islice(_next_source_port, len(SOURCE_PORTS)):
        port = SOURCE_PORTS[position % len(SOURCE_PORTS)]
        if port not in tested:
            chosen.append(port)
        if len(chosen) == needed:
            break
    return chosen


def _run_agent(plan: Plan) -> list[Any]:
    program = Path(__file__).with_name("agent.py")
    fields = {name: getattr(plan, name) for name in Plan.__slots__}
    command = [sys.executable, "-I", "-S", str(program), str(os.getpid())]
    results: list[Any] = json.loads(run(command, stdin=json.dumps(fields).encode(), timeout=90))
    if len(results) != len(plan.sandboxes):
        raise LabError("the agent did not report on every sandbox")
    return results


def _packets(plan: Plan, boxes: tuple[Sandbox, ...], results: list[Any]) -> Packets:
    """Put names on what the agent's numbers mean."""
    targets = [(address, protocol, port) for _, protocol, address, port in plan.probes()]
    arrived: set[Arrival] = set()
    silent: set[tuple[str, str, int]] = set()
    unbound: set[tuple[str, str, str, int]] = set()
    for here, result in zip(boxes, results, strict=True):
        for number, there in result["answered"]:
            arrived.add(Arrival(here.name, *targets[int(number)], boxes[there].name))
        for source, number in result["received"]:
            arrived.add(Arrival(boxes[source].name, *targets[int(number)], here.name))
        for number in result["silent"]:
            address, _, port = targets[int(number)]
            silent.add((here.name, address, port))
        unbound.update((here.name, protocol, address, port) for protocol, address, port in result["unbound"])
    return Packets(
        tuple(plan.addresses), tuple(plan.ports), boxes, frozenset(arrived), frozenset(unbound), frozenset(silent)
    )
