"""What administrators do to the network of a host, and what engines are told to do after it."""

from __future__ import annotations

from ipaddress import ip_network
from itertools import chain
from typing import TYPE_CHECKING, Final

from tests.conformance.changes import ANNOUNCED, NOBODY, Change, Facts, Somebody, by_nft
from tests.conformance.generator import CARDS, HOST_ADDRESS
from tests.lab.engine import IMAGE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from random import Random

_OF_NFT: Final = {
    "limit": "limit", "ct count": "ct count", "numgen": "numgen", "quota": "quota", "hops": "ip ttl",
    "dynamic set": "a dynamic set", "helper": "ct helper", "next hop": "rt", "synproxy": "synproxy",
    "hash": "jhash", "the way out": "fib", "zone": "ct zone", "rewritten": "ip daddr set",
    "port rewritten": "tcp dport set",
}  # fmt: skip
"""Why packets are undecided that meet a rule of nftables, by what the rule is called here."""


_BY_ROUTE: Final = {
    "by one of two": ("which of several next hops the packets take",),
    "home, of a part of a network": ("two that answer for ", "whether an owner "),
}
"""How reasons begin for which paths are undecided because of a route."""


class OnHost(Somebody):
    """Changes of this kind on a host."""

    def changes(self) -> Iterator[Change]:
        """Yield them, with their details chosen at random."""
        makers = (
            self._anew, self._unforeseeable, self._sets, self._sources, self._destinations, self._connections,
            self._nft, self._nft_lookups, self._frames, self._policy_routing, self._routes, self._settings,
            self._addresses, self._links, self._cards,
        )  # fmt: skip
        return chain.from_iterable(maker() for maker in makers)

    # --- Rules ---

    def _anew(self) -> Iterator[Change]:
        """Yield what services of a firewall do when they start."""
        yield Change("nftables starts", ("nft flush ruleset",))
        own = (
            "flush ruleset",
            "add table inet filter",
            "add chain inet filter input { type filter hook input priority filter; policy drop; }",
            "add chain inet filter forward { type filter hook forward priority filter; policy drop; }",
            "add rule inet filter input ct state vmap { established : accept, related : accept, invalid : drop }",
            "add rule inet filter input iif lo accept",
            "add rule inet filter input meta l4proto { icmp, ipv6-icmp } accept",
            "add rule inet filter forward ct state established,related accept",
            f"add rule inet filter forward iifname {{ {self._bridge}, docker0 }} accept",
        )
        yield Change("nftables starts, with rules", tuple(f"nft '{rule}'" for rule in own))
        restored = r"printf '*filter\n:INPUT ACCEPT\n:FORWARD DROP\n:OUTPUT ACCEPT\n{}COMMIT\n' | iptables-restore -w"
        yield Change("iptables restored", (restored.format(""),))
        yield Change("iptables restored, with rules", (restored.format(rf"-A FORWARD -i {self._bridge} -j ACCEPT\n"),))

    def _unforeseeable(self) -> Iterator[Change]:
        """Yield rules that decide by load, time, chance or content."""
        one = self._address
        rules = {
            "limit": "-p udp -m limit --limit 1/min --limit-burst 2 -j ACCEPT",
            "hashlimit": f"-s {one} -m hashlimit --hashlimit-name t --hashlimit-above 1/min -j DROP",
            "connlimit": f"-d {one} -p tcp -m connlimit --connlimit-above 1 -j REJECT",
            "quota": "-p icmp -m quota --quota 90 -j ACCEPT",
            "statistic": "-p tcp -m statistic --mode nth --every 2 --packet 0 -j DROP",
            "time": f"-s {one} -m time --timestart 00:00 --timestop 12:00 -j DROP",
            "string": f"-d {one} -p udp -m string --algo bm --string lab -j DROP",
            "ttl": f"-s {one} -m ttl --ttl-lt 64 -j DROP",
            "length": "-p udp -m length --length 0:60 -j DROP",
            "cpu": f"-s {one} -m cpu --cpu 0 -j DROP",
            "realm": f"-d {one} -m realm --realm 7 -j DROP",
            "helper": f"-d {one} -m helper --helper ftp -j ACCEPT",
            "connbytes": "-p tcp -m connbytes --connbytes 1: --connbytes-dir both --connbytes-mode packets -j DROP",
            "policy": f"-d {one} -m policy --dir in --pol ipsec -j DROP",
        }
        for name, rule in rules.items():
            yield Change(f"DOCKER-USER {name}", (f"iptables -w -I DOCKER-USER {rule}",), doubts=(name,))
        seen = (
            f"iptables -w -I DOCKER-USER -s {one} -m recent --name tampered --set",
            "iptables -w -I DOCKER-USER -m recent --name tampered --rcheck --seconds 60 -j DROP",
        )
        yield Change("DOCKER-USER recent", seen, doubts=("recent",))
        hops = f"iptables -w -t mangle -I PREROUTING -s {one} -j TTL --ttl-set 1"
        yield Change("few hops left", (hops,), doubts=("TTL",))
        queue = f"iptables -w -I DOCKER-USER -s {one} -p tcp -j NFQUEUE --queue-bypass"
        yield Change("a program decides", (queue,), doubts=("NFQUEUE",))
        yield Change("without effect", (
            f"iptables -w -I DOCKER-USER -s {one} -j LOG --log-prefix tampered",
            "iptables -w -t mangle -I FORWARD -p tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu",
            "iptables -w -t mangle -I PREROUTING -j TOS --set-tos 0x10",
        ))  # fmt: skip
        yield Change("the table security", (f"iptables -w -t security -I FORWARD -d {one} -p udp -j DROP",))

    def _sets(self) -> Iterator[Change]:
        one, subnet, bridge = self._address, self._subnet, self._bridge
        made = {
            "addresses": ("hash:ip timeout 600", one, "src -j DROP"),
            "networks": ("hash:net", subnet, "src,dst -j REJECT"),
            "but for one": ("hash:net", f"{subnet}; ipset add tampered {one} nomatch", "dst -j DROP"),
            "ports": ("hash:ip,port", f"{one},udp:80-90", "dst,dst -j DROP"),
            "ports between networks": ("hash:ip,port,net", f"{one},udp:80,{subnet}", "dst,dst,src -j DROP"),
            "interfaces": ("hash:net,iface", f"{subnet},{bridge}", "src,src -j DROP"),
            "port numbers": ("bitmap:port range 0-9000", "7000-8000", "dst -j DROP"),
        }
        for name, (kind, element, rule) in made.items():
            asked = f"iptables -w -I DOCKER-USER -p udp -m set --match-set tampered {rule}"
            yield Change(f"a set of {name}", (f"ipset create tampered {kind}", f"ipset add tampered {element}", asked))
        others = "iptables -w -I DOCKER-USER -p udp -m set ! --match-set tampered dst -j DROP"
        yield Change("not in a set", ("ipset create tampered hash:ip", f"ipset add tampered {one}", others))
        nested = (
            f"ipset create inner hash:ip; ipset add inner {one}; ipset create tampered list:set",
            "ipset add tampered inner; iptables -w -I DOCKER-USER -m set --match-set tampered src -j DROP",
        )
        yield Change("a set of sets", nested)

    def _sources(self) -> Iterator[Change]:
        one, bridge = self._address, self._bridge
        begin = "iptables -w -t nat -I POSTROUTING"
        yield Change("masquerades everything", (f"{begin} -j MASQUERADE",))
        yield Change("masquerades into a bridge", (f"{begin} -o {bridge} -j MASQUERADE --random-fully",))
        ports = f"{begin} -p tcp -d {one} -j MASQUERADE --to-ports 40000-41000"
        yield Change("masquerades to some ports", (ports,))
        yield Change("IPv6 masqueraded", ("ip6tables -w -t nat -I POSTROUTING -j MASQUERADE",))
        several = f"{begin} -d {one} -j SNAT --to-source {HOST_ADDRESS}-198.51.100.11"
        yield Change("one of two sources", (several,), doubts=("which of several addresses the translation takes",))
        yield Change(
            "another network's sources", (f"{begin} -s {self._subnet} -j NETMAP --to 10.88.8.0/24",), doubts=("NETMAP",)
        )
        yield Change("nobody's source", (f"{begin} -s {one} -j SNAT --to-source 10.88.8.8",))
        yield Change("not masqueraded", (f"{begin} -d {self._subnet} -j RETURN",))

    def _destinations(self) -> Iterator[Change]:
        protocol, port = self._published
        one, other = self._address, self._address
        begin = "iptables -w -t nat -I PREROUTING"
        half = "-m statistic --mode random --probability 0.5"
        spread = (
            "iptables -w -t nat -N spread",
            f"iptables -w -t nat -A spread -p tcp {half} -j DNAT --to-destination {one}:80",
            f"iptables -w -t nat -A spread -p tcp -j DNAT --to-destination {other}:80",
            f"{begin} -d 10.96.0.10 -p tcp --dport 80 -j spread",
            "iptables -w -t nat -I PREROUTING -d 10.96.0.10 -j MARK --set-xmark 0x4000/0x4000",
            "iptables -w -t nat -I POSTROUTING -m mark --mark 0x4000/0x4000 -j MASQUERADE --random-fully",
        )
        yield Change("as kube-proxy has it", spread, doubts=("statistic", "which of several"))
        shifted = f"{begin} -d {one} -p tcp --dport 5000:6000 -j DNAT --to-destination {other}:5000-6000/5000"
        yield Change("ports led on one by one", (shifted,))
        yield Change("a port let alone", (f"{begin} -p {protocol} --dport {port} -j ACCEPT",))
        yield Change(
            "its own redirected", ("iptables -w -t nat -I OUTPUT -p udp --dport 80 -j REDIRECT --to-ports 7777",)
        )
        yield Change(
            "its own led to one", (f"iptables -w -t nat -I OUTPUT -p tcp -d {one} -j DNAT --to-destination {other}",)
        )
        proxied = f"iptables -w -t mangle -I PREROUTING -p tcp --dport 80 -d {one} -j TPROXY --on-port 7777"
        yield Change("TPROXY", (proxied,), doubts=("whether a transparent socket takes",))
        six = f"ip6tables -w -t nat -I PREROUTING -p tcp --dport 5432 -j DNAT --to-destination [{self._address6}]:80"
        yield Change("IPv6 led to one", (f"{six} || true",))

    def _connections(self) -> Iterator[Change]:
        one, bridge = self._address, self._bridge
        raw = "iptables -w -t raw -I"
        zones = ("CT zone",)
        yield Change("a zone of its own", (f"{raw} PREROUTING -i {bridge} -j CT --zone 7",), doubts=zones)
        yield Change("helpers", (f"{raw} PREROUTING -p tcp --dport 5432 -j CT --helper ftp",))
        yield Change(
            "nothing of its own tracked", (f"{raw} OUTPUT -j NOTRACK", f"{raw} PREROUTING -s {one} -j NOTRACK")
        )
        yield Change("no TCP tracked", (f"{raw} PREROUTING -p tcp -j NOTRACK", f"{raw} OUTPUT -p tcp -j NOTRACK"))
        yield Change("no IPv6 tracked", ("ip6tables -w -t raw -I PREROUTING -j NOTRACK",))
        mangle = "iptables -w -t mangle -A PREROUTING"
        several = (
            f"{mangle} -j CONNMARK --restore-mark",
            f"{mangle} -m mark ! --mark 0 -j RETURN",
            f"{mangle} -s {one} -m conntrack --ctstate NEW -j MARK --set-mark 0x20/0x30",
            f"{mangle} -j CONNMARK --save-mark --nfmask 0x30 --ctmask 0x30",
            "ip rule add fwmark 0x20/0x30 table 78",
            "ip route add unreachable 10.0.0.0/8 table 78",
        )
        yield Change("connections keep their mark", several)
        yield Change("no connection is taken up", ("sysctl -qw net.netfilter.nf_conntrack_tcp_loose=0",))
        yield Change("windows are not looked at", ("sysctl -qw net.netfilter.nf_conntrack_tcp_be_liberal=1",))

    def _nft(self) -> Iterator[Change]:
        one, other, bridge = self._address, self._address, self._bridge
        forward = "add chain inet tampered early { type filter hook forward priority -5; policy accept; }"
        rule = "add rule inet tampered early"
        timed = f"add set inet tampered seen {{ type ipv4_addr; flags timeout; elements = {{ {one} timeout 600s }}; }}"
        dynamic = "add set inet tampered seen { type ipv4_addr; flags dynamic; timeout 60s; }"
        ranges = (
            "add set inet tampered seen { type ipv4_addr; flags interval; auto-merge; "
            f"elements = {{ {self._subnet}, {one} }}; }}"
        )
        rules: dict[str, tuple[str, ...]] = {
            "limit": (f"{rule} ip saddr {one} limit rate over 1/minute drop",),
            "ct count": (f"{rule} ip daddr {one} tcp dport 80 ct count over 1 drop",),
            "numgen": (f"{rule} ip saddr {one} numgen inc mod 2 0 drop",),
            "quota": (f"{rule} ip saddr {one} quota over 100 bytes drop",),
            "hops": (f"{rule} ip ttl < 64 ip saddr {one} drop",),
            "timed set": (timed, f"{rule} ip saddr @seen drop"),
            "dynamic set": (
                dynamic, f"{rule} ip daddr @seen drop", f"{rule} ip saddr {one} update @seen {{ ip daddr }}",
            ),
            "set of networks": (ranges, f"{rule} ip saddr @seen ip daddr != @seen drop"),
            "helper": (f'{rule} ct helper "ftp" accept',),
            "next hop": (f"{rule} rt ip nexthop {one} drop",),
            "kinds of interfaces": (
                f'{rule} meta iifkind "bridge" meta oifkind "bridge" ip daddr {one} udp dport 80 drop',
            ),
            "marks of connections": (
                f"{rule} ip saddr {one} ct state new ct mark set 7", f"{rule} ct mark 7 meta l4proto udp drop",
            ),
            "verdicts of addresses": (f"{rule} ip saddr . ip daddr vmap {{ {one} . {other} : drop }}",),
            "link addresses": (f"{rule} ether saddr {self._pick(self._facts.macs, NOBODY)} meta l4proto tcp drop",),
            "reject": (f"{rule} iifname {bridge} oifname {bridge} tcp dport 80 reject with tcp reset",),
            "synproxy": (f"{rule} tcp dport 80 ct state invalid,untracked synproxy mss 1460 wscale 7",),
            "hash": (f"{rule} ip saddr {one} jhash ip saddr . ip daddr mod 2 0 drop",),
        }  # fmt: skip
        for name, added in rules.items():
            yield _nft_change(name, "add table inet tampered", forward, *added)

    def _nft_lookups(self) -> Iterator[Change]:
        """Yield rules before conntrack: lookups of routes, and what is kept from conntrack."""
        one = self._address
        begin = "add chain ip tampered first { type filter hook prerouting priority -310; }"
        rule = "add rule ip tampered first"
        rules: dict[str, tuple[str, tuple[str, ...]]] = {
            "reverse path": ("fib saddr . iif oif missing drop", ()),
            "reverse path, marked": (
                f"ip saddr {one} meta mark set 7; {rule} fib saddr . mark . iif oif missing drop",
                (),
            ),
            "nobody's destination": (
                "fib daddr . iif type != { local, broadcast, multicast } ip protocol udp drop",
                (),
            ),
            "own destination": (f"ip saddr {one} fib daddr type local drop", ()),
            "the way out": (f"fib daddr oifname {self._bridge} udp dport 80 drop", ("fib",)),
            "untracked": (f"ip saddr {one} notrack", ()),
            "zone": (f"ip saddr {one} ct zone set 7", ("ct zone",)),
        }
        for name, (text, doubts) in rules.items():
            commands = ("add table ip tampered", begin, f"{rule} {text}")
            yield Change(f"nftables first, {name}", by_nft(*commands), doubts=doubts)

    def _frames(self) -> Iterator[Change]:
        one, mac, port = self._address, self._pick(self._facts.macs, NOBODY), self._port
        rules = {
            "a link address": f"-A FORWARD -s {mac} -j DROP",
            "an address": f"-A FORWARD -p IPv4 --ip-dst {one} -j DROP",
            "a port number": "-A FORWARD -p IPv4 --ip-proto udp --ip-dport 80 -j DROP",
            "questions for one": f"-A FORWARD -p ARP --arp-ip-dst {one} -j DROP",
            "what a port sends": f"-A FORWARD -i {port} -p IPv4 --ip-proto tcp -j DROP",
            "what the host sends": f"-A OUTPUT -o {port} -p IPv4 -j DROP",
            "what the host gets": f"-A INPUT -i {port} -p IPv4 --ip-proto udp -j DROP",
        }
        for name, rule in rules.items():
            yield Change(f"ebtables drops {name}", (f"ebtables {rule}",))
        yield Change("arptables drops questions", (f"arptables -A INPUT -s {one} -j DROP",))

    # --- Routing ---

    def _policy_routing(self) -> Iterator[Change]:
        one, other, bridge, elsewhere = self._address, self._address, self._bridge, self._bridge
        table = ("ip route replace blackhole default table 77",)
        third = f"ip route replace default via {other} dev {elsewhere} onlink table 77"
        away = (
            "ip route replace default via 198.51.100.1 dev eth0 table 77",
            f"ip route replace {one}/32 dev {bridge} table 77",
        )
        rules: dict[str, tuple[str, ...]] = {
            "by interface": (f"ip rule add iif {bridge} table 77", *table),
            "by two interfaces": (f"ip rule add iif {bridge} to {one} prohibit",),
            "by the way out": (f"ip rule add oif {bridge} blackhole",),
            "by port": ("ip rule add ipproto udp dport 80 unreachable",),
            "by source port": ("ip rule add ipproto tcp sport 80 blackhole",),
            "by mask": (
                f"iptables -w -t mangle -A PREROUTING -s {one} -j MARK --or-mark 0x12",
                "ip rule add fwmark 0x2/0x2 prohibit",
            ),
            "by no mark": ("ip rule add not fwmark 0x7 to 10.100.0.0/15 table 77", *away),
            "as WireGuard has it": (
                "ip rule add not fwmark 0xca6c table 77", "ip rule add table main suppress_prefixlength 0", *table,
            ),
            "by user": ("ip rule add uidrange 0-0 to 10.0.0.0/8 blackhole",),
            "from one elsewhere": (f"ip rule add from {one} table 77", *away),
            "to one elsewhere": (f"ip rule add to {one} table 77", third),
            "local last": ("ip rule add pref 32000 table local", "ip rule del pref 0"),
            "jumps": (
                "ip rule add pref 200 table main", "ip rule add pref 100 to 10.0.0.0/8 goto 200",
                "ip rule add pref 150 prohibit",
            ),
            "IPv6": (f"ip -6 rule add iif {bridge} prohibit",),
            "IPv6 to one": (
                f"ip -6 rule add to {self._address6} table 77", "ip -6 route replace blackhole default table 77",
            ),
        }  # fmt: skip
        for name, commands in rules.items():
            doubts = ("policy rule ",) if name == "by user" else ()
            yield Change(f"policy rule {name}", commands, doubts=doubts)
            if name.startswith(("by interface", "from one", "by mask")):
                filtered = (*commands, "sysctl -qw net.ipv4.conf.all.rp_filter=1")
                yield Change(f"policy rule {name}, reverse path filter", filtered)

    def _routes(self) -> Iterator[Change]:
        one, other, bridge = self._address, self._address, self._bridge
        routes = {
            "by a container": f"{one}/32 via {other}",
            "by a card": f"{one}/32 via 198.51.100.1",
            "into another bridge": f"{one}/32 dev {bridge}",
            "its own": "local 10.77.4.77/32 dev lo",
            "prohibited": f"prohibit {self._subnet}",
            "thrown": f"throw {one}/32",
            "by one of two": f"{one}/32 nexthop via {other} nexthop via 198.51.100.1",
            "of a low metric": f"{self._subnet} dev {bridge} metric 5",
            "third parties to one": f"192.0.2.0/24 via {other}",
            "home, of a whole prefix": "local 10.77.4.0/24 dev lo",
            "home, of a part of a network": f"local {_last_quarter(self._subnet)} dev lo",
        }
        for name, route in routes.items():
            yield Change(f"a route {name}", (f"ip route add {route} || true",), doubts=_BY_ROUTE.get(name, ()))
        six = self._address6
        # who does not forward IPv6 leaves it where nobody answers there
        by_card = (f"ip -6 route add {six}/128 via 2001:db8:100::1 || true",)
        yield Change("a route of IPv6 by a card", by_card, doubts=("what eth0 is connected to",))
        yield Change("a whole local route of IPv6", ("ip -6 route add local 2001:db8:77::/64 dev lo",))
        yield Change("an unreachable IPv6", (f"ip -6 route add unreachable {six}/128",))
        yield Change("no default route", ("ip route del default", "ip -6 route del default"))

    def _settings(self) -> Iterator[Change]:
        bridge = self._bridge
        four, six = "net.ipv4.conf", "net.ipv6.conf"
        settings = {
            "loose reverse path filter": f"{four}.all.rp_filter=2",
            "reverse path filter of one": f"{four}.{bridge}.rp_filter=1",
            "reverse path filter with marks": f"{four}.all.rp_filter=1 {four}.all.src_valid_mark=1",
            "believes its own": f"{four}.all.accept_local=1",
            "forwards from one alone": f"net.ipv4.ip_forward=0 {four}.{bridge}.forwarding=1",
            "forwards IPv6 from one alone": f"{six}.all.forwarding=0 {six}.{bridge}.force_forwarding=1",
            "forwards no IPv6 from one": f"{six}.{bridge}.forwarding=0",
            "no IPv6": f"{six}.all.disable_ipv6=1",
            "no IPv6 at one": f"{six}.{bridge}.disable_ipv6=1",
            "as LVS has it": f"{four}.all.arp_ignore=1 {four}.all.arp_announce=2",
            "announces by subnet": f"{four}.all.arp_announce=1",
            "br_netfilter off for IPv6": "net.bridge.bridge-nf-call-ip6tables=0",
            "br_netfilter for ARP": "net.bridge.bridge-nf-call-arptables=1",
        }
        for name, values in settings.items():
            yield Change(name, (f"sysctl -qw {values}",))
        again = f"sysctl -qw {six}.{bridge}.disable_ipv6=1 && sysctl -qw {six}.{bridge}.disable_ipv6=0"
        yield Change("IPv6 off and on at one", (again,))

    # --- Addresses and links ---

    def _addresses(self) -> Iterator[Change]:
        bridge, other = self._bridge, self._bridge
        own = f"own=$(ip -4 -oneline address show dev {bridge} | sed -n 's/.* inet \\([^ ]*\\) .*/\\1/p' | head -n 1)"
        moved = f'{own}; test -z "$own" || {{ ip address del $own dev {bridge}; ip address add $own dev {other}; }}'
        yield Change("a gateway moved", (moved,))
        yield Change("a gateway gone", (f"ip -4 address flush dev {bridge}",))
        yield Change("a gateway of IPv6 gone", (f"ip -6 address flush dev {bridge} scope global",))
        yield Change(
            "another gateway", (f"ip -4 address flush dev {bridge}", f"ip address add 10.77.7.1/24 dev {bridge}")
        )
        loose = (f"ip -4 address flush dev {bridge}", "sysctl -qw net.ipv4.conf.all.rp_filter=2")
        yield Change("a gateway gone, loose reverse path filter", loose)
        yield Change("the card's address gone", ("ip -4 address flush dev eth0",))
        yield Change(
            "a container's address", (f"ip address add {self._address}/32 dev lo",), doubts=("two that answer for ",)
        )
        yield Change("a link-local gateway gone", (f"ip -6 address flush dev {bridge} scope link",))

    def _links(self) -> Iterator[Change]:
        bridge, port = self._bridge, self._port
        yield Change("a bridge down", (f"ip link set {bridge} down",))
        # the carrier of what is up again comes some time later (linkwatch_event), and addresses of IPv6 come with it
        yield Change(
            "a bridge down and up", (f"ip link set {bridge} down", f"ip link set {bridge} up"), seconds=ANNOUNCED
        )
        yield Change("a bridge of small packets", (f"ip link set {bridge} mtu 1000",))
        yield Change("a bridge's link address", (f"ip link set {bridge} address 02:00:5e:00:53:77",))
        yield Change("a bridge that forgets", (f"ip link set {bridge} type bridge ageing_time 0",))
        yield Change("a bridge without snooping", (f"ip link set {bridge} type bridge mcast_snooping 0",))
        if not self._facts.ports:
            return
        yield Change("a port down", (f"ip link set {port} down",))
        yield Change("a port down and up", (f"ip link set {port} down", f"ip link set {port} up"), seconds=ANNOUNCED)
        yield Change("a port taken out", (f"ip link set {port} nomaster",))
        yield Change("a port gone", (f"ip link del {port}",))
        yield Change("a port blocking", (f"bridge link set dev {port} state 4 || true",))
        yield Change("a port disabled", (f"bridge link set dev {port} state 0 || true",))
        yield Change("groups one by one", (f"bridge link set dev {port} mcast_to_unicast on",))

    def _cards(self) -> Iterator[Change]:
        card, bridge = self._random.choice(CARDS), self._bridge
        yield Change("a card down", (f"ip link set {card} down",))
        yield Change("a card on a bridge", (f"ip link set {card} master {bridge} || true",))
        yield Change("the card down", ("ip link set eth0 down",))
        shim = (
            f"ip link add shim link {card} type macvlan mode bridge || exit 0",
            "ip link show shim >/dev/null 2>&1 || exit 0; ip link set shim up; ip address add 10.77.8.1/24 dev shim",
            f"ip link show shim >/dev/null 2>&1 || exit 0; ip route add {self._address}/32 dev shim || true",
        )
        yield Change("a macvlan of the host's own", shim)
        # both ends on one bridge would lead every broadcast round and round
        others = [each for each in self._facts.bridges if each != bridge]
        if others:
            other = self._random.choice(others)
            cable = (
                "ip link add cable0 type veth peer name cable1",
                f"ip link set cable0 master {bridge} up; ip link set cable1 master {other} up",
            )
            yield Change(
                "two bridges joined", cable, doubts=tuple(f"what {each} is connected to" for each in (bridge, other))
            )

    @property
    def _subnet(self) -> str:
        return self._pick([each for each in self._facts.subnets if ":" not in each], "172.17.0.0/16")


