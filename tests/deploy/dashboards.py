"""The dashboards: a fleet, one host, and its pairs."""

from __future__ import annotations

from typing import Any, Final

from tests.deploy.names import OWN_JOB
from tests.deploy.panels import Panel, Query, dashboard, lines, selector, stat, states, table

_OPEN: Final = {"0": ("closed", "green"), "1": ("open", "red")}
_READ: Final = {"0": ("no", "red"), "1": ("yes", "green")}
_FIRING: Final = {"1": ("firing", "red")}


def _merged(columns: dict[str, str], hidden: tuple[str, ...] = ()) -> tuple[dict[str, Any], ...]:
    """Make one table of several queries, a column for each by its ref."""
    unwanted = dict.fromkeys(("Time", "job", "__name__", *hidden), True)
    renamed = {f"Value #{ref}": title for ref, title in columns.items()}
    return (
        {"id": "merge", "options": {}},
        {"id": "organize", "options": {"excludeByName": unwanted, "renameByName": renamed}},
    )


def _columns(columns: dict[str, tuple[str, str]]) -> tuple[Query, ...]:
    return tuple(Query(expr, "", ref, table=True) for ref, (_, expr) in columns.items())


def _per_minute(counter: str, label: str) -> str:
    """Return how often something happens on each host, which does not depend on how far the reader has zoomed."""
    return f"60 * sum by (instance, {label}) (rate({selector(counter)}[$__rate_interval]))"


_HOSTS: Final = {
    "A": ("ICC", selector("icc_enabled")),
    "B": ("reachable pairs", selector("reachable_pairs_total")),
    "C": ("of pairs", selector("docker_icc_pairs")),
    "D": ("unknown pairs", selector("docker_icc_unknown_pairs")),
    "E": ("containers", selector("docker_icc_containers")),
    "F": ("isolated", selector("docker_icc_isolated_containers")),
    "G": ("most reached by one", selector("docker_icc_max_reach")),
    "H": ("largest group", selector("docker_icc_largest_component")),
}

_NETWORKS: Final = {
    "A": ("containers", selector("docker_icc_network_containers")),
    "B": ("reachable pairs", selector("docker_icc_network_reachable_pairs")),
    "C": ("ICC configured", selector("docker_icc_network_enabled")),
    "D": ("ICC in effect", selector("docker_icc_network_effective")),
}

# metrics of these names are everybody's, and whoever reads a dashboard has chosen all jobs until told otherwise
_TARGETS: Final = selector("up", OWN_JOB)
_MEMORY: Final = selector("process_resident_memory_bytes", OWN_JOB)
_CPU: Final = selector("process_cpu_seconds_total", OWN_JOB)

_PAIR: Final = selector("docker_icc_pair")
_REACHABLE: Final = selector("docker_icc_pair", 'verdict="reachable"')
_UNKNOWN: Final = selector("docker_icc_pair", 'verdict="unknown"')
_DRIFT_OPEN: Final = selector("docker_icc_drift_pairs", 'direction="open"')
_CELL: Final = (
    'max by (from, to) (label_join(label_join({pair}, "from", " / ", "instance", "source"), '
    '"to", " / ", "instance", "destination"))'
)
_NODE: Final = (
    'group by (id, title) (label_replace(label_join({pair}, "id", "/", "instance", "{end}"), '
    '"title", "$1", "{end}", "(.*)"))'
)
_EDGE: Final = (
    "group by (id, source, target, mainstat) (label_replace(label_join(label_join(label_join("
    f'{_PAIR}, "id", "/", "instance", "source", "destination"), "target", "/", "instance", "destination"), '
    '"source", "/", "instance", "source"), "mainstat", "$1", "via", "(.*)"))'
)

