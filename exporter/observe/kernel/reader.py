"""One look at the kernel: the engine's namespace, and those of its containers; and at how dockerd was started."""

from __future__ import annotations

import errno
import logging
import os
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from exporter import threads
from exporter.errors import EngineUnreachable, SystemShort, message_of
from exporter.model.namespace import DOCKER_PROXY
from exporter.model.observation import DaemonDocuments, KernelDocuments, NamespaceDocuments
from exporter.observe.kernel.budget import Budget
from exporter.observe.kernel.bystanders import BYSTANDERS, BystanderReader, Known
from exporter.observe.kernel.cgroups import Cgroups
from exporter.observe.kernel.daemon import Root, read_daemon
from exporter.observe.kernel.modules import of_legacy_ebtables
from exporter.observe.kernel.namespace import NamespaceReader, Reading
from exporter.observe.kernel.netns import OWN, Netns
from exporter.observe.kernel.peers import with_peers
from exporter.observe.kernel.place import bridges, overlays, wrong_place
from exporter.observe.kernel.processes import Process, Processes, ProcessReader, Relay
from exporter.observe.kernel.trouble import Unreadable, reason
from exporter.observe.tier import Tier

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

logger = logging.getLogger(__name__)

SOURCES: Final = ("firewall", "bridge", "routes", "sandboxes")
"""Sources of evidence that the kernel gives."""

_BESIDE: Final = ("ipsets", "programs")
"""What a sandbox can be judged without: rules that ask for a set are undecided then, programs taken for not there."""

_NO_VIEW: Final = "no process of a container is visible: the host's PID view is needed (pid: host)"

_NO_DAEMON: Final = "no dockerd is visible in the engine's network namespace: the host's PID view is needed (pid: host)"
_HIDDEN_DAEMON: Final = "whether a dockerd is the engine's may not be seen: CAP_SYS_PTRACE is needed"

_SHORT: Final = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EAGAIN)
"""What the operating system says when it runs short of something."""

_BESIDE_CONTAINERS = 0.5
"""The share of the time that is left then for namespaces that are no container's: somebody may make many."""

_GRACE = 0.3
"""Seconds that a look may exceed its time; each of its steps knows the time itself."""


@dataclass(frozen=True, slots=True)
class KernelLook:
    """What was read. `gone` are containers whose processes had ended when they were looked for."""

    documents: KernelDocuments
    gone: frozenset[str] = frozenset()
    daemon: DaemonDocuments = field(default_factory=DaemonDocuments)


class KernelReader:
    """Reads the kernel. One thread asks at a time; `interrupt` may be called from any other.

    `netns` is the path of the engine's network namespace, where that is not the exporter's own. Where `absent` says why
    there is nothing to read, nothing is.
    """

    def __init__(self, tier: Tier, netns: Path | None = None, absent: str = "") -> None:
        self._tier = tier
        self._netns = str(netns) if netns else OWN
        self._absent = absent
        self._budget: Budget | None = None
        self._thread: threads.Started | None = None
        self._namespaces = NamespaceReader()
        self._processes = ProcessReader()
        self._cgroups = Cgroups()
        self._bystanders = BystanderReader()
        self._told: Mapping[str, str] = {}

    def read(
        self, networks: Sequence[Mapping[str, Any]], containers: Sequence[Mapping[str, Any]], seconds: float
    ) -> KernelLook:
        """Return what the kernel has of an engine with these networks and containers, after so many seconds at most.

        What cannot be read is missing in it. Raises EngineUnreachable where `interrupt` ended it.
        """
        look = _unread(self._absent) if self._absent else self._read(networks, containers, seconds)
        missing = look.daemon.missing
        self._tell({**look.documents.missing, **({"configuration": missing} if missing else {})})
        return look

    def interrupt(self) -> None:
        """Make a `read` that another thread is in end at once."""
        budget = self._budget
        if budget is not None:
            budget.cancel()

    def _read(
        self, networks: Sequence[Mapping[str, Any]], containers: Sequence[Mapping[str, Any]], seconds: float
    ) -> KernelLook:
        if self._thread is not None and self._thread.alive:
            return _unread("the look before has not ended")
        budget = self._budget = Budget(seconds)
        look = _Look(
            self._tier, self._netns, self._namespaces, self._processes, self._cgroups, self._bystanders, budget
        )
        looks: list[KernelLook] = []
        try:
            # a thread of its own: see the package
            self._thread = threads.start(lambda: looks.append(look.look(networks, _identities(containers))))
        except SystemShort as error:
            return _unread(str(error))
        self._thread.wait(seconds + _GRACE)
        if budget.cancelled:
            raise EngineUnreachable("the look at the kernel was ended")
        return looks[0] if looks else _unread("the look did not end")

    def _tell(self, missing: Mapping[str, str]) -> None:
        """Log which evidence is missing, or is not any more, once for each change."""
        for source in sorted(missing.keys() | self._told.keys()):
            now, before = missing.get(source), self._told.get(source)
            if now == before:
                continue
            level = logging.DEBUG if "/" in source else logging.INFO
            logger.log(level, "evidence %s: %s", source, f"missing: {now}" if now else "can be read")
        self._told = dict(missing)


