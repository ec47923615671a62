"""Which of the host's sockets takes a packet, and where docker-proxy leads it from there."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final, NamedTuple

from exporter.evaluate.enforced.packets import Atom, PortsDiffer, only
from exporter.model.namespace import DOCKER_PROXY, Listener
from exporter.model.ranges import Ranges

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exporter.evaluate.enforced.flight import Port
    from exporter.evaluate.enforced.packets import Some
    from exporter.evaluate.enforced.world import World
    from exporter.model.addresses import Address
    from exporter.model.reach import Protocol
    from exporter.model.snapshot import PublishedPort, Sandbox

UNSEEN: Final = "where the docker-proxy of port {port}/{protocol} leads: its command line was not seen"


class Lead(NamedTuple):
    """Where docker-proxy passes packets on to, and what is not known about that."""

    address: Address
    port: int
    doubt: str = ""


class Listening:
    """The host's sockets, by how the kernel chooses among them: the exact address first, then any address."""

    def __init__(self, world: World) -> None:
        self._family = world.family
        kernel = world.snapshot.kernel
        missing = kernel.missing if kernel is not None else {}
        self._unseen = "relays" in missing
        self._published: dict[tuple[Protocol, int], list[tuple[Sandbox, PublishedPort]]] = defaultdict(list)
        for box in world.snapshot.sandboxes.values():
            for published in box.published:
                self._published[published.protocol, published.host_port].append((box, published))
        self._by_port: dict[tuple[Protocol, int], list[Listener]] = defaultdict(list)
        for listener in world.host.namespace.listeners:
            if listener.relay is not None or listener.address.version == world.family or not listener.v6only:
                self._by_port[listener.protocol, listener.port].append(listener)
        self._ports: dict[Protocol, list[int]] = defaultdict(list)
        for protocol, port in self._by_port:
            self._ports[protocol].append(port)

    def at(self, protocol: Protocol, address: object, ports: Port) -> Listener | None:
        """Return the socket that takes packets to an address and port; raise PortsDiffer where ports differ in that."""
        if not isinstance(ports, Atom):
            return None
        if ports.single is None:
            held = [port for port in self._ports[protocol] if port in ports.ports and self._holds(protocol, port)]
            if held:
                raise PortsDiffer(ports, map(Ranges.of, held))
            return None
        exact, wild = None, None
        for listener in self._by_port.get((protocol, ports.single), ()):
            if int(listener.address) == address and listener.address.version == self._family:
                exact = exact or listener
            elif listener.address.is_unspecified and self._takes(listener):
                wild = listener if wild is None or listener.address.version == self._family else wild
        return exact or wild

    def among(self, protocol: Protocol, address: object, ports: Some) -> Iterator[Listener]:
        """Yield the sockets that take what comes to some of the ports, and never leads to a container of the host's."""
        for port in (each for each in self._ports[protocol] if ports.low <= each <= ports.high):
            found = self.at(protocol, address, only(port))
            if found is not None and self.held(found):
                yield found

    def _holds(self, protocol: Protocol, port: int) -> bool:
        return any(map(self.held, self._by_port.get((protocol, port), ())))

    def held(self, listener: Listener) -> bool:
        """Return whether what comes to a socket never comes to a container of the host's.

        docker-proxy leads it on. With --userland-proxy=false, the engine itself holds published ports (it listens, and
        accepts nothing).
        """
        return listener.relay is not None or (listener.protocol, listener.port) in self._published

    def _takes(self, listener: Listener) -> bool:
        return listener.address.version == self._family or (self._family == 4 and not listener.v6only)

    def leads(self, listener: Listener) -> Iterator[Lead]:
        """Yield where docker-proxy leads what comes to a socket.

        Where its command line was not seen, or several say several things, that may be whoever has the port published.
        """
        if listener.relay is not None:
            address, port = listener.relay
            yield Lead(address, port)
        elif self._unseen or listener.program == DOCKER_PROXY:
            doubt = UNSEEN.format(protocol=listener.protocol, port=listener.port)
            for box, published in self._published.get((listener.protocol, listener.port), ()):
                if published.host_ip == listener.address:
                    yield from (Lead(address, published.container_port, doubt) for address in _inside(box, listener))


def _inside(box: Sandbox, listener: Listener) -> Iterator[Address]:
    """Yield the addresses that docker-proxy may lead to: of the version of its own socket, where there is one."""
    own = [address for endpoint in box.endpoints for address in (endpoint.ipv4, endpoint.ipv6) if address is not None]
    alike = [address for address in own if address.version == listener.address.version]
    yield from alike or own
