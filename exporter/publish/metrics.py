"""All metrics in one table, and the families of one published state.

Families are built new for every state, so nothing of an earlier one can linger. A metric without samples is
left out with its HELP: what cannot be known now is absent, never frozen and never zero.
"""

from __future__ import annotations

import platform
from collections import defaultdict
from dataclasses import astuple, dataclass, fields
from itertools import islice
from typing import TYPE_CHECKING, Literal

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector

from exporter import __version__
from exporter.model.probe import ProbeResult
from exporter.model.reach import Via
from exporter.model.report import Evidence
from exporter.publish.state import PollResult
from exporter.publish.text import encodable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from datetime import datetime

    from exporter.model.report import NetworkSummary, Report, RuleResult, Tenancy
    from exporter.publish.state import Published

Samples = list[tuple[tuple[str, ...], float]]
"""Values of the labels, in the order of the metric's label names, and the value of the series."""

_SHARED_NAME = "Networks that share name and driver are one series"


@dataclass(frozen=True, slots=True)
class MetricSpec:
    """A metric as it is documented: `name` is what Prometheus stores, `help` one sentence or two."""

    name: str
    kind: Literal["gauge", "counter"]
    help: str
    samples: Callable[[Published], Samples]
    labels: tuple[str, ...] = ()


def _single(value: float | None) -> Samples:
    return [] if value is None else [((), float(value))]


def _timestamp(moment: datetime | None) -> Samples:
    return _single(moment.timestamp() if moment else None)


def _of_report(samples: Callable[[Report], Samples]) -> Callable[[Published], Samples]:
    """Withdraw a domain metric while there is no report."""
    return lambda published: samples(published.report) if published.report else []


def _of_total(value: Callable[[Report], float | None]) -> Callable[[Published], Samples]:
    return _of_report(lambda report: _single(value(report)))


def _of_networks(
    value: Callable[[NetworkSummary], float | None], together: Callable[[Iterable[float]], float]
) -> Callable[[Published], Samples]:
    """Give a series per network. Engines allow several networks of one name; `together` makes one value of theirs."""

    def samples(report: Report) -> Samples:
        values: defaultdict[tuple[str, ...], list[float]] = defaultdict(list)
        for network in report.networks:
            number = value(network)
            if number is not None:
                values[encodable(network.name), encodable(network.driver)].append(number)
        return [(labels, float(together(numbers))) for labels, numbers in sorted(values.items())]

    return _of_report(samples)


def _reachable_pairs_by_via(report: Report) -> Samples:
    return [((via.value,), float(report.pairs_by_via.get(via, 0))) for via in Via]


def _drift_pairs(report: Report) -> Samples:
    directions = {"open": report.totals.drift_open, "closed": report.totals.drift_closed}
    return [((direction,), float(pairs)) for direction, pairs in directions.items() if pairs is not None]


def _sources(evidence: Evidence) -> Samples:
    sources = (source.name for source in fields(Evidence))
    return [((source,), float(readable)) for source, readable in zip(sources, astuple(evidence), strict=True)]


def _evidence_wanted(published: Published) -> Samples:
    wanted = published.stats.evidence_wanted
    return _sources(wanted) if wanted is not None else []


def _bridge_netfilter(report: Report) -> Samples:
    """Give the switches of families that a bridge network has: of others there are no frames that miss a firewall."""
    met = {family for network in report.networks if network.driver == "bridge" for family in network.families}
    return [((family,), float(enabled)) for family, enabled in report.bridge_netfilter.items() if family in met]


def _engine_info(report: Report) -> Samples:
    engine = report.engine
    labels = (engine.version, engine.api_version, engine.firewall_backend)
    return [(tuple(encodable(label) for label in labels), 1.0)]


def _unsupported_matches(report: Report) -> Samples:
    return [((name,), float(rules)) for name, rules in report.unsupported.items()]


