"""nft's translations: `dnat`, `snat`, `masquerade`, `redirect` and `tproxy` (libnftables-json(5), STATEMENTS).

What it writes into addresses and ports without them, such as `ip daddr set`, is here, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from exporter.model.firewall import (
    Field,
    HasBits,
    Onward,
    Opaque,
    ProxyLocally,
    Rewrite,
    Target,
    Translate,
    Translation,
)
from exporter.model.ranges import Ranges
from exporter.parse.kernel.nft_expressions import of_family
from exporter.parse.kernel.nft_maps import looked_up
from exporter.parse.kernel.nft_matches import missing
from exporter.parse.kernel.nft_subjects import Number
from exporter.parse.kernel.nft_values import interval, ip_address, items, plain, properties, words
from exporter.parse.kernel.targets import LARGEST_NETMAP

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from exporter.model.firewall import Match, Step
    from exporter.parse.kernel.nft_expressions import Context
    from exporter.parse.kernel.nft_subjects import Subject

_VERSIONS = {"ip": 4, "ip6": 6}
_BITS = {4: 32, 6: 128}
_MOST_TARGETS = 4096

_OF_ADDRESS = {Translation.DNAT: Field.DESTINATION, Translation.SNAT: Field.SOURCE}


class _Choice(NamedTuple):
    """What addresses, ports or both become, for packets that the matches hold for."""

    matches: tuple[Match, ...]
    addresses: Ranges = Ranges()
    ports: Ranges = Ranges()


class _Part(NamedTuple):
    """One of the address and the port of a translation: what has to hold first, and the choices."""

    implied: tuple[Match, ...]
    choices: tuple[_Choice, ...]


_UNCHANGED = _Part((), (_Choice(()),))


def translate(kind: Translation, body: object, before: Sequence[Step], context: Context) -> tuple[Step, ...]:
    """Return a translation. Raises ValueError for one that is not understood.

    In tables that see IPv4 and IPv6, one to an address of one of them leaves packets of the other to the next rule.
    """
    said = properties(body) if body is not None else {}
    version = _version(said, context)
    family = missing(of_family(version, context), before) if version else ()
    before = (*before, *family)
    if "prefix" in words(said.get("type_flags")) or "netmap" in words(said.get("flags")):
        return (*family, *_networks(kind, said.get("addr"), version, before, context))
    address, port = said.get("addr"), said.get("port")
    addresses = _UNCHANGED if address is None else _part(address, version, before, context)
    ports = _UNCHANGED if port is None else _part(port, None, (*before, *addresses.implied), context)
    if len(addresses.choices) * len(ports.choices) > _MOST_TARGETS:
        raise ValueError("too many targets")
    targets = tuple(_target(one, other) for one in addresses.choices for other in ports.choices)
    return (*family, *addresses.implied, *ports.implied, Translate(kind, targets))


def _target(address: _Choice, port: _Choice) -> Target:
    return Target(address.addresses, port.ports or address.ports, (*address.matches, *port.matches))


def _version(said: Mapping[str, object], context: Context) -> int | None:
    """Return the version of IP that is rewritten, None where it is both."""
    family = said.get("family")
    return _VERSIONS.get(family, context.version) if isinstance(family, str) else context.version


def _part(said: object, version: int | None, before: Sequence[Step], context: Context) -> _Part:
    """Return an address or a port, given as such or by a map."""
    if not isinstance(said, dict) or "map" not in said:
        return _Part((), (_choice((), said, version),))
    found = looked_up(said["map"], before, context)
    choices = tuple(_choice(case.matches, case.data, version) for case in found.cases)
    if found.by_chance:
        choices = (_any_of(choices),)
    return _Part(found.implied, choices)


def _any_of(choices: Sequence[_Choice]) -> _Choice:
    """Return several choices as one of which the kernel takes any."""
    first = choices[0]
    if any(choice.ports != first.ports for choice in choices):
        raise ValueError("different ports by chance")
    return _Choice((), Ranges.union(each for choice in choices for each in choice.addresses.intervals), first.ports)


def _choice(matches: tuple[Match, ...], said: object, version: int | None) -> _Choice:
    """`10.0.0.2`, `10.0.0.2-10.0.0.9`, `10.0.0.2 . 80`; a port alone where no version is given."""
    if isinstance(said, dict) and "concat" in said:
        address, port = items(said["concat"])
        return _Choice(matches, _addresses(address, version), _ports(port))
    if version is None:
        return _Choice(matches, ports=_ports(said))
    return _Choice(matches, _addresses(said, version))


def _ports(said: object) -> Ranges:
    return Ranges((interval(plain, 16, said),))


def _addresses(said: object, version: int | None) -> Ranges:
    if version is None:
        raise ValueError("an address of a family that is not told")
    return Ranges((interval(lambda value: ip_address(version, value), _BITS[version], said),))


def _networks(
    kind: Translation, said: object, version: int | None, before: Sequence[Step], context: Context
) -> tuple[Step, ...]:
    """Return a translation that changes the network and keeps the rest of the address (nft_nat_setup_netmap)."""
    if version is None or kind not in _OF_ADDRESS:
        raise ValueError("a network of what is none")
    part = _part(said, version, before, context)
    targets = tuple(_kept(choice, _OF_ADDRESS[kind]) for choice in part.choices)
    if sum(map(len, targets)) > LARGEST_NETMAP:
        raise ValueError("too large a network")
    return (*part.implied, Translate(kind, tuple(target for each in targets for target in each)))


def _kept(choice: _Choice, name: Field) -> tuple[Target, ...]:
    """Return a target for each address of a network."""
    ((low, high),) = choice.addresses.intervals
    rest = low ^ high
    if rest & (rest + 1) or rest >= LARGEST_NETMAP:
        raise ValueError("not a network, or too large a one")
    matches = choice.matches
    if not rest:
        return (Target(Ranges.of(low), Ranges(), matches),)
    return tuple(
        Target(Ranges.of(low | host), Ranges(), (*matches, HasBits(name, rest, host))) for host in range(rest + 1)
    )


def rewrite(name: str, subject: Subject, value: object, before: Sequence[Step], context: Context) -> tuple[Step, ...]:
    """Return how an address or a port is written into packets. Raises ValueError for what is neither, or unknown."""
    if not isinstance(subject, Number) or subject.field not in _SIDES or not subject.whole:
        raise ValueError("not an address, and no port")
    version = next((version for version, bits in _BITS.items() if bits == subject.width), None)
    part = _part(value, version, before, context)
    return (*part.implied, Rewrite(name, _SIDES[subject.field], _targets(part)))


def copied_to(gateway: object, before: Sequence[Step], context: Context) -> tuple[Step, ...]:
    """Return how copies of packets are sent to a gateway. Raises ValueError for one that is not understood."""
    part = _part(gateway, context.version, before, context)
    return (*part.implied, Rewrite("dup", Field.DESTINATION, _targets(part), Onward.COPIED))


def _targets(part: _Part) -> tuple[Target, ...]:
    return tuple(Target(choice.addresses, choice.ports, choice.matches) for choice in part.choices)


_SIDES = {
    Field.SOURCE: Field.SOURCE,
    Field.SOURCE_PORT: Field.SOURCE,
    Field.DESTINATION: Field.DESTINATION,
    Field.DESTINATION_PORT: Field.DESTINATION,
}


def proxy(body: object, before: Sequence[Step], context: Context) -> tuple[Step, ...]:
    """Return a `tproxy`: the rule goes on where a transparent socket took the packet, and is over where none did.

    Raises ValueError for one that is not understood.
    """
    said = properties(body)
    version = _version(said, context)
    family = missing(of_family(version, context), before) if version else ()
    address, port = said.get("addr"), said.get("port")
    addresses = Ranges() if address is None else _addresses(address, version)
    ports = Ranges() if port is None else _ports(port)
    return (*family, ProxyLocally(addresses, ports, terminates=False), Opaque("tproxy"))
