"""What was seen, raw: the one format of replays, bug reports and tests."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime


@dataclass(frozen=True, slots=True)
class Sighting:
    """The first status that the list showed of a container since its latest start.

    `status` is the engine's text ("Up 3 seconds"), `at` when it was read. Statuses grow coarse with age;
    the first one tells the start to a second, which decides whether a joiner's namespace is still its owner's.
    """

    status: str
    at: datetime


@dataclass(frozen=True, slots=True)
class NamespaceDocuments:
    """What the kernel says about one network namespace, as its tools and rtnetlink print it.

    `inode` is the namespace's own number: two that have the same are one. `iptables` maps `iptables-nft`,
    `ip6tables-nft`, `iptables-legacy` and `ip6tables-legacy` to the output of that program's `-save -c`; `tables` names
    all tables that nftables lists, in its order, as `family name`; `nftables` holds the document of
    `nft -j list table` for each of those that is not iptables'; `ipsets` the output of `ipset save`.
    Links, addresses, routes and rules have the keys of `ip -json -details`. `listeners` are sockets that take packets,
    with the command line of docker-proxy alone. `settings` are sysctls by their path under `net/`.
    """

    inode: int
    iptables: Mapping[str, str] = field(default_factory=dict)
    tables: Sequence[str] = ()
    nftables: Sequence[Mapping[str, Any]] = ()
    ipsets: str = ""
    links: Sequence[Mapping[str, Any]] = ()
    addresses: Sequence[Mapping[str, Any]] = ()
    routes: Sequence[Mapping[str, Any]] = ()
    rules: Sequence[Mapping[str, Any]] = ()
    listeners: Sequence[Mapping[str, Any]] = ()
    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class KernelDocuments:
    """The engine's own namespace, `host`, and those of its containers by container id.

    A source of evidence (`firewall`, `bridge`, `routes`, `sandboxes`) that could not be read is in `missing`, with the
    reason. `host` is None where nothing could.
    """

    host: NamespaceDocuments | None = None
    sandboxes: Mapping[str, NamespaceDocuments] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Observation:
    """One look at an engine: the documents it answered with, reduced to the fields that verdicts need.

    `version` and `info` are `GET /version` and `GET /info`, `networks` and `containers` are the lists
    `GET /networks` and `GET /containers/json`. `sightings` maps container ids to their first sighting. `kernel` is None
    where nobody asked for more than the API.
    """

    taken_at: datetime
    version: Mapping[str, Any]
    info: Mapping[str, Any]
    networks: Sequence[Mapping[str, Any]]
    containers: Sequence[Mapping[str, Any]]
    sightings: Mapping[str, Sighting] = field(default_factory=dict)
    kernel: KernelDocuments | None = None
