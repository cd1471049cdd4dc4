"""One call for what many tasks ask for at once."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Generic, TypeVar

# A call waits for so many turns of the event loop, so that tasks that are ready can join it. A turn of an idle loop
# takes microseconds.
_TURNS = 8

_ItemT = TypeVar("_ItemT")
_AnswerT = TypeVar("_AnswerT")


class Batcher(Generic[_ItemT, _AnswerT]):
    """Collects what is asked for while a call is under way or others are about to ask; makes one call for all of it.

    `call` gets the items in the order they came and returns an answer, or an exception, for each.
    """

    def __init__(
        self,
        call: Callable[[list[_ItemT]], Awaitable[Sequence[_AnswerT | Exception]]],
        *,
        most: int = 200,
    ) -> None:
        self._call = call
        self._most = most
        self._waiting: list[tuple[_ItemT, asyncio.Future[_AnswerT]]] = []
        self._caller: asyncio.Task[None] | None = None

    def ask(self, item: _ItemT) -> asyncio.Future[_AnswerT]:
        """Ask for one item; what is returned gets the answer, or its exception, or that of the whole call."""
        future: asyncio.Future[_AnswerT] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._caller is None or self._caller.done():
            self._caller = asyncio.create_task(self._work())
        return future

    async def _work(self) -> None:
        while self._waiting:
            for _ in range(_TURNS):
                await asyncio.sleep(0)
            batch, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
            try:
                answers = await self._call([item for item, _ in batch])
            except BaseException as error:
                for _, future in batch:
                    if not future.done():
                        future.set_exception(error if isinstance(error, Exception) else asyncio.CancelledError())
                if not isinstance(error, Exception):
                    raise
                continue
            for (_, future), answer in zip(batch, answers, strict=True):
                if future.done():
                    continue
                if isinstance(answer, Exception):
                    future.set_exception(answer)
                else:
                    future.set_result(answer)


def rounds(keys: Sequence[Hashable]) -> list[list[int]]:
    """Return the places of the keys, in rounds of which none holds a key twice."""
    places: list[list[int]] = []
    seen: dict[Hashable, int] = {}
    for place, key in enumerate(keys):
        number = seen[key] = seen.get(key, -1) + 1
        if number == len(places):
            places.append([])
        places[number].append(place)
    return places
