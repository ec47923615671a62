"""The report: verdicts of all pairs, and what can be counted of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter.evaluate.assumptions import assumptions
from exporter.evaluate.counts import Counts, networks_by_driver, networks_of
from exporter.evaluate.declared import declared_reach
from exporter.evaluate.drift import drift
from exporter.evaluate.effective import effective
from exporter.evaluate.enforced import enforced_reach
from exporter.evaluate.kinds import Spread, sample
from exporter.evaluate.unsupported import unsupported
from exporter.model.report import (
    ContainerSummary,
    EngineSummary,
    Evidence,
    NetworkSummary,
    Report,
    Totals,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from exporter.model.snapshot import Engine, Kernel, Snapshot


def evaluate(snapshot: Snapshot) -> Report:
    """Return the report of a snapshot: by the kernel's own rules where they could be read, else as the API promises."""
    kernel = snapshot.kernel
    evidence = _evidence(kernel)
    part = sample(snapshot)
    seen = part.snapshot if part is not None else snapshot
    declared = declared_reach(seen)
    enforced = enforced_reach(seen, seen.kernel) if seen.kernel is not None and evidence.kernel else None
    if part is not None:
        spread = Spread(snapshot, part)
        declared = spread.over(declared)
        enforced = spread.over(enforced) if enforced is not None else None
    reach = declared if enforced is None else enforced
    counts = Counts.of(snapshot, reach)
    containers = len(snapshot.containers)
    sizes = {sandbox.id: len(sandbox.members) for sandbox in snapshot.sandboxes.values()}
    drifted = drift(declared, enforced, sizes) if enforced is not None else None
    return Report(
        taken_at=snapshot.taken_at,
        engine=_engine(snapshot),
        evidence=evidence,
        missing=kernel.missing if kernel is not None else {},
        unsupported=unsupported(kernel.host.firewall) if kernel is not None else {},
        assumptions=tuple(assumptions(snapshot)),
        networks=tuple(_networks(snapshot, counts, effective(snapshot, enforced) if enforced is not None else {})),
        containers=tuple(_containers(snapshot)),
        totals=Totals(
            containers=containers,
            pairs=containers * (containers - 1),
            reachable_pairs=sum(counts.by_via.values()),
            unknown_pairs=counts.unknown,
            drift_open=drifted.open if drifted else None,
            drift_closed=drifted.closed if drifted else None,
        ),
        pairs_by_via=counts.by_via,
        blast_radius=counts.blast_radius,
        reach=reach,
        declared=declared if enforced is not None else None,
    )


def _evidence(kernel: Kernel | None) -> Evidence:
    if kernel is None:
        return Evidence()
    read = {name: name not in kernel.missing for name in ("firewall", "bridge", "routes", "sandboxes")}
    return Evidence(**read)


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


def _networks(snapshot: Snapshot, counts: Counts, enforced: Mapping[str, bool]) -> Iterator[NetworkSummary]:
    for network in sorted(snapshot.networks.values(), key=lambda network: (network.name, network.id)):
        yield NetworkSummary(
            id=network.id,
            name=network.name,
            driver=network.driver,
            internal=network.internal,
            icc_enabled=network.icc,
            icc_effective=enforced.get(network.id),
            containers=counts.attached[network.id],
            reachable_pairs=counts.within_network[network.id],
        )


def _containers(snapshot: Snapshot) -> Iterator[ContainerSummary]:
    by_driver = networks_by_driver(snapshot)
    for container in snapshot.containers.values():
        networks = networks_of(snapshot.sandboxes[container.sandbox], by_driver)
        names = tuple(sorted(snapshot.networks[network].name for network in networks))
        yield ContainerSummary(container.id, container.name, names, container.sandbox)
