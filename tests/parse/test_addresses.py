"""Text is read as ipaddress reads it, or refused as it refuses it."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from exporter.parse.addresses import parse_address, parse_network

if TYPE_CHECKING:
    from collections.abc import Callable

_ADDRESSES = st.ip_addresses().map(str)
_SCRAPS = st.text("0123456789abcdefABCDEF.:%/ \0x-٣", max_size=24)
_CUT = st.tuples(_ADDRESSES, st.integers(0, 24), _SCRAPS).map(lambda made: made[0][: made[1]] + made[2])
_TOLD = st.one_of(_ADDRESSES, _SCRAPS, _CUT)


def _agree(told: str, read: Callable[[str], object], known: Callable[[str], object]) -> None:
    try:
        expected = known(told)
    except ValueError:
        with pytest.raises(ValueError):  # noqa: PT011 - the words are theirs
            read(told)
    else:
        assert read(told) == expected


@given(_TOLD)
@example("::ffff:10.0.0.1")
@example("::1.2.3.4")
@example("fe80::1%eth0")
@example("1.2.3.04")
@example("1.2.3")
@example("0x7f.1")
@example("1.2.3.4\0")
@example("::%\0")
@example("1.2.3.4 ")
@example("\udcff")
@example("")
def test_addresses_are_those_of_ipaddress(told: str) -> None:
    """Zones, IPv4 within IPv6 and all that is no address are among the examples."""
    _agree(told, parse_address, ip_address)


@given(st.one_of(_TOLD, st.tuples(_TOLD, st.one_of(st.integers(-1, 130).map(str), _SCRAPS)).map("/".join)))
@example("10.1.2.3/8")
@example("10.1.2.3/255.0.0.0")
@example("10.1.2.3/08")
@example("10.1.2.3/٣")
@example("10.1.2.3/")
@example("/8")
@example("fe80::1%eth0/64")
@example("::%\0")
@example("fd00::1/129")
@example("10.0.0.0/8/8")
def test_networks_are_those_of_ipaddress(told: str) -> None:
    """So are masks in the place of lengths, and lengths that are none."""
    _agree(told, parse_network, lambda text: ip_network(text, strict=False))
