"""What `nft -j list` printed, taken apart without decoding its rules: of thousands, most are as at the look before."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_RULE: Final = '{"rule": '
_END: Final = "}}, "
_FAMILY: Final = '"family": '
_DECODER: Final = json.JSONDecoder()


class Listing(NamedTuple):
    """nft's objects but for the rules, and those in their order, each as its own JSON text."""

    entries: Sequence[Mapping[str, Any]]
    rules: Sequence[str]


def listing(text: str) -> Listing:
    """Take a listing apart. Raises ValueError for text that is none, and RecursionError for what is nested too deep."""
    found = _apart(text)
    if any("rule" in entry for entry in found.entries):
        # nft writes a space after a colon, and whoever does not is made to
        found = _apart(json.dumps(json.loads(text)))
    return found


def _apart(text: str) -> Listing:
    """Look for rules where nft would begin them: within a string, the quotes of what is looked for are escaped."""
    head, *parts = text.split(_RULE)
    rules, others = [], [head]
    for part in parts:
        # whatever follows a rule has a family as well
        if part.endswith(_END) and part.count(_FAMILY) == 1:
            rules.append(part[:-3])
            continue
        _, end = _DECODER.raw_decode(part)
        rules.append(part[:end])
        others.append(f"{_GONE}{part[end:]}")
    document = _DECODER.decode("".join(others))
    listed = document.get("nftables") if isinstance(document, dict) else None
    if not isinstance(listed, list):
        raise ValueError("this is not a list of nft's objects")  # noqa: TRY004 - one error for all texts
    if not all(isinstance(entry, dict) and len(entry) == 1 for entry in listed):
        raise ValueError("something in it is not an object")
    return Listing([entry for entry in listed if entry != {"gone": None}], rules)


_GONE: Final = '{"gone": null'
"""Stands where a rule was that something else than the next rule follows."""
