"""A change to a host, the facts that its commands have to name, and how they are chosen."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from random import Random

    from tests.lab import Engine

ANNOUNCED = 3.2
"""Seconds for which engines from 28.0 on tell all on a network of a container that started, asked or not."""

NOBODY = "02:00:5e:00:53:01"
"""A link address that no interface has."""

Commands = tuple[str, ...]


def by_nft(*commands: str) -> Commands:
    """Return commands of nft as commands of the shell."""
    return tuple(f"nft '{command}'" for command in commands)


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that was changed: shell commands for the host, or for the namespace of the container `inside`.

    `engine` are docker commands, which an engine may refuse whose rules somebody took away. Packets show the change
    only once so many seconds have gone by. `doubts` are how the reasons begin for which paths may be undecided then.
    """

    name: str
    commands: Commands = ()
    inside: str = ""
    seconds: float = 0.0
    engine: tuple[tuple[str, ...], ...] = ()
    doubts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Facts:
    """What commands have to name."""

    bridges: tuple[str, ...]
    ports: tuple[str, ...]
    ipv4: tuple[str, ...]
    ipv6: tuple[str, ...]
    macs: tuple[str, ...]
    published: tuple[tuple[str, int], ...]
    sandboxes: tuple[str, ...]
    networks: tuple[str, ...]
    subnets: tuple[str, ...]
    cgroups: Mapping[str, str]
    pids: Mapping[str, int]

    @classmethod
    def of(cls, engine: Engine) -> Facts:
        """Ask an engine and its host."""
        containers = engine.api("/containers/json")
        endpoints = [item for each in containers for item in each["NetworkSettings"]["Networks"].values()]
        published = {
            (port["Type"], port["PublicPort"])
            for each in containers
            for port in each["Ports"]
            if port.get("PublicPort")
        }
        sandboxes = tuple(
            each["Names"][0].removeprefix("/")
            for each in containers
            if each["HostConfig"]["NetworkMode"] not in ("host", "none")
            and not each["HostConfig"]["NetworkMode"].startswith("container:")
            and each["State"] == "running"
            and engine.api(f"/containers/{each['Id']}/json")["State"]["Pid"]
        )
        pids = {name: engine.pid_of(name) for name in sandboxes}
        networks = [each for each in engine.api("/networks") if each["Driver"] == "bridge"]
        return cls(
            bridges=_links(engine, "bridge"),
            ports=_links(engine, "bridge_slave"),
            ipv4=tuple(item["IPAddress"] for item in endpoints if item["IPAddress"]),
            ipv6=tuple(item["GlobalIPv6Address"] for item in endpoints if item["GlobalIPv6Address"]),
            macs=tuple(item["MacAddress"] for item in endpoints if item["MacAddress"]),
            published=tuple(sorted(published)),
            sandboxes=sandboxes,
            networks=tuple(sorted(each["Name"] for each in networks if each["Name"] != "bridge")),
            subnets=tuple(sorted(pool["Subnet"] for each in networks for pool in each["IPAM"]["Config"] or ())),
            cgroups={name: cgroup_of(pid) for name, pid in pids.items()},
            pids=pids,
        )


def cgroup_of(pid: int) -> str:
    """Return the folder of a process's cgroup, as this machine sees it."""
    lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    mounts = (line.split(" ") for line in Path("/proc/self/mountinfo").read_text().splitlines())
    root = next(mount[4] for mount in mounts if "cgroup2" in mount)
    return root + next(line.removeprefix("0::") for line in lines if line.startswith("0::"))


def _links(engine: Engine, kind: str) -> tuple[str, ...]:
    lines = engine.on_host("ip", "-oneline", "link", "show", "type", kind).splitlines()
    return tuple(line.split(": ")[1].partition("@")[0] for line in lines)


class Somebody:
    """Chooses at random what changes are about."""

    def __init__(self, facts: Facts, random: Random) -> None:
        self._facts = facts
        self._random = random

    def _pick(self, names: Sequence[str], otherwise: str) -> str:
        return self._random.choice(names) if names else otherwise

    @property
    def _address(self) -> str:
        return self._pick(self._facts.ipv4, "172.17.0.2")

    @property
    def _address6(self) -> str:
        return self._pick(self._facts.ipv6, "fd00:99::2")

    @property
    def _bridge(self) -> str:
        return self._pick(self._facts.bridges, "eth0")

    @property
    def _port(self) -> str:
        return self._pick(self._facts.ports, "eth0")

    @property
    def _published(self) -> tuple[str, int]:
        return self._random.choice(self._facts.published) if self._facts.published else ("tcp", 20000)
