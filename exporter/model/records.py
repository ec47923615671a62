"""Frozen dataclasses of which a look makes tens of thousands."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar, dataclass_transform, overload

if TYPE_CHECKING:
    from collections.abc import Callable

_Class = TypeVar("_Class")


@overload
def record(cls: type[_Class], /) -> type[_Class]: ...
@overload
def record(*, eq: bool) -> Callable[[type[_Class]], type[_Class]]: ...
@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def record(cls: type[_Class] | None = None, /, *, eq: bool = True) -> type[_Class] | Callable[..., type[_Class]]:
    """Make a dataclass that is frozen for type checkers, which is where that is held.

    At run time it is not: each field of `dataclass(frozen=True)` is set by a call of its own, which makes an object
    take four times as long to come into being. Records are equal, hashed, replaced and matched as any frozen dataclass;
    with `eq` false each is equal to itself alone.
    """
    made = dataclass(slots=True, eq=eq, unsafe_hash=eq)
    return made if cls is None else made(cls)
