"""The YAML configuration file: nested keys, nothing unknown, nothing twice, every mistake with its line."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Final, NamedTuple

import yaml

from exporter.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from pathlib import Path

_LARGEST = 1 << 20
"""Bytes; more than this is not a configuration file."""

_TEXT, _NUMBER = "tag:yaml.org,2002:str", "tag:yaml.org,2002:int"
_NOTHING = "tag:yaml.org,2002:null"

_KINDS: Final = {
    _NUMBER: "a whole number",
    "tag:yaml.org,2002:float": "a number",
    "tag:yaml.org,2002:bool": "true or false",
    _NOTHING: "nothing",
    "tag:yaml.org,2002:timestamp": "a date",
}


class Entry(NamedTuple):
    """The texts at one key, and the line where they begin."""

    name: str
    texts: tuple[str, ...]
    line: int


def read(path: Path, keys: Mapping[str, bool], numbers: Collection[str], errors: list[str]) -> list[Entry]:
    """Return the entries of a file; `keys` are the dotted names it may hold, with whether a list is allowed.

    Those that are among `numbers` may be whole numbers, which YAML tells from texts. Each mistake in the content is
    added to `errors`. Raises ConfigError when the file cannot be read at all.
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
    return list(_Reader(path, keys, numbers, errors).entries(root, ""))


class _Reader:
    """Walks the nodes of one file; a node knows its line, a loaded value would not."""

    def __init__(self, path: Path, keys: Mapping[str, bool], numbers: Collection[str], errors: list[str]) -> None:
        self._path = path
        self._keys = keys
        self._numbers = numbers
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
            elif name in self._keys:
                yield from self._entry(name, value)
            else:
                self._complain(key, f"unknown key {name}{self._hint(name)}")
            seen.add(name)

    def _entry(self, name: str, value: yaml.Node) -> Iterator[Entry]:
        several = self._keys[name]
        items = value.value if several and isinstance(value, yaml.SequenceNode) else [value]
        number = name in self._numbers
        wrong = next((item for item in items if not (_is(item, _TEXT) or (number and _is(item, _NUMBER)))), None)
        if wrong:
            expected = "a whole number" if number else "a text or a list of texts" if several else "a text"
            self._complain(wrong, f"{name} must be {expected}, not {_kind(wrong)}")
        elif not items:
            self._complain(value, f"{name} must not be empty")
        else:
            yield Entry(name, tuple(item.value for item in items), value.start_mark.line + 1)

    def _hint(self, name: str) -> str:
        close = get_close_matches(name, [*self._keys, *self._sections], n=1)
        return f" (did you mean {close[0]}?)" if close else ""

    def _complain(self, node: yaml.Node, problem: str) -> None:
        self._errors.append(f"{self._path}:{node.start_mark.line + 1}: {problem}")


def _is(node: yaml.Node, tag: str) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.tag == tag


def _kind(node: yaml.Node) -> str:
    if isinstance(node, yaml.MappingNode):
        return "a mapping"
    if isinstance(node, yaml.SequenceNode):
        return "a list"
    return f"{_KINDS.get(node.tag, 'a text')} ({node.value})" if node.value else "nothing"
