"""Questions about one pair, and what changed between two looks."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from exporter.errors import UnknownContainer
from exporter.evaluate import diff, explain
from tests.hosts import host
from tests.looks import CLOSED, OPEN, Look

if TYPE_CHECKING:
    from exporter.model.explanation import Explanation


def ask(seen: Look, source: str, destination: str) -> Explanation:
    """Ask why."""
    return explain(seen.snapshot, seen.report, source, destination)


def test_containers_are_found_by_name_id_and_beginning() -> None:
    """A name, with or without a slash, an id and a unique beginning of an id mean the same container."""
    seen = host("28.5").container("web").container("db").look()
    web = seen.containers["web"]
    assert {ask(seen, key, "db").source for key in ("web", "/web", web.id, web.id[:12], web.id[:6])} == {web}


@pytest.mark.parametrize("key", ["", "wep", "0", "/", "nobody", "web "])
def test_unknown_names_are_one_error(key: str) -> None:
    """What names no container, or several, is UnknownContainer with the name in it."""
    built = host("28.5").container("web").container("db")
    for document, beginning in zip(built.containers, ("0a", "0b"), strict=True):
        document["Id"] = beginning + document["Id"]
    with pytest.raises(UnknownContainer, match=re.escape(repr(key))):
        ask(built.look(), key, "db")


def test_a_near_name_is_suggested() -> None:
    """A name with a slip in it is answered with the name that was meant."""
    with pytest.raises(UnknownContainer, match="did you mean web"):
        ask(host("28.5").container("web").container("db").look(), "wep", "db")


def test_a_pair_needs_two() -> None:
    """Of a container and itself there is nothing to say."""
    with pytest.raises(UnknownContainer, match="a pair needs two"):
        ask(host("28.5").container("web").look(), "web", "/web")


@pytest.mark.parametrize("driver", ["macvlan", "ipvlan"])
@pytest.mark.parametrize(("source", "destination"), [("h", "a"), ("a", "h")])
def test_every_blocked_pair_has_a_reason(driver: str, source: str, destination: str) -> None:
    """The host and a member of a macvlan or ipvlan are kept apart by the parent interface, and `explain` says so."""
    built = host("28.5").network("lan", driver, parent="eth0").container("a", "lan").container("h", "host")
    found = ask(built.look(), source, destination)
    assert found.verdict == CLOSED
    assert found.findings


@pytest.mark.parametrize("options", [{"inhibit_ipv4": "true"}, {"internal": True, "gateway_mode_ipv4": "isolated"}])
def test_a_bridge_without_the_hosts_address_is_a_reason(options: dict[str, Any]) -> None:
    """Why the host does not reach a bridge on which it has no address is said."""
    found = ask(host("28.5").network("net", **options).container("a", "net").container("h", "host").look(), "h", "a")
    assert found.verdict == CLOSED
    assert found.findings


def test_closed_networks_are_named() -> None:
    """A pair that icc=false blocks is explained by the network's name and the option."""
    built = host("28.5").network("tenants", enable_icc="false").container("a", "tenants").container("b", "tenants")
    assert "network tenants keeps its containers apart over IPv4 (enable_icc=false)" in built.look().why("a", "b")


def test_a_recreated_container_is_the_same_by_name() -> None:
    """A container with a new id and the same name and address is no change."""
    built = host("28.5").container("a").container("b")
    before = built.look().report
    built.containers[1]["Id"] = "f" * 64
    assert not diff(before, built.look().report)


def test_icc_that_is_switched_off_shows_in_every_pair() -> None:
    """From ICC on to off, the difference has both values and each pair that was open."""
    first, second = (host("28.5", icc=icc).container("a").container("b").look().report for icc in (True, False))
    found = diff(first, second)
    assert (found.icc_before, found.icc_after) == (True, False)
    assert {(change.source, change.destination, change.before, change.after) for change in found.pairs} == {
        ("a", "b", OPEN, CLOSED),
        ("b", "a", OPEN, CLOSED),
    }


def test_an_unrelated_start_changes_no_other_pair() -> None:
    """When a container starts on a network, the pairs that it is not one of are as they were."""
    built = host("28.5").network("net").container("h", "host").container("a", "bridge", "net").container("b")
    before = built.look().report
    built.container("new", "net")
    built.containers.insert(0, built.containers.pop())  # the list is sorted by age, the youngest first
    changes = diff(before, built.look().report).pairs
    assert all("new" in (change.source, change.destination) for change in changes)
