"""Programs of BPF at the cgroups of containers: they see what the containers' processes send and receive.

All programs are at the unified hierarchy (cgroup v2), on hosts that count by the older ones as well.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

from exporter.observe.kernel import bpf
from exporter.observe.kernel.trouble import Unreadable, reason

_MOUNTS: Final = Path("/proc/self/mountinfo")
_ESCAPED: Final = re.compile(r"\\([0-7]{3})")
_OUTSIDE: Final = "the cgroups of containers cannot be seen from inside of one"


class Cgroups:
    """The unified hierarchy, as it is mounted where the exporter runs."""

    def __init__(self, mounts: Path = _MOUNTS) -> None:
        self._mounts = mounts
        self._root: str | None = None

    def watched(self, path: str) -> bool:
        """Return whether programs see the packets of a cgroup's processes; `path` is as /proc shows it.

        A cgroup that is gone has no processes, and without a unified hierarchy, where paths are empty, there are no
        programs. Raises Unreadable.
        """
        if not path:
            return False
        if self._root is None:
            self._root = self._found()
        # relative to the cgroup that is this process's root (cgroup_namespaces(7))
        if path.startswith("/.."):
            raise Unreadable(_OUTSIDE)
        try:
            descriptor = os.open(self._root + path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise Unreadable(reason(error, "the cgroup of a container", "root")) from error
        try:
            return bpf.of_cgroup(descriptor)
        finally:
            os.close(descriptor)

    def _found(self) -> str:
        """Return where the whole hierarchy is mounted. Raises Unreadable."""
        try:
            lines = self._mounts.read_text(errors="surrogateescape").splitlines()
        except OSError as error:
            raise Unreadable(reason(error, str(self._mounts), "root")) from error
        for line in lines:
            words, _, kind = line.partition(" - ")
            fields = words.split(" ")
            if kind.startswith("cgroup2 ") and len(fields) > 4 and fields[3] == "/":
                return _ESCAPED.sub(lambda match: chr(int(match[1], 8)), fields[4])
        raise Unreadable("the unified hierarchy of cgroups (cgroup2) is not mounted")
