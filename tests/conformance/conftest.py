"""What modules share that change one host over and over."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.conformance.changes import ANNOUNCED
from tests.conformance.runner import Built, built

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def host(request: pytest.FixtureRequest) -> Iterator[Built]:
    """Give the newest engine with the topology of the module, once nobody's address is announced any more."""
    with built(request.module.TOPOLOGY) as made:
        time.sleep(ANNOUNCED)
        yield made
