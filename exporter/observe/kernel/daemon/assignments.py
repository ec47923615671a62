"""Files that set variables for a service: systemd's EnvironmentFile, and those that init scripts source."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, Final

from exporter.observe.kernel.trouble import Unreadable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_NAME: Final = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_ASSIGNMENT: Final = re.compile(r"(?:export\s+)?([A-Za-z_]\w*)=(.*)", re.DOTALL | re.ASCII)
_CONTINUED: Final = re.compile(r"\\\r?\n")
_REFERENCE: Final = re.compile(r"\$(?:\{(\w+)\}|(\w+))", re.ASCII)
_COMPUTED: Final = re.compile(r"`|\$\(|\$\{\w*[^\w}]|\\\$|'[^']*\$", re.ASCII)
"""Commands, conditional values, and dollars that a shell would leave alone."""

_ESCAPABLE: Final = '"\\`$'


def environment_file(text: str) -> dict[str, str]:
    """Return what systemd reads from an EnvironmentFile (basic/env-file.c): nothing is expanded.

    Quotes count where a value or a part of it begins; what is no assignment is passed over.
    """
    found = {}
    position = 0
    while position < len(text):
        end = text.find("\n", position)
        line = text[position : len(text) if end < 0 else end]
        name, equals, _ = line.partition("=")
        if line.lstrip().startswith(("#", ";")) or not equals:
            position += len(line) + 1
            continue
        value, position = _value(text, position + len(name) + 1)
        if _NAME.fullmatch(name.strip()):
            found[name.strip()] = value
    return found


def _value(text: str, position: int) -> tuple[str, int]:
    """Return the value that begins at a position, and where the next line begins."""
    parts: list[str] = []
    plain, quote = False, ""
    while position < len(text):
        character = text[position]
        position += 1
        if character == "\\" and quote != "'":
            following = text[position : position + 1]
            position += 1
            kept = "" if following == "\n" else following
            parts.append(kept if not quote or following in (*_ESCAPABLE, "\n") else "\\" + following)
            plain = plain or not quote
        elif quote:
            if character == quote:
                quote = ""
            else:
                parts.append(character)
        elif character == "\n":
            break
        elif character in "\"'" and not plain:
            quote = character
        elif plain or not character.isspace():
            parts.append(character)
            plain = True
    value = "".join(parts)
    return value.rstrip() if plain else value, position


def shell_variable(text: str, name: str) -> str | None:
    """Return what a variable holds after a shell has read a file, None where it is not set.

    Raises Unreadable where that takes a shell: commands, conditions and the like.
    """
    known: dict[str, str] = {}
    for line in _shell_lines(text):
        match = _ASSIGNMENT.fullmatch(line)
        if match and match[1] == name:
            known[name] = _expanded(match[2], known, name)
        elif match:
            try:
                known[match[1]] = _expanded(match[2], known, match[1])
            except Unreadable:
                known.pop(match[1], None)
        elif re.search(rf"\b{name}\b", line, re.ASCII) and line != f"export {name}":
            raise _beyond(name)
    return known.get(name)


def _shell_lines(text: str) -> Iterator[str]:
    for line in _CONTINUED.sub("", text).splitlines():
        stripped = line.strip()
        if stripped and not stripped.startswith("#"):
            yield stripped


def _expanded(value: str, known: Mapping[str, str], name: str) -> str:
    """Return the value of an assignment. Raises Unreadable."""
    if _COMPUTED.search(value):
        raise _beyond(name)
    try:
        words = shlex.split(value, comments=True)
    except ValueError as error:
        raise Unreadable(f"what sets {name} has an open quote") from error
    if len(words) > 1 or value[:1].isspace():
        # `A=b c` runs the command c
        raise _beyond(name)
    return _REFERENCE.sub(lambda match: known.get(match[1] or match[2], ""), words[0]) if words else ""


def _beyond(name: str) -> Unreadable:
    # without the text, which may hold what is nobody's business
    return Unreadable(f"what sets {name} takes a shell to understand")
