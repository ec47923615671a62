"""Where interfaces lead that no engine made, and what a part of a host tells of all of it then.

What is expected here is what packets did in tests/conformance/test_wiring.py.
"""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, ip_network
from itertools import count, pairwise
from typing import TYPE_CHECKING, Any

import pytest

from exporter.evaluate import evaluate, explain
from exporter.evaluate.enforced import enforced_reach
from exporter.evaluate.kinds import sample
from exporter.model.firewall import (
    Backend,
    Base,
    Chain,
    Field,
    Firewall,
    Hook,
    NameIs,
    Rule,
    Table,
    TableFamily,
    Terminate,
)
from exporter.model.firewall import Verdict as Decision
from exporter.model.namespace import Hop, Interface, Namespace, Port, Route, RouteKind
from exporter.model.reach import Verdict
from exporter.model.snapshot import Sandbox
from tests.evaluate.test_kinds import check
from tests.evaluate.test_kinds_told_apart import town
from tests.kernels import kernel, own_address

if TYPE_CHECKING:
    from exporter.model.reach import PairVerdict
    from exporter.model.snapshot import Snapshot

NEW = 900
"""The index of an interface that somebody made."""


class Hand:
    """A host with two networks, between which its engine lets nobody pass, and somebody who makes interfaces."""

    def __init__(self) -> None:
        self._snapshot = kernel(town()).engine_rules().look().snapshot
        read = self._snapshot.kernel
        assert read is not None
        self._host = read.host
        self._inside = dict(read.sandboxes)
        self._ids = {each.name: each.id for each in self._snapshot.sandboxes.values()}

    def bridge(self, network: str) -> int:
        """Return the index of a network's bridge."""
        name = next(each.interface for each in self._snapshot.networks.values() if each.name == network)
        return next(each.index for each in self._host.interfaces.values() if each.name == name)

    def card(self, container: str) -> Interface:
        """Return a container's interface."""
        own = self._inside[self._ids[container]].interfaces.values()
        return next(each for each in own if each.name == "eth0")

    def address(self, container: str) -> IPv4Address:
        """Return a container's address."""
        return next(each.ip for each in self.card(container).addresses if isinstance(each.ip, IPv4Address))

    def gateway(self, container: str) -> str:
        """Return the host's address on a container's network."""
        return f"{str(self.address(container)).rpartition('.')[0]}.1"

    def led(self, to: str, via: str, network: str = "") -> None:
        """Give the host a route by a gateway on a network, or on what it was given last."""
        hop = Hop(self.bridge(network) if network else NEW, IPv4Address(via))
        route = Route(254, RouteKind.UNICAST, ip_network(to), (hop,))
        self._host = replace(self._host, routes=(*self._host.routes, route))

    def opened(self) -> None:
        """Take away what keeps networks apart."""
        self._host = replace(self._host, firewall=Firewall())

    def kept_from(self, port: str) -> None:
        """Drop what leaves bridges by a port, as br_netfilter shows it to iptables."""
        rule = Rule((NameIs(Field.OUTPUT_PORT, (port,)), Terminate(Decision.DROP)))
        chain = Chain("FORWARD", (rule,), Base(Hook.FORWARD, -1))
        table = Table(TableFamily.IP, "filter", Backend.IPTABLES_LEGACY, {"FORWARD": chain})
        firewall = Firewall((*self._host.firewall.tables, table))
        settings = {**self._host.settings, "bridge/bridge-nf-call-iptables": "1"}
        self._host = replace(self._host, firewall=firewall, settings=settings)

    def switched(self, container: str, **settings: str) -> None:
        """Set sysctls of IPv4 for all interfaces of a container."""
        name = self._ids[container]
        told = {f"ipv4/conf/all/{switch}": value for switch, value in settings.items()}
        self._inside[name] = replace(self._inside[name], settings={**self._inside[name].settings, **told})

    def on_host(self, *interfaces: Interface) -> None:
        """Give the host more interfaces, or others in the place of its own."""
        self._host = _with(self._host, *interfaces)

    def inside(self, container: str, *interfaces: Interface, to: str = "", via: str = "", by: int = 0) -> None:
        """Give a container more interfaces, and a route to an address by the first one, or by a gateway.

        That is at its card, or at another interface.
        """
        name = self._ids[container]
        self._inside[name] = _with(self._inside[name], *interfaces)
        if to:
            hop = Hop(by or self.card(container).index, IPv4Address(via)) if via else Hop(interfaces[0].index)
            route = Route(254, RouteKind.UNICAST, ip_network(to), (hop,))
            self._inside[name] = replace(self._inside[name], routes=(*self._inside[name].routes, route))

    @property
    def snapshot(self) -> Snapshot:
        """The host as it is now."""
        assert self._snapshot.kernel is not None
        return replace(
            self._snapshot, kernel=replace(self._snapshot.kernel, host=self._host, sandboxes=dict(self._inside))
        )

    def bystander(self, number: int, *interfaces: Interface, **settings: str) -> None:
        """Make a namespace that is no container's, which passes packets on, with interfaces and sysctls of all."""
        name = f"namespace {number}"
        told = {f"ipv4/conf/{each.name}/forwarding": "1" for each in interfaces}
        told |= {f"ipv4/conf/all/{switch}": value for switch, value in settings.items()}
        self._inside[name] = _with(Namespace(settings=told, inode=number), *interfaces)
        boxes = {name: Sandbox(name, f"{name} (rtr)", ()), **self._snapshot.sandboxes}
        self._snapshot = replace(self._snapshot, sandboxes=boxes)

    def interface(self, index: int) -> Interface:
        """Return one of the host's interfaces."""
        return self._host.interfaces[index]

    def pair(self, source: str, destination: str) -> PairVerdict:
        """Return what becomes of a pair."""
        seen = self.snapshot
        assert seen.kernel is not None
        return enforced_reach(seen, seen.kernel).between(self._ids[source], self._ids[destination])

    def verdict(self, source: str, destination: str) -> Verdict:
        """Return what becomes of a pair, having asked whether a part of the host tells the same."""
        check(self.snapshot)
        return self.pair(source, destination).verdict

    def doubts(self, source: str, destination: str, address: str) -> set[str]:
        """Return what is not known of packets to one of a container's addresses that may arrive, by any protocol."""
        paths = self.pair(source, destination).paths
        return {path.undecided for path in paths if address in path.addresses}


