"""A proxy before an engine's socket: it writes down what is asked, and may end answers before their end."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from pathlib import Path

PIECE = 1 << 16
REQUEST = re.compile(rb"^([A-Z]+ \S+) HTTP/1\.[01]\r$", re.MULTILINE)


class EngineProxy:
    """Listens at a socket file; a context. `requests` are methods and paths in the order in which they came."""

    def __init__(self, path: Path, engine: Path) -> None:
        self.url = f"unix://{path}"
        self._engine = str(engine)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen()
        self._open: set[socket.socket] = set()
        self._bytes: int | None = None
        self.requests: list[str] = []

    def cut_after(self, size: int | None) -> None:
        """Let so many bytes of answers through on each connection from now on, or all; no connection is kept."""
        self._bytes = size
        for each in tuple(self._open):
            _shut(each)

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        _shut(self._listener)
        self._listener.close()
        self.cut_after(0)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as engine:
            self._open.add(client)
            with contextlib.suppress(OSError):
                engine.connect(self._engine)
                threading.Thread(target=self._ask, args=(client, engine), daemon=True).start()
                _pass(engine, client, self._bytes)
            self._open.discard(client)
            _shut(engine)
            _shut(client)

    def _ask(self, client: socket.socket, engine: socket.socket) -> None:
        """Pass requests on. None of them has a body, so each ends where its head does."""
        head = b""
        with contextlib.suppress(OSError):
            while piece := client.recv(PIECE):
                *complete, head = (head + piece).split(b"\r\n\r\n")
                for each in complete:
                    self.requests += [line.decode() for line in REQUEST.findall(each + b"\r\n")]
                engine.sendall(piece)
            engine.shutdown(socket.SHUT_WR)


def _pass(source: socket.socket, target: socket.socket, size: int | None) -> None:
    """Pass on so many bytes, or all."""
    with contextlib.suppress(OSError):
        while size is None or size > 0:
            piece = source.recv(PIECE if size is None else min(PIECE, size))
            if not piece:
                break
            target.sendall(piece)
            size = None if size is None else size - len(piece)
        target.shutdown(socket.SHUT_WR)


def _shut(opened: socket.socket) -> None:
    with contextlib.suppress(OSError):
        opened.shutdown(socket.SHUT_RDWR)
