"""The requirements files that `make lock` writes, and what they lock."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if TYPE_CHECKING:
    from collections.abc import Iterable

ROOT: Final = Path(__file__).parents[2]
RUNTIME: Final = ROOT / "requirements.txt"
BUILD: Final = ROOT / "requirements-build.txt"
SBOM: Final = ROOT / "requirements-sbom.txt"
DEVELOPMENT: Final = ROOT / "requirements-dev.txt"

_HASH: Final = re.compile(r"--hash=sha256:([0-9a-f]{64})(?:\s|$)")


@dataclass(frozen=True, slots=True)
class Pin:
    """A package in one version; the hashes are of its files, for every platform one or more."""

    version: str
    hashes: tuple[str, ...]


def pins(file: Path) -> dict[str, Pin]:
    """Return the pins of a requirements file by canonical name. Raises ValueError for anything that is no pin."""
    found: dict[str, Pin] = {}
    for line in file.read_text().replace("\\\n", " ").splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        requirement = Requirement(line.partition(" --hash")[0])
        versions = [clause.version for clause in requirement.specifier if clause.operator == "=="]
        name = canonicalize_name(requirement.name)
        if len(versions) != 1 or len(requirement.specifier) != 1 or requirement.marker or name in found:
            raise ValueError(f"{file.name}: not one version for everybody: {line}")
        found[name] = Pin(versions[0], tuple(_HASH.findall(line)))
    return found


def project() -> dict[str, Any]:
    """Return pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def runtime() -> list[Requirement]:
    """Return what pyproject.toml asks for at run time."""
    return [Requirement(text) for text in project()["project"]["dependencies"]]


def closure(requirements: Iterable[Requirement]) -> dict[str, list[Requirement]]:
    """Return all that has to be installed for these, by canonical name, with who asks what of it.

    As the packages that are installed here declare it. Raises PackageNotFoundError.
    """
    asked: dict[str, list[Requirement]] = {}
    waiting = [(requirement, "") for requirement in requirements]
    while waiting:
        requirement, extra = waiting.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        asked.setdefault(name, []).append(requirement)
        if len(asked[name]) > 1 and not requirement.extras:
            continue
        texts = distribution(requirement.name).requires or []
        waiting += [(Requirement(text), wanted) for text in texts for wanted in requirement.extras or ("",)]
    return asked