def _with(namespace: Namespace, *interfaces: Interface) -> Namespace:
    """Return a namespace with interfaces, and with the routes that come with addresses which it did not have."""
    had = {item for each in namespace.interfaces.values() for item in each.addresses}
    new = [(each.index, item) for each in interfaces for item in each.addresses if item not in had]
    local = (Route(255, RouteKind.LOCAL, ip_network(item.ip), (Hop(index),)) for index, item in new)
    linked = (Route(254, RouteKind.UNICAST, item.network, (Hop(index),)) for index, item in new)
    changed = {each.index: each for each in interfaces}
    return replace(
        namespace, interfaces={**namespace.interfaces, **changed}, routes=(*namespace.routes, *local, *linked)
    )


def made(kind: str, address: str = "", *, index: int = NEW, **parts: Any) -> Interface:  # noqa: ANN401
    """Return an interface that somebody made."""
    own = (own_address(address),) if address else ()
    return replace(
        Interface(index, f"if{index}", kind, f"02:00:00:00:03:{(index - NEW) % 256:02x}", True, addresses=own), **parts
    )


@pytest.mark.parametrize(
    ("kind", "verdict"),
    {"vxlan": Verdict.UNKNOWN, "wireguard": Verdict.UNKNOWN, "tun": Verdict.UNKNOWN, "dummy": Verdict.BLOCKED}.items(),
)
def test_ends_of_tunnels(kind: str, verdict: Verdict) -> None:
    """Where tunnels lead nobody tells; a dummy leads nowhere."""
    hand = Hand()
    hand.inside("a1", made(kind, "10.64.0.1/24"))
    hand.inside("b1", made(kind, "10.64.0.2/24"))
    assert hand.verdict("a1", "b1") is verdict
    assert hand.verdict("a1", "b2") is Verdict.BLOCKED


