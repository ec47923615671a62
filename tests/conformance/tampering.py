"""What somebody may do to a host behind its engine's back: random changes to its firewall, bridges and routes.

What drops packets beside all firewalls is in `beside`, what administrators do all day in `chores`, and interfaces that
somebody makes in `wires`.
"""

from __future__ import annotations

from itertools import chain
from random import Random
from typing import TYPE_CHECKING

from tests.conformance import beside, chores, wires
from tests.conformance.changes import ANNOUNCED, NOBODY, Change, Commands, Facts, Somebody, by_nft
from tests.conformance.generator import HOST_ADDRESS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

MOST = 3
"""Changes to one host."""

_UNMANAGED = 0.12
"""How often an engine does not manage the firewall, or that of IPv6."""

_INSIDE = 0.4
"""How often somebody changes the namespace of a container, too."""

_AFTERWARDS = 0.25
"""How often the engine is told to do something once all is changed."""


def engine_args(version: str, seed: int, args: tuple[str, ...]) -> tuple[str, ...]:
    """Return what an engine is started with that may be told to leave the firewall alone."""
    random = Random(f"arguments/{version}/{seed}")
    if random.random() < _UNMANAGED:
        # the engine refuses to promise what it may not enforce
        return (*(arg for arg in args if arg not in ("--icc=false", "--ip6tables")), "--iptables=false")
    if version == "28.5" and "--icc=false" not in args and random.random() < _UNMANAGED:
        return (*args, "--ip6tables=false")
    return args


def tamper(facts: Facts, version: str, seed: int) -> tuple[Change, ...]:
    """Return the changes of a seed: the same ones for the same facts. What the engine does then comes last."""
    random = Random(f"tamper/{version}/{seed}")
    makers = (
        _Host(facts, random),
        beside.OnHost(facts, random),
        chores.OnHost(facts, random),
        wires.OnHost(facts, random),
    )
    chosen = random.sample([change for maker in makers for change in maker.changes()], random.randint(1, MOST))
    # what flushes the engine's chains comes after what adds to them
    chosen.sort(key=lambda change: change.name.startswith("iptables restored"))
    if facts.sandboxes and random.random() < _INSIDE:
        inside = (*_inside(facts, random), *beside.inside(facts, random), *chores.inside(facts, random))
        chosen.append(random.choice(inside))
    if facts.sandboxes and random.random() < _AFTERWARDS:
        chosen.append(random.choice([*chores.afterwards(facts, random)]))
    return tuple(chosen)


_REWRITES = ("ip daddr set", "ip saddr set", "ip6 daddr set", "udp dport set", "tcp dport set")


