"""What rules of nft say, read from their texts: they are made of the same statements over and over.

A text that consists of objects of JSON with commas between them is the array of these, so each can be understood by
itself, and once. Likewise, of a comparison that ends with its right side, what stands before that says the same again.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

from exporter.model.firewall import Rule
from exporter.parse.kernel.nft_expressions import expression
from exporter.parse.kernel.nft_statements import compared_with, rule_steps, statement, steps_of
from exporter.parse.kernel.nft_text import match_text, match_texts, statement_text
from exporter.parse.kernel.nft_values import items

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from exporter.model.firewall import Step
    from exporter.parse.kernel.nft_expressions import Context, Left
    from exporter.parse.kernel.nft_statements import Statement

_SAID = '"expr": ['
_FIRST, _BETWEEN, _LAST = '{"', '}, {"', "}]}"
_RIGHT = ', "right": '
_DECODER = json.JSONDecoder()


class _Asked(NamedTuple):
    """A comparison without its right side, and what it means with those that there were."""

    left: Left
    said: Mapping[str, object]
    text: Callable[[object], str]
    known: dict[str, Statement]


class RuleReader:
    """Reads rules of one table, each by its text without the brace that it begins with."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._comments: dict[str, str] = {}
        self._statements: dict[str, Statement] = {}
        self._asked: dict[str, _Asked | None] = {}

    def rule(self, text: str) -> Rule:
        """Return a rule. Raises ValueError for text that is none."""
        begin, _, listed = text.partition(_SAID)
        if not listed.startswith(_FIRST) or not listed.endswith(_LAST):
            return self._decoded(text)
        comment = self._comments.get(begin)
        known = self._statements
        try:
            if comment is None:
                comment = self._comments[begin] = _comment(json.loads(f"{{{begin}{_SAID}]}}"))
            parts = listed[len(_FIRST) : -len(_LAST)].split(_BETWEEN)
            statements = [known.get(part) or self._statement(part) for part in parts]
        except ValueError:
            # one of them has several objects itself
            return self._decoded(text)
        return _rule(steps_of(statements, self._context), [said.text for said in statements], comment)

    def _decoded(self, text: str) -> Rule:
        said = json.loads(f"{{{text}")
        statements = items(said.get("expr", ()))
        return _rule(rule_steps(statements, self._context), map(statement_text, statements), _comment(said))

    def _statement(self, part: str) -> Statement:
        """Return a statement of the table that is not known as a whole. Raises ValueError for text that is none."""
        begin, found, right = part.rpartition(_RIGHT)
        if found:
            if begin not in self._asked:
                self._asked[begin] = self._begun(begin)
            asked = self._asked[begin]
            if asked is not None:
                said = asked.known.get(right)
                if said is None:
                    said = asked.known[right] = self._compared(asked, right)
                else:
                    # it may come again and again
                    self._statements[part] = said
                return said
        said = self._statements[part] = statement(json.loads(f"{_FIRST}{part}}}"), self._context)
        return said

    def _begun(self, begin: str) -> _Asked | None:
        """Return what a comparison asks that ends with its right side, None for what does not."""
        said = json.loads(f"{_FIRST}{begin}{_RIGHT}null}}}}")
        body = said.get("match") if len(said) == 1 else None
        if not isinstance(body, dict):
            return None
        return _Asked(expression(body.get("left"), self._context), body, match_texts(body), {})

    def _compared(self, asked: _Asked, right: str) -> Statement:
        value, end = _DECODER.raw_decode(right)
        if right[end:] != "}":
            raise ValueError("a comparison without an end")
        said = {**asked.said, "right": value}
        text = asked.text(value) if isinstance(value, str | int) else match_text(said)
        return compared_with(asked.left, said, text, self._context)


def _rule(steps: tuple[Step, ...], texts: Iterable[str], comment: str) -> Rule:
    shown = " ".join(texts)
    return Rule(steps, f"{shown}{comment}" if shown else comment.lstrip())


def _comment(said: Mapping[str, object]) -> str:
    """Return how nft writes a rule's comment at its end."""
    told = said.get("comment")
    return f" comment {json.dumps(told, ensure_ascii=False)}" if isinstance(told, str) and told else ""
