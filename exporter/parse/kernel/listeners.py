"""Sockets that take packets.

{"protocol": "tcp", "address": "::", "port": 8080, "v6only": true, "program": "docker-proxy",
 "relay": ["172.17.0.2", 80]}
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from exporter.errors import ObservationError
from exporter.model.namespace import Listener
from exporter.model.reach import Protocol
from exporter.parse.fields import address, flag, integer, text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from exporter.model.addresses import Address


def parse_listeners(documents: Sequence[Mapping[str, Any]]) -> tuple[Listener, ...]:
    """Return listeners. Raises ObservationError for a socket without address or protocol.

    A socket of which nobody knows whether it takes IPv4 too (no `v6only`) is taken to.
    """
    return tuple(_listener(document) for document in documents)


def _listener(document: Mapping[str, Any]) -> Listener:
    bound = address(text(document, "address"))
    if bound is None or text(document, "protocol") not in ("tcp", "udp"):
        raise ObservationError("a listening socket without address or protocol")
    return Listener(
        protocol=Protocol(text(document, "protocol")),
        address=bound,
        port=integer(document, "port"),
        relay=_relay(document.get("relay")),
        v6only=flag(document, "v6only") or False,
        program=text(document, "program"),
    )


def _relay(told: object) -> tuple[Address, int] | None:
    match told:
        case [str() as inside, int() as port] if (target := address(inside)) is not None:
            return target, port
        case _:
            return None
