"""Pages that programs on an engine's host serve."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from tests.lab import Engine

_FETCH: Final = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=5).read().decode())"


def page(made: Engine, url: str) -> str:
    """Return what is at an address, seen from the host. Raises LabError where nothing answers."""
    return made.on_host(sys.executable, "-c", _FETCH, url)


def prometheus(made: Engine, path: str) -> Any:  # noqa: ANN401 - whatever Prometheus has
    """Return the data of an answer of Prometheus. Raises LabError where it does not answer."""
    return json.loads(page(made, f"http://127.0.0.1:9090/api/v1/{path}"))["data"]
