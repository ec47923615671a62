"""Which pairs would open and close if a setting were another one.

The snapshot is changed as the engine would come up with the setting, and what the configuration then promises is
compared with what holds now. Where the kernel was read, its rules are followed a second time, with the engine's own
rewritten and those of others left as they are: where that and the promise disagree, the pair is undecided.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from difflib import get_close_matches
from itertools import islice
from typing import TYPE_CHECKING, Final, NamedTuple

from exporter.errors import Unforeseeable, UnknownNetwork
from exporter.evaluate import assumptions
from exporter.evaluate.declared import declared_reach
from exporter.evaluate.declared.behaviour import IP6TABLES_BY_DEFAULT
from exporter.evaluate.enforced import enforced_reach
from exporter.evaluate.kinds import sampled
from exporter.evaluate.pending import default_bridge, keeps_networks
from exporter.evaluate.rewritten import restarted, rewritten
from exporter.evaluate.written import unwritten
from exporter.model.daemon import Configuration
from exporter.model.reach import BLOCKED, PairVerdict, Reach, Row, Verdict
from exporter.model.whatif import PAIRS_LISTED, Count, Fate, Foretelling, ForetoldPair

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from exporter.model.firewall import Firewall
    from exporter.model.reach import Path
    from exporter.model.report import ContainerSummary, Report
    from exporter.model.snapshot import Engine, Network, Snapshot
    from exporter.model.whatif import Proposal

_PROXY: Final = "docker-proxy"

_RUN_AGAIN: Final = "every container runs again afterwards, on the networks that it has now; addresses may differ"
_MADE_ANEW: Final = (
    "network {name} is removed and created anew with enable_icc={icc}, for no engine changes that of a network that is "
    "there, and the containers are connected to it again; addresses may differ"
)
_OTHERS_STAY: Final = "rules that are not the engine's stay as they are now (DOCKER-USER and the like)"
_AS_THEY_ARE: Final = "of the engine's own rules{which}, none but those for ICC and links are other than now: {reason}"
_NOT_READ: Final = "the daemon's other settings stay as they are: its configuration was not read"
_MORE_BINDINGS: Final = (
    "ports that are published on all addresses are bound to IPv4 only, as now: docker-proxy would take IPv6 as well"
)
_IGNORED: Final = (
    "live-restore keeps containers running, and a daemon that finds containers running leaves its networks as they "
    "are: this holds once it starts while no container runs"
)
_NO_BRIDGE: Final = "there would be no default bridge by what is configured, and its containers would have no network"
_DRIFTS: Final = (
    "by the configuration it would be {promised}, by the kernel's rules {enforced}: rules of others, or drift, which "
    "may outlast the engine's own rules"
)


def whatif(snapshot: Snapshot, report: Report, proposal: Proposal) -> Foretelling:
    """Return what would become of each pair.

    Raises UnknownNetwork, and Unforeseeable where the engine would not start or would write no rules at all.
    """
    plan = _Plan.of(snapshot, proposal)
    promised = sampled(plan.now, declared_reach), sampled(plan.then, declared_reach)
    outcome = _Outcome(report, report.reach, *promised, *_counterpart(snapshot, report, plan))
    numbers = outcome.numbers()
    kernels = report.declared is not None
    behind = assumptions.of_enforced(snapshot) if kernels else assumptions.of_declared(plan.then)
    return Foretelling(
        action=plan.action,
        containers=len(report.containers),
        before=Count(report.totals.reachable_pairs, report.totals.unknown_pairs),
        after=_count(numbers),
        fates={fate: sum(numbers[fate, after] for after in Verdict) for fate in Fate},
        pairs=tuple(islice(outcome.pairs(), PAIRS_LISTED)),
        warnings=plan.warnings,
        assumptions=(*plan.assumptions, *assumptions.of_all(plan.then), *behind),
    )


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is done: `now` and `then` are the snapshot before and after, as far as the configuration goes.

    `network` is the one that is set up anew, as it will be, None where none is. `only_icc` is `then` with nothing but
    its ICC changed.
    `filtered` are the IP versions for which the engine switches br_netfilter on meanwhile.
    """

    action: str
    now: Snapshot
    then: Snapshot
    only_icc: Snapshot
    network: Network | None
    filtered: frozenset[int]
    warnings: tuple[str, ...]
    assumptions: tuple[str, ...]

    @classmethod
    def of(cls, snapshot: Snapshot, proposal: Proposal) -> _Plan:
        """Return what a proposal amounts to. Raises UnknownNetwork, Unforeseeable."""
        named = _network(snapshot, proposal.network) if proposal.network else None
        made_anew = named is not None and not named.default
        if made_anew and proposal.userland_proxy is not None:
            raise Unforeseeable("userland-proxy is the daemon's: ask about it and about a network one after the other")
        network = named or _default_bridge(snapshot)
        icc = proposal.icc if made_anew else _configured_icc(snapshot, proposal)
        icc = icc if icc is not None or network is None else network.icc
        if not made_anew:
            _check_start(snapshot)
        _check(snapshot, network, proposal)
        now = _with_proxy(snapshot, _proxy_now(snapshot))
        proxy = _proxy_now(snapshot) if made_anew else _proxy_then(snapshot, proposal)
        networks = dict(snapshot.networks)
        if network is not None:
            networks[network.id] = replace(network, icc=icc is True)
        set_up = [networks[network.id]] if network is not None and made_anew else list(networks.values())
        filtered = _filtered(snapshot, set_up)
        only_icc = replace(now, networks=networks, engine=_filtering(now.engine, filtered))
        if not made_anew:
            only_icc = replace(only_icc, links=tuple(replace(link, undecided="") for link in only_icc.links))
        return cls(
            action=_action(proposal, network if made_anew else None),
            now=replace(now, kernel=None),
            then=replace(_with_proxy(only_icc, proxy), kernel=None),
            only_icc=only_icc,
            network=networks[network.id] if network is not None else None,
            filtered=filtered,
            warnings=tuple(_warnings(snapshot, made_anew=made_anew)),
            assumptions=tuple(_taken_for_granted(snapshot, now, proxy, network if made_anew else None, icc=icc)),
        )


