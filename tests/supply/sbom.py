"""The bill of materials: what is installed with the exporter, as CycloneDX has it.

Licences and who needs whom are known of packages that are installed, hashes by the lock alone, and the tool reads one
of the two. So it looks at an environment with just what is locked; the hashes are added here, as the tool writes them.
"""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

from packaging.utils import canonicalize_name

from exporter import __version__
from tests.lab.system import run
from tests.supply.lock import ROOT, RUNTIME, SBOM, pins
from tests.supply.venv import fresh

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.supply.lock import Pin

FILE: Final = ROOT / "dist" / "sbom.cdx.json"

_VALIDATE: Final = """
import sys
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
sys.exit(JsonStrictValidator(SchemaVersion.V1_6).validate_str(sys.stdin.read()) and "the document breaks its schema")
"""


def make() -> str:
    """Return the bill of materials, the same text for the same lock. Raises LabError where it breaks the schema."""
    with TemporaryDirectory() as folder:
        tool, runtime = fresh(Path(folder, "tool"), SBOM), fresh(Path(folder, "runtime"), RUNTIME)
        options = ("--mc-type=application", "--output-reproducible", "--output-format=JSON", "--spec-version=1.6")
        command = [str(tool / "cyclonedx-py"), "environment", f"--pyproject={ROOT / 'pyproject.toml'}", *options]
        document = json.loads(run([*command, str(runtime / "python")], timeout=60))
        text = json.dumps(completed(document, pins(RUNTIME)), indent=1) + "\n"
        run([str(tool / "python"), "-c", _VALIDATE], stdin=text.encode())
    return text


def completed(document: dict[str, Any], locked: Mapping[str, Pin]) -> dict[str, Any]:
    """Add our version, and where each component comes from with the hashes of its files."""
    document["metadata"]["component"]["version"] = __version__
    for component in document["components"]:
        name = canonicalize_name(component["name"])
        hashes = [{"alg": "SHA-256", "content": content} for content in locked[name].hashes]
        source = {"type": "distribution", "url": f"https://pypi.org/simple/{name}/", "hashes": hashes}
        component["externalReferences"] = [*component.get("externalReferences", []), source]
    return document
