"""`check` on recorded hosts: what it prints in each format, and its exit codes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest

from exporter.cli import checks
from exporter.evaluate import evaluate
from exporter.model.policy import Effect, Policy, Rule, Selector, Standards
from exporter.parse import parse
from tests.cli.program import DATA, HOST, failure, run
from tests.hosts import host
from tests.kernels import kernel

if TYPE_CHECKING:
    from collections.abc import Sequence

TENANTS = DATA / "tenants-host.json"
"""Two compose projects on a real engine 28.5; each publishes a port."""

PAGE = Path(__file__).parents[2] / "docs" / "policy.md"


def blocks(language: str) -> Sequence[str]:
    """Return the blocks of docs/policy.md that are written in a language."""
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(), re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the working directory, with the policy of the documentation in it."""
    (example,) = blocks("yaml")
    (tmp_path / "policy.yaml").write_text(example)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("folder")
def test_the_documented_example_is_what_comes_out() -> None:
    """The policy of the page, checked on the recorded host, prints what the page shows."""
    (shown,) = blocks("console")
    command, _, expected = shown.partition("\n")
    assert command.startswith("$ docker-icc-exporter check ")
    done = run(*command.split()[2:], "--snapshot", TENANTS)
    assert (done.returncode, done.stdout, done.stderr) == (1, expected, "")


def test_the_documented_mistake_is_what_is_said(folder: Path) -> None:
    """A wrong policy ends with exit code 2 and the line of the page."""
    text = "rules:\n  - name: a\n    why: b\n    deny:\n      from: any\n      to:\n        tennant: b\n"
    (folder / "policy.yaml").write_text(text)
    complaint = failure("check", "--policy.file=policy.yaml", "--snapshot", TENANTS)
    assert complaint == "error: policy.yaml:7: unknown key tennant in to (did you mean tenant?)\n"
    assert complaint in PAGE.read_text()


def test_without_a_policy_tenants_are_to_be_apart() -> None:
    """The built-in rule finds the pairs that the gauge counts, each with why it is open."""
    done = run("check", "--snapshot", TENANTS)
    lines = done.stdout.splitlines()
    assert (done.returncode, done.stderr, lines[0]) == (1, "", "- tenants-apart: violated by 4 of 8 pairs")
    assert "    bank-app-1 (bank) -> shop-web-1 (shop): reachable" in lines
    assert "        - bank-app-1 and shop-web-1 share no network" in lines
    assert lines[-1] == "built-in policy: 1 of 1 rule violated, 4 violations"


def test_a_policy_that_holds_ends_with_0(folder: Path) -> None:
    """Nothing on standard error, a line for the rule, and exit code 0."""
    (folder / "policy.yaml").write_text(
        "rules: [{name: r, why: w, deny: {from: {name: bank-*}, to: {name: shop-db-1}, protocol: [tcp, udp, icmp]}}]\n"
    )
    done = run("check", "--policy.file=policy.yaml", "--snapshot", TENANTS)
    assert (done.returncode, done.stdout, done.stderr) == (
        0,
        "+ r: holds for 2 pairs\npolicy.yaml: no violation\n",
        "",
    )


def test_a_rule_about_nobody_is_told(folder: Path) -> None:
    """A name that no container has is no success without a word."""
    (folder / "policy.yaml").write_text(
        "rules: [{name: typo, why: w, deny: {from: {name: bnak-*}, to: any}},"
        " {name: lonely, why: w, deny: {from: {name: bank-app-1}, to: {name: bank-app-1}}}]\n"
    )
    done = run("check", "--policy.file=policy.yaml", "--snapshot", TENANTS)
    assert (done.returncode, done.stdout.splitlines()[:2]) == (
        0,
        [
            "? typo: no running container fits from, so the rule is about no pair",
            "? lonely: no two running containers fit, so the rule is about no pair",
        ],
    )
    junit = run("check", "--policy.file=policy.yaml", "--format=junit", "--snapshot", TENANTS).stdout
    skipped = [case.find("skipped") for case in ET.fromstring(junit).iter("testcase")]
    assert [each.get("message") for each in skipped if each is not None] == [
        "no running container fits from",
        "no two running containers fit",
    ]


