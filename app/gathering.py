"""Work that arrives together is done together: one statement and one commit for many requests."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Item = TypeVar("Item")
Answer = TypeVar("Answer")


class Gathering(Generic[Key, Item, Answer]):
    """Hands single items to what does many at once, and each answer to who asked.

    The first item of a key is done at once. What arrives meanwhile waits until that is done, and
    is then done together: nobody waits when there is nobody else, and many wait shorter.
    """

    def __init__(
        self, work: Callable[[Key, Sequence[Item]], Awaitable[Sequence[Answer]]], *, most: int
    ) -> None:
        """Do up to `most` items of one key by one call of `work`, which answers in their order."""
        self._work = work
        self._most = most
        self._waiting: dict[Key, list[tuple[Item, asyncio.Future[Answer]]]] = {}
        self._under_way: set[asyncio.Task[None]] = set()

    async def ask(self, key: Key, item: Item) -> Answer:
        """Have one item done; raises what the work raises, which then nobody's item survived."""
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        if key in self._waiting:
            self._waiting[key].append((item, answer))
        else:
            self._waiting[key] = [(item, answer)]
            # A task of its own: whoever asked first may go away, and the others still wait.
            task = asyncio.create_task(self._empty(key))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)
        return await answer

    async def _empty(self, key: Key) -> None:
        waiting = self._waiting[key]
        try:
            while waiting:
                together = waiting[: self._most]
                del waiting[: self._most]
                await self._do(key, together)
        finally:
            del self._waiting[key]
            for _, answer in waiting:
                answer.cancel()

    async def _do(self, key: Key, together: list[tuple[Item, asyncio.Future[Answer]]]) -> None:
        try:
            answers = await self._work(key, [item for item, _ in together])
        except Exception as error:  # noqa: BLE001  (each who asked raises it)
            for _, answer in together:
                if not answer.done():
                    answer.set_exception(error)
            return
        for (_, answer), given in zip(together, answers, strict=True):
            if not answer.done():
                answer.set_result(given)
