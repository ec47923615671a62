"""Everything about one namespace, read by a thread that is in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from exporter.model.observation import NamespaceDocuments
from exporter.observe.kernel import bpf, labels, links, neighbours, netns, queues, routes
from exporter.observe.kernel.firewall import NOTHING, FirewallReader
from exporter.observe.kernel.ipsec import read_policies
from exporter.observe.kernel.ipvs import read_virtual_services
from exporter.observe.kernel.memo import Memo
from exporter.observe.kernel.netlink import ROUTE, Netlink
from exporter.observe.kernel.settings import read_settings
from exporter.observe.kernel.sockets import Socket, read_sockets
from exporter.observe.kernel.trouble import Unreadable, reason

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from exporter.observe.kernel.budget import Budget

_PATIENCE = 0.6
"""The share of a budget that the firewall may use up: programs can hang."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A namespace, and why parts of it are missing, by source of evidence."""

    documents: NamespaceDocuments
    missing: Mapping[str, str]


class NamespaceReader:
    """Reads namespaces one after the other, and remembers what they have in common and what has not changed."""

    def __init__(self) -> None:
        self._link = Memo(links.decode_link, links.without_counters)
        self._address = Memo(links.decode_address)
        self._route = Memo(routes.decode_route)
        self._rule = Memo(routes.decode_rule)
        self._label = Memo(labels.decode_label)
        self._firewall = FirewallReader()

    def turn(self) -> None:
        """Begin another look."""
        for memory in (self._link, self._address, self._route, self._rule, self._label, self._firewall):
            memory.turn()

    def read(self, inode: int, budget: Budget) -> Reading:
        """Return what the calling thread's namespace has; `inode` is its number. Raises Spent."""
        missing: dict[str, str] = {}
        parts: dict[str, Any] = {"inode": inode, "programs": []}
        self._try(("bridge", "routes"), missing, lambda: parts.update(self._network(budget)))
        self._try(("bridge", "routes"), missing, lambda: parts.update(_merged(parts, read_settings())))
        self._try(("programs",), missing, lambda: parts.update(links=_with_programs(parts.get("links", ()))))
        self._try(("ipsec",), missing, lambda: parts.update(policies=read_policies(budget)))
        self._try(("firewall",), missing, lambda: parts.update(ipvs=read_virtual_services()))
        self._try(("listeners",), missing, lambda: parts.update(listeners=_listeners(read_sockets(budget))))
        firewall = NOTHING

        def read_firewall() -> None:
            nonlocal firewall
            firewall = self._firewall.read(netns.cookie(), budget.part(_PATIENCE * budget.left()))

        self._try(("firewall",), missing, read_firewall)
        documents = NamespaceDocuments(
            iptables=firewall.iptables,
            tables=list(firewall.tables),
            nftables=list(firewall.nftables),
            ebtables=firewall.ebtables,
            ipsets=firewall.ipsets,
            **parts,
        )
        return Reading(documents, {**firewall.missing, **missing})

    def _try(self, sources: tuple[str, ...], missing: dict[str, str], read: Callable[[], None]) -> None:
        try:
            read()
        except Unreadable as error:
            missing.update(dict.fromkeys(sources, str(error)))

    def _network(self, budget: Budget) -> dict[str, Any]:
        """Return links, addresses, routes and rules. Raises Unreadable."""
        try:
            with Netlink(ROUTE, budget) as netlink:
                found = links.read_links(netlink, self._link)
                documents = links.link_documents(found)
                traffic = queues.read_traffic(netlink)
                names = {link.index: link.name for link in found} if traffic else {}
                documents = [_with_traffic(document, traffic, names) for document in documents]
                if any(_filters_vlans(document) for document in documents):
                    vlans = links.read_vlans(netlink)
                    documents = [_with_vlans(document, vlans) for document in documents]
                addresses = links.address_documents(links.read_addresses(netlink, self._address), found)
                return {
                    "links": documents,
                    "settings": links.link_settings(found),
                    "addresses": addresses,
                    "routes": routes.route_documents(routes.read_routes(netlink, self._route), found),
                    "rules": routes.read_rules(netlink, self._rule),
                    "labels": labels.read_labels(netlink, found, self._label) if labels.matter(addresses) else None,
                    "neighbours": neighbours.read_neighbours(netlink, found),
                    "fdb": neighbours.read_fdb(netlink, found, whole=neighbours.needs_fdb(documents)),
                }
        except OSError as error:
            raise Unreadable(reason(error, "rtnetlink", "CAP_NET_ADMIN")) from error


def _merged(parts: Mapping[str, Any], settings: Mapping[str, str]) -> dict[str, Any]:
    return {"settings": {**parts.get("settings", {}), **settings}}


def _filters_vlans(document: Mapping[str, Any]) -> bool:
    return bool(document.get("linkinfo", {}).get("info_data", {}).get("vlan_filtering"))


def _with_traffic(
    document: dict[str, Any], traffic: Mapping[int, queues.Traffic], names: Mapping[int, str]
) -> dict[str, Any]:
    own = traffic.get(document["ifindex"])
    if own is None:
        return document
    actions = [{"kind": each.kind, "dev": names.get(each.interface, ""), "inward": each.inward} for each in own.actions]
    told = {"tc": own.filters, "queue": own.queue, "actions": actions, "bpf": own.bpf}
    return {**document, **{name: said for name, said in told.items() if said}}


def _with_programs(documents: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return links with what BPF sees of their packets by tcx. Raises Unreadable."""
    return [{**each, "tcx": True} if bpf.at_interface(each["ifindex"]) else each for each in documents]


def _with_vlans(document: dict[str, Any], vlans: Mapping[int, list[dict[str, Any]]]) -> dict[str, Any]:
    index = document["ifindex"]
    return {**document, "vlans": vlans[index]} if index in vlans else document


def _listeners(sockets: list[Socket]) -> list[dict[str, Any]]:
    documents = []
    for found in sockets:
        document: dict[str, Any] = {"protocol": found.protocol, "address": found.address, "port": found.port}
        documents.append(document if found.v6only is None else document | {"v6only": found.v6only})
    return documents
