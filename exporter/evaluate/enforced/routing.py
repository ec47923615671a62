"""Where a namespace sends packets: policy rules, routing tables, and the questions that are asked of them.

Follows the kernel's fib_lookup: rules by priority, in each table the longest prefix, of those the lowest metric.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING

from exporter.model.addresses import is_link_local
from exporter.model.firewall import AddressType
from exporter.model.namespace import LOCAL_TABLE, USUAL_RULES, RouteKind, RuleAction

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from exporter.model.addresses import Subnet
    from exporter.model.firewall import ReversePath
    from exporter.model.namespace import Hop, Namespace, PolicyRule, Route

    Answers = Callable[[Hop], str]
    """What is not known of whether packets go by a hop whose gateway may not answer: nothing where it does."""

UNHEEDED = "whether a policy rule of IPv6 was ever added: until then the kernel heeds none"
OF_PORTS = (": sport", ": dport")
"""How the names of what policy rules ask for end that are for some ports alone."""
OF_TOS = "routes for tos {tos}: whoever sends may choose that"

_FAMILIES = (4, 6)
_USUAL = {family: tuple(rule for rule in USUAL_RULES if rule.family == family) for family in _FAMILIES}
_BITS = {4: 32, 6: 128}


@dataclass(frozen=True, slots=True)
class Question:
    """A packet to be routed. `interface` is where it came in, empty for a namespace's own; `output` where it leaves.

    `mark` is None where nobody knows which it is; of several `ports` it has one, nobody knows which. Of a `disguised`
    one nobody knows whether it still has its `source`.
    """

    destination: int
    source: int | None = None
    interface: str = ""
    output: str = ""
    mark: int | None = 0
    protocol: int | None = None
    ports: tuple[tuple[int, int] | None, tuple[int, int] | None] = (None, None)
    tos: str = ""
    disguised: bool = False


class Routing:
    """The routing of one namespace and family.

    Where it leaves gateways that do not answer, `answers` tells of hops whether theirs may be one of those.
    """

    answers: Answers | None = None

    def __init__(self, namespace: Namespace, family: int) -> None:
        self._tables: dict[int, _Table] = defaultdict(_Table)
        for route in namespace.routes:
            if route.destination.version == family:
                self._tables[route.table].add(route)
        for table in self._tables.values():
            table.settle()
        self.rules: Sequence[PolicyRule] = _of_family(namespace, family)
        self.names = {index: interface.name for index, interface in namespace.interfaces.items()}
        selecting = any(table.by_sender or table.by_tos for table in self._tables.values())
        self.plain = _usual(self.rules, family) and not selecting
        self._variants = tuple(self._ways_to_ask(family))
        self._family = family
        self._types: dict[tuple[int, str | None], AddressType] = {}

    def _ways_to_ask(self, family: int) -> Iterator[tuple[Sequence[PolicyRule], str, str]]:
        """Yield the policy rules that are asked, for packets of which type of service, and what is not known of that.

        Where some of IPv6's usual rules were deleted and no others are there, the kernel goes on as before
        (fib6_rule_lookup): only one that is added, if for a while, makes it heed them (fib6_rule_configure). Of IPv4
        one that is deleted does so, too (fib4_rule_delete).
        """
        yield self.rules, "", ""
        if family == 6 and set(self.rules) < set(_USUAL[family]):
            yield _USUAL[family], "", UNHEEDED
        for tos in sorted(set().union(*(table.by_tos for table in self._tables.values()))):
            yield self.rules, tos, OF_TOS.format(tos=tos)

    def lookup(self, question: Question) -> tuple[Route | None, str]:
        """Return the route of a packet, None without one; and the name of a rule's selector that is not understood.

        That rule is taken to apply.
        """
        return next(self.lookups(question))

    def lookups(self, question: Question) -> Iterator[tuple[Route | None, str]]:
        """Yield all routes that a packet may take: a rule with a selector that is not understood applies, and does not.

        None stands for no route; with each is the name of that selector, or what else is not known.
        """
        return self._lookups(question, self.answers)

    def _lookups(self, question: Question, answers: Answers | None) -> Iterator[tuple[Route | None, str]]:
        for rules, tos, unknown in self._variants:
            asked = replace(question, tos=tos) if tos else question
            yield from ((route, doubt or unknown) for route, doubt in self._led_by(rules, asked, answers))

    def _led_by(
        self, rules: Sequence[PolicyRule], question: Question, answers: Answers | None
    ) -> Iterator[tuple[Route | None, str]]:
        waiting, seen = [(0, "")], set[int]()
        while waiting:
            position, doubt = waiting.pop()
            # where two branches come together, the first goes on for both
            while position not in seen:
                seen.add(position)
                if position == len(rules):
                    yield None, doubt
                    break
                rule = rules[position]
                position += 1
                met = all(_conditions(rule, question))
                unclear = _unclear(rule, question) if met else ""
                if unclear:
                    doubt = doubt or f"policy rule {rule.priority}: {unclear}"
                    waiting.append((position, doubt))
                elif met == rule.inverted:
                    continue
                if rule.action is RuleAction.GOTO:
                    position = _place(rules, rule, position)
                elif rule.action is RuleAction.LOOKUP:
                    led, passed_over = self._led_by_table(rule, question, answers)
                    yield from ((route, doubt or unknown) for route, unknown in led)
                    if passed_over is None:
                        break
                    doubt = doubt or passed_over
                elif rule.action is not RuleAction.NOP:
                    yield None, doubt
                    break

    def _led_by_table(
        self, rule: PolicyRule, question: Question, answers: Answers | None
    ) -> tuple[Sequence[tuple[Route, str]], str | None]:
        """Return the routes that a rule's table may have for a packet, with what is not known of who answers.

        Besides, that of whether the route or the rule says to look on; None where neither does.
        """
        table, limit = self._tables.get(rule.table), rule.suppress_prefix_length
        if table is None:
            return (), ""
        found = [(table.find(question, self.names), "")] if answers is None else _answered(table, question, answers)
        led = [
            (route, unknown)
            for route, unknown in found
            if route is not None
            and route.kind is not RouteKind.THROW
            and (limit is None or route.destination.prefixlen > limit)
        ]
        return led, found[-1][1] if len(led) < len(found) else None

    def rivals(self, route: Route) -> Sequence[Route]:
        """Return the routes that the kernel may take in the place of one that it found.

        Of several of IPv4 to everywhere, of one metric, it leaves those whose gateway was silent (fib_select_default).
        """
        if route.destination.prefixlen or self._family == 6 or not _by_one_gateway(route):
            return ()
        found = self._tables[route.table].everywhere
        alike = (each for each in found if (each.metric, each.tos) == (route.metric, route.tos) and each is not route)
        return list(filter(_by_one_gateway, alike))

    def by_turns(self) -> Iterator[Route]:
        """Yield the routes by gateways beside which there are others, for when the gateway does not answer."""
        for table in self._tables.values():
            yield from table.by_turns()

    def address_type(self, address: int, interface: str | None) -> AddressType:
        """Return the type of an address as xt_addrtype and nft's fib see it: from the local table alone.

        Seen from an interface, an address is local only where it is that interface's own (inet_dev_addr_type).
        """
        key = (address, interface)
        known = self._types.get(key)
        if known is None:
            known = self._types[key] = self._address_type(address, interface)
        return known

    def _address_type(self, address: int, interface: str | None) -> AddressType:
        if self._family == 4 and (address >> 24 == 0 or address == 0xFFFFFFFF):
            return AddressType.BROADCAST
        if (address >> 28 == 0xE) if self._family == 4 else (address >> 120 == 0xFF):
            return AddressType.MULTICAST
        table = self._tables.get(LOCAL_TABLE)
        route = table.find(Question(address), self.names) if table else None
        if route is not None and (interface is None or self.leaves_by(route, interface)):
            return _TYPES.get(route.kind, AddressType.UNICAST)
        if self._family == 6:
            rejected, _ = self.lookup(Question(address))
            return _TYPES.get(rejected.kind, AddressType.UNICAST) if rejected else AddressType.UNREACHABLE
        return AddressType.UNICAST

    def reverse_path(self, path: ReversePath, packet: Question) -> frozenset[bool]:
        """Return whether a route back to a packet's source exists, and (unless loose) leaves by where it came in.

        Both where that hinges on a policy rule that is not understood. What loopback brings is led back to by
        definition (rpfilter_is_loopback, nft_fib_is_loopback).
        """
        if packet.interface == "lo":
            return frozenset({True})
        # who asks so heeds nobody's silence (ip6_pol_route_lookup)
        routes = (route for asked in self._asked_back(path, packet) for route, _ in self._lookups(asked, None))
        return frozenset(self._leads_back(route, "" if path.loose else packet.interface) for route in routes)

    def _asked_back(self, path: ReversePath, packet: Question) -> Iterator[Question]:
        """Yield what is asked of policy rules and routes, which differs between the two tools.

        Whoever asks does so as if for a packet of its own to the source (rpfilter_mt, nft_fib4_eval, nft_fib6_eval):
        nft's FORWARD alone as if it came in where the packet leaves. rpfilter looks at IPv6 for a route by the
        interface, and so do both for a link-local source (rpfilter_lookup_reverse6, nft_fib6_flowi_init). Ports are
        never told, protocols for IPv6 and, by newer kernels, by nft for IPv4.
        """
        strict_v6 = self._family == 6 and (not (path.native or path.loose) or is_link_local(packet.source or 0))
        back = Question(
            destination=packet.source or 0,
            source=packet.destination,
            interface=packet.output if path.native and not path.loose else "",
            output=packet.interface if strict_v6 else "",
            mark=packet.mark if path.with_mark else 0,
        )
        if path.native or self._family == 6:
            yield replace(back, protocol=packet.protocol)
        if self._family == 4:
            yield back

    def _leads_back(self, route: Route | None, interface: str) -> bool:
        if route is None or route.kind is not RouteKind.UNICAST:
            return False
        return not interface or self.leaves_by(route, interface)

    def leaves_by(self, route: Route, interface: str) -> bool:
        """Return whether one of a route's hops leaves by an interface."""
        return any(self.names.get(hop.interface) == interface for hop in route.hops)

    def is_local(self, address: int) -> bool:
        """Return whether packets to an address end in this namespace."""
        return self.address_type(address, None) is AddressType.LOCAL