@pytest.mark.parametrize(("kind", "verdict"), {"vxlan": Verdict.UNKNOWN, "wireguard": Verdict.BLOCKED}.items())
def test_what_is_behind_a_tunnel(kind: str, verdict: Verdict) -> None:
    """By a tunnel of frames, whoever is there may answer for all of his addresses; VPNs lead all else far away."""
    hand = Hand()
    hand.inside("a1", made(kind, "10.64.1.1/24", arp=kind == "vxlan"), to=f"{hand.address('b1')}/32")
    hand.inside("b1", made(kind, "10.64.2.1/24", arp=kind == "vxlan"), to=f"{hand.address('a1')}/32")
    assert hand.verdict("a1", "b1") is verdict


def test_a_tunnel_to_the_host() -> None:
    """The host may be at the other end of a container's tunnel, and the containers beside it are not."""
    hand = Hand()
    hand.on_host(made("wireguard", "10.64.0.1/24", arp=False))
    hand.inside("b1", made("wireguard", "10.64.0.2/24", arp=False))
    assert hand.verdict("b1", "a1") is Verdict.BLOCKED


@pytest.mark.parametrize(("mode", "verdict"), {"l2": Verdict.REACHABLE, "l3": Verdict.UNKNOWN}.items())
def test_ipvlan_of_a_containers_card(mode: str, verdict: Verdict) -> None:
    """Those of the second layer are where the card is; who asks those of the third is not known."""
    hand = Hand()
    for name, address in (("a1", "10.64.0.1/24"), ("a2", "10.64.0.2/24")):
        card = hand.card(name)
        hand.inside(name, made("ipvlan", address, mode=mode, peer=card.index, peer_here=True, mac=card.mac))
    told = hand.doubts("a1", "a2", "10.64.0.2")
    assert (told == {""}) is (verdict is Verdict.REACHABLE)
    assert told


def test_a_cable_from_container_to_container() -> None:
    """Its ends name each other; where others have interfaces of the same indexes, nobody can tell whose they are."""
    hand = Hand()
    hand.inside("a1", made("veth", "10.64.0.1/24", peer=NEW + 1))
    hand.inside("b1", made("veth", "10.64.0.2/24", index=NEW + 1, peer=NEW))
    assert hand.verdict("a1", "b1") is Verdict.REACHABLE
    hand.inside("b2", made("veth", "10.64.0.2/24", index=NEW + 1, peer=NEW))
    assert hand.verdict("a1", "b1") is Verdict.UNKNOWN


def test_a_cable_whose_ends_have_one_index() -> None:
    """They name each other as well; one of three such ends may be the other end of any."""
    hand = Hand()
    for container, own in (("a1", "10.64.0.1/24"), ("b1", "10.64.0.2/24")):
        hand.inside(container, made("veth", own, peer=NEW))
    assert hand.verdict("a1", "b1") is Verdict.REACHABLE
    hand.inside("b2", made("veth", "10.64.0.2/24", peer=NEW))
    assert hand.verdict("a1", "b1") is Verdict.UNKNOWN


@pytest.mark.parametrize("network", ["n0", "n1"])
def test_a_bridge_with_two_ports_inside(network: str) -> None:
    """A container that joins two networks passes on what it is not seen to."""
    hand = Hand()
    card = replace(hand.card("a1"), master=NEW + 2, addresses=())
    other = {"n0": "a2", "n1": "b2"}[network]
    hand.inside(
        "a1", card, made("bridge", "10.64.0.1/24", index=NEW + 2), made("veth", master=NEW + 2, peer=NEW + 1),
    )  # fmt: skip
    hand.inside("b1", made("veth", "10.64.0.2/24", index=NEW + 1, peer=NEW))
    hand.inside(other, replace(hand.card(other), addresses=(*hand.card(other).addresses, own_address("10.64.0.3/24"))))
    assert hand.verdict("b1", other) is (Verdict.UNKNOWN if network == "n0" else Verdict.REACHABLE)