def _of_tenancy(value: Callable[[Tenancy], float | None]) -> Callable[[Published], Samples]:
    """Withdraw what an observation that was made without the label of tenants cannot tell."""
    return _of_total(lambda report: value(report.tenancy) if report.tenancy and report.tenancy.told else None)


def _of_rules(value: Callable[[RuleResult], float | None]) -> Callable[[Published], Samples]:
    """Give a series per rule for which there is a value."""

    def samples(report: Report) -> Samples:
        values = [(result.rule.name, value(result)) for result in report.policy.results] if report.policy else []
        return [((name,), float(number)) for name, number in values if number is not None]

    return _of_report(samples)


def _pairs(published: Published) -> Samples:
    """Give the first pairs by name; a dict, for only Docker's own engines keep names unique."""
    limit = published.stats.pair_series
    if not limit or published.report is None:
        return []
    found: dict[tuple[str, ...], float] = {}
    for pair in islice(published.report.pairs(), limit):
        labels = (pair.source.name, pair.destination.name, pair.verdict.via or "", pair.verdict.verdict)
        found[tuple(encodable(label) for label in labels)] = 1.0
    return list(found.items())


def _omitted_pairs(published: Published) -> Samples:
    limit = published.stats.pair_series
    if not limit or published.report is None:
        return []
    return _single(max(0, published.report.totals.reachable_pairs - limit))


def _polls(published: Published) -> Samples:
    polls = dict.fromkeys(PollResult, 0) | dict(published.stats.polls_by_result)
    return [((result,), float(number)) for result, number in polls.items()]


def _probes(published: Published) -> Samples:
    if published.stats.probes is None:
        return []
    probes = dict.fromkeys(ProbeResult, 0) | dict(published.stats.probes.by_result)
    return [((result,), float(number)) for result, number in probes.items()]


def _probes_sent(published: Published) -> float | None:
    """Return whether the last round could be sent, all of it; None where none has ended."""
    probes = published.stats.probes
    return None if probes is None or probes.last_round is None else not probes.problem


def _probe_disagreements(published: Published) -> float | None:
    """Return how many probes of the last round disagreed; None where no round ended with a packet."""
    probes = published.stats.probes
    if probes is None or not probes.last:
        return None
    return sum(probed.result is ProbeResult.DISAGREED for probed in probes.last)


def _events(published: Published) -> Samples:
    return [((encodable(kind),), float(number)) for kind, number in sorted(published.stats.events_total.items())]