class _Look:
    """A look by a thread that ends with it."""

    def __init__(
        self,
        tier: Tier,
        netns: str,
        namespaces: NamespaceReader,
        processes: ProcessReader,
        cgroups: Cgroups,
        bystanders: BystanderReader,
        budget: Budget,
    ) -> None:
        self._tier = tier
        self._netns = netns
        self._namespaces = namespaces
        self._processes = processes
        self._cgroups = cgroups
        self._bystanders = bystanders
        self._budget = budget
        self._paths: dict[int, str] = {}

    def look(self, networks: Sequence[Mapping[str, Any]], containers: Collection[str]) -> KernelLook:
        try:
            return self._look(networks, containers)
        except Unreadable as error:
            return _unread(str(error))
        except MemoryError:
            return _unread("out of memory")
        except OSError as error:
            if error.errno not in _SHORT:
                logger.exception("reading the kernel failed")
            return _unread(reason(error, "the kernel cannot be read", "root"))
        except Exception as error:
            logger.exception("reading the kernel failed")
            return _unread(message_of(error))

    def _look(self, networks: Sequence[Mapping[str, Any]], containers: Collection[str]) -> KernelLook:
        self._namespaces.turn()
        with Netns.open(self._netns) as host:
            if self._netns != OWN:
                host.enter()
            # the thread will be elsewhere when it comes back
            self._paths[host.inode] = f"/proc/self/fd/{host.descriptor}"
            reading = self._namespaces.read(host.inode, self._budget)
            wrong = wrong_place(networks, reading.documents) if "bridge" not in reading.missing else ""
            if wrong:
                return _unread(wrong)
            found = self._processes.read(containers)
            daemon = self._daemon(found, reading.documents.inode)
            if self._tier is Tier.KERNEL:
                reading = self._with_peers(reading)
            reading = self._with_relays(reading, found, containers)
            if self._tier is Tier.KERNEL:
                missing = {**reading.missing, "sandboxes": "--evidence.max=kernel"}
                documents = KernelDocuments(reading.documents, {}, missing, modules=of_legacy_ebtables())
                return KernelLook(documents, daemon=daemon)
            look = self._with_sandboxes(reading, found, containers)
            documents = self._with_bystanders(self._with_programs(look.documents, found), networks, found)
            return replace(look, documents=replace(documents, modules=of_legacy_ebtables()), daemon=daemon)

    def _daemon(self, found: Processes, inode: int) -> DaemonDocuments:
        """Return the documents of the engine's dockerd: the one in the namespace that the engine's bridges are in.

        The process at the other end of the API's socket may be a proxy, or systemd, which made the socket
        (`-H fd://`); pid files have numbers of another PID namespace. The network namespace is what the engine is
        known by everywhere else.
        """
        try:
            return self._read_daemon(found, inode)
        except Unreadable as error:
            return DaemonDocuments(missing=str(error))
        except Exception as error:
            logger.exception("reading the daemon's configuration failed")
            return DaemonDocuments(missing=message_of(error))

    def _read_daemon(self, found: Processes, inode: int) -> DaemonDocuments:
        here = [process for process in found.daemons if self._inode(process) == inode]
        if len(here) != 1:
            hidden = [process for process in found.daemons if self._inode(process) is None]
            if here:
                raise Unreadable(f"{len(here)} dockerds run in the engine's network namespace: one is expected")
            raise Unreadable(_HIDDEN_DAEMON if hidden else _NO_DAEMON)
        (daemon,) = here
        documents = read_daemon(
            Root(self._processes.root(daemon)),
            self._processes.command_line(daemon),
            self._processes.service_cgroup(daemon),
        )
        if not self._processes.lives(daemon):
            raise Unreadable("dockerd has ended meanwhile")
        return documents

    def _with_peers(self, reading: Reading) -> Reading:
        try:
            links = with_peers(reading.documents.links, self._budget)
        except OSError:
            return reading
        return replace(reading, documents=replace(reading.documents, links=links))

    def _with_relays(self, reading: Reading, found: Processes, containers: Collection[str]) -> Reading:
        """Add where docker-proxies pass packets on to."""
        if containers and not found.containers:
            return replace(reading, missing={**reading.missing, "relays": _NO_VIEW})
        sure: dict[tuple[str, str, int], list[object]] = {}
        perhaps: dict[tuple[str, str, int], list[list[object]]] = {}
        for relay in found.relays:
            key, inode = (relay.protocol, *relay.host), self._inode(relay)
            if inode == reading.documents.inode:
                sure[key] = list(relay.target)
            elif inode is None and list(relay.target) not in perhaps.setdefault(key, []):
                perhaps[key].append(list(relay.target))
        listeners = []
        for listener in reading.documents.listeners:
            key = listener["protocol"], listener["address"], listener["port"]
            targets = [sure[key]] if key in sure else perhaps.get(key, [])
            told = {"program": DOCKER_PROXY} if targets else {}
            # of several that may be another engine's, nobody knows which has the socket
            leads = {"relay": targets[0]} if len(targets) == 1 else {}
            listeners.append({**listener, **told, **leads})
        return replace(reading, documents=replace(reading.documents, listeners=listeners))

    def _inode(self, process: Process | Relay) -> int | None:
        """Return the namespace of a process: there may be several engines. None where that may not be known."""
        try:
            with Netns.open(self._processes.namespace(process)) as namespace:
                return namespace.inode
        except Unreadable:
            return None

    def _with_sandboxes(self, host: Reading, found: Processes, containers: Collection[str]) -> KernelLook:
        missing = dict(host.missing)
        if containers and not found.containers:
            return KernelLook(KernelDocuments(host.documents, {}, {**missing, "sandboxes": _NO_VIEW}))
        read = {host.documents.inode: host.documents}
        sandboxes: dict[str, NamespaceDocuments] = {}
        failed: dict[str, str] = {}
        gone = set(containers) - found.containers.keys()
        for identity, process in found.containers.items():
            try:
                documents = self._sandbox(process, read)
            except Unreadable as error:
                failed[identity] = str(error)
                continue
            if documents is None:
                gone.add(identity)
            else:
                sandboxes[identity] = documents
        if failed and not sandboxes:
            missing["sandboxes"] = next(iter(failed.values()))
        missing |= {f"sandboxes/{identity}": why for identity, why in failed.items()}
        missing |= {f"sandboxes/{identity}": "its processes have ended" for identity in gone}
        return KernelLook(KernelDocuments(host.documents, sandboxes, missing), frozenset(gone))

    def _with_bystanders(
        self, documents: KernelDocuments, networks: Sequence[Mapping[str, Any]], found: Processes
    ) -> KernelDocuments:
        """Add the namespaces that are no container's and have cables to networks' bridges or into containers."""
        if documents.host is None or "bridge" in documents.missing or "sandboxes" in documents.missing:
            return documents
        known = Known(
            documents,
            documents.host,
            self._paths,
            bridges=frozenset(dict(bridges(networks))),
            overlays=tuple(overlays(networks)),
            views=(*(process.pid for process in found.daemons), 1, os.getpid()),
        )
        try:
            budget = self._budget.part(_BESIDE_CONTAINERS * self._budget.left())
        except Unreadable as error:
            return replace(documents, missing={**documents.missing, BYSTANDERS: str(error)})
        return self._bystanders.read(known, lambda inode: self._inside(inode, budget), budget)

    def _inside(self, inode: int, budget: Budget) -> NamespaceDocuments:
        """Return the documents of the namespace that the thread is in. Raises Unreadable."""
        reading = self._namespaces.read(inode, budget)
        lacking = {source: why for source, why in reading.missing.items() if source not in _BESIDE}
        if lacking:
            raise Unreadable("; ".join(f"{source}: {why}" for source, why in lacking.items()))
        return reading.documents

    def _with_programs(self, documents: KernelDocuments, found: Processes) -> KernelDocuments:
        """Add which namespaces have containers whose packets programs of BPF see at their cgroups."""
        watched, missing = set(), dict(documents.missing)
        for identity, read in documents.sandboxes.items():
            try:
                if self._cgroups.watched(self._processes.cgroup(found.containers[identity])):
                    watched.add(read.inode)
            except Unreadable as error:
                missing.setdefault("programs", str(error))
        documents = replace(documents, missing=missing)
        if not watched or documents.host is None:
            return documents
        told = {
            read.inode: replace(read, programs=["cgroup"])
            for read in (documents.host, *documents.sandboxes.values())
            if read.inode in watched
        }
        return replace(
            documents,
            host=told.get(documents.host.inode, documents.host),
            sandboxes={name: told.get(read.inode, read) for name, read in documents.sandboxes.items()},
        )

    def _sandbox(self, process: Process, read: dict[int, NamespaceDocuments]) -> NamespaceDocuments | None:
        """Return the documents of a process's namespace, None if the process has ended. Raises Unreadable."""
        try:
            namespace = Netns.open(self._processes.namespace(process))
        except Unreadable:
            if not self._processes.lives(process):
                return None
            raise
        with namespace:
            if not self._processes.lives(process):
                return None
            self._paths.setdefault(namespace.inode, namespace.path)
            if namespace.inode not in read:
                namespace.enter()
                read[namespace.inode] = self._inside(namespace.inode, self._budget)
            return read[namespace.inode]


def _identities(containers: Sequence[Mapping[str, Any]]) -> list[str]:
    return [container["Id"] for container in containers if isinstance(container.get("Id"), str)]


def _unread(why: str) -> KernelLook:
    return KernelLook(_nothing(why), daemon=DaemonDocuments(missing=why))


def _nothing(why: str) -> KernelDocuments:
    return KernelDocuments(missing=dict.fromkeys(SOURCES, why))
