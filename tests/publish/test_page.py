"""The page for people."""

from __future__ import annotations

import re
from base64 import b64encode
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from html.parser import HTMLParser
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings

from exporter import evaluate
from exporter.model.firewall import Backend, Base, Chain, Hook, Rule, Table, TableFamily, Terminate, Verdict
from exporter.model.probe import ProbeResult
from exporter.model.reach import PairVerdict, Reach
from exporter.model.report import Evidence, PendingRestart, PolicyResult
from exporter.model.whatif import Count, Fate, Foretelling, ForetoldPair, Proposal
from exporter.publish.formats.hops import hop_text
from exporter.publish.page import (
    FORETOLD_LIMIT,
    MATRIX_LIMIT,
    MISSING_LIMIT,
    NETWORK_LIMIT,
    Answers,
    Page,
    duration,
    matrix,
    shares,
)
from exporter.publish.state import ProbeStats, Published, Reading
from exporter.publish.text import visible
from tests.builders import (
    KERNEL,
    TAKEN_AT,
    container,
    counted,
    crowd,
    down,
    drifting,
    engine,
    governed,
    network,
    open_verdict,
    probed,
    published,
    report,
    small_town,
    stats,
    unknown_verdict,
)
from tests.hosts import host
from tests.kernels import kernel
from tests.publish.server import demo
from tests.publish.strategies import names

if TYPE_CHECKING:
    from collections.abc import Mapping

    from exporter.model.explanation import Explanation
    from tests.looks import Look

PAGE = Page("/metrics")
NOW = TAKEN_AT.timestamp() + 75


def shown(
    state: Published,
    asked: Mapping[str, str] | None = None,
    answer: Explanation | None = None,
    complaint: str = "",
    foretelling: Foretelling | None = None,
    objection: str = "",
) -> Reader:
    """Return the page, read."""
    html = PAGE.render(state, NOW, asked or {}, Answers(answer, complaint, foretelling, objection))
    # what goes over the wire
    html.encode("utf-8")
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert not reader.open, f"elements left open: {reader.open}"
    return reader


