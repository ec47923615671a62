"""The report as JSON, CSV, DOT and as a table."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace
from io import StringIO
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings

from exporter.evaluate import explain
from exporter.model.ports import PortSet
from exporter.model.reach import PairVerdict, Protocol, Reach, Verdict, Via
from exporter.model.report import PendingRestart
from exporter.publish.formats import RENDERERS
from exporter.publish.formats import json as json_report
from exporter.publish.formats.csv import COLUMNS
from exporter.publish.formats.memo import PerVerdict
from exporter.publish.formats.table import render
from exporter.publish.text import columns, encodable, visible
from tests.builders import (
    container,
    counted,
    crowd,
    drifting,
    engine,
    governed,
    network,
    open_verdict,
    path,
    report,
    small_town,
    unknown_verdict,
)
from tests.hosts import host
from tests.kernels import kernel
from tests.publish.strategies import names

if TYPE_CHECKING:
    from exporter.model.report import Report


def named(source: str, destination: str, network_name: str) -> Report:
    """Return a report of two containers and a network with these names."""
    first, second = (
        replace(container(name), id=identity, sandbox=identity)
        for name, identity in ((source, "first"), (destination, "second"))
    )
    draft = report([first, second], {}, networks=[network(network_name)], engine_summary=engine(name=network_name))
    row = {"second": open_verdict(network=network_name)}
    return counted(replace(draft, reach=Reach({"first": 0, "second": 1}, (row, {}), {})))


def as_json(of: Report) -> dict[str, Any]:
    """Return the parsed JSON report."""
    document: dict[str, Any] = json.loads(RENDERERS["json"](of))
    return document


def rows(of: Report) -> list[dict[str, str]]:
    """Return the rows of the CSV report."""
    return list(csv.DictReader(StringIO(RENDERERS["csv"](of), newline="")))


class TestJson:
    def test_the_schema_is_the_documented_one(self) -> None:
        """Every key of the schema is there, with the types that it promises."""
        document = as_json(small_town())
        assert document["schema"] == 1
        assert document["taken_at"] == "2026-01-01T00:00:00Z"
        assert document.keys() == {
            *("schema", "taken_at", "engine", "evidence", "missing", "unsupported"),
            *("assumptions", "declared_assumptions", "bridge_netfilter", "pending_restart"),
            *("networks", "containers", "totals", "tenancy", "policy", "violations", "drift", "pairs"),
        }
        assert document["engine"] == {
            "id": "ENGINE:ID",
            "name": "docker-host",
            "version": "28.5.1",
            "api_version": "1.51",
            "firewall_backend": "iptables",
            "icc_enabled": False,
        }
        assert document["evidence"] == {
            "api": True,
            "firewall": False,
            "bridge": False,
            "routes": False,
            "sandboxes": False,
        }
        assert document["networks"][0] == {
            "id": "id-backend",
            "name": "backend",
            "driver": "bridge",
            "internal": True,
            "icc_enabled": True,
            "icc_effective": None,
            "families": ["ipv4"],
            "containers": 2,
            "reachable_pairs": 4,
        }
        assert document["containers"][4] == {
            "id": "id-monitor",
            "name": "monitor",
            "networks": ["host"],
            "sandbox": "host",
            "tenant": None,
        }
        assert (document["tenancy"], document["policy"], document["violations"]) == (None, None, [])
        assert document["totals"] == {
            "containers": 7,
            "pairs": 42,
            "reachable_pairs": 18,
            "unknown_pairs": 3,
            "drift_open": None,
            "drift_closed": None,
        }

    def test_tenants_and_the_policy_are_there(self) -> None:
        """Tenants with their numbers, each rule with its own, and violations with rule, pair and paths."""
        document = as_json(governed())
        assert document["tenancy"] == {
            "label": "com.docker.compose.project",
            "told": True,
            "tenants": [
                {"name": "bank", "containers": 1, "exposed_pairs": 1, "trusted": False},
                {"name": "shop", "containers": 1, "exposed_pairs": 0, "trusted": False},
            ],
            "without": 0,
            "cross_pairs": 1,
            "absent": [],
        }
        assert document["policy"]["untold"] == []
        assert document["policy"]["rules"][1] == {
            "name": "apart",
            "effect": "deny",
            "why": "they must not meet",
            "sources": 2,
            "destinations": 2,
            "pairs": 2,
            "violations": 1,
        }
        (violation,) = document["violations"]
        paths = violation.pop("paths")
        assert violation == {
            "rule": "apart",
            "source": "db",
            "source_tenant": "shop",
            "destination": "web",
            "destination_tenant": "bank",
            "verdict": "reachable",
            "reason": "",
        }
        assert paths == document["pairs"][0]["paths"]

    def test_pairs_are_named_and_have_their_paths(self) -> None:
        """A pair is written by container name, a certain path without an `undecided` key."""
        (pair,) = (each for each in as_json(small_town())["pairs"] if each["source"] == "batch")
        assert pair == {
            "source": "batch",
            "destination": "web",
            "verdict": "reachable",
            "declared": "reachable",
            "reason": "published_port on bridge",
            "paths": [
                {
                    "via": "published_port",
                    "network": "bridge",
                    "protocol": "tcp",
                    "addresses": ["10.0.0.1"],
                    "ports": "80,443",
                }
            ],
        }

    def test_an_undecided_path_says_why(self) -> None:
        """Only undecided paths bear the reason."""
        pair = next(each for each in as_json(small_town())["pairs"] if each["verdict"] == "unknown")
        assert pair["reason"] == "the driver is a plugin"
        assert [each["undecided"] for each in pair["paths"]] == ["the driver is a plugin"]

    def test_a_path_without_network_and_ports(self) -> None:
        """No network is null, ICMP has empty ports."""
        assert json_report.path(path(Via.SAME_SANDBOX, None, Protocol.ICMP, ("127.0.0.1",))) == {
            "via": "same_sandbox",
            "network": None,
            "protocol": "icmp",
            "addresses": ["127.0.0.1"],
            "ports": "",
        }

    def test_all_pairs_and_no_others_are_listed(self) -> None:
        """The pairs are those of the report, in its order, one to a line."""
        listed = [(pair["source"], pair["destination"]) for pair in as_json(small_town())["pairs"]]
        assert listed == [(pair.source.name, pair.destination.name) for pair in small_town().pairs()]
        assert RENDERERS["json"](small_town()).count("\n") == len(listed) + 2

    def test_drift_is_listed_with_both_verdicts(self) -> None:
        """Pairs on which kernel and configuration disagree are a list of their own: blocked ones are in no other."""
        document = as_json(drifting())
        opened, closed = document["drift"]
        assert opened == {
            "source": "db",
            "destination": "web",
            "verdict": "reachable",
            "declared": "blocked",
            "reason": "bridge on tenants",
            "decided_by": None,
        }
        assert (closed["source"], closed["verdict"], closed["declared"]) == ("web", "blocked", "reachable")
        assert closed["reason"] == "bridge on tenants"
        assert [(pair["verdict"], pair["declared"]) for pair in document["pairs"]] == [("reachable", "blocked")]
        assert (document["totals"]["drift_open"], document["totals"]["drift_closed"]) == (1, 1)

    def test_causes_stand_beside_the_pairs_that_drift(self) -> None:
        """Where it is known what decides, each pair has it; pairs beyond the first ones have none."""
        document = json.loads(json_report.render(drifting(), {("db", "web"): "rule 1"}))
        assert [each["decided_by"] for each in document["drift"]] == ["rule 1", None]

    def test_what_was_not_read_and_what_is_not_understood_is_told(self) -> None:
        """Reasons of missing evidence, and rules that nobody can foresee, are part of the document."""
        document = as_json(drifting())
        assert document["missing"] == {"sandboxes": "not permitted to enter <them>"}
        assert document["unsupported"] == {"limit": 2, "meta time": 1}
        assert as_json(small_town())["missing"] == as_json(small_town())["unsupported"] == {}

    def test_without_the_kernel_nothing_drifts(self) -> None:
        """What was not compared is an empty list, and its totals are null."""
        document = as_json(small_town())
        assert document["drift"] == []
        assert document["totals"]["drift_open"] is None

    def test_a_report_without_pairs_is_json(self) -> None:
        """Nothing running is an empty list of pairs."""
        assert as_json(report([], {}, networks=[]))["pairs"] == []

    def test_a_large_report_comes_in_chunks(self) -> None:
        """No chunk of 62,250 pairs is longer than what a slow reader may keep in memory, and nothing comes before."""
        sizes = [len(chunk) for chunk in json_report.Document(crowd(250)).chunks()]
        assert sum(sizes) > 20_000_000
        assert max(sizes) < 35_000

    @settings(max_examples=50)
    @given(names, names, names)
    def test_names_survive(self, source: str, destination: str, network_name: str) -> None:
        """Whatever the names, parsing gives them back, lone surrogates too."""
        document = as_json(named(source, destination, network_name))
        (pair,) = document["pairs"]
        assert (pair["source"], pair["destination"]) == (source, destination)
        assert pair["paths"][0]["network"] == network_name


class TestExplanation:
    def test_packets_are_objects_with_all_that_is_shown(self) -> None:
        """The document has each packet, each hop with its rule, what decided, and what would change it."""
        built = host("28.5", icc=False).container("db", expose=["5432/tcp"]).container("web", links=["db"])
        seen = kernel(built).engine_rules().look()
        answer = explain(seen.snapshot, seen.report, "web", "db")
        document = json.loads(json_report.explanation(answer))
        (trip,) = document["trips"]
        assert trip["packet"] == {"protocol": "tcp", "address": "172.17.0.2", "port": 5432}
        assert (trip["verdict"], trip["change"]) == ("reachable", "web without its link to db")
        assert [leg["name"] for leg in trip["legs"]] == ["request", "answer"]
        (accept,) = (hop for hop in trip["legs"][0]["hops"] if hop["decision"] and hop["decision"]["does"] == "accept")
        assert accept["place"] == "host"
        assert accept["lost"] is False
        assert accept["text"] in trip["decided_by"]
        assert accept["decision"] == {
            "table": "ip filter",
            "chain": "DOCKER",
            "number": 1,
            "rule": "-s 172.17.0.3/32 (web) -d 172.17.0.2/32 (db) -i docker0 (network bridge) "
            "-o docker0 (network bridge) -p tcp -m tcp --dport 5432 -j ACCEPT",
            "does": "accept",
            "packets": 7,
        }

    def test_without_the_kernel_there_are_none(self) -> None:
        """From the API alone the list of packets is empty."""
        seen = host("28.5").container("db").container("web").look()
        assert json.loads(json_report.explanation(explain(seen.snapshot, seen.report, "web", "db")))["trips"] == []


class TestCsv:
    def test_one_row_for_each_path(self) -> None:
        """Every path of every pair is a row under the documented columns."""
        found = rows(small_town())
        assert len(found) == sum(len(pair.verdict.paths) for pair in small_town().pairs())
        assert tuple(found[0]) == COLUMNS
        (row,) = (each for each in found if each["source"] == "batch")
        assert row == {
            "source": "batch",
            "destination": "web",
            "verdict": "reachable",
            "declared": "reachable",
            "reason": "published_port on bridge",
            "via": "published_port",
            "network": "bridge",
            "protocol": "tcp",
            "addresses": "10.0.0.1",
            "ports": "80,443",
            "undecided": "",
        }

    def test_the_declared_verdict_stands_beside_the_enforced_one(self) -> None:
        """Where the kernel opens what the configuration closes, both verdicts are in the row."""
        assert {(row["verdict"], row["declared"]) for row in rows(drifting())} == {("reachable", "blocked")}

    def test_lines_end_as_the_rfc_says(self) -> None:
        """Each record ends in CR LF."""
        text = RENDERERS["csv"](small_town())
        assert text.endswith("\r\n")
        assert text.count("\n") == text.count("\r\n")

    @pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@x", "\tx", "\rx"])
    def test_names_are_no_formulas(self, name: str) -> None:
        """A name that a spreadsheet would compute is kept from it by an apostrophe."""
        assert rows(named(name, "web", "bridge"))[0]["source"] == f"'{name}"

    @settings(max_examples=50)
    @given(names, names, names)
    def test_names_survive(self, source: str, destination: str, network_name: str) -> None:
        """Commas, quotes and newlines in names come back as they were."""
        row = rows(named(source, destination, network_name))[0]
        for cell, name in zip(
            (row["source"], row["destination"], row["network"]), (source, destination, network_name), strict=True
        ):
            assert cell.removeprefix("'") == encodable(name).removeprefix("'")


_STRING = r'"((?:[^"\\]|\\.)*)"'
_EDGE = re.compile(rf"  {_STRING} -> {_STRING} \[label={_STRING}(, style=dashed)?\];")
_NODE = re.compile(rf"  {_STRING} \[label={_STRING}(, shape=box)?\];")


def unquoted(text: str) -> str:
    """Return what Graphviz shows of a label."""
    return re.sub(r"\\(.)", r"\1", text)


class TestDot:
    def test_edges_are_the_pairs(self) -> None:
        """Each pair is one edge that names all of its mechanisms; undecided ones are dashed."""
        town = small_town()
        edges = _EDGE.findall(RENDERERS["dot"](town))
        assert len(edges) == town.totals.reachable_pairs
        assert ("id-monitor", "id-web", "host, published_port", "") in edges
        assert ("id-web", "id-batch", "plugin", ", style=dashed") in edges

    def test_nodes_are_all_containers(self) -> None:
        """Containers without an edge are in the graph too, those in the host's namespace as boxes."""
        nodes = _NODE.findall(RENDERERS["dot"](small_town()))
        assert [name for _, name, _ in nodes] == [each.name for each in small_town().containers]
        assert [name for _, name, box in nodes if box] == ["monitor"]

    @settings(max_examples=50)
    @given(names, names)
    def test_names_survive(self, source: str, destination: str) -> None:
        """Names are shown as they are, hidden characters spelled out, and every line stays a statement."""
        text = RENDERERS["dot"](named(source, destination, 'a"\\'))
        lines = text.removesuffix("\n").split("\n")
        nodes = [_NODE.fullmatch(line) for line in lines[4:6]]
        assert [unquoted(node[2]) for node in nodes if node] == [
            visible(name) for name in sorted((source, destination))
        ]
        assert _EDGE.fullmatch(lines[6])
        assert lines[7:] == ["}"]


