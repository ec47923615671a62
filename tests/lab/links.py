"""Which interfaces may be on one link: a link-local address is tried only from there.

Whoever looks for such an address on another link asks in vain, and is remembered as asking: the kernel has room for
1,024 neighbours of IPv6, whatever their namespaces (`gc_thresh3`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.lab.agent import is_link_local
from tests.lab.system import run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

_CHILDREN = ("macvlan", "macvtap", "ipvlan")


@dataclass(frozen=True, slots=True)
class Card:
    """An interface that may send to link-local addresses, with those of its own.

    `link` is the interface of the host that its link goes by, None where that is not clear: it may be anybody's then.
    """

    index: int
    addresses: tuple[str, ...]
    link: int | None

    def meets(self, other: Card) -> bool:
        """Tell whether both may be on one link."""
        return self.link == other.link or None in (self.link, other.link)


def near(paths: Sequence[str]) -> list[dict[str, list[int]]]:
    """Return by which interfaces each namespace may find each link-local address; the first one is the host's."""
    rows = [_interfaces(path) for path in paths]
    host = _Host(rows[0])
    cards = [_cards(rows[0], host.link), *(_cards(own, host.link_of_container) for own in rows[1:])]
    everybodys = [card for own in cards for card in own]
    return [_by_address(own, everybodys) for own in cards]


def _by_address(own: Sequence[Card], everybodys: Iterable[Card]) -> dict[str, list[int]]:
    found: dict[str, set[int]] = {}
    for other in everybodys:
        by = {card.index for card in own if card.meets(other)}
        for address in other.addresses:
            found.setdefault(address, set()).update(by)
    return {address: sorted(by) for address, by in found.items()}


def _interfaces(path: str) -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = json.loads(run(["nsenter", f"--net={path}", "--", "ip", "-j", "-d", "address"]))
    return told


def _cards(rows: Iterable[Mapping[str, Any]], link: Callable[[Mapping[str, Any]], int | None]) -> list[Card]:
    found = []
    for row in rows:
        own = [info["local"] for info in row["addr_info"] if info["family"] == "inet6"]
        if own and row["ifname"] != "lo" and "master" not in row:  # nobody sends by the port of a bridge
            # who passes packets on has the first one as well, and nobody lists it
            found.append(Card(row["ifindex"], (*filter(is_link_local, own), "fe80::"), link(row)))
    return found


def _kind(row: Mapping[str, Any]) -> str:
    return str(row.get("linkinfo", {}).get("info_kind", ""))


class _Host:
    """The host's interfaces. Links that a cable of the host's joins are not told apart from any other."""

    def __init__(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self._by_index = {row["ifindex"]: row for row in rows}
        self._by_name = {row["ifname"]: row for row in rows}
        self._joined = {self._bridge(row) for row in rows if _kind(row) == "veth" and "link" in row}

    def _bridge(self, row: Mapping[str, Any]) -> int:
        """Return the bridge that an interface is a port of, or the interface that it is a child of, or itself."""
        above = row.get("master") or (row.get("link") if _kind(row) in _CHILDREN else None)
        found = self._by_name.get(above, row)
        return int(found["ifindex"]) if found is row else self._bridge(found)

    def link(self, row: Mapping[str, Any]) -> int | None:
        """Return the link of an interface of the host."""
        found = self._bridge(row)
        return None if found in self._joined else found

    def link_of_container(self, row: Mapping[str, Any]) -> int | None:
        """Return the link of an interface inside of a container."""
        other = self._by_index.get(row.get("link_index"))
        if other is None:
            return None
        cable = _kind(row) == "veth" and other.get("link_index") == row["ifindex"]
        return self.link(other) if cable or _kind(row) in _CHILDREN else None
