"""What is evaluated once for many alike is what each of them would have got by itself."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.evaluate import evaluate, evaluate_after
from exporter.evaluate.counts import Counts
from exporter.evaluate.declared import declared_reach
from exporter.evaluate.drift import drift
from exporter.evaluate.effective import effective
from exporter.evaluate.enforced import enforced_reach
from exporter.evaluate.kinds import Spread, sample
from exporter.observe.files import dumps, loads
from exporter.parse import Memory, parse
from tests.bench.layouts import NFTABLES, Layout
from tests.evaluate.nft_tampering import native_tampering
from tests.evaluate.strategies import hosts
from tests.hosts import host, identity
from tests.kernels import kernel

if TYPE_CHECKING:
    from exporter.model.observation import Observation
    from exporter.model.reach import Reach
    from exporter.model.snapshot import Snapshot

ADDRESSES = (
    "10.64.0.2/32",
    "10.64.0.3/32",
    "10.64.1.2/32",
    "10.64.1.3/32",
    "10.64.2.2/32",
    "10.64.0.1/32",
    "10.64.1.0/24",
    "10.64.2.0/25",
    "10.64.0.0/23",
    "10.0.0.0/8",
    "172.17.0.2/32",
    "192.0.2.9/32",
    "198.51.100.10/32",
)
BRIDGES = ("br-n0", "br-n1", "br-n2", "docker0", "br-+", "eth0")
PORTS = ("80", "20000", "20001", "20002", "20000:20001", "8080", "1000:30000")
CHAINS = (
    "filter DOCKER-USER",
    "filter FORWARD",
    "filter INPUT",
    "filter OUTPUT",
    "filter DOCKER",
    "nat PREROUTING",
    "nat POSTROUTING",
    "nat DOCKER",
)


OPTIONS = {"-s": ADDRESSES, "-d": ADDRESSES, "-i": BRIDGES, "-o": BRIDGES}
IMPOSSIBLE = {"INPUT": ("-o",), "PREROUTING": ("-o",), "OUTPUT": ("-i",), "POSTROUTING": ("-i",)}
_LED = ("RETURN", "ACCEPT", "DNAT --to-destination 10.64.0.2:80", "DNAT --to-destination 10.64.1.3")
TARGETS = {
    "filter": ("ACCEPT", "DROP", "RETURN", "REJECT"),
    "POSTROUTING": ("MASQUERADE", "ACCEPT", "SNAT --to-source 198.51.100.10"),
    "PREROUTING": _LED,
    "DOCKER": _LED,
}
"""What rules do; those that lead somewhere else need a protocol."""


@st.composite
def rules(draw: st.DrawFn) -> tuple[str, str]:
    """Return a table and a rule that somebody may have written: addresses, bridges, ports and targets at random."""
    table, chain = draw(st.sampled_from(CHAINS)).split()
    parts = [chain]
    for option, choices in OPTIONS.items():
        if option not in IMPOSSIBLE.get(chain, ()) and draw(st.integers(0, 2)) == 0:
            negated = "! " if draw(st.integers(0, 3)) == 0 else ""
            parts.append(f"{negated}{option} {draw(st.sampled_from(choices))}")
    with_port = draw(st.booleans())
    if with_port:
        protocol = draw(st.sampled_from(("tcp", "udp")))
        side = draw(st.sampled_from(("--dport", "--dport", "--sport")))
        parts.append(f"-p {protocol} -m {protocol} {side} {draw(st.sampled_from(PORTS))}")
    rare = ("-m limit --limit 1/sec", "-m conntrack --ctstate RELATED,ESTABLISHED")
    parts.extend(match for match in rare if draw(st.integers(0, 7)) == 0)
    targets = TARGETS[table if table == "filter" else chain]
    return table, " ".join((*parts, f"-j {draw(st.sampled_from(targets if with_port else targets[:2]))}"))


@st.composite
def tampered(draw: st.DrawFn) -> Observation:
    """Return a host in its engine's layout that somebody changed: rules are added, taken away and moved."""
    networks = draw(st.integers(3, 5))
    containers = draw(st.integers(networks, 5 * networks))
    version = draw(st.sampled_from((NFTABLES, "28.5", "26.1", "20.10")))
    layout = Layout(
        version,
        networks=networks,
        containers=containers,
        published=draw(st.integers(0, networks)),
        links=draw(st.integers(0, 1)) if version != NFTABLES else 0,
        user_rules=draw(st.integers(0, 2)),
        pair_rules=draw(st.integers(0, 1)),
    )
    return draw(tampering(layout.observation(), 3))


