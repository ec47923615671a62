"""Rules of iptables-save as options: where one ends, what is an argument, and what is negated."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from exporter.model.firewall import Opaque, TableFamily

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from exporter.parse.kernel.ipsets import IpSets

_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
_WORD = re.compile(r'"(?:[^"\\]|\\.)*"|[^ ]+')
_ESCAPED = re.compile(r"\\(.)")

# Texts of the user's are quoted only where they have a character beside letters, digits, `_` and `-`
# (xtables_save_string): `--comment -j` is a comment.
_TEXTS = ("--comment", "--log-prefix", "--nflog-prefix", "--ulog-prefix", "--string")
_BEFORE = "".join(f"(?<! {word} )" for word in ("!", *_TEXTS))
_SECTION = re.compile(rf" (?=(?:! )?-[A-Za-z0-9](?: |$)){_BEFORE}(?<!^! )")


@dataclass(frozen=True, slots=True)
class Context:
    """What the meaning of an option depends on. `ipsets` is None where they could not be read."""

    family: TableFamily
    ipsets: IpSets | None = None

    @property
    def version(self) -> int:
        """The version of IP."""
        return 6 if self.family is TableFamily.IP6 else 4


class Option(NamedTuple):
    """An option with its arguments: `! --dport 80`."""

    name: str
    arguments: tuple[str, ...] = ()
    negated: bool = False

    def __str__(self) -> str:
        return " ".join([*(["!"] if self.negated else []), self.name, *self.arguments])

    @property
    def only(self) -> str:
        """Return the argument of an option that takes one. Raises ValueError with none, or several."""
        (argument,) = self.arguments
        return argument


def opaque(option: Option) -> Opaque:
    """Return the match of an option that is not understood."""
    return Opaque(option.name.lstrip("-"), str(option))


def sections(text: str) -> list[str]:
    """Return a rule in parts, each of which begins with one of the options that every rule may have.

    These have one letter; what a module or a target adds has two dashes and follows `-m` or `-j`:
    `-i eth0`, `-m tcp ! --dport 80`, `-j DNAT --to-destination 10.0.0.2`.
    """
    if '"' not in text:
        return _SECTION.split(text)
    quoted = _QUOTED.findall(text)
    # a text in quotes may look like options: it steps aside while the rule is cut
    cut = _SECTION.split(_QUOTED.sub('""', text))
    texts = iter(quoted)
    return [re.sub('""', lambda _: f'"{next(texts)}"', part) for part in cut]


def options(section: str) -> list[Option]:
    """Return the options of a section. Raises ValueError where words stand outside any option.

    `!` stands before the option that it negates; iptables before 1.4.3 wrote it before the argument.
    """
    words = section.split(" ") if '"' not in section else _WORD.findall(section)
    if len(words) == 2 and words[0].startswith("-") and not words[1].startswith(("-", "!", '"')):
        return [Option(words[0], (words[1],))]  # most sections are as simple as `-i eth0`
    return list(_options(words))


def _options(words: Sequence[str]) -> Iterator[Option]:
    name, negated, coming = "", False, False
    arguments: list[str] = []
    for position, word in enumerate(words):
        if word == "!":
            if position + 1 == len(words):
                raise ValueError("nothing follows `!`")
            coming = _is_option(words[position + 1])
            negated ^= not coming
        elif _is_option(word) and (arguments or name not in _TEXTS):
            if name:
                yield Option(name, tuple(arguments), negated)
            name, arguments, negated, coming = word, [], coming, False
        elif name and word:
            arguments.append(_ESCAPED.sub(r"\1", word[1:-1]) if word.startswith('"') else word)
        elif word:
            raise ValueError(f"{word!r} belongs to no option")
    if name:
        yield Option(name, tuple(arguments), negated)


def _is_option(word: str) -> bool:
    return word.startswith("-") and word.lstrip("-")[:1].isalpha()
