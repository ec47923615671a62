"""Tenants and policies: each sentence of docs/policy.md, and all of them against a look at one pair after the other."""

from __future__ import annotations

from dataclasses import replace
from fnmatch import fnmatchcase
from itertools import permutations
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.evaluate import evaluate
from exporter.evaluate import policy as evaluated
from exporter.model.policy import ANY, Effect, Policy, Relation, Rule, Selector, Standards, tenants_apart
from exporter.model.ports import ALL_PORTS, PortSet
from exporter.model.reach import Protocol, Verdict, Via
from exporter.model.report import VIOLATIONS_LISTED
from exporter.parse import parse
from tests.evaluate.strategies import hosts
from tests.hosts import Host, host

if TYPE_CHECKING:
    from collections.abc import Mapping

    from exporter.model.observation import Observation
    from exporter.model.reach import Path
    from exporter.model.report import ContainerSummary, PolicyResult, Report, Tenancy
    from exporter.model.snapshot import Snapshot

TENANT = "tenant"
TCP_AND_UDP = frozenset({Protocol.TCP, Protocol.UDP})
PING = frozenset({Protocol.ICMP})


def deny(
    source: Selector = ANY,
    destination: Selector = ANY,
    *,
    relation: Relation | None = None,
    protocols: frozenset[Protocol] = TCP_AND_UDP,
    ports: str = "",
    effect: Effect = Effect.DENY,
    name: str = "rule",
) -> Rule:
    """Return a rule that denies everything, but for what is said."""
    port_set = PortSet.parse(ports) if ports else ALL_PORTS
    return Rule(name, "a test", effect, source, destination, relation, protocols, port_set)


def allow(source: Selector = ANY, destination: Selector = ANY, *, ports: str = "") -> Rule:
    """Return a rule that allows TCP and UDP."""
    return deny(source, destination, ports=ports, effect=Effect.ALLOW, name="exception")


def held_to(observation: Observation, *rules: Rule) -> Report:
    """Return the report with what the rules find."""
    return evaluate(parse(observation), Standards(TENANT, Policy(rules)))


def found(built: Host, *rules: Rule) -> PolicyResult:
    """Return what the rules find on a host."""
    policy = held_to(built.observation(), *rules).policy
    assert policy is not None
    return policy


def violating(built: Host, *rules: Rule) -> set[tuple[str, str]]:
    """Return the pairs that violate the last of the rules; the count says the same."""
    policy = found(built, *rules)
    listed = [(each.source.name, each.destination.name) for each in policy.of(rules[-1])]
    assert policy.results[-1].violations == len(listed) == len(set(listed))
    return set(listed)


def tenancy(built: Host, *trusted: str) -> Tenancy:
    """Return the tenants of a host."""
    found_tenants = evaluate(parse(built.observation()), Standards(TENANT, trusted=trusted)).tenancy
    assert found_tenants is not None
    return found_tenants


def named(*names: str) -> Selector:
    """Return the selector of names."""
    return Selector(names=names)


def of(tenant: str = "", **labels: str) -> Mapping[str, str]:
    """Return labels."""
    return ({TENANT: tenant} if tenant else {}) | labels


def town() -> Host:
    """Return two containers of one tenant, one of another and one of nobody, all on one open network."""
    built = host("28.5").network("net")
    built.container("a1", "net", labels=of("a")).container("a2", "net", labels=of("a"))
    return built.container("b", "net", labels=of("b")).container("stray", "net")


ALL = {*permutations(("a1", "a2", "b", "stray"), 2)}
WITHIN_A = {("a1", "a2"), ("a2", "a1")}


# --- Tenants ---


def test_pairs_of_different_tenants_are_counted() -> None:
    """Ordered pairs, each once; a container without the label is a tenant of its own."""
    assert tenancy(town()).cross_pairs == len(ALL - WITHIN_A)
    assert tenancy(town()).without == 1


def test_two_without_the_label_are_two_tenants() -> None:
    """Nobody has said that they belong together."""
    built = host("28.5").network("net").container("x", "net").container("y", "net").container("z", labels=of("z"))
    assert tenancy(built).cross_pairs == 2


