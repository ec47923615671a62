"""Who lives in whose network namespace.

A container joins the namespace that its target has at the joiner's start. If the owner of that namespace ends or
starts anew, the joiner stays behind in the old one, which has lost its interfaces (moby#24935, moby#36334). The API
does not tell; where the kernel was asked, the numbers of the namespaces decide.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from exporter.model.reach import HOST
from exporter.parse.lifetimes import started, surely_before

if TYPE_CHECKING:
    from collections.abc import Mapping

    from exporter.model.observation import Sighting
    from exporter.parse.containers import ListedContainer

_JOIN = "container:"
_MAY_SHARE = (_JOIN, "host")
"""How the modes of containers begin that live in no namespace of their own."""


@dataclass(frozen=True, slots=True)
class Residence:
    """The sandbox of each container, by container id, and what had to be assumed for it."""

    sandbox_of: Mapping[str, str]
    orphaned: frozenset[str]
    assumptions: tuple[str, ...]


def residences(
    listed: Mapping[str, ListedContainer], sightings: Mapping[str, Sighting], inodes: Mapping[str, int]
) -> Residence:
    """Return where each container lives.

    `orphaned` are the sandboxes that have lost their interfaces; such a one has the id of the first of its members.
    `inodes` are the numbers of namespaces by container id, and the host's by HOST, as far as they could be read.
    """
    by_name = {container.name: container.id for container in listed.values()}
    roots = {
        container.id: _root(container, listed, by_name) if container.mode.startswith(_MAY_SHARE) else container.id
        for container in listed.values()
    }
    owners = _owners(roots, inodes)
    sandbox_of = {
        container: root if (inode := inodes.get(container)) is None else owners.get(inode, root)
        for container, root in roots.items()
    }
    left_behind: dict[str | int, list[str]] = defaultdict(list)
    assumptions: list[str] = []
    for guest, root in roots.items():
        inode = inodes.get(guest)
        if root == guest or inode in owners:
            continue
        joined, opened = started(sightings.get(guest)), started(sightings.get(root))
        elsewhere = inode is not None and root in inodes
        if elsewhere or (root != HOST and (root not in listed or surely_before(joined, opened))):
            left_behind[root if inode is None else inode].append(guest)
        elif root != HOST and not surely_before(opened, joined):
            assumptions.append(_assumption(listed[guest], listed[root]))
    orphaned = {member: members[0] for members in left_behind.values() for member in members}
    return Residence(sandbox_of | orphaned, frozenset(orphaned.values()), tuple(assumptions))


def _owners(roots: Mapping[str, str], inodes: Mapping[str, int]) -> dict[int, str]:
    """Return who owns the namespaces that the kernel was asked about: the host, or a container."""
    owners = {inodes[container]: container for container, root in roots.items() if root == container in inodes}
    return owners | ({inodes[HOST]: HOST} if HOST in inodes else {})


def _root(container: ListedContainer, listed: Mapping[str, ListedContainer], by_name: Mapping[str, str]) -> str:
    """Follow `container:` to the id of the namespace's owner, which may not run any more, or to the host."""
    seen = {container.id}
    current = container
    while current.mode.startswith(_JOIN):
        target = current.mode.removeprefix(_JOIN)
        target = by_name.get(target, target)
        if target in seen or target not in listed:
            return target
        seen.add(target)
        current = listed[target]
    return HOST if current.mode == "host" else current.id


def _assumption(joiner: ListedContainer, owner: ListedContainer) -> str:
    return (
        f"{joiner.name} still shares the namespace of {owner.name}: "
        "their statuses do not tell whether the owner was started anew since"
    )
