"""What holds for every host."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import permutations
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.evaluate import diff, evaluate, explain
from exporter.model.reach import BLOCKED, Protocol, Via
from exporter.parse import parse
from tests.builders import counted
from tests.evaluate.strategies import hosts
from tests.hosts import identity
from tests.looks import CLOSED, UNKNOWN, Look

if TYPE_CHECKING:
    from random import Random

    from exporter.model.observation import Observation
    from exporter.model.reach import PairVerdict, Path
    from exporter.model.report import Report

relaxed = settings(deadline=None, max_examples=100)
costly = settings(relaxed, max_examples=40)
"""For what asks about every pair of a host."""


def table(report: Report) -> dict[tuple[str, str], PairVerdict]:
    """Return the verdict of every ordered pair by names, one pair at a time."""
    return {
        (source.name, destination.name): report.pair(source, destination)
        for source, destination in permutations(report.containers, 2)
    }


def shuffled(observation: Observation, random: Random) -> Observation:
    """Return the same host with every list of its documents in another order."""

    def shuffle(value: object) -> object:
        if isinstance(value, dict):
            items = [(key, shuffle(inner)) for key, inner in value.items()]
            random.shuffle(items)
            return dict(items)
        if isinstance(value, list):
            inner = [shuffle(item) for item in value]
            random.shuffle(inner)
            return inner
        return value

    return replace(
        observation,
        networks=shuffle(list(observation.networks)),  # type: ignore[arg-type]
        containers=shuffle(list(observation.containers)),  # type: ignore[arg-type]
    )


@given(hosts())
@relaxed
def test_counts_are_those_of_the_pairs(observation: Observation) -> None:
    """Totals, the partition by mechanism and the blast radius are what looking at each pair gives."""
    report = evaluate(parse(observation))
    by_hand = counted(report)
    assert report.totals == by_hand.totals
    assert Counter(report.pairs_by_via) == Counter(by_hand.pairs_by_via)
    assert report.blast_radius == by_hand.blast_radius
    assert sum(report.pairs_by_via.values()) == report.totals.reachable_pairs
    assert report.totals.unknown_pairs <= report.totals.reachable_pairs <= report.totals.pairs


@given(hosts())
@relaxed
def test_the_list_of_pairs_is_every_pair_that_is_not_blocked(observation: Observation) -> None:
    """`pairs()` yields each reachable or unknown pair once, by name, with the verdict that `pair()` gives."""
    report = evaluate(parse(observation))
    listed = [((pair.source.name, pair.destination.name), pair.verdict) for pair in report.pairs()]
    open_pairs = {names: verdict for names, verdict in table(report).items() if verdict.verdict != CLOSED}
    assert listed == sorted(open_pairs.items(), key=lambda item: item[0])


@given(hosts())
@relaxed
def test_networks_count_their_own_pairs(observation: Observation) -> None:
    """A network's count is of the pairs with a path within that network; its containers are those attached."""
    report = evaluate(parse(observation))
    within = {Via.BRIDGE, Via.LINK, Via.MACVLAN, Via.IPVLAN, Via.OVERLAY, Via.PLUGIN}
    for network in report.networks:
        pairs = sum(
            any(
                path.network == network.name and path.via in within and path.protocol is not Protocol.ICMP
                for path in verdict.paths
            )
            for verdict in table(report).values()
        )
        members = sum(network.name in container.networks for container in report.containers)
        assert (network.reachable_pairs, network.containers) == (pairs, members)


@given(hosts())
@relaxed
def test_paths_are_well_formed(observation: Observation) -> None:
    """A path has ports unless it is ICMP's, and what it does not say of addresses is not told, or undecided."""
    report = evaluate(parse(observation))
    for verdict in table(report).values():
        for path in verdict.paths:
            assert bool(path.ports) == (path.protocol is not Protocol.ICMP)
            assert len(set(path.addresses)) == len(path.addresses)
            # the host's link-local addresses, and those on hidden networks, are not in the API
            assert path.addresses or path.undecided or path.via in (Via.HOST, Via.PUBLISHED_PORT)
        carrying = [path for path in verdict.paths if path.protocol is not Protocol.ICMP]
        assert (verdict.verdict == UNKNOWN) == (bool(carrying) and all(path.undecided for path in carrying))


@given(hosts())
@relaxed
def test_evaluation_is_deterministic(observation: Observation) -> None:
    """The same observation gives the same report."""
    assert evaluate(parse(observation)) == evaluate(parse(observation))


@given(hosts(), st.randoms(use_true_random=False))
@relaxed
def test_the_order_of_the_documents_means_nothing(observation: Observation, random: Random) -> None:
    """Engines list networks and containers in any order: the report of the same host is the same."""
    report = evaluate(parse(observation))
    other = evaluate(parse(shuffled(observation, random)))
    assert other.totals == report.totals
    assert (other.networks, other.containers, other.assumptions) == (
        report.networks,
        report.containers,
        report.assumptions,
    )
    assert {names: facts(verdict) for names, verdict in table(other).items()} == {
        names: facts(verdict) for names, verdict in table(report).items()
    }