def test_an_empty_label_names_nobody() -> None:
    """A label without a value is as good as none."""
    built = host("28.5").container("x", labels={TENANT: ""}).container("y", labels={TENANT: ""})
    assert (tenancy(built).tenants, tenancy(built).without) == ((), 2)


def test_without_any_label_there_is_nothing_to_count() -> None:
    """No tenants are something else than no pairs between tenants."""
    built = host("28.5").container("x", labels={TENANT: ""}).container("y")
    assert (tenancy(built).told, tenancy(built).cross_pairs) == (True, None)


def test_an_observation_without_the_label_tells_nothing() -> None:
    """Where the label was not kept nobody is called a tenant, or without one."""
    observation = replace(town().observation(), labels=())
    report = evaluate(parse(observation), Standards(TENANT))
    assert report.tenancy is not None
    assert (report.tenancy.told, report.tenancy.cross_pairs, report.tenancy.without) == (False, None, 0)
    assert {container.tenant for container in report.containers} == {None}


def test_each_tenant_knows_what_leads_in() -> None:
    """The pairs that lead into a tenant's containers are counted; into its own from its own are not."""
    exposed = {tenant.name: (tenant.containers, tenant.exposed_pairs) for tenant in tenancy(town()).tenants}
    assert exposed == {"a": (2, 4), "b": (1, 3)}


def test_whoever_is_trusted_crosses_nothing() -> None:
    """Pairs with a trusted tenant at either end do not count, those of all others do; nor does the check deny them."""
    told = tenancy(town(), "b")
    exposed = {(tenant.name, tenant.exposed_pairs, tenant.trusted) for tenant in told.tenants}
    assert (told.cross_pairs, exposed) == (4, {("a", 2, False), ("b", 0, True)})
    without_b = {*permutations(("a1", "a2", "stray"), 2)} - WITHIN_A
    assert violating(town(), *tenants_apart(("b",)).rules) == without_b
    assert tenancy(town(), "a", "b").cross_pairs == 0
    assert violating(town(), *tenants_apart(("a", "b")).rules) == set()


def test_who_is_trusted_and_runs_nothing_is_told() -> None:
    """Perhaps he is misspelt; where nobody was asked whose containers they are, nobody knows."""
    assert tenancy(town(), "b", "bank", "a", "B").absent == ("B", "bank")
    unlabelled = parse(replace(town().observation(), labels=()))
    told = evaluate(unlabelled, Standards(TENANT, trusted=("bank",))).tenancy
    assert (told and told.told, told and told.absent) == (False, ())


def test_a_trusted_name_is_no_pattern() -> None:
    """Whoever is called by a pattern is trusted, and nobody who fits it."""
    built = host("28.5").network("net")
    built.container("x", "net", labels=of("*")).container("y", "net", labels=of("a"))
    built.container("z", "net", labels=of("b"))
    assert tenancy(built, "*").cross_pairs == 2
    assert violating(built, *tenants_apart(("*",)).rules) == {("y", "z"), ("z", "y")}


def test_undecided_pairs_cross_too() -> None:
    """A pair that cannot be proven blocked counts as crossing, and violates."""
    built = host("28.5").network("plugged", "weave")
    built.container("a", "plugged", labels=of("a")).container("b", "plugged", labels=of("b"))
    assert tenancy(built).cross_pairs == 2
    (first, _) = found(built, deny()).violations
    assert (first.verdict, bool(first.reason)) == (Verdict.UNKNOWN, True)


# --- Selectors ---


