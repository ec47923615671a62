"""What is foretold of a change, from the configuration and from the kernel's rules."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import permutations
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.cli import text
from exporter.errors import Unforeseeable, UnknownNetwork
from exporter.evaluate import evaluate, whatif
from exporter.evaluate.enforced import enforced_reach
from exporter.evaluate.written import unwritten, written_anew
from exporter.model.daemon import Configuration, Setting
from exporter.model.firewall import Backend, Firewall, TableFamily
from exporter.model.firewall import Verdict as Decision
from exporter.model.reach import Verdict
from exporter.model.snapshot import EngineVersion, GatewayMode
from exporter.model.whatif import Count, Fate, Foretelling, Proposal
from exporter.parse import parse
from tests.bench.layouts import Layout
from tests.conformance.recorded_kernel import kernel_documents
from tests.conformance.test_recordings import NAMES, recording
from tests.evaluate.test_kinds import tampered
from tests.hosts import Host, host
from tests.kernels import kernel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from exporter.model.observation import Observation
    from exporter.model.reach import Reach
    from exporter.model.report import Report
    from exporter.model.snapshot import Kernel, Snapshot
    from tests.kernels import KernelOf
    from tests.looks import Look

ON, OFF = Setting(True, "the default"), Setting(False, "daemon.json")
SAME = Configuration(ON, ON, ON, ON, ON, OFF, default_bridge=True, service="")
ICC_OFF, ICC_ON = Proposal(icc=False), Proposal(icc=True)


def built(version: str = "28.5", *, icc: bool = True) -> Host:
    """Return a host with a link, a published port, another network, and a container in host mode."""
    return (
        host(version, icc=icc, LiveRestoreEnabled=False)
        .network("shop")
        .container("db", expose=["5432/tcp"])
        .container("app", links=["db"])
        .container("door", publish=["8080:80"])
        .container("api", "shop")
        .container("both", "bridge", "shop")
        .container("agent", "host")
    )


def ask(seen: Look, proposal: Proposal) -> Foretelling:
    """Return what is foretold."""
    return whatif(seen.snapshot, seen.report, proposal)


def fates(found: Foretelling) -> dict[tuple[str, str], Fate]:
    """Return what becomes of the pairs that are concerned."""
    return {(pair.source, pair.destination): pair.fate for pair in found.pairs}


def after(seen: Look, found: Foretelling) -> dict[tuple[str, str], Verdict]:
    """Return the verdicts of all pairs once the change is made."""
    pairs = ((one, other) for one in seen.report.containers for other in seen.report.containers if one is not other)
    now = {(one.name, other.name): seen.report.pair(one, other).verdict for one, other in pairs}
    return now | {(pair.source, pair.destination): pair.after for pair in found.pairs}


def test_what_closes_and_what_stays_open() -> None:
    """Neighbours close; links, published ports, shared networks and the host stay open, each with its reason."""
    found = ask(built().look(), ICC_OFF)
    assert {pair for pair, fate in fates(found).items() if fate is Fate.CLOSES} == {
        *(("db", "app"), ("db", "both"), ("app", "both"), ("door", "app"), ("door", "db"), ("door", "both")),
        *(("both", "app"), ("both", "db")),
    }
    reasons = {(pair.source, pair.destination): pair.reason for pair in found.pairs}
    assert reasons["app", "db"] == "link on bridge"
    assert reasons["app", "door"] == "published_port on bridge"
    assert reasons["db", "app"] == "no longer by bridge on bridge"
    assert fates(found)["app", "door"] is Fate.STAYS_OPEN
    assert ("agent", "db") not in fates(found)


@pytest.mark.parametrize("version", ["20.10", "26.1", "28.5", "29", "29 nft"])
@pytest.mark.parametrize("icc", [True, False])
def test_what_is_foretold_is_what_the_other_host_reports(version: str, *, icc: bool) -> None:
    """The pairs after a change of the daemon's icc are those of a host that was set up that way."""
    seen, other = built(version, icc=icc).look(), built(version, icc=not icc).look()
    found = ask(seen, Proposal(icc=not icc))
    assert after(seen, found) == after(other, ask(other, Proposal(icc=not icc)))
    assert found.after.reachable_pairs == other.report.totals.reachable_pairs
    assert found.before.reachable_pairs == seen.report.totals.reachable_pairs


