"""Files as another process sees them.

A path below `/proc/PID/root` leads into the process's own mount namespace, but an absolute symbolic link on the way
would lead back into ours. So links are followed here, one after the other, and never out of that root.
"""

from __future__ import annotations

import codecs
import os
import stat
from typing import TYPE_CHECKING, Final

from exporter.observe.kernel.trouble import Unreadable, reason

if TYPE_CHECKING:
    from pathlib import Path

_LARGEST: Final = 1 << 20
"""Bytes; no configuration of a daemon is longer."""

_LINKS: Final = 40
"""The kernel's own limit for links in one path (MAXSYMLINKS)."""


class Root:
    """The root folder of a process."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self, path: str) -> str | None:
        """Return the text of a file, in UTF-8 or UTF-16, with its byte order mark; None where there is none.

        Raises Unreadable.
        """
        try:
            # a pipe in the place of a file must not keep anybody waiting
            descriptor = os.open(self._resolved(path), os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
            with os.fdopen(descriptor, "rb") as file:
                if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    raise Unreadable(f"{path}: is not a file")
                content = file.read(_LARGEST + 1)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise Unreadable(reason(error, path, "CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH")) from error
        if len(content) > _LARGEST:
            raise Unreadable(f"{path}: is longer than {_LARGEST >> 20} MiB")
        # bytes that are not UTF-8 decide nothing here, and are no reason to read nothing
        marked = content[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
        text = content.decode("utf-16", errors="replace") if marked else content.decode(errors="replace")
        return f"\ufeff{text}" if marked else text

    def names(self, folder: str) -> list[str]:
        """Return the names in a folder, sorted; none where there is no such folder. Raises Unreadable."""
        try:
            return sorted(os.listdir(self._resolved(folder)))  # noqa: PTH208 - names are what is wanted
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise Unreadable(reason(error, folder, "CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH")) from error

    def has(self, path: str) -> bool:
        """Return whether there is something at a path. Raises Unreadable."""
        try:
            return self._resolved(path).exists()
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            raise Unreadable(reason(error, path, "CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH")) from error

    def _resolved(self, path: str) -> Path:
        """Return where a path leads to within the root. Raises OSError."""
        pending = [part for part in reversed(path.split("/")) if part not in ("", ".")]
        done: list[str] = []
        links = 0
        while pending:
            part = pending.pop()
            if part == "..":
                done = done[:-1]
                continue
            here = self._path.joinpath(*done, part)
            if not here.is_symlink():
                done.append(part)
                continue
            links += 1
            if links > _LINKS:
                raise OSError(f"{path}: too many links")
            target = str(here.readlink())
            if target.startswith("/"):
                done = []
            pending += [step for step in reversed(target.split("/")) if step not in ("", ".")]
        return self._path.joinpath(*done)
