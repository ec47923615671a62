"""One look at an engine."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from exporter.errors import EngineError, EngineRefused, EngineUnreachable, ObservationError
from exporter.observe import observer as observer_module
from exporter.observe.client import EngineClient
from exporter.observe.files import dumps
from exporter.observe.host import EngineHost
from exporter.observe.observer import Observer
from tests.fake_engine import VERSION, container, network, response, says

if TYPE_CHECKING:
    from tests.fake_engine import FakeEngine

ALLOWED = {"/version", "/info", "/networks", "/containers/json"}


def test_a_poll_is_two_requests(engine: FakeEngine, observer: Observer) -> None:
    """After the first look each further one is exactly GET /containers/json and GET /networks, nothing else."""
    observer.observe()
    assert engine.paths == ["/version", "/info", "/containers/json", "/networks"]
    engine.requests.clear()
    for _ in range(10):
        observer.observe()
    assert engine.requests == [("GET", "/v1.51/containers/json"), ("GET", "/v1.51/networks")] * 10


def test_only_allowed_paths_are_asked_with_get(engine: FakeEngine, observer: Observer) -> None:
    """Over errors and restarts too, nothing but GETs of four paths reaches the engine."""
    observer.observe()
    engine.answers["/networks"] = says(b"")
    with pytest.raises(EngineError):
        observer.observe()
    engine.answers["/networks"] = [network()]
    engine.stop()
    engine.start()
    observer.observe()
    assert {method for method, _ in engine.requests} == {"GET"}
    assert set(engine.paths) == ALLOWED


def test_no_secret_is_kept(observer: Observer) -> None:
    """Labels, commands, mounts, aliases, images and the proxy's password are in the answers and not in what is kept."""
    assert "secret" not in dumps(observer.observe())


def test_labels_are_kept_that_were_asked_for(engine: FakeEngine) -> None:
    """No other label comes in, and a change of what is asked for counts from the next look on."""
    labels = {"tenant": "a", "token": "hunter2"}
    engine.answers["/containers/json"] = [container("a", 2, Labels=labels), container("b", 3, Labels=None)]
    asked = ["tenant"]
    observer = Observer(EngineClient(EngineHost(engine.url), 5.0), None, lambda: tuple(asked))
    seen = observer.observe()
    assert ([each.get("Labels") for each in seen.containers], seen.labels) == ([{"tenant": "a"}, None], ("tenant",))
    assert "hunter2" not in dumps(seen)
    asked[:] = ["absent"]
    assert [each.get("Labels") for each in observer.observe().containers] == [{}, None]
    observer.close()


def test_what_verdicts_need_is_kept(observer: Observer) -> None:
    """Addresses, options and flags come through as the engine wrote them."""
    seen = observer.observe()
    assert seen.version["ApiVersion"] == "1.51"
    assert seen.info["BridgeNfIptables"] is True
    assert seen.networks[0]["Options"]["com.docker.network.bridge.enable_icc"] == "true"
    assert seen.networks[0]["IPAM"]["Config"] == [{"Subnet": "172.17.0.0/16", "Gateway": "172.17.0.1"}]
    assert seen.containers[0]["NetworkSettings"]["Networks"]["bridge"]["IPAddress"] == "172.17.0.2"
    assert seen.sightings["id-of-a"].status == "Up 3 seconds"


def test_unknown_missing_and_null_fields_are_passed_over(engine: FakeEngine, observer: Observer) -> None:
    """A future engine's new fields, an old one's missing ones and Go's nil lists are no errors."""
    engine.answers["/containers/json"] = [
        container("a", Ports=None, NetworkSettings=None, Future={"x": [1]}),
        {"Id": "bare"},
    ]
    engine.answers["/networks"] = [network(IPAM={"Config": None}, Options=None)]
    seen = observer.observe()
    assert [entry["Id"] for entry in seen.containers] == ["id-of-a", "bare"]
    assert "Options" not in seen.networks[0]


