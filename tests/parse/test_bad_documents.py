"""Documents that no engine should send: a snapshot or the one error, and a report of every snapshot."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.errors import ObservationError
from exporter.evaluate import diff, evaluate, explain
from exporter.model.observation import Observation, Sighting
from exporter.observe.files import dumps, loads
from exporter.parse import parse
from tests.evaluate.strategies import hosts, junk
from tests.hosts import NOW, host
from tests.looks import UNKNOWN, Look

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exporter.model.snapshot import Snapshot

relaxed = settings(deadline=None, max_examples=200)


def places(value: object, way: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Yield the ways to every value inside a document."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield (*way, key)
            yield from places(inner, (*way, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield (*way, index)
            yield from places(inner, (*way, index))


@st.composite
def mutated(draw: st.DrawFn) -> Observation:
    """Draw a host some of whose fields have any value; what the list holds are objects still."""
    seen = draw(hosts())
    document: dict[str, Any] = copy.deepcopy(
        {"version": seen.version, "info": seen.info, "networks": seen.networks, "containers": seen.containers}
    )
    for _ in range(draw(st.integers(1, 4))):
        inside = [way for way in places(document) if len(way) > (2 if way[0] in ("networks", "containers") else 1)]
        *parents, last = draw(st.sampled_from(inside))
        holder: Any = document
        for step in parents:
            holder = holder[step]
        if isinstance(holder, dict) and draw(st.booleans()):
            del holder[last]
        else:
            holder[last] = draw(junk)
    return replace(seen, **document)


def snapshot_of(observation: Observation) -> Snapshot | None:
    """Return the snapshot, None where the observation is refused with the one declared error."""
    try:
        return parse(observation)
    except ObservationError:
        return None


def ask_everything(snapshot: Snapshot) -> None:
    """Evaluate, list, explain and compare."""
    report = evaluate(snapshot)
    assert len(list(report.pairs())) == report.totals.reachable_pairs
    for source in report.containers[:4]:
        for destination in report.containers[:4]:
            if source is not destination and source.id != source.name and destination.id != destination.name:
                explain(snapshot, report, source.id, destination.id)
    assert not diff(report, report)


@given(mutated())
@relaxed
def test_wrong_fields_give_a_snapshot_or_the_one_error(observation: Observation) -> None:
    """Whatever the values of a document's fields, parsing returns or raises ObservationError, and all else works."""
    snapshot = snapshot_of(observation)
    if snapshot is not None:
        ask_everything(snapshot)


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(("version", "info", "networks", "containers"), junk)))
@relaxed
def test_files_with_any_json_give_a_snapshot_or_the_one_error(api: dict[str, Any]) -> None:
    """A file whose documents are any JSON at all is refused in words, or is a snapshot."""
    document = {"format": "docker-icc-exporter/observation", "schema": 1, "taken_at": "2026-01-01T00:00:00Z"}
    try:
        observation = loads(json.dumps(document | {"api": api}), "file")
    except ObservationError:
        return
    snapshot = snapshot_of(observation)
    if snapshot is not None:
        ask_everything(snapshot)


@given(mutated())
@relaxed
def test_what_is_written_is_what_is_read(observation: Observation) -> None:
    """A snapshot that went through a file is the one that did not, where the file is accepted at all."""
    try:
        replayed = loads(dumps(observation), "file")
    except (ObservationError, ValueError):
        return
    assert snapshot_of(replayed) == snapshot_of(observation)


@pytest.mark.parametrize("kind", ["networks", "containers"])
@pytest.mark.parametrize("value", [None, "", 7, [], {}])
def test_a_document_without_an_id_is_refused(kind: str, value: object) -> None:
    """Without an id nothing can be said about a network or a container: the error names which of them it is."""
    seen = host("28.5").container("a").observation()
    changed: dict[str, Any] = {kind: [{**document, "Id": value} for document in getattr(seen, kind)]}
    with pytest.raises(ObservationError, match=f"a {kind[:-1]} in the engine's answer has no Id"):
        parse(replace(seen, **changed))


