"""The nearest change that would make a packet's fate another one, in the words of Docker's configuration."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from ipaddress import ip_address
from typing import TYPE_CHECKING

from exporter.evaluate.enforced.trace import (
    Arrived,
    Bridged,
    Disbelieved,
    Filtered,
    Linked,
    Routed,
    Sent,
    Unanswered,
)
from exporter.evaluate.engine_rules import USERS
from exporter.evaluate.telling import RESOLUTION
from exporter.model.firewall import Divert, Field, Hook, NameIs, Rewrite, Terminate, Translate, Translation
from exporter.model.reach import HOST, Via
from exporter.model.snapshot import GatewayMode

if TYPE_CHECKING:
    from collections.abc import Callable

    from exporter.evaluate.enforced.trace import Note, Traced
    from exporter.evaluate.enforced.walk import Step
    from exporter.evaluate.names import Names
    from exporter.evaluate.telling import Told
    from exporter.model.addresses import Address
    from exporter.model.explanation import Packet
    from exporter.model.namespace import Namespace
    from exporter.model.reach import Path
    from exporter.model.report import ContainerSummary
    from exporter.model.snapshot import Kernel, Network, Sandbox, Snapshot

_ENGINES = ("DOCKER", "filter-forward", "nat-", "raw-")
"""How the names of the engine's own chains begin, in iptables and in nftables."""
_ENGINES_ANYWHERE = re.compile(
    r"-A FORWARD -i (\S+) (! )?-o \1 -j (ACCEPT|DROP)"
    r"|-A FORWARD -o \S+ -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"
    r"|-A PREROUTING -d \S+ ! -i \S+ (-p \S+ .*)?-j DROP"
)
"""Rules that engines write into chains which are not theirs: for bridges, and against direct routing."""

_APART = {
    Via.SAME_SANDBOX: "a network namespace of its own for one of the two",
    Via.LINK: "{source} without its link to {destination}",
    Via.MACVLAN: "{source} or {destination} off network {network}",
    Via.IPVLAN: "{source} or {destination} off network {network}",
    Via.OVERLAY: "{source} or {destination} off network {network}",
    Via.PLUGIN: "{source} or {destination} off network {network}",
    Via.PUBLISHED_PORT: "{destination} without the published port, or with it bound to 127.0.0.1",
}


_HEARD = "a link that lets the two hear each other"


@dataclass(frozen=True, slots=True)
class Case:
    """A packet from one container to another, and what became of it. `names` are those of places.

    `arrives` tells whether it would with another kernel.
    """

    snapshot: Snapshot
    source: ContainerSummary
    destination: ContainerSummary
    packet: Packet
    told: Told
    traced: Traced
    names: Names
    arrives: Callable[[Kernel], bool]

    @property
    def family(self) -> int:
        """Return the version of IP."""
        return ip_address(self.packet.address).version

    def sandbox(self, container: ContainerSummary) -> Sandbox:
        """Return a container's sandbox."""
        return self.snapshot.sandboxes[container.sandbox]

    def shared(self) -> list[Network]:
        """Return the networks that both containers are on."""
        mine = {endpoint.network_id for endpoint in self.sandbox(self.source).endpoints}
        theirs = (endpoint.network_id for endpoint in self.sandbox(self.destination).endpoints)
        return [self.snapshot.networks[network] for network in theirs if network in mine]


def closing(case: Case, path: Path) -> str:
    """Return what would close a path."""
    network = next((each for each in case.snapshot.networks.values() if each.name == path.network), None)
    unseen = next((note for note in case.traced.notes if isinstance(note, Linked) and note.unseen), None)
    if unseen is not None:
        link = f"bridge {unseen.bridge}" if unseen.bridge else f"{unseen.output} of {case.source.name}"
        return f"{link} without what it is connected to"
    sent_by = _last_rule(case, _sends_aside) if path.undecided else ""
    if sent_by:
        return f"{sent_by} taken away"
    if path.via is Via.HOST:
        inside = case.source if case.source.sandbox == HOST else case.destination
        return f"{inside.name} outside of the host's namespace (without --network host)"
    led_by = leading(case)
    if path.via is Via.PUBLISHED_PORT and led_by:
        return f"{led_by} taken away"
    if path.via is Via.PUBLISHED_PORT and ip_address(case.packet.address).is_loopback:
        return f"{case.destination.name} without the published port"
    if path.via in _APART:
        names = {"source": case.source.name, "destination": case.destination.name, "network": path.network}
        return _APART[path.via].format(**names)
    users = _accepted_by_user(case, network)
    if users is not None:
        return _without(case, users)
    if path.via is Via.ROUTED:
        mode = network.gateway_mode(case.family) if network else GatewayMode.NAT
        if mode in (GatewayMode.ROUTED, GatewayMode.NAT_UNPROTECTED):
            return f"network {path.network} in gateway mode nat, not {mode}"
        return _dropped(case)
    return _bridge_closed(case, network)