class TestTable:
    def test_a_row_says_who_reaches_whom_and_how(self) -> None:
        """The protocols of one way share a line."""
        lines = RENDERERS["table"](small_town()).splitlines()
        (row,) = (line.split("  ") for line in lines if re.match(r"api +web ", line))
        cells = [cell.strip() for cell in row if cell]
        assert cells == ["api", "web", "reachable", "bridge", "frontend", "172.18.0.2", "tcp any; udp any; icmp"]

    def test_undecided_paths_say_why(self) -> None:
        """The reason stands behind what may be open."""
        verdict = unknown_verdict("nobody knows")
        text = RENDERERS["table"](report(verdicts={("db", "web"): verdict}))
        assert "tcp any (nobody knows)" in text
        assert "2 containers; 1 of 2 pairs reachable, 1 of them undecided." in text

    def test_a_reachable_pair_stays_reachable_on_its_undecided_paths(self) -> None:
        """The verdict is the pair's, also in the line of a path that is not certain."""
        verdict = PairVerdict(
            (path(ports=PortSet.of(80)), path(Via.PUBLISHED_PORT, ports=PortSet.of(90), undecided="?"))
        )
        lines = RENDERERS["table"](report(verdicts={("db", "web"): verdict})).splitlines()
        assert sum(Verdict.REACHABLE in line.split() for line in lines) == 2

    def test_what_only_the_promise_rests_on_is_told_apart(self) -> None:
        """Where the kernel is read, nobody shall think that verdicts take its rules for granted."""
        told = replace(report(assumptions=("one",)), declared_assumptions=("another",))
        assert re.findall("^(Assumed|Declared if) +(.*)$", RENDERERS["table"](told), re.MULTILINE) == [
            ("Assumed", "one"),
            ("Declared if", "another"),
        ]
        assert as_json(told)["assumptions"] == ["one", "another"]
        assert as_json(told)["declared_assumptions"] == ["another"]

    def test_drift_has_a_table_of_its_own(self) -> None:
        """Each pair that is not as configured is a row, and the last line counts them."""
        text = RENDERERS["table"](drifting())
        blocks = text.split("\n\n")
        cells = [re.split("  +", line) for line in blocks[3].splitlines()]
        assert cells == [
            ["DRIFT: SOURCE", "DESTINATION", "CONFIGURED", "ENFORCED", "OPEN BY"],
            ["db", "web", "blocked", "reachable", "bridge on tenants"],
            ["web", "db", "reachable", "blocked", "bridge on tenants"],
        ]
        assert text.endswith("against the configuration 1 open and 1 closed.\n")

    def test_causes_of_drift_are_a_column(self) -> None:
        """Where it is known what decides, each pair is told with it; of pairs beyond the first ones it is not."""
        lines = render(drifting(), {("db", "web"): "rule 1"}).split("\n\n")[3].splitlines()
        assert [re.split("  +", line)[-1] for line in lines] == ["DECIDED BY", "rule 1", "-"]

    def test_agreement_is_said_too(self) -> None:
        """Where kernel and configuration agree, the last line says so; without the kernel it says nothing of it."""
        verdicts = {("db", "web"): open_verdict()}
        text = RENDERERS["table"](report(verdicts=verdicts, declared=verdicts))
        assert text.endswith("the kernel does what the configuration says.\n")
        assert "configur" not in RENDERERS["table"](report(verdicts=verdicts)).splitlines()[-1]

    def test_evidence_and_what_is_missing_of_it_are_told(self) -> None:
        """The sources that were read stand in one line, each that was not in one with its reason."""
        lines = RENDERERS["table"](drifting()).splitlines()
        assert "Evidence  api, firewall, bridge, routes" in lines
        assert "Not read  sandboxes: not permitted to enter <them>" in lines

    def test_what_a_restart_would_change_is_told(self) -> None:
        """Each reason is a line, and so is that nothing changes, or why that is not known."""
        would = replace(report(), pending_restart=PendingRestart(True, ("one", "two")), bridge_netfilter={"ipv4": True})
        lines = [line.split(maxsplit=1) for line in RENDERERS["table"](would).splitlines()]
        assert ["At", "restart    one"] in lines
        assert ["At", "restart    two"] in lines
        assert ["br_netfilter", "ipv4 on"] in lines
        same = RENDERERS["table"](replace(report(), pending_restart=PendingRestart(icc=False)))
        assert "At restart  nothing changes\n" in same
        unknown = replace(report(), configuration_missing="why")
        assert "Not read  configuration: why\n" in RENDERERS["table"](unknown)
        assert (as_json(unknown)["missing"], as_json(unknown)["pending_restart"]) == ({"configuration": "why"}, None)
        assert as_json(would)["pending_restart"] == {"icc": True, "reasons": ["one", "two"], "starts": True}

    def test_icc_in_effect_stands_beside_the_configured(self) -> None:
        """A network that should be closed and is open shows both."""
        line = next(line for line in RENDERERS["table"](drifting()).splitlines() if line.startswith("tenants"))
        assert line.split()[:4] == ["tenants", "bridge", "off", "on"]

    def test_nothing_reachable_is_said_in_words(self) -> None:
        """A host on which nobody reaches anybody has no empty table."""
        assert "No container reaches another." in RENDERERS["table"](report(verdicts={}))

    @settings(max_examples=50)
    @given(names, names)
    def test_columns_stay_aligned(self, source: str, destination: str) -> None:
        """Wide, combining and hidden characters move no column and break no line."""
        text = RENDERERS["table"](named(source, destination, "net"))
        titles, row = text.split("\n\n")[2].split("\n")
        title, cell = titles.index("VERDICT"), "reachable  bridge  net "
        assert [columns(row[:at]) for at in range(len(row)) if row.startswith(cell, at)][-1:] == [title]


