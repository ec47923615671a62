"""Where evaluators of rules go wrong, one by one: what a rule says in iptables' words, and what becomes of a packet."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network
from typing import TYPE_CHECKING

import pytest

from exporter.model.firewall import (
    Backend,
    Base,
    Chain,
    Field,
    Hook,
    InRanges,
    Rule,
    Table,
    TableFamily,
    Terminate,
)
from exporter.model.firewall import Verdict as Netfilter
from exporter.model.namespace import Hop, PolicyRule, Route, RouteKind, RuleAction
from exporter.model.ranges import Ranges
from exporter.parse.kernel.ipsets import parse_ipsets
from exporter.parse.kernel.iptables import parse_iptables
from tests.hosts import host
from tests.kernels import KernelOf, kernel, own_address
from tests.looks import CLOSED, OPEN, UNKNOWN, Look

if TYPE_CHECKING:
    from collections.abc import Callable

    from exporter.model.namespace import Interface, Namespace
    from exporter.model.reach import Verdict

NEW = "-m conntrack --ctstate NEW"
WEB, API, DB = "172.17.0.2/32", "172.17.0.3/32", "172.17.0.4/32"


def town() -> KernelOf:
    """Return a default bridge with three containers, one of them published, another network, and one in host mode."""
    built = (
        host("28.5")
        .network("other")
        .container("web")
        .container("api")
        .container("db", publish=["8080:80", "5353:53/udp"])
        .container("far", "other")
        .container("monitor", "host")
    )
    return kernel(built).engine_rules()


def fate(of: KernelOf | Look, source: str = "web", what: str = "80/tcp", destination: str = "db") -> Verdict:
    """Return what becomes of a packet to a container of the default bridge."""
    return (of.look() if isinstance(of, KernelOf) else of).direct(source, destination, "bridge", what)


def published(of: KernelOf | Look, what: str = "8080/tcp") -> Verdict:
    """Return what becomes of a packet from the other network to a published port at its gateway."""
    seen = of.look() if isinstance(of, KernelOf) else of
    return seen.probe("far", "db", seen.gateway("other"), what)


def changed(of: KernelOf, change: Callable[[Namespace], Namespace]) -> Look:
    """Return what the exporter makes of it after another change of the host's namespace."""
    seen = of.look()
    assert seen.snapshot.kernel
    read = seen.snapshot.kernel
    snapshot = replace(seen.snapshot, kernel=replace(read, host=change(read.host)))
    return Look(seen.observation, snapshot)


def card(of: KernelOf, container: str) -> Interface:
    """Return the first interface of a container."""
    seen = of.look()
    assert seen.snapshot.kernel
    inside = seen.snapshot.kernel.sandboxes[seen.containers[container].sandbox]
    return next(each for each in inside.interfaces.values() if each.name == "eth0")


def legacy(policy: str, *lines: str) -> Table:
    """Return a table filter of iptables-legacy."""
    chains = (":INPUT ACCEPT [0:0]", f":FORWARD {policy} [0:0]", ":OUTPUT ACCEPT [0:0]")
    text = "\n".join(("*filter", *chains, *lines, "COMMIT", ""))
    (table,) = parse_iptables(text, TableFamily.IP, Backend.IPTABLES_LEGACY, parse_ipsets(""))
    return table


def bridge_of(of: KernelOf, network: str) -> str:
    """Return the name of a network's bridge."""
    return next(each.interface for each in of.look().snapshot.networks.values() if each.name == network)


def user(*lines: str) -> KernelOf:
    """Return the host with rules in DOCKER-USER."""
    return town().rules(*(f"-A DOCKER-USER {line}" for line in lines))


def test_untouched() -> None:
    """Every packet of these tests arrives where nobody changed anything."""
    assert {fate(town()), fate(town(), "api"), fate(town(), what="53/udp"), published(town())} == {OPEN}


def test_negation_is_of_one_option() -> None:
    """`! -s A -d B` is not "anything but from A to B"."""
    of = user(f"! -s {WEB} -d {DB} -j DROP")
    assert (fate(of, "web"), fate(of, "api"), fate(of, "api", destination="web")) == (OPEN, CLOSED, OPEN)