_TYPES = {
    RouteKind.UNICAST: AddressType.UNICAST,
    RouteKind.LOCAL: AddressType.LOCAL,
    RouteKind.BROADCAST: AddressType.BROADCAST,
    RouteKind.ANYCAST: AddressType.ANYCAST,
    RouteKind.MULTICAST: AddressType.MULTICAST,
    RouteKind.BLACKHOLE: AddressType.BLACKHOLE,
    RouteKind.UNREACHABLE: AddressType.UNREACHABLE,
    RouteKind.PROHIBIT: AddressType.PROHIBIT,
}


class _Table:
    """A routing table by prefix length.

    `by_sender` tells whether it has routes for some senders alone; `by_tos` are the types of service that some are for.
    """

    def __init__(self) -> None:
        self.by_sender = False
        self.by_tos: set[str] = set()
        self._by_length: dict[int, dict[int, list[Route]]] = defaultdict(lambda: defaultdict(list))
        self._lengths: list[tuple[int, int]] = []

    def add(self, route: Route) -> None:
        prefix = route.destination
        self.by_sender = self.by_sender or route.senders is not None
        if route.tos:
            self.by_tos.add(route.tos)
        shift = _BITS[prefix.version] - prefix.prefixlen
        self._by_length[prefix.prefixlen][int(prefix.network_address) >> shift].append(route)
        self._lengths = [(length, _BITS[prefix.version] - length) for length in self._by_length]

    def settle(self) -> None:
        """Put routes in the order in which they are taken."""
        self._lengths.sort(reverse=True)
        for prefixes in self._by_length.values():
            for routes in prefixes.values():
                routes.sort(key=lambda route: (not route.tos, route.metric, -route.preference))

    @property
    def everywhere(self) -> Sequence[Route]:
        """The routes to everywhere."""
        return self._by_length[0].get(0, ())

    def find(self, question: Question, names: dict[int, str]) -> Route | None:
        """Return the first route of the longest prefix, by the interface that is asked for if one of them leaves by it.

        rt6_device_match; nothing of IPv4 asks for one. Of IPv6's one metric the most preferred (rt6_score_route). To a
        link-local address no other one leads than that which packets came in by or leave by (rt6_need_strict).
        """
        strict = is_link_local(question.destination)
        device = question.output or (question.interface if strict else "")
        for length, shift in self._lengths:
            found = self._by_length[length].get(question.destination >> shift)
            if found and self.by_sender:
                found = _for_sender(found, question.source or 0)
            if found and self.by_tos:
                found = [route for route in found if route.tos in ("", question.tos)]
            if found and not device:
                return found[0]
            if found:
                bound = (route for route in found if any(names.get(hop.interface) == device for hop in route.hops))
                best = next(bound, None if strict else found[0])
                if best is not None:
                    return best
        return None

    def tried(self, question: Question) -> Iterator[Route]:
        """Yield the routes for a packet in the order in which they are tried, the one that is found otherwise first.

        Those of a shorter prefix come after the longer ones' (fib6_backtrack), and those for all senders then, too,
        where there are others for some.
        """
        source, begun = question.source or 0, False
        for length, shift in self._lengths:
            found = self._by_length[length].get(question.destination >> shift, [])
            for_all = [route for route in found if route.senders is None]
            own = [route for route in found if route.senders is not None and within(source, route.senders)]
            if own or begun or not length or len(for_all) == len(found):
                own.sort(key=_few, reverse=True)
                for _, routes in groupby(own, key=_few):
                    yield from _in_turn([*routes])
                yield from _in_turn(for_all)
                begun = begun or bool(own or for_all)

    def by_turns(self) -> Iterator[Route]:
        """Yield the routes by gateways beside which there are others, of the same prefix or of shorter ones."""
        for length, prefixes in self._by_length.items():
            for number, routes in prefixes.items():
                led = [route for route in routes if any(hop.gateway is not None for hop in route.hops)]
                if led and (len(routes) > 1 or len(led[0].hops) > 1 or self._has_shorter(number, length)):
                    yield from led

    def _has_shorter(self, number: int, length: int) -> bool:
        """Return whether a shorter prefix with routes holds one that is given by its first bits."""
        return any(
            number >> length - other in prefixes for other, prefixes in self._by_length.items() if other < length
        )


