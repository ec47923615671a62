"""What is left of a host without those for whom others stand."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from exporter.evaluate.kinds.directory import Owner
from exporter.evaluate.kinds.rules import Owned
from exporter.model.reach import HOST

if TYPE_CHECKING:
    from collections.abc import Sequence
    from collections.abc import Set as AbstractSet

    from exporter.evaluate.kinds.ground import Ground
    from exporter.evaluate.kinds.survey import Survey
    from exporter.model.firewall import Firewall
    from exporter.model.namespace import Hop, Interface, Namespace
    from exporter.model.snapshot import Kernel, Snapshot


def restricted(ground: Ground, kept: set[str], networks: set[str]) -> Snapshot:
    """Return the part of what was seen that is left with some sandboxes and networks."""
    snapshot = ground.snapshot
    members = {member for name in kept for member in snapshot.sandboxes[name].members}
    kernel = snapshot.kernel
    if kernel is not None:
        gone = {owner for name, owner in ground.directory.boxes.items() if name not in kept}
        gone |= {Owner("network", name) for name in snapshot.networks if name not in networks}
        host = _host(kernel, snapshot, ground, gone)
        entered = kept if ground.closely else kept & ground.read
        inside = {name: _inside(name, each, ground, gone) for name, each in kernel.sandboxes.items() if name in entered}
        kernel = replace(kernel, host=host, sandboxes=inside, strangers=_strangers_left(ground, gone))
    return replace(
        snapshot,
        networks={name: snapshot.networks[name] for name in sorted(networks)},
        containers={name: snapshot.containers[name] for name in sorted(members)},
        sandboxes={name: snapshot.sandboxes[name] for name in sorted(kept)},
        kernel=kernel,
    )


def _inside(name: str, namespace: Namespace, ground: Ground, gone: set[Owner]) -> Namespace:
    """Return a sandbox's namespace without its rules about those who are gone."""
    if name not in ground.firewalls:
        return namespace
    return replace(namespace, firewall=_rules_of(name, ground.firewalls[name], ground.survey, gone))


def _strangers_left(ground: Ground, gone: set[Owner]) -> frozenset[int] | None:
    """Return the addresses of nobody that are in no subnet of networks that are gone."""
    if ground.strangers is None:
        return None
    lost = (ground.strangers_near[owner.id] for owner in gone if owner.id in ground.strangers_near)
    return ground.strangers.difference(*lost)


def _host(kernel: Kernel, snapshot: Snapshot, ground: Ground, gone: set[Owner]) -> Namespace:
    """Return the host's namespace without the bridges, ports, routes, rules and sockets of those who are gone."""
    host = kernel.host
    bridges = {snapshot.networks[owner.id].interface for owner in gone if owner.kind == "network"}
    bridges &= {network.interface for network in snapshot.networks.values() if network.driver == "bridge"}
    plain = {index for index, interface in host.interfaces.items() if _is_plain_port(interface, host, ground)}
    if ground.closely:
        plain &= _ends(kernel, gone)
    dropped = plain | {index for index, interface in host.interfaces.items() if interface.name in bridges}
    owners = ground.directory.owners
    ports = {port for port, (owner, _) in ground.ports.items() if owner in gone}
    return replace(
        host,
        interfaces={index: interface for index, interface in host.interfaces.items() if index not in dropped},
        routes=tuple([route for route in host.routes if not _leads_only_to(route.hops, dropped)]),
        firewall=_rules_of(HOST, ground.firewalls[HOST], ground.survey, gone),
        listeners=tuple(
            listener
            for listener in host.listeners
            if listener.port not in ports and not (listener.relay and owners.get(int(listener.relay[0])) in gone)
        ),
    )


def _ends(kernel: Kernel, sandboxes: set[Owner]) -> set[int]:
    """Return the host's ends of the cables of some sandboxes."""
    inside = (kernel.sandboxes[owner.id] for owner in sandboxes if owner.id in kernel.sandboxes)
    return {card.peer for each in inside for card in each.interfaces.values() if card.peer is not None}


def _leads_only_to(hops: Sequence[Hop], interfaces: AbstractSet[int]) -> bool:
    if len(hops) == 1:
        return hops[0].interface in interfaces
    return bool(hops) and all(hop.interface in interfaces for hop in hops)


def _is_plain_port(interface: Interface, host: Namespace, ground: Ground) -> bool:
    """Return whether an interface is nothing but the host's end of the cable of a container that has a stand-in.

    Stand-ins hang on their network's bridge without a port.
    """
    master = host.interfaces.get(interface.master) if interface.master is not None else None
    return (
        interface.index not in ground.cables
        and interface.index not in ground.leading_astray
        and interface.master not in ground.entangled
        and interface.kind == "veth"
        and master is not None
        and master.name in ground.directory.interfaces
        and all(address.is_link_local for address in interface.addresses)
    )


def _rules_of(whose: str, firewall: Firewall, survey: Survey, gone: set[Owner]) -> Firewall:
    """Return a firewall, the host's or a sandbox's, without the rules of those who are gone."""
    tables = []
    for number, table in enumerate(firewall.tables):
        chains = dict(table.chains)
        for name, chain in table.chains.items():
            said = survey.chains[whose, number, name]
            if not gone.isdisjoint(said.places):
                rules = [
                    rule
                    for rule, told in zip(chain.rules, said.rules, strict=True)
                    if not isinstance(told, Owned) or told.owner not in gone
                ]
                chains[name] = replace(chain, rules=tuple(rules))
        # counters say nothing about verdicts, and differ from look to look
        tables.append(replace(table, chains=chains, packets={}))
    return replace(firewall, tables=tuple(tables))