@pytest.mark.parametrize(
    ("options", "closed", "still"),
    [
        ("-p tcp -m multiport --dports 22,80:90", ("22/tcp", "80/tcp", "90/tcp"), ("21/tcp", "91/tcp", "80/udp")),
        (f"{NEW} -p tcp -m multiport ! --dports 22,80:90", ("21/tcp", "91/tcp"), ("22/tcp", "85/tcp", "21/udp")),
        (f"{NEW} -p tcp -m tcp ! --dport 80", ("22/tcp",), ("80/tcp", "22/udp")),
        ("-p tcp -m tcp ! --dport 80", ("22/tcp", "80/tcp"), ("22/udp",)),
        ("! -p tcp", ("53/udp",), ("80/tcp",)),
    ],
)
def test_ports(options: str, closed: tuple[str, ...], still: tuple[str, ...]) -> None:
    """Lists mix ports with ranges; a negated one is still about its protocol alone, and about answers as well."""
    seen = user(f"{options} -j DROP").look()
    assert {fate(seen, what=each) for each in closed} == {CLOSED}
    assert {fate(seen, what=each) for each in still} == {OPEN}


@pytest.mark.parametrize(("policy", "verdict"), [("DROP", CLOSED), ("ACCEPT", OPEN)])
def test_return_from_a_base_chain_is_its_policy(policy: str, verdict: Verdict) -> None:
    """There is nothing to return to."""
    assert fate(town().policy("FORWARD", policy).rules(f"-I FORWARD -d {DB} -j RETURN")) == verdict


@pytest.mark.parametrize(("how", "verdict"), [("-g", OPEN), ("-j", CLOSED)])
def test_goto_returns_to_the_caller_of_its_caller(how: str, verdict: Verdict) -> None:
    """What follows a goto in its own chain is never met; after a jump it is."""
    of = town().rules("-A SIDE -p udp -j RETURN", f"-A DETOUR {how} SIDE", "-A DETOUR -j DROP")
    assert fate(of.rules("-I FORWARD -j DETOUR")) == verdict


def test_a_rule_without_a_target_counts() -> None:
    """And does nothing else."""
    assert fate(town().rules(f"-I FORWARD -d {DB}")) == OPEN


@pytest.mark.parametrize(
    ("lines", "table", "match"),
    [
        ((f"-A PREROUTING -s {WEB} -j MARK --set-xmark 0x10/0xff",), "mangle", "-m mark --mark 0x10/0xf0"),
        ((f"-A PREROUTING -s {WEB} -j CONNMARK --set-xmark 0x7/0xffffffff",), "mangle", "-m connmark --mark 0x7"),
        ((f"-I PREROUTING -s {WEB} -j MARK --set-xmark 0x10/0xff",), "nat", "-m mark --mark 0x10/0xf0"),
        ((f"-I PREROUTING -s {WEB} -j CONNMARK --set-xmark 0x7/0xffffffff",), "nat", "-m connmark --mark 0x7"),
        ((f"-A PREROUTING -s {WEB} -j CT --notrack",), "raw", "-m conntrack --ctstate UNTRACKED"),
    ],
    ids=["mark", "connmark", "mark of nat", "connmark of nat", "notrack"],
)
def test_state_is_carried_along(lines: tuple[str, ...], table: str, match: str) -> None:
    """What one rule writes on a packet, another one reads, in a later table."""
    seen = user(f"{match} -j DROP").rules(*lines, table=table).look()
    assert (fate(seen, "web"), fate(seen, "api")) == (CLOSED, OPEN)


@pytest.mark.parametrize(
    ("states", "verdict"),
    [("NEW,ESTABLISHED", CLOSED), ("ESTABLISHED", CLOSED), ("INVALID", OPEN), ("UNTRACKED", OPEN), ("RELATED", OPEN)],
)
def test_states_are_any_of_them(states: str, verdict: Verdict) -> None:
    """A connection begins as NEW and its answer is ESTABLISHED; neither is anything else. TCP needs both."""
    assert fate(user(f"-m conntrack --ctstate {states} -j DROP")) == verdict


def test_answers_that_may_pass_open_nothing() -> None:
    """`RELATED,ESTABLISHED -j ACCEPT` at the top of the chain lets no connection begin."""
    of = user("-j DROP").rules("-I FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT")
    assert fate(of) == CLOSED


@pytest.mark.parametrize(
    ("match", "verdict"),
    [
        ("-p tcp -m tcp --dport 80", CLOSED),
        ("-p tcp -m tcp --dport 8080", OPEN),
        ("-p tcp -m conntrack --ctorigdstport 8080", CLOSED),
        ("-p tcp -m conntrack --ctorigdstport 80", OPEN),
        ("-m conntrack --ctstate DNAT", CLOSED),
        ("-m conntrack --ctstate SNAT", CLOSED),  # the answer: what left was masqueraded
        ("-m conntrack --ctstatus EXPECTED", OPEN),
        ("-m conntrack --ctdir REPLY", CLOSED),
    ],
)
def test_a_filter_sees_what_a_translation_left(match: str, verdict: Verdict) -> None:
    """The container's port, and what it was before where a match asks the connection for it."""
    assert published(user(f"{match} -j DROP")) == verdict


