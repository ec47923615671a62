"""Processes of the machine, found in one pass over /proc: the first one of each container, docker-proxy and dockerd.

A container is known by its cgroup, whose path holds its id under cgroup v1 and v2 and with both of the engine's
cgroup drivers; where an engine makes no cgroups (rootless), by the shim that is its parent. docker-proxy may be called
otherwise (`--userland-proxy-path`): it is then known by its parent, a dockerd. Command lines are read of docker-proxy,
containerd's shim, dockerd and its children alone, environments of nobody.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

PROC: Final = Path("/proc")

_ID: Final = re.compile(rb"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")
_PROXY, _SHIM, _DAEMON = b"docker-proxy", b"containerd-shim", b"dockerd"
_ENDED: Final = 0
"""In the place of the start of a process that is not there any more."""
_LENGTH_OF_NAMES = 15
"""The kernel keeps so much of a program's name."""


class Process(NamedTuple):
    """A process by its number and the time of its start: numbers are given again."""

    pid: int
    start: int


@dataclass(frozen=True, slots=True)
class Relay:
    """A docker-proxy: what it was told to listen on, and where to pass everything on to."""

    pid: int
    protocol: str
    host: tuple[str, int]
    target: tuple[str, int]


@dataclass(frozen=True, slots=True)
class Processes:
    """What one pass found. `daemons` are dockerds outside of the containers that were asked for, of any engine."""

    containers: Mapping[str, Process]
    relays: tuple[Relay, ...]
    daemons: tuple[Process, ...] = ()


class ProcessReader:
    """Looks at the processes below a folder."""

    def __init__(self, proc: Path = PROC) -> None:
        self._proc = proc

    def read(self, containers: Collection[str]) -> Processes:
        """Return the first process of each of these containers that has one, and every docker-proxy."""
        wanted = set(containers)
        members: dict[str, list[Process]] = {}
        proxies, shims, daemons, others = [], {}, [], []
        for pid in pids(self._proc):
            identity = self._container(pid, wanted)
            if identity:
                # a container's first process is its oldest: those that it started, or that were sent in, came later
                members.setdefault(identity, []).append(Process(pid, self._start(pid)))
                continue
            name = self._bytes(pid, "comm").rstrip(b"\n")
            if name == _PROXY:
                proxies.append(pid)
            elif name == _DAEMON:
                daemons.append(Process(pid, self._start(pid)))
            elif name == _SHIM[:_LENGTH_OF_NAMES]:
                shims[pid] = _option(self._arguments(pid), "-id")
            else:
                others.append(pid)
        found = _oldest(members)
        without = wanted - found.keys()
        if without and not without.isdisjoint(shims.values()):
            found |= self._children({pid: identity for pid, identity in shims.items() if identity in without})
        parents = {daemon.pid for daemon in daemons}
        proxies += [pid for pid in others if parents and self._parent(pid) in parents]
        relays = (_relay(pid, self._arguments(pid)) for pid in proxies)
        return Processes(found, tuple(relay for relay in relays if relay is not None), tuple(daemons))

    def namespace(self, process: Process | Relay) -> str:
        """Return the path of a process's network namespace."""
        return str(self._proc / str(process.pid) / "ns" / "net")

    def root(self, process: Process) -> Path:
        """Return the path of the root folder that a process sees."""
        return self._proc / str(process.pid) / "root"

    def command_line(self, process: Process) -> list[str]:
        """Return the words of a process's command line, its program first; none where it has ended."""
        return self._arguments(process.pid)

    def cgroup(self, process: Process) -> str:
        """Return the path of a process's cgroup in the unified hierarchy; empty where it has ended or has none."""
        return self._cgroups(process).get("", "")

    def service_cgroup(self, process: Process) -> str:
        """Return the cgroup that systemd put a process in, empty where systemd did not."""
        hierarchies = self._cgroups(process)
        found = hierarchies.get("name=systemd") or hierarchies.get("", "")
        return os.fsencode(found).decode(errors="replace")

    def lives(self, process: Process) -> bool:
        """Return whether a process is still there, and not another one of its number."""
        return self._start(process.pid) == process.start != _ENDED

    def _cgroups(self, process: Process) -> dict[str, str]:
        """Return the cgroups of a process by the controllers of their hierarchies: the unified one has none."""
        # a name may hold all that other ways to split lines split at
        lines = os.fsdecode(self._bytes(process.pid, "cgroup")).split("\n")
        return {line.split(":", 2)[1]: line.split(":", 2)[2] for line in lines if line.count(":") > 1}

    def _container(self, pid: int, wanted: Collection[str]) -> str | None:
        """Return the container whose cgroup a process is in; of nested ones the outermost that is asked for."""
        for match in _ID.finditer(self._bytes(pid, "cgroup")):
            identity = match[0].decode()
            if identity in wanted:
                return identity
        return None

    def _children(self, shims: Mapping[int, str]) -> dict[str, Process]:
        """Return the oldest child of each shim, by the container that the shim is there for.

        A shim has the runtime as a child too, each time that it has something done: that sees the shim's own mounts.
        """
        children: dict[str, list[Process]] = {}
        for pid in pids(self._proc):
            parent = self._parent(pid)
            if parent in shims and not self._share_mounts(pid, parent):
                children.setdefault(shims[parent], []).append(Process(pid, self._start(pid)))
        return _oldest(children)

    def _share_mounts(self, pid: int, other: int) -> bool:
        """Return whether two processes are in one mount namespace; false where that may not be known."""
        try:
            return (self._proc / str(pid) / "ns/mnt").readlink() == (self._proc / str(other) / "ns/mnt").readlink()
        except OSError:
            return False

    def _start(self, pid: int) -> int:
        fields = self._stat(pid)
        return int(fields[19]) if len(fields) > 19 else _ENDED

    def _parent(self, pid: int) -> int:
        fields = self._stat(pid)
        return int(fields[1]) if len(fields) > 1 else 0

    def _stat(self, pid: int) -> list[bytes]:
        # the name in parentheses may hold spaces and parentheses itself
        return self._bytes(pid, "stat").rpartition(b")")[2].split()

    def _arguments(self, pid: int) -> list[str]:
        return self._bytes(pid, "cmdline").decode(errors="replace").rstrip("\0").split("\0")

    def _bytes(self, pid: int, file: str) -> bytes:
        """Return a file of a process; nothing of one that has ended, or may not be looked at."""
        try:
            with (self._proc / str(pid) / file).open("rb") as opened:
                return opened.read()
        except OSError:
            return b""


