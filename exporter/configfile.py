"""The YAML configuration file: nested keys, nothing unknown, nothing twice, every mistake with its line."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

import yaml
from yaml.constructor import SafeConstructor

from exporter.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_LARGEST = 1 << 20
"""Bytes; more than this is not a configuration file."""

Kind = Literal["text", "texts", "secret", "switch", "number", "duration"]
"""What may stand at a key. Messages never quote a secret."""

_NOTHING = "tag:yaml.org,2002:null"
_TEXT = "tag:yaml.org,2002:str"
_INTEGER = "tag:yaml.org,2002:int"
_SWITCH = "tag:yaml.org,2002:bool"

_TAGS: Final = {
    _TEXT: "a text",
    _INTEGER: "a whole number",
    "tag:yaml.org,2002:float": "a number",
    _SWITCH: "true or false",
    _NOTHING: "nothing",
    "tag:yaml.org,2002:timestamp": "a date",
}

_EXPECTED: Final[Mapping[Kind, tuple[str, frozenset[str]]]] = {
    "text": ("a text", frozenset({_TEXT})),
    "texts": ("a text or a list of texts", frozenset({_TEXT})),
    "secret": ("a text", frozenset({_TEXT})),
    "switch": ("true or false", frozenset({_SWITCH})),
    "number": ("a whole number", frozenset({_INTEGER})),
    "duration": ("a duration", frozenset({_TEXT, _INTEGER})),
}
"""Kinds by how messages call them and the tags of YAML that are of this kind."""


class Entry(NamedTuple):
    """The texts at one key, and the line where they begin. A switch is the text true or false."""

    name: str
    texts: tuple[str, ...]
    line: int


def read(path: Path, keys: Mapping[str, Kind], errors: list[str]) -> list[Entry]:
    """Return the entries of a file; `keys` are the dotted names it may hold, with what may stand there.

    A name that ends in `.*` allows every name in its section, such as those of users.

    Each mistake in the content is added to `errors`. Raises ConfigError when the file cannot be read at all.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST + 1)
        if len(content) > _LARGEST:
            raise ConfigError(f"{path} is larger than 1 MiB: not a configuration file")
        root = yaml.compose(content.decode(), Loader=yaml.SafeLoader)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text") from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigError(f"{path}:{line}: {error.problem}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {str(error).splitlines()[0]}") from error
    except RecursionError as error:
        raise ConfigError(f"{path} is nested too deeply") from error
    if root is None or root.tag == _NOTHING:
        return []
    return list(_Reader(path, keys, errors).entries(root, ""))


class _Reader:
    """Walks the nodes of one file; a node knows its line, a loaded value would not."""

    def __init__(self, path: Path, keys: Mapping[str, Kind], errors: list[str]) -> None:
        self._path = path
        self._keys = keys
        self._sections = {name.rpartition(".")[0] for name in keys} - {""}
        self._errors = errors

    def entries(self, node: yaml.Node, section: str) -> Iterator[Entry]:
        """Yield what a mapping holds; `section` is the dotted name of the mapping, empty for the whole file."""
        if not isinstance(node, yaml.MappingNode):
            self._complain(node, f"{section or 'the file'} must be a mapping of keys, not {_kind(node)}")
            return
        seen: set[str] = set()
        for key, value in node.value:
            name = f"{section}.{key.value}" if section else str(key.value)
            if name in seen:
                self._complain(key, f"{name} is there twice")
            elif name in self._sections:
                yield from self.entries(value, name)
            elif kind := self._keys.get(name) or self._keys.get(f"{section}.*"):
                yield from self._entry(name, value, kind)
            else:
                self._complain(key, f"unknown key {name}{self._hint(name)}")
            seen.add(name)

    def _entry(self, name: str, value: yaml.Node, kind: Kind) -> Iterator[Entry]:
        expected, tags = _EXPECTED[kind]
        items = value.value if kind == "texts" and isinstance(value, yaml.SequenceNode) else [value]
        wrong = next((item for item in items if not isinstance(item, yaml.ScalarNode) or item.tag not in tags), None)
        if wrong:
            found = _TAGS.get(wrong.tag, "something else") if kind == "secret" else _kind(wrong)
            self._complain(wrong, f"{name} must be {expected}, not {found}")
        elif not items:
            self._complain(value, f"{name} must not be empty")
        else:
            yield Entry(name, tuple(_text(item) for item in items), value.start_mark.line + 1)

    def _hint(self, name: str) -> str:
        section = name.rpartition(".")[0]
        neighbours = [each for each in (*self._keys, *self._sections) if each.rpartition(".")[0] == section]
        close = get_close_matches(name, neighbours, n=1)
        return f" (did you mean {close[0]}?)" if close else ""

    def _complain(self, node: yaml.Node, problem: str) -> None:
        self._errors.append(f"{self._path}:{node.start_mark.line + 1}: {problem}")


def _text(node: yaml.Node) -> str:
    """Return what a node says; YAML has several words for true and false."""
    if node.tag == _SWITCH:
        return str(SafeConstructor.bool_values[node.value.lower()]).lower()
    return str(node.value)


def _kind(node: yaml.Node) -> str:
    if isinstance(node, yaml.MappingNode):
        return "a mapping"
    if isinstance(node, yaml.SequenceNode):
        return "a list"
    return f"{_TAGS.get(node.tag, 'a text')} ({node.value})" if node.value else "nothing"
