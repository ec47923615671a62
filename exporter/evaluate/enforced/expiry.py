"""Connections that conntrack has forgotten when their next packet comes.

A timeout is counted in seconds, from a packet on. With 1 the next packet of a conversation still finds what the one
before left; with 0, or less, that has expired as soon as it is there (nf_ct_is_expired).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from exporter.model.reach import TRANSPORTS, Protocol

if TYPE_CHECKING:
    from exporter.model.namespace import Namespace

_CONNTRACK: Final = "netfilter/nf_conntrack_"
_OF_FIRST_PACKETS: Final = {TRANSPORTS[Protocol.UDP]: "udp_timeout", 1: "icmp_timeout", 58: "icmpv6_timeout"}
"""How long what has no answer yet is known, by the number of the protocol."""
_LASTING: Final = 1
_UNSIGNED: Final = 1 << 32


@dataclass(frozen=True, slots=True)
class Expiry:
    """What a namespace's conntrack forgets at once.

    `protocols` are those whose first packets leave nothing behind; of a conversation of TCP, it may be what was asked,
    `answered` or `confirmed`. Packets of a connection that is not known may begin another one where it is `loose`.
    """

    protocols: frozenset[int]
    asked: bool
    answered: bool
    confirmed: bool
    loose: bool

    @property
    def of_tcp(self) -> bool:
        """Whether anything of a conversation of TCP is forgotten."""
        return self.answered or self.confirmed

    @property
    def unusual(self) -> bool:
        """Whether any connection fares otherwise than by the kernel's own settings."""
        return bool(self.protocols) or self.of_tcp or not self.loose


def expiry(namespace: Namespace) -> Expiry:
    """Return what a namespace's conntrack forgets at once.

    nf_conntrack_tcp_packet: until a window was seen, the time for what is sent again holds where it is shorter, and for
    what began in the middle also the one for what is not acknowledged.
    """
    again, unheard = (_of_tcp(namespace, state) for state in ("max_retrans", "unacknowledged"))
    asked, answered = (_expires(_of_tcp(namespace, state), again) for state in ("syn_sent", "syn_recv"))
    established = _of_tcp(namespace, "established")
    protocols = {number for number, name in _OF_FIRST_PACKETS.items() if _timeout(namespace, name) <= 0}
    loose = namespace.setting(f"{_CONNTRACK}tcp_loose", 1) != 0
    answered = answered or asked
    return Expiry(
        protocols=frozenset(protocols | ({TRANSPORTS[Protocol.TCP]} if asked else set())),
        asked=asked,
        answered=answered,
        confirmed=_expires(established) or (answered and (not loose or _expires(established, again, unheard))),
        loose=loose,
    )


def _of_tcp(namespace: Namespace, state: str) -> int:
    return _timeout(namespace, f"tcp_timeout_{state}") % _UNSIGNED


def _expires(*timeouts: int) -> bool:
    """Return whether the shortest of these numbers without a sign is no time at all, taken as one with a sign."""
    return not 0 < min(timeouts) < _UNSIGNED // 2


def _timeout(namespace: Namespace, name: str) -> int:
    return namespace.setting(_CONNTRACK + name, _LASTING)
