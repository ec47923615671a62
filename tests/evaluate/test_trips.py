"""Packets that `explain` follows: where they go, which rule decides, and what would change it."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from exporter.cli.text import explain as explained
from exporter.evaluate import causes, evaluate, explain
from exporter.evaluate.enforced.flight import Stage
from exporter.evaluate.enforced.trace import At, Begun, Disbelieved, Sent, Tracer
from exporter.evaluate.names import Names
from exporter.evaluate.telling import tell
from exporter.model.explanation import Packet
from exporter.model.firewall import (
    Backend,
    Base,
    Chain,
    Field,
    Hook,
    InRanges,
    NameIs,
    Opaque,
    Rewrite,
    Rule,
    Table,
    TableFamily,
    Target,
    Terminate,
)
from exporter.model.firewall import Verdict as Netfilter
from exporter.model.namespace import PolicyRule, RuleAction
from exporter.model.ranges import Ranges
from exporter.model.reach import HOST, Protocol
from tests.hosts import host
from tests.kernels import kernel
from tests.looks import CLOSED, OPEN, UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Callable

    from exporter.model.explanation import Explanation, Leg, Trip
    from exporter.model.namespace import Namespace, OwnAddress
    from exporter.model.reach import Verdict
    from tests.hosts import Host
    from tests.kernels import KernelOf
    from tests.looks import Look


def ask(of: KernelOf, source: str, destination: str, *what: object) -> Explanation:
    """Ask why."""
    seen = of.look()
    return explain(seen.snapshot, seen.report, source, destination, *what)  # type: ignore[arg-type]


def trip(of: KernelOf, source: str, destination: str, *what: object) -> Trip:
    """Ask why, where one packet is the answer."""
    (found,) = ask(of, source, destination, *what).trips
    return found


def lines(leg: Leg) -> list[str]:
    """Return the hops of a leg as `place: text`."""
    return [f"{hop.place}: {hop.text}" for hop in leg.hops]


def rules(found: Trip, leg: str = "request") -> list[tuple[str, int, str]]:
    """Return the chain, the number and the deed of each rule that a leg met."""
    hops = next(each for each in found.legs if each.name == leg).hops
    return [(hop.decision.chain, hop.decision.number, hop.decision.does) for hop in hops if hop.decision]


def linked() -> KernelOf:
    """Return a default bridge with icc=false on which `web` holds a link to `db`, which exposes its port."""
    built = host("28.5", icc=False).container("db", expose=["5432/tcp"]).container("web", links=["db"])
    return kernel(built).engine_rules()


def by_the_book() -> KernelOf:
    """Return the host of docs/explain.md: Docker's own example of a link, with the chain that engines wrote of old."""
    built = host("20.10", icc=False).container("server", expose=["80/tcp"]).container("client", links=["server"])
    return kernel(built).rules(
        "-A FORWARD -s 172.17.0.2/32 -d 172.17.0.3/32 -i docker0 -o docker0 -p tcp -m tcp --sport 80 -j ACCEPT",
        "-A FORWARD -s 172.17.0.3/32 -d 172.17.0.2/32 -i docker0 -o docker0 -p tcp -m tcp --dport 80 -j ACCEPT",
        "-A FORWARD -i docker0 -o docker0 -j DROP",
    )


def town() -> Host:
    """Return a host on which containers reach each other in several ways."""
    return (
        host("28.5", icc=False)
        .network("open")
        .network("shut", enable_icc="false")
        .network("inner", internal=True)
        .container("db", expose=["5432/tcp"])
        .container("web", publish=["8080:80"], links=["db"])
        .container("one", "open", "shut")
        .container("two", "open")
        .container("three", "shut")
        .container("four", "inner")
        .container("five", "container:two")
        .container("monitor", "host")
    )


def _unforwarded(of: KernelOf) -> KernelOf:
    return of.set("ipv4/conf/all/forwarding", 0).set("ipv4/conf/docker0/forwarding", 0)


MENDS: dict[str, Callable[[KernelOf], KernelOf]] = {
    "as the engine left it": lambda of: of,
    "br_netfilter off": lambda of: of.set("bridge/bridge-nf-call-iptables", 0),
    "FORWARD flushed": lambda of: of.flush("FORWARD"),
    "nat flushed": lambda of: of.flush("DOCKER", "nat").flush("PREROUTING", "nat"),
    "a rule in DOCKER-USER": lambda of: of.rules("-A DOCKER-USER -s 172.17.0.2/32 -j DROP"),
    "a rule for one port": lambda of: of.rules("-A DOCKER-USER -p tcp -m tcp --dport 5432 -j REJECT"),
    "INPUT closed": lambda of: of.policy("INPUT", "DROP"),
    "forwarding off": _unforwarded,
    "answers dropped": lambda of: of.rules("-I FORWARD -m conntrack --ctstate ESTABLISHED -j DROP"),
    "a rule inside": lambda of: of.inside("two", "-A INPUT -p tcp -j DROP"),
    "ports isolated": lambda of: of.isolate("one", "open").isolate("two", "open"),
    "a match that nobody can foresee": lambda of: of.rules("-I DOCKER-USER -m limit --limit 1/sec -j DROP"),
}


@pytest.mark.parametrize("mend", MENDS)
def test_a_packet_that_is_followed_fares_as_all_of_its_kind(mend: str) -> None:
    """Whatever was done to the firewall: the trace of a packet and the report agree about every probe."""
    of = kernel(town()).engine_rules()
    seen: Look = MENDS[mend](of).look()
    assert seen.snapshot.kernel
    tracer = Tracer(seen.snapshot, seen.snapshot.kernel)
    probes = [Packet(Protocol.TCP, "", port) for port in (80, 5432, 8080)]
    probes += [Packet(Protocol.UDP, "", 80), Packet(Protocol.ICMP, "")]
    addresses = sorted(
        {str(address.ip) for each in seen.snapshot.kernel.sandboxes.values() for address in _addresses(each)}
        | {str(address.ip) for address in _addresses(seen.snapshot.kernel.host)}
    )
    for source in seen.containers:
        for address in addresses:
            for probe in probes:
                packet = replace(probe, address=address)
                ended = tracer.trace(seen.containers[source].sandbox, packet).ended
                for destination in seen.containers:
                    if destination != source:
                        there = [each for each in ended if each.place == seen.containers[destination].sandbox]
                        found = CLOSED if not there else UNKNOWN if all(each.doubts for each in there) else OPEN
                        what = f"{packet.port}/{packet.protocol}" if packet.port else "/icmp"
                        assert found == seen.probe(source, destination, address, what), (source, destination, packet)


def _addresses(namespace: Namespace) -> list[OwnAddress]:
    addresses = (address for each in namespace.interfaces.values() for address in each.addresses)
    return [address for address in addresses if address.version == 4]


@pytest.mark.parametrize("mend", MENDS)
def test_every_explanation_agrees_with_its_verdict(mend: str) -> None:
    """Packets for open ways arrive, packets for blocked pairs are lost, and each says why and what would change it."""
    seen: Look = MENDS[mend](kernel(town()).engine_rules()).look()
    for source in seen.containers:
        for destination in set(seen.containers) - {source}:
            found = explain(seen.snapshot, seen.report, source, destination)
            assert found.trips
            assert found.findings
            for each in found.trips:
                assert each.verdict == found.verdict or (found.verdict is OPEN and each.verdict is UNKNOWN)
                assert each.outcome
                assert each.change
                assert each.legs
                assert any(leg.hops[-1].lost for leg in each.legs) <= (each.verdict is CLOSED)


def rewriting() -> Table:
    """Return a table of nftables that leads what is sent to 192.0.2.1 to two, behind conntrack's back."""
    steps = (
        InRanges(Field.FAMILY, Ranges.of(4)),
        InRanges(Field.DESTINATION, Ranges.of(int(ip_address("192.0.2.1")))),
        Rewrite("ip daddr set", Field.DESTINATION, (Target(Ranges.of(int(ip_address("172.20.0.3"))), Ranges()),)),
    )
    chain = Chain("at", (Rule(steps, "ip daddr 192.0.2.1 ip daddr set 172.20.0.3"),), Base(Hook.PREROUTING, -300))
    return Table(TableFamily.INET, "mine", Backend.NFTABLES, {"at": chain})


class TestTheLink:
    """`iptables -L` of a default bridge with icc=false and a link: what the two accept rules mean."""

    def test_it_opens_exactly_the_exposed_port(self) -> None:
        """The link's accept rule opens the exposed port to its holder, and nothing else is open."""
        seen = linked().look()
        (path,) = seen.pair("web", "db").paths
        assert (path.via, path.protocol, str(path.ports), path.addresses) == ("link", "tcp", "5432", ("172.17.0.2",))
        assert seen.verdict("db", "web") == CLOSED

    def test_explain_names_its_rule(self) -> None:
        """The way of a packet to the exposed port ends in the accept rule of the link, with its number and names."""
        found = trip(linked(), "web", "db")
        assert str(found.packet) == "172.17.0.2:5432/tcp"
        assert found.verdict == OPEN
        assert found.outcome == "arrives in db and is answered"
        assert lines(found.legs[0]) == [
            "web: sends from 172.17.0.3 to 172.17.0.2:5432 (db) by eth0",
            "host: bridge docker0 (network bridge) passes it from port veth4 (eth0 of web) to port veth3 (eth0 of db)",
            "host: ip filter FORWARD rule 2 `-j DOCKER-FORWARD`: jump DOCKER-FORWARD",
            "host: ip filter DOCKER-FORWARD rule 3 `-j DOCKER-BRIDGE`: jump DOCKER-BRIDGE",
            "host: ip filter DOCKER-BRIDGE rule 1 `-o docker0 (network bridge) -j DOCKER`: jump DOCKER",
            (
                "host: ip filter DOCKER rule 1 `-s 172.17.0.3/32 (web) -d 172.17.0.2/32 (db) -i docker0 (network "
                "bridge) -o docker0 (network bridge) -p tcp -m tcp --dport 5432 -j ACCEPT`: accept"
            ),
            "db: gets it at 172.17.0.2:5432",
        ]
        assert found.decided_by.startswith("host: ip filter DOCKER rule 1 ")
        assert found.change == "web without its link to db"

    def test_other_ports_meet_the_rule_of_the_network(self) -> None:
        """A packet to any other port falls to the rule that enable_icc=false writes; how to open it is said."""
        found = trip(linked(), "web", "db", Protocol.TCP, 22)
        assert found.verdict == CLOSED
        bridge = "docker0 (network bridge)"
        assert found.decided_by == (f"host: ip filter DOCKER-FORWARD rule 4 `-i {bridge} -o {bridge} -j DROP`: drop")
        assert found.change == "--icc=true of the daemon, or another network that both are on"

    def test_the_answer_is_followed_too(self) -> None:
        """The answer comes back by the rule for established connections."""
        found = trip(linked(), "web", "db")
        assert rules(found, "answer")[-1] == ("DOCKER-CT", 1, "accept")


class TestDockersOwnExample:
    """`iptables -L` shows two ACCEPTs and a DROP in FORWARD, whose policy is ACCEPT."""

    def test_the_link_opens_one_port_one_way(self) -> None:
        """The client gets to port 80 of the server; any other port, and the way back, meet the DROP."""
        seen = by_the_book().look()
        (path,) = seen.pair("client", "server").paths
        assert (path.via, path.protocol, str(path.ports), path.addresses) == ("link", "tcp", "80", ("172.17.0.2",))
        assert seen.verdict("server", "client") == CLOSED
        assert seen.report.totals.drift_open == seen.report.totals.drift_closed == 0

    @pytest.mark.parametrize(
        ("pair", "port", "rule"),
        [
            (("client", "server"), 80, ("FORWARD", 2, "accept")),
            (("client", "server"), 22, ("FORWARD", 3, "drop")),
            (("server", "client"), 80, ("FORWARD", 3, "drop")),
        ],
    )
    def test_explain_names_the_line(self, pair: tuple[str, str], port: int, rule: tuple[str, int, str]) -> None:
        """Each question is answered by the number of a line."""
        assert rules(trip(by_the_book(), *pair, Protocol.TCP, port)) == [rule]

    def test_answers_come_by_the_other_line(self) -> None:
        """The first ACCEPT is there for the server's answers."""
        assert rules(trip(by_the_book(), "client", "server"), "answer") == [("FORWARD", 1, "accept")]

    @pytest.mark.parametrize("port", [80, 22])
    def test_the_document_shows_what_is_printed(self, port: int) -> None:
        """docs/explain.md has the very lines."""
        page = (Path(__file__).parents[2] / "docs" / "explain.md").read_text()
        printed = explained(ask(by_the_book(), "client", "server", Protocol.TCP, port))
        assert "\n".join(line.text for line in printed) in page


class TestWhatBlocks:
    def test_a_rule_of_the_user(self) -> None:
        """A rule in DOCKER-USER is named, and that it would have to go."""
        of = kernel(town()).engine_rules().rules("-A DOCKER-USER -i docker0 -j RETURN", "-A DOCKER-USER -j DROP")
        found = ask(of, "one", "two").trips[0]
        assert found.outcome == "is lost in host"
        assert rules(found)[-1] == ("DOCKER-USER", 2, "drop")
        assert found.change == "rule 2 of ip filter DOCKER-USER taken away"

    def test_a_policy(self) -> None:
        """Where no rule decides, the policy of the chain does."""
        found = ask(kernel(town()).engine_rules().flush("FORWARD"), "one", "two").trips[0]
        assert found.decided_by == "host: ip filter FORWARD policy drop"
        assert found.legs[0].hops[-1].decision
        assert found.legs[0].hops[-1].decision.number == 0
        assert found.change == (
            "the engine's rules, which it writes anew when it starts, or policy accept of ip filter FORWARD,"
            " or a rule there that accepts it"
        )

    def test_a_policy_of_the_hosts_own_packets(self) -> None:
        """Nothing that the engine could do opens what INPUT drops."""
        found = ask(kernel(town()).engine_rules().policy("INPUT", "DROP"), "one", "monitor").trips[0]
        assert found.change == "policy accept of ip filter INPUT, or a rule there that accepts it"

    def test_a_policy_inside_a_container(self) -> None:
        """A policy has no number, and is none of the host's."""
        chain = Chain("INPUT", (), Base(Hook.INPUT, 0, Netfilter.DROP))
        table = Table(TableFamily.IP, "filter", Backend.IPTABLES_NFT, {"INPUT": chain})
        found = trip(kernel(town()).engine_rules().table(table, "two"), "one", "two")
        assert found.decided_by == "two: ip filter INPUT policy drop"
        assert found.change == "policy accept of ip filter INPUT inside two, or a rule there that accepts it"

    def test_a_rule_of_the_engine_in_a_chain_that_is_not(self) -> None:
        """Nobody is told to take away what the engine writes against direct routing."""
        found = trip(kernel(town()).engine_rules(), "two", "web", None, 80, ip_address("172.17.0.3"))
        assert rules(found) == [("PREROUTING", 1, "drop")]
        assert found.change == "a network that two and web are both on, or a published port of the latter"

    def test_a_port_of_the_hosts_loopback(self) -> None:
        """Nobody looks for a port that is published there at a container's own loopback address."""
        built = town().container("local", "shut", publish=["127.0.0.1:8081:80"])
        found = ask(kernel(built).engine_rules(), "db", "local")
        assert [str(each.packet) for each in found.trips] == ["172.21.0.4:80/tcp"]
        by_loopback = trip(kernel(built).engine_rules(), "db", "local", None, 8081, ip_address("127.0.0.1"))
        assert by_loopback.change == "a published port of local"

    def test_a_container_on_no_network(self) -> None:
        """That one is on no network is all: who looks for it has a way to the host."""
        found = ask(kernel(town().container("lonely", "none")).engine_rules(), "one", "lonely")
        assert [finding.text for finding in found.findings] == ["lonely is on no network"]

    def test_an_address_that_is_gone(self) -> None:
        """Where somebody took a container's address away, no published port helps."""
        seen = kernel(town()).engine_rules().look()
        read = seen.snapshot.kernel
        assert read is not None
        (two,) = (each.sandbox for each in seen.report.containers if each.name == "two")
        bare = {index: replace(each, addresses=()) for index, each in read.sandboxes[two].interfaces.items()}
        inside = {**read.sandboxes, two: replace(read.sandboxes[two], interfaces=bare, routes=())}
        changed = replace(seen.snapshot, kernel=replace(read, sandboxes=inside))
        found = explain(changed, evaluate(changed), "one", "two").trips[0]
        assert found.change == "the address 172.20.0.3 inside two"

    def test_isolated_ports(self) -> None:
        """Ports that a bridge keeps apart are named, with the command that joins them."""
        of = kernel(town()).engine_rules().isolate("one", "open").isolate("two", "open")
        found = ask(of, "one", "two").trips[0]
        assert "keeps one and two apart: both ports are isolated (veth" in found.decided_by
        assert found.change.startswith("bridge link set dev veth")

    def test_forwarding_that_is_off(self) -> None:
        """A host that forwards nothing is the cause, not the rules behind it."""
        of = kernel(town()).engine_rules().set("ipv4/conf/docker0/forwarding", 0)
        found = ask(of, "web", "two").trips[0]
        assert found.decided_by == "host: passes on nothing from docker0 (network bridge): forwarding is off"
        assert found.change == "net.ipv4.conf.docker0.forwarding=1 in host"

    def test_no_route(self) -> None:
        """A container without a default route gets nowhere."""
        found = ask(kernel(town()).engine_rules(), "four", "db").trips[0]
        assert found.decided_by == "four: has no route to 172.17.0.2 (db)"
        assert found.change == "a network that four and db are both on, or a published port of the latter"

    def test_nobody_who_answers(self) -> None:
        """An address that nobody has is told so."""
        found = trip(kernel(town()).engine_rules(), "one", "two", None, 80, ip_address("172.20.0.99"))
        assert found.verdict == CLOSED
        assert "finds nobody on bridge br-" in found.decided_by
        assert found.decided_by.endswith("who answers for 172.20.0.99")

    def test_an_answer_that_is_lost(self) -> None:
        """A packet that arrives and whose answer does not is no connection, and the leg that failed is told."""
        of = kernel(town()).engine_rules().rules("-I FORWARD -p tcp -m tcp --sport 80 -j DROP")
        found = trip(of, "one", "two", Protocol.TCP, 80)
        assert found.outcome == "its answer is lost in host"
        assert [leg.name for leg in found.legs] == ["request", "answer"]
        assert rules(found, "answer") == [("FORWARD", 1, "drop")]
        assert found.change == "rule 1 of ip filter FORWARD taken away"

    def test_a_confirmation_that_is_lost(self) -> None:
        """The third packet of a connection is told of where it is the one that fails."""
        rule = "-I FORWARD -p tcp -m tcp --dport 80 -m conntrack --ctstate ESTABLISHED -j DROP"
        found = trip(kernel(town()).engine_rules().rules(rule), "one", "two", Protocol.TCP, 80)
        assert found.outcome == "what confirms its answer is lost in host"
        assert [leg.name for leg in found.legs] == ["request", "answer", "confirmation"]

    def test_a_rule_inside_a_container(self) -> None:
        """A rule in a container's own namespace is found there."""
        found = trip(kernel(town()).engine_rules().inside("two", "-A INPUT -j DROP"), "one", "two")
        assert found.decided_by == "two: ip filter INPUT rule 1 `-j DROP`: drop"
        assert found.change == "rule 1 of ip filter INPUT inside two taken away"

    def test_a_port_that_was_taken_over(self) -> None:
        """Where another rule leads a published port elsewhere, the place is named."""
        of = kernel(town()).engine_rules()
        of.rules("-I PREROUTING -p tcp -m tcp --dport 8080 -j DNAT --to-destination 172.17.0.2:5432", table="nat")
        of.rules("-I DOCKER-USER -j ACCEPT").flush("PREROUTING", "raw")
        found = trip(of, "two", "web", Protocol.TCP, 8080, ip_address("172.20.0.1"))
        assert found.outcome == "arrives in db, not in web"
        assert found.change == "the address 172.20.0.1 for web alone"

    def test_a_frame_that_the_bridge_family_drops(self) -> None:
        """Rules of nftables' bridge family decide about frames, before any of iptables."""
        ports, ipv4 = NameIs(Field.INPUT_INTERFACE, ("veth*",)), InRanges(Field.ETHER_TYPE, Ranges.of(0x0800))
        drop = Rule((ports, ipv4, Terminate(Netfilter.DROP)), "iifname veth* ether type ip drop")
        chain = Chain("frames", (drop,), Base(Hook.FORWARD, 0))
        table = Table(TableFamily.BRIDGE, "mine", Backend.NFTABLES, {"frames": chain})
        found = ask(kernel(town()).engine_rules().table(table), "one", "two").trips[0]
        assert found.decided_by == "host: bridge mine frames rule 1 `iifname veth* ether type ip drop`: drop"
        assert found.change == "rule 1 of bridge mine frames taken away"

    def test_neighbour_discovery(self) -> None:
        """Over IPv6, a container that neither answers its neighbours' questions nor asks is reached by nobody."""
        icmp = Rule((InRanges(Field.PROTOCOL, Ranges.of(58)), Terminate(Netfilter.DROP)), "meta l4proto icmpv6 drop")
        chains = {hook.value: Chain(hook.value, (icmp,), Base(hook, 0)) for hook in (Hook.INPUT, Hook.OUTPUT)}
        table = Table(TableFamily.IP6, "mine", Backend.NFTABLES, chains)
        built = host("28.5").network("six", ipv4=False, ipv6=True).container("a", "six").container("b", "six")
        found = trip(kernel(built).table(table, "b"), "a", "b")
        assert found.packet.address == "fd00:3::3"
        assert "rules drop neighbour discovery" in found.decided_by
        assert "b: ip6 mine input rule 1 `meta l4proto icmpv6 drop`: drop" in lines(found.legs[0])

    def test_neighbour_discovery_that_a_network_drops(self) -> None:
        """Containers that enable_icc=false keeps apart do not even find each other by IPv6."""
        built = host("28.5").network("six", ipv6=True, enable_icc="false").container("a", "six").container("b", "six")
        bridge = next(each.interface for each in built.look().snapshot.networks.values() if each.name == "six")
        of = kernel(built).rules(f"-A FORWARD -i {bridge} -o {bridge} -j DROP", version=6)
        found = trip(of, "a", "b", None, None, ip_address("fd00:3::3"))
        assert "rules drop neighbour discovery" in found.decided_by
        assert found.change == "enable_icc=true of network six, or another network that both are on"

    def test_a_rule_that_an_engine_left_behind(self) -> None:
        """Where a network joins its containers by now, what parts them has to go."""
        of = kernel(host("26.1").container("a").container("b")).rules("-A FORWARD -i docker0 -o docker0 -j DROP")
        assert trip(of, "a", "b").change == "rule 1 of ip filter FORWARD taken away"

    def test_an_address_that_nobody_has(self) -> None:
        """What would open it is another address, whatever keeps the two apart at that."""
        of = kernel(town()).engine_rules()
        found = trip(of, "db", "web", Protocol.UDP, 99, ip_address("192.0.2.7"))
        assert found.change == "an address of web, such as 172.17.0.3: nobody has 192.0.2.7"

    def test_arp(self) -> None:
        """Over IPv4, a bridge that drops ARP keeps its containers from finding each other."""
        arp = Rule((InRanges(Field.ETHER_TYPE, Ranges.of(0x0806)), Terminate(Netfilter.DROP)), "ether type arp drop")
        chain = Chain("frames", (arp,), Base(Hook.FORWARD, 0))
        table = Table(TableFamily.BRIDGE, "mine", Backend.NFTABLES, {"frames": chain})
        found = trip(kernel(town()).engine_rules().table(table), "one", "two")
        assert found.decided_by == "one: learns no link address of 172.20.0.3 (two): rules drop ARP"
        assert lines(found.legs[0])[-2] == "host: bridge mine frames rule 1 `ether type arp drop`: drop"
        assert found.change == "rule 1 of bridge mine frames taken away"

    def test_a_source_that_is_not_believed(self) -> None:
        """A reverse path filter is named with its interface."""
        seen = linked().look()
        assert seen.snapshot.kernel
        names = Names(seen.snapshot, seen.snapshot.kernel)
        at = At(4, int(ip_address("172.17.0.3")), None, int(ip_address("172.17.0.2")), 80)
        told = tell([Begun(Stage.FIRST), Sent("x", at, "eth0"), Disbelieved(HOST, at, "docker0")], names)
        assert told.lost
        assert told.lost.hop.text == "takes 172.17.0.3 (web) for forged on docker0 (network bridge)"

    def test_a_way_back_that_policy_rules_lead_elsewhere(self) -> None:
        """A packet that is not believed is not told to be passed on; of two switches the higher one counts."""
        seen = kernel(town()).engine_rules().flush("PREROUTING", "raw").set("ipv4/conf/all/rp_filter", 1).look()
        read = seen.snapshot.kernel
        assert read is not None
        rule = PolicyRule(4, 100, RuleAction.BLACKHOLE, source=ip_network(seen.ip("db")))
        host = replace(read.host, rules=(*read.host.rules, rule))
        changed = replace(seen.snapshot, kernel=replace(read, host=host))
        found = explain(changed, evaluate(changed), "two", "db").trips[0]
        assert lines(found.legs[0])[-1].startswith("host: takes 172.20.0.3 (two) for forged on br-")
        switches = "net.ipv4.conf.all.rp_filter=0 and net.ipv4.conf.br-"
        assert found.change.startswith(switches)
        assert found.change.endswith(".rp_filter=0 in host")

    def test_a_rule_that_leads_packets_elsewhere(self) -> None:
        """Somebody's own translation is named, not a published port."""
        away = (
            kernel(town())
            .engine_rules()
            .rules("-A PREROUTING -d 172.20.0.3 -j DNAT --to-destination 192.0.2.1", table="nat")
        )
        found = trip(away, "one", "two")
        assert "host: rewrites the destination to 192.0.2.1:80" in lines(found.legs[0])
        assert (found.verdict, found.change) == (CLOSED, "rule 2 of ip nat PREROUTING taken away")

    def test_hops_that_are_used_up(self) -> None:
        """It is told where a packet dies for that, and what it would take."""
        seen = kernel(town()).engine_rules().rules("-I FORWARD -j ACCEPT").look()
        read = seen.snapshot.kernel
        assert read
        name = seen.containers["one"].sandbox
        near = replace(read.sandboxes[name], settings={**read.sandboxes[name].settings, "ipv4/ip_default_ttl": "1"})
        changed = replace(seen.snapshot, kernel=replace(read, sandboxes={**read.sandboxes, name: near}))
        found = explain(changed, evaluate(changed), "one", "db").trips[0]
        assert found.decided_by == "host: passes it on no further: it has no hops left"
        assert found.change.startswith("more hops for what is sent")


class TestWhatOpens:
    def test_a_rule_that_may_lead_packets_to_somebody(self) -> None:
        """What nftables writes behind conntrack's back is told as what may be; the rule would close it."""
        of = kernel(town()).engine_rules().table(rewriting())
        found = trip(of, "one", "two", Protocol.UDP, 80, ip_address("192.0.2.1"))
        assert "host: perhaps rewrites the destination to 172.20.0.3:80 (two)" in lines(found.legs[0])
        assert found.outcome == "perhaps arrives in two; not known: ip daddr set"
        assert found.change == "rule 1 of inet mine at taken away"

    def test_a_copy_of_a_packet_that_is_dropped(self) -> None:
        """No rule that drops the packet itself would close it: the one that copies does."""
        of = kernel(town()).engine_rules().rules("-I FORWARD -d 172.20.0.3/32 -j DROP")
        of.rules("-A PREROUTING -p udp -d 172.20.0.3/32 -j TEE --gateway 172.20.0.3", table="mangle")
        found = trip(of, "one", "two", Protocol.UDP, 80)
        assert found.outcome == "perhaps arrives in two; not known: TEE"
        assert ("PREROUTING", 1, "TEE") in rules(found)
        assert found.change == "rule 1 of ip mangle PREROUTING taken away"

    def test_a_network_with_icc(self) -> None:
        """The rule that accepts is named, and the setting that would close it."""
        found = ask(kernel(town()).engine_rules(), "one", "two").trips[0]
        assert rules(found)[-1][0] == "DOCKER-FORWARD"
        assert found.change == "enable_icc=false of network open, or one or two off that network"

    def test_a_switch_that_lets_frames_by(self) -> None:
        """With br_netfilter off no rule is asked: explain says so, and which switch makes icc=false work."""
        found = ask(kernel(town()).engine_rules().set("bridge/bridge-nf-call-iptables", 0), "one", "three").trips[0]
        assert found.verdict == OPEN
        assert found.decided_by == "the bridge passes it by all rules: br_netfilter is off"
        assert found.legs[0].hops[1].text.endswith(", past all rules of iptables: br_netfilter is off")
        assert found.change.startswith("net.bridge.bridge-nf-call-iptables=1: without it enable_icc=false of shut")

    def test_docker_proxy(self) -> None:
        """A connection that docker-proxy takes is followed through to the container."""
        found = trip(kernel(town()).engine_rules(), "db", "web")
        assert str(found.packet) == "172.17.0.1:8080/tcp"
        assert [leg.name for leg in found.legs] == [
            "request",
            "answer",
            "docker-proxy",
            "relayed request",
            "relayed answer",
        ]
        assert found.decided_by == "docker-proxy leads it on: rules about bridges never see it"
        assert found.change == "web without the published port, or with it bound to 127.0.0.1"

    def test_a_translation(self) -> None:
        """A published port shows what is rewritten, and to whom."""
        found = trip(kernel(town()).engine_rules(), "two", "web")
        texts = [hop.text for hop in found.legs[0].hops]
        assert "rewrites the destination to 172.17.0.3:80 (web)" in texts
        assert "rewrites the source to 172.17.0.1" in texts
        assert ("DOCKER", 1, "dnat") in rules(found)

    def test_the_hosts_namespace(self) -> None:
        """A container in host mode is told to leave it."""
        found = ask(kernel(town()).engine_rules(), "monitor", "db").trips[0]
        assert found.change == "monitor outside of the host's namespace (without --network host)"

    def test_a_shared_namespace(self) -> None:
        """Containers of one namespace talk by its loopback."""
        found = ask(kernel(town()).engine_rules(), "two", "five").trips[0]
        assert lines(found.legs[0])[0] == "two: sends from 127.0.0.1 to 127.0.0.1:80 by lo"
        assert found.change == "a network namespace of its own for one of the two"

    def test_a_rule_of_the_user_that_accepts(self) -> None:
        """What somebody opened by hand is closed by taking that rule away."""
        of = kernel(town()).engine_rules().rules("-A DOCKER-USER -i br+ -j ACCEPT").flush("PREROUTING", "raw")
        found = ask(of, "one", "three").trips[0]
        assert rules(found)[-1] == ("DOCKER-USER", 1, "accept")
        assert found.change == "rule 1 of ip filter DOCKER-USER taken away"

    def test_a_rule_of_the_user_that_others_repeat(self) -> None:
        """What the engine would let through as well is not closed by taking somebody's rule away."""
        found = ask(kernel(town()).engine_rules().rules("-A DOCKER-USER -i br+ -j ACCEPT"), "one", "two").trips[0]
        assert found.change == "a rule before rule 1 of ip filter DOCKER-USER that drops it"

    @pytest.mark.parametrize("told", ["ACCEPT", "DROP"])
    def test_a_rule_of_an_old_engine(self, told: str) -> None:
        """Engines before 28.0 write rules for bridges into FORWARD: a restart would bring them back."""
        built = host("26.1", icc=told == "ACCEPT").container("a").container("b")
        of = kernel(built).rules("-A DOCKER -j RETURN", f"-A FORWARD -i docker0 -o docker0 -j {told}")
        found = trip(of, "a", "b")
        assert rules(found) == [("FORWARD", 1, told.lower())]
        other = {"ACCEPT": "--icc=false of the daemon, or a or b off that network"}
        assert found.change == other.get(told, "--icc=true of the daemon, or another network that both are on")

    def test_a_rule_of_the_user_that_reads_like_an_old_engines(self) -> None:
        """An engine that keeps containers apart writes no accept for them."""
        built = host("26.1", icc=False).container("a").container("b")
        apart = (f"-A FORWARD -i docker0 -o docker0 -j {told}" for told in ("ACCEPT", "DROP"))
        found = trip(kernel(built).rules("-A DOCKER -j RETURN", *apart), "a", "b")
        assert found.change == "rule 1 of ip filter FORWARD taken away"

    def test_ipv6_that_the_engine_leaves_alone(self) -> None:
        """Without ip6tables, neither enable_icc=false nor DOCKER-USER is there for IPv6."""
        built = host("26.1").network("six", ipv6=True, enable_icc="false").container("a", "six").container("b", "six")
        found = ask(kernel(built).rules("-A DOCKER-USER -j RETURN"), "a", "b", None, None, ip_address("fd00:3::3"))
        assert found.trips[0].change == "a rule at the beginning of ip6 filter FORWARD that drops it"

    def test_a_port_at_the_hosts_loopback(self) -> None:
        """Who is in the host's namespace is not kept out by binding a port to its loopback."""
        found = trip(kernel(town()).engine_rules(), "monitor", "web", None, 8080, ip_address("127.0.0.1"))
        assert found.change == "web without the published port"

    def test_who_leads_packets_on(self) -> None:
        """A published port is one; a translation of somebody's own is told as the rule that it is."""
        of = kernel(town()).engine_rules().flush("PREROUTING", "raw").rules("-I DOCKER-USER -j ACCEPT")
        of.rules("-A PREROUTING -d 192.0.2.1/32 -p tcp -j DNAT --to-destination 172.17.0.3:80", table="nat")
        found = ask(of, "two", "web")
        texts = [finding.text for finding in found.findings if finding.opens]
        assert texts == [
            "the host lets other bridges reach this address on network bridge",
            "rule 2 of ip nat PREROUTING leads from another address or port to the container on network bridge",
            "a published port leads from the host's address to the container on network bridge",
        ]
        packets = [str(each.packet) for each in found.trips]
        assert packets == ["172.17.0.3:80/tcp", "192.0.2.1:80/tcp", "172.17.0.1:8080/tcp"]

    def test_who_leads_packets_on_inside(self) -> None:
        """A rule in a container's own namespace is told with the container."""
        of = kernel(town()).engine_rules()
        of.inside("one", "-A OUTPUT -d 192.0.2.1/32 -j DNAT --to-destination 172.20.0.3", table="nat")
        found = ask(of, "one", "two", Protocol.TCP, 80, ip_address("192.0.2.1"))
        rule = "rule 1 of ip nat OUTPUT inside one"
        assert found.findings[0].text == f"{rule} leads from another address or port to the container on network open"
        assert found.trips[0].change == f"{rule} taken away"

    def test_a_connection_that_is_answered_from_elsewhere(self) -> None:
        """What nftables rewrites behind conntrack's back arrives, and is answered from where it went."""
        found = trip(
            kernel(town()).engine_rules().table(rewriting()), "one", "two", Protocol.TCP, 80, ip_address("192.0.2.1")
        )
        assert found.verdict == CLOSED
        assert found.outcome == (
            "arrives in two, and is answered from another address than it was sent to, which ends the connection"
        )


