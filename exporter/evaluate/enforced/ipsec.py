"""What policies of IPsec make of packets that a namespace sends, passes on or receives.

Packets of bridges meet none, whatever br_netfilter leads through iptables, nor do those of loopback (disable_xfrm and
disable_policy are set for it).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from exporter.evaluate.enforced.packets import parts
from exporter.model.addresses import within
from exporter.model.namespace import Direction

if TYPE_CHECKING:
    from exporter.evaluate.enforced.passing import Passing
    from exporter.model.namespace import IpsecPolicy

DOUBT = "what a policy of IPsec from {source} to {destination} lets through"


def past_policies(passing: Passing, *directions: Direction) -> Passing:
    """Lead packets past the policies of these directions; the first one that selects them decides (xfrm_policy_lookup).

    One that allows them as they are is as none. Any other leaves them undecided: it drops them, or sends them where and
    as its states say, or wants to have got them so.
    """
    flight = passing.flight
    for direction in directions:
        left = passing.cells
        for policy in passing.stack.policies:
            selected = _selected(policy, passing, left) if policy.direction is direction else 0
            if not selected:
                continue
            if not policy.passes:
                doubt = DOUBT.format(source=policy.source, destination=policy.destination)
                flight = flight.doubted({doubt: selected})
                if direction is Direction.OUT:
                    flight = replace(flight, sealed=flight.sealed | selected)
            if not policy.narrow:
                left &= ~selected
    return passing if flight is passing.flight else passing._replace(flight=flight)


def _selected(policy: IpsecPolicy, passing: Passing, cells: int) -> int:
    found, ends = 0, passing.flight.ends
    for source, of in parts(ends.source, cells):
        for destination, both in parts(ends.destination, of):
            if within(int(source), policy.source) and within(int(destination), policy.destination):
                found |= both
    return found