def test_a_cable_between_bridges() -> None:
    """What it leads from one to the other is not followed; who has no address there is not concerned."""
    hand = Hand()
    hand.on_host(
        made("veth", master=hand.bridge("n0"), peer=NEW + 1, peer_here=True),
        made("veth", index=NEW + 1, master=hand.bridge("n1"), peer=NEW, peer_here=True),
    )
    assert hand.verdict("a1", "b1") is Verdict.BLOCKED
    a1 = hand.card("a1")
    hand.inside("a1", replace(a1, addresses=(*a1.addresses, own_address("10.64.0.1/24"))))
    b1 = hand.card("b1")
    hand.inside("b1", replace(b1, addresses=(*b1.addresses, own_address("10.64.0.2/24"))), to="10.64.0.1/32")
    assert hand.verdict("b1", "a1") is Verdict.UNKNOWN
    assert hand.verdict("b1", "a2") is Verdict.BLOCKED


@pytest.mark.parametrize(("number", "verdict"), {7: Verdict.UNKNOWN, 8: Verdict.BLOCKED}.items())
def test_a_router_that_is_no_container(number: int, verdict: Verdict) -> None:
    """One unknown namespace on two bridges may pass packets on; two of them, each on one, do not."""
    hand = Hand()
    hand.on_host(
        made("veth", master=hand.bridge("n0"), peer=5, peer_namespace=7),
        made("veth", index=NEW + 1, master=hand.bridge("n1"), peer=6, peer_namespace=number),
    )
    assert hand.verdict("a1", "b1") is Verdict.BLOCKED
    for source, destination in (("a1", "b1"), ("b1", "a1")):
        router = str(hand.address(source)).rpartition(".")[0] + ".250"
        hand.inside(source, to=f"{hand.address(destination)}/32", via=router)
    assert hand.verdict("a1", "b1") is verdict
    assert hand.verdict("a1", "b2") is Verdict.BLOCKED


STRANGE = [
    {"kind": "veth", "peer": 5, "peer_namespace": 7},
    {"kind": "tun"},
]
"""Ports of bridges that lead to nobody who is seen: a namespace that is no container's, and a virtual machine."""


@pytest.mark.parametrize("strange", STRANGE, ids=["veth", "tap"])
def test_a_router_on_one_bridge(strange: dict[str, Any]) -> None:
    """Whom nobody knows may pass packets on to those on his own link, and to the host; who asks nobody else stays."""
    hand = Hand()
    router = f"{hand.gateway('a1')[:-1]}250"
    for destination in ("a2", "b1"):
        hand.inside("a1", to=f"{hand.address(destination)}/32", via=router)
    assert hand.verdict("a1", "a2") is Verdict.BLOCKED
    hand.on_host(made(master=hand.bridge("n0"), **strange))
    assert hand.verdict("a1", "a2") is Verdict.UNKNOWN
    assert hand.verdict("a1", "a3") is Verdict.REACHABLE
    assert hand.verdict("a3", "a2") is Verdict.REACHABLE
    # the host keeps the networks apart, whoever it is that sends
    assert hand.verdict("a1", "b1") is Verdict.BLOCKED
    hand.opened()
    assert hand.verdict("a1", "b1") is Verdict.UNKNOWN
    assert hand.verdict("b1", "a1") is Verdict.REACHABLE


