"""The worlds of both families of addresses, ready for packets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter.evaluate.enforced.gateways import answering_gateways, left_where_silent
from exporter.evaluate.enforced.world import World

if TYPE_CHECKING:
    from collections.abc import Mapping

    from exporter.model.snapshot import Kernel, Snapshot


def worlds(snapshot: Snapshot, kernel: Kernel, *, all_rules: bool = False) -> Mapping[int, World]:
    """Return the worlds of both families, by these.

    Sandboxes keep those of their rules that packets between them may meet, or `all_rules` of them.
    """
    six = World(snapshot, kernel, 6, all_rules=all_rules)
    for stack in six.stacks.values():
        if left_where_silent(stack.namespace, stack.routing):
            stack.routing.answers = answering_gateways(six, stack)
    return {4: World(snapshot, kernel, 4, all_rules=all_rules, six=six), 6: six}
