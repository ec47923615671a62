"""What is foretold of a change, beside what packets do once the change is made."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from exporter.evaluate.written import FAMILIES, unwritten, written_anew
from exporter.parse import parse
from tests.cli.program import run
from tests.conformance.runner import observe
from tests.lab import VERSIONS, Engine, engine
from tests.story.truth import truth

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exporter.model.firewall import Chain, Firewall, Step

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


WITH_IP6TABLES = {version: () if version == "28.5" else ("--experimental", "--ip6tables") for version in VERSIONS}

NO_ICC = "--opt=com.docker.network.bridge.enable_icc=false"

OPEN: tuple[str, ...] = ()
CLOSED: tuple[str, ...] = ("--icc=false",)
"""The arguments of the engine with its default and with a closed default bridge."""


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
    restart(host)
    opened = truth(host)
    assert [foretold(now, answer) for answer in answers] == [opened.pairs] * len(TIERS)


def shared(name: str, one: object, other: object) -> pytest.MarkDecorator:
    """Have a test with each of two values: on 28.5 with both, on the others, which write the same, with one of them."""
    cases = [("20.10", one), ("26.1", other), ("28.5", one), ("28.5", other)]
    return pytest.mark.parametrize(("host", name), cases, indirect=["host"])


@shared("args", OPEN, CLOSED)
def test_the_userland_proxy(host: Engine, args: tuple[str, ...]) -> None:
    """The pairs that are open without docker-proxy, on an open and on a closed default bridge, are those foretold."""
    have(host, *args)
    now = open_pairs(host)
    answers = [ask(host, tier, *args, "--userland-proxy=false") for tier in TIERS]
    restart(host, *args, "--userland-proxy=false")
    without = truth(host)
    assert [foretold(now, answer) for answer in answers] == [without.pairs] * len(TIERS)


@shared("network", *MEMBERS)
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


FLUSHED: dict[str, tuple[str, ...]] = {
    "FORWARD, which drops": ("iptables -F FORWARD", "iptables -P FORWARD DROP"),
    "everything": ("iptables -F", "iptables -X", "iptables -t nat -F", "iptables -t raw -F"),
}


@shared("flushed", *FLUSHED)
def test_a_restart_writes_the_rules_anew(host: Engine, flushed: str) -> None:
    """What somebody flushed does not count: the pairs are decided, and are those that packets connect afterwards."""
    # which way goes with which flush makes no difference to what is written
    before, after = (OPEN, CLOSED) if "FORWARD" in flushed else (CLOSED, OPEN)
    have(host, *before)
    for command in FLUSHED[flushed]:
        host.on_host(*command.split())
    now, answer = open_pairs(host, "sandboxes"), ask(host, "sandboxes", f"--icc={str(after == OPEN).lower()}")
    assert now == truth(host).pairs
    restart(host, *after)
    found = truth(host).pairs
    host.on_host("iptables", "-P", "FORWARD", "ACCEPT")
    assert foretold(now, answer) == found


@pytest.mark.parametrize("version", ["26.1", "28.5"])
def test_a_restart_writes_the_rules_of_ipv6_anew(version: str) -> None:
    """Containers that reach each other over IPv6 alone, since its rules are gone, do not after the restart."""
    args = WITH_IP6TABLES[version]
    with engine(version, *args) as made:
        for number in (1, 2):
            network = f"six{number}"
            made.docker("network", "create", "--ipv6", f"--subnet=fd00:{number}::/64", NO_ICC, network)
            for name in ("a", "b"):
                made.run(f"{name}{number}", f"--network={network}")
        kept_apart = truth(made).pairs
        for command in ("-F", "-X", "-P FORWARD ACCEPT"):
            made.on_host("ip6tables", *command.split())
        now, answer = open_pairs(made, "sandboxes"), ask(made, "sandboxes")
        assert kept_apart < now == truth(made).pairs
        made.restart(*args)
        made.docker("start", "a1", "b1", "a2", "b2")
        assert foretold(now, answer) == kept_apart == truth(made).pairs


ODD_NETWORKS: dict[str, tuple[str, ...]] = {
    "plain": ("--ipv6", "--subnet=fd00:1::/64", "--opt=com.docker.network.bridge.enable_ip_masquerade=false"),
    "inner": ("--ipv6", "--subnet=fd00:2::/64", "--internal", NO_ICC),
    "apart": ("--ipv6", "--subnet=fd00:3::/64", NO_ICC),
    "four": (),
}
GATEWAY = "--opt=com.docker.network.bridge.gateway_mode_ipv"
LATE_NETWORKS: dict[str, tuple[str, ...]] = {
    "routed": ("--ipv6", "--subnet=fd00:11::/64", f"{GATEWAY}4=routed", f"{GATEWAY}6=routed"),
    "shut": (f"{GATEWAY}4=routed", NO_ICC),
    "free": ("--ipv6", "--subnet=fd00:12::/64", f"{GATEWAY}4=nat-unprotected", f"{GATEWAY}6=nat-unprotected"),
    "trusting": ("--opt=com.docker.network.bridge.trusted_host_interfaces=eth8:eth9",),
    "six": ("--ipv4=false", "--ipv6", "--subnet=fd00:13::/64"),
}
"""Networks that 28.5 alone has, in the place of the internal one: it is not known which of their rules come first."""

ODD_CONTAINERS: dict[str, tuple[str, ...]] = {
    "web": ("--expose=80",),
    "app": ("--link=web",),
    "udp": ("--publish=8080:80/udp",),
    "near": ("--publish=127.0.0.1:8082:80",),
    "side": ("--network=plain", "--publish=9090:90"),
    "hidden": ("--network=inner", "--publish=9092:90"),
    "alone": ("--network=apart", "--publish=10.1.1.1:9093:90"),
    "six": ("--network=apart", "--publish=[::1]:9094:90/udp"),
    "open": ("--publish=9095:90",),
}
MEDDLING: tuple[tuple[str, ...], ...] = (
    (
        "-D FORWARD -j DOCKER-USER", "-I FORWARD -s {other}2 -j ACCEPT", "-A FORWARD -s {other}3 -j DROP",
        "-I FORWARD 3 -s {other}4 -j DROP", "-I DOCKER -s {other}5 -j ACCEPT", "-I DOCKER-USER -s {other}6 -j ACCEPT",
    ),
    (
        "-F FORWARD", "-A FORWARD -s {other}1 -j ACCEPT", "-F DOCKER-USER", "-P FORWARD ACCEPT",
        "-t nat -I DOCKER -s {other}7 -j RETURN",
    ),
    ("-F", "-X", "-t nat -F", "-t nat -X", "-t raw -F"),
)  # fmt: skip
"""What somebody does to iptables and to ip6tables."""

OTHERS = {"iptables": "10.9.9.", "ip6tables": "fd00:9:9::"}


def meddle(made: Engine, commands: tuple[str, ...]) -> None:
    """Change the rules of both versions of IP."""
    for program, other in OTHERS.items():
        for command in commands:
            if "USER" not in command or "DOCKER-USER" in made.on_host(program, "-S"):
                made.on_host(program, *command.format(other=other).split())


# 20.10 and 26.1 write the same
@pytest.mark.parametrize(("version", "proxy"), [("20.10", True), ("26.1", False), ("28.5", True), ("28.5", False)])
def test_the_rules_that_a_restart_writes(version: str, *, proxy: bool) -> None:
    """Rule by rule the engine writes what is made up, and leaves rules of others where they are said to be."""
    args = [f"--icc={str(not proxy).lower()}", f"--userland-proxy={str(proxy).lower()}"]
    args += ["--ipv6", "--fixed-cidr-v6=fd00:4::/64", *WITH_IP6TABLES[version]]
    with engine(version, *args) as made:
        made.on_host("ip", "address", "add", "10.1.1.1/32", "dev", "lo")
        networks, containers = dict(ODD_NETWORKS), dict(ODD_CONTAINERS)
        if version == "28.5" and not proxy:
            del networks["inner"], containers["hidden"]
            networks |= LATE_NETWORKS
            containers |= {
                f"at-{name}": (f"--network={name}", "--publish=80/udp", "--publish=90") for name in LATE_NETWORKS
            }
        for network, flags in networks.items():
            made.docker("network", "create", *flags, network)
        for name, flags in containers.items():
            made.run(name, *flags)
        made.docker("network", "connect", "plain", "web")
        made.restart(*args)
        made.docker("start", *containers)
        for commands in MEDDLING:
            meddle(made, commands)
            seen = parse(observe(made))
            told = replace(seen, engine=replace(seen.engine, userland_proxy=proxy))
            assert told.kernel is not None
            expected = told.kernel.host.firewall
            for family in FAMILIES:
                assert unwritten(told, expected, family) == ""
                expected = written_anew(told, expected, family)
            made.restart(*args)
            made.docker("start", *containers)
            after = parse(observe(made))
            assert after.kernel is not None
            assert placed(expected) == placed(after.kernel.host.firewall), commands


def placed(firewall: Firewall) -> dict[tuple[str, ...], Counter[tuple[frozenset[Step], tuple[str, ...]]]]:
    """Return the rules by table and chain, each with those of others before it: the engine's have no order."""
    return {
        (table.family, table.name, chain.name, chain.base.policy if chain.base else ""): Counter(_placed(chain))
        for table in firewall.tables
        for chain in table.chains.values()
        if chain.rules
    }


def _placed(chain: Chain) -> Iterator[tuple[frozenset[Step], tuple[str, ...]]]:
    others: tuple[str, ...] = ()
    for rule in chain.rules:
        yield frozenset(rule.steps), others
        others += (rule.text,) if any(other in rule.text for other in OTHERS.values()) else ()


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