class _Host(Somebody):
    """The changes that are possible on a host, with their details chosen at random."""

    def changes(self) -> Iterator[Change]:
        makers: Sequence[Callable[[], Iterator[Change]]] = (
            self._br_netfilter,
            self._flushed,
            self._policies,
            self._docker_user,
            self._docker_user_by_connection,
            self._input,
            self._marks,
            self._nftables,
            self._nftables_nat,
            self._rewritten,
            self._legacy,
            self._nat,
            self._bridges,
            self._at_interfaces,
            self._neighbours,
            self._ports,
            self._questions,
            self._proxies,
            self._forwarding,
            self._routes,
            self._ipv6,
        )
        return chain.from_iterable(maker() for maker in makers)

    def _br_netfilter(self) -> Iterator[Change]:
        both = "net.bridge.bridge-nf-call-iptables={0} net.bridge.bridge-nf-call-ip6tables={0}"
        yield Change("br_netfilter off", (f"sysctl -qw {both.format(0)}",))
        yield Change("br_netfilter on", (f"sysctl -qw {both.format(1)}",))
        name = self._bridge
        switch = f"echo 1 >/sys/class/net/{name}/bridge/nf_call_iptables"
        if name in self._facts.bridges:
            yield Change("br_netfilter on for one", ("sysctl -qw net.bridge.bridge-nf-call-iptables=0", switch))

    def _flushed(self) -> Iterator[Change]:
        yield Change("FORWARD flushed", ("iptables -w -F FORWARD",))
        yield Change("FORWARD flushed, IPv6", ("ip6tables -w -F FORWARD",))
        tables = [f"{program} -w -t {table} -F" for program in ("iptables", "ip6tables") for table in ("filter", "nat")]
        yield Change("all flushed", (*tables, "iptables -w -t raw -F", "ip6tables -w -t raw -F"))
        yield Change("nat flushed", ("iptables -w -t nat -F",))
        yield Change("raw flushed", ("iptables -w -t raw -F", "ip6tables -w -t raw -F"))
        yield Change("masquerading flushed", ("iptables -w -t nat -F POSTROUTING",))

    def _policies(self) -> Iterator[Change]:
        yield Change("FORWARD accepts", ("iptables -w -P FORWARD ACCEPT", "iptables -w -I FORWARD -j ACCEPT"))
        yield Change("FORWARD drops", ("iptables -w -P FORWARD DROP",))
        yield Change("INPUT drops", ("iptables -w -P INPUT DROP",))
        yield Change("OUTPUT drops", ("iptables -w -P OUTPUT DROP",))
        yield Change("OUTPUT drops to one", (f"iptables -w -A OUTPUT -d {self._address} -j DROP",))
        owner = "iptables -w -A OUTPUT -p udp -m owner ! --uid-owner 0 -j DROP"
        yield Change("OUTPUT drops by owner", (owner,), doubts=("socket_user",))

    def _docker_user(self) -> Iterator[Change]:
        one, other, bridge = self._address, self._address, self._bridge
        rules = {
            "source": f"-s {one} -j DROP",
            "not source": f"! -s {one} -d {other} -j REJECT",
            "port accepted": "-p tcp --dport 80 -j ACCEPT",
            "ports dropped": "-p udp -m multiport --dports 80,7000:8000 -j DROP",
            "not ports": f"-s {one} -p tcp -m multiport ! --dports 80,5432 -j DROP",
            "range": f"-m iprange --src-range {one}-{one} -j DROP",
            "address type": f"-m addrtype --dst-type UNICAST -d {one} -j ACCEPT",
            "flags": f"-p tcp --tcp-flags SYN,ACK SYN,ACK -s {one} -j DROP",
            "echo": "-p icmp --icmp-type echo-request -j DROP",
            "frames": "-m physdev --physdev-is-bridged -j ACCEPT",
            "frames of a port": f"-m physdev --physdev-in {self._pick(self._facts.ports, 'nobody')} -j DROP",
            "to another bridge": f"-i {bridge} ! -o {bridge} -j DROP",
            "comment": f'-d {one} -m comment --comment "-j ACCEPT it\'s" -j DROP',
        }
        for name, rule in rules.items():
            yield Change(f"DOCKER-USER {name}", (f"iptables -w -I DOCKER-USER {rule}",))
        wild = (f"iptables -w -I DOCKER-USER -i {bridge} -j RETURN", "iptables -w -A DOCKER-USER -i br-+ -j DROP")
        yield Change("DOCKER-USER bridges", wild)
        chain = (
            "iptables -w -N tampered",
            f"iptables -w -A tampered -s {one} -j RETURN",
            "iptables -w -A tampered -p udp -j DROP",
            "iptables -w -I DOCKER-USER -g tampered",
        )
        yield Change("DOCKER-USER goto", chain)

    def _docker_user_by_connection(self) -> Iterator[Change]:
        one = self._address
        protocol, port = self._published
        rules = {
            "new": f"-m conntrack --ctstate NEW -d {one} -j DROP",
            "established": f"-m conntrack --ctstate ESTABLISHED -s {one} -p tcp -j DROP",
            "invalid": "-m conntrack --ctstate INVALID -j DROP",
            "original port": f"-p {protocol} -m conntrack --ctorigdstport {port} --ctdir ORIGINAL -j DROP",
            "translated": "-m conntrack --ctstate DNAT -j ACCEPT",
            "not translated": "-m conntrack ! --ctstate DNAT -m conntrack --ctstate NEW -j DROP",
        }
        for name, rule in rules.items():
            yield Change(f"DOCKER-USER {name}", (f"iptables -w -I DOCKER-USER {rule}",))

    def _input(self) -> Iterator[Change]:
        ufw = (
            "-N ufw-input", "-A ufw-input -i lo -j ACCEPT",
            "-A ufw-input -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
            "-A ufw-input -m conntrack --ctstate INVALID -j DROP",
            "-A ufw-input -p icmp --icmp-type echo-request -j ACCEPT", "-A ufw-input -p tcp --dport 80 -j ACCEPT",
            "-A INPUT -j ufw-input", "-P INPUT DROP",
        )  # fmt: skip
        yield Change("INPUT as ufw has it", tuple(f"iptables -w {rule}" for rule in ufw))
        firewalld = (
            "add table inet firewalld",
            "add chain inet firewalld filter_INPUT { type filter hook input priority 10; policy accept; }",
            "add rule inet firewalld filter_INPUT ct state { established, related } accept",
            'add rule inet firewalld filter_INPUT iifname "lo" accept',
            "add rule inet firewalld filter_INPUT ct state invalid drop",
            "add rule inet firewalld filter_INPUT meta l4proto { icmp, ipv6-icmp } accept",
            "add rule inet firewalld filter_INPUT tcp dport 5432 ct state { new, untracked } accept",
            "add rule inet firewalld filter_INPUT reject with icmpx type admin-prohibited",
        )
        yield Change("INPUT as firewalld has it", tuple(f"nft '{rule}'" for rule in firewalld))

    def _marks(self) -> Iterator[Change]:
        one = self._address
        mark = f"iptables -w -t mangle -A PREROUTING -s {one} -j MARK --set-mark 7"
        yield Change("marked and dropped", (mark, "iptables -w -I DOCKER-USER -m mark --mark 7/15 -j DROP"))
        routes = ("ip rule add fwmark 7 table 77", "ip route replace blackhole default table 77")
        yield Change("marked and routed", (mark, *routes))
        yield Change("not tracked", (f"iptables -w -t raw -I PREROUTING -s {one} -j NOTRACK",))
        accept = "iptables -w -I FORWARD -m conntrack --ctstate UNTRACKED -j ACCEPT"
        yield Change("not tracked, accepted", ("iptables -w -t raw -I PREROUTING -p udp -j NOTRACK", accept))

    def _nftables(self) -> Iterator[Change]:
        one, other, bridge = self._address, self._address, self._bridge
        begin = (
            "add table inet tampered",
            "add chain inet tampered early { type filter hook forward priority -5; policy accept; }",
        )
        rules = {
            "set": f"ip daddr {one} tcp dport {{ 80, 5000-6000 }} drop",
            "not in set": f"ip saddr {one} udp dport != {{ 80, 7777 }} drop",
            "states": "ct state established,related accept; add rule inet tampered early meta l4proto tcp drop",
            "concatenation": f"ip saddr . ip daddr . tcp dport {{ {one} . {other} . 0-65535 }} drop",
            "local type": "fib daddr type local drop; add rule inet tampered early icmp type echo-request drop",
            "mark": f"ip saddr {one} meta mark set 0x10; add rule inet tampered early meta mark & 0x10 == 0x10 drop",
        }
        for name, rule in rules.items():
            commands = (*begin, f"add rule inet tampered early {rule}")
            yield Change(f"nftables {name}", by_nft(*commands))
        named = (
            *begin,
            "add chain inet tampered deep",
            "add rule inet tampered deep udp dport 80 drop",
            "add map inet tampered ways { type ifname : verdict; }",
            f'add element inet tampered ways {{ "{bridge}" : jump deep }}',
            "add rule inet tampered early oifname vmap @ways",
        )
        yield Change("nftables verdict map", by_nft(*named))
        late = (
            "add table ip tampered",
            "add chain ip tampered late { type filter hook forward priority 20; policy drop; }",
            "add rule ip tampered late ct state established accept",
            f'add rule ip tampered late iifname . oifname {{ "{bridge}" . "{self._bridge}" }} accept',
        )
        yield Change("nftables later, policy drop", by_nft(*late))
        frames = (
            "add table bridge tampered",
            "add chain bridge tampered frames { type filter hook forward priority 0; policy accept; }",
            f"add rule bridge tampered frames ip saddr {one} ip protocol udp drop",
        )
        yield Change("nftables bridge", by_nft(*frames))
        for hook in ("prerouting", "input", "output", "postrouting"):
            ports = (
                "add table bridge tampered",
                f"add chain bridge tampered {hook}s {{ type filter hook {hook} priority 0; policy accept; }}",
                f"add rule bridge tampered {hook}s ip protocol tcp tcp dport {{ 80, 7777 }} drop",
                f"add rule bridge tampered {hook}s ip saddr {one} ip protocol udp drop",
            )
            yield Change(f"nftables bridge, {hook}", by_nft(*ports))

    def _nftables_nat(self) -> Iterator[Change]:
        protocol, port = self._published
        one = self._address
        begin = (
            "add table ip tampernat",
            "add chain ip tampernat first { type nat hook prerouting priority -110; }",
        )
        rules = {
            "taken over": f"{protocol} dport {port} dnat to {one}:7777",
            "by map": f"dnat to {protocol} dport map {{ {port} : {one} }}",
            "redirected": f"ip daddr {one} {protocol} dport 5432 redirect to :80",
        }
        for name, rule in rules.items():
            commands = (*begin, f"add rule ip tampernat first {rule}")
            yield Change(f"nftables nat {name}", by_nft(*commands))

    def _rewritten(self) -> Iterator[Change]:
        """Yield what nftables writes into packets behind conntrack's back."""
        one, other, six = self._address, self._address, self._address6
        places = {
            "destination before conntrack": ("prerouting", -300, f"ip daddr {other} ip daddr set {one}"),
            "destination after conntrack": ("prerouting", -150, f"ip daddr {HOST_ADDRESS} ip daddr set {one}"),
            "destination over IPv6": ("prerouting", -300, f"meta l4proto udp ip6 daddr {six} ip6 daddr set {six}"),
            "destination of a third party": ("prerouting", -300, f"ip daddr 192.0.2.0/24 ip daddr set {one}"),
            "destination passed on": ("forward", -5, f"ip daddr {other} ip daddr set {one}"),
            "source": ("prerouting", -300, f"ip saddr {one} ip saddr set {other}"),
            "source sent": ("postrouting", 200, f"ip saddr {one} udp dport 80 ip saddr set {HOST_ADDRESS}"),
            "port": ("prerouting", -150, "udp dport 5432 udp dport set 80"),
            "port passed on": ("forward", 10, f"ip daddr {one} tcp dport 7777 tcp dport set 80"),
            "port taken in": ("input", 0, "udp dport 7777 udp dport set 5432"),
        }
        for number, (name, (hook, priority, rule)) in enumerate(places.items()):
            place = f"inet behind at{number}"
            commands = (
                "add table inet behind",
                f"add chain {place} {{ type filter hook {hook} priority {priority}; }}",
                f"add rule {place} {rule}",
            )
            yield Change(f"rewritten {name}", by_nft(*commands), doubts=_REWRITES)

    def _legacy(self) -> Iterator[Change]:
        yield Change("legacy beside nft", (f"iptables-legacy -w -A FORWARD -s {self._address} -j DROP",))
        rule = f"iptables-legacy -w -A INPUT -s {self._address} -p udp -j DROP"
        yield Change("legacy beside nft, INPUT", (rule,))

    def _nat(self) -> Iterator[Change]:
        protocol, port = self._published
        one = self._address
        begin = "iptables -w -t nat -I"
        taken = f"{begin} PREROUTING -p {protocol} --dport {port} -j DNAT --to-destination {one}:80"
        yield Change("published port taken over", (taken,))
        yield Change("redirected", (f"{begin} PREROUTING -p tcp --dport 5432 -d {one} -j REDIRECT --to-ports 80",))
        yield Change("other source", (f"{begin} POSTROUTING -d {one} -j SNAT --to-source {HOST_ADDRESS}",))
        ports = f"{begin} PREROUTING -p tcp -d {HOST_ADDRESS} --dport 80 -j DNAT --to-destination {one}"
        yield Change("a new address", (ports,))
        proxied = f"{begin} PREROUTING -p tcp -m multiport --dports 80,5432 -m addrtype ! --dst-type LOCAL"
        yield Change("third parties led to one", (f"{proxied} -j DNAT --to-destination {one}:7777",))
        yield Change("third parties led to the host", (f"{proxied} ! -d 10.0.0.0/8 -j REDIRECT --to-ports 7777",))
        spread = f"ip6tables -w -t nat -I PREROUTING -p udp ! -d fd00::/8 -j DNAT --to-destination {self._address6}"
        yield Change("third parties led to one over IPv6", (f"{spread} || true",))
        kill = f"pids=$(pgrep -f '[d]ocker-proxy.*-host-port {port} ') && kill $pids || true"
        yield Change("docker-proxy killed", (kill,))

    def _bridges(self) -> Iterator[Change]:
        ports = self._facts.ports
        for name, chosen in (("all isolated", ports), ("two isolated", ports[:2])):
            yield Change(name, tuple(f"bridge link set dev {port} isolated on" for port in chosen))
        if ports:
            moved = f"ip link set {self._pick(ports, '')} master {self._bridge}"
            yield Change("moved to another bridge", (moved,))
            yield Change("hairpin", (f"bridge link set dev {self._pick(ports, '')} hairpin on",))

    def _at_interfaces(self) -> Iterator[Change]:
        one = self._address
        port = self._pick(self._facts.ports, "eth0")
        places = {
            "ingress of a port": ("ingress", port, f"ip saddr {one} tcp dport {{ 80, 7000-8000 }} drop"),
            "ingress of any source": ("ingress", port, "udp dport 5432 drop"),
            "ingress of a bridge": ("ingress", self._bridge, "udp dport 80 drop"),
            "egress of a port": ("egress", port, "tcp dport != 80 tcp flags & (syn | ack) == syn drop"),
            "egress of a bridge": ("egress", self._bridge, f"ip daddr {one} drop"),
            "ingress of neighbours": ("ingress", port, "icmpv6 type nd-neighbor-solicit drop"),
        }
        for number, (name, (hook, device, rule)) in enumerate(places.items()):
            chain = f"netdev tampered gate{number}"
            commands = (
                "add table netdev tampered",
                f'add chain {chain} {{ type filter hook {hook} device "{device}" priority 0; }}',
                f"add rule {chain} {rule}",
            )
            seconds = ANNOUNCED if name == "ingress of neighbours" else 0.0
            yield Change(f"nftables {name}", by_nft(*commands), seconds=seconds)

    def _neighbours(self) -> Iterator[Change]:
        begin = "add table bridge tampered; add chain bridge tampered frames { type filter hook forward priority 0; }"
        yield Change("ARP dropped by bridges", (f"nft '{begin}; add rule bridge tampered frames ether type arp drop'",))
        allowed = f"{begin.replace('0; }', '0; policy drop; }')}; add rule bridge tampered frames ether type ip accept"
        yield Change("bridges pass IPv4 alone", (f"nft '{allowed}'",))
        own = "add table arp tampered; add chain arp tampered mine { type filter hook input priority 0; policy drop; }"
        yield Change("ARP dropped by the host", (f"nft '{own}'",))

    def _ports(self) -> Iterator[Change]:
        port, mac = self._pick(self._facts.ports, ""), self._pick(self._facts.macs, NOBODY)
        if not port:
            return
        lone = f"bridge link set dev {port}"
        known = f"bridge fdb show dev {port} | grep -v permanent"
        forgotten = f"{known} | while read mac rest; do bridge fdb del $mac dev {port} master || true; done"
        static = f"bridge fdb replace {mac} dev {port} master static"
        switches: dict[str, Commands] = {
            "does not learn": (f"{lone} learning off",),
            "does not flood": (f"{lone} flood off",),
            "neither learns nor floods": (f"{lone} learning off flood off",),
            "neither learns nor floods, forgotten": (f"{lone} learning off flood off", forgotten),
            "neither learns nor floods, static": (f"{lone} learning off flood off", forgotten, static),
            "locked": (f"{lone} locked on",),
            "locked, forgotten": (f"{lone} locked on", forgotten),
            "locked, static": (f"{lone} locked on learning off", forgotten, static),
            "without broadcasts": (f"{lone} bcast_flood off",),
            "without groups": (f"{lone} mcast_flood off",),
            "answered for": (f"{lone} neigh_suppress on bcast_flood off",),
            "proxy ARP": (f"echo 1 >/sys/class/net/{port}/brport/proxyarp",),
        }
        for name, commands in switches.items():
            yield Change(f"port {name}", commands, seconds=ANNOUNCED)
        everywhere = tuple(f"bridge link set dev {each} bcast_flood off" for each in self._facts.ports)
        yield Change("ports without broadcasts", everywhere, seconds=ANNOUNCED)

    def _questions(self) -> Iterator[Change]:
        yield Change("a bridge without ARP", (f"ip link set {self._bridge} arp off",))
        yield Change("answers nobody", (f"sysctl -qw net.ipv4.conf.{self._bridge}.arp_ignore=8",))
        yield Change("answers for its own", ("sysctl -qw net.ipv4.conf.all.arp_ignore=1",))
        yield Change("answers by its routes", ("sysctl -qw net.ipv4.conf.all.arp_filter=1",))
        for name, mac in (("of nobody", NOBODY), ("of somebody", self._pick(self._facts.macs, NOBODY))):
            yield Change(f"a link address {name}", (_fixed(self._address, mac), _fixed(self._address6, mac)))

    def _proxies(self) -> Iterator[Change]:
        one, bridge = self._address, self._bridge
        isolated = tuple(f"bridge link set dev {port} isolated on" for port in self._facts.ports)
        yield Change("proxy ARP", ("sysctl -qw net.ipv4.conf.all.proxy_arp=1",))
        yield Change("proxy ARP for the isolated", (*isolated, "sysctl -qw net.ipv4.conf.all.proxy_arp_pvlan=1"))
        yield Change("answers for one", (f"ip neigh add proxy {one} dev {bridge}",))
        six = f"ip -6 neigh add proxy {self._address6} dev {bridge}"
        yield Change("answers for one, IPv6", (f"sysctl -qw net.ipv6.conf.{bridge}.proxy_ndp=1", six))

    def _forwarding(self) -> Iterator[Change]:
        yield Change("forwards nothing", ("sysctl -qw net.ipv4.ip_forward=0",))
        yield Change("forwards nothing from one", (f"sysctl -qw net.ipv4.conf.{self._bridge}.forwarding=0",))
        yield Change("forwards no IPv6", ("sysctl -qw net.ipv6.conf.all.forwarding=0",))
        yield Change("reverse path filter", ("sysctl -qw net.ipv4.conf.all.rp_filter=1",))
        yield Change("routes localnet", ("sysctl -qw net.ipv4.conf.all.route_localnet=1",))

    def _routes(self) -> Iterator[Change]:
        one, bridge = self._address, self._bridge
        yield Change(
            "more addresses", (f"ip address add 10.77.7.1/24 dev {bridge}", "ip address add 10.78.7.1/32 dev lo")
        )
        yield Change("policy rule", (f"ip rule add from {one} table 77", "ip route replace blackhole default table 77"))
        yield Change("unreachable", (f"ip route add unreachable {one}/32",))
        by_hand = (
            "ip link add byhand type bridge",
            "ip address add 10.79.7.1/24 dev byhand",
            "ip link set byhand up",
            f"ip route add {one}/32 dev byhand",
        )
        yield Change("a bridge by hand", by_hand)

    def _ipv6(self) -> Iterator[Change]:
        one = self._address6
        yield Change("IPv6 dropped", (f"ip6tables -w -I FORWARD -d {one} -p tcp -j DROP",))
        yield Change("IPv6 accepted", (f"ip6tables -w -I FORWARD -d {one} -p udp -j ACCEPT",))
        yield Change("IPv6 policy", ("ip6tables -w -P FORWARD DROP",))
        yield Change("IPv6 INPUT drops", ("ip6tables -w -P INPUT DROP",))
        apart = (
            "iptables -w -I FORWARD -s {0} -d {0} -j DROP",
            "ip6tables -w -I FORWARD ! -p icmpv6 -s {0} -d {0} -j DROP",
        )
        shut = (apart[":" in subnet].format(subnet) for subnet in self._facts.subnets)
        on = "sysctl -qw net.bridge.bridge-nf-call-iptables=1 net.bridge.bridge-nf-call-ip6tables=1"
        yield Change("shut by subnets", (on, *shut))


