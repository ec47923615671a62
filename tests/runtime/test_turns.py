"""Who waits for what one at a time may have, and when his turn comes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from exporter.runtime.turns import ORIGINS, PLACES, WAITING, TooMany, Turns, origin_of

if TYPE_CHECKING:
    from collections.abc import Sequence


class Line:
    """Waiters that are told apart, and the order in which they had their turns."""

    def __init__(self) -> None:
        self.turns = Turns()
        self.served: list[str] = []
        self.refused: list[str] = []
        self.most = 0
        self._now = 0

    async def come(self, name: str) -> None:
        """Wait from the origin that a name begins with, and have a turn of a moment."""
        try:
            async with self.turns.turn(name[0]):
                self._now += 1
                self.most = max(self.most, self._now)
                await asyncio.sleep(0)
                self.served.append(name)
                self._now -= 1
        except TooMany:
            self.refused.append(name)


def line(names: Sequence[str]) -> Line:
    """Return what became of waiters that came one right after the other."""
    made = Line()

    async def come() -> None:
        await asyncio.gather(*map(made.come, names))

    asyncio.run(come())
    return made


def test_origins_have_their_turns_one_after_the_other() -> None:
    """Who comes last from elsewhere is behind one of each other origin only."""
    came = line(["a0", "a1", "a2", "a3", "b0", "b1", "c0"])
    assert came.served == ["a0", "a1", "b0", "c0", "a2", "b1", "a3"]
    assert (came.refused, came.most) == ([], 1)


def test_an_origin_has_few_places_and_others_theirs() -> None:
    """One that fills its places keeps nobody else out."""
    names = [f"a{number}" for number in range(100)]
    came = line([*names, "b"])
    assert came.served == ["a0", "a1", "b", *names[2 : PLACES + 1]]
    assert came.refused == names[PLACES + 1 :]


def test_where_many_wait_each_origin_has_one_place() -> None:
    """The first of an origin always has one, but for origins without number."""
    origins = [chr(0x4E00 + number) for number in range(ORIGINS + 2)]
    came = line([f"{origin}{number}" for number in range(2) for origin in origins])
    assert came.served == [f"{origin}0" for origin in origins[: ORIGINS + 1]]
    few = origins[: WAITING // PLACES + 1]
    came = line([*(f"{origin}{number}" for number in range(PLACES + 1) for origin in few), "a", "a"])
    assert came.served.count("a") == 1


def test_who_no_longer_waits_has_no_turn() -> None:
    """The turn goes to the next, and to who comes when nobody waits."""
    made = Line()

    async def come() -> None:
        waiting = [asyncio.create_task(made.come(name)) for name in ("a0", "a1", "b0")]
        await asyncio.sleep(0)
        waiting[1].cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        await made.come("c0")

    asyncio.run(come())
    assert made.served == ["a0", "b0", "c0"]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("2001:db8::1", "2001:db8::2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::2%eth0", True),
        ("", "192.0.2.1", False),
    ],
)
def test_what_an_origin_is(one: str, other: str, same: bool) -> None:
    """An IPv4 address, also where a socket of both families tells it, or a network of IPv6."""
    assert (origin_of(one) == origin_of(other)) is same
