"""The nearest change that would make a packet's fate another one, in the words of Docker's configuration."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING

from exporter.evaluate.enforced.trace import Arrived, Disbelieved, Filtered, Linked, Routed, Sent
from exporter.model.firewall import Field, NameIs, Rewrite, Terminate, Translate, Translation
from exporter.model.reach import HOST, Via
from exporter.model.snapshot import GatewayMode

if TYPE_CHECKING:
    from exporter.evaluate.enforced.trace import Traced
    from exporter.evaluate.enforced.walk import Step
    from exporter.evaluate.names import Names
    from exporter.evaluate.telling import Told
    from exporter.model.explanation import Packet
    from exporter.model.reach import Path
    from exporter.model.report import ContainerSummary
    from exporter.model.snapshot import Network, Sandbox, Snapshot

_USERS_CHAIN = "DOCKER-USER"
_ENGINES = ("DOCKER", "filter-forward", "nat-", "raw-")
"""How the names of the engine's own chains begin, in iptables and in nftables."""

_APART = {
    Via.SAME_SANDBOX: "a network namespace of its own for one of the two",
    Via.LINK: "{source} without its link to {destination}",
    Via.MACVLAN: "{source} or {destination} off network {network}",
    Via.IPVLAN: "{source} or {destination} off network {network}",
    Via.OVERLAY: "{source} or {destination} off network {network}",
    Via.PLUGIN: "{source} or {destination} off network {network}",
    Via.PUBLISHED_PORT: "{destination} without the published port, or with it bound to 127.0.0.1",
}


@dataclass(frozen=True, slots=True)
class Case:
    """A packet from one container to another, and what became of it. `names` are those of places."""

    snapshot: Snapshot
    source: ContainerSummary
    destination: ContainerSummary
    packet: Packet
    told: Told
    traced: Traced
    names: Names

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
    users = _accepted_by_user(case)
    unseen = next((note for note in case.traced.notes if isinstance(note, Linked) and note.unseen), None)
    if unseen is not None:
        link = f"bridge {unseen.bridge}" if unseen.bridge else f"{unseen.output} of {case.source.name}"
        return f"{link} without what it is connected to"
    if path.via is Via.HOST:
        inside = case.source if case.source.sandbox == HOST else case.destination
        return f"{inside.name} outside of the host's namespace (without --network host)"
    led_by = leading(case)
    if path.via is Via.PUBLISHED_PORT and led_by:
        return f"{led_by} taken away"
    if path.via in _APART:
        names = {"source": case.source.name, "destination": case.destination.name, "network": path.network}
        return _APART[path.via].format(**names)
    if users is not None:
        return f"{_rule(users)} taken away"
    if path.via is Via.ROUTED:
        mode = network.gateway_mode(6 if ":" in case.packet.address else 4) if network else GatewayMode.NAT
        if mode in (GatewayMode.ROUTED, GatewayMode.NAT_UNPROTECTED):
            return f"network {path.network} in gateway mode nat, not {mode}"
        return f"a rule in {_USERS_CHAIN} that drops what comes to network {path.network}"
    return _bridge_closed(case, network)


def _bridge_closed(case: Case, network: Network | None) -> str:
    if network is not None and network.icc is False and case.told.past is not None:
        family = "ip6" if ":" in case.packet.address else "ip"
        return f"net.bridge.bridge-nf-call-{family}tables=1: without it enable_icc=false of {network.name} does nothing"
    if network is None or network.icc is False:
        return f"a rule in {_USERS_CHAIN} that drops it"
    setting = "--icc=false of the daemon" if network.default else f"enable_icc=false of network {network.name}"
    return f"{setting}, or {case.source.name} or {case.destination.name} off that network"


def _accepted_by_user(case: Case) -> Step | None:
    """Return the rule that is not the engine's and lets the packet through, where that is the last word."""
    last = next(iter(case.told.passed[::-1]), None)
    if last is None or last.step is None or not last.step.number or _is_engines(last.step):
        return None
    return last.step


