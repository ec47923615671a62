"""Whether a part of the kernel is there already: asking one that is not makes the kernel load it as a module."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Final

_LOADED: Final = Path("/sys/module")
_MODULES: Final = Path("/proc/modules")
_SYMBOLS: Final = Path("/proc/kallsyms")
_EBTABLES: Final = ("ebtable_broute", "ebtable_filter", "ebtable_nat")


def present(module: str, symbol: str) -> bool:
    """Return whether a part of the kernel is loaded, or built in and then has a function of this name."""
    # a kernel without modules loads none; parts that are built in have no folder unless they take parameters
    return not _MODULES.exists() or (_LOADED / module).exists() or _built_in(symbol)


def of_legacy_ebtables() -> list[str]:
    """Return the modules with the tables of ebtables-legacy that are loaded: somebody has used it."""
    return [module for module in _EBTABLES if (_LOADED / module).exists()]


@cache
def _built_in(symbol: str) -> bool:
    """Return whether the kernel itself has a function; where it does not tell, nothing can be ruled out."""
    wanted = f" {symbol}\n".encode()
    try:
        with _SYMBOLS.open("rb") as file:
            return any(line.endswith(wanted) for line in file)
    except OSError:
        return True
