"""The engine's rules in iptables and ip6tables as it writes them when it starts.

Its own chains are made anew. In FORWARD its calls come first; what else of its rules is missing there is put before all
others, and what closes a bridge behind them, as engines before 28.0 do. Rules of others stay in FORWARD, DOCKER-USER
and chains of their own; in the engine's they are lost. Tried on 20.10, 26.1 and 28.5.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Final

from exporter.evaluate.declared.behaviour import DIRECT_ACCESS_DROP, INTERNAL_IPV6_WORKS
from exporter.evaluate.declared.published import is_masqueraded, publications
from exporter.evaluate.declared.topology import Topology
from exporter.model.daemon import Configuration
from exporter.model.firewall import (
    BUILTIN,
    AddressType,
    AddressTypeIs,
    AnyBit,
    Call,
    Chain,
    CtState,
    Field,
    InRanges,
    NameIs,
    Rule,
    Target,
    Terminate,
    Translate,
    Translation,
    Verdict,
)
from exporter.model.ranges import Ranges
from exporter.model.reach import TRANSPORTS, Protocol
from exporter.model.snapshot import EngineVersion, GatewayMode

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from exporter.evaluate.declared.published import Publication
    from exporter.model.addresses import Address
    from exporter.model.firewall import Match, Step, Table
    from exporter.model.snapshot import Link, Network, PublishedPort, RoutedPort, Snapshot

_USERS_OF_IPV6: Final = EngineVersion(23, 0)
"""moby#44825: before, ip6tables had no DOCKER-USER."""

USERS: Final = "DOCKER-USER"
"""The chain that is left to whoever has rules of his own."""
OWN: Final = "DOCKER-FORWARD"
"""Where the engine's rules of FORWARD stand since 28.0."""
_FIRST, _SECOND = "DOCKER-ISOLATION-STAGE-1", "DOCKER-ISOLATION-STAGE-2"

_LOOPBACK: Final = {4: Ranges.union([(0x7F000000, 0x7FFFFFFF)]), 6: Ranges.of(1)}
_LINK_LOCAL: Final = Ranges.union([(0xFE80 << 112, (0xFEC0 << 112) - 1)])
_ICMP: Final = {4: 1, 6: 58}
_ACCEPT, _DROP, _RETURN = Terminate(Verdict.ACCEPT), Terminate(Verdict.DROP), Terminate(Verdict.RETURN)
_MASQUERADE = Translate(Translation.MASQUERADE, (Target(Ranges(), Ranges()),))
_KNOWN = AnyBit(Field.CT_STATE, CtState.RELATED | CtState.ESTABLISHED)


