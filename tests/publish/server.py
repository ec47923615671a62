"""The application behind the real HTTP server, and a client that hides nothing of the answer."""

from __future__ import annotations

import json
import socket
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

import uvicorn

from exporter.evaluate import evaluate
from exporter.observe.files import dumps, load
from exporter.parse import parse
from exporter.publish.exposition import render
from exporter.publish.state import Board, Published
from exporter.publish.web import create_app
from tests.builders import TAKEN_AT, stats

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

PATHS = (
    "/",
    "/metrics",
    "/-/healthy",
    "/-/ready",
    "/api/v1/report",
    "/api/v1/explain?source=web&destination=client",
    "/api/v1/whatif?icc=false",
    "/api/v1/snapshot",
)
"""Everything that is served about the demo's host."""

DEMO_HOST = Path(__file__).parent.parent / "data" / "demo-host.json"


@dataclass(frozen=True)
class Answer:
    """What came back. Names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode()

    @property
    def document(self) -> Any:  # noqa: ANN401 - JSON
        """The body as JSON."""
        return json.loads(self.body)


class Site:
    """A running server over a board that tests publish on; `now` is what its clock shows."""

    def __init__(self, port: int, board: Board) -> None:
        self.port = port
        self.board = board
        self.now = TAKEN_AT.timestamp()

    def get(self, path: str, method: str = "GET", **headers: str) -> Answer:
        """Return the answer to one request; underscores in the names of headers stand for dashes."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            sent = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, headers=sent)
            response = connection.getresponse()
            received = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, received, response.read())
        finally:
            connection.close()


@contextmanager
def serving(telemetry_path: str = "/metrics") -> Iterator[Site]:
    """Serve until the end of the block, from a free port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        site = Site(listener.getsockname()[1], Board(render, Published.not_polled(TAKEN_AT)))
        app = create_app(
            site.board, dumps=dumps, ready_within=45, telemetry_path=telemetry_path, clock=lambda: site.now
        )
        server = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="off"))
        thread = Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield site
        finally:
            server.should_exit = True
            thread.join(10)


def demo(at: datetime = TAKEN_AT) -> Published:
    """Return the state after a good look at a recorded engine."""
    observation = load(DEMO_HOST)
    snapshot = parse(observation)
    start = Published.not_polled(at)
    return start.succeeded(at, observation, snapshot, evaluate(snapshot), stats())
