"""What requests pass before they are answered: rate limit, password, method, target, room."""

from __future__ import annotations

import asyncio
import base64
import gc
import http.client
import socket
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Self

import bcrypt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.responses import Response, StreamingResponse

from exporter.runtime import door as door_module
from exporter.runtime.bucket import Bucket
from exporter.runtime.connection import BUFFER
from exporter.runtime.front import Front
from exporter.runtime.http import HttpServer
from exporter.runtime.listen import bind
from exporter.runtime.passwords import Passwords
from exporter.webconfig import RateLimit
from tests.lab.system import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.types import ASGIApp, Receive, Scope, Send

COST = 4
BIG = b"x" * (8 << 20)


def hashed(password: bytes, cost: int = COST) -> str:
    """Return a bcrypt hash that costs a millisecond."""
    return bcrypt.hashpw(password, bcrypt.gensalt(cost)).decode()


def basic(user: bytes, password: bytes) -> str:
    """Return an Authorization header."""
    return f"Basic {base64.b64encode(user + b':' + password).decode()}"


ALICE = basic(b"alice", b"wonder")
USERS = {"alice": hashed(b"wonder"), "böb": hashed("pä:ss".encode()), "long": hashed(b"x" * 72)}


class Site:
    """A server, and a client that tells everything of the answer."""

    def __init__(self, server: HttpServer, port: int) -> None:
        self.server = server
        self.port = port

    def ask(
        self, authorization: str | None = None, method: str = "GET", body: str | None = None, source: str = "127.0.0.1"
    ) -> http.client.HTTPResponse:
        """Return the answer to one request, read to its end."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10, source_address=(source, 0))
        headers = {"Authorization": authorization} if authorization else {}
        try:
            connection.request(method, "/", body, headers)
            answer = connection.getresponse()
            answer.read()
            return answer
        finally:
            connection.close()

    def status(self, authorization: str | None = None, method: str = "GET") -> int:
        """Return the status of the answer to one request."""
        return self.ask(authorization, method).status

    def slow_reader(self, asked: bytes = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n") -> socket.socket:
        """Ask, and read nothing; the window is small, so that little leaves the server."""
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(10)
        connection.connect(("127.0.0.1", self.port))
        with suppress(ConnectionError):
            connection.sendall(asked)
        return connection


@contextmanager
def serving(front: Front, app: ASGIApp | None = None, max_requests: int = 40) -> Iterator[Site]:
    """Serve behind a front until the end of the block."""
    (listener,) = bind(["127.0.0.1:0"])
    server = HttpServer([listener], app or Response(b"hello"), front, max_requests)
    server.start()
    try:
        yield Site(server, listener.getsockname()[1])
    finally:
        server.stop()


class Checks:
    """Stands before bcrypt and counts: which hashes were computed, and how many at the same time at most."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, seconds: float = 0.0) -> None:
        self.costs: list[int] = []
        self.most = 0
        self._now = 0
        self._seconds = seconds
        self._check = bcrypt.checkpw
        monkeypatch.setattr(bcrypt, "checkpw", self.checkpw)

    def checkpw(self, password: bytes, against: bytes) -> bool:
        """Check a password for real, and take the time that was asked for."""
        self._now += 1
        self.most = max(self.most, self._now)
        self.costs.append(int(against[4:6]))
        time.sleep(self._seconds)
        right = self._check(password, against)
        self._now -= 1
        return right


