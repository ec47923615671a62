"""The flow goes one way: who may import whom, and what the pure rooms may never touch."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

PACKAGE = Path(__file__).parent.parent / "exporter"

ALLOWED = {
    "errors": set(),
    "collector": set(),
    "plainfile": set(),
    "threads": {"errors"},
    "model": {"errors"},
    "observe": {"errors", "threads", "model"},
    "parse": {"errors", "model"},
    "evaluate": {"errors", "model"},
    "publish": {"errors", "collector", "model", "evaluate"},
    "runtime": {
        *("errors", "threads", "collector", "model", "observe", "parse", "evaluate", "publish"),
        *("config", "webconfig", "policyfile", "plainfile"),
    },
    "config": {"errors", "configfile", "yamlfile"},
    "configfile": {"yamlfile"},
    "policyfile": {"errors", "model", "yamlfile"},
    "webconfig": {"errors", "configfile", "yamlfile"},
    "yamlfile": {"errors", "plainfile"},
    "logs": {"publish"},
    "health": {"errors", "config", "webconfig"},
    "cli": {"errors", "model", "observe", "parse", "evaluate", "publish", "runtime", "config", "policyfile", "logs"},
    "__main__": {"cli"},
    "__init__": set(),
}
"""Rooms by the rooms that they may import."""

OUTSIDE = {"docker", "requests", "urllib3", "socket", "subprocess"}
"""Ways out of the process, for one room only."""

LISTENS = {"runtime": {"socket"}}
"""Who is asked needs a socket too."""

HARMLESS = {"socket.inet_pton", "socket.AF_INET", "socket.AF_INET6"}
"""What the C library knows of addresses opens nothing."""

PURE = ("model", "parse", "evaluate")
IMPURE = {"time", "os", "sys", "random", "secrets", "logging", "threading", "asyncio", "pathlib", "io", "tempfile"}
PURE_PARTS = {"sys.intern"}
"""What is pure all the same: the one object for texts that are equal."""


def rooms() -> list[str]:
    """Return the names of the modules and packages directly below `exporter`."""
    return sorted({path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in PACKAGE.rglob("*.py")})


def sources(room: str) -> Iterator[tuple[Path, ast.Module]]:
    """Yield the modules of a room."""
    single = PACKAGE / f"{room}.py"
    for path in [single] if single.exists() else sorted((PACKAGE / room).rglob("*.py")):
        yield path, ast.parse(path.read_text())


def imported(tree: ast.Module) -> Iterator[str]:
    """Yield the dotted names that a module imports anywhere in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_every_room_is_in_the_table() -> None:
    """A new room cannot come without saying whom it may import."""
    assert rooms() == sorted(ALLOWED)


@pytest.mark.parametrize("room", sorted(ALLOWED))
def test_a_room_imports_only_what_the_table_allows(room: str) -> None:
    """Imports between rooms follow the one direction of the flow."""
    for path, tree in sources(room):
        others = {name.split(".")[1] for name in imported(tree) if name.startswith("exporter.")} - {room, "__version__"}
        assert others <= ALLOWED[room], path


@pytest.mark.parametrize("room", sorted(set(ALLOWED) - {"observe"}))
def test_only_observe_talks_to_the_outside(room: str) -> None:
    """No other room imports the engine's client, a socket or a program runner."""
    for path, tree in sources(room):
        names = {name.split(".")[0] for name in imported(tree) if name not in HARMLESS}
        assert not names & OUTSIDE - LISTENS.get(room, set()), path


def test_only_the_command_and_the_daemon_probe() -> None:
    """Nothing that reads, decides or shows can send a packet into a sandbox."""
    users = {
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        if not path.is_relative_to(PACKAGE / "observe" / "probe")
        and any(name.startswith("exporter.observe.probe.") for name in imported(ast.parse(path.read_text())))
    }
    assert users == {"cli/probing.py", "runtime/daemon.py"}


@pytest.mark.parametrize("room", PURE)
def test_pure_rooms_have_no_clock_no_files_and_no_environment(room: str) -> None:
    """What decides is a function of what was seen and of nothing else."""
    for path, tree in sources(room):
        assert not {name.split(".")[0] for name in imported(tree) if name not in PURE_PARTS} & IMPURE, path
        calls = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
        assert not {name for name in calls if name.endswith((".now", ".utcnow", ".today")) or name == "open"}, path


def test_no_two_modules_import_each_other() -> None:
    """A module stands above all that it imports, types included: who reads it need not know what stands on it."""
    modules = {dotted(path): path for path in PACKAGE.rglob("*.py")}
    below = {
        name: {found for each in imported(ast.parse(path.read_text())) if (found := holder(each, modules)) != name}
        for name, path in modules.items()
    }
    tuple(TopologicalSorter(below).static_order())


def dotted(path: Path) -> str:
    """Return the name of a module by its path."""
    return ".".join(("exporter", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")


def holder(name: str, modules: Collection[str]) -> str:
    """Return the module that a dotted name is of: itself, or the one that it is imported from."""
    return name if name in modules else name.rpartition(".")[0]


def test_importing_a_module_does_nothing() -> None:
    """Importing writes nothing, starts no thread, and leaves logging and signals as they were."""
    modules = [
        ".".join(("exporter", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")
        for path in sorted(PACKAGE.rglob("*.py"))
    ]
    script = f"""
import importlib, logging, signal, threading
before = [signal.getsignal(number) for number in signal.valid_signals()]
for name in {modules!r}:
    importlib.import_module(name)
assert [signal.getsignal(number) for number in signal.valid_signals()] == before
assert threading.active_count() == 1
assert not logging.getLogger().handlers
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