@dataclass(frozen=True)
class EngineRules:
    """Writes the engine's rules of a snapshot for a version of IP into tables."""

    snapshot: Snapshot
    family: int

    @property
    def lately(self) -> bool:
        """Whether the engine has chains of its own for FORWARD, and the table raw."""
        return self._version >= DIRECT_ACCESS_DROP

    @property
    def _version(self) -> EngineVersion:
        return self.snapshot.engine.version

    @property
    def _proxied(self) -> bool:
        """Whether docker-proxy runs; where no port is published, that makes no difference to packets."""
        return self.snapshot.engine.userland_proxy is not False

    @cached_property
    def _bridges(self) -> Sequence[Network]:
        """The networks that have addresses of the version."""
        return [network for network in self._all_bridges if network.has(self.family)]

    @property
    def _all_bridges(self) -> Sequence[Network]:
        return [network for network in self.snapshot.networks.values() if network.driver == "bridge"]

    @cached_property
    def _leading_out(self) -> Sequence[Network]:
        return [network for network in self._bridges if not network.internal]

    @cached_property
    def _published(self) -> Sequence[tuple[Publication, int]]:
        """The ports of the host that lead into containers, with the addresses that these have."""
        topology, family = Topology.of(self.snapshot), self.family
        found = [(each, topology.address_on(each.sandbox, each.network, family)) for each in publications(topology)]
        return [(each, int(to)) for each, to in found if to is not None and each.port.host_ip.version == family]

    @property
    def _opened(self) -> Iterator[tuple[Network, Address, RoutedPort]]:
        """The ports of containers that other bridges may come to by the containers' own addresses."""
        topology = Topology.of(self.snapshot)
        for sandbox in self.snapshot.sandboxes.values():
            network = topology.gateway(sandbox, self.family)
            address = topology.address_on(sandbox, network, self.family) if network is not None else None
            if network is not None and address is not None and self._mode(network) is GatewayMode.ROUTED:
                yield from ((network, address, port) for port in sandbox.routed if port.family == self.family)

    def _mode(self, network: Network) -> GatewayMode:
        return network.gateway_mode(self.family)

    def filter(self, table: Table) -> Table:
        """Write what decides about packets that are passed on."""
        users = _rules(table, USERS)
        links = (rule for each in self._bridges for rule in linked(self.snapshot, each)) if self.family == 4 else ()
        chains = {"DOCKER": [*self._open_ports(), *self._direct(), *links]}
        if self.lately:
            chains |= {
                "FORWARD": [*_first(_rules(table, "FORWARD"), _rule(Call(USERS)), _rule(Call(OWN)))],
                OWN: [_rule(Call(name)) for name in ("DOCKER-CT", _FIRST, "DOCKER-BRIDGE")] + [*self._outgoing()],
                "DOCKER-CT": [_rule(_to(each), _KNOWN, _ACCEPT) for each in self._leading_out],
                "DOCKER-BRIDGE": [_rule(_to(each), Call("DOCKER")) for each in self._leading_out],
                USERS: users,
                **self._apart(),
            }
        else:
            ends = _rule(_RETURN)
            chains |= {
                "FORWARD": [*self._forward(_rules(table, "FORWARD"))],
                **{name: [*rules, ends] for name, rules in self._apart().items()},
            }
            if self._calls_users:
                chains[USERS] = users if _form(ends) in map(_form, users) else [*users, ends]
        return self._closed_to_strangers(_with(table, chains))

    @property
    def _calls_users(self) -> bool:
        return self.family == 4 or self._version >= _USERS_OF_IPV6

    def _closed_to_strangers(self, table: Table) -> Table:
        """Return a table with the policy of FORWARD that engines before 28.0 set for IPv6 at each start."""
        configuration = self.snapshot.configuration
        forwards = not isinstance(configuration, Configuration) or configuration.ip_forward.value
        if self.family == 4 or self.lately or not forwards:
            return table
        chain = table.chains["FORWARD"]
        closed = replace(chain, base=replace(BUILTIN[table.name][chain.name], policy=Verdict.DROP))
        return replace(table, chains={**table.chains, chain.name: closed})

    def nat(self, table: Table) -> Table:
        """Write what rewrites packets; where rules of others stand among the engine's, it is not known where."""
        local = AddressTypeIs(Field.DESTINATION, frozenset({AddressType.LOCAL}))
        elsewhere = (InRanges(Field.DESTINATION, _LOOPBACK[self.family], negated=True),) if self._proxied else ()
        chains = {
            "PREROUTING": [_rule(local, Call("DOCKER"))],
            "OUTPUT": [_rule(*elsewhere, local, Call("DOCKER"))],
            "POSTROUTING": [*self._masquerading()],
            "DOCKER": [*self._translated()],
        }
        return table if _are_others(table, chains) else _with(table, chains)

    def raw(self, table: Table) -> Table:
        """Write what keeps packets from containers that do not come by their bridge, or by the host's loopback."""
        chains = {"PREROUTING": [*self._direct_to_containers(), *self._direct_to_loopback()]}
        return table if _are_others(table, chains) else _with(table, chains)

    def _direct_to_containers(self) -> Iterator[Rule]:
        bridges = {network.id: network for network in self._leading_out if self._mode(network) is GatewayMode.NAT}
        for end in (end for box in self.snapshot.sandboxes.values() for end in box.endpoints):
            address, network = end.address(self.family), bridges.get(end.network_id)
            if address is not None and network is not None:
                for name in network.trusted_host_interfaces:
                    yield _rule(_at(address), _named(Field.INPUT_INTERFACE, name), _ACCEPT)
                yield _rule(_at(address), _from(network, negated=True), _DROP)

    def _direct_to_loopback(self) -> Iterator[Rule]:
        elsewhere = _named(Field.INPUT_INTERFACE, "lo", negated=True)
        for port in (each.port for each, _ in self._published if self.family == 4):
            if port.host_ip.is_loopback:
                yield _rule(_at(port.host_ip), elsewhere, *_dialled(port), _DROP)

    def _forward(self, rules: Sequence[Rule]) -> Iterator[Rule]:
        """Yield FORWARD as engines before 28.0 leave it: of networks they set up the default bridge alone anew."""
        calls = [_rule(Call(name)) for name in ((USERS, _FIRST) if self._calls_users else (_FIRST,))]
        anew = [rule for each in self._bridges if each.default for icc in (True, False) for rule in _passed(each, icc)]
        gone = {_form(rule) for rule in (*calls, *anew)}
        kept = [rule for rule in rules if _form(rule) not in gone]
        there = {_form(rule) for rule in kept}
        own = [rule for each in self._bridges for rule in _passed(each, each.icc) if _form(rule) not in there]
        yield from (*calls, *(rule for rule in own if rule.steps[-1] != _DROP))
        yield from kept
        yield from (rule for rule in own if rule.steps[-1] == _DROP)

    def _outgoing(self) -> Iterator[Rule]:
        for each in self._bridges:
            if each.icc is False or each.internal:
                yield within(each)
            if not each.internal:
                beyond = () if each.icc else (_to(each, negated=True),)
                yield _rule(_from(each), *beyond, _ACCEPT)

    def _apart(self) -> dict[str, list[Rule]]:
        """Return the rules that keep networks apart, by their chains; before 28.0 those without IPv6 as well."""
        closed = (rule for each in self._bridges if each.internal for rule in self._closed(each))
        routed = (
            rule for each in self._routed for rule in (_rule(_from(each), _KNOWN, _ACCEPT), _rule(_to(each), _RETURN))
        )
        apart = self._leading_out if self.lately else [each for each in self._all_bridges if not each.internal]
        other = (_rule(_from(each), _to(each, negated=True), Call(_SECOND)) for each in apart)
        return {_FIRST: [*routed, *closed, *other], _SECOND: [_rule(_to(each), _DROP) for each in apart]}

    def _closed(self, network: Network) -> Iterator[Rule]:
        """Yield the rules that shut an internal network: nobody but its members sends there, or gets what they send."""
        spared = self.family == 6 and self._version >= INTERNAL_IPV6_WORKS
        beyond_source = (_from(network, negated=True),) if spared else ()
        beyond_destination = (_to(network, negated=True),) if spared else ()
        for subnet in self._subnets(network):
            yield _rule(InRanges(Field.SOURCE, subnet, negated=True), *beyond_source, _to(network), _DROP)
            yield _rule(InRanges(Field.DESTINATION, subnet, negated=True), _from(network), *beyond_destination, _DROP)

    def _subnets(self, network: Network) -> Iterator[Ranges]:
        for pool in network.pools:
            if pool.subnet.version == self.family:
                yield Ranges.union([(int(pool.subnet.network_address), int(pool.subnet.broadcast_address))])

    def _open_ports(self) -> Iterator[Rule]:
        published = ((each.network, to, each.port.protocol, each.port.container_port) for each, to in self._published)
        routed = ((network, int(to), port.protocol, port.port) for network, to, port in self._opened)
        for network, to, protocol, port in (*published, *routed):
            if self._mode(network) is not GatewayMode.NAT_UNPROTECTED:
                yield _rule(_at(to), _from(network, negated=True), _to(network), *_port(protocol, port), _ACCEPT)

    def _direct(self) -> Iterator[Rule]:
        """Yield what becomes of all else that comes from elsewhere, which is decided since 28.0."""
        echo = InRanges(Field.PROTOCOL, Ranges.of(_ICMP[self.family]))
        for each in self._leading_out if self.lately else ():
            if self._mode(each) is GatewayMode.ROUTED:
                yield _rule(_to(each), echo, _ACCEPT)
            rest = _ACCEPT if self._mode(each) is GatewayMode.NAT_UNPROTECTED else _DROP
            yield _rule(_from(each, negated=True), _to(each), rest)

    @property
    def _routed(self) -> Sequence[Network]:
        return [network for network in self._leading_out if self._mode(network) is GatewayMode.ROUTED]

    def _masquerading(self) -> Iterator[Rule]:
        local = AddressTypeIs(Field.SOURCE, frozenset({AddressType.LOCAL}))
        for each in self._leading_out:
            if not self._proxied:
                yield _rule(_to(each), local, _MASQUERADE)
            if is_masqueraded(each, self.family):
                for subnet in self._subnets(each):
                    yield _rule(InRanges(Field.SOURCE, subnet), _to(each, negated=True), _MASQUERADE)
        for published, to in self._published if not (self.lately and self._proxied) else ():
            port = published.port
            yield _rule(_at(to, Field.SOURCE), _at(to), *_port(port.protocol, port.container_port), _MASQUERADE)

    def _translated(self) -> Iterator[Rule]:
        if self._proxied:
            yield from (_rule(_from(each), _RETURN) for each in self._leading_out if each.masquerade)
        # left to docker-proxy, for which see LINK_LOCAL_PROXIED
        near = (InRanges(Field.SOURCE, _LINK_LOCAL, negated=True),) if self.family == 6 and self.lately else ()
        for each, to in self._published:
            bound = () if each.port.host_ip.is_unspecified else (_at(each.port.host_ip),)
            beyond = (_from(each.network, negated=True),) if self._proxied else ()
            target = Target(Ranges.of(to), Ranges.of(each.port.container_port))
            yield _rule(*near, *bound, *beyond, *_dialled(each.port), Translate(Translation.DNAT, (target,)))


