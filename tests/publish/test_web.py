"""The HTTP interface, through the real server."""

from __future__ import annotations

import asyncio
import gc
import gzip
import http.client
import socket
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
from starlette.concurrency import run_in_threadpool

from exporter import evaluate
from exporter.publish import web as web_module
from exporter.publish.exposition import Format
from exporter.publish.formats import json as json_report
from tests.builders import TAKEN_AT, crowd, down, published, stats
from tests.hosts import host
from tests.kernels import kernel
from tests.lab.system import wait_until
from tests.publish.server import DEMO_HOST, PATHS, demo, serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from starlette.responses import Response

    from exporter.model.report import Report
    from exporter.model.snapshot import Snapshot
    from tests.publish.server import Site

STREAMED = "/api/v1/report"


@pytest.fixture(scope="module")
def server() -> Iterator[Site]:
    """Serve all tests of this module."""
    with serving() as site:
        yield site


@pytest.fixture
def site(server: Site) -> Site:
    """Return the server with a good poll of the demo's engine just published."""
    state = demo()
    server.board.publish(state)
    assert state.last_success
    server.now = state.last_success.timestamp() + 1
    return server


class TestEveryPath:
    @pytest.mark.parametrize("path", PATHS)
    def test_answers(self, site: Site, path: str) -> None:
        """While the engine is up every path answers with 200, a type, and headers that protect readers."""
        answer = site.get(path)
        assert answer.status == 200
        assert answer.body
        assert answer.headers["content-type"].split(";")[0] in ("text/html", "text/plain", "application/json")
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        assert "default-src 'none'" in answer.headers["content-security-policy"]

    @pytest.mark.parametrize("path", PATHS)
    def test_head_is_get_without_the_body(self, site: Site, path: str) -> None:
        """HEAD gives the same headers and nothing else; the length is missing only where GET streams."""
        get, head = site.get(path), site.get(path, "HEAD")
        assert (head.status, head.body) == (200, b"")
        kept = [{name: text for name, text in each.headers.items() if name != "date"} for each in (get, head)]
        assert kept[0] == kept[1]
        assert ("content-length" in head.headers) is (path != STREAMED)

    @pytest.mark.parametrize("path", PATHS)
    @pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "BREW"])
    def test_other_methods_are_refused(self, site: Site, path: str, method: str) -> None:
        """Nothing can be changed: any other method is answered with 405 and those that are allowed."""
        answer = site.get(path, method)
        assert answer.status == 405
        assert {each.strip() for each in answer.headers["allow"].split(",")} == {"GET", "HEAD"}
        assert answer.headers["x-content-type-options"] == "nosniff"

    @pytest.mark.parametrize(
        "path",
        [
            *("/metrics/", "/metric", "/METRICS", "/x/metrics", "//metrics", "/metrics/x"),
            "/favicon.ico",
            "/%00",
            "/%ff",
        ],
    )
    def test_unknown_paths_are_not_found(self, site: Site, path: str) -> None:
        """Paths are exact, so that a typing error is noticed."""
        assert site.get(path).status == 404

    @pytest.mark.parametrize("path", PATHS)
    @pytest.mark.parametrize("query", ["name[]=x", "%ff%00", "&&&==", "a=" + "b" * 4000, "source=%ed%a0%80"])
    def test_odd_queries_break_nothing(self, site: Site, path: str, query: str) -> None:
        """Where nothing is asked they are ignored, and where something is, they are the client's error."""
        asks = "?" in path
        assert site.get(f"{path}{'&' if asks else '?'}{query}").status == (400 if asks else 200)


