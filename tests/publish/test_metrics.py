"""The table of metrics against what is really exposed."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families

from exporter.model.probe import ProbeResult
from exporter.model.reach import Via
from exporter.model.report import Evidence, PendingRestart, PolicyResult, Tenancy
from exporter.publish.exposition import Format, render
from exporter.publish.metrics import METRICS
from exporter.publish.state import PollResult, ProbeStats, Published
from tests.builders import (
    TAKEN_AT,
    down,
    drifting,
    governed,
    network,
    open_verdict,
    probed,
    published,
    report,
    small_town,
    stats,
)

if TYPE_CHECKING:
    from exporter.model.report import Report
    from exporter.publish.metrics import MetricSpec

Series = dict[tuple[str, frozenset[tuple[str, str]]], float]


def series(state: Published) -> Series:
    """Return all samples of a state by name and labels; fails on a duplicate."""
    text = render(state)[Format.TEXT_0_0_4.name].plain.decode()
    found: Series = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            key = sample.name, frozenset(sample.labels.items())
            assert key not in found, f"duplicate series {key}"
            found[key] = sample.value
    return found


def value(state: Published, name: str, /, **labels: str) -> float | None:
    """Return one sample, None where it is absent."""
    return series(state).get((name, frozenset(labels.items())))


def names(state: Published) -> set[str]:
    """Return the names of all metrics but the process's own."""
    return {name for name, _ in series(state) if not name.startswith("process_")}


def complete() -> Report:
    """Return a report in which no metric is left out."""
    draft = small_town()
    networks = tuple(replace(each, icc_effective=True) for each in draft.networks)
    totals = replace(draft.totals, drift_open=1, drift_closed=0)
    draft = replace(draft, tenancy=governed().tenancy, policy=governed().policy)
    return replace(
        draft,
        networks=networks,
        totals=totals,
        evidence=Evidence(firewall=True, sandboxes=True),
        unsupported={"limit": 1},
        bridge_netfilter={"ipv4": True, "ipv6": False},
        pending_restart=PendingRestart(icc=False),
    )


def test_the_table_and_the_exposition_hold_the_same_metrics() -> None:
    """Every metric of the table is exposed, and nothing that is exposed is missing in the table."""
    assert names(published(complete())) == {spec.name for spec in METRICS}


def test_labels_are_those_of_the_table() -> None:
    """Each series bears exactly the labels that the table names."""
    labels = {spec.name: set(spec.labels) for spec in METRICS}
    for name, pairs in series(published(complete())):
        if name in labels:
            assert {label for label, _ in pairs} == labels[name]


@pytest.mark.parametrize("spec", METRICS, ids=lambda spec: spec.name)
def test_help_is_a_sentence(spec: MetricSpec) -> None:
    """Every metric has a HELP that begins like a sentence, ends like one and has no character to escape."""
    text = spec.help
    assert text[0].isupper()
    assert text.endswith(".")
    assert not set(text) & {'"', "\\", "\n"}


def test_the_gauge_with_a_counters_name_says_so() -> None:
    """`reachable_pairs_total` is typed as a gauge, and its HELP says it first."""
    (spec,) = (each for each in METRICS if each.name == "reachable_pairs_total")
    assert spec.kind == "gauge"
    assert spec.help.startswith("Gauge, not a counter")


@pytest.mark.parametrize(("icc", "expected"), [(True, 1.0), (False, 0.0), (None, None)])
def test_icc_enabled_has_three_values(icc: bool | None, expected: float | None) -> None:
    """The gauge is 1, 0, or absent where there is no answer."""
    assert value(published(report(icc_enabled=icc)), "icc_enabled") == expected


def test_pairs_by_via_are_a_partition() -> None:
    """The series of all mechanisms are there, zeros too, and sum to `reachable_pairs_total`."""
    samples = series(published(small_town()))
    by_via = {
        dict(labels)["via"]: number
        for (name, labels), number in samples.items()
        if name == "docker_icc_reachable_pairs"
    }
    assert by_via.keys() == {via.value for via in Via}
    assert sum(by_via.values()) == samples["reachable_pairs_total", frozenset()]


