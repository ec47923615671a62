"""Values in nft's JSON: `80`, `"10.0.0.1"`, `{"prefix": …}`, `{"range": […]}`, `["syn", "ack"]`, `{"|": […]}`.

Every function raises ValueError for what is none of its kind.
"""

from __future__ import annotations

import marshal
import re
from functools import partial
from typing import TYPE_CHECKING

from exporter.parse.addresses import parse_number
from exporter.parse.kernel.values import mac

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Reader = Callable[[object], int]

EVERYTHING = "*"
"""The element of a set, and the key of a map, that stands for all others."""

_UNNAMED = re.compile(r"0x([0-9a-f]{1,32})( \[invalid type\])?|(\d{1,39})")
"""A number where nft had no name, or (nft 1.0: of connections' ports) not even a type for it."""


def tagged(value: object) -> tuple[str, object]:
    """Return the name and the body of an object that has one of each: `{"meta": {"key": "mark"}}`."""
    if not isinstance(value, dict) or len(value) != 1:
        raise ValueError("not an object with one name")
    ((name, body),) = value.items()
    if not isinstance(name, str):
        raise ValueError("not a name")  # noqa: TRY004 - one error for all that is not understood
    return name, body


def written(value: object) -> bytes:
    """Return a value of JSON as bytes, which are the same for none that is another. Raises ValueError for any other.

    From version 3 on, they would depend on who else holds the value.
    """
    return marshal.dumps(value, 2)  # type: ignore[arg-type]  # marshal looks for itself


def properties(value: object) -> Mapping[str, object]:
    """Return an object."""
    if not isinstance(value, dict):
        raise ValueError("not an object")  # noqa: TRY004
    return value


def items(value: object) -> Sequence[object]:
    """Return an array."""
    if not isinstance(value, list | tuple):
        raise ValueError("not an array")  # noqa: TRY004
    return value


def pair(value: object) -> tuple[object, object]:
    """Return the two items of an array that has as many."""
    first, second = items(value)
    return first, second


def words(value: object) -> frozenset[str]:
    """Return one or several words: nft prints one without an array around it."""
    found = value if isinstance(value, list | tuple) else () if value is None else (value,)
    return frozenset(word for word in found if isinstance(word, str))


def whether(value: object) -> int:
    """Return 1 for what is there, 0 for what is not."""
    if not isinstance(value, bool):
        raise ValueError("neither there nor not")  # noqa: TRY004
    return int(value)


def integer(value: object) -> int:
    """Return a number."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError("not a number")  # noqa: TRY004
    return value


def named(names: Mapping[str, int], value: object) -> int:
    """Return a number, given as such or by its name."""
    if isinstance(value, str):
        if value in names:
            return names[value]
        found = _UNNAMED.fullmatch(value)
        if found is None:
            raise ValueError("a name that is not known")
        return int(found[1], 16) if found[1] else int(found[3])
    return integer(value)


def ip_address(version: int, value: object) -> int:
    """Return an address of IP version 4 or 6 as a number."""
    if not isinstance(value, str):
        raise ValueError("not an address")  # noqa: TRY004
    return parse_number(value, version)


def ether_address(value: object) -> int:
    """Return an Ethernet address as a number."""
    if not isinstance(value, str):
        raise ValueError("not an Ethernet address")  # noqa: TRY004
    return mac(value)


plain: Reader = partial(named, {})
"""Reads numbers that have no names."""


def combined(read: Reader, value: object) -> int:
    """Return one value, or several flags as one: `["syn", "ack"]`, `{"|": ["syn", "ack"]}`."""
    if isinstance(value, dict):
        name, value = tagged(value)
        if name != "|":
            raise ValueError("not a combination of flags")
    if not isinstance(value, list | tuple):
        return read(value)
    found = 0
    for part in value:
        found |= combined(read, part)
    return found


def interval(read: Reader, width: int, value: object) -> tuple[int, int]:
    """Return the first and the last of the values that are meant, of so many bits."""
    low = high = 0
    if isinstance(value, dict) and "prefix" in value:
        prefix = properties(value["prefix"])
        free = width - integer(prefix.get("len"))
        if not 0 <= free <= width:
            raise ValueError("a prefix of a length that there is not")
        low = read(prefix.get("addr")) >> free << free
        high = low | ((1 << free) - 1)
    elif isinstance(value, dict) and "range" in value:
        first, last = pair(value["range"])
        low, high = read(first), read(last)
    else:
        low = high = combined(read, value)
    if not 0 <= low <= high < 1 << width:
        raise ValueError("not within the bits that there are")
    return low, high