@given(hosts(), st.randoms(use_true_random=False))
@relaxed
def test_the_order_of_the_documents_changes_no_pair(observation: Observation, random: Random) -> None:
    """Between two looks at the same host nothing has changed, in whatever order the engine lists it."""
    assert not diff(evaluate(parse(observation)), evaluate(parse(shuffled(observation, random))))


def facts(verdict: PairVerdict) -> set[tuple[str, str, str | None, str, str, str]]:
    """Return what paths say, an entry per address, in no order."""
    return {
        (address, path.via, path.network, path.protocol, str(path.ports), path.undecided)
        for path in verdict.paths
        for address in path.addresses or ("",)
    }


@given(hosts())
@relaxed
def test_a_container_without_network_changes_no_other_pair(observation: Observation) -> None:
    """One more container in mode none is isolated, and leaves every other pair as it was."""
    alone = {
        "Id": identity("container", "alone"),
        "Names": ["/alone"],
        "State": "running",
        "HostConfig": {"NetworkMode": "none"},
        "NetworkSettings": {"Networks": {}},
    }
    before = evaluate(parse(observation))
    after = evaluate(parse(replace(observation, containers=[*observation.containers, alone])))
    pairs = table(after)
    assert {names: verdict for names, verdict in pairs.items() if "alone" not in names} == table(before)
    assert {verdict for names, verdict in pairs.items() if "alone" in names} <= {BLOCKED}
    assert after.blast_radius.isolated_containers == before.blast_radius.isolated_containers + 1


@given(hosts())
@costly
def test_explanations_agree_with_the_report(observation: Observation) -> None:
    """`explain` has the report's verdict and paths, an opening for what is certain, and a finding for what is not."""
    seen = Look.at(observation)
    for (source, destination), verdict in table(seen.report).items():
        found = explain(seen.snapshot, seen.report, source, seen.containers[destination].id)
        assert (found.verdict, found.paths) == (verdict.verdict, verdict.paths)
        assert any(finding.opens for finding in found.findings) == (verdict.verdict == "reachable")
        assert found.findings


@given(hosts(), st.sampled_from(list(Protocol)), st.sampled_from((80, 8001, 53)))
@costly
def test_narrow_questions_are_parts_of_the_whole(observation: Observation, protocol: Protocol, port: int) -> None:
    """Asked about one protocol and port, `explain` keeps exactly the paths that carry it."""
    seen = Look.at(observation)
    for source, destination in table(seen.report):
        whole = explain(seen.snapshot, seen.report, source, destination).paths
        of_protocol = explain(seen.snapshot, seen.report, source, destination, protocol).paths
        of_port = explain(seen.snapshot, seen.report, source, destination, protocol, port).paths
        assert of_protocol == tuple(path for path in whole if path.protocol is protocol)
        carrying = [path for path in of_protocol if port in path.ports]
        assert list(map(_ends, of_port)) == list(map(_ends, carrying))
        assert all(list(path.ports) == [port] for path in of_port)


def _ends(path: Path) -> tuple[Via, str | None, tuple[str, ...]]:
    return path.via, path.network, path.addresses


@given(hosts())
@relaxed
def test_nothing_changes_from_a_report_to_itself(observation: Observation) -> None:
    """The difference of a report and itself is empty."""
    report = evaluate(parse(observation))
    assert not diff(report, report)


@given(hosts(), hosts())
@relaxed
def test_a_difference_is_exactly_the_pairs_that_differ(one: Observation, other: Observation) -> None:
    """`diff` lists every pair whose paths differ, with the verdicts of both sides, and no other pair."""
    before, after = evaluate(parse(one)), evaluate(parse(other))
    old, new = table(before), table(after)
    expected = {
        names: (verdict_of(old, names), verdict_of(new, names))
        for names in old.keys() | new.keys()
        if listed_paths(old, names) != listed_paths(new, names)
    }
    found = diff(before, after)
    assert {(change.source, change.destination): (change.before, change.after) for change in found.pairs} == expected
    assert [(change.source, change.destination) for change in found.pairs] == sorted(expected)
    first, second = ({each.name for each in report.containers} for report in (before, after))
    assert (set(found.containers_added), set(found.containers_removed)) == (second - first, first - second)


def verdict_of(pairs: dict[tuple[str, str], PairVerdict], names: tuple[str, str]) -> str | None:
    """Return a pair's verdict, None where one of its containers does not run."""
    return pairs[names].verdict if names in pairs else None


def listed_paths(pairs: dict[tuple[str, str], PairVerdict], names: tuple[str, str]) -> tuple[Path, ...]:
    """Return a pair's paths as the report lists them: none where the pair is blocked."""
    found = pairs.get(names, BLOCKED)
    return () if found.verdict == "blocked" else found.paths
