"""What is taken for granted is said, where it matters and nowhere else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from exporter.evaluate import evaluate
from exporter.model.namespace import Interface, Namespace
from tests.hosts import ALL, Host, host
from tests.kernels import kernel
from tests.looks import OPEN, UNKNOWN


def assumed(built: Host, words: str) -> bool:
    """Return whether a report of the host assumes what these words begin or contain."""
    return any(words in text for text in built.look().report.assumptions)


@pytest.mark.parametrize("version", ALL)
def test_an_engine_that_leaves_ipv6_alone_is_thought_of(version: str) -> None:
    """Since 27.0 rules for IPv6 are written unless somebody switched them off, which the API does not tell."""
    modern = version not in ("20.10", "26.1")
    assert assumed(host(version).network("six", ipv6=True), "--ip6tables=false") is modern
    assert not assumed(host(version).network("four"), "--ip6tables=false")


@pytest.mark.parametrize("version", ALL)
def test_direct_routing_is_thought_of(version: str) -> None:
    """Since 28.2 the raw table protects containers, unless --allow-direct-routing was given."""
    assert assumed(host(version), "--allow-direct-routing") is (version not in ("20.10", "26.1"))


@pytest.mark.parametrize("version", ALL)
def test_rules_may_outlive_what_they_were_made_for(version: str) -> None:
    """With live-restore, links and docker-proxies are not what the engine would make of them now."""
    built = host(version, LiveRestoreEnabled=True).container("a", publish=["80:80"])
    assert assumed(built, "with live-restore")
    assert not assumed(host(version).container("a", publish=["80:80"]), "with live-restore")


@pytest.mark.parametrize("version", ALL)
def test_a_link_that_was_removed_may_have_taken_others_along(version: str) -> None:
    """Since 28.0, removing one of several links removes the rules of all; the API shows the others as before."""
    linked = host(version, icc=False).container("db").container("web", links=["db"])
    assert assumed(linked, "docker rm --link") is (version not in ("20.10", "26.1"))
    assert not assumed(host(version, icc=False).container("db"), "docker rm --link")


@pytest.mark.parametrize("version", ALL)
@pytest.mark.parametrize(("option", "usual"), [("false", True), ("true", False)])
def test_a_gateway_bridge_of_somebody_else_is_thought_of(version: str, option: str, usual: bool) -> None:
    """Members of overlays have hidden endpoints on docker_gwbridge, which the engine makes with icc=false."""
    built = host(version).network("docker_gwbridge", enable_icc=option).network("over", "overlay")
    assert assumed(built.container("a", "over"), "docker_gwbridge, though") is not usual
    assert not assumed(host(version).network("docker_gwbridge", enable_icc=option), "docker_gwbridge, though")


@pytest.mark.parametrize("version", ALL)
def test_what_containers_do_to_themselves_is_thought_of(version: str) -> None:
    """Their sysctls, routes and rules are not in the API."""
    assert assumed(host(version), "--sysctl")


@pytest.mark.parametrize("version", ALL)
def test_what_engines_read_once_is_thought_of(version: str) -> None:
    """Since 23.0 they tell whether the host forwarded when they started, and nothing about br_netfilter to go by."""
    published = host(version, IPv4Forwarding=True).container("a", publish=["80:80"])
    assert assumed(published, "still forwards IPv4") is (version != "20.10")
    proxied = published.look().snapshot.engine.userland_proxy is True
    assert assumed(published, "answer TCP of their own networks") is (version != "20.10" and not proxied)
    assert not assumed(host(version), "answer TCP of their own networks")


@pytest.mark.parametrize("version", ALL)
def test_what_is_outside_of_the_host_is_thought_of(version: str) -> None:
    """Two networks of cards may meet at a switch or a router, and so may one of them and the host's bridges."""
    assert assumed(host(version).network("lan", "macvlan", parent="eth0.10").network("far", "ipvlan"), "from far, lan")
    assert not assumed(host(version).network("near"), "outside the host")


def test_what_is_outside_of_the_host_is_thought_of_with_the_kernel_as_well() -> None:
    """The kernel tells which bridges have cards as ports, and no more than anybody else what is behind these."""
    made = kernel(host("28.5").network("near").network("far").network("lan", "macvlan", parent="eth9"))
    seen = made.engine_rules().look().snapshot
    assert seen.kernel is not None
    interfaces = seen.kernel.host.interfaces
    name = next(each.interface for each in seen.networks.values() if each.name == "near")
    bridge = next(each.index for each in interfaces.values() if each.name == name)
    card = Interface(900, "eth9", "", "", up=True, master=bridge)
    plugged = replace(seen.kernel, host=replace(seen.kernel.host, interfaces={**interfaces, card.index: card}))
    told = [text for text in evaluate(replace(seen, kernel=plugged)).assumptions if "outside the host" in text]
    assert ["from lan, near back" in text for text in told] == [True]