@pytest.mark.parametrize("strange", STRANGE, ids=["veth", "tap"])
def test_nobodys_port_of_a_bridge(strange: dict[str, Any]) -> None:
    """Where nobody sends by a gateway that nobody has, whoever is behind it is no router, and one speaks for others."""
    hand = Hand()
    hand.on_host(made(master=hand.bridge("n0"), **strange))
    part = sample(hand.snapshot)
    assert part is not None
    assert len(part.snapshot.sandboxes) < len(hand.snapshot.sandboxes)
    hand.inside("b1", to=f"{hand.address('a1')}/32", via=f"{hand.gateway('b1')[:-1]}250")
    hand.inside("a1", to=f"{hand.address('b2')}/32", via=hand.gateway("a1"))
    assert hand.verdict("a1", "a2") is Verdict.REACHABLE
    assert hand.verdict("a1", "b1") is Verdict.BLOCKED
    assert hand.verdict("b1", "a1") is Verdict.BLOCKED


def test_a_router_that_the_host_leads_to() -> None:
    """What the host sends to nobody's gateway may come back to it, and to others who are on that link."""
    hand = Hand()
    hand.opened()
    hand.on_host(made("veth", master=hand.bridge("n0"), peer=5, peer_namespace=7))
    hand.led(f"{hand.address('b1')}/32", f"{hand.gateway('a1')[:-1]}250", "n0")
    assert hand.verdict("a1", "b1") is Verdict.BLOCKED
    hand.inside("a2", replace(hand.card("a2"), addresses=(*hand.card("a2").addresses, own_address("10.64.0.2/24"))))
    hand.led("10.64.0.2/32", f"{hand.gateway('a1')[:-1]}250", "n0")
    name = hand.interface(hand.bridge("n0")).name
    assert hand.doubts("b1", "a2", "10.64.0.2") == {f"what {name} is connected to"}
    assert hand.doubts("b1", "a2", str(hand.address("a2"))) == {""}


def test_cables_into_a_namespace_that_was_not_read() -> None:
    """Whoever is there may be a bridge or a router between containers, and to bridges that he has ports of."""
    hand = Hand()
    hand.inside("a1", made("veth", "10.64.1.1/24", peer=5, peer_namespace=3))
    hand.inside("b1", made("veth", "10.64.2.1/24", peer=6, peer_namespace=4))
    assert hand.verdict("a1", "b1") is Verdict.BLOCKED
    hand.inside("a1", to="10.64.2.1/32", via="10.64.1.254", by=NEW)
    assert hand.verdict("a1", "b1") is Verdict.UNKNOWN
    assert hand.verdict("b1", "a1") is Verdict.BLOCKED
    # indexes mean something else there: both ends may have the same
    hand.inside("b1", made("veth", "10.64.2.1/24", peer=NEW, peer_namespace=4))
    assert hand.verdict("a1", "b1") is Verdict.UNKNOWN
    hand.on_host(made("veth", peer=NEW, peer_namespace=9))
    assert hand.verdict("a1", "b1") is Verdict.UNKNOWN
    hand.inside("b2", made("veth", "10.64.1.2/24", peer=5, peer_namespace=4))
    assert hand.verdict("a1", "b2") is Verdict.UNKNOWN
    hand.inside("b3", replace(hand.card("b3"), addresses=(*hand.card("b3").addresses, own_address("10.64.3.1/24"))))
    hand.inside("a1", to="10.64.3.1/32", via="10.64.1.254", by=NEW)
    assert hand.verdict("a1", "b3") is Verdict.BLOCKED
    hand.on_host(made("veth", master=hand.bridge("n1"), peer=5, peer_namespace=7))
    assert hand.verdict("a1", "b3") is Verdict.UNKNOWN


def router(hand: Hand, number: int = 7, **settings: str) -> None:
    """Give a namespace that is no container's cables to two bridges."""
    ends = []
    for place, (network, container) in enumerate((("n0", "a1"), ("n1", "b1"))):
        port = made("veth", index=NEW + place, master=hand.bridge(network), peer=5 + place, port=Port())
        hand.on_host(replace(port, peer_inode=number))
        ends.append(made("veth", f"{hand.gateway(container)[:-1]}250/24", index=5 + place, peer=NEW + place))
    hand.bystander(number, *ends, **settings)


