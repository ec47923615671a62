"""A namespace as packets of one family meet it: its addresses, its switches, and what it believes and sends from."""

from __future__ import annotations

from collections import defaultdict
from functools import cached_property
from ipaddress import IPv6Network
from itertools import chain
from typing import TYPE_CHECKING

from exporter.evaluate.enforced.expiry import Expiry, expiry
from exporter.evaluate.enforced.gates import Gates
from exporter.evaluate.enforced.hops import sends_near
from exporter.evaluate.enforced.route_table import NOBODYS_SOCKET, Question, anycast, is_made_anycast, lent
from exporter.evaluate.enforced.routing import Routing
from exporter.evaluate.enforced.ruleset import ARP_FRAMES, BRIDGED_FRAMES, Ruleset
from exporter.evaluate.enforced.walk import Walker
from exporter.model.addresses import bounds, is_link_local, within
from exporter.model.namespace import UNLABELLED, RouteKind, Scope
from exporter.model.ranges import Ranges

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from exporter.evaluate.enforced.route_table import Answers, Way
    from exporter.evaluate.enforced.walk import Step
    from exporter.model.namespace import Interface, IpsecPolicy, Namespace, OwnAddress

FORMER = "whether a local route or a policy rule was ever made where a route of anycast leads back to who sends"
_MAPPED = 0xFFFF
"""The first 96 bits of an address of IPv4 in the shape of IPv6 (::ffff:0:0/96)."""
_ORCHIDS = Ranges((bounds(IPv6Network("2001:10::/28")),))
"""Addresses that are names of keys (ipv6_addr_orchid)."""


