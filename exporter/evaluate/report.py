"""The report: verdicts of all pairs, and what can be counted of them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from exporter.evaluate import assumptions
from exporter.evaluate.bridge_netfilter import bridge_netfilter
from exporter.evaluate.counts import Counts, networks_by_driver, networks_of
from exporter.evaluate.declared import declared_reach
from exporter.evaluate.drift import drift
from exporter.evaluate.effective import effective
from exporter.evaluate.enforced import enforced_reach
from exporter.evaluate.kinds import KindsMemory, Renamings, Spread, sample
from exporter.evaluate.pending import default_bridge, pending_restart
from exporter.evaluate.policy import judge
from exporter.evaluate.tenants import tenancy, tenant_name
from exporter.evaluate.unsupported import unsupported
from exporter.model.policy import NO_STANDARDS
from exporter.model.report import ContainerSummary, EngineSummary, Evidence, NetworkSummary, Report, Totals

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from exporter.model.policy import Standards
    from exporter.model.reach import Reach
    from exporter.model.snapshot import Engine, Kernel, Snapshot


@dataclass(frozen=True, slots=True)
class Evaluated:
    """What was evaluated, and what came out: `seen` is the part of a snapshot that stands for all of it.

    `renamings` are what the verdicts came to for the others, `kinds` how they are told
    apart, both as of the last look.
    """

    seen: Snapshot
    declared: Reach
    enforced: Reach | None
    kinds: KindsMemory = field(default_factory=KindsMemory, compare=False, repr=False)
    renamings: Renamings = field(default_factory=Renamings, compare=False, repr=False)


def evaluate(snapshot: Snapshot, standards: Standards = NO_STANDARDS) -> Report:
    """Return the report of a snapshot: by the kernel's own rules where they could be read, else as the API promises.

    `standards` are what the host is held to.
    """
    return evaluate_after(snapshot, None, standards)[0]


def evaluate_after(
    snapshot: Snapshot, before: Evaluated | None, standards: Standards = NO_STANDARDS
) -> tuple[Report, Evaluated]:
    """Return the report of a snapshot, and what may be of use for the next one.

    Where the part that stands for all is what it was `before`, to the last rule, so are its verdicts: the report is the
    one that `evaluate` gives.
    """
    kinds = before.kinds if before is not None else KindsMemory()
    part = sample(snapshot, before.seen if before is not None else None, kinds)
    seen = part.snapshot if part is not None else snapshot
    evidence = _evidence(snapshot.kernel)
    if before is not None and replace(seen, taken_at=before.seen.taken_at) == before.seen:
        known = before
    else:
        kernel = seen.kernel if evidence.kernel else None
        enforced = enforced_reach(seen, kernel) if kernel is not None else None
        known = Evaluated(seen, declared_reach(seen), enforced, kinds)
    declared, enforced = known.declared, known.enforced
    if part is not None:
        spread = Spread(snapshot, part, known.renamings)
        declared = spread.over(declared)
        enforced = spread.over(enforced) if enforced is not None else None
    assumed = (
        *assumptions.of_all(snapshot, kinds.unread),
        *(assumptions.of_enforced(snapshot) if enforced is not None else ()),
    )
    return _report(snapshot, standards, evidence, assumed, declared, enforced), known


def _report(
    snapshot: Snapshot,
    standards: Standards,
    evidence: Evidence,
    assumed: tuple[str, ...],
    declared: Reach,
    enforced: Reach | None,
) -> Report:
    kernel = snapshot.kernel
    reach = declared if enforced is None else enforced
    counts = Counts.of(snapshot, reach)
    containers = tuple(_containers(snapshot, standards.tenant_label))
    declared_assumed = tuple(assumptions.of_declared(snapshot))
    sizes = {sandbox.id: len(sandbox.members) for sandbox in snapshot.sandboxes.values()}
    drifted = drift(declared, enforced, sizes) if enforced is not None else None
    return Report(
        taken_at=snapshot.taken_at,
        engine=_engine(snapshot),
        evidence=evidence,
        missing=kernel.missing if kernel is not None else {},
        unsupported=unsupported(kernel.host.firewall) if kernel is not None else {},
        assumptions=assumed if enforced is not None else (*assumed, *declared_assumed),
        declared_assumptions=declared_assumed if enforced is not None else (),
        networks=tuple(_networks(snapshot, counts, effective(snapshot, enforced) if enforced is not None else {})),
        containers=containers,
        totals=Totals(
            containers=len(containers),
            pairs=len(containers) * (len(containers) - 1),
            reachable_pairs=sum(counts.by_via.values()),
            unknown_pairs=counts.unknown,
            drift_open=drifted.open if drifted else None,
            drift_closed=drifted.closed if drifted else None,
        ),
        pairs_by_via=counts.by_via,
        blast_radius=counts.blast_radius,
        reach=reach,
        declared=declared if enforced is not None else None,
        tenancy=tenancy(snapshot, reach, standards.tenant_label, standards.trusted) if standards.tenant_label else None,
        policy=judge(snapshot, reach, containers, standards),
        bridge_netfilter=bridge_netfilter(snapshot),
        pending_restart=pending_restart(snapshot),
        configuration_missing=snapshot.configuration if isinstance(snapshot.configuration, str) else "",
    )


def _evidence(kernel: Kernel | None) -> Evidence:
    if kernel is None:
        return Evidence()
    read = {name: name not in kernel.missing for name in ("firewall", "bridge", "routes", "sandboxes")}
    return Evidence(**read)


def _engine(snapshot: Snapshot) -> EngineSummary:
    engine: Engine = snapshot.engine
    default = default_bridge(snapshot)
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
            families=tuple(name for name, has in (("ipv4", network.ipv4), ("ipv6", network.ipv6)) if has),
        )


def _containers(snapshot: Snapshot, tenant_label: str) -> Iterator[ContainerSummary]:
    by_driver = networks_by_driver(snapshot)
    known: dict[tuple[str, ...], tuple[str, ...]] = {}
    for container in snapshot.containers.values():
        networks = networks_of(snapshot.sandboxes[container.sandbox], by_driver)
        names = known.get(networks)
        if names is None:
            names = known[networks] = tuple(sorted(snapshot.networks[network].name for network in networks))
        tenant = tenant_name(container, tenant_label)
        yield ContainerSummary(container.id, container.name, names, container.sandbox, tenant)
