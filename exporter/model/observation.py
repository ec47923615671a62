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

    Links, addresses, routes and rules have the keys of `ip -json -details`; what `ip` writes as a key with null is
    true.
    """

    inode: int
    """The namespace's own number: two that have the same are one."""

    iptables: Mapping[str, str] = field(default_factory=dict)
    """`iptables-nft`, `ip6tables-nft`, `iptables-legacy` and `ip6tables-legacy`, with the output of that program's
    `-save -c`; one that has nothing to print is left out."""

    tables: Sequence[str] = ()
    """The names of all tables that nftables lists, in its order, as `family name`."""

    nftables: Sequence[str] = ()
    """The output of `nft -j list table` for each table that is not iptables'.

    A table that is here and in `iptables` was changed by nft: iptables' text is then wrong for the rules of which nft
    shows no `xt`. In tables of `ip` and `ip6`, an `xt` has `options` where it is known what that module was told, as
    iptables writes it.
    """

    ebtables: str = ""
    """The output of `ebtables-nft-save` where nft shows an `xt` in a table of ebtables'."""

    ipsets: str = ""
    """The output of `ipset save` where a rule asks for a set."""

    links: Sequence[Mapping[str, Any]] = ()
    """Interfaces. Besides the keys of `ip` they have

    * `link_index` also for a peer or parent in the same namespace (`link` names it then);
    * `vlans` as `bridge -json vlan` shows them;
    * `xdp`, `tc` and `tcx` where such programs or filters see their packets;
    * `bpf` where one of the filters is a program;
    * `actions` of filters that may lead packets elsewhere (by their `kind`, mirred's by `dev`, or in by it where it is
      `inward`);
    * `queue` where that is of a kind that may drop packets without load;
    * where sandboxes are not entered, `peer_mac` and `peer_addresses` ("address/prefix") of a veth's other end, and
      `peer_inode`, the namespace of that end, where its index and number did not tell whose it is.
    """

    addresses: Sequence[Mapping[str, Any]] = ()
    """One list for all links, with the `ifindex` and `ifname` of theirs."""

    routes: Sequence[Mapping[str, Any]] = ()
    """Routes with their `family` (`inet`, `inet6`)."""

    rules: Sequence[Mapping[str, Any]] | None = None
    """Policy rules with their `family`, `foreign` where they ask for users that are not the machine's own.

    Where they are not told, they are those of every namespace.
    """

    labels: Sequence[Mapping[str, Any]] | None = None
    """What addresses of IPv6 are labelled with, with the keys of `ip -json addrlabel`, in its order.

    Where that is not told, it is as in every namespace.
    """

    listeners: Sequence[Mapping[str, Any]] = ()
    """Sockets that take packets: `protocol`, `address`, `port`, `v6only` (absent where it is not known), and for
    docker-proxy `program` and `relay`, the address and port that its command line tells."""

    settings: Mapping[str, str] = field(default_factory=dict)
    """Sysctls by their path under `net/`; ports of bridges have none."""

    neighbours: Sequence[Mapping[str, Any]] = ()
    """The permanent, noarp and proxied ones with the keys of `ip -json neigh` (`proxy` is true); those that the kernel
    makes itself are left out."""

    fdb: Sequence[Mapping[str, Any]] = ()
    """What bridges know of link addresses, with the keys of `bridge -json fdb`; of those that they learned only where
    a port's switches make that matter."""

    programs: Sequence[str] = ()
    """`cgroup` where programs of BPF see what a container in the namespace sends and receives."""

    policies: Sequence[Mapping[str, Any]] = ()
    """Policies of IPsec: `dir`, `src` and `dst` with their prefixes, `priority`, `action`; `templates` where they want
    packets transformed, `narrow` where they select by more than addresses."""

    ipvs: str = ""
    """The virtual services of IPVS, as `/proc/net/ip_vs` shows them; empty where there are none."""


@dataclass(frozen=True, slots=True)
class KernelDocuments:
    """What the kernel says about the namespaces that matter to an engine's containers."""

    host: NamespaceDocuments | None = None
    """The engine's own namespace; None where nothing could be read."""

    sandboxes: Mapping[str, NamespaceDocuments] = field(default_factory=dict)
    """The namespaces of containers by container id.

    Containers that share a namespace have the same documents; those in the host's have `host`.
    """

    missing: Mapping[str, str] = field(default_factory=dict)
    """What could not be read, with the reason: sources of evidence (`firewall`, `bridge`, `routes`, `sandboxes`).

    Further keys are `listeners`, `relays` (where docker-proxies lead), `ipsets`, `programs` (those of BPF), `ipsec`,
    `bystanders` (those that were not found or read), and `sandboxes/` with the id of a container whose namespace could
    not be read whole, and is then not in `sandboxes`.
    """

    bystanders: Mapping[str, NamespaceDocuments] = field(default_factory=dict)
    """Namespaces that are no container's and have cables to networks' bridges, into containers or into each other, by
    what people know them by (`namespace 4026532456 (rtr)`)."""

    modules: Sequence[str] = field(default_factory=list)
    """Modules of the kernel whose rules are not read and which are loaded: those of ebtables-legacy."""


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
    """How dockerd was started, and what its next start would find."""

    running: Sequence[str] = ()
    """The flags that it runs with."""

    service: str = ""
    """What would start it: a systemd unit, an init script; empty where nobody knows."""

    flags: Sequence[Flag] = ()
    """The flags that `service` would start it with; the running ones where nobody knows what would."""

    file: ConfigurationFile | None = None

    troubles: Sequence[str] = ()
    """Reasons why the service would not start it."""

    unused: Sequence[str] = ()
    """Flags in /etc/default/docker that nothing reads."""

    missing: str = ""
    """Why nothing of all this could be read, empty where it could."""


@dataclass(frozen=True, slots=True)
class Observation:
    """One look at an engine: the documents it answered with, reduced to the fields that verdicts need."""

    taken_at: datetime

    version: Mapping[str, Any]
    """`GET /version`."""

    info: Mapping[str, Any]
    """`GET /info`."""

    networks: Sequence[Mapping[str, Any]]
    """The list `GET /networks`."""

    containers: Sequence[Mapping[str, Any]]
    """The list `GET /containers/json`."""

    sightings: Mapping[str, Sighting] = field(default_factory=dict)
    """The first sighting of each container by its id."""

    kernel: KernelDocuments | None = None
    """None where nobody asked for more than the API."""

    labels: tuple[str, ...] = ()
    """The names of the labels of containers that were asked for.

    No others are in the documents, for they may hold secrets, and of others nobody knows which containers have them.
    """

    daemon: DaemonDocuments | None = None
    """None where nobody asked for more than the API."""
