"""Clients that mean no good, in a process of their own: python -m tests.bench.abuse KIND HOST:PORT CA AUTHORIZATION.

It says "ready" when all are at work, and goes on until its standard input ends; the floods end by themselves.
"""

from __future__ import annotations

import random
import select
import socket
import ssl
import sys
import threading
import time
from contextlib import suppress
from itertools import count

from tests.bench.malformed import requests

IDLE = 200
SLOW = 60
FLOOD = 10_000
PIPELINES = 100
PIPELINED = 100
_BURSTS = 5
_BETWEEN_BURSTS = 4
_PAUSE = 0.5


class Attacker:
    """Knows the way to the server, and a good password: strangers get less far."""

    def __init__(self, address: str, authority: str, authorization: str) -> None:
        host, _, port = address.rpartition(":")
        self._where = host, int(port)
        self._context = ssl.create_default_context(cafile=authority)
        self._authorization = authorization

    def idle(self) -> None:
        """Hold TLS connections on which nothing is ever asked; who loses one comes again."""
        connections = [self._connect() for _ in range(IDLE)]
        _say_ready()
        while not _input_ended(_PAUSE):
            readable, _, _ = select.select(connections, [], [], 0)
            for lost in filter(_ended, readable):
                lost.close()
                connections[connections.index(lost)] = self._connect()

    def slow(self) -> None:
        """Ask for the longest answer there is, in more requests than are let in, and read little of it."""
        for _ in range(SLOW):
            threading.Thread(target=self._trickle, daemon=True).start()
        time.sleep(5)
        _say_ready()
        while not _input_ended(_PAUSE):
            pass

    def _trickle(self) -> None:
        while True:
            with suppress(OSError), self._connect(window=4096) as connection:
                head = f"GET /api/v1/report HTTP/1.1\r\nHost: x\r\nAuthorization: {self._authorization}\r\n\r\n"
                connection.sendall(head.encode())
                while connection.recv(256):
                    time.sleep(_PAUSE)
            time.sleep(_PAUSE)

    def flood(self) -> None:
        """Send malformed requests, each on a connection of its own, and one in ten of them in a new TLS session."""
        _say_ready()
        dice, session = random.Random(time.time()), None
        for number, request in zip(count(), requests(FLOOD, dice), strict=False):
            with suppress(OSError), socket.create_connection(self._where, 5) as raw:
                if number % 3 == 0:
                    raw.sendall(request)  # not even TLS
                    raw.shutdown(socket.SHUT_WR)
                    raw.recv(100)
                    continue
                resumed = session if number % 10 else None
                with self._context.wrap_socket(raw, server_hostname="localhost", session=resumed) as connection:
                    connection.sendall(request)
                    connection.settimeout(0.05 if number % 50 == 0 else 0.005)
                    connection.recv(1000)
                    session = connection.session

    def pipelined(self) -> None:
        """Ask many times at once without a password, on many connections, and after a while again."""
        request = b"GET /metrics HTTP/1.1\r\nHost: x\r\n"
        asked = (request + b"\r\n") * (PIPELINED - 1) + request + b"Connection: close\r\n\r\n"
        _say_ready()
        for _ in range(_BURSTS):
            connections = [self._connect() for _ in range(PIPELINES)]
            time.sleep(_BETWEEN_BURSTS)
            for connection in connections:
                connection.sendall(asked)
            for connection in connections:
                with suppress(OSError), connection:
                    while connection.recv(1 << 16):
                        pass

    def _connect(self, window: int | None = None) -> ssl.SSLSocket:
        raw = socket.socket()
        if window:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
        raw.connect(self._where)
        return self._context.wrap_socket(raw, server_hostname="localhost")


def _ended(connection: ssl.SSLSocket) -> bool:
    """Return whether a connection has ended; it may just have sent what belongs to the handshake."""
    connection.settimeout(0.001)
    try:
        return connection.recv(1) == b""
    except TimeoutError:
        return False
    except OSError:
        return True


def _say_ready() -> None:
    print("ready", flush=True)


def _input_ended(seconds: float) -> bool:
    readable, _, _ = select.select([sys.stdin], [], [], seconds)
    return bool(readable)


if __name__ == "__main__":
    getattr(Attacker(*sys.argv[2:]), sys.argv[1])()
