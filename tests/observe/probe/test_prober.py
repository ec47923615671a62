"""The prober's own guards, before any packet and any namespace: they need no permission."""

from __future__ import annotations

import struct
import subprocess
import sys
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.errors import ForbiddenProbe, ProbeError
from exporter.model.explanation import Packet
from exporter.model.probe import Ground, Probe, Sight
from exporter.model.reach import HOST, Protocol
from exporter.observe.probe import Prober
from exporter.observe.probe.mark import Answer, Asked, Mark
from tests.builders import container

A, B, C = container("a"), container("b"), container("c")
GROUND = Ground(
    {A.sandbox: frozenset({"172.17.0.2"}), B.sandbox: frozenset({"172.17.0.3"}), HOST: frozenset({"10.0.0.1"})}
)
TCP, UDP = Protocol.TCP, Protocol.UDP
V4, V6 = 2, 10
V6_ADDRESS = "2001:db8:100::10"


@pytest.mark.parametrize(
    "probe",
    [
        Probe(A, B, Packet(TCP, "192.0.2.1", 80)),
        Probe(A, B, Packet(UDP, "172.17.0.2", 80)),
        Probe(A, B, Packet(TCP, "127.0.0.1", 80)),
        Probe(A, B, Packet(TCP, "10.0.0.1", 80), relay=Packet(TCP, "192.0.2.1", 80)),
        Probe(A, C, Packet(TCP, "10.0.0.1", 80)),
    ],
    ids=["nobody's", "the source's own", "loopback", "relayed to nobody", "a sandbox that was not read"],
)
def test_a_foreign_address_stops_everything(probe: Probe) -> None:
    """One probe that would leave the sandboxes, and none of the round is sent: it is a defect of whoever asked."""
    begun = threading.active_count()
    with pytest.raises(ForbiddenProbe, match="refused to send a packet to"):
        Prober().send([Probe(A, B, Packet(TCP, "172.17.0.3", 80)), probe], GROUND)
    assert threading.active_count() == begun


def test_a_withheld_probe_opens_nothing() -> None:
    """What is not to be sent needs no namespace, and comes back with the reason."""
    assert Prober().send([Probe(A, B, Packet(TCP, "172.17.0.3", 80), withheld="why")], GROUND) == [
        Sight(withheld="why")
    ]


def test_an_interrupted_prober_sends_no_more() -> None:
    """After `interrupt`, every `send` ends with an error."""
    prober = Prober()
    prober.interrupt()
    with pytest.raises(ProbeError, match="the round of probes was ended"):
        prober.send([Probe(A, B, Packet(TCP, "172.17.0.3", 80))], GROUND)


def test_a_container_without_a_process_is_trouble_of_its_probes() -> None:
    """Nothing is sent from or to a container that has ended, and its probes say so."""
    (sight,) = Prober().send([Probe(A, B, Packet(TCP, "172.17.0.3", 80))], GROUND)
    assert "no process of the container is visible" in sight.trouble


def segment(sequence: int, acknowledged: int, flags: int) -> bytes:
    """Return a TCP header from port 1000 to 2000."""
    return struct.pack("!HHIIBBHHH", 1000, 2000, sequence, acknowledged, 0x50, flags, 0, 0, 0)


HEADER = b"\x46" + bytes(23)
"""An IPv4 header with an option."""


@pytest.mark.parametrize(
    ("packet", "found"),
    [
        (segment(0xABCD0007, 0, 0x02), Asked(7)),
        (segment(1, 0xABCD0008, 0x12), Answer(7, 1000, 2000)),
        (segment(0, 0xABCD0008, 0x14), Answer(7, 1000, 2000)),
        (segment(0xABCE0007, 0, 0x02), None),
        (segment(0xABCD0008, 0, 0x04), None),
        (segment(0xABCD0007, 5, 0x10), None),
    ],
    ids=["SYN", "SYN-ACK", "RST", "of another round", "our own reset", "no SYN"],
)
def test_packets_are_known_by_their_numbers(packet: bytes, found: object) -> None:
    """SYNs carry the mark in their sequence number, answers acknowledge it; everything else is somebody else's."""
    mark = Mark(0xABCD)
    assert mark.read(packet, V6, TCP) == found
    assert mark.read(HEADER + packet, V4, TCP) == found


def test_datagrams_are_known_by_their_content() -> None:
    """The content names the round and the probe."""
    mark = Mark(0xABCD)
    datagram = bytes(8) + mark.content(7)
    assert mark.read(HEADER + datagram, V4, UDP) == mark.read(datagram, V6, UDP) == Asked(7)
    assert mark.read(bytes(8) + Mark(1).content(7), V6, UDP) is None


@given(st.binary(max_size=80), st.sampled_from([V4, V6]), st.sampled_from([TCP, UDP]))
def test_any_packet_can_be_read(packet: bytes, family: int, protocol: Protocol) -> None:
    """Packets that others made up are read without an error."""
    Mark(0xABCD).read(packet, family, protocol)


@pytest.mark.lab
def test_a_sandbox_with_ipv6_turned_off_sends_none() -> None:
    """Its kernel says that no address can be had: the packet does not arrive, and that is no trouble of the prober."""
    script = f"""
import threading
from exporter.model.explanation import Packet
from exporter.model.reach import Protocol
from exporter.observe.probe.mark import Mark
from exporter.observe.probe.round import Leg, Round
packets = [Packet(protocol, "{V6_ADDRESS}", 80) for protocol in (Protocol.TCP, Protocol.UDP)]
legs = [Leg(number, "here", ("there",), packet) for number, packet in enumerate(packets)]
with Round(Mark(7), threading.Event(), 5) as round_:
    round_.furnish("here", legs, ["10.0.0.1"])
    round_.run()
    print(round_.trouble, [leg.number for leg in legs if round_.seen[leg.number]])
"""
    off = "echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6; ip link set lo up; exec "
    shell = ["unshare", "--net", "sh", "-c", f'{off}"$@"', "sh", sys.executable, "-c", script]
    done = subprocess.run(shell, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("{} []\n", "")
