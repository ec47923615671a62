"""Connections to an engine that another thread can cut.

A socket's timeout counts from the last byte, so a server that sends one byte a second keeps a reader for ever. A
deadline over a whole poll, and a prompt end of the program, need a way to the open sockets from outside the reading
thread; that includes a socket on its way up: a lookup of a name has no timeout at all, and a TLS handshake is many
reads. The SDK's own adapters choose their connection classes themselves; these take their place in its session.
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import subprocess
import threading
import weakref
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from errno import ECONNABORTED
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from docker.transport.basehttpadapter import BaseHTTPAdapter
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError
from urllib3.util.ssl_ import create_urllib3_context, resolve_cert_reqs

from exporter import threads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from requests import PreparedRequest
    from urllib3.connectionpool import ConnectionPool

SOCKET_OPTIONS = (
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
)
"""A peer that vanished without a word is noticed after a minute, on connections where silence is normal."""


class Address(NamedTuple):
    """What a socket is made of, and where it connects to."""

    family: int
    type: int
    protocol: int
    where: Any


class Lookup:
    """Addresses of one client's engine, found in a thread that nobody has to wait for: getaddrinfo knows no timeout.

    A lookup that nobody waits for any more goes on, and is joined by the next that asks: there is never more than one.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[Future[list[Address]]] = []
        self._going = False
        self._thread: threads.Started | None = None

    def addresses(self, host: str, port: int, timeout: float | None) -> list[Address]:
        """Return where the name leads.

        Raises OSError as getaddrinfo does, TimeoutError, ConnectionAbortedError; SystemShort.
        """
        found: Future[list[Address]] = Future()
        with self._lock:
            self._waiting.append(found)
            if not self._going or not (self._thread and self._thread.alive):
                self._thread = threads.start(lambda: self._run(host, port))
                self._going = True
        return found.result(timeout)

    def cut(self) -> None:
        """Let nobody wait any more."""
        with self._lock:
            waiting, self._waiting = self._waiting, []
        for found in waiting:
            found.set_exception(ConnectionAbortedError(ECONNABORTED, os.strerror(ECONNABORTED)))

    def _run(self, host: str, port: int) -> None:
        addresses: list[Address] = []
        failure: Exception | None = None
        try:
            addresses = [
                Address(family, kind, protocol, where)
                for family, kind, protocol, _, where in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            ]
        except (OSError, ValueError) as error:
            failure = error
        with self._lock:
            self._going = False
            waiting, self._waiting = self._waiting, []
        for found in waiting:
            if failure:
                found.set_exception(failure)
            else:
                found.set_result(addresses)


class OpenSockets:
    """The sockets of one client. `dials` counts the connections made so far."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self.lookup = Lookup()
        self.dials = 0

    def add(self, opened: socket.socket) -> None:
        """Take note of a socket that has just been connected."""
        with self._lock:
            self.dials += 1
            self._sockets.add(opened)

    @contextmanager
    def rising(self, opened: socket.socket) -> Iterator[None]:
        """Let `cut` reach a connection that is being made, also while a TLS socket takes the descriptor over."""
        with opened.dup() as second:
            with self._lock:
                self._sockets.add(second)
            yield

    def cut(self) -> None:
        """End every lookup, read and write that is going on; may be called from any thread, and again."""
        self.lookup.cut()
        with self._lock:
            sockets = list(self._sockets)
        for opened in sockets:
            with contextlib.suppress(OSError):
                # a TLS socket's own shutdown() would pull the TLS state from under the thread that reads
                socket.socket.shutdown(opened, socket.SHUT_RDWR)


class DialledConnection(HTTPConnection):
    """HTTP over whatever stream socket `dial(timeout)` returns."""

    def __init__(self, dial: Callable[[float | None], socket.socket], sockets: OpenSockets, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._dial = dial
        self._sockets = sockets

    def connect(self) -> None:
        """Open the socket."""
        self.sock = self._dial(self.timeout)
        self._sockets.add(self.sock)


class _DialledPool(HTTPConnectionPool):
    def __init__(self, dial: Callable[[float | None], socket.socket], sockets: OpenSockets, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout, maxsize=1)
        self._arguments = (dial, sockets, timeout)

    def _new_conn(self) -> DialledConnection:
        return DialledConnection(*self._arguments)


class DialledAdapter(BaseHTTPAdapter):
    """For unix and ssh hosts: one engine behind it, whatever the request's URL calls the host."""

    def __init__(self, dial: Callable[[float | None], socket.socket], sockets: OpenSockets, timeout: float) -> None:
        super().__init__()
        self._pool = _DialledPool(dial, sockets, timeout)

    def get_connection_with_tls_context(
        self,
        request: PreparedRequest,  # noqa: ARG002 - the signature is requests'
        verify: bool | str | None,  # noqa: ARG002
        proxies: Mapping[str, str] | None = None,  # noqa: ARG002
        cert: tuple[str, str] | str | None = None,  # noqa: ARG002
    ) -> HTTPConnectionPool:
        """Return the pool of connections to the engine."""
        return self._pool

    def request_url(self, request: PreparedRequest, proxies: Mapping[str, str] | None) -> str:  # noqa: ARG002
        """Return the path: there is no proxy on the way to a socket."""
        return request.path_url

    def close(self) -> None:
        """Close the connections that wait in the pool."""
        super().close()
        self._pool.close()


