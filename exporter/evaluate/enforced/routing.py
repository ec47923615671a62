"""Where a namespace sends packets: policy rules, routing tables, and the questions that are asked of them.

Follows the kernel's fib_lookup: rules by priority, in each table the longest prefix, of those the lowest metric.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING

from exporter.evaluate.enforced.policy_rules import USUAL, as_usual, holds, left_open, of_family, place
from exporter.evaluate.enforced.route_table import NOBODYS_SOCKET, Question, RouteTable, answered
from exporter.model.addresses import is_link_local
from exporter.model.firewall import AddressType
from exporter.model.namespace import DEFAULT_TABLE, LOCAL_TABLE, MAIN_TABLE, PolicyRule, RouteKind, RuleAction

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from exporter.evaluate.enforced.route_table import Answers
    from exporter.model.firewall import ReversePath
    from exporter.model.namespace import Namespace, Route

TOUCHED = "whether a policy rule of IPv4 was ever added or deleted: until then local routes give way to longer ones"
UNHEEDED = "whether a policy rule of IPv6 was ever added: until then the kernel heeds none"
_SHARED = 127
"""The length from which on the first address of a prefix is like any other."""
OF_TOS = "routes for tos {tos}: whoever sends may choose that"


class Routing:
    """The routing of one namespace and family.

    Where it leaves gateways that do not answer, `answers` tells of hops whether theirs may be one of those.
    """

    answers: Answers | None = None

    def __init__(self, namespace: Namespace, family: int) -> None:
        self._tables: dict[int, RouteTable] = defaultdict(RouteTable)
        for route in namespace.routes:
            if route.destination.version == family:
                self._tables[route.table].add(route)
        for table in self._tables.values():
            table.settle()
        self.rules: Sequence[PolicyRule] = of_family(namespace, family)
        self._merges = self.rules == USUAL[4] and self._merge()
        self._interfaces = namespace.interfaces
        self.names = {index: interface.name for index, interface in namespace.interfaces.items()}
        self.by_origin = any(table.by_origin for table in self._tables.values())
        selecting = any(table.by_sender or table.by_tos or table.by_link for table in self._tables.values())
        self.plain = as_usual(self.rules, family) and not (selecting or self.by_origin)
        self._variants = tuple(self._ways_to_ask(family))
        self._family = family
        self._types: dict[tuple[int, str | None], AddressType] = {}

    def _ways_to_ask(self, family: int) -> Iterator[tuple[Sequence[PolicyRule], str, str]]:
        """Yield the policy rules that are asked, for packets of which type of service, and what is not known of that.

        Where some of IPv6's usual rules were deleted and no others are there, the kernel goes on as before
        (fib6_rule_lookup): only one that is added, if for a while, makes it heed them (fib6_rule_configure). Of IPv4
        one that is deleted does so, too (fib4_rule_delete).
        """
        if self._merges:
            yield _OF_MERGED, "", ""
        yield self.rules, "", TOUCHED if self._merges else ""
        if family == 6 and set(self.rules) < set(USUAL[family]):
            yield USUAL[family], "", UNHEEDED
        for tos in sorted(set().union(*(table.by_tos for table in self._tables.values()))):
            yield self.rules, tos, OF_TOS.format(tos=tos)

    def _merge(self) -> bool:
        """Make one table of local and main, as the kernel has it, and return whether that makes a difference.

        The two of IPv4 are one until somebody adds or deletes a policy rule (fib_unmerge): of the routes in both, the
        longest prefix is taken, and a local one of the same (fib_trie_table, fib_find_alias).
        """
        local, main = self._tables[LOCAL_TABLE], self._tables[MAIN_TABLE]
        if not main.is_within(local):
            return False
        table = self._tables[_MERGED]
        own = {route.destination for route in local.routes()}
        for route in (*local.routes(), *(route for route in main.routes() if route.destination not in own)):
            table.add(route)
        table.settle()
        return True

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
                met = holds(rule, question)
                unclear = left_open(rule, question) if met else ""
                if unclear:
                    doubt = doubt or f"policy rule {rule.priority}: {unclear}"
                    waiting.append((position, doubt))
                elif met == rule.inverted:
                    continue
                if rule.action is RuleAction.GOTO:
                    position = place(rules, rule, position)
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
        table = self._tables.get(rule.table)
        if table is None:
            return (), ""
        found = [(table.find(question, self.names), "")] if answers is None else answered(table, question, answers)
        led = [
            (route, unknown)
            for route, unknown in found
            if route is not None and route.kind is not RouteKind.THROW and not self._suppressed(rule, route)
        ]
        return led, found[-1][1] if len(led) < len(found) else None

    def _suppressed(self, rule: PolicyRule, route: Route) -> bool:
        """Return whether a rule passes over a route: one that is too short, or by its first hop leaves by some group.

        Those are fib4_rule_suppress and fib6_rule_suppress.
        """
        limit, group = rule.suppress_prefix_length, rule.suppress_group
        if limit is not None and route.destination.prefixlen <= limit:
            return True
        leaving = self._interfaces.get(route.hops[0].interface) if group is not None and route.hops else None
        return leaving is not None and leaving.group == group

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

        Seen from an interface, an address is local only where it is that interface's own (inet_dev_addr_type,
        nft_fib6_eval_type, match_lookup_rt6).
        """
        key = (address, interface)
        known = self._types.get(key)
        if known is None:
            known = self._types[key] = self._address_type(address, interface)
        return known

    def _address_type(self, address: int, interface: str | None) -> AddressType:
        if self._family == 4 and address in (0, 0xFFFFFFFF):
            return AddressType.BROADCAST
        if (address >> 28 == 0xE) if self._family == 4 else (address >> 120 == 0xFF):
            return AddressType.MULTICAST
        table = self._tables.get(_MERGED if self._merges else LOCAL_TABLE)
        route = table.find(Question(address), self.names) if table else None
        if route is not None and (interface is None or self.leaves_by(route, interface)):
            return _TYPES.get(route.kind, AddressType.UNICAST)
        if self._family == 6:
            # a link-local one is looked for at that interface alone
            at = interface if interface and is_link_local(address) else ""
            found, _ = self.lookup(Question(address, output=at, user=NOBODYS_SOCKET))
            if found is not None and _is_first_on_link(found, address):
                return AddressType.ANYCAST
            if found is None:
                return AddressType.UNREACHABLE
            others = interface is not None and found.kind is RouteKind.LOCAL
            return AddressType.UNICAST if others else _TYPES.get(found.kind, AddressType.UNICAST)
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
            user=NOBODYS_SOCKET,
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

    def may_take(self, address: int) -> bool:
        """Return whether packets to an address end in this namespace, or do where the tables are two."""
        found = self._tables[LOCAL_TABLE].find(Question(address), self.names) if self._merges else None
        return self.is_local(address) or (found is not None and found.kind is RouteKind.LOCAL)


_MERGED = 0
"""The number of no table."""

_OF_MERGED = tuple(
    PolicyRule(4, priority, RuleAction.LOOKUP, table) for priority, table in ((0, _MERGED), (32767, DEFAULT_TABLE))
)

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


def _is_first_on_link(route: Route, address: int) -> bool:
    """Return whether an address is one that those on a link share who pass packets on (ipv6_anycast_destination)."""
    near = route.kind is RouteKind.UNICAST and all(hop.gateway is None for hop in route.hops)
    prefix = route.destination
    return near and int(prefix.network_address) == address and prefix.prefixlen < _SHARED


def _by_one_gateway(route: Route) -> bool:
    return route.kind is RouteKind.UNICAST and len(route.hops) == 1 and route.hops[0].gateway is not None
