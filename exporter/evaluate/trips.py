"""Packets that stand for a question about a pair, led through the kernel's rules."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from ipaddress import IPv6Address, ip_address
from itertools import islice
from typing import TYPE_CHECKING

from exporter.evaluate.declared.topology import LOOPBACK, Topology
from exporter.evaluate.enforced.flight import Stage
from exporter.evaluate.enforced.route_table import anycast
from exporter.evaluate.enforced.trace import Arrived, Begun, Tracer
from exporter.evaluate.names import Names
from exporter.evaluate.remedies import Case, closing, leading, opening
from exporter.evaluate.telling import tell
from exporter.model.explanation import Packet, Question, Trip
from exporter.model.ports import PortSet
from exporter.model.reach import HOST, Protocol, Verdict, Via

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from exporter.evaluate.enforced.trace import Traced
    from exporter.evaluate.telling import Told
    from exporter.model.addresses import Address
    from exporter.model.reach import Path
    from exporter.model.report import ContainerSummary, Report
    from exporter.model.snapshot import Kernel, Sandbox, Snapshot

MOST = 6
"""Packets that one question follows at most."""

MOST_CAUSES = 100
"""Pairs that drift and are told the cause of."""

_USUAL_PORT = 80


def trips(
    snapshot: Snapshot,
    source: ContainerSummary,
    destination: ContainerSummary,
    asked: Question,
    paths: tuple[Path, ...],
) -> tuple[Trip, ...]:
    """Follow the packets that a question is about: one for each way that is open, else some that are lost."""
    if snapshot.kernel is None:
        return ()
    called = {destination.sandbox: destination.name, source.sandbox: source.name}
    following = _Following(snapshot, snapshot.kernel, called)
    chosen = dict.fromkeys(_chosen(snapshot, source, destination, asked, paths))
    return tuple(_trip(following.case(source, destination, packet), paths) for packet in list(chosen)[:MOST])


def causes(snapshot: Snapshot, report: Report) -> Mapping[tuple[str, str], str]:
    """Return what decides about the first pairs that drift, by the names of their containers.

    That is the last word about a packet by the first way that is open, or that the configuration promises.
    """
    pairs = list(islice(report.drifted(), MOST_CAUSES))
    if snapshot.kernel is None or not pairs:
        return {}
    following = _Following(snapshot, snapshot.kernel)
    found: dict[tuple[str, str], str] = {}
    for pair in pairs:
        paths = pair.verdict.paths or pair.declared.paths
        for packet in islice(_chosen(snapshot, pair.source, pair.destination, Question(), paths), 1):
            case = following.case(pair.source, pair.destination, packet)
            lost = _verdict(case.traced, pair.destination)[0] is Verdict.BLOCKED
            decided = (_loser(case.told) or _lost(case)) if lost else _winner(case.told)
            found[pair.source.name, pair.destination.name] = decided
    return found


class _Following:
    """Leads packets through the kernel of a snapshot."""

    def __init__(self, snapshot: Snapshot, kernel: Kernel, called: Mapping[str, str] | None = None) -> None:
        self._snapshot = snapshot
        self._names = Names(snapshot, kernel, called)
        self._tracer = Tracer(snapshot, kernel)

    def case(self, source: ContainerSummary, destination: ContainerSummary, packet: Packet) -> Case:
        """Return a packet and what became of it."""
        traced = self._tracer.trace(source.sandbox, packet)
        told = tell(traced.notes, self._names)
        arrives = partial(_arrives, self._snapshot, source.sandbox, destination, packet)
        return Case(self._snapshot, source, destination, packet, told, traced, self._names, arrives)


def _arrives(snapshot: Snapshot, source: str, destination: ContainerSummary, packet: Packet, kernel: Kernel) -> bool:
    """Return whether a packet would arrive, if the kernel were another one."""
    verdict, _ = _verdict(Tracer(snapshot, kernel).trace(source, packet), destination)
    return verdict is not Verdict.BLOCKED


def _trip(case: Case, paths: tuple[Path, ...]) -> Trip:
    packet, told = case.packet, case.told
    verdict, doubts = _verdict(case.traced, case.destination)
    legs = tuple(told.legs)
    if verdict is Verdict.BLOCKED:
        return Trip(packet, verdict, legs, _lost(case), _loser(told), opening(case))
    path = next((path for path in paths if carries(path, packet)), None)
    outcome = f"arrives in {case.destination.name}" + (" and is answered" if packet.protocol is Protocol.TCP else "")
    if doubts:
        outcome = f"perhaps {outcome}; not known: {'; '.join(doubts)}"
    return Trip(packet, verdict, legs, outcome, _winner(told), closing(case, path) if path else "", leading(case))


def carries(path: Path, packet: Packet) -> bool:
    """Return whether a path is the packet's."""
    if path.protocol is not packet.protocol or packet.address not in path.addresses:
        return False
    return packet.port is None or packet.port in path.ports


