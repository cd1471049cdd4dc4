"""Batcher: one call for what many tasks ask for."""

import asyncio
from collections.abc import Sequence

import pytest

from mauntic_jobs.aio.batcher import Batcher


def test_what_is_asked_during_a_call_is_one_call() -> None:
    calls: list[list[int]] = []

    async def call(items: list[int]) -> Sequence[int | Exception]:
        calls.append(items)
        await asyncio.sleep(0)
        return [ValueError(str(item)) if item == 3 else item * 2 for item in items]

    async def run() -> list[int | BaseException]:
        batcher: Batcher[int, int] = Batcher(call)
        return await asyncio.gather(*(batcher.ask(n) for n in range(5)), return_exceptions=True)

    answers = asyncio.run(run())
    assert [answer for answer in answers if isinstance(answer, int)] == [0, 2, 4, 8]
    assert isinstance(answers[3], ValueError)
    assert len(calls) == 1


def test_tasks_that_are_ready_ask_in_the_same_call() -> None:
    calls: list[list[int]] = []

    async def call(items: list[int]) -> Sequence[int | Exception]:
        calls.append(items)
        return items

    async def run() -> None:
        batcher: Batcher[int, int] = Batcher(call)

        async def ask_after(turns: int) -> int:
            for _ in range(turns):
                await asyncio.sleep(0)
            return await batcher.ask(turns)

        await asyncio.gather(*(ask_after(turns) for turns in range(6)))

    asyncio.run(run())
    assert calls == [[0, 1, 2, 3, 4, 5]]


def test_a_call_that_fails_fails_for_all_and_the_next_goes_on() -> None:
    async def call(items: list[int]) -> Sequence[int | Exception]:
        if 0 in items:
            raise OSError("away")
        return items

    async def run() -> int:
        batcher: Batcher[int, int] = Batcher(call)
        with pytest.raises(OSError, match="away"):
            await batcher.ask(0)
        return await batcher.ask(1)

    assert asyncio.run(run()) == 1