@st.composite
def tampering(draw: st.DrawFn, seen: Observation, most: int) -> Observation:
    """Return a host into which somebody put so many rules at most, and of which some were taken away and moved."""
    assert seen.kernel is not None
    assert seen.kernel.host is not None
    if seen.kernel.host.nftables:
        return draw(native_tampering(seen, most))
    saved = dict(seen.kernel.host.iptables)
    lines = saved["iptables-nft"].splitlines()
    for _ in range(draw(st.integers(0, most))):
        table, rule = draw(rules())
        place = lines.index(f"*{table}")
        end = lines.index("COMMIT", place)
        own = [number for number in range(place, end) if lines[number].startswith(f"[0:0] -A {rule.split()[0]} ")]
        at = draw(st.sampled_from([*own, end]))
        lines.insert(at, f"[0:0] -A {rule}")
    for _ in range(draw(st.integers(0, 2))):
        places = [number for number, line in enumerate(lines) if line.startswith("[")]
        place = draw(st.sampled_from(places))
        moved = lines.pop(place)
        if draw(st.booleans()):
            alike = [number for number, line in enumerate(lines) if line.split(" ")[1:3] == moved.split(" ")[1:3]]
            # no other table has its chain
            lines.insert(draw(st.sampled_from(alike or [place])), moved)
    saved["iptables-nft"] = "\n".join((*lines, ""))
    return replace(seen, kernel=replace(seen.kernel, host=replace(seen.kernel.host, iptables=saved)))


@st.composite
def woven(draw: st.DrawFn) -> Snapshot:
    """Return a host of engine 28 whose containers are on several networks each, some of them alike."""
    built = host("28.5", icc=draw(st.booleans()))
    names = [f"n{number}" for number in range(draw(st.integers(2, 5)))]
    for name in names:
        built.network(name, enable_icc=str(draw(st.integers(0, 3)) > 0).lower())
    for number in range(draw(st.integers(3, 9))):
        own = draw(st.lists(st.sampled_from([*names, "bridge"]), min_size=1, max_size=3, unique=True))
        publish = [f"{8000 + number}:{draw(st.sampled_from((80, 81)))}"] if draw(st.integers(0, 2)) == 0 else []
        built.container(f"c{number}", *own, publish=publish)
    made = kernel(built).engine_rules().unread("sandboxes", "not asked for")
    return made.look().snapshot


def same(one: Reach, other: Reach, snapshot: Snapshot) -> None:
    """Compare the verdicts of all pairs, with the networks that carry them, and what is counted of them."""
    for source in snapshot.sandboxes:
        for destination in snapshot.sandboxes:
            if snapshot.sandboxes[source].members and snapshot.sandboxes[destination].members:
                if source == destination and len(snapshot.sandboxes[source].members) < 2:
                    continue
                found, wanted = one.between(source, destination), other.between(source, destination)
                assert found == wanted, (source, destination)
                assert [path.within for path in found.paths] == [path.within for path in wanted.paths]
    assert Counts.of(snapshot, one) == Counts.of(snapshot, other)
    assert effective(snapshot, one) == effective(snapshot, other)


def check(snapshot: Snapshot) -> bool:
    """Compare what a part of a host says of all of it with what all of it says; return whether there is a part."""
    part = sample(snapshot)
    if part is None:
        return False
    spread = Spread(snapshot, part)
    promised = spread.over(declared_reach(part.snapshot)), declared_reach(snapshot)
    same(*promised, snapshot)
    if snapshot.kernel is not None and part.snapshot.kernel is not None:
        kept = (
            spread.over(enforced_reach(part.snapshot, part.snapshot.kernel)),
            enforced_reach(snapshot, snapshot.kernel),
        )
        same(*kept, snapshot)
        sizes = {sandbox.id: len(sandbox.members) for sandbox in snapshot.sandboxes.values()}
        assert drift(promised[0], kept[0], sizes) == drift(promised[1], kept[1], sizes)
        check(replace(snapshot, kernel=None))
    return True


@given(tampered())
@settings(deadline=None, max_examples=10)
def test_a_part_of_a_tampered_host_tells_of_all_of_it(seen: Observation) -> None:
    """Whatever rules somebody adds, takes away or moves, verdicts are those of the whole host."""
    check(parse(seen))


