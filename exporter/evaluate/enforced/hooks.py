"""What one namespace's hooks do to packets: filters, conntrack and translations, in netfilter's order of priorities."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING

from exporter.evaluate.enforced.flight import BACK, Conversation, Stage
from exporter.evaluate.enforced.packets import Column, Packets, parts
from exporter.evaluate.enforced.passing import Passing
from exporter.evaluate.enforced.rewriting import ENTRY, led_astray, sent_aside, translated
from exporter.evaluate.enforced.sight import Sight
from exporter.model.firewall import CtState, Field, Hook, ProxyLocally, Translate

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from exporter.evaluate.enforced.flight import Value
    from exporter.evaluate.enforced.ruleset import BaseChain
    from exporter.evaluate.enforced.walk import Outcome, Taken

CONNTRACK = -200
"""The priority at which conntrack looks at packets (NF_IP_PRI_CONNTRACK)."""

NAT_PRIORITY = {Hook.PREROUTING: -100, Hook.OUTPUT: -100, Hook.INPUT: 100, Hook.POSTROUTING: 100}
"""Where the chains of type nat are called, whatever priority they have among each other (nf_nat_inet_fn)."""

TRANSPARENT = "whether a transparent socket takes what TPROXY leads to it"

_PROGRAMS = "what BPF programs at the {place} of a container let through"
_OF_PROCESSES = (Hook.OUTPUT, Hook.INPUT)


See = Callable[[Passing], Packets]
"""How rules see packets that are between hooks."""


class Hooks:
    """The hooks that the packets of one stage of a conversation pass."""

    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation
        self._aside: list[Passing] = []
        self.sight = Sight(conversation)

    def note(self, taken: Iterable[Taken], passing: Passing) -> None:
        """Note which packets, and copies of them, go elsewhere: no more chains of this hook see them."""
        self._aside += sent_aside(taken, passing)

    def led_astray(
        self, through: Callable[[Passing], Outcome], taken: Iterable[Taken], passing: Passing
    ) -> Iterator[Passing]:
        """Yield packets as they may be rewritten, and note which of them go elsewhere then."""

        def noting(led: Passing) -> Outcome:
            outcome = through(led)
            self.note(outcome.taken, led)
            return outcome

        return led_astray(noting, taken, passing)

    def sent_aside(self) -> list[Passing]:
        """Return the packets that went elsewhere since somebody asked."""
        sent, self._aside = self._aside, []
        return sent

    def through(self, hook: Hook, passing: Passing) -> Iterator[Passing]:
        """Yield what comes out of a hook, apart where it was rewritten apart."""
        passing = _past_programs(hook, passing)
        if passing.stack.ruleset.idle:
            yield passing
            return
        chains = passing.stack.ruleset.chains(hook)
        nat = [chain for chain in chains if chain.base.kind == "nat"]
        other = [chain for chain in chains if chain.base.kind != "nat"]
        boundary = NAT_PRIORITY.get(hook)
        if boundary is None:
            yield from self._filtered(other, passing)
            return
        if hook in ENTRY:
            early = [chain for chain in other if chain.base.priority < CONNTRACK]
            other = [chain for chain in other if chain.base.priority >= CONNTRACK]
            entered = [each for raw in self._entered(early, passing) for each in self._looked_up(raw)]
        else:
            entered = [passing]
        before = [chain for chain in other if chain.base.priority <= boundary]
        after = [chain for chain in other if chain.base.priority > boundary]
        if hook is Hook.OUTPUT:
            entered = [_by_the_old_route(passing, each) for each in entered]
        pass_by = self._leaving if hook is Hook.OUTPUT else self._filtered
        for one in entered:
            for two in pass_by(before, one):
                for three in self._translated(hook, nat, two):
                    yield from pass_by(after, _by_its_route(two, three) if hook is Hook.OUTPUT else three)

    def _leaving(self, chains: Sequence[BaseChain], passing: Passing) -> Iterator[Passing]:
        """Lead packets through chains of OUTPUT: those of type route alone have them routed anew by another mark."""
        found = [passing]
        for routes, group in groupby(chains, lambda chain: chain.base.kind == "route"):
            some, change = list(group), _by_another_route if routes else _by_the_old_route
            found = [change(one, each) for one in found for each in self._filtered(some, one)]
        yield from found

    def _entered(self, early: Sequence[BaseChain], passing: Passing) -> Iterator[Passing]:
        """Pass what comes before conntrack (raw), where packets may be kept from it."""
        if not early:
            yield passing
            return
        for passed, packets in self._walk(early, passing, self.sight.entering):
            state = packets.fields[Field.CT_STATE]
            kept = state.values.get(int(CtState.UNTRACKED), 0) if isinstance(state, Column) else 0
            yield passed._replace(untracked=passed.untracked | kept & passed.cells)

    def _looked_up(self, passing: Passing) -> Iterator[Passing]:
        """Tell packets apart by the connection that conntrack finds for them, with the mark that it has.

        What comes back by loopback has been looked up already (nf_conntrack_in).
        """
        if passing.settled:
            yield passing
            return
        again = passing.flight.passed(passing.stack)
        for passage, cells in self.sight.found(passing):
            mark = (again[-1] if again else passage).ct_mark if passage is not None else 0
            plain = cells == passing.cells and mark == passing.ct_mark
            yield passing if plain else passing._replace(cells=cells, ct_mark=mark)

    def _filtered(self, chains: Sequence[BaseChain], passing: Passing) -> Iterator[Passing]:
        if not chains:
            yield passing
            return
        yield from (passed for passed, _ in self._walk(chains, passing, self.sight.packets))

    def _walk(self, chains: Sequence[BaseChain], passing: Passing, see: See) -> Iterator[tuple[Passing, Packets]]:
        """Lead packets through chains, and keep the marks that they come out with."""
        packets = see(passing)
        outcome = passing.stack.walker.through(chains, packets, passing.cells)
        self.note(outcome.taken, passing)
        marked = marked_by(passing, packets)
        passed = marked._replace(cells=outcome.accepted, flight=passing.flight.doubted(outcome.doubts))
        found = (*_past_proxies(outcome.taken, passed), *self._led_astray(chains, outcome.taken, passed, see))
        yield from ((each, packets) for each in found)

    def _led_astray(
        self, chains: Sequence[BaseChain], taken: Iterable[Taken], passing: Passing, see: See
    ) -> Iterator[Passing]:
        """Yield packets as they may be rewritten in chains of IP."""

        def through(led: Passing) -> Outcome:
            return led.stack.walker.through(chains, see(led), led.cells)

        for led in self.led_astray(through, taken, passing):
            # before conntrack has seen them, it takes them for what they are then
            yield led._replace(arrived=led.flight.ends) if see == self.sight.entering else led

    def _translated(self, hook: Hook, nat: Sequence[BaseChain], passing: Passing) -> Iterator[Passing]:
        begun = self._begun(passing)
        if passing.cells & ~begun:
            yield self._as_before(hook, passing._replace(cells=passing.cells & ~begun))
        if not begun:
            return
        first = passing._replace(cells=begun)
        translated = [first] if not nat or passing.settled else self._newly(hook, nat, first)
        yield from translated if hook in ENTRY else map(self._without_clashes, translated)

    def _without_clashes(self, passing: Passing) -> Passing:
        """Drop what is taken for a new connection, and whose answers would be taken for packets of another one.

        It is given another port to come from (get_unique_tuple), or lost (nf_ct_resolve_clash): whom TCP says that does
        not know it.
        """
        if self._conversation.stage is not Stage.SAYING:
            return passing
        clashing, expected = 0, passing.flight.ends.reversed()
        for passage in self.sight.remembered(passing):
            for known in (passage.before, passage.after.reversed()):
                clashing |= expected.alike(known, passing.cells & passage.tracked)
        return passing._replace(cells=passing.cells & ~clashing) if clashing else passing

    def _begun(self, passing: Passing) -> int:
        """Return the cells whose packets a namespace takes for the first ones of a connection."""
        if not self._conversation.begins(passing.stack):
            return 0
        passage = self.sight.known(passing)
        return passing.cells & ~(passage.tracked if passage else 0)

    def _newly(self, hook: Hook, nat: Sequence[BaseChain], passing: Passing) -> Iterator[Passing]:
        """Let the nat chains decide about a connection's first packets: the first chain that rewrites is the last."""
        packets = self.sight.packets(passing)
        remaining = passing.cells & ~passing.untracked
        kept = passing.cells & passing.untracked
        flight = passing.flight
        led: list[tuple[Taken, int]] = []
        for chain in nat:
            outcome = passing.stack.walker.base(chain, packets, remaining)
            self.note(outcome.taken, passing)
            led += [(taken, taken.cells) for taken in outcome.taken]
            ways = [outcome.accepted, outcome.dropped, *(taken.cells for taken in outcome.taken)]
            doubted = _more_than_once(ways)
            flight = flight.doubted(
                {name: cells & doubted for name, cells in outcome.doubts.items() if cells & doubted}
            )
            remaining = outcome.accepted
            yield from self._led_astray([chain], outcome.taken, passing._replace(flight=flight), self.sight.packets)
        marked = marked_by(passing, packets)._replace(flight=flight)
        if remaining | kept:
            yield marked._replace(cells=remaining | kept)
        for taken, cells in led:
            if isinstance(taken.statement, Translate) and taken.target is not None:
                here = marked._replace(cells=cells, translated=True)
                yield from translated(hook, taken.statement.kind, taken.target, here)

    def _as_before(self, hook: Hook, passing: Passing) -> Passing:
        """Rewrite later packets as the first ones were rewritten, answers the other way round.

        Destinations in the entry hooks, sources in the others, each for packets of either direction (nf_nat_packet).
        """
        passage = self.sight.known(passing)
        if passage is None or not passage.tracked & passing.cells & ~passing.untracked:
            return passing
        before, after, ends = passage.before, passage.after, passing.flight.ends
        answering = self._conversation.stage in BACK
        if hook in ENTRY:
            if answering and after.source != before.source:
                ends = replace(ends, destination=before.source, destination_port=before.source_port)
            elif not answering and after.destined != before.destined:
                ends = replace(ends, destination=after.destination, destination_port=after.destination_port)
        elif answering and after.destined != before.destined:
            ends = replace(ends, source=before.destination, source_port=before.destination_port)
        elif not answering and after.source != before.source:
            ends = replace(ends, source=after.source, source_port=after.source_port)
        return passing._replace(flight=replace(passing.flight, ends=ends))