def test_a_network_made_anew() -> None:
    """Only its own pairs are concerned, and that it has to be made anew is said."""
    found = ask(built().look(), Proposal(icc=False, network="shop"))
    assert fates(found) == {("api", "both"): Fate.CLOSES, ("both", "api"): Fate.CLOSES}
    assert found.action == "network shop created anew with enable_icc=false"
    assert "removed and created anew" in found.assumptions[0]


def test_the_default_bridge_by_its_name() -> None:
    """--network bridge asks about the daemon's icc."""
    seen = built().look()
    assert ask(seen, Proposal(icc=False, network="bridge")).pairs == ask(seen, ICC_OFF).pairs


def test_without_docker_proxy() -> None:
    """A port that docker-proxy alone leads to is lost, and closed with its neighbours' bridge."""
    seen = built(icc=False).look()
    found = ask(seen, Proposal(userland_proxy=False))
    assert fates(found)["app", "door"] is Fate.CLOSES
    assert found.action == "the daemon restarted with --userland-proxy=false"
    both = ask(built().look(), Proposal(icc=False, userland_proxy=False))
    assert fates(both)["app", "door"] is Fate.CLOSES


def test_nothing_proposed_is_a_restart_as_configured() -> None:
    """Without a setting, the daemon would find its configuration; where that is not known, nothing changes."""
    seen = built().look()
    assert ask(seen, Proposal()).pairs == ()
    configured = replace(seen.snapshot, configuration=replace(SAME, icc=OFF))
    found = whatif(configured, seen.report, Proposal())
    assert found.pairs == ask(seen, ICC_OFF).pairs
    assert found.action == "the daemon restarted as it is configured"


# --- large hosts


@given(
    tampered(), st.sampled_from([ICC_OFF, ICC_ON, Proposal(userland_proxy=False), Proposal(icc=False, network="n0")])
)
@settings(max_examples=8)
def test_a_part_of_a_host_foretells_all_of_it(seen: Observation, proposal: Proposal) -> None:
    """What is foretold by those who stand for others is what each pair by itself gives, to the last word."""
    snapshot = parse(seen)
    report = evaluate(snapshot)
    told = whatif(snapshot, report, proposal)
    with patch("exporter.evaluate.whatif.sampled", lambda whole, reach: reach(whole)):
        assert told == whatif(snapshot, report, proposal)
    counted = Counter(verdict for _, _, verdict in every(told, report))
    reachable = counted[Verdict.REACHABLE] + counted[Verdict.UNKNOWN]
    assert told.after == Count(reachable, counted[Verdict.UNKNOWN])
    fates = Counter(pair.fate for pair in told.pairs)
    assert told.fates == {fate: fates[fate] for fate in Fate}


def test_of_very_many_pairs_the_first_are_listed() -> None:
    """All of them are counted, and the text tells how many there are."""
    seen = built().look()
    all_of_them = ask(seen, ICC_OFF)
    with patch("exporter.evaluate.whatif.PAIRS_LISTED", 3):
        found = ask(seen, ICC_OFF)
    assert found == replace(all_of_them, pairs=all_of_them.pairs[:3])
    concerned = len(all_of_them.pairs)
    assert found.concerned == all_of_them.concerned == concerned
    assert f"… the first 3 of {concerned} by name" in [line.text for line in text.whatif(found)]
    assert not [line for line in text.whatif(all_of_them) if line.text.startswith("…")]


def test_evaluators_see_a_part_of_a_large_host() -> None:
    """How long it takes does not grow with the pairs of the host, but with the ways in which two can meet."""
    snapshot = parse(Layout("28.5", networks=40, containers=400, published=20).observation())
    seen: list[int] = []

    def noted(part: Snapshot, below: Kernel) -> Reach:
        seen.append(len(part.sandboxes))
        return enforced_reach(part, below)

    with patch("exporter.evaluate.whatif.enforced_reach", noted):
        told = whatif(snapshot, evaluate(snapshot), Proposal(icc=False, network="n0"))
    assert told.fates[Fate.CLOSES] > 0
    assert 0 < max(seen) < len(snapshot.sandboxes) / 10


def every(told: Foretelling, report: Report) -> Iterator[tuple[str, str, Verdict]]:
    """Yield all pairs with their verdicts afterwards: of those that are not concerned, they are as they were."""
    after_ = {(pair.source, pair.destination): pair.after for pair in told.pairs}
    for one in report.containers:
        for other in report.containers:
            if one is not other:
                key = one.name, other.name
                yield (*key, after_.get(key, report.pair(one, other).verdict))


# --- the kernel's rules


