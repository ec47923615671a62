"""What happened to a packet, in words: its notes as hops, and the one that everything hung on."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from typing import TYPE_CHECKING

from exporter.evaluate.enforced.flight import Stage
from exporter.evaluate.enforced.trace import (
    Arrived,
    Begun,
    Bridged,
    Disbelieved,
    Filtered,
    Linked,
    Relayed,
    Routed,
    Sent,
    Shared,
    Unanswered,
)
from exporter.model.explanation import Decision, Hop, Leg
from exporter.model.firewall import Hook
from exporter.model.reach import HOST

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from exporter.evaluate.enforced.trace import At, Note
    from exporter.evaluate.enforced.walk import Step
    from exporter.evaluate.names import Names

_LEGS = {Stage.FIRST: "request", Stage.ANSWER: "answer", Stage.CONFIRMATION: "confirmation", Stage.SAYING: "data"}
RESOLUTION = {4: "ARP", 6: "neighbour discovery"}
_FILTERS = (Hook.FORWARD, Hook.INPUT, Hook.OUTPUT, None)
"""Hooks in which an accept lets a packet through; in the others it only ends a chain."""
_FOR_OTHER_ENDS = (" nat", " raw", " mangle")
"""How the names of tables end in which nobody means to let packets through."""


@dataclass(frozen=True, slots=True)
class Turn:
    """Where a packet's fate was decided: the note that tells of it, the rule where one did it, and the hop."""

    note: Note | None
    step: Step | None
    hop: Hop


@dataclass(slots=True)
class Told:
    """A packet's legs, and what matters of them.

    `lost` is where it was lost, `leg` the leg in which that was; `passed` are the rules that let the first packet
    through, `past` the bridge that let it by without asking any, `relayed` whether docker-proxy led it on.
    """

    legs: list[Leg] = field(default_factory=list)
    lost: Turn | None = None
    leg: str = ""
    passed: list[Turn] = field(default_factory=list)
    past: Bridged | None = None
    relayed: bool = False


def tell(notes: Iterable[Note], names: Names) -> Told:
    """Return the legs of a conversation."""
    return _Teller(names).told(notes)


