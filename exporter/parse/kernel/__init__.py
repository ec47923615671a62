"""What was read from the kernel to namespaces. Pure, and never an error: what cannot be understood is missing."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from exporter.errors import ObservationError
from exporter.model.firewall import Firewall
from exporter.model.namespace import USUAL_LABELS, USUAL_RULES, Namespace
from exporter.model.snapshot import Kernel
from exporter.parse.kernel.firewall import parse_firewall
from exporter.parse.kernel.interfaces import parse_interfaces, with_diverted
from exporter.parse.kernel.ipsec import parse_policies
from exporter.parse.kernel.labels import parse_labels
from exporter.parse.kernel.listeners import parse_listeners
from exporter.parse.kernel.neighbours import parse_forwarding, parse_neighbours, parse_proxied
from exporter.parse.kernel.routes import coming_routes, parse_routes, parse_rules
from exporter.parse.memory import NamespaceMemory, Policy

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from exporter.model.namespace import Interface, PolicyRule, Route
    from exporter.model.observation import KernelDocuments, NamespaceDocuments
    from exporter.parse.kernel.iptables import General
    from exporter.parse.memory import Memory

__all__ = ["bystander", "parse_kernel"]

_Part = TypeVar("_Part")

_OF_THE_HOST = ("firewall", "bridge", "routes")
"""Sources of evidence about the engine's own namespace."""

_NO_HOST = "the engine's network namespace was not read"


def bystander(documents: NamespaceDocuments) -> str:
    """Return the id of the sandbox that a namespace is which is no container's."""
    return f"namespace {documents.inode}"


def parse_kernel(documents: KernelDocuments, members: Mapping[str, Sequence[str]], memory: Memory) -> Kernel:
    """Return what the kernel has, given the container ids of each sandbox.

    A part of the host that cannot be understood is empty, and its source is missing with the reason; a sandbox of which
    something cannot be is left out as a whole, and `sandboxes/` with its id is missing.
    """
    missing = dict(documents.missing)
    general: General = {}
    if documents.host is None:
        missing = dict.fromkeys(_OF_THE_HOST, _NO_HOST) | missing
        host = Namespace()
    else:
        host, troubles = _namespace(documents.host, memory.host, general)
        missing = troubles | missing
    sandboxes = {}
    known: dict[str, tuple[NamespaceDocuments, Namespace, Mapping[str, str]]] = {}
    alike = NamespaceMemory()  # most say much of what the one before says
    inside = {bystander(each): each for each in documents.bystanders.values()}
    for sandbox, containers in members.items():
        read = next((documents.sandboxes[item] for item in containers if item in documents.sandboxes), None)
        if read is not None:
            inside[sandbox] = read
    for sandbox, read in inside.items():
        before = memory.sandboxes.get(sandbox)
        if before is not None and before[0] == read:
            _, namespace, told = before
        else:
            namespace, told = _namespace(read, alike, general)
        known[sandbox] = read, namespace, told
        if told:
            missing[f"sandboxes/{sandbox}"] = "; ".join(f"{source}: {why}" for source, why in told.items())
        else:
            sandboxes[sandbox] = namespace
    memory.sandboxes = known
    cards = (card for namespace in sandboxes.values() for card in namespace.interfaces.values())
    host = replace(host, interfaces=with_diverted(host.interfaces, cards, here=False))
    return Kernel(host, sandboxes, missing, modules=tuple(documents.modules))


def _routes(documents: NamespaceDocuments, indexes: Mapping[str, int], memory: NamespaceMemory) -> tuple[Route, ...]:
    """Return the routes, with those that the kernel makes as soon as an address is in use."""
    routes = parse_routes(documents.routes, indexes, memory.routes)
    coming = tuple(coming_routes(documents.addresses or (), indexes))
    return (*routes, *coming) if coming else routes


def _policy(documents: NamespaceDocuments, memory: NamespaceMemory) -> tuple[PolicyRule, ...]:
    if documents.rules != memory.policy.documents:
        memory.policy = Policy(documents.rules, parse_rules(documents.rules))
    return memory.policy.rules


def _namespace(
    documents: NamespaceDocuments, memory: NamespaceMemory, general: General
) -> tuple[Namespace, dict[str, str]]:
    """Return a namespace, and the reasons for sources of it that could not be understood."""
    troubles: dict[str, str] = {}

    def told(source: str, parse: Callable[[], _Part], empty: _Part) -> _Part:
        try:
            return parse()
        except ObservationError as error:
            troubles.setdefault(source, str(error))
            return empty

    none: Mapping[int, Interface] = {}
    interfaces = told("bridge", lambda: parse_interfaces(documents.links, documents.addresses, memory.interfaces), none)
    if troubles:
        troubles["routes"] = troubles["bridge"]  # they lead to interfaces
    indexes = {interface.name: interface.index for interface in interfaces.values()}
    if documents.settings != memory.settings:
        memory.settings = dict(documents.settings)
    namespace = Namespace(
        interfaces=interfaces,
        routes=told("routes", lambda: _routes(documents, indexes, memory), ()),
        rules=told("routes", lambda: _policy(documents, memory), USUAL_RULES),
        firewall=told("firewall", lambda: parse_firewall(documents, memory.rules, general), Firewall()),
        listeners=told("listeners", lambda: parse_listeners(documents.listeners), ()),
        settings=memory.settings,
        neighbours=told("bridge", lambda: parse_neighbours(documents.neighbours, indexes), ()),
        proxied=told("bridge", lambda: parse_proxied(documents.neighbours, indexes), ()),
        forwarding=told("bridge", lambda: parse_forwarding(documents.fdb, indexes), ()),
        labels=told("routes", lambda: parse_labels(documents.labels, indexes), USUAL_LABELS),
        programs=tuple(documents.programs),
        policies=told("ipsec", lambda: parse_policies(documents.policies), ()),
        inode=documents.inode,
    )
    return namespace, troubles
