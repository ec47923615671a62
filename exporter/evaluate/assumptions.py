"""What verdicts take for granted, because nothing that was read tells: all of them, and declared ones beside that."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter.evaluate.declared.behaviour import DIRECT_ACCESS_DROP, IP6TABLES_BY_DEFAULT, LINKS_BY_LABEL
from exporter.evaluate.declared.topology import FAMILIES, has_router
from exporter.evaluate.enforced.wiring import OF_CARDS
from exporter.model.reach import HOST
from exporter.model.snapshot import FACTS_KEPT, GATEWAY_BRIDGE, GatewayMode, Network, Product

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from exporter.model.snapshot import Engine, Snapshot

_OWN_RULES_ONLY = (
    "the firewall holds the engine's own rules and no others, and the engine is not started with --iptables=false"
)
_AS_MADE = (
    "containers keep the addresses, routes and sysctls that the engine gives them: no --sysctl, and no use of NET_ADMIN"
)
_NO_DIRECT_ROUTING = "the engine is not started with --allow-direct-routing or --bridge-accept-fwmark"
_IP6TABLES = "the engine is not started with --ip6tables=false: it would then write no rules for IPv6"
_RULES_OUTLIVE = (
    "rules of links and docker-proxies are those that the engine's present configuration gives: with live-restore, "
    "links lose their rules when the daemon starts anew, and published ports keep the docker-proxy that they had"
)
_OTHER_LINKS = (
    "no link of a container on {names} was removed (docker rm --link) while it held others: this engine then removes "
    "the rules of all of them"
)
_INPUT_OPEN = "the host's INPUT chain lets containers reach published ports and containers in host mode"
_FORWARDING_KEPT = (
    "the host still forwards IPv4 as it did when the engine started, if it did: engines since 23.0 do not look again"
)
_ANSWERED = (
    "published ports answer TCP of their own networks where docker-proxy does not run: br_netfilter is on, which this "
    "engine's API does not tell"
)
_ICC_ENFORCED = "icc=false is enforced on {names}: br_netfilter is on, which this engine's API does not tell"
_NO_OLD_LINKS = (
    "no rule of a former link is left on {names}, nor one for an address that a linked container gave up before the "
    "exporter looked: engines forget some of them (moby#24043)"
)
_OUTSIDE = (
    "nothing outside the host, be it a switch or a router, leads packets from {names} back to it: by another card, or "
    "to another of its networks"
)
_UNREAD = (
    "whoever is behind {ports} and was not read answers for nobody else, and leads on nothing that is sent to himself"
)
_STAND_INS = (
    "the namespaces of {names}, which were not read, are as the engine makes them: no --sysctl, and no use of NET_ADMIN"
)
_PROGRAMS = "programs of BPF at {names} lead no packets elsewhere, past the firewall: nobody can tell what they do"
_LEGACY_EBTABLES = (
    "tables of ebtables-legacy, which are not read, drop no frames and write nothing into them: somebody has used it "
    "({names} loaded)"
)
_OTHER_GATEWAYS = (
    "members of overlay networks do not reach each other by docker_gwbridge, though it is not as the engine makes it "
    "(icc=false, IPv4, gateway mode nat): their addresses there are not in the list of containers"
)
_TOLD = 5
"""As many ports and containers are named."""
_SWARM = "no swarm service publishes a port: its rules would let that port pass between bridges"
_PRODUCT = "this is not a Docker Engine: verdicts follow Docker's rules where the API does not tell otherwise"


def of_all(snapshot: Snapshot, unread: Sequence[str] = ()) -> Iterator[str]:
    """Yield the assumptions behind all verdicts that matter for this snapshot, with `unread` ports of bridges."""
    yield from snapshot.assumptions
    cards = _bridges_of_cards(snapshot)
    networks = snapshot.networks.values()
    outside = [network for network in networks if _leads_outside(network) or network.interface in cards]
    if outside:
        yield _OUTSIDE.format(names=_names(outside))
    if unread:
        yield _UNREAD.format(ports=_first_of(unread))


def of_enforced(snapshot: Snapshot) -> Iterator[str]:
    """Yield the assumptions behind verdicts from the kernel alone: what was not read is as engines make it."""
    read = snapshot.kernel.sandboxes if snapshot.kernel is not None else {}
    living = {sandbox.id for sandbox in snapshot.sandboxes.values() if sandbox.members} - {HOST}
    made_up = living - read.keys()
    if made_up:
        names = sorted(snapshot.sandboxes[each].name for each in made_up)
        yield _STAND_INS.format(names=_first_of(names) if made_up < living else "all containers")
    programmed = sorted(_programmed(snapshot))
    if programmed:
        yield _PROGRAMS.format(names=_first_of(programmed))
    if snapshot.kernel is not None and snapshot.kernel.modules:
        yield _LEGACY_EBTABLES.format(names=_first_of(snapshot.kernel.modules))


def _programmed(snapshot: Snapshot) -> Iterator[str]:
    """Yield the interfaces whose packets programs of BPF see, with whose they are where that is not the host."""
    if snapshot.kernel is None:
        return
    yield from (card.name for card in snapshot.kernel.host.interfaces.values() if card.bpf)
    for name, namespace in snapshot.kernel.sandboxes.items():
        cards = (card.name for card in namespace.interfaces.values() if card.bpf)
        yield from (f"{card} of {snapshot.sandboxes[name].name}" for card in cards)


def of_declared(snapshot: Snapshot) -> Iterator[str]:
    """Yield the assumptions behind declared verdicts alone, which the kernel has an answer to where it is read."""
    networks = list(snapshot.networks.values())
    engine = snapshot.engine
    if engine.product is not Product.DOCKER:
        yield _PRODUCT
    if any(network.driver == "bridge" for network in networks):
        yield from _about_rules(snapshot, engine)
    closed = [network for network in networks if network.icc is False]
    if closed and engine.bridge_netfilter_v4 is None:
        yield _ICC_ENFORCED.format(names=_names(closed))
    linkable = [network for network in closed if network.default]
    if linkable:
        yield _NO_OLD_LINKS.format(names=_names(linkable))
        if snapshot.links and engine.version >= LINKS_BY_LABEL:
            yield _OTHER_LINKS.format(names=_names(linkable))
    if any(map(_is_other_gateway, networks)) and _has_overlays(snapshot):
        yield _OTHER_GATEWAYS
    if engine.swarm and not _shows_tasks(snapshot):
        yield _SWARM


def _about_rules(snapshot: Snapshot, engine: Engine) -> Iterator[str]:
    published = any(box.published for box in snapshot.sandboxes.values())
    yield _OWN_RULES_ONLY
    yield _INPUT_OPEN
    yield _AS_MADE
    if engine.version >= FACTS_KEPT and engine.ipv4_forwarding is not None:
        yield _FORWARDING_KEPT
    if published and engine.userland_proxy is not True and engine.bridge_netfilter_v4 is None:
        yield _ANSWERED
    if engine.version >= DIRECT_ACCESS_DROP:
        yield _NO_DIRECT_ROUTING
    if engine.version >= IP6TABLES_BY_DEFAULT and any(network.ipv6 for network in snapshot.networks.values()):
        yield _IP6TABLES
    if engine.live_restore and (snapshot.links or published):
        yield _RULES_OUTLIVE


def _leads_outside(network: Network) -> bool:
    return network.driver in ("macvlan", "ipvlan") or any(has_router(network, family) for family in FAMILIES)


def _bridges_of_cards(snapshot: Snapshot) -> frozenset[str]:
    """Return the names of bridges that are seen to have a card of the host, or what stands on one, as a port."""
    interfaces = snapshot.kernel.host.interfaces if snapshot.kernel is not None else {}
    masters = (interfaces.get(each.master or 0) for each in interfaces.values() if each.kind in ("", *OF_CARDS))
    return frozenset(master.name for master in masters if master is not None and master.kind == "bridge")


def _is_other_gateway(network: Network) -> bool:
    """Return whether this is the bridge of overlay networks' members, made by somebody else than the engine."""
    usual = network.icc is False and not network.ipv6 and network.gateway_mode_v4 is GatewayMode.NAT
    return network.name == GATEWAY_BRIDGE and network.driver == "bridge" and not usual


def _has_overlays(snapshot: Snapshot) -> bool:
    endpoints = (endpoint for sandbox in snapshot.sandboxes.values() for endpoint in sandbox.endpoints)
    return any(snapshot.networks[endpoint.network_id].driver == "overlay" for endpoint in endpoints)


def _shows_tasks(snapshot: Snapshot) -> bool:
    """Return whether the list shows tasks of services with published ports, of which verdicts take account."""
    endpoints = (endpoint for sandbox in snapshot.sandboxes.values() for endpoint in sandbox.endpoints)
    return any(snapshot.networks[endpoint.network_id].ingress for endpoint in endpoints)


def _first_of(names: Sequence[str]) -> str:
    told = ", ".join(names[:_TOLD])
    return f"{told} and {len(names) - _TOLD} more" if len(names) > _TOLD else told


def _names(networks: list[Network]) -> str:
    return ", ".join(sorted(network.name for network in networks))
