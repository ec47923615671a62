"""Virtual services of IPVS as rules: for each of its real servers, one that may send packets there.

TCP  C0A80001:0050 rr
  -> 0A000005:1F90 Masq
UDP  [2001:0db8:0000:0000:0000:0000:0000:0001]:0035 wlc
  -> [2001:0db8:0000:0000:0000:0000:0000:0002]:0035 Route
FWM  00000100 rr
  -> 0A000006:0000 Masq

IPVS looks at what comes for the namespace itself and at what it sends (ip_vs_ops4, ip_vs_ops6): at the marks of
packets, else at their protocol, address and port. Which server it chooses, what becomes of the source, and who leads
the answer back depends on more than is listed.
"""

from __future__ import annotations

import re
from collections import defaultdict
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Final, NamedTuple

from exporter.errors import ObservationError
from exporter.model.firewall import (
    Backend,
    Base,
    Chain,
    Field,
    Hook,
    InRanges,
    Onward,
    Rewrite,
    Rule,
    Table,
    TableFamily,
    Target,
    Unforeseeable,
)
from exporter.model.ranges import Ranges

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exporter.model.addresses import Address
    from exporter.model.firewall import Match, Statement

NAME: Final = "IPVS"
_BASES: Final = {"INPUT": Base(Hook.INPUT, 99), "OUTPUT": Base(Hook.OUTPUT, -98)}
"""NF_IP_PRI_NAT_SRC - 1 and NF_IP_PRI_NAT_DST + 2."""
_FAMILIES: Final = {4: TableFamily.IP, 6: TableFamily.IP6}
_PROTOCOLS: Final = {"TCP": 6, "UDP": 17, "SCTP": 132}
_BY_MARK: Final = "FWM"
_END: Final = re.compile(r"(?:([0-9A-F]{8})|\[([0-9a-f:]{2,39})\]):([0-9A-F]{4})", re.ASCII)
_FORWARD: Final = {
    "Masq": Onward.TRANSLATED,
    "Route": Onward.AS_THEY_WERE,
    "Tunnel": Onward.AS_THEY_WERE,
    "Local": None,
}
"""What the list calls the ways to a server. To the namespace itself packets go on as they were (ip_vs_null_xmit)."""


class _End(NamedTuple):
    """An address and a port, 0 for any."""

    address: Address
    port: int

    def __str__(self) -> str:
        host = f"[{self.address}]" if self.address.version == 6 else str(self.address)
        return f"{host}:{self.port}"


class _Service(NamedTuple):
    """What packets are selected by, how that is told, and the versions of IP that they may be of."""

    matches: tuple[Match, ...]
    said: str
    versions: tuple[int, ...]


def parse_ipvs(text: str) -> tuple[Table, ...]:
    """Return the services as tables, one for each family that there is. Raises ObservationError for what is no list."""
    services: list[tuple[_Service, list[tuple[_End, Onward | None]]]] = []
    for line in text.splitlines():
        try:
            first, second, *rest = line.split()
            if first != "->":
                services.append((_service(first, second), []))
            else:
                services[-1][1].append((_end(second), _FORWARD[rest[0]]))
        except (IndexError, KeyError, ValueError) as error:
            raise ObservationError(f"{line[:80]!r} is no line of a list of virtual services") from error
    rules: dict[int, list[Rule]] = defaultdict(list)
    for service, servers in services:
        for version, rule in _rules(service, servers):
            rules[version].append(rule)
    return tuple(_table(version, tuple(found)) for version, found in sorted(rules.items()))


def _table(version: int, rules: tuple[Rule, ...]) -> Table:
    chains = {name: Chain(name, rules, base) for name, base in _BASES.items()}
    return Table(_FAMILIES[version], NAME, Backend.IPVS, chains)


def _rules(service: _Service, servers: list[tuple[_End, Onward | None]]) -> Iterator[tuple[int, Rule]]:
    """Yield rules with their version of IP: for a service that has no server one that drops most (ip_vs_leave)."""
    for server, onward in servers:
        if onward is not None:
            ports = Ranges.of(server.port) if server.port else Ranges()
            target = Target(Ranges.of(int(server.address)), ports)
            leads: Statement = Rewrite(NAME, Field.DESTINATION, (target,), onward)
            yield server.address.version, Rule((*service.matches, leads), f"{service.said} -> {server}")
    for version in service.versions if not servers else ():
        yield version, Rule((*service.matches, Unforeseeable(NAME)), service.said)


def _service(kind: str, where: str) -> _Service:
    """Return what a service selects. Raises KeyError or ValueError for what is none."""
    if kind == _BY_MARK:
        mark = int(where, 16)
        protocols = InRanges(Field.PROTOCOL, Ranges.of(*_PROTOCOLS.values()))
        marked = InRanges(Field.MARK, Ranges.of(mark))
        return _Service((protocols, marked), f"{kind} {mark:#x}", tuple(_FAMILIES))
    end = _end(where)
    protocol = InRanges(Field.PROTOCOL, Ranges.of(_PROTOCOLS[kind]))
    address = InRanges(Field.DESTINATION, Ranges.of(int(end.address)))
    port = (InRanges(Field.DESTINATION_PORT, Ranges.of(end.port)),) if end.port else ()
    return _Service((protocol, address, *port), f"{kind} {end}", (end.address.version,))


def _end(text: str) -> _End:
    """Return an address and a port as the list has them. Raises ValueError for what is none."""
    found = _END.fullmatch(text)
    if found is None:
        raise ValueError("not an address and a port")
    four, six, port = found.groups()
    return _End(IPv4Address(int(four, 16)) if four else IPv6Address(six), int(port, 16))
