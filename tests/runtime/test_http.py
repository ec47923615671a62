"""The HTTP server against clients of all kinds."""

from __future__ import annotations

import asyncio
import http.client
import socket
import threading
import time
from typing import TYPE_CHECKING

import pytest
from starlette.responses import Response

from exporter.errors import ExporterError
from exporter.runtime import connection as connection_module
from exporter.runtime.connection import Connection, Crowd
from exporter.runtime.door import Door
from exporter.runtime.front import Front
from exporter.runtime.http import HttpServer, _Server
from exporter.runtime.listen import bind, shown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.types import ASGIApp

BIG = b"x" * (8 << 20)


def app(text: bytes) -> ASGIApp:
    """Return an application that always says this."""
    return Response(text)


@pytest.fixture
def port() -> Iterator[int]:
    """Give the port of a server with a body too big for any socket's buffer."""
    (listener,) = bind(["127.0.0.1:0"])
    server = HttpServer([listener], app(BIG))
    server.start()
    yield listener.getsockname()[1]
    server.stop()


def connect(port: int) -> socket.socket:
    """Return a connection that takes in little before somebody reads from it."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.settimeout(10)
    connection.connect(("127.0.0.1", port))
    return connection


def fetch(port: int, host: str = "127.0.0.1") -> bytes:
    """Return the body of an answer."""
    connection = http.client.HTTPConnection(host, port, timeout=10)
    try:
        connection.request("GET", "/")
        return connection.getresponse().read()
    finally:
        connection.close()


def test_every_address_is_served() -> None:
    """Several addresses, of both families, by name and as "all", lead to one application."""
    sockets = bind(["127.0.0.1:0", "[::1]:0", ":0", "localhost:0"])
    server = HttpServer(sockets, app(b"hello"))
    server.start()
    for listener in sockets:
        host, number = listener.getsockname()[:2]
        assert fetch(number, {"::": "127.0.0.1"}.get(host, host)) == b"hello"
    server.stop()


def test_all_addresses_are_those_of_both_families() -> None:
    """`:PORT` answers over IPv4 and over IPv6."""
    (listener,) = bind([":0"])
    server = HttpServer([listener], app(b"hello"))
    server.start()
    number = listener.getsockname()[1]
    assert fetch(number) == fetch(number, "::1") == b"hello"
    assert shown(listener) == f"[::]:{number}"
    server.stop()


@pytest.mark.parametrize("address", [":0", "127.0.0.1:0", "[::1]:0"])
def test_small_answers_are_not_held_back(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Accepted connections have Nagle's algorithm off: head and body of an answer are two small writes."""
    options = []
    accept = Connection.connection_made

    def connection_made(self: Connection, transport: asyncio.Transport) -> None:
        accept(self, transport)
        options.append(transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    monkeypatch.setattr(Connection, "connection_made", connection_made)
    (listener,) = bind([address])
    server = HttpServer([listener], app(b"hello"))
    server.start()
    assert fetch(listener.getsockname()[1], "::1" if "::1" in address else "127.0.0.1") == b"hello"
    server.stop()
    assert len(options) == 1
    assert options[0] != 0


def test_a_port_in_use_is_named() -> None:
    """The error names the address, and the other addresses are free again."""
    (taken,) = bind(["127.0.0.1:0"])
    with taken:
        (spare,) = bind(["127.0.0.1:0"])
        spare.close()
        addresses = [shown(taken).replace(str(taken.getsockname()[1]), "0"), shown(taken)]
        with pytest.raises(ExporterError, match=f"cannot listen on {shown(taken)}: Address already in use"):
            bind(addresses)


@pytest.mark.parametrize("address", ["no-such-host.invalid:1", "192.0.2.1:0"])
def test_an_address_of_somebody_else_is_named(address: str) -> None:
    """What is no address of this machine is told with the operating system's reason."""
    with pytest.raises(ExporterError, match=f"cannot listen on {address}: ."):
        bind([address])


def test_two_hundred_idle_connections_cost_no_thread(port: int) -> None:
    """Connections that ask nothing leave the number of threads as it is, and others are served meanwhile."""
    before = threading.active_count()
    idle = [connect(port) for _ in range(200)]
    assert fetch(port) == BIG
    assert threading.active_count() <= before + 1
    for connection in idle:
        connection.close()


def test_a_stalled_client_stalls_nobody_else(port: int) -> None:
    """Clients that ask and do not read, or send half a request, do not delay an answer to another."""
    stalled = [connect(port) for _ in range(20)]
    for connection in stalled[:10]:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    for connection in stalled[10:]:
        connection.sendall(b"GET / HTTP/1.1\r\nHos")
    began = time.monotonic()
    assert fetch(port) == BIG
    assert time.monotonic() - began < 10
    for connection in stalled:
        connection.close()


@pytest.mark.parametrize(
    "sent", [b"", b"GET / HTTP/1.1\r\nHos", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"], ids=["nothing", "half", "no reading"]
)
def test_patience_has_an_end(sent: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that never asks, never finishes asking or never reads loses its connection in the end."""
    monkeypatch.setattr(connection_module, "PATIENCE", 0.2)
    (listener,) = bind(["127.0.0.1:0"])
    server = HttpServer([listener], app(BIG))
    server.start()
    with connect(listener.getsockname()[1]) as connection:
        connection.sendall(sent)
        time.sleep(1.0)
        with pytest.raises(ConnectionError):  # noqa: PT012 - which of the two notices is up to the kernel
            while connection.recv(1 << 20):
                pass
            raise ConnectionResetError
    server.stop()


def test_a_waiting_connection_is_kept_for_the_next_scrape(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two requests a client may be silent for longer than in the middle of one."""
    monkeypatch.setattr(connection_module, "PATIENCE", 0.1)
    (listener,) = bind(["127.0.0.1:0"])
    server = HttpServer([listener], app(b"hello"))
    server.start()
    connection = http.client.HTTPConnection("127.0.0.1", listener.getsockname()[1], timeout=10)
    for _ in range(3):
        connection.request("GET", "/")
        assert connection.getresponse().read() == b"hello"
        own = connection.sock
        time.sleep(0.4)
    assert connection.sock is own
    connection.close()
    server.stop()


def closed(connection: socket.socket) -> bool:
    """Return whether the server has ended a connection; waits a moment for it."""
    connection.settimeout(0.5)
    try:
        return connection.recv(1) == b""
    except TimeoutError:
        return False
    except ConnectionError:
        return True


def test_above_the_limit_the_one_idle_for_longest_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who hoards connections keeps nobody out: each new one takes the place of the oldest that asks nothing."""
    monkeypatch.setattr(connection_module, "CONNECTIONS", 5)
    (listener,) = bind(["127.0.0.1:0"])
    server = HttpServer([listener], app(b"hello"))
    server.start()
    number = listener.getsockname()[1]
    idle = []
    for _ in range(5):
        idle.append(connect(number))
        time.sleep(0.05)
    assert fetch(number) == fetch(number) == b"hello"
    assert [closed(connection) for connection in idle] == [True, False, False, False, False]
    for connection in idle:
        connection.close()
    server.stop()


def test_where_everybody_is_busy_a_new_connection_is_closed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of connections is never above the limit, and there is room again when an answer is taken."""
    monkeypatch.setattr(connection_module, "CONNECTIONS", 3)
    (listener,) = bind(["127.0.0.1:0"])
    server = HttpServer([listener], app(BIG))
    server.start()
    number = listener.getsockname()[1]
    busy = [connect(number) for _ in range(3)]
    for connection in busy:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    time.sleep(0.2)
    with connect(number) as late:
        assert closed(late)
    busy.pop().close()
    time.sleep(0.2)
    assert fetch(number) == BIG
    for connection in busy:
        connection.close()
    server.stop()


def test_a_header_without_end_is_refused(port: int) -> None:
    """A request's head may be some kilobytes long and not more."""
    with connect(port) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nX: " + b"x" * 200_000 + b"\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 400")


def test_stopping_is_quick_with_clients_around(port: int) -> None:
    """Idle, stalled and half-asking clients do not keep the server from ending for long."""
    (listener,) = bind(["127.0.0.1:0"])
    server = HttpServer([listener], app(BIG))
    server.start()
    clients = [connect(listener.getsockname()[1]) for _ in range(30)]
    for client in clients[:10]:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    time.sleep(0.1)
    began = time.monotonic()
    server.stop()
    assert time.monotonic() - began < 5
    assert not server.alive
    for client in clients:
        client.close()
    assert fetch(port) == BIG


def test_who_was_accepted_last_is_answered() -> None:
    """A client whose request is still on its way when the end begins gets his answer."""
    (listener,) = bind(["127.0.0.1:0"])
    server = HttpServer([listener], app(b"hello"))
    server.start()
    with connect(listener.getsockname()[1]) as client:
        while not server._server.server_state.connections:
            time.sleep(0.001)
        ending = threading.Thread(target=server.stop)
        ending.start()
        while listener.fileno() >= 0 and not server._server._accepting[0].done():
            time.sleep(0.001)
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.recv(100).startswith(b"HTTP/1.1 200")
        ending.join()


def test_who_comes_at_the_end_waits_for_the_next_server() -> None:
    """A socket that somebody else holds, too, keeps its clients, and none is taken that nobody will serve."""
    (listener,) = bind(["127.0.0.1:0"])
    port = listener.getsockname()[1]
    held = listener.dup()
    first, second = HttpServer([listener], app(b"first")), HttpServer([held], app(b"second"))
    first.start()
    answers: list[bytes] = []
    asking = threading.Thread(target=lambda: answers.extend(fetch(port) for _ in range(300)))
    asking.start()
    while not answers:
        time.sleep(0.001)
    first.stop()
    second.start()
    asking.join()
    second.stop()
    assert set(answers) == {b"first", b"second"}


def test_who_has_to_go_before_he_was_greeted_leaves_no_socket() -> None:
    """A task that is cancelled before it begins cleans up nothing."""

    async def met() -> tuple[int, bool]:
        crowd = Crowd()
        door = Door(app(b"hello"), crowd, Front(), 0)
        server = _Server([], crowd, door)
        near, far = socket.socketpair()
        server._receive(near, "somebody")
        assert crowd.make_room()
        await asyncio.sleep(0.01)
        with far:
            door.close()
            return near.fileno(), crowd.make_room()

    assert asyncio.run(met()) == (-1, False)


def test_the_application_can_be_exchanged() -> None:
    """A reload puts another application in place without a pause."""
    (listener,) = bind(["127.0.0.1:0"])
    server = HttpServer([listener], app(b"one"))
    server.start()
    assert fetch(listener.getsockname()[1]) == b"one"
    server.door.app = app(b"two")
    assert fetch(listener.getsockname()[1]) == b"two"
    assert server.alive
    server.stop()
    assert not server.alive
