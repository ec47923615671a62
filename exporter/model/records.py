"""Frozen dataclasses of which a look makes tens of thousands."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar, dataclass_transform

_Class = TypeVar("_Class")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def record(cls: type[_Class]) -> type[_Class]:
    """Make a dataclass that is frozen for type checkers, which is where that is held.

    At run time it is not: each field of `dataclass(frozen=True)` is set by a call of its own, which makes an object
    take four times as long to come into being. Records are equal, hashed, replaced and matched as any frozen dataclass.
    """
    return dataclass(slots=True, unsafe_hash=True)(cls)
