"""The garbage collector, which looks through all that a large host is made of again and again while it is made."""

from __future__ import annotations

import gc
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def paused() -> Iterator[None]:
    """Collect nothing meanwhile: what is made here lives on or is freed by reference counts.

    Of the time that parsing and evaluation take at 10,000 containers, a quarter is saved, and half of what it takes to
    explain a pair.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