def linked(snapshot: Snapshot, network: Network) -> Iterator[Rule]:
    """Yield the rules of IPv4 that let links through a network: the default bridge has them while it is closed."""
    if network.default and not network.icc:
        ends = (matches for link in snapshot.links for matches in _linked(snapshot, network, link))
        yield from (_rule(_from(network), _to(network), *matches, _ACCEPT) for matches in ends)


def within(network: Network) -> Rule:
    """Return the rule for what stays on a network's bridge, which follows from its ICC."""
    return _inside(network, network.icc)


def _linked(snapshot: Snapshot, network: Network, link: Link) -> Iterator[tuple[Match, ...]]:
    """Yield what a link's rules match: questions to the exposed ports, and answers from them (moby, link.go)."""
    ends = [
        endpoint.ipv4
        for name in (link.parent, link.child)
        if name in snapshot.sandboxes
        for endpoint in snapshot.sandboxes[name].endpoints
        if endpoint.network_id == network.id and endpoint.ipv4 is not None
    ]
    if len(ends) != 2:
        return
    parent, child = (Ranges.of(int(end)) for end in ends)
    for port in link.ports:
        exposed = Ranges.of(port.port)
        yield (
            _carries(port.protocol),
            InRanges(Field.SOURCE, parent),
            InRanges(Field.DESTINATION, child),
            InRanges(Field.DESTINATION_PORT, exposed),
        )
        yield (
            _carries(port.protocol),
            InRanges(Field.SOURCE, child),
            InRanges(Field.DESTINATION, parent),
            InRanges(Field.SOURCE_PORT, exposed),
        )


