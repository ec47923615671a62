"""What stands at single interfaces, outside of all hooks of IP: nftables' ingress and egress, XDP programs, tc."""

from __future__ import annotations

from collections import defaultdict
from itertools import chain as joined
from typing import TYPE_CHECKING

from exporter.evaluate.enforced.ruleset import base_chains
from exporter.model.firewall import Divert, Field, Hook, InRanges, TableFamily

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from exporter.evaluate.enforced.ruleset import BaseChain
    from exporter.model.firewall import Step
    from exporter.model.namespace import Namespace

_PROGRAMS = "what {programs} lets through at {interface}"
UNPLACED = "which interface chain {chain} belongs to"


_DIVERTING = frozenset({Divert})


class Gates:
    """The gates of one namespace, by interface."""

    def __init__(self, namespace: Namespace) -> None:
        self._chains: dict[tuple[Hook, str], list[BaseChain]] = defaultdict(list)
        self.unplaced: dict[Hook, list[BaseChain]] = defaultdict(list)
        for chain in base_chains(namespace.firewall, (TableFamily.NETDEV, TableFamily.INET)):
            if chain.base.hook not in (Hook.INGRESS, Hook.EGRESS):
                continue
            if not chain.base.devices:
                self.unplaced[chain.base.hook].append(chain)
            for device in chain.base.devices:
                self._chains[chain.base.hook, device].append(chain)
        self._doubts = {
            interface.name: _PROGRAMS.format(programs=" and ".join(interface.programs), interface=interface.name)
            for interface in namespace.interfaces.values()
            if interface.programs
        }
        self._diverts = {each.name: each.diverts for each in namespace.interfaces.values() if each.diverts}
        self.idle = not (self._chains or self.unplaced or self._doubts or self._diverts)

    def chains(self, hook: Hook, interface: str) -> Sequence[BaseChain]:
        """Return the chains that see every packet that comes in (ingress) or leaves (egress) by an interface."""
        return self._chains.get((hook, interface), ())

    def diverts(self, interface: str) -> Sequence[Divert]:
        """Return where filters of tc may lead packets that come in or leave by an interface."""
        return self._diverts.get(interface, ())

    def leads(self, family: int) -> Iterator[tuple[str, str]]:
        """Yield the interfaces whose questions for neighbours may be sent by another one, with that."""
        for interface, diverts in self._diverts.items():
            yield from ((interface, divert.device) for divert in diverts)
        for (_, interface), chains in self._chains.items():
            for each in joined.from_iterable(chain.table.table.chains.values() for chain in chains):
                asking = (rule.steps for rule in each.holding(_DIVERTING) if _may_ask(rule.steps, family))
                steps = joined.from_iterable(asking)
                yield from ((interface, step.device) for step in steps if isinstance(step, Divert))

    def doubt(self, interface: str) -> str:
        """Return what is not known of the packets of an interface; empty where there is no such thing."""
        return self._doubts.get(interface, "")


_QUESTIONS = {
    4: {Field.ETHER_TYPE: 0x0806},
    6: {Field.ETHER_TYPE: 0x86DD, Field.PROTOCOL: 58},
}
"""What questions for neighbours have: those of ARP no protocol, so that none holds that a rule asks for."""


def _may_ask(steps: Iterable[Step], family: int) -> bool:
    """Return whether a rule may be for questions for neighbours and the answers to them."""
    asked = (step for step in steps if isinstance(step, InRanges) and not step.negated and step.field in _OF_FRAMES)
    return all(_QUESTIONS[family].get(step.field, -1) in step.ranges for step in asked)


_OF_FRAMES = frozenset({Field.ETHER_TYPE, Field.PROTOCOL})