def test_pairs_are_series_up_to_a_number_that_somebody_chose() -> None:
    """No pair is a series by default; with a limit the first pairs by name are, and the others are counted."""
    state = published(small_town())
    total = int(value(state, "reachable_pairs_total") or 0)

    def shown(limit: int) -> tuple[list[str], float | None]:
        limited = replace(state, stats=replace(state.stats, pair_series=limit))
        pairs = [dict(labels) for name, labels in series(limited) if name == "docker_icc_pair"]
        found = [f"{pair['source']} {pair['destination']}" for pair in pairs]
        return sorted(found), value(limited, "docker_icc_omitted_pairs")

    everything, omitted = shown(total)
    assert (len(everything), omitted) == (total, 0)
    assert everything == [f"{pair.source.name} {pair.destination.name}" for pair in small_town().pairs()]
    assert shown(total - 1) == (everything[:-1], 1)
    assert shown(1) == (everything[:1], total - 1)
    assert shown(0) == ([], None)


def test_domain_metrics_are_withdrawn_while_the_engine_is_down() -> None:
    """With the engine down `docker_icc_up` is 0, and only what the exporter knows of itself stays beside it."""
    state = down()
    assert value(state, "docker_icc_up") == 0
    told = {name for name in names(state) if not name.startswith("docker_icc_exporter_")}
    assert told == {"docker_icc_up", "docker_icc_evidence_wanted"}
    assert value(state, "docker_icc_exporter_last_success_timestamp_seconds") == TAKEN_AT.timestamp()


def test_single_sandboxes_that_were_not_read_are_counted() -> None:
    """Where sandboxes are read, those that could not be are a number; where none is, the source itself is missing."""

    def counted(evidence: Evidence, *missing: str) -> float | None:
        state = published(report(evidence=evidence, missing=dict.fromkeys(missing, "too many rules")))
        return value(state, "docker_icc_unread_sandboxes")

    assert counted(Evidence(sandboxes=True)) == 0
    assert counted(Evidence(sandboxes=True), "sandboxes/a", "ipsets", "sandboxes/b") == 2
    assert counted(Evidence(), "sandboxes") is None


def test_wanted_evidence_is_told_apart_from_what_was_read() -> None:
    """Each source has its series, whatever could be read; a file in the engine's place has none."""
    state = published(report())

    def told(name: str) -> dict[str, float]:
        return {dict(labels)["source"]: number for (metric, labels), number in series(state).items() if metric == name}

    assert told("docker_icc_evidence_wanted") == {"api": 1, "firewall": 1, "bridge": 1, "routes": 1, "sandboxes": 0}
    assert told("docker_icc_evidence") == {"api": 1, "firewall": 0, "bridge": 0, "routes": 0, "sandboxes": 0}
    state = replace(state, stats=replace(state.stats, evidence_wanted=None))
    assert told("docker_icc_evidence_wanted") == {}


@pytest.mark.parametrize(
    ("pending", "expected"),
    [
        (None, (None, None)),
        (PendingRestart(icc=False), (0, 0)),
        (PendingRestart(icc=True, reasons=("icc would be false",)), (1, 0)),
        (PendingRestart(icc=True, reasons=("is not JSON",), starts=False), (1, 1)),
    ],
)
def test_a_daemon_that_would_not_start_is_told_apart_from_one_that_would_be_another(
    pending: PendingRestart | None, expected: tuple[float | None, ...]
) -> None:
    """One restart is to be planned, the other to be kept from happening."""
    state = published(replace(report(), pending_restart=pending))
    assert tuple(value(state, f"docker_icc_config_{name}") for name in ("pending_restart", "invalid")) == expected