@pytest.mark.parametrize("icc", [True, False])
def test_the_kernel_agrees_where_nobody_tampered(*, icc: bool) -> None:
    """With the engine's own rules alone nothing is undecided, and the answer is that of the configuration."""
    below = kernel(built(icc=icc)).engine_rules().look()
    found = ask(below, Proposal(icc=not icc))
    assert Fate.UNDECIDED not in fates(found).values()
    assert fates(found) == fates(ask(built(icc=icc).look(), Proposal(icc=not icc)))


def flushed(built_: Host, chains: dict[str, tuple[str, ...]]) -> KernelOf:
    """Return a host's kernel without the rules of some chains, where FORWARD accepts."""
    below = kernel(built_).engine_rules().policy("FORWARD", "ACCEPT")
    for table, names in chains.items():
        for name in names:
            below.flush(name, table)
    return below


@pytest.mark.parametrize(
    "chains",
    [
        {"filter": ("FORWARD",)},
        {"filter": ("FORWARD", "DOCKER", "DOCKER-FORWARD", "DOCKER-BRIDGE", "DOCKER-CT", "DOCKER-ISOLATION-STAGE-1")},
        {"nat": ("PREROUTING", "OUTPUT", "POSTROUTING", "DOCKER")},
        {"filter": ("FORWARD",), "nat": ("PREROUTING", "DOCKER"), "raw": ("PREROUTING",)},
    ],
)
@pytest.mark.parametrize("icc", [True, False])
def test_what_was_flushed_is_written_anew(chains: dict[str, tuple[str, ...]], *, icc: bool) -> None:
    """After a restart holds what the configuration promises, whatever of the engine's rules is gone before it."""
    below, proxied = flushed(built(icc=icc), chains).look(), Proposal(icc=not icc, userland_proxy=True)
    found = ask(below, proxied)
    assert Fate.UNDECIDED not in fates(found).values()
    assert after(below, found) == after(built(icc=not icc).look(), ask(built(icc=not icc).look(), Proposal()))


def test_what_was_flushed_of_a_host_that_publishes_nothing() -> None:
    """Whether docker-proxy runs need not be known then: no rule that matters depends on it."""
    below = flushed(host("28.5", icc=False).container("db").container("app"), {"filter": ("FORWARD",)}).look()
    found = ask(below, Proposal(icc=False))
    assert fates(found) == {("db", "app"): Fate.CLOSES, ("app", "db"): Fate.CLOSES}


def test_what_was_flushed_leaves_rules_of_others() -> None:
    """Beside rules that the engine writes anew, others still keep a pair from being called open or closed."""
    below = flushed(built(), {"filter": ("FORWARD",)}).rules("-A FORWARD -p tcp -m tcp --dport 22 -j ACCEPT")
    assert Fate.UNDECIDED not in fates(ask(below.look(), ICC_OFF)).values()
    users = below.rules("-A DOCKER-USER -p tcp -m tcp --dport 22 -j ACCEPT").look()
    assert fates(ask(users, ICC_OFF))["db", "app"] is Fate.UNDECIDED


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda seen: replace(seen, engine=replace(seen.engine, version=EngineVersion(27, 5))), "was not tried"),
        (lambda seen: replace(seen, engine=replace(seen.engine, rootless=True)), "(rootless) writes was not tried"),
        (lambda seen: replace(seen, engine=replace(seen.engine, ipv4_forwarding=False)), "does not forward IPv4"),
        (lambda seen: changed(seen, "shop", inhibit_ipv4=True), "for network shop was not tried"),
        (
            lambda seen: changed(changed(seen, "shop", gateway_mode_v4=GatewayMode.ROUTED), "bridge", internal=True),
            "for network shop was not tried",
        ),
        (lambda seen: replace(seen, kernel=bare(seen.kernel)), "whether it writes any (--iptables) is not known"),
    ],
)
def test_where_it_is_not_known_what_the_engine_writes(change: Callable[[Snapshot], Snapshot], reason: str) -> None:
    """Pairs that drift are undecided then, and why nothing is made up is told."""
    snapshot = change(flushed(built(icc=False), {"filter": ("FORWARD",)}).look().snapshot)
    found = whatif(snapshot, evaluate(snapshot), ICC_OFF)
    assert Fate.UNDECIDED in fates(found).values()
    assert any(reason in text for text in found.assumptions)