class TestQuestions:
    def test_one_packet_for_each_way(self) -> None:
        """An open pair shows each of its ways once, whatever the protocols."""
        found = ask(kernel(town()).engine_rules(), "monitor", "web")
        assert [str(each.packet) for each in found.trips] == ["172.17.0.3:80/tcp", "127.0.0.1:8080/tcp"]

    def test_a_blocked_pair_is_asked_at_its_exposed_port(self) -> None:
        """Somebody would knock where the container listens: that is the packet that is followed."""
        assert str(trip(kernel(town()).engine_rules(), "one", "db").packet) == "172.17.0.2:5432/tcp"

    def test_ping_can_be_asked_for(self) -> None:
        """ICMP echo has no port, and no answer that conntrack has to know."""
        found = trip(kernel(town()).engine_rules(), "one", "two", Protocol.ICMP)
        assert str(found.packet) == "172.20.0.3 icmp"
        assert found.outcome == "arrives in two"
        assert [leg.name for leg in found.legs] == ["request"]

    def test_an_address_narrows_paths_too(self) -> None:
        """Of several addresses only the one that is asked about is left."""
        found = ask(kernel(town()).engine_rules(), "monitor", "web", None, None, ip_address("172.17.0.3"))
        assert {path.addresses for path in found.paths} == {("172.17.0.3",)}
        assert {each.packet.address for each in found.trips} == {"172.17.0.3"}

    def test_without_the_kernel_there_are_no_packets(self) -> None:
        """From the API alone, explain says what it always said."""
        seen = town().look()
        found = explain(seen.snapshot, seen.report, "one", "two")
        assert (found.trips, found.verdict) == ((), OPEN)

    def test_drift_is_said(self) -> None:
        """Where the kernel does otherwise, what the configuration says is told apart from what holds."""
        found = ask(kernel(town()).engine_rules().set("bridge/bridge-nf-call-iptables", 0), "one", "three")
        texts = [(finding.text, finding.opens) for finding in found.findings]
        assert texts[1] == ("the configuration promises otherwise: blocked", None)
        assert (
            "configured: network shut keeps its containers apart over IPv4 (enable_icc=false)",
            None,
        ) in texts
        closed = ask(kernel(town()).engine_rules().flush("FORWARD"), "one", "two").findings
        assert closed[0].text == "the kernel lets nothing through"
        assert closed[0].opens is False

    def test_what_is_not_known_is_said(self) -> None:
        """A rule that nobody can foresee leaves the packet undecided, with its name."""
        of = kernel(town()).engine_rules().rules("-I DOCKER-USER -m limit --limit 1/sec -j DROP")
        found = ask(of, "one", "two").trips[0]
        assert found.verdict == UNKNOWN
        assert found.outcome == "perhaps arrives in two and is answered; not known: limit"
        assert ("DOCKER-USER", 1, "perhaps drop") in rules(found)


def test_the_causes_of_drift() -> None:
    """What decides about pairs that are not as configured is told: by the way that is open, or that is promised."""
    of = kernel(town()).engine_rules().rules("-A DOCKER-USER -i docker0 -j DROP")
    seen = of.rules("-A DOCKER-USER -i br+ -j ACCEPT").look()
    told = causes(seen.snapshot, seen.report)
    assert told.keys() == {(pair.source.name, pair.destination.name) for pair in seen.report.drifted()}
    assert told["web", "db"] == "host: ip filter DOCKER-USER rule 1 `-i docker0 (network bridge) -j DROP`: drop"
    assert told["one", "three"] == "host: ip filter DOCKER-USER rule 2 `-i br+ -j ACCEPT`: accept"
    agreed = linked().look()
    assert causes(agreed.snapshot, agreed.report) == {}


def test_counters_are_told() -> None:
    """A rule's counter stands beside it, where it has one."""
    found = trip(linked(), "web", "db")
    decisions = [hop.decision for hop in found.legs[0].hops if hop.decision]
    assert [each.packets for each in decisions] == [8, 9, 7, 7]


def test_rules_of_opaque_matches_have_their_text() -> None:
    """Rules without a text, as made by hand, are told by number and deed alone."""
    rule = Rule((Opaque("time"), Terminate(Netfilter.DROP)))
    table = Table(TableFamily.IP, "mine", Backend.IPTABLES_LEGACY, {"in": Chain("in", (rule,), Base(Hook.FORWARD, -5))})
    found = ask(kernel(town()).engine_rules().table(table), "one", "two").trips[0]
    assert "host: ip mine (legacy) in rule 1: perhaps drop" in lines(found.legs[0])


