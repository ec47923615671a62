"""Plots that go with the process that has them, however it ends."""

from __future__ import annotations

import atexit
import os
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from tests.lab.errors import LabError
from tests.lab.packages import missing_packages
from tests.lab.registry import Plot, claim, clear, reap
from tests.lab.system import ProcessIdentity, run

if TYPE_CHECKING:
    from types import FrameType

_LIVE: dict[str, Plot] = {}


def new_plot() -> Plot:
    """Make a plot on a machine that has what the lab needs; what dead runs left behind is removed first."""
    _check_machine()
    reap()
    plot = claim()
    _remember(plot)
    return plot


def give_back(plot: Plot) -> None:
    """Remove everything a plot has."""
    clear(plot)
    _LIVE.pop(plot.name, None)


def _check_machine() -> None:
    if os.geteuid() != 0:
        raise LabError("the lab needs root: it makes network namespaces and starts engines")
    missing = missing_packages()
    if missing:
        raise LabError(f"not installed: {', '.join(missing)}; 'python -m tests.lab setup' installs them")
    if not Path("/proc/sys/net/bridge").exists():
        run(["modprobe", "-a", "bridge", "br_netfilter", "overlay"])


def _remember(plot: Plot) -> None:
    """See to it that a plot goes when this process goes, also by SIGTERM."""
    if not _LIVE:
        atexit.register(_clear_all)
        in_main_thread = threading.current_thread() is threading.main_thread()
        if in_main_thread and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, _on_terminate)
    _LIVE[plot.name] = plot


def _on_terminate(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _clear_all() -> None:
    """Remove what is left at exit; a forked child must not remove its parent's."""
    own = ProcessIdentity.own()
    for plot in tuple(_LIVE.values()):
        if plot.owner() == own:
            clear(plot)
