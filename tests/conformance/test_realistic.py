"""Hosts as administrators set them up, on a real engine: packets are the judge.

One host for all of them: what a case changes it puts back. Rules of known programs are in tests/data/realistic.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from exporter.model.reach import Verdict
from tests.conformance.cases import Case
from tests.conformance.routed import dual_stack
from tests.lab import Container, Network, Topology

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.conformance.runner import Built

pytestmark = pytest.mark.lab

FOLDER = Path(__file__).parent.parent / "data" / "realistic"
BEFORE, BEFORE6 = "/run/before", "/run/before6"
TOPOLOGY = Topology(
    networks=(
        *dual_stack("one", "two"),
        Network("inside", "bridge", {}, ("--subnet=10.100.3.0/24", "--internal")),
    ),
    containers=(
        Container("near", "one", flags=("--ip=10.100.1.11", "--expose=15001", "--expose=15006")),
        Container("next", "one", ("inside",), ("--ip=10.100.1.12", "--sysctl=net.ipv4.ip_forward=1")),
        Container("far", "two", flags=("--ip=10.100.2.11", "--publish=8080:80")),
        Container("closed", "inside", flags=("--ip=10.100.3.12",)),
        Container("web", flags=("--publish=198.51.100.10:9090:90", "--publish=127.0.0.1:9091:91")),
        Container("hosted", "host"),
    ),
    host=(
        "for table in raw mangle nat; do iptables -w -t $table -S > /dev/null; done",
        f"iptables-save > {BEFORE}; ip6tables-save > {BEFORE6}",
    ),
)


RESTORED = f"iptables-restore < {BEFORE}; ip6tables-restore < {BEFORE6}"


def rules(*names: str) -> str:
    """Return how rules of a program get into the kernel."""
    return "; ".join(f"iptables-restore -w -n {FOLDER / name}.rules" for name in names)


def at_bridge(name: str, address: str) -> str:
    """Return how a namespace gets to the bridge cni0."""
    return (
        f"ip netns add {name}; ip link add v{name} type veth peer name eth0 netns {name};"
        f" ip link set v{name} master cni0 up; ip -n {name} link set eth0 up;"
        f" ip -n {name} address add {address}/24 dev eth0; ip -n {name} route add default via 10.42.0.1"
    )


FIREWALLD, KUBE_PROXY = FOLDER / "firewalld.nft", FOLDER / "kube-proxy.nft"
BANNED = " ".join(f"for j in $(seq 1 250); do echo add banned 203.0.{net}.$j; done;" for net in (1, 2))
TAILSCALE = "fwmark 0x80000/0xff0000"
TUNNEL = "ip tuntap add tun0 mode tun; ip link set tun0 up; ip address add 10.8.0.2/24 dev tun0"
SWITCH_LOCALNET = "sysctl -qw net.ipv4.conf.all.route_localnet={}"
ONLY_BY_TUNNEL = (
    (
        f"{TUNNEL}; ip route replace default dev tun0; iptables -w -P OUTPUT DROP;"
        " iptables -w -A OUTPUT -o lo -j ACCEPT;"
        " iptables -w -A OUTPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT; iptables -w -A OUTPUT -o tun0 -j ACCEPT;"
        " ip6tables -w -P OUTPUT DROP"
    ),
    (
        "ip link del tun0; ip route replace default via 10.100.1.1; iptables -w -F; iptables -w -P OUTPUT ACCEPT;"
        " ip6tables -w -P OUTPUT ACCEPT"
    ),
)

CASES: Mapping[str, Case] = {
    "ufw-docker": Case(
        ("near", "web"), Verdict.REACHABLE, rules("ufw", "ufw-docker"), doubts=frozenset({"recent"})
    ),
    # who looks for neighbours does so from the link, and nobody heeds another hop limit
    "ufw, of IPv6": Case(("near", "hosted"), Verdict.REACHABLE, f"ip6tables-restore -w -n {FOLDER / 'ufw6'}.rules"),
    "firewalld": Case(
        ("far", "hosted"), Verdict.REACHABLE, f"nft -f {FIREWALLD}", "nft delete table inet firewalld"
    ),
    "fail2ban, with sets of hundreds": Case(
        ("near", "hosted"), Verdict.REACHABLE,
        f"( echo create banned hash:ip timeout 600; {BANNED} echo create open bitmap:port range 0-65535;"
        " for port in $(seq 1000 2 1600); do echo add open $port; done; ) | ipset restore;"
        " iptables -w -I INPUT -p tcp -m set --match-set banned src -j REJECT;"
        " iptables -w -I INPUT -p tcp -m set --match-set open dst -j DROP;"
        " iptables -w -I DOCKER-USER -m set --match-set banned src -j DROP",
        "ipset destroy",
    ),
    # docker-proxy connects from ports of which the set has one, and nearly always from another one
    "a set of networks and ports": Case(
        ("web", "far"), Verdict.REACHABLE,
        "ipset create shut hash:net,port; ipset add shut 10.0.0.0/8,tcp:33060;"
        " iptables -w -I INPUT -m set --match-set shut src,dst -j DROP",
        "ipset destroy",
    ),
    "tailscale": Case(
        ("near", "far"), Verdict.REACHABLE,
        "ip tuntap add ts0 mode tun; ip link set ts0 up; ip address add 100.64.0.1/32 dev ts0;"
        " ip route add 100.100.100.100 dev ts0 table 52; ip route add throw 127.0.0.0/8 table 52;"
        f" ip rule add pref 5210 {TAILSCALE} lookup main; ip rule add pref 5230 {TAILSCALE} lookup default;"
        f" ip rule add pref 5250 {TAILSCALE} unreachable; ip rule add pref 5270 lookup 52;"
        " iptables -w -I INPUT -s 100.64.0.0/10 ! -i ts0 -j DROP;"
        " iptables -w -I FORWARD -m mark --mark 0x40000/0xff0000 -j ACCEPT;"
        " iptables -w -I FORWARD -i ts0 -j MARK --set-xmark 0x40000/0xff0000;"
        " iptables -w -t nat -I POSTROUTING -m mark --mark 0x40000/0xff0000 -j MASQUERADE",
        "for pref in 5210 5230 5250 5270; do ip rule del pref $pref; done; ip link del ts0; ip route flush table 52",
    ),
    "wg-quick for all": Case(
        ("near", "far"), Verdict.REACHABLE,
        f"{TUNNEL}; ip route add default dev tun0 table 51820; ip rule add not fwmark 51820 table 51820;"
        " ip rule add table main suppress_prefixlength 0",
        "ip rule del table main suppress_prefixlength 0; ip rule del not fwmark 51820 table 51820; ip link del tun0",
    ),
    "a container with a tunnel and nothing beside": Case(
        ("near", "far"), Verdict.BLOCKED, inside={"near": ONLY_BY_TUNNEL}
    ),
    "a proxy beside, as istio has it": Case(
        ("near", "web"), Verdict.UNKNOWN,
        inside={"near": (rules("istio"), "for x in F X; do iptables -w -t nat -$x; done")},
        doubts=frozenset({"socket_user"}),
    ),
    "a container that routes for others": Case(
        ("near", "closed"), Verdict.REACHABLE,
        inside={
            "next": ("iptables -w -t nat -A POSTROUTING -o eth1 -j MASQUERADE", "iptables -w -t nat -F"),
            "near": ("ip route add 10.100.3.0/24 via 10.100.1.12", "ip route del 10.100.3.0/24"),
        },
    ),
    # whom a rule of nat marks, a later one masquerades: CNI's portmap, as kube-proxy and netavark do
    "a port of CNI, also for the host's loopback": Case(
        ("hosted", "far"), Verdict.REACHABLE,
        f"{SWITCH_LOCALNET.format(1)}; for chain in dnat setmark masq; do iptables -w -t nat -N $chain; done;"
        " for hook in PREROUTING OUTPUT; do"
        " iptables -w -t nat -A $hook -p tcp --dport 7777 -m addrtype --dst-type LOCAL -j dnat; done;"
        " iptables -w -t nat -A dnat -s 10.100.2.0/24 -j setmark; iptables -w -t nat -A dnat -s 127.0.0.1 -j setmark;"
        " iptables -w -t nat -A dnat -p tcp -j DNAT --to-destination 10.100.2.11:80;"
        " iptables -w -t nat -A setmark -j MARK --set-xmark 0x2000/0x2000;"
        " iptables -w -t nat -A masq -m mark --mark 0x2000/0x2000 -j MASQUERADE;"
        " iptables -w -t nat -A POSTROUTING -j masq",
        SWITCH_LOCALNET.format(0),
    ),
    # the host's packets are routed anew where mangle marks them, or nat leads them elsewhere, and by no other mark
    "marks of what the host sends": Case(
        ("hosted", "far"), Verdict.REACHABLE,
        "ip rule add fwmark 7 lookup 77; ip rule add fwmark 8 lookup 77; ip route add blackhole default table 77;"
        " iptables -w -t raw -A OUTPUT -d 10.100.2.11 -j MARK --set-mark 7;"
        " iptables -w -A OUTPUT -d 10.100.1.11 -j MARK --set-mark 7;"
        " iptables -w -t nat -A OUTPUT -d 10.100.1.12 -j MARK --set-mark 7;"
        " iptables -w -t mangle -A OUTPUT -p udp --dport 80 -j MARK --set-mark 8;"
        " iptables -w -t mangle -A OUTPUT -d 10.100.2.11 -p udp --dport 5432 -j MARK --set-mark 7",
        "ip rule del fwmark 7; ip rule del fwmark 8; ip route flush table 77",
    ),
    # which endpoint of two is drawn by a verdict map
    "kube-proxy by nftables": Case(
        ("hosted", "far"), Verdict.REACHABLE,
        f"nft -f {KUBE_PROXY}", "nft delete table ip kube-proxy", doubts=frozenset({"numgen"}),
    ),
    "kubernetes beside": Case(
        ("web", "far"), Verdict.REACHABLE,
        "ip link add cni0 type bridge; ip link set cni0 up; ip address add 10.42.0.1/24 dev cni0;"
        f" {at_bridge('pod1', '10.42.0.11')}; {at_bridge('pod2', '10.42.0.12')}; {rules('kube')}",
        "ip netns del pod1; ip netns del pod2; ip link del cni0",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_packets_agree(host: Built, name: str) -> None:
    """Packets do what the verdicts say, and nothing is in doubt but what the rules leave to chance or to programs."""
    case = CASES[name]
    outcome = host.done(name, case.does, f"{RESTORED}; {case.undoes}", case.inside)
    assert outcome.report.missing == {}
    assert outcome.enforced.disagreements == ()
    assert outcome.unlike == ()
    assert outcome.enforced.doubts == case.doubts
    assert outcome.pair(*case.pair).verdict is case.verdict