def test_local_addresses_are_those_of_the_namespace() -> None:
    """A container's address is not local to the host, and its gateway's is."""
    seen = town().rules("-A PREROUTING -m addrtype --dst-type LOCAL -j DROP", table="raw").look()
    assert (fate(seen), published(seen)) == (OPEN, CLOSED)


@pytest.mark.parametrize(("name", "verdict"), [("docker+", CLOSED), ("br-+", OPEN), ("docker", OPEN), ("+", CLOSED)])
def test_interface_wildcards(name: str, verdict: Verdict) -> None:
    """A plus is the rest of a name, and no plus is a whole name."""
    assert fate(user(f"-i {name} -j DROP")) == verdict


@pytest.mark.parametrize(
    "match",
    [
        "-m limit --limit 5/sec",
        "-m hashlimit --hashlimit-upto 5/sec --hashlimit-name few",
        "-m recent --update --name all",
        "-m statistic --mode random --probability 0.5",
        "-m string --string GET --algo bm",
        '-m u32 --u32 "0x0=0x1"',
        '-m bpf --bytecode "1,6 0 0 1"',
        "-m time --timestart 08:00:00",
        "-m set --match-set absent dst",
        "-m nobodyknows --this 1",
    ],
)
def test_what_cannot_be_foreseen_is_unknown(match: str) -> None:
    """Neither dropped nor let through, whichever of both the rule would do."""
    assert fate(user(f"{match} -j DROP")) == UNKNOWN
    assert fate(user(f"{match} -j ACCEPT", "-j DROP")) == UNKNOWN


def test_addresses_of_cards_are_known() -> None:
    """`-m mac` is no guess: the exporter knows who has which."""
    of = town()
    seen = of.rules(f"-A DOCKER-USER -m mac --mac-source {card(of, 'web').mac} -j DROP").look()
    assert (fate(seen, "web"), fate(seen, "api")) == (CLOSED, OPEN)


def test_ports_of_bridges_are_known() -> None:
    """`-m physdev` names the port that a frame came in by."""
    of = town()
    seen = of.rules(f"-A DOCKER-USER -m physdev --physdev-in veth{card(of, 'web').peer} -j DROP").look()
    assert (fate(seen, "web"), fate(seen, "api")) == (CLOSED, OPEN)


def test_a_comment_says_nothing() -> None:
    """It matches everything."""
    assert fate(user('-m comment --comment "nothing is dropped" -j DROP')) == CLOSED


def test_both_backends_are_met() -> None:
    """Rules of iptables-legacy hold beside those of iptables-nft."""
    assert fate(town().table(legacy("ACCEPT", f"-A FORWARD -d {DB} -j DROP"))) == CLOSED


def test_an_early_accept_saves_nobody_from_a_later_chain() -> None:
    """Accepting ends one base chain; the other one on the hook is met all the same, whichever comes first."""
    assert fate(town().rules("-I FORWARD -j ACCEPT").table(legacy("DROP"))) == CLOSED


def framed(hook: Hook, field: Field, value: int) -> Table:
    """Return a table of family bridge that drops frames by one field at a hook."""
    steps = (InRanges(field, Ranges.of(value)), Terminate(Netfilter.DROP))
    return Table(
        TableFamily.BRIDGE, "mine", Backend.NFTABLES, {"own": Chain("own", (Rule(steps, "drop"),), Base(hook, 0))}
    )


@pytest.mark.parametrize("hook", [Hook.PREROUTING, Hook.FORWARD, Hook.POSTROUTING])
def test_chains_of_bridges_come_before_postrouting(hook: Hook) -> None:
    """br_netfilter rewrites the source of a frame after all that the bridge's own chains have to say."""
    of = town().rules(f"-A POSTROUTING -d {DB} -j SNAT --to-source 198.51.100.10", table="nat")
    web = int(ip_network(WEB).network_address)
    assert fate(of, what="53/udp") == OPEN
    assert fate(of.table(framed(hook, Field.SOURCE, web)), what="53/udp") == CLOSED
    assert fate(of, "api", "53/udp") == OPEN


