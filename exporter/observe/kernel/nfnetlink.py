"""What nftables tells without its program: its generation, and which tables and sets there are."""

from __future__ import annotations

import errno
import struct
from typing import TYPE_CHECKING, Final, NamedTuple

from exporter.observe.kernel.modules import present
from exporter.observe.kernel.netlink import NETFILTER, Netlink, attribute, attribute_list, attributes
from exporter.observe.kernel.trouble import Unreadable, reason
from exporter.observe.kernel.xtables import Module

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exporter.observe.kernel.budget import Budget

FAMILIES: Final = {1: "inet", 2: "ip", 3: "arp", 5: "netdev", 7: "bridge", 10: "ip6"}

_SUBSYSTEM = 10 << 8
_GET_TABLE, _GET_CHAIN, _GET_RULE, _GET_SET, _GET_GENERATION = 1, 4, 7, 10, 16
_HEADER = struct.Struct("=BBH")
_NAME_OF_TABLE, _TABLE_OF_SET, _GENERATION = 1, 1, 1
_TABLE_OF_CHAIN, _NAME_OF_CHAIN, _HOOK = 1, 3, 4
_DEVICE, _DEVICES = 3, 4
_TABLE_OF_RULE, _HANDLE, _EXPRESSIONS = 1, 3, 4
_NAME, _DATA = 1, 2
_NAME_OF_MODULE, _REVISION, _INFO = 1, 2, 3
_MODULES: Final = {b"match\0": "match", b"target\0": "target"}
_BODY = 20
"""Bytes of the headers of netlink and nfnetlink."""


class Table(NamedTuple):
    """A table of nftables by its family and name, as nft writes them."""

    family: str
    name: str

    def __str__(self) -> str:
        return f"{self.family} {self.name}"


class Overview(NamedTuple):
    """The tables in their order, which of them have sets, and the generation that they are of."""

    generation: int
    tables: tuple[Table, ...]
    with_sets: frozenset[Table]


EMPTY: Final = Overview(0, (), frozenset())


def read_overview(budget: Budget) -> Overview:
    """Return what nftables has in the calling thread's namespace. Raises Unreadable."""
    if not (present("nfnetlink", "nfnetlink_rcv") and present("nf_tables", "nf_tables_getgen")):
        return EMPTY
    try:
        with Netlink(NETFILTER, budget) as netlink:
            return _overview(netlink)
    except OSError as error:
        raise Unreadable(reason(error, "nftables", "CAP_NET_ADMIN in the engine's namespace")) from error


def read_generation(budget: Budget) -> int:
    """Return the number that grows by one with each change of rules. Raises Unreadable."""
    return read_overview(budget).generation


def read_devices(budget: Budget) -> dict[tuple[Table, str], list[str]]:
    """Return the interfaces that chains of the hooks ingress and egress belong to, by table and name of the chain.

    `nft -j` leaves them out up to 1.0.6. Raises Unreadable.
    """
    try:
        with Netlink(NETFILTER, budget) as netlink:
            found = {}
            for message in _list(netlink, _GET_CHAIN):
                own = attributes(message, _BODY)
                hook = attributes(own.get(_HOOK, b""), 0)
                listed = [name for _, name in attribute_list(hook.get(_DEVICES, b""))]
                devices = [_string(name) for name in (*listed, hook.get(_DEVICE, b"")) if name]
                if devices:
                    found[_table(message, _TABLE_OF_CHAIN), _string(own.get(_NAME_OF_CHAIN, b""))] = devices
            return found
    except OSError as error:
        raise Unreadable(reason(error, "nftables", "CAP_NET_ADMIN in the engine's namespace")) from error


def read_modules(table: Table, budget: Budget) -> dict[int, list[Module]]:
    """Return the modules of iptables that a table's rules have, in their order, by the rules' handles.

    Raises Unreadable.
    """
    family = next(number for number, name in FAMILIES.items() if name == table.family)
    body = _HEADER.pack(family, 0, 0) + attribute(_TABLE_OF_RULE, f"{table.name}\0".encode())
    try:
        with Netlink(NETFILTER, budget) as netlink:
            rules = [attributes(message, _BODY) for message in netlink.dump(_SUBSYSTEM | _GET_RULE, body)]
    except OSError as error:
        raise Unreadable(reason(error, "nftables", "CAP_NET_ADMIN in the engine's namespace")) from error
    return {
        int.from_bytes(rule.get(_HANDLE, b""), "big"): list(_modules(rule.get(_EXPRESSIONS, b""), table.family))
        for rule in rules
    }


def _modules(expressions: bytes, family: str) -> Iterator[Module]:
    for _, said in attribute_list(expressions):
        expression = attributes(said, 0)
        kind = _MODULES.get(expression.get(_NAME, b""))
        if kind is not None:
            own = attributes(expression.get(_DATA, b""), 0)
            revision = int.from_bytes(own.get(_REVISION, b""), "big")
            yield Module(kind, _string(own.get(_NAME_OF_MODULE, b"")), revision, own.get(_INFO, b""), family)


def _overview(netlink: Netlink) -> Overview:
    generation = _generation(netlink)
    tables = tuple(_table(message, _NAME_OF_TABLE) for message in _list(netlink, _GET_TABLE))
    with_sets = frozenset(_table(message, _TABLE_OF_SET) for message in _list(netlink, _GET_SET)) if tables else ()
    return Overview(generation, tables, frozenset(with_sets))


def _generation(netlink: Netlink) -> int:
    message = netlink.get(_SUBSYSTEM | _GET_GENERATION, _HEADER.pack(0, 0, 0))
    return int.from_bytes(attributes(message, _BODY).get(_GENERATION, b""), "big")


def _list(netlink: Netlink, kind: int) -> list[bytes]:
    try:
        return netlink.dump(_SUBSYSTEM | kind, _HEADER.pack(0, 0, 0))
    except OSError as error:
        # kernels without nftables answer the first question with this
        if error.errno == errno.ENOENT:
            return []
        raise


def _table(message: bytes, attribute: int) -> Table:
    family = message[16]
    return Table(FAMILIES.get(family, str(family)), _string(attributes(message, _BODY).get(attribute, b"")))


def _string(value: bytes) -> str:
    return value.rstrip(b"\0").decode(errors="replace")
