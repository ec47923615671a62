"""The bill of materials, made as `make sbom` makes it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from packaging.utils import canonicalize_name

from exporter import __version__
from tests.supply.lock import RUNTIME, closure, pins, runtime
from tests.supply.sbom import make

# made once
pytestmark = pytest.mark.xdist_group("sbom")


@pytest.fixture(scope="module")
def bill() -> dict[str, Any]:
    """Return the document."""
    document: dict[str, Any] = json.loads(make())
    return document


def test_every_package_is_listed(bill: dict[str, Any]) -> None:
    """All that is installed at run time is there in its version, with a licence and the hashes of the lock."""
    locked = pins(RUNTIME)
    components = {canonicalize_name(component["name"]): component for component in bill["components"]}
    assert set(components) == set(closure(runtime()))
    for name, component in components.items():
        assert component["version"] == locked[name].version
        assert component["purl"] == f"pkg:pypi/{name}@{component['version']}"
        assert [each.get("expression") or each["license"] for each in component["licenses"]], name
        hashes = [found["content"] for source in component["externalReferences"] for found in source.get("hashes", ())]
        assert hashes == list(locked[name].hashes) != [], name


def test_it_says_of_what(bill: dict[str, Any]) -> None:
    """It is CycloneDX, of this exporter in this version and under its licence, and names what that needs itself."""
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    subject = bill["metadata"]["component"]
    assert (subject["name"], subject["version"]) == ("docker-icc-exporter", __version__)
    assert subject["licenses"][0]["license"]["id"] == "Apache-2.0"
    needs = {each["ref"]: each.get("dependsOn", []) for each in bill["dependencies"]}
    direct = {canonicalize_name(ref.partition("==")[0]) for ref in needs[subject["bom-ref"]]}
    assert direct == {canonicalize_name(requirement.name) for requirement in runtime()}
