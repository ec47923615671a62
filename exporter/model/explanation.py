"""Why a pair is reachable, blocked or unknown, and what changed between two reports."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from exporter.model.addresses import Address
    from exporter.model.reach import Path, Protocol, Verdict
    from exporter.model.report import ContainerSummary


@dataclass(frozen=True, slots=True)
class Question:
    """What of a pair is asked about: None stands for any."""

    protocol: Protocol | None = None
    port: int | None = None
    address: Address | None = None


def asked_address(text: str) -> Address | None:
    """Return the address that a text names, None for an empty one. Raises ValueError for any other text."""
    try:
        address = ip_address(text) if text else None
    except ValueError:
        address = None
    if text and (address is None or "%" in text):
        raise ValueError(f"address must be an IPv4 or IPv6 address without a zone, not {text!r}")
    return address


@dataclass(frozen=True, slots=True)
class Finding:
    """One fact about a pair. `opens` is True where it opens the pair, False where it blocks, None where it informs."""

    text: str
    opens: bool | None = None


@dataclass(frozen=True, slots=True)
class Packet:
    """A packet that is followed. `port` is None for ICMP echo."""

    protocol: Protocol
    address: str
    port: int | None = None

    def __str__(self) -> str:
        if self.port is None:
            return f"{self.address} {self.protocol}"
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"{host}:{self.port}/{self.protocol}"


@dataclass(frozen=True, slots=True)
class Decision:
    """What one rule did with a packet, or the policy of its chain: `number` counts from 1, and is 0 for the policy.

    `rule` is the rule's text with the names of containers and networks put in, `packets` its counter where it has one.
    """

    table: str
    chain: str
    number: int
    rule: str
    does: str
    packets: int | None = None


@dataclass(frozen=True, slots=True)
class Hop:
    """One thing that happens to a packet, in a container's namespace or the host's.

    `decision` is the rule that does it, where one does. `lost` says that the packet goes no further.
    """

    place: str
    text: str
    decision: Decision | None = None
    lost: bool = False


@dataclass(frozen=True, slots=True)
class Leg:
    """The way of one packet of a conversation: `request`, `answer`, and by TCP `confirmation` and `data` after that.

    A connection that docker-proxy makes has the same, as `relayed request` and so on.
    """

    name: str
    hops: tuple[Hop, ...]


@dataclass(frozen=True, slots=True)
class Trip:
    """What became of a packet to the destination, of its answer, and why.

    `decided_by` is what blocks or lets through, `change` the nearest change that would make it otherwise. `led_by` is
    the rule that leads the packet to another address or port than it was sent to, where that is none of the engine's.
    """

    packet: Packet
    verdict: Verdict
    legs: tuple[Leg, ...]
    outcome: str
    decided_by: str
    change: str
    led_by: str = ""


@dataclass(frozen=True, slots=True)
class Explanation:
    """The answer to "why". `paths` are those that the question (protocol, port, address) leaves over.

    `trips` are packets that were followed through the kernel's rules; there are none without evidence from it.
    """

    source: ContainerSummary
    destination: ContainerSummary
    verdict: Verdict
    paths: tuple[Path, ...]
    findings: tuple[Finding, ...]
    trips: tuple[Trip, ...] = ()


@dataclass(frozen=True, slots=True)
class PairChange:
    """A pair whose verdict or paths differ; a side is None where a container of the pair does not run."""

    source: str
    destination: str
    before: Verdict | None
    after: Verdict | None
    paths_before: tuple[Path, ...]
    paths_after: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class ReportDiff:
    """What changed from one report to a later one, containers and pairs matched by name."""

    containers_added: tuple[str, ...]
    containers_removed: tuple[str, ...]
    icc_before: bool | None
    icc_after: bool | None
    pairs: tuple[PairChange, ...]

    def __bool__(self) -> bool:
        return bool(
            self.pairs or self.containers_added or self.containers_removed or self.icc_before is not self.icc_after
        )
