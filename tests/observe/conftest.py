"""Engines and observers for the tests."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from exporter.observe.client import EngineClient
from exporter.observe.host import EngineHost
from exporter.observe.observer import Observer
from tests.fake_engine import FakeEngine

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def engine() -> Iterator[FakeEngine]:
    """Give an engine that answers as it should; its socket's path is short enough for sun_path."""
    with tempfile.TemporaryDirectory() as folder, FakeEngine(Path(folder) / "engine.sock") as fake:
        yield fake


@pytest.fixture
def observer(engine: FakeEngine) -> Iterator[Observer]:
    """Give an observer of the engine, with a second per look."""
    observer = Observer(EngineClient(EngineHost(engine.url), timeout=1.0))
    yield observer
    observer.close()
