"""Each thing that keeps frames from whoever they are for, or lets somebody else answer, on a real engine.

One host for all of them: what a case changes it puts back.
"""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from exporter.evaluate import evaluate
from exporter.model.addresses import link_local_of
from exporter.model.reach import Verdict
from exporter.observe.tier import Tier
from exporter.parse import parse
from tests.conformance.changes import ANNOUNCED, Change
from tests.conformance.generator import Case
from tests.conformance.routed import dual_stack, let_through
from tests.conformance.runner import apply, judge, measured, observing
from tests.lab import Container, Topology, build, engine

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from exporter.observe.observer import Observer
    from tests.lab import Engine

pytestmark = pytest.mark.lab

NOBODY = "02:00:5e:00:53:01"
ALIKE = ("ca", "cb", "cc")
TOPOLOGY = Topology(
    networks=dual_stack("six", "other"),
    containers=(
        *(Container(name, "six", flags=("--publish=8001:80",) if name == "cc" else ()) for name in ALIKE),
        Container("cd", "other", flags=("--publish=8002:80",)),
        Container("host1", "host"),
    ),
    host=let_through("-I POSTROUTING -j ACCEPT"),
)


class Host:
    """An engine with the topology, and the words that commands have for its parts."""

    def __init__(self, made: Engine, observer: Observer) -> None:
        self.engine = made
        self.observer = observer
        build(made, TOPOLOGY)
        time.sleep(ANNOUNCED)
        bridge = made.on_host("ip", "-oneline", "link", "show", "brsix")
        self.words: dict[str, str] = {"nobody": NOBODY, "mh": bridge.partition("link/ether ")[2].split()[0]}
        for container in (*ALIKE, "cd"):
            (own,) = made.api(f"/containers/{container}/json")["NetworkSettings"]["Networks"].values()
            letter = container[-1]
            self.words |= {
                f"p{letter}": made.port_of(container),
                f"m{letter}": own["MacAddress"],
                f"{letter}4": own["IPAddress"],
                f"{letter}6": own["GlobalIPv6Address"],
                f"{letter}l": str(link_local_of(own["MacAddress"])),
            }


@pytest.fixture(scope="module")
def lab() -> Iterator[Host]:
    """Give the newest engine with the topology."""
    with engine("28.5") as made, closing(observing(made, Tier.SANDBOXES)) as observer:
        yield Host(made, observer)


@dataclass(frozen=True, slots=True)
class Odd:
    """What is done on the host (empty key) and in containers, and what undoes it there; and pairs' verdicts then."""

    does: Mapping[str, str]
    undoes: Mapping[str, str]
    verdicts: Mapping[str, str]


def port(switches: str, undone: str, **verdicts: str) -> Odd:
    """Return a change of b's port."""
    base = "bridge link set dev {pb} "
    return Odd({"": base + switches}, {"": base + undone}, verdicts)


def fixed(place: str, *entries: str, **verdicts: str) -> Odd:
    """Return neighbours that are fixed, in a container or on the host, as `address link-address`."""
    device = "eth0" if place else "brsix"
    added = [
        f"ip neigh replace {entry.split()[0]} lladdr {entry.split()[1]} dev {device} nud permanent" for entry in entries
    ]
    gone = [f"ip neigh del {entry.split()[0]} dev {device}" for entry in entries]
    return Odd({place: "; ".join(added)}, {place: "; ".join(gone)}, verdicts)


def told(entry: str, undone: str = "", **verdicts: str) -> Odd:
    """Return what a bridge is told of a link address."""
    mac, _, place = entry.partition(" dev ")
    gone = undone or f"bridge fdb del {mac} dev {' '.join(place.split()[:2])} || bridge fdb del {mac} dev {{pb}} master"
    return Odd({"": f"bridge fdb replace {entry}"}, {"": gone}, verdicts)