def _bridge_closed(case: Case, network: Network | None) -> str:
    if network is not None and network.icc is False and case.told.past is not None:
        return f"{_switch(case)}=1: without it enable_icc=false of {network.name} does nothing"
    if network is None or network.icc is False or not _managed(case):
        return _dropped(case)
    setting = "--icc=false of the daemon" if network.default else f"enable_icc=false of network {network.name}"
    return f"{setting}, or {case.source.name} or {case.destination.name} off that network"


def _managed(case: Case) -> bool:
    """Return whether the engine writes rules about packets of this family at all."""
    kernel = case.snapshot.kernel
    return kernel is None or any(
        name.startswith(_ENGINES)
        for table in kernel.host.firewall.tables
        if table.family == _tables(case)
        for name in table.chains
    )


def _dropped(case: Case) -> str:
    """Return a rule that would drop the packet, where it meets rules that are for that."""
    notes = [note for note in case.traced.notes if not isinstance(note, Filtered) or note.place == HOST]
    chain = f"{_tables(case)} filter FORWARD"
    if any(step.does == f"jump {USERS}" for note in notes if isinstance(note, Filtered) for step in note.steps):
        return f"a rule in {USERS} that drops it"
    if any(
        (isinstance(note, Bridged) and note.filtered)
        or (isinstance(note, Routed) and note.place == HOST and not note.local)
        for note in notes
    ):
        return f"a rule at the beginning of {chain} that drops it"
    if case.told.past is not None:
        return f"{_switch(case)}=1, and a rule at the beginning of {chain} that drops it"
    return f"a rule in {_tables(case)} filter INPUT inside {case.destination.name} that drops it"


def _tables(case: Case) -> str:
    return "ip" if case.family == 4 else "ip6"


def _switch(case: Case) -> str:
    return f"net.bridge.bridge-nf-call-{_tables(case)}tables"


def _accepted_by_user(case: Case, network: Network | None) -> Step | None:
    """Return the rule that is not the engine's and lets the packet through, where that is the last word.

    An accept for all that stays on a bridge is not the engine's where it is to keep apart who is on it.
    """
    last = next(iter(case.told.passed[::-1]), None)
    if last is None or last.step is None or not last.step.number:
        return None
    promised = network is None or network.icc is not False
    return None if _is_engines(last.step, anywhere=promised) else last.step


def _without(case: Case, step: Step) -> str:
    """Return what becomes of a rule that lets the packet through: others may do so as well."""
    kernel, rule = case.snapshot.kernel, _rule(case, step)
    if kernel is not None and case.arrives(_taken_away(kernel, step)):
        return f"a rule before {rule} that drops it"
    return f"{rule} taken away"


def _taken_away(kernel: Kernel, step: Step) -> Kernel:
    """Return the kernel without a rule."""
    if step.place == HOST:
        return replace(kernel, host=_unruled(kernel.host, step))
    inside = _unruled(kernel.sandboxes[step.place], step)
    return replace(kernel, sandboxes={**kernel.sandboxes, step.place: inside})


def _unruled(namespace: Namespace, step: Step) -> Namespace:
    tables = list(namespace.firewall.tables)
    for number, table in enumerate(tables):
        chain = table.chains.get(step.chain)
        if chain is not None and chain.rules[step.number - 1 : step.number] == (step.rule,):
            rules = (*chain.rules[: step.number - 1], *chain.rules[step.number :])
            tables[number] = replace(table, chains={**table.chains, step.chain: replace(chain, rules=rules)})
    return replace(namespace, firewall=replace(namespace.firewall, tables=tuple(tables)))


