"""The names of containers and networks beside the addresses and interfaces that the kernel knows."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from exporter.model.reach import HOST

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from exporter.model.snapshot import Kernel, Sandbox, Snapshot

_TOKEN = re.compile(r"[^\s\"',;!=@{}\[\]()]+")


class Names:
    """What addresses, subnets and interfaces of the host are called; `asked` names sandboxes as a question does."""

    def __init__(self, snapshot: Snapshot, kernel: Kernel, asked: Mapping[str, str] | None = None) -> None:
        self._containers = {sandbox.id: _called(snapshot, sandbox) for sandbox in snapshot.sandboxes.values()}
        self._containers |= {sandbox: name for sandbox, name in (asked or {}).items() if sandbox != HOST}
        self._known: dict[str, str] = {}
        for word, name in (*self._of_networks(snapshot), *self._of_interfaces(kernel), *self._of_containers(snapshot)):
            self._known.setdefault(word, name)

    def place(self, sandbox: str) -> str:
        """Return the name of a sandbox: its owner's, or `host`."""
        return self._containers.get(sandbox, sandbox)

    def named(self, word: str) -> str:
        """Return an address or an interface with its name behind it, where it has one."""
        name = self.name(word)
        return f"{word} ({name})" if name else word

    def put_in(self, text: str) -> str:
        """Return the text of a rule with names behind all that have one."""
        return _TOKEN.sub(lambda found: self.named(found[0]), text)

    def name(self, word: str) -> str:
        """Return what an address or an interface is called, empty for those without a name."""
        plain = word.removesuffix("/32").removesuffix("/128")
        found = self._known.get(plain)
        if found is None:
            # 172.17.0.2:80, as destinations of translations are written
            address, _, port = plain.rpartition(":")
            found = self._known.get(address) if port.isdecimal() and "." in address else None
        return found or ""

    def _of_networks(self, snapshot: Snapshot) -> Iterator[tuple[str, str]]:
        for network in snapshot.networks.values():
            if network.interface:
                yield network.interface, f"network {network.name}"
            for pool in network.pools:
                yield str(pool.subnet), f"network {network.name}"
                if pool.gateway is not None and network.driver == "bridge":
                    yield str(pool.gateway), f"host on {network.name}"

    def _of_interfaces(self, kernel: Kernel) -> Iterator[tuple[str, str]]:
        # a veth and its peer name each other; an index alone may be taken in several namespaces
        owners = {
            (interface.peer, interface.index): (sandbox, interface.name)
            for sandbox, namespace in kernel.sandboxes.items()
            for interface in namespace.interfaces.values()
            if interface.kind == "veth"
        }
        for interface in kernel.host.interfaces.values():
            owner, name = owners.get((interface.index, interface.peer or 0), ("", ""))
            if owner:
                yield interface.name, f"{name} of {self.place(owner)}"
            yield from ((str(address.ip), HOST) for address in interface.addresses if not address.ip.is_loopback)

    def _of_containers(self, snapshot: Snapshot) -> Iterator[tuple[str, str]]:
        for sandbox in snapshot.sandboxes.values():
            for endpoint in sandbox.endpoints:
                for address in (endpoint.ipv4, endpoint.ipv6):
                    if address is not None:
                        yield str(address), self.place(sandbox.id)


def _called(snapshot: Snapshot, sandbox: Sandbox) -> str:
    if sandbox.id == HOST:
        return HOST
    owner = snapshot.containers.get(sandbox.id)
    return owner.name if owner is not None else sandbox.name
