"""The engine's rules of IPv4 in iptables as it writes them when it starts, whatever somebody made of them meanwhile.

Its own chains are made anew. In FORWARD its calls come first; what else of its rules is missing there is put before all
others, and what closes a bridge behind them, as engines before 28.0 do. Rules of others stay in FORWARD, DOCKER-USER
and chains of their own; in the engine's they are lost. Tried on 20.10, 26.1 and 28.5.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Final

from exporter.evaluate.declared.behaviour import (
    DIRECT_ACCESS_DROP,
    IP6TABLES_BY_DEFAULT,
    NO_INTER_NETWORK_DROP,
)
from exporter.evaluate.declared.published import is_masqueraded, publications
from exporter.evaluate.declared.topology import GATEWAY_BRIDGE, Topology
from exporter.model.daemon import Configuration
from exporter.model.firewall import (
    BUILTIN,
    AddressType,
    AddressTypeIs,
    AnyBit,
    Backend,
    Call,
    Chain,
    CtState,
    Field,
    Firewall,
    InRanges,
    NameIs,
    Rule,
    Table,
    TableFamily,
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
    from exporter.model.firewall import Match, Step
    from exporter.model.snapshot import Link, Network, PublishedPort, Snapshot

_TRIED: Final = EngineVersion(20, 10)
_USERS, _OWN, _FIRST, _SECOND = "DOCKER-USER", "DOCKER-FORWARD", "DOCKER-ISOLATION-STAGE-1", "DOCKER-ISOLATION-STAGE-2"
_LOOPBACK: Final = Ranges.union([(0x7F000000, 0x7FFFFFFF)])
_ACCEPT, _DROP, _RETURN = Terminate(Verdict.ACCEPT), Terminate(Verdict.DROP), Terminate(Verdict.RETURN)
_MASQUERADE = Translate(Translation.MASQUERADE, (Target(Ranges(), Ranges()),))
_KNOWN = AnyBit(Field.CT_STATE, CtState.RELATED | CtState.ESTABLISHED)


def unwritten(snapshot: Snapshot, firewall: Firewall) -> str:
    """Return why it is not known what the engine would write, empty where it is."""
    backends, present = _backends(firewall)
    if not present and not isinstance(snapshot.configuration, Configuration):
        return "whether it writes any (--iptables) is not known: there are none now"
    if len(backends) != 1:
        return "whether it uses iptables-nft or iptables-legacy is not known"
    engine = snapshot.engine
    known = (
        _TRIED <= engine.version < IP6TABLES_BY_DEFAULT or DIRECT_ACCESS_DROP <= engine.version < NO_INTER_NETWORK_DROP
    )
    if not known or engine.rootless or engine.firewall_backend != "iptables":
        kind = "rootless" if engine.rootless else engine.firewall_backend
        return f"what engine {engine.version_text} ({kind}) writes was not tried"
    if engine.userland_proxy is None and any(box.published for box in snapshot.sandboxes.values()):
        return "whether docker-proxy runs is not known"
    if engine.ipv4_forwarding is False:
        return "the host does not forward IPv4, which the engine changes, and the policy of FORWARD with it"
    odd = next((network for network in snapshot.networks.values() if _is_odd(network)), None)
    return f"what it writes for network {odd.name} was not tried" if odd is not None else ""


def _is_odd(network: Network) -> bool:
    if network.driver == "overlay" or network.name == GATEWAY_BRIDGE:
        return True
    unusual = network.gateway_mode_v4 is not GatewayMode.NAT or network.inhibit_ipv4 or network.trusted_host_interfaces
    return network.driver == "bridge" and (bool(unusual) or not network.ipv4 or network.icc is None)


def _backends(firewall: Firewall) -> tuple[Sequence[Backend], bool]:
    """Return those that the engine may use, and whether its chains are there: else they are all that have any."""
    tables = [
        table for table in firewall.tables if table.family is TableFamily.IP and table.backend is not Backend.NFTABLES
    ]
    own = dict.fromkeys(table.backend for table in tables if "DOCKER" in table.chains)
    return list(own or dict.fromkeys(table.backend for table in tables)), bool(own)


def written_anew(snapshot: Snapshot, firewall: Firewall) -> Firewall:
    """Return the firewall once the engine of a snapshot has written its rules. It is known what these are."""
    (backend,), _ = _backends(firewall)
    writer = _Writer(snapshot)
    wanted = {"filter": writer.filter, "nat": writer.nat} | ({"raw": writer.raw} if writer.lately else {})
    known = {table.key: table for table in firewall.tables}
    for name, write in wanted.items():
        key = TableFamily.IP, name, backend
        known[key] = write(known.get(key) or Table(*key))
    return Firewall(tuple(known.values()))


@dataclass(frozen=True)
class _Writer:
    """Writes the engine's rules of a snapshot into tables."""

    snapshot: Snapshot

    @property
    def lately(self) -> bool:
        """Whether the engine has chains of its own for FORWARD, and the table raw."""
        return self.snapshot.engine.version >= DIRECT_ACCESS_DROP

    @property
    def _proxied(self) -> bool:
        """Whether docker-proxy runs; where no port is published, that makes no difference to packets."""
        return self.snapshot.engine.userland_proxy is not False

    @cached_property
    def _bridges(self) -> Sequence[Network]:
        return [network for network in self.snapshot.networks.values() if network.driver == "bridge"]

    @cached_property
    def _leading_out(self) -> Sequence[Network]:
        return [network for network in self._bridges if not network.internal]

    @cached_property
    def _published(self) -> Sequence[tuple[Publication, int]]:
        """The ports of the host that lead into containers over IPv4, with the addresses that these have."""
        topology = Topology.of(self.snapshot)
        found = [(each, topology.address_on(each.sandbox, each.network, 4)) for each in publications(topology)]
        return [(each, int(to)) for each, to in found if to is not None and each.port.host_ip.version == 4]

    def filter(self, table: Table) -> Table:
        """Write what decides about packets that are passed on."""
        users = _rules(table, _USERS)
        links = (rule for each in self._bridges for rule in linked(self.snapshot, each))
        chains = {"DOCKER": [*self._open_ports(), *self._direct(), *links]}
        if self.lately:
            chains |= {
                "FORWARD": [*_first(_rules(table, "FORWARD"), _rule(Call(_USERS)), _rule(Call(_OWN)))],
                _OWN: [_rule(Call(name)) for name in ("DOCKER-CT", _FIRST, "DOCKER-BRIDGE")] + [*self._outgoing()],
                "DOCKER-CT": [_rule(_to(each), _KNOWN, _ACCEPT) for each in self._leading_out],
                "DOCKER-BRIDGE": [_rule(_to(each), Call("DOCKER")) for each in self._leading_out],
                _USERS: users,
                **self._apart(),
            }
        else:
            ends = _rule(_RETURN)
            chains |= {
                "FORWARD": [*self._forward(_rules(table, "FORWARD"))],
                _USERS: users if _form(ends) in map(_form, users) else [*users, ends],
                **{name: [*rules, ends] for name, rules in self._apart().items()},
            }
        return _with(table, chains)

    def nat(self, table: Table) -> Table:
        """Write what rewrites packets; where rules of others stand among the engine's, it is not known where."""
        local = AddressTypeIs(Field.DESTINATION, frozenset({AddressType.LOCAL}))
        elsewhere = (InRanges(Field.DESTINATION, _LOOPBACK, negated=True),) if self._proxied else ()
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
        bridges = {network.id: network for network in self._leading_out}
        for end in (end for box in self.snapshot.sandboxes.values() for end in box.endpoints):
            if end.ipv4 is not None and end.network_id in bridges:
                yield _rule(_at(end.ipv4), _from(bridges[end.network_id], negated=True), _DROP)

    def _direct_to_loopback(self) -> Iterator[Rule]:
        elsewhere = _named(Field.INPUT_INTERFACE, "lo", negated=True)
        for port in (each.port for each, _ in self._published):
            if port.host_ip.is_loopback:
                yield _rule(_at(port.host_ip), elsewhere, *_dialled(port), _DROP)

    def _forward(self, rules: Sequence[Rule]) -> Iterator[Rule]:
        """Yield FORWARD as engines before 28.0 leave it: of networks they set up the default bridge alone anew."""
        calls = _rule(Call(_USERS)), _rule(Call(_FIRST))
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
        """Return the rules that keep networks apart, by their chains."""
        closed = (rule for each in self._bridges if each.internal for rule in _closed(each))
        other = (_rule(_from(each), _to(each, negated=True), Call(_SECOND)) for each in self._leading_out)
        return {_FIRST: [*closed, *other], _SECOND: [_rule(_to(each), _DROP) for each in self._leading_out]}

    def _open_ports(self) -> Iterator[Rule]:
        for each, address in self._published:
            ends = _from(each.network, negated=True), _to(each.network)
            yield _rule(_at(address), *ends, *_port(each.port.protocol, each.port.container_port), _ACCEPT)

    def _direct(self) -> Iterator[Rule]:
        if self.lately:
            yield from (_rule(_from(each, negated=True), _to(each), _DROP) for each in self._leading_out)

    def _masquerading(self) -> Iterator[Rule]:
        local = AddressTypeIs(Field.SOURCE, frozenset({AddressType.LOCAL}))
        for each in self._leading_out:
            if not self._proxied:
                yield _rule(_to(each), local, _MASQUERADE)
            if is_masqueraded(each, 4):
                for subnet in _subnets(each):
                    yield _rule(InRanges(Field.SOURCE, subnet), _to(each, negated=True), _MASQUERADE)
        for published, to in self._published if not (self.lately and self._proxied) else ():
            port = published.port
            yield _rule(_at(to, Field.SOURCE), _at(to), *_port(port.protocol, port.container_port), _MASQUERADE)

    def _translated(self) -> Iterator[Rule]:
        if self._proxied:
            yield from (_rule(_from(each), _RETURN) for each in self._leading_out if is_masqueraded(each, 4))
        for each, to in self._published:
            bound = () if each.port.host_ip.is_unspecified else (_at(each.port.host_ip),)
            beyond = (_from(each.network, negated=True),) if self._proxied else ()
            target = Target(Ranges.of(to), Ranges.of(each.port.container_port))
            yield _rule(*bound, *beyond, *_dialled(each.port), Translate(Translation.DNAT, (target,)))


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


def _closed(network: Network) -> Iterator[Rule]:
    """Yield the rules that shut an internal network: nobody but its members sends there, or gets what they send."""
    for subnet in _subnets(network):
        yield _rule(InRanges(Field.SOURCE, subnet, negated=True), _to(network), _DROP)
        yield _rule(InRanges(Field.DESTINATION, subnet, negated=True), _from(network), _DROP)


def _subnets(network: Network) -> Iterator[Ranges]:
    for pool in network.pools:
        if pool.subnet.version == 4:
            yield Ranges.union([(int(pool.subnet.network_address), int(pool.subnet.broadcast_address))])


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
