"""The smallest HTTP client that speaks to an engine's unix socket."""

from __future__ import annotations

import http.client
import json
import socket
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from tests.lab.errors import LabError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


class _UnixConnection(http.client.HTTPConnection):
    """An HTTP connection whose wire is a unix socket."""

    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Open the unix socket in place of a TCP one."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def get(path: Path, url: str, timeout: float = 30) -> Any:  # noqa: ANN401 - JSON has no narrower type
    """GET a JSON document; anything but status 200 is a LabError."""
    return _ask(path, "GET", url, None, timeout)


def post(path: Path, url: str, document: object = None, timeout: float = 30) -> None:
    """POST a JSON document; what is no success is a LabError."""
    _ask(path, "POST", url, document, timeout)


def _ask(path: Path, method: str, url: str, document: object, timeout: float) -> Any:  # noqa: ANN401
    sent = None if document is None else json.dumps(document)
    headers = {} if document is None else {"Content-Type": "application/json"}
    answer, body = exchange(_UnixConnection(path, timeout), method, url, sent, headers)
    return json.loads(body) if answer.getheader("Content-Type", "").startswith("application/json") else body


def exchange(
    connection: http.client.HTTPConnection,
    method: str,
    url: str,
    sent: str | None = None,
    headers: Mapping[str, str] = MappingProxyType({}),
) -> tuple[http.client.HTTPResponse, str]:
    """Ask once by a new connection; what is no success, or no answer at all, is a LabError."""
    try:
        connection.request(method, url, sent, headers)
        answer = connection.getresponse()
        body = answer.read().decode(errors="replace")
    except OSError as error:
        raise LabError(f"{method} {url}: {error}") from error
    finally:
        connection.close()
    if answer.status >= 300:
        raise LabError(f"{method} {url}: status {answer.status}: {body.strip()}")
    return answer, body