def _network(snapshot: Snapshot, key: str) -> Network:
    named = [network for network in snapshot.networks.values() if network.name == key]
    found = named or [network for network in snapshot.networks.values() if network.id.startswith(key)]
    if not found:
        near = get_close_matches(key, [network.name for network in snapshot.networks.values()])
        hint = f": did you mean {' or '.join(near)}?" if near else ""
        raise UnknownNetwork(f"no network is called {key!r}{hint}")
    if len(found) > 1:
        raise UnknownNetwork(f"{len(found)} networks are called {key!r}: give the id of one")
    if found[0].icc is None:
        raise UnknownNetwork(f"network {found[0].name} has no ICC: its driver is {found[0].driver or 'not known'}")
    return found[0]


def _default_bridge(snapshot: Snapshot) -> Network | None:
    network = default_bridge(snapshot)
    return network if network is not None and network.icc is not None else None


def _check_start(snapshot: Snapshot) -> None:
    configuration = snapshot.configuration
    if isinstance(configuration, Configuration) and configuration.refusals:
        reasons = "; ".join(configuration.refusals)
        raise Unforeseeable(
            f"the daemon would not start: {reasons}: put that right first, nothing else can be foretold"
        )


def _check(snapshot: Snapshot, network: Network | None, proposal: Proposal) -> None:
    if proposal.icc is not None and network is None:
        raise UnknownNetwork("the engine has no default bridge, which icc is about: name a network")
    configuration = snapshot.configuration
    if isinstance(configuration, Configuration) and not configuration.iptables.value:
        what = "the daemon would not start" if proposal.icc is False else "the engine would write no rules"
        raise Unforeseeable(f"{what} with iptables={configuration.iptables}: nothing can be foretold")
    if isinstance(configuration, Configuration) and network is not None and network.ipv6:
        switch = configuration.ip6tables
        if snapshot.engine.version >= IP6TABLES_BY_DEFAULT and not switch.value:
            raise Unforeseeable(f"IPv6 of network {network.name} has no rules with ip6tables={switch}")


def _configured_icc(snapshot: Snapshot, proposal: Proposal) -> bool | None:
    if proposal.icc is not None:
        return proposal.icc
    configuration = snapshot.configuration
    return configuration.icc.value if isinstance(configuration, Configuration) else None


def _proxy_now(snapshot: Snapshot) -> bool | None:
    """Return whether docker-proxy runs: the engine's word, else what is seen of its processes."""
    kernel = snapshot.kernel
    if snapshot.engine.userland_proxy is not None or kernel is None:
        return snapshot.engine.userland_proxy
    if any(listener.program == _PROXY for listener in kernel.host.listeners):
        return True
    published = any(sandbox.published for sandbox in snapshot.sandboxes.values())
    return False if published and not {"listeners", "relays", "bridge"} & kernel.missing.keys() else None


def _proxy_then(snapshot: Snapshot, proposal: Proposal) -> bool | None:
    if proposal.userland_proxy is not None:
        return proposal.userland_proxy
    configuration = snapshot.configuration
    return configuration.userland_proxy.value if isinstance(configuration, Configuration) else _proxy_now(snapshot)


def _with_proxy(snapshot: Snapshot, proxy: bool | None) -> Snapshot:
    return replace(snapshot, engine=replace(snapshot.engine, userland_proxy=proxy))


def _filtered(snapshot: Snapshot, set_up: Iterable[Network]) -> frozenset[int]:
    """Return the IP versions for which the engine switches br_netfilter on when it sets up these networks.

    It does for each version of a closed network, where the host forwards (moby: setupBridgeNetFiltering).
    """
    if snapshot.engine.ipv4_forwarding is False:
        return frozenset()
    closed = [network for network in set_up if network.icc is False]
    versions = ((4, any(network.ipv4 for network in closed)), (6, any(network.ipv6 for network in closed)))
    return frozenset(version for version, on in versions if on)


def _filtering(engine: Engine, filtered: frozenset[int]) -> Engine:
    """Return the engine as it tells of br_netfilter afterwards, if it does at all."""
    v4, v6 = engine.bridge_netfilter_v4, engine.bridge_netfilter_v6
    return replace(
        engine,
        bridge_netfilter_v4=v4 if v4 is None else v4 or 4 in filtered,
        bridge_netfilter_v6=v6 if v6 is None else v6 or 6 in filtered,
    )


def _action(proposal: Proposal, made_anew: Network | None) -> str:
    if made_anew is not None:
        return f"network {made_anew.name} created anew with enable_icc={_spelled(proposal.icc)}"
    given = {"icc": proposal.icc, "userland-proxy": proposal.userland_proxy}
    settings = [f"--{name}={_spelled(value)}" for name, value in given.items() if value is not None]
    return " ".join(["the daemon restarted", *(["with", *settings] if settings else ["as it is configured"])])


def _spelled(value: bool | None) -> str:
    return str(bool(value)).lower()


def _warnings(snapshot: Snapshot, *, made_anew: bool) -> Iterator[str]:
    """Yield what keeps a restart from having the effect; a network is made anew without one."""
    configuration = snapshot.configuration
    if made_anew:
        return
    if isinstance(configuration, Configuration) and not configuration.default_bridge:
        yield _NO_BRIDGE
    if keeps_networks(snapshot):
        yield _IGNORED


def _taken_for_granted(
    snapshot: Snapshot, now: Snapshot, proxy: bool | None, made_anew: Network | None, *, icc: bool | None
) -> Iterator[str]:
    if made_anew is not None:
        yield _MADE_ANEW.format(name=made_anew.name, icc=_spelled(icc))
    else:
        yield _RUN_AGAIN
        if not isinstance(snapshot.configuration, Configuration):
            yield f"{_NOT_READ}{f' ({snapshot.configuration})' if snapshot.configuration else ''}"
        if proxy and now.engine.userland_proxy is False:
            yield _MORE_BINDINGS
    if snapshot.kernel is not None:
        yield _OTHERS_STAY
        if made_anew is None:
            yield from _not_written(now, snapshot.kernel.host.firewall)


