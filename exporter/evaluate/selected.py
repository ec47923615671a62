"""Which of many selectors mean a container: each text of it is looked up once for all of them.

A set of selectors is an integer, a bit for each by its place.
"""

from __future__ import annotations

import re
from collections import defaultdict
from fnmatch import translate
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from exporter.model.policy import Selector
    from exporter.model.snapshot import Container


class Selected:
    """A list of selectors, those that they exclude among them."""

    def __init__(self, selectors: Sequence[Selector]) -> None:
        self._places: dict[Selector, int] = {}
        self._asking: defaultdict[Selector, int] = defaultdict(int)
        for number, selector in enumerate(selectors):
            self._asking[selector] |= 1 << number
        for selector in self._asking:
            self._place(selector)
        known = list(self._places)
        self._names = _Texts(selector.names for selector in known)
        self._networks = _Texts(selector.networks for selector in known)
        self._tenants = _Texts(selector.tenants for selector in known)
        keys = {key for selector in known for key, _ in selector.labels}
        self._labels = {key: _Texts(dict(selector.labels).get(key, ()) for selector in known) for key in sorted(keys)}
        self._excluding = [
            (place, sum(1 << self._places[inner] for inner in set(selector.excluded)))
            for selector, place in self._places.items()
            if selector.excluded
        ]
        self._meaning = [self._asking.get(selector, 0) for selector in known]

    def by(self, container: Container, networks: Sequence[str], tenant: str | None) -> int:
        """Return the selectors of the list that mean a container."""
        fits = self._names.fit((container.name,)) & self._networks.fit(networks)
        fits &= self._tenants.fit(() if tenant is None else (tenant,))
        for key, texts in self._labels.items():
            fits &= texts.fit((container.labels[key],) if key in container.labels else ())
        for place, excluded in self._excluding:
            if fits & excluded:
                fits &= ~(1 << place)
        found = 0
        for place in numbers(fits):
            found |= self._meaning[place]
        return found

    def _place(self, selector: Selector) -> None:
        """Give a selector its place, behind those that it excludes: whether these fit is settled before."""
        for inner in selector.excluded:
            self._place(inner)
        self._places.setdefault(selector, len(self._places))


class _Texts:
    """What selectors ask for of one kind of texts, such as names: patterns, of which one has to fit, or nothing."""

    def __init__(self, asked: Iterable[Sequence[str]]) -> None:
        self._content = 0
        self._patterns: defaultdict[str, int] = defaultdict(int)
        for place, patterns in enumerate(asked):
            if not patterns:
                self._content |= 1 << place
            for pattern in patterns:
                self._patterns[pattern] |= 1 << place
        self._compiled = [(re.compile(translate(each)), who) for each, who in self._patterns.items() if _is_glob(each)]
        self._known: dict[str, int] = {}

    def fit(self, texts: Sequence[str]) -> int:
        """Return the selectors that one of these texts is enough for."""
        found = self._content
        for text in texts:
            if text not in self._known:
                self._known[text] = self._one(text)
            found |= self._known[text]
        return found

    def _one(self, text: str) -> int:
        found = 0 if _is_glob(text) else self._patterns.get(text, 0)
        for pattern, who in self._compiled:
            if pattern.match(text):
                found |= who
        return found


def _is_glob(pattern: str) -> bool:
    return any(character in pattern for character in "*?[")


def bits(flags: Iterable[bool]) -> int:
    """Return the set of the places that are true."""
    return sum(flag << place for place, flag in enumerate(flags))


def numbers(found: int) -> Iterator[int]:
    """Yield the places of a set, from the lowest on."""
    while found:
        lowest = found & -found
        yield lowest.bit_length() - 1
        found ^= lowest