class _Teller:
    def __init__(self, names: Names) -> None:
        self._names = names
        self._told = Told()
        self._name = ""
        self._relayed = ""
        self._hops: list[Hop] = []
        self._lost: Turn | None = None
        self._last: Note | None = None
        self._arrived = False

    def told(self, notes: Iterable[Note]) -> Told:
        for note in notes:
            if isinstance(note, Begun):
                self._close()
                self._name = f"{self._relayed}{_LEGS[note.stage]}"
                continue
            if isinstance(note, Relayed):
                self._relay(note)
                continue
            self._last = note
            self._hops.extend(self._hops_of(note))
        self._close()
        # what confirms an answer goes the way of the request: it is worth telling where it does not arrive
        self._told.legs = [
            leg for leg in self._told.legs if not leg.name.endswith(_LEGS[Stage.CONFIRMATION]) or leg.hops[-1].lost
        ]
        return self._told

    def _close(self) -> None:
        """End a leg; one that neither arrived nor says where it was lost ends with what is known."""
        if not self._hops:
            return
        if not self._arrived and not self._hops[-1].lost:
            self._hops.append(self._lose(Hop(self._hops[-1].place, "lets it go no further", lost=True), None))
        # of a packet that may go several ways, one that is lost matters only where none arrives
        if self._told.lost is None and not self._arrived:
            self._told.lost, self._told.leg = self._lost, self._name
        self._told.legs.append(Leg(self._name or "request", tuple(self._hops)))
        self._hops, self._arrived, self._lost = [], False, None

    def _relay(self, note: Relayed) -> None:
        self._close()
        at = self._socket(str(note.address), note.port)
        text = f"docker-proxy takes the connection and makes one of its own to {at}"
        self._hops.append(Hop(HOST, text))
        self._arrived, self._relayed, self._told.relayed = True, "relayed ", True
        self._name = "docker-proxy"

    def _lose(self, hop: Hop, step: Step | None) -> Hop:
        self._lost = self._lost or Turn(self._last, step, hop)
        return hop

    def _hops_of(self, note: Note) -> Iterator[Hop]:
        match note:
            case Sent():
                yield self._sent(note)
            case Linked():
                yield from self._linked(note)
            case Bridged():
                yield self._bridged(note)
            case Filtered():
                yield from self._filtered(note)
            case Routed(local=False):
                yield self._routed(note)
            case Disbelieved():
                text = f"takes {self._address(note.at, source=True)} for forged on {self._names.named(note.interface)}"
                yield self._lose(Hop(self._place(note.place), text, lost=True), None)
            case Shared():
                text = f"takes no connections at {self._address(note.at)}, which all share there who pass packets on"
                yield self._lose(Hop(self._place(note.place), text, lost=True), None)
            case Unanswered():
                yield from self._unanswered(note)
            case Arrived():
                self._arrived = True
                at = _socket(_text(note.at.family, note.at.destination), note.at.destination_port)
                yield Hop(self._place(note.place), f"gets it at {at}")

    def _sent(self, note: Sent) -> Hop:
        place = self._place(note.place)
        if not note.output:
            return self._lose(Hop(place, f"has no route to {self._address(note.at)}", lost=True), None)
        source = self._from(note.at)
        return Hop(place, f"sends from {source} to {self._to(note.at)} by {note.output}")

    def _linked(self, note: Linked) -> Iterator[Hop]:
        place = self._place(note.place)
        link = f"bridge {self._names.named(note.bridge)}" if note.bridge else note.output
        if note.strayed:
            yield Hop(place, f"sends it to a link address that nobody on {link} has")
        elif note.doubt:
            yield Hop(place, f"not known: {note.doubt}")
        elif not note.receiver:
            address = _text(note.family, note.towards)
            text = f"finds nobody on {link} who answers for {self._names.named(address)}"
            yield self._lose(Hop(place, text, lost=True), None)
        elif note.deaf:
            between = f"{place} and {self._place(note.receiver)}"
            ports = ", ".join(map(self._names.named, note.ports))
            where = f" ({ports})" if ports else ""
            yield self._lose(Hop(place, f"{link} keeps {between} apart: {note.deaf}{where}", lost=True), None)

    def _bridged(self, note: Bridged) -> Hop:
        if not note.filtered:
            self._told.past = self._told.past or note
        came, goes = map(self._names.named, note.ports)
        past = "" if note.filtered else ", past all rules of iptables: br_netfilter is off"
        return Hop(HOST, f"bridge {self._names.named(note.bridge)} passes it from port {came} to port {goes}{past}")

    def _filtered(self, note: Filtered) -> Iterator[Hop]:
        place = self._place(note.place)
        hops = [(step, self._ruled(place, step)) for step in _telling(note)]
        if not note.after:
            last, hop = hops.pop() if hops else (None, Hop(place, f"loses it in {note.hook or 'the bridge family'}"))
            yield from (each for _, each in hops)
            yield self._lose(replace(hop, lost=True), last)
            return
        yield from (each for _, each in hops)
        if self._told.lost is None and self._name.endswith("request"):
            self._told.passed += [Turn(note, step, hop) for step, hop in hops if _lets_through(note, step)]
        perhaps = "perhaps " if note.doubts or len(note.after) > 1 else ""
        for after in note.after:
            yield from self._rewritten(place, perhaps, note.before, after)
        if note.doubts:
            yield Hop(place, f"not known: {'; '.join(note.doubts)}")

    def _rewritten(self, place: str, perhaps: str, before: At, after: At) -> Iterator[Hop]:
        if (before.destination, before.destination_port) != (after.destination, after.destination_port):
            yield Hop(place, f"{perhaps}rewrites the destination to {self._to(after)}")
        if (before.source, before.source_port) != (after.source, after.source_port):
            yield Hop(place, f"{perhaps}rewrites the source to {self._from(after)}")

    def _ruled(self, place: str, step: Step) -> Hop:
        if step.rule is None:
            return Hop(place, f"{step.table} {step.chain} {step.does}", _decision(step, ""))
        text = self._names.put_in(step.rule.text.removeprefix(f"-A {step.chain} "))
        shown = f" `{text}`" if text else ""
        return Hop(place, f"{step.table} {step.chain} rule {step.number}{shown}: {step.does}", _decision(step, text))

    def _routed(self, note: Routed) -> Hop:
        place, came = self._place(note.place), self._names.named(note.interface)
        if not note.output:
            return self._lose(Hop(place, f"has no route to {self._address(note.at)}", lost=True), None)
        if not note.forwards:
            return self._lose(Hop(place, f"passes on nothing from {came}: forwarding is off", lost=True), None)
        if note.spent:
            return self._lose(Hop(place, "passes it on no further: it has no hops left", lost=True), None)
        return Hop(place, f"routes it from {came} to {self._names.named(note.output)}")

    def _unanswered(self, note: Unanswered) -> Iterator[Hop]:
        for step in note.steps:
            yield self._ruled(self._place(step.place), step)
        address = self._names.named(_text(note.family, note.towards))
        asked = RESOLUTION[note.family]
        kept = f": ports keep the {note.kept} back" if note.kept else ""
        why = f"rules drop {asked}" if note.dropping else f"{asked} is not answered{kept}"
        text = f"learns no link address of {address}: {why}"
        yield self._lose(Hop(self._place(note.place), text, lost=True), note.dropping)

    def _place(self, sandbox: str) -> str:
        return self._names.place(sandbox)

    def _address(self, at: At, *, source: bool = False) -> str:
        return self._names.named(_text(at.family, at.source if source else at.destination))

    def _to(self, at: At) -> str:
        return self._socket(_text(at.family, at.destination), at.destination_port)

    def _from(self, at: At) -> str:
        return _socket(_text(at.family, at.source), at.source_port)

    def _socket(self, address: str, port: int | None) -> str:
        name = self._names.name(address)
        return f"{_socket(address, port)} ({name})" if name else _socket(address, port)


def _telling(note: Filtered) -> list[Step]:
    """Return the steps that are worth a line: those that did something, and the calls that led to them."""
    kept: list[Step] = []
    for step in reversed(note.steps):
        called = step.does.split()[-1] if step.does.split()[-2:-1] in (["jump"], ["goto"]) else ""
        if called and not (kept and (kept[-1].table, kept[-1].chain) == (step.table, called)):
            continue
        if step.number or step.drops or _lets_through(note, step):
            kept.append(step)
    return kept[::-1]


def _lets_through(note: Filtered, step: Step) -> bool:
    """Return whether an accept lets the packet through; elsewhere it only ends a chain."""
    return step.does.endswith("accept") and note.hook in _FILTERS and not step.table.endswith(_FOR_OTHER_ENDS)


def _decision(step: Step, text: str) -> Decision:
    return Decision(step.table, step.chain, step.number, text, step.does, step.packets)


def _text(family: int, address: int) -> str:
    return str(ip_address(address.to_bytes(4 if family == 4 else 16)))


def _socket(address: str, port: int | None) -> str:
    if port is None:
        return address
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
