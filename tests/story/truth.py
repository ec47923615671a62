"""Who reached whom when packets were sent: nothing of the exporter is asked."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations
from typing import TYPE_CHECKING

from tests.lab import Arrival, LabError, local_addresses, measure, ports_in_use

if TYPE_CHECKING:
    from tests.lab import Engine, Packets

PORTS = (80, 7777)
"""Where every container listens while packets are sent."""


@dataclass(frozen=True, slots=True)
class Truth:
    """One measurement of an engine."""

    packets: Packets
    arrived: frozenset[Arrival]

    @property
    def pairs(self) -> frozenset[tuple[str, str]]:
        """Ordered pairs of containers of which the first reached the second; those that share a sandbox, too."""
        boxes = {name: box.name for box in self.packets.sandboxes for name in box.containers}
        reached = {(arrival.source, arrival.destination) for arrival in self.arrived}
        return frozenset(
            (source, destination)
            for source, destination in permutations(boxes, 2)
            if boxes[source] == boxes[destination] or (boxes[source], boxes[destination]) in reached
        )

    def between(self, source: str, destination: str) -> set[tuple[str, int]]:
        """Return the protocols and ports (0 for ping) by which one container reached another."""
        found = (arrival for arrival in self.arrived if (arrival.source, arrival.destination) == (source, destination))
        return {(arrival.protocol, arrival.port) for arrival in found}


def truth(engine: Engine) -> Truth:
    """Send packets from every container and from the host to every address that there is."""
    packets = measure(engine, local_addresses(engine), ports_in_use(engine, *PORTS))
    owners = _owners(engine)
    # where a program of the container holds the port, its accepting the connection is the arrival
    accepted = (
        Arrival(source, address, "tcp", port, owners[address])
        for source, address, port in packets.silent
        if address in owners
    )
    return Truth(packets, packets.arrived | frozenset(accepted))


def _owners(engine: Engine) -> dict[str, str]:
    """Return the containers by the addresses that the engine gave them."""
    owners: dict[str, str] = {}
    for container in engine.api("/containers/json"):
        # a link's alias, /app/web, is another container's name for it
        name = next(name[1:] for name in container["Names"] if "/" not in name[1:])
        for endpoint in container["NetworkSettings"]["Networks"].values():
            addresses = filter(None, (endpoint["IPAddress"], endpoint["GlobalIPv6Address"]))
            owners |= dict.fromkeys(addresses, name)
    return owners


def visits(engine: Engine, source: str, address: str) -> bool:
    """Tell whether a container gets a page from the web server at an address."""
    try:
        return "hello" in engine.docker("exec", source, "timeout", "1", "wget", "-q", "-O", "-", f"http://{address}/")
    except LabError:
        return False


WEB_SERVER = ("sh", "-c", "echo hello >/tmp/index.html; exec httpd -f -p 80 -h /tmp")
"""What a container runs that serves a page on port 80."""
