"""Cache: one load for all who ask."""

import asyncio

import pytest

from mauntic_jobs.aio.ttl_cache import Cache


def test_a_value_is_loaded_once_for_all_who_ask_and_an_error_is_not_kept() -> None:
    loads: list[str] = []

    async def load(key: str) -> str:
        loads.append(key)
        await asyncio.sleep(0)
        if len(loads) == 1:
            raise OSError("away")
        return key.upper()

    async def run() -> list[str]:
        cache: Cache[str, str] = Cache(load, 60)
        with pytest.raises(OSError, match="away"):
            await cache.get("a")
        return await asyncio.gather(*(cache.get("a") for _ in range(5)))

    assert asyncio.run(run()) == ["A"] * 5
    assert loads == ["a", "a"]


def test_a_value_that_is_older_than_wanted_is_loaded_anew() -> None:
    loads: list[str] = []

    async def load(key: str) -> int:
        loads.append(key)
        return len(loads)

    async def run() -> list[int]:
        cache: Cache[str, int] = Cache(load, 60)
        return [
            await cache.get("a"),
            await cache.refreshed("a", 60),
            await cache.refreshed("a", 0),
            await cache.get("a"),
        ]

    assert asyncio.run(run()) == [1, 1, 2, 2]
