"""Requests that are none: whatever arrives, the server answers the next client as if nothing had happened."""

from __future__ import annotations

import random
import socket
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.responses import Response

from exporter.runtime.connection import PIECE
from exporter.runtime.front import Front
from exporter.runtime.http import HttpServer
from exporter.runtime.listen import bind
from exporter.runtime.passwords import Passwords
from tests.bench.malformed import requests

if TYPE_CHECKING:
    from collections.abc import Iterator

HASH = "$2b$04$cmmlWSIbpj//JDPGlhutG.IrNLXKTMHH4Kr6pR4MyIA6s1ad3X2e2"
GOOD = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
PIECES = [b"GET", b"POST", b" ", b"/", b"*", b"HTTP/1.1", b"HTTP/9.9", b"\r\n", b"\n", b"\r", b"\0", b"\xff", b":"]
PIECES += [b"Host: x", b"Content-Length: 5", b"Content-Length: -1", b"Transfer-Encoding: chunked", b"5\r\nhello\r\n"]
PIECES += [
    b"Connection: keep-alive",
    b"Upgrade: websocket",
    b"Expect: 100-continue",
    b"Authorization: Basic ",
    b"0\r\n\r\n",
]
PIECES += [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\x16\x03\x01", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"x" * 5000]


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[HttpServer, int]]:
    """Give a server without a password, and its port."""
    (listener,) = bind(["127.0.0.1:0"])
    running = HttpServer([listener], Response(b"hello"))
    running.start()
    yield running, listener.getsockname()[1]
    running.stop()


def send(port: int, request: bytes) -> bytes:
    """Send bytes, say that there are no more, and return the beginning of what comes back."""
    with socket.create_connection(("127.0.0.1", port), 5) as connection:
        try:
            connection.sendall(request)
            connection.shutdown(socket.SHUT_WR)
            return connection.recv(1000)
        except ConnectionError:
            return b""


def answers(port: int) -> bool:
    """Return whether a good request is answered."""
    return send(port, GOOD[:-2] + b"\r\n").startswith((b"HTTP/1.1 200", b"HTTP/1.1 401"))


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(PIECES) | st.binary(max_size=20), max_size=12).map(b"".join))
def test_any_bytes_are_answered_or_refused(server: tuple[HttpServer, int], request_: bytes) -> None:
    """No answer to anything is an error of the server, and the next client is served."""
    _, port = server
    answer = send(port, request_)
    assert not answer or answer.startswith(b"HTTP/1.1 ")
    assert not answer.startswith(b"HTTP/1.1 5")
    assert answers(port)


def test_two_thousand_malformed_requests_leave_nothing_behind(
    server: tuple[HttpServer, int], caplog: pytest.LogCaptureFixture
) -> None:
    """As many threads as before, no connection, no request under way, nothing in the log, and an answer at once."""
    running, port = server
    assert answers(port)
    before = threading.active_count()
    for request in requests(2000, random.Random(1)):
        send(port, request)
    assert answers(port)
    state = running._server.server_state
    deadline = time.monotonic() + 5
    while state.connections or state.tasks:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert threading.active_count() == before
    assert [record.message for record in caplog.records if record.levelname != "DEBUG"] == []
    assert not running.door._answering
    assert not running.door._unread


def test_a_bad_body_after_a_good_head(server: tuple[HttpServer, int], caplog: pytest.LogCaptureFixture) -> None:
    """It may come with the head or while the answer is on its way, and is nothing to be logged."""
    _, port = server
    head, body = b"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", b"no number\r\n"
    for pause in (0.0, 0.001, 0.01, 0.1):
        with socket.create_connection(("127.0.0.1", port), 5) as connection:
            connection.sendall(head if pause else head + body)
            time.sleep(pause)
            with suppress(ConnectionError):
                connection.sendall(body)
                while connection.recv(1000):
                    pass
    assert answers(port)
    assert [record.message for record in caplog.records if record.levelname != "DEBUG"] == []


def test_a_body_in_the_smallest_chunks_is_not_taken_apart(
    server: tuple[HttpServer, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tens of thousands come with one read, and each would cost as much as a request."""
    _, port = server
    events = 0
    following = h11.Connection.next_event

    def counted(connection: h11.Connection) -> object:
        nonlocal events
        events += 1
        return following(connection)

    monkeypatch.setattr(h11.Connection, "next_event", counted)
    chunk = b"1\r\na\r\n"
    send(port, b"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk * 40_000)
    assert answers(port)
    assert 0 < events < 2 * PIECE // len(chunk)


def test_a_long_head_is_not_taken_apart(server: tuple[HttpServer, int]) -> None:
    """Nor is one that comes with one read: it costs more than an answer, and nobody was asked for a password yet."""
    _, port = server
    assert not send(port, GOOD[:-2] + b"A:\r\n" * 15_000 + b"\r\n").startswith(b"HTTP/1.1 200")
    assert send(port, GOOD[:-2] + b"A:\r\n" * 2_000 + b"\r\n").startswith(b"HTTP/1.1 200")


def test_malformed_requests_to_a_door_with_a_lock_open_nothing() -> None:
    """Whatever the request looks like, nothing but 400, 401 or an end of the connection comes back."""
    (listener,) = bind(["127.0.0.1:0"])
    running = HttpServer([listener], Response(b"secret"), Front(passwords=Passwords({"alice": HASH})))
    running.start()
    port = listener.getsockname()[1]
    seen = {send(port, request)[:12] for request in requests(1000, random.Random(2))}
    assert seen <= {b"", b"HTTP/1.1 400", b"HTTP/1.1 401"}
    assert answers(port)
    running.stop()


def test_pipelined_requests_are_answered_one_by_one(server: tuple[HttpServer, int]) -> None:
    """A client that asks a thousand times without reading gets its answers in the end, and no more memory than that."""
    _, port = server
    with socket.create_connection(("127.0.0.1", port), 5) as connection:
        asked = threading.Thread(target=connection.sendall, args=(GOOD.replace(b"Connection: close\r\n", b"") * 1000,))
        asked.start()
        received = b""
        while received.count(b"hello") < 1000:
            received += connection.recv(1 << 16)
        asked.join()
