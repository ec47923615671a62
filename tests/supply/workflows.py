"""The workflows of .github, read strictly."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import yaml

from tests.supply.lock import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER: Final = ROOT / ".github" / "workflows"
FILES: Final = sorted(path.name for path in FOLDER.iterdir())

_MAKE: Final = re.compile(r"(?:^|&& )make ([a-z][a-z ]*)", re.MULTILINE)
_TARGET: Final = re.compile(r"^([a-z]+):", re.MULTILINE)


class _Strict(yaml.SafeLoader):
    """YAML where a key is there once, and `on` is a word, as it is in a workflow."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        if len(set(keys)) != len(keys):
            raise yaml.constructor.ConstructorError(None, None, f"a key stands there twice: {keys}", node.start_mark)
        return super().construct_mapping(node, deep)


_Strict.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool" or first in "tTfF"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


@dataclass(frozen=True, slots=True)
class Workflow:
    """One file: its text and what it says."""

    text: str
    document: dict[str, Any]

    @property
    def jobs(self) -> dict[str, dict[str, Any]]:
        """The jobs by name."""
        found: dict[str, dict[str, Any]] = self.document["jobs"]
        return found

    def steps(self) -> Iterator[dict[str, Any]]:
        """Yield the steps of all jobs."""
        for job in self.jobs.values():
            yield from job.get("steps", ())

    def scripts(self) -> list[str]:
        """Return what is run by the shell."""
        return [step["run"] for step in self.steps() if "run" in step]


def parsed(text: str) -> Workflow:
    """Return what a workflow says. Raises yaml.YAMLError."""
    return Workflow(text, yaml.load(text, _Strict))


def workflow(name: str) -> Workflow:
    """Return one of .github/workflows."""
    return parsed((FOLDER / name).read_text())


def asked_of_make(script: str) -> set[str]:
    """Return the targets that a script makes."""
    return {target for words in _MAKE.findall(script) for target in words.split()}


def targets() -> set[str]:
    """Return the targets that the Makefile has."""
    return set(_TARGET.findall((ROOT / "Makefile").read_text()))