def _past_programs(hook: Hook, passing: Passing) -> Passing:
    """Lead packets that a namespace itself sends or receives past the programs at the cgroups of its processes."""
    programs = passing.stack.namespace.programs
    if not programs or hook not in _OF_PROCESSES:
        return passing
    doubt = _PROGRAMS.format(place=" and ".join(programs))
    return passing._replace(flight=passing.flight.doubted({doubt: passing.cells}))


def _by_the_old_route(before: Passing, after: Passing) -> Passing:
    """Return packets that may have another mark now, and for which nobody asks for a route by it."""
    if after.mark is before.mark or before.routed_mark is not None:
        return after
    return after._replace(routed_mark=before.mark)


def _by_its_route(before: Passing, after: Passing) -> Passing:
    """Return packets that passed chains of nat: what these lead elsewhere is routed anew (nf_nat_ipv4_local_fn)."""
    if after.flight.ends is before.flight.ends:
        return _by_the_old_route(before, after)
    return after._replace(routed_mark=None)


def _by_another_route(before: Passing, after: Passing) -> Passing:
    """Return packets of which those that have another mark now are routed by it (ipt_mangle_out)."""
    if before.routed_mark is None or after.mark is before.mark:
        return after
    asked = before.routed_mark
    routed = asked if isinstance(asked, Column) else Column({asked: after.cells})
    for old, had in parts(before.mark, after.cells):
        for new, cells in parts(after.mark, had):
            routed = routed.over(cells, new) if new != old else routed
    if isinstance(after.mark, Column):
        routed = routed.forgotten(after.mark.untold & after.cells)
    return after._replace(routed_mark=routed)