def _last_quarter(subnet: str) -> str:
    """Return the last addresses of a subnet, which its network may not give to anybody."""
    return str([*ip_network(subnet).subnets(prefixlen_diff=2)][-1])


def _nft_change(name: str, *commands: str) -> Change:
    doubts = (_OF_NFT[name],) if name in _OF_NFT else ()
    return Change(f"nftables, {name}", by_nft(*commands), doubts=doubts)


def inside(facts: Facts, random: Random) -> Iterator[Change]:
    """Yield changes of this kind in the namespace of a container."""
    name = random.choice(facts.sandboxes)
    one = random.choice(facts.ipv4) if facts.ipv4 else "172.17.0.2"
    six = random.choice(facts.ipv6) if facts.ipv6 else "fd00:99::2"
    changes = {
        "eth0 down": "ip link set eth0 down",
        "eth0 down and up": "ip link set eth0 down; ip link set eth0 up",
        "no IPv4": "ip -4 address flush dev eth0",
        "no global IPv6": "ip -6 address flush dev eth0 scope global",
        "shut by address": (
            "iptables -w -A INPUT ! -s 127.0.0.0/8 -j DROP; ip6tables -w -A INPUT ! -p icmpv6 -s fd00::/8 -j DROP"
        ),
        "IPv6 everywhere": "sysctl -qw net.ipv6.conf.eth0.accept_dad=0; sysctl -qw net.ipv6.conf.all.disable_ipv6=0",
        "no IPv6": "sysctl -qw net.ipv6.conf.all.disable_ipv6=1",
        "another link address": "ip link set eth0 address 02:00:5e:00:53:78",
        "another address": "ip address add 10.66.6.7/24 dev eth0",
        "an address of a neighbour's": f"ip address add {one}/32 dev eth0 || true",
        "reverse path filter": f"sysctl -qw net.ipv4.conf.all.rp_filter=1; ip route add blackhole {one}/32",
        "forwards": f"sysctl -qw net.ipv4.ip_forward=1; ip route add {one}/32 dev eth0 || true",
        "policy rule": f"ip rule add to {one} blackhole",
        "policy rule by port": "ip rule add ipproto udp dport 80 prohibit",
        "policy rule of answers": "ip rule add ipproto tcp sport 80 blackhole",
        "an unreachable IPv6": f"ip -6 route add unreachable {six}/128",
        "no default route of IPv6": "ip -6 route del default || true",
        "everything dropped": "iptables -w -P INPUT DROP; iptables -w -P OUTPUT DROP",
        "masquerades": "iptables -w -t nat -A POSTROUTING -j SNAT --to-source 10.66.6.8",
        "nothing tracked": "iptables -w -t raw -A PREROUTING -j NOTRACK",
        "answers dropped": "iptables -w -A OUTPUT -p tcp --tcp-flags SYN,ACK SYN,ACK -j DROP",
        "small packets": "ip link set eth0 mtu 1000",
    }  # fmt: skip
    for title, command in changes.items():
        doubts = ("two that answer for ",) if "neighbour" in title else ()
        yield Change(f"inside: {title}", (command,), name, doubts=doubts)
    subnet = random.choice([each for each in facts.subnets if ":" not in each] or ["172.17.0.0/16"])
    taken = f"ip route add local {_last_quarter(subnet)} dev lo || true"
    answered = _BY_ROUTE["home, of a part of a network"]
    yield Change("inside: takes a part of a network", (taken,), name, doubts=answered)
    told = "ip -6 route show default | sed -n 's/.* via \\([^ ]*:\\):[^ ]* dev.*/\\1:5399/p'"
    silent = f'gateway=$({told}); test -z "$gateway" || ip -6 route add {six}/128 via $gateway || true'
    left = ("whether it is known just now that gateway ", "what ")
    yield Change("inside: a gateway of IPv6 that nobody is", (silent,), name, doubts=left)
    begin = "iptables -w -A INPUT -p udp"
    limit = f"{begin} -m limit --limit 1/min --limit-burst 1 -j ACCEPT; {begin} -j DROP"
    yield Change("inside: limited", (limit,), name, doubts=("limit",))
    owner = "iptables -w -A OUTPUT -m owner --uid-owner 1000 -j DROP"
    yield Change("inside: by user", (owner,), name, doubts=("socket_user",))


def afterwards(facts: Facts, random: Random) -> Iterator[Change]:
    """Yield what the engine is told to do on a host that was changed."""
    name = random.choice(facts.sandboxes)
    yield Change("then restarted", seconds=ANNOUNCED, engine=(("restart", name),))
    yield Change("then stopped", engine=(("stop", name),))
    yield Change("then paused", engine=(("pause", name),))
    late = ("run", "--detach", "--name=late", IMAGE, "sleep", "1000")
    yield Change("then one more", seconds=ANNOUNCED, engine=(late,))
    if facts.networks:
        network = random.choice(facts.networks)
        connected, left = ("network", "connect", network, name), ("network", "disconnect", network, name)
        yield Change("then connected", seconds=ANNOUNCED, engine=(connected,))
        yield Change("then disconnected", engine=(left,))
        yield Change("then moved", seconds=ANNOUNCED, engine=(left, connected))
    yield Change("then a network more", engine=(("network", "create", "late"),))