@settings(max_examples=30)
@given(names, names, names)
def test_drift_survives_any_name(source: str, destination: str, network_name: str) -> None:
    """Hostile names neither break a line of the table nor change the document."""
    if source == destination:
        return
    of = drifting(source, destination, network_name)
    document = as_json(of)
    assert {(each["source"], each["destination"]) for each in document["drift"]} == {
        (source, destination),
        (destination, source),
    }
    blocks = RENDERERS["table"](of).split("\n\n")
    assert len(blocks) == 5
    assert len(blocks[3].split("\n")) == 3


@pytest.mark.parametrize("form", RENDERERS)
def test_every_format_ends_its_last_line(form: str) -> None:
    """Each text is whole lines, empty report or not."""
    for each in (report([], {}, networks=[]), small_town()):
        assert RENDERERS[form](each).endswith("\n")


def test_shared_verdicts_are_rendered_once() -> None:
    """Equal work is done once for each verdict object, and never mixed up between two."""
    calls: list[PairVerdict] = []

    def render(verdict: PairVerdict) -> int:
        calls.append(verdict)
        return id(verdict)

    memo = PerVerdict(render)
    verdicts = [open_verdict() for _ in range(5000)]
    assert [memo(verdict) for verdict in verdicts for _ in range(2)] == [
        id(verdict) for verdict in verdicts for _ in range(2)
    ]
    assert len(calls) == len(verdicts)