def _verdict(traced: Traced, destination: ContainerSummary) -> tuple[Verdict, tuple[str, ...]]:
    there = [ended for ended in traced.ended if ended.place == destination.sandbox]
    if not there:
        return Verdict.BLOCKED, ()
    certain = next((ended for ended in there if not ended.doubts), None)
    return (Verdict.REACHABLE, ()) if certain else (Verdict.UNKNOWN, there[0].doubts)


def _lost(case: Case) -> str:
    told, lost = case.told, case.told.lost
    if lost is not None:
        what = {"answer": "its answer is lost", "confirmation": "what confirms its answer is lost"}
        return f"{what.get(told.leg.removeprefix('relayed '), 'is lost')} in {lost.hop.place}"
    if case.traced.ended:
        return f"arrives in {case.names.place(case.traced.ended[0].place)}, not in {case.destination.name}"
    return _misled(case)


def _misled(case: Case) -> str:
    """Return what ends a connection none of whose packets is lost."""
    arrived: dict[Stage, str] = {}
    stage = Stage.FIRST
    for note in case.traced.notes:
        if isinstance(note, Begun):
            stage = note.stage
            if stage is Stage.FIRST:
                arrived.clear()
        elif isinstance(note, Arrived):
            arrived.setdefault(stage, note.place)
    place, answered = arrived.get(Stage.FIRST, HOST), arrived.get(Stage.ANSWER)
    elsewhere = "" if place == case.destination.sandbox else f", not in {case.destination.name}"
    told = f"arrives in {case.names.place(place)}{elsewhere}"
    if answered is None:
        return told
    if answered != (HOST if case.told.relayed else case.source.sandbox):
        return f"{told}, and its answer in {case.names.place(answered)}"
    return f"{told}, and is answered from another address than it was sent to, which ends the connection"


def _loser(told: Told) -> str:
    return f"{told.lost.hop.place}: {told.lost.hop.text}" if told.lost else ""


def _winner(told: Told) -> str:
    """Return the last rule that let the packet through."""
    if told.passed:
        hop = told.passed[-1].hop
        return f"{hop.place}: {hop.text}"
    if told.relayed:
        return "docker-proxy leads it on: rules about bridges never see it"
    return "the bridge passes it by all rules: br_netfilter is off" if told.past else "no rule stands in its way"


# --- Which packets ---


def each_way(snapshot: Snapshot, target: Sandbox, paths: Iterable[Path], asked: Question) -> list[Path]:
    """Return a path for each way to a sandbox; what leads to it from elsewhere than its published ports is one apart.

    Echo is none, unless it is asked for.
    """
    found: dict[object, Path] = {}
    for path in paths:
        if path.protocol is not Protocol.ICMP or asked.protocol is Protocol.ICMP:
            for part, published in _by_publisher(snapshot, target, path):
                found.setdefault((part.via, part.network, part.undecided, published), part)
    return list(found.values())


