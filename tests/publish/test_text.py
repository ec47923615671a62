"""Names made safe to show."""

from __future__ import annotations

import unicodedata

from hypothesis import given

from exporter.publish.text import columns, count, encodable, visible
from tests.publish.strategies import names


@given(names)
def test_encodable_text_is_utf8(name: str) -> None:
    """Whatever the name, what comes out can be encoded, and only surrogates were replaced."""
    shown = encodable(name)
    shown.encode("utf-8")
    assert len(shown) == len(name)
    assert all(new == old or new == "\ufffd" for new, old in zip(shown, name, strict=True))


@given(names)
def test_visible_text_holds_nothing_hidden(name: str) -> None:
    """No control, format or surrogate character is left, so nothing can move or hide what stands around."""
    shown = visible(name)
    assert not {unicodedata.category(character) for character in shown} & {"Cc", "Cf", "Cs", "Cn", "Zl", "Zp"}


def test_visible_text_spells_out_what_it_hides() -> None:
    """Newlines, terminal escapes and overrides of the writing direction are shown as their escapes."""
    assert visible("a\nb\x1b[31m\u202egnp") == r"a\nb\x1b[31m\u202egnp"


def test_harmless_text_stays_as_it_is() -> None:
    """Letters of any script pass unchanged."""
    assert visible("frontend_1 日本 é") == "frontend_1 日本 é"


def test_columns_count_as_a_terminal_does() -> None:
    """A wide character takes two columns, a combining one none."""
    assert [columns(text) for text in ("web", "日本", "e\u0301")] == [3, 4, 1]


def test_counts_agree_with_their_nouns() -> None:
    """One is singular, everything else is plural, thousands are grouped."""
    assert [count(number, "pair") for number in (0, 1, 1170)] == ["0 pairs", "1 pair", "1,170 pairs"]
