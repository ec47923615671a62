"""The Engine API, read only: the SDK's low-level client, held to a list of paths, to deadlines and to sizes."""

from __future__ import annotations

import contextlib
import json
import math
import re
import threading
import time
from contextlib import contextmanager
from http.client import HTTPException
from typing import TYPE_CHECKING, Any, Final

import docker
import requests
import urllib3
from docker.errors import DockerException

from exporter import __version__, threads
from exporter.errors import (
    EngineError,
    EngineRefused,
    EngineTimeout,
    EngineUnreachable,
    ForbiddenRequest,
    ObservationError,
)
from exporter.observe.advice import advice, advice_on_refusal
from exporter.observe.transport import DialledAdapter, OpenSockets, TcpAdapter, dial_ssh, dial_unix

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exporter.observe.host import EngineHost

ALLOWED: Final = re.compile(r"(?:/v1\.\d+)?/(?:version|info|networks|containers/json|events)(?:\?.*)?")
"""Everything that is ever asked for, with GET: no inspect, so no container's environment is ever read."""

NEWEST_TESTED: Final = (1, 56)
"""The newest API version whose answers are among the recordings that the tests replay."""

BODY_LIMIT: Final = 128 << 20
"""Bytes of one answer. 10,000 networks are 10 MB; what is longer comes from something that is no engine."""

_CHUNK = 1 << 20
_CUT_AGAIN = 0.02
_MESSAGE_BYTES = 16 << 10
_MESSAGE_LIMIT = 300
_FOREIGN = (requests.RequestException, urllib3.exceptions.HTTPError, HTTPException, DockerException, OSError)
_TIMEOUTS = (requests.Timeout, urllib3.exceptions.TimeoutError, TimeoutError)
_API_VERSION = re.compile(r"(\d{1,9})\.(\d{1,9})", re.ASCII)
_NOT_AUTO = "1.41"
"""Any version makes the SDK's constructor ask nothing; ours are in the paths that we request."""


class ReadOnlySession(docker.APIClient):
    """The SDK's session. Whatever asks through it, requests that are not allowed end here, unsent."""

    def __init__(self, host: EngineHost, timeout: float, sockets: OpenSockets) -> None:
        parsed = host.parsed()
        dialled = not parsed.startswith(("http://", "https://"))
        super().__init__(
            # for ssh the SDK would load paramiko; any unix address makes it leave the way there to our adapter
            base_url="unix://engine" if dialled else host.url,
            version=_NOT_AUTO,
            tls=False if dialled else host.tls_config() or False,
            user_agent=f"docker-icc-exporter/{__version__}",
        )
        # proxies and REQUESTS_CA_BUNDLE are for the web: the latter would even replace the engine's own authority
        self.trust_env = False
        self.headers["Accept-Encoding"] = "identity"
        if dialled:
            path = "/" + parsed.removeprefix("http+unix://").lstrip("/")
            dial = dial_ssh(host.url) if parsed.startswith("ssh://") else dial_unix(path)
            self.mount("http+docker://", DialledAdapter(dial, sockets, timeout))
        else:
            self.base_url = parsed
            self.mount("http://", TcpAdapter(sockets))
            self.mount("https://", TcpAdapter(sockets))

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:  # noqa: ANN401 - as requests has it
        """Send the request if it is allowed, else raise ForbiddenRequest."""
        url = request.url or ""
        path = url.removeprefix(self.base_url)
        if request.method != "GET" or path == url or not ALLOWED.fullmatch(path):
            raise ForbiddenRequest(f"not sent, for it is outside the allow-list: {request.method} {url}")
        return super().send(request, **kwargs)


