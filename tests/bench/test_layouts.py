"""Generated hosts are those that engines set up."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from exporter.evaluate import evaluate
from exporter.evaluate.kinds.kept import Kept
from exporter.evaluate.kinds.told import told_by_all
from exporter.evaluate.kinds.unremarkable import unremarkable
from exporter.model.reach import HOST
from exporter.observe.host import EngineHost
from exporter.observe.observer import open_observer
from exporter.observe.tier import Tier
from exporter.parse import parse
from tests.bench.layouts import EXPOSED, FIRST_PORT, INSIDE_PORT, NFTABLES, Layout
from tests.conformance.test_recordings import NAMES, recording
from tests.lab import VERSIONS, Engine, engine

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from exporter.model.observation import Observation

USER_RULE = f"iptables -I DOCKER-USER -s 198.18.0.7/32 -d 10.64.0.2/32 -p tcp -m tcp --dport {INSIDE_PORT} -j DROP"


@pytest.fixture(scope="module", params=VERSIONS)
def seen(request: pytest.FixtureRequest) -> Iterator[tuple[str, Observation]]:
    """Give what the exporter reads of a real engine that was asked for the same as a small layout."""
    more = () if request.param == "28.5" else ("--experimental", "--ip6tables")
    with engine(request.param, "--icc=false", *more) as made:
        furnish(made)
        observer = open_observer(EngineHost(made.host), 10.0, Tier.SANDBOXES, made.netns)
        yield request.param, observer.observe()


def furnish(made: Engine) -> None:
    """Make the networks, containers and rules of `Layout(version)`."""
    for number in range(2):
        closed = ["--opt=com.docker.network.bridge.enable_icc=false"] if number == 1 else []
        subnets = (f"--subnet=10.64.{number}.0/24", f"--subnet=fd00:64:{number}::/64")
        name = f"--opt=com.docker.network.bridge.name=br-n{number}"
        made.docker("network", "create", "--ipv6", *subnets, name, *closed, f"n{number}")
    for number in range(4):
        published = [f"--publish={FIRST_PORT + number}:{INSIDE_PORT}"] if number < 2 else []
        made.run(f"c{number}", f"--network=n{number % 2}", *published)
    made.run("c4", f"--expose={EXPOSED}")
    made.run("c5", "--link=c4:c4")
    made.on_host(*USER_RULE.split())


@pytest.mark.lab
def test_rules_are_those_of_a_real_engine(seen: tuple[str, Observation]) -> None:
    """Both families' rules are the same line by line, in the same order; counters and dates aside."""
    version, real = seen
    made = Layout(version).observation()
    for program in ("iptables-nft", "ip6tables-nft"):
        assert real.kernel is not None
        assert real.kernel.host is not None
        assert made.kernel is not None
        assert made.kernel.host is not None
        text = re.sub(r"\[\d+:\d+\]", "[0:0]", real.kernel.host.iptables[program])
        lines = [line for line in text.splitlines() if not line.startswith("#")]
        assert made.kernel.host.iptables[program].splitlines() == lines


@pytest.mark.lab
def test_namespaces_of_containers_are_those_of_a_real_engine(seen: tuple[str, Observation]) -> None:
    """The same rules, and nothing else than what the engine sets up: none of them is looked at by itself."""
    version, real = seen
    rules = []
    for observation in (real, Layout(version, entered=True).observation()):
        snapshot = parse(observation)
        assert snapshot.kernel is not None
        told = told_by_all(snapshot.kernel, Kept())
        assert unremarkable(snapshot, snapshot.kernel, told, Kept(), ()) == snapshot.sandboxes.keys() - {HOST}
        assert observation.kernel is not None
        rules.append(
            {
                snapshot.sandboxes[name].name: _said("".join(documents.iptables.values()))
                for name, documents in observation.kernel.sandboxes.items()
            }
        )
    assert rules[0] == rules[1]


def _said(text: str) -> list[str]:
    """Return rules without counters and dates, and without the ports that the resolver happened to get."""
    lines = [re.sub(r"^\[\d+:\d+\] ", "", line) for line in text.splitlines()]
    return [re.sub(r"(127\.0\.0\.11:|--sport )\d+", r"\1…", line) for line in lines if line.startswith("-A")]


@pytest.mark.lab
def test_verdicts_are_those_of_a_real_host(seen: tuple[str, Observation]) -> None:
    """Interfaces, routes, sockets and documents lead to the same paths for all pairs, kernel's and promised."""
    version, real = seen
    reports = [evaluate(parse(observation)) for observation in (real, Layout(version, entered=True).observation())]
    theirs, ours = (
        {(pair.source.name, pair.destination.name): (pair.verdict, pair.declared) for pair in report.pairs()}
        for report in reports
    )
    assert reports[0].evidence.kernel
    assert ours == theirs
    assert len(theirs) == 12


# --- The nftables backend, of which there are recordings ---

Statements = tuple[str, ...]


def test_tables_are_those_of_recorded_engines() -> None:
    """Every chain is one of a recorded network of the same kind: statement by statement, in the same order.

    Names, addresses and ports aside, and one rule about a published port or a container in the place of many.
    """
    recorded: set[tuple[str, tuple[Statements, ...]]] = set()
    for name in NAMES:
        document = recording(name).document
        if PROXY_OFF not in document["engine"]["args"]:
            recorded |= set(_chains(document["host"]["nft_ruleset"]["nftables"]))
    kernel = Layout(NFTABLES, links=0, containers=6).observation().kernel
    assert kernel is not None
    assert kernel.host is not None
    *engines, _user = map(json.loads, kernel.host.nftables)
    ours = [chain for document in engines for chain in _chains(document["nftables"])]
    assert [chain for chain in ours if chain not in recorded] == []
    assert len(ours) > len({name for name, _ in ours}) > 8
    assert {str(each) for each in _maps(engines[0]["nftables"])} <= {
        str(each) for name in NAMES for each in _maps(recording(name).document["host"]["nft_ruleset"]["nftables"])
    }


PROXY_OFF = "--userland-proxy=false"


def _chains(entries: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, tuple[Statements, ...]]]:
    """Yield the name of each chain that has rules, without its network's, with what its rules do."""
    found: dict[tuple[str, str], list[Statements]] = {}
    for entry in entries:
        rule = entry.get("rule")
        if rule is not None:
            said = (*(_masked(json.dumps(each)) for each in rule["expr"]), rule.get("comment", ""))
            rules = found.setdefault((rule["family"], rule["chain"]), [])
            if not rules or rules[-1] != said:
                rules.append(said)
    for (_, chain), rules in found.items():
        yield chain.partition("__")[0], tuple(rules)


def _maps(entries: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """Yield maps without what is in them."""
    left_out = ("elem", "handle")
    for entry in entries:
        if "map" in entry:
            yield {key: entry["map"][key] for key in sorted(entry["map"]) if key not in left_out}


def _masked(text: str) -> str:
    """Return a statement without bridges' names, containers' and networks' addresses and family, ports, counters."""
    text = text.replace('"ip6"', '"ip"')
    text = re.sub(r'"(docker0|br-\w+)"', '"BRIDGE"', text)
    text = re.sub(r'"(10\.|172\.17\.|fd00:)[^"]*", "len": \d+', '"SUBNET"', text)
    text = re.sub(r'"(10\.|172\.17\.|fd00:)[^"]*"', '"ADDRESS"', text)
    text = re.sub(r'"(tcp|udp)", "field": "dport"', '"tcp", "field": "dport"', text)
    return re.sub(r'("right"|"port"|"packets"|"bytes"): \d+', r"\1: 0", text)
