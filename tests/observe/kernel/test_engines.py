"""What the reader says of real engines' hosts and sandboxes is what the system's own tools print there."""

from __future__ import annotations

import json
import re
import time
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from exporter.observe.files import dumps, loads
from exporter.observe.host import EngineHost
from exporter.observe.kernel import reader
from exporter.observe.observer import open_observer
from exporter.observe.tier import Tier
from tests.lab import VERSIONS, Container, Engine, Network, Topology, build, engine
from tests.lab.system import run

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from exporter.model.observation import KernelDocuments, NamespaceDocuments, Observation

pytestmark = pytest.mark.lab

TOPOLOGY = Topology(
    networks=(
        Network("six", "bridge", {}, ("--ipv6", "--subnet=fd00:a::/64", "--subnet=10.100.1.0/24")),
        Network("inner", "bridge", {}, ("--internal",)),
        Network("mac", "macvlan", {"parent": "eth10"}, ("--subnet=10.100.3.0/24",)),
    ),
    containers=(
        Container("plain", flags=("--publish=8001:80",)),
        Container("both", "six", ("inner",), flags=("--publish=8002:80", "--publish=8003:53/udp")),
        Container("shared", "container:both"),
        Container("hosted", "host"),
        Container("lonely", "none"),
        Container("mac1", "mac"),
    ),
    host=(
        "nft add table inet extra",
        "nft 'add chain inet extra forward { type filter hook forward priority -5; }'",
        "nft 'add rule inet extra forward ip daddr 192.0.2.1 drop'",
        "ip route add 192.0.2.0/24 nexthop via 198.51.100.1 dev eth0 weight 2 nexthop via 198.51.100.2 dev eth0",
        "ip route add blackhole 203.0.113.0/24 table 77; ip route add 203.0.113.128/25 dev eth0 hoplimit 5",
        "ip rule add not from 10.0.0.0/8 fwmark 0x5/0xff iif docker0 lookup 77 priority 99",
        "ip -6 rule add to fd00:b::/64 ipproto tcp dport 80-90 prohibit priority 98",
        "ip rule add from 192.0.2.7 goto 32766 priority 97",
        "ip rule add ipproto udp sport 53 dport 80 blackhole priority 96",
        "ip neigh add 172.17.0.99 lladdr 02:00:5e:00:53:01 dev docker0 nud permanent",
        "ip neigh add 2001:db8:100::99 lladdr 02:00:5e:00:53:02 dev eth0 nud noarp",
        "ip neigh add fd00:a::97 lladdr 02:00:5e:00:53:06 dev lo nud permanent",
        "ip neigh add proxy 172.17.0.98 dev docker0",
        "sysctl -qw net.ipv6.conf.docker0.hop_limit=7",
        "ip addrlabel add prefix fd00:77::/64 dev docker0 label 99; ip addrlabel add prefix fd00:77::/64 label 98",
        "ip addrlabel del prefix 2002::/16 label 2",
        "ip -6 neigh add proxy fd00:a::98 dev docker0",
        "ip link add odd type bridge; ip link set odd group 5",
        "ip link add odd0 type veth peer name odd1",
        "ip link set odd0 master odd",
        "bridge link set dev odd0 learning off flood off mcast_flood off bcast_flood off neigh_suppress on locked on",
        "bridge fdb add 02:00:5e:00:53:03 dev odd0 master static",
        "bridge fdb add 02:00:5e:00:53:04 dev odd0 master static sticky",
        "bridge fdb add 02:00:5e:00:53:05 dev odd0 master extern_learn",
        "ip link set odd1 arp off",
        "ip address add 10.100.9.1/24 dev odd; ip address add 10.100.8.1/24 dev odd scope link",
        "ip address add 10.100.7.1/24 dev odd scope 77",
        "for each in odd odd0 odd1; do ip link set $each up; done",
        "ip -6 route add fd00:e::/64 dev docker0 pref low; ip -6 route add fd00:f::/64 dev docker0 pref high",
        "ip nexthop add id 7 via 10.100.9.7 dev odd; ip nexthop add id 8 via 10.100.9.8 dev odd",
        "ip nexthop add id 9 via 2001:db8:100::7 dev eth0; ip nexthop add id 10 group 7/8,3",
        "for id in 7 9 10; do ip route add 203.0.113.$id nhid $id; done; ip -6 route add fd00:d::/64 nhid 9",
    ),
)