class EngineClient:
    """Documents of one engine. Connects when first asked, and anew after any error.

    `timeout` (seconds) is for one request, and for everything inside a `deadline`. One thread asks at a time;
    `interrupt` may be called from any other.
    """

    def __init__(self, host: EngineHost, timeout: float) -> None:
        self.host = host
        self._timeout = timeout
        self._sockets = OpenSockets()
        self._session: ReadOnlySession | None = None
        self._prefix = ""
        self._ends = math.inf

    @property
    def timeout(self) -> float:
        """Seconds for one request, and for a whole `deadline`."""
        return self._timeout

    @property
    def dials(self) -> int:
        """How many connections were made so far: the engine behind a new one may be another."""
        return self._sockets.dials

    @contextmanager
    def deadline(self) -> Iterator[None]:
        """Let everything inside take `timeout` seconds together; what is late ends as EngineTimeout."""
        self._ends = time.monotonic() + self._timeout
        done, cutting = threading.Event(), threading.Lock()
        threads.start(lambda: self._cut_late(done, cutting))
        try:
            yield
        finally:
            # what is asked next is not to be cut by a thread that had just seen this one go on
            with cutting:
                done.set()
            self._ends = math.inf

    def version(self) -> object:
        """Return `GET /version`, and speak from now on the newest API that the engine and we know.

        Raises EngineError when the engine cannot be asked, ObservationError when its answer makes no sense.
        """
        document = self._document("/version", prefix="")
        self._prefix = f"/v{spoken_version(document)}"
        return document

    def get(self, path: str) -> object:
        """Return the JSON document at a path of the API. Raises as `version` does."""
        self._greet()
        return self._document(path, self._prefix)

    @contextmanager
    def stream(self, path: str, params: dict[str, str], silence: float) -> Iterator[Iterator[bytes]]:
        """Give the pieces of an endless answer as they arrive; after `silence` seconds without any: EngineTimeout."""
        self._greet()
        with self._translated(), contextlib.closing(self._request(path, self._prefix, params, silence)) as response:
            yield iter(lambda: response.raw.read1(_CHUNK), b"")

    def interrupt(self) -> None:
        """Make whatever another thread waits for here end at once, as EngineUnreachable."""
        self._sockets.cut()

    def close(self) -> None:
        """Give the connections back. The client may be used again, and connects then."""
        if self._session is not None:
            self._session.close()
            self._session = None
            self._prefix = ""

    def _greet(self) -> None:
        if not self._prefix:
            self.version()

    def _open_session(self) -> ReadOnlySession:
        if self._session is None:
            self._session = ReadOnlySession(self.host, self._timeout, self._sockets)
        return self._session

    def _document(self, path: str, prefix: str) -> object:
        with self._translated(), contextlib.closing(self._request(path, prefix)) as response:
            body = _read(path, response)
            # a connection that was cut looks, to some answers, like their regular end
            if time.monotonic() >= self._ends:
                raise TimeoutError
        try:
            document: object = json.loads(body)
        except (ValueError, RecursionError) as error:
            self.close()
            raise ObservationError(f"GET {path}: the answer is not JSON: {_shortened(str(error))}") from error
        return document

    def _request(
        self, path: str, prefix: str, params: dict[str, str] | None = None, silence: float | None = None
    ) -> requests.Response:
        session = self._open_session()
        patience = min(self._timeout, self._ends - time.monotonic())
        if patience <= 0:
            raise TimeoutError
        response = session.get(
            f"{session.base_url}{prefix}{path}",
            params=params,
            timeout=(patience, silence or patience),
            stream=True,
            allow_redirects=False,
        )
        if response.status_code != requests.codes.ok:
            with contextlib.closing(response):
                raise _refused(path, response)
        return response

    def _cut_late(self, done: threading.Event, cutting: threading.Lock) -> None:
        if done.wait(self._timeout):
            return
        # again and again: a connection may just be on its way up
        while not done.wait(_CUT_AGAIN):
            with cutting:
                if not done.is_set():
                    self._sockets.cut()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Turn what the libraries raise into our errors, once, and start afresh: pooled sockets may be dead too."""
        try:
            yield
        except (EngineError, ObservationError):
            self.close()
            raise
        except _FOREIGN as error:
            late = time.monotonic() >= self._ends
            self.close()
            if late or isinstance(error, _TIMEOUTS):
                raise EngineTimeout(f"the engine at {self.host} did not answer within {self._timeout:g} s") from error
            message = f"cannot reach the engine at {self.host}: {_reason(error)}"
            raise EngineUnreachable(_advised(message, advice(self.host, error))) from error


def spoken_version(document: object) -> str:
    """Return the API version to speak with an engine whose `GET /version` this is: the newest that both know.

    Above what we were tested with only where the engine speaks nothing older.
    """
    if not isinstance(document, dict):
        raise ObservationError("GET /version: the answer is not an object: is this a Docker Engine?")
    newest = _parsed(document, "ApiVersion")
    oldest = _parsed(document, "MinAPIVersion") if document.get("MinAPIVersion") else (0, 0)
    major, minor = max(min(newest, NEWEST_TESTED), oldest)
    if major != 1:
        known = ".".join(map(str, NEWEST_TESTED))
        raise ObservationError(
            f"GET /version: the engine speaks API {major}.{minor} and up to {'.'.join(map(str, newest))}; "
            f"this exporter knows API 1.x up to {known}: is there a newer release of it?"
        )
    return f"{major}.{minor}"


def _parsed(document: dict[str, Any], key: str) -> tuple[int, int]:
    value = document.get(key)
    match = _API_VERSION.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ObservationError(f"GET /version: {key} is not a version: is this a Docker Engine?")
    return int(match[1]), int(match[2])


def _read(path: str, response: requests.Response) -> bytes:
    pieces = []
    length = 0
    while piece := response.raw.read(_CHUNK):
        pieces.append(piece)
        length += len(piece)
        if length > BODY_LIMIT:
            raise ObservationError(f"GET {path}: the answer is longer than {BODY_LIMIT >> 20} MiB")
    return b"".join(pieces)


def _refused(path: str, response: requests.Response) -> EngineRefused:
    """Say what the engine said: `{"message": …}`, or whatever a proxy before it writes."""
    body = response.raw.read(_MESSAGE_BYTES)
    text = body.decode(errors="replace")
    with contextlib.suppress(ValueError, RecursionError, KeyError, TypeError):
        text = str(json.loads(body)["message"])
    message = _shortened(text.strip()) or response.reason or "no reason given"
    status = response.status_code
    complete = _advised(f"GET {path}: the engine answered {status}: {message}", advice_on_refusal(status, text))
    return EngineRefused(complete, status)


def _advised(message: str, what_to_do: str) -> str:
    return f"{message} ({what_to_do})" if what_to_do else message


def _reason(error: BaseException) -> str:
    """Return the operating system's words where the libraries wrapped them, else the innermost message."""
    inner = error
    while True:
        if isinstance(inner, OSError) and inner.strerror:
            return _shortened(f"{inner.strerror}: {inner.filename}" if inner.filename else inner.strerror)
        nested = [inner.__cause__, inner.__context__, *inner.args, getattr(inner, "reason", None)]
        causes = [cause for cause in nested if isinstance(cause, BaseException)]
        if not causes or isinstance(inner, HTTPException):
            return _shortened(str(inner)) or type(inner).__name__
        inner = causes[0]


def _shortened(text: str) -> str:
    """Return text from outside fit for a log line: no controls, not endless."""
    escaped = "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in text[:_MESSAGE_LIMIT])
    return f"{escaped}…" if len(text) > _MESSAGE_LIMIT else escaped
