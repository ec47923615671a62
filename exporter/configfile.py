"""The YAML configuration file: nested keys, nothing unknown, nothing twice, every mistake with its line."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import yaml

from exporter import yamlfile

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from exporter.yamlfile import Kind


class Entry(NamedTuple):
    """The texts at one key, and the line where they begin. A switch is the text true or false."""

    name: str
    texts: tuple[str, ...]
    line: int


def read(path: Path, kind: str, keys: Mapping[str, Kind], errors: list[str]) -> list[Entry]:
    """Return the entries of a file; `keys` are the dotted names it may hold, with what may stand there.

    `kind` is what the file should be. A name that ends in `.*` allows every name in its section, such as those of
    users.

    Each mistake in the content is added to `errors`. Raises ConfigError when the file cannot be read at all.
    """
    root = yamlfile.read(path, kind)
    return [] if root is None else list(_Settings(path, keys, errors).entries(root, ""))


class _Settings:
    """Walks the nodes of one file."""

    def __init__(self, path: Path, keys: Mapping[str, Kind], errors: list[str]) -> None:
        self._reader = yamlfile.Reader(path, errors)
        self._keys = keys
        self._sections = {name.rpartition(".")[0] for name in keys} - {""}

    def entries(self, node: yaml.Node, section: str) -> Iterator[Entry]:
        """Yield what a mapping holds; `section` is the dotted name of the mapping, empty for the whole file."""
        if section and isinstance(node, yaml.MappingNode) and not node.value:
            # who wrote it wanted something of it, such as TLS
            self._reader.complain(node, f"{section} must not be empty")
        seen: set[str] = set()
        for key, text, value in self._reader.members(node, section or "the file"):
            name = f"{section}.{text}" if section else text
            if name in seen:
                self._reader.complain(key, f"{name} is there twice")
            elif name in self._sections:
                yield from self.entries(value, name)
            elif kind := self._keys.get(name) or self._keys.get(f"{section}.*"):
                texts = self._reader.texts(value, name, kind)
                if texts:
                    yield Entry(name, texts, yamlfile.line_of(value))
            else:
                self._reader.complain(key, f"unknown key {name}{yamlfile.hint(name, self._neighbours(section))}")
            seen.add(name)

    def _neighbours(self, section: str) -> Iterator[str]:
        yield from (each for each in (*self._keys, *self._sections) if each.rpartition(".")[0] == section)