def dual() -> Snapshot:
    """Return a host with a closed default bridge that has IPv6, of which nobody wrote rules."""
    return kernel(host("28.5", icc=False, ipv6=True).container("db").container("app")).engine_rules().look().snapshot


def forwarding_nothing(snapshot: Snapshot) -> Snapshot:
    """Return a configured host that does not forward IPv6."""
    assert snapshot.kernel is not None
    namespace = snapshot.kernel.host
    shut = replace(namespace, settings={**namespace.settings, "ipv6/conf/all/forwarding": "0"})
    return replace(snapshot, kernel=replace(snapshot.kernel, host=shut), configuration=replace(SAME, icc=OFF))


def test_rules_of_ipv6_are_written_anew() -> None:
    """Containers that reach each other over IPv6 alone are kept apart by the rules that a restart writes."""
    snapshot = replace(dual(), configuration=replace(SAME, icc=OFF))
    assert snapshot.kernel is not None
    found = whatif(snapshot, evaluate(snapshot), Proposal())
    assert fates(found) == {("db", "app"): Fate.CLOSES, ("app", "db"): Fate.CLOSES}
    without = replace(snapshot, configuration=replace(SAME, icc=OFF, ip6tables=OFF))
    assert written_anew(without, snapshot.kernel.host.firewall, 6) == snapshot.kernel.host.firewall


@pytest.mark.parametrize(
    ("snapshot", "reason"),
    [
        (dual(), "for IPv6, none but those for ICC and links are other than now: whether it writes any (--ip6tables)"),
        (forwarding_nothing(dual()), "the host does not forward IPv6"),
    ],
)
def test_where_it_is_not_known_what_the_engine_writes_for_ipv6(snapshot: Snapshot, reason: str) -> None:
    """Why nothing is made up is told of IPv6 alone, and only where a network has it."""
    assert any(reason in text for text in whatif(snapshot, evaluate(snapshot), Proposal()).assumptions)
    four = replace(snapshot, networks={key: replace(each, ipv6=False) for key, each in snapshot.networks.items()})
    assert not any("none but those" in text for text in whatif(four, evaluate(four), Proposal()).assumptions)


@pytest.mark.parametrize(
    ("forwards", "now", "then"),
    [
        (ON, "ACCEPT", Decision.DROP),
        (OFF, "ACCEPT", Decision.ACCEPT),
        (None, "DROP", Decision.DROP),
        (None, "ACCEPT", None),
    ],
)
def test_the_policy_that_engines_before_28_set_for_ipv6(
    forwards: Setting | None, now: str, then: Decision | None
) -> None:
    """It is DROP at each start where they forward; whether they do, their configuration tells, or the policy now."""
    made = kernel(host("26.1", ipv6=True, ExperimentalBuild=True).container("db"))
    seen = made.rules("-A FORWARD -j DOCKER", version=6).policy("FORWARD", now, version=6).look().snapshot
    configured = "not read" if forwards is None else replace(SAME, ip_forward=forwards)
    snapshot = replace(seen, configuration=configured, engine=replace(seen.engine, userland_proxy=True))
    assert snapshot.kernel is not None
    firewall = snapshot.kernel.host.firewall
    told = unwritten(snapshot, firewall, 6)
    assert ("--ip-forward" in told) is (then is None)
    if then is not None:
        tables = {table.key: table for table in written_anew(snapshot, firewall, 6).tables}
        base = tables[TableFamily.IP6, "filter", Backend.IPTABLES_NFT].chains["FORWARD"].base
        assert base is not None
        assert base.policy is then


def changed(seen: Snapshot, name: str, **changes: Any) -> Snapshot:  # noqa: ANN401 - whatever a network has
    """Return a snapshot with a network changed."""
    networks = {key: replace(each, **changes) if each.name == name else each for key, each in seen.networks.items()}
    return replace(seen, networks=networks)


def bare(below: Kernel | None) -> Kernel:
    """Return the kernel without the engine's chains."""
    assert below is not None
    tables = (
        replace(table, chains={name: chain for name, chain in table.chains.items() if chain.base is not None})
        for table in below.host.firewall.tables
    )
    emptied = (
        replace(table, chains={name: replace(chain, rules=()) for name, chain in table.chains.items()})
        for table in tables
    )
    return replace(below, host=replace(below.host, firewall=Firewall(tuple(emptied))))


