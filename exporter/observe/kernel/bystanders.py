"""Namespaces that are no container's and have cables to bridges of networks, into containers, or into each other.

They are looked for only where a cable leads to nobody who was read. Which namespace it is that has a cable's other end
the kernel tells of one after the other (RTM_GETNSID): of those that the look before found, of those that are mounted
somewhere, as `ip netns` and engines do it, and of those of processes.
"""

from __future__ import annotations

import os
import re
import struct
from collections import Counter
from dataclasses import dataclass, replace
from ipaddress import ip_address
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from exporter.observe.kernel.budget import Spent
from exporter.observe.kernel.netlink import HEADER, ROUTE, Netlink, attribute, attributes
from exporter.observe.kernel.netns import Netns
from exporter.observe.kernel.processes import PROC, pids
from exporter.observe.kernel.trouble import Unreadable, reason

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from exporter.model.addresses import Subnet
    from exporter.model.observation import KernelDocuments, NamespaceDocuments
    from exporter.observe.kernel.budget import Budget

BYSTANDERS: Final = "bystanders"
"""The key in `missing` of those that could not be found or read."""

MOST: Final = 64
"""As many are read."""

_PROCESSES: Final = 1 << 16
"""As many processes are asked for their namespace."""

_TOLD: Final = 5
"""As many cables and troubles are told."""

_LENGTH_OF_NAMES: Final = 64

_TOO_MANY: Final = f"more than {MOST} namespaces are no container's: the others were not read"

_GET_NSID = 90
_NSID, _FD = 1, 3
_FAMILY = struct.Struct("=B3x")
_NUMBER = struct.Struct("=i")


class Place(NamedTuple):
    """Where a namespace can be opened, and what it is called: by its mount, or by a process in it."""

    path: str
    name: str = ""


class _Cable(NamedTuple):
    """The end of a veth whose other end is in the namespace that has `number` here."""

    name: str
    own: int
    peer: int
    number: int
    master: str


class BystanderReader:
    """Finds and reads them, and remembers where the look before found them."""

    def __init__(self, proc: Path = PROC) -> None:
        self._proc = proc
        self._before: Mapping[int, Place] = {}

    def read(self, known: Known, read: Callable[[int], NamespaceDocuments], budget: Budget) -> KernelDocuments:
        """Return the documents of what is known with those of bystanders, and with where odd cables lead.

        `read` reads the namespace that the calling thread is in, given its inode. The thread may be in any of them
        afterwards.
        """
        search = _Search(known, self._before, lambda: self._elsewhere(known.views), budget)
        if search.needed:
            search.run(read)
        self._before = search.found
        return search.documents() if search.needed else known.kernel

    def _elsewhere(self, views: Iterable[int]) -> dict[int, Place]:
        """Return the namespaces that are mounted where some processes see them, and those of all processes."""
        found: dict[int, Place] = {}
        for view in views:
            for inode, place in _mounted(self._proc / str(view)):
                found.setdefault(inode, place)
        for pid in islice(pids(self._proc), _PROCESSES):
            own = self._proc / str(pid)
            there = _inode(own)
            if there is not None and there not in found:
                found[there] = Place(str(own / "ns/net"), f"pid {pid} {_text(_bytes(own / 'comm').rstrip())}".rstrip())
        return found


@dataclass(frozen=True, slots=True)
class Known:
    """What was read. `paths` are those of the host's namespace and the containers', by inode, also of unreadable ones.

    `bridges` are the names of networks' bridges, `overlays` the subnets of those whose cables lead into namespaces that
    the engine made for them, `views` the processes whose mounts are looked at.
    """

    kernel: KernelDocuments
    host: NamespaceDocuments
    paths: Mapping[int, str]
    bridges: Collection[str]
    overlays: Collection[Subnet]
    views: Collection[int]


