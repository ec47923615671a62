"""The HTTP interface: metrics, health, the JSON API and the page for people. Read-only, and without any state."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, TypeVar
from weakref import WeakValueDictionary

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from exporter import evaluate
from exporter.collector import paused
from exporter.errors import Unforeseeable, UnknownContainer, UnknownNetwork
from exporter.model.explanation import asked_address
from exporter.model.reach import Protocol
from exporter.model.whatif import Proposal
from exporter.publish.exposition import accepts_gzip, negotiate
from exporter.publish.formats import json as json_report
from exporter.publish.page import Answers, Page

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from http import HTTPStatus

    from starlette.requests import Request

    from exporter.model.explanation import Explanation
    from exporter.model.observation import Observation
    from exporter.model.report import Report
    from exporter.model.whatif import Foretelling
    from exporter.publish.state import Board, Causes, Published

Answer = TypeVar("Answer")

_JSON = "application/json"
_TEXT = "text/plain; charset=utf-8"
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_HIGHEST_PORT = 65535
_OF_EXPLAIN = ("source", "destination", "protocol", "port", "address")
_OF_WHATIF = ("icc", "network", "userland_proxy")


def create_app(
    board: Board,
    *,
    dumps: Callable[[Observation], str],
    ready_within: float,
    telemetry_path: str = "/metrics",
    clock: Callable[[], float] = time.time,
) -> Starlette:
    """Return the application over a board.

    `dumps` writes an observation as its file would hold it, `ready_within` is how many seconds a good poll makes
    the exporter ready, `clock` gives the seconds since the epoch.
    """
    site = _Site(board, dumps, ready_within, clock, Page(telemetry_path))
    shared = partial(_shared, board)
    routes = [
        Route("/", shared(site.page)),
        Route(telemetry_path, site.metrics),
        Route("/-/healthy", site.healthy),
        Route("/-/ready", site.ready),
        Route("/api/v1/report", site.report),
        Route("/api/v1/explain", shared(site.explain)),
        Route("/api/v1/whatif", shared(site.whatif)),
        Route("/api/v1/snapshot", shared(site.snapshot)),
    ]
    app = Starlette(routes=routes, exception_handlers={HTTPException: _refused, Exception: _failed})
    app.router.redirect_slashes = False
    return app


@dataclass(frozen=True, slots=True)
class _Site:
    """The handlers. Those that take long are plain functions, which run off the event loop.

    All but the report make one answer for all who ask the same meanwhile. The report is too long to be held: it is
    made while it is sent, for each client; `documents` is what all who read the same one have in common.
    """

    board: Board
    dumps: Callable[[Observation], str]
    ready_within: float
    clock: Callable[[], float]
    template: Page
    documents: WeakValueDictionary[int, json_report.Document] = field(default_factory=WeakValueDictionary)

    async def metrics(self, request: Request) -> Response:
        """Serve bytes that are already rendered."""
        chosen, content_type = negotiate(_header(request, "Accept"))
        body = self.board.current.bodies[chosen.name]
        headers = {"Vary": "Accept, Accept-Encoding"}
        if accepts_gzip(_header(request, "Accept-Encoding")):
            return _respond(body.gzip, content_type, headers=headers | {"Content-Encoding": "gzip"})
        return _respond(body.plain, content_type, headers=headers)

    async def healthy(self, _: Request) -> Response:
        """Say that the process answers."""
        return _respond("Healthy\n", _TEXT)

    async def ready(self, _: Request) -> Response:
        """Say whether what is published rests on a recent look at the engine."""
        reason = self._not_ready(self.board.current)
        return _respond(f"Not ready: {reason}\n", _TEXT, 503) if reason else _respond("Ready\n", _TEXT)

    def _not_ready(self, published: Published) -> str:
        if published.last_success is None:
            return published.last_error
        age = self.clock() - published.last_success.timestamp()
        # A poll in the future is as stale as an old one: the clock was set back after it.
        if abs(age) <= self.ready_within:
            return ""
        reason = f"the last good poll was {age:.0f} s ago, more than {self.ready_within:.0f} s"
        return f"{reason}: {published.last_error}" if published.last_error else reason

    def report(self, request: Request) -> Response:
        """Stream the whole report."""
        published = self.board.current
        if published.report is None or published.causes is None:
            return _error(published.last_error, 503)
        chunks = () if request.method == "HEAD" else self._document(published.report, published.causes).chunks()
        return StreamingResponse(chunks, media_type=_JSON, headers=_HEADERS)

    def _document(self, report: Report, causes: Causes) -> json_report.Document:
        """Return the document that others read just now, if any do. A report has its identity while they do."""
        document = self.documents.get(id(report))
        if document is None:
            document = self.documents[id(report)] = json_report.Document(report, causes.found())
        return document

    def snapshot(self, _: Request) -> Response:
        """Serve the observation that the report follows from."""
        published = self.board.current
        if published.observation is None:
            return _error(published.last_error, 503)
        return _respond(self.dumps(published.observation), _JSON)

    def explain(self, request: Request) -> Response:
        """Say why a pair is reachable, blocked or unknown."""
        return _answered(
            lambda: _explanation(self.board.current, _asked(request, _OF_EXPLAIN)), json_report.explanation
        )

    def whatif(self, request: Request) -> Response:
        """Say what would become of the pairs if a setting were another one."""
        return _answered(lambda: _foretelling(self.board.current, _asked(request, _OF_WHATIF)), json_report.foretelling)

    def page(self, request: Request) -> Response:
        """Show everything to people, and the explanation of a pair or what a change would bring if they ask for it."""
        published, asked = self.board.current, request.query_params
        explanation, complaint = None, ""
        if asked.get("source") or asked.get("destination"):
            try:
                explanation = _explanation(published, asked)
            except (UnknownContainer, ValueError) as error:
                complaint = str(error)
        foretelling, objection = None, ""
        if any(asked.get(name) for name in _OF_WHATIF):
            try:
                foretelling = _foretelling(published, asked)
            except (UnknownNetwork, Unforeseeable, ValueError) as error:
                objection = str(error)
        answers = Answers(explanation, complaint, foretelling, objection)
        html = self.template.render(published, self.clock(), asked, answers)
        policy = {"Content-Security-Policy": self.template.content_security_policy}
        return _respond(html, "text/html; charset=utf-8", headers=policy)


def _shared(board: Board, make: Callable[[Request], Response]) -> Callable[[Request], Awaitable[Response]]:
    """Return a handler that makes an answer once for all who ask the same of the same state meanwhile."""
    flights: dict[str, tuple[Published, asyncio.Future[Response]]] = {}

    def landed(asked: str, flight: asyncio.Future[Response]) -> None:
        if flights[asked][1] is flight:
            del flights[asked]

    async def answer(request: Request) -> Response:
        asked, current = request.url.query, board.current
        state, flight = flights.get(asked, (None, None))
        if flight is None or state is not current:
            flight = asyncio.ensure_future(run_in_threadpool(make, request))
            flights[asked] = current, flight
            flight.add_done_callback(partial(landed, asked))
        # shielded, for others wait for it too when this client goes away
        return await asyncio.shield(flight)

    return answer


class _NothingPublished(ValueError):
    """There is no report to answer from."""


_STATUSES: Mapping[type[Exception], int] = {
    _NothingPublished: 503,
    UnknownContainer: 404,
    UnknownNetwork: 404,
    Unforeseeable: 409,
    ValueError: 400,
}
"""Why a question has no answer, and the status that says so; the first that fits counts."""


def _answered(ask: Callable[[], Answer], written: Callable[[Answer], str]) -> Response:
    """Serve the answer to a question as JSON, or say why there is none."""
    try:
        answer = ask()
    except tuple(_STATUSES) as error:
        return _error(str(error), next(status for kind, status in _STATUSES.items() if isinstance(error, kind)))
    return _respond(written(answer), _JSON)


def _asked(request: Request, known: Sequence[str]) -> Mapping[str, str]:
    """Return what is asked; raises ValueError for a name that says nothing, so that a typing error is noticed."""
    for name, times in Counter(name for name, _ in request.query_params.multi_items()).items():
        if name not in known:
            raise ValueError(f"unknown parameter {name!r}: there are {', '.join(known)}")
        if times > 1:
            raise ValueError(f"{name} is there {times} times")
    return request.query_params


@paused()
def _explanation(published: Published, asked: Mapping[str, str]) -> Explanation:
    """Answer a question; raises ValueError where it is malformed, UnknownContainer where it names none."""
    source, destination = asked.get("source", ""), asked.get("destination", "")
    if not source or not destination:
        raise ValueError("source and destination are needed: names of containers, or beginnings of their ids")
    protocol, port = _protocol(asked.get("protocol", "")), _port(asked.get("port", ""))
    address = asked_address(asked.get("address", ""))
    if port is not None and protocol is Protocol.ICMP:
        raise ValueError("icmp has no ports: leave port or protocol out")
    if published.report is None or published.snapshot is None:
        raise _NothingPublished(published.last_error)
    return evaluate.explain(published.snapshot, published.report, source, destination, protocol, port, address)


@paused()
def _foretelling(published: Published, asked: Mapping[str, str]) -> Foretelling:
    """Answer a question; raises ValueError where it is malformed, UnknownNetwork and Unforeseeable as `whatif` does."""
    proposal = Proposal(
        _switch(asked, "icc"), asked.get("network", ""), userland_proxy=_switch(asked, "userland_proxy")
    )
    if proposal.network and proposal.icc is None:
        raise ValueError("network needs icc: true or false")
    if published.report is None or published.snapshot is None:
        raise _NothingPublished(published.last_error)
    return evaluate.whatif(published.snapshot, published.report, proposal)


def _switch(asked: Mapping[str, str], name: str) -> bool | None:
    text = asked.get(name, "")
    if text not in ("", "true", "false"):
        raise ValueError(f"{name} must be true or false, not {text!r}")
    return text == "true" if text else None


def _protocol(text: str) -> Protocol | None:
    try:
        return Protocol(text) if text else None
    except ValueError:
        raise ValueError(f"protocol must be one of {', '.join(Protocol)}, not {text!r}") from None


def _port(text: str) -> int | None:
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(_HIGHEST_PORT))):
        raise ValueError(f"port must be a number from 1 to {_HIGHEST_PORT}, not {text!r}")
    if not 1 <= int(text) <= _HIGHEST_PORT:
        raise ValueError(f"port must be from 1 to {_HIGHEST_PORT}, not {int(text)}")
    return int(text)


def _header(request: Request, name: str) -> str:
    """Return a header's value; several of one name mean the same as their elements in one."""
    return ", ".join(request.headers.getlist(name))


def _respond(
    content: str | bytes, content_type: str, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    body = content.encode("utf-8", "replace") if isinstance(content, str) else content
    return Response(body, status, {**_HEADERS, "Content-Type": content_type, **(headers or {})})


def refusal(status: HTTPStatus, headers: Mapping[str, str] | None = None) -> Response:
    """Return the answer to a request that is not looked at any further."""
    return _respond(f"{status.phrase}\n", _TEXT, status, headers)


def _error(message: str, status: int) -> Response:
    return _respond(json.dumps({"error": message}) + "\n", _JSON, status)


async def _refused(_: Request, error: Exception) -> Response:
    """Answer unknown paths and methods."""
    if not isinstance(error, HTTPException):
        raise error
    return _respond(f"{error.detail}\n", _TEXT, error.status_code, error.headers)


async def _failed(_: Request, __: Exception) -> Response:
    """Answer after a defect; the framework raises it on, so that the server logs it."""
    return _respond("Internal Server Error\n", _TEXT, 500)
