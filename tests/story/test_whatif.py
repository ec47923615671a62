"""What is foretold of a change, beside what packets do once the change is made."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.cli.program import run
from tests.lab import VERSIONS, Engine, engine
from tests.story.truth import truth

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.lab

TIERS = ("api", "sandboxes")

MEMBERS: dict[str, dict[str, tuple[str, ...]]] = {
    "shop": {"shop-api": ("--network=shop", "--publish=8081:80"), "shop-db": ("--network=shop",)},
    "vault": {"vault-a": ("--network=vault",), "vault-b": ("--network=vault",)},
}
FLAGS: dict[str, tuple[str, ...]] = {"shop": (), "vault": ("--internal",)}
CONTAINERS: dict[str, tuple[str, ...]] = {
    "web": ("--expose=80",),
    "app": ("--link=web",),
    "client": (),
    "door": ("--publish=8080:80",),
    "both": (),
    **MEMBERS["shop"],
    **MEMBERS["vault"],
    "agent": ("--network=host",),
    "sidecar": ("--network=container:client",),
}
"""A container of each kind, in an order in which they can be started."""


@pytest.fixture(scope="module", params=VERSIONS)
def host(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """Return an engine with an open default bridge, a link, published ports, a network and a container in host mode."""
    with engine(request.param) as made:
        for network, flags in FLAGS.items():
            made.docker("network", "create", *flags, network)
        for name, flags in CONTAINERS.items():
            made.run(name, *flags)
        for network in MEMBERS:
            made.docker("network", "connect", network, "both")
        yield made


def restart(made: Engine, *args: str) -> None:
    """Restart the engine with other arguments, and start what did not survive it."""
    made.restart(*args)
    made.docker("start", *CONTAINERS)


def have(made: Engine, *args: str) -> None:
    """Have the engine run with these arguments: a restart costs seconds, and it may have been left with them."""
    if made.args != args:
        restart(made, *args)


def ask(made: Engine, tier: str, *question: str) -> dict[str, Any]:
    """Return what the program foretells."""
    evidence = (f"--evidence.max={tier}", f"--host.netns={made.netns}")
    done = run("whatif", *question, *evidence, "--format=json", DOCKER_HOST=made.host)
    assert (done.returncode, done.stderr) == (0, "")
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def open_pairs(made: Engine, tier: str = "api") -> set[tuple[str, str]]:
    """Return the pairs that the program calls reachable now."""
    evidence = (f"--evidence.max={tier}", f"--host.netns={made.netns}")
    done = run("report", *evidence, "--format=json", DOCKER_HOST=made.host)
    return {(pair["source"], pair["destination"]) for pair in json.loads(done.stdout)["pairs"]}


def foretold(now: set[tuple[str, str]], document: dict[str, Any]) -> set[tuple[str, str]]:
    """Return the pairs that are to be open afterwards."""
    fates = {(pair["source"], pair["destination"]): pair["fate"] for pair in document["pairs"]}
    assert "undecided" not in fates.values()
    assert {pair for pair, fate in fates.items() if fate != "opens"} <= now
    opened = {pair for pair, fate in fates.items() if fate == "opens"}
    after = (now | opened) - {pair for pair, fate in fates.items() if fate == "closes"}
    assert document["totals"]["after"]["reachable_pairs"] == len(after)
    return after


def test_icc_of_the_daemon(host: Engine) -> None:
    """The pairs that --icc=false leaves open, and those that --icc=true opens again, are those that were foretold."""
    have(host)
    now = open_pairs(host)
    answers = [ask(host, tier, "--icc=false") for tier in TIERS]
    restart(host, "--icc=false")
    closed = truth(host)
    for answer in answers:
        assert foretold(now, answer) == closed.pairs
        reasons = {(pair["source"], pair["destination"]): pair["reason"] for pair in answer["pairs"]}
        assert reasons["app", "web"] == "link on bridge"
        assert reasons["client", "web"] == "no longer by bridge on bridge"
        assert reasons["client", "door"] == "published_port on bridge"
    assert answers[0]["totals"]["closes"] > 0
    now = open_pairs(host)
    answers = [ask(host, tier, "--icc=true") for tier in TIERS]
    restart(host, "--icc=true")
    opened = truth(host)
    assert [foretold(now, answer) for answer in answers] == [opened.pairs] * len(TIERS)


def test_the_userland_proxy(host: Engine) -> None:
    """The pairs that are open without docker-proxy, on an open and on a closed default bridge, are those foretold."""
    for icc in ("--icc=true", "--icc=false"):
        have(host, icc)
        now = open_pairs(host)
        answers = [ask(host, tier, icc, "--userland-proxy=false") for tier in TIERS]
        restart(host, icc, "--userland-proxy=false")
        without = truth(host)
        assert [foretold(now, answer) for answer in answers] == [without.pairs] * len(TIERS)


@pytest.mark.parametrize("network", MEMBERS)
def test_a_network_made_anew(host: Engine, network: str) -> None:
    """The pairs that are open once a network was made anew with another enable_icc are those that were foretold."""
    have(host)
    for icc, fate in (("false", "closes"), ("true", "opens")):
        now = open_pairs(host)
        answers = [ask(host, tier, f"--network={network}", f"--icc={icc}") for tier in TIERS]
        make_anew(host, network, f"--opt=com.docker.network.bridge.enable_icc={icc}")
        made_anew = truth(host)
        assert [foretold(now, answer) for answer in answers] == [made_anew.pairs] * len(TIERS)
        assert answers[0]["totals"][fate] > 0


def make_anew(made: Engine, network: str, option: str) -> None:
    """Remove a network and create it with an option, and put its containers on it again."""
    made.docker("rm", "--force", *MEMBERS[network])
    made.docker("network", "disconnect", network, "both")
    made.docker("network", "rm", network)
    made.docker("network", "create", option, *FLAGS[network], network)
    for name, flags in MEMBERS[network].items():
        made.run(name, *flags)
    made.docker("network", "connect", network, "both")


def test_rules_of_others_outlast_the_restart(host: Engine) -> None:
    """A pair that a rule in DOCKER-USER may keep open is undecided, and that rule does keep it open."""
    have(host)
    rule = ("DOCKER-USER", "-p", "tcp", "--dport", "7777", "-j", "ACCEPT")
    host.on_host("iptables", "-I", *rule)
    now, answer = open_pairs(host, "sandboxes"), ask(host, "sandboxes", "--icc=false")
    fates = {(pair["source"], pair["destination"]): pair["fate"] for pair in answer["pairs"]}
    undecided = {pair for pair, fate in fates.items() if fate == "undecided"}
    assert ("client", "web") in undecided
    restart(host, "--icc=false")
    found = truth(host).pairs
    host.on_host("iptables", "-D", *rule)
    assert undecided <= found
    assert found == now - {pair for pair, fate in fates.items() if fate == "closes"}