class TestPasswords:
    @pytest.mark.parametrize(
        "authorization",
        [
            ALICE,
            ALICE.replace("Basic", "basic"),
            ALICE.replace("Basic ", "BASIC   "),
            basic("böb".encode(), "pä:ss".encode()),
            basic(b"long", b"x" * 72),
            basic(b"long", b"x" * 100),
        ],
    )
    def test_right_ones(self, authorization: str) -> None:
        """Colons, umlauts and more bytes than bcrypt reads are fine, and schemes have no case."""
        with serving(Front(passwords=Passwords(USERS))) as site:
            assert site.status(authorization) == site.status(authorization) == 200

    @pytest.mark.parametrize(
        "authorization",
        [
            None,
            basic(b"alice", b"wrong"),
            basic(b"alice", b""),
            basic(b"Alice", b"wonder"),
            basic(b"", b"wonder"),
            basic(b"nobody", b"fakepassword"),
            basic(b"long", b"x" * 71),
            basic(b"alice", b"wonder\0"),
            ALICE.replace("Basic", "Bearer"),
            "Basic",
            "Basic !!!",
            f"Basic {base64.b64encode(b'alice').decode()}",
            ALICE[:-1],
            "\xff\xfe",
        ],
    )
    def test_wrong_ones(self, authorization: str | None) -> None:
        """All get the same answer: 401, the challenge, and headers that protect readers."""
        with serving(Front(passwords=Passwords(USERS))) as site:
            answer = site.ask(authorization)
            assert answer.status == 401
            assert answer.headers["WWW-Authenticate"] == 'Basic realm="docker-icc-exporter", charset="UTF-8"'
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert answer.headers["Content-Length"] == "13"

    def test_two_headers_are_none(self) -> None:
        """Nobody can tell which of two passwords counts."""
        with (
            serving(Front(passwords=Passwords(USERS))) as site,
            socket.create_connection(("127.0.0.1", site.port)) as raw,
        ):
            raw.sendall(
                f"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: {ALICE}\r\nAuthorization: {ALICE}\r\n\r\n".encode()
            )
            assert raw.recv(100).startswith(b"HTTP/1.1 401")

    def test_a_right_one_is_hashed_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The next scrape costs no hash, nor do those that come at the same time."""
        checks = Checks(monkeypatch, 0.1)
        with serving(Front(passwords=Passwords(USERS))) as site, ThreadPoolExecutor(8) as clients:
            assert set(clients.map(lambda _: site.status(ALICE), range(16))) == {200}
        assert len(checks.costs) == 1

    def test_wrong_ones_are_hashed_each_time_and_push_nobody_out(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """An attacker fills no memory, and the right password stays known."""
        checks = Checks(monkeypatch)
        with serving(Front(passwords=Passwords(USERS))) as site:
            assert site.status(ALICE) == 200
            for number in range(20):
                assert site.status(basic(b"alice", b"wrong")) == 401
                assert site.status(basic(f"user-{number}".encode(), b"wrong")) == 401
            assert len(checks.costs) == 41
            assert site.status(ALICE) == 200
        assert len(checks.costs) == 41

    def test_a_stranger_costs_what_a_user_costs(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """One hash each, of a cost that a user has, and for one name always the same: time tells nobody's name."""
        checks = Checks(monkeypatch)
        users = {"cheap": hashed(b"a", 4), "dear": hashed(b"b", 6)}
        with serving(Front(passwords=Passwords(users))) as site:
            for name in [*users, *(f"stranger-{number}" for number in range(20))]:
                before = len(checks.costs)
                assert [site.status(basic(name.encode(), b"wrong")) for _ in range(3)] == [401] * 3
                costs = checks.costs[before:]
                assert len(costs) == 3
                assert len(set(costs)) == 1
        assert set(checks.costs[6:]) == {4, 6}

    def test_one_hash_at_a_time_off_the_event_loop(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """While strangers' passwords are looked at, one after the other, known clients are answered."""
        with serving(Front(passwords=Passwords(USERS))) as site, ThreadPoolExecutor(5) as strangers:
            assert site.status(ALICE) == 200
            checks = Checks(monkeypatch, 0.2)
            tries = [strangers.submit(site.status, basic(b"alice", b"wrong%d" % number)) for number in range(5)]
            answered = 0
            while not all(each.done() for each in tries):
                assert site.status(ALICE) == 200
                answered += 1
        assert answered > 5
        assert checks.most == 1
        assert len(checks.costs) == 5

    def test_too_many_at_once_are_sent_away(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Who would wait for too long is told so at once, known clients are not affected, and stopping is quick."""
        with ThreadPoolExecutor(5) as strangers:
            with serving(Front(passwords=Passwords(USERS))) as site:
                assert site.status(ALICE) == 200
                Checks(monkeypatch, 3)
                tries = [strangers.submit(site.status, basic(b"alice", b"wrong%d" % number)) for number in range(5)]
                time.sleep(0.2)
                assert site.ask(basic(b"alice", b"wrong")).status == 503
                assert site.status(ALICE) == 200
                began = time.monotonic()
            assert time.monotonic() - began < 5
            assert all(each.exception(60) or each.result() in (401, 500) for each in tries)

    def test_whose_address_has_no_place_taken_waits_for_one_hash_only(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """However many strangers wait at another address."""
        with serving(Front(passwords=Passwords(USERS))) as site, ThreadPoolExecutor(8) as strangers:
            Checks(monkeypatch, 0.2)
            tries = [strangers.submit(site.status, basic(b"alice", b"wrong%d" % number)) for number in range(8)]
            time.sleep(0.1)
            began = time.monotonic()
            assert site.ask(ALICE, source="127.0.0.2").status == 200
            assert time.monotonic() - began < 0.7
            assert sorted(each.result() for each in tries) == [401] * 5 + [503] * 3

    def test_who_keeps_the_hash_stays_known_when_others_come(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """And nobody else does, not by the hash of another user either."""
        before = Passwords(USERS)
        checks = Checks(monkeypatch)
        with serving(Front(passwords=before)) as site:
            assert site.status(ALICE) == site.status(basic(b"long", b"x" * 72)) == 200
            after = {"alice": USERS["alice"], "bob": USERS["alice"], "long": hashed(b"x")}
            site.server.door.front = Front(passwords=before.of(after))
            assert len(checks.costs) == 2
            assert site.status(ALICE) == 200
            assert len(checks.costs) == 2
            assert site.status(basic(b"long", b"x" * 72)) == 401
            assert site.status(basic(b"bob", b"wonder")) == 200
            assert len(checks.costs) == 4

    def test_nothing_is_told_to_those_without_a_password(self) -> None:
        """Not even which methods there are."""
        with serving(Front(passwords=Passwords(USERS))) as site:
            assert site.status(method="POST") == 401
            assert site.status(ALICE, "POST") == 405


class TestMethods:
    @pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "BREW"])
    def test_others_than_get_and_head_are_refused(self, method: str) -> None:
        """Whatever the application would say."""
        with serving(Front()) as site:
            answer = site.ask(method=method)
            assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD")

    def test_head_is_answered(self) -> None:
        """Without a body."""
        with serving(Front()) as site:
            assert site.ask(method="HEAD").headers["Content-Length"] == "5"

    @pytest.mark.parametrize("method", ["GET", "POST"])
    def test_a_body_is_not_waited_for(self, method: str) -> None:
        """Who sends one is answered and the connection closed: nobody reads what comes after."""
        with serving(Front()) as site, socket.create_connection(("127.0.0.1", site.port), 5) as raw:
            raw.sendall(f"{method} / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\nbegin".encode())
            answer = b""
            while chunk := raw.recv(1000):
                answer += chunk
            assert b"connection: close" in answer


async def told_back(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with what an application sees of a target."""
    await Response(f"{scope['path']} {scope['raw_path'].decode()} {scope['query_string'].decode()}")(
        scope, receive, send
    )


class TestTargets:
    @staticmethod
    def ask(site: Site, target: str) -> tuple[int, str]:
        """Return status and body of the answer to a request for this, which http.client would not send as it is."""
        with socket.create_connection(("127.0.0.1", site.port), 5) as raw:
            raw.sendall(f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            head, _, body = everything(raw).decode().partition("\r\n\r\n")
        return int(head.split()[1]), body

    @pytest.mark.parametrize(
        "host", ["", "http://127.0.0.1:10422", "HTTPS://Exporter.example", "http://[::1]:10422", "http://a%2Db:"]
    )
    def test_a_host_in_front_of_a_path_is_no_matter(self, host: str) -> None:
        """Everybody may ask as a proxy is asked (RFC 9112, 3.2.2), and is answered as if he had not."""
        with serving(Front(), told_back) as site:
            assert self.ask(site, f"{host}/metrics?a=http://b/") == (200, "/metrics /metrics a=http://b/")
            assert self.ask(site, f"{host}/a%20b") == (200, "/a b /a%20b ")
            assert self.ask(site, f"{host}//x/http://y") == (200, "//x/http://y //x/http://y ")

    def test_a_host_alone_is_the_root(self) -> None:
        """The path of `http://host` is `/`."""
        with serving(Front(), told_back) as site:
            assert self.ask(site, "http://x") == (200, "/ / ")
            assert self.ask(site, "http://x:80?a") == (200, "/ / a")

    @pytest.mark.parametrize(
        "target",
        ["*", "metrics", "http:/metrics", "http:///metrics", "http://:80/metrics", "http://me:secret@x/metrics",
         "http://x:123456/", "http://x:port/", "http://[::1/", "http://[x]/", "http://%zz/", "http://x\\/", "http://",
         "ftp://x/metrics", "x:10422", "http://" + "x" * 12_000 + "@", "http" * 3000],
    )  # fmt: skip
    def test_others_are_refused(self, target: str) -> None:
        """What has no path, a host that is none, or a user's name is no question."""
        with serving(Front(), told_back) as site:
            assert self.ask(site, target) == (400, "Bad Request\n")

    def test_a_host_in_front_leads_past_no_password(self) -> None:
        """The password is asked for first, whatever the target."""
        with serving(Front(passwords=Passwords(USERS)), told_back) as site:
            assert [self.ask(site, target)[0] for target in ("http://x/-/healthy", "http://x:y/", "*")] == [401] * 3


class TestRefusals:
    @pytest.mark.parametrize(
        ("front", "request_line", "status"),
        [
            (Front(passwords=Passwords(USERS)), "GET / HTTP/1.1", 401),
            (Front(), "POST / HTTP/1.1", 405),
            (Front(), "GET * HTTP/1.1", 400),
            (Front(bucket=Bucket(RateLimit(3600, 1), lambda: 0.0)), "GET / HTTP/1.1", 429),
        ],
    )
    def test_who_is_refused_is_answered_once(self, front: Front, request_line: str, status: int) -> None:
        """What he has asked besides, in advance, costs nobody anything: the connection ends."""
        if front.bucket:
            front.bucket.wait()
        with serving(front) as site, socket.create_connection(("127.0.0.1", site.port), 5) as raw:
            raw.sendall(f"{request_line}\r\nHost: x\r\n\r\n".encode() * 100)
            answer = everything(raw)
            assert (answer.count(b"HTTP/1.1 "), answer.count(f"HTTP/1.1 {status}".encode())) == (1, 1)
            assert answer.count(b"connection: close") == 1

    @pytest.mark.parametrize("rest", [b"\r\n", b"Content-Length: 1\r\n\r\nx"])
    def test_nor_is_there_room_for_his_next_request(self, rest: bytes) -> None:
        """503 ends the connection as well, and `connection: close` is said once where there are two reasons."""
        app = Blocking()
        with serving(Front(), app, max_requests=1) as site, ThreadPoolExecutor(1) as clients:
            first = clients.submit(site.status)
            time.sleep(0.3)
            with socket.create_connection(("127.0.0.1", site.port), 5) as raw:
                raw.sendall((b"GET / HTTP/1.1\r\nHost: x\r\n" + rest) * 2)
                answer = everything(raw)
            app.may.set()
            assert first.result() == 200
        assert (answer.count(b"HTTP/1.1 503"), answer.count(b"connection: close")) == (1, 1)

    def test_who_reads_nothing_is_answered_once_too(self) -> None:
        """However much he asks, and nothing of it waits in memory."""
        with serving(Front(passwords=Passwords(USERS))) as site:
            hoarded = [site.slow_reader(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 2000) for _ in range(20)]
            connections = site.server._server.server_state.connections
            assert wait_until(lambda: not connections, 5)
            for each in hoarded:
                each.close()


def everything(connection: socket.socket) -> bytes:
    """Return what comes until the connection ends, be it by what was sent and not read."""
    received = b""
    with suppress(ConnectionResetError):
        while chunk := connection.recv(1 << 16):
            received += chunk
    return received


class TestHeaders:
    def test_those_of_the_file_replace_those_of_the_application(self) -> None:
        """Each name is there once, on refusals too."""
        headers = ((b"x-frame-options", b"deny"), (b"content-security-policy", b"default-src 'self'"))
        app = Response(b"hello", headers={"Content-Security-Policy": "default-src 'none'", "X-Other": "kept"})
        with serving(Front(headers=headers), app) as site:
            answer = site.ask()
            assert answer.headers.get_all("Content-Security-Policy") == ["default-src 'self'"]
            assert (answer.headers["X-Frame-Options"], answer.headers["X-Other"]) == ("deny", "kept")
            assert site.ask(method="POST").headers["X-Frame-Options"] == "deny"


class TestRateLimit:
    def test_who_comes_too_often_is_told_when_to_come_again(self) -> None:
        """The burst is answered, the next one is 429 with the seconds to wait."""
        bucket = Bucket(RateLimit(interval=30.0, burst=3), time.monotonic)
        with serving(Front(bucket=bucket)) as site:
            assert [site.status() for _ in range(3)] == [200] * 3
            answer = site.ask()
            assert (answer.status, answer.headers["Retry-After"]) == (429, "30")

    def test_a_token_comes_back_every_interval(self) -> None:
        """And never more than the burst."""
        now = 100.0
        bucket = Bucket(RateLimit(interval=2.0, burst=2), lambda: now)
        assert [bucket.wait() for _ in range(3)] == [0, 0, 2]
        now += 1.5
        assert bucket.wait() == pytest.approx(0.5)
        now += 0.5
        assert [bucket.wait(), bucket.wait()] == [0, 2]
        now += 1000
        assert [bucket.wait() for _ in range(3)] == [0, 0, 2]

    @given(st.lists(st.floats(0, 10), max_size=200), st.integers(1, 5))
    def test_never_more_than_it_allows(self, pauses: list[float], burst: int) -> None:
        """In any stretch of time no more requests pass than the burst and one for each interval."""
        now, passed = 0.0, []
        bucket = Bucket(RateLimit(interval=1.0, burst=burst), lambda: now)
        for pause in pauses:
            now += pause
            if not bucket.wait():
                passed.append(now)
        for first in range(len(passed)):
            for last in range(first, len(passed)):
                assert last - first + 1 <= burst + (passed[last] - passed[first]) + 1e-6


class Blocking:
    """An application that answers when it may."""

    def __init__(self) -> None:
        self.may = threading.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        while not self.may.is_set():
            await asyncio.sleep(0.01)
        await Response(b"hello")(scope, receive, send)


class Pieces:
    """A text without an end."""

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        return BIG[:BUFFER]


class TestRoom:
    def test_above_the_limit_requests_are_refused(self) -> None:
        """503 and when to come again; there is room when one of the others has its answer."""
        app = Blocking()
        with serving(Front(), app, max_requests=2) as site, ThreadPoolExecutor(2) as clients:
            first = [clients.submit(site.status) for _ in range(2)]
            time.sleep(0.3)
            answer = site.ask()
            assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
            app.may.set()
            assert [each.result() for each in first] == [200, 200]
            assert site.status() == 200

    def test_zero_is_no_limit(self) -> None:
        """As in other exporters."""
        app = Blocking()
        with serving(Front(), app, max_requests=0) as site, ThreadPoolExecutor(60) as clients:
            asked = [clients.submit(site.status) for _ in range(60)]
            time.sleep(0.3)
            app.may.set()
            assert {each.result() for each in asked} == {200}

    def test_who_does_not_read_makes_room(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Clients that ask and do not read keep nobody out: the one that stalled first loses its answer."""
        monkeypatch.setattr(door_module, "STALLED", 0.2)
        with serving(Front(), Response(BIG), max_requests=3) as site:
            stalled = []
            for _ in range(3):
                stalled.append(site.slow_reader())
                time.sleep(0.05)
            time.sleep(0.3)
            assert site.status() == 200
            with pytest.raises(ConnectionError):  # noqa: PT012 - which of the two notices is up to the kernel
                while stalled[0].recv(1 << 20):
                    pass
                raise ConnectionResetError
            for connection in stalled:
                connection.close()

    def test_who_has_only_just_begun_to_stall_does_not(self) -> None:
        """A moment's pause of a reader is none of the reasons to lose an answer."""
        with serving(Front(), Response(BIG), max_requests=1) as site:
            reading = site.slow_reader()
            time.sleep(0.2)
            assert site.status() == 503
            received = b""
            while len(received) < len(BIG):
                received += reading.recv(1 << 20)
            assert received.endswith(BIG[:1000])
            reading.close()

    def test_what_somebody_did_not_read_to_its_end_is_not_kept(self) -> None:
        """An answer that is made while it is sent ends with its client, without waiting for a garbage collection."""
        pieces: list[weakref.ref[Pieces]] = []

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            made = Pieces()
            pieces.append(weakref.ref(made))
            await StreamingResponse(made)(scope, receive, send)

        with serving(Front(), app) as site:
            gc.collect()
            gc.disable()
            try:
                for _ in range(5):
                    site.slow_reader().close()
                assert wait_until(lambda: len(pieces) == 5 and not any(each() for each in pieces), 5)
            finally:
                gc.enable()

    def test_what_a_stalled_client_costs_is_bounded(self) -> None:
        """Of a large answer only a small piece waits in memory for its reader."""
        with serving(Front(), Response(BIG)) as site:
            stalled = [site.slow_reader() for _ in range(5)]
            time.sleep(0.3)
            held = [each.transport.get_write_buffer_size() for each in site.server._server.server_state.connections]
            assert len(held) == 5
            assert max(held) < 3 * BUFFER
            for connection in stalled:
                connection.close()
