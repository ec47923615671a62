"""Verdicts put to the test by packets: what is sent, what is seen of it, and what follows."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final

from exporter.model.reach import HOST, Protocol, Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from exporter.model.explanation import Packet
    from exporter.model.report import ContainerSummary


HEARD: Final = "a program that listens there would be given the datagram"
"""Why a datagram is withheld that is not to be anybody's."""


@dataclass(frozen=True, slots=True)
class Probe:
    """A packet from one container's sandbox that is looked for in another's.

    `relay` is where the docker-proxy at the packet's address and port leads, where there is one. `inside` are the ports
    of the destination's sandbox at which the packet may come out. `withheld` says why it must not be sent; empty where
    it may.
    """

    source: ContainerSummary
    destination: ContainerSummary
    packet: Packet
    relay: Packet | None = None
    inside: frozenset[int] = frozenset()
    withheld: str = ""


@dataclass(frozen=True, slots=True)
class Sight:
    """What was seen of a probe."""

    arrived: bool = False
    """The packet passed all firewalls up to the sockets of the destination's sandbox."""

    answered: bool = False
    """The answer to a TCP packet came back as far into the source's sandbox."""

    relayed: bool = False
    """docker-proxy leads there."""

    withheld: str = ""
    """Why it was not sent in the last moment."""

    trouble: str = ""
    """Why it could not be sent or seen."""

    deaf: str = ""
    """Why it means nothing that it was not seen."""

    def reached(self, protocol: Protocol) -> bool:
        """Return whether the destination is reached: by UDP that means one way, by TCP there and back."""
        return self.arrived and (self.answered or protocol is Protocol.UDP)


class ProbeResult(StrEnum):
    """What a probe says about a verdict; each is counted, from zero."""

    AGREED = "agreed"
    DISAGREED = "disagreed"
    UNDECIDED = "undecided"
    """It was not sent on purpose, or the verdict is unknown, or changed meanwhile."""
    FAILED = "failed"
    """It could not be sent or seen."""


@dataclass(frozen=True, slots=True)
class Probed:
    """A verdict about a packet, and what became of the packet. `reason` says why that decides nothing, if so."""

    probe: Probe
    verdict: Verdict
    sight: Sight
    result: ProbeResult
    reason: str = ""


@dataclass(frozen=True, slots=True)
class PairProbed:
    """What packets say about the verdict of a pair."""

    source: ContainerSummary
    destination: ContainerSummary
    verdict: Verdict
    probed: tuple[Probed, ...]


@dataclass(frozen=True, slots=True)
class Ground:
    """Where probes may go: the addresses that sandboxes have, by sandbox id, the host's under `host`.

    Loopback addresses are left out: they mean another namespace in each of them. `shared` are addresses that they have
    together with others (anycast): no TCP is taken there from anybody, and silence says nothing.
    """

    addresses: Mapping[str, frozenset[str]]
    shared: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def all_of(self, sandbox: str) -> frozenset[str]:
        """Return the addresses of a sandbox, whoever has them as well."""
        return self.addresses[sandbox] | self.shared.get(sandbox, frozenset())

    def holds(self, probe: Probe) -> bool:
        """Return whether a probe stays among this engine's sandboxes."""
        here, there = probe.source.sandbox, probe.destination.sandbox
        if not {here, there} <= self.addresses.keys():
            return False
        if ip_address(probe.packet.address).is_loopback:
            inside = here in (there, HOST)
        else:
            inside = probe.packet.address in self.all_of(there) | self.all_of(HOST)
        return inside and (probe.relay is None or probe.relay.address in self.addresses[there])