@pytest.mark.parametrize("called", [0, 1])
def test_what_is_handed_up_was_rewritten_by_br_netfilter_alone(called: int) -> None:
    """At the INPUT of a bridge a published port is the container's already; without br_netfilter it is not yet."""
    inner = town().set("bridge/bridge-nf-call-iptables", called).table(framed(Hook.INPUT, Field.DESTINATION_PORT, 80))
    assert published(inner) == (CLOSED if called else OPEN)
    outer = town().set("bridge/bridge-nf-call-iptables", called).table(framed(Hook.INPUT, Field.DESTINATION_PORT, 8080))
    assert published(outer) == (OPEN if called else CLOSED)


def test_rules_inside_containers() -> None:
    """Both ends have a firewall of their own."""
    assert fate(town().inside("db", "-A INPUT -p tcp -m tcp --dport 80 -j DROP")) == CLOSED
    assert fate(town().inside("web", f"-A OUTPUT -d {DB} -j REJECT")) == CLOSED
    assert fate(town().inside("db", "-A OUTPUT -p tcp -m tcp --sport 80 -j DROP")) == CLOSED
    assert fate(town().inside("api", "-A INPUT -j DROP")) == OPEN


def test_rules_inside_containers_about_an_address_of_the_hosts_loopback() -> None:
    """Addresses that somebody gave to `lo` are ones that packets are sent to, and that rules are about."""

    def more(own: Namespace) -> Namespace:
        loopback = own.interfaces[1]
        added = replace(loopback, addresses=(*loopback.addresses, own_address("10.78.7.1/32")))
        local = Route(255, RouteKind.LOCAL, ip_network("10.78.7.1/32"), (Hop(1),))
        return replace(own, interfaces={**own.interfaces, 1: added}, routes=(*own.routes, local))

    closed_inside = town().inside("web", "-A OUTPUT -d 10.78.7.1/32 -j DROP")
    assert changed(town(), more).probe("web", "monitor", "10.78.7.1", "80/tcp") == OPEN
    assert changed(closed_inside, more).probe("web", "monitor", "10.78.7.1", "80/tcp") == CLOSED


def test_forwarding_is_of_no_matter_to_bridges() -> None:
    """What stays on its bridge is not forwarded; what goes to a published port of another network is."""
    of = town()
    for path in [f"ipv4/conf/{name}/forwarding" for name in ("all", "docker0", bridge_of(of, "other"))]:
        of.set(path, 0)
    assert (fate(of), published(of)) == (OPEN, CLOSED)


@pytest.mark.parametrize(("level", "verdict"), [(0, OPEN), (1, CLOSED), (2, OPEN)])
def test_reverse_path_filter(level: int, verdict: Verdict) -> None:
    """A strict one drops what comes in where no answer would go out; a loose one asks for any way back.

    The way back is the wrong one, so that TCP gets no answer either way.
    """
    of = town().set("ipv4/conf/all/rp_filter", level)

    def misled(own: Namespace) -> Namespace:
        (bridge,) = (each.index for each in own.interfaces.values() if each.name == "docker0")
        back = Route(254, RouteKind.UNICAST, ip_network(f"{of.look().ip('far', 'other')}/32"), (Hop(bridge),))
        return replace(own, routes=(*own.routes, back))

    assert (published(changed(of, misled), "5353/udp"), published(changed(of, misled))) == (verdict, CLOSED)
    assert published(of, "5353/udp") == OPEN


@pytest.mark.parametrize(("enabled", "verdict"), [(0, CLOSED), (1, OPEN)])
def test_route_localnet(enabled: int, verdict: Verdict) -> None:
    """Without it a packet that was led to 127.0.0.1 ends as a martian."""
    of = town().set("ipv4/conf/docker0/route_localnet", enabled)
    of.rules("-I PREROUTING -i docker0 -p tcp -m tcp --dport 9000 -j DNAT --to-destination 127.0.0.1", table="nat")
    seen = of.look()
    assert seen.probe("web", "monitor", seen.gateway(), "9000/tcp") == verdict
    assert seen.probe("web", "monitor", seen.gateway(), "9001/tcp") == OPEN


def test_policy_routing() -> None:
    """A rule before the table main leads some packets elsewhere; local addresses and bridges come before it."""
    of = town()
    nowhere = PolicyRule(4, 100, RuleAction.BLACKHOLE, source=ip_network(of.look().ip("far", "other")))
    local, main = (PolicyRule(4, priority, RuleAction.LOOKUP, table) for priority, table in ((0, 255), (32766, 254)))
    seen = changed(of, lambda own: replace(own, rules=(local, nowhere, main)))
    assert (published(seen), fate(seen)) == (CLOSED, OPEN)
    assert seen.probe("far", "monitor", seen.gateway("other"), "9001/tcp") == OPEN
    assert published(changed(of, lambda own: replace(own, rules=(local, main)))) == OPEN