def _few(route: Route) -> int:
    """Return how few senders a route is for, by the length of their prefix."""
    return route.senders.prefixlen if route.senders is not None else 0


def _in_turn(routes: Sequence[Route]) -> Iterator[Route]:
    """Yield routes of one prefix in the order in which they are tried.

    Once those of the lowest metric were in vain, the most preferred of all others is next (find_rr_leaf).
    """
    first = [route for route in routes if route.metric == routes[0].metric]
    yield from first
    yield from sorted(routes[len(first) :], key=lambda route: -route.preference)


def _answered(table: _Table, question: Question, answers: Answers) -> list[tuple[Route | None, str]]:
    """Return the routes that may be taken by who leaves gateways that do not answer, and what is not known of these.

    The last one is the first by which somebody answers for sure.
    """
    found: list[tuple[Route | None, str]] = []
    unknown = ""
    for route in table.tried(question):
        told = [answers(hop) for hop in route.hops]
        certain = not all(told) if told else True
        unknown = unknown or ("" if certain else told[0])
        found.append((route, unknown))
        if certain:
            break
    return found or [(None, "")]


def _for_sender(routes: list[Route], source: int) -> list[Route]:
    """Return the routes of one destination that are for a source: those for the fewest senders.

    Those for all are passed over as well where there are others for some, none of which is for this one
    (fib6_node_lookup_1 goes back to shorter prefixes), unless they are to everywhere: there is nowhere to go back to.
    """
    own = [(route.senders.prefixlen, route) for route in routes if route.senders and within(source, route.senders)]
    if own:
        longest = max(length for length, _ in own)
        return [route for length, route in own if length == longest]
    for_all = [route for route in routes if route.senders is None]
    return for_all if len(for_all) == len(routes) or not routes[0].destination.prefixlen else []


