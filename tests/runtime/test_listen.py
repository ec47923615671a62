"""Sockets from systemd; those that are bound here are in test_http."""

from __future__ import annotations

import fcntl
import os
import socket
from typing import TYPE_CHECKING

import pytest

from exporter.errors import ExporterError
from exporter.runtime.listen import inherited, shown

if TYPE_CHECKING:
    from pathlib import Path

FIRST = 200
"""Descriptors from here on stand for those from 3 on, which a test does not own."""


def environment(process: int, count: int) -> dict[str, str]:
    """Return what systemd tells a service."""
    return {"LISTEN_PID": str(process), "LISTEN_FDS": str(count), "LISTEN_FDNAMES": "a:b"}


def hand_over(*sockets: socket.socket) -> None:
    """Put sockets where the function will look for them, and close them here."""
    for offset, each in enumerate(sockets):
        assert fcntl.fcntl(each.fileno(), fcntl.F_DUPFD, FIRST + offset) == FIRST + offset
        each.close()


def test_all_sockets_are_taken(tmp_path: Path) -> None:
    """IPv4, IPv6 and Unix sockets; no program that is started later has them."""
    unix = socket.socket(socket.AF_UNIX)
    unix.bind(str(tmp_path / "s"))
    unix.listen()
    four, six = socket.create_server(("127.0.0.1", 0)), socket.create_server(("::1", 0), family=socket.AF_INET6)
    addresses = [shown(four), shown(six), f"unix:{tmp_path}/s"]
    hand_over(four, six, unix)
    taken = inherited(environment(7, 3), 7, FIRST)
    assert [shown(each) for each in taken] == addresses
    assert not any(each.get_inheritable() for each in taken)
    for each in taken:
        each.close()


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"LISTEN_FDS": "1"},
        {"LISTEN_PID": "7"},
        environment(8, 1),
        environment(7, 0),
        {"LISTEN_PID": "7", "LISTEN_FDS": "x"},
    ],
)
def test_none_is_an_error(environ: dict[str, str]) -> None:
    """Descriptors that are meant for another process are none either."""
    with pytest.raises(ExporterError, match=r"systemd handed over no socket: start the unit by its \.socket unit"):
        inherited(environ, 7, FIRST)


def test_other_descriptors_are_refused() -> None:
    """A file, a datagram socket and a connection accept nothing; the ones before them are closed again."""
    listener, datagrams = socket.create_server(("127.0.0.1", 0)), socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    hand_over(listener, datagrams)
    with pytest.raises(ExporterError, match=f"descriptor {FIRST + 1} accepts no connections: use ListenStream="):
        inherited(environment(7, 2), 7, FIRST)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(FIRST)
    reading, writing = os.pipe()
    os.dup2(reading, FIRST)
    with pytest.raises(ExporterError, match=f"descriptor {FIRST} is no socket: Socket operation on non-socket"):
        inherited(environment(7, 1), 7, FIRST)
    for each in (reading, writing, FIRST):
        os.close(each)
