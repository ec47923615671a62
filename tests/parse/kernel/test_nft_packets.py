"""Real packets through rules of real nft: a rule counts a packet exactly when its steps hold for it."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import product
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from exporter.model.firewall import (
    AddressType,
    AddressTypeIs,
    AnyBit,
    AnyOf,
    CtState,
    Field,
    HasBits,
    InRanges,
    NameIs,
    Step,
)
from tests.parse.kernel.nft import number, only

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

pytestmark = pytest.mark.lab

MARKS = {"10.9.0.1": 7, "10.9.0.2": 4, "10.9.1.1": 0}
PORTS = (80, 81, 443)
OWN = "10.9.200.1"

CHOICES = {
    "ip daddr": [
        "10.9.0.1", "10.9.0.0/24", "10.9.0.2-10.9.1.1", "{ 10.9.0.1, 10.9.1.0/24 }", "@ips", "!= @ips", "!= 10.9.0.1",
        "& 255.255.0.255 == 10.9.0.1", "& 0.0.255.0 == 0.0.1.0", "< 10.9.0.2",
    ],
    "th dport": ["80", "80-81", "{ 80, 443 }", "!= 80", "!= { 80, 81 }", "< 443", ">= 81"],
    "udp dport": ["80", "& 1 == 1", "!= 81-443"],
    "ip daddr . udp dport": [
        "{ 10.9.0.1 . 80, 10.9.0.2 . 443 }", "!= { 10.9.0.1 . 80 }", "{ 10.9.0.0/24 . 80-81 }", "@pairs",
    ],
    "meta l4proto . th dport": ["{ udp . 80, tcp . 443 }"],
    "meta mark": ["0", "7", "!= 7", "< 5", "& 3 == 3", "| 1 == 5", "^ 5 == 2", "& 6 { 2, 6 }", "& 6 != { 4, 6 }"],
    "oifname": ['"d0"', '"d*"', '!= "d*"', '{ "lo", "d0" }', '!= { "x", "y*" }'],
    "iifname": ['"lo"', '!= "lo"'],
    "ct state": ["new", "== new", "!= new", "! new", "established,related", "{ new, established }"],
    "ct mark": ["0", "& 3 != 0", "!= { 0, 1 }", "& 3 != { 1, 2 }"],
    "ct status": ["dnat", "! dnat", "== dnat", "!= dnat"],
    "rt ipsec": ["exists", "missing"],
    "oifgroup": ["0", "!= 0", "5"],
    "ct direction": ["original", "reply"],
    "ct original ip daddr": ["10.9.0.1", "!= 10.9.0.0/24"],
    "fib daddr type": ["unicast", "local", "!= local", "{ local, unicast }"],
    "ip frag-off": ["& 0x1fff == 0", "& 0x1fff != 0"],
    "ip protocol": ["udp", "!= udp", "{ tcp, udp }"],
}  # fmt: skip

TABLE = """
table inet t {
set ips { type ipv4_addr; flags interval; elements = { 10.9.0.2, 10.9.1.0/24 }
}
set pairs { type ipv4_addr . inet_service; flags interval; elements = { 10.9.0.0/23 . 81-443 }
}
chain before {
type filter hook output priority mangle
meta mark set ip daddr map { %s }
}
chain c {
type filter hook output priority filter
%s
}
}
"""

SEND = "import socket, sys; s = socket.socket(type=socket.SOCK_DGRAM); s.sendto(b'x', (sys.argv[1], int(sys.argv[2])))"

SCRIPT = """
# no reports of groups: only the packets that are sent here are to be counted
sysctl -qw net.ipv6.conf.default.disable_ipv6=1
ip link add d0 type bridge mcast_snooping 0; ip link set d0 up; ip link set lo up; ip addr add {own}/16 dev d0
for to in {destinations}; do ip neigh add ${{to%%:*}} lladdr 02:00:00:00:00:01 dev d0 2>/dev/null || true; done
for to in {destinations}; do
  nft -f /dev/fd/3 3<<'END'
{table}
END
  "{python}" -c "{send}" "${{to%%:*}}" "${{to##*:}}"
  nft -j list table inet t
  nft delete table inet t
