"""What arrives together is done together, and everybody gets her own answer."""

import asyncio
from collections.abc import Sequence

import pytest

from app.gathering import Gathering


class Desk:
    """Answers each item by its double, a batch at a time, when it is let."""

    def __init__(self) -> None:
        self.done: list[tuple[str, list[int]]] = []
        self.open = asyncio.Event()

    async def work(self, key: str, items: Sequence[int]) -> list[int]:
        self.done.append((key, list(items)))
        await self.open.wait()
        if 13 in items:
            raise ValueError("thirteen")
        return [2 * item for item in items]


async def _settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_the_first_goes_at_once_and_who_comes_meanwhile_goes_together() -> None:
    desk = Desk()
    gathering = Gathering(desk.work, most=3)
    first = asyncio.create_task(gathering.ask("a", 1))
    await _settle()
    others = [asyncio.create_task(gathering.ask("a", item)) for item in (2, 3, 4, 5)]
    elsewhere = asyncio.create_task(gathering.ask("b", 6))
    await _settle()
    assert desk.done == [("a", [1]), ("b", [6])]
    desk.open.set()
    assert await asyncio.gather(first, *others, elsewhere) == [2, 4, 6, 8, 10, 12]
    assert desk.done[2:] == [("a", [2, 3, 4]), ("a", [5])]


async def test_who_asks_after_all_was_done_does_not_wait_for_others() -> None:
    desk = Desk()
    desk.open.set()
    gathering = Gathering(desk.work, most=3)
    assert [await gathering.ask("a", item) for item in (1, 2)] == [2, 4]
    assert desk.done == [("a", [1]), ("a", [2])]


async def test_what_fails_fails_for_all_of_it_and_for_nobody_after() -> None:
    desk = Desk()
    gathering = Gathering(desk.work, most=3)
    first = asyncio.create_task(gathering.ask("a", 1))
    await _settle()
    both = [asyncio.create_task(gathering.ask("a", item)) for item in (13, 14)]
    await _settle()
    desk.open.set()
    assert await first == 2
    for asked in both:
        with pytest.raises(ValueError, match="thirteen"):
            await asked
    assert await gathering.ask("a", 15) == 30


async def test_who_goes_away_leaves_the_others_their_answers() -> None:
    desk = Desk()
    gathering = Gathering(desk.work, most=3)
    first = asyncio.create_task(gathering.ask("a", 1))
    await _settle()
    second = asyncio.create_task(gathering.ask("a", 2))
    third = asyncio.create_task(gathering.ask("a", 3))
    await _settle()
    first.cancel()
    second.cancel()
    desk.open.set()
    assert await third == 6
    assert desk.done == [("a", [1]), ("a", [2, 3])]
