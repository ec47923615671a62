"""Observations in files."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from exporter.errors import ObservationError
from exporter.model.observation import (
    ConfigurationFile,
    DaemonDocuments,
    Flag,
    FormerAddress,
    FormerLink,
    KernelDocuments,
)
from exporter.observe import files
from exporter.observe.files import FileObserver, dumps, load, loads
from exporter.parse import parse

if TYPE_CHECKING:
    from pathlib import Path

    from exporter.model.observation import Observation
    from exporter.observe.observer import Observer

SIGHTED = {"status": "Up 1 second", "at": "2026-01-01T00:00:00Z"}


@pytest.fixture
def observation(observer: Observer) -> Observation:
    """Give what an observer sees."""
    return observer.observe()


def document(**changes: Any) -> str:  # noqa: ANN401
    """Return a small file, with some of its parts changed; None leaves a part out."""
    parts = {
        "format": "docker-icc-exporter/observation",
        "schema": 1,
        "taken_at": "2026-01-01T00:00:00Z",
        "api": {"version": {}, "info": {}, "networks": [], "containers": []},
    } | changes
    return json.dumps({key: value for key, value in parts.items() if value is not None})


def test_a_file_gives_back_what_was_seen(observation: Observation, tmp_path: Path) -> None:
    """Writing and reading an observation loses nothing, to the microsecond."""
    path = tmp_path / "host.json"
    path.write_text(dumps(observation))
    assert load(path) == observation
    assert FileObserver(path).observe() == observation


def test_former_addresses_are_given_back(observation: Observation) -> None:
    """What containers gave up is part of a file."""
    former = (FormerAddress("172.17.0.2", observation.taken_at),)
    sightings = {key: replace(sighting, former=former) for key, sighting in observation.sightings.items()}
    left = FormerLink("172.17.0.3", ("80/tcp",))
    sightings = {key: replace(sighting, left=(left,)) for key, sighting in sightings.items()}
    changed = replace(observation, sightings=sightings)
    assert loads(dumps(changed), "x") == changed


def test_the_format_is_the_documented_one(observation: Observation) -> None:
    """The parts of the file have the names that other programs rely on."""
    parts = json.loads(dumps(observation))
    assert list(parts) == ["format", "schema", "taken_at", "api", "sightings"]
    assert list(parts["api"]) == ["version", "info", "networks", "containers"]
    assert parts["taken_at"].endswith("Z")
    assert set(parts["sightings"]["id-of-a"]) == {"status", "at"}


def test_the_daemon_s_documents_come_back_as_they_were() -> None:
    """What was read of the daemon is written and read, without what a file holds beyond that."""
    documents = DaemonDocuments(
        running=["--host"],
        service="docker.service",
        flags=[Flag("--icc=false", "unit")],
        file=ConfigurationFile("/etc/docker/daemon.json", keys=["icc"], options={"icc": False}),
        troubles=["one"],
        unused=["--icc=true"],
    )
    seen = replace(loads(document(), "x"), daemon=documents)
    again = loads(dumps(seen), "x")
    assert again.daemon is not None
    assert dumps(again) == dumps(seen)
    assert again.daemon.flags == documents.flags
    assert again.daemon.file is not None
    assert (again.daemon.file.path, again.daemon.file.options) == ("/etc/docker/daemon.json", {"icc": False})
    assert loads(document(), "x").daemon is None
    raw = loads(document(daemon={"file": {"path": "/d", "options": {"icc": True, "labels": ["secret"]}}}), "x").daemon
    assert raw is not None
    assert "secret" not in repr(raw)


def test_modules_whose_rules_are_not_read_come_back() -> None:
    """They are behind verdicts as much as what was read."""
    seen = replace(loads(document(), "x"), kernel=KernelDocuments(modules=["ebtable_nat"]))
    again = loads(dumps(seen), "x")
    assert again == seen
    kernel = parse(again).kernel
    assert kernel is not None
    assert kernel.modules == ("ebtable_nat",)


def test_parts_of_later_versions_are_passed_over() -> None:
    """Unknown parts beside the known ones, and files without sightings, are read."""
    observation = loads(document(host={"rules": []}, sandboxes={}), "x")
    assert observation.networks == []
    assert observation.sightings == {}


def test_a_raw_answer_in_a_file_is_reduced_too() -> None:
    """Labels that somebody put into a file by hand do not come in either."""
    api = {"version": {}, "info": {}, "networks": [], "containers": [{"Id": "a", "Labels": {"secret": "x"}}]}
    assert loads(document(api=api), "x").containers == [{"Id": "a"}]


def test_a_file_tells_which_labels_were_asked_for() -> None:
    """They come back with those of the containers; in a file that does not tell, none were."""
    containers = [{"Id": "a", "Labels": {"tenant": "x", "secret": "y"}}]
    api = {"version": {}, "info": {}, "networks": [], "containers": containers}
    observation = loads(document(api=api, labels=["tenant", "role"]), "x")
    assert observation.labels == ("tenant", "role")
    assert observation.containers == [{"Id": "a", "Labels": {"tenant": "x"}}]
    assert loads(dumps(observation), "x") == observation
    assert loads(document(api=api), "x").labels == ()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "is not JSON"),
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("9" * 5000, "is not JSON"),
        ("[]", "is not an observation"),
        ("{}", "is not an observation"),
        (document(format="other"), "is not an observation"),
        (document(schema=2), "has schema 2"),
        (document(schema=None), "has schema None"),
        (document(taken_at=None), "taken_at is not a time"),
        (document(taken_at="yesterday"), "taken_at is not a time"),
        (document(taken_at=5), "taken_at is not a time"),
        (document(taken_at="2026-01-01T00:00:00"), "taken_at has no time zone"),
        (document(api=None), "api is missing"),
        (document(api=[]), "api is not an object"),
        (document(api={"version": {}, "info": {}, "networks": []}), "api.containers is not a list"),
        (document(api={"version": {}, "info": {}, "networks": {}, "containers": []}), "api.networks is not a list"),
        (document(api={"info": {}, "networks": [], "containers": []}), "api.version is not an object"),
        (document(labels="tenant"), "labels is not a list"),
        (document(labels=[5]), r"labels\[0\] is not text"),
        (document(sightings=[]), "sightings is not an object"),
        (document(sightings={"a": {}}), "sightings of a: a status is missing"),
        (document(sightings={"a": {"status": "Up 1 second"}}), "at is not a time"),
        (document(daemon=[]), "daemon is not an object"),
        (document(daemon={"flags": [1]}), r"daemon: flags\[0\] is not an object"),
        (document(daemon={"file": {"keys": "x"}}), "daemon: file: keys is not a list"),
        (document(sightings={"a": SIGHTED | {"former": {}}}), "sightings of a: former is not a list"),
        (document(sightings={"a": SIGHTED | {"former": [{"address": "x"}]}}), "until is not a time"),
    ],
    ids=range(28),
)
def test_a_wrong_file_is_named_with_what_is_wrong(text: str, complaint: str, tmp_path: Path) -> None:
    """The message holds the file's name and the part that cannot be right."""
    path = tmp_path / "host.json"
    path.write_text(text)
    with pytest.raises(ObservationError, match=rf"host\.json: {complaint}"):
        load(path)


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    """Files that are absent, folders, or no text are told with the operating system's reason."""
    with pytest.raises(ObservationError, match=r"absent\.json: cannot be read: No such file"):
        load(tmp_path / "absent.json")
    with pytest.raises(ObservationError, match="cannot be read: Is a directory"):
        load(tmp_path)
    with pytest.raises(ObservationError, match="cannot be read: embedded null"):
        load(tmp_path / "a\0b")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x80")
    with pytest.raises(ObservationError, match="binary: is not JSON"):
        load(tmp_path / "binary")


def test_an_endless_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file longer than the limit is not decoded."""
    monkeypatch.setattr(files, "SIZE_LIMIT", 1 << 20)
    path = tmp_path / "long"
    path.write_bytes(b" " * (2 << 20))
    with pytest.raises(ObservationError, match="longer than 1 MiB"):
        load(path)
