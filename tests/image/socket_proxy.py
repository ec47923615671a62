"""A stand-in for the socket proxy of deploy/compose, which cannot be pulled here: the same flags with the same meaning.

A request passes when its method has a pattern and the pattern matches the whole of its path; the query does not count.
"""

from __future__ import annotations

import re
import socket
import sys
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingUnixStreamServer
from threading import Thread
from urllib.parse import unquote, urlsplit

HEALTH_PORT = 55555


def flags(arguments: list[str]) -> dict[str, str]:
    """Return the flags by name; one without a value is a switch."""
    pairs = (argument.lstrip("-").partition("=") for argument in arguments)
    return {name: value for name, _, value in pairs}


def allows(patterns: dict[str, str], method: str, target: str) -> int:
    """Return the status for a request: 200 where it passes."""
    pattern = patterns.get(f"allow{method}")
    if pattern is None:
        return 405
    return 200 if re.fullmatch(pattern, unquote(urlsplit(target).path)) else 403


class Handler(BaseHTTPRequestHandler):
    """Passes a request on, or refuses it."""

    server: Server

    def handle_one_request(self) -> None:
        """Answer one request and close: the engine's answer is passed on as it comes."""
        self.close_connection = True
        self.raw_requestline = self.rfile.readline(65537)
        if not self.raw_requestline or not self.parse_request():
            return
        status = allows(self.server.flags, self.command, self.path)
        # in one piece, for threads share it
        sys.stdout.write(f"{status} {self.command} {self.path}\n")
        sys.stdout.flush()
        if status != 200:
            self.send_error(status)
            return
        with socket.socket(socket.AF_UNIX) as engine, suppress(OSError):
            engine.connect("/var/run/docker.sock")
            engine.sendall(f"GET {self.path} HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n\r\n".encode())
            while piece := engine.recv(65536):
                self.wfile.write(piece)

    def address_string(self) -> str:
        """Return who asks: clients of such sockets have no address."""
        return "client"


class Server(ThreadingUnixStreamServer):
    """Listens where it was told."""

    daemon_threads = True
    flags: dict[str, str]


def main() -> None:
    """Serve until the end."""
    if sys.argv[1:] == ["--check"]:
        socket.create_connection(("127.0.0.1", HEALTH_PORT), timeout=2).close()
        return
    given = flags(sys.argv[1:])
    path = Path(given["proxysocketendpoint"])
    path.unlink(missing_ok=True)
    with Server(str(path), Handler) as server, socket.create_server(("127.0.0.1", HEALTH_PORT)) as health:
        path.chmod(int(given["proxysocketendpointfilemode"], 8))
        server.flags = given
        Thread(target=server.serve_forever, daemon=True).start()
        while True:
            health.accept()[0].close()


if __name__ == "__main__":
    main()
