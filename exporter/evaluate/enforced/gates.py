"""What stands at single interfaces, outside of all hooks of IP: nftables' ingress and egress, XDP programs, tc."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from exporter.evaluate.enforced.ruleset import base_chains
from exporter.model.firewall import Hook, TableFamily

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exporter.evaluate.enforced.ruleset import BaseChain
    from exporter.model.firewall import Divert
    from exporter.model.namespace import Namespace

_PROGRAMS = "what {programs} lets through at {interface}"
UNPLACED = "which interface chain {chain} belongs to"


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

    def doubt(self, interface: str) -> str:
        """Return what is not known of the packets of an interface; empty where there is no such thing."""
        return self._doubts.get(interface, "")