class Stack:
    """A namespace as packets of one family meet it.

    Its parts are made when they are asked for: one packet comes through a few namespaces of thousands. `trace` is where
    walkers note what rules do. `answers` tells of the namespace's gateways what routing does not know by itself.
    """

    trace: list[Step] | None = None
    answers: Callable[[Routing], Answers | None] | None = None

    def __init__(self, name: str, namespace: Namespace, family: int) -> None:
        self.name = name
        self.namespace = namespace
        self.family = family
        self.ways: dict[int | Question, Way] = {}
        self._believed: dict[tuple[int, str], bool] = {}
        self._reluctant: dict[int, bool] = {}
        self._labels: dict[tuple[int, int], int] = {}
        self.by_name = {interface.name: interface for interface in namespace.interfaces.values()}

    def __repr__(self) -> str:
        return f"Stack({self.name!r}, {self.family})"

    @cached_property
    def routing(self) -> Routing:
        """Where the namespace sends packets."""
        routing = Routing(self.namespace, self.family)
        routing.answers = self.answers(routing) if self.answers is not None else None
        return routing

    @cached_property
    def ruleset(self) -> Ruleset:
        """The base chains that packets meet."""
        return Ruleset(self.namespace.firewall, self.family)

    @cached_property
    def bridging(self) -> Ruleset:
        """The base chains that frames meet."""
        return Ruleset(self.namespace.firewall, BRIDGED_FRAMES)

    @cached_property
    def resolving(self) -> Ruleset:
        """The base chains that questions for link addresses meet."""
        return self.ruleset if self.family == 6 else Ruleset(self.namespace.firewall, ARP_FRAMES)

    @cached_property
    def gates(self) -> Gates:
        """What stands at single interfaces."""
        return Gates(self.namespace)

    @cached_property
    def walker(self) -> Walker:
        """Who leads packets through chains."""
        return Walker(self.routing, self.trace, self.name)

    @cached_property
    def bridge_walker(self) -> Walker:
        """Who leads frames through chains."""
        return Walker(self.routing, self.trace, self.name)

    @cached_property
    def addresses(self) -> Mapping[int, frozenset[int]]:
        """The namespace's own addresses, by the indexes of the interfaces that have them."""
        found: dict[int, set[int]] = defaultdict(set)
        for interface in self.namespace.interfaces.values():
            for address in interface.addresses:
                if address.version == self.family:
                    found[int(address.ip)].add(interface.index)
        return {address: frozenset(indexes) for address, indexes in found.items()}

    @cached_property
    def first_address(self) -> tuple[int, str]:
        """An address that means something beyond its link, and its interface; 0 where the namespace has none."""
        cards = (card for card in self.namespace.interfaces.values() if card.name != "lo")
        own = ((int(each.ip), card.name) for card in cards for each in card.addresses if each.version == self.family)
        return next((each for each in own if not is_link_local(each[0])), (0, ""))

    @cached_property
    def anycast(self) -> Mapping[int, frozenset[int]]:
        """The addresses that the namespace shares with others who pass packets on, by the indexes of the interfaces."""
        found: dict[int, set[int]] = defaultdict(set)
        for each in anycast(self.namespace) if self.family == 6 else ():
            if each.address not in self.addresses:
                found[each.address].add(each.interface)
        return {address: frozenset(indexes) for address, indexes in found.items()}

    @cached_property
    def joined(self) -> frozenset[int]:
        """Those of these that the namespace answers for."""
        return frozenset(each.address for each in anycast(self.namespace) if each.joined) & self.anycast.keys()

    @cached_property
    def reached_at(self) -> Mapping[int, frozenset[int]]:
        """All addresses at which others reach the namespace, by the indexes of the interfaces that have them."""
        return {**self.addresses, **self.anycast} if self.anycast else self.addresses

    @cached_property
    def expiry(self) -> Expiry:
        """What the namespace's conntrack forgets at once."""
        return expiry(self.namespace)

    @cached_property
    def grouped(self) -> bool:
        """Whether somebody put interfaces into groups."""
        return any(interface.group for interface in self.namespace.interfaces.values())

    @cached_property
    def lent(self) -> Ranges:
        """The addresses that local routes lead to the namespace though none of its interfaces need have them.

        Those that are one of its own addresses are left out.
        """
        told = map(bounds, lent(self.namespace.routes, (self.family,)))
        return Ranges.union((low, high) for low, high in told if low != high or low not in self.addresses)

    @cached_property
    def policies(self) -> tuple[IpsecPolicy, ...]:
        """The policies of IPsec for the family."""
        return tuple(policy for policy in self.namespace.policies if policy.source.version == self.family)

    @cached_property
    def _fixed(self) -> Mapping[tuple[int, int], str]:
        own = (item for item in self.namespace.neighbours if item.address.version == self.family)
        return {(item.interface, int(item.address)): item.mac for item in own}

    def fixed(self, interface: Interface, address: int) -> str | None:
        """Return the link address that somebody fixed for an address at an interface, if any."""
        return self._fixed.get((interface.index, address)) if self._fixed else None

    def reluctant(self, interface: Interface) -> bool:
        """Return whether not everybody who asks at an interface is answered, or not to where he is."""
        known = self._reluctant.get(interface.index)
        if known is None:
            picky = self.family == 4 and any(self.either(interface.name, name) for name in ("arp_ignore", "arp_filter"))
            known = self._reluctant[interface.index] = not interface.arp or picky or bool(self.fixes_at(interface))
        return known

    def fixes_at(self, interface: Interface) -> frozenset[int]:
        """Return the addresses whose link addresses are fixed at an interface."""
        return frozenset(address for index, address in self._fixed if index == interface.index)

    def loses_own(self, address: int) -> bool:
        """Return whether packets of the namespace to its own address are lost.

        Loopback is down (__dev_queue_xmit), or has a wrong link address. Its own is zero; of IPv4 one entry is for all
        addresses (__ipv4_neigh_lookup), and is shown with none.
        """
        loopback = self.by_name.get("lo")
        if loopback is None or not loopback.up:
            return loopback is not None
        if not self._fixed:
            return False
        fixed = self.fixed(loopback, 0 if self.family == 4 else address)
        return fixed is not None and fixed != loopback.mac

    @cached_property
    def proxied(self) -> frozenset[tuple[int, int]]:
        """The addresses that are answered for in the place of others, by the index of the interface, 0 for all."""
        own = (item for item in self.namespace.proxied if item.address.version == self.family)
        return frozenset((item.interface, int(item.address)) for item in own)

    @cached_property
    def particular(self) -> bool:
        """Whether it depends on the address that a question comes from whether the namespace answers it."""
        if self.family == 6:
            return bool(self._fixed)
        told = ((path.rpartition("/")[2], value) for path, value in self.namespace.settings.items())
        return any(
            (name, value) == ("arp_ignore", "2") or (name == "arp_filter" and value != "0") for name, value in told
        )

    def either(self, interface: str, name: str) -> int:
        """Return the higher one of an interface's setting and of all's (IN_DEV_MAXCONF, IN_DEV_ORCONF)."""
        return max(self.conf("all", name), self.conf(interface, name))

    @cached_property
    def plain(self) -> bool:
        """Whether nothing but routes decides about packets that the namespace itself sends or gets, however far."""
        filters = (self.ruleset, self.resolving, self.bridging, self.gates)
        beside = self.namespace.programs or self.policies
        return all(filter_.idle for filter_ in filters) and self.routing.plain and not beside and not self.sends_near

    @cached_property
    def sends_near(self) -> bool:
        """Whether what the namespace sends may be lost for being passed on too often."""
        return sends_near(self.namespace, self.family)

    def takes_alike(self, interfaces: Collection[str], *, own: bool) -> bool:
        """Return whether packets, which may be for its `own` addresses, fare by one of some interfaces as by any other.

        Of others it hinges on where they came in whether their sender is told to go past it (ICMP redirects).
        """
        passes_on = not own and any(map(self.forwards_from, interfaces))
        return self.plain and not passes_on and not any(map(self.reverse_path_filter, interfaces))

    def conf(self, interface: str, name: str) -> int:
        """Return a setting of an interface for this family."""
        return self.namespace.setting(f"ipv{self.family}/conf/{interface}/{name}")

    def forwards_from(self, interface: str) -> bool:
        """Return whether packets that came in by an interface are passed on.

        IPv4 asks the interface's own switch (IN_DEV_FORWARD), IPv6 the one of all, and from Linux 6.17 on also whether
        the interface is forced to (ip6_forward).
        """
        if self.family == 4:
            return bool(self.conf(interface, "forwarding"))
        return bool(self.conf("all", "forwarding") or self.conf(interface, "force_forwarding"))

    def reverse_path_filter(self, interface: str) -> int:
        """Return 0 (off), 1 (strict) or 2 (loose): the higher one of the interface's and of all's."""
        if self.family == 6:
            return 0
        return self.either(interface, "rp_filter")

    def believes(self, source: int, interface: str) -> bool:
        """Return whether packets from a source may come in by an interface (fib_validate_source, ip6_rcv_core).

        IPv4 takes none from the namespace's own addresses and, with a reverse path filter, only those that a route
        leads back to; where policy rules ask for more than addresses, `ways.led_back` answers that. IPv6 asks for
        nothing but that loopback addresses stay inside, and those of IPv4 in its shape (::ffff:0:0/96) nowhere.
        """
        key = (source, interface)
        known = self._believed.get(key)
        if known is None:
            known = self._believed[key] = self._believes(source, interface)
        return known

    def _believes(self, source: int, interface: str) -> bool:
        if not self.admits(source, interface):
            return False
        back = Question(source, user=NOBODYS_SOCKET)
        return self.family == 6 or not self.routing.plain or self.led_back(back, interface)[0]

    def admits(self, source: int, interface: str) -> bool:
        """Return whether packets from a source may come in by an interface where no reverse path filter is asked."""
        if self.is_loopback(source) and not self.accepts_loopback(interface):
            return False
        if self.family == 6:
            return source >> 32 != _MAPPED
        own = source in self.addresses or (not self.is_loopback(source) and self.routing.is_local(source))
        return not own or bool(self.either(interface, "accept_local"))

    def led_back(self, question: Question, interface: str) -> tuple[bool, str]:
        """Return whether a reverse path filter lets in what `question` asks the way back of, and what is not known.

        __fib_validate_source: the way back has to leave by the interface; a loose filter takes any that there is, but
        not on an interface that has no address. To an address of the namespace's own it leads where `accept_local` is.
        """
        level = self.reverse_path_filter(interface)
        if not level:
            return True, self._distrust(question)
        kinds = {RouteKind.UNICAST} | ({RouteKind.LOCAL} if self.either(interface, "accept_local") else set())
        loose = level > 1 and interface in self._addressed
        found = {
            route is not None and route.kind in kinds and (loose or self.routing.leaves_by(route, interface)): doubt
            for route, doubt in self.routing.lookups(question)
        }
        return True in found, next(filter(None, found.values()), "") if len(found) > 1 else ""

    def _distrust(self, question: Question) -> str:
        """Return why packets may not be believed without any filter: none is that a route of anycast leads back to.

        The kernel looks only where somebody made a local route or a policy rule, be it that these are gone again
        (fib_has_custom_local_routes, fib_has_custom_rules in fib_validate_source).
        """
        if not self.routing.by_origin:
            return ""
        shared = any(route is not None and is_made_anycast(route) for route, _ in self.routing.lookups(question))
        return FORMER if shared else ""

    @cached_property
    def _addressed(self) -> frozenset[str]:
        """The names of interfaces that have an address of the family."""
        return frozenset(each.name for each in self.namespace.interfaces.values() if self._sources(each))

    def is_loopback(self, address: int) -> bool:
        """Return whether an address is one of 127.0.0.0/8, or ::1."""
        return address >> 24 == 127 if self.family == 4 else address == 1

    def accepts_loopback(self, interface: str) -> bool:
        """Return whether loopback addresses pass an interface that is not loopback: route_localnet, for IPv4 alone."""
        return self.family == 4 and bool(self.either(interface, "route_localnet"))

    def calls_iptables(self, bridge: Interface) -> bool:
        """Return whether frames that a bridge passes on meet the IP hooks: either switch is enough.

        The namespace's or the bridge's own (br_nf_pre_routing).
        """
        own, setting = bridge.bridge, self.namespace.setting
        if self.family == 4:
            return bool(setting("bridge/bridge-nf-call-iptables")) or (own is not None and own.calls_iptables)
        return bool(setting("bridge/bridge-nf-call-ip6tables")) or (own is not None and own.calls_ip6tables)

    def calls_resolving(self, bridge: Interface) -> bool:
        """Return whether questions for link addresses that a bridge passes on meet the hooks that see them."""
        if self.family == 6:
            return self.calls_iptables(bridge)
        own = bridge.bridge is not None and bridge.bridge.calls_arptables
        return own or bool(self.namespace.setting("bridge/bridge-nf-call-arptables"))

    def source_for(self, interface: int, towards: int, scope: Scope = Scope.GLOBAL) -> int | None:
        """Return the address that the namespace sends from by an interface, to somebody `scope` away.

        Of IPv4 (inet_select_addr) that is one of the subnet of `towards`, a next hop, or the first one, which is taken
        where there is no next hop (0); none that reaches less far. Secondary ones come after all others, and are never
        the first of their subnet (__inet_insert_ifa). Of IPv6 (ipv6_dev_get_saddr) it is the one that suits `towards`,
        a destination, best of those that are not deprecated. An interface without one lends another interface's, as
        does none (0): of IPv4 that of the first which was made and has any (for_each_netdev), and what is link-local of
        IPv6 is not used for more. To a link-local destination only the interface's own are, and of these its link-local
        ones first. None where no interface has one.
        """
        found = self.namespace.interfaces.get(interface)
        if self.family == 6:
            return self._source_v6(found, towards)
        local = Scope.LINK if found is not None and self.accepts_loopback(found.name) else Scope.HOST
        told = self._sources(found) if found is not None else []
        own = [item for item in told if min(item.scope, local) <= scope]
        near = (item for item in own if towards and (int(item.ip) ^ towards) >> (32 - item.prefixlen) == 0)
        best = next(near, next(iter(own), self._lent(scope)))
        return int(best.ip) if best is not None else None

    def _source_v6(self, interface: Interface | None, towards: int) -> int | None:
        told = self._sources(interface) if interface is not None else []
        if is_link_local(towards):
            told.sort(key=lambda item: (not item.is_link_local, item.deprecated))
            return int(told[0].ip) if told else None
        here = interface.index if interface is not None else 0
        groups = [(here, item) for item in told if not item.is_link_local], self._lent_v6
        preferred = ([each for each in group if not each[1].deprecated] for group in groups)
        own = next(filter(None, (*preferred, *groups)), [(here, item) for item in told])
        if len(own) > 1:
            label = self._label(towards, here)
            return int(max(own, key=lambda each: self._suits(each, towards, label))[1].ip)
        return int(own[0][1].ip) if own else None

    def _suits(self, which: tuple[int, OwnAddress], towards: int, label: int) -> tuple[bool, bool, int]:
        """Return how well an interface's address suits a destination with a label (ipv6_get_saddr_eval).

        The same label comes first, then whether both are ORCHIDs, or none is; then the bits that both begin with, no
        more of them than those of the prefix.
        """
        interface, own = which
        address = int(own.ip)
        alike = (address in _ORCHIDS) == (towards in _ORCHIDS)
        return self._label(address, interface) == label, alike, min(_common(address, towards), own.prefixlen)

    def _label(self, address: int, interface: int) -> int:
        """Return what an address at an interface is labelled with (ipv6_addr_label)."""
        known = self._labels.get((address, interface))
        if known is None:
            fitting = (each for each in self.namespace.labels if each.interface in (0, interface))
            known = next((each.label for each in fitting if within(address, each.prefix)), UNLABELLED)
            self._labels[address, interface] = known
        return known

    def _sources(self, interface: Interface) -> list[OwnAddress]:
        return [item for item in interface.addresses if item.version == self.family]

    @cached_property
    def _everyone(self) -> tuple[OwnAddress, ...]:
        """All addresses of the family, those of the interface first that was made first."""
        own = (self._sources(each) for _, each in sorted(self.namespace.interfaces.items()))
        return tuple(chain.from_iterable(own))

    def _lent(self, scope: Scope) -> OwnAddress | None:
        """Return what interfaces without an address of IPv4 send from (in_dev_select_addr)."""
        return next((item for item in self._everyone if item.scope != Scope.LINK and item.scope <= scope), None)

    @cached_property
    def _lent_v6(self) -> tuple[tuple[int, OwnAddress], ...]:
        """What interfaces without an address of IPv6 but a link-local one send from, and the index of what has it."""
        cards = sorted(self.namespace.interfaces.items())
        usable = ((index, item) for index, card in cards for item in self._sources(card) if not item.is_link_local)
        return tuple(each for each in usable if not self.is_loopback(int(each[1].ip)))


def _common(one: int, other: int) -> int:
    return 128 - (one ^ other).bit_length()