def test_what_the_kernel_has_an_answer_to_is_behind_declared_verdicts_alone() -> None:
    """Where it is read nobody takes the firewall for the engine's own, but in the promise that it is held to."""
    built = host("28.5").network("lan", "macvlan", parent="eth9")
    report = evaluate(kernel(built).engine_rules().look().snapshot)
    assert ["outside the host" in text for text in report.assumptions] == [True]
    assert any("engine's own rules" in text for text in report.declared_assumptions)
    assert evaluate(built.look().snapshot).assumptions == (*report.assumptions, *report.declared_assumptions)


@pytest.mark.parametrize(
    ("read", "told"),
    [("", ["all containers"]), ("ab", ["c, d, e, f, g and 1 more"]), ("abcdefg", ["h"]), ("abcdefgh", [])],
)
def test_what_was_not_read_of_containers_is_taken_for_what_the_engine_made(read: str, told: list[str]) -> None:
    """That is behind verdicts from the kernel; where these are the API's alone, more than that is."""
    built = host("28.5")
    for name in "abcdefgh":
        built = built.container(name)
    seen = kernel(built).engine_rules().look().snapshot
    assert seen.kernel is not None
    boxes = {box.id: Namespace() for box in seen.sandboxes.values() if box.name in tuple(read)}
    report = evaluate(replace(seen, kernel=replace(seen.kernel, sandboxes=boxes)))
    found = [text for text in report.assumptions if "which were not read" in text]
    assert [text.partition(", which")[0] for text in found] == [f"the namespaces of {names}" for names in told]
    unread = replace(seen, kernel=replace(seen.kernel, missing={"firewall": "no right to read it"}))
    assert not any("which were not read" in text for text in evaluate(unread).assumptions)


def test_that_programs_lead_nobody_elsewhere_is_said_where_there_are_any() -> None:
    """Nobody can tell what a program of BPF does with packets: it may send them past the firewall."""
    seen = kernel(host("28.5").container("a")).engine_rules().look().snapshot
    assert seen.kernel is not None
    assert not any("BPF" in text for text in evaluate(seen).assumptions)
    (box,) = (box.id for box in seen.sandboxes.values() if box.name == "a")

    def with_programs(namespace: Namespace) -> Namespace:
        interfaces = namespace.interfaces.items()
        return replace(namespace, interfaces={at: replace(each, bpf=each.kind == "veth") for at, each in interfaces})

    own = with_programs(seen.kernel.sandboxes[box])
    watched = replace(seen.kernel, host=with_programs(seen.kernel.host), sandboxes={box: own})
    (told,) = (text for text in evaluate(replace(seen, kernel=watched)).assumptions if "BPF" in text)
    ports = [each.name for each in seen.kernel.host.interfaces.values() if each.kind == "veth"]
    assert told.startswith(f"programs of BPF at eth0 of a, {ports[0]} lead no packets elsewhere")


def test_that_ebtables_legacy_drops_nothing_is_said_where_somebody_has_used_it() -> None:
    """Its tables are not read; they are behind no declared verdict."""
    seen = kernel(host("28.5").container("a")).engine_rules().look().snapshot
    assert seen.kernel is not None
    assert not any("ebtables" in text for text in evaluate(seen).assumptions)
    used = replace(seen, kernel=replace(seen.kernel, modules=("ebtable_broute", "ebtable_filter")))
    (told,) = (text for text in evaluate(used).assumptions if "ebtables-legacy" in text)
    assert told.endswith("(ebtable_broute, ebtable_filter loaded)")
    assert not any("ebtables" in text for text in evaluate(used).declared_assumptions)


def test_without_br_netfilter_a_neighbour_gets_no_answer_from_a_published_port() -> None:
    """Where docker-proxy may not run it is what gives the answer back the address that was asked; UDP needs none."""
    built = host("20.10", BridgeNfIptables=False).container("b")
    seen = built.container("a", publish=["0.0.0.0:8080:80", "0.0.0.0:8053:53/udp"]).look()
    assert seen.probe("b", "a", seen.gateway(), "8080/tcp") == UNKNOWN
    assert seen.probe("b", "a", seen.gateway(), "8053/udp") == OPEN
    assert seen.direct("b", "a", "bridge", "80/tcp") == OPEN
