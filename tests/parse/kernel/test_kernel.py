"""The kernel's part of an observation to the kernel's part of a snapshot."""

from __future__ import annotations

import json
from dataclasses import replace
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

import pytest

from exporter.model.firewall import Backend, Target, Translate, Translation
from exporter.model.namespace import Namespace
from exporter.model.observation import KernelDocuments, NamespaceDocuments
from exporter.model.ranges import Ranges
from exporter.model.reach import HOST
from exporter.observe.files import dumps, loads
from exporter.parse import parse
from tests.hosts import host
from tests.parse.kernel.rules import saved

if TYPE_CHECKING:
    from exporter.model.snapshot import Snapshot
    from tests.hosts import Host

LO = {"ifindex": 1, "ifname": "lo", "flags": ["UP"]}
HOST_INODE, OWNER, OTHER, NEW = 1, 2, 3, 4


def namespace(inode: int, **given: Any) -> NamespaceDocuments:  # noqa: ANN401
    """Return a namespace with a loopback interface."""
    return NamespaceDocuments(**{"inode": inode, "links": [LO], **given})


def seen(built: Host, inodes: dict[str, int], host_inode: int | None = HOST_INODE) -> Snapshot:
    """Return the snapshot of a host whose containers live in the namespaces of these numbers, by name."""
    observation = built.look().observation
    ids = {document["Names"][0][1:]: document["Id"] for document in observation.containers}
    sandboxes = {ids[name]: namespace(inode) for name, inode in inodes.items()}
    kernel = KernelDocuments(namespace(host_inode) if host_inode else None, sandboxes)
    return parse(replace(observation, kernel=kernel))


def residents(snapshot: Snapshot) -> dict[str, str]:
    """Return the sandbox of each container, by names."""
    names = {container.id: container.name for container in snapshot.containers.values()} | {HOST: HOST}
    return {container.name: names[container.sandbox] for container in snapshot.containers.values()}


JOINED = {"web": OWNER, "joiner": OWNER, "plain": OTHER, "metal": HOST_INODE}


def joined() -> Host:
    """Return a host with a container that joined another's namespace, a plain one and one in host mode."""
    return (
        host("28.5").container("web").container("joiner", "container:web").container("plain").container("metal", "host")
    )


def test_without_the_kernel_there_is_none() -> None:
    """A snapshot of the API alone has no kernel."""
    assert joined().look().snapshot.kernel is None


def test_sandboxes_are_keyed_as_the_snapshot_has_them() -> None:
    """Each sandbox has the namespace of its members; the host's is told apart."""
    snapshot = seen(joined(), JOINED)
    assert residents(snapshot) == {"web": "web", "joiner": "web", "plain": "plain", "metal": HOST}
    assert snapshot.kernel is not None
    assert snapshot.kernel.sandboxes.keys() == snapshot.sandboxes.keys() - {HOST}
    assert snapshot.kernel.missing == {}
    assert snapshot.assumptions == ()


@pytest.mark.parametrize("links", [[LO], [{}]], ids=["read", "not understood"])
def test_nobody_lives_in_a_namespace_that_is_no_containers(links: list[dict[str, Any]]) -> None:
    """It is a sandbox by its number, and is called as it was seen; saved observations of before have none."""
    observation = joined().look().observation
    router = namespace(NEW, links=links)
    kernel = KernelDocuments(namespace(HOST_INODE), bystanders={f"namespace {NEW} (rtr)": router})
    found = parse(loads(dumps(replace(observation, kernel=kernel)), "saved"))
    box = found.sandboxes[f"namespace {NEW}"]
    assert (box.name, box.members) == (f"namespace {NEW} (rtr)", ())
    assert found.containers == parse(observation).containers
    assert found.kernel is not None
    assert (box.id in found.kernel.sandboxes) == (f"sandboxes/{box.id}" not in found.kernel.missing) == (links == [LO])


