"""Recorded engines with the nftables backend, which no package ships: the declared report against their packets.

The recordings hold what the API answered and which probes arrived in whose sandbox. ICMP was not sent.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from exporter.model.reach import HOST
from exporter.observe.files import loads
from tests.conformance.compare import Comparison, compare
from tests.lab import Arrival
from tests.looks import Look

if TYPE_CHECKING:
    from exporter.model.observation import Observation

RECORDINGS = Path(__file__).parent.parent / "data" / "recordings"

TAMPERED = {
    "nftables-1003": "bridge-nf-call-iptables was set to 0, and a foreign table drops TCP to port 7777",
    "nftables-1005": "a foreign table drops TCP to port 7777, which nothing that is open there needs",
}
"""Hosts that somebody changed after the engine: the declared report promises what the configuration says."""

CARD = "198.51.100.10"
"""The address of the host's network card, which the API shows only where a port is published on it."""


@dataclass(frozen=True, slots=True)
class Recording:
    """One recorded host."""

    name: str
    document: dict[str, Any]

    def look(self) -> Look:
        """Return what the exporter makes of the recorded answers, read through its own file format."""
        api = {key: self.document["api"][key] for key in ("version", "info", "networks", "containers")}
        document = {"format": "docker-icc-exporter/observation", "schema": 1, "taken_at": "2026-01-01T00:00:00Z"}
        observation: Observation = loads(json.dumps(document | {"api": api}), self.name)
        return Look.at(observation)

    def compare(self) -> Comparison:
        """Compare the report with the packets to every address that the API shows."""
        seen, packets = self.look(), self.document["packets"]
        sandbox_of = {
            inode: seen.containers[name].sandbox for name, inode in packets["boxes"].items() if name in seen.containers
        }
        arrived = [
            Arrival(
                sandbox_of[item["source"]],
                item["address"],
                item["protocol"],
                item["port"],
                sandbox_of[item["destination"]],
            )
            for item in packets["arrived"]
            if item["source"] in sandbox_of and item["destination"] in sandbox_of
        ]
        shown = {port.get("IP") for container in seen.observation.containers for port in container["Ports"]}
        addresses = [address for address in packets["addresses"] if address != CARD or address in shown]
        return compare(seen.report, arrived, addresses, packets["ports"], (80, 5432, 7777), ("tcp", "udp"))


@cache
def recording(name: str) -> Recording:
    """Return the recording with a name."""
    return Recording(name, json.loads((RECORDINGS / f"{name}.json").read_text()))


NAMES = sorted(path.stem for path in RECORDINGS.glob("*.json"))


@pytest.mark.parametrize("name", [name for name in NAMES if name not in TAMPERED])
def test_the_report_is_what_packets_did(name: str) -> None:
    """On a host that nobody tampered with, no pair and no probe is other than the API's promise."""
    found = recording(name).compare()
    assert not found.disagreements
    assert found.pairs
    assert found.probes > found.pairs


@pytest.mark.parametrize("name", NAMES)
def test_recordings_are_of_newest_engines_with_nftables(name: str) -> None:
    """Every recording is of a development build, with the nftables backend and every box of it a container."""
    seen = recording(name).look()
    assert (seen.report.engine.version, seen.report.engine.firewall_backend) == ("29-dev", "nftables")
    assert set(recording(name).document["packets"]["boxes"]) == set(seen.containers)
    assert any(container.sandbox == HOST for container in seen.report.containers) or seen.report.totals.pairs


def test_the_tampered_recordings_are_known() -> None:
    """Exactly the recordings whose host was changed by hand are left to the kernel's evidence."""
    changed = {name for name in NAMES if recording(name).document["topology"]["host"]}
    assert changed == set(TAMPERED)


def test_tampering_shows_as_disagreement() -> None:
    """Where bridge-nf-call-iptables was switched off, packets pass that icc=false promises to drop, and no others."""
    disagreements = recording("nftables-1003").compare().disagreements
    assert disagreements
    assert all("arrive" in text for text in disagreements)
