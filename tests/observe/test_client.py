"""The client against engines that behave and engines that do not."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from exporter.errors import EngineRefused, EngineTimeout, EngineUnreachable, ForbiddenRequest, ObservationError
from exporter.observe import client as client_module
from exporter.observe.client import NEWEST_TESTED, EngineClient, ReadOnlySession, spoken_version
from exporter.observe.host import EngineHost
from exporter.observe.transport import OpenSockets
from tests.fake_engine import dribbles, hangs, response, says
from tests.lab.system import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.fake_engine import Behaviour, FakeEngine


@pytest.fixture
def client(engine: FakeEngine) -> Iterator[EngineClient]:
    """Give a client of the engine, with half a second per deadline."""
    client = EngineClient(EngineHost(engine.url), timeout=0.5)
    yield client
    client.close()


def test_nothing_is_asked_before_the_first_document(engine: FakeEngine) -> None:
    """A client connects when it is asked, not when it is made, so an engine that is down stops nobody."""
    EngineClient(EngineHost(engine.url), timeout=1.0)
    assert engine.requests == []


@pytest.mark.parametrize(
    ("newest", "oldest", "spoken"),
    [
        ("1.41", "1.12", "1.41"),
        ("1.45", "1.24", "1.45"),
        ("1.51", "1.24", "1.51"),
        ("1.56", "1.40", "1.56"),
        ("1.99", "1.44", "1.56"),
        ("2.10", "1.60", "1.60"),
        ("1.40", None, "1.40"),
        ("1.9", "", "1.9"),
    ],
)
def test_the_newest_version_that_both_know_is_spoken(newest: str, oldest: str | None, spoken: str) -> None:
    """The engine's newest API is used up to the newest that was tested, or the engine's oldest where that is newer."""
    assert spoken_version({"ApiVersion": newest, "MinAPIVersion": oldest}) == spoken


@pytest.mark.parametrize(
    "document",
    [[], None, "1.51", {}, {"ApiVersion": "newest"}, {"ApiVersion": 1.5e3}, {"ApiVersion": "1." + "9" * 5000}],
)
def test_a_version_that_makes_no_sense_is_malformed(document: object) -> None:
    """What answers without an API version is told to be no Docker Engine."""
    with pytest.raises(ObservationError, match="Docker Engine"):
        spoken_version(document)


def test_an_engine_that_speaks_nothing_that_we_know_is_told_so() -> None:
    """Its paths would be outside the allow-list; that is no defect."""
    with pytest.raises(ObservationError, match=r"speaks API 2\.0 and up to 2\.3; .* knows API 1\.x up to 1\."):
        spoken_version({"ApiVersion": "2.3", "MinAPIVersion": "2.0"})
    assert spoken_version({"ApiVersion": "2.3", "MinAPIVersion": "1.44"}) == ".".join(map(str, NEWEST_TESTED))


def test_the_version_is_asked_unversioned_and_spoken_from_then_on(engine: FakeEngine, client: EngineClient) -> None:
    """`/version` goes out without a version in its path, everything else with the one that was agreed on."""
    client.get("/networks")
    assert engine.requests == [("GET", "/version"), ("GET", "/v1.51/networks")]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/containers/a/json"),
        ("GET", "/v1.51/containers/a/json"),
        ("GET", "/containers/json/../a/json"),
        ("GET", "/secrets"),
        ("GET", "/images/json"),
        ("GET", "/v1.51/containers/a/export"),
        ("GET", "/info/x"),
        ("GET", "//info"),
        ("POST", "/containers/create"),
        ("HEAD", "/_ping"),
        ("DELETE", "/networks"),
        ("PUT", "/info"),
    ],
)
def test_a_request_outside_the_list_is_not_sent(engine: FakeEngine, method: str, path: str) -> None:
    """Whoever uses the session, other methods and other paths raise before a byte leaves."""
    with (
        ReadOnlySession(EngineHost(engine.url), 1.0, OpenSockets()) as session,
        pytest.raises(ForbiddenRequest, match=method),
    ):
        session.request(method, session.base_url + path)
    assert engine.requests == []


def test_the_sdks_own_methods_do_not_get_past_the_list(engine: FakeEngine) -> None:
    """An inspect, a creation and a removal by the SDK's methods end at the same gate."""
    with ReadOnlySession(EngineHost(engine.url), 1.0, OpenSockets()) as session:
        for attempt in (
            lambda: session.inspect_container("a"),
            lambda: session.inspect_network("a"),
            lambda: session.create_container("image"),
            lambda: session.remove_container("a"),
            lambda: session.logs("a"),
        ):
            with pytest.raises(ForbiddenRequest):
                attempt()
    assert engine.requests == []


