"""Scenarios that catch a wrong calculator: sandboxes, drivers and documents, numbered as in the reference.

Left out: 39 (capabilities are not in the list of containers and no part of a verdict) and 43 (a restarted engine is
observed anew as a whole, which the daemon's tests show).
"""

from __future__ import annotations

from typing import Any

import pytest

from exporter.errors import ObservationError
from exporter.model.reach import HOST, Via
from tests.hosts import ALL, NOW, host
from tests.looks import CLOSED, OPEN, UNKNOWN, Look

engines = pytest.mark.parametrize("version", ALL)
modern = pytest.mark.parametrize("version", ["28.5", "29", "29 nft"])


@engines
@pytest.mark.parametrize("options", [{"internal": True}, {"enable_icc": "false"}], ids=["internal", "icc=false"])
def test_21_the_host_is_kept_out_by_nothing(version: str, options: dict[str, Any]) -> None:
    """A container in host mode reaches all of an internal network and of one without ICC."""
    built = host(version).network("net", **options).container("h", "host")
    seen = built.container("b", "net").look()
    assert {path.protocol.value for path in seen.pair("h", "b").paths} == {"tcp", "udp", "icmp"}
    assert seen.vias("h", "b") == {Via.HOST}


@modern
def test_21_the_host_is_kept_out_of_isolated_networks(version: str) -> None:
    """The host has no address on a bridge in gateway mode isolated, whose members still reach each other."""
    built = host(version).network("net", internal=True, gateway_mode_ipv4="isolated").container("h", "host")
    seen = built.container("b", "net").container("c", "net").look()
    assert (seen.verdict("h", "b"), seen.verdict("b", "h"), seen.verdict("b", "c")) == (CLOSED, CLOSED, OPEN)


@engines
def test_22_a_chain_of_joiners_is_one_sandbox(version: str) -> None:
    """Containers that join a joiner live in the first one's namespace, with its networks."""
    built = host(version).container("a").container("b", "container:a").container("c", "container:b").container("d")
    seen = built.look()
    assert {seen.containers[name].sandbox for name in "abc"} == {seen.containers["a"].id}
    assert seen.vias("b", "c") == {Via.SAME_SANDBOX}
    assert seen.direct("d", "a", "bridge", "80/tcp") == OPEN
    assert seen.pair("d", "c") == seen.pair("d", "a")


@engines
def test_22_a_joiner_that_is_older_than_its_owner_is_left_behind(version: str) -> None:
    """A container whose namespace's owner was started anew reaches nobody, and the report says why."""
    built = host(version).container("a").container("b", "container:a").container("c")
    seen = built.seen("a", "2 seconds").seen("b", "3 hours").look()
    assert {seen.verdict(*pair) for pair in (("a", "b"), ("b", "a"), ("b", "c"), ("c", "b"))} == {CLOSED}
    assert seen.verdict("a", "c") == OPEN
    assert "left behind" in seen.why("b", "c")


@engines
def test_22_two_that_were_left_behind_are_undecided(version: str) -> None:
    """Joiners of one owner that was started anew may share the old namespace, or each its own."""
    built = host(version).container("a").container("b", "container:a").container("c", "container:a")
    seen = built.seen("a", "2 seconds").seen("b", "3 hours").seen("c", "3 hours").look()
    assert seen.verdict("b", "c") == UNKNOWN
    assert seen.verdict("a", "b") == CLOSED


@engines
def test_22_a_joiner_of_uncertain_age_is_an_assumption(version: str) -> None:
    """Where the statuses do not tell who started first, the joiner counts as sharing, and the report says so."""
    built = host(version).container("a").container("b", "container:a")
    seen = built.seen("a", "3 hours").seen("b", "3 hours").look()
    assert seen.verdict("a", "b") == OPEN
    assert seen.assumes("b", "namespace of a")


@engines
@pytest.mark.parametrize("target", ["gone", "a"], ids=["absent", "itself"])
def test_22_a_joiner_of_nobody_is_alone(version: str, target: str) -> None:
    """Who joined a container that does not run any more, or a cycle, reaches nobody."""
    seen = host(version).container("a", f"container:{target}").container("b").look()
    assert (seen.verdict("a", "b"), seen.verdict("b", "a")) == (CLOSED, CLOSED)


@engines
def test_23_joining_a_container_in_host_mode_is_host_mode(version: str) -> None:
    """Who joins a container in host mode lives in the host."""
    built = host(version).container("a", "host").container("b", "container:a").container("c", "container:b")
    seen = built.container("d").look()
    assert {seen.containers[name].sandbox for name in "abc"} == {HOST}
    assert seen.verdict("c", "d") == OPEN