@pytest.mark.parametrize(
    ("path", "answer", "complaint"),
    [
        ("/networks", {"message": "x"}, "GET /networks is not a list"),
        ("/networks", [network(), "x"], r"GET /networks\[1\] is not an object"),
        ("/networks", [network(IPAM={"Config": "x"})], r"GET /networks\[0\]: IPAM: Config is not a list"),
        ("/containers/json", [container("a", Ports={})], r"GET /containers/json\[0\]: Ports is not a list"),
        ("/containers/json", [container("a", NetworkSettings={"Networks": [1]})], "Networks is not an object"),
        ("/containers/json", [container("a", HostConfig="x")], "HostConfig is not an object"),
        ("/info", [], "GET /info is not an object"),
        ("/version", [], "GET /version: the answer is not an object"),
        ("/version", VERSION | {"Components": 1}, "Components is not a list"),
    ],
)
def test_a_document_of_another_shape_is_named(
    engine: FakeEngine, observer: Observer, path: str, answer: object, complaint: str
) -> None:
    """What is no list, no object or no entry where one belongs is malformed, and the message says where."""
    engine.answers[path] = answer
    with pytest.raises(ObservationError, match=complaint):
        observer.observe()


def test_an_engines_restart_is_survived_and_its_facts_are_read_again(engine: FakeEngine, observer: Observer) -> None:
    """A new connection may lead to another engine: version and info are asked again, without a failed poll."""
    observer.observe()
    engine.stop()
    engine.answers["/version"] = VERSION | {"Version": "29.0.0", "ApiVersion": "1.52"}
    engine.start()
    engine.requests.clear()
    assert observer.observe().version["Version"] == "29.0.0"
    assert sorted(engine.paths) == sorted(ALLOWED)
    engine.requests.clear()
    observer.observe()
    assert engine.requests == [("GET", "/v1.52/containers/json"), ("GET", "/v1.52/networks")]


def test_a_newer_engine_that_refuses_the_old_version_is_asked_anew(engine: FakeEngine, observer: Observer) -> None:
    """When a replaced engine refuses the API version spoken so far, the next look agrees on another."""
    observer.observe()
    engine.answers["/containers/json"] = lambda connection: connection.sendall(
        response({"message": "client version 1.51 is too old"}, "400 Bad Request")
    )
    with pytest.raises(EngineRefused, match="too old"):
        observer.observe()
    engine.answers["/version"] = VERSION | {"ApiVersion": "1.70", "MinAPIVersion": "1.60"}
    engine.answers["/containers/json"] = []
    observer.observe()
    assert engine.requests[-1] == ("GET", "/v1.60/networks")


def test_an_engine_that_is_down_is_found_when_it_is_back(engine: FakeEngine, observer: Observer) -> None:
    """Looks fail while the socket is gone and succeed afterwards, with the same observer."""
    observer.observe()
    engine.stop()
    for _ in range(2):
        with pytest.raises(EngineUnreachable):
            observer.observe()
    engine.start()
    assert len(observer.observe().containers) == 2


def test_facts_are_read_again_now_and_then(
    engine: FakeEngine, observer: Observer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kernel settings in /info may change while the engine runs, so it is not kept for ever."""
    observer.observe()
    engine.answers["/info"] = {"BridgeNfIptables": False}
    assert observer.observe().info["BridgeNfIptables"] is True
    monkeypatch.setattr(observer_module, "FACTS_AGE", 0.0)
    assert observer.observe().info["BridgeNfIptables"] is False


def test_ten_thousand_networks_are_read(engine: FakeEngine) -> None:
    """A host with 10,000 networks is observed."""
    networks = [network(f"n{number}") for number in range(10_000)]
    body = response(networks)
    engine.answers["/networks"] = lambda connection: connection.sendall(body)
    observer = Observer(EngineClient(EngineHost(engine.url), timeout=60))
    assert len(observer.observe().networks) == 10_000
    observer.close()


def test_names_come_through_unchanged(engine: FakeEngine, observer: Observer) -> None:
    """Quotes, line ends, markup and any script survive the way from the engine to the file."""
    name = "/\"';\n\u202e<script>alert(1)</script>…é\U0001f433"
    engine.answers["/containers/json"] = [container("a", Names=[name])]
    assert json.loads(dumps(observer.observe()))["api"]["containers"][0]["Names"] == [name]
