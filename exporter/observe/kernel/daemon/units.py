"""systemd's units as they lie on disk: what a service's command line will be once systemd has read them anew.

The rules are those of systemd.unit(5), systemd.service(5) and systemd.exec(5): folders by priority, drop-ins, an empty
assignment that forgets what came before, quotes and escapes, variables.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final

from exporter.observe.kernel.daemon.assignments import environment_file
from exporter.observe.kernel.trouble import Unreadable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from exporter.observe.kernel.daemon.root import Root

_FOLDERS: Final = (
    "/etc/systemd/system.control", "/run/systemd/system.control", "/run/systemd/transient",
    "/run/systemd/generator.early", "/etc/systemd/system", "/etc/systemd/system.attached", "/run/systemd/system",
    "/run/systemd/system.attached", "/run/systemd/generator", "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system", "/lib/systemd/system", "/run/systemd/generator.late",
)  # fmt: skip
"""Where system units lie, the most important first."""

_PREFIXES: Final = "@-:+!|"
"""What may stand before a command's program."""

_ESCAPES: Final = {
    "a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "s": " ",
    "\\": "\\", '"': '"', "'": "'",
}  # fmt: skip
_REFERENCE: Final = re.compile(r"\$\$|\$\{([A-Za-z_]\w*)\}", re.ASCII)
_ALONE: Final = re.compile(r"\$([A-Za-z_]\w*)", re.ASCII)
_NUMBERED: Final = re.compile(r"x([0-9A-Fa-f]{2})|([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Word:
    """A word of a command line, and which file or variable it came from."""

    text: str
    origin: str


@dataclass(slots=True)
class Service:
    """What a unit says of its service. `troubles` are reasons why it would not start at all."""

    commands: list[Word] = field(default_factory=list)
    environment: dict[str, Word] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)


def command_line(root: Root, unit: str) -> tuple[list[Word], list[str]]:
    """Return the words of a service's ExecStart, program first, and why it would not start.

    No words where there is no such unit on disk, or where it has not exactly one command. Raises Unreadable.
    """
    service = Service()
    for path, text in _documents(root, unit):
        _read(service, path, text)
    if len(service.commands) != 1:
        return [], []
    variables = dict(service.environment)
    for name in service.files:
        variables |= _environment(root, name, service.troubles)
    return list(_words(service.commands[0], variables)), service.troubles


def _documents(root: Root, unit: str) -> Iterator[tuple[str, str]]:
    """Yield the unit's file and its drop-ins, in the order in which they count."""
    for folder in _FOLDERS:
        text = root.read(f"{folder}/{unit}")
        if text is not None:
            yield f"{folder}/{unit}", text
            break
    drop_ins: dict[str, str] = {}
    for extended in (f"{unit}.d", f"{unit.rpartition('.')[2]}.d"):
        for folder in _FOLDERS:
            for name in root.names(f"{folder}/{extended}"):
                if name.endswith(".conf"):
                    drop_ins.setdefault(name, f"{folder}/{extended}/{name}")
    for _, path in sorted(drop_ins.items()):
        yield path, root.read(path) or ""


def _read(service: Service, path: str, text: str) -> None:
    for key, value in _entries(text):
        if key == "ExecStart":
            service.commands = [*service.commands, Word(value, path)] if value else []
        elif key == "Environment":
            for assignment in _split(value) if value else ():
                name, _, content = assignment.partition("=")
                service.environment[name] = Word(content, f"{name} in {path}")
            if not value:
                service.environment.clear()
        elif key == "EnvironmentFile":
            service.files = [*service.files, value] if value else []


def _entries(text: str) -> Iterator[tuple[str, str]]:
    """Yield keys and values of the section [Service]."""
    section, pending = "", ""
    for line in text.splitlines():
        stripped = line.strip()
        if stripped.startswith(("#", ";")) or (not stripped and not pending):
            continue
        if stripped.endswith("\\"):
            pending += stripped[:-1] + " "
            continue
        whole, pending = (pending + stripped).strip(), ""
        if whole.startswith("["):
            section = whole
        elif section == "[Service]" and "=" in whole:
            key, _, value = whole.partition("=")
            yield key.strip(), value.strip()


def _environment(root: Root, name: str, troubles: list[str]) -> Mapping[str, Word]:
    optional, path = name.startswith("-"), name.removeprefix("-").strip("\"'")
    paths = _matching(root, path)
    found: dict[str, Word] = {}
    for each in paths:
        text = root.read(each)
        if text is None:
            if not optional:
                troubles.append(f"{each}: there is no such file, and the service needs it (EnvironmentFile=)")
            continue
        found |= {key: Word(value, f"{key} in {each}") for key, value in environment_file(text).items()}
    return found


def _matching(root: Root, path: str) -> list[str]:
    """Return the paths that a pattern's last part stands for; the path itself where it is no pattern."""
    folder, _, last = path.rpartition("/")
    if not re.search(r"[*?\[]", path):
        return [path]
    if re.search(r"[*?\[]", folder):
        raise Unreadable(f"{path}: which files that stands for is not looked up")
    return [f"{folder}/{name}" for name in root.names(folder) if fnmatchcase(name, last)]


def _words(command: Word, variables: Mapping[str, Word]) -> Iterator[Word]:
    """Yield the words of a command, variables put in; the program is taken as it stands."""
    prefixes = command.text[: len(command.text) - len(command.text.lstrip(_PREFIXES))]
    program, *rest = _split(command.text[len(prefixes) :]) or [""]
    yield Word(program, command.origin)
    if "@" in prefixes:
        rest = rest[1:]
    for word in rest:
        alone = _ALONE.fullmatch(word)
        if ":" in prefixes:
            yield Word(word, command.origin)
        elif alone:
            value = variables.get(alone[1])
            yield from (Word(part, value.origin) for part in _split(value.text, strict=False)) if value else ()
        else:
            yield _substituted(word, command.origin, variables)


def _substituted(word: str, origin: str, variables: Mapping[str, Word]) -> Word:
    used = [variables[name] for name in _REFERENCE.findall(word) if name in variables]
    nothing = Word("", origin)
    text = _REFERENCE.sub(
        lambda match: "$" if match[1] is None else variables.get(match[1], nothing).text, word.replace("%%", "%")
    )
    return Word(text, used[-1].origin if used else origin)


def _split(text: str, *, strict: bool = True) -> list[str]:
    """Return the words of a text; quotes hold them together, backslashes are C's.

    Raises Unreadable where a quote is not closed; if not `strict`, the text's end closes it.
    """
    words: list[str] = []
    current: list[str] = []
    quote, begun, position = "", False, 0
    while position < len(text):
        character = text[position]
        position += 1
        if character == "\\":
            piece, position = _escape(text, position)
            current.append(piece)
            begun = True
        elif quote:
            if character == quote:
                quote = ""
            else:
                current.append(character)
        elif character in "\"'":
            quote, begun = character, True
        elif character.isspace():
            if begun:
                words.append("".join(current))
            current, begun = [], False
        else:
            current.append(character)
            begun = True
    if quote and strict:
        raise Unreadable("a quote in the service's command line is not closed")
    return [*words, "".join(current)] if begun else words


def _escape(text: str, position: int) -> tuple[str, int]:
    """Return what a backslash and what follows it stand for, and where the rest begins."""
    numbered = _NUMBERED.match(text, position)
    if numbered:
        return chr(int(numbered[1], 16) if numbered[1] else int(numbered[2], 8) & 0xFF), numbered.end()
    letter = text[position : position + 1]
    return _ESCAPES.get(letter, "\\" + letter), position + 1
