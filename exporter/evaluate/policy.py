"""A policy against verdicts: which pairs have paths that a rule denies and no rule above it allows."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace
from functools import cache, reduce
from itertools import islice
from operator import or_
from typing import TYPE_CHECKING

from exporter.evaluate.meetings import Member, meetings
from exporter.evaluate.selected import Selected, bits, numbers
from exporter.evaluate.tenants import tenant_name, tenant_of
from exporter.model.policy import Effect, Relation
from exporter.model.ports import ALL_PORTS, NO_PORTS, PortSet
from exporter.model.reach import BLOCKED, Protocol, Verdict, Via
from exporter.model.report import VIOLATIONS_LISTED, PolicyResult, RuleResult, Violation

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from exporter.model.policy import Policy, Rule, Standards
    from exporter.model.reach import PairVerdict, Path, Reach
    from exporter.model.report import ContainerSummary
    from exporter.model.snapshot import Snapshot


def judge(
    snapshot: Snapshot, reach: Reach, containers: Sequence[ContainerSummary], standards: Standards
) -> PolicyResult | None:
    """Return what the policy finds, None without one; `containers` are those of the report, in its order."""
    policy = standards.policy
    if policy is None:
        return None
    asked = {key for rule in policy.rules for key in rule.labels}
    if any(rule.asks_for_tenants for rule in policy.rules):
        asked.add(standards.tenant_label)
    untold = asked - snapshot.labels
    if untold:
        return PolicyResult(untold=tuple(sorted(untold)))
    return _Judge(snapshot, reach, containers, policy, standards.tenant_label).result()


class _Judge:
    """Judges pairs by the rules that are about them: a set of rules is an integer, a bit for each in its order."""

    def __init__(
        self,
        snapshot: Snapshot,
        reach: Reach,
        containers: Sequence[ContainerSummary],
        policy: Policy,
        tenant_label: str,
    ) -> None:
        self._reach = reach
        self._containers = containers
        self._rules = policy.rules
        self._ported = bits(rule.ports != ALL_PORTS for rule in policy.rules)
        self._denying = bits(rule.effect is Effect.DENY for rule in policy.rules)
        self._related = {
            relation: bits(rule.relation in (None, relation) for rule in policy.rules) for relation in Relation
        }
        self._members = _members(snapshot, containers, policy.rules, tenant_label)
        self._inside = {
            sandbox.id: [self._members[member] for member in sandbox.members] for sandbox in snapshot.sandboxes.values()
        }
        self._takes = {
            sandbox: reduce(or_, (each.takes for each in inside), 0) for sandbox, inside in self._inside.items()
        }
        self._leads = _Leads(snapshot)
        # most pairs have one of few sets of ports, and differ in addresses
        self._ports: dict[tuple[int, int, Protocol, PortSet, str], PortSet | None] = {}
        self._known: dict[tuple[int, int, str], Mapping[int, tuple[Path, ...]]] = {}

    def result(self) -> PolicyResult:
        """Count for each rule, then list what violates."""
        violations: Counter[int] = Counter()
        for meeting in meetings(self._reach, self._inside):
            for relation, pairs in ((Relation.SAME, meeting.same), (Relation.OTHER, meeting.other)):
                about = meeting.sends & meeting.takes & self._related[relation]
                if pairs and about:
                    for number in self._denied(about, meeting.verdict, meeting.destination):
                        violations[number] += pairs
        results = tuple(self._result(number, rule, violations[number]) for number, rule in enumerate(self._rules))
        listed = (
            violation
            for number in sorted(violations)
            for violation in islice(self._violations(number), VIOLATIONS_LISTED)
        )
        return PolicyResult(results, tuple(listed))

    def _result(self, number: int, rule: Rule, violations: int) -> RuleResult:
        bit = 1 << number
        sources = Counter(each.tenant for each in self._members.values() if each.sends & bit)
        destinations = Counter(each.tenant for each in self._members.values() if each.takes & bit)
        itself = sum(1 for each in self._members.values() if each.sends & each.takes & bit)
        same = sum(count * destinations[who] for who, count in sources.items())
        other = sources.total() * destinations.total() - same
        pairs = {Relation.SAME: same - itself, Relation.OTHER: other, None: same - itself + other}
        return RuleResult(
            rule,
            sources.total(),
            destinations.total(),
            pairs[rule.relation],
            violations if rule.effect is Effect.DENY else None,
        )

    def _denied(self, about: int, verdict: PairVerdict, destination: str) -> Mapping[int, tuple[Path, ...]]:
        """Return by the number of a rule the paths that it denies, of the rules that are about a pair."""
        where = destination if about & self._ported else ""
        # verdicts live as long as the reach, so an identity stays one verdict's
        key = (about, id(verdict), where)
        if key not in self._known:
            self._known[key] = {
                number: paths
                for number in numbers(about & self._denying)
                if (paths := tuple(self._left_over(number, about, verdict, destination)))
            }
        return self._known[key]

    def _left_over(self, number: int, about: int, verdict: PairVerdict, destination: str) -> Iterator[Path]:
        """Yield the paths that a rule denies, but for what rules above it allow."""
        allowing = about & ~self._denying & (1 << number) - 1
        for path in verdict.paths:
            if path.protocol in self._rules[number].protocols:
                published = destination if path.via is Via.PUBLISHED_PORT else ""
                key = (number, allowing, path.protocol, path.ports, published)
                if key not in self._ports:
                    self._ports[key] = self._denied_ports(*key)
                ports = self._ports[key]
                if ports is not None:
                    yield path if ports == path.ports else replace(path, ports=ports)

    def _denied_ports(
        self, number: int, allowing: int, protocol: Protocol, ports: PortSet, published: str
    ) -> PortSet | None:
        """Return which ports of a path a rule denies, None where it denies nothing; ICMP has none and may be denied.

        `allowing` are the rules above it that are exceptions for the pair. `published` is the sandbox to which the
        ports are published, empty where they are its own.
        """
        exceptions = [rule for rule in map(self._rules.__getitem__, numbers(allowing)) if protocol in rule.protocols]
        if protocol is Protocol.ICMP:
            return None if exceptions else NO_PORTS
        left = self._leads.perhaps(self._rules[number].ports, ports, protocol, published)
        for rule in exceptions:
            left -= self._leads.surely(rule.ports, ports, protocol, published)
        return left or None

    def _violations(self, number: int) -> Iterator[Violation]:
        """Yield the pairs that violate a rule, by name."""
        places: defaultdict[str, list[int]] = defaultdict(list)
        for place, container in enumerate(self._containers):
            places[container.sandbox].append(place)
        open_to = cache(self._open_to)
        for source in self._containers:
            sends = self._members[source.id].sends
            if not sends >> number & 1:
                continue
            beyond = open_to(number, self._reach.class_of[source.sandbox], sends)
            # a row may hold the source's own sandbox, which is reached by what holds within it
            reached = [sandbox for sandbox in beyond if sandbox != source.sandbox] + [source.sandbox]
            for place in sorted(place for sandbox in reached for place in places[sandbox]):
                destination = self._containers[place]
                paths = self._between(source, destination).get(number, ()) if destination is not source else ()
                if paths:
                    certain = any(not path.undecided for path in paths)
                    verdict = Verdict.REACHABLE if certain else Verdict.UNKNOWN
                    yield Violation(self._rules[number], source, destination, verdict, paths)

    def _open_to(self, number: int, row: int, sends: int) -> Sequence[str]:
        """Return the sandboxes of a row where a rule may be violated, whoever the tenants are."""
        return [
            destination
            for destination, verdict in self._reach.rows[row].items()
            if self._takes[destination] >> number & 1
            and any(
                number in self._denied(sends & takes & related, verdict, destination)
                for takes in {each.takes for each in self._inside[destination]}
                for related in self._related.values()
            )
        ]

    def _between(self, source: ContainerSummary, destination: ContainerSummary) -> Mapping[int, tuple[Path, ...]]:
        first, second = self._members[source.id], self._members[destination.id]
        relation = Relation.SAME if first.tenant == second.tenant else Relation.OTHER
        verdict = self._reach.between(source.sandbox, destination.sandbox)
        if verdict is BLOCKED:
            return {}
        return self._denied(first.sends & second.takes & self._related[relation], verdict, destination.sandbox)


class _Leads:
    """Which ports of a container the ports of paths lead to: themselves, but for published ones.

    Where a published port leads is what the engine says. One that it does not list, such as a swarm service's or one
    that somebody translates by hand, leads to any port.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        ports: defaultdict[tuple[str, Protocol, int], list[int]] = defaultdict(list)
        for sandbox in snapshot.sandboxes.values():
            for port in sandbox.published:
                ports[sandbox.id, port.protocol, port.host_port].append(port.container_port)
        self._published: defaultdict[tuple[str, Protocol], dict[int, PortSet]] = defaultdict(dict)
        for (sandbox_id, protocol, host_port), targets in ports.items():
            self._published[sandbox_id, protocol][host_port] = PortSet.of(*targets)

    def perhaps(self, wanted: PortSet, ports: PortSet, protocol: Protocol, published: str) -> PortSet:
        """Return the ports that may lead to one of the wanted ports of the sandbox that they are published to."""
        if not published or wanted == ALL_PORTS:
            return ports & wanted
        listed = self._published[published, protocol]
        return ports - PortSet.of(*(port for port, leads_to in listed.items() if not leads_to & wanted))

    def surely(self, wanted: PortSet, ports: PortSet, protocol: Protocol, published: str) -> PortSet:
        """Return the ports that lead to none but wanted ports of the sandbox that they are published to."""
        if not published or wanted == ALL_PORTS:
            return ports & wanted
        listed = self._published[published, protocol]
        return ports & PortSet.of(*(port for port, leads_to in listed.items() if leads_to <= wanted))


def _members(
    snapshot: Snapshot, containers: Sequence[ContainerSummary], rules: Sequence[Rule], tenant_label: str
) -> dict[str, Member]:
    sources, destinations = Selected([rule.source for rule in rules]), Selected([rule.destination for rule in rules])
    members = {}
    for summary in containers:
        container = snapshot.containers[summary.id]
        asked = container, summary.networks, tenant_name(container, tenant_label)
        members[summary.id] = Member(tenant_of(container, tenant_label), sources.by(*asked), destinations.by(*asked))
    return members