def test_a_joiner_that_was_left_behind_lives_by_itself() -> None:
    """Where the numbers differ the joiner is in the namespace that its owner had before, whatever the statuses say."""
    snapshot = seen(joined(), JOINED | {"web": NEW})
    assert residents(snapshot) == {"web": "web", "joiner": "joiner", "plain": "plain", "metal": HOST}
    orphan = next(sandbox for sandbox in snapshot.sandboxes.values() if sandbox.name == "joiner")
    assert orphan.orphaned
    assert snapshot.kernel is not None
    assert orphan.id in snapshot.kernel.sandboxes


def test_a_joiner_that_shares_is_no_assumption() -> None:
    """Where the numbers are equal nothing has to be assumed that statuses do not tell."""
    assert joined().look().snapshot.assumptions
    assert seen(joined(), JOINED).assumptions == ()


def test_joiners_left_behind_at_different_times_do_not_meet() -> None:
    """Two joiners of one owner may be in two of the namespaces that it had."""
    built = joined().container("second", "container:web").container("third", "container:web")
    snapshot = seen(built, JOINED | {"web": NEW, "second": OWNER, "third": 9})
    assert residents(snapshot) == {
        "web": "web", "joiner": "joiner", "second": "joiner", "third": "third", "plain": "plain", "metal": HOST,
    }  # fmt: skip


def test_containers_that_were_not_read_are_where_the_api_says() -> None:
    """What the kernel does not tell is left to the API."""
    snapshot = seen(joined(), {"plain": OTHER})
    assert residents(snapshot) == {"web": "web", "joiner": "web", "plain": "plain", "metal": HOST}
    assert snapshot.kernel is not None
    assert len(snapshot.kernel.sandboxes) == 1


def test_a_container_in_the_hosts_namespace_is_in_host_mode() -> None:
    """Whatever mode the API tells, the number of the host's namespace decides."""
    assert residents(seen(joined(), JOINED | {"plain": HOST_INODE}))["plain"] == HOST


def test_a_container_whose_host_mode_is_another_namespace() -> None:
    """A container that the API calls host mode, and that lives elsewhere, is by itself."""
    assert residents(seen(joined(), JOINED | {"metal": NEW}))["metal"] == "metal"


def test_a_host_that_was_not_read() -> None:
    """Without the engine's own namespace, all that it would tell is missing."""
    snapshot = seen(joined(), {"plain": OTHER}, host_inode=None)
    assert snapshot.kernel is not None
    assert snapshot.kernel.host == Namespace()
    assert snapshot.kernel.missing.keys() == {"firewall", "bridge", "routes"}


def kernel_of(given: dict[str, Any], inside: dict[str, Any]) -> Snapshot:
    """Return the snapshot of a host and one container with these documents."""
    observation = host("28.5").container("web").look().observation
    sandbox = {observation.containers[0]["Id"]: namespace(OWNER, **inside)}
    return parse(replace(observation, kernel=KernelDocuments(namespace(HOST_INODE, **given), sandbox)))


def nat(*chains: str) -> str:
    """Return iptables' table nat as nft lists it: chains with a translation each, of which it leaves out the target."""
    place = {"family": "ip", "table": "nat"}
    entries = [{"chain": {**place, "name": name}} for name in chains]
    rules = [
        {"rule": {**place, "chain": name, "handle": 1, "expr": [{"xt": {"type": "target", "name": "DNAT"}}]}}
        for name in chains
    ]
    return json.dumps({"nftables": [{"table": {"family": "ip", "name": "nat"}}, *entries, *rules]})