@pytest.mark.parametrize("version", ["9" * 5000, "9" * 5000 + ".1.1", "1." + "9" * 5000])
def test_versions_of_thousands_of_digits_are_versions(version: str) -> None:
    """A version is a number however long, as far as parsing goes."""
    built = host("28.5").container("a").container("b")
    built.version["Version"] = version
    assert snapshot_of(built.observation()) is not None


@pytest.mark.parametrize("subnet", ["255.255.255.255/32", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128"])
def test_the_last_address_of_all_is_a_subnet(subnet: str) -> None:
    """A pool that has no room for a gateway has none, and is no error."""
    built = host("28.5").network("net", subnets=()).container("a").container("b")
    built.document("net")["IPAM"]["Config"] = [{"Subnet": subnet}]
    assert snapshot_of(built.observation()) is not None


@pytest.mark.parametrize("status", ["Up 999999999 years", "Up 9999 years", "Up 99999999 months"])
def test_uptimes_before_the_calendar_are_no_error(status: str) -> None:
    """A start that no calendar has is not told, wherever the status is looked at."""
    built = host("28.5", icc=False).container("a", links=["b"]).container("b", expose=["80"])
    built.container("c", "container:a")
    seen = replace(built.observation(), sightings={key: Sighting(status, NOW) for key in built.sightings})
    assert snapshot_of(seen) is not None


def test_sightings_of_the_first_days_are_no_error() -> None:
    """A sighting at the beginning of the calendar has no start before it."""
    built = host("28.5").container("a").container("b", "container:a")
    early = NOW.replace(year=1) + timedelta(seconds=1)
    seen = replace(built.observation(), sightings={key: Sighting("Up 3 weeks", early) for key in built.sightings})
    assert snapshot_of(seen) is not None


def test_an_endpoint_on_an_unlisted_network_is_undecided() -> None:
    """A network that came after the list of networks was read has no known driver: its pairs are unknown."""
    built = host("28.5").network("new").container("a", "new").container("b", "new")
    built.networks = [document for document in built.networks if document["Name"] != "new"]
    seen = built.look()
    assert seen.verdict("a", "b") == UNKNOWN
    assert "new" in {network.name for network in seen.report.networks}


def test_members_of_unlisted_networks_keep_their_other_ways() -> None:
    """What is known of a container on an unlisted network stays known."""
    built = host("28.5").network("new").container("a", "bridge", "new").container("b").container("c", "new")
    built.networks = [document for document in built.networks if document["Name"] != "new"]
    seen = built.look()
    assert (seen.verdict("a", "b"), seen.verdict("a", "c"), seen.verdict("c", "b")) == ("reachable", UNKNOWN, UNKNOWN)


@pytest.mark.parametrize("name", ['say "hi"', "two\nlines", "<script>alert(1)<br>", "日本", "\ud800", "{0}", "%s"])
def test_hostile_names_are_names(name: str) -> None:
    """Names of networks and containers are carried as they are, and explained."""
    built = host("28.5", icc=False).network(name).container(name, name).container("b", name)
    built.container("c", f"container:{name}").container("d")
    seen = built.look()
    assert seen.verdict(name, "b") == "reachable"
    assert seen.containers[name].networks == (name,)
    assert name in seen.why(name, "b")
    assert seen.why("d", name)


def cycle(length: int) -> Look:
    """Return containers each of which joins the next, the last the first."""
    built = host("28.5")
    for index in range(length):
        built.container(f"c{index}", f"container:c{(index + 1) % length}")
    return built.look()


@pytest.mark.parametrize("length", [1, 2, 3, 500])
def test_cycles_of_joiners_end(length: int) -> None:
    """Containers that join each other in a ring are evaluated, and none of them reaches a network."""
    seen = cycle(length)
    assert seen.report.totals.containers == length
    assert not any(path.via != "same_sandbox" for pair in seen.report.pairs() for path in pair.verdict.paths)


def test_a_long_chain_of_joiners_is_one_sandbox() -> None:
    """A thousand containers, each joining the one before, share the first one's namespace."""
    built = host("28.5").container("c0")
    for index in range(1, 1000):
        built.container(f"c{index}", f"container:c{index - 1}")
    assert len({container.sandbox for container in built.look().report.containers}) == 1
