"""Generated hosts are those that engines set up."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from exporter.evaluate import evaluate
from exporter.evaluate.kinds.unremarkable import unremarkable
from exporter.model.report import HOST
from exporter.observe.host import EngineHost
from exporter.observe.observer import open_observer
from exporter.observe.tier import Tier
from exporter.parse import parse
from tests.bench.layouts import EXPOSED, FIRST_PORT, INSIDE_PORT, Layout
from tests.lab import VERSIONS, Engine, engine

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exporter.model.observation import Observation

pytestmark = pytest.mark.lab

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


def test_namespaces_of_containers_are_those_of_a_real_engine(seen: tuple[str, Observation]) -> None:
    """The same rules, and nothing else than what the engine sets up: none of them is looked at by itself."""
    version, real = seen
    rules = []
    for observation in (real, Layout(version, entered=True).observation()):
        snapshot = parse(observation)
        assert snapshot.kernel is not None
        assert unremarkable(snapshot, snapshot.kernel) == snapshot.sandboxes.keys() - {HOST}
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
