"""Who owns which resource, and how to remove all of it: the reason a killed run leaves nothing behind.

An engine's *plot* is a name, ``icc-lab-XXXXXXXX``, and everything the engine has carries it: a state folder, two
network namespaces, cgroups. The state folder, with the owner's identity in it, is made first and removed last, so a
namespace or cgroup without a folder has no owner. Everything else hangs on these: interfaces live and die with the
network namespaces, mounts with the engine's own mount namespace, and every process of the engine (dockerd, containerd,
shims, docker-proxy, containers) is in one of its cgroups.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import shutil
import signal
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tests.lab.errors import LabError
from tests.lab.system import ProcessIdentity, run, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

PREFIX = "icc-lab-"
STATE = Path("/var/tmp/icc-lab")  # short, because unix socket paths are limited
NAMED_NAMESPACES = Path("/run/netns")


@dataclass(frozen=True, slots=True)
class Plot:
    """The name under which one engine has everything it has."""

    name: str

    @property
    def folder(self) -> Path:
        """State folder: owner, sockets, logs."""
        return STATE / self.name

    @property
    def host_namespace(self) -> str:
        """Name of the engine's own network namespace."""
        return self.name

    @property
    def outside_namespace(self) -> str:
        """Name of the namespace on the far side of the host's network cards."""
        return f"{self.name}-out"

    def owner(self) -> ProcessIdentity | None:
        """Return the process that made this plot; None when that cannot be read."""
        try:
            document = json.loads((self.folder / "owner.json").read_text())
            return ProcessIdentity(int(document["pid"]), int(document["started"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None


def claim() -> Plot:
    """Make a new plot that belongs to the calling process."""
    plot = Plot(PREFIX + secrets.token_hex(4))
    STATE.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = STATE / f".{plot.name}"
    with locked():  # the reaper must not meet the draft
        draft.mkdir()
        owner = ProcessIdentity.own()
        (draft / "owner.json").write_text(json.dumps({"pid": owner.pid, "started": owner.started}))
        draft.rename(plot.folder)
    return plot


def reap() -> tuple[str, ...]:
    """Remove every plot whose owner is dead; return their names. Living owners' plots are not touched.

    What resists is left for the next time: it must not keep the living from their work.
    """
    STATE.mkdir(mode=0o700, parents=True, exist_ok=True)
    with locked():
        return reap_alone()


def reap_alone() -> tuple[str, ...]:
    """Do what `reap` does, for somebody who has locked out all others."""
    names = sorted(_names_in_use())  # before the folders are looked at: a new plot begins with its folder
    dead = tuple(name for name in names if _abandoned(Plot(name)) and _cleared(Plot(name)))
    for draft in STATE.glob(f".{PREFIX}*"):
        shutil.rmtree(draft)
    return dead


def clear(plot: Plot) -> None:
    """Remove everything a plot has: processes first, for they hold the rest; the folder last."""
    if not wait_until(lambda: _kill_all(plot), timeout=10):
        raise LabError(f"{plot.name}: these processes survive SIGKILL: {processes(plot)}")
    for namespace in (plot.host_namespace, plot.outside_namespace):
        if (NAMED_NAMESPACES / namespace).exists():
            run(["ip", "netns", "delete", namespace])
    for root in cgroup_roots():
        _remove_cgroup(root / plot.name)
    shutil.rmtree(plot.folder, ignore_errors=True)


def processes(plot: Plot) -> frozenset[int]:
    """Every process in one of the plot's cgroups."""
    found: set[int] = set()
    for root in cgroup_roots():
        for group in _groups(root / plot.name):
            with contextlib.suppress(OSError):  # removed meanwhile
                found.update(int(line) for line in (group / "cgroup.procs").read_text().split())
    return frozenset(pid for pid in found if ProcessIdentity.of(pid) is not None)


def cgroup_roots() -> tuple[Path, ...]:
    """Mount points of every cgroup hierarchy, of version 1 and 2."""
    mounts = (line.split() for line in Path("/proc/self/mounts").read_text().splitlines())
    return tuple(dict.fromkeys(Path(fields[1]) for fields in mounts if fields[2] in ("cgroup", "cgroup2")))


def engine_cgroup(plot: Plot) -> Path:
    """Make the cgroup for the engine's own processes (containers get siblings of it)."""
    roots = cgroup_roots()
    root = next((root for root in roots if root.name == "pids"), roots[0] if roots else None)
    if root is None:
        raise LabError("no cgroup hierarchy is mounted")
    group = root / plot.name / "engine"
    group.mkdir(parents=True, exist_ok=True)
    return group


def world_cgroups(plot: Plot) -> tuple[Path, ...]:
    """Make a cgroup in every hierarchy, for who takes them for the roots and makes his own below."""
    groups = tuple(root / plot.name / "world" for root in cgroup_roots())
    for group in groups:
        group.mkdir(parents=True, exist_ok=True)
        _pass_on(group.parent)
        _pass_on(group)
    return groups


@contextlib.contextmanager
def locked() -> Iterator[None]:
    """Keep everybody else from claiming and reaping for the length of a with block."""
    with (STATE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _names_in_use() -> set[str]:
    """Names of plots of which anything at all exists."""
    names = {path.name for path in STATE.glob(f"{PREFIX}*")}
    names |= {path.name.removesuffix("-out") for path in NAMED_NAMESPACES.glob(f"{PREFIX}*")}
    for root in cgroup_roots():
        names |= {path.name for path in root.glob(f"{PREFIX}*")}
    return names


def _abandoned(plot: Plot) -> bool:
    owner = plot.owner()
    return owner is None or not owner.alive()


def _cleared(plot: Plot) -> bool:
    try:
        clear(plot)
    except LabError:
        return False
    return True


def _kill_all(plot: Plot) -> bool:
    """Send SIGKILL to every process of the plot; tell whether none is left."""
    left = processes(plot)
    for pid in left:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    if left:
        _thaw(plot)
    return not left


def _thaw(plot: Plot) -> None:
    """Let the processes of paused containers run into the signal that waits for them.

    In a frozen cgroup of version 1 even SIGKILL waits.
    """
    for group in (group for root in cgroup_roots() for group in _groups(root / plot.name)):
        for name, thawed in (("freezer.state", "THAWED"), ("cgroup.freeze", "0")):
            switch = group / name
            if switch.exists():
                with contextlib.suppress(OSError):  # removed meanwhile
                    switch.write_text(thawed)


def _pass_on(group: Path) -> None:
    """Give a new cgroup what its parent has, and let it pass that on."""
    controllers = group / "cgroup.controllers"
    if controllers.exists():
        wanted = " ".join(f"+{name}" for name in controllers.read_text().split())
        (group / "cgroup.subtree_control").write_text(wanted)
        return
    for name in ("cpuset.cpus", "cpuset.mems"):  # empty in a new cgroup of version 1, which nobody can join then
        if (group / name).exists():
            (group / name).write_text((group.parent / name).read_text())


def _remove_cgroup(group: Path) -> None:
    """Remove a cgroup tree, leaves first; the kernel may hold an emptied one busy for a moment."""
    for path in reversed(_groups(group)):
        wait_until(partial(_rmdir, path), timeout=5)


def _groups(top: Path) -> list[Path]:
    """List a cgroup and those below it, parents first; os.walk takes no offence at one that goes meanwhile."""
    return [Path(folder) for folder, _, _ in os.walk(top)]


def _rmdir(path: Path) -> bool:
    try:
        path.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True