class Reader(HTMLParser):
    """Collects the elements, their attributes and texts; checks that they nest."""

    VOID = frozenset({"meta", "link", "input", "option", "rect", "path"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[tuple[str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip() and self.open:
            self.texts.append((self.open[-1], data))

    @property
    def text(self) -> str:
        """All text that is shown, blanks joined."""
        return " ".join(" ".join(data for tag, data in self.texts if tag != "style").split())

    def attributes(self, tag: str, name: str) -> list[str]:
        """Return the values of an attribute of all elements of a kind."""
        return [attributes[name] for each, attributes in self.elements if each == tag and name in attributes]

    def classes(self, tag: str) -> list[str]:
        """Return the classes of all elements of a kind."""
        return self.attributes(tag, "class")


def test_a_person_sees_the_state_of_the_engine() -> None:
    """The engine, whether it is up and since when, and the age of the verdicts are there."""
    text = shown(published(small_town())).text
    assert "docker-host" in text
    assert "Engine 28.5.1 · API 1.51 · iptables" in text
    assert "Up since 2026-01-01 00:00:00 UTC last good poll 1 min 15 s ago, every 15 s" in text


@pytest.mark.parametrize(("icc", "word"), [(True, "On"), (False, "Off"), (None, "Unknown")])
def test_icc_is_told_in_a_word(icc: bool | None, word: str) -> None:
    """On, off and unknown are different words, not colours only."""
    assert ("p", word) in shown(published(report(icc_enabled=icc))).texts


def test_totals_and_blast_radius_are_there() -> None:
    """The numbers are those of the report."""
    text = shown(published(small_town())).text
    assert "18 of 42 ordered pairs · 43% · 3 undecided" in text
    assert "Containers 7 Isolated containers 1 Farthest reach of one 4 Largest connected group 6" in text
    assert "shared namespace 2 bridge 6 link 2 plugin driver 3 host network 4 published port 1" in text


def test_the_shares_fill_the_bar() -> None:
    """The parts of the bar lie side by side and fill it."""
    parts = shares(small_town())
    assert parts[0].start == 0
    assert all(one.start + one.width == pytest.approx(two.start) for one, two in pairwise(parts))
    assert parts[-1].start + parts[-1].width == pytest.approx(100)


def test_the_matrix_shows_every_verdict() -> None:
    """A cell is the pair's verdict as a class and as a symbol, and its title says how."""
    town = small_town()
    grid = matrix(town)
    cells = {
        (grid.peers[row].name, grid.peers[column].name): cell
        for row, line in enumerate(grid.rows)
        for column, cell in enumerate(line)
    }
    assert len(cells) == 49
    for source in town.containers:
        for destination in town.containers:
            if source is not destination:
                assert cells[source.name, destination.name].kind == town.pair(source, destination).verdict
    assert [cells["web", name].symbol for name in ("api", "batch", "db", "vault", "web")] == ["B", "?", "L", "·", ""]
    assert cells["monitor", "web"].title == (
        "reachable by host network on frontend, tcp any; udp any; icmp and by published port on bridge, tcp 80,443"
    )
    assert cells["web", "batch"].title == "unknown: the driver is a plugin"


def test_the_key_explains_the_symbols_that_occur() -> None:
    """Every symbol of the matrix is in the key, and no other."""
    grid = matrix(report(verdicts={("db", "web"): unknown_verdict()}))
    assert grid.key == (("unknown", "?", "undecided"), ("blocked", "·", "blocked"))


def test_heads_of_rows_and_columns_are_marked() -> None:
    """Readers of the screen are told which heads belong to rows and which to columns."""
    reader = shown(published(small_town()))
    scopes = reader.attributes("th", "scope")
    assert scopes.count("row") == 7 + 6
    assert scopes.count("col") == 7 + 6


def test_a_large_matrix_is_cut_and_says_so() -> None:
    """Beyond the limit the page says how many containers are missing and where they are."""
    reader = shown(published(crowd(MATRIX_LIMIT + 3)))
    assert reader.classes("td").count("itself") == MATRIX_LIMIT
    assert (
        "The first 60 containers by name; 3 more are left out here. All of them are in the JSON report ." in reader.text
    )
    assert "left out" not in shown(published(crowd(MATRIX_LIMIT))).text


def test_a_long_list_of_networks_is_cut_and_says_so() -> None:
    """Of very many networks those with the most containers are shown."""
    networks = [network(f"net-{number}", containers=number) for number in range(NETWORK_LIMIT + 1)]
    text = shown(published(report(networks=networks))).text
    assert "The 200 networks with the most containers; 1 more are in the JSON report ." in text
    assert "net-200 bridge" in text
    assert "net-0 bridge" not in text


def test_networks_are_listed_with_their_icc() -> None:
    """On, off and without the notion are told apart in the table of networks."""
    text = shown(published(small_town())).text
    assert "backend bridge on yes 2 4" in text
    assert "bridge bridge off — 1 1" in text
    assert "weave weaveworks/net-plugin:2.8.1 — — 1 0" in text


def test_what_the_verdicts_rest_on_is_told() -> None:
    """Evidence and assumptions are part of the answer."""
    text = shown(published(small_town())).text
    assert "api read" in text
    assert "firewall not read" in text
    assert "Verdicts are declared" in text
    assert "Assumed, because nothing that was read tells: docker-proxy runs, as is the engine's default" in text
    read = shown(published(replace(report(evidence=KERNEL), declared_assumptions=("the <engine> writes rules",)))).text
    assert "Verdicts follow what the kernel enforces." in read
    assert (
        "What the configuration promises, which verdicts are compared with, is so if the <engine> writes rules" in read
    )
    assert "Assumed" not in read
    assert "Verdicts are declared" in shown(published(report(evidence=Evidence(firewall=True)))).text


def test_what_could_not_be_read_is_told_with_its_reason() -> None:
    """The page says which evidence is missing and why, and which rules nobody can foresee."""
    text = shown(published(drifting())).text
    assert "sandboxes not read : not permitted to enter <them>" in text
    assert "Rules of the firewall that nobody can foresee: limit (2), meta time (1)." in text
    assert "nobody can foresee" not in shown(published(small_town())).text


def test_what_could_not_be_read_beside_whole_sources_is_told() -> None:
    """Single containers are told by name, the first of many; the rest is counted."""
    one = report(missing={"sandboxes/web": "too many <rules>", "ipsets": "not installed", "sandboxes/gone": "ended"})
    web = next(each.id for each in one.containers if each.name == "web")
    text = shown(published(replace(one, missing={**one.missing, f"sandboxes/{web}": "too many <rules>"}))).text
    for told in ("sandbox of web not read : too many <rules>", "ipsets not read : not installed",
                 "sandboxes/gone not read : ended"):  # fmt: skip
        assert told in text
    assert "more that could not be read" not in text
    many = report(missing={f"sandboxes/{number}": "ended" for number in range(MISSING_LIMIT + 7)})
    assert "7 more that could not be read are in the JSON report ." in shown(published(many)).text


def test_what_a_restart_would_change_is_told() -> None:
    """The page says so beside ICC, and why; or that nothing would change, or why that is not known."""
    would = replace(report(), pending_restart=PendingRestart(True, ("icc would be false (<file>)",)))
    text = shown(published(would)).text
    assert "A restart of the daemon would change this." in text
    assert "icc would be false (<file>)" in text
    same = shown(published(replace(report(), pending_restart=PendingRestart(icc=False)))).text
    assert "A restart of the daemon would change this." not in same
    assert "Its configuration changes nothing." in same
    unknown = shown(published(replace(report(), configuration_missing="no <dockerd> is visible"))).text
    assert "next start would change is not known: no <dockerd> is visible" in unknown
    assert "next start" not in shown(published(report())).text


def test_br_netfilter_is_told() -> None:
    """Whether frames of one bridge pass the firewall is on the page, as far as it is known."""
    text = shown(published(replace(report(), bridge_netfilter={"ipv4": True, "ipv6": False}))).text
    assert "pass the firewall: IPv4 on , IPv6 off (br_netfilter)." in text
    assert "br_netfilter" not in shown(published(report())).text


def test_drift_is_marked_and_listed() -> None:
    """Pairs that are not as configured are marked in the matrix, named in its key, and listed with a link."""
    reader = shown(published(drifting()))
    assert [kind for kind in reader.classes("td") if kind.endswith("drifts")] == ["reachable drifts", "blocked drifts"]
    assert "not as configured" in reader.text
    assert "1 open against it, 1 closed against it." in reader.text
    assert "db web blocked reachable bridge on tenants Why?" in reader.text
    assert "web db reachable blocked bridge on tenants Why?" in reader.text
    assert any(title.endswith("; blocked by the configuration") for title in reader.attributes("a", "title"))


def test_what_decides_about_drift_is_told() -> None:
    """Each pair that is not as configured has the words of the table of `report`."""
    of = kernel(host("28.5").container("web").container("db")).engine_rules()
    seen = of.rules("-A DOCKER-USER -i docker0 -j DROP").look()
    start = Published.not_polled(TAKEN_AT)
    reader = shown(start.succeeded(TAKEN_AT, seen.observation, seen.snapshot, seen.report, stats()))
    rule = evaluate.causes(seen.snapshot, seen.report)["db", "web"]
    assert "DOCKER-USER rule 1 `-i docker0 (network bridge) -j DROP`: drop" in rule
    assert f"db web reachable blocked bridge on bridge {rule} Why?" in reader.text


def test_without_drift_nothing_is_said_of_it() -> None:
    """A host that is as configured has no empty list."""
    reader = shown(published(small_town()))
    assert "as configured" not in reader.text
    assert not any("drifts" in kind for kind in reader.classes("td"))


def test_a_long_list_of_drift_is_cut_and_says_so() -> None:
    """Beyond the limit the page says where all of it is."""
    of = counted(replace(crowd(20), declared=Reach(crowd(20).reach.class_of, ({},), {})))
    text = shown(published(of)).text
    assert "380 pairs" in text
    assert "The first 100 by name; all of them are in the JSON report ." in text


def test_the_policy_and_its_violations_are_shown() -> None:
    """Each rule with its numbers, one that is about nobody marked, and each violation with a link."""
    reader = shown(published(governed()))
    assert "exception allow they must not meet none —" in reader.text
    assert "apart deny they must not meet 2 1" in reader.text
    assert "typo deny they must not meet none 0" in reader.text
    assert "apart db web reachable bridge, tcp any; udp any; icmp Why?" in reader.text
    assert "./?source=db&destination=web#why" in reader.attributes("a", "href")
    assert "Policy" not in shown(published(small_town())).text


def test_a_policy_file_with_mistakes_is_told() -> None:
    """What is shown is then the policy before, and from when that is."""
    state = published(governed())
    assert "has mistakes" not in shown(state).text
    broken = replace(state, stats=replace(stats(), policy=Reading(succeeded=False, last_success=TAKEN_AT)))
    assert "The one of 2026-01-01 00:00:00 UTC is in force." in shown(broken).text


def test_a_policy_that_cannot_be_judged_says_so() -> None:
    """Labels that were not kept are named in the place of numbers."""
    untold = replace(governed(), policy=PolicyResult(untold=("role", "zone")))
    assert "Nothing can be said: what was seen does not tell of label role and zone" in shown(published(untold)).text


def test_a_long_list_of_violations_is_cut_and_says_so() -> None:
    """Beyond the limit the page says how many there are, and where to find them."""
    few = governed()
    assert few.policy is not None
    results = tuple(replace(each, violations=4321 if each.violations else 0) for each in few.policy.results)
    many = replace(few, policy=replace(few.policy, results=results, violations=few.policy.violations * 200))
    assert "The first 100 of 4,321 violations; more are in the JSON report ." in shown(published(many)).text


def test_tenants_are_shown() -> None:
    """The most exposed first, with the pairs that lead into their containers."""
    text = shown(published(governed())).text
    assert "2 tenants by label com.docker.compose.project; 1 pair leads from one to another." in text
    assert "bank 1 1 shop 1 0" in text
    found = governed()
    assert found.tenancy
    misspelt = replace(found, tenancy=replace(found.tenancy, absent=("banc",)))
    assert "to another. No container runs of banc, whom --tenant.trusted names." in shown(published(misspelt)).text
    assert "Tenants" not in shown(published(small_town())).text


def test_icc_in_effect_stands_beside_the_configured() -> None:
    """With the kernel's evidence the table of networks has both, without it only the configured one."""
    assert "tenants bridge off on — 2 2" in shown(published(drifting())).text
    assert "in effect" not in shown(published(small_town())).text


def test_an_engine_that_is_down_shows_its_error_and_no_verdicts() -> None:
    """Down is said loudly, with the reason, and nothing of the last report is left."""
    reader = shown(down("connection refused"))
    assert "Down" in reader.text
    assert "connection refused" in reader.text
    assert "The last good poll ended 2026-01-01 00:00:00 UTC" in reader.text
    assert not {"table", "form", "svg"} & {tag for tag, _ in reader.elements}


def test_the_page_before_the_first_poll() -> None:
    """Before the first poll the page says that there was none."""
    assert "the engine has not been polled yet" in shown(Published.not_polled(TAKEN_AT)).text


def test_an_engine_without_containers() -> None:
    """Nothing running needs neither matrix nor form."""
    reader = shown(published(report([], {}, networks=[])))
    assert "0 containers running: a pair needs two." in reader.text
    assert "form" not in {tag for tag, _ in reader.elements}


def test_an_explanation_is_shown_where_it_was_asked_for() -> None:
    """The answer stands under the form, which keeps the question."""
    state = demo()
    assert state.snapshot
    assert state.report
    answer = evaluate.explain(state.snapshot, state.report, "web", "client")
    reader = shown(state, {"source": "web", "destination": "client", "protocol": "tcp"}, answer)
    assert "web → client reachable" in reader.text
    assert {"web", "client"} <= set(reader.attributes("input", "value"))
    assert ("option", {"value": "tcp", "selected": ""}) in reader.elements


def test_a_wrong_question_is_told_so() -> None:
    """A complaint stands in the page, escaped."""
    reader = shown(published(), {"source": "<b>"}, complaint="no running container is called '<b>'")
    assert "no running container is called '<b>'" in reader.text


def test_what_a_change_would_bring_is_shown_where_it_was_asked_for() -> None:
    """The pairs that it concerns stand under the form, which keeps the question, with their fates and reasons."""
    state = demo()
    assert state.snapshot
    assert state.report
    told = evaluate.whatif(state.snapshot, state.report, Proposal(icc=False))
    reader = shown(state, {"icc": "false"}, foretelling=told)
    before, after = told.before.reachable_pairs, told.after.reachable_pairs
    assert f"With {told.action} : {after} reachable pairs instead of {before}" in reader.text
    closing = next(pair for pair in told.pairs if pair.fate is Fate.CLOSES)
    assert f"{closing.source} {closing.destination} closes {closing.reason}" in reader.text
    assert f"Assumed: {' '.join(told.assumptions)}" in reader.text
    assert ("option", {"value": "false", "selected": ""}) in reader.elements


def test_a_change_that_nobody_can_foretell_is_told_so() -> None:
    """An objection stands in the page, escaped, and under its own form."""
    reader = shown(published(), {"network": "<b>", "icc": "true"}, objection="no network is called '<b>'")
    assert "Foretell no network is called '<b>'" in reader.text


def test_a_change_that_concerns_many_is_cut_and_says_so() -> None:
    """A change of one network may concern thousands of pairs."""
    state = demo()
    assert state.snapshot
    assert state.report
    told = evaluate.whatif(state.snapshot, state.report, Proposal(icc=False))
    listed = FORETOLD_LIMIT + 1
    for number, answered in ((listed, "all of them"), (listed + 1, f"the first {listed}")):
        fates = {fate: number if fate is Fate.CLOSES else 0 for fate in Fate}
        many = replace(told, pairs=told.pairs[:1] * listed, fates=fates)
        text = shown(state, {"icc": "false"}, foretelling=many).text
        assert f"The first {FORETOLD_LIMIT} of {many.concerned} pairs by name; {answered} are in the JSON" in text


def test_cells_lead_to_their_explanation() -> None:
    """The address behind a cell asks about its pair, whatever the names."""
    names_of = ["a&b", "c d"]
    pairs = {(one, two): open_verdict() for one in names_of for two in names_of if one != two}
    reader = shown(published(report([container(name) for name in names_of], pairs)))
    assert "./?source=a%26b&destination=c%20d#why" in reader.attributes("a", "href")


def test_links_are_relative() -> None:
    """The page works under any prefix of a proxy."""
    links = shown(published(small_town())).attributes("a", "href")
    assert "./metrics" in links
    assert all(link.startswith("./") for link in links)


def test_nothing_comes_from_elsewhere() -> None:
    """There is no script, and nothing is loaded: neither style nor picture nor font."""
    html = PAGE.render(published(small_town()), NOW, {}, Answers())
    reader = shown(published(small_town()))
    assert not {"script", "img", "iframe", "object"} & {tag for tag, _ in reader.elements}
    assert not reader.attributes("div", "style")
    assert not re.search(r"""(?:src|href|action)=["'](?:https?:)?//""", html)
    assert "@import" not in html


def test_the_policy_allows_the_style_of_the_page_only() -> None:
    """The digest in the policy is that of the style element as it is sent."""
    html = PAGE.render(published(), NOW, {}, Answers())
    (style,) = re.findall(r"<style>(.*?)</style>", html, re.DOTALL)
    digest = b64encode(sha256(style.encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in PAGE.content_security_policy
    assert "script-src" not in PAGE.content_security_policy


@settings(max_examples=40, deadline=None)
@given(names, names, names)
def test_no_name_becomes_markup(source: str, destination: str, other: str) -> None:
    """Whatever names hold, the page has the elements that it always has, and shows the names, nothing hidden."""

    def page_of(first: str, second: str, third: str) -> Reader:
        containers = [
            replace(container(first), id="1", sandbox="1", networks=(third,)),
            replace(container(second), id="2", sandbox="2", networks=(third,)),
        ]
        draft = report(
            containers,
            {},
            networks=[network(third, third)],
            assumptions=(third,),
            engine_summary=engine(name=f"e{third}", version=third, firewall_backend=f"b{third}"),
        )
        return shown(published(draft), {"source": first, "destination": second, "port": third}, complaint=f"!{third}")

    hostile, tame = page_of(source, destination, other), page_of("a", "b", "c")
    assert [tag for tag, _ in hostile.elements] == [tag for tag, _ in tame.elements]
    assert [set(attributes) for _, attributes in hostile.elements] == [set(each) for _, each in tame.elements]
    assert f"!{visible(other)}" in "".join(data for tag, data in hostile.texts if tag == "p")
    assert visible(source) in hostile.attributes("th", "title")


@settings(max_examples=40, deadline=None)
@given(names, names, names)
def test_no_name_becomes_markup_where_something_drifts(source: str, destination: str, other: str) -> None:
    """Drift, reasons of missing evidence and names of rules leave the page's elements as they are."""

    def page_of(first: str, second: str, third: str) -> Reader:
        draft = replace(
            drifting("a", "b", third),
            missing={"sandboxes": third},
            unsupported={third: 1},
            pending_restart=PendingRestart(True, (third,)),
        )
        containers = tuple(
            replace(each, name=name) for each, name in zip(draft.containers, (first, second), strict=True)
        )
        return shown(published(replace(draft, containers=containers)))

    hostile, tame = page_of(source, destination, other), page_of("a", "b", "c")
    assert [tag for tag, _ in hostile.elements] == [tag for tag, _ in tame.elements]
    assert [set(attributes) for _, attributes in hostile.elements] == [set(each) for _, each in tame.elements]


@settings(max_examples=40, deadline=None)
@given(names, names, names)
def test_no_name_becomes_markup_where_a_change_is_foretold(source: str, destination: str, other: str) -> None:
    """Names of containers, reasons, warnings and what was asked leave the page's elements as they are."""
    blocked, verdict = PairVerdict(), open_verdict()

    def page_of(first: str, second: str, third: str) -> Reader:
        pair = ForetoldPair(
            first, second, Fate.OPENS, blocked.verdict, verdict.verdict, third, blocked.paths, verdict.paths
        )
        fates = {fate: int(fate is Fate.OPENS) for fate in Fate}
        told = Foretelling(third, 2, Count(0, 0), Count(1, 0), fates, (pair,), (third,), (third,))
        asked = {"icc": "false", "network": third}
        return shown(published(), asked, foretelling=told, objection=f"no {third}")

    hostile, tame = page_of(source, destination, other), page_of("a", "b", "c")
    assert [tag for tag, _ in hostile.elements] == [tag for tag, _ in tame.elements]
    assert [set(attributes) for _, attributes in hostile.elements] == [set(each) for _, each in tame.elements]


@settings(max_examples=40, deadline=None)
@given(names, names, names)
def test_no_name_becomes_markup_where_a_policy_is_violated(source: str, destination: str, other: str) -> None:
    """Reasons of rules, tenants and names of containers leave the page's elements as they are."""

    def page_of(first: str, second: str, third: str) -> Reader:
        draft = governed("a", "b", third, third)
        assert draft.policy is not None
        ends = {"a": first, "b": second}
        containers = tuple(replace(each, name=ends[each.name]) for each in draft.containers)
        (violation,) = draft.policy.violations
        listed = replace(violation, source=containers[0], destination=containers[1])
        policy = replace(draft.policy, violations=(listed,))
        return shown(published(replace(draft, containers=containers, policy=policy)))

    hostile, tame = page_of(source, destination, other), page_of("a", "b", "c")
    assert [tag for tag, _ in hostile.elements] == [tag for tag, _ in tame.elements]
    assert [set(attributes) for _, attributes in hostile.elements] == [set(each) for _, each in tame.elements]


def followed(of: Look, source: str = "web", destination: str = "db") -> tuple[Published, Explanation]:
    """Return a state with the kernel's evidence, and the explanation of a pair of it."""
    state = replace(published(of.report), snapshot=of.snapshot)
    return state, evaluate.explain(of.snapshot, of.report, source, destination)


def test_packets_that_were_followed_are_shown_hop_by_hop() -> None:
    """The way of a packet, the rule that decides and what would change it stand under the answer."""
    built = host("28.5", icc=False).container("db", expose=["5432/tcp"]).container("web", links=["db"])
    state, answer = followed(kernel(built).engine_rules().look())
    reader = shown(state, {"source": "web", "destination": "db"}, answer)
    (trip,) = answer.trips
    assert "Packet to 172.17.0.2:5432/tcp : arrives in db and is answered" in reader.text
    for leg in trip.legs:
        for hop in leg.hops:
            assert f"{hop.place} {hop_text(hop)}" in reader.text
    assert "--dport 5432 -j ACCEPT`: accept [7 packets so far]" in reader.text
    assert f"Decided by {trip.decided_by}" in reader.text
    assert "Would close it web without its link to db" in reader.text


def test_the_hop_that_loses_a_packet_is_marked() -> None:
    """Of a blocked pair the last hop stands out, and the change would open it."""
    built = host("28.5", icc=False).container("db").container("web")
    state, answer = followed(kernel(built).engine_rules().look())
    reader = shown(state, {"source": "web", "destination": "db"}, answer)
    assert reader.classes("li").count("lost") == 1
    assert "Would open it --icc=true of the daemon" in reader.text


@settings(max_examples=25, deadline=None)
@given(names, names)
def test_no_rule_becomes_markup(name: str, comment: str) -> None:
    """Whatever a rule says and a network is called, the explanation has the elements that it always has."""

    def page_of(network_name: str, text: str) -> Reader:
        drop = Rule((Terminate(Verdict.DROP),), f"-i docker0 {text} -j DROP")
        chain = Chain(text, (drop,), Base(Hook.FORWARD, -1))
        of = kernel(host("28.5").container("db").container("web"))
        of.table(Table(TableFamily.IP, text, Backend.NFTABLES, {text: chain}, {text: (1,)}))
        seen = of.look()
        networks = {key: replace(each, name=network_name) for key, each in seen.snapshot.networks.items()}
        state, answer = followed(replace(seen, snapshot=replace(seen.snapshot, networks=networks)))
        reader = shown(state, {"source": "web", "destination": "db", "address": text}, answer)
        assert visible(answer.trips[0].decided_by) in "".join(data for tag, data in reader.texts if tag == "dd")
        return reader

    hostile, tame = page_of(name, comment), page_of("a", "b")
    assert [tag for tag, _ in hostile.elements] == [tag for tag, _ in tame.elements]
    assert [set(attributes) for _, attributes in hostile.elements] == [set(each) for _, each in tame.elements]


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (-5, "0 s"),
        (0.4, "0 s"),
        (59, "59 s"),
        (60, "1 min"),
        (75, "1 min 15 s"),
        (3600, "1 h"),
        (7500, "2 h 5 min"),
        (timedelta(days=3, hours=4).total_seconds(), "3 d 4 h"),
    ],
)
def test_durations_read_well(seconds: float, expected: str) -> None:
    """Two units are enough, and a clock that was set back shows no negative time."""
    assert duration(seconds) == expected


def test_probes_are_told_of_where_they_are_sent() -> None:
    """The last round's results stand there, with each packet that disagrees; without probes there is nothing."""
    last = (probed(), probed(ProbeResult.AGREED), probed(ProbeResult.FAILED, reason="CAP_NET_RAW is needed"))
    probes = ProbeStats({ProbeResult.AGREED: 7}, last, TAKEN_AT, "CAP_NET_RAW is needed")
    text = shown(published().counted(replace(stats(), probes=probes))).text
    assert "1 agreed, 1 disagreed, 0 undecided, 1 failed in the last round, 1 min 15 s ago" in text
    assert "db → web, 172.17.0.3:80/tcp: reachable, but the packet does not arrive" in text
    assert "Not probed: CAP_NET_RAW is needed" in text
    first = shown(published().counted(replace(stats(), probes=ProbeStats()))).text
    assert "no round has ended yet" in first
    assert "put to the test" not in shown(published().counted(replace(stats(), probes=None))).text.lower()


def test_a_hostile_name_in_a_disagreement_is_text() -> None:
    """Whatever a container is called, it is shown and does nothing."""
    probes = ProbeStats({}, (probed(destination="<b>\u202ename"),), TAKEN_AT)
    page = shown(published().counted(replace(stats(), probes=probes)))
    assert "db → <b>\\u202ename" in page.text