def _by_one_gateway(route: Route) -> bool:
    return route.kind is RouteKind.UNICAST and len(route.hops) == 1 and route.hops[0].gateway is not None


def _of_family(namespace: Namespace, family: int) -> tuple[PolicyRule, ...]:
    own = (rule for rule in namespace.rules if rule.family == family)
    return tuple(sorted(own, key=lambda rule: rule.priority))


def _usual(rules: Sequence[PolicyRule], family: int) -> bool:
    """Return whether rules do what those do that a namespace begins with."""
    steps, usual = ([(rule.action, rule.table) for rule in told] for told in (rules, _USUAL[family]))
    return steps == usual and not any(map(_selects, rules))


def _place(rules: Sequence[PolicyRule], goto: PolicyRule, following: int) -> int:
    """Return where a rule leads: to a later one, as none leads back (fib_nl_newrule), else to the one that follows it.

    One whose target is not there is passed over (fib_rules_lookup).
    """
    return next((at for at in range(following, len(rules)) if rules[at].priority == goto.goto), following)


def _selects(rule: PolicyRule) -> bool:
    """Return whether a rule asks for anything of the packet."""
    asked: Iterable[object] = (
        rule.inverted,
        rule.source,
        rule.destination,
        rule.input_interface,
        rule.output_interface,
        rule.mark_mask,
        rule.protocol,
        rule.source_ports,
        rule.destination_ports,
        rule.opaque,
    )
    return any(asked) or rule.suppress_prefix_length is not None


