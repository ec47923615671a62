"""Whose containers reach whose."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from exporter.evaluate.meetings import Member, Tenant, meetings
from exporter.model.reach import Verdict
from exporter.model.report import Tenancy, TenantSummary

if TYPE_CHECKING:
    from collections.abc import Collection

    from exporter.model.reach import Reach
    from exporter.model.snapshot import Container, Snapshot


def tenant_name(container: Container, label: str) -> str | None:
    """Return the name of a container's tenant; a label without a value names none."""
    return container.labels.get(label) or None


def tenant_of(container: Container, label: str) -> Tenant:
    """Return the tenant of a container, which is one of its own where nobody says whose it is."""
    name = tenant_name(container, label)
    return ("", container.id) if name is None else (name, "")


def tenancy(snapshot: Snapshot, reach: Reach, label: str, trusted: Collection[str] = ()) -> Tenancy:
    """Return the tenants by a label, and how many pairs cross from one to another, none of whom is trusted."""
    if label not in snapshot.labels:
        return Tenancy(label, told=False)
    tenants = {container.id: tenant_of(container, label) for container in snapshot.containers.values()}
    sizes = Counter(name for name, _ in tenants.values() if name)
    names = sorted(sizes)
    numbers = {name: number for number, name in enumerate(names, start=1)}
    members = {
        sandbox.id: [
            Member(who, 0, numbers.get(who[0], 0))
            for who in map(tenants.__getitem__, sandbox.members)
            if who[0] not in trusted
        ]
        for sandbox in snapshot.sandboxes.values()
    }
    exposed: Counter[int] = Counter()
    for meeting in meetings(reach, members):
        if meeting.verdict.verdict is not Verdict.BLOCKED:
            exposed[meeting.takes] += meeting.other
    return Tenancy(
        label,
        told=True,
        tenants=tuple(TenantSummary(name, sizes[name], exposed[numbers[name]], name in trusted) for name in names),
        without=len(tenants) - sizes.total(),
        cross_pairs=exposed.total() if names else None,
        absent=tuple(sorted(set(trusted) - set(names))),
    )