def leading(case: Case) -> str:
    """Return the last rule that leads the packet to somebody else and is not the engine's, empty without one."""
    filtered = (note for note in case.traced.notes if isinstance(note, Filtered))
    led = [(step, note.place) for note in filtered for step in note.steps if _leads(step) and not _is_engines(step)]
    return _rule_in(case, *led[-1]) if led else ""


def _leads(step: Step) -> bool:
    return step.rule is not None and any(
        (isinstance(each, Translate) and each.kind in (Translation.DNAT, Translation.REDIRECT))
        or (isinstance(each, Rewrite) and each.field is Field.DESTINATION)
        for each in step.rule.steps
    )


def opening(case: Case) -> str:
    """Return what would let a packet through that is lost."""
    lost, led_by = case.told.lost, leading(case)
    if led_by and int(ip_address(case.packet.address)) in case.sandbox(case.destination).addresses:
        return f"{led_by} taken away"
    if lost is None:
        return _published(case)
    note, step, place = lost.note, lost.step, lost.hop.place
    match note:
        case Filtered() if step is not None:
            inside = note.place != HOST
            return f"{_rule_in(case, step, note.place)} taken away" if inside else _unfiltered(case, note, step)
        case Routed(output=output, forwards=True, spent=True) if output:
            return "more hops for what is sent (net.ipv4.ip_default_ttl, net.ipv6.conf.*.hop_limit, hoplimit of routes)"
        case Routed(output=output) if output:
            family = "ipv6.conf.all" if ":" in case.packet.address else f"ipv4.conf.{note.interface}"
            return f"net.{family}.forwarding=1 in {place}"
        case Disbelieved():
            return f"net.ipv4.conf.{note.interface}.rp_filter=0 in {place}"
        case Linked(strayed=True):
            return f"{note.output} in {place} that asks for link addresses (ip neigh, ip link set arp on)"
        case Linked(deaf=deaf) if deaf:
            return _audible(note)
        case Sent() | Linked() | Routed():
            return _together(case)
        case _:
            return _published(case)


def _unfiltered(case: Case, note: Filtered, step: Step) -> str:
    network = next((each for each in case.shared() if each.interface and each.interface == note.interface), None)
    if network is not None and network.icc is False and _is_icc(step):
        setting = "--icc=true of the daemon" if network.default else f"enable_icc=true of network {network.name}"
        return f"{setting}, or another network that both are on"
    if step.rule is not None and not _is_engines(step):
        return f"{_rule(step)} taken away"
    return _together(case)


def _is_icc(step: Step) -> bool:
    """Return whether a rule is the engine's for enable_icc=false: it asks for the bridge and for nothing else."""
    if step.rule is None or step.chain == _USERS_CHAIN:
        return False
    return all(isinstance(each, NameIs | Terminate) for each in step.rule.steps)


def _is_engines(step: Step) -> bool:
    """Return whether a rule is certainly the engine's: it stands in one of its chains, or refers to one."""
    return step.chain != _USERS_CHAIN and step.chain.startswith(_ENGINES)


def _rule(step: Step) -> str:
    return f"rule {step.number} of {step.table} {step.chain}"


def _rule_in(case: Case, step: Step, place: str) -> str:
    return _rule(step) if place == HOST else f"{_rule(step)} inside {case.names.place(place)}"


def _audible(note: Linked) -> str:
    if "isolated" in note.deaf:
        return f"bridge link set dev {note.ports[0]} isolated off"
    return "a link that lets the two hear each other"


def _together(case: Case) -> str:
    """Return what lets two containers talk that no network joins."""
    if HOST in (case.source.sandbox, case.destination.sandbox) or case.shared():
        return _published(case)
    return (
        f"a network that {case.source.name} and {case.destination.name} are both on, or a published port of the latter"
    )


def _published(case: Case) -> str:
    """Return what leads packets to a container that came to another place, or to none."""
    elsewhere = next((note for note in reversed(case.traced.notes) if isinstance(note, Arrived)), None)
    if elsewhere is not None and elsewhere.place not in (HOST, case.destination.sandbox):
        return f"the address {case.packet.address} for {case.destination.name} alone"
    return f"a published port of {case.destination.name}"