def leading(case: Case) -> str:
    """Return the last rule that leads the packet to somebody else and is not the engine's, empty without one."""
    return _last_rule(case, _leads)


def _last_rule(case: Case, does: Callable[[Step], bool]) -> str:
    filtered = (note for note in case.traced.notes if isinstance(note, Filtered))
    found = [step for note in filtered for step in note.steps if does(step) and not _is_engines(step)]
    return _rule(case, found[-1]) if found else ""


def _sends_aside(step: Step) -> bool:
    """Return whether a rule sends the packet, or a copy of it, elsewhere."""
    steps = step.rule.steps if step.rule is not None else ()
    return any(isinstance(each, Divert) or (isinstance(each, Rewrite) and each.copied) for each in steps)


def _leads(step: Step) -> bool:
    return step.rule is not None and any(
        (isinstance(each, Translate) and each.kind in (Translation.DNAT, Translation.REDIRECT))
        or (isinstance(each, Rewrite) and each.field is Field.DESTINATION and not each.copied)
        for each in step.rule.steps
    )


def opening(case: Case) -> str:
    """Return what would let a packet through that is lost."""
    misled, lost = _misled(case), case.told.lost
    if misled:
        return misled
    if lost is None:
        return _published(case)
    if isinstance(lost.note, Filtered | Unanswered) and lost.step is not None:
        return _unfiltered(case, lost.note, lost.step)
    return _carried_on(case, lost.note, lost.hop.place)


def _carried_on(case: Case, note: Note | None, place: str) -> str:
    """Return what would keep a packet from being lost in a place, where no rule drops it."""
    match note:
        case Unanswered():
            return _answering(case, note)
        case Routed(output=output, forwards=True, spent=True) if output:
            return "more hops for what is sent (net.ipv4.ip_default_ttl, net.ipv6.conf.*.hop_limit, hoplimit of routes)"
        case Routed(output=output, forwards=False) if output:
            family = "ipv6.conf.all" if ":" in case.packet.address else f"ipv4.conf.{note.interface}"
            return f"net.{family}.forwarding=1 in {place}"
        case Disbelieved():
            return _believed(note, place)
        case Linked(strayed=True):
            return f"{note.output} in {place} that asks for link addresses (ip neigh, ip link set arp on)"
        case Linked(deaf=deaf) if deaf:
            return _audible(note)
        case Sent() | Linked() | Routed():
            return _together(case)
        case _:
            return _published(case)


def _misled(case: Case) -> str:
    """Return what would let packets come to the destination that do not even go there, empty for others."""
    own, led_by = case.sandbox(case.destination).addresses, leading(case)
    if led_by:
        return f"{led_by} taken away" if int(ip_address(case.packet.address)) in own else ""
    if not own or not _is_nobodys(case):
        return ""
    return f"an address of {case.destination.name}, such as {ip_address(own[0])}: nobody has {case.packet.address}"


def _believed(note: Disbelieved, place: str) -> str:
    """Return the switches of which the higher one counts, of all's and the interface's own."""
    if note.own:
        name = "route_localnet" if ip_address(note.at.source).is_loopback else "accept_local"
        return f"net.ipv4.conf.{note.interface}.{name}=1 in {place}"
    switches = (f"net.ipv4.conf.{name}.rp_filter=0" for name in ("all", note.interface))
    return f"{' and '.join(switches)} in {place}"


def _unfiltered(case: Case, note: Filtered | Unanswered, step: Step) -> str:
    if step.place != HOST and step.number:
        return f"{_rule(case, step)} taken away"
    network = _bridged(case, note, step)
    if network is not None and network.icc is False and _is_icc(step):
        return _joined(network)
    # of a network that joins its containers, a rule that parts them was left behind
    if step.rule is not None and (not _is_engines(step) or (network is not None and _is_icc(step))):
        return f"{_rule(case, step)} taken away"
    if step.number:
        return _together(case)
    accepts = f"policy accept of {_chain(case, step)}, or a rule there that accepts it"
    if isinstance(note, Unanswered) or note.hook is not Hook.FORWARD or step.place != HOST:
        return accepts
    if network is not None and network.icc is not False:
        return f"the engine's rules, which it writes anew when it starts, or {accepts}"
    return _together(case)


