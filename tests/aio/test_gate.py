"""Gate: lets in as many tasks as there are places for."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest

from mauntic_jobs.aio.gate import Gate


async def _turns(count: int = 3) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


class _House:
    """A gate with `places`, of which those named `last` may have only the first; and who came in, in that order."""

    def __init__(self, places: int) -> None:
        self.places = places
        self.came: list[str] = []
        self.gate: Gate[str] = Gate(lambda name: self.gate.inside < (1 if name == "last" else self.places))

    def come(self, name: str) -> "asyncio.Task[None]":
        async def enter() -> None:
            await self.gate.enter(name)
            self.came.append(name)

        return asyncio.create_task(enter())


def _run(test: Callable[[], Awaitable[None]]) -> None:
    async def run() -> None:
        await asyncio.wait_for(test(), 10)

    asyncio.run(run())


def test_as_many_come_in_as_there_are_places_in_the_order_in_which_they_came() -> None:
    async def test() -> None:
        house = _House(2)
        tasks = [house.come(name) for name in "abcde"]
        await _turns()
        assert house.came == ["a", "b"]
        assert house.gate.has_waiting
        house.gate.leave()
        await _turns()
        assert house.came == ["a", "b", "c"]
        house.places = 4
        await _turns()
        assert house.came == ["a", "b", "c"], "the gate was not told"
        house.gate.admit()
        await asyncio.gather(*tasks)
        assert house.came == ["a", "b", "c", "d", "e"]
        assert (house.gate.inside, house.gate.has_waiting) == (4, False)

    _run(test)


def test_who_has_no_place_is_passed_by_and_comes_in_later() -> None:
    async def test() -> None:
        house = _House(3)
        tasks = [house.come(name) for name in ("a", "last", "b", "c", "d")]
        await _turns()
        assert house.came == ["a", "b", "c"]
        for _ in range(2):
            house.gate.leave()
            await _turns()
        assert house.came == ["a", "b", "c", "d"]
        for _ in range(2):
            house.gate.leave()
        await asyncio.gather(*tasks)
        assert house.came[-1] == "last"

    _run(test)


@pytest.mark.parametrize("let_in", [False, True], ids=["while it waits", "as it is let in"])
def test_who_is_cancelled_keeps_no_place(let_in: bool) -> None:
    async def test() -> None:
        house = _House(1)
        _, second, third = (house.come(name) for name in "abc")
        await _turns()
        if let_in:
            house.gate.leave()
        second.cancel()
        with suppress(asyncio.CancelledError):
            await second
        if not let_in:
            house.gate.leave()
        await third
        assert house.came == ["a", "c"]
        assert house.gate.inside == 1

    _run(test)