def test_rules_have_their_series() -> None:
    """A rule that holds is there with 0, one that allows has no violations, and one about nobody has no pairs."""
    state = published(governed())
    names_and_values = {
        name: {dict(labels)["rule"]: number for (metric, labels), number in series(state).items() if metric == name}
        for name in ("docker_icc_policy_violations", "docker_icc_policy_rule_pairs")
    }
    assert names_and_values == {
        "docker_icc_policy_violations": {"apart": 1, "typo": 0},
        "docker_icc_policy_rule_pairs": {"exception": 0, "apart": 2, "typo": 0},
    }


def test_tenants_that_nobody_can_tell_apart_are_absent() -> None:
    """Without the label in what was seen nothing is said; without any tenant nothing crosses, which is not 0."""
    untold = replace(report(), tenancy=Tenancy("tenant", told=False), policy=PolicyResult(untold=("tenant",)))
    assert not {name for name in names(published(untold)) if "tenant" in name or name.startswith("docker_icc_policy")}
    nobody = published(replace(report(), tenancy=Tenancy("tenant", told=True, without=2)))
    assert value(nobody, "docker_icc_tenants") == 0
    assert value(nobody, "docker_icc_containers_without_tenant") == 2
    assert value(nobody, "docker_icc_cross_tenant_pairs") is None
    assert value(published(governed()), "docker_icc_cross_tenant_pairs") == 1


def test_polls_are_counted_from_zero() -> None:
    """Before the first poll every way to end is there with 0, so that the first failure is an increase."""
    state = Published.not_polled(TAKEN_AT)
    assert {value(state, "docker_icc_exporter_polls_total", result=result) for result in PollResult} == {0.0}
    assert value(state, "docker_icc_exporter_last_success_timestamp_seconds") is None


def test_networks_of_one_name_and_driver_share_a_series() -> None:
    """Docker allows several networks of one name: their counts add up, and one that is open makes the series open."""
    twins = [
        network("twin", identity="1", icc_enabled=False, containers=2, reachable_pairs=0),
        network("twin", identity="2", icc_enabled=True, containers=3, reachable_pairs=6),
        network("twin", "macvlan", identity="3", icc_enabled=None, containers=1, reachable_pairs=0),
    ]
    state = published(report(networks=twins))
    labels = {"network": "twin", "driver": "bridge"}
    assert value(state, "docker_icc_network_enabled", **labels) == 1
    assert value(state, "docker_icc_network_containers", **labels) == 5
    assert value(state, "docker_icc_network_reachable_pairs", **labels) == 6
    assert value(state, "docker_icc_network_containers", network="twin", driver="macvlan") == 1


def test_networks_without_the_notion_have_no_icc_series() -> None:
    """A host network is neither on nor off."""
    state = published(report(networks=[network("host", "host", icc_enabled=None)]))
    assert value(state, "docker_icc_network_enabled", network="host", driver="host") is None
    assert value(state, "docker_icc_network_containers", network="host", driver="host") == 2


def test_names_that_differ_in_broken_characters_only_share_a_series() -> None:
    """Names that UTF-8 cannot tell apart never make a duplicate series."""
    state = published(report(networks=[network("a\ud800", identity="1"), network("a\udfff", identity="2")]))
    assert value(state, "docker_icc_network_containers", network="a\ufffd", driver="bridge") == 4


@pytest.mark.parametrize(
    ("driver", "families", "expected"),
    [
        ("bridge", ("ipv4",), (1, None)),
        ("bridge", ("ipv4", "ipv6"), (1, 0)),
        ("bridge", ("ipv6",), (None, 0)),
        ("overlay", ("ipv4", "ipv6"), (None, None)),
    ],
)
def test_br_netfilter_is_told_of_families_that_a_bridge_network_has(
    driver: str, families: tuple[str, ...], expected: tuple[float | None, ...]
) -> None:
    """That frames of a family which nobody has pass no firewall is nothing to be woken up for."""
    there = [network("shop", driver, families=families), network("host", "host", families=("ipv4", "ipv6"))]
    state = published(replace(report(networks=there), bridge_netfilter={"ipv4": True, "ipv6": False}))
    name = "docker_icc_bridge_netfilter_enabled"
    assert tuple(value(state, name, family=family) for family in ("ipv4", "ipv6")) == expected


