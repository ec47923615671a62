"""Typed access to documents of the Engine API, which may be older, newer or other than we know."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from exporter.errors import ObservationError
from exporter.parse.addresses import parse_address, parse_network

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from exporter.model.addresses import Address, Subnet

# Go's strconv.ParseBool, which the bridge driver applies to its options.
_GO_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_GO_FALSE = frozenset({"0", "f", "F", "FALSE", "false", "False"})


_LINK_ADDRESS = re.compile("(?:[0-9a-fA-F]{2}(?::[0-9a-fA-F]{2})*)?")


def text(document: Mapping[str, Any], key: str) -> str:
    """Return a string, or `""` where the field is absent, null or of another type."""
    value = document.get(key)
    return value if isinstance(value, str) else ""


def flag(document: Mapping[str, Any], key: str) -> bool | None:
    """Return a boolean, or None where the field is absent, null or of another type."""
    value = document.get(key)
    return value if isinstance(value, bool) else None


def integer(document: Mapping[str, Any], key: str) -> int:
    """Return an integer, or 0 where the field is absent, null or of another type."""
    value = document.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def mapping(document: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """Return an object, or an empty one where the field is absent, null or of another type."""
    value = document.get(key)
    return value if isinstance(value, dict) else {}


def objects(document: Mapping[str, Any], key: str) -> Sequence[Mapping[str, Any]]:
    """Return the objects of an array, passing over anything else in it."""
    value = document.get(key)
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list | tuple) else []


def strings(document: Mapping[str, Any], key: str) -> Sequence[str]:
    """Return the strings of an array, passing over anything else in it."""
    value = document.get(key)
    return [item for item in value if isinstance(item, str)] if isinstance(value, list | tuple) else []


def identity(document: Mapping[str, Any], kind: str) -> str:
    """Return the document's `Id`. Raises ObservationError without one: nothing can be said about it then."""
    value = text(document, "Id")
    if not value:
        raise ObservationError(f"a {kind} in the engine's answer has no Id: is this a Docker Engine?")
    return value


@lru_cache(maxsize=1 << 12)
def address(value: str) -> Address | None:
    """Return an address, or None for `""` and for what is no address; a prefix length behind it is dropped.

    What was read is remembered: others have the same gateway.
    """
    return own_address(value)


def own_address(value: str) -> Address | None:
    """Return an address that nobody else has."""
    if not value:
        return None
    try:
        return parse_address(value.partition("/")[0])
    except ValueError:
        return None


@lru_cache(maxsize=1 << 12)
def subnet(value: str) -> Subnet | None:
    """Return a subnet, or None for what is none."""
    try:
        return parse_network(value)
    except ValueError:
        return None


def link_address(document: Mapping[str, Any], key: str) -> str:
    """Return a link address of any length as it is written, empty where there is none. Raises ObservationError."""
    found = text(document, key)
    if not _LINK_ADDRESS.fullmatch(found):
        raise ObservationError(f"{found!r} is no link address")
    return found


def go_bool(value: str) -> bool | None:
    """Return what Go's strconv.ParseBool makes of the text, None where it would fail."""
    if value in _GO_TRUE:
        return True
    return False if value in _GO_FALSE else None