class TestMetrics:
    def test_the_bodies_are_the_rendered_ones(self, site: Site) -> None:
        """A scrape gets the bytes that were rendered when the state was published."""
        answer = site.get("/metrics")
        assert answer.body == site.board.current.bodies[Format.TEXT_0_0_4.name].plain
        assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert answer.headers["vary"] == "Accept, Accept-Encoding"

    def test_openmetrics_for_those_who_ask(self, site: Site) -> None:
        """The Accept header decides on the format."""
        answer = site.get("/metrics", Accept="application/openmetrics-text; version=1.0.0")
        assert answer.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
        assert answer.text.endswith("# EOF\n")

    def test_gzip_for_those_who_ask(self, site: Site) -> None:
        """The compressed body is announced and unpacks to the plain one."""
        plain, packed = site.get("/metrics"), site.get("/metrics", Accept_Encoding="gzip")
        assert packed.headers["content-encoding"] == "gzip"
        assert gzip.decompress(packed.body) == plain.body
        assert "content-encoding" not in plain.headers

    def test_several_accept_headers_are_one(self, site: Site) -> None:
        """A header that comes twice means the same as its elements in one."""
        connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=10)
        connection.putrequest("GET", "/metrics", skip_accept_encoding=True)
        connection.putheader("Accept", "text/html")
        connection.putheader("Accept", "application/openmetrics-text")
        connection.endheaders()
        assert connection.getresponse().headers["Content-Type"].startswith("application/openmetrics-text")
        connection.close()

    @pytest.mark.parametrize("accept", ['application/openmetrics-text; version="', ";;;,,,", "text/plain;q=", '"'])
    def test_malformed_headers_get_an_answer(self, site: Site, accept: str) -> None:
        """A header that means nothing is no error of the server."""
        assert site.get("/metrics", Accept=accept, Accept_Encoding=accept).status == 200

    def test_another_path_may_be_chosen(self) -> None:
        """With another telemetry path the usual one is unknown, and the page links to the other."""
        with serving("/internal/icc") as site:
            assert site.get("/internal/icc").status == 200
            assert site.get("/metrics").status == 404
            assert 'href="./internal/icc"' in site.get("/").text


class TestHealth:
    def test_healthy_whatever_the_engine_does(self, site: Site) -> None:
        """The process is healthy while the engine is down: restarting it would not help."""
        site.board.publish(down())
        answer = site.get("/-/healthy")
        assert (answer.status, answer.text) == (200, "Healthy\n")

    def test_not_ready_before_the_first_poll(self) -> None:
        """Before the first good poll the reason is that there was none."""
        with serving() as site:
            answer = site.get("/-/ready")
            assert (answer.status, answer.text) == (503, "Not ready: the engine has not been polled yet\n")

    def test_ready_after_a_good_poll(self, site: Site) -> None:
        """A good poll makes ready for three intervals, also through a failure in between."""
        assert site.get("/-/ready").text == "Ready\n"
        site.board.publish(site.board.current.failed(site.board.current.since, "timed out", stats()))
        assert site.get("/-/ready").status == 200

    def test_not_ready_when_the_last_good_poll_is_old(self, site: Site) -> None:
        """After three intervals the answer is 503, and says how old the last good poll is and what went wrong."""
        site.board.publish(site.board.current.failed(site.board.current.since, "timed out", stats()))
        site.now += 59
        answer = site.get("/-/ready")
        assert answer.status == 503
        assert answer.text == "Not ready: the last good poll was 60 s ago, more than 45 s: timed out\n"

    def test_a_clock_set_back_does_not_make_ready(self, site: Site) -> None:
        """A poll that seems to lie far in the future proves nothing about now."""
        site.now -= 3600
        assert site.get("/-/ready").status == 503