done
"""


def rules() -> list[str]:
    """Return each comparison by itself, and pairs of them; nft refuses some that name two protocols."""
    single = [f"{left} {right}" for left, rights in CHOICES.items() for right in rights]
    guarded = [f"meta l4proto {{ tcp, udp }} {rule}" if rule.startswith("th ") else rule for rule in single]
    random = Random(3)
    pairs = (random.sample(guarded, 2) for _ in range(150))
    return [*guarded, *(" ".join(pair) for pair in pairs if not all("udp" in rule for rule in pair))]


def counted(said: Sequence[str]) -> list[tuple[str, int, dict[str, Any]]]:
    """Return the table after one packet to each address and port."""
    marks = ", ".join(f"{address} : {mark}" for address, mark in MARKS.items())
    table = TABLE % (marks, "\n".join(f"{rule} counter" for rule in said))
    destinations = list(product(MARKS, PORTS))
    places = " ".join(f"{address}:{port}" for address, port in destinations)
    script = SCRIPT.format(own=OWN, destinations=places, table=table, python=sys.executable, send=SEND)
    done = subprocess.run(
        ["unshare", "--net", "bash", "-euc", script], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    documents = [json.loads(line) for line in done.stdout.splitlines() if line]
    return [(*place, document) for place, document in zip(destinations, documents, strict=True)]


def packet(address: str, port: int) -> Mapping[Field, int | str]:
    """Return what the kernel sees of a packet."""
    return {
        Field.FAMILY: 4,
        Field.PROTOCOL: 17,
        Field.DESTINATION: number(address),
        Field.DESTINATION_PORT: port,
        Field.MARK: MARKS[address],
        Field.INPUT_INTERFACE: "",
        Field.OUTPUT_INTERFACE: "d0",
        Field.CT_STATE: int(CtState.NEW),
        Field.CT_MARK: 0,
        Field.CT_STATUS: 0,
        Field.IPSEC: 0,
        Field.OUTPUT_GROUP: 0,
        Field.CT_DIRECTION: 0,
        Field.CT_ORIGINAL_DESTINATION: number(address),
    }


def hold(found: Iterable[Step], seen: Mapping[Field, int | str]) -> bool:
    """Return whether all matches hold for a packet, by the model's own words."""
    return all(_holds(step, seen) for step in found)


def _holds(step: Step, seen: Mapping[Field, Any]) -> bool:
    match step:
        case InRanges(field, ranges, negated):
            return field in seen and (seen[field] in ranges) != negated
        case HasBits(field, mask, value, negated):
            return field in seen and (seen[field] & mask == value) != negated
        case AnyBit(field, mask, negated):
            return field in seen and (seen[field] & mask != 0) != negated
        case NameIs(field, names, negated):
            name = seen[field]
            found = any(name.startswith(each[:-1]) if each.endswith("*") else name == each for each in names)
            return found != negated
        case AddressTypeIs(_, types, _, negated):
            return (AddressType.UNICAST in types) != negated
        case AnyOf(alternatives, negated):
            return any(hold(each, seen) for each in alternatives) != negated
        case _:
            raise AssertionError(f"{step} decides by what is not known")


def test_a_rule_counts_the_packets_that_its_steps_hold_for() -> None:
    """Every comparison, and pairs of them, for packets to nine places."""
    said = rules()
    wrong = []
    for address, port, document in counted(said):
        seen = packet(address, port)
        table = only(document)
        for text, rule, count in zip(said, table.chains["c"].rules, table.packets["c"], strict=True):
            if hold(rule.steps, seen) != bool(count):
                wrong.append((address, port, text, rule.steps))
    assert not wrong
