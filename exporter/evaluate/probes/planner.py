"""Which packets to send: those that a question is about, or a sample of everything that a report says."""

from __future__ import annotations

from dataclasses import dataclass, replace
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final, TypeVar
from typing import Protocol as Interface

from exporter.evaluate.enforced.flight import Stage
from exporter.evaluate.enforced.trace import Begun, Linked, Routed, Sent, Tracer
from exporter.evaluate.probes.ground import ground
from exporter.evaluate.probes.judgement import expected
from exporter.model.explanation import Packet, Question
from exporter.model.ports import ALL_PORTS, PortSet
from exporter.model.probe import HEARD, Probe
from exporter.model.reach import HOST, Protocol, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from exporter.evaluate.enforced.trace import Note
    from exporter.model.namespace import Listener, Namespace
    from exporter.model.reach import Path
    from exporter.model.report import ContainerSummary, Report
    from exporter.model.snapshot import Kernel, Sandbox, Snapshot

MOST: Final = 12
"""Packets that one question is answered with at most."""

ROUTERS: Final = 1
"""Namespaces that a probe may be passed on by: the host. What goes further is not sent."""

_PROTOCOLS: Final = (Protocol.TCP, Protocol.UDP)
_TRIES: Final = 40
"""Draws for each packet of a sample, until one is of the wanted kind and may be sent."""

_BLOCKED_OF: Final = 3
"""Of so many packets of a sample, all but one are such as must not arrive: a hole is worse than a lost way."""

Item = TypeVar("Item")


class Chance(Interface):
    """Random numbers, such as `random.Random` gives them."""

    def randrange(self, stop: int, /) -> int:
        """Return a whole number from 0 up to but not including `stop`."""


@dataclass(frozen=True, slots=True)
class Door:
    """An address of a destination, and the port there; None for any port. `inside` is where that port leads."""

    address: str
    port: int | None = None
    inside: int | None = None