BROKEN = [
    ({"iptables": {"iptables-nft": "nonsense"}}, "firewall", "line 1 of iptables-save: this belongs to no table"),
    ({"iptables": {"iptables-new": ""}}, "firewall", "iptables-new is no program that shows rules"),
    ({"ipsets": "nonsense"}, "firewall", "line 1 of ipset save is neither a set nor an element of one"),
    ({"tables": ["inet mine"]}, "firewall", "table inet mine could not be read"),
    (
        {"iptables": {"iptables-nft": "# Table `filter' is incompatible, use 'nft' tool.\n"}},
        "firewall",
        "table ip filter could not be read",
    ),
    (
        {"tables": ["ip nat"], "nftables": [nat("DOCKER")]},
        "firewall",
        "table ip nat: no program tells what xt DNAT in chain DOCKER does",
    ),
    ({"links": [{}]}, "bridge", "a link or address without `ifname`"),
    ({"routes": [{"dst": "x", "dev": "lo"}]}, "routes", "a route to 'x'"),
    ({"rules": [{"src": "x"}]}, "routes", "policy rule 0: src 'x'"),
    ({"labels": [{"address": "x"}]}, "routes", "a label: At least 3 parts expected in 'x'"),
    ({"listeners": [{}]}, "listeners", "a listening socket without address or protocol"),
]


@pytest.mark.parametrize(("given", "source", "reason"), BROKEN)
def test_what_cannot_be_understood_is_missing(given: dict[str, Any], source: str, reason: str) -> None:
    """A part that is not what its program prints is missing with the reason; the others are there."""
    kernel = kernel_of(given, {}).kernel
    assert kernel is not None
    # routes lead to interfaces, and are nothing without them
    sources = {source, "routes"} if source == "bridge" else {source}
    assert kernel.missing == dict.fromkeys(sources, reason)
    assert len(kernel.sandboxes) == 1
    assert source == "bridge" or kernel.host.interfaces


def test_chains_that_iptables_shows_by_themselves_are_read() -> None:
    """Of a table that nft has added to, they are told as iptables-nft-save would tell the table."""
    text = "*nat\n:DOCKER - [0:0]\n-A DOCKER -j DNAT --to-destination 10.0.0.2\nCOMMIT\n"
    given = {"tables": ["ip nat"], "nftables": [nat("DOCKER")], "iptables": {"iptables-nft": text}}
    kernel = kernel_of(given, {}).kernel
    assert kernel is not None
    (table,) = kernel.host.firewall.tables
    target = Target(Ranges.of(int(ip_address("10.0.0.2"))), Ranges())
    assert [rule.steps for rule in table.chains["DOCKER"].rules] == [(Translate(Translation.DNAT, (target,)),)]


@pytest.mark.parametrize(("given", "source", "reason"), BROKEN)
def test_a_sandbox_that_cannot_be_understood_is_left_out(given: dict[str, Any], source: str, reason: str) -> None:
    """Half a sandbox would be a lie: it is missing by its id, with what is wrong."""
    snapshot = kernel_of({}, given)
    (sandbox,) = (sandbox.id for sandbox in snapshot.sandboxes.values() if sandbox.id != HOST)
    assert snapshot.kernel is not None
    assert snapshot.kernel.sandboxes == {}
    ((missing, told),) = snapshot.kernel.missing.items()
    assert missing == f"sandboxes/{sandbox}"
    assert told.startswith(f"{source}: {reason}")


def test_tables_come_by_age_and_legacy_ones_last() -> None:
    """Tables of nftables are in the order that it lists them in; those of iptables-legacy are called before them."""
    dump = saved([], "nat", ["OUTPUT"]) + saved([], "filter", ["FORWARD"])
    given = {
        "iptables": {"iptables-legacy": saved([], "raw", ["OUTPUT"]), "iptables-nft": dump, "ip6tables-nft": dump},
        "tables": ["ip filter", "ip6 filter", "ip nat", "ip6 nat"],
    }
    kernel = kernel_of(given, {}).kernel
    assert kernel is not None
    assert [(table.family, table.name, table.backend) for table in kernel.host.firewall.tables] == [
        ("ip", "filter", Backend.IPTABLES_NFT),
        ("ip6", "filter", Backend.IPTABLES_NFT),
        ("ip", "nat", Backend.IPTABLES_NFT),
        ("ip6", "nat", Backend.IPTABLES_NFT),
        ("ip", "raw", Backend.IPTABLES_LEGACY),
    ]
