"""Builds a case on a real engine, asks the exporter and the packets, and compares."""

from __future__ import annotations

import time
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from exporter.evaluate import evaluate
from exporter.evaluate.declared import declared_reach
from exporter.evaluate.enforced import enforced_reach
from exporter.observe.host import EngineHost
from exporter.observe.observer import Observer, open_observer
from exporter.observe.tier import Tier
from exporter.parse import parse
from tests.conformance.addresses import judged, of_bridges, of_local_routes, shown_by_api
from tests.conformance.changes import Change, Facts
from tests.conformance.compare import Comparison, compare
from tests.conformance.generator import HOST_ADDRESS, PORTS, Case
from tests.conformance.reasons import unexplained
from tests.conformance.tampering import engine_args, tamper
from tests.lab import HOST, VERSIONS, Arrival, Engine, LabError, build, measure, ports_in_use, sandboxes, start_engine
from tests.lab.system import run

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from exporter.model.observation import KernelDocuments, Observation
    from exporter.model.reach import PairVerdict
    from exporter.model.report import Report
    from exporter.model.snapshot import Snapshot
    from tests.lab import Packets, Topology


@dataclass(frozen=True, slots=True)
class Truth:
    """What the exporter saw of an engine, and what packets did there at the same time.

    `unread` is what the tier `kernel` sees, where that was looked at as well.
    """

    case: Case
    changes: tuple[Change, ...]
    observation: Observation
    addresses: tuple[str, ...]
    ports: tuple[int, ...]
    packets: Packets
    unread: KernelDocuments | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a case: what the kernel enforces against packets to every address, and what the API promises.

    The promise is compared for the addresses that the API shows. `unlike` are pairs on which the report, which may
    evaluate a part of the host that stands for all of it, is not what all of it gives. `unread` are disagreements with
    what the kernel enforces where no namespace of a container was read.
    """

    truth: Truth
    report: Report
    enforced: Comparison
    declared: Comparison
    unlike: tuple[str, ...]
    unread: tuple[str, ...]

    @property
    def unexplained(self) -> set[str]:
        """The reasons of undecided paths, by the kernel, that nothing on the host is the cause of."""
        return unexplained(self.enforced.doubts, self.truth.changes)

    def pair(self, source: str, destination: str) -> PairVerdict:
        """Return the verdict on two containers by name."""
        by_name = {container.name: container for container in self.report.containers}
        return self.report.pair(by_name[source], by_name[destination])


def run_case(case: Case, *, tampered: bool = False) -> Outcome:
    """Build the case on an engine of its own, change its host if told so, and compare verdicts with packets."""
    return judge(truth_of(case, tampered=tampered))


def truth_of(case: Case, *, tampered: bool = False) -> Truth:
    """Build the case on an engine of its own, and return what the exporter sees and what packets do."""
    args = case.topology.args
    engine = start_engine(case.version, *args, prepare=case.before)
    try:
        others = engine_args(case.version, case.topology.seed, args) if tampered else args
        if others != args:  # what the engine leaves behind of its rules stays
            engine.restart(*others)
        if case.swarm:
            engine.docker("swarm", "init", f"--advertise-addr={HOST_ADDRESS}")
        build(engine, case.topology)
        with closing(observing(engine, Tier.SANDBOXES)) as observer:
            if case.after:
                # who has seen a container before knows which addresses it has given up since
                observer.observe()
            for command in case.after:
                engine.docker(*command)
            changes = tamper(Facts.of(engine), case.version, case.topology.seed) if tampered else ()
            for change in changes:
                apply(engine, change)
            time.sleep(max((change.seconds for change in changes), default=0.0))
            truth = measured(engine, observer, case, changes)
            return truth if tampered else replace(truth, unread=observe(engine, Tier.KERNEL).kernel)
    finally:
        engine.close()


def changed(topology: Topology, changes: tuple[Change, ...]) -> Outcome:
    """Build a topology on the newest engine, change its host, and compare verdicts with packets."""
    with built(topology) as host:
        return host.tried(changes)


@dataclass(frozen=True, slots=True)
class Built:
    """An engine with a topology, and who looks at it."""

    engine: Engine
    observer: Observer
    topology: Topology

    def tried(self, changes: tuple[Change, ...], undone: tuple[Change, ...] = ()) -> Outcome:
        """Change the host, compare verdicts with packets, and put back what was changed."""
        try:
            for change in changes:
                apply(self.engine, change)
            return judge(measured(self.engine, self.observer, Case(self.engine.version, self.topology), changes))
        finally:
            for change in undone:
                apply(self.engine, change)

    def done(self, name: str, does: str, undoes: str, inside: Mapping[str, tuple[str, str]] | None = None) -> Outcome:
        """Do what is told on the host and then inside of containers, compare verdicts with packets, and undo it."""
        within = (inside or {}).items()
        changes = (Change(name, (there,), container) for container, (there, _) in within)
        undone = (Change(name, (back,), container) for container, (_, back) in within)
        return self.tried((Change(name, (does,)), *changes), (*undone, Change(f"{name}, undone", (undoes,))))


@contextmanager
def built(topology: Topology) -> Iterator[Built]:
    """Build a topology on the newest engine."""
    with (
        closing(start_engine(VERSIONS[-1], *topology.args)) as made,
        closing(observing(made, Tier.SANDBOXES)) as observer,
    ):
        build(made, topology)
        yield Built(made, observer, topology)


def apply(engine: Engine, change: Change) -> None:
    """Do to a host what a change says. Raises LabError with the change's name where a command of the shell fails."""
    for command in change.commands:
        try:
            if change.inside:
                run(["nsenter", f"--net=/proc/{engine.pid_of(change.inside)}/ns/net", "sh", "-ec", command])
            else:
                engine.on_host("sh", "-ec", command)
        except LabError as error:
            raise LabError(f"{change.name}: {error}") from error
    for arguments in change.engine:
        with suppress(LabError):  # what an engine refuses, or does by half, is how the host is then
            engine.docker(*arguments)


def measured(engine: Engine, observer: Observer, case: Case, changes: tuple[Change, ...]) -> Truth:
    """Return what the exporter sees of an engine, and what packets do there."""
    for box in sandboxes(engine):
        # neighbours that were learned before a change would be remembered for a while
        run(["nsenter", f"--net={box.path}", "ip", "neighbour", "flush", "all"])
    observation = observer.observe()
    snapshot = parse(observation)
    addresses = tuple(sorted(judged(observation, snapshot)))
    ports = ports_in_use(engine, *PORTS)
    packets = measure(engine, {*addresses, *of_local_routes(snapshot)}, ports)
    return Truth(case, changes, observation, addresses, ports, packets)


def observe(engine: Engine, tier: Tier = Tier.SANDBOXES) -> Observation:
    """Return what the exporter sees of an engine."""
    with closing(observing(engine, tier)) as observer:
        return observer.observe()


def observing(engine: Engine, tier: Tier) -> Observer:
    """Return an observer of an engine."""
    return open_observer(EngineHost(engine.host), 20, tier, Path(engine.netns))


def judge(truth: Truth) -> Outcome:
    """Evaluate what was observed, and compare the reports with what packets did."""
    snapshot = parse(truth.observation)
    report = evaluate(snapshot)
    sandbox_of = {container.name: container.sandbox for container in report.containers}
    names = {box.name: sandbox_of.get(box.name, box.name) for box in truth.packets.sandboxes} | {HOST: HOST}
    arrived = [
        Arrival(names[item.source], item.address, item.protocol, item.port, names[item.destination])
        for item in truth.packets.arrived
    ]
    shown = {*shown_by_api(truth.observation), *of_bridges(truth.observation)} & {*truth.addresses}
    promised = evaluate(parse(replace(truth.observation, kernel=None, daemon=None)))
    return Outcome(
        truth,
        report,
        enforced=compare(report, arrived, truth.addresses, truth.ports),
        declared=compare(promised, arrived, sorted(shown), truth.ports),
        unlike=tuple(_unlike(snapshot, report)),
        unread=compare(_unread(truth), arrived, truth.addresses, truth.ports).disagreements if truth.unread else (),
    )


def _unread(truth: Truth) -> Report:
    return evaluate(parse(replace(truth.observation, kernel=truth.unread)))


def _unlike(snapshot: Snapshot, report: Report) -> Iterator[str]:
    wholes = [(report.declared or report.reach, declared_reach(snapshot))]
    if snapshot.kernel is not None and report.declared is not None:
        wholes.append((report.reach, enforced_reach(snapshot, snapshot.kernel)))
    for (one, other), source, destination in product(wholes, report.containers, report.containers):
        ends = source.sandbox, destination.sandbox
        if source != destination and one.between(*ends) != other.between(*ends):
            yield f"{source.name} -> {destination.name}"
