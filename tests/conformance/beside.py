"""What drops packets beside all firewalls: queues and filters of tc, policies of IPsec, BPF programs.

The labs' kernels know the queues blackhole, htb, pfifo and tbf, filters of u32, and no action but to lead packets away.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.conformance.changes import Change, Facts, Somebody
from tests.lab.programs import at_interfaces

if TYPE_CHECKING:
    from collections.abc import Iterator
    from random import Random

_ATTACH: Final = f"cd {Path(__file__).parents[2]} && {sys.executable} -m tests.lab.programs"
_FILTERED: Final = "what tc lets through at "
_LED: Final = "where tc leads packets at "
_AWAY: Final = "action mirred egress redirect dev "
_IPSEC: Final = ("what a policy of IPsec from ",)
_ANYBODY: Final = "src 0.0.0.0/0 dst 0.0.0.0/0"
_CGROUP: Final = ("what BPF programs at the cgroup of a container let through",)


class OnHost(Somebody):
    """Changes of this kind on a host."""

    def changes(self) -> Iterator[Change]:
        """Yield them, with their details chosen at random."""
        for place in (self._port, self._bridge):
            yield from _traffic(place, self._address, "eth11")
        yield from self._policies()
        port = self._port
        if at_interfaces():
            yield Change(
                "tcx at a port", (f"{_ATTACH} interface {port}",), doubts=(f"what tcx lets through at {port}",)
            )

    def _policies(self) -> Iterator[Change]:
        one, subnet = self._address, self._pick(self._facts.subnets, "172.17.0.0/16")
        anywhere = "::/0" if ":" in subnet else "0.0.0.0/0"
        template = "tmpl proto esp mode transport"
        policies: dict[str, tuple[str, ...]] = {
            "sends nobody": (f"{_ANYBODY} dir out action block priority 9",),
            "sends not to one": (f"src 0.0.0.0/0 dst {one}/32 dir out action block",),
            "routes not from a subnet": (f"src {subnet} dst {anywhere} dir fwd action block priority 7",),
            "routes not to a subnet": (f"src {anywhere} dst {subnet} dir fwd priority 7 {template}",),
            "takes no datagrams": (f"{_ANYBODY} proto udp dir in action block",),
            "wants it transformed": (f"src {one}/32 dst 0.0.0.0/0 dir in {template}",),
            "sends no IPv6": ("src ::/0 dst ::/0 dir out action block",),
        }
        for name, added in policies.items():
            yield Change(f"IPsec {name}", tuple(f"ip xfrm policy add {each}" for each in added), doubts=_IPSEC)
        # one that lets packets pass as they are stands before one that does not
        first, second = "src 0.0.0.0/0 dst 10.0.0.0/8 dir fwd priority 1", f"{_ANYBODY} dir fwd action block priority 9"
        allowed = (f"ip xfrm policy add {first}", f"ip xfrm policy add {second}")
        yield Change("IPsec allows a part of what it blocks", allowed, doubts=_IPSEC)


def inside(facts: Facts, random: Random) -> Iterator[Change]:
    """Yield changes of this kind in the namespace of a container."""
    name = random.choice(facts.sandboxes)
    one = random.choice(facts.ipv4) if facts.ipv4 else "172.17.0.2"
    for change in _traffic("eth0", one, "lo"):
        yield Change(f"inside: {change.name}", change.commands, name, doubts=change.doubts)
    policies = {
        "sends nobody": f"{_ANYBODY} dir out action block",
        "sends not to one": f"src 0.0.0.0/0 dst {one}/32 dir out action block",
        "takes nothing from one": f"src {one}/32 dst 0.0.0.0/0 dir in action block",
        "sends transformed": f"{_ANYBODY} dir out tmpl proto esp mode transport",
    }
    for title, policy in policies.items():
        yield Change(f"inside: IPsec {title}", (f"ip xfrm policy add {policy}",), name, doubts=_IPSEC)
    if at_interfaces():
        yield Change("inside: tcx", (f"{_ATTACH} interface eth0",), name, doubts=("what tcx lets through at eth0",))
    # those who probe are in no container's cgroup: only what is certain is compared
    yield Change("inside: a cgroup's program", (f"{_ATTACH} cgroup {facts.cgroups[name]}",), name, doubts=_CGROUP)


def _traffic(place: str, address: str, away: str) -> Iterator[Change]:
    """Yield what tc does at an interface; what is led `away` is lost."""
    add, hooked = "tc filter add dev", f"tc qdisc add dev {place} clsact || true"
    classes = (
        f"tc qdisc replace dev {place} root handle 1: htb default 1",
        f"tc class add dev {place} parent 1: classid 1:1 htb rate 1gbit",
    )
    everything = "protocol all u32 match u32 0 0"
    chosen = f"{add} {place} parent 1: {everything}"
    ports = "match ip protocol 6 0xff match ip dport 80 0xffff"
    filters = {
        "leads away what comes in from one": (hooked, f"ingress protocol ip u32 match ip src {address}/32"),
        "leads away what leaves to one": (hooked, f"egress protocol ip u32 match ip dst {address}/32"),
        "leads away what leaves to a port": (hooked, f"egress protocol ip u32 {ports}"),
        "leads away all that comes in": (
            f"tc qdisc add dev {place} ingress || true",
            "parent ffff: protocol all u32 match u32 0 0",
        ),
    }
    doubts = f"{_FILTERED}{place}", f"{_LED}{place}"
    for name, (queue, rule) in filters.items():
        commands = (queue, f"{add} {place} {rule} {_AWAY}{away}")
        yield Change(f"tc {name} at {place}", commands, doubts=doubts)
    yield Change(f"tc classes that act at {place}", (*classes, f"{chosen} {_AWAY}{away}"), doubts=doubts)
    lost = f"tc qdisc replace dev {place} root blackhole"
    yield Change(
        f"tc blackhole at {place}", (lost,), doubts=(f"what a queue of kind blackhole lets through at {place}",)
    )
    yield Change(f"tc shapes {place}", (f"tc qdisc replace dev {place} root tbf rate 10gbit burst 10mb latency 50ms",))
    yield Change(f"tc classes at {place}", (*classes, f"{chosen} flowid 1:1"))
    yield Change(f"tc has room for filters at {place}", (hooked,))