class TestApi:
    def test_the_report_is_streamed_whole(self, site: Site) -> None:
        """The report over HTTP is the report of the command line."""
        document = site.get("/api/v1/report").document
        assert document["engine"]["name"] == "demo-host"
        assert len(document["pairs"]) == document["totals"]["reachable_pairs"]

    def test_a_large_report_arrives(self, site: Site) -> None:
        """All 62,250 pairs of 250 containers arrive."""
        site.board.publish(published(crowd(250)))
        assert len(site.get("/api/v1/report").document["pairs"]) == 62_250

    def test_what_decides_about_drift_is_worked_out_once(self, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        """The page and the report have the same words, made for who asks first: publishing and scrapes make none."""
        made: list[Report] = []
        find = evaluate.causes

        def counting(snapshot: Snapshot, report: Report) -> Mapping[tuple[str, str], str]:
            made.append(report)
            return find(snapshot, report)

        monkeypatch.setattr(evaluate, "causes", counting)
        seen = kernel(host("28.5").container("web").container("db")).engine_rules().rules("-I FORWARD -j DROP").look()
        state = site.board.current.succeeded(TAKEN_AT, seen.observation, seen.snapshot, seen.report, stats())
        site.board.publish(state)
        site.board.publish(state.counted(stats()))
        assert site.get("/metrics").status == site.get("/api/v1/report", "HEAD").status == 200
        assert made == []
        first, _ = site.get("/api/v1/report").document["drift"]
        assert first["decided_by"] == "host: ip filter FORWARD rule 1 `-j DROP`: drop"
        assert first["decided_by"].replace("`", "") in site.get("/").text.replace("`", "")
        assert made == [seen.report]

    def test_a_reader_who_leaves_harms_nobody(self, site: Site) -> None:
        """After a client that hung up in the middle of a large report the next one is served."""
        site.board.publish(published(crowd(250)))
        with socket.create_connection(("127.0.0.1", site.port)) as client:
            client.sendall(b"GET /api/v1/report HTTP/1.1\r\nHost: x\r\n\r\n")
            assert client.recv(100)
        assert site.get("/metrics").status == 200

    def test_all_who_read_one_report_share_what_is_large(self, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        """Names, the head and texts of verdicts are made once for those who read the same, and go with the last."""
        made: list[weakref.ref[json_report.Document]] = []

        make = json_report.Document

        def document(report: Report, causes: Mapping[tuple[str, str], str]) -> json_report.Document:
            found = make(report, causes)
            made.append(weakref.ref(found))
            return found

        monkeypatch.setattr(json_report, "Document", document)
        for _ in range(2):
            site.board.publish(published(crowd(250)))
            with ExitStack() as readers:
                for _ in range(5):
                    reader = readers.enter_context(socket.create_connection(("127.0.0.1", site.port), 5))
                    reader.sendall(b"GET /api/v1/report HTTP/1.1\r\nHost: x\r\n\r\n")
                    assert reader.recv(100)
        assert len(made) == 2

        def gone() -> bool:
            gc.collect()
            return not any(each() for each in made)

        assert wait_until(gone, 5)

    def test_the_snapshot_is_the_observation_file(self, site: Site) -> None:
        """What is served can be saved and replayed."""
        assert site.get("/api/v1/snapshot").text.strip() == DEMO_HOST.read_text().strip()

    @pytest.mark.parametrize(
        "path", ["/api/v1/report", "/api/v1/snapshot", "/api/v1/explain?source=a&destination=b", "/api/v1/whatif"]
    )
    def test_without_a_report_the_error_is_told(self, site: Site, path: str) -> None:
        """While the engine is down the API answers 503 with the reason, never with old verdicts."""
        site.board.publish(down("connection refused: is the daemon \ud800 running?"))
        answer = site.get(path)
        assert answer.status == 503
        assert answer.document == {"error": "connection refused: is the daemon \ud800 running?"}

    def test_explain_says_why(self, site: Site) -> None:
        """The explanation has the verdict, the paths and what was found."""
        document = site.get("/api/v1/explain?source=web&destination=client&protocol=tcp&port=80").document
        assert (document["source"], document["destination"]) == ("web", "client")
        assert document["verdict"] == "reachable"
        assert [path["ports"] for path in document["paths"]] == ["80"]
        assert document["findings"][0]["opens"] is True

    def test_explain_follows_packets_through_the_rules(self, site: Site) -> None:
        """With the kernel's evidence the answer has the way of a packet, narrowed by every parameter."""
        built = host("28.5", icc=False).container("db", expose=["5432/tcp"]).container("web", links=["db"])
        seen = kernel(built).engine_rules().look()
        site.board.publish(replace(published(seen.report), snapshot=seen.snapshot))
        query = "source=web&destination=db&protocol=tcp&port=22&address=172.17.0.2"
        document = site.get(f"/api/v1/explain?{query}").document
        (trip,) = document["trips"]
        assert (document["verdict"], trip["verdict"]) == ("blocked", "blocked")
        assert trip["packet"] == {"protocol": "tcp", "address": "172.17.0.2", "port": 22}
        assert trip["legs"][-1]["hops"][-1]["lost"] is True
        assert "Would open it" in site.get(f"/?{query}").text

    def test_empty_parameters_are_left_out_ones(self, site: Site) -> None:
        """A form that is sent with empty fields asks about any protocol and port."""
        query = "source=web&destination=client"
        bare = site.get(f"/api/v1/explain?{query}")
        assert site.get(f"/api/v1/explain?{query}&protocol=&port=&address=").document == bare.document

    @pytest.mark.parametrize(
        ("query", "error"),
        [
            ("", "source and destination are needed: names of containers, or beginnings of their ids"),
            ("source=web", "source and destination are needed: names of containers, or beginnings of their ids"),
            ("source=web&destination=client&protocol=sctp", "protocol must be one of tcp, udp, icmp, not 'sctp'"),
            ("source=web&destination=client&port=0", "port must be from 1 to 65535, not 0"),
            ("source=web&destination=client&port=65536", "port must be from 1 to 65535, not 65536"),
            ("source=web&destination=client&port=http", "port must be a number from 1 to 65535, not 'http'"),
            ("source=web&destination=client&port=-1", "port must be a number from 1 to 65535, not '-1'"),
            ("source=web&destination=client&port=1_0", "port must be a number from 1 to 65535, not '1_0'"),
            (
                "source=web&destination=client&address=web",
                "address must be an IPv4 or IPv6 address without a zone, not 'web'",
            ),
            (
                "source=web&destination=client&address=fe80::1%25eth0",
                "address must be an IPv4 or IPv6 address without a zone, not 'fe80::1%eth0'",
            ),
            (
                "source=web&destination=client&prot=udp",
                "unknown parameter 'prot': there are source, destination, protocol, port, address",
            ),
            ("source=web&destination=client&port=80&port=81", "port is there 2 times"),
            ("source=web&destination=client&port=80&protocol=icmp", "icmp has no ports: leave port or protocol out"),
        ],
    )
    def test_a_malformed_question_is_told_so(self, site: Site, query: str, error: str) -> None:
        """Each wrong parameter is a 400 that says what is expected."""
        answer = site.get(f"/api/v1/explain?{query}")
        assert (answer.status, answer.document) == (400, {"error": error})

    def test_an_arabic_number_is_no_port(self, site: Site) -> None:
        """Only the digits that everybody reads alike count."""
        assert site.get(f"/api/v1/explain?source=web&destination=client&port={quote('٨٠')}").status == 400

    def test_an_unknown_container_is_not_found(self, site: Site) -> None:
        """A name that nobody bears is a 404 with the name in it."""
        answer = site.get("/api/v1/explain?source=web&destination=nobody")
        assert answer.status == 404
        assert "'nobody'" in answer.document["error"]

    def test_whatif_foretells(self, site: Site) -> None:
        """The answer is that of the command, for the daemon and for a network."""
        document = site.get("/api/v1/whatif?icc=false").document
        assert document["action"] == "the daemon restarted with --icc=false"
        assert {(pair["source"], pair["destination"]) for pair in document["pairs"]} == {
            ("client", "web"),
            ("web", "client"),
        }
        assert site.get("/api/v1/whatif?icc=false&network=shop").document["totals"]["closes"] == 2
        assert site.get("/api/v1/whatif?userland_proxy=false").document["totals"]["closes"] == 17

    def test_the_page_foretells(self, site: Site) -> None:
        """The form of the page asks the same; what cannot be foretold is told on the page."""
        page = site.get("/?icc=false&network=&userland_proxy=").text
        assert "the daemon restarted with --icc=false" in page
        assert page.count(">closes</span>") == 2
        for query in (
            "icc=no",
            "network=shop",
            "icc=false&network=nobody",
            "icc=false&network=shop&userland_proxy=true",
        ):
            answer = site.get(f"/?{query}")
            assert answer.status == 200
            assert 'role="alert"' in answer.text

    @pytest.mark.parametrize(
        ("query", "status", "error"),
        [
            ("icc=no", 400, "icc must be true or false, not 'no'"),
            ("userland_proxy=1", 400, "userland_proxy must be true or false, not '1'"),
            ("network=shop", 400, "network needs icc: true or false"),
            ("ic=false", 400, "unknown parameter 'ic': there are icc, network, userland_proxy"),
            ("icc=false&network=nobody", 404, "no network is called 'nobody'"),
            (
                "icc=false&network=shop&userland_proxy=false",
                409,
                "userland-proxy is the daemon's: ask about it and about a network one after the other",
            ),
        ],
    )
    def test_what_cannot_be_foretold_is_told_so(self, site: Site, query: str, status: int, error: str) -> None:
        """A malformed question, an unknown network and a change that nobody can foresee have statuses of their own."""
        answer = site.get(f"/api/v1/whatif?{query}")
        assert (answer.status, answer.document) == (status, {"error": error})


def test_a_defect_shows_nothing_of_itself(site: Site) -> None:
    """When a handler fails the client gets a plain 500, the server goes on."""
    state = site.board.current
    site.board.publish(replace(state, snapshot=replace(state.snapshot, sandboxes={}) if state.snapshot else None))
    answer = site.get("/api/v1/explain?source=web&destination=client")
    assert (answer.status, answer.text) == (500, "Internal Server Error\n")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert site.get("/metrics").status == 200


def test_two_hundred_idle_connections_do_not_block_a_scrape(site: Site) -> None:
    """Clients that connect and say nothing leave the next scrape as it is."""
    idle = [socket.create_connection(("127.0.0.1", site.port)) for _ in range(200)]
    try:
        assert site.get("/metrics").status == 200
    finally:
        for each in idle:
            each.close()


class TestTogether:
    @pytest.mark.parametrize("path", ["/", "/api/v1/explain?source=web&destination=client", "/api/v1/snapshot"])
    def test_who_asks_the_same_at_the_same_time_gets_one_answer(
        self, site: Site, path: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What takes long is made once for all that wait for it, and anew for those that come later."""
        made = []

        async def slowly(make: Callable[..., Response], *arguments: object) -> Response:
            made.append(path)
            await asyncio.sleep(1)
            return await run_in_threadpool(make, *arguments)

        monkeypatch.setattr(web_module, "run_in_threadpool", slowly)
        with ThreadPoolExecutor(8) as clients:
            answers = list(clients.map(lambda _: site.get(path), range(8)))
        assert {answer.status for answer in answers} == {200}
        assert len({answer.body for answer in answers}) == 1
        assert len(made) == 1
        assert site.get(path).status == 200
        assert len(made) == 2

    def test_other_questions_have_answers_of_their_own(self, site: Site) -> None:
        """Only the same question shares an answer."""
        questions = [("web", "client"), ("client", "web"), ("web", "nobody")] * 5
        with ThreadPoolExecutor(15) as clients:
            path = "/api/v1/explain?source={}&destination={}"
            answers = list(clients.map(lambda pair: site.get(path.format(*pair)), questions))
        found = [(each.document.get("source"), each.document.get("destination")) for each in answers]
        assert found == [("web", "client"), ("client", "web"), (None, None)] * 5

    def test_a_new_state_is_not_answered_with_an_old_one(self, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        """Who asks after a poll does not share the answer of those who asked before it."""

        async def slowly(make: Callable[..., Response], *arguments: object) -> Response:
            answer = await run_in_threadpool(make, *arguments)
            await asyncio.sleep(0.4)
            return answer

        monkeypatch.setattr(web_module, "run_in_threadpool", slowly)
        with ThreadPoolExecutor(1) as early:
            before = early.submit(site.get, "/api/v1/snapshot")
            time.sleep(0.2)
            site.board.publish(down())
            after = site.get("/api/v1/snapshot")
            assert (before.result().status, after.status) == (200, 503)
