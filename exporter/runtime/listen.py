"""Sockets to serve on: bound here, or handed over by systemd."""

from __future__ import annotations

import contextlib
import os
import socket
from typing import TYPE_CHECKING, Final

from exporter.config import parse_listen_address
from exporter.errors import ExporterError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_BACKLOG = 512

_FIRST_INHERITED: Final = 3
"""Descriptors from systemd begin after the three standard ones (sd_listen_fds(3))."""


def bind(addresses: Iterable[str]) -> list[socket.socket]:
    """Return listening sockets for `:10422`, `127.0.0.1:10422`, `localhost:10422`, `[::1]:10422`.

    Raises ExporterError that names the address where that is not possible; nothing stays bound then.
    """
    with contextlib.ExitStack() as bound:
        sockets = [bound.enter_context(listener) for address in addresses for listener in _bind(address)]
        bound.pop_all()
    return sockets


def inherited(environ: Mapping[str, str], process: int, first: int = _FIRST_INHERITED) -> list[socket.socket]:
    """Return the listening sockets that systemd opened for this process, as sd_listen_fds(3) describes them.

    `environ` holds LISTEN_PID and LISTEN_FDS. Raises ExporterError where there are none, or one is something else.
    """
    count = environ.get("LISTEN_FDS", "")
    if environ.get("LISTEN_PID") != str(process) or not count.isdecimal() or not int(count):
        raise ExporterError("--web.systemd-socket: systemd handed over no socket: start the unit by its .socket unit")
    with contextlib.ExitStack() as taken:
        sockets = [taken.enter_context(_inherit(number)) for number in range(first, first + int(count))]
        taken.pop_all()
    return sockets


def shown(listener: socket.socket) -> str:
    """Return the address that a socket listens on, as one would write it in a URL."""
    if listener.family == socket.AF_UNIX:
        return f"unix:{listener.getsockname()}"
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _inherit(number: int) -> socket.socket:
    try:
        listener = socket.socket(fileno=number)
    except OSError as error:
        raise ExporterError(f"--web.systemd-socket: descriptor {number} is no socket: {error.strerror}") from error
    if listener.type != socket.SOCK_STREAM or not listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        listener.close()
        raise ExporterError(
            f"--web.systemd-socket: descriptor {number} accepts no connections: use ListenStream= and Accept=no"
        )
    os.set_inheritable(number, False)
    return listener


def _bind(address: str) -> list[socket.socket]:
    host, port = parse_listen_address(address)
    with contextlib.ExitStack() as bound:
        try:
            if not host:
                return [_bind_all(port)]
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            endpoints = dict.fromkeys((family, where) for family, _, _, _, where in found)
            sockets = [bound.enter_context(_listener(family, where)) for family, where in endpoints]
        except OSError as error:
            raise ExporterError(f"cannot listen on {address}: {error.strerror or error}") from error
        bound.pop_all()
    return sockets


def _bind_all(port: int) -> socket.socket:
    """Listen on every address: one socket for both families, or IPv4 alone where the machine has no IPv6."""
    if socket.has_dualstack_ipv6():
        return _listener(socket.AF_INET6, ("::", port), dualstack=True)
    return _listener(socket.AF_INET, ("", port))


def _listener(family: int, where: tuple[object, ...], *, dualstack: bool = False) -> socket.socket:
    # named, for asyncio asks for it: without, it leaves Nagle's algorithm on, and an answer waits 40 ms for the
    # client's delayed acknowledgement
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not dualstack)
        listener.bind(where)
        # now, not when the server starts: an address in use shows only here where both sides set SO_REUSEADDR
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener
