"""What drops packets beside all firewalls, on a real engine: nobody can tell what it drops, and verdicts say so."""

from __future__ import annotations

import sys
from contextlib import closing
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from exporter.model.reach import Verdict
from exporter.observe.tier import Tier
from tests.conformance.changes import Change, cgroup_of
from tests.conformance.generator import Case
from tests.conformance.runner import Outcome, apply, judge, measured, observing
from tests.lab import Container, Topology, build, engine
from tests.lab.programs import at_interfaces

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.lab import Engine

pytestmark = pytest.mark.lab

ATTACH = f"cd {Path(__file__).parents[2]} && {sys.executable} -m tests.lab.programs"
CLASS = (
    "tc qdisc add dev {port} root handle 1: htb default 1"
    " && tc class add dev {port} parent 1: classid 1:1 htb rate 1gbit"
    " && tc filter add dev {port} parent 1: protocol all u32 match u32 0 0 flowid 1:1"
)
INNER_CLASS = "tc class add dev {port} parent 1:1 classid 1:2 htb rate 1gbit"
LEAD_AWAY = "protocol all u32 match u32 0 0 action mirred egress redirect dev eth11"
ODD: Final = {
    "queue": ("tc qdisc add dev {port} root blackhole", "what a queue of kind blackhole lets through at {port}"),
    "inner": (
        f"{CLASS} && {INNER_CLASS} && tc filter add dev {{port}} parent 1:1 {LEAD_AWAY}",
        "what tc lets through at {port}",
    ),
    "acting": (f"{CLASS} && tc filter add dev {{port}} parent 1: prio 1 {LEAD_AWAY}", "what tc lets through at {port}"),
    "filtered": (
        f"tc qdisc add dev {{port}} clsact && tc filter add dev {{port}} egress {LEAD_AWAY}",
        "what tc lets through at {port}",
    ),
    **({"tcx": (f"{ATTACH} interface {{port}}", "what tcx lets through at {port}")} if at_interfaces() else {}),
    "cgroup": (f"{ATTACH} cgroup {{cgroup}}", "what BPF programs at the cgroup of a container let through"),
}
"""What is done at a container's port or to its cgroup, and why nobody can judge its packets then."""

USUAL: Final = {
    "plain": "true",
    "shaped": "tc qdisc add dev {port} root tbf rate 10gbit burst 10mb latency 50ms",
    "classed": CLASS,
}
"""What changes nothing."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What came of doing everything at once, each to a container of its own; and the words for each."""

    outcome: Outcome
    words: Mapping[str, Mapping[str, str]]
    pings: Mapping[str, bool]
    """Whether a process of the container, which is in its cgroup as those that probe are not, gets an answer."""

    def arrives(self, source: str, destination: str) -> bool:
        """Return whether anything that was sent arrived."""
        ends = {(item.source, item.destination) for item in self.outcome.truth.packets.arrived}
        return (source, destination) in ends


@pytest.fixture(scope="module")
def seen() -> Iterator[Seen]:
    """Give what came of it."""
    names = (*USUAL, *ODD)
    topology = Topology(containers=tuple(Container(name) for name in names))
    with engine("28.5") as made, closing(observing(made, Tier.SANDBOXES)) as observer:
        build(made, topology)
        words = {name: _words(made, name) for name in names}
        done = {**USUAL, **{name: does for name, (does, _) in ODD.items()}}
        changes = tuple(Change(name, (does.format(**words[name]),)) for name, does in done.items())
        for change in changes:
            apply(made, change)
        outcome = judge(measured(made, observer, Case("28.5", topology), changes))
        yield Seen(outcome, words, {name: _pings(made, name, "classed") for name in names if name != "classed"})


def _pings(made: Engine, source: str, destination: str) -> bool:
    address = made.api(f"/containers/{destination}/json")["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]
    told = made.docker("exec", source, "sh", "-c", f"ping -c 1 -W 1 {address} || true")
    return ", 0% packet loss" in told


def _words(made: Engine, name: str) -> dict[str, str]:
    return {"port": made.port_of(name), "cgroup": cgroup_of(made.pid_of(name))}


def test_packets_agree(seen: Seen) -> None:
    """No verdict that is certain is wrong."""
    assert seen.outcome.report.evidence.sandboxes, seen.outcome.report.missing
    assert seen.outcome.report.missing == {}
    assert seen.outcome.enforced.disagreements == ()
    assert seen.outcome.unlike == ()


@pytest.mark.parametrize("name", ODD)
def test_what_is_lost_is_not_called_reachable(seen: Seen, name: str) -> None:
    """Packets to or from the container are lost, and the verdict is unknown and says at what."""
    assert not (seen.arrives("plain", name) and seen.arrives(name, "plain") and seen.pings[name])
    for ends in (("plain", name), (name, "plain")):
        pair = seen.outcome.pair(*ends)
        assert pair.verdict is Verdict.UNKNOWN
        assert {path.undecided for path in pair.paths} == {ODD[name][1].format(**seen.words[name])}


def test_queues_and_classes_for_load_are_usual(seen: Seen) -> None:
    """Shaping drops nothing when there is no load."""
    assert seen.pings["plain"]
    for ends in permutations(USUAL, 2):
        assert seen.arrives(*ends)
        assert seen.outcome.pair(*ends).verdict is Verdict.REACHABLE
