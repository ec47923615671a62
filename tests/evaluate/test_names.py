"""Names of containers and networks in the texts of rules."""

from __future__ import annotations

import pytest

from exporter.evaluate.names import Names
from tests.hosts import host
from tests.kernels import kernel


@pytest.fixture(scope="module")
def names() -> Names:
    """Return the names of a small host."""
    built = host("28.5").network("six", ipv6=True).container("web", "six").container("db")
    seen = kernel(built).look()
    assert seen.snapshot.kernel
    return Names(seen.snapshot, seen.snapshot.kernel)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("-d 172.17.0.2/32 -i docker0", "-d 172.17.0.2/32 (db) -i docker0 (network bridge)"),
        ("! -s 172.17.0.0/16", "! -s 172.17.0.0/16 (network bridge)"),
        ("--to-destination 172.17.0.2:80", "--to-destination 172.17.0.2:80 (db)"),
        ("--to-destination [fd00:3::2]:80", "--to-destination [fd00:3::2 (web)]:80"),
        ("ip6 daddr fd00:3::2/128 drop", "ip6 daddr fd00:3::2/128 (web) drop"),
        ('iifname "docker0" accept', 'iifname "docker0 (network bridge)" accept'),
        ("ip daddr { 172.17.0.2, 10.0.0.1 }", "ip daddr { 172.17.0.2 (db), 10.0.0.1 }"),
        ("-i docker0+ -d 172.17.0.20/32", "-i docker0+ -d 172.17.0.20/32"),
        ("-d 172.17.0.1/32", "-d 172.17.0.1/32 (host on bridge)"),
        ("-m physdev --physdev-in veth4", "-m physdev --physdev-in veth4 (eth0 of db)"),
        ("", ""),
    ],
)
def test_names_stand_behind_what_has_one(names: Names, text: str, expected: str) -> None:
    """Addresses, subnets and interfaces get their names, whatever language the rule is written in."""
    assert names.put_in(text) == expected


def test_places_are_containers_and_the_host(names: Names) -> None:
    """A sandbox is called after its first container."""
    assert names.place("host") == "host"
    assert names.place("nobody's") == "nobody's"