class Planner:
    """Plans probes of a report that has evidence of the kernel and the sandboxes: `lacking` tells of it."""

    def __init__(self, snapshot: Snapshot, kernel: Kernel, report: Report, chance: Chance) -> None:
        self._snapshot = snapshot
        self._kernel = kernel
        self._report = report
        self._chance = chance
        self._tracer = Tracer(snapshot, kernel)
        self.ground = ground(kernel)
        self._able = [each for each in report.containers if each.sandbox in self.ground.addresses]
        self._living: dict[str, list[ContainerSummary]] = {}
        for each in self._able:
            self._living.setdefault(each.sandbox, []).append(each)

    # --- For a question ---

    def about(self, source: ContainerSummary, destination: ContainerSummary, asked: Question) -> list[Probe]:
        """Return a packet for each way that is open, and some that must not arrive, as far as the question goes.

        There is none where the address that is asked about is neither the destination's nor the host's.
        """
        chosen = list(dict.fromkeys(self._open(source, destination, asked)))
        known = {(packet.protocol, packet.address) for packet in chosen}
        made = [self._probe(source, destination, packet) for packet in chosen]
        for packet in dict.fromkeys(self._closed(source, destination, asked)):
            probe = self._probe(source, destination, packet)
            # what is open at every port has been asked about once
            if expected(self._report, probe) is Verdict.BLOCKED or (packet.protocol, packet.address) not in known:
                made.append(probe)
        return [probe for probe in made if self.ground.holds(probe)][:MOST]

    def _open(self, source: ContainerSummary, destination: ContainerSummary, asked: Question) -> Iterator[Packet]:
        for path in self._report.pair(source, destination).paths:
            if path.protocol not in _PROTOCOLS or asked.protocol not in (None, path.protocol):
                continue
            ports = path.ports if asked.port is None else path.ports & PortSet.of(asked.port)
            for address in self._asked(path.addresses, source, asked) if ports else ():
                yield Packet(path.protocol, address, self._usual(destination, path, ports))

    def _closed(self, source: ContainerSummary, destination: ContainerSummary, asked: Question) -> Iterator[Packet]:
        for protocol in _PROTOCOLS if asked.protocol is None else (asked.protocol,):
            doors = [
                door for door in self._doors(destination, protocol) if asked.port in (None, door.port or asked.port)
            ]
            if asked.address is not None and asked.port is not None:
                doors.append(Door(str(asked.address)))
            wanted = self._asked([door.address for door in doors], source, asked)
            for door in doors:
                if door.address in wanted:
                    port = asked.port or door.port or self._free(destination, protocol)
                    yield Packet(protocol, door.address, port)

    def _asked(self, addresses: Sequence[str], source: ContainerSummary, asked: Question) -> Sequence[str]:
        """Return the address that is asked about, else all but the host's, of which the source would turn to few."""
        if asked.address is not None:
            return [address for address in addresses if address == str(asked.address)]
        hosts = [address for address in addresses if address in self.ground.all_of(HOST)]
        near = [address for address in hosts if address in self._gateways(source)]
        few = {ip_address(address).version: address for address in (*reversed(hosts), *reversed(near))}
        return [address for address in addresses if address not in hosts or address in few.values()]

    def _gateways(self, source: ContainerSummary) -> set[str]:
        endpoints = self._sandbox(source).endpoints
        return {str(endpoint.gateway(family)) for endpoint in endpoints for family in (4, 6)}

    def _usual(self, destination: ContainerSummary, path: Path, ports: PortSet) -> int:
        """Return a port of a path: for TCP one that programs are known by, where there is one."""
        known = self._known(destination, path.protocol) if path.protocol is Protocol.TCP else []
        return next((port for port in known if port in ports), None) or self._random(destination, path.protocol, ports)

    # --- For a sample ---

    def sample(self, count: int) -> list[Probe]:
        """Return up to so many packets between pairs drawn by lot; of three, two are such as must not arrive.

        Where one of the two kinds hardly comes up, the other one makes up for it.
        """
        found: dict[tuple[str, str, Packet], Probe] = {}
        tries = count * _TRIES if len(self._able) > 1 else 0
        for turn in range(tries):
            if len(found) == count:
                break
            wanted = Verdict.BLOCKED if len(found) % _BLOCKED_OF else Verdict.REACHABLE
            probe = self._drawn(wanted, strict=turn < tries // 2)
            if probe is not None:
                found[probe.source.sandbox, probe.destination.sandbox, probe.packet] = probe
        return list(found.values())

    def _drawn(self, wanted: Verdict, *, strict: bool) -> Probe | None:
        source = self._one(self._able)
        near = list(self._near(source, wanted)) if strict else self._able
        destination = self._one(near) if near else source
        if source is destination:
            return None
        packet = self._any_open(source, destination) if wanted is Verdict.REACHABLE else self._any(destination)
        probe = self._probe(source, destination, packet) if packet else None
        if probe is None or probe.withheld or not self.ground.holds(probe):
            return None
        foretold = expected(self._report, probe)
        if strict:
            return probe if foretold is wanted and self._sets_out(probe) else None
        return None if foretold is Verdict.UNKNOWN else probe

    def _near(self, source: ContainerSummary, wanted: Verdict) -> Iterator[ContainerSummary]:
        """Yield whom a packet of the wanted kind might go to; every other one that must not arrive, to a neighbour."""
        if wanted is Verdict.REACHABLE:
            for sandbox in self._report.reach.row(source.sandbox):
                yield from self._living.get(sandbox, ())
        elif self._chance.randrange(2):
            networks = {endpoint.network_id for endpoint in self._sandbox(source).endpoints}
            for each in self._able:
                if any(endpoint.network_id in networks for endpoint in self._sandbox(each).endpoints):
                    yield each
        else:
            yield from self._able

    def _sets_out(self, probe: Probe) -> bool:
        """Return whether the source has a route to the address: that nothing arrives without one is no news."""
        notes = self._tracer.trace(probe.source.sandbox, probe.packet).notes
        return any(isinstance(note, Sent) and note.output for note in notes)

    def _any_open(self, source: ContainerSummary, destination: ContainerSummary) -> Packet | None:
        paths = [
            path
            for path in self._report.pair(source, destination).paths
            if path.protocol in _PROTOCOLS and not path.undecided
        ]
        if not paths:
            return None
        path = self._one(paths)
        return Packet(path.protocol, self._one(path.addresses), self._random(destination, path.protocol, path.ports))

    def _any(self, destination: ContainerSummary) -> Packet | None:
        protocol = self._one(_PROTOCOLS)
        doors = list(self._doors(destination, protocol))
        if not doors:
            return None
        door = self._one(doors)
        known = self._known(destination, protocol) if protocol is Protocol.TCP else []
        port = self._one(known) if known and self._chance.randrange(2) else self._free(destination, protocol)
        return Packet(protocol, door.address, door.port or port)

    # --- Packets and what holds them back ---

    def _probe(self, source: ContainerSummary, destination: ContainerSummary, packet: Packet) -> Probe:
        relay = self._relay(destination, packet)
        inside = {packet.port, relay.port if relay else None}
        inside |= {door.inside for door in self._doors(destination, packet.protocol) if door.port == packet.port}
        probe = Probe(source, destination, packet, relay, frozenset(port for port in inside if port is not None))
        return replace(probe, withheld=self._published(probe) or self._heard_by(probe) or self._astray(probe))

    def _published(self, probe: Probe) -> str:
        """Return whose port of the host it is: what the host gets there is not meant for a container in host mode."""
        if probe.destination.sandbox != HOST:
            return ""
        for sandbox in self._snapshot.sandboxes.values():
            if any(
                (each.protocol, each.host_port) == (probe.packet.protocol, probe.packet.port)
                for each in sandbox.published
            ):
                return f"the host holds the port for {sandbox.name}"
        return ""

    def _heard_by(self, probe: Probe) -> str:
        """Return which program would be given the datagram; a connection by TCP is never completed."""
        if probe.packet.protocol is not Protocol.UDP:
            return ""
        if probe.inside & self._held(probe.destination.sandbox, Protocol.UDP):
            return HEARD
        if probe.packet.address in self.ground.all_of(probe.destination.sandbox):
            return ""
        if probe.packet.port in self._held(HOST, Protocol.UDP):
            return "a program of the host takes datagrams there"
        if expected(self._report, probe) is Verdict.BLOCKED and not any(
            (door.address, door.port) == (probe.packet.address, probe.packet.port)
            for door in self._doors(probe.destination, Protocol.UDP)
        ):
            return "the port is not known to lead to the destination, and might lead to a program elsewhere"
        return ""

    def _astray(self, probe: Probe) -> str:
        """Return why a packet, by all that is known, would come to other places than sandboxes of this engine."""
        traced = self._tracer.trace(probe.source.sandbox, probe.packet)
        legs = _legs(traced.notes)
        for leg in legs:
            taken = {(note.place, note.output) for note in leg if isinstance(note, Linked) and note.receiver}
            for place, output in _outputs(leg):
                if (place, output) not in taken and not self._stays(place, output):
                    return f"it might leave the host: {self._snapshot.sandboxes[place].name} sends it by {output}"
        if max((sum(isinstance(note, Routed) and _passes(note) for note in leg) for leg in legs), default=0) > ROUTERS:
            return "containers would pass it on"
        stages = {note.stage for note in traced.notes if isinstance(note, Begun)}
        if Stage.CONFIRMATION in stages and not traced.ended:
            return "rules drop only what would complete the connection, which a probe never does"
        return ""

    def _stays(self, place: str, output: str) -> bool:
        """Return whether an interface leads to bridges and loopback only, so that what is lost is lost in the host."""
        namespace = self._kernel.host if place == HOST else self._kernel.sandboxes[place]
        kind = next((each.kind for each in namespace.interfaces.values() if each.name == output), "")
        return output in ("", "lo") or kind == ("bridge" if place == HOST else "veth")

    def _relay(self, destination: ContainerSummary, packet: Packet) -> Packet | None:
        """Return where docker-proxy leads, if that is the destination."""
        address = ip_address(packet.address)
        for listener in self._kernel.host.listeners:
            if listener.relay is None or (listener.protocol, listener.port) != (packet.protocol, packet.port):
                continue
            to, port = listener.relay
            takes = listener.address == address or (
                listener.address.is_unspecified and listener.address.version in (address.version, 6)
            )
            if takes and str(to) in self.ground.addresses[destination.sandbox]:
                return Packet(packet.protocol, str(to), port)
        return None

    # --- What a destination has ---

    def _doors(self, destination: ContainerSummary, protocol: Protocol) -> Iterator[Door]:
        """Yield a destination's own addresses, and the ports of the host that are published for it."""
        yield from map(Door, self._asked_for(destination.sandbox, protocol))
        for port in self._sandbox(destination).published:
            if port.protocol is not protocol:
                continue
            if port.host_ip.is_unspecified:
                known = self._asked_for(HOST, protocol)
                hosts = [each for each in known if ip_address(each).version == port.host_ip.version]
            else:
                hosts = [str(port.host_ip)]
            yield from (Door(host, port.host_port, port.container_port) for host in hosts)

    def _asked_for(self, sandbox: str, protocol: Protocol) -> list[str]:
        """Return the addresses of a sandbox at which something can be found out, in order."""
        return sorted(self.ground.addresses[sandbox] if protocol is Protocol.TCP else self.ground.all_of(sandbox))

    def _known(self, destination: ContainerSummary, protocol: Protocol) -> list[int]:
        """Return the ports of a destination that its image or the engine tells of, and those that are held."""
        sandbox = self._sandbox(destination)
        told = [port.port for port in sandbox.exposed if port.protocol is protocol]
        told += [port.container_port for port in sandbox.published if port.protocol is protocol]
        return list(dict.fromkeys([*told, *sorted(self._held(destination.sandbox, protocol))]))

    def _free(self, destination: ContainerSummary, protocol: Protocol) -> int:
        return self._random(destination, protocol, ALL_PORTS)

    def _random(self, destination: ContainerSummary, protocol: Protocol, ports: PortSet) -> int:
        """Return any of some ports; for UDP one without a program, if that is possible."""
        held = self._held(destination.sandbox, protocol) if protocol is Protocol.UDP else frozenset[int]()
        free = ports - PortSet.of(*held) or ports
        place = self._chance.randrange(len(free))
        for low, high in free.intervals:
            if place <= high - low:
                return low + place
            place -= high - low + 1
        raise AssertionError("the place is within the length")

    def _held(self, sandbox: str, protocol: Protocol) -> frozenset[int]:
        """Return the ports at which programs of a sandbox take packets; docker-proxies are not among them."""
        return frozenset(each.port for each in self._listeners(sandbox) if each.protocol is protocol and not each.relay)

    def _listeners(self, sandbox: str) -> Sequence[Listener]:
        namespace: Namespace = self._kernel.host if sandbox == HOST else self._kernel.sandboxes[sandbox]
        return namespace.listeners

    def _sandbox(self, container: ContainerSummary) -> Sandbox:
        return self._snapshot.sandboxes[container.sandbox]

    def _one(self, items: Sequence[Item]) -> Item:
        return items[self._chance.randrange(len(items))]


def _legs(notes: Iterable[Note]) -> list[list[Note]]:
    """Return the notes of each packet of a conversation."""
    legs: list[list[Note]] = []
    for note in notes:
        if isinstance(note, Begun):
            legs.append([])
        elif legs:
            legs[-1].append(note)
    return legs


def _outputs(leg: Iterable[Note]) -> Iterator[tuple[str, str]]:
    """Yield the interfaces by which a packet leaves the namespaces on its way."""
    for note in leg:
        if isinstance(note, Sent | Linked) or (isinstance(note, Routed) and _passes(note)):
            yield note.place, note.output


def _passes(note: Routed) -> bool:
    return note.forwards and not note.local