@pytest.mark.parametrize(
    ("selector", "chosen"),
    [
        (ANY, {"web-1", "web-2", "db", "host"}),
        (named("web-*"), {"web-1", "web-2"}),
        (named("web-?"), {"web-1", "web-2"}),
        (named("web-[2-9]"), {"web-2"}),
        (named("web"), set()),
        (named("WEB-1"), set()),
        (named("web-1", "db"), {"web-1", "db"}),
        (Selector(networks=("back",)), {"web-2", "db"}),
        (Selector(networks=("host",)), {"host"}),
        (Selector(tenants=("*",)), {"web-1", "db"}),
        (Selector(tenants=("a",)), {"web-1"}),
        (Selector(labels=(("role", ("*",)),)), {"web-1", "db"}),
        (Selector(labels=(("role", ("db", "x")),)), {"db"}),
        (Selector(labels=(("role", ("db",)), (TENANT, ("b",)))), {"db"}),
        (Selector(labels=(("role", ("db",)), (TENANT, ("a",)))), set()),
        (Selector(("web-*",), networks=("back",)), {"web-2"}),
        (Selector(excluded=(named("web-*"),)), {"db", "host"}),
        (Selector(excluded=(named("web-*"), named("db"))), {"host"}),
        (Selector(("web-*",), excluded=(named("*-1"),)), {"web-2"}),
        (Selector(excluded=(Selector(tenants=("*",)),)), {"web-2", "host"}),
    ],
    ids=range(20),
)
def test_selectors_choose(selector: Selector, chosen: set[str]) -> None:
    """All keys of a selector must fit, one of a key's values, and nothing that is excluded."""
    built = host("28.5").network("front").network("back")
    built.container("web-1", "front", labels=of("a", role="web")).container("web-2", "front", "back")
    built.container("db", "back", labels=of("b", role="db")).container("host", "host")
    sources, destinations = found(built, deny(selector), deny(ANY, selector)).results
    assert (sources.sources, destinations.destinations) == (len(chosen), len(chosen))
    everybody = {name for pair in violating(built, deny()) for name in pair}
    assert {source for source, _ in violating(built, deny(selector))} == chosen & everybody


def test_other_and_same_compare_tenants() -> None:
    """`other` are all that are not the source's tenant, `same` the ones that are; who has no tenant is alone."""
    assert violating(town(), deny(relation=Relation.OTHER)) == ALL - WITHIN_A
    assert violating(town(), deny(relation=Relation.SAME)) == WITHIN_A
    assert violating(town(), deny(Selector(tenants=("*",)), relation=Relation.OTHER)) == {
        pair for pair in ALL - WITHIN_A if pair[0] != "stray"
    }


def test_the_built_in_rule_counts_what_crosses() -> None:
    """Violations of it are the gauge's pairs."""
    report = held_to(town().observation(), *tenants_apart().rules)
    assert report.policy is not None
    assert report.tenancy is not None
    assert report.policy.results[0].violations == report.tenancy.cross_pairs


def test_pairs_that_a_rule_is_about_are_counted_open_or_not() -> None:
    """A rule about no pair is recognised by its 0; a container is no pair with itself."""
    built = host("28.5", icc=False).container("a", labels=of("t")).container("b", labels=of("t")).container("c")
    rules = (
        deny(),
        deny(relation=Relation.SAME),
        deny(relation=Relation.OTHER),
        deny(named("a"), named("a")),
        deny(named("a"), named("no-such")),
    )
    assert [(each.pairs, each.violations) for each in found(built, *rules).results] == [
        *((6, 0), (2, 0), (4, 0), (0, 0), (0, 0)),
    ]


# --- Allow, protocols and ports ---


def test_an_allow_rule_is_an_exception_to_the_rules_below_it() -> None:
    """Above a deny rule it covers paths; a deny rule above it is not concerned."""
    assert violating(town(), allow(named("a1")), deny()) == {pair for pair in ALL if pair[0] != "a1"}
    strict, exception, lax = found(town(), deny(), allow(named("a1")), deny()).results
    assert (strict.violations, exception.violations, lax.violations) == (12, None, 9)


def test_a_path_violates_every_rule_that_denies_it() -> None:
    """No deny rule hides another one's violations."""
    first, second = found(town(), deny(), deny(named("a1"))).results
    assert (first.violations, second.violations) == (12, 3)


def test_exceptions_add_up_and_leave_the_rest() -> None:
    """What several rules allow together is not denied, and the report names the ports that are left."""
    built = host("28.5").container("a").container("b")
    assert violating(built, allow(ports="1-100"), allow(ports="101-65535"), deny()) == set()
    (violation, _) = found(built, allow(ports="22"), deny(protocols=frozenset({Protocol.TCP}))).violations
    assert [(path.protocol, str(path.ports)) for path in violation.paths] == [("tcp", "1-21,23-65535")]