def _oldest(members: Mapping[str, Iterable[Process]]) -> dict[str, Process]:
    """Return the first process of each container, of those that have not ended since they were found."""
    living = ((identity, [each for each in found if each.start != _ENDED]) for identity, found in members.items())
    return {identity: min(found, key=_age) for identity, found in living if found}


def _age(process: Process) -> tuple[int, int]:
    return process.start, process.pid


def pids(proc: Path) -> list[int]:
    """Return the processes below a folder."""
    return [int(name) for name in os.listdir(proc) if name.isdecimal()]  # noqa: PTH208 - thousands of Path objects


def _relay(pid: int, arguments: list[str]) -> Relay | None:
    """Return what docker-proxy's command line says, the same from 1.x to 29 (moby: portmapper/proxy_linux.go)."""
    values = {
        name: _option(arguments, f"-{name}") for name in ("host-ip", "host-port", "container-ip", "container-port")
    }
    protocol = _option(arguments, "-proto")
    if protocol not in ("tcp", "udp"):
        return None
    try:
        host, target = (
            (values["host-ip"], int(values["host-port"])),
            (values["container-ip"], int(values["container-port"])),
        )
    except ValueError:
        return None
    return Relay(pid, protocol, host, target)


def _option(arguments: Iterable[str], name: str) -> str:
    """Return the value of a command line's option as Go's flags take it: `-name value`, `--name=value`."""
    pending = False
    for argument in arguments:
        if pending:
            return argument
        given, equals, value = argument.partition("=")
        if given.startswith("-") and given.lstrip("-") == name.lstrip("-"):
            if equals:
                return value
            pending = True
    return ""
