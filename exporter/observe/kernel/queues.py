"""What sees the packets of single interfaces beside netfilter: filters and queues of tc."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from exporter.observe.kernel.netlink import attributes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

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


_ACTIONS: Final = {
    "basic": 3, "bpf": 1, "cgroup": 1, "flow": 9, "flower": 3, "fw": 4, "matchall": 2, "route": 6, "u32": 7,
}  # fmt: skip
"""Numbers of the actions of a filter, by its kind (TCA_…_ACT)."""
_ACTION_KIND, _ACTION_OPTIONS = 1, 2
_LEADING_NOBODY: Final = ("connmark", "csum", "ctinfo", "gact", "gate", "police", "sample", "simple")
"""Actions after which packets go where they were going, or nowhere."""
_MIRRED, _MIRRED_PARAMETERS = "mirred", 2
_MIRRED_SAYS: Final = struct.Struct("=20xiI")
"""What it does (TCA_EGRESS_REDIR …), and the interface by which."""
_INWARD: Final = (3, 4)
_BPF = "bpf"


@dataclass(frozen=True, slots=True)
class Action:
    """What a filter does that may lead packets elsewhere, by its kind.

    `mirred` sends them, or copies, by the interface of an index, or has them come in by it (`inward`).
    """

    kind: str
    interface: int = 0
    inward: bool = False


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue of an interface (`qdisc`), or a class of one."""

    interface: int
    handle: int
    kind: str


@dataclass(frozen=True, slots=True)
class Traffic:
    """What tc does at an interface: its `filters` and a `queue` of this kind may drop packets.

    `actions` are those that may lead packets elsewhere; `bpf` is whether a program is a filter, or an action.
    """

    filters: bool = False
    queue: str = ""
    actions: tuple[Action, ...] = ()
    bpf: bool = False


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
        acting = _acting(netlink, queue)
        actions = dict.fromkeys((*before.actions, *(each for told in acting for each in _leading(told))))
        bpf = before.bpf or any(map(_is_program, acting))
        kind = before.queue if known else queue.kind
        found[queue.interface] = Traffic(before.filters or bool(acting), kind, tuple(actions), bpf)
    return {index: traffic for index, traffic in found.items() if traffic != Traffic()}


def _acting(netlink: Netlink, queue: Queue) -> list[bytes]:
    """Return the filters of a queue that do something to packets."""
    if queue.kind in _OF_ALL_PACKETS:
        return [each for parent in (_INGRESS, _EGRESS) for each in _filters(netlink, queue.interface, parent)]
    if queue.kind in _FLOWS:
        return _filters(netlink, queue.interface, queue.handle)
    if queue.kind not in _CLASSFUL:
        return []
    classes = _queues(netlink.dump(_GET_CLASS, _TC.pack(0, queue.interface, 0, queue.handle, 0)))
    parents = (queue.handle, *(each.handle for each in classes))
    filters = (each for parent in parents for each in _filters(netlink, queue.interface, parent))
    return [each for each in filters if _has_actions(each)]


def _filters(netlink: Netlink, interface: int, parent: int) -> list[bytes]:
    return netlink.dump(_GET_FILTER, _TC.pack(0, interface, 0, parent, 0))


def _has_actions(message: bytes) -> bool:
    kind, options = _filter(message)
    numbers = _ACTING.get(kind)
    return numbers is None or any(number in options for number in numbers)


def _is_program(message: bytes) -> bool:
    kind, _ = _filter(message)
    return kind == _BPF or any(action == _BPF for action, _ in _actions(message))


def _leading(message: bytes) -> Iterator[Action]:
    """Yield the actions of a filter by which packets may go elsewhere; what a program does nobody can tell."""
    for kind, options in _actions(message):
        if kind == _MIRRED:
            said = options.get(_MIRRED_PARAMETERS, b"")
            does, interface = _MIRRED_SAYS.unpack_from(said) if len(said) >= _MIRRED_SAYS.size else (0, 0)
            yield Action(kind, interface, does in _INWARD)
        elif kind not in (*_LEADING_NOBODY, _BPF):
            yield Action(kind)


def _actions(message: bytes) -> Iterator[tuple[str, Mapping[int, bytes]]]:
    """Yield the kinds of a filter's actions, with what each says."""
    kind, options = _filter(message)
    for action in attributes(options.get(_ACTIONS.get(kind, 0), b""), 0).values():
        said = attributes(action, 0)
        yield _text(said.get(_ACTION_KIND, b"")), attributes(said.get(_ACTION_OPTIONS, b""), 0)


def _filter(message: bytes) -> tuple[str, Mapping[int, bytes]]:
    """Return the kind of a filter, and what it says."""
    own = attributes(message, _BODY)
    return _text(own.get(_KIND, b"")), attributes(own.get(_OPTIONS, b""), 0)


def _queues(messages: Iterable[bytes]) -> Iterator[Queue]:
    for message in messages:
        _, interface, handle, _, _ = _TC.unpack_from(message, 16)
        yield Queue(interface, handle, _text(attributes(message, _BODY).get(_KIND, b"")))


def _text(value: bytes) -> str:
    return value.rstrip(b"\0").decode(errors="replace")
