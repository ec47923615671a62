"""Strict YAML: nodes with their lines in place of loaded values, nothing unknown, nothing twice, every mistake told."""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import TYPE_CHECKING, Final, Literal

import yaml
from yaml.composer import ComposerError
from yaml.constructor import SafeConstructor
from yaml.reader import ReaderError

from exporter import plainfile
from exporter.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

_LARGEST = 1 << 20
"""Bytes; more than this was not written by hand."""

_UNFIT = re.compile("[\0\ud800-\udfff]")

_STANDARD = "tag:yaml.org,2002:"
_NOTHING = f"{_STANDARD}null"
_TEXT = f"{_STANDARD}str"
_WHOLE = f"{_STANDARD}int"
_SWITCH = f"{_STANDARD}bool"

Kind = Literal["text", "texts", "words", "secret", "switch", "number", "numbers", "duration"]
"""What may stand somewhere. Messages never quote a secret; `numbers` are ranges, such as 80 and 8000-8080; `words`
are a text that may look like a number."""

_EXPECTED: Final[Mapping[Kind, tuple[str, frozenset[str]]]] = {
    "text": ("a text", frozenset({_TEXT})),
    "texts": ("a text or a list of texts", frozenset({_TEXT})),
    "words": ("a text", frozenset({_TEXT, _WHOLE})),
    "secret": ("a text", frozenset({_TEXT})),
    "switch": ("true or false", frozenset({_SWITCH})),
    "number": ("a whole number", frozenset({_WHOLE})),
    "numbers": ("a text or a list of texts", frozenset({_TEXT, _WHOLE})),
    "duration": ("a duration", frozenset({_TEXT, _WHOLE})),
}
"""Kinds by how messages call them and the tags of YAML that are of this kind."""

_LISTS: Final = ("texts", "numbers")

_KINDS: Final = {
    _WHOLE: "a whole number",
    f"{_STANDARD}float": "a number",
    _SWITCH: "true or false",
    _NOTHING: "nothing",
    f"{_STANDARD}timestamp": "a date",
}

_TAGS: Final = {
    # the last two are those of the keys << and =
    yaml.ScalarNode: frozenset({_TEXT, *_KINDS, f"{_STANDARD}merge", f"{_STANDARD}value"}),
    yaml.SequenceNode: frozenset({f"{_STANDARD}seq"}),
    yaml.MappingNode: frozenset({f"{_STANDARD}map"}),
}
"""What YAML takes a node for, or somebody may have it taken for."""


def read(path: Path, kind: str) -> yaml.Node | None:
    """Return the root of a file, None for an empty one; `kind` says what the file should be.

    Raises ConfigError, with the line where there is one, when the file cannot be read or is not YAML.
    """
    try:
        content = plainfile.read(path, _LARGEST)
        if len(content) > _LARGEST:
            raise ConfigError(f"{path} is larger than 1 MiB: not a {kind}")
        root = yaml.compose(content.decode(), Loader=_Loader)
    except OSError as error:
        raise ConfigError(f"cannot read the {kind} {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        line = 1 + error.object.count(b"\n", 0, error.start)
        raise ConfigError(f"{path}:{line}: not UTF-8 text") from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigError(f"{path}:{line}: {_problem(error)}") from error
    except ReaderError as error:
        line = 1 + content.decode().count("\n", 0, error.position)
        raise ConfigError(f"{path}:{line}: not YAML: {str(error).splitlines()[0]}") from error
    except RecursionError as error:
        raise ConfigError(f"{path} is nested too deeply") from error
    except ValueError as error:
        raise ConfigError(f"cannot read the {kind} {path}: {error}") from error
    return None if root is None or root.tag == _NOTHING else root


def _problem(error: yaml.MarkedYAMLError) -> str:
    """Return what is wrong, as a sentence of its own."""
    problem = str(error.problem)
    return f"{error.context}, {problem}" if problem.startswith("but ") else problem


class _Loader(yaml.SafeLoader):
    """Refuses texts that YAML can spell and the system cannot take, as a path or as bytes, and tags of nobody's."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        node = super().compose_node(parent, index)
        if node is not None and node.tag not in _TAGS[type(node)]:
            tag = node.tag.replace(_STANDARD, "!!")
            raise ComposerError(None, None, f"the tag {tag} means nothing here", node.start_mark)
        return node

    def compose_scalar_node(self, anchor: dict[str, yaml.Node]) -> yaml.ScalarNode:
        node = super().compose_scalar_node(anchor)
        unfit = _UNFIT.search(str(node.value))
        if unfit:
            problem = f"a text may not hold the character U+{ord(unfit[0]):04X}"
            raise ComposerError(None, None, problem, node.start_mark)
        return node


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

    def texts(self, node: yaml.Node, what: str, kind: Kind) -> tuple[str, ...]:
        """Return the text that a node is or, of kinds that may be lists, those of its items. Empty for a mistake."""
        expected, tags = _EXPECTED[kind]
        items = node.value if kind in _LISTS and isinstance(node, yaml.SequenceNode) else [node]
        wrong = next((item for item in items if not isinstance(item, yaml.ScalarNode) or item.tag not in tags), None)
        if wrong:
            found = _KINDS.get(wrong.tag, "something else") if kind == "secret" else kind_of(wrong)
            self.complain(wrong, f"{what} must be {expected}, not {found}")
        elif not items:
            self.complain(node, f"{what} must not be empty")
        return () if wrong else tuple(map(_text, items))

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


def _text(node: yaml.Node) -> str:
    """Return what a node says; YAML has several words for true and false."""
    if node.tag == _SWITCH:
        return str(SafeConstructor.bool_values[node.value.lower()]).lower()
    return str(node.value)