def _fixed(address: str, mac: str) -> str:
    """Return what fixes the link address of a neighbour at the interface that leads there, if one does."""
    family = "-6" if ":" in address else "-4"
    told = f"ip {family} -o route get {address} | sed -n 's/.* dev \\([^ ]*\\) .*/\\1/p'"
    return f'dev=$({told}); test -z "$dev" || ip neigh replace {address} lladdr {mac} dev "$dev" nud permanent'


def _router(version: int, mac: str) -> str:
    """Return what fixes the link address of the router that a namespace's default route leads to, if there is one."""
    told = f"ip -{version} route show default | sed -n 's/.* via \\([^ ]*\\) dev \\([^ ]*\\).*/\\1 dev \\2/p'"
    return f'gateway=$({told}); test -z "$gateway" || ip neigh replace $gateway lladdr {mac} nud permanent'


def _inside(facts: Facts, random: Random) -> Iterator[Change]:
    """Yield what somebody may do inside a container's namespace."""
    name = random.choice(facts.sandboxes)
    one = random.choice(facts.ipv4) if facts.ipv4 else "172.17.0.2"
    neighbour = random.choice(facts.ipv4) if facts.ipv4 else "172.17.0.3"
    nft = (
        "add table inet tampered",
        "add chain inet tampered inside { type filter hook input priority 0; policy drop; }",
        "add rule inet tampered inside udp dport 80-6000 accept",
    )
    six = random.choice(facts.ipv6) if facts.ipv6 else "fd00:99::2"
    mac = random.choice((NOBODY, *facts.macs))
    changes: dict[str, Commands] = {
        "without ARP": ("ip link set eth0 arp off",),
        "without ARP, but for one": ("ip link set eth0 arp off", _fixed(neighbour, mac)),
        "answers nobody": ("sysctl -qw net.ipv4.conf.eth0.arp_ignore=8",),
        "answers the same subnet": ("sysctl -qw net.ipv4.conf.eth0.arp_ignore=2",),
        "answers by routes": ("sysctl -qw net.ipv4.conf.all.arp_filter=1",),
        "a link address": (_fixed(neighbour, mac), _fixed(six, mac)),
        "a router's link address": tuple(_router(version, mac) for version in (4, 6)),
        "looks for all on the link": (
            f"ip route add {one}/32 dev eth0 || true",
            f"ip route add {six}/128 dev eth0 || true",
        ),
        "INPUT drops a port": ("iptables -w -A INPUT -p tcp --dport 80 -j DROP",),
        "OUTPUT drops": (f"iptables -w -A OUTPUT -d {one} -j DROP",),
        "no default route": ("ip route del default || true",),
        "blackhole": (f"ip route add blackhole {one}/32",),
        "route by a neighbour": (f"ip route add {one}/32 via {neighbour} || true",),
        "nftables policy drop": by_nft(*nft),
        "third parties led to one": (f"iptables -w -t nat -A OUTPUT -p tcp --dport 80 -j DNAT --to-destination {one}",),
        "third parties led home": ("iptables -w -t nat -A OUTPUT -p udp ! -d 10.0.0.0/8 -j REDIRECT --to-ports 80",),
        "another address": ("ip address add 10.66.6.6/32 dev lo",),
    }
    for title, commands in changes.items():
        seconds = ANNOUNCED if title.startswith(("without ARP", "answers", "a link address")) else 0.0
        yield Change(f"inside: {title}", commands, name, seconds)
