"""The stream of events."""

from __future__ import annotations

import json
import threading
import time
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import pytest

from exporter.errors import EngineRefused, EngineTimeout, EngineUnreachable, ObservationError
from exporter.observe import events as events_module
from exporter.observe.client import EngineClient
from exporter.observe.events import Event, EventStream
from exporter.observe.host import EngineHost
from tests.fake_engine import hangs, response, says

if TYPE_CHECKING:
    from tests.fake_engine import FakeEngine

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.fixture
def stream(engine: FakeEngine) -> EventStream:
    """Give the engine's events."""
    return EventStream(EngineClient(EngineHost(engine.url), 1.0))


def test_events_arrive_as_they_happen(engine: FakeEngine, stream: EventStream) -> None:
    """An event is given when it was sent, not when a buffer is full, and the iterator ends with the stream."""
    with stream.open() as events:
        engine.emit("container", "start")
        assert next(events) == Event("container", "start")
        engine.emit("network", "connect")
        assert next(events) == Event("network", "connect")
        engine.events.put(None)
        assert list(events) == []


def test_what_changes_no_verdict_is_left_out(engine: FakeEngine, stream: EventStream) -> None:
    """Health checks, exec sessions, images and unknown or odd entries do not become events."""
    with stream.open() as events:
        for kind, action in (
            ("container", "exec_start: sh"),
            ("container", "health_status: healthy"),
            ("container", "top"),
            ("image", "pull"),
            ("volume", "create"),
            ("future", "start"),
        ):
            engine.emit(kind, action)
        engine.events.put(b'\n{}\n{"Type": 1, "Action": []}\n')
        engine.emit("daemon", "reload")
        assert next(events) == Event("daemon", "reload")
        engine.events.put(None)


def test_the_engine_is_asked_to_send_only_what_matters(engine: FakeEngine, stream: EventStream) -> None:
    """The filter names types and actions, so a busy engine's health checks cost neither side anything."""
    with stream.open():
        engine.events.put(None)
    ((_, path),) = [request for request in engine.requests if "/events" in request[1]]
    filters = json.loads(parse_qs(urlsplit(path).query)["filters"][0])
    assert set(filters["type"]) == {"container", "network", "daemon"}
    assert {"start", "die", "connect", "disconnect", "rename", "reload"} <= set(filters["event"])


def test_an_engine_that_does_not_know_the_filter_is_asked_without(engine: FakeEngine, stream: EventStream) -> None:
    """A refused filter is left out the next time, and asked for again where that is refused, too."""
    normal = engine.answers["/events"]
    for _ in range(2):
        engine.answers["/events"] = lambda connection: connection.sendall(response({}, "500 Bad filter"))
        with pytest.raises(EngineRefused), stream.open():
            pass
        assert "filters" in engine.requests[-1][1]
        with pytest.raises(EngineRefused), stream.open():
            pass
        assert "filters" not in engine.requests[-1][1]
    with pytest.raises(EngineRefused), stream.open():
        pass
    engine.answers["/events"] = normal
    with stream.open():
        engine.events.put(None)
    assert "filters" not in engine.requests[-1][1]


def test_pieces_need_not_be_lines(engine: FakeEngine, stream: EventStream) -> None:
    """Events that come in halves, or several at a time, are put together."""
    with stream.open() as events:
        for piece in (b'{"Type":"container",', b'"Action":"die"}\n{"Type":"network","Action":', b'"destroy"}\n'):
            engine.events.put(piece)
        assert [next(events), next(events)] == [Event("container", "die"), Event("network", "destroy")]
        engine.events.put(None)


@pytest.mark.parametrize("piece", [b"nonsense\n", b"[1]\n", b"\xff\n", b"x" * (2 << 20)], ids=range(4))
def test_garbage_ends_the_stream(engine: FakeEngine, stream: EventStream, piece: bytes) -> None:
    """What is no event, or a line without end, raises; the reader then connects anew."""
    with stream.open() as events:
        engine.events.put(piece)
        engine.events.put(None)
        with pytest.raises(ObservationError, match="GET /events"):
            next(events)


def test_a_stream_that_breaks_raises(engine: FakeEngine, stream: EventStream) -> None:
    """An engine that dies in the middle is told apart from one that ends the stream."""
    engine.answers["/events"] = says(HEAD + b"100\r\n{")
    with pytest.raises(EngineUnreachable), stream.open() as events:
        list(events)


def test_silence_ends_the_stream_in_the_end(stream: EventStream, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that broke without a word is given up after the longest silence."""
    monkeypatch.setattr(events_module, "SILENCE", 0.2)
    with pytest.raises(EngineTimeout), stream.open() as events:
        next(events)


@pytest.mark.parametrize("when", ["before the answer", "in the stream"])
def test_interrupt_ends_a_quiet_stream(engine: FakeEngine, stream: EventStream, when: str) -> None:
    """A reader that waits for an event, or for the engine to answer at all, can be ended from outside at once."""
    if when == "before the answer":
        engine.answers["/events"] = hangs

    def read() -> None:
        try:
            with stream.open() as events:
                list(events)
        except EngineUnreachable:
            pass

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    while "/events" not in engine.paths:
        time.sleep(0.01)
    time.sleep(0.05)
    stream.interrupt()
    reader.join(1.0)
    assert not reader.is_alive()
    engine.events.put(None)
