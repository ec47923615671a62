"""Strict YAML: nodes with their lines in place of loaded values, nothing unknown, nothing twice, every mistake told."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Final

import yaml

from exporter.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

_LARGEST = 1 << 20
"""Bytes; more than this was not written by hand."""

_NOTHING = "tag:yaml.org,2002:null"
_TEXT = "tag:yaml.org,2002:str"
_WHOLE = "tag:yaml.org,2002:int"

_KINDS: Final = {
    _WHOLE: "a whole number",
    "tag:yaml.org,2002:float": "a number",
    "tag:yaml.org,2002:bool": "true or false",
    _NOTHING: "nothing",
    "tag:yaml.org,2002:timestamp": "a date",
}


def read(path: Path, kind: str) -> yaml.Node | None:
    """Return the root of a file, None for an empty one; `kind` says what the file should be.

    Raises ConfigError, with the line where there is one, when the file cannot be read or is not YAML.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST + 1)
        if len(content) > _LARGEST:
            raise ConfigError(f"{path} is larger than 1 MiB: not a {kind}")
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
    except ValueError as error:
        raise ConfigError(f"cannot read {path}: {error}") from error
    return None if root is None or root.tag == _NOTHING else root


class Reader:
    """Walks the nodes of one file; each mistake becomes a line of `errors`."""

    def __init__(self, path: Path, errors: list[str]) -> None:
        self._path = path
        self._errors = errors

    def members(self, node: yaml.Node, what: str) -> Iterator[tuple[yaml.Node, str, yaml.Node]]:
        """Yield the keys of a mapping, as nodes and as texts, and their values; `what` names the mapping."""
        if not isinstance(node, yaml.MappingNode):
            self.complain(node, f"{what} must be a mapping of keys, not {kind_of(node)}")
            return
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                yield key, str(key.value), value
            else:
                self.complain(key, f"a key of {what} must be a text, not {kind_of(key)}")

    def texts(self, node: yaml.Node, what: str, *, several: bool, numbers: bool = False) -> tuple[str, ...]:
        """Return the text that a node is or, with `several`, those of a list; with `numbers`, whole ones do as well.

        Empty where that was a mistake.
        """
        items = node.value if several and isinstance(node, yaml.SequenceNode) else [node]
        wrong = next((item for item in items if not _is_text(item, numbers=numbers)), None)
        if wrong:
            expected = "a text or a list of texts" if several else "a text"
            self.complain(wrong, f"{what} must be {expected}, not {kind_of(wrong)}")
        elif not items:
            self.complain(node, f"{what} must not be empty")
        return () if wrong else tuple(item.value for item in items)

    def complain(self, node: yaml.Node, problem: str) -> None:
        """Note a mistake at a node."""
        self._errors.append(f"{self._path}:{line_of(node)}: {problem}")


def line_of(node: yaml.Node) -> int:
    """Return the line where a node begins, counted from 1."""
    return int(node.start_mark.line) + 1


def kind_of(node: yaml.Node) -> str:
    """Return what a node is, for people."""
    if isinstance(node, yaml.MappingNode):
        return "a mapping"
    if isinstance(node, yaml.SequenceNode):
        return "a list"
    return f"{_KINDS.get(node.tag, 'a text')} ({node.value})" if node.value else "nothing"


def hint(name: str, known: Iterable[str]) -> str:
    """Return a question for the known name that somebody may have meant, empty where none is near."""
    close = get_close_matches(name, list(known), n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def _is_text(node: yaml.Node, *, numbers: bool) -> bool:
    return isinstance(node, yaml.ScalarNode) and (node.tag == _TEXT or (numbers and node.tag == _WHOLE))
