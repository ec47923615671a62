"""What is loaded for reading the kernel, and what of its messages counts."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys

import pytest

from exporter.observe.kernel.labels import decode_label, read_labels
from exporter.observe.kernel.links import without_counters
from exporter.observe.kernel.memo import Memo
from exporter.observe.kernel.netlink import attribute
from exporter.observe.kernel.routes import decode_rule, read_rules

PROGRAM = """
import sys
import exporter.observe.kernel
print(sorted(name for name in sys.modules if name.startswith(("pyroute2.ndb", "pyroute2.dhcp", "pyroute2.iproute"))))
import pyroute2
print(pyroute2.IPRoute.__name__)
"""


def test_of_pyroute2_the_messages_alone_are_loaded() -> None:
    """Its other modules are 8 MiB of memory; whoever imports it afterwards gets the whole."""
    shown = subprocess.run([sys.executable, "-c", PROGRAM], check=True, capture_output=True, text=True).stdout
    assert shown.splitlines() == ["[]", "IPRoute"]


def link(sequence: int, name: bytes, *, packets: int) -> bytes:
    """Return a message about a link that has seen so many packets."""
    counters = (attribute(kind, packets.to_bytes(8, "little") * 3) for kind in (23, 7))
    return sequence.to_bytes(16, "little") + bytes(16) + attribute(3, name) + b"".join(counters) + attribute(13, b"\6")


def test_a_link_is_the_same_whatever_traffic_it_has_seen() -> None:
    """Or each look would have all links of a busy host to take apart."""
    assert without_counters(link(1, b"eth0", packets=5)) == without_counters(link(2, b"eth0", packets=7))
    assert without_counters(link(1, b"eth0", packets=5)) != without_counters(link(1, b"eth1", packets=5))


@pytest.mark.parametrize("length", [0, 31, 32, 37, 60])
def test_a_message_that_ends_too_early_keeps_what_it_has(length: int) -> None:
    """No byte is lost but those of the counters."""
    assert without_counters(link(1, b"eth0", packets=5)[:length]) == link(1, b"eth0", packets=5)[16:length][:24]


@pytest.mark.parametrize(("mask", "unknown"), [(0xFFFF, None), (0xFF00, [29])])
def test_a_rule_for_a_port_has_a_mask_that_asks_for_all_of_it(mask: int, unknown: list[int] | None) -> None:
    """From Linux 6.15 on all are told with one; what asks for a part of the port is not understood."""
    body = bytes((2, 0, 0, 0, 254, 0, 0, 8)) + bytes(4)
    body += attribute(24, (80).to_bytes(2, sys.byteorder) * 2) + attribute(29, mask.to_bytes(2, sys.byteorder))
    rule = decode_rule((16 + len(body)).to_bytes(4, sys.byteorder) + bytes(12) + body)
    assert (rule["dport"], rule["action"], rule.get("unknown")) == (80, "prohibit", unknown)


class _WithoutIpv6:
    """The kernel as it answers for a family that it was started without, and for IPv4."""

    def __init__(self, refusal: int) -> None:
        self._refusal = refusal

    def dump(self, kind: int, body: bytes) -> list[bytes]:
        """Refuse what is of IPv6."""
        del kind
        if body[0] == socket.AF_INET6:
            raise OSError(self._refusal, os.strerror(self._refusal))
        return [bytes(16) + body]


def test_a_kernel_that_was_started_without_ipv6_has_no_rules_of_it() -> None:
    """With ipv6.disable=1 there is nobody to list them (fib_nl_dumprule)."""
    kernel = _WithoutIpv6(errno.EAFNOSUPPORT)
    found = read_rules(kernel, Memo(lambda message: {"family": message[16]}))  # type: ignore[arg-type]
    assert found == [{"family": socket.AF_INET}]


def test_a_kernel_that_was_started_without_ipv6_has_no_labels() -> None:
    """Nobody is there for such a message then (rtnetlink_rcv_msg)."""
    assert read_labels(_WithoutIpv6(errno.EOPNOTSUPP), (), Memo(decode_label)) is None  # type: ignore[arg-type]
    with pytest.raises(PermissionError):
        read_labels(_WithoutIpv6(errno.EPERM), (), Memo(decode_label))  # type: ignore[arg-type]