def test_drift_is_counted_by_direction() -> None:
    """Pairs that the kernel opens and that it closes against the configuration are two series."""
    state = published(drifting())
    assert value(state, "docker_icc_drift_pairs", direction="open") == 1
    assert value(state, "docker_icc_drift_pairs", direction="closed") == 1


def test_agreement_is_zero_and_ignorance_is_absence() -> None:
    """Without drift the series are 0; without the kernel's evidence there are none."""
    verdicts = {("db", "web"): open_verdict()}
    state = published(report(verdicts=verdicts, declared=verdicts))
    assert value(state, "docker_icc_drift_pairs", direction="open") == 0
    assert value(published(), "docker_icc_drift_pairs", direction="open") is None
    assert value(published(), "docker_icc_network_effective", network="bridge", driver="bridge") is None


def test_the_icc_in_effect_is_the_kernels() -> None:
    """A network that is configured closed and is open has 0 and 1."""
    state, labels = published(drifting()), {"network": "tenants", "driver": "bridge"}
    assert value(state, "docker_icc_network_enabled", **labels) == 0
    assert value(state, "docker_icc_network_effective", **labels) == 1


def test_evidence_is_told_by_source() -> None:
    """Each source is 1 where it was readable and 0 where it was not."""
    state = published(drifting())
    found = {source: value(state, "docker_icc_evidence", source=source) for source in ("api", "routes", "sandboxes")}
    assert found == {"api": 1, "routes": 1, "sandboxes": 0}


def test_rules_that_nobody_can_foresee_are_counted_by_name() -> None:
    """Each name is a series; where every rule is understood there is none."""
    state = published(drifting())
    assert value(state, "docker_icc_exporter_unsupported_matches", name="limit") == 2
    assert value(state, "docker_icc_exporter_unsupported_matches", name="meta time") == 1
    assert "docker_icc_exporter_unsupported_matches" not in names(published())


def test_the_process_is_measured() -> None:
    """The standard metrics of the process are there."""
    resident = value(published(), "process_resident_memory_bytes")
    assert resident is not None
    assert resident > 0


def test_probes_are_counted_from_zero_where_they_are_sent() -> None:
    """With probes on every result is there, so that the first disagreement is an increase; without, none is."""
    on = published().counted(replace(stats(), probes=ProbeStats()))
    name = "docker_icc_exporter_probes_total"
    assert {value(on, name, result=result) for result in ProbeResult} == {0.0}
    assert value(on, "docker_icc_exporter_probe_disagreements") is None
    off = published().counted(replace(stats(), probes=None))
    assert not {each for each in names(off) if "probe" in each}


def test_the_last_round_has_a_gauge() -> None:
    """It shows the disagreements of that round alone, for an alert that resolves."""
    last = (probed(), probed(ProbeResult.AGREED), probed(destination="api"))
    state = published().counted(replace(stats(), probes=ProbeStats({ProbeResult.DISAGREED: 9}, last, TAKEN_AT)))
    assert value(state, "docker_icc_exporter_probe_disagreements") == 2
    assert value(state, "docker_icc_exporter_probes_total", result="disagreed") == 9


@pytest.mark.parametrize(
    ("probes", "expected"),
    [
        (None, None),
        (ProbeStats(), None),
        (ProbeStats(last_round=TAKEN_AT), 1),
        (ProbeStats(last_round=TAKEN_AT, problem="CAP_NET_RAW is needed"), 0),
    ],
)
def test_rounds_that_cannot_be_sent_are_told(probes: ProbeStats | None, expected: float | None) -> None:
    """Probing that does not take place is not the same as probes that agree."""
    state = published().counted(replace(stats(), probes=probes))
    assert value(state, "docker_icc_exporter_probe_last_round_successful") == expected
