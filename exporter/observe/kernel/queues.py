"""What sees the packets of single interfaces beside netfilter: filters and queues of tc."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from exporter.observe.kernel.netlink import attributes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from exporter.observe.kernel.netlink import Netlink

_GET_QDISC, _GET_CLASS, _GET_FILTER = 38, 42, 46
_TC = struct.Struct("=B3xiIII")
"""Family, interface, handle, parent, info."""
_BODY = 36
"""Bytes of the headers of netlink and tc."""
_KIND, _OPTIONS = 1, 2
_INGRESS, _EGRESS = 0xFFFFFFF2, 0xFFFFFFF3

_OF_ALL_PACKETS: Final = ("clsact", "ingress")
_CLASSFUL: Final = ("cbq", "ets", "htb", "multiq", "prio")
_FLOWS: Final = ("cake", "fq_codel", "fq_pie", "sfb", "sfq")
"""Queues that tell flows apart, by filters if there are any: some drop what none of them selects."""
_CLASSLESS: Final = (
    "bfifo", "choke", "codel", "fq", "gred", "hhf", "mq", "mqprio", "noop", "noqueue", "pfifo", "pfifo_fast",
    "pfifo_head_drop", "pie", "red", "skbprio", "tbf",
)  # fmt: skip
"""Queues that drop packets for load alone; `noop` is that of interfaces that are down."""

_ACTING: Final = {
    "basic": (3, 4), "cgroup": (1, 2), "flow": (9, 10), "flower": (3,), "fw": (2, 4), "matchall": (2,),
    "route": (5, 6), "u32": (6, 7),
}  # fmt: skip
"""Kinds of filters that choose a class, by the numbers of their actions and policers (TCA_…_ACT, TCA_…_POLICE)."""


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue of an interface (`qdisc`), or a class of one."""

    interface: int
    handle: int
    kind: str


@dataclass(frozen=True, slots=True)
class Traffic:
    """What tc does at an interface: its `filters` and a `queue` of this kind may drop packets."""

    filters: bool = False
    queue: str = ""


def read_traffic(netlink: Netlink) -> dict[int, Traffic]:
    """Return what tc does, by the index of the interface; nothing for those that are usual. Raises as `dump`.

    Filters at the qdiscs clsact and ingress act on every packet. Those of other qdiscs choose a class, unless they
    have actions. Of qdiscs of a kind that is not known to be harmless (`blackhole`, `netem`, `plug`; and `hfsc`, `drr`
    and `qfq`, which drop what no filter gave a class) nobody can tell what they drop.
    """
    found: dict[int, Traffic] = {}
    for queue in _queues(netlink.dump(_GET_QDISC, _TC.pack(0, 0, 0, 0, 0))):
        if queue.kind in _CLASSLESS:
            continue
        before = found.get(queue.interface, Traffic())
        known = queue.kind in (*_OF_ALL_PACKETS, *_CLASSFUL, *_FLOWS)
        filters = before.filters or _acts(netlink, queue)
        found[queue.interface] = Traffic(filters, before.queue if known else queue.kind)
    return {index: traffic for index, traffic in found.items() if traffic != Traffic()}


def _acts(netlink: Netlink, queue: Queue) -> bool:
    if queue.kind in _OF_ALL_PACKETS:
        return any(_filters(netlink, queue.interface, parent) for parent in (_INGRESS, _EGRESS))
    if queue.kind in _FLOWS:
        return bool(_filters(netlink, queue.interface, queue.handle))
    if queue.kind not in _CLASSFUL:
        return False
    classes = _queues(netlink.dump(_GET_CLASS, _TC.pack(0, queue.interface, 0, queue.handle, 0)))
    parents = (queue.handle, *(each.handle for each in classes))
    filters = (each for parent in parents for each in _filters(netlink, queue.interface, parent))
    return any(map(_has_actions, filters))


def _filters(netlink: Netlink, interface: int, parent: int) -> list[bytes]:
    return netlink.dump(_GET_FILTER, _TC.pack(0, interface, 0, parent, 0))


def _has_actions(message: bytes) -> bool:
    own = attributes(message, _BODY)
    options = attributes(own.get(_OPTIONS, b""), 0)
    numbers = _ACTING.get(_text(own.get(_KIND, b"")))
    return numbers is None or any(number in options for number in numbers)


def _queues(messages: Iterable[bytes]) -> Iterator[Queue]:
    for message in messages:
        _, interface, handle, _, _ = _TC.unpack_from(message, 16)
        yield Queue(interface, handle, _text(attributes(message, _BODY).get(_KIND, b"")))


def _text(value: bytes) -> str:
    return value.rstrip(b"\0").decode(errors="replace")