OVERVIEW: Final = dashboard(
    "docker-icc-overview",
    "Docker ICC / Overview",
    "Which containers can reach which others, on all hosts.",
    (
        stat("Hosts with ICC", "Engines whose default bridge lets containers communicate.",
             f"sum({selector('icc_enabled')})"),
        stat("Reachable pairs", "Ordered pairs of containers of which the first can reach the second.",
             f"sum({selector('reachable_pairs_total')})", good=True),
        stat("Reachable share", "Reachable pairs out of all pairs.",
             f"sum({selector('reachable_pairs_total')}) / clamp_min(sum({selector('docker_icc_pairs')}), 1)",
             unit="percentunit", good=True),
        stat("Drift: open", "Pairs that are closed by configuration and open in the kernel. Needs evidence from it.",
             f"sum({_DRIFT_OPEN})"),
        stat("Between tenants", "Reachable pairs of containers of different tenants.",
             f"sum({selector('docker_icc_cross_tenant_pairs')})"),
        stat("Hosts not read", "Targets that do not answer, or whose engine does not.",
             f"count({_TARGETS}) - (sum({selector('docker_icc_up')}) or vector(0))"),
        states("ICC by host", "Whether the default bridge is open. A gap is an engine that could not be read.",
               Query(selector("icc_enabled")), texts=_OPEN),
        states("Alerts", "Alerts that Prometheus fires.",
               Query(selector("ALERTS", 'alertname=~"DockerIcc.*"', 'alertstate="firing"'),
                     "{{alertname}} {{instance}}"), texts=_FIRING),
        lines("Reachable pairs by host", "A gap is an engine that could not be read.",
              Query(selector("reachable_pairs_total"))),
        lines("Reachable pairs by mechanism", "What opens them, of all hosts together; each pair counts once.",
              Query(f"sum by (via) ({selector('docker_icc_reachable_pairs')})", "{{via}}"), stacked=True),
        lines("Reachable pairs by network", "The 20 largest; a pair counts on each of its networks.",
              Query(f"topk(20, {selector('docker_icc_network_reachable_pairs')})", "{{instance}} {{network}}")),
        lines("Drift and unknown pairs", "Pairs on which kernel and configuration disagree, or that nobody can tell.",
              Query(f"sum by (direction) ({selector('docker_icc_drift_pairs')})", "drift {{direction}}", "A"),
              Query(f"sum({selector('docker_icc_unknown_pairs')})", "unknown", "B")),
        lines("Blast radius", "How far a break-in spreads: most containers that any one reaches, largest group.",
              Query(selector("docker_icc_max_reach"), "{{instance}} most by one", "A"),
              Query(selector("docker_icc_largest_component"), "{{instance}} largest group", "B")),
        lines("Violations of the policy", "Pairs that violate a rule, by rule.",
              Query(f"sum by (instance, rule) ({selector('docker_icc_policy_violations')})", "{{instance}} {{rule}}")),
        table("Hosts", "All numbers of each host now.", *_columns(_HOSTS),
              transformations=_merged({ref: title for ref, (title, _) in _HOSTS.items()})),
    ),
)  # fmt: skip

HOST: Final = dashboard(
    "docker-icc-host",
    "Docker ICC / Host",
    "One host: its networks, its evidence, and the exporter itself.",
    (
        states("ICC of the default bridge", "As the daemon is configured.", Query(selector("icc_enabled")),
               texts=_OPEN, height=6),
        states("Firewall of bridged packets", "br_netfilter: without it, icc=false has no effect.",
               Query(selector("docker_icc_bridge_netfilter_enabled"), "{{instance}} {{family}}"),
               texts={"0": ("off", "red"), "1": ("on", "green")}, height=6),
        states("ICC of networks, configured", "enable_icc of each network.",
               Query(selector("docker_icc_network_enabled"), "{{instance}} {{network}}"), texts=_OPEN),
        states("ICC of networks, in effect", "What the kernel lets through. Needs evidence from it.",
               Query(selector("docker_icc_network_effective"), "{{instance}} {{network}}"), texts=_OPEN),
        lines("Pairs", "All ordered pairs, those that are reachable, and those that nobody can tell.",
              Query(selector("docker_icc_pairs"), "{{instance}} all", "A"),
              Query(selector("reachable_pairs_total"), "{{instance}} reachable", "B"),
              Query(selector("docker_icc_unknown_pairs"), "{{instance}} unknown", "C")),
        lines("Containers", "Running ones, and those that reach no other and are reached by none.",
              Query(selector("docker_icc_containers"), "{{instance}} running", "A"),
              Query(selector("docker_icc_isolated_containers"), "{{instance}} isolated", "B")),
        table("Networks", "All numbers of each network now.", *_columns(_NETWORKS),
              transformations=_merged({ref: title for ref, (title, _) in _NETWORKS.items()})),
        lines("Reachable pairs by mechanism", "What opens them; each pair counts once.",
              Query(selector("docker_icc_reachable_pairs"), "{{instance}} {{via}}"), stacked=True),
        lines("Drift", "Pairs that are open against the configuration, or closed against it.",
              Query(selector("docker_icc_drift_pairs"), "{{instance}} {{direction}}")),
        states("Evidence", "Which sources could be read.",
               Query(selector("docker_icc_evidence"), "{{instance}} {{source}}"), texts=_READ),
        states("Configuration pending", "Whether the daemon's file says something else than the running engine.",
               Query(selector("docker_icc_config_pending_restart")),
               texts={"0": ("no", "green"), "1": ("restart pending", "orange")}),
        lines("Rules that nobody can foresee", "Firewall rules with a match that is not understood, by its name.",
              Query(selector("docker_icc_exporter_unsupported_matches"), "{{instance}} {{name}}")),
        lines("Probes per minute", "Packets sent to check verdicts, by how that ended.",
              Query(_per_minute("docker_icc_exporter_probes_total", "result"), "{{instance}} {{result}}")),
        states("Engine", "Whether the last poll could read it.", Query(selector("docker_icc_up")), texts=_READ),
        states("Event stream", "Without it, changes show after the poll interval.",
               Query(selector("docker_icc_exporter_event_stream_up")), texts=_READ),
        lines("Polls per minute", "By how they ended.",
              Query(_per_minute("docker_icc_exporter_polls_total", "result"), "{{instance}} {{result}}")),
        lines("Events per minute", "Of the engine, by type.",
              Query(_per_minute("docker_icc_exporter_events_total", "type"), "{{instance}} {{type}}")),
        lines("Duration of a poll", "Looking at the engine, and evaluating all pairs.",
              Query(selector("docker_icc_exporter_poll_duration_seconds"), "{{instance}} look", "A"),
              Query(selector("docker_icc_exporter_evaluation_duration_seconds"), "{{instance}} evaluation", "B"),
              unit="s"),
        lines("Age of the last good poll", "Against the interval between polls.",
              Query(f"time() - {selector('docker_icc_exporter_last_success_timestamp_seconds')}",
                    "{{instance}} age", "A"),
              Query(selector("docker_icc_exporter_poll_interval_seconds"), "{{instance}} interval", "B"), unit="s"),
        lines("Memory of the exporter", "Resident.", Query(_MEMORY), unit="bytes"),
        lines("CPU of the exporter", "Seconds per second.",
              Query(f"rate({_CPU}[$__rate_interval])"), unit="percentunit"),
        table("Engine and exporter", "Versions.",
              Query(selector("docker_icc_engine_info"), "", "A", table=True),
              Query(selector("docker_icc_exporter_build_info"), "", "B", table=True), height=6,
              transformations=_merged({}, ("Value #A", "Value #B"))),
    ),
)  # fmt: skip