@pytest.mark.usefixtures("folder")
def test_json_counts_all_and_lists_as_many_as_asked_for() -> None:
    """The document holds each rule with its numbers, violations with paths and reasons, and what is left out."""
    command = ("check", "--policy.file=policy.yaml", "--format=json", "--limit=1", "--snapshot", str(TENANTS))
    done = run(*command)
    document = json.loads(done.stdout)
    assert done.returncode == 1
    assert (document["schema"], document["policy"], document["engine"]) == (1, "policy.yaml", "two-tenants")
    assert (document["violations"], document["warnings"]) == (3, [])
    allowing, apart, databases = document["rules"]
    assert (allowing["effect"], allowing["pairs"], allowing["violations"]) == ("allow", 3, None)
    assert (apart["violations"], apart["left_out"], databases["violations"], databases["left_out"]) == (2, 1, 1, 0)
    (pair,) = databases["violating"]
    assert (pair["source"], pair["source_tenant"], pair["destination"]) == ("shop-db-1", "shop", "bank-db-1")
    assert [(path["via"], path["ports"]) for path in pair["paths"]] == [("published_port", "15432")]
    assert {"text": "shop-db-1 and bank-db-1 share no network", "opens": False} in pair["findings"]


@pytest.mark.usefixtures("folder")
def test_text_says_what_is_left_out() -> None:
    """With a limit the rest is counted."""
    done = run("check", "--policy.file=policy.yaml", "--limit=1", "--snapshot", TENANTS)
    assert "    and 1 more (--limit)" in done.stdout.splitlines()


@pytest.mark.usefixtures("folder")
def test_junit_has_a_case_for_each_rule_that_denies() -> None:
    """An XML parser reads it; failures hold the explanation, counts are right, and the exit code is that of text."""
    done = run("check", "--policy.file=policy.yaml", "--format=junit", "--snapshot", TENANTS)
    root = ET.fromstring(done.stdout)
    (suite,) = root
    assert (done.returncode, root.tag, suite.tag, suite.get("name")) == (1, "testsuites", "testsuite", "policy.yaml")
    assert [suite.get(key) for key in ("tests", "failures", "errors", "skipped")] == ["2", "2", "0", "0"]
    assert [case.get("name") for case in suite.iter("testcase")] == ["tenants-apart", "databases-for-their-app"]
    failures = list(suite.iter("failure"))
    assert failures[0].get("message") == "2 pairs of 8: customers must not see each other"
    assert "shop-db-1 and bank-db-1 share no network" in (failures[1].text or "")


JUNIT = {
    "testsuites": ({"testsuite"}, {"name", "time", "tests", "failures", "errors"}),
    "testsuite": (
        {"testcase", "properties", "system-out", "system-err"},
        {"name", "tests", "failures", "errors", "time", "skipped", "timestamp", "hostname", "id", "package", "file"},
    ),
    "testcase": (
        {"skipped", "error", "failure", "system-out", "system-err"},
        {"name", "time", "classname", "group"},
    ),
    "failure": (set(), {"type", "message"}),
    "skipped": (set(), {"type", "message"}),
    "system-err": (set(), set()),
}
"""What may be in which element, and with which attributes, by the schema of Jenkins' xUnit plugin (junit-10.xsd)."""


def test_junit_keeps_to_the_schema(folder: Path) -> None:
    """Programs that validate what they read take it: with failures, rules about nobody, and warnings."""
    (folder / "policy.yaml").write_text(
        "rules: [{name: typo, why: w, deny: {from: {name: bnak-*}, to: any}},"
        " {name: apart, why: w, deny: {from: any, to: {tenant: other}}}]\n"
    )
    document = json.loads(TENANTS.read_text())
    del document["api"]["containers"][0]["Labels"]["com.docker.compose.project"]
    (folder / "host.json").write_text(json.dumps(document))
    done = run("check", "--policy.file=policy.yaml", "--format=junit", "--snapshot=host.json")
    elements = list(ET.fromstring(done.stdout).iter())
    for element in elements:
        children, attributes = JUNIT[element.tag]
        assert {child.tag for child in element} <= children, element.tag
        assert set(element.keys()) <= attributes, element.tag
    assert {element.tag for element in elements} == JUNIT.keys()


def test_names_of_any_kind_make_sound_xml() -> None:
    """What somebody writes into labels and names breaks neither XML nor a terminal."""
    odd = "<&\"'>\x00\x1b[2J\ud800\uffff\u202e\n]]>"
    built = host("28.5").container("a", labels={"tenant": odd}).container("b", labels={"tenant": "b"})
    rule = Rule("r", odd, Effect.DENY, Selector(), Selector(tenants=("b",)))
    snapshot = parse(built.observation())
    report = evaluate(snapshot, Standards("tenant", Policy((rule,))))
    document = checks.RENDERERS["junit"](checks.check(snapshot, report, Path("p\x01.yaml"), 20))
    (failing,) = ET.fromstring(document.encode()).iter("failure")
    assert "(<&\"'>\\x00\\x1b[2J" in (failing.text or "")
    assert json.loads(checks.RENDERERS["json"](checks.check(snapshot, report, None, 20)))["violations"] == 1