def test_a_namespace_that_is_no_containers_and_was_read() -> None:
    """It passes packets on like any other; nobody lives in it."""
    hand = Hand()
    router(hand)
    assert hand.verdict("a1", "b1") is Verdict.BLOCKED
    for source, destination in (("a1", "b1"), ("b1", "a1")):
        hand.inside(source, to=f"{hand.address(destination)}/32", via=f"{hand.gateway(source)[:-1]}250")
    assert hand.verdict("a1", "b1") is Verdict.REACHABLE
    assert hand.verdict("a1", "b2") is Verdict.BLOCKED
    assert hand.verdict("a2", "b1") is Verdict.BLOCKED
    assert not [told for told in evaluate(hand.snapshot).assumptions if "was not read" in told]


def test_a_namespace_that_answers_for_others() -> None:
    """Whoever looks for somebody on his own link finds it in his place."""
    hand = Hand()
    router(hand, proxy_arp="1")
    for source, destination in (("a1", "b1"), ("b1", "a1")):
        hand.inside(source, to=f"{hand.address(destination)}/32", via=f"{hand.address(destination)}")
    assert hand.verdict("a1", "b1") is Verdict.REACHABLE
    assert hand.verdict("a1", "b2") is Verdict.BLOCKED


def test_namespaces_that_are_no_containers_stand_for_themselves() -> None:
    """All others still have somebody who stands for them."""
    hand = Hand()
    router(hand)
    part = sample(hand.snapshot)
    assert part is not None
    assert "namespace 7" in part.snapshot.sandboxes
    assert len(part.snapshot.sandboxes) < len(hand.snapshot.sandboxes)


def test_ways_by_a_namespace_that_is_no_containers_are_told_by_its_name() -> None:
    """Nobody else knows what it is; and it is among no containers."""
    hand = Hand()
    router(hand)
    for source, destination in (("a1", "b1"), ("b1", "a1")):
        hand.inside(source, to=f"{hand.address(destination)}/32", via=f"{hand.gateway(source)[:-1]}250")
    report = evaluate(hand.snapshot)
    assert {each.name for each in report.containers} == {each.name for each in hand.snapshot.containers.values()}
    trips = explain(hand.snapshot, report, "a1", "b1").trips
    assert any("namespace 7 (rtr)" in hop.place for trip in trips for leg in trip.legs for hop in leg.hops)


def test_cables_whose_indexes_are_those_of_one() -> None:
    """Where it was found out which namespaces they lead into, they are told apart."""
    hand = Hand()
    hand.inside("a1", made("veth", "10.64.0.1/24", peer=NEW + 1))
    hand.inside("b1", made("veth", "10.64.0.2/24", index=NEW + 1, peer=NEW))
    assert hand.verdict("a1", "b1") is Verdict.REACHABLE
    hand.inside("a1", made("veth", "10.64.0.1/24", peer=NEW + 1, peer_inode=7))
    hand.inside("b1", made("veth", "10.64.0.2/24", index=NEW + 1, peer=NEW, peer_inode=7))
    assert hand.verdict("a1", "b1") is Verdict.UNKNOWN
    ends = made("veth", peer=NEW + 1), made("veth", index=NEW + 1, peer=NEW)
    hand.bystander(7, *ends)
    assert hand.verdict("a1", "b1") is Verdict.BLOCKED
    hand.bystander(7, *(replace(end, master=5, port=Port()) for end in ends), made("bridge", index=5))
    assert hand.verdict("a1", "b1") is Verdict.UNKNOWN


@pytest.mark.parametrize("strange", STRANGE, ids=["veth", "tap"])
def test_who_was_not_read_is_taken_to_do_nothing_unusual(strange: dict[str, Any]) -> None:
    """That is said, by the name of the port, where there is one on a network's bridge."""
    hand = Hand()
    words = f"behind if{NEW} and was not read"
    assert not any(words in told for told in evaluate(hand.snapshot).assumptions)
    hand.on_host(made(**strange))
    assert not any(words in told for told in evaluate(hand.snapshot).assumptions)
    hand.on_host(made(master=hand.bridge("n0"), **strange))
    assert any(words in told for told in evaluate(hand.snapshot).assumptions)


