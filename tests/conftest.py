"""What all tests share: where real engines can run, and that nothing is skipped where everything must run."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from tests.lab import VERSIONS
from tests.lab.room import room_for_many

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Mapping

# A shell's background job ignores SIGINT, and so would every program that the tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

# The tests start the program hundreds of times: it is compiled once, also where somebody's shell forbids to keep that.
# So are the tests themselves, which every worker reads.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# how long an example takes says more about the machine than about the code
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

REQUIRED = os.environ.get("ICC_REQUIRE_LAB") == "1" or os.environ.get("CI") == "true"
"""A check that may not leave tests out: a skip is a failure then."""

LAST_GROUP = 0.8
"""The share of the tests without engines that comes before the last group of those with engines."""


def pytest_configure(config: pytest.Config) -> None:
    """Have the kernel's tables suit all workers' engines for as long as the tests run."""
    if os.geteuid() == 0 and not hasattr(config, "workerinput"):
        room = contextlib.ExitStack()
        room.enter_context(room_for_many())
        config.add_cleanup(room.close)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep tests of one engine version on one worker, and skip the lab without root; workers mix what they do."""
    for item in items:
        if not item.get_closest_marker("lab"):
            continue
        if os.geteuid() != 0:
            item.add_marker(pytest.mark.skip(reason="real engines need root"))
        # a module's engine of one version is started once, not once for each worker
        version = next((name for name in parameters(item).values() if name in VERSIONS), "")
        item.add_marker(pytest.mark.xdist_group(f"{item.path.stem}-{version}"))
    if hasattr(config, "workerinput"):
        items[:] = mixed(items)


def mixed(items: Iterable[pytest.Item]) -> list[pytest.Item]:
    """Return groups, which wait for engines and packets, with those tests between them that keep a core busy.

    The largest group is first, and after the last there is enough left to do for who is not busy with one.
    """
    groups: dict[str, list[pytest.Item]] = {}
    single: list[pytest.Item] = []
    for item in items:
        mark = item.get_closest_marker("xdist_group")
        (groups.setdefault(mark.args[0], []) if mark else single).append(item)
    between = LAST_GROUP * len(single) / max(1, len(groups))
    found: list[pytest.Item] = []
    for number, group in enumerate(sorted(groups.values(), key=len, reverse=True)):
        found += [*group, *single[int(number * between) : int((number + 1) * between)]]
    return found + single[int(len(groups) * between) :]


def parameters(item: pytest.Item) -> Mapping[str, object]:
    """Return the parameters of a test and of its fixtures by name."""
    return item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a skip into a failure where nothing may be skipped."""
    report = yield
    if REQUIRED and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped, and nothing may be skipped here: {report.longrepr}"
    return report
