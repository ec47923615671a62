"""Names made safe to show: whatever an engine lets people call things."""

from __future__ import annotations

import re
import unicodedata

_SURROGATES = re.compile("[\ud800-\udfff]")
_HIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Cn", "Zl", "Zp"})


def encodable(text: str) -> str:
    """Return the text with lone surrogates, which UTF-8 cannot hold, replaced by U+FFFD."""
    return _SURROGATES.sub("\ufffd", text)


def visible(text: str) -> str:
    r"""Return the text with every character that shows nothing or moves others spelled out: `\n`, `\x1b`, `\u202e`.

    A newline, a terminal escape or a right-to-left override in a name must not forge what stands around it.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_spelled(character) for character in text)


def _spelled(character: str) -> str:
    if unicodedata.category(character) not in _HIDDEN_CATEGORIES:
        return character
    return character.encode("unicode_escape").decode("ascii")


def columns(text: str) -> int:
    """Return how many columns of a terminal the text takes: two for wide characters, none for combining ones."""
    if text.isascii():
        return len(text)
    return sum(_character_columns(character) for character in text)


def _character_columns(character: str) -> int:
    if unicodedata.category(character) in {"Mn", "Me"}:
        return 0
    return 2 if unicodedata.east_asian_width(character) in {"W", "F"} else 1


def count(number: int, noun: str) -> str:
    """Return the number with its noun, in the plural unless it is one: `"1 pair"`, `"1,170 pairs"`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