def _bridged(case: Case, note: Filtered | Unanswered, step: Step) -> Network | None:
    """Return the network that both are on and whose bridge the packet came in by, or its rule is about."""
    if isinstance(note, Filtered):
        names: tuple[str, ...] = (note.interface,)
    else:
        steps = step.rule.steps if step.rule is not None else ()
        names = tuple(name for each in steps if isinstance(each, NameIs) for name in each.names)
    return next((each for each in case.shared() if each.interface and each.interface in names), None)


def _joined(network: Network) -> str:
    setting = "--icc=true of the daemon" if network.default else f"enable_icc=true of network {network.name}"
    return f"{setting}, or another network that both are on"


def _is_icc(step: Step) -> bool:
    """Return whether a rule is the engine's for enable_icc=false: it asks for the bridge and for nothing else."""
    if step.rule is None or step.chain == USERS:
        return False
    return all(isinstance(each, NameIs | Terminate) for each in step.rule.steps)


def _is_engines(step: Step, *, anywhere: bool = True) -> bool:
    """Return whether a rule is the engine's: in one of its chains, or, `anywhere`, as engines write it elsewhere."""
    if step.chain == USERS or step.rule is None:
        return False
    return step.chain.startswith(_ENGINES) or (anywhere and _ENGINES_ANYWHERE.fullmatch(step.rule.text) is not None)


def _rule(case: Case, step: Step) -> str:
    return f"rule {step.number} of {_chain(case, step)}"


def _chain(case: Case, step: Step) -> str:
    inside = "" if step.place == HOST else f" inside {case.names.place(step.place)}"
    return f"{step.table} {step.chain}{inside}"


def _answering(case: Case, note: Unanswered) -> str:
    if note.kept:
        return _HEARD
    switches = "arp_ignore and arp_filter of net.ipv4.conf" if note.family == 4 else "ip neigh"
    return f"{RESOLUTION[note.family]} that {case.names.place(note.receiver)} answers (ip link set arp on, {switches})"


def _audible(note: Linked) -> str:
    if "isolated" in note.deaf:
        return f"bridge link set dev {note.ports[0]} isolated off"
    return _HEARD


def _together(case: Case) -> str:
    """Return what lets two containers talk that no network joins."""
    if _lost_its_address(case):
        return f"the address {case.packet.address} inside {case.destination.name}"
    if case.destination.sandbox == HOST:
        return f"a bridge network that {case.source.name} is on"
    shared = case.shared()
    if shared and all(network.icc is False for network in shared):
        return _joined(shared[0])
    if shared or case.source.sandbox == HOST:
        return _published(case)
    return (
        f"a network that {case.source.name} and {case.destination.name} are both on, or a published port of the latter"
    )


def _is_nobodys(case: Case) -> bool:
    """Return whether the engine gave nobody the packet's address, and no namespace that was read has it."""
    address, kernel = ip_address(case.packet.address), case.snapshot.kernel
    read = (kernel.host, *kernel.sandboxes.values()) if kernel is not None else ()
    return (
        not address.is_loopback
        and not any(int(address) in sandbox.addresses for sandbox in case.snapshot.sandboxes.values())
        and not any(_has(namespace, address) for namespace in read)
    )


def _lost_its_address(case: Case) -> bool:
    """Return whether the engine gave the destination an address that is not there any more."""
    address = ip_address(case.packet.address)
    namespace = case.snapshot.kernel and case.snapshot.kernel.sandboxes.get(case.destination.sandbox)
    if not namespace or int(address) not in case.sandbox(case.destination).addresses:
        return False
    return not _has(namespace, address)


def _has(namespace: Namespace, address: Address) -> bool:
    return any(own.ip == address for interface in namespace.interfaces.values() for own in interface.addresses)


def _published(case: Case) -> str:
    """Return what leads packets to a container that came to another place, or to none."""
    elsewhere = next((note for note in reversed(case.traced.notes) if isinstance(note, Arrived)), None)
    loopback = ip_address(case.packet.address).is_loopback
    if elsewhere is not None and elsewhere.place not in (HOST, case.destination.sandbox) and not loopback:
        return f"the address {case.packet.address} for {case.destination.name} alone"
    return f"a published port of {case.destination.name}"