def test_another_host_is_not_asked(engine: FakeEngine) -> None:
    """An allowed path at another address is refused too."""
    with ReadOnlySession(EngineHost(engine.url), 1.0, OpenSockets()) as session, pytest.raises(ForbiddenRequest):
        session.get("http://example.org/info")


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "behaviour",
    [
        hangs,
        dribbles([b"H"] * 200),
        dribbles([b"HTTP/1.1 200 OK\r\n", *[b"X: y\r\n"] * 200]),
        dribbles([b"HTTP/1.1 200 OK\r\nContent-Length: 200\r\n\r\n", *[b" "] * 200]),
        dribbles([CHUNKED, *[b"1\r\n \r\n"] * 200]),
        dribbles([b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", *[b" "] * 200]),
    ],
    ids=["silence", "status line", "headers", "body", "chunks", "unmeasured body"],
)
def test_no_server_keeps_a_poll_beyond_its_deadline(
    engine: FakeEngine, client: EngineClient, behaviour: Behaviour
) -> None:
    """A server that is silent, or sends a little often enough for every single read, is given up in time."""
    engine.answers["/networks"] = behaviour
    began = time.monotonic()
    with pytest.raises(EngineTimeout, match=r"0\.5 s"), client.deadline():
        client.get("/networks")
    assert time.monotonic() - began < 5


def test_a_deadline_is_for_all_requests_together(engine: FakeEngine, client: EngineClient) -> None:
    """Two answers that are each in time are late together."""
    engine.answers["/info"] = dribbles([b"", b"", b"", b"", b"", b"", response({})], pause=0.055)
    began = time.monotonic()
    with client.deadline():
        client.get("/info")
        with pytest.raises(EngineTimeout):
            client.get("/info")
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        (says(b""), "without response"),
        (says(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n[{"), "2 bytes read"),
        (says(CHUNKED + b"100\r\n[{"), "IncompleteRead"),
        (says(b"\x16\x03\x01\x00\xff garbage\r\n\r\n"), r"\\x16"),
    ],
    ids=["nothing", "half a body", "half a chunk", "no HTTP"],
)
def test_half_an_answer_is_no_answer(
    engine: FakeEngine, client: EngineClient, behaviour: Behaviour, reason: str
) -> None:
    """A connection that breaks, or never spoke HTTP, is an unreachable engine, with a message that is safe to log."""
    engine.answers["/networks"] = behaviour
    with pytest.raises(EngineUnreachable, match=reason) as caught, client.deadline():
        client.get("/networks")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("body", [b"", b"{", b"nope", b"\xff\xfe\x00", b"[" * 100_000], ids=range(5))
def test_what_is_no_json_is_malformed(engine: FakeEngine, client: EngineClient, body: bytes) -> None:
    """A body that cannot be decoded is named with its path, even when it is nested without end."""
    engine.answers["/networks"] = lambda connection: connection.sendall(response(body))
    with pytest.raises(ObservationError, match="GET /networks: the answer is not JSON"):
        client.get("/networks")


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (response({"message": "no\x1b[31m\n"}, "503 Unavailable"), r"503: no\\x1b\[31m"),
        (response(b"<html>" + b"x" * 9999, "403 Forbidden"), "403: <html>x+…$"),
        (response(b"", "500 Broken"), "500: Broken"),
        (response(["odd"], "400 Bad"), r'400: \["odd"\]'),
        (b"HTTP/1.1 302 Found\r\nLocation: http+docker://localhost/info\r\nContent-Length: 0\r\n\r\n", "302: Found"),
    ],
    ids=["engine", "proxy", "empty", "odd", "redirect"],
)
def test_a_refusal_says_what_the_engine_said(
    engine: FakeEngine, client: EngineClient, answer: bytes, message: str
) -> None:
    """Any status but 200 is a refusal: its message is cut short and cannot steer a terminal; redirects end there."""
    engine.answers["/networks"] = lambda connection: connection.sendall(answer)
    with pytest.raises(EngineRefused, match=message) as caught:
        client.get("/networks")
    assert caught.value.status >= 300
    assert ("GET", "/info") not in engine.requests


def test_an_answer_without_end_is_given_up(
    engine: FakeEngine, client: EngineClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A body longer than the limit is not kept in memory."""
    monkeypatch.setattr(client_module, "BODY_LIMIT", 3 << 20)
    megabyte = b"100000\r\n%b\r\n" % (b" " * (1 << 20))
    engine.answers["/networks"] = lambda connection: connection.sendall(CHUNKED + 9 * megabyte)
    with pytest.raises(ObservationError, match="longer than 3 MiB"):
        client.get("/networks")


def test_every_error_is_followed_by_a_fresh_start(engine: FakeEngine, client: EngineClient) -> None:
    """After an error the next request connects anew and asks the version again: it may be another engine now."""
    client.get("/info")
    engine.answers["/networks"] = says(b"")
    with pytest.raises(EngineUnreachable):
        client.get("/networks")
    client.get("/info")
    assert engine.paths == ["/version", "/info", "/networks", "/version", "/info"]


def test_interrupt_ends_what_another_thread_waits_for(engine: FakeEngine) -> None:
    """A request to a hanging engine ends at once when somebody interrupts it, long before its timeout."""
    client = EngineClient(EngineHost(engine.url), timeout=30.0)
    engine.answers["/networks"] = hangs
    errors: list[Exception] = []

    def ask() -> None:
        try:
            client.get("/networks")
        except EngineUnreachable as error:
            errors.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    while "/networks" not in engine.paths:
        time.sleep(0.01)
    client.interrupt()
    thread.join(1.0)
    assert not thread.is_alive()
    assert len(errors) == 1


def test_threads_and_descriptors_do_not_add_up(engine: FakeEngine) -> None:
    """A hundred failed polls leave no guard thread behind."""
    client = EngineClient(EngineHost(engine.url), timeout=5.0)
    engine.answers["/networks"] = says(b"")
    before = len(list(Path("/proc/self/task").iterdir()))
    for _ in range(100):
        with pytest.raises(EngineUnreachable), client.deadline():
            client.get("/networks")
    assert wait_until(lambda: len(list(Path("/proc/self/task").iterdir())) <= before, timeout=2)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("unix:///no/such/socket", "No such file"),
        ("tcp://127.0.0.1:1", "Connection refused"),
        ("tcp://no-such-host.invalid:2375", "not known|resolution"),
    ],
)
def test_an_engine_that_is_not_there_is_named(url: str, reason: str) -> None:
    """The message holds the address and the operating system's reason."""
    with pytest.raises(EngineUnreachable, match=f"{url}.*({reason})"):
        EngineClient(EngineHost(url), timeout=5.0).get("/info")
