"""What the host's rules say of its networks and sandboxes, chain by chain.

Looks share the chains that stayed the same, and what such a chain says is known from the look before, unless it asks
for an address or a port of somebody who came, went or changed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import chain as joined
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakValueDictionary

from exporter.evaluate.enforced.strangers import for_local_addresses
from exporter.evaluate.kinds.kept import changed
from exporter.evaluate.kinds.places import placed
from exporter.evaluate.kinds.rules import RuleReader
from exporter.evaluate.kinds.steps import Noted, Sayings
from exporter.model.addresses import bounds
from exporter.model.ranges import Ranges
from exporter.model.reach import HOST

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence

    from exporter.evaluate.kinds.directory import Directory, Leads, Owner
    from exporter.evaluate.kinds.rules import Said
    from exporter.evaluate.kinds.steps import Saying
    from exporter.model.addresses import Subnet
    from exporter.model.firewall import Chain, Firewall, Table, TableKey
    from exporter.model.namespace import Namespace
    from exporter.model.snapshot import Sandbox


class ChainSaid(NamedTuple):
    """What a chain says; `local` is whether only packets to the host's own addresses come to it.

    `places` are what the rules of each owner say, and where. `addresses`, `published` and `called` are what was asked
    to find all this, with what `called` chains were found to do.
    """

    chain: Chain
    local: bool
    rules: tuple[Said, ...]
    places: Mapping[Owner, Hashable]
    noted: Noted
    addresses: Sequence[int]
    published: Sequence[int]
    called: Mapping[str, bool]


@dataclass(slots=True)
class Survey:
    """What all chains say, by whose they are, the number of their table and their name, and what that tells apart."""

    chains: dict[tuple[str, int, str], ChainSaid] = field(default_factory=dict)
    noted: Noted = field(default_factory=Noted)


_Place = tuple[str, "TableKey", str]


class SurveyMemory:
    """What chains said at the look before, and of whom that need not be true any more."""

    def __init__(self) -> None:
        self._ground: tuple[object, ...] = ()
        self._boxes: Mapping[str, Sandbox] = {}
        self._old: Mapping[_Place, ChainSaid] = {}
        self._new: dict[_Place, ChainSaid] = {}
        self.addresses: frozenset[int] = frozenset()
        self.ports: frozenset[int] = frozenset()
        self.sayings: WeakValueDictionary[Hashable, Saying] = WeakValueDictionary()

    def turn(self, directory: Directory) -> None:
        """Begin another look; what the one before did not ask for is forgotten, and all of it with other networks."""
        ground = directory.networks, directory.gateways
        self._old = self._new if ground == self._ground else {}
        before, self._boxes = self._boxes, directory.snapshot.sandboxes
        # where nothing is known, nothing can be so no more
        names = changed(before, self._boxes) if self._old else ()
        boxes = [box for each in (before, self._boxes) for name in names if (box := each.get(name)) is not None]
        self.addresses = frozenset(joined.from_iterable(box.addresses for box in boxes))
        self.ports = frozenset(port.host_port for box in boxes for port in box.published)
        self._ground, self._new = ground, {}

    def before(self, place: _Place) -> ChainSaid | None:
        """Return what a chain said."""
        return self._old.get(place)

    def keep(self, place: _Place, said: ChainSaid) -> None:
        """Note what a chain says."""
        self._new[place] = said


class Surveyor:
    """Surveys a host. `published` are ports of it that lead to one sandbox each, with their number among its own."""

    def __init__(self, directory: Directory, published: Mapping[int, tuple[Owner, int]], memory: SurveyMemory) -> None:
        self._directory = directory
        self._memory = memory
        self._published = published
        self._sayings = Sayings(memory.sayings)
        self.survey = Survey()
        memory.turn(directory)

    def read(self, firewall: Firewall, inside: str = "") -> None:
        """Note what a firewall's rules say: the host's, or those `inside` of a sandbox."""
        whose = inside or HOST
        reader = RuleReader(self._directory, self._published, self._sayings, inside)
        for number, table in enumerate(firewall.tables):
            local = for_local_addresses(table)
            for chain in table.chains.values():
                place = whose, table.key, chain.name
                before = self._memory.before(place)
                if before is not None and self._holds(before, reader, table, chain, local=chain.name in local):
                    said = before
                else:
                    said = self._said(reader, table, chain, before, local=chain.name in local)
                self._memory.keep(place, said)
                self.survey.chains[whose, number, chain.name] = said
                self.survey.noted.add(said.noted)

    def _holds(self, before: ChainSaid, reader: RuleReader, table: Table, chain: Chain, *, local: bool) -> bool:
        """Return whether a chain says what it said before."""
        return (
            before.chain is chain
            and before.local == local
            and self._memory.addresses.isdisjoint(before.addresses)
            and self._memory.ports.isdisjoint(before.published)
            and all(reader.accepts(table, called) == found for called, found in before.called.items())
        )

    def _said(
        self, reader: RuleReader, table: Table, chain: Chain, before: ChainSaid | None, *, local: bool
    ) -> ChainSaid:
        """Read a chain. Of its rules, those that were in it `before` and ask for nobody who changed are known."""
        changed, ports = self._memory.addresses, self._memory.ports
        known = {
            id(said.steps): said
            for said in (before.rules if before is not None and before.local == local else ())
            if not said.called and changed.isdisjoint(said.addresses) and ports.isdisjoint(said.published)
        }
        rules = [known.get(id(rule.steps)) or reader.read(table, rule, local=local) for rule in chain.rules]
        places, entangled = placed(rules)
        noted = Noted(peculiar=entangled)
        for said in rules:
            if said.noted is not None:
                noted.add(said.noted)
        return ChainSaid(
            chain,
            local,
            tuple(rules),
            places,
            noted,
            tuple(joined.from_iterable(said.addresses for said in rules)),
            tuple(joined.from_iterable(said.published for said in rules)),
            {said.called: reader.accepts(table, said.called) for said in rules if said.called},
        )

    def note(self, sandbox: str, namespace: Namespace, firewall: Firewall) -> None:
        """Note what a sandbox's own rules, given those that may hold, its routes and policies tell apart."""
        self.read(firewall, sandbox)
        self.note_routes(self._directory.leads(namespace.routes, {}))
        owners, noted = self._directory.owners, self.survey.noted
        exact = {low for low, high in (bounds(route.destination) for route in namespace.routes) if low == high}
        # whoever has the address of a network's gateway himself, or looks for it elsewhere
        noted.peculiar |= {owners[address] for address in exact & owners.keys()}
        for low, high in {bounds(prefix) for prefix in _selected(namespace)}:
            if low == high and low in owners:
                noted.peculiar.add(owners[low])
            noted.addresses.add(Ranges(((low, high),)))
        ports = joined.from_iterable((rule.source_ports, rule.destination_ports) for rule in namespace.rules)
        noted.ports |= {Ranges((span,)) for span in ports if span is not None}

    def note_routes(self, leads: Leads) -> None:
        """Note whom routes lead elsewhere than to their network; a network's gateway is where it always is."""
        owners = self._directory.owners
        self.survey.noted.addresses |= {Ranges((span,)) for span in leads.ranges}
        self.survey.noted.peculiar |= {
            owner for own in leads.named & owners.keys() if (owner := owners[own]).kind == "sandbox"
        }


def _selected(namespace: Namespace) -> Iterator[Subnet]:
    """Yield the prefixes that routes, beside their destinations, policy rules, policies of IPsec and labels ask for."""
    asked: Iterable[Subnet | None] = joined(
        (route.senders for route in namespace.routes),
        joined.from_iterable((rule.source, rule.destination) for rule in namespace.rules),
        joined.from_iterable((policy.source, policy.destination) for policy in namespace.policies),
        (each.prefix for each in namespace.labels if namespace.labelled),
    )
    return (prefix for prefix in asked if prefix is not None)
