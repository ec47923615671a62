"""Rules of nft as tests write them, what real nft printed of them, and real nft itself.

`python -m tests.parse.kernel.nft` writes what it prints to tests/data/nftables/rules.json: it takes root and nft.
"""

from __future__ import annotations

import json
import subprocess
from functools import cache
from importlib import import_module
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exporter.model.firewall import Field, InRanges, Opaque, Rule, Unforeseeable
from exporter.model.ranges import Ranges
from exporter.parse.kernel.nftables import parse_nftables

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from exporter.model.firewall import Step, Table

RULES = Path(__file__).parent.parent.parent / "data" / "nftables" / "rules.json"

CHAINS = {
    "forward": "type filter hook forward priority filter",
    "dnat": "type nat hook prerouting priority dstnat",
    "snat": "type nat hook postrouting priority srcnat",
    "raw": "type filter hook prerouting priority raw",
    "bridge": "type filter hook forward priority filter",
}

SETS = """
set ips { type ipv4_addr; flags interval; elements = { 10.0.0.0/24 comment "a", 10.1.0.1-10.1.0.9 }
}
set slow { type ipv4_addr; flags timeout; timeout 1h; elements = { 10.0.0.1 timeout 5m comment "b", 10.0.0.2 }
}
set limited { type ipv4_addr; limit rate 5/second; elements = { 10.0.0.1 }
}
set none { type ipv4_addr; flags dynamic,timeout; size 100
}
set small { type ipv4_addr; flags dynamic; size 1; elements = { 10.0.0.9 }
}
set places { type ipv4_addr . inet_service; flags interval; counter
elements = { 10.0.0.0/24 . 80-90 counter packets 5 bytes 6, 10.0.0.1 . 443 }
}
set names { type ifname; elements = { "eth0", "docker0" }
}
map verdicts { type ifname : verdict; elements = { "br-1" : jump other, "br-2" : accept }
}
map empty { type ifname : verdict
}
map ports { type inet_service : verdict; flags interval; counter
elements = { 22 : accept, 80-90 comment "c" : jump other, * : drop }
}
map forwards { type ipv4_addr . inet_service : ipv4_addr . inet_service
elements = { 10.0.0.1 . 80 : 10.0.0.2 . 8080 }
}
"""


SETS_RECORDED = "sets of family inet"


def source(family: str, chain: str, rules: Sequence[str]) -> str:
    """Return a table as nft reads it."""
    sets = SETS if any("@" in rule for rule in rules) else ""
    lines = ["chain other {", "}", sets, "chain c {", CHAINS[chain], *rules, "}"]
    return "\n".join([f"table {family} t {{", *lines, "}", ""])


def listed(text: str) -> dict[str, Any]:
    """Return the document of tables that real nft loaded, in a network namespace of its own."""
    script = "ip link add eth0 type bridge; nft -f - && nft -j list ruleset"
    command = ["unshare", "--net", "bash", "-c", script]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def key(family: str, chain: str, said: str) -> str:
    """Return what a rule is recorded under."""
    return f"{family} {chain}: {said}"


@cache
def _recorded() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(RULES.read_text())
    return found


def recorded(family: str, chain: str, said: str) -> dict[str, Any]:
    """Return the document that real nft printed of a rule."""
    record = _recorded()[key(family, chain, said)]
    table = {"table": {"family": family, "name": "t"}}
    chains = [{"chain": {"family": family, "table": "t", "name": name}} for name in ("other", "c")]
    sets = _recorded()[SETS_RECORDED] if family == "inet" and "@" in said else []
    rule = {"rule": {"family": family, "table": "t", "chain": "c", **record}}
    return {"nftables": [table, *sets, *chains, rule]}


def read_tables(document: object) -> tuple[Table, ...]:
    """Return the tables of a document, as nft would print it."""
    return parse_nftables(json.dumps(document))


def only(document: object) -> Table:
    """Return the table of a document that has one."""
    (table,) = read_tables(document)
    return table


def rule(said: str, family: str = "inet", chain: str = "forward") -> Rule:
    """Return a rule by its text, as real nft printed it."""
    (found,) = only(recorded(family, chain, said)).chains["c"].rules
    return found


def steps(said: str, family: str = "inet", chain: str = "forward") -> tuple[Step, ...]:
    """Return the steps of a rule."""
    return rule(said, family, chain).steps


def parsed(statements: Sequence[object], family: str = "inet", sets: Iterable[object] = ()) -> tuple[Step, ...]:
    """Return the steps of statements that are given as JSON."""
    place = {"family": family, "table": "t"}
    named = [{"set": {**place, **entry}} for entry in sets if isinstance(entry, dict)]
    entries = [
        {"table": {"family": family, "name": "t"}},
        {"chain": {**place, "name": "c"}},
        *named,
        {"rule": {**place, "chain": "c", "expr": statements}},
    ]
    return only({"nftables": entries}).chains["c"].rules[0].steps


def doubts(found: Iterable[Step]) -> set[str]:
    """Return what steps hinge on that is not understood."""
    return {step.name for step in found if isinstance(step, Opaque | Unforeseeable)}


def number(text: str) -> int:
    """Return an address as a number."""
    return int(ip_address(text))


def are(field: Field, *numbers: int, negated: bool = False) -> InRanges:
    """Return the match of some numbers."""
    return InRanges(field, Ranges.of(*numbers), negated)


def between(field: Field, low: int | str, high: int | str, *, negated: bool = False) -> InRanges:
    """Return the match of a range of numbers or addresses."""
    first, last = (number(each) if isinstance(each, str) else each for each in (low, high))
    return InRanges(field, Ranges(((first, last),)), negated)


V4, V6 = are(Field.FAMILY, 4), are(Field.FAMILY, 6)
TCP, UDP = are(Field.PROTOCOL, 6), are(Field.PROTOCOL, 17)

TESTS = ("test_nft_matches", "test_nft_statements", "test_nft_translations")


def expected() -> dict[tuple[str, str, str], object]:
    """Return all rules that tests know the meaning of, by family, chain and text."""
    modules = [import_module(f"tests.parse.kernel.{name}") for name in TESTS]
    return {rule: meaning for module in modules for rule, meaning in module.MEANINGS.items()}


def entries(document: dict[str, Any], *kinds: str) -> list[dict[str, Any]]:
    """Return the entries of some kinds, without what differs from one time to the next."""
    found = [entry for entry in document["nftables"] if next(iter(entry)) in kinds]
    for entry in found:
        next(iter(entry.values())).pop("handle", None)
    return found


def record() -> None:
    """Ask real nft about all rules that tests use."""
    found: dict[str, Any] = {SETS_RECORDED: entries(listed(source("inet", "forward", ["ip saddr @ips"])), "set", "map")}
    for family, chain, said in expected():
        (entry,) = entries(listed(source(family, chain, [said])), "rule")
        found[key(family, chain, said)] = {
            name: entry["rule"][name] for name in ("expr", "comment") if name in entry["rule"]
        }
    lines = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in found.items()]
    RULES.parent.mkdir(exist_ok=True)
    RULES.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    record()