def _not_written(snapshot: Snapshot, firewall: Firewall) -> Iterator[str]:
    """Yield why the engine's rules for the versions of IP that networks have are not made up."""
    used = {4: True, 6: any(network.ipv6 for network in snapshot.networks.values())}
    reasons = {family: unwritten(snapshot, firewall, family) for family in used if used[family]}
    for reason in dict.fromkeys(filter(None, reasons.values())):
        families = [f"IPv{family}" for family in reasons if reasons[family] == reason]
        which = "" if len(families) == len(reasons) else f" for {families[0]}"
        yield _AS_THEY_ARE.format(which=which, reason=reason)


def _counterpart(snapshot: Snapshot, report: Report, plan: _Plan) -> tuple[Reach, ...]:
    """Return what the kernel's rules would do with the ICC changed, and what the configuration promises of the same."""
    if report.declared is None or snapshot.kernel is None:
        return ()
    promised = sampled(replace(plan.only_icc, kernel=None), declared_reach)
    if plan.network is not None and not plan.network.default:
        kernel = rewritten(plan.only_icc, snapshot.kernel, plan.network, plan.filtered)
    else:
        kernel = restarted(plan.only_icc, snapshot.kernel, plan.network, plan.filtered)
    return sampled(replace(plan.only_icc, kernel=kernel), _by_all_evidence), promised


def _by_all_evidence(snapshot: Snapshot) -> Reach:
    return declared_reach(snapshot) if snapshot.kernel is None else enforced_reach(snapshot, snapshot.kernel)


def _count(numbers: Mapping[_Becoming, int]) -> Count:
    found: Counter[Verdict] = Counter()
    for (_, after), number in numbers.items():
        found[after] += number
    return Count(found[Verdict.REACHABLE] + found[Verdict.UNKNOWN], found[Verdict.UNKNOWN])


class _Judged(NamedTuple):
    """What becomes of a pair; `fate` is None where it is not concerned."""

    fate: Fate | None
    before: Verdict
    after: Verdict
    reason: str
    paths_before: tuple[Path, ...]
    paths_after: tuple[Path, ...]

    @property
    def becoming(self) -> _Becoming:
        return self.fate, self.after


_Becoming = tuple[Fate | None, Verdict]


@dataclass(frozen=True, slots=True)
class _Class:
    """What becomes of pairs of sources for which the same holds, by destination.

    `concerned` are the containers that a change is about; `numbers` count all of them, and the source, too.
    """

    judged: Mapping[str, _Judged]
    concerned: Sequence[ContainerSummary]
    numbers: Counter[_Becoming]