def closed(*lines: str) -> KernelOf:
    """Return a default bridge with icc=false, on which translated connections pass, and rules of the table nat."""
    made = kernel(host("28.5", icc=False).container("web").container("db").container("monitor", "host")).engine_rules()
    return made.rules("-A DOCKER-USER -m conntrack --ctstate DNAT -j ACCEPT").rules(*lines, table="nat")


@pytest.mark.parametrize(
    ("match", "address"),
    [
        ("-p tcp -m tcp --dport 25", "192.0.2.1"),
        ("-p tcp -m tcp --dport 25 -m addrtype ! --dst-type LOCAL", "192.0.2.1"),
        ("-p tcp -m tcp --dport 25 ! -d 172.17.0.0/16", "192.0.2.1"),
        ("-p tcp -m tcp --dport 25 -d 203.0.113.0/24", "203.0.113.0"),
        ("-p tcp -m tcp --dport 25 -d 203.0.113.7/32", "203.0.113.7"),
    ],
)
def test_what_third_parties_were_sent(match: str, address: str) -> None:
    """A transparent proxy joins those who never meant to speak to each other; an address of nobody stands for all."""
    seen = closed(f"-A PREROUTING {match} -j DNAT --to-destination 172.17.0.3").look()
    assert (seen.ip("web"), seen.ip("db")) == ("172.17.0.2", "172.17.0.3")
    assert closed().look().verdict("web", "db") == CLOSED
    assert seen.verdict("web", "db") == OPEN
    assert seen.probe("web", "db", address, "25/tcp") == OPEN
    assert seen.probe("web", "db", address, "26/tcp") == CLOSED


def test_third_parties_that_the_host_takes_itself() -> None:
    """REDIRECT leads to the host's own programs, and TPROXY to one that nobody can see."""
    seen = closed("-A PREROUTING -p tcp -m tcp --dport 25 -j REDIRECT --to-ports 2525").look()
    assert seen.probe("web", "monitor", "192.0.2.1", "25/tcp") == OPEN
    assert seen.verdict("web", "db") == CLOSED


def test_a_transparent_proxy_takes_those_that_its_rule_is_about() -> None:
    """Whether a socket takes them is not known; what others send to the same port goes on."""
    proxied = "-A PREROUTING -s 172.17.0.4/32 -p udp -m udp --dport 53 -j TPROXY --on-port 5353 --tproxy-mark 0x1/0x1"
    seen = town().rules(proxied, table="mangle").look()
    assert (seen.ip("web"), seen.ip("db")) == ("172.17.0.2", "172.17.0.4")
    assert seen.probe("web", "db", "172.17.0.4", "53/udp") == OPEN
    assert seen.probe("db", "web", "172.17.0.2", "53/udp") == UNKNOWN
    assert seen.probe("db", "web", "172.17.0.2", "54/udp") == OPEN


def test_third_parties_are_left_out_where_packets_to_them_are_left_alone() -> None:
    """Published ports are of the host's own addresses: with them alone nobody is made up."""
    paths = [path for pair in town().look().report.pairs() for path in pair.verdict.paths]
    addresses = {address for path in paths for address in path.addresses}
    assert "192.0.2.1" not in addresses
    assert "172.17.0.1" in addresses


@pytest.mark.parametrize(
    ("inside", "verdict"),
    [
        ("-A INPUT -p tcp -m tcp --sport 40000:41000 -j ACCEPT", OPEN),
        ("-A INPUT -p tcp -m tcp --sport 40500 -j DROP", UNKNOWN),
        ("-A INPUT -p tcp -m tcp --sport 40000:41000 -j DROP", CLOSED),
        ("-A OUTPUT -p tcp -m tcp --dport 40000:41000 -j DROP", CLOSED),
    ],
)
def test_which_of_several_ports_a_source_gets(inside: str, verdict: Verdict) -> None:
    """It is of no matter but to rules that ask for one of them."""
    of = town().rules("-A POSTROUTING -p tcp -j MASQUERADE --to-ports 40000-41000", table="nat")
    assert (fate(of), published(of)) == (OPEN, OPEN)
    assert fate(of.inside("db", inside)) == verdict
