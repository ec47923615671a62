"""Output for people: colours and progress on a terminal only, errors in one form, files whole or not at all."""

from __future__ import annotations

import os
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING, Final

import click

from exporter.errors import ExporterError
from exporter.publish.text import visible

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import TextIO

STANDARD: Final = "-"
"""Names standard input or output where a file is expected."""

PIPE_CLOSED: Final = 141
"""The exit code that a shell shows for a program that SIGPIPE ended."""

PATIENCE: Final = 1.0
"""Seconds that something may take before a person wants to hear about it."""


def coloured(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Return whether colours are wanted there (https://no-color.org)."""
    return stream.isatty() and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"


def complain(message: str) -> None:
    """Tell of an error on standard error, one line for each line of the message."""
    label = click.style("error:", fg="red", bold=True) if coloured(sys.stderr, os.environ) else "error:"
    for line in message.splitlines():
        click.echo(f"{label} {visible(line)}", err=True, color=True)


def write(text: str) -> None:
    """Write to standard output now, so that what goes wrong there is known now."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError as error:
        # the reader has seen enough; the interpreter flushes once more at its end, and must not complain
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise click.exceptions.Exit(PIPE_CLOSED) from error
    except OSError as error:
        raise ExporterError(f"cannot write the output: {error.strerror}") from error


def write_file(path: Path, text: str) -> None:
    """Replace a file in one step; it is for its owner's eyes only, for it tells where a host is open."""
    try:
        if path.exists() and not path.is_file():
            # a pipe or a device cannot be replaced; a folder says so itself
            path.write_text(text)
        else:
            _replace(path.resolve(), text)
    except OSError as error:
        raise ExporterError(f"cannot write {path}: {error.strerror}") from error


def _replace(target: Path, text: str) -> None:
    descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    except BaseException:
        temporary.unlink()
        raise


@contextmanager
def progress(text: str) -> Iterator[None]:
    """Say on a terminal what is going on, once it takes long."""
    if not sys.stderr.isatty():
        yield
        return
    finished = Event()
    teller = Thread(target=_tell, args=(text, finished), daemon=True)
    teller.start()
    try:
        yield
    finally:
        finished.set()
        teller.join()


def _tell(text: str, finished: Event) -> None:
    seconds = 0
    while not finished.wait(PATIENCE):
        seconds += 1
        click.echo(f"\r{visible(text)} ({seconds} s)", nl=False, err=True)
    if seconds:
        click.echo("\r\033[K", nl=False, err=True)
