"""The texts of rules as nft printed them, by chain, without what is another at the next look: counters and handles."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, NamedTuple

from exporter.parse.kernel.nft_values import items

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

BETWEEN = "\0"
"""What stands between the rules of a chain. No JSON text has it."""

_HANDLE = ', "handle": '
_COUNTER = '{"counter": {"packets": '
_UNCOUNTED = '{"counter": null}'
_STATEFUL = '"stmt": '
"""Elements that a rule adds to a set may count, too."""

_HEAD = re.compile(r'\{"family": "([^"\\]+)", "table": "([^"\\]+)", "chain": "([^"\\]+)"')
"""How nft begins a rule, before its handle."""

_NUMBERS = re.compile(r'(\d+), "bytes": \d+')
_ANY_HANDLE = re.compile(r'"handle": \d+')
_ANY_COUNTER = re.compile(r'\{"counter": \{"packets": \d+, "bytes": \d+\}\}')


class Place(NamedTuple):
    """A chain, by its table's family and name and its own."""

    family: str
    table: str
    chain: str


class Printed(NamedTuple):
    """The rules of a chain, each without the brace that it begins with, and what it counted, None without a counter."""

    rules: list[str]
    packets: list[int | None]


def printed_chains(rules: Sequence[str]) -> dict[Place, Printed]:
    """Return rules by chain, in their order. Raises ValueError for texts that are none of nft's.

    Engines write whole chains anew, with other handles. What is not printed as nft does it is decoded.
    """
    found: dict[Place, Printed] = {}
    heads: dict[str, Printed | None] = {}
    counts: dict[str, int | None] = {}
    for rule in rules:
        head, _, rest = rule.partition(_HANDLE)
        handle, _, said = rest.partition(", ")
        begin, counter, end = said.partition(_COUNTER)
        packets = None
        if counter:
            numbers, _, end = end.partition("}}")
            said = f"{begin}{_UNCOUNTED}{end}"
            packets = counts.get(numbers)
            if packets is None:
                packets = counts[numbers] = _packets(numbers)
        printed = heads.get(head)
        if printed is None:
            printed = heads[head] = _begun(head, found)
        usual = packets is not None or not counter
        if printed is None or not usual or not handle.isdecimal() or _STATEFUL in said or _COUNTER in end:
            place, said, packets = _decoded(rule)
            printed = found.setdefault(place, Printed([], []))
        printed.rules.append(said)
        printed.packets.append(packets)
    return found


def _begun(head: str, found: dict[Place, Printed]) -> Printed | None:
    """Return the chain that rules with such a beginning are of."""
    names = _HEAD.fullmatch(head)
    return found.setdefault(Place(*names.groups()), Printed([], [])) if names is not None else None


def _packets(numbers: str) -> int | None:
    found = _NUMBERS.fullmatch(numbers)
    return int(found[1]) if found is not None else None


def _decoded(rule: str) -> tuple[Place, str, int | None]:
    said = json.loads(rule)
    names = [said.get(key) for key in Place._fields] if isinstance(said, dict) else []
    place = [name for name in names if isinstance(name, str)]
    if len(place) != len(Place._fields):
        raise ValueError("a rule that is of no chain")
    counters = [each["counter"] for each in items(said.get("expr", ())) if isinstance(each, dict) and "counter" in each]
    counted = (counter["packets"] for counter in counters if isinstance(counter, dict) and "packets" in counter)
    text = _ANY_COUNTER.sub(_UNCOUNTED, _ANY_HANDLE.sub('"handle": 0', rule.removeprefix("{")))
    return Place(*place), text, next(counted, None)


def changed_sets(rules: str) -> Iterator[str]:
    """Yield the sets that rules add to, or take from: nft 1.0 does not print the flag `dynamic` of those."""
    if _NAMED not in rules:
        return
    for rule in rules.split(BETWEEN):
        statements = items(json.loads(f"{{{rule}").get("expr", ())) if _CHANGES.search(rule) else ()
        for statement in statements:
            for name, body in statement.items() if isinstance(statement, dict) else ():
                if name in ("set", "map") and isinstance(body, dict):
                    yield str(body.get(name)).removeprefix("@")


_NAMED = '": "@'
_CHANGES = re.compile(r'"(?:set|map)": "@')