def test_which_iptables_the_engine_uses_has_to_be_known() -> None:
    """Where both kinds have chains of an engine, nothing is made up."""
    seen = flushed(built(icc=False), {"filter": ("FORWARD",)}).look().snapshot
    assert seen.kernel is not None
    tables = seen.kernel.host.firewall.tables
    doubled = Firewall((*tables, *(replace(table, backend=Backend.IPTABLES_LEGACY) for table in tables)))
    twice = replace(seen, kernel=replace(seen.kernel, host=replace(seen.kernel.host, firewall=doubled)))
    assert any("iptables-legacy" in text for text in whatif(twice, evaluate(twice), ICC_OFF).assumptions)


def test_a_rule_of_others_may_keep_a_pair_open() -> None:
    """What DOCKER-USER accepts comes before the engine's DROP: the pair is not called closed."""
    below = kernel(built()).engine_rules().rules("-A DOCKER-USER -p tcp -m tcp --dport 22 -j ACCEPT").look()
    found = ask(below, ICC_OFF)
    assert fates(found)["db", "app"] is Fate.UNDECIDED
    (pair,) = [pair for pair in found.pairs if (pair.source, pair.destination) == ("db", "app")]
    assert (pair.before, pair.after) == (Verdict.REACHABLE, Verdict.UNKNOWN)
    assert "by the configuration it would be blocked, by the kernel's rules reachable" in pair.reason
    assert found.after.unknown_pairs > 0


def test_a_rule_for_answers_keeps_no_pair_open() -> None:
    """What DOCKER-USER accepts of known connections alone opens nothing."""
    rule = "-A DOCKER-USER -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"
    found = ask(kernel(built()).engine_rules().rules(rule).look(), ICC_OFF)
    assert fates(found)["db", "app"] is Fate.CLOSES


def test_a_rule_of_others_may_keep_a_pair_closed() -> None:
    """What DOCKER-USER drops is not opened by the engine: the pair is not called open."""
    below = kernel(built(icc=False)).engine_rules().rules("-A DOCKER-USER -i docker0 -o docker0 -j DROP").look()
    found = ask(below, ICC_ON)
    assert fates(found)["db", "app"] is Fate.UNDECIDED


def test_a_restart_switches_br_netfilter_on() -> None:
    """A closed network that is open for want of br_netfilter is closed by an engine that sets it up again."""
    below = kernel(built(icc=False)).engine_rules().set("bridge/bridge-nf-call-iptables", 0).look()
    assert below.verdict("db", "app") is Verdict.REACHABLE
    found = ask(below, ICC_OFF)
    assert fates(found)["db", "app"] is Fate.CLOSES
    assert below.report.totals.drift_open


def test_a_rule_that_is_not_understood_leaves_pairs_undecided() -> None:
    """What hinges on such a rule now hinges on it afterwards."""
    below = kernel(built()).engine_rules().rules("-A DOCKER-USER -m string --string x --algo bm -j ACCEPT").look()
    assert fates(ask(below, ICC_OFF))["db", "app"] is Fate.UNDECIDED


@pytest.mark.parametrize("name", NAMES)
def test_the_nftables_backend_is_rewritten_as_well(name: str) -> None:
    """On recorded hosts, the rules with another ICC of any bridge agree with what the configuration promises.

    Undecided then is what drifts, or what a switch outside decides (macvlan in mode vepa).
    """
    found = recording(name)
    documents = replace(kernel_documents(found.document), sandboxes={}, missing={"sandboxes": "not recorded whole"})
    snapshot = parse(replace(found.look().observation, kernel=documents))
    report = evaluate(snapshot)
    known = {(pair.source.name, pair.destination.name) for pair in report.drifted()}
    promised = report.declared
    assert promised is not None
    known |= {
        (one.name, other.name)
        for one, other in permutations(report.containers, 2)
        if promised.between(one.sandbox, other.sandbox).verdict is Verdict.UNKNOWN
    }
    concerned = 0
    for network in snapshot.networks.values():
        if network.icc is not None:
            told = whatif(snapshot, report, Proposal(icc=not network.icc, network=network.id))
            undecided = {pair for pair, fate in fates(told).items() if fate is Fate.UNDECIDED}
            assert undecided <= known, network.name
            concerned += len(told.pairs)
    assert concerned


# --- what is said besides


def test_live_restore_is_a_warning() -> None:
    """Where containers outlive the daemon, the setting waits; made anew, a network does not."""
    seen = host("28.5", LiveRestoreEnabled=True).network("shop").container("web").container("db").look()
    assert "live-restore keeps containers running" in ask(seen, ICC_OFF).warnings[0]
    assert ask(seen, Proposal(icc=False, network="shop")).warnings == ()


