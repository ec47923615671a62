"""What the kernel's structures say of modules is what iptables itself prints of them."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from exporter.observe.kernel.xtables import Module, written

pytestmark = pytest.mark.lab

READER = """
import json
from exporter.observe.kernel.budget import Budget
from exporter.observe.kernel.nfnetlink import Table, read_modules
from exporter.observe.kernel.xtables import written
found = {family: read_modules(Table(family, "nat"), Budget(30)) for family in ("ip", "ip6")}
print(json.dumps([[written(each) for each in told] for rules in found.values() for told in rules.values() if told]))
"""
LISTING = """
from exporter.observe.kernel.budget import Budget
from exporter.observe.kernel.firewall import FirewallReader
print(FirewallReader().read(None, Budget(30)).nftables[0])
"""
V4 = (
    "PREROUTING -m addrtype --dst-type LOCAL",
    "PREROUTING -m addrtype ! --src-type LOCAL,BROADCAST ! --dst-type UNICAST --limit-iface-in",
    "PREROUTING -m conntrack --ctstate NEW,UNTRACKED",
    "PREROUTING -m conntrack ! --ctstate INVALID,DNAT",
    "PREROUTING -p udp -m multiport --dports 53,67:68,500",
    "PREROUTING -p tcp -m multiport ! --ports 53,67:68",
    "PREROUTING -j MARK --set-xmark 0x1/0xff",
    "PREROUTING -p tcp -j DNAT --to-destination 10.0.0.2:90",
    "PREROUTING -p udp -j DNAT --to-destination 10.0.0.2-10.0.0.9:80-90 --random --persistent",
    "PREROUTING -p udp -j DNAT --to-destination :80",
    "PREROUTING -p udp -j DNAT --to-destination 10.0.0.2:3000-3010/2000",
    "PREROUTING -p tcp -j REDIRECT --to-ports 8080-8090 --random",
    "PREROUTING -j REDIRECT",
    "POSTROUTING -j MASQUERADE",
    "POSTROUTING -p tcp -j MASQUERADE --to-ports 1024-2000 --random-fully",
    "POSTROUTING -j SNAT --to-source 1.2.3.4",
    "POSTROUTING -p tcp -j SNAT --to-source 1.2.3.4-1.2.3.5:1000-2000",
)
V6 = (
    "PREROUTING -p tcp -j DNAT --to-destination [fd00::2]:90",
    "PREROUTING -j DNAT --to-destination fd00::2-fd00::9",
    "PREROUTING -p tcp -j DNAT --to-destination :80-90",
    "PREROUTING -p tcp -j REDIRECT --to-ports 8080",
    "POSTROUTING -p tcp -j MASQUERADE --to-ports 1024-2000",
    "POSTROUTING -p tcp -j SNAT --to-source [fd00::2-fd00::9]:1000-2000",
)
HIDDEN = "PREROUTING -m conntrack --ctstate NEW --ctdir REPLY"


def test_modules_say_what_iptables_prints() -> None:
    """Each is read back as it was written; what it is not known to say, is not told."""
    rules = [f"-A {said}" for said in (*V4, HIDDEN)]
    texts = ["\n".join(("*nat", *lines, "COMMIT")) for lines in (rules, [f"-A {said}" for said in V6])]
    script = 'iptables-nft-restore <<< "$1" && ip6tables-nft-restore <<< "$2" && exec "$3" -c "$4"'
    done = subprocess.run(
        ["unshare", "--net", "bash", "-c", script, "bash", *texts, sys.executable, READER],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    expected = [[_module(said)] for said in V4] + [[None]] + [[_module(said)] for said in V6]
    assert sorted(json.loads(done.stdout), key=repr) == sorted(expected, key=repr)


def test_options_stand_in_a_listing_beside_what_nft_has_no_words_for() -> None:
    """Of a chain without a name nft prints a text among the statements."""
    script = (
        "iptables-nft -t nat -A PREROUTING -p tcp -j DNAT --to-destination 10.0.0.2:90;"
        " nft 'add rule ip nat PREROUTING ip saddr 10.9.9.9 jump { tcp dport 5 accept; }';"
        ' nft "add set ip nat some { type ipv4_addr; }"; exec "$1" -c "$2"'
    )
    done = subprocess.run(
        ["unshare", "--net", "bash", "-c", script, "bash", sys.executable, LISTING],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    shown = [entry["rule"]["expr"][-1] for entry in json.loads(done.stdout)["nftables"] if "rule" in entry]
    assert {"xt": {"type": "target", "name": "DNAT", "options": "-j DNAT --to-destination 10.0.0.2:90"}} in shown


def _module(said: str) -> str:
    words = said.split(" ")[1:]
    return " ".join(words[2:] if words[0] == "-p" else words)


@pytest.mark.parametrize(
    "module",
    [
        Module("match", "addrtype", 1, b"\x04", "ip"),
        Module("match", "addrtype", 1, bytes(8), "ip"),
        Module("match", "addrtype", 0, bytes(8), "ip"),
        Module("match", "addrtype", 1, b"\x00\xf0" * 4, "ip"),
        Module("match", "multiport", 1, b"\x09" * 48, "ip"),
        Module("target", "DNAT", 0, b"\x02" + bytes(23), "ip"),
        Module("target", "SNAT", 9, bytes(48), "ip"),
    ],
)
def test_nothing_is_told_of_what_is_none(module: Module) -> None:
    """Structures of another length or revision, or with bits that nobody knows, say nothing, or nothing wrong."""
    assert written(module) in (None, "-m addrtype")