def dial_unix(path: str) -> Callable[[float | None], socket.socket]:
    """Return how to connect to a socket file."""

    def dial(timeout: float | None) -> socket.socket:
        opened = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            opened.settimeout(timeout)
            opened.connect(path)
        except BaseException:
            opened.close()
            raise
        return opened

    return dial


class SshSocket(socket.socket):
    """One end of a pair of sockets; at the other end `ssh` speaks with the engine, as the Docker CLI has it."""

    def __init__(self, command: list[str]) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process: subprocess.Popen[bytes] | None = None
            super().__init__(fileno=ours.detach())
            try:
                # a session of its own: ^C at our terminal is ours to handle
                self._process = subprocess.Popen(
                    command, stdin=theirs.fileno(), stdout=theirs.fileno(), start_new_session=True
                )
            except BaseException:
                self.close()
                raise

    def close(self) -> None:
        """Close the socket, and when nobody reads from it any more, end the process."""
        super().close()
        if self.fileno() < 0 and self._process is not None:
            self._process.kill()
            self._process.wait()


def dial_ssh(url: str) -> Callable[[float | None], socket.socket]:
    """Return how to reach the engine behind `ssh://[user@]host[:port]` with the OpenSSH client and its settings."""
    parts = urlsplit(url)
    target = ["-l", parts.username] if parts.username else []
    if parts.port:
        target += ["-p", str(parts.port)]
    target += ["--", parts.hostname or "", "docker system dial-stdio"]

    def dial(timeout: float | None) -> socket.socket:
        options = ["-T", "-o", "BatchMode=yes", "-o", f"ConnectTimeout={max(1, int(timeout or 0))}"]
        opened = SshSocket(["ssh", *options, *target])
        opened.settimeout(timeout)
        return opened

    return dial


class TcpAdapter(HTTPAdapter):
    """For tcp hosts, with and without TLS."""

    def __init__(self, sockets: OpenSockets) -> None:
        super().__init__(pool_connections=1, pool_maxsize=1)
        self._http, self._https = _reporting_connections(sockets)

    def get_connection_with_tls_context(
        self,
        request: PreparedRequest,
        verify: bool | str | None,
        proxies: Mapping[str, str] | None = None,
        cert: tuple[str, str] | str | None = None,
    ) -> ConnectionPool:
        """Return the pool of connections to the engine, which has not made any before we saw it."""
        pool = super().get_connection_with_tls_context(request, verify, proxies, cert)
        if isinstance(pool, HTTPSConnectionPool):
            pool.ConnectionCls = self._https
        elif isinstance(pool, HTTPConnectionPool):
            pool.ConnectionCls = self._http
        return pool


def _reporting_connections(sockets: OpenSockets) -> tuple[type[HTTPConnection], type[HTTPSConnection]]:
    """Return connection classes, without and with TLS, that note every socket they open."""

    class TcpConnection(HTTPConnection):
        def _new_conn(self) -> socket.socket:
            return _connected(self, sockets)

        def connect(self) -> None:
            super().connect()
            sockets.add(self.sock)

    class TlsConnection(HTTPSConnection):
        def _new_conn(self) -> socket.socket:
            opened = _connected(self, sockets)
            # until the handshake is over; it takes the descriptor out of the socket object
            self._rising.enter_context(sockets.rising(opened))
            return opened

        def connect(self) -> None:
            self.ssl_context = self.ssl_context or create_urllib3_context(cert_reqs=resolve_cert_reqs(self.cert_reqs))
            # which Python 3.13 asks for: engines' certificates are old ones, too, that do not tell whose keys sign them
            self.ssl_context.verify_flags &= ~ssl.VERIFY_X509_STRICT
            self._rising = ExitStack()
            with self._rising:
                super().connect()
            sockets.add(self.sock)

    return TcpConnection, TlsConnection


def _connected(connection: HTTPConnection, sockets: OpenSockets) -> socket.socket:
    """Connect as urllib3 does, with its exceptions, where `sockets` can cut it."""
    host, timeout = connection.host.strip("[]"), connection.timeout
    try:
        return _connect(sockets.lookup.addresses(host, connection.port or 0, timeout), timeout, sockets)
    except socket.gaierror as error:
        raise NameResolutionError(host, connection, error) from error
    except TimeoutError as error:
        raise ConnectTimeoutError(connection, f"no connection to {host} within {timeout} s") from error
    except (OSError, ValueError) as error:
        raise NewConnectionError(connection, f"no connection: {error}") from error


def _connect(addresses: list[Address], timeout: float | None, sockets: OpenSockets) -> socket.socket:
    """Return a connection to the first address that takes one. Raises the last one's OSError."""
    failure = OSError("the name has no addresses")
    for address in addresses:
        opened = socket.socket(*address[:3])
        try:
            for option in SOCKET_OPTIONS:
                opened.setsockopt(*option)
            opened.settimeout(timeout)
            with sockets.rising(opened):
                opened.connect(address.where)
        except OSError as error:
            opened.close()
            failure = error
        except BaseException:
            opened.close()
            raise
        else:
            return opened
    raise failure