@engines
def test_24_an_engine_without_a_default_bridge(version: str) -> None:
    """With --bridge=none there is no ICC to tell, and containers of the default network are alone."""
    built = host(version, bridge="").container("a", "none", mode="bridge").container("b", "none")
    built.containers[0]["NetworkSettings"]["Networks"] = {}
    seen = built.look()
    assert seen.report.engine.icc_enabled is None
    assert seen.report.totals.reachable_pairs == 0


@engines
def test_25_a_default_bridge_of_another_name(version: str) -> None:
    """With --bridge=br0 the default network is found by its option, and its links and ICC count."""
    built = host(version, icc=False, bridge="br0").container("a", links=["b"]).container("b", expose=["80"])
    seen = built.look()
    assert seen.report.engine.icc_enabled is False
    assert seen.vias("a", "b") == {Via.LINK}


@engines
def test_26_overlays(version: str) -> None:
    """Members of one overlay reach each other; docker_gwbridge, which all of them are on, opens nothing."""
    built = host(version, swarm=True).network("one", "overlay").network("two", "overlay")
    seen = built.container("a", "one").container("b", "one").container("c", "two").look()
    assert seen.vias("a", "b") == {Via.OVERLAY}
    assert seen.verdict("a", "c") == CLOSED


@engines
def test_27_sharing_the_ingress_is_undecided(version: str) -> None:
    """On the ingress network the target ports of services are open, which the list does not tell."""
    seen = host(version, swarm=True).container("a", "ingress").container("b", "ingress").look()
    assert seen.verdict("a", "b") == UNKNOWN
    assert any("target ports" in reason for reason in seen.reasons("a", "b"))


@engines
def test_28_ports_of_swarm_services_are_an_assumption(version: str) -> None:
    """A service's published port pierces icc=false, so an engine in a swarm is reported with that assumption."""
    built = host(version, swarm=True, icc=False).container("a").container("b")
    assert built.look().assumes("swarm")
    assert not host(version, icc=False).container("a").container("b").look().assumes("swarm")


@engines
def test_28_tasks_on_the_ingress_are_undecided_for_whoever_reaches_the_host(version: str) -> None:
    """A port of the host's leads to the task, and nobody tells which: not even an internal network is without it."""
    built = host(version, swarm=True, icc=False).network("in", internal=True).network("lan", "macvlan")
    built.container("t", "ingress").container("a").container("i", "in").container("h", "host").container("m", "lan")
    seen = built.container("n", "none").look()
    assert seen.verdict("a", "t") == seen.verdict("i", "t") == UNKNOWN
    assert (
        seen.probe("h", "t", "127.0.0.1", "8080/tcp") == seen.probe("i", "t", seen.gateway("in"), "80/udp") == UNKNOWN
    )
    assert seen.probe("i", "t", seen.gateway(), "80/tcp") == (UNKNOWN if version == "20.10" else CLOSED)
    assert seen.verdict("m", "t") == seen.verdict("n", "t") == CLOSED
    assert any("which ports swarm services publish" in reason for reason in seen.reasons("a", "t"))
    built.info["IPv4Forwarding"] = False
    assert built.look().verdict("a", "t") == CLOSED
    assert built.look().probe("h", "t", "127.0.0.1", "8080/tcp") == UNKNOWN


@engines
def test_28_members_of_overlays_meet_on_the_hidden_bridge(version: str) -> None:
    """docker_gwbridge is closed, but for the ports of services."""
    built = host(version, swarm=True).network("one", "overlay").network("two", "overlay")
    built.container("a", "one").container("b", "two")
    assert built.look().verdict("a", "b") == CLOSED
    assert built.container("t", "ingress").look().verdict("a", "b") == UNKNOWN


@modern
def test_28_a_member_of_an_overlay_with_a_gateway_of_ipv6_does_without_the_hidden_bridge(version: str) -> None:
    """From 28.0 on any gateway is enough, so over IPv4 nothing leads to the host (needDefaultGW)."""
    built = host(version, swarm=True).network("docker_gwbridge", enable_icc="false").network("over", "overlay")
    built.network("six", ipv4=False, ipv6=True).network("four").container("h", "host")
    seen = built.container("lone", "over").container("both", "over", "six").container("old", "over", "four").look()
    assert seen.verdict("lone", "h") == OPEN
    assert seen.verdict("old", "h") == OPEN
    versions = {":" in address for path in seen.pair("both", "h").paths for address in path.addresses}
    assert versions == {True}


