"""A listing taken apart is what nft listed, whatever is in its texts."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.model.listing import listing

Entry = dict[str, dict[str, Any]]

_WORDS = st.sampled_from(('{"rule": ', '{"rule": {"family": "ip"', "}}, ", '"family": ', '"', "\\", "\0", "é", "c"))
_VALUES = st.recursive(
    _WORDS | st.integers() | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_WORDS | st.just("family"), inner, max_size=2),
    max_leaves=6,
)
_ENTRIES = st.tuples(st.sampled_from(("table", "chain", "set", "map", "rule", "rule", "rule")), _VALUES, _VALUES).map(
    lambda made: {made[0]: {"family": "ip", "chain": made[1], "expr": made[2]}}
)


@given(st.lists(_ENTRIES, max_size=6), st.sampled_from(((", ", ": "), (",", ":"))), st.booleans())
def test_nothing_is_lost(entries: list[Entry], separators: tuple[str, str], ascii_only: bool) -> None:
    """Strings may hold what rules begin and end with, and rules may stand anywhere."""
    document = {"nftables": [{"metainfo": {"version": "1.0.6"}}, *entries]}
    found = listing(json.dumps(document, separators=separators, ensure_ascii=ascii_only))
    assert found.entries == [entry for entry in document["nftables"] if "rule" not in entry]
    assert [json.loads(rule) for rule in found.rules] == [entry["rule"] for entry in entries if "rule" in entry]


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[]", "null", '{"nftables": {}}', '{"nftables": [1]}', '{"nftables": [{}]}', '{"nftables": [{"rule": ',
     '{"nftables": [{"rule": {"family": "ip"}}, ', '{"nftables": [{"rule": {"family": "ip"}}, {"rule": {}}]} more'],
)  # fmt: skip
def test_what_is_no_listing_is_refused(text: str) -> None:
    """So is one that breaks off."""
    with pytest.raises(ValueError, match=r"."):
        listing(text)