def test_what_is_assumed_is_said() -> None:
    """That containers run again, that other settings stay, and what the API does not tell and the kernel does."""
    found = ask(built().look(), ICC_OFF)
    assert "runs again afterwards" in found.assumptions[0]
    assert "its configuration was not read" in found.assumptions[1]
    assert any("br_netfilter is on" in text for text in found.assumptions)
    assert any("engine's own rules and no others" in text for text in found.assumptions)
    read = ask(kernel(built()).engine_rules().look(), ICC_OFF).assumptions
    assert "rules that are not the engine's stay as they are now" in read[2]
    assert not any("engine's own rules and no others" in text for text in read)


def test_a_daemon_that_would_not_start_opens_and_closes_nothing() -> None:
    """No pairs are counted of a restart that is an outage; a network is made anew by the daemon that runs."""
    seen = built().look()
    refusals = ("daemon.json: is not JSON", "--icc=no is neither true nor false")
    configured = replace(seen.snapshot, configuration=replace(SAME, refusals=refusals))
    for proposal in (
        ICC_OFF,
        ICC_ON,
        Proposal(),
        Proposal(icc=False, network="bridge"),
        Proposal(userland_proxy=False),
    ):
        with pytest.raises(Unforeseeable, match=f"the daemon would not start: {refusals[0]}; {refusals[1]}: put that"):
            whatif(configured, seen.report, proposal)
    anew = Proposal(icc=False, network="shop")
    assert whatif(configured, seen.report, anew) == ask(seen, anew)


def test_without_rules_nothing_can_be_foretold() -> None:
    """An engine with iptables=false filters nothing, and refuses icc=false."""
    seen = built().look()
    configured = replace(seen.snapshot, configuration=replace(SAME, iptables=OFF))
    with pytest.raises(Unforeseeable, match=r"would not start with iptables=false \(daemon.json\)"):
        whatif(configured, seen.report, ICC_OFF)
    with pytest.raises(Unforeseeable, match="would write no rules"):
        whatif(configured, seen.report, Proposal(userland_proxy=False))


def test_networks_that_are_not_there_or_have_no_icc() -> None:
    """The message names the network and what is wrong with it."""
    seen = built().look()
    for name, message in (
        ("shpo", "no network is called 'shpo': did you mean shop"),
        ("none", "network none has no ICC"),
    ):
        with pytest.raises(UnknownNetwork, match=message):
            ask(seen, Proposal(icc=False, network=name))
    with pytest.raises(UnknownNetwork, match="no default bridge"):
        ask(host("28.5", bridge="").look(), ICC_OFF)
    with pytest.raises(Unforeseeable, match="one after the other"):
        ask(seen, Proposal(icc=False, network="shop", userland_proxy=False))


def test_a_network_made_anew_does_not_heal_others() -> None:
    """br_netfilter comes on with a closed network that is set up, and with no other."""
    tenants = built("26.1").network("tenants", enable_icc="false").container("t1", "tenants").container("t2", "tenants")
    below = kernel(tenants).engine_rules().set("bridge/bridge-nf-call-iptables", 0).look()
    assert below.verdict("t1", "t2") is Verdict.REACHABLE
    opened = ask(below, Proposal(icc=True, network="shop"))
    assert ("t1", "t2") not in fates(opened) or fates(opened)["t1", "t2"] is Fate.UNDECIDED
    closed = ask(below, Proposal(icc=False, network="shop"))
    assert fates(closed)["t1", "t2"] is Fate.CLOSES
    assert fates(ask(below, ICC_ON))["t1", "t2"] is Fate.CLOSES


def test_a_bridge_that_would_be_gone_is_a_warning() -> None:
    """Where the configuration has no default bridge, the answer about it is not what a restart brings."""
    seen = built().look()
    configured = replace(seen.snapshot, configuration=replace(SAME, default_bridge=False))
    assert "no default bridge" in whatif(configured, seen.report, ICC_OFF).warnings[0]


def test_ipv6_without_rules_cannot_be_foretold() -> None:
    """Since 27.0 an engine with ip6tables=false leaves IPv6 of a closed network open, or refuses it."""
    seen = host("28.5", ipv6=True).container("web").container("db").look()
    configured = replace(seen.snapshot, configuration=replace(SAME, ip6tables=OFF))
    with pytest.raises(Unforeseeable, match="ip6tables=false"):
        whatif(configured, seen.report, ICC_OFF)
