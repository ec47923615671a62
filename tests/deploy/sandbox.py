"""What a sandboxed unit allows, and what a traced program did: the two can be compared without systemd running."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_CALL: Final = re.compile(r"^\d+ +(\w+)\((.*)$", re.MULTILINE)
_FAMILY: Final = re.compile(r"\b[AP]F_\w+")


@dataclass(frozen=True, slots=True)
class Sandbox:
    """System calls and address families that a unit allows."""

    calls: frozenset[str]
    families: frozenset[str]


@dataclass(frozen=True, slots=True)
class Trace:
    """What strace saw: system calls, families of sockets, and memory that could be written and executed."""

    calls: frozenset[str]
    families: frozenset[str]
    writable_code: tuple[str, ...]


def sandbox_of(texts: Iterable[str]) -> Sandbox:
    """Return what a unit and its drop-ins, in their order, allow: an item with ~ takes away, an empty one resets."""
    lines = [line.partition("=") for text in texts for line in text.splitlines() if not line.startswith("#")]
    calls: set[str] = set()
    families: set[str] = set()
    for key, _, value in lines:
        if key == "SystemCallFilter":
            names = {call for item in value.lstrip("~").split() for call in _expanded(item)}
            calls = calls - names if value.startswith("~") else calls | names
        if key == "RestrictAddressFamilies":
            families |= set(value.split())
    return Sandbox(frozenset(calls), frozenset(families))


def trace_of(file: Path) -> Trace:
    """Return what is in an output of `strace -f`."""
    seen = _CALL.findall(file.read_text(errors="replace"))
    families = {match[0] for name, rest in seen if name in ("socket", "socketpair") and (match := _FAMILY.search(rest))}
    code = [
        f"{name}({rest}"
        for name, rest in seen
        if name in ("mmap", "mprotect", "pkey_mprotect") and "PROT_WRITE" in rest and "PROT_EXEC" in rest
    ]
    return Trace(frozenset(name for name, _ in seen), frozenset(families), tuple(code))


def _expanded(item: str) -> set[str]:
    """Return the system calls of a set of systemd's, or the one that is named."""
    if not item.startswith("@"):
        return {item}
    command = ["systemd-analyze", "syscall-filter", item]
    lines = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.splitlines()
    names = [line.strip() for line in lines if line.startswith(" ") and not line.strip().startswith("#")]
    return {call for name in names for call in _expanded(name)}