def within(address: int, prefix: Subnet) -> bool:
    """Return whether an address of the prefix's own version begins with it."""
    shift = _BITS[prefix.version] - prefix.prefixlen
    return address >> shift == int(prefix.network_address) >> shift


def _unclear(rule: PolicyRule, question: Question) -> str:
    """Return what a rule asks for that is not known of a packet which is as it asks in all else."""
    if rule.opaque:
        return rule.opaque
    if rule.source is not None and question.disguised:
        return "from"
    if rule.mark_mask and question.mark is None:
        return "fwmark"
    if rule.source_ports is not None and not _covers(rule.source_ports, question.ports[0]):
        return "sport"
    if rule.destination_ports is not None and not _covers(rule.destination_ports, question.ports[1]):
        return "dport"
    return ""


def _covers(wanted: tuple[int, int], ports: tuple[int, int] | None) -> bool:
    return ports is not None and wanted[0] <= ports[0] and ports[1] <= wanted[1]


def _conditions(rule: PolicyRule, question: Question) -> Iterator[bool]:
    source = None if question.disguised else rule.source
    for prefix, address in ((source, question.source), (rule.destination, question.destination)):
        if prefix is not None:
            yield address is not None and within(address, prefix)
    if rule.input_interface:
        # packets of the namespace itself come from its loopback
        yield rule.input_interface == (question.interface or "lo")
    if rule.output_interface:
        yield rule.output_interface == question.output
    if question.mark is not None:
        yield question.mark & rule.mark_mask == rule.mark & rule.mark_mask
    if rule.protocol is not None:
        yield rule.protocol == question.protocol
    for wanted, ports in zip((rule.source_ports, rule.destination_ports), question.ports, strict=True):
        if wanted is not None:
            yield ports is not None and wanted[0] <= ports[1] and ports[0] <= wanted[1]


def bounds(prefix: Subnet) -> tuple[int, int]:
    """Return the first and last address as numbers; `broadcast_address` makes an object that stays with the prefix."""
    low = int(prefix.network_address)
    return low, low | (1 << prefix.max_prefixlen - prefix.prefixlen) - 1


def lent(routes: Iterable[Route], family: int) -> Iterator[Subnet]:
    """Yield the prefixes of local routes: packets to any address in them end here, whether or not an interface has it.

    Those of loopback and those of a single link are no addresses that others send to.
    """
    for route in routes:
        prefix = route.destination
        if route.kind is RouteKind.LOCAL and prefix.version == family:
            first = int(prefix.network_address)
            if first >> 24 != 127 if family == 4 else first != 1 and first >> 118 != 0xFE80 >> 6:
                yield prefix


def taken(namespace: Namespace) -> Iterator[tuple[int, int]]:
    """Yield the ranges of addresses, of both families, to which packets end in a namespace by its local routes."""
    for family in _FAMILIES:
        yield from map(bounds, lent(namespace.routes, family))


def usual_policy(namespace: Namespace) -> bool:
    """Return whether packets are routed by their destination alone: there are no policies of IPsec, either.

    Policy rules of a family without routes do not matter: a kernel without IPv6 has none.
    """
    routes = namespace.routes
    return (
        not namespace.policies
        and not any(route.senders is not None or route.tos for route in routes)
        and all(
            _usual(_of_family(namespace, family), family)
            or all(route.destination.version != family for route in routes)
            for family in _FAMILIES
        )
    )
