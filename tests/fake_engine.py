"""An engine's socket without an engine: answers from recorded documents, or misbehaves as a test wants it to."""

from __future__ import annotations

import contextlib
import json
import queue
import re
import socket
import threading
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    Behaviour = Callable[[socket.socket], None]

VERSION: dict[str, Any] = {
    "Version": "28.5.1",
    "ApiVersion": "1.51",
    "MinAPIVersion": "1.24",
    "Os": "linux",
    "Platform": {"Name": "Docker Engine - Community"},
    "Components": [{"Name": "Engine", "Version": "28.5.1", "Details": {"GitCommit": "f8215cc"}}],
}
INFO: dict[str, Any] = {
    "ID": "7c3a",
    "Name": "host1",
    "ServerVersion": "28.5.1",
    "OSType": "linux",
    "SecurityOptions": ["name=seccomp,profile=builtin", "name=cgroupns"],
    "BridgeNfIptables": True,
    "BridgeNfIp6tables": True,
    "IPv4Forwarding": True,
    "ExperimentalBuild": False,
    "FirewallBackend": {"Driver": "iptables"},
    "Swarm": {"LocalNodeState": "inactive", "NodeID": ""},
    "HttpProxy": "http://user:secret@proxy",
}


def network(name: str = "bridge", **fields: Any) -> dict[str, Any]:  # noqa: ANN401
    """Return an entry of `GET /networks` as an engine 28.5 writes it."""
    return {
        "Name": name,
        "Id": f"id-of-{name}",
        "Scope": "local",
        "Driver": "bridge",
        "EnableIPv4": True,
        "EnableIPv6": False,
        "IPAM": {
            "Driver": "default",
            "Options": None,
            "Config": [{"Subnet": "172.17.0.0/16", "Gateway": "172.17.0.1"}],
        },
        "Internal": False,
        "Attachable": False,
        "Ingress": False,
        "ConfigFrom": {"Network": ""},
        "ConfigOnly": False,
        "Options": {
            "com.docker.network.bridge.default_bridge": "true",
            "com.docker.network.bridge.enable_icc": "true",
            "com.docker.network.bridge.enable_ip_masquerade": "true",
            "com.docker.network.bridge.name": "docker0",
        },
        "Labels": {"owner": "secret-of-the-network"},
    } | fields


def container(name: str, number: int = 2, **fields: Any) -> dict[str, Any]:  # noqa: ANN401
    """Return an entry of `GET /containers/json`, on the default bridge."""
    endpoint = {
        "NetworkID": "id-of-bridge",
        "EndpointID": f"endpoint-of-{name}",
        "Gateway": "172.17.0.1",
        "IPAddress": f"172.17.{number >> 8}.{number & 255}",
        "IPPrefixLen": 16,
        "MacAddress": "02:42:ac:11:00:02",
        "Aliases": ["secret-alias"],
    }
    return {
        "Id": f"id-of-{name}",
        "Names": [f"/{name}"],
        "Image": "nginx",
        "Command": "server --password=secret",
        "Labels": {"token": "secret"},
        "State": "running",
        "Status": "Up 3 seconds",
        "Ports": [],
        "HostConfig": {"NetworkMode": "bridge"},
        "NetworkSettings": {"Networks": {"bridge": endpoint}},
        "Mounts": [{"Source": "/secret"}],
    } | fields


class FakeEngine:
    """Listens on a unix socket. `answers` holds documents by path, or what to do with the connection instead.

    `requests` are the (method, path) pairs that came, as they were written. Use it with `with`; it can be stopped
    and started again at the same address.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.answers: dict[str, object] = {
            "/version": VERSION,
            "/info": INFO,
            "/networks": [network()],
            "/containers/json": [container("a", 2), container("b", 3)],
            "/events": self._stream,
        }
        self.requests: list[tuple[str, str]] = []
        self.events: queue.Queue[bytes | None] = queue.Queue()
        self._connections: list[socket.socket] = []
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"unix://{self.path}"

    @property
    def paths(self) -> list[str]:
        """Paths of the requests so far, without version and parameters."""
        return [_plain(path) for _, path in self.requests]

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Listen."""
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(self.path))
        self._listener.listen(64)
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def stop(self) -> None:
        """Close the listening socket and every connection, as the end of an engine does."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.path.unlink(missing_ok=True)
        with self._lock:
            connections, self._connections = self._connections, []
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def freeze(self) -> None:
        """Accept no connection any more, as a process does that got SIGSTOP: clients wait in the backlog."""
        self.stop()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(self.path))
        self._listener.listen(64)

    def emit(self, kind: str, action: str, **fields: object) -> None:
        """Send an event to whoever reads the stream."""
        self.events.put(json.dumps({"Type": kind, "Action": action, "Actor": {}} | fields).encode() + b"\n")

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with self._lock:
                    self._connections.append(connection)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as reader, contextlib.suppress(OSError):
            while head := list(iter(lambda: reader.readline().strip(), b"")):
                method, path, _ = head[0].decode().split(" ")
                self.requests.append((method, path))
                self._answer(connection, _plain(path))

    def _answer(self, connection: socket.socket, path: str) -> None:
        answer = self.answers.get(path)
        if callable(answer):
            answer(connection)
        elif answer is None:
            connection.sendall(response({"message": "page not found"}, "404 Not Found"))
        else:
            connection.sendall(response(answer))

    def _stream(self, connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: application/json\r\n\r\n")
        while (piece := self.events.get()) is not None:
            connection.sendall(b"%x\r\n%s\r\n" % (len(piece), piece))
        connection.sendall(b"0\r\n\r\n")


def response(document: object, status: str = "200 OK") -> bytes:
    """Return a whole answer; bytes are sent as they are, anything else as JSON."""
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def says(text: bytes) -> Behaviour:
    """Send this and close the connection."""

    def behave(connection: socket.socket) -> None:
        connection.sendall(text)
        connection.shutdown(socket.SHUT_RDWR)

    return behave


def hangs(connection: socket.socket) -> None:
    """Answer nothing for as long as the client waits."""
    connection.recv(1)


def dribbles(pieces: Iterable[bytes], pause: float = 0.05) -> Behaviour:
    """Send a little at a time, so that no single read takes long."""

    def behave(connection: socket.socket) -> None:
        stopped = threading.Event()
        for piece in pieces:
            connection.sendall(piece)
            stopped.wait(pause)

    return behave


def _plain(path: str) -> str:
    return re.sub(r"^/v1\.\d+", "", path).partition("?")[0]