class _Search:
    """One look for them. `before` are those of the look before, `elsewhere` finds all others that there are."""

    def __init__(
        self,
        known: Known,
        before: Mapping[int, Place],
        elsewhere: Callable[[], Mapping[int, Place]],
        budget: Budget,
    ) -> None:
        self._known = known
        self._before = before
        self._elsewhere = elsewhere
        self._budget = budget
        self._read = {each.inode: each for each in (known.host, *known.kernel.sandboxes.values())}
        self._cables = {inode: list(self._cables_of(each)) for inode, each in self._read.items()}
        self._places = {**before, **{inode: Place(path) for inode, path in known.paths.items()}}
        self._peers: dict[int, dict[int, int]] = {}
        self._searched = False
        self._unfound: list[str] = []
        self._troubles: list[str] = []
        self._visited = 0
        self.found: dict[int, Place] = {}
        self._odd = self._odd_containers()
        self.needed = bool(self._odd or self._strange_ports())

    def run(self, read: Callable[[int], NamespaceDocuments]) -> None:
        """Find out where odd cables lead, and read what is there."""
        try:
            for inode in self._odd:
                self._follow(inode, self._cables[inode])
            self._follow(self._known.host.inode, self._strange_ports())
            waiting = [*self.found]
            while waiting:
                inode = waiting.pop(0)
                if self._visit(inode, read):
                    seen = {*self.found}
                    self._follow(inode, self._cables[inode])
                    waiting += (each for each in self.found if each not in seen)
        except Unreadable as error:
            self._troubles.append(str(error))

    def documents(self) -> KernelDocuments:
        """Return all that is known now."""
        kernel, missing = self._known.kernel, dict(self._known.kernel.missing)
        troubles = self._troubles[:_TOLD]
        if self._unfound:
            more = ", …" if len(self._unfound) > _TOLD else ""
            troubles.append(f"no namespace was found at the other end of {', '.join(self._unfound[:_TOLD])}{more}")
        if troubles:
            missing[BYSTANDERS] = "; ".join(troubles)
        told = {inode: self._told(documents) for inode, documents in self._read.items()}
        return replace(
            kernel,
            host=told[self._known.host.inode],
            sandboxes={identity: told[each.inode] for identity, each in kernel.sandboxes.items()},
            bystanders={self._name(inode): told[inode] for inode in sorted(self.found) if inode in told},
            missing=missing,
        )

    # --- Which cables are odd ---

    def _cables_of(self, documents: NamespaceDocuments) -> Iterator[_Cable]:
        made = set(_within(documents, self._known.overlays)) if self._known.overlays else ()
        for link in documents.links:
            if _is_cable(link) and link["ifindex"] not in made:
                end = link["ifindex"], link.get("link_index", 0), link["link_netnsid"]
                yield _Cable(link["ifname"], *end, link.get("master", ""))

    def _odd_containers(self) -> list[int]:
        """Return the containers' namespaces whose cables do not all lead to bridges of the host, or not for sure."""
        host = self._known.host.inode
        # a card of the host's may be a cable as well, and have the indexes of one between two others
        ends = {(each.peer, each.own) for each in self._cables[host] if each.master}
        inside = {inode: cables for inode, cables in self._cables.items() if inode != host}
        claims = Counter((each.own, each.peer) for cables in inside.values() for each in cables)
        return [
            inode
            for inode, cables in inside.items()
            if len({each.number for each in cables}) > 1
            or any((each.own, each.peer) not in ends or claims[each.own, each.peer] > 1 for each in cables)
        ]

    def _strange_ports(self) -> list[_Cable]:
        """Return the ports of networks' bridges that no container is known to have, or several may."""
        host = self._known.host.inode
        claims = Counter(
            (each.peer, each.own)
            for inode, cables in self._cables.items()
            for each in cables
            if inode != host and self._peers.get(inode, {}).get(each.number, host) == host
        )
        ports = (each for each in self._cables[host] if each.master in self._known.bridges)
        return [each for each in ports if claims[each.own, each.peer] != 1]

    # --- Where they lead ---

    def _follow(self, inode: int, cables: Sequence[_Cable]) -> None:
        """Find the namespaces into which cables of one lead. Raises Unreadable."""
        wanted = {each.number: each.name for each in reversed(cables)}
        if not wanted:
            return
        peers = self._peers.setdefault(inode, {})
        try:
            with self._opened(inode) as namespace:
                namespace.enter()
        except Unreadable:
            return  # it is gone: it could be entered a moment ago
        try:
            with Netlink(ROUTE, self._budget) as netlink:
                for other in self._candidates(inode, cables):
                    number = self._number(netlink, other)
                    if number in wanted:
                        del wanted[number]
                        peers[number] = other
                        if other not in self._known.paths:
                            self.found[other] = self._places[other]
                    if not wanted:
                        break
        except OSError as error:
            raise Unreadable(reason(error, "rtnetlink", "CAP_NET_ADMIN")) from error
        self._unfound += wanted.values()

    def _candidates(self, inode: int, cables: Iterable[_Cable]) -> Iterator[int]:
        """Yield the namespaces that cables of one may lead into, the likely ones first."""
        ends = {(each.peer, each.own) for each in cables}
        own = (other for other, theirs in self._cables.items() if any(each[1:3] in ends for each in theirs))
        asked = {inode: self._places[inode]}
        # a place of the look before may be another one's by now, or have another one
        for other in (*own, *(each for each in self._places if each not in self._cables)):
            if other not in asked:
                asked[other] = self._places[other]
                yield other
        if not self._searched:
            self._searched = True
            found = self._elsewhere()
            self._places |= {other: place for other, place in found.items() if other not in self._known.paths}
        yield from (
            other for other, place in [*self._places.items()] if other not in self._cables and asked.get(other) != place
        )

    def _number(self, netlink: Netlink, other: int) -> int | None:
        """Return the number that a netlink socket's namespace has for another one, if any. Raises Spent."""
        try:
            with self._opened(other) as namespace:
                body = _FAMILY.pack(0) + attribute(_FD, _NUMBER.pack(namespace.descriptor))
                answer = netlink.get(_GET_NSID, body)
        except Spent:
            raise
        except (Unreadable, OSError):
            return None  # it is gone, or no namespace at all
        told = attributes(answer, HEADER.size + _FAMILY.size).get(_NSID)
        return int(_NUMBER.unpack(told)[0]) if told is not None else None

    def _visit(self, inode: int, read: Callable[[int], NamespaceDocuments]) -> bool:
        """Read a namespace, and return whether that was possible. Raises Spent."""
        if self._visited >= MOST:
            self._troubles += [_TOO_MANY] if _TOO_MANY not in self._troubles else []
            return False
        self._visited += 1
        try:
            with self._opened(inode) as namespace:
                namespace.enter()
                documents = read(inode)
        except Spent:
            raise
        except Unreadable as error:
            self._troubles.append(f"{self._name(inode)}: {error}")
            return False
        self._read[inode] = documents
        self._cables[inode] = list(self._cables_of(documents))
        return True

    def _opened(self, inode: int) -> Netns:
        """Hold a namespace open. Raises Unreadable where it is gone."""
        namespace = Netns.open(self._places[inode].path)
        if namespace.inode != inode:
            namespace.close()
            raise Unreadable("is gone")
        return namespace

    def _name(self, inode: int) -> str:
        name = self.found[inode].name
        return f"namespace {inode} ({name})" if name else f"namespace {inode}"

    def _told(self, documents: NamespaceDocuments) -> NamespaceDocuments:
        """Return documents whose cables tell the namespaces that they lead into, where that was asked."""
        peers = self._peers.get(documents.inode)
        if not peers:
            return documents
        links = [
            {**link, "peer_inode": peers[link["link_netnsid"]]}
            if _is_cable(link) and link["link_netnsid"] in peers
            else link
            for link in documents.links
        ]
        return replace(documents, links=links)


