"""What was seen, raw: the one format of replays, bug reports and tests."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime


@dataclass(frozen=True, slots=True)
class FormerAddress:
    """An IPv4 address that a container had on the default bridge, and when it was first seen with another one."""

    address: str
    until: datetime


@dataclass(frozen=True, slots=True)
class FormerLink:
    """An IPv4 address on the default bridge of a linked container when it was last seen, and its ports (`80/tcp`)."""

    address: str
    ports: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Sighting:
    """The first status that the list showed of a container since its latest start.

    `status` is the engine's text ("Up 3 seconds"), `at` when it was read. Statuses grow coarse with age;
    the first one tells the start to a second, which decides whether a joiner's namespace is still its owner's.
    `former` are the addresses on the default bridge that it was seen to give up, which rules of links may still name;
    `left` are those of containers that it held a link to, and that have ended since.
    """

    status: str
    at: datetime
    former: tuple[FormerAddress, ...] = ()
    left: tuple[FormerLink, ...] = ()


@dataclass(frozen=True, slots=True)
class NamespaceDocuments:
    """What the kernel says about one network namespace, as its tools and rtnetlink print it.

    `inode` is the namespace's own number: two that have the same are one. `iptables` maps `iptables-nft`,
    `ip6tables-nft`, `iptables-legacy` and `ip6tables-legacy` to the output of that program's `-save -c`; one that has
    nothing to print is left out. `tables` names all tables that nftables lists, in its order, as `family name`;
    `nftables` holds the output of `nft -j list table` for each of those that is not iptables'. A table that is in
    both was changed by nft: iptables' text is then wrong for the rules of which nft shows no `xt`. In tables of
    `ip` and `ip6`, an `xt` has `options` where it is known what that module was told, as iptables writes it.
    `ebtables` is the output of `ebtables-nft-save` where nft shows an `xt` in a table of ebtables', `ipsets` that
    of `ipset save` where a rule asks for a set.

    Links, addresses, routes and rules have the keys of `ip -json -details`; what `ip` writes as a key with null is
    true, and routes and rules have their `family` (`inet`, `inet6`); rules that ask for users are `foreign` where
    these are not the machine's own. Rules are those of every namespace where they are not told. Addresses are one
    list, with the `ifindex` and `ifname` of their link. Links have `link_index` also for a peer or parent in the same
    namespace (`link` names it then), `vlans` as `bridge -json vlan` shows them, `xdp`, `tc` and `tcx` where such
    programs or filters see their packets, `bpf` where one of the filters is a program, `actions` of filters that may
    lead packets elsewhere (by their `kind`, mirred's by `dev`, or in by it where it is `inward`), `queue` where that
    is of a kind that may drop them without load, and where sandboxes are not entered `peer_mac` and `peer_addresses`
    ("address/prefix") of a veth's other end, and `peer_inode`, the namespace of a veth's other end, where its index
    and number did not tell whose it is. `listeners` are sockets that take packets: `protocol`, `address`, `port`,
    `v6only` (absent where it is not known), and for docker-proxy `program` and `relay`, the address and port that its
    command line tells. `settings` are sysctls by their path under `net/`; ports of bridges have none. `neighbours`
    are the permanent, noarp and proxied ones with the keys of `ip -json neigh` (`proxy` is true); those that the
    kernel makes itself are left out. `fdb` is what bridges know of link addresses, with the keys of `bridge -json
    fdb`; of those that they learned only where a port's switches make that matter. `programs` holds `cgroup` where
    programs of BPF see what a container in the namespace sends and receives. `policies` are those of IPsec: `dir`,
    `src` and `dst` with their prefixes, `priority`, `action`; `templates` where they want packets transformed,
    `narrow` where they select by more than addresses. `ipvs` are the virtual services of IPVS, as `/proc/net/ip_vs`
    shows them; empty where there are none.
    """

    inode: int
    iptables: Mapping[str, str] = field(default_factory=dict)
    tables: Sequence[str] = ()
    nftables: Sequence[str] = ()
    ebtables: str = ""
    ipsets: str = ""
    links: Sequence[Mapping[str, Any]] = ()
    addresses: Sequence[Mapping[str, Any]] = ()
    routes: Sequence[Mapping[str, Any]] = ()
    rules: Sequence[Mapping[str, Any]] | None = None
    listeners: Sequence[Mapping[str, Any]] = ()
    settings: Mapping[str, str] = field(default_factory=dict)
    neighbours: Sequence[Mapping[str, Any]] = ()
    fdb: Sequence[Mapping[str, Any]] = ()
    programs: Sequence[str] = ()
    policies: Sequence[Mapping[str, Any]] = ()
    ipvs: str = ""


@dataclass(frozen=True, slots=True)
class KernelDocuments:
    """The engine's own namespace, `host`, and those of its containers by container id.

    Containers that share a namespace have the same documents; those in the host's have `host`. `bystanders` are
    namespaces that are no container's and have cables to networks' bridges, into containers or into each other, by
    what people know them by (`namespace 4026532456 (rtr)`). A source of evidence
    (`firewall`, `bridge`, `routes`, `sandboxes`) that could not be read is in `missing`, with the reason. Further keys
    are `listeners`, `relays` (where docker-proxies lead), `ipsets`, `programs` (those of BPF), `ipsec`,
    `bystanders` (those that were not found or read), and
    `sandboxes/` with the id of a container whose namespace could not be read whole, and is then not in `sandboxes`.
    `host` is None where nothing could be read.
    """

    host: NamespaceDocuments | None = None
    sandboxes: Mapping[str, NamespaceDocuments] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)
    bystanders: Mapping[str, NamespaceDocuments] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Flag:
    """A flag of dockerd's command line, and the file or variable that it comes from.

    `--icc=false` where the value decides about reachability, else the name alone: `--host`. A word that belongs to no
    flag is a flag without dashes.
    """

    flag: str
    origin: str


EMPTY: Final = "is empty"
BYTE_ORDER_MARK: Final = "begins with a byte order mark"
TRAILING: Final = "goes on behind its end"


@dataclass(frozen=True, slots=True)
class ConfigurationFile:
    """`daemon.json`, or the file that `--config-file` names: the names of all its keys, the values of a few.

    `trouble` says why no daemon takes it, empty where some do; `quirks` are EMPTY, BYTE_ORDER_MARK and TRAILING, which
    some daemons do not take.
    """

    path: str
    present: bool = True
    trouble: str = ""
    quirks: Sequence[str] = field(default_factory=list)
    keys: Sequence[str] = field(default_factory=list)
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DaemonDocuments:
    """How dockerd was started, and what its next start would find.

    `running` are the flags that it runs with, `flags` those that it would be started with by `service` (a systemd unit,
    an init script; empty where nobody knows, and `flags` are then the running ones). `troubles` are reasons why the
    service would not start it, `unused` flags in /etc/default/docker that nothing reads. `missing` says why nothing of
    all this could be read, empty where it could.
    """

    running: Sequence[str] = ()
    service: str = ""
    flags: Sequence[Flag] = ()
    file: ConfigurationFile | None = None
    troubles: Sequence[str] = ()
    unused: Sequence[str] = ()
    missing: str = ""


@dataclass(frozen=True, slots=True)
class Observation:
    """One look at an engine: the documents it answered with, reduced to the fields that verdicts need.

    `version` and `info` are `GET /version` and `GET /info`, `networks` and `containers` are the lists
    `GET /networks` and `GET /containers/json`. `sightings` maps container ids to their first sighting. `kernel` and
    `daemon` are None where nobody asked for more than the API. `labels` names the labels of containers that were asked
    for: no others are in the documents, for they may hold secrets, and of others nobody knows which containers have
    them.
    """

    taken_at: datetime
    version: Mapping[str, Any]
    info: Mapping[str, Any]
    networks: Sequence[Mapping[str, Any]]
    containers: Sequence[Mapping[str, Any]]
    sightings: Mapping[str, Sighting] = field(default_factory=dict)
    kernel: KernelDocuments | None = None
    labels: tuple[str, ...] = ()
    daemon: DaemonDocuments | None = None