def marked_by(passing: Passing, packets: Packets) -> Passing:
    """Return packets with the marks that chains gave them and their connections."""
    ct_mark = packets.fields.get(Field.CT_MARK, passing.ct_mark)
    return with_mark(passing, packets)._replace(ct_mark=_number(ct_mark))


def with_mark(passing: Passing, packets: Packets) -> Passing:
    """Return packets with the marks that chains gave them."""
    return passing._replace(mark=_number(packets.fields[Field.MARK]))


def _number(value: object) -> Value:
    return value if isinstance(value, int | Column) else 0


def _more_than_once(sets: Iterable[int]) -> int:
    once = twice = 0
    for cells in sets:
        twice |= once & cells
        once |= cells
    return twice


def _past_proxies(taken: Iterable[Taken], passed: Passing) -> Iterator[Passing]:
    """Yield the packets that local sockets may take, and those that go on: nft's rule is over where none does."""
    proxied = surely = 0
    for item in taken:
        if isinstance(item.statement, ProxyLocally):
            proxied |= item.cells
            surely |= item.surely
    flight = passed.flight.doubted({TRANSPARENT: proxied & passed.cells} if proxied & passed.cells else {})
    if proxied & passed.cells:
        yield passed._replace(cells=proxied & passed.cells, flight=flight, local=True)
    if passed.cells & ~surely:
        yield passed._replace(cells=passed.cells & ~surely, flight=flight)