def _by_publisher(snapshot: Snapshot, target: Sandbox, path: Path) -> Iterator[tuple[Path, bool]]:
    """Yield the parts of a path, and whether it is the engine that says it leads to the sandbox."""
    if path.via is not Via.PUBLISHED_PORT or snapshot.kernel is None:
        yield path, False
        return
    published = [port for port in target.published if port.protocol is path.protocol]
    interfaces = snapshot.kernel.host.interfaces.values()
    known = {str(own.ip) for interface in interfaces for own in interface.addresses}
    known.update(str(IPv6Address(each.address)) for each in anycast(snapshot.kernel.host))
    bound = {str(port.host_ip) for port in published}
    here = tuple(each for each in path.addresses if each in bound or each in known or ip_address(each).is_loopback)
    rest = tuple(each for each in path.addresses if each not in here)
    ports = PortSet.of(*(port.host_port for port in published))
    if here and path.ports & ports:
        yield replace(path, addresses=here, ports=path.ports & ports), True
    if here and not path.ports <= ports:
        yield replace(path, addresses=here, ports=path.ports - ports), False
    if rest or not path.ports:
        yield replace(path, addresses=rest or here), False


def _chosen(
    snapshot: Snapshot,
    source: ContainerSummary,
    destination: ContainerSummary,
    asked: Question,
    paths: tuple[Path, ...],
) -> Iterator[Packet]:
    target = snapshot.sandboxes[destination.sandbox]
    ways = each_way(snapshot, target, paths, asked)
    for path in ways:
        yield Packet(path.protocol, path.addresses[0], _open_port(target, path))
    if not ways:
        protocol = asked.protocol or Protocol.TCP
        for address, port in _doors(Topology.of(snapshot), snapshot.sandboxes[source.sandbox], target, asked):
            yield Packet(protocol, str(address), None if protocol is Protocol.ICMP else asked.port or port)


def _open_port(target: Sandbox, path: Path) -> int | None:
    if path.protocol is Protocol.ICMP:
        return None
    own = [exposed.port for exposed in target.exposed if exposed.protocol is path.protocol]
    own += [published.container_port for published in target.published if published.protocol is path.protocol]
    return next((port for port in (*own, _USUAL_PORT) if port in path.ports), path.ports.intervals[0][0])


def _doors(topology: Topology, source: Sandbox, target: Sandbox, asked: Question) -> Iterator[tuple[Address, int]]:
    """Yield where somebody would knock who wants to get in: own addresses first, then the host's published port."""
    protocol = asked.protocol or Protocol.TCP
    published = [port for port in target.published if port.protocol is protocol]
    own = [port.port for port in target.exposed if port.protocol is protocol]
    inside = next(iter([*own, *(port.container_port for port in published)]), _USUAL_PORT)
    if asked.address is not None:
        yield asked.address, inside
        return
    yield from ((address, inside) for address in _direct(topology, source, target))
    for port in published:
        if port.host_ip.is_loopback and source.id != HOST:
            continue  # that is the source's own
        address = port.host_ip if not port.host_ip.is_unspecified else _hosts(topology, source, port.host_ip.version)
        if address is not None and asked.port in (None, port.host_port):
            yield address, port.host_port


def _direct(topology: Topology, source: Sandbox, target: Sandbox) -> Iterator[Address]:
    """Yield addresses of the target: those on networks that both are on, else its first one."""
    if source is target:
        yield LOOPBACK[4]
        return
    if target.id == HOST:
        yield from (found for family in (4, 6) if (found := _hosts(topology, source, family)) is not None)
        return
    mine = {endpoint.network_id for endpoint in source.endpoints}
    shared = [endpoint for endpoint in target.endpoints if endpoint.network_id in mine]
    for endpoint in shared or target.endpoints[:1]:
        yield from (address for address in (endpoint.ipv4, endpoint.ipv6) if address is not None)


def _hosts(topology: Topology, source: Sandbox, family: int) -> Address | None:
    """Return the address of the host that a sandbox would turn to."""
    if source.id == HOST:
        return LOOPBACK[family]
    gateways = (endpoint.gateway(family) for endpoint in source.endpoints)
    pools = (
        pool.gateway
        for endpoint in source.endpoints
        for pool in topology.snapshot.networks[endpoint.network_id].pools
        if pool.subnet.version == family
    )
    return next((address for address in (*gateways, *pools) if address is not None), None)