METRICS: tuple[MetricSpec, ...] = (
    MetricSpec(
        "icc_enabled",
        "gauge",
        "Whether the daemon's default bridge lets containers communicate: 1 yes, 0 no. As of the last poll; "
        "absent when there is no default bridge or the engine cannot tell.",
        _of_total(lambda report: report.engine.icc_enabled),
    ),
    MetricSpec(
        "reachable_pairs_total",
        "gauge",
        "Gauge, not a counter: ordered pairs of running containers of which the first can reach the second, each "
        "pair once, undecided pairs included. As of the last poll.",
        _of_total(lambda report: report.totals.reachable_pairs),
    ),
    MetricSpec(
        "docker_icc_network_enabled",
        "gauge",
        f"Configured inter-container communication of the network: 1 on, 0 off. {_SHARED_NAME}: 1 if any is on.",
        _of_networks(lambda network: network.icc_enabled, max),
        ("network", "driver"),
    ),
    MetricSpec(
        "docker_icc_network_effective",
        "gauge",
        "Whether the kernel lets any two containers talk over the network, links aside: 1 open, 0 closed. "
        f"{_SHARED_NAME}: 1 if any is open. Absent without evidence from the kernel, or two containers.",
        _of_networks(lambda network: network.icc_effective, max),
        ("network", "driver"),
    ),
    MetricSpec(
        "docker_icc_network_containers",
        "gauge",
        f"Running containers attached to the network as of the last poll. {_SHARED_NAME}: their sum.",
        _of_networks(lambda network: network.containers, sum),
        ("network", "driver"),
    ),
    MetricSpec(
        "docker_icc_network_reachable_pairs",
        "gauge",
        "Ordered pairs of containers that can reach each other by way of the network; a pair counts on each of "
        f"its networks. {_SHARED_NAME}: their sum.",
        _of_networks(lambda network: network.reachable_pairs, sum),
        ("network", "driver"),
    ),
    MetricSpec(
        "docker_icc_containers",
        "gauge",
        "Running containers as of the last poll.",
        _of_total(lambda report: report.totals.containers),
    ),
    MetricSpec(
        "docker_icc_pairs",
        "gauge",
        "Ordered pairs of distinct running containers: n(n-1).",
        _of_total(lambda report: report.totals.pairs),
    ),
    MetricSpec(
        "docker_icc_reachable_pairs",
        "gauge",
        "Reachable pairs by the most direct mechanism that opens them; the series sum to reachable_pairs_total.",
        _of_report(_reachable_pairs_by_via),
        ("via",),
    ),
    MetricSpec(
        "docker_icc_unknown_pairs",
        "gauge",
        "Ordered pairs that cannot be proven blocked or reachable; they are among reachable_pairs_total.",
        _of_total(lambda report: report.totals.unknown_pairs),
    ),
    MetricSpec(
        "docker_icc_pair",
        "gauge",
        "A reachable or undecided ordered pair, by the mechanism under which it is counted; the value is always 1. "
        "Absent unless --metrics.pairs says how many there may be.",
        _pairs,
        ("source", "destination", "via", "verdict"),
    ),
    MetricSpec(
        "docker_icc_omitted_pairs",
        "gauge",
        "Reachable or undecided pairs that are not among those of docker_icc_pair because --metrics.pairs is too low. "
        "Absent unless it is given.",
        _omitted_pairs,
    ),
    MetricSpec(
        "docker_icc_drift_pairs",
        "gauge",
        "Ordered pairs on which the kernel disagrees with the configuration: open ones are reachable against it, "
        "closed ones are blocked against it. Absent without evidence from the kernel.",
        _of_report(_drift_pairs),
        ("direction",),
    ),
    MetricSpec(
        "docker_icc_isolated_containers",
        "gauge",
        "Running containers that reach no other and are reached by none.",
        _of_total(lambda report: report.blast_radius.isolated_containers),
    ),
    MetricSpec(
        "docker_icc_max_reach",
        "gauge",
        "Most containers that any one container can reach.",
        _of_total(lambda report: report.blast_radius.max_reach),
    ),
    MetricSpec(
        "docker_icc_largest_component",
        "gauge",
        "Containers in the largest group that hangs together by reachable pairs, in either direction.",
        _of_total(lambda report: report.blast_radius.largest_component),
    ),
    MetricSpec(
        "docker_icc_tenants",
        "gauge",
        "Tenants that labels of running containers name.",
        _of_tenancy(lambda tenancy: len(tenancy.tenants)),
    ),
    MetricSpec(
        "docker_icc_containers_without_tenant",
        "gauge",
        "Running containers without the label of tenants; each counts as a tenant of its own.",
        _of_tenancy(lambda tenancy: tenancy.without),
    ),
    MetricSpec(
        "docker_icc_cross_tenant_pairs",
        "gauge",
        "Ordered pairs of containers of different tenants, neither of them trusted, of which the first can reach the "
        "second, undecided pairs included. Absent while no container has the label of tenants.",
        _of_tenancy(lambda tenancy: tenancy.cross_pairs),
    ),
    MetricSpec(
        "docker_icc_policy_violations",
        "gauge",
        "Ordered pairs that a rule of the policy file denies and that are open or undecided; 0 for a rule that holds.",
        _of_rules(lambda result: result.violations),
        ("rule",),
    ),
    MetricSpec(
        "docker_icc_policy_rule_pairs",
        "gauge",
        "Ordered pairs that a rule of the policy file is about, open or not: at 0 it watches nothing, perhaps by a "
        "mistake in a name.",
        _of_rules(lambda result: result.pairs),
        ("rule",),
    ),
    MetricSpec(
        "docker_icc_bridge_netfilter_enabled",
        "gauge",
        "Whether frames that stay on one bridge pass the firewall (sysctl net.bridge.bridge-nf-call-iptables and "
        "-ip6tables of the engine's namespace): 1 yes, 0 no or no such module. Absent for a family that no bridge "
        "network has, and where neither kernel nor engine tells.",
        _of_report(_bridge_netfilter),
        ("family",),
    ),
    MetricSpec(
        "docker_icc_config_pending_restart",
        "gauge",
        "Whether a restart of the daemon would change ICC of the default bridge: 1 yes, or it would not start; 0 no. "
        "Absent where its configuration could not be read.",
        _of_total(lambda report: report.pending_restart.icc if report.pending_restart else None),
    ),
    MetricSpec(
        "docker_icc_config_invalid",
        "gauge",
        "Whether the daemon would not start with the configuration that it would find, so that a restart is an outage: "
        "1 yes, 0 no. Absent where its configuration could not be read.",
        _of_total(lambda report: not report.pending_restart.starts if report.pending_restart else None),
    ),
    MetricSpec(
        "docker_icc_evidence",
        "gauge",
        "Whether a source of evidence was readable in the last poll: 1 yes, 0 no.",
        _of_report(lambda report: _sources(report.evidence)),
        ("source",),
    ),
    MetricSpec(
        "docker_icc_evidence_wanted",
        "gauge",
        "Whether a source of evidence is to be read: 1 yes, 0 no. What --evidence.max asks for is; without that flag, "
        "what could be read at some time since the start. Absent where a saved observation takes the engine's place.",
        _evidence_wanted,
        ("source",),
    ),
    MetricSpec(
        "docker_icc_unread_sandboxes",
        "gauge",
        "Containers' network namespaces that could not be read, or not whole, while others could: what "
        "is in them is taken for what the engine put there. Absent where sandboxes are not read at all.",
        _of_total(lambda report: report.unread_sandboxes),
    ),
    MetricSpec(
        "docker_icc_up",
        "gauge",
        "Whether the last poll could read the engine: 1 yes, 0 no. At 0 the metrics about containers are absent.",
        lambda published: _single(published.up),
    ),
    MetricSpec(
        "docker_icc_engine_info",
        "gauge",
        "The engine that was polled; the value is always 1.",
        _of_report(_engine_info),
        ("version", "api_version", "firewall_backend"),
    ),
    MetricSpec(
        "docker_icc_exporter_build_info",
        "gauge",
        "The exporter that serves these metrics; the value is always 1.",
        lambda _: [((__version__, platform.python_version()), 1.0)],
        ("version", "python_version"),
    ),
    MetricSpec(
        "docker_icc_exporter_polls_total",
        "counter",
        "Polls of the engine by how they ended.",
        _polls,
        ("result",),
    ),
    MetricSpec(
        "docker_icc_exporter_poll_interval_seconds",
        "gauge",
        "Configured time between polls; events of the engine only shorten it.",
        lambda published: _single(published.stats.poll_interval_seconds),
    ),
    MetricSpec(
        "docker_icc_exporter_poll_duration_seconds",
        "gauge",
        "How long the last look at the engine took, from the first request to its last answer.",
        lambda published: _single(published.stats.last_poll_duration_seconds),
    ),
    MetricSpec(
        "docker_icc_exporter_evaluation_duration_seconds",
        "gauge",
        "How long the last evaluation of all pairs took.",
        lambda published: _single(published.stats.last_evaluation_seconds),
    ),
    MetricSpec(
        "docker_icc_exporter_unsupported_matches",
        "gauge",
        "Rules of the engine's firewall with a match or statement that nobody can foresee, by its name; the rarest "
        "names are counted together as other. Absent where there is none.",
        _of_report(_unsupported_matches),
        ("name",),
    ),
    MetricSpec(
        "docker_icc_exporter_last_success_timestamp_seconds",
        "gauge",
        "When the last good poll ended, in seconds since the epoch; absent before the first.",
        lambda published: _timestamp(published.last_success),
    ),
    MetricSpec(
        "docker_icc_exporter_events_total",
        "counter",
        "Events received from the engine by type.",
        _events,
        ("type",),
    ),
    MetricSpec(
        "docker_icc_exporter_event_stream_up",
        "gauge",
        "Whether the engine's event stream is connected: 1 yes, 0 no. At 0 changes show after the poll interval.",
        lambda published: _single(published.stats.event_stream_up),
    ),
    MetricSpec(
        "docker_icc_exporter_config_last_reload_successful",
        "gauge",
        "Whether the configuration was last read without an error: 1 yes, 0 no.",
        lambda published: _single(published.stats.configuration.succeeded),
    ),
    MetricSpec(
        "docker_icc_exporter_config_last_reload_success_timestamp_seconds",
        "gauge",
        "When the configuration was last read without an error, in seconds since the epoch.",
        lambda published: _timestamp(published.stats.configuration.last_success),
    ),
    MetricSpec(
        "docker_icc_exporter_web_config_last_reload_successful",
        "gauge",
        "Whether the web configuration and its certificates were last read without an error: 1 yes, 0 no, and the "
        "last good ones stay in force. Absent without --web.config.file.",
        lambda published: _single(published.stats.web_configuration.succeeded),
    ),
    MetricSpec(
        "docker_icc_exporter_web_config_last_reload_success_timestamp_seconds",
        "gauge",
        "When the web configuration was last read without an error, in seconds since the epoch.",
        lambda published: _timestamp(published.stats.web_configuration.last_success),
    ),
    MetricSpec(
        "docker_icc_exporter_policy_last_reload_successful",
        "gauge",
        "Whether the policy file was last read without an error: 1 yes, 0 no. At 0 the policy before is in force. "
        "Absent without a policy file.",
        lambda published: _single(published.stats.policy.succeeded),
    ),
    MetricSpec(
        "docker_icc_exporter_policy_last_reload_success_timestamp_seconds",
        "gauge",
        "When the policy file was last read without an error, in seconds since the epoch.",
        lambda published: _timestamp(published.stats.policy.last_success),
    ),
    MetricSpec(
        "docker_icc_exporter_probes_total",
        "counter",
        "Verdicts put to the test by packets, by result: agreed or disagreed; undecided, where nothing was sent on "
        "purpose or the verdict changed meanwhile; failed, where it could not be. Absent without --probe.sample.",
        _probes,
        ("result",),
    ),
    MetricSpec(
        "docker_icc_exporter_probe_disagreements",
        "gauge",
        "Verdicts of the last round of probes that packets disagreed with. Absent without --probe.sample.",
        lambda published: _single(_probe_disagreements(published)),
    ),
    MetricSpec(
        "docker_icc_exporter_probe_last_round_successful",
        "gauge",
        "Whether the last round of probes could be sent: 1 yes, 0 no, or not all of it. Absent without --probe.sample.",
        lambda published: _single(_probes_sent(published)),
    ),
)
"""Every metric but those of the process, in the order of the exposition."""


def families(published: Published) -> Iterator[Metric]:
    """Yield the metrics of a state, and of this process at this moment."""
    for spec in METRICS:
        samples = spec.samples(published)
        if samples:
            yield _family(spec, samples)
    yield from ProcessCollector(registry=None).collect()


def _family(spec: MetricSpec, samples: Samples) -> Metric:
    family_type = GaugeMetricFamily if spec.kind == "gauge" else CounterMetricFamily
    family = family_type(spec.name, spec.help, labels=spec.labels)
    for labels, value in samples:
        family.add_metric(labels, value)
    return family
