"""What the service manager is told: systemd's protocol of sd_notify(3), a datagram of KEY=VALUE lines for each news.

Where no manager listens (NOTIFY_SOCKET is not set), nothing is sent; one that does not take a message is no reason to
end.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Manager:
    """The service manager: `address` of its socket, empty where there is none, and whether it waits for `alive`."""

    address: str = ""
    watches: bool = False

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Self:
        """Return the manager that the environment tells of.

        WATCHDOG_PID names the process that WATCHDOG_USEC is meant for: a child inherits both.
        """
        address = environ.get("NOTIFY_SOCKET", "")
        # a path or @name of Linux's abstract namespace; systemd also has vsock: for virtual machines, which is not us
        if not address.startswith(("/", "@")):
            return cls()
        ours = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        return cls(address, ours and environ.get("WATCHDOG_USEC", "0") not in ("", "0"))

    def ready(self) -> None:
        """Say that starting, or reading the configuration again, has ended."""
        self._send("READY=1")

    def reloading(self) -> None:
        """Say that the configuration is read again; `ready` must follow. Type=notify-reload needs the time."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """Say that the end has begun."""
        self._send("STOPPING=1")

    def alive(self) -> None:
        """Say that all is well; a manager that watches ends a process that does not say so for WatchdogSec."""
        if self.watches:
            self._send("WATCHDOG=1")

    def _send(self, message: str) -> None:
        if not self.address:
            return
        address = f"\0{self.address[1:]}" if self.address.startswith("@") else self.address
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            # not even a manager that hangs may hold the main thread up
            sender.setblocking(False)
            sender.sendto(message.encode(), address)