SETTLED = 2.5
"""Seconds after which addresses that are still looked for twice in a network are found to be there once."""


class Host:
    """An engine with the topology, and one observation of it."""

    def __init__(self, made: Engine) -> None:
        self.engine = made
        self.ids = build(made, TOPOLOGY)
        # the kernel gives link-local addresses and their routes some time after a link is up
        time.sleep(SETTLED)
        self.observation = self.observe()
        while (later := self.observe()).kernel != self.observation.kernel:
            self.observation = later
            time.sleep(0.5)

    def observe(self, tier: Tier = Tier.SANDBOXES) -> Observation:
        """Look at it as the exporter does."""
        return open_observer(EngineHost(self.engine.host), 10.0, tier, self.engine.netns).observe()

    @property
    def kernel(self) -> KernelDocuments:
        """What the kernel said."""
        assert self.observation.kernel is not None
        return self.observation.kernel

    def box(self, name: str | None) -> tuple[NamespaceDocuments, str]:
        """Return the documents of a container's namespace, or the host's, and the path of that namespace."""
        if name is None:
            assert self.kernel.host is not None
            return self.kernel.host, str(self.engine.netns)
        return self.kernel.sandboxes[self.ids[name]], f"/proc/{self.engine.pid_of(name)}/ns/net"


BOXES = (None, "plain", "both", "shared", "lonely", "mac1")


@pytest.fixture(scope="module", params=VERSIONS)
def host(request: pytest.FixtureRequest) -> Iterator[Host]:
    """Give an engine of each version with the topology."""
    with engine(request.param) as made:
        yield Host(made)


def tool(path: str, *command: str) -> Any:  # noqa: ANN401
    """Return what a command prints as JSON in a namespace."""
    return json.loads(run(["nsenter", f"--net={path}", "--", *command]) or "[]")