@pytest.mark.parametrize(("rule", "expected"), [("", OPEN), ("-I FORWARD -m limit --limit 1/sec -j DROP", UNKNOWN)])
def test_an_address_that_others_stand_for(rule: str, expected: Verdict) -> None:
    """A link-local address stands in no path where it leads no further than others, and may be asked about."""
    made = kernel(host("28.5").network("n0", ipv6=True).container("web", "n0").container("db", "n0")).engine_rules()
    for line in filter(None, (rule,)):
        made.rules(line, version=6)
    own = next(box.endpoints[0].link_local for box in made.look().snapshot.sandboxes.values() if box.name == "db")
    for what in ((None, None, own), (Protocol.TCP, 80, own), (Protocol.ICMP, None, own)):
        found = ask(made, "web", "db", *what)
        assert found.verdict == found.trips[0].verdict == expected
        assert any(f"{own} leads" in finding.text for finding in found.findings)
    assert ask(made, "web", "db", None, None, ip_address("fe80::1")).verdict == CLOSED


def test_an_address_that_the_api_does_not_tell() -> None:
    """By the API alone nobody knows who has a link-local address."""
    seen = host("28.5").network("n0", ipv6=True).container("web", "n0").container("db", "n0").look()
    found = explain(seen.snapshot, seen.report, "web", "db", address=ip_address("fe80::1"))
    assert found.verdict == UNKNOWN
    assert "not known: who has fe80::1, as the API does not tell link-local addresses" in {
        finding.text for finding in found.findings
    }
