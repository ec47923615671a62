"""Who sees packets beside netfilter: what tc and bpf(2) say, and what cannot be asked."""

from __future__ import annotations

import ctypes
import errno
from typing import TYPE_CHECKING, Any

import pytest

from exporter.observe.kernel import bpf, queues
from exporter.observe.kernel.cgroups import Cgroups
from exporter.observe.kernel.netlink import attribute
from exporter.observe.kernel.queues import Action, Traffic
from exporter.observe.kernel.trouble import Unreadable

if TYPE_CHECKING:
    from pathlib import Path

UNIFIED = "38 28 0:38 / {place} rw,relatime shared:9 - cgroup2 cgroup2 rw\n"
OTHERS = (
    "24 1 0:22 / /proc rw,nosuid - proc proc rw\n"
    "29 28 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n"
    "37 28 0:38 /system.slice/a.service /mnt/part rw - cgroup2 cgroup2 rw\n"
)


class Told:
    """A kernel with these queues, classes and filters of interface 7."""

    def __init__(self, qdiscs: dict[int, str], filters: dict[int, bytes] | None = None) -> None:
        self._qdiscs = qdiscs
        self._filters = filters or {}

    def dump(self, kind: int, body: bytes) -> list[bytes]:
        """Answer as rtnetlink does."""
        parent = int.from_bytes(body[12:16], "little")
        if kind == queues._GET_QDISC:
            return [message(handle, attribute(1, name.encode() + b"\0")) for handle, name in self._qdiscs.items()]
        if kind == queues._GET_FILTER and parent in self._filters:
            return [message(0, self._filters[parent])]
        return []


def message(handle: int, attributes: bytes) -> bytes:
    """Return a message about interface 7."""
    return bytes(16) + queues._TC.pack(0, 7, handle, 0, 0) + attributes


def traffic(*told: Any) -> Traffic | None:  # noqa: ANN401
    """Return what is read of interface 7."""
    return queues.read_traffic(Told(*told)).get(7)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["noqueue", "fq_codel", "pfifo_fast", "mq", "htb", "clsact", "tbf", "cake"])
def test_queues_for_load_are_not_told(kind: str) -> None:
    """What drops packets for load alone is as usual."""
    assert traffic({1 << 16: kind}) is None


@pytest.mark.parametrize("kind", ["blackhole", "netem", "plug", "hfsc", "one-of-tomorrow"])
def test_other_queues_are(kind: str) -> None:
    """Of any other kind nobody can tell what it drops."""
    assert traffic({1 << 16: "mq", 2 << 16: kind}) == Traffic(queue=kind)


@pytest.mark.parametrize(
    ("kind", "option", "acts"),
    [("u32", 1, False), ("u32", 6, True), ("u32", 7, True), ("fw", 4, True), ("fw", 1, False), ("flower", 3, True),
     ("bpf", 3, True), ("one-of-tomorrow", 1, True)],
)  # fmt: skip
def test_filters_of_classes_act_where_they_have_actions(kind: str, option: int, acts: bool) -> None:
    """Those that only choose a class drop nothing; BPF may return a verdict itself."""
    told = attribute(1, kind.encode() + b"\0") + attribute(2, attribute(option, bytes(4)))
    expected = Traffic(filters=True, bpf=kind == "bpf") if acts else None
    assert traffic({1 << 16: "prio"}, {1 << 16: told}) == expected


def acting(*actions: bytes) -> Traffic | None:
    """Return what is read of a filter of all packets with these actions."""
    numbered = b"".join(attribute(number, said) for number, said in enumerate(actions, 1))
    told = attribute(1, b"u32\0") + attribute(2, attribute(7, numbered))
    return traffic({0xFFFF << 16: "clsact"}, {queues._INGRESS: told})


def action(kind: str, parameters: bytes = b"") -> bytes:
    """Return an action of a kind."""
    return attribute(1, kind.encode() + b"\0") + attribute(2, attribute(2, parameters))


@pytest.mark.parametrize(("does", "inward"), [(1, False), (2, False), (3, True), (4, True)])
def test_actions_that_send_packets_by_an_interface_are_told(does: int, inward: bool) -> None:
    """As they are, or copies: out by it, or in."""
    mirred = action("mirred", queues._MIRRED_SAYS.pack(does, 12))
    assert acting(action("gact"), mirred) == Traffic(filters=True, actions=(Action("mirred", 12, inward),))