def _within(documents: NamespaceDocuments, subnets: Collection[Subnet]) -> Iterator[int]:
    """Yield the indexes of interfaces that have an address in some subnets."""
    for told in documents.addresses:
        address = ip_address(told["local"])
        if any(address in subnet for subnet in subnets):
            yield told["ifindex"]


def _is_cable(link: Mapping[str, Any]) -> bool:
    # a cable whose other end is in the same namespace names it
    return link.get("linkinfo", {}).get("info_kind") == "veth" and "link" not in link and "link_netnsid" in link


def _mounted(process: Path) -> Iterator[tuple[int, Place]]:
    """Yield the namespaces that are mounted where a process sees them (proc_pid_mountinfo(5))."""
    for line in _bytes(process / "mountinfo").split(b"\n"):
        fields = line.split(b" ")
        found = _NAMESPACE.fullmatch(fields[3]) if len(fields) > 4 else None
        if found:
            path = _ESCAPED.sub(lambda octal: bytes([int(octal[1], 8) & 0xFF]), fields[4])
            yield int(found[1]), Place(f"{process}/root{os.fsdecode(path)}", _text(path.rpartition(b"/")[2]))


_NAMESPACE: Final = re.compile(rb"net:\[(\d+)\]")
_ESCAPED: Final = re.compile(rb"\\([0-7]{3})")


def _inode(process: Path) -> int | None:
    """Return the network namespace that a process is in; None where it has ended or may not be looked at."""
    try:
        found = _NAMESPACE.fullmatch(os.fsencode((process / "ns/net").readlink()))
    except OSError:
        return None
    return int(found[1]) if found else None


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _text(told: bytes) -> str:
    """Return a name: anybody may choose one."""
    name = told.decode(errors="replace")[:_LENGTH_OF_NAMES]
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in name)