@st.composite
def events(draw: st.DrawFn) -> list[Observation]:
    """Return one host after each of some events: containers start and stop, rules and networks come and go.

    Some of the rules are there for one look only.
    """
    networks = draw(st.integers(3, 4))
    size = draw(st.integers(networks, 3 * networks))
    version = draw(st.sampled_from(("28.5", "26.1", NFTABLES)))
    published, entered = draw(st.integers(0, networks)), version != NFTABLES and draw(st.booleans())
    layout = Layout(version, networks, size, published, links=int(version != NFTABLES), entered=entered)
    found = [layout.observation()]
    for _ in range(draw(st.integers(1, 4))):
        container = draw(st.integers(0, size - 1))
        match draw(st.sampled_from(("container", "container", "user rule", "pair rule", "network", "publish"))):
            case "container":
                layout = replace(layout, without=layout.without ^ {container})
            case "user rule":
                layout = replace(layout, user_rules=draw(st.integers(0, 3)))
            case "pair rule":
                layout = replace(layout, pair_rules=draw(st.integers(0, 2)))
            case "network":
                layout = replace(layout, spare=draw(st.integers(0, 2)))
            case _:
                layout = replace(layout, published=draw(st.integers(0, networks)))
        found.append(layout.observation())
        if draw(st.integers(0, 2)) == 0:
            found.append(draw(tampering(found[-1], 2)))
    return found


@given(events())
@settings(deadline=None, max_examples=6)
def test_what_is_known_from_before_changes_no_verdict(looks: list[Observation]) -> None:
    """After any sequence of events, a report made with the one before is that of a first look at the whole host."""
    before, memory = None, Memory()
    reports = []
    for seen in looks:
        snapshot = parse(seen, memory)
        assert snapshot == parse(seen)
        report, before = evaluate_after(snapshot, before)
        reports.append((report, snapshot))
        fresh = evaluate(snapshot)
        assert (report.totals, report.pairs_by_via, report.blast_radius, report.networks) == (
            fresh.totals,
            fresh.pairs_by_via,
            fresh.blast_radius,
            fresh.networks,
        )
    # whoever reads a report may do so long after
    for report, snapshot in reversed(reports):
        assert report.declared is not None
        assert snapshot.kernel is not None
        same(report.reach, enforced_reach(snapshot, snapshot.kernel), snapshot)
        same(report.declared, declared_reach(snapshot), snapshot)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
def test_a_report_is_read_after_later_looks(order: tuple[int, ...]) -> None:
    """A container has another address at the second look: each report tells its own, whichever is read first."""
    first = Layout("28.5", networks=4, containers=24, published=4).observation()
    moved = loads(dumps(first).replace("10.64.2.6", "10.64.2.106"), "moved")
    known, parts, reports = None, [], []
    for seen in (first, moved, moved):
        snapshot = parse(seen)
        report, known = evaluate_after(snapshot, known)
        parts.append(known)
        reports.append((report, snapshot))
    assert parts[0] is parts[1] is parts[2]
    for look in order:
        report, snapshot = reports[look]
        assert snapshot.kernel is not None
        same(report.reach, enforced_reach(snapshot, snapshot.kernel), snapshot)


def test_the_same_part_is_not_evaluated_again() -> None:
    """Of many alike, one that starts or stops changes nothing that would have to be evaluated."""
    many = Layout("28.5", networks=4, containers=24, published=4)
    _, before = evaluate_after(parse(many.observation()), None)
    others = [number for number in range(24) if identity("container", f"c{number}") not in before.seen.sandboxes]
    for gone in (others[:1], others[1:3], []):
        changed = replace(many, without=frozenset(gone))
        report, after = evaluate_after(parse(changed.observation()), before)
        assert after is before
        assert report.totals.containers == 26 - len(gone)


@pytest.mark.parametrize("version", [NFTABLES, "28.5", "26.1", "20.10"])
def test_a_part_does_not_grow_with_its_host(version: str) -> None:
    """What an engine sets up tells no network from another: of more of them, the part holds no more."""
    sizes = []
    for times in (1, 2):
        layout = Layout(version, networks=12 * times, containers=60 * times, published=6 * times)
        layout = replace(layout, links=int(version != NFTABLES))
        part = sample(parse(layout.observation()))
        assert part is not None
        sizes.append((len(part.snapshot.sandboxes), len(part.snapshot.networks)))
    assert sizes[0] == sizes[1]
    assert sizes[0] < (24, 12)


@given(woven())
@settings(deadline=None, max_examples=12)
def test_a_part_of_a_woven_host_tells_of_all_of_it(snapshot: Snapshot) -> None:
    """Containers on several networks are taken for each other only where they share the same ones."""
    check(snapshot)


@given(hosts())
@settings(deadline=None, max_examples=20)
def test_a_part_of_what_the_engine_tells_is_enough(seen: Observation) -> None:
    """What configurations promise is the same, too."""
    check(parse(seen))