def kept(ours: Sequence[Mapping[str, Any]], theirs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return their documents with the keys that ours have, and ours are the fields of one namespace."""
    assert len(ours) == len(theirs)
    return [shortened(mine, his) for mine, his in zip(ours, theirs, strict=True)]


def shortened(mine: Mapping[str, Any], his: Mapping[str, Any]) -> dict[str, Any]:
    """Return a document of `ip` with the keys that ours has, at every depth."""
    return {
        key: shortened(value, his[key]) if isinstance(value, dict) else his[key]
        for key, value in mine.items()
        if key in his
    }


def without(documents: Sequence[Mapping[str, Any]], *keys: str) -> list[dict[str, Any]]:
    """Return documents without what `ip` does not print."""
    return [{key: value for key, value in document.items() if key not in keys} for document in documents]


def test_nothing_is_missing(host: Host) -> None:
    """As root with all programs installed, all evidence can be read."""
    assert host.kernel.missing == {}


@pytest.mark.parametrize("name", BOXES)
def test_links_are_those_of_ip(host: Host, name: str | None) -> None:
    """Every key of a link has the value that `ip -details link` shows."""
    documents, path = host.box(name)
    shown = tool(path, "ip", "-json", "-details", "link")
    ours = [
        {key: value for key, value in link.items() if key != "link_index" or "link_netnsid" in link}
        for link in documents.links
    ]
    assert ours == kept(ours, shown)
    assert {link["linkinfo"]["info_kind"] for link in shown if "linkinfo" in link} == {
        link["linkinfo"]["info_kind"] for link in ours if "linkinfo" in link
    }


def bridge_ports(path: str) -> set[str]:
    """Return the names of ports of bridges in a namespace."""
    links = tool(path, "ip", "-json", "-details", "link")
    return {link["ifname"] for link in links if link.get("linkinfo", {}).get("info_slave_kind") == "bridge"}


def is_made(destination: str) -> bool:
    """Return whether it is what IPv6 itself makes for every interface."""
    return destination == "ff00::/8" or destination.startswith("fe80::")


def test_nobody_takes_packets_to_link_local_addresses_of_ports(host: Host) -> None:
    """The bridge has all that its ports receive: their own addresses, which are not read, nobody answers for."""
    _, path = host.box(None)
    port = host.engine.port_of("both")
    bridge = next(link["master"] for link in tool(path, "ip", "-json", "link") if link["ifname"] == port)
    shown = {link["ifname"]: link["addr_info"] for link in tool(path, "ip", "-json", "-6", "address")}
    own = {name: next(each["local"] for each in shown[name] if is_made(each["local"])) for name in (bridge, port)}
    answered = {name: pings(host.engine, "both", f"{address}%eth0") for name, address in own.items()}
    assert answered == {bridge: True, port: False}


def pings(made: Engine, source: str, address: str) -> bool:
    """Return whether a container gets an answer."""
    return ", 0% packet loss" in made.docker("exec", source, "sh", "-c", f"ping -c 1 -W 2 {address} || true")


@pytest.mark.parametrize("name", BOXES)
def test_addresses_are_those_of_ip(host: Host, name: str | None) -> None:
    """Every address is there, with what `ip address` shows of it, but for link-local ones of ports of bridges."""
    documents, path = host.box(name)
    listed = [
        {**info, "ifname": link["ifname"]}
        for link in tool(path, "ip", "-json", "address")
        for info in link["addr_info"]
    ]
    ports = bridge_ports(path)
    shown = [each for each in listed if each["ifname"] not in ports or not is_made(each["local"])]
    assert (len(shown) < len(listed)) == (name is None)
    ours = sorted(without(documents.addresses, "ifindex"), key=lambda entry: (entry["ifname"], entry["local"]))
    scopes = {(each["local"], each["scope"]) for each in shown if each["family"] == "inet"}
    assert {(each["local"], each.get("scope", "global")) for each in ours if each["family"] == "inet"} == scopes
    assert ours == kept(ours, sorted(shown, key=lambda entry: (entry["ifname"], entry["local"])))


@pytest.mark.parametrize("name", BOXES)
def test_neighbours_are_those_of_ip(host: Host, name: str | None) -> None:
    """Those that somebody set are there, with what `ip neigh` shows of them; what the kernel itself made is not."""
    documents, path = host.box(name)
    shown = tool(path, "ip", "-json", "neigh", "show", "nud", "permanent")
    shown += tool(path, "ip", "-json", "neigh", "show", "nud", "noarp")
    fixed = [
        each
        for each in shown
        if not ip_address(each["dst"]).is_multicast and each["lladdr"] != "00:00:00:00:00:00" and each["dev"] != "odd1"
    ]
    proxied = [{**each, "proxy": True} for each in tool(path, "ip", "-json", "neigh", "show", "proxy")]
    ours = sorted(documents.neighbours, key=lambda each: each["dst"])
    assert ours == sorted([*fixed, *proxied], key=lambda each: each["dst"])
    assert len(ours) == (5 if name is None else 0)


@pytest.mark.parametrize("name", BOXES)
def test_labels_are_those_of_ip(host: Host, name: str | None) -> None:
    """They are told where somebody changed them, and the namespace has several addresses."""
    documents, path = host.box(name)
    shown = [
        {**each, "address": str(ip_address(each["address"]))} for each in tool(path, "ip", "-json", "addrlabel", "list")
    ]
    assert documents.labels == (shown if name is None else None)


@pytest.mark.parametrize("tier", [Tier.KERNEL, Tier.SANDBOXES])
def test_ebtables_legacy_is_told_where_somebody_has_used_it(
    host: Host, tier: Tier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its modules: the lab's kernel has none."""
    assert host.kernel.modules == []
    monkeypatch.setattr(reader, "of_legacy_ebtables", lambda: ["ebtable_nat"])
    found = host.observe(tier).kernel
    assert found is not None
    assert found.modules == ["ebtable_nat"]


def test_what_bridges_know_is_that_of_bridge(host: Host) -> None:
    """It is read where a port makes it matter, and nowhere else."""
    documents, path = host.box(None)
    shown = [each for each in tool(path, "bridge", "-json", "fdb", "show") if "master" in each]
    lasting = [each for each in shown if each["state"] or each["flags"]]
    ours = [each for each in documents.fdb if each["state"] or each["flags"]]
    assert sorted(ours, key=str) == sorted(kept(ours, lasting), key=str)
    assert {each["mac"] for each in ours if each["ifname"] == "odd0"} >= {f"02:00:5e:00:53:0{last}" for last in "345"}
    assert all(not host.box(name)[0].fdb for name in BOXES if name is not None)


@pytest.mark.parametrize("name", BOXES)
@pytest.mark.parametrize("family", ["inet", "inet6"])
def test_routes_and_rules_are_those_of_ip(host: Host, name: str | None, family: str) -> None:
    """Routes of all tables and policy rules have the keys and values of `ip -details`.

    What IPv6 makes for ports of bridges is left out.
    """
    documents, path = host.box(name)
    listed = tool(path, "ip", "-json", "-details", "-f", family, "route", "show", "table", "all")
    ports = bridge_ports(path)
    shown = [route for route in listed if route.get("dev") not in ports or not is_made(route["dst"])]
    assert (len(shown) < len(listed)) == (name is None and family == "inet6")
    ours = without([route for route in documents.routes if route["family"] == family], "family")
    shown = without(shown, "protocol", "scope", "nh_info")
    shown = [{key: value for key, value in route.items() if (key, value) != ("pref", "medium")} for route in shown]
    assert ours == [{key: value for key, value in route.items() if (key, value) != ("flags", [])} for route in shown]
    shown = tool(path, "ip", "-json", "-details", "-f", family, "rule")
    ours = without([rule for rule in documents.rules or () if rule["family"] == family], "family")
    flags = {"not", "nop", "unresolved", "l3mdev"}
    assert ours == [
        {key: True if key in flags else value for key, value in rule.items() if not key.endswith("_detached")}
        for rule in without(shown, "protocol")
    ]


def test_routes_by_nexthop_objects_are_told_whole(host: Host) -> None:
    """Also where the kernel tells nothing of them but an id."""
    told, _ = host.box(None)
    host.engine.on_host("sysctl", "-qw", "net.ipv4.nexthop_compat_mode=0")
    try:
        untold = host.observe().kernel
    finally:
        host.engine.on_host("sysctl", "-qw", "net.ipv4.nexthop_compat_mode=1")
    assert untold is not None
    assert untold.host is not None
    assert len([route for route in told.routes if "nhid" in route]) == 4
    assert untold.host.routes == told.routes


@pytest.mark.parametrize("name", BOXES)
@pytest.mark.parametrize("program", ["iptables-nft", "ip6tables-nft"])
def test_rules_are_those_of_iptables(host: Host, name: str | None, program: str) -> None:
    """The dump is that of iptables-save; where there is nothing, the program is not even run."""
    documents, path = host.box(name)
    shown = run(["nsenter", f"--net={path}", "--", f"{program}-save", "-c"])
    assert uncounted(documents.iptables.get(program, "")) == uncounted(shown)


def uncounted(dump: str) -> list[str]:
    """Return the lines of a dump without times and counters."""
    return [re.sub(r"\[\d+:\d+\]", "[]", line) for line in dump.splitlines() if not line.startswith("#")]


def test_native_tables_are_read_one_by_one(host: Host) -> None:
    """A table that nft made is there as JSON; those of iptables are not."""
    documents, path = host.box(None)
    tables = [entry["table"] for entry in tool(path, "nft", "-j", "list", "tables")["nftables"] if "table" in entry]
    assert list(documents.tables) == [f"{table['family']} {table['name']}" for table in tables]
    assert "inet extra" in documents.tables
    (extra,) = documents.nftables
    assert json.loads(extra)["nftables"] == tool(path, "nft", "-j", "list", "table", "inet", "extra")["nftables"]


def test_docker_proxies_are_told_with_their_targets(host: Host) -> None:
    """The sockets of published ports are there, with where docker-proxy passes packets on to."""
    documents, _ = host.box(None)
    inner = host.engine.api(f"/containers/{host.ids['both']}/json")["NetworkSettings"]["Networks"]["six"]["IPAddress"]
    relays = {
        (entry["protocol"], entry["address"], entry["port"]): entry["relay"]
        for entry in documents.listeners
        if entry.get("program") == "docker-proxy"
    }
    assert relays["tcp", "0.0.0.0", 8002] == [inner, 80]
    assert relays["udp", "0.0.0.0", 8003] == [inner, 53]
    assert {address for _, address, _ in relays} == {"0.0.0.0", "::"}
    assert len(relays) == 6
    assert all(entry["v6only"] for entry in documents.listeners if entry["address"] == "::")


def test_settings_are_those_of_the_namespace(host: Host) -> None:
    """Sysctls are read from the namespace itself, also those of single interfaces."""
    for name in BOXES:
        documents, path = host.box(name)
        names = sorted(documents.settings)
        files = " ".join(f"/proc/sys/net/{setting}" for setting in names)
        shown = run(["nsenter", f"--net={path}", "--", "sh", "-ec", f"cat {files}"]).splitlines()
        assert [documents.settings[setting] for setting in names] == shown
    documents, _ = host.box(None)
    assert {"ipv4/conf/all/forwarding", "ipv4/conf/docker0/rp_filter", "bridge/bridge-nf-call-iptables"} <= set(
        documents.settings
    )
    assert [name for name in documents.settings if name.endswith("hop_limit")] == ["ipv6/conf/docker0/hop_limit"]


def test_sandboxes_are_told_by_their_namespace(host: Host) -> None:
    """Each running container has its namespace; who shares one shares its documents, hosted ones the host's."""
    boxes = host.kernel.sandboxes
    assert set(boxes) == {host.ids[container.name] for container in TOPOLOGY.containers}
    for container in TOPOLOGY.containers:
        assert boxes[host.ids[container.name]].inode == host.engine.sandbox_inode(container.name)
    assert boxes[host.ids["shared"]] is boxes[host.ids["both"]]
    assert boxes[host.ids["hosted"]] is host.kernel.host


def test_ends_of_veths_are_told_without_entering_sandboxes(host: Host) -> None:
    """In tier kernel, a port of a bridge says the MAC and the addresses at its other end."""
    kernel = host.observe(Tier.KERNEL).kernel
    assert kernel is not None
    assert kernel.host is not None
    assert kernel.sandboxes == {}
    own = host.kernel.sandboxes[host.ids["plain"]]
    (card,) = (link for link in own.links if link["ifname"] == "eth0")
    (port,) = (link for link in kernel.host.links if link["ifindex"] == card["link_index"])
    assert port["peer_mac"] == card["address"]
    assert {entry.partition("/")[0] for entry in port["peer_addresses"]} == {
        entry["local"] for entry in own.addresses if entry["ifname"] == "eth0"
    }


def test_the_whole_observation_goes_through_a_file(host: Host) -> None:
    """A file gives back every document, and no key is lost on the way."""
    again = loads(dumps(host.observation), "x")
    assert again == host.observation
    assert again.kernel is not None
    assert again.kernel.sandboxes[host.ids["hosted"]] is again.kernel.host


def test_reading_leaves_no_trace(host: Host) -> None:
    """Neither tables, nor legacy tables, nor a generation are made, and this thread is where it was."""
    before = Path("/proc/thread-self/ns/net").stat().st_ino
    traces = [run(["nsenter", f"--net={host.box(name)[1]}", "--", "sh", "-c", _TRACES]) for name in BOXES]
    for tier in (Tier.SANDBOXES, Tier.KERNEL):
        host.observe(tier)
    assert traces == [run(["nsenter", f"--net={host.box(name)[1]}", "--", "sh", "-c", _TRACES]) for name in BOXES]
    assert Path("/proc/thread-self/ns/net").stat().st_ino == before


_TRACES = "nft list tables; cat /proc/self/net/ip_tables_names /proc/self/net/ip6_tables_names; ip netns list-id"