def _passed(network: Network, icc: bool | None) -> Iterator[Rule]:
    """Yield a network's rules of FORWARD before 28.0, the one about what stays on the bridge last."""
    if not network.internal:
        yield _rule(_to(network), _KNOWN, _ACCEPT)
        yield _rule(_to(network), Call("DOCKER"))
        yield _rule(_from(network), _to(network, negated=True), _ACCEPT)
    yield _inside(network, icc)


def _inside(network: Network, icc: bool | None) -> Rule:
    return _rule(_from(network), _to(network), _ACCEPT if icc else _DROP)


def _rule(*steps: Step) -> Rule:
    return Rule(steps, "the engine's rule")


def _named(field: Field, name: str, *, negated: bool = False) -> Match:
    return NameIs(field, (name,), negated)


def _from(network: Network, *, negated: bool = False) -> Match:
    return _named(Field.INPUT_INTERFACE, network.interface, negated=negated)


def _to(network: Network, *, negated: bool = False) -> Match:
    return _named(Field.OUTPUT_INTERFACE, network.interface, negated=negated)


def _at(address: Address | int, field: Field = Field.DESTINATION) -> Match:
    return InRanges(field, Ranges.of(int(address)))


def _port(protocol: Protocol, number: int) -> tuple[Match, Match]:
    return _carries(protocol), InRanges(Field.DESTINATION_PORT, Ranges.of(number))


def _carries(protocol: Protocol) -> Match:
    return InRanges(Field.PROTOCOL, Ranges.of(TRANSPORTS[protocol]))


def _dialled(port: PublishedPort) -> tuple[Match, Match]:
    return _port(port.protocol, port.host_port)


def _rules(table: Table, chain: str) -> list[Rule]:
    return list(table.chains[chain].rules) if chain in table.chains else []


def _form(rule: Rule) -> frozenset[Step]:
    """Return what a rule does by which matches, in whatever order these stand."""
    return frozenset(rule.steps)


def _first(rules: Iterable[Rule], *calls: Rule) -> Iterator[Rule]:
    """Yield calls before all other rules."""
    yield from calls
    forms = {_form(call) for call in calls}
    yield from (rule for rule in rules if _form(rule) not in forms)


def _are_others(table: Table, chains: Mapping[str, Sequence[Rule]]) -> bool:
    """Return whether a table's own chains have rules that the engine does not write."""
    own = {name: {_form(rule) for rule in rules} for name, rules in chains.items()}
    return any(_form(rule) not in own.get(name, ()) for name in BUILTIN[table.name] for rule in _rules(table, name))


def _with(table: Table, chains: Mapping[str, Sequence[Rule]]) -> Table:
    """Return a table with the rules of some chains, which it may not have yet, and no counters."""
    first = {name: Chain(name, base=base) for name, base in BUILTIN[table.name].items()}
    known = {**first, **table.chains}
    made = {name: replace(known.get(name, Chain(name)), rules=tuple(rules)) for name, rules in chains.items()}
    return replace(table, chains=known | made, packets={})
