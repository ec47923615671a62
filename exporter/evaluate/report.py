"""The report: verdicts of all pairs, and what can be counted of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter.evaluate.assumptions import assumptions
from exporter.evaluate.counts import Counts, networks_by_driver, networks_of
from exporter.evaluate.declared import declared_reach
from exporter.model.report import (
    ContainerSummary,
    EngineSummary,
    Evidence,
    NetworkSummary,
    Report,
    Totals,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exporter.model.snapshot import Engine, Snapshot


def evaluate(snapshot: Snapshot) -> Report:
    """Return the report of a snapshot, from the evidence of the engine's API alone."""
    reach = declared_reach(snapshot)
    counts = Counts.of(snapshot, reach)
    containers = len(snapshot.containers)
    return Report(
        taken_at=snapshot.taken_at,
        engine=_engine(snapshot),
        evidence=Evidence(),
        assumptions=tuple(assumptions(snapshot)),
        networks=tuple(_networks(snapshot, counts)),
        containers=tuple(_containers(snapshot)),
        totals=Totals(
            containers=containers,
            pairs=containers * (containers - 1),
            reachable_pairs=sum(counts.by_via.values()),
            unknown_pairs=counts.unknown,
            drift_open=None,
            drift_closed=None,
        ),
        pairs_by_via=counts.by_via,
        blast_radius=counts.blast_radius,
        reach=reach,
    )


def _engine(snapshot: Snapshot) -> EngineSummary:
    engine: Engine = snapshot.engine
    default = next((network for network in snapshot.networks.values() if network.default), None)
    return EngineSummary(
        id=engine.id,
        name=engine.name,
        version=engine.version_text,
        api_version=engine.api_version,
        firewall_backend=engine.firewall_backend,
        icc_enabled=default.icc if default else None,
    )


def _networks(snapshot: Snapshot, counts: Counts) -> Iterator[NetworkSummary]:
    for network in sorted(snapshot.networks.values(), key=lambda network: (network.name, network.id)):
        yield NetworkSummary(
            id=network.id,
            name=network.name,
            driver=network.driver,
            internal=network.internal,
            icc_enabled=network.icc,
            icc_effective=None,
            containers=counts.attached[network.id],
            reachable_pairs=counts.within_network[network.id],
        )


def _containers(snapshot: Snapshot) -> Iterator[ContainerSummary]:
    by_driver = networks_by_driver(snapshot)
    for container in snapshot.containers.values():
        networks = networks_of(snapshot.sandboxes[container.sandbox], by_driver)
        names = tuple(sorted(snapshot.networks[network].name for network in networks))
        yield ContainerSummary(container.id, container.name, names, container.sandbox)
