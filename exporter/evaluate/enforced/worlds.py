"""The worlds of both families of addresses, ready for packets."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from exporter.evaluate.enforced.gateways import answering_gateways, left_where_silent
from exporter.evaluate.enforced.stand_ins import namespaces_of
from exporter.evaluate.enforced.world import World

if TYPE_CHECKING:
    from collections.abc import Mapping

    from exporter.evaluate.enforced.route_table import Answers
    from exporter.evaluate.enforced.routing import Routing
    from exporter.evaluate.enforced.stack import Stack
    from exporter.model.snapshot import Kernel, Snapshot


def worlds(snapshot: Snapshot, kernel: Kernel, *, all_rules: bool = False) -> Mapping[int, World]:
    """Return the worlds of both families, by these.

    Sandboxes keep those of their rules that packets between them may meet, or `all_rules` of them.
    """
    namespaces = namespaces_of(snapshot, kernel)
    six = World(snapshot, kernel, namespaces, 6, all_rules=all_rules)
    for stack in six.stacks.values():
        stack.answers = partial(_answers, six, stack)
    return {4: World(snapshot, kernel, namespaces, 4, all_rules=all_rules, six=six), 6: six}


def _answers(six: World, stack: Stack, routing: Routing) -> Answers | None:
    """Return what tells whether gateways answer, where a namespace leaves those that do not."""
    return answering_gateways(six, stack) if left_where_silent(stack.namespace, routing) else None