PAIRS: Final = dashboard(
    "docker-icc-pairs",
    "Docker ICC / Pairs",
    "Who reaches whom. Needs --metrics.pairs=N; choose one host.",
    (
        stat("Pairs shown", "Reachable or unknown pairs that are series.", f"count({_PAIR})", good=True, width=6),
        stat("Pairs left out", "Pairs for which --metrics.pairs is too low.",
             f"sum({selector('docker_icc_omitted_pairs')})", width=6),
        stat("Unknown pairs", "Pairs that nobody can tell; they count as reachable.",
             f"sum({selector('docker_icc_unknown_pairs')})", width=6),
        stat("Most reached by one", "Most containers that any one container can reach.",
             f"max({selector('docker_icc_max_reach')})", good=True, width=6),
        table("Matrix", "Rows reach columns. An empty cell is a blocked pair, of two hosts, or left out.",
              Query(f"{_CELL.format(pair=_REACHABLE)} or 2 * {_CELL.format(pair=_UNKNOWN)}", "", "A", table=True),
              height=14, mappings={"1": ("reachable", "red"), "2": ("unknown", "orange")},
              transformations=({"id": "groupingToMatrix", "options": {
                  "rowField": "from", "columnField": "to", "valueField": "Value", "emptyValue": "empty"}},)),
        Panel("nodeGraph", "Graph", "Containers and what opens the way between them; Grafana draws 1,500 at most.",
              (Query(" or ".join(_NODE.format(pair=_PAIR, end=end) for end in ("source", "destination")),
                     "", "nodes", table=True),
               Query(_EDGE, "", "edges", table=True)), 24, 18),
        table("List", "Every pair, and what opens it.",
              Query(f"group by (instance, source, destination, via, verdict) ({_PAIR})", "", "A", table=True),
              height=12, transformations=_merged({}, ("Value",))),
        lines("Peers of a container", "Containers that each one can reach: the 20 that reach most.",
              Query(f"topk(20, count by (instance, source) ({_PAIR}))", "{{instance}} {{source}}"), width=24),
    ),
)  # fmt: skip

DASHBOARDS: Final = {"overview": OVERVIEW, "host": HOST, "pairs": PAIRS}
"""By the names of their files."""


def queries(board: dict[str, Any]) -> list[str]:
    """Return every expression of a dashboard."""
    return [target["expr"] for panel in board["panels"] for target in panel["targets"]]


def query(name: str, title: str) -> str:
    """Return the one expression of a panel of a dashboard."""
    (panel,) = (panel for panel in DASHBOARDS[name]["panels"] if panel["title"] == title)
    (target,) = panel["targets"]
    return str(target["expr"])
