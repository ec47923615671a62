"""Programs that print what the kernel has, in the calling thread's namespace, held to a time and a size."""

from __future__ import annotations

import contextlib
import os
import selectors
import shutil
import signal
import subprocess
from typing import TYPE_CHECKING, Final

from exporter.observe.kernel.trouble import Unreadable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exporter.observe.kernel.budget import Budget

SIZE_LIMIT: Final = 64 << 20
"""Bytes of one output: half a million rules."""

_ENVIRONMENT: Final = {"LC_ALL": "C", "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
_STEP = 0.1
"""Seconds after which it is asked again whether anybody waits."""

_CHUNK = 1 << 16
_MESSAGE_LIMIT = 300


class Missing(Unreadable):
    """A program is not installed."""


class Failed(Unreadable):
    """A program ended with an error. `output` is what it had printed until then."""

    def __init__(self, message: str, output: str) -> None:
        super().__init__(message)
        self.output = output


def find(name: str, package: str) -> str:
    """Return the path of a program. Raises Missing, with the package that brings it."""
    path = shutil.which(name, path=os.pathsep.join((os.environ.get("PATH", ""), _ENVIRONMENT["PATH"])))
    if path is None:
        raise Missing(f"{name} is not installed: apt install {package}")
    return path


def run(command: Sequence[str], budget: Budget, size_limit: int = SIZE_LIMIT) -> str:
    """Return what a program prints. Raises Failed, Unreadable for one that cannot be started or prints too much, Spent.

    It is alone in its process group, which is killed as a whole.
    """
    name = os.path.basename(command[0])  # noqa: PTH119 - not a path of ours
    budget.left()
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=_ENVIRONMENT,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        said = error.strerror if isinstance(error, OSError) else error
        raise Unreadable(f"{name} cannot be run: {said}") from error
    with process:
        try:
            output, errors = _read(process, name, budget, size_limit)
            _wait(process, name, budget)
        except BaseException:
            # nobody has waited for the process yet, so its number is still its own
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise
    text = output.decode(errors="replace")
    if process.returncode:
        raise Failed(f"{name}: {_first_line(errors) or f'exit code {process.returncode}'}", text)
    return text


def _read(process: subprocess.Popen[bytes], name: str, budget: Budget, size_limit: int) -> tuple[bytes, bytes]:
    """Return what the program writes to both pipes until it closes them."""
    pieces: dict[int, list[bytes]] = {}
    size = 0
    with selectors.DefaultSelector() as selector:
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pieces[pipe.fileno()] = []
                selector.register(pipe, selectors.EVENT_READ)
        while selector.get_map():
            for key, _ in selector.select(min(_STEP, _left(name, budget))):
                piece = os.read(key.fd, _CHUNK)
                if not piece:
                    selector.unregister(key.fileobj)
                pieces[key.fd].append(piece)
                size += len(piece)
                if size > size_limit:
                    raise Unreadable(f"{name} prints more than {size_limit >> 20} MiB")
    output, errors = (b"".join(parts) for parts in pieces.values())
    return output, errors


def _wait(process: subprocess.Popen[bytes], name: str, budget: Budget) -> None:
    """Wait for the end of a program that has closed its output already."""
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(min(_STEP, _left(name, budget)))
            return


def _left(name: str, budget: Budget) -> float:
    try:
        return budget.left()
    except Unreadable as error:
        raise type(error)(f"{name}: {error}") from error


def _first_line(text: bytes) -> str:
    lines = text.decode(errors="replace").strip().splitlines()
    line = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in lines[0]) if lines else ""
    return line[:_MESSAGE_LIMIT]
