"""Files that set variables for a service: systemd's EnvironmentFile, and those that init scripts source."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from exporter.observe.kernel.trouble import Unreadable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_NAME: Final = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_ASSIGNMENT: Final = re.compile(r"(?:export\s+)?([A-Za-z_]\w*)=(.*)", re.DOTALL | re.ASCII)
_REFERENCE: Final = re.compile(r"\$(?:\{([A-Za-z_]\w*)\}|([A-Za-z_]\w*))", re.ASCII)
_PLAIN: Final = re.compile(
    rf"""(?:"(?P<double>(?:[^"\\`$]|{_REFERENCE.pattern})*)" | '(?P<single>[^']*)'
    | (?P<bare>(?:[\w./:=,@%+-]|{_REFERENCE.pattern})*)) (?:\s+\#.*)?""",
    re.ASCII | re.VERBOSE,
)
"""A value that needs no shell: one pair of quotes or none, and variables at most."""

_COMMAND: Final = re.compile(
    r"(?!(?:\.|source|eval|exec|exit|return|set|unset|read|readonly|if|then|else|elif|fi|for|while|until|do|done|case|"
    r"esac|function)\b)(?!\.\s)[\w./-]+(?:\s+[\w./:=,@%+-]+)*",
    re.ASCII,
)
"""A command that sets nothing, such as `ulimit -n 1048576`."""

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
    """Return what a variable holds after a shell has read a file, None where the file does not mention it.

    Raises Unreadable where that takes a shell, because of anything in the file: conditions, commands that set
    variables, values that are computed.
    """
    if not re.search(rf"\b{name}\b", text, re.ASCII):
        return None
    known: dict[str, str] = {}
    for line in _shell_lines(text):
        match = _ASSIGNMENT.fullmatch(line)
        if match:
            known[match[1]] = _expanded(match[2], known, name)
        elif not _COMMAND.fullmatch(line) or (name in line and line != f"export {name}"):
            raise _beyond(name)
    return known.get(name)


def _shell_lines(text: str) -> Iterator[str]:
    """Yield the lines that say something; one that ends with a backslash goes on, unless there is a comment in it."""
    pending = ""
    for line in text.replace("\r\n", "\n").split("\n"):
        whole, pending = pending + line, ""
        if whole.endswith("\\") and "#" not in whole:
            pending = whole[:-1]
        elif whole.strip() and not whole.lstrip().startswith("#"):
            yield whole.strip()
    if pending.strip():
        # at the very end nothing is left to go on with, and shells take the backslash for itself
        yield pending.strip() + "\\"


def _expanded(value: str, known: Mapping[str, str], name: str) -> str:
    """Return the value of an assignment. Raises Unreadable."""
    match = _PLAIN.fullmatch(value)
    if match is None:
        raise _beyond(name)
    if match["single"] is not None:
        return match["single"]
    text = match["bare"] if match["double"] is None else match["double"]
    if any((one or other) not in known for one, other in _REFERENCE.findall(text)):
        raise _beyond(name)
    return _REFERENCE.sub(lambda reference: known[reference[1] or reference[2]], text)


def _beyond(name: str) -> Unreadable:
    # without the text, which may hold what is nobody's business
    return Unreadable(f"what sets {name} takes a shell to understand")