FORGET = "; bridge fdb del {mb} dev {pb} master || true"
STATIC = FORGET + "; bridge fdb replace {mb} dev {pb} master static"
ISOLATE, JOIN = (
    "; ".join(f"bridge link set dev {{p{letter}}} isolated {switch}" for letter in "abc") for switch in ("on", "off")
)
ON_LINK = {"ca": "ip route add 10.100.2.0/24 dev eth0; ip -6 route add fd00:b::/64 dev eth0"}
OFF_LINK = {"ca": "ip route del 10.100.2.0/24 dev eth0; ip -6 route del fd00:b::/64 dev eth0"}
# neighbour discovery, which conntrack does not follow, passes: both are asked, and both answer
APART, TOGETHER = (
    "; ".join(
        f"{program} -w -{verb} FORWARD -i brsix -o brsix {rule}"
        for program in ("iptables", "ip6tables")
        for rule in ("-j DROP", "-m conntrack --ctstate ESTABLISHED,UNTRACKED -j ACCEPT")
    )
    for verb in "ID"
)
CLOSED, OPEN = (
    "; ".join(
        f"{program} -w -{verb} INPUT -i brsix {rule}"
        for program in ("iptables", "ip6tables")
        for rule in ("-m conntrack --ctstate NEW -j DROP",)
    )
    for verb in "ID"
)
BY_TURNS = (
    "(while :; do for at in {mh} {mb}; do for whose in {b4} {b6}; do"
    " ip neigh replace $whose lladdr $at dev eth0 nud reachable; done; sleep 0.07; done; done) >/dev/null 2>&1 &"
    " echo $! >/tmp/{pa}.turns"
)
NO_MORE = "kill $(cat /tmp/{pa}.turns); rm /tmp/{pa}.turns"
TAKEN = "ip route add local {b4} dev lo; ip -6 address add {b6}/128 dev brsix nodad"
LEFT = "ip route del local {b4} dev lo; ip -6 address del {b6}/128 dev brsix"
PROXIES = "sysctl -qw net.ipv4.conf.brsix.proxy_arp=1"
MEDIUM = "sysctl -qw net.ipv4.conf.brsix.medium_id={} net.ipv4.conf.brother.medium_id={}"
CUT = {"ab": "blocked", "ba": "blocked", "ac": "reachable"}

