"""What recordings show of the kernel is understood as a whole."""

from __future__ import annotations

from dataclasses import replace

import pytest

from exporter.model.reach import HOST
from exporter.parse import parse
from tests.conformance.recorded_kernel import kernel_documents
from tests.conformance.test_recordings import NAMES, recording


@pytest.mark.parametrize("name", NAMES)
def test_the_kernel_of_a_recording_is_understood(name: str) -> None:
    """Every source of evidence is there, and every sandbox is one that the kernel shows, too."""
    found = recording(name)
    snapshot = parse(replace(found.look().observation, kernel=kernel_documents(found.document)))
    assert snapshot.kernel is not None
    assert snapshot.kernel.missing == {}
    assert snapshot.kernel.sandboxes.keys() == snapshot.sandboxes.keys() - {HOST}
    assert [f"{table.family} {table.name}" for table in snapshot.kernel.host.firewall.tables] == [
        "ip docker-bridges",
        "ip6 docker-bridges",
    ]
    for sandbox in snapshot.kernel.sandboxes.values():
        peers = [interface.peer for interface in sandbox.interfaces.values() if interface.kind == "veth"]
        assert {snapshot.kernel.host.interfaces[peer].kind for peer in peers if peer} <= {"veth"}
    relays = [listener for listener in snapshot.kernel.host.listeners if listener.program == "docker-proxy"]
    assert all(listener.relay for listener in relays)
