"""Sets and maps of nft: what is in them, and what their elements ask for beside.

What packets add to a set or take away (`add @set`) is in it as it was listed, and nobody knows what comes next. An
element with a timeout counts until it is gone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from exporter.parse.kernel.nft_values import EVERYTHING, items, pair, tagged

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_WITHOUT_MEANING = frozenset({"val", "timeout", "expires", "comment", "counter", "last", "handle"})
"""What an element may have that does not decide whether it matches."""


class Element(NamedTuple):
    """An element's value. `doubt` names a statement of it, such as a limit, that decides whether it matches."""

    value: object
    doubt: str = ""


class Entry(NamedTuple):
    """A key of a map and what it stands for."""

    key: Element
    data: object


@dataclass(frozen=True, slots=True)
class NamedSet:
    """A set or map, with its elements as nft prints them. `size` is how many it takes, 0 for any number.

    To a `dynamic` one packets add by rules of its table, and take away: what comes next may find other elements.
    """

    name: str
    listed: Sequence[object] = ()
    size: int = 0
    dynamic: bool = False

    @property
    def full(self) -> bool:
        """Whether nothing can be added."""
        return 0 < self.size <= len(self.listed)

    @property
    def parts(self) -> tuple[object, ...]:
        """All that it is made of."""
        return self.name, self.listed, self.size, self.dynamic


def element(said: object) -> Element:
    """Return an element: `80`, or `{"elem": {"val": 80, "counter": …}}` where it has more than a value."""
    if not isinstance(said, dict) or "elem" not in said:
        return Element(said)
    body = said["elem"]
    if not isinstance(body, dict) or "val" not in body:
        raise ValueError("an element without a value")
    return Element(body["val"], next((str(name) for name in body if name not in _WITHOUT_MEANING), ""))


def elements(said: object, sets: Mapping[str, NamedSet]) -> list[Element]:
    """Return the elements of `"@name"` or `{"set": […]}`. Raises ValueError for a set that is not there."""
    return [element(item) for item in _listed(said, sets)]


def entries(said: object, sets: Mapping[str, NamedSet]) -> list[Entry]:
    """Return what is in the map `"@name"` or `{"set": [[…, …], …]}`. Raises ValueError for a map that is not there."""
    pairs = (pair(item) for item in _listed(said, sets))
    return [Entry(element(key), data) for key, data in pairs]


def is_set(said: object) -> bool:
    """Return whether a comparison's right side is a set."""
    return (isinstance(said, str) and said.startswith("@")) or (isinstance(said, dict) and "set" in said)


def is_dynamic(said: object, sets: Mapping[str, NamedSet]) -> bool:
    """Return whether packets change what is in the set or map `"@name"`."""
    known = sets.get(said.removeprefix("@")) if isinstance(said, str) else None
    return known is not None and known.dynamic


def defaults_last(found: Iterable[Entry]) -> list[Entry]:
    """Return the entries with the one for all other keys at the end, for it counts where no other does."""
    return sorted(found, key=lambda entry: entry.key.value == EVERYTHING)


def _listed(said: object, sets: Mapping[str, NamedSet]) -> Sequence[object]:
    if isinstance(said, str):
        known = sets.get(said.removeprefix("@"))
        if known is None:
            raise ValueError("a set that is not there")
        return known.listed
    name, body = tagged(said)
    if name != "set":
        raise ValueError("not a set")
    return items(body) if isinstance(body, list | tuple) else [body]
