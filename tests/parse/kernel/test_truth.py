"""Rules that the kernel took and iptables-save printed again, of both backends."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from exporter.model.firewall import Backend, TableFamily
from exporter.parse.kernel.ipsets import parse_ipsets
from exporter.parse.kernel.iptables import parse_iptables

DATA = Path(__file__).parent.parent.parent / "data" / "iptables"

SETS = """\
create ips hash:net family inet
add ips 10.0.0.0/8
add ips 10.0.0.7 nomatch
create ips6 hash:net family inet6
add ips6 fd00::/16
create ports hash:ip,port family inet
add ports 10.0.0.1,tcp:80
add ports 10.0.0.2,tcp:80
add ports 10.0.0.1,icmp:echo-request
"""

PROGRAMS = {TableFamily.IP: ("iptables", "options.v4"), TableFamily.IP6: ("ip6tables", "options.v6")}


def in_a_namespace(script: str) -> str:
    """Return what a script prints in a network namespace of its own."""
    done = subprocess.run(
        ["unshare", "--net", "bash", "-euc", script], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def kept(program: str, backend: str, rules: str) -> str:
    """Return what iptables-save prints of rules that the kernel took."""
    tool = f"{program}-{backend}"
    return in_a_namespace(f"ipset restore <<'END'\n{SETS}END\n{tool}-restore <<'END'\n{rules}END\n{tool}-save -c")


@pytest.mark.lab
@pytest.mark.parametrize("family", PROGRAMS)
def test_both_backends_show_the_same_rules(family: TableFamily) -> None:
    """Every option that there is comes back from the kernel as the same steps, whichever program keeps it."""
    program, file = PROGRAMS[family]
    source = (DATA / file).read_text()
    sets = parse_ipsets(SETS)
    found = {}
    for backend in (Backend.IPTABLES_NFT, Backend.IPTABLES_LEGACY):
        text = kept(program, backend.removeprefix("iptables-"), source)
        found[backend] = {
            table.name: (table.chains, table.packets) for table in parse_iptables(text, family, backend, sets)
        }
    assert found[Backend.IPTABLES_NFT] == found[Backend.IPTABLES_LEGACY]
    read = found[Backend.IPTABLES_NFT].values()
    rules = sum(len(chain.rules) for chains, _ in read for chain in chains.values())
    assert rules == sum(line.startswith("-A") for line in source.split("\n"))
    assert [count for _, packets in read for counts in packets.values() for count in counts] == [0] * rules


@pytest.mark.lab
@pytest.mark.parametrize("family", PROGRAMS)
def test_what_is_printed_means_what_was_written(family: TableFamily) -> None:
    """The kernel's print of a rule and the rule as its author wrote it are the same steps."""
    program, file = PROGRAMS[family]
    source = (DATA / file).read_text()
    sets = parse_ipsets(SETS)

    def meaning(text: str) -> dict[str, list[object]]:
        tables = parse_iptables(text, family, Backend.IPTABLES_NFT, sets)
        return {
            f"{table.name} {chain.name}": [_known(rule.steps) for rule in chain.rules]
            for table in tables
            for chain in table.chains.values()
        }

    assert meaning(kept(program, "nft", source)) == meaning(source)


def _known(steps: tuple[object, ...]) -> list[object]:
    """Return steps without the text of those that are not understood, which is printed more fully than written."""
    return [getattr(step, "name", step) if hasattr(step, "text") else step for step in steps]