def test_a_violation_comes_with_the_rule_that_lets_it_through() -> None:
    """Where the kernel was read the packet is followed, and what would close it is told."""
    built = kernel(
        host("28.5", icc=False).container("a", labels={"tenant": "a"}).container("b", labels={"tenant": "b"})
    )
    doors = ("-A FORWARD -p tcp --dport 22 -j ACCEPT", "-A FORWARD -p tcp --sport 22 -j ACCEPT", "-A FORWARD -j DROP")
    snapshot = built.rules(*doors).look().snapshot
    held_to = checks.demanded(Standards("tenant"))
    checked = checks.check(snapshot, evaluate(snapshot, held_to), None, 20)
    lines = [line.text.strip() for line in checks.text(checked)]
    assert any(line.startswith("packet to 172.17.0.3:22/tcp: arrives in b") for line in lines), lines
    assert any(line.startswith("decided by host: ip filter FORWARD rule 1 ") for line in lines)


def test_a_snapshot_without_the_label_is_refused() -> None:
    """A container whose label was not kept must not look like one without a tenant."""
    assert failure("check", "--snapshot", HOST) == (
        "error: what was seen does not tell of label com.docker.compose.project, which the policy asks for: snapshots "
        "keep the labels that --tenant.label and --policy.file named when they were made\n"
    )


def test_a_snapshot_without_a_label_of_the_policy_is_refused(folder: Path) -> None:
    """Each label that the rules select by must have been kept."""
    (folder / "policy.yaml").write_text(
        "rules: [{name: r, why: w, deny: {from: {label: {stage: x}}, to: {label: {zone: x}}}}]\n"
    )
    complaint = failure("check", "--policy.file=policy.yaml", "--snapshot", TENANTS)
    assert complaint.startswith("error: what was seen does not tell of label stage and zone, which the policy asks for")


def test_no_tenants_at_all_are_an_error_and_no_success(tmp_path: Path) -> None:
    """A label that no container has would otherwise look like tenants that are apart."""
    document = json.loads(TENANTS.read_text())
    for container in document["api"]["containers"]:
        container["Labels"] = {}
    file = tmp_path / "host.json"
    file.write_text(json.dumps(document))
    assert failure("check", "--snapshot", file) == (
        "error: no running container has the label com.docker.compose.project, so no tenants can be told apart: name "
        "another one by --tenant.label, or write a policy\n"
    )
    document["api"]["containers"] = document["api"]["containers"][:1]
    file.write_text(json.dumps(document))
    assert run("check", "--snapshot", file).returncode == 0


def test_containers_without_a_tenant_are_told(tmp_path: Path) -> None:
    """Each of them counts as a tenant of its own, which people should know."""
    document = json.loads(TENANTS.read_text())
    document["api"]["containers"][0]["Labels"] = {}
    file = tmp_path / "host.json"
    file.write_text(json.dumps(document))
    lines = run("check", "--snapshot", file).stdout.splitlines()
    assert lines[-2] == (
        "? 1 container without the label com.docker.compose.project: each counts as a tenant of its own"
    )
    assert any("(no tenant)" in line for line in lines)


def test_a_trusted_tenant_of_whom_nothing_runs_is_told(folder: Path) -> None:
    """He may be misspelt. A policy file trusts nobody by that option, and says nothing of it."""
    lines = run("check", "--tenant.trusted=banc", "--snapshot", TENANTS).stdout.splitlines()
    assert lines[-2] == "? no container runs of banc, whom --tenant.trusted names"
    (folder / "policy.yaml").write_text("rules: [{name: a, why: w, deny: {from: any, to: {tenant: other}}}]")
    done = run("check", "--policy.file=policy.yaml", "--tenant.trusted=banc", "--snapshot", TENANTS)
    assert "banc" not in done.stdout


def test_a_snapshot_tells_which_labels_it_keeps(tmp_path: Path) -> None:
    """A file that is replayed by another label keeps what it has, and nothing comes in that was not kept."""
    document = json.loads(TENANTS.read_text())
    document["api"]["containers"][0]["Labels"]["password"] = "hunter2"
    file = tmp_path / "host.json"
    file.write_text(json.dumps(document))
    saved = run("snapshot", "--snapshot", file).stdout
    assert json.loads(saved)["labels"] == ["com.docker.compose.project", "role"]
    assert "hunter2" not in saved


def test_a_broken_policy_ends_every_command_that_reads_it(folder: Path) -> None:
    """Exit code 2 and the line of the mistake; `serve` does not begin to serve."""
    (folder / "policy.yaml").write_text("rules: []\n")
    for command in ("serve", "report", "check", "snapshot"):
        complaint = failure(command, "--policy.file=policy.yaml", "--snapshot", TENANTS)
        assert complaint == "error: policy.yaml:1: rules must not be empty\n"