def test_containers_of_an_engine_inside_of_a_container() -> None:
    """They are nobody's, and lead nowhere else, whoever has such; nor does where the host's default route leads."""
    hand = Hand()
    for name in ("a1", "b1"):
        ports = (made("veth", index=NEW + 1 + each, master=NEW, peer=5, peer_namespace=each) for each in range(2))
        hand.inside(name, made("bridge", f"10.64.0.{name == 'a1':d}/24"), *ports)
    hand.inside("b1", made("dummy", "10.64.1.1/24", index=NEW + 9))
    hand.inside("a1", to="10.64.1.1/32", via="10.64.0.9", by=NEW)
    assert hand.verdict("a1", "b1") is Verdict.BLOCKED
    hand.inside("b2", made("veth", "10.64.2.1/24", peer=6, peer_namespace=4))
    hand.on_host(made("veth", "203.0.113.1/24", peer=5, peer_namespace=7))
    hand.led("0.0.0.0/0", "203.0.113.9")
    hand.inside("a2", to="10.64.2.1/32", via=hand.gateway("a2"))
    assert hand.verdict("a2", "b2") is Verdict.BLOCKED


def test_bridges_upon_bridges_are_followed_once() -> None:
    """A container may put a bridge on many interfaces that all stand on the next one: each is looked at once."""
    hand = Hand()
    bridges = [made("bridge", index=NEW + number) for number in range(4)]
    steps = [
        made("macvlan", index=NEW + 10 + 25 * number + each, master=one.index, peer=next_.index, peer_here=True)
        for number, (one, next_) in enumerate(pairwise(bridges))
        for each in range(25)
    ]
    # the last one stands on the first, as no kernel has it
    circle = made("macvlan", index=NEW + 5, master=bridges[-1].index, peer=bridges[0].index, peer_here=True)
    hand.inside("a1", *bridges, *steps, circle)
    hand.inside("a2", made("macvlan", index=NEW + 9, peer=NEW + 9, peer_here=True))
    assert hand.verdict("a1", "a2") is Verdict.REACHABLE
    assert hand.verdict("a1", "b1") is Verdict.BLOCKED


def test_a_chain_of_bridges() -> None:
    """What cables join goes on, by however many bridges: the last one hears the first."""
    hand = Hand()
    between = range(2 * NEW, 4 * NEW)
    bridges = [hand.bridge("n0"), *between, hand.bridge("n1")]
    hand.on_host(*(made("bridge", index=index) for index in between))
    cables = []
    for end, (one, other) in zip(count(10 * NEW, 2), pairwise(bridges), strict=False):
        cables.append(made("veth", index=end, master=one, peer=end + 1, peer_here=True))
        cables.append(made("veth", index=end + 1, master=other, peer=end, peer_here=True))
    hand.on_host(*cables)
    a1, b1 = hand.card("a1"), hand.card("b1")
    hand.inside("a1", replace(a1, addresses=(*a1.addresses, own_address("10.64.0.1/24"))))
    hand.inside("b1", replace(b1, addresses=(*b1.addresses, own_address("10.64.0.2/24"))))
    assert hand.verdict("b1", "a1") is Verdict.UNKNOWN
    assert hand.verdict("b1", "a2") is Verdict.BLOCKED


def second_cable() -> Hand:
    """Return a host where a container has a second port of its network's bridge."""
    hand = Hand()
    hand.on_host(made("veth", master=hand.bridge("n0"), peer=NEW + 1, port=Port()))
    hand.inside("a1", made("veth", index=NEW + 1, peer=NEW))
    return hand


