"""Which reasons for undecided paths a host has a cause for."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from exporter.evaluate.enforced.walk import LEARNED

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from tests.conformance.changes import Change

ALWAYS_UNKNOWN = ("macvlan in mode vepa: the switch outside decides whether frames come back",)
"""How what the kernel of no host can tell begins."""

UNKNOWN_OF_CHANGED = (
    LEARNED,
    "how long bridge ",
    "whether bridge ",
    "whether multicast snooping ",
    "what bridge ",
    "whose the link address is ",
    "whether an owner or a proxy answers first",
    "whether another one answered before",
    "whether a route by an address of one's own was there before that address",
)
"""How what the kernel of a changed host cannot tell either begins, by whatever change."""

ROUTED_BACK = "(ICMP redirect)"
"""How it ends where somebody passes on what goes back to where it came from, as on no host that nobody changed."""


def unexplained(reasons: Iterable[str], changes: Sequence[Change]) -> set[str]:
    """Return the reasons, each of several alone, that nothing on a host that was so changed is the cause of."""
    known = (*ALWAYS_UNKNOWN, *(doubt for change in changes for doubt in change.doubts))
    if changes:
        known += UNKNOWN_OF_CHANGED
    asked = {each for told in reasons for each in _alone(told) if not each.startswith(known)}
    return {reason for reason in asked if not (changes and reason.endswith(ROUTED_BACK))}


_AT_INTERFACE: Final = re.compile("what (?P<several>.+) lets through at (?P<interface>.+)")


def _alone(told: str) -> Iterator[str]:
    """Yield each of several reasons that are told as one; also of what stands at one interface together."""
    for reason in told.split("; "):
        found = _AT_INTERFACE.fullmatch(reason)
        if found is None:
            yield reason
        else:
            yield from (f"what {each} lets through at {found['interface']}" for each in found["several"].split(" and "))