class _Outcome:
    """Compares all pairs; what holds for many of them but for names and addresses is worked out once.

    `reaches` are what holds, what is promised now and then, and the counterpart, if there is one.
    """

    def __init__(self, report: Report, *reaches: Reach) -> None:
        self._containers = report.containers
        self._sizes = Counter(container.sandbox for container in report.containers)
        self._reaches = reaches
        self._classes: dict[tuple[int, ...], _Class] = {}
        self._alike: dict[tuple[int, ...], _Judged] = {}

    def numbers(self) -> Counter[_Becoming]:
        """Count all pairs of each source: those with others, and those with who shares its sandbox."""
        found: Counter[_Becoming] = Counter()
        for source in self._containers:
            others, size = self._class(source.sandbox), self._sizes[source.sandbox]
            found.update(others.numbers)
            if source.sandbox in others.judged:
                found[others.judged[source.sandbox].becoming] -= size
            found[self._within(source.sandbox).becoming] += size - 1
        return found

    def pairs(self) -> Iterator[ForetoldPair]:
        """Yield the pairs that the change concerns, by name."""
        for source in self._containers:
            own, others = self._within(source.sandbox), self._class(source.sandbox)
            for destination in others.concerned if own.fate is None else self._containers:
                if destination is not source and (destination.sandbox != source.sandbox or own.fate is not None):
                    yield from self._foretold(source, destination)

    def _foretold(self, source: ContainerSummary, destination: ContainerSummary) -> Iterator[ForetoldPair]:
        judged = self._judged([reach.between(source.sandbox, destination.sandbox) for reach in self._reaches])
        if judged.fate is not None:
            yield ForetoldPair(source.name, destination.name, judged.fate, *judged[1:])

    def _within(self, sandbox: str) -> _Judged:
        return self._judged([reach.between(sandbox, sandbox) for reach in self._reaches])

    def _class(self, source: str) -> _Class:
        key = tuple(reach.class_of[source] for reach in self._reaches)
        found = self._classes.get(key)
        if found is None:
            found = self._classes[key] = self._compared([Row.of(reach.row(source)) for reach in self._reaches])
        return found

    def _compared(self, rows: Sequence[Row]) -> _Class:
        """Compare destination by destination; of those for which the same holds but for names and addresses, one."""
        told: dict[tuple[int, ...], _Judged] = {}
        judged: dict[str, _Judged] = {}
        for each in set[str]().union(*rows):
            alike = tuple(id(row.alike(each)) for row in rows)
            if alike not in told:
                told[alike] = self._judged([row.get(each, BLOCKED) for row in rows])
            judged[each] = told[alike]
        concerned = [
            each for each in self._containers if each.sandbox in judged and judged[each.sandbox].fate is not None
        ]
        numbers: Counter[_Becoming] = Counter()
        for each, found in judged.items():
            numbers[found.becoming] += self._sizes[each]
        return _Class(judged, concerned, numbers)

    def _judged(self, verdicts: Sequence[PairVerdict]) -> _Judged:
        # verdicts are shared by all pairs for which the same holds, and live as long as their reaches do
        key = tuple(map(id, verdicts))
        if key not in self._alike:
            self._alike[key] = _judge(*verdicts)
        return self._alike[key]


def _judge(before: PairVerdict, now: PairVerdict, then: PairVerdict, *counterpart: PairVerdict) -> _Judged:
    """Return what becomes of a pair that is so `before`, and by the configuration so `now` and `then`.

    The counterpart is what the kernel's rules do with the ICC changed, and what the configuration promises of the same.
    """
    after, reason = then, ""
    if counterpart:
        enforced, promised = counterpart
        reason = _doubt(enforced, promised, then)
        if promised.paths == then.paths and enforced.verdict is not then.verdict:
            # the kernel knows more than is promised: whether docker-proxy runs, for one
            after = enforced
    verdict = Verdict.UNKNOWN if reason else after.verdict
    reason = reason or after.reason or f"no longer by {now.reason or before.reason}"
    fate = _fate(before.verdict, verdict, changed=now.paths != then.paths)
    return _Judged(fate, before.verdict, verdict, reason, now.paths, then.paths)


def _doubt(enforced: PairVerdict, promised: PairVerdict, then: PairVerdict) -> str:
    """Return why what is promised may not hold, empty where the kernel's rules agree with it."""
    if enforced.verdict is Verdict.UNKNOWN:
        return enforced.reason
    disagree = {enforced.verdict, promised.verdict} == {Verdict.BLOCKED, Verdict.REACHABLE}
    if not disagree or then.verdict is enforced.verdict:
        return ""
    return _DRIFTS.format(promised=then.verdict, enforced=enforced.verdict)


def _fate(before: Verdict, after: Verdict, *, changed: bool) -> Fate | None:
    if after is Verdict.UNKNOWN:
        return Fate.UNDECIDED if changed or before is not after else None
    if before is Verdict.BLOCKED:
        return Fate.OPENS if after is Verdict.REACHABLE else None
    if after is Verdict.BLOCKED:
        return Fate.CLOSES
    return Fate.STAYS_OPEN if changed or before is not after else None