def test_a_rule_is_about_its_protocols_and_ports() -> None:
    """A link that opens one port violates what is about this port, and nothing else."""
    built = host("28.5", icc=False).container("web", expose=["80"]).container("app", links=["web"])
    tcp, udp = frozenset({Protocol.TCP}), frozenset({Protocol.UDP})
    assert violating(built, deny()) == {("app", "web")}
    assert violating(built, deny(protocols=tcp, ports="80")) == {("app", "web")}
    assert violating(built, deny(protocols=tcp, ports="81-90")) == set()
    assert violating(built, deny(protocols=udp)) == set()


def pinging() -> Host:
    """Return two containers of which one can only ping the other, on a network in gateway mode nat-unprotected."""
    built = host("28.5").network("a", gateway_mode_ipv4="routed").network("b")
    return built.container("server", "a").container("client", "b")


def test_ping_violates_what_is_about_icmp_alone() -> None:
    """Without a protocol a rule is about TCP and UDP: a pair that can only ping is not reachable."""
    built = pinging()
    look = built.look()
    assert {path.protocol for path in look.pair("client", "server").paths} == {Protocol.ICMP}
    assert violating(built, deny()) == set()
    assert violating(built, deny(protocols=PING)) == {("client", "server")}
    assert violating(built, allow(), deny(protocols=PING)) == {("client", "server")}
    exception = replace(allow(), protocols=PING)
    assert violating(built, exception, deny(protocols=PING)) == set()


def published(*ports: str) -> Host:
    """Return a database that is published on the host, and a container elsewhere."""
    built = host("28.5").network("a").network("b")
    return built.container("db", "a", publish=ports).container("app", "b")


def test_a_published_port_is_the_container_s_port() -> None:
    """A rule about port 5432 is violated by the port of the host that leads there, and named as it is dialled."""
    built = published("15432:5432", "8080:80")
    assert violating(built, deny(ports="5432")) == {("app", "db")}
    (violation,) = found(built, deny(ports="5432")).violations
    assert {(path.via, str(path.ports)) for path in violation.paths} == {(Via.PUBLISHED_PORT, "15432")}
    assert violating(built, deny(ports="15432")) == set()
    assert violating(built, allow(ports="80"), deny(ports="80")) == set()
    assert violating(built, allow(ports="8080"), deny(ports="80")) == {("app", "db")}


def test_a_port_that_leads_to_several_violates_by_each() -> None:
    """Bound to two addresses, one port of the host leads to two: an exception for one of them is not enough."""
    built = published("172.17.0.1:80:5432", "172.20.0.1:80:6000")
    assert violating(built, deny(ports="5432")) == violating(built, deny(ports="6000")) == {("app", "db")}
    assert violating(built, allow(ports="5432"), deny()) == {("app", "db")}
    assert violating(built, allow(ports="5432,6000"), deny()) == set()


def test_where_a_port_leads_that_the_engine_does_not_list_is_not_known() -> None:
    """It may lead to any port: it violates, and no exception with ports covers it."""
    built = host("28.5", swarm=True).network("b").container("task", "ingress").container("app", "b")
    assert any(path.via is Via.PUBLISHED_PORT for path in built.look().pair("app", "task").paths)
    assert ("app", "task") in violating(built, deny(ports="5432"))
    assert ("app", "task") in violating(built, allow(ports="1-65534"), deny(ports="5432"))
    assert violating(built, allow(), deny(ports="5432")) == set()


def test_containers_in_host_mode_are_containers() -> None:
    """They reach what the host reaches, and who reaches the host's addresses reaches them."""
    built = host("28.5").container("agent", "host", labels=of("ops")).container("web", labels=of("shop"))
    assert violating(built, deny(relation=Relation.OTHER)) == {("agent", "web"), ("web", "agent")}
    assert violating(built, deny(Selector(networks=("host",)))) == {("agent", "web")}


def test_a_shared_namespace_violates_what_denies_it() -> None:
    """Two tenants in one namespace reach each other on every port."""
    built = host("28.5", icc=False).container("app", labels=of("a"))
    built.container("sidecar", "container:app", labels=of("b"))
    assert violating(built, deny(relation=Relation.OTHER, ports="1")) == {("app", "sidecar"), ("sidecar", "app")}