def test_actions_that_write_into_packets_are_told() -> None:
    """So are those that nobody knows; what drops, counts or marks connections leads nobody elsewhere."""
    actions = Action("pedit"), Action("one-of-tomorrow")
    told = acting(action("csum"), action("pedit"), action("police"), action("one-of-tomorrow"))
    assert told == Traffic(filters=True, actions=actions)
    assert acting(action("mirred")) == Traffic(filters=True, actions=(Action("mirred"),))


def test_programs_among_filters_and_actions_are_told() -> None:
    """What a program does nobody can tell."""
    classifier = attribute(1, b"bpf\0") + attribute(2, attribute(8, bytes(4)))
    assert traffic({0xFFFF << 16: "clsact"}, {queues._EGRESS: classifier}) == Traffic(filters=True, bpf=True)
    assert acting(action("bpf")) == Traffic(filters=True, bpf=True)


@pytest.mark.parametrize("kind", ["fq_codel", "cake", "sfq"])
def test_any_filter_of_a_queue_of_flows_is_told(kind: str) -> None:
    """Such queues drop what no filter selects, once there is one."""
    told = attribute(1, b"u32\0") + attribute(2, attribute(1, bytes(4)))
    assert traffic({0: kind}, {0: told}) == Traffic(filters=True)


def test_the_whole_hierarchy_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mount of a part of it has not the paths that /proc tells; a place may hold a space."""
    place = tmp_path / "a place"
    (place / "docker" / "web").mkdir(parents=True)
    mounts = tmp_path / "mountinfo"
    mounts.write_text(OTHERS + UNIFIED.format(place=str(place).replace(" ", "\\040")))
    monkeypatch.setattr(bpf, "of_cgroup", lambda descriptor: descriptor > 0)
    assert Cgroups(mounts).watched("/docker/web")
    assert not Cgroups(mounts).watched("/docker/gone")
    assert not Cgroups(mounts).watched("")


@pytest.mark.parametrize(
    ("mounts", "path", "why"),
    [
        (OTHERS, "/docker/web", "is not mounted"),
        (OTHERS + UNIFIED.format(place="/"), "/../docker-1.scope", "from inside of one"),
        (OTHERS + UNIFIED.format(place="/"), "/proc/self/exe", "the cgroup of a container: "),
    ],
)
def test_what_cannot_be_seen_is_said(mounts: str, path: str, why: str, tmp_path: Path) -> None:
    """The reason is one for the page."""
    file = tmp_path / "mountinfo"
    file.write_text(mounts)
    with pytest.raises(Unreadable, match=why):
        Cgroups(file).watched(path)


def test_no_cgroup_is_no_cgroup(tmp_path: Path) -> None:
    """The kernel itself says that a folder is none."""
    file = tmp_path / "mountinfo"
    file.write_text(UNIFIED.format(place="/"))
    with pytest.raises(Unreadable, match=r"bpf: (Bad file descriptor|Operation not permitted)"):
        Cgroups(file).watched("/proc")


def test_a_right_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Containers forbid bpf(2) by default."""
    monkeypatch.setattr(ctypes, "get_errno", lambda: errno.EPERM)
    monkeypatch.setattr(bpf, "_NUMBER", -1)
    with pytest.raises(Unreadable, match="bpf: Operation not permitted: CAP_NET_ADMIN, and in containers"):
        bpf.at_interface(1)


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOSYS, errno.ENODEV, errno.ENOENT])
def test_kernels_that_know_of_none_have_none(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs of tcx came with Linux 6.6."""
    monkeypatch.setattr(ctypes, "get_errno", lambda: number)
    monkeypatch.setattr(bpf, "_NUMBER", -1)
    assert not bpf.at_interface(1)


def test_machines_that_nobody_knows_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another system call than the one meant is not made."""
    monkeypatch.setattr(bpf, "_NUMBER", None)
    with pytest.raises(Unreadable, match=r"its number on .* is not known"):
        bpf.at_interface(1)
