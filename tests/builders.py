"""Reports, snapshots and published states with sane defaults: a test names only what it is about."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from exporter.model.explanation import Packet
from exporter.model.observation import Observation
from exporter.model.policy import ANY, Effect, Relation, Rule, Selector
from exporter.model.ports import ALL_PORTS, NO_PORTS, PortSet
from exporter.model.probe import Probe, Probed, ProbeResult, Sight
from exporter.model.reach import HOST, PairVerdict, Path, Protocol, Reach, Verdict, Via
from exporter.model.report import (
    BlastRadius,
    ContainerSummary,
    EngineSummary,
    Evidence,
    NetworkSummary,
    PolicyResult,
    Report,
    RuleResult,
    Tenancy,
    TenantSummary,
    Totals,
    Violation,
)
from exporter.model.snapshot import Engine, EngineVersion, Product, Snapshot
from exporter.publish.state import PollResult, PollStats, ProbeStats, Published, Reading

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

TAKEN_AT = datetime(2026, 1, 1, tzinfo=UTC)


def path(
    via: Via = Via.BRIDGE,
    network: str | None = "bridge",
    protocol: Protocol = Protocol.TCP,
    addresses: tuple[str, ...] = ("172.17.0.3",),
    ports: PortSet | None = None,
    undecided: str = "",
) -> Path:
    """Return a path, by default over the default bridge to all TCP ports."""
    if ports is None:
        ports = NO_PORTS if protocol is Protocol.ICMP else ALL_PORTS
    return Path(via, network, protocol, addresses, ports, undecided)


def open_verdict(via: Via = Via.BRIDGE, network: str | None = "bridge", address: str = "172.17.0.3") -> PairVerdict:
    """Return a verdict with everything open at one address."""
    return PairVerdict(tuple(path(via, network, protocol, (address,)) for protocol in Protocol))


def unknown_verdict(reason: str = "the driver is a plugin", network: str | None = "weave") -> PairVerdict:
    """Return a verdict whose only path is undecided."""
    return PairVerdict((path(Via.PLUGIN, network, undecided=reason),))


def engine(
    icc_enabled: bool | None = True,
    *,
    name: str = "docker-host",
    version: str = "28.5.1",
    firewall_backend: str = "iptables",
) -> EngineSummary:
    """Return an engine with its default bridge open."""
    return EngineSummary("ENGINE:ID", name, version, "1.51", firewall_backend, icc_enabled)


def container(name: str, networks: tuple[str, ...] = ("bridge",), sandbox: str | None = None) -> ContainerSummary:
    """Return a container in a sandbox of its own, with an id made of its name."""
    identity = f"id-{name}"
    return ContainerSummary(identity, name, networks, sandbox or identity)


def network(
    name: str = "bridge",
    driver: str = "bridge",
    *,
    icc_enabled: bool | None = True,
    icc_effective: bool | None = None,
    internal: bool = False,
    containers: int = 2,
    reachable_pairs: int = 2,
    identity: str | None = None,
    families: tuple[str, ...] = ("ipv4",),
) -> NetworkSummary:
    """Return a bridge network with ICC on."""
    return NetworkSummary(
        identity or f"id-{name}",
        name,
        driver,
        internal,
        icc_enabled,
        icc_effective,
        containers,
        reachable_pairs,
        families,
    )


def reach(containers: Sequence[ContainerSummary], verdicts: Mapping[tuple[str, str], PairVerdict]) -> Reach:
    """Return the verdicts given by names of containers; pairs that are not given are blocked."""
    sandbox_of = {each.name: each.sandbox for each in containers}
    sandboxes = list(dict.fromkeys(each.sandbox for each in containers))
    rows: list[dict[str, PairVerdict]] = [{} for _ in sandboxes]
    within: dict[str, PairVerdict] = {}
    for (source, destination), verdict in verdicts.items():
        origin, target = sandbox_of[source], sandbox_of[destination]
        if origin == target:
            within[origin] = verdict
        else:
            rows[sandboxes.index(origin)][target] = verdict
    return Reach({sandbox: index for index, sandbox in enumerate(sandboxes)}, tuple(rows), within)


def report(
    containers: Sequence[ContainerSummary] | None = None,
    verdicts: Mapping[tuple[str, str], PairVerdict] | None = None,
    *,
    networks: Sequence[NetworkSummary] | None = None,
    icc_enabled: bool | None = True,
    assumptions: tuple[str, ...] = (),
    evidence: Evidence | None = None,
    engine_summary: EngineSummary | None = None,
    taken_at: datetime = TAKEN_AT,
    declared: Mapping[tuple[str, str], PairVerdict] | None = None,
    missing: Mapping[str, str] | None = None,
    unsupported: Mapping[str, int] | None = None,
) -> Report:
    """Return a report whose totals fit its verdicts, by default of two containers that reach each other.

    With `declared`, the verdicts are the kernel's and these are the configuration's.
    """
    if containers is None:
        containers = (container("db"), container("web"))
    if verdicts is None:
        first, second = containers[0].name, containers[1].name
        verdicts = {(first, second): open_verdict(), (second, first): open_verdict(address="172.17.0.2")}
    containers = tuple(sorted(containers, key=lambda each: each.name))
    draft = Report(
        taken_at=taken_at,
        engine=engine_summary or engine(icc_enabled),
        evidence=evidence or Evidence(),
        assumptions=assumptions,
        networks=tuple(networks) if networks is not None else (network(containers=len(containers)),),
        containers=containers,
        totals=Totals(0, 0, 0, 0, None, None),
        pairs_by_via={},
        blast_radius=BlastRadius(0, 0, 0),
        reach=reach(containers, verdicts),
        declared=None if declared is None else reach(containers, declared),
        missing=missing or {},
        unsupported=unsupported or {},
    )
    return counted(draft)


def counted(draft: Report) -> Report:
    """Return the report with the totals that follow from its verdicts."""
    pairs = list(draft.pairs())
    n = len(draft.containers)
    by_via: dict[Via, int] = {}
    peers: dict[str, set[str]] = {each.id: set() for each in draft.containers}
    reached: dict[str, int] = {each.id: 0 for each in draft.containers}
    for pair in pairs:
        via = pair.verdict.via
        assert via is not None
        by_via[via] = by_via.get(via, 0) + 1
        reached[pair.source.id] += 1
        peers[pair.source.id].add(pair.destination.id)
        peers[pair.destination.id].add(pair.source.id)
    unknown = sum(pair.verdict.verdict is Verdict.UNKNOWN for pair in pairs)
    drifted = [pair.verdict.verdict for pair in draft.drifted()]
    drift = (drifted.count(Verdict.REACHABLE), drifted.count(Verdict.BLOCKED)) if draft.declared else (None, None)
    radius = BlastRadius(
        isolated_containers=sum(not others for others in peers.values()),
        max_reach=max(reached.values(), default=0),
        largest_component=_largest_component(peers),
    )
    return replace(
        draft,
        totals=Totals(n, n * (n - 1), len(pairs), unknown, *drift),
        pairs_by_via=by_via,
        blast_radius=radius,
    )


def _largest_component(peers: Mapping[str, set[str]]) -> int:
    left, largest = set(peers), 0
    while left:
        group, edge = set(), {left.pop()}
        while edge:
            group |= edge
            edge = set().union(*(peers[each] for each in edge)) - group
        left -= group
        largest = max(largest, len(group))
    return largest


def small_town() -> Report:
    """Return a report with every verdict, several mechanisms, shared sandboxes and networks of every kind."""
    front, back = ("bridge", "frontend"), ("backend",)
    containers = (
        container("api", ("frontend", "backend")),
        container("batch", ("weave",)),
        container("db", back),
        container("db-backup", (), sandbox="id-db"),
        container("monitor", ("host",), sandbox=HOST),
        container("vault", ("none",)),
        container("web", front),
    )
    shared = PairVerdict((path(Via.SAME_SANDBOX, None, Protocol.TCP, ("127.0.0.1", "::1")),))
    published = PairVerdict((path(Via.PUBLISHED_PORT, "bridge", ports=PortSet.of(80, 443), addresses=("10.0.0.1",)),))
    linked = PairVerdict((path(Via.LINK, "bridge", ports=PortSet.of(5432)),))
    verdicts = {
        ("api", "db"): open_verdict(Via.BRIDGE, "backend", "172.19.0.3"),
        ("api", "web"): open_verdict(Via.BRIDGE, "frontend", "172.18.0.2"),
        ("batch", "web"): published,
        ("db", "api"): open_verdict(Via.BRIDGE, "backend", "172.19.0.2"),
        ("db", "db-backup"): shared,
        ("db", "batch"): unknown_verdict(),
        ("monitor", "api"): open_verdict(Via.HOST, "frontend", "172.18.0.3"),
        ("monitor", "db"): open_verdict(Via.HOST, "backend", "172.19.0.3"),
        ("monitor", "web"): PairVerdict((*open_verdict(Via.HOST, "frontend", "172.18.0.2").paths, *published.paths)),
        ("web", "api"): open_verdict(Via.BRIDGE, "frontend", "172.18.0.3"),
        ("web", "db"): linked,
        ("web", "batch"): unknown_verdict(),
    }
    networks = (
        network("backend", internal=True, containers=2, reachable_pairs=4),
        network("bridge", icc_enabled=False, containers=1, reachable_pairs=1),
        network("frontend", containers=2, reachable_pairs=2),
        network("host", "host", icc_enabled=None, containers=1, reachable_pairs=0),
        network("none", "null", icc_enabled=None, containers=1, reachable_pairs=0),
        network("weave", "weaveworks/net-plugin:2.8.1", icc_enabled=None, containers=1, reachable_pairs=0),
    )
    assumptions = ("docker-proxy runs, as is the engine's default", "no firewall rules but the engine's own")
    return report(containers, verdicts, networks=networks, icc_enabled=False, assumptions=assumptions)


KERNEL = Evidence(firewall=True, bridge=True, routes=True)
"""What verdicts of the kernel need."""


def drifting(first: str = "db", second: str = "web", network_name: str = "tenants") -> Report:
    """Return a report by the kernel in which one of two pairs is open, and the other one should be."""
    containers = container(first, (network_name,)), replace(container(second, (network_name,)), id="2", sandbox="2")
    opened = open_verdict(network=network_name)
    return report(
        containers,
        {(first, second): opened},
        declared={(second, first): opened},
        networks=(network(network_name, icc_enabled=False, icc_effective=True),),
        evidence=KERNEL,
        missing={"sandboxes": "not permitted to enter <them>"},
        unsupported={"limit": 2, "meta time": 1},
    )


def governed(first: str = "db", second: str = "web", why: str = "they must not meet", tenant: str = "shop") -> Report:
    """Return a report of two tenants, of which one reaches the other against a rule; two rules are about nobody."""
    containers = (
        replace(container(first), tenant=tenant),
        replace(container(second), id="2", sandbox="2", tenant="bank"),
    )
    draft = report(containers, {(first, second): open_verdict()})
    source, destination = (next(each for each in draft.containers if each.name == name) for name in (first, second))
    denies = Rule("apart", why, Effect.DENY, ANY, ANY, Relation.OTHER)
    allows = Rule("exception", why, Effect.ALLOW, Selector(("nobody",)), ANY)
    holds = Rule("typo", why, Effect.DENY, Selector(("nobody",)), ANY)
    violation = Violation(denies, source, destination, Verdict.REACHABLE, draft.pair(source, destination).paths)
    results = (RuleResult(allows, 0, 2, 0, None), RuleResult(denies, 2, 2, 2, 1), RuleResult(holds, 0, 2, 0, 0))
    tenants = (TenantSummary("bank", 1, 1), TenantSummary(tenant, 1, 0))
    tenancy = Tenancy("com.docker.compose.project", told=True, tenants=tenants, without=0, cross_pairs=1)
    return replace(draft, tenancy=tenancy, policy=PolicyResult(results, (violation,)))


def crowd(size: int = 250) -> Report:
    """Return a report of containers on one bridge that all reach each other, verdicts shared as evaluation does."""
    containers = tuple(container(f"container-{number:03}") for number in range(size))
    row = {
        each.sandbox: open_verdict(address=f"172.17.{number // 250}.{number % 250 + 2}")
        for number, each in enumerate(containers)
    }
    shared = Reach({each.sandbox: 0 for each in containers}, (row,), {})
    return counted(replace(report(containers, {}, networks=(network(containers=size),)), reach=shared))


def snapshot() -> Snapshot:
    """Return a snapshot of an engine on which nothing runs."""
    empty = Engine(
        id="ENGINE:ID",
        name="docker-host",
        version=EngineVersion(28, 5, 1),
        version_text="28.5.1",
        api_version="1.51",
        product=Product.DOCKER,
        firewall_backend="iptables",
        rootless=False,
        swarm=False,
        experimental=False,
        ipv4_forwarding=True,
        bridge_netfilter_v4=True,
        bridge_netfilter_v6=True,
        userland_proxy=None,
    )
    return Snapshot(TAKEN_AT, empty, {}, {}, {}, (), ())


def observation() -> Observation:
    """Return an observation of an engine on which nothing runs."""
    return Observation(TAKEN_AT, {"Version": "28.5.1"}, {"ID": "ENGINE:ID"}, [], [])


def stats() -> PollStats:
    """Return statistics in which nothing is missing."""
    return PollStats(
        polls_by_result={PollResult.OK: 7, PollResult.TIMEOUT: 1},
        poll_interval_seconds=15.0,
        pair_series=100,
        evidence_wanted=KERNEL,
        last_poll_duration_seconds=0.021,
        last_evaluation_seconds=0.002,
        events_total={"container": 3, "network": 1},
        event_stream_up=True,
        configuration=Reading(succeeded=True, last_success=TAKEN_AT),
        web_configuration=Reading(succeeded=True, last_success=TAKEN_AT),
        policy=Reading(succeeded=True, last_success=TAKEN_AT),
        probes=ProbeStats({ProbeResult.AGREED: 11, ProbeResult.DISAGREED: 1}, (probed(),), TAKEN_AT),
    )


def probed(result: ProbeResult = ProbeResult.DISAGREED, destination: str = "web", reason: str = "") -> Probed:
    """Return a packet that should have arrived and did not."""
    sent = Probe(container("db"), container(destination), Packet(Protocol.TCP, "172.17.0.3", 80))
    return Probed(sent, Verdict.REACHABLE, Sight(), result, reason)


def published(of: Report | None = None, *, at: datetime = TAKEN_AT) -> Published:
    """Return the state after a good poll."""
    start = Published.not_polled(at)
    return start.succeeded(at, observation(), snapshot(), of or report(), stats())


def down(error: str = "Cannot connect to unix:///var/run/docker.sock: no such file") -> Published:
    """Return the state after a good poll that was followed by a failed one."""
    return published().failed(TAKEN_AT, error, stats())