@engines
@pytest.mark.parametrize(("mode", "expected"), [("bridge", OPEN), ("private", CLOSED), ("vepa", UNKNOWN), ("", OPEN)])
def test_29_macvlan(version: str, mode: str, expected: str) -> None:
    """Macvlan goes by its mode, which is bridge when none is given; ICC is no notion of it."""
    built = host(version).network("lan", "macvlan", parent="eth0", macvlan_mode=mode, enable_icc="false")
    seen = built.container("a", "lan").container("b", "lan").look()
    assert seen.verdict("a", "b") == expected
    assert next(network.icc_enabled for network in seen.report.networks if network.name == "lan") is None


@engines
@pytest.mark.parametrize(("driver", "mode"), [("macvlan", "bridge"), ("ipvlan", "l2")])
def test_29_and_30_two_subnets_of_one_network_meet_outside_only(version: str, driver: str, mode: str) -> None:
    """Addresses of two subnets of a layer 2 network meet at a router outside the host: never certainly reachable."""
    options: dict[str, Any] = {"parent": "eth0", f"{driver}_mode": mode}
    built = host(version).network("lan", driver, subnets=("10.1.0.0/24", "10.2.0.0/24"), **options)
    seen = built.container("a", "lan").container("b", "lan", pool=1).container("c", "lan").look()
    assert seen.verdict("a", "b") != OPEN
    assert seen.verdict("a", "c") == OPEN


@modern
def test_29_two_networks_of_one_parent(version: str) -> None:
    """Networks of one parent interface are apart, unless something outside routes: an assumption."""
    built = host(version).network("one", "macvlan", parent="eth0").network("two", "macvlan", parent="eth0")
    seen = built.container("a", "one").container("b", "two").look()
    assert seen.verdict("a", "b") == CLOSED
    assert seen.assumes("outside", "one, two")


@engines
@pytest.mark.parametrize("driver", ["macvlan", "ipvlan"])
def test_29_and_30_no_default_route_without_a_parent(version: str, driver: str) -> None:
    """Without a parent interface a network leads nowhere: its members go out by another one that they are on."""
    built = host(version).network("alone", driver).network("net")
    built.container("a", "alone", "net").container("b", publish=["8080:80"])
    for endpoint in (each["NetworkSettings"]["Networks"].get("alone") for each in built.containers):
        if endpoint is not None:
            endpoint["Gateway"] = ""
    seen = built.look()
    assert seen.probe("a", "b", seen.gateway(), "8080/tcp") is not CLOSED


@engines
@pytest.mark.parametrize("mode", ["l3", "l3s"])
def test_30_ipvlan_routes_between_its_subnets(version: str, mode: str) -> None:
    """In layer 3 mode the parent interface routes between all subnets of the network."""
    subnets = ("10.1.0.0/24", "10.2.0.0/24")
    built = host(version).network("lan", "ipvlan", subnets=subnets, parent="eth0", ipvlan_mode=mode)
    seen = built.container("a", "lan").container("b", "lan", pool=1).look()
    assert seen.direct("a", "b", "lan", "80/tcp") == OPEN


@engines
@pytest.mark.parametrize("by", ["default", "bridge", "id"])
def test_35_network_modes_are_spelled_in_several_ways(version: str, by: str) -> None:
    """`default`, a network's name and its id are the same mode: what counts is the endpoint."""
    built = host(version).container("a").container("b", mode=by)
    if by == "id":
        built.containers[1]["HostConfig"]["NetworkMode"] = built.document("bridge")["Id"]
    assert built.look().verdict("a", "b") == OPEN


@engines
@pytest.mark.parametrize("by", ["id", "name"])
def test_35_a_joiner_may_name_its_target_by_name(version: str, by: str) -> None:
    """`container:` is followed by an id, and in documents of other tools by a name."""
    built = host(version).container("a").container("b", "container:a")
    if by == "name":
        built.containers[1]["HostConfig"]["NetworkMode"] = "container:a"
    assert built.look().vias("a", "b") == {Via.SAME_SANDBOX}


def test_36_addresses_are_read_from_endpoints() -> None:
    """A document without the old address at its top level loses nothing, one with a wrong address gains nothing."""
    built = host("29").container("a").container("b")
    built.containers[1]["NetworkSettings"]["IPAddress"] = "192.0.2.1"
    seen = built.look()
    assert {path.addresses for path in seen.pair("a", "b").paths} == {(seen.ip("b"),)}


@engines
@pytest.mark.parametrize("state", ["paused", "restarting", "created", "exited", "dead", "removing"])
def test_37_only_live_namespaces_count(version: str, state: str) -> None:
    """A paused container's kernel answers; a container in any other known state but running has no network."""
    seen = host(version).container("a").container("b", state=state).look()
    assert seen.report.totals.containers == (2 if state == "paused" else 1)
    assert seen.report.totals.reachable_pairs == (2 if state == "paused" else 0)


