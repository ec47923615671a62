"""Generators of hostile names and headers."""

from __future__ import annotations

from hypothesis import strategies as st

NASTY = [
    "",
    '"',
    "\\",
    "\\n",
    "\n",
    "\r\n",
    "\t",
    "\x00",
    "\x1b[31m",
    "\ud800",
    "\u202e",
    "日本",
    "😀",
    "<script>",
    "a,b;c=d",
    "'",
    "{}",
]

names = st.one_of(
    st.sampled_from(NASTY),
    st.lists(st.sampled_from(NASTY), max_size=4).map("".join),
    # every category, lone surrogates too
    st.text(st.characters(categories=("L", "M", "N", "P", "S", "Z", "C")), max_size=20),
)
"""Anything that JSON can carry as a name."""

_TOKENS = [
    "text/plain",
    "Text/Plain",
    "application/openmetrics-text",
    "text/*",
    "application/*",
    "*/*",
    ";version=1.0.0",
    '; Version="1.0.0"',
    ";version=0.0.4",
    ";version=9.9.9",
    ";version",
    ";version=",
    ';version="',
    ";q=0",
    ";q=0.5",
    ";q=1",
    ";q=nan",
    ";q=-1",
    ";q=1e9",
    ";escaping=allow-utf-8",
    ";escaping=values",
    ";escaping=\r\n",
    "gzip",
    "identity",
    "*",
    ",",
    ", ",
    '"',
    "\\",
    "=",
    ";",
]

headers = st.one_of(st.lists(st.sampled_from(_TOKENS), max_size=12).map("".join), st.text(max_size=60))
"""Accept and Accept-Encoding headers, well formed or nearly so or not at all."""
