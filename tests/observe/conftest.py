"""Engines and observers for the tests."""

from __future__ import annotations

import ssl
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from exporter.observe.client import EngineClient
from exporter.observe.host import EngineHost
from exporter.observe.observer import Observer
from tests.certificates import Authority
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


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder as DOCKER_CERT_PATH wants it; its certificate, one of an old OpenSSL's, serves the server too."""
    folder = tmp_path_factory.mktemp("certs")
    authority = Authority()
    issued = authority.issue("127.0.0.1", identified=False)
    for name, text in (("ca", authority.cert), ("cert", issued.cert), ("key", issued.key)):
        (folder / f"{name}.pem").write_text(text)
    return folder


@pytest.fixture
def tls(certificates: Path) -> ssl.SSLContext:
    """Give a server's TLS that demands the client's certificate, as an engine with --tlsverify does."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "cert.pem", certificates / "key.pem")
    context.load_verify_locations(certificates / "ca.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    return context