@engines
@pytest.mark.parametrize("state", ["", "RUNNING", "hibernating"])
def test_37_unknown_states_are_no_rest(version: str, state: str) -> None:
    """A word that nobody knows could mean that the container runs: nothing is said of such a host."""
    with pytest.raises(ObservationError, match="has the State"):
        host(version).container("a").container("b", state=state).look()


@engines
@pytest.mark.parametrize("lost", ["HostConfig", "NetworkSettings"])
def test_37_a_container_without_its_networks_is_not_alone(version: str, lost: str) -> None:
    """Without what says where a container is, nothing is said of the host: it could be anywhere."""
    built = host(version).container("a").container("b")
    del built.containers[1][lost]
    with pytest.raises(ObservationError, match=f"has no {lost}"):
        built.look()


@engines
def test_38_networks_with_no_or_one_member(version: str) -> None:
    """An empty host, an empty network and a single container make no pair."""
    assert host(version).look().report.totals.pairs == 0
    seen = host(version).network("empty").container("a").look()
    assert (seen.report.totals.pairs, seen.report.totals.reachable_pairs) == (0, 0)
    assert seen.report.blast_radius.isolated_containers == 1


@engines
def test_38_networks_of_one_name_are_told_apart(version: str) -> None:
    """Two networks of one name are two: their containers do not meet, and each counts its own."""
    built = host(version).network("dup").network("dup2", enable_icc="false").network("dup3")
    for index, network in enumerate(("dup", "dup", "dup2", "dup2", "dup3", "dup3")):
        built.container(f"c{index}", network)
    seen = Look.at(built.observation())
    for document in built.networks:
        document["Name"] = document["Name"].rstrip("23")
    for document in built.containers:
        networks = document["NetworkSettings"]["Networks"]
        document["NetworkSettings"]["Networks"] = {"dup": next(iter(networks.values()))}
    renamed = Look.at(built.observation())
    assert renamed.report.totals == seen.report.totals
    assert renamed.verdict("c0", "c2") == CLOSED
    counted = sorted((each.containers, each.reachable_pairs) for each in renamed.report.networks if each.name == "dup")
    assert counted == [(2, 0), (2, 2), (2, 2)]


@modern
def test_40_config_only_networks_are_templates(version: str) -> None:
    """A config-only network is in no report; one made from it is a network like any other."""
    built = host(version).network("template", ConfigOnly=True, enable_icc="false", subnets=())
    built.network("made", enable_icc="false", ConfigFrom={"Network": "template"})
    seen = built.container("a", "made").container("b", "made").look()
    assert "template" not in {network.name for network in seen.report.networks}
    assert seen.verdict("a", "b") == CLOSED


@engines
@pytest.mark.parametrize("driver", ["weaveworks/net-plugin:2.8.1", "", "nat", "BRIDGE"])
def test_41_unknown_drivers_are_undecided(version: str, driver: str) -> None:
    """What a network of a driver that we do not know lets through is not known, and counted as reachable."""
    seen = host(version).network("net", driver).container("a", "net").container("b", "net").look()
    assert seen.verdict("a", "b") == UNKNOWN
    assert seen.vias("a", "b") == {Via.PLUGIN}
    assert (seen.report.totals.unknown_pairs, seen.report.totals.reachable_pairs) == (2, 2)


@engines
@pytest.mark.parametrize(("source", "destination"), [("h", "a"), ("a", "h")])
def test_41_unknown_drivers_are_undecided_towards_the_host(version: str, source: str, destination: str) -> None:
    """Whether the host has an address on a network of an unknown driver is not known, so neither way is blocked."""
    built = host(version).network("net", "weave").container("a", "net").container("h", "host")
    assert built.look().verdict(source, destination) == UNKNOWN


@pytest.mark.parametrize("version", ["20.10", "26.1", "28.5"])
def test_42_no_word_of_a_firewall_backend_is_iptables(version: str) -> None:
    """Where the engine does not name its firewall backend, it is iptables, and closes what is closed."""
    built = host(version, icc=False)
    built.info.pop("FirewallBackend", None)
    seen = built.container("a").container("b").look()
    assert seen.report.engine.firewall_backend == "iptables"
    assert seen.verdict("a", "b") == CLOSED


@engines
def test_reports_carry_the_moment_of_the_observation(version: str) -> None:
    """Evaluation has no clock of its own: the report is of the moment when the engine was looked at."""
    assert host(version).look().report.taken_at == NOW
