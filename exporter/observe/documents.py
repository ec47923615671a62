"""What is kept of the engine's documents. Everything else, such as commands and mounts, goes no further.

Labels may hold secrets: of containers, those are kept that somebody named, and of networks none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from exporter.errors import ObservationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class Misfit(Exception):
    """A value of another kind than its shape; the text begins with the way to it."""


@dataclass(frozen=True, slots=True)
class Shape:
    """An object with these fields; a field's value is kept whole (None), or in a shape of its own."""

    fields: Mapping[str, Kept | None]

    def keep(self, value: object) -> dict[str, Any]:
        """Return the fields of an object that the shape has; absent and null ones are left out. Raises Misfit."""
        if not isinstance(value, dict):
            raise Misfit(" is not an object")
        kept = {}
        for key, inner in self.fields.items():
            part = value.get(key)
            if part is None:
                continue
            if inner is not None:
                try:
                    part = inner.keep(part)
                except Misfit as misfit:
                    raise Misfit(f": {key}{misfit}") from misfit
            kept[key] = part
        return kept


@dataclass(frozen=True, slots=True)
class Each:
    """An array whose entries have one shape."""

    shape: Shape | Only

    def keep(self, value: object) -> list[Any]:
        """Return the entries of an array, reduced. Raises Misfit."""
        if not isinstance(value, list):
            raise Misfit(" is not a list")
        kept: list[Any] = []
        try:
            for entry in value:
                kept.append(self.shape.keep(entry))  # noqa: PERF401 - the length says which entry it was
        except Misfit as misfit:
            raise Misfit(f"[{len(kept)}]{misfit}") from misfit
        return kept


@dataclass(frozen=True, slots=True)
class Values:
    """An object with any keys; the values have one shape."""

    shape: Shape | Only

    def keep(self, value: object) -> dict[str, Any]:
        """Return the values of an object, reduced. Raises Misfit."""
        if not isinstance(value, dict):
            raise Misfit(" is not an object")
        return {key: self.shape.keep(entry) for key, entry in value.items()}


@dataclass(frozen=True, slots=True)
class Only:
    """A value of one type, kept whole."""

    kind: type
    name: str

    def keep(self, value: object) -> Any:  # noqa: ANN401 - as JSON has it
        """Return a value of the type. Raises Misfit."""
        # JSON's true is no number
        if not isinstance(value, self.kind) or isinstance(value, bool):
            raise Misfit(f" is not {self.name}")
        return value


Kept = Shape | Each | Values | Only
"""What is kept of a value."""


def _shape(names: str, **nested: Kept) -> Shape:
    return Shape(dict.fromkeys(names.split()) | nested)


_TEXT: Final = Only(str, "text")
_NUMBER: Final = Only(int, "a whole number")

VERSION: Final = _shape("Version ApiVersion MinAPIVersion Os", Platform=_shape("Name"), Components=Each(_shape("Name")))
INFO: Final = _shape(
    "ID Name ServerVersion OSType SecurityOptions BridgeNfIptables BridgeNfIp6tables IPv4Forwarding "
    "ExperimentalBuild FirewallBackend LiveRestoreEnabled",
    Swarm=_shape("LocalNodeState"),
)
NETWORKS: Final = Each(
    _shape(
        "Id Name Driver Scope Internal Attachable Ingress EnableIPv4 EnableIPv6 Options ConfigOnly",
        IPAM=_shape("Driver", Config=Each(_shape("Subnet Gateway IPRange AuxiliaryAddresses"))),
        ConfigFrom=_shape("Network"),
    )
)
_CONTAINER: Final = _shape(
    "Id Names State Status",
    Ports=Each(_shape("IP PrivatePort PublicPort Type")),
    HostConfig=_shape("NetworkMode"),
    NetworkSettings=_shape(
        "",
        Networks=Values(
            _shape(
                "NetworkID EndpointID Gateway IPAddress IPPrefixLen IPv6Gateway GlobalIPv6Address "
                "GlobalIPv6PrefixLen MacAddress GwPriority"
            )
        ),
    ),
)


def containers(labels: Iterable[str] = ()) -> Each:
    """Return the shape of the list of containers, with these labels of each and no others."""
    named = dict.fromkeys(labels, _TEXT)
    return Each(Shape({**_CONTAINER.fields, "Labels": Shape(named)}) if named else _CONTAINER)


NAMESPACE: Final = _shape(
    "",
    inode=_NUMBER,
    iptables=Values(_TEXT),
    tables=Each(_TEXT),
    nftables=Each(_shape("nftables")),
    ebtables=_TEXT,
    ipsets=_TEXT,
    links=Each(
        _shape(
            "ifindex ifname flags address master link link_index link_netnsid vlans peer_mac peer_addresses peer_inode "
            "xdp tc tcx bpf queue group",
            actions=Each(_shape("kind dev inward")),
            linkinfo=_shape(
                "info_kind info_slave_kind",
                info_data=_shape(
                    "mode private vepa vlan_filtering vlan_default_pvid stp_state nf_call_iptables nf_call_ip6tables "
                    "nf_call_arptables id port table"
                ),
                info_slave_data=_shape(
                    "state hairpin isolated learning flood mcast_flood bcast_flood proxy_arp proxy_arp_wifi "
                    "neigh_suppress locked"
                ),
            ),
        )
    ),
    addresses=Each(
        _shape(
            "ifindex ifname family local address prefixlen broadcast scope secondary temporary nodad optimistic "
            "dadfailed deprecated tentative noprefixroute"
        )
    ),
    routes=Each(
        _shape(
            "family type dst from tos table dev gateway via prefsrc metric nexthops nhid encap flags pref",
            metrics=Each(_shape("hoplimit")),
        )
    ),
    rules=Each(
        _shape(
            "family priority not src srclen dst dstlen tos iif oif l3mdev ipproto tun_id fwmark fwmask uid_start "
            "uid_end sport sport_start sport_end dport dport_start dport_end suppress_prefixlen suppress_ifgroup "
            "table goto unresolved nop action unknown foreign"
        )
    ),
    labels=Each(_shape("address prefixlen ifname label")),
    listeners=Each(_shape("protocol address port v6only program relay")),
    settings=Values(_TEXT),
    neighbours=Each(_shape("dst dev lladdr state proxy")),
    fdb=Each(_shape("mac ifname vlan flags master state")),
    programs=Each(_TEXT),
    policies=Each(_shape("dir src dst priority action narrow templates")),
    ipvs=_TEXT,
)
LABELS: Final = Each(_TEXT)
DAEMON_OPTIONS: Final = (
    "icc", "iptables", "ip6tables", "ipv6", "userland-proxy", "live-restore", "ip-masq", "ip-forward", "bridge", "bip",
    "firewall-backend",
)  # fmt: skip
"""Keys of daemon.json whose values are kept."""

DAEMON: Final = _shape(
    "",
    running=Each(_TEXT),
    service=_TEXT,
    flags=Each(_shape("", flag=_TEXT, origin=_TEXT)),
    file=_shape(
        "present",
        path=_TEXT,
        trouble=_TEXT,
        quirks=Each(_TEXT),
        keys=Each(_TEXT),
        options=_shape(" ".join(DAEMON_OPTIONS)),
    ),
    troubles=Each(_TEXT),
    unused=Each(_TEXT),
    missing=_TEXT,
)
FORMER: Final = Each(_shape("address until"))
LEFT: Final = Each(_shape("address", ports=Each(_TEXT)))
KERNEL: Final = _shape(
    "",
    host=_NUMBER,
    namespaces=Each(NAMESPACE),
    sandboxes=Values(_NUMBER),
    bystanders=Values(_NUMBER),
    modules=Each(_TEXT),
    missing=Values(_TEXT),
)


def project_object(document: object, shape: Shape, name: str) -> dict[str, Any]:
    """Return what is kept of an object. Raises ObservationError with the document's name and what does not fit."""
    try:
        return shape.keep(document)
    except Misfit as misfit:
        raise ObservationError(f"{name}{misfit}") from misfit


def project_list(document: object, each: Each, name: str) -> list[Any]:
    """Return what is kept of an array of objects. Raises ObservationError as `project_object` does."""
    try:
        return each.keep(document)
    except Misfit as misfit:
        raise ObservationError(f"{name}{misfit}") from misfit
