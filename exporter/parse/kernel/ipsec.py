"""Policies of IPsec to what becomes of packets.

{"dir": "out", "src": "172.17.0.0/16", "dst": "10.8.0.0/24", "priority": 100, "action": "allow", "templates": true}
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from exporter.errors import ObservationError
from exporter.model.namespace import Direction, IpsecPolicy
from exporter.parse.fields import integer, subnet, text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def parse_policies(documents: Sequence[Mapping[str, Any]]) -> tuple[IpsecPolicy, ...]:
    """Return policies in the order in which the kernel asks them. Raises ObservationError for what is none.

    Which of one priority it asks first is not told, neither by their order nor by their numbers: one that was changed
    keeps its number and, if its priority stayed, its place (xfrm_policy_insert_list). So those that do not let packets
    pass as they are come first: they leave them undecided.
    """
    found = sorted(((integer(document, "priority"), _policy(document)) for document in documents), key=_rank)
    return tuple(policy for _, policy in found)


def _rank(ranked: tuple[int, IpsecPolicy]) -> tuple[int, bool]:
    priority, policy = ranked
    return priority, policy.passes


def _policy(document: Mapping[str, Any]) -> IpsecPolicy:
    source, destination = subnet(text(document, "src")), subnet(text(document, "dst"))
    try:
        direction = Direction(text(document, "dir"))
    except ValueError as error:
        raise ObservationError(f"a policy of IPsec: {error}") from error
    if source is None or destination is None or source.version != destination.version:
        raise ObservationError("a policy of IPsec without its addresses")
    passes = text(document, "action") == "allow" and not document.get("templates")
    return IpsecPolicy(direction, source, destination, passes=passes, narrow=bool(document.get("narrow")))