def test_nothing_has_to_be_open_because_it_is_allowed() -> None:
    """An allow rule about pairs that are blocked is no violation."""
    built = host("28.5", icc=False).container("a").container("b")
    assert violating(built, allow(named("a"), named("b")), deny()) == set()


# --- What was not kept, and sizes ---


def test_labels_that_were_not_kept_leave_nothing_judged() -> None:
    """A policy about a label that the observation lacks is neither kept nor violated."""
    observation = replace(town().observation(), labels=(TENANT,))
    policy = held_to(observation, deny(Selector(labels=(("role", ("db",)),)))).policy
    assert policy is not None
    assert (policy.untold, policy.results, policy.violations) == (("role",), (), ())
    without_tenants = replace(town().observation(), labels=())
    plain = held_to(without_tenants, deny()).policy
    assert plain is not None
    assert plain.results == found(town(), deny()).results
    related = held_to(without_tenants, deny(relation=Relation.SAME)).policy
    assert related is not None
    assert related.untold == (TENANT,)


def test_the_first_violations_are_listed_and_all_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The list is bounded, in the order of names; the count is not."""
    monkeypatch.setattr(evaluated, "VIOLATIONS_LISTED", 5)
    policy = found(town(), deny())
    assert policy.results[0].violations == policy.total == 12
    assert [(each.source.name, each.destination.name) for each in policy.violations] == sorted(ALL)[:5]


def test_thousands_of_tenants_are_counted_at_once() -> None:
    """On one open network each container reaches all others: four million pairs have numbers that one can reckon."""
    size, tenants = 2000, 500
    built = host("28.5").network("net", subnets=("10.0.0.0/8",))
    for index in range(size):
        built.container(f"c{index}", "net", labels=of(f"t{index % tenants}"))
    report = held_to(built.observation(), deny(named("c0"), relation=Relation.SAME), deny(relation=Relation.OTHER))
    assert report.tenancy is not None
    assert report.policy is not None
    crossing = size * (size - size // tenants)
    assert report.tenancy.cross_pairs == crossing
    assert {tenant.exposed_pairs for tenant in report.tenancy.tenants} == {crossing // tenants}
    assert [result.violations for result in report.policy.results] == [size // tenants - 1, crossing]
    assert len(report.policy.violations) == size // tenants - 1 + VIOLATIONS_LISTED


# --- Against one pair after the other ---


_labels = st.fixed_dictionaries(
    {}, optional={TENANT: st.sampled_from(("a", "b", "")), "role": st.sampled_from(("db", "web", "d*"))}
)
_plain = st.builds(
    Selector,
    names=st.sampled_from(((), (), ("c0",), ("c1", "c2"), ("c[3-6]",))),
    networks=st.sampled_from(((), (), ("bridge",), ("n*", "host"))),
    tenants=st.sampled_from(((), (), ("*",), ("a",))),
    labels=st.sampled_from(((), (), (("role", ("db",)),), (("role", ("d*", "w?b")),), (("role", ("[d][*]",)),))),
)
_selectors = st.one_of(
    st.just(ANY),
    _plain,
    st.recursive(
        _plain,
        lambda inner: st.builds(replace, _plain, excluded=st.lists(inner, min_size=1, max_size=2).map(tuple)),
        max_leaves=3,
    ),
)
_rules = st.builds(
    deny,
    _selectors,
    _selectors,
    relation=st.sampled_from((None, None, *Relation)),
    protocols=st.sampled_from((TCP_AND_UDP, frozenset({Protocol.TCP}), frozenset(Protocol))),
    ports=st.sampled_from(("", "", "80", "8000-8002", "1-79,81-65535")),
    effect=st.sampled_from(Effect),
)


@given(hosts(), st.lists(_labels, min_size=7, max_size=7), st.lists(_rules, min_size=1, max_size=4))
@settings(deadline=None, max_examples=150)
def test_classes_say_what_single_pairs_say(
    observation: Observation, labels: list[dict[str, str]], rules: list[Rule]
) -> None:
    """Counts, lists and tenants are those of a look at every pair by itself."""
    containers = [{**document, "Labels": mine} for document, mine in zip(observation.containers, labels, strict=False)]
    labelled = replace(observation, containers=containers, labels=(TENANT, "role"))
    snapshot = parse(labelled)
    report = evaluate(snapshot, Standards(TENANT, Policy(tuple(rules))))
    policy, tenants = report.policy, report.tenancy
    assert policy is not None
    assert tenants is not None
    for number, rule in enumerate(rules):
        about = [pair for pair in permutations(report.containers, 2) if _about(rule, snapshot, *pair)]
        denied = [
            pair for pair in about if rule.effect is Effect.DENY and _violates(report, snapshot, rules, number, *pair)
        ]
        result = policy.results[number]
        assert result.pairs == len(about)
        assert (result.violations or 0) == len(denied)
        listed = [(each.source, each.destination) for each in policy.violations if each.rule is rule]
        assert listed == denied
    crossing = [
        (source, destination)
        for source, destination in permutations(report.containers, 2)
        if report.pair(source, destination).verdict is not Verdict.BLOCKED and not _same(snapshot, source, destination)
    ]
    if tenants.tenants:
        assert tenants.cross_pairs == len(crossing)
    else:
        assert tenants.cross_pairs is None
    for tenant in tenants.tenants:
        assert tenant.exposed_pairs == sum(destination.tenant == tenant.name for _, destination in crossing)


def _same(snapshot: Snapshot, source: ContainerSummary, destination: ContainerSummary) -> bool:
    first, second = (snapshot.containers[each.id].labels.get(TENANT, "") for each in (source, destination))
    return bool(first) and first == second


def _about(rule: Rule, snapshot: Snapshot, source: ContainerSummary, destination: ContainerSummary) -> bool:
    related = rule.relation is None or _same(snapshot, source, destination) is (rule.relation is Relation.SAME)
    return related and _chosen(rule.source, snapshot, source) and _chosen(rule.destination, snapshot, destination)


def _chosen(selector: Selector, snapshot: Snapshot, container: ContainerSummary) -> bool:
    labels = snapshot.containers[container.id].labels
    tenant = [labels[TENANT]] if labels.get(TENANT) else []
    wishes = [
        (selector.names, [container.name]),
        (selector.networks, container.networks),
        (selector.tenants, tenant),
        *((patterns, [labels[key]] if key in labels else []) for key, patterns in selector.labels),
    ]
    for patterns, values in wishes:
        if patterns and not any(fnmatchcase(value, pattern) for value in values for pattern in patterns):
            return False
    return not any(_chosen(excluded, snapshot, container) for excluded in selector.excluded)


def _violates(
    report: Report,
    snapshot: Snapshot,
    rules: list[Rule],
    number: int,
    source: ContainerSummary,
    destination: ContainerSummary,
) -> bool:
    above = [
        rule for rule in rules[:number] if rule.effect is Effect.ALLOW and _about(rule, snapshot, source, destination)
    ]
    for path in report.pair(source, destination).paths:
        for port in _samples(path, rules):
            targets = _targets(snapshot, path, destination, port)
            excused = any(_covers(rule, path, targets, every=True) for rule in above)
            if _covers(rules[number], path, targets, every=False) and not excused:
                return True
    return False


def _samples(path: Path, rules: list[Rule]) -> set[int]:
    """Return the ports of a path at which anything may change, 0 for ICMP."""
    edges = {
        edge for ports in (path.ports, *(rule.ports for rule in rules)) for pair in ports.intervals for edge in pair
    }
    near = {edge + step for edge in edges | set(range(8000, 8005)) for step in (-1, 0, 1)}
    return {port for port in near if port in path.ports} if path.ports else {0}


def _targets(snapshot: Snapshot, path: Path, destination: ContainerSummary, port: int) -> set[int]:
    """Return the ports of the destination that a port leads to, none where nobody knows."""
    if path.via is not Via.PUBLISHED_PORT:
        return {port}
    return {
        each.container_port
        for each in snapshot.sandboxes[destination.sandbox].published
        if (each.protocol, each.host_port) == (path.protocol, port)
    }


def _covers(rule: Rule, path: Path, targets: set[int], *, every: bool) -> bool:
    if path.protocol not in rule.protocols:
        return False
    if path.protocol is Protocol.ICMP or rule.ports == ALL_PORTS:
        return True
    inside = {target for target in targets if target in rule.ports}
    return bool(inside) and inside == targets if every else bool(inside) or not targets
