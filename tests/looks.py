"""What the exporter makes of an observation, asked by names of containers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from exporter.evaluate import evaluate, explain
from exporter.model.reach import Protocol, Verdict
from exporter.parse import parse

if TYPE_CHECKING:
    from collections.abc import Mapping

    from exporter.model.observation import Observation
    from exporter.model.reach import PairVerdict, Path, Via
    from exporter.model.report import ContainerSummary, Report
    from exporter.model.snapshot import Snapshot

OPEN, CLOSED, UNKNOWN = Verdict.REACHABLE, Verdict.BLOCKED, Verdict.UNKNOWN


@dataclass(frozen=True)
class Look:
    """What the exporter makes of an observation, asked by names of containers."""

    observation: Observation
    snapshot: Snapshot

    @classmethod
    def at(cls, observation: Observation) -> Look:
        """Parse it."""
        return cls(observation, parse(observation))

    @cached_property
    def report(self) -> Report:
        """The report, made for who asks for it: many want the snapshot alone."""
        return evaluate(self.snapshot)

    @cached_property
    def containers(self) -> Mapping[str, ContainerSummary]:
        """The running containers by name."""
        return {container.name: container for container in self.report.containers}

    def pair(self, source: str, destination: str) -> PairVerdict:
        """Return what holds for a pair."""
        return self.report.pair(self.containers[source], self.containers[destination])

    def verdict(self, source: str, destination: str) -> Verdict:
        """Return a pair's verdict."""
        return self.pair(source, destination).verdict

    def vias(self, source: str, destination: str) -> set[Via]:
        """Return the mechanisms of all of a pair's paths."""
        return {path.via for path in self.pair(source, destination).paths}

    def reasons(self, source: str, destination: str) -> set[str]:
        """Return what is not known of a pair's undecided paths."""
        return {path.undecided for path in self.pair(source, destination).paths if path.undecided}

    def probe(self, source: str, destination: str, address: str, what: str) -> Verdict:
        """Return whether a packet, such as `80/tcp` or `icmp`, to an address arrives in the destination's sandbox."""
        hits = [path for path in self.pair(source, destination).paths if _carries(path, address, what)]
        if any(not path.undecided for path in hits):
            return OPEN
        return UNKNOWN if hits else CLOSED

    def direct(self, source: str, destination: str, network: str, what: str, family: int = 4) -> Verdict:
        """Return whether a packet to the destination's own address on a network arrives."""
        return self.probe(source, destination, self.ip(destination, network, family), what)

    def ip(self, container: str, network: str = "bridge", family: int = 4) -> str:
        """Return a container's address on a network."""
        documents = {entry["Names"][0][1:]: entry for entry in self.observation.containers}
        endpoint = documents[container]["NetworkSettings"]["Networks"][network]
        return str(endpoint["IPAddress" if family == 4 else "GlobalIPv6Address"])

    def gateway(self, network: str = "bridge", family: int = 4) -> str:
        """Return the host's address on a bridge network."""
        found = next(item for item in self.snapshot.networks.values() if item.name == network)
        return next(str(pool.gateway) for pool in found.pools if pool.subnet.version == family)

    def why(self, source: str, destination: str) -> str:
        """Return the findings of `explain`, a line each."""
        found = explain(self.snapshot, self.report, source, destination)
        return "\n".join(finding.text for finding in found.findings)

    def assumes(self, *words: str) -> bool:
        """Return whether one of the report's assumptions has all of these words."""
        return any(all(word in text for word in words) for text in self.report.assumptions)


def _carries(path: Path, address: str, what: str) -> bool:
    port, _, protocol = what.rpartition("/")
    if path.protocol != protocol or address not in path.addresses:
        return False
    return path.protocol is Protocol.ICMP or int(port) in path.ports