def test_a_second_cable_of_one_to_a_bridge() -> None:
    """Both of its interfaces answer for its address, and either takes what is for it."""
    hand = second_cable()
    assert hand.verdict("a2", "a1") is Verdict.REACHABLE
    assert hand.doubts("a2", "a1", str(hand.address("a1"))) == {""}
    hand.kept_from("if1")
    assert hand.doubts("a2", "a1", str(hand.address("a1"))) == {""}


def test_a_second_cable_of_one_to_a_bridge_that_is_not_like_the_first() -> None:
    """Where a rule drops what leaves by its port, or nobody is believed by it, it matters which of the two takes."""
    by_port, by_source = second_cable(), second_cable()
    by_port.kept_from("if900")
    by_source.switched("a1", rp_filter="1")
    for hand in (by_port, by_source):
        told = f"two that answer for {hand.address('a1')}"
        assert hand.verdict("a2", "a1") is Verdict.UNKNOWN
        assert hand.doubts("a2", "a1", str(hand.address("a1"))) == {told}


def test_an_interface_beside_one_that_answers_nobody() -> None:
    """Whoever is answered by one of them alone sends by that."""
    hand = Hand()
    card = hand.card("a1")
    hand.inside(
        "a1", replace(card, arp=False), made("macvlan", mode="bridge", peer=card.index, peer_here=True),
    )  # fmt: skip
    assert hand.verdict("a2", "a1") is Verdict.REACHABLE
    assert hand.doubts("a2", "a1", str(hand.address("a1"))) == {""}


def test_one_link_address_twice() -> None:
    """Which of the two gets what is for either of them is not known, and of the others everything is."""
    hand = Hand()
    for name in ("a1", "a3"):
        hand.inside(name, replace(hand.card(name), mac="02:42:00:00:00:77"))
    assert sample(hand.snapshot) is not None
    assert hand.verdict("a2", "a1") is Verdict.UNKNOWN
    assert hand.verdict("a4", "a2") is Verdict.REACHABLE


def test_where_packets_leave_what_is_seen_is_explained() -> None:
    """It is told where, and what would have to go; the rest of the way is told as far as it is known."""
    hand = Hand()
    hand.on_host(made("veth", master=hand.bridge("n0"), peer=5, peer_namespace=7))
    hand.inside("a1", to=f"{hand.address('a2')}/32", via=f"{hand.gateway('a1')[:-1]}250")
    name = hand.interface(hand.bridge("n0")).name
    found = explain(hand.snapshot, evaluate(hand.snapshot), "a1", "a2")
    assert {trip.change for trip in found.trips} == {f"bridge {name} without what it is connected to"}
    told = [hop.text for trip in found.trips for leg in trip.legs for hop in leg.hops]
    assert f"not known: what {name} is connected to" in told


def test_a_cable_into_a_switch_that_is_no_bridge() -> None:
    """What Open vSwitch does with frames is not seen."""
    hand = Hand()
    hand.on_host(made("openvswitch", index=NEW + 2))
    for number, name in enumerate(("a1", "b1")):
        end, inside = NEW + 10 + number, NEW + 20 + number
        hand.on_host(made("veth", index=end, master=NEW + 2, peer=inside))
        hand.inside(name, made("veth", f"10.64.0.{number + 1}/24", index=inside, peer=end))
    assert hand.verdict("a1", "b1") is Verdict.UNKNOWN


def test_what_is_not_followed_is_explained() -> None:
    """It is told where packets leave what is seen, and that this is what would have to go."""
    hand = Hand()
    hand.inside("a1", made("vxlan", "10.64.0.1/24"))
    hand.inside("b1", made("vxlan", "10.64.0.2/24"))
    found = explain(hand.snapshot, evaluate(hand.snapshot), "a1", "b1")
    assert {trip.change for trip in found.trips} == {f"if{NEW} of a1 without what it is connected to"}
    told = [hop.text for trip in found.trips for leg in trip.legs for hop in leg.hops]
    assert f"not known: what if{NEW} is connected to" in told
    assert found.findings[0].text.startswith("perhaps both are on one link that is no network of the engine's")