CASES = {
    "as usual": Odd({}, {}, {"ab": "reachable", "ba": "reachable", "ad": "reachable"}),
    "learning off": port("learning off", "learning on", ab="reachable", ba="reachable"),
    "flood off": port("flood off", "flood on", ab="reachable", ba="reachable"),
    "neither, forgotten": port("learning off flood off" + FORGET, "learning on flood on", ab="blocked", ba="unknown"),
    "neither, static": port(
        "learning off flood off" + STATIC, "learning on flood on" + FORGET, ab="reachable", ba="reachable"
    ),
    "bcast_flood off": port("bcast_flood off", "bcast_flood on", ab="reachable"),
    "mcast_flood off": port("mcast_flood off", "mcast_flood on", ab="reachable"),
    "locked, forgotten": port("locked on" + FORGET, "locked off", **CUT),
    "locked, static": port("locked on learning off" + STATIC, "locked off learning on" + FORGET, ab="reachable"),
    "told: elsewhere, static": told("{mb} dev {pc} master static", ab="reachable", ba="reachable"),
    "told: elsewhere, sticky": told("{mb} dev {pc} master static sticky", ab="blocked", ba="unknown"),
    "told: elsewhere, local": told("{mb} dev {pc} master local", ab="unknown"),
    "told: there, sticky": told("{mb} dev {pb} master static sticky", ab="reachable", ba="reachable"),
    "told: there, local": told("{mb} dev {pb} master local", ab="unknown"),
    "told: the bridge": told("{mb} dev brsix self local", ab="unknown"),
    "told: the router elsewhere": told(
        "{mh} dev {pc} master static", "bridge fdb replace {mh} dev brsix self local", ad="blocked", ab="reachable"
    ),
    "neigh_suppress": port("neigh_suppress on", "neigh_suppress off", ab="reachable", ba="reachable"),
    "proxy_arp of the port": Odd(
        {"": "echo 1 >/sys/class/net/{pb}/brport/proxyarp"},
        {"": "echo 0 >/sys/class/net/{pb}/brport/proxyarp"},
        {"ab": "unknown"},
    ),
    "arp off": Odd({"cb": "ip link set eth0 arp off"}, {"cb": "ip link set eth0 arp on"}, CUT),
    "arp off, bridge": Odd({"": "ip link set brsix arp off"}, {"": "ip link set brsix arp on"}, {"ab": "reachable"}),
    "arp off, fixed": Odd(
        {
            "cb": "ip link set eth0 arp off; ip neigh replace {a4} lladdr {ma} dev eth0 nud permanent",
            "ca": "ip neigh replace {b4} lladdr {mb} dev eth0 nud noarp",
        },
        {
            "cb": "ip link set eth0 arp on; ip neigh del {a4} dev eth0 || true",
            "ca": "ip neigh del {b4} dev eth0",
        },
        {"ab": "reachable", "ba": "reachable", "cb": "blocked", "bc": "blocked"},
    ),
    "arp_ignore 8": Odd(
        {"cb": "sysctl -qw net.ipv4.conf.eth0.arp_ignore=8"},
        {"cb": "sysctl -qw net.ipv4.conf.eth0.arp_ignore=0"},
        {"ab": "reachable"},
    ),
    "fixed, nobody's": fixed("ca", "{b4} {nobody}", "{b6} {nobody}", "{bl} {nobody}", ab="blocked", ba="reachable"),
    "fixed, but the link-local address": fixed("ca", "{b4} {nobody}", "{b6} {nobody}", ab="reachable", ba="reachable"),
    "fixed, another's": fixed(
        "ca", "{b4} {mc}", "{b6} {mc}", "{bl} {mc}", ab="blocked", ba="reachable", ac="reachable"
    ),
    "fixed, right": fixed("ca", "{b4} {mb}", "{b6} {mb}", ab="reachable", ba="reachable"),
    "fixed, everybody's": fixed(
        "ca", "{b4} ff:ff:ff:ff:ff:ff", "{b6} 33:33:00:00:00:01", "{bl} 33:33:00:00:00:01", ab="unknown"
    ),
    "fixed, the router": fixed("ca", "10.100.1.1 {nobody}", "fd00:a::1 {nobody}", ab="reachable", da="reachable"),
    "fixed in the host": fixed("", "{b4} {nobody}", "{b6} {nobody}", ab="reachable", db="blocked"),
    "fixed at loopback": Odd(
        {"ca": "ip neigh replace {a4} lladdr {nobody} dev lo nud permanent"},
        {"ca": "ip neigh replace {a4} lladdr 00:00:00:00:00:00 dev lo nud noarp"},
        {"ab": "reachable", "ba": "reachable"},
    ),
    "taken by the host, too": Odd({"": TAKEN}, {"": LEFT}, {"ab": "reachable"}),
    "taken by the host, too, who answers": Odd(
        {"": f"{TAKEN}; {APART}", "ca": BY_TURNS},
        {"": f"{LEFT}; {TOGETHER}", "ca": NO_MORE},
        {"ab": "unknown", "ba": "blocked"},
    ),
    "taken by the host, too, who is answered": Odd(
        {"": f"{TAKEN}; {CLOSED}", "ca": BY_TURNS},
        {"": f"{LEFT}; {OPEN}", "ca": NO_MORE},
        {"ah": "unknown"},
    ),
    "published, taken by another, too": Odd(
        {"cb": "ip address add {c4}/32 dev lo", "": APART},
        {"cb": "ip address del {c4}/32 dev lo", "": TOGETHER},
        {"ab": "unknown", "ac": "reachable"},
    ),
    "on the link": Odd(ON_LINK, OFF_LINK, {"ab": "reachable"}),
    "proxy_arp": Odd(
        {**ON_LINK, "": "sysctl -qw net.ipv4.conf.brsix.proxy_arp=1"},
        {**OFF_LINK, "": "sysctl -qw net.ipv4.conf.brsix.proxy_arp=0"},
        {"ad": "reachable"},
    ),
    "proxy_arp, on one medium": Odd(
        {**ON_LINK, "": PROXIES + "; " + MEDIUM.format(5, 5)},
        {**OFF_LINK, "": "sysctl -qw net.ipv4.conf.brsix.proxy_arp=0; " + MEDIUM.format(0, 0)},
        {},
    ),
    "proxy_arp, on another medium": Odd(
        {**ON_LINK, "": PROXIES + "; " + MEDIUM.format(5, 6)},
        {**OFF_LINK, "": "sysctl -qw net.ipv4.conf.brsix.proxy_arp=0; " + MEDIUM.format(0, 0)},
        {"ad": "reachable"},
    ),
    "proxy_arp, on no medium": Odd(
        {**ON_LINK, "": PROXIES + "; " + MEDIUM.format(-1, 6)},
        {**OFF_LINK, "": "sysctl -qw net.ipv4.conf.brsix.proxy_arp=0; " + MEDIUM.format(0, 0)},
        {},
    ),
    "answered for": Odd(
        {
            **ON_LINK,
            "": "sysctl -qw net.ipv6.conf.brsix.proxy_ndp=1; ip neigh add proxy {d4} dev brsix;"
            " ip -6 neigh add proxy {d6} dev brsix",
        },
        {
            **OFF_LINK,
            "": "sysctl -qw net.ipv6.conf.brsix.proxy_ndp=0; ip neigh del proxy {d4} dev brsix;"
            " ip -6 neigh del proxy {d6} dev brsix",
        },
        {"ad": "reachable"},
    ),
    "isolated": Odd({"": ISOLATE}, {"": JOIN}, {"ab": "blocked"}),
    "isolated, proxy_arp_pvlan": Odd(
        {"": "sysctl -qw net.ipv4.conf.brsix.proxy_arp_pvlan=1; " + ISOLATE},
        {"": "sysctl -qw net.ipv4.conf.brsix.proxy_arp_pvlan=0; " + JOIN},
        {"ab": "reachable"},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_packets_agree(lab: Host, name: str) -> None:
    """Packets do what the verdicts say, and the verdicts are certain where they can be."""
    odd = CASES[name]
    changes = tuple(Change(name, (text.format(**lab.words),), place) for place, text in odd.does.items())
    try:
        for change in changes:
            apply(lab.engine, change)
        outcome = judge(measured(lab.engine, lab.observer, Case("28.5", TOPOLOGY), changes))
    finally:
        for place, text in odd.undoes.items():
            apply(lab.engine, Change(f"{name}, undone", (text.format(**lab.words),), place))
    assert not outcome.enforced.disagreements, outcome.enforced.disagreements
    assert not outcome.unlike
    for pair, verdict in odd.verdicts.items():
        ends = ("host1" if letter == "h" else f"c{letter}" for letter in pair)
        assert outcome.pair(*ends).verdict is Verdict(verdict), pair


def test_ports_are_known_without_entering_containers(lab: Host) -> None:
    """The kernel tells who is at the other end of the host's cables."""
    try:
        apply(lab.engine, Change("isolated", (ISOLATE.format(**lab.words),)))
        with closing(observing(lab.engine, Tier.KERNEL)) as observer:
            report = evaluate(parse(observer.observe()))
    finally:
        apply(lab.engine, Change("isolated, undone", (JOIN.format(**lab.words),)))
    by_name = {container.name: container for container in report.containers}
    assert (report.evidence.kernel, report.evidence.sandboxes) == (True, False)
    verdicts = {
        pair: report.pair(by_name[f"c{pair[0]}"], by_name[f"c{pair[1]}"]).verdict for pair in ("ab", "ba", "ac")
    }
    assert verdicts == {"ab": Verdict.BLOCKED, "ba": Verdict.BLOCKED, "ac": Verdict.REACHABLE}
